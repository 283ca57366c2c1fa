"""Class probabilities from quantiles of a future move, with declared tails.

Between two quantiles the distribution function is interpolated linearly on the scale of the standard normal distribution:
with z_i the normal quantile of level i and x_i the move at that level, F(x) = Phi(z(x)), z piecewise linear through the
points (x_i, z_i). Beyond the outermost quantile z continues on a line, so the tails are those of a normal distribution: the
line through the two outermost quantiles, or the line through the outermost and the middle one, whichever tail is wider. So
two outermost quantiles that nearly coincide do not make the tail vanish. The forecast of a normal distribution is returned
exactly, at any threshold.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri

from ...arrays import FloatArray
from ..statistics import SMALLEST_PROBABILITY


def class_probabilities(quantiles: FloatArray, levels: FloatArray, down: FloatArray, up: FloatArray) -> FloatArray:
    """Return P(X < down), P(down <= X <= up), P(X > up), float64 (n, 3): SELL, HOLD, BUY.

    Each row sums to 1, and no probability is below `SMALLEST_PROBABILITY`. P(BUY) never rises with ``up``, and P(SELL)
    never falls with ``down``.

    Parameters
    ----------
    quantiles : array, shape (n, L)
        Quantiles of X. Those of a network may cross: they are sorted, which never makes them worse (Chernozhukov,
        Fernandez-Val and Galichon 2010, "Quantile and Probability Curves Without Crossing", Econometrica 78). Equal ones
        are an atom of the distribution; an atom at a threshold belongs to HOLD.
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
    low, high = _normal_score(x, z, down, "left"), _normal_score(x, z, up, "right")
    sell, buy = ndtr(low), ndtr(-high)
    # From the smaller side: 1 - F has no digits left where F is near 1.
    hold = np.where(low > 0, ndtr(-low) - buy, ndtr(high) - sell)
    exact = np.stack([sell, np.maximum(hold, 0.0), buy], axis=1)
    exact /= exact.sum(axis=1, keepdims=True)
    return np.asarray((1 - 3 * SMALLEST_PROBABILITY) * exact + SMALLEST_PROBABILITY)


def _normal_score(x: FloatArray, z: FloatArray, at: FloatArray, side: Literal["left", "right"]) -> FloatArray:
    """Return z(at) per row, shape (n,), its limit from one ``side``; -inf or inf beyond a tail of no width.

    Parameters
    ----------
    x : array, shape (n, L)
        Sorted along the rows.
    z : array, shape (L,)
        Increasing.
    at : array, shape (n,)
    """
    at = np.asarray(at, dtype=np.float64)
    rows, last = np.arange(len(x)), x.shape[1] - 1
    beyond = np.sum(x < at[:, None] if side == "left" else x <= at[:, None], axis=1)  # index of the next quantile
    before, after = np.clip(beyond - 1, 0, last), np.clip(beyond, 0, last)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = (at - x[rows, before]) / (x[rows, after] - x[rows, before])
        below, above = _tail_slopes(x, z)
        score = z[before] + share * (z[after] - z[before])
        score = np.where(beyond == 0, z[0] - np.where(at < x[:, 0], (x[:, 0] - at) * below, 0.0), score)
        score = np.where(beyond > last, z[-1] + np.where(at > x[:, -1], (at - x[:, -1]) * above, 0.0), score)
    return np.where(np.isfinite(x).all(axis=1) & np.isfinite(at), score, np.nan)


def _tail_slopes(x: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return dz/dx below the first and above the last quantile, each of shape (n,); inf for a tail of no width."""
    middle = int(np.argmin(np.abs(z)))
    low, high = max(middle, 1), min(middle, len(z) - 2)
    below = np.fmin((z[1] - z[0]) / (x[:, 1] - x[:, 0]), (z[low] - z[0]) / (x[:, low] - x[:, 0]))
    above = np.fmin((z[-1] - z[-2]) / (x[:, -1] - x[:, -2]), (z[-1] - z[high]) / (x[:, -1] - x[:, high]))
    return below, above
