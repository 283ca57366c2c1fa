"""Checks of the experiment: the split, the test range, the class weights, the use of the signals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import BoolArray
from ...data.labels import CLASS_NAMES
from ...data.time_range import TimeRange
from ...models.diversity import COLLAPSED_TOTAL_VARIATION, total_variation
from ...models.signals import NO_SIGNAL, Signals
from ...models.statistics import softmax
from ...strategies.base import Strategy
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
    """Count validation samples close to a training sample, and measure the gain from a shuffled split.

    Labels of bars closer than the horizon overlap, and so do windows of features: the model has seen such a validation sample
    (Lopez de Prado 2018, chapter 7).
    """
    del pictures
    name = "leaky-split"
    control = _shuffled_against_purged(subject, coverage)
    if subject.training is None or subject.validation is None or not subject.training.any() or not subject.validation.any():
        why = f"The training and validation samples are not known. {control}".strip()
        return skipped(name, why, "Give training= and validation=.")
    near = _near(subject.validation, subject.training, subject.horizon_bars)
    share = float(near.sum() / subject.validation.sum())
    message = (
        f"{100 * share:.1f} % of the {int(subject.validation.sum()):,} validation samples are within "
        f"{subject.horizon_bars} bars of a training sample"
    )
    coverage["validation_samples"] = int(subject.validation.sum())
    if share > LARGEST_NEIGHBOURS:
        return Finding(
            check=name,
            severity=BROKEN if share > 0.5 else SUSPECT,
            value=share,
            limit=LARGEST_NEIGHBOURS,
            message=f"{message}: they share most of their label and features with training bars, so the validation score "
            f"measures memory. {control}",
            remedy="Split by time, leave out the samples whose windows overlap (purge), and validate again.",
            otherwise="A purged split by time has no such samples.",
        )
    severity = WARNING if share > 0 else OK
    return Finding(
        check=name,
        severity=severity,
        value=share,
        limit=LARGEST_NEIGHBOURS,
        message=f"{message}. {control}".strip(),
        remedy="Leave out the samples at the boundary whose labels overlap." if share > 0 else "",
    )


def _near(some: BoolArray, others: BoolArray, distance: int) -> BoolArray:
    """Return which of ``some`` are within ``distance`` places of one of ``others``."""
    at = np.flatnonzero(others)
    where = np.arange(len(some))
    right = np.clip(np.searchsorted(at, where), 0, len(at) - 1)
    left = np.clip(right - 1, 0, len(at) - 1)
    gap = np.minimum(np.abs(at[right] - where), np.abs(at[left] - where))
    return np.asarray(some & (gap <= distance))


def _shuffled_against_purged(subject: Subject, coverage: Note) -> str:
    """Return a sentence with the accuracy of a memorising learner on a shuffled and on a purged split."""
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
        f"On these rows a memorising learner (nearest neighbour) scores {shuffled:.3f} on a shuffled split and {purged:.3f} on "
        "a purged one."
    )


def overlap(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Compare the tested bars with the bars that the model has seen."""
    del pictures
    name = "overlap"
    at = np.flatnonzero(subject.tested)
    if not len(at):
        return skipped(name, "No bar is tested.")
    if subject.checkpoint is None and (subject.past is None or subject.training is None):
        return skipped(
            name,
            "The training bars are not known, so no score on these bars shows skill: the model may be trained on them.",
            "Give training=.",
        )
    h = subject.horizon_bars
    first, last = subject.bars.time[at], subject.bars.time[np.minimum(at + h, len(subject.bars) - 1)]
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
            check=name, severity=OK, value=0.0, limit=0.0, message=f"The model has seen none of the {len(at):,} tested bars."
        )
    return Finding(
        check=name,
        severity=SUSPECT,
        value=share,
        limit=0.0,
        message=f"The model has seen {100 * share:.1f} % of the {len(at):,} tested bars, with their labels' horizon: "
        f"{', '.join(names)}. A score on them is not a test.",
        remedy="Test on bars after all that it has seen (--timerange).",
        otherwise="On unseen bars this share is 0.",
    )


def _seen(subject: Subject) -> list[tuple[str, np.datetime64, np.datetime64]]:
    """Return (purpose, first time, end) of every range that the model has seen."""
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
    """Compute how much of the shift in the log-odds the class weights can explain.

    A model trained with a weighted loss predicts p w / sum (Elkan 2001): weights shift the log-odds of two classes by the
    logarithm of their ratio at most.
    """
    del coverage
    name = "class-weights"
    weights, prior = subject.class_weights, subject.prior
    if weights is None or prior is None:
        why = "The class weights of the loss, or the labels' shares, are not known."
        return skipped(name, why, "Give class_weights= and labels=.")
    scored = np.isfinite(subject.logits).all(axis=1)
    if not scored.any():
        return skipped(name, "The model has no output on the tested bars.")
    z = subject.logits[scored]
    shift = np.log(weights)
    explained = float(shift.max() - shift.min())
    observed = z.mean(axis=0) - np.log(np.maximum(prior, 1e-9))
    gap = float(observed.max() - observed.min())
    up, down = CLASS_NAMES[int(np.argmax(observed))], CLASS_NAMES[int(np.argmin(observed))]
    before = total_variation(softmax(z).mean(axis=0), prior)
    after = total_variation(softmax(z - shift).mean(axis=0), prior)
    pictures["weights"] = {"explained": explained, "observed": gap, "before": before, "after": after}
    facts = (
        f"The weights {', '.join(f'{w:.2f}' for w in weights)} can shift the log-odds by at most {explained:.2f}; the observed "
        f"shift from the labels' shares is {gap:.2f} ({up} over {down}). Subtracting log(weights) changes the total variation "
        f"between mean probabilities and labels from {before:.2f} to {after:.2f}"
    )
    if before > COLLAPSED_TOTAL_VARIATION and after < before / 2 and explained > HARMLESS_LOG_WEIGHT:
        is_corrected = subject.corrected is not None and (
            total_variation(subject.corrected(z).mean(axis=0), prior) <= COLLAPSED_TOTAL_VARIATION
        )
        return Finding(
            check=name,
            severity=WARNING if is_corrected else SUSPECT,
            value=explained,
            limit=HARMLESS_LOG_WEIGHT,
            message=f"{facts}: the class weights shift the predictions"
            f"{', and the stored calibration corrects it' if is_corrected else ''}.",
            remedy="Subtract log(weights) from the logits (a calibration), or train without weights.",
            otherwise="If the weights were not the cause, subtracting log(weights) would not restore the shares.",
        )
    blame = "they do not explain it" if before > COLLAPSED_TOTAL_VARIATION else "there is nothing to explain"
    return Finding(check=name, severity=OK, value=explained, limit=gap, message=f"{facts}: {blame}.")


class _FixedSignals(Strategy):
    """Trades given signals."""

    name = "fixed signals"

    def __init__(self, signals: Signals) -> None:
        super().__init__()
        self.signals = signals

    def prepare(self, bars: Any) -> Signals:
        """Return the given signals."""
        del bars
        return self.signals


def funnel(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Backtest the signals and count how many become orders and fills. A SELL while flat is not a trade."""
    from ...engine.backtest import run_backtest

    name = "funnel"
    signals = subject.signals(subject.logits) if subject.signals is not None else Signals.plain(highest_class(subject.logits))
    at = np.flatnonzero((signals.signal != NO_SIGNAL) & subject.tested)[-FUNNEL_BARS:]
    if len(at) < 2:
        return skipped(name, "There is no signal on the tested bars.")
    cut = slice(int(at[0]), int(at[-1]) + 1)
    bars = subject.bars.take(cut)
    strategy = _FixedSignals(Signals(signals.signal[cut], signals.raw[cut]))
    counts = run_backtest(bars, strategy, timerange=TimeRange(bars.time[0])).funnel
    pictures["funnel"] = counts.to_json()
    coverage["funnel_bars"] = len(bars)
    by_class, kept, ordered = counts.signal or {}, counts.kept or {}, counts.ordered or 0  # None for a plain strategy only
    active, rejected = by_class["SELL"] + by_class["BUY"], sum(counts.rejected.values())
    facts = (
        f"Of {counts.scored:,} signals, {by_class['SELL']:,} SELL, {by_class['HOLD']:,} HOLD and {by_class['BUY']:,} BUY, "
        f"{ordered:,} became orders and {counts.filled:,} were filled; {kept['sell_while_flat']:,} SELL while "
        f"flat and {kept['buy_while_long']:,} BUY while long did nothing, {rejected:,} orders were rejected"
    )
    if active and not ordered:
        return Finding(
            check=name,
            severity=SUSPECT,
            value=0.0,
            limit=1.0,
            message=f"{facts}: it never trades. Signals are not trades, so a return of 0 is not a result.",
            remedy="Look at the decision and its offsets: a long-only strategy needs a BUY before a SELL has an effect.",
            otherwise="If it traded, at least one signal would become an order.",
        )
    if counts.submitted and rejected / counts.submitted > LARGEST_REJECTED:
        return Finding(
            check=name,
            severity=SUSPECT,
            value=rejected / counts.submitted,
            limit=LARGEST_REJECTED,
            message=f"{facts}: {counts.rejected}.",
            remedy="Fix the stated reasons: cash, sizes, shorts.",
            otherwise="Orders for a target exposure are sized at their fill, and filled.",
        )
    return Finding(
        check=name,
        severity=OK if active else WARNING,
        value=ordered / active if active else 0.0,
        limit=0.0,
        message=f"{facts}{'' if active else ': it has neither SELL nor BUY'}.",
        remedy="" if active else "Act on probabilities: --decision utility.",
    )
