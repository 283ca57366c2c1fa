"""Reliability: do probabilities come true? The numbers behind a reliability diagram, by class; pure, numpy only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..data.bars import FloatArray
from ..data.labels import CLASS_NAMES, IntArray

BINS = 15


class Reliability(NamedTuple):
    """How often a class came where its probability lay in a bin.

    Attributes
    ----------
    edges : array, shape (bins + 1,)
        Of the bins of probability, 0 to 1, equally wide.
    counts : array of int, shape (3, bins)
        Rows whose probability of SELL, HOLD, BUY lies in the bin.
    predicted, observed : array, shape (3, bins)
        The mean probability there, and the share of rows that are of the class; NaN in an empty bin.
    """

    edges: FloatArray
    counts: npt.NDArray[np.int64]
    predicted: FloatArray
    observed: FloatArray

    @property
    def errors(self) -> FloatArray:
        """Class-wise calibration error, (3,): mean |observed - predicted|, weighted by counts (Kull et al. 2019)."""
        gaps = np.where(self.counts > 0, np.abs(self.observed - self.predicted), 0.0)
        return np.asarray((gaps * self.counts).sum(axis=1) / np.maximum(1, self.counts.sum(axis=1)))

    def to_json(self) -> dict[str, Any]:
        """Return error, and the bins that are not empty, by class."""
        parts = {"count": self.counts, "predicted": self.predicted, "observed": self.observed}
        return {
            name: {
                "error": float(self.errors[c]),
                "bins": [{key: part[c, k].item() for key, part in parts.items()} for k in np.flatnonzero(self.counts[c])],
            }
            for c, name in enumerate(CLASS_NAMES)
        }


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
    counts = np.zeros((3, bins), dtype=np.int64)
    predicted, observed = np.full((3, bins), np.nan), np.full((3, bins), np.nan)
    for c in range(3):
        which = np.minimum((p[:, c] * bins).astype(int), bins - 1)
        counts[c] = np.bincount(which, minlength=bins)
        filled = counts[c] > 0
        predicted[c, filled] = np.bincount(which, p[:, c], minlength=bins)[filled] / counts[c, filled]
        observed[c, filled] = np.bincount(which, y == c, minlength=bins)[filled] / counts[c, filled]
    return Reliability(np.linspace(0, 1, bins + 1), counts, predicted, observed)
