"""Measure how much of the symptom a cause explains: run the same model without the fault.

There are two symptoms. Wrong output: the mean probabilities are far from the labels' shares, or the loss is above that of a
constant guess. A score that is too good: accuracy above the most frequent class, or an AUC of BUY against SELL above 0.5, on
bars that do not test the model. A cause explains the share of its symptom that disappears without it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..data.bars import Bars
from ..data.labels import class_shares
from ..models.diversity import COLLAPSED_TOTAL_VARIATION, total_variation
from ..models.fingerprint import FINGERPRINT_TOLERANCE
from ..models.statistics import constant_prior_nll, direction_auc, negative_log_likelihood, softmax
from .feature_table import filled, first_complete_row
from .subject import Subject

LIVE_MOMENTS = 300
LONGEST_SECONDS = 8.0
FEWEST_LABELLED_BARS = 100
SMALLEST_LOSS, SMALLEST_GAIN = 0.02, 0.03


class Ablation(NamedTuple):
    """The share of the symptom that disappears without a fault, 0 to 1, and a sentence with the numbers."""

    share: float
    text: str


class Scored(NamedTuple):
    """Probabilities (n, 3) and labels (n,)."""

    probabilities: FloatArray
    labels: IntArray


def compare_outputs(subject: Subject, other: FloatArray | None, undoing: str) -> Ablation | None:
    """Compare the output on the tested bars with ``other``, the logits (n_bars, 3) without the fault."""
    if other is None:
        return None
    both = np.isfinite(subject.logits).all(axis=1) & np.isfinite(other).all(axis=1)
    if both.sum() < FEWEST_LABELLED_BARS:
        return None
    now, then = softmax(subject.logits[both]), softmax(other[both])
    if subject.prior is not None:
        before, after = (total_variation(p.mean(axis=0), subject.prior) for p in (now, then))
        if before > COLLAPSED_TOTAL_VARIATION:
            text = f"{undoing}, the mean probabilities are {after:.2f} from the labels' shares instead of {before:.2f}"
            return _ablation(before, after, text)
    if subject.labels is None:
        return None
    known = subject.labels[both] >= 0
    y = subject.labels[both][known]
    if len(y) < FEWEST_LABELLED_BARS:
        return None
    constant = constant_prior_nll(class_shares(y), y)
    before, after = (negative_log_likelihood(p[known], y) - constant for p in (now, then))
    if before < SMALLEST_LOSS:
        return None
    return _ablation(
        before, after, f"{undoing}, the loss exceeds a constant guess's by {after:+.3f} nats instead of {before:+.3f}"
    )


def has_collapsed(subject: Subject) -> bool:
    """Return whether the mean probabilities are far from the training labels' shares and from those of the tested bars."""
    scored = np.isfinite(subject.logits).all(axis=1)
    if subject.prior is None or not scored.any():
        return False
    mean = subject.probabilities[scored].mean(axis=0)
    known = [subject.prior]
    if subject.labels is not None and subject.evaluated.any():
        known.append(class_shares(subject.labels[subject.evaluated]))
    return min(total_variation(mean, each) for each in known) > COLLAPSED_TOTAL_VARIATION


def compare_scores(known: Scored, honest: Scored, undoing: str) -> Ablation | None:
    """Compare the reported score with the honest one."""
    if min(len(known[1]), len(honest[1])) < FEWEST_LABELLED_BARS:
        return None
    gains = [[_accuracy_gain(*each), _direction_gain(*each)] for each in (known, honest)]
    which = int(np.argmax(gains[0]))
    before, after = gains[0][which], gains[1][which]
    if before < SMALLEST_GAIN:
        return None
    what = ("accuracy exceeds the most frequent class's share", "AUC of BUY against SELL exceeds 0.5")[which]
    return _ablation(before, after, f"{undoing}, its {what} by {after:+.3f} instead of {before:+.3f}")


def _ablation(before: float, after: float, text: str) -> Ablation:
    share = float(np.clip((before - max(0.0, after)) / before, 0.0, 1.0))
    return Ablation(share, f"{text}: the cause explains {100 * share:.0f} % of it.")


def _accuracy_gain(p: FloatArray, y: IntArray) -> float:
    return float((p.argmax(axis=1) == y).mean()) - float(class_shares(y).max())


def _direction_gain(p: FloatArray, y: IntArray) -> float:
    return (direction_auc(p, y) or 0.5) - 0.5


def logits_for_rows(subject: Subject, rows: FloatArray) -> FloatArray:
    """Return the logits (n_bars, 3) of a model of rows on the tested bars for other rows of all bars; NaN elsewhere."""
    result = np.full((len(subject.bars), 3), np.nan)
    at = np.flatnonzero(subject.tested)
    begin, stop = max(first_complete_row(rows), int(at[0]) - subject.context), int(at[-1]) + 1
    if begin < stop:
        result[begin:stop] = subject.predict_logits(rows[begin:stop])
    result[~subject.tested] = np.nan
    return result


def with_training_rows(subject: Subject) -> Ablation | None:
    """Score the training's rows of the tested bars in place of the served ones."""
    if subject.trained is None or subject.trained is subject.served:
        return None
    return compare_outputs(
        subject, logits_for_rows(subject, subject.trained(subject.bars)), "With the training's features on the tested bars"
    )


def with_matching_network(subject: Subject) -> Ablation | None:
    """Run the network of the folder's files, or of the setting that reproduces the fingerprint, if one does."""
    if subject.loaded is None:
        return None
    network = subject.loaded.reloaded() if subject.matching_network is None else subject.matching_network[1]
    if network.fingerprint_difference() > FINGERPRINT_TOLERANCE:
        return None
    restored = replace(subject, predict=network.logits_of_rows, loaded=None)
    return compare_outputs(subject, restored.logits, "With the network of its fingerprint")


def with_live_bars(subject: Subject) -> Ablation | None:
    """Run the model at many moments on bars that end there, as a live system does."""
    found = _reported(subject)
    if found is None:
        return None
    moments = subject.random(15).permutation(found.at)[:LIVE_MOMENTS].tolist()
    started, live, done = time.monotonic(), list[FloatArray](), list[int]()
    for t in moments:
        if time.monotonic() - started > LONGEST_SECONDS:
            break
        live.append(_live_logits(subject, found, t))
        done.append(t)
    logits = np.array(live).reshape(-1, 3)
    finite = np.isfinite(logits).all(axis=1)
    where = np.array(done, dtype=np.intp)[finite]
    return compare_scores(
        Scored(softmax(found.logits[where]), found.labels[where]),
        Scored(softmax(logits[finite]), found.labels[where]),
        f"Scored live at {len(where)} moments, from the bars up to each,",
    )


class _Reported(NamedTuple):
    """The bars of the reported score, their logits and labels, the positions to try, and the features' warm-up."""

    bars: Bars
    logits: FloatArray
    labels: IntArray
    at: npt.NDArray[np.intp]
    warmup_bars: int


def _reported(subject: Subject) -> _Reported | None:
    """Score the validation samples, or the tested bars; None without labels."""
    if subject.past is not None and subject.past_labels is not None and subject.validation is not None:
        bars, y, mask = subject.past, subject.past_labels, subject.validation
    elif subject.labels is not None:
        bars, y, mask = subject.bars, subject.labels, subject.tested
    else:
        return None
    rows = None if subject.reads_bars else subject.training_table(bars)
    begin = 0 if rows is None else first_complete_row(rows)
    known = np.full((len(bars), 3), np.nan)
    at = np.flatnonzero(mask & (y >= 0) & (np.arange(len(bars)) >= begin + subject.context))
    if not len(at):
        return None
    start, stop = max(begin, int(at[0]) - subject.context), int(at[-1]) + 1
    known[start:stop] = (
        subject.logits_on(bars.take(slice(start, stop))) if rows is None else subject.predict_logits(filled(rows[start:stop]))
    )
    return _Reported(bars, known, y, at[np.isfinite(known[at]).all(axis=1)], begin)


def _live_logits(subject: Subject, found: _Reported, t: int) -> FloatArray:
    """Return the logits (3,) of bar t from the bars up to it."""
    if subject.reads_bars:
        return np.asarray(subject.logits_on(found.bars.take(slice(max(0, t - subject.context), t + 1)))[-1])
    before = 2 * found.warmup_bars + 300 + subject.context
    now = filled(subject.training_table(found.bars.take(slice(max(0, t - before), t + 1))))
    return np.asarray(subject.predict_logits(now[-subject.context - 1 :])[-1])


def scores_by_samples(subject: Subject) -> tuple[Scored, Scored] | None:
    """Score the validation samples and the tested bars; None if one of them is not known."""
    y, mask = subject.past_labels, subject.validation
    if y is None or mask is None or subject.labels is None:
        return None
    logits = subject.past_logits(mask)
    if logits is None:
        return None
    known = mask & (y >= 0) & np.isfinite(logits).all(axis=1)
    own = subject.logits if subject.reads_bars else logits_for_rows(subject, subject.training_table(subject.bars))
    here = (subject.labels >= 0) & np.isfinite(own).all(axis=1)
    return Scored(softmax(logits[known]), y[known]), Scored(softmax(own[here]), subject.labels[here])
