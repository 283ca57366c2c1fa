"""Checks of the model's output: collapse, skill in direction, order of the classes, calibration."""

from __future__ import annotations

from itertools import permutations
from typing import Any, cast

import numpy as np

from ...arrays import BoolArray, FloatArray, IntArray
from ...data.labels import CLASS_NAMES, class_shares
from ...models.diversity import (
    COLLAPSED_TOTAL_VARIATION,
    ONE_SIDED_SHARE,
    diversity,
    model_verdict,
    signal_verdict,
    total_variation,
)
from ...models.reliability import reliability
from ...models.statistics import constant_prior_nll, expected_calibration_error, negative_log_likelihood, softmax
from ..direction_auc import auc_intervals, aucs, blocks_of, offset_sweep
from ..finding import BROKEN, OK, SUSPECT, WARNING, Finding, skipped
from ..subject import Subject, first_complete_row
from .feature_rows import Note

FEWEST_LABELLED_BARS = 300
SMALLEST_LABEL_GAIN = 0.02
MOST_KNOWN_ROWS = 12_000
SMALLEST_RANK_GAIN = 0.08
FARTHEST_SHIFT, SMALLEST_SHIFT_GAIN = 48, 0.12
LARGEST_MISSING_SHARE = 0.05
LARGEST_ECE, SUSPECT_ECE = 0.10, 0.30


def shares(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Measure predicted shares, confidence and logits, with one verdict on the model and one on its signals."""
    name = "shares"
    # 1. Measure
    missing = _missing_output_share(subject)
    if missing > LARGEST_MISSING_SHARE:
        return _missing_output(missing)
    scored = np.isfinite(subject.logits).all(axis=1)
    if not scored.any():
        return skipped(name, "No tested bar has a complete row with the model's context before it.", "Give a longer range.")
    z, p, prior = subject.logits[scored], subject.probabilities[scored], subject.prior
    coverage["scored_bars"] = len(z)
    shown = _output_numbers(z, p, prior)
    pictures |= shown
    predicted, confidence, mean = shown["predicted"], shown["confidence"], p.mean(axis=0)
    top = int(np.argmax(predicted))
    one_sided = predicted[top] > ONE_SIDED_SHARE
    is_sure = one_sided and (confidence[top] or 0) > 0.9
    # 2. The verdicts
    model = None if prior is None else model_verdict(mean, prior)
    signal = signal_verdict(diversity(z.argmax(axis=1).astype(np.int8), p, prior))
    facts = f"{_output_text(len(z), shown)} Signals: {signal.verdict if signal else 'none'}."
    if model is None:
        return _without_prior(facts, predicted[top], is_sure=is_sure)
    facts = f"{facts} Model: {model.verdict}."
    distance = float(cast("float", model.numbers["total_variation"]))
    # 3. A collapse is a distance that the market does not explain
    here = None if subject.labels is None else class_shares(subject.labels[subject.evaluated])
    moved_with_market = here is not None and here.sum() > 0 and total_variation(mean, here) <= COLLAPSED_TOTAL_VARIATION
    if model.verdict == "collapsed" and not moved_with_market:
        return Finding(
            check=name,
            severity=BROKEN if is_sure else SUSPECT,
            value=distance,
            limit=COLLAPSED_TOTAL_VARIATION,
            message=f"Collapsed: {model.sentence} {facts}",
            remedy="This is the symptom: fix the findings above it, if any; else compare the weights, offsets and calibration "
            "in use with those of the model's validation. They shift the bias; they do not fix a cause.",
            otherwise="A sound model of a weak signal may predict HOLD on nearly every bar, but its mean probabilities match "
            "the labels'.",
        )
    if one_sided:
        return Finding(
            check=name,
            severity=WARNING,
            value=predicted[top],
            limit=ONE_SIDED_SHARE,
            message=f"{facts} Its most probable class is nearly always {CLASS_NAMES[top]}, while its mean probabilities "
            "are near the labels': this is not a collapse but the effect of argmax on a weak signal.",
            remedy="Act on probabilities instead: --decision utility.",
        )
    severity = WARNING if model.verdict == "collapsed" else OK
    text = f"{model.sentence} {facts}"
    return Finding(check=name, severity=severity, value=distance, limit=COLLAPSED_TOTAL_VARIATION, message=text)


def _without_prior(facts: str, share: float, *, is_sure: bool) -> Finding:
    """Return the finding where the training labels' shares are unknown; ``share`` is that of the most frequent prediction."""
    return Finding(
        check="shares",
        severity=SUSPECT if is_sure else WARNING if share > ONE_SIDED_SHARE else OK,
        value=share,
        limit=ONE_SIDED_SHARE,
        message=f"{facts} Model: not evaluated. The training labels' shares are not known.",
        remedy="Find the cause among the other findings."
        if is_sure
        else "Give labels= and training=, so that the shares can be evaluated.",
        otherwise="A sound model is not sure of one class on nearly every bar.",
    )


def _output_numbers(z: FloatArray, p: FloatArray, prior: FloatArray | None) -> dict[str, Any]:
    """Return the numbers for the page: predicted shares, mean confidence, quantiles and histograms of the logits."""
    highest = z.argmax(axis=1)
    limits = (float(z.min()), float(z.max()) + 1e-9)
    return {
        "predicted": class_shares(highest.astype(np.int8)).tolist(),
        "mean": p.mean(axis=0).tolist(),
        "confidence": [float(p[highest == c].max(axis=1).mean()) if (highest == c).any() else None for c in range(3)],
        "logit_quantiles": np.quantile(z, [0.05, 0.5, 0.95], axis=0).tolist(),
        "prior": None if prior is None else prior.tolist(),
        "histograms": [np.histogram(z[:, c], bins=40, range=limits)[0].tolist() for c in range(3)],
        "logit_range": list(limits),
    }


def _output_text(n_bars: int, shown: dict[str, Any]) -> str:
    """Return predicted shares, confidence and logits as a sentence."""
    low, _, high = shown["logit_quantiles"]
    text = ", ".join(
        f"{c} {100 * share:.1f} %{'' if sure is None else f' ({100 * sure:.1f} % confident)'}"
        for c, share, sure in zip(CLASS_NAMES, shown["predicted"], shown["confidence"], strict=True)
    )
    logits = ", ".join(f"{c} {low[k]:+.1f} .. {high[k]:+.1f}" for k, c in enumerate(CLASS_NAMES))
    return f"Predicted on {n_bars:,} bars: {text}. Logits (5 to 95 %): {logits}."


def _missing_output_share(subject: Subject) -> float:
    """Return the share of bars without output, of the tested bars with a complete row and the model's context before it."""
    able = subject.tested & np.isfinite(subject.rows).all(axis=1)
    able[: subject.first_row + subject.context] = False
    missing = np.asarray(~np.isfinite(subject.logits[able]).all(axis=1))
    return float(missing.mean()) if len(missing) else 0.0


def _missing_output(share: float) -> Finding:
    return Finding(
        check="shares",
        severity=BROKEN if share == 1 else SUSPECT,
        value=share,
        limit=LARGEST_MISSING_SHARE,
        message=f"The model has no finite output on {100 * share:.1f} % of the tested bars with a complete row; all other "
        "numbers exclude these bars.",
        remedy="Look for overflow (float16), a division by zero, or an input length that the model does not accept.",
        otherwise="A sound model has an output for every complete row.",
    )


def rank_skill(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Measure the order of the bars by AUC, which no offset or threshold can change."""
    name = "rank-skill"
    if subject.labels is None:
        return skipped(name, "It needs labels.", "Give labels=.")
    z, y = subject.logits[subject.evaluated], subject.labels[subject.evaluated]
    if len(y) < FEWEST_LABELLED_BARS or len(np.unique(y)) < 3:
        return skipped(name, f"It needs {FEWEST_LABELLED_BARS} labelled bars of all three classes; there are {len(y):,}.")
    found = auc_intervals(z, y, subject.random(9))
    sweep = offset_sweep(z, y)
    best, sell, buy = sweep.best
    coverage["evaluated_bars"] = len(y)
    direction = found[3]
    pictures |= {"sweep": sweep, "aucs": found, "direction": direction.low > 0.5}
    rest = ", ".join(f"{c} {each}" for c, each in zip(CLASS_NAMES, found[:3], strict=True))
    facts = (
        f"One class against the rest: {rest}. The best pair of offsets, tuned on these labels ({sell:+.2f}, 0, {buy:+.2f}), "
        f"reaches an MCC of {best:.3f}, to which volatility alone contributes."
    )
    if direction.low <= 0.5 <= direction.high:
        return Finding(
            check=name,
            severity=WARNING,
            value=direction.value,
            limit=0.5,
            message=f"No skill in direction: the AUC of BUY against SELL is {direction}; its interval contains 0.5. No "
            f"threshold or offset can separate up from down. {facts}",
            remedy="Do not trade its direction; another threshold, weight or offset only shifts the bias.",
            otherwise="With skill, the whole interval would be above 0.5.",
        )
    if direction.high < 0.5:
        return Finding(
            check=name,
            severity=WARNING,
            value=direction.value,
            limit=0.5,
            message=f"BUY and SELL are in reverse order: AUC {direction}. {facts}",
            remedy="See label-map: the classes may be swapped; else the market has reversed.",
        )
    return Finding(
        check=name,
        severity=OK,
        value=direction.value,
        limit=0.5,
        message=f"The model separates BUY from SELL with an AUC of {direction}. {facts}",
    )


def label_map(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Test whether another order of SELL, HOLD and BUY, or the labels of other bars, fit the output better."""
    name = "label-map"
    if subject.labels is None:
        return skipped(name, "It needs labels.", "Give labels=.")
    logits, labels, known = _labelled_logits(subject)
    z, y = logits[known], labels[known]
    if len(y) < FEWEST_LABELLED_BARS:
        return skipped(name, f"It needs {FEWEST_LABELLED_BARS} labelled bars; there are {len(y):,}.")
    losses = {order: _row_losses(z[:, order], y) for order in permutations(range(3))}
    own = losses[(0, 1, 2)]
    order = min(losses, key=lambda each: float(losses[each].mean()))
    coverage["label_orders"] = len(losses)
    gain = own - losses[order]
    random = subject.random(14)
    low = float(np.quantile([gain[blocks_of(len(y), 168, random)].mean() for _ in range(200)], 0.005))
    names = ", ".join(f"{CLASS_NAMES[c]} for {CLASS_NAMES[i]}" for i, c in enumerate(order) if c != i)
    value = float(gain.mean())
    # Wrong shares alone also gain from another order, so the order must rank better too.
    if order != (0, 1, 2) and value > SMALLEST_LABEL_GAIN and low > 0 and _ranks_better(z, y, order, random):
        pictures["label_order"] = order
        return Finding(
            check=name,
            severity=BROKEN,
            value=value,
            limit=SMALLEST_LABEL_GAIN,
            message=f"Another order of the classes fits the labels better by {value:.3f} nats per bar: read {names}.",
            remedy="Use one order of classes from the labels to the signals: SELL=0, HOLD=1, BUY=2.",
            otherwise="If the order were right, every other one would fit worse.",
        )
    bars, gain_there = _label_shift(logits, labels, known)
    coverage["label_shifts"] = 2 * FARTHEST_SHIFT
    if bars:
        return Finding(
            check=name,
            severity=BROKEN,
            value=gain_there,
            limit=SMALLEST_SHIFT_GAIN,
            message=f"The output fits the labels of {abs(bars)} bars {'later' if bars > 0 else 'earlier'}: on these it beats a "
            f"constant guess by {gain_there:.3f} nats per bar, on its own bars it does not.",
            remedy="Join labels and rows by time, not by position, and look for a shift; then train again.",
            otherwise="If rows and labels were of the same bars, the fit would be best without a shift.",
        )
    message = (
        "No other order of the classes fits the labels better."
        if order == (0, 1, 2)
        else (f"Reading {names} would fit better by {value:.3f} nats per bar: chance or shifted shares, not a swap.")
    )
    return Finding(check=name, severity=OK, value=max(0.0, value), limit=SMALLEST_LABEL_GAIN, message=message)


def _label_shift(logits: FloatArray, labels: IntArray, known: BoolArray) -> tuple[int, float]:
    """Return the shift in bars at which the output fits the labels best, and that fit; 0 if it fits without a shift.

    The fit is the gain in nats over a constant guess. Any model of past prices fits past labels a little. A model trained on
    the labels of other bars fits those much better, and its own labels not at all.
    """
    nothing, at = (0, 0.0), np.flatnonzero(known)

    def fit(bars: int) -> float:
        there = at[(at + bars >= 0) & (at + bars < len(labels))]
        there = there[labels[there + bars] >= 0]
        y = labels[there + bars]
        if len(y) < FEWEST_LABELLED_BARS:
            return -np.inf
        return constant_prior_nll(class_shares(y), y) - float(_row_losses(logits[there], y).mean())

    if fit(0) > SMALLEST_LABEL_GAIN:
        return nothing
    best = max((bars for bars in range(-FARTHEST_SHIFT, FARTHEST_SHIFT + 1) if bars), key=fit)
    return (best, fit(best)) if fit(best) > SMALLEST_SHIFT_GAIN else nothing


def _labelled_logits(subject: Subject) -> tuple[FloatArray, IntArray, BoolArray]:
    """Return logits, labels and the mask of rows to use: the last training and validation samples, else the tested bars.

    The order of the classes is a property of the model, so a serving fault or a weak test year must not hide it.
    """
    assert subject.labels is not None
    past, labels, rows = subject.past, subject.past_labels, subject.past_rows
    if past is None or labels is None or rows is None or subject.training is None:
        return subject.logits, subject.labels, subject.evaluated
    known = subject.training if subject.validation is None else subject.training | subject.validation
    at = np.flatnonzero(known & (labels >= 0))
    stop = int(at[-1]) + 1
    start = max(first_complete_row(rows[:stop]), int(at[0]) - subject.context, stop - MOST_KNOWN_ROWS)
    logits = np.full((len(labels), 3), np.nan)
    logits[start:stop] = subject.predict_logits(rows[start:stop])
    return logits, labels, known & (labels >= 0) & np.isfinite(logits).all(axis=1)


def _row_losses(z: FloatArray, y: IntArray) -> FloatArray:
    """Return -log p(label) of each row."""
    p = softmax(z)
    return np.asarray(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)))


def _ranks_better(z: FloatArray, y: IntArray, order: tuple[int, ...], random: np.random.Generator) -> bool:
    """Return whether the other order has a higher sum of AUCs in 39 of 40 resamples of weeks."""
    gains = []
    for _ in range(80):
        at = blocks_of(len(y), 168, random)
        gains.append(np.nansum(aucs(z[at][:, order], y[at])) - np.nansum(aucs(z[at], y[at])))
    return bool(np.quantile(gains, 0.025) > SMALLEST_RANK_GAIN)


def calibration(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Compare probabilities with frequencies: ECE of the most probable class (Guo et al. 2017), by class (Kull et al. 2019)."""
    name = "calibration"
    if subject.labels is None:
        return skipped(name, "It needs labels.", "Give labels=.")
    p, y = subject.probabilities[subject.evaluated], subject.labels[subject.evaluated]
    if len(y) < FEWEST_LABELLED_BARS:
        return skipped(name, f"It needs {FEWEST_LABELLED_BARS} labelled bars; there are {len(y):,}.")
    ece = expected_calibration_error(p, y)
    by_class = reliability(p, y).errors.tolist()
    pictures["ece"] = [ece, *by_class]
    coverage["calibration_bars"] = len(y)
    stored = ""
    if subject.corrected is not None:
        corrected = subject.corrected(subject.logits[subject.evaluated])
        stored = f" With the stored calibration it is {expected_calibration_error(corrected, y):.3f}."
    each = ", ".join(f"{c} {error:.3f}" for c, error in zip(CLASS_NAMES, by_class, strict=True))
    nll, constant = negative_log_likelihood(p, y), negative_log_likelihood(np.tile(class_shares(y), (len(y), 1)), y)
    severity = SUSPECT if ece > SUSPECT_ECE else WARNING if ece > LARGEST_ECE else OK
    return Finding(
        check=name,
        severity=severity,
        value=ece,
        limit=LARGEST_ECE,
        message=f"Confidence and accuracy differ by {ece:.3f} on average (by class: {each}); NLL {nll:.3f}, of a constant "
        f"guess of these labels' shares {constant:.3f}.{stored}",
        remedy="Fix the findings above, then fit a temperature: flagbt calibrate." if severity != OK else "",
        otherwise="If its confidence were right, 60 % of the predictions with 60 % confidence would be correct.",
    )
