"""How much of the symptom a cause explains: the same model once more, with the fault undone.

There are two symptoms. *What it says* is off: its mean probabilities lie far from the labels' shares, or its loss is worse
than a constant guess's. *What it scored* is too good: accuracy above the commonest class, or an AUC of BUY against SELL above
0.5, on bars that were no test. A cause explains the share of its symptom that goes when it is undone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..data.labels import class_shares
from ..models.architecture import read_architecture
from ..models.diversity import COLLAPSED_TOTAL_VARIATION, total_variation
from ..models.statistics import constant_prior_nll, direction_auc, negative_log_likelihood, softmax
from .finding import Finding
from .lenient_load import fingerprint_difference, logits_in_chunks, open_checkpoint
from .subject import Subject, filled, first_whole

LIVE_MOMENTS = 300
LONGEST_SECONDS = 8.0
FEWEST_JUDGED = 100
SMALLEST_LOSS, SMALLEST_GAIN = 0.02, 0.03
Pictures = dict[str, Any]


class Ablation(NamedTuple):
    """The share of the symptom that goes when a fault is undone, 0 to 1, and the numbers in words."""

    share: float
    says: str


def explained(subject: Subject, finding: Finding, pictures: Pictures) -> Finding:
    """Return the finding of a cause with the share of the symptom that it explains, where that can be measured."""
    measure = UNDO.get(finding.check)
    if measure is None or not finding.is_problem:
        return finding
    try:
        undone = measure(subject, finding, pictures)
    except Exception:  # somebody's predict or feature function may raise anything: then nothing was measured
        return finding
    return finding if undone is None else replace(finding, explains=undone.share, undone=undone.says)


def what_it_says(subject: Subject, other: FloatArray | None, undoing: str) -> Ablation | None:
    """Compare the answers on the tested bars with ``other``, logits (n_bars, 3) with the fault undone."""
    if other is None:
        return None
    both = np.isfinite(subject.logits).all(axis=1) & np.isfinite(other).all(axis=1)
    if both.sum() < FEWEST_JUDGED:
        return None
    now, then = softmax(subject.logits[both]), softmax(other[both])
    if subject.prior is not None:
        before, after = (total_variation(p.mean(axis=0), subject.prior) for p in (now, then))
        if before > COLLAPSED_TOTAL_VARIATION:
            says = f"{undoing}, its mean probabilities lie {after:.2f} from the labels' shares instead of {before:.2f}"
            return _undone(before, after, says)
    if subject.labels is None:
        return None
    judged = subject.labels[both] >= 0
    y = subject.labels[both][judged]
    if len(y) < FEWEST_JUDGED:
        return None
    constant = constant_prior_nll(class_shares(y), y)
    before, after = (negative_log_likelihood(p[judged], y) - constant for p in (now, then))
    if before < SMALLEST_LOSS:
        return None
    return _undone(before, after, f"{undoing}, its loss is {after:+.3f} nats from a constant guess's instead of {before:+.3f}")


def has_collapsed(subject: Subject) -> bool:
    """Return whether the mean probabilities lie far from the training labels' shares, and from the tested bars' own."""
    answered = np.isfinite(subject.logits).all(axis=1)
    if subject.prior is None or not answered.any():
        return False
    mean = subject.probabilities[answered].mean(axis=0)
    known = [subject.prior]
    if subject.labels is not None and subject.judged.any():
        known.append(class_shares(subject.labels[subject.judged]))
    return min(total_variation(mean, each) for each in known) > COLLAPSED_TOTAL_VARIATION


def what_it_scored(known: tuple[FloatArray, IntArray], honest: tuple[FloatArray, IntArray], undoing: str) -> Ablation | None:
    """Compare two scores, each of probabilities (n, 3) and labels (n,): the one that was believed, and the honest one."""
    if min(len(known[1]), len(honest[1])) < FEWEST_JUDGED:
        return None
    gains = [[_accuracy_gain(*each), _direction_gain(*each)] for each in (known, honest)]
    which = int(np.argmax(gains[0]))
    before, after = gains[0][which], gains[1][which]
    if before < SMALLEST_GAIN:
        return None
    what = ("accuracy exceeds the commonest class's share", "AUC of BUY against SELL exceeds 0.5")[which]
    return _undone(before, after, f"{undoing}, its {what} by {after:+.3f} instead of {before:+.3f}")


def _undone(before: float, after: float, says: str) -> Ablation:
    share = float(np.clip((before - max(0.0, after)) / before, 0.0, 1.0))
    return Ablation(share, f"{says}: it explains {100 * share:.0f} % of that.")


def _accuracy_gain(p: FloatArray, y: IntArray) -> float:
    return float((p.argmax(axis=1) == y).mean()) - float(class_shares(y).max())


def _direction_gain(p: FloatArray, y: IntArray) -> float:
    return (direction_auc(p, y) or 0.5) - 0.5


def asked(subject: Subject, rows: FloatArray) -> FloatArray:
    """Return the model's answers (n_bars, 3) on the tested bars, were it fed these rows of every bar; NaN elsewhere."""
    result = np.full((len(subject.bars), 3), np.nan)
    at = np.flatnonzero(subject.tested)
    begin, stop = max(first_whole(rows), int(at[0]) - subject.context), int(at[-1]) + 1
    if begin < stop:
        result[begin:stop] = subject.ask(rows[begin:stop])
    result[~subject.tested] = np.nan
    return result


def without_drift(subject: Subject, guilty: BoolArray) -> FloatArray | None:
    """Return the answers, were the guilty columns spread as in training: each value becomes the training's of its rank."""
    table, past, taught = subject.learnt, subject.past_rows, subject.training
    if table.columns != subject.served.columns or past is None or taught is None or not guilty.any():
        return None
    rows = subject.rows.copy()
    for k in np.flatnonzero(guilty).tolist():
        old = past[taught, k]
        at = np.flatnonzero(subject.tested & np.isfinite(rows[:, k]))
        rank = (rows[at, k].argsort().argsort() + 0.5) / max(1, len(at))
        rows[at, k] = np.quantile(old[np.isfinite(old)], rank)
    return asked(subject, rows)


def _training_rows(subject: Subject, finding: Finding, pictures: Pictures) -> Ablation | None:
    del finding, pictures
    if subject.trained is None or subject.trained is subject.served:
        return None
    return what_it_says(subject, asked(subject, subject.trained(subject.bars)), "Fed the training's rows on the tested bars")


def _old_spread(subject: Subject, finding: Finding, pictures: Pictures) -> Ablation | None:
    del pictures
    guilty = np.isin(subject.learnt.columns, finding.columns)
    return what_it_says(subject, without_drift(subject, guilty), "With these columns spread as in training")


def _no_weights(subject: Subject, finding: Finding, pictures: Pictures) -> Ablation | None:
    del finding, pictures
    if subject.class_weights is None:
        return None
    return what_it_says(subject, subject.logits - np.log(subject.class_weights), "With log(weights) taken off the logits")


def _right_order(subject: Subject, finding: Finding, pictures: Pictures) -> Ablation | None:
    del finding
    order = pictures.get("label_order")
    return None if order is None else what_it_says(subject, subject.logits[:, list(order)], "Read in the other order")


def _restored(subject: Subject, finding: Finding, pictures: Pictures) -> Ablation | None:
    """Ask the network that the folder's files give, where it reproduces the fingerprint."""
    del finding
    checkpoint = subject.checkpoint
    if checkpoint is None:
        return None
    network, knobs = pictures.get("mended") or (open_checkpoint(checkpoint).network, checkpoint.values["architecture"])
    if fingerprint_difference(network, checkpoint) > 1e-4:
        return None

    def predict(rows: FloatArray) -> FloatArray:
        a = read_architecture(knobs)
        return logits_in_chunks(network, rows, receptive_bars=a.receptive_bars, chunk_bars=a.chunk_bars)

    return what_it_says(subject, replace(subject, predict=predict).logits, "With the network that its fingerprint shows")


def _live(subject: Subject, finding: Finding, pictures: Pictures) -> Ablation | None:
    """Ask at many moments as a live system would: from bars that end there."""
    del finding, pictures
    table = subject.learnt
    if subject.past is not None and subject.past_labels is not None and subject.validation is not None:
        bars, rows, y, mask = subject.past, subject.past_rows, subject.past_labels, subject.validation
    elif subject.labels is not None:
        bars, rows, y, mask = subject.bars, table(subject.bars), subject.labels, subject.tested
    else:
        return None
    assert rows is not None
    begin = first_whole(rows)
    before = 2 * begin + 300 + subject.context
    known = np.full((len(bars), 3), np.nan)
    at = np.flatnonzero(mask & (y >= 0) & (np.arange(len(bars)) >= begin + subject.context))
    if not len(at):
        return None
    start, stop = max(begin, int(at[0]) - subject.context), int(at[-1]) + 1
    known[start:stop] = subject.ask(filled(rows[start:stop]))
    at = at[np.isfinite(known[at]).all(axis=1)]
    moments = subject.random(15).permutation(at)[:LIVE_MOMENTS].tolist()
    begun, live, done = time.monotonic(), list[FloatArray](), list[int]()
    for t in moments:
        if time.monotonic() - begun > LONGEST_SECONDS:
            break
        now = filled(table(bars.take(slice(max(0, t - before), t + 1))))
        live.append(subject.ask(now[-subject.context - 1 :])[-1])
        done.append(t)
    answers = np.array(live).reshape(-1, 3)
    whole = np.isfinite(answers).all(axis=1)
    where = np.array(done, dtype=np.intp)[whole]
    return what_it_scored(
        (softmax(known[where]), y[where]),
        (softmax(answers[whole]), y[where]),
        f"Asked at {len(where)} moments from the bars up to each, as when it is live",
    )


def _unseen(subject: Subject, finding: Finding, pictures: Pictures) -> Ablation | None:
    """Compare the validation samples with the tested bars: one of the two was seen, and the other was not."""
    del pictures
    y, rows, mask = subject.past_labels, subject.past_rows, subject.validation
    if y is None or rows is None or mask is None or subject.labels is None or not mask.any():
        return None
    at = np.flatnonzero(mask)
    start, stop = max(first_whole(rows), int(at[0]) - subject.context), int(at[-1]) + 1
    said = np.full((len(y), 3), np.nan)
    said[start:stop] = subject.ask(rows[start:stop])
    fits = mask & (y >= 0) & np.isfinite(said).all(axis=1)
    own = asked(subject, subject.learnt(subject.bars))
    judged = (subject.labels >= 0) & np.isfinite(own).all(axis=1)
    validated = softmax(said[fits]), y[fits]
    tested = softmax(own[judged]), subject.labels[judged]
    if finding.check == "overlap":
        return what_it_scored(tested, validated, "On the validation samples, which did not teach it")
    return what_it_scored(validated, tested, "On the tested bars, which lie beside no training sample")


UNDO: dict[str, Callable[[Subject, Finding, Pictures], Ablation | None]] = {
    "lookahead-features": _live,
    "lookahead-model": _live,
    "schema": _training_rows,
    "serving-parity": _training_rows,
    "input-ignored": _training_rows,
    "adapter": _restored,
    "invariance": _restored,
    "leaky-split": _unseen,
    "overlap": _unseen,
    "label-map": _right_order,
    "class-weights": _no_weights,
    "drift": _old_spread,
}
