"""Reliability: how often predicted probabilities come true. The numbers of a reliability diagram; pure, numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray, JsonObject
from ..data.labels import CLASS_NAMES
from ..storage.json_records import JsonRecord

BINS = 15


@dataclass(frozen=True)
class ReliabilityBin(JsonRecord):
    """A bin of probabilities: its edges, the rows in it, their mean probability, and the share that happened."""

    low: float
    high: float
    rows: int
    mean_probability: float
    share_happened: float


class Reliability(NamedTuple):
    """Frequencies of the classes by bins of their predicted probability.

    Attributes
    ----------
    edges : array, shape (bins + 1,)
        Edges of the bins of probability, 0 to 1, equally wide.
    counts : array of int, shape (3, bins)
        Number of rows whose probability of SELL, HOLD, BUY is in the bin.
    predicted, observed : array, shape (3, bins)
        Mean probability in the bin, and share of its rows that are of the class; NaN in an empty bin.
    """

    edges: FloatArray
    counts: npt.NDArray[np.int64]
    predicted: FloatArray
    observed: FloatArray

    @property
    def errors(self) -> FloatArray:
        """Class-wise calibration error, shape (3,): mean |observed - predicted|, weighted by counts (Kull et al. 2019)."""
        gaps = np.where(self.counts > 0, np.abs(self.observed - self.predicted), 0.0)
        return np.asarray((gaps * self.counts).sum(axis=1) / np.maximum(1, self.counts.sum(axis=1)))

    def to_json(self) -> JsonObject:
        """Return the error and the non-empty bins by class."""
        parts = {"count": self.counts, "predicted": self.predicted, "observed": self.observed}
        return {
            name: {
                "error": float(self.errors[c]),
                "bins": [{key: part[c, k].item() for key, part in parts.items()} for k in np.flatnonzero(self.counts[c])],
            }
            for c, name in enumerate(CLASS_NAMES)
        }


def binned(
    probability: FloatArray, happened: npt.NDArray[np.bool_], bins: int = BINS
) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    """Return the observed frequency of events by bins of their probability, of equal width.

    Parameters
    ----------
    probability : array of float64, shape (n,)
        0 to 1, such as the confidence in the most probable class, or the probability of one class.
    happened : array of bool, shape (n,)
        Whether the event happened.
    bins : int

    Returns
    -------
    counts, predicted, observed : arrays, each of shape (bins,)
        Number of rows in the bin, their mean probability, and the share that happened; the last two NaN in an empty bin.
    """
    which = np.minimum((probability * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    filled = np.where(counts > 0, counts, np.nan)
    return counts, np.bincount(which, probability, bins) / filled, np.bincount(which, happened, bins) / filled


def reliability_bins(probability: FloatArray, happened: npt.NDArray[np.bool_], bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Return the non-empty bins of ``binned``."""
    counts, predicted, observed = binned(probability, happened, bins)
    return tuple(
        ReliabilityBin(i / bins, (i + 1) / bins, int(counts[i]), float(predicted[i]), float(observed[i]))
        for i in np.flatnonzero(counts).tolist()
    )


def reliability(probabilities: FloatArray, labels: IntArray, bins: int = BINS) -> Reliability:
    """Return the reliability of every class.

    Parameters
    ----------
    probabilities : array, shape (n, 3)
    labels : array of int8, shape (n,)
        SELL=0, HOLD=1, BUY=2; rows below 0, and rows whose probabilities are NaN, are left out.
    bins : int

    Examples
    --------
    >>> p = np.array([[0.2, 0.5, 0.3], [0.2, 0.7, 0.1]])
    >>> found = reliability(p, np.array([0, 1], dtype=np.int8), bins=2)
    >>> found.counts.tolist(), found.observed[0].tolist()
    ([[2, 0], [0, 2], [2, 0]], [0.5, nan])
    """
    known = (labels >= 0) & np.isfinite(probabilities).all(axis=1)
    p, y = probabilities[known], labels[known]
    counts, predicted, observed = map(np.stack, zip(*(binned(p[:, c], y == c, bins) for c in range(3)), strict=True))
    return Reliability(np.linspace(0, 1, bins + 1), counts, predicted, observed)
