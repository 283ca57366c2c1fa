"""Class probabilities from quantiles of a future move, with declared tails.

Between two quantiles the distribution function is interpolated linearly on the scale of the standard normal distribution:
with z_i the normal quantile of level i and x_i the move at that level, F(x) = Phi(z(x)), z piecewise linear through
(x_i, z_i). Outside the outermost quantiles z continues on the line through the outermost quantile and the middle one, so the
tails are those of a normal distribution. A normal forecast is thus returned exactly, at any threshold.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from ...arrays import FloatArray
from ..statistics import SMALLEST_PROBABILITY


def class_probabilities(quantiles: FloatArray, levels: FloatArray, down: FloatArray, up: FloatArray) -> FloatArray:
    """Return P(X < down), P(down <= X <= up), P(X > up), float64 (n, 3): SELL, HOLD, BUY.

    They sum to 1, and none is below `SMALLEST_PROBABILITY`. P(BUY) never rises with ``up``, nor P(SELL) falls with ``down``.

    Parameters
    ----------
    quantiles : array, shape (n, L)
        Quantiles of X. Those of a network may cross: they are sorted, as Chernozhukov, Fernandez-Val and Galichon (2010),
        "Quantile and Probability Curves Without Crossing", Econometrica 78, derive. Equal ones are an atom of the distribution.
    levels : array, shape (L,)
        Increasing, between 0 and 1; L >= 2.
    down, up : array, shape (n,)
        Thresholds in the unit of the quantiles, ``down`` <= ``up``.

    Returns
    -------
    array of float64, shape (n, 3)
        NaN in rows where a quantile or a threshold is not finite.
    """
    x, z = np.sort(np.asarray(quantiles, dtype=np.float64), axis=1), ndtri(np.asarray(levels, dtype=np.float64))
    # An atom at a threshold is no move beyond it, so it belongs to HOLD.
    low, high = _normal_scores(x, z, down, side="left"), _normal_scores(x, z, up, side="right")
    sell, buy = ndtr(low), ndtr(-high)
    # From the smaller tail, since 1 - F has no digits left where F is near 1.
    hold = np.where(low > 0, ndtr(-low) - buy, ndtr(high) - sell)
    exact = np.stack([sell, np.maximum(hold, 0.0), buy], axis=1)
    exact /= exact.sum(axis=1, keepdims=True)
    return np.asarray((1 - 3 * SMALLEST_PROBABILITY) * exact + SMALLEST_PROBABILITY)


def _normal_scores(x: FloatArray, z: FloatArray, at: FloatArray, *, side: str) -> FloatArray:
    """Return z(at) per row, shape (n,); at an atom from the ``left`` or the ``right``; -inf or inf beyond a tail of no width.

    Parameters
    ----------
    x : array, shape (n, L)
        Sorted.
    z : array, shape (L,)
    at : array, shape (n,)
    """
    n, last = x.shape[0], x.shape[1] - 1
    middle = int(np.argmin(np.abs(z)))
    middle = min(max(middle, 1), last - 1) if last > 1 else 0
    at = np.asarray(at, dtype=np.float64)
    column = at[:, None]
    above = (x < column if side == "left" else x <= column).sum(axis=1)  # index of the first quantile beyond
    rows = np.arange(n)
    # The two quantiles that a line runs through, and the one that it starts from.
    left = np.where(above == 0, 0, np.where(above > last, middle, above - 1))
    right = np.where(above == 0, max(middle, 1), np.where(above > last, last, np.minimum(above, last)))
    start = np.where(above == 0, 0, np.where(above > last, last, left))
    width, distance = x[rows, right] - x[rows, left], at - x[rows, start]
    rise = (z[right] - z[left]) * distance
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        line = z[start] + rise / width
    # A tail of no width: everything lies on this side of it, and nothing beyond.
    found = np.where(width > 0, line, np.where(above == 0, -np.inf, np.inf))
    return np.where(np.isfinite(x).all(axis=1) & np.isfinite(at), found, np.nan)
