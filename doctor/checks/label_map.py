"""The order of the classes: does another one, or the labels of other bars, fit the output better?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ...arrays import BoolArray, FloatArray, IntArray
from ...data.labels import CLASS_NAMES, class_shares
from ...models.statistics import constant_prior_nll, softmax
from ..check import FEWEST_LABELLED_BARS, KNOWN_INPUT, LABELS, Check, Symptom
from ..counterfactual import Ablation, compare_outputs
from ..direction_auc import aucs, blocks_of
from ..finding import BROKEN, OK, Evidence, Finding, skipped
from ..subject import Subject

SMALLEST_LABEL_GAIN = 0.02
MOST_KNOWN_ROWS = 12_000
SMALLEST_RANK_GAIN = 0.08
FARTHEST_SHIFT, SMALLEST_SHIFT_GAIN = 48, 0.12
OWN_ORDER = (0, 1, 2)


@dataclass(frozen=True)
class LabelOrder(Evidence):
    """How the output is to be read, if not as SELL, HOLD, BUY of the same bars.

    ``order`` are the logits' columns for SELL, HOLD and BUY; None if no other order was shown to fit better. ``shift_bars`` is
    the distance of the labels that fit the output, 0 for those of the same bars.
    """

    order: tuple[int, ...] | None = None
    shift_bars: int = 0


def _run(subject: Subject) -> Finding:
    """Test whether another order of SELL, HOLD and BUY, or the labels of other bars, fit the output better."""
    logits, labels, known = _labelled_logits(subject)
    z, y = logits[known], labels[known]
    if len(y) < FEWEST_LABELLED_BARS:
        return skipped(f"It needs {FEWEST_LABELLED_BARS} labelled bars; there are {len(y):,}.")
    losses = {order: _row_losses(z[:, order], y) for order in permutations(range(3))}
    order = min(losses, key=lambda each: float(losses[each].mean()))
    gain = losses[OWN_ORDER] - losses[order]
    random = subject.random(14)
    low = float(np.quantile([gain[blocks_of(len(y), 168, random)].mean() for _ in range(200)], 0.005))
    names = ", ".join(f"{CLASS_NAMES[c]} for {CLASS_NAMES[i]}" for i, c in enumerate(order) if c != i)
    value = float(gain.mean())
    # Wrong shares alone also gain from another order, so the order must rank better too.
    if order != OWN_ORDER and value > SMALLEST_LABEL_GAIN and low > 0 and _ranks_better(z, y, order, random):
        return Finding(
            severity=BROKEN,
            value=value,
            limit=SMALLEST_LABEL_GAIN,
            message=f"Another order of the classes fits the labels better by {value:.3f} nats per bar: read {names}.",
            remedy="Use one order of classes from the labels to the signals: SELL=0, HOLD=1, BUY=2.",
            otherwise="If the order were right, every other one would fit worse.",
            evidence=LabelOrder(order),
            examined={"label_orders": len(losses)},
        )
    examined = {"label_orders": len(losses), "label_shifts": 2 * FARTHEST_SHIFT}
    bars, gain_there = _label_shift(logits, labels, known)
    if bars:
        return Finding(
            severity=BROKEN,
            value=gain_there,
            limit=SMALLEST_SHIFT_GAIN,
            message=f"The output fits the labels of {abs(bars)} bars {'later' if bars > 0 else 'earlier'}: on these it beats a "
            f"constant guess by {gain_there:.3f} nats per bar, on its own bars it does not.",
            remedy="Join labels and rows by time, not by position, and look for a shift; then train again.",
            otherwise="If rows and labels were of the same bars, the fit would be best without a shift.",
            evidence=LabelOrder(shift_bars=bars),
            examined=examined,
        )
    return Finding(
        severity=OK,
        value=max(0.0, value),
        limit=SMALLEST_LABEL_GAIN,
        message="No other order of the classes fits the labels better."
        if order == OWN_ORDER
        else f"Reading {names} would fit better by {value:.3f} nats per bar: chance or shifted shares, not a swap.",
        evidence=LabelOrder(),
        examined=examined,
    )


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
    labels = subject.past_labels
    if labels is None or subject.training is None:
        return subject.logits, subject.labels, subject.evaluated
    known = (subject.training if subject.validation is None else subject.training | subject.validation) & (labels >= 0)
    logits = subject.past_logits(known, MOST_KNOWN_ROWS)
    if logits is None:
        return subject.logits, subject.labels, subject.evaluated
    return logits, labels, known & np.isfinite(logits).all(axis=1)


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


def _undo(subject: Subject, found: LabelOrder) -> Ablation | None:
    if found.order is None:
        return None
    return compare_outputs(subject, subject.logits[:, list(found.order)], "With the other order of classes")


CHECK = Check(
    name="label-map",
    rank=80,
    method="test whether another order of SELL, HOLD and BUY fits better, or the labels of bars up to 48 away",
    run=_run,
    evidence=LabelOrder,
    needs=(KNOWN_INPUT, LABELS),
    causes=(Symptom.WRONG_OUTPUT,),
    follows=("schema", "serving-parity", "lookahead-model", "adapter", "invariance", "input-ignored", "class-weights"),
    undo=_undo,
)
