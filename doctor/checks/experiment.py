"""Checks of the experiment around the model: the split, the test range, the class weights, what became of the signals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import BoolArray
from ...data.labels import CLASS_NAMES
from ...models.diversity import COLLAPSED_TOTAL_VARIATION, total_variation
from ...models.signals import NO_SIGNAL, Signals
from ...models.statistics import softmax
from ..cheap_learners import neighbour_accuracy
from ..finding import BROKEN, OK, SUSPECT, WARNING, Finding, skipped
from ..subject import Subject, highest_class
from .feature_rows import Note

LARGEST_NEIGHBOURS = 0.05
SPLIT_ROWS = 6_000
LARGEST_REJECTED = 0.05
FUNNEL_BARS = 12_000
HARMLESS_LOG_WEIGHT = 1.0


def leaky_split(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Do validation samples have training samples beside them, and how much would a shuffled split flatter?

    Labels of bars nearer than the horizon overlap, and so do windows of features: a validation sample beside a training
    one has been seen (Lopez de Prado 2018, chapter 7).
    """
    del pictures
    name = "leaky-split"
    told = _shuffled_against_purged(subject, coverage)
    if subject.training is None or subject.validation is None or not subject.training.any() or not subject.validation.any():
        return skipped(
            name, f"Which samples taught and which judged is not known. {told}".strip(), "Give training= and validation=."
        )
    near = _near(subject.validation, subject.training, subject.horizon_bars)
    share = float(near.sum() / subject.validation.sum())
    says = (
        f"{100 * share:.1f} % of the {int(subject.validation.sum()):,} validation samples lie within "
        f"{subject.horizon_bars} bars of a training sample"
    )
    coverage["validation_samples"] = int(subject.validation.sum())
    if share > LARGEST_NEIGHBOURS:
        return Finding(
            check=name,
            severity=BROKEN if share > 0.5 else SUSPECT,
            value=share,
            limit=LARGEST_NEIGHBOURS,
            says=f"{says}: they share most of their label and of their features with bars that taught, so the validation score "
            f"measures memory. {told}",
            remedy="Split by time, and leave out the samples whose windows overlap (purge), then validate again.",
            otherwise="A purged split by time has no such neighbours.",
        )
    severity = WARNING if share > 0 else OK
    return Finding(
        check=name,
        severity=severity,
        value=share,
        limit=LARGEST_NEIGHBOURS,
        says=f"{says}. {told}".strip(),
        remedy="Leave out the samples at the boundary whose labels overlap." if share > 0 else "",
    )


def _near(some: BoolArray, others: BoolArray, distance: int) -> BoolArray:
    """Return which of ``some`` lie within ``distance`` places of one of ``others``."""
    at = np.flatnonzero(others)
    where = np.arange(len(some))
    right = np.clip(np.searchsorted(at, where), 0, len(at) - 1)
    left = np.clip(right - 1, 0, len(at) - 1)
    gap = np.minimum(np.abs(at[right] - where), np.abs(at[left] - where))
    return np.asarray(some & (gap <= distance))


def _shuffled_against_purged(subject: Subject, coverage: Note) -> str:
    """Return in words what a learner that memorises scores on a shuffled split, and on a purged one by time."""
    past, labels = (subject.past_rows, subject.past_labels) if subject.past is not None else (subject.rows, subject.labels)
    if labels is None or past is None:
        return ""
    usable = np.flatnonzero((labels >= 0) & np.isfinite(past).all(axis=1))[-SPLIT_ROWS:]
    if len(usable) < 1_000:
        return ""
    rows, y = past[usable], labels[usable]
    n, cut, gap = len(usable), int(0.7 * len(usable)), subject.horizon_bars + min(168, subject.context)
    mixed = subject.random(6).permutation(n)
    shuffled = neighbour_accuracy(rows, y, mixed[:cut], mixed[cut:])
    purged = neighbour_accuracy(rows, y, np.arange(cut - gap), np.arange(cut, n))
    coverage["split_rows"] = n
    return (
        f"On these rows a learner that memorises (the nearest neighbour) scores {shuffled:.3f} on a shuffled split and "
        f"{purged:.3f} on a purged one."
    )


def overlap(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Is the test range one that the model has seen?"""
    del pictures
    name = "overlap"
    at = np.flatnonzero(subject.tested)
    if not len(at):
        return skipped(name, "No bar is tested.")
    if subject.checkpoint is None and (subject.past is None or subject.training is None):
        return skipped(
            name,
            "Which bars taught is not known, so no score on these bars shows any skill: they may be what it learnt.",
            "Give training=.",
        )
    h = subject.horizon_bars
    looked_at = np.minimum(at + h, len(subject.bars) - 1)
    first, last = subject.bars.time[at], subject.bars.time[looked_at]
    seen, names = np.zeros(len(at), bool), []
    for purpose, start, stop in _seen(subject):
        hit = (last >= start) & (first < stop)
        if hit.any():
            names.append(f"{purpose} ({int(hit.sum()):,} bars)")
        seen |= hit
    share = float(seen.mean())
    coverage["tested_bars"] = len(at)
    if share == 0:
        return Finding(
            check=name, severity=OK, value=0.0, limit=0.0, says=f"None of the {len(at):,} tested bars has been seen."
        )
    return Finding(
        check=name,
        severity=SUSPECT,
        value=share,
        limit=0.0,
        says=f"{100 * share:.1f} % of the {len(at):,} tested bars, with their labels' horizon, have been seen: "
        f"{', '.join(names)}. What is "
        "measured on them is no test.",
        remedy="Test on bars after everything it has seen (--timerange).",
        otherwise="On bars that it never saw, this share is 0.",
    )


def _seen(subject: Subject) -> list[tuple[str, np.datetime64, np.datetime64]]:
    """Return (purpose, first time, end) of every stretch that the model has seen."""
    early, late = np.datetime64("1678-01-01", "ns"), np.datetime64("2262-01-01", "ns")
    if subject.checkpoint is not None:
        return [
            (purpose, early if seen.start is None else seen.start, late if seen.stop is None else seen.stop)
            for purpose, seen in subject.checkpoint.ranges.items()
        ]
    assert subject.past is not None
    found = []
    for purpose, mask in (("training", subject.training), ("validation", subject.validation)):
        if mask is None or not mask.any():
            continue
        at = np.flatnonzero(mask)
        for part in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)[:2_000]:
            end = min(int(part[-1]) + subject.horizon_bars, len(subject.past) - 1)
            found.append((purpose, subject.past.time[part[0]], subject.past.time[end] + subject.past.step))
    return found if len(found) <= 2_000 else [("training", min(f[1] for f in found), max(f[2] for f in found))]


def class_weights(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """How much of the shift in the log-odds can the class weights explain? Arithmetic, before anybody blames them.

    A weighted loss teaches p w / sum (Elkan 2001): weights shift the log-odds of two classes by the logarithm of their
    ratio, and by no more.
    """
    del coverage
    name = "class-weights"
    weights, prior = subject.class_weights, subject.prior
    if weights is None or prior is None:
        return skipped(
            name, "The weights of the loss, or the labels' shares, are not known.", "Give class_weights= and labels=."
        )
    answered = np.isfinite(subject.logits).all(axis=1)
    if not answered.any():
        return skipped(name, "The model gave no answer on the tested bars.")
    z = subject.logits[answered]
    shift = np.log(weights)
    explained = float(shift.max() - shift.min())
    observed = z.mean(axis=0) - np.log(np.maximum(prior, 1e-9))
    gap = float(observed.max() - observed.min())
    up, down = CLASS_NAMES[int(np.argmax(observed))], CLASS_NAMES[int(np.argmin(observed))]
    before = total_variation(softmax(z).mean(axis=0), prior)
    after = total_variation(softmax(z - shift).mean(axis=0), prior)
    pictures["weights"] = {"explained": explained, "observed": gap, "before": before, "after": after}
    facts = (
        f"The weights {', '.join(f'{w:.2f}' for w in weights)} can move a log-odds by at most {explained:.2f}; observed "
        f"against the "
        f"labels' shares is {gap:.2f} ({up} over {down}). Taking them off moves the total variation between mean "
        f"probabilities and "
        f"labels from {before:.2f} to {after:.2f}"
    )
    if before > COLLAPSED_TOTAL_VARIATION and after < before / 2 and explained > HARMLESS_LOG_WEIGHT:
        cured = subject.corrected is not None and (
            total_variation(subject.corrected(z).mean(axis=0), prior) <= COLLAPSED_TOTAL_VARIATION
        )
        return Finding(
            check=name,
            severity=WARNING if cured else SUSPECT,
            value=explained,
            limit=HARMLESS_LOG_WEIGHT,
            says=f"{facts}: the class weights are what shifts the predictions"
            f"{', and the stored calibration takes them off' if cured else ''}.",
            remedy="Subtract log(weights) from the logits (a calibration), or train without weights.",
            otherwise="Were they not the cause, taking them off would not bring the shares back.",
        )
    blame = "they do not explain it" if before > COLLAPSED_TOTAL_VARIATION else "there is nothing to explain"
    return Finding(check=name, severity=OK, value=explained, limit=gap, says=f"{facts}: {blame}.")


def funnel(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Replay the signals: what became of them? A SELL while flat is no trade."""
    name = "funnel"
    signals = subject.signals(subject.logits) if subject.signals is not None else Signals.plain(highest_class(subject.logits))
    at = np.flatnonzero((signals.signal != NO_SIGNAL) & subject.tested)[-FUNNEL_BARS:]
    if len(at) < 2:
        return skipped(name, "There is no signal on the tested bars.")
    from ...data.time_range import TimeRange
    from ...engine.backtest import run_backtest
    from ...strategies.base import Strategy

    class Given(Strategy):
        """Trades the signals it is given."""

        name = "given"

        def prepare(self, bars: Any) -> Signals:
            """Return them."""
            del bars
            return part

    cut = slice(int(at[0]), int(at[-1]) + 1)
    bars = subject.bars.take(cut)
    part = Signals(signals.signal[cut], signals.raw[cut])
    counts = run_backtest(bars, Given(), timerange=TimeRange(bars.time[0])).funnel
    pictures["funnel"] = counts
    coverage["funnel_bars"] = len(bars)
    said, kept = counts["signal"], counts["kept"]
    active, rejected = said["SELL"] + said["BUY"], sum(counts["rejected"].values())
    facts = (
        f"Of {counts['scored']:,} signals, {said['SELL']:,} SELL, {said['HOLD']:,} HOLD and {said['BUY']:,} BUY, "
        f"{counts['ordered']:,} became "
        f"orders and {counts['filled']:,} were filled; {kept['sell_while_flat']:,} SELL while flat and "
        f"{kept['buy_while_long']:,} BUY while "
        f"long did nothing, {rejected:,} orders were rejected"
    )
    if active and not counts["ordered"]:
        return Finding(
            check=name,
            severity=SUSPECT,
            value=0.0,
            limit=1.0,
            says=f"{facts}: it never trades. Signals are not trades, and a return of 0 is no result.",
            remedy="Look at the decision and its offsets: a long-only strategy needs a BUY before a SELL means anything.",
            otherwise="Were it trading, at least one signal would become an order.",
        )
    if counts["submitted"] and rejected / counts["submitted"] > LARGEST_REJECTED:
        return Finding(
            check=name,
            severity=SUSPECT,
            value=rejected / counts["submitted"],
            limit=LARGEST_REJECTED,
            says=f"{facts}: {counts['rejected']}.",
            remedy="Mend what the reasons name: cash, sizes, shorts.",
            otherwise="Orders for a target exposure are sized at their fill, and filled.",
        )
    share = counts["ordered"] / active if active else 0.0
    quiet = "" if active else ": it never speaks"
    return Finding(
        check=name,
        severity=OK if active else WARNING,
        value=share,
        limit=0.0,
        says=f"{facts}{quiet}.",
        remedy="" if active else "Act on probabilities: --decision utility.",
    )
