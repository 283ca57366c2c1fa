"""Scores of probabilities against labels: pure functions, numpy only. Rows with a label below 0 are ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..arrays import FloatArray, IntArray
from ..data.labels import CLASS_NAMES, class_counts, class_shares
from ..storage.json_records import JsonRecord

T = TypeVar("T")
SMALLEST_PROBABILITY = 1e-12


def softmax(logits: FloatArray) -> FloatArray:
    """Return probabilities, shape as ``logits`` (n, 3); NaN rows stay NaN."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: FloatArray = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def log_softmax(logits: FloatArray) -> FloatArray:
    """Return log-probabilities, shape as ``logits`` (n, 3), finite for any finite logits; NaN rows stay NaN."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def negative_log_likelihood(probabilities: FloatArray, labels: IntArray) -> float:
    """Return the mean of -log p(label), in nats."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, SMALLEST_PROBABILITY)).mean())


def constant_prior_nll(shares: FloatArray, labels: IntArray) -> float:
    """Return the NLL of always predicting ``shares`` (3,): the baseline that a trained model must beat."""
    return negative_log_likelihood(np.tile(shares, (len(labels), 1)), labels)


def confusion(predicted: IntArray, labels: IntArray) -> FloatArray:
    """Return counts, shape (3, 3): rows are labels, columns are predictions."""
    table = np.bincount(3 * labels.astype(np.int64) + predicted, minlength=9)
    return table.reshape(3, 3).astype(np.float64)


def matthews_correlation(table: FloatArray) -> float:
    """Return the multi-class MCC of a confusion matrix (Gorodkin 2004); 0 where a margin has one class only."""
    total, right = table.sum(), np.trace(table)
    true, predicted = table.sum(axis=1), table.sum(axis=0)
    spread = (total**2 - (predicted**2).sum()) * (total**2 - (true**2).sum())
    return float((right * total - (true * predicted).sum()) / np.sqrt(spread)) if spread > 0 else 0.0


def expected_calibration_error(probabilities: FloatArray, labels: IntArray, bins: int = 15) -> float:
    """Return the top-label ECE over equal-width bins (Guo et al. 2017): mean |accuracy - confidence|, weighted."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(which, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def direction_auc(probabilities: FloatArray, labels: IntArray) -> float | None:
    """Return the BUY-against-SELL AUC: that of log(p_buy / p_sell) over the rows labelled BUY or SELL.

    It is the share of (BUY row, SELL row) pairs in the right order, ties counting half (Mann and Whitney 1947); 0.5 is
    chance. None without both classes.
    """
    ratio = np.log(
        np.maximum(probabilities[:, 2], SMALLEST_PROBABILITY) / np.maximum(probabilities[:, 0], SMALLEST_PROBABILITY)
    )
    up, down = ratio[labels == 2], ratio[labels == 0]
    return pair_auc(up, down) if len(up) and len(down) else None


def pair_auc(up: FloatArray, down: FloatArray) -> float:
    """Return the share of pairs (up, down) with up above down, ties counting half (Mann and Whitney 1947)."""
    ranked = np.sort(down)
    below, to = np.searchsorted(ranked, up, side="left"), np.searchsorted(ranked, up, side="right")
    return float((below + to).mean() / (2 * len(down)))


@dataclass(frozen=True, kw_only=True)
class ClassifierScores(JsonRecord):
    """Every score that a training prints and a card shows.

    Attributes
    ----------
    rows : int
    nll, nll_prior : float
        Negative log-likelihood, of the probabilities and of always predicting the training labels' shares.
    accuracy, majority_share, balanced_accuracy : float
        Of the most probable class; ``majority_share`` is the accuracy of always predicting the most frequent one.
    mcc, mcc_prior : float
        Matthews correlation of the most probable class, and of argmax p / prior.
    auc_buy_sell : float or None
        Of BUY against SELL; None without both classes.
    macro_f1, ece : float
    recall, predicted_shares, mean_probabilities, mean_confidence : mapping
        By class name; None for the recall of a class that never occurs, and the confidence in one never predicted.
    """

    rows: int
    nll: float
    nll_prior: float
    accuracy: float
    majority_share: float
    balanced_accuracy: float
    mcc: float
    mcc_prior: float
    auc_buy_sell: float | None
    macro_f1: float
    recall: Mapping[str, float | None]
    predicted_shares: Mapping[str, float]
    mean_probabilities: Mapping[str, float]
    mean_confidence: Mapping[str, float | None]
    ece: float


def scores(probabilities: FloatArray, labels: IntArray, prior: FloatArray | None) -> ClassifierScores:
    """Score probabilities against labels.

    Parameters
    ----------
    probabilities : array, shape (n, 3)
    labels : array of int8, shape (n,)
        SELL=0, HOLD=1, BUY=2; rows below 0, and rows whose probabilities are NaN, are ignored.
    prior : array, shape (3,), optional
        Shares of the training labels; where they are not known, those of ``labels``.
    """
    known = (labels >= 0) & np.isfinite(probabilities).all(axis=1)
    p, y = probabilities[known], labels[known]
    prior = class_shares(y) if prior is None else prior
    predicted = p.argmax(axis=1).astype(np.int8)
    table = confusion(predicted, y)
    true, guessed, right = table.sum(axis=1), table.sum(axis=0), np.diag(table)
    recall = [float(r / t) if t else None for r, t in zip(right, true, strict=True)]
    f1 = [2 * r / (t + g) if t + g else 0.0 for r, t, g in zip(right, true, guessed, strict=True)]
    present = [value for value in recall if value is not None]
    confident = [float(p[predicted == c].max(axis=1).mean()) if guessed[c] else None for c in range(3)]
    return ClassifierScores(
        rows=len(y),
        nll=negative_log_likelihood(p, y),
        nll_prior=constant_prior_nll(prior, y),
        accuracy=float(right.sum() / len(y)),
        majority_share=float(class_counts(y).max() / len(y)),
        balanced_accuracy=float(np.mean(present)),
        mcc=matthews_correlation(table),
        mcc_prior=matthews_correlation(confusion((p / prior).argmax(axis=1).astype(np.int8), y)),
        auc_buy_sell=direction_auc(p, y),
        macro_f1=float(np.mean(f1)),
        recall=by_class(recall),
        predicted_shares=by_class((guessed / len(y)).tolist()),
        mean_probabilities=by_class(p.mean(axis=0).tolist()),
        mean_confidence=by_class(confident),
        ece=expected_calibration_error(p, y),
    )


def by_class(values: Sequence[T]) -> dict[str, T]:
    """Return three values by class name."""
    return dict(zip(CLASS_NAMES, values, strict=True))
