"""Log-linear pool: several models' probabilities as one, and the weights that fit bars best.

With log-probabilities l_i of the members and weights w_i >= 0 of the sum 1, the pool is

    log p = log_softmax(sum_i w_i l_i)

the renormalised weighted geometric mean of the probabilities (Genest and Zidek 1986, Combining probability distributions,
Statistical Science 1; the weights by maximum likelihood as in Heskes 1998, Selecting weighting factors in logarithmic opinion
pools). Its negative log-likelihood is never above the weighted mean of the members' own, bar by bar, and is convex in w.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import FloatArray, IntArray
from .statistics import log_softmax, softmax

SUM_TOLERANCE = 1e-9
WEIGHT_DIGITS = 6  # a weight below is noise of the solver


def pooled(logits: Sequence[FloatArray], weights: Sequence[float]) -> FloatArray:
    """Return the pool's log-probabilities (n, 3) of the members' logits, each (n, 3). *Causality: row by row.*

    A row is NaN where it is NaN for any member.
    """
    total = np.zeros_like(logits[0])
    for each, weight in zip(logits, weights, strict=True):
        total += weight * log_softmax(each)
    return log_softmax(total)


def check_weights(weights: Sequence[float]) -> None:
    """Raise ValueError unless the weights are 0 or more, with the sum 1."""
    if not all(0 <= weight <= 1 for weight in weights) or not abs(sum(weights) - 1) <= SUM_TOLERANCE:
        raise ValueError(f"the weights {', '.join(f'{weight:g}' for weight in weights)} are not 0 or more with the sum 1")


def fit_weights(logits: Sequence[FloatArray], labels: IntArray) -> tuple[float, ...]:
    """Return the weights >= 0 of the sum 1 with the lowest negative log-likelihood: one convex problem, solved by SLSQP.

    The result is never worse on these rows than a member alone, or equal weights.

    Parameters
    ----------
    logits : sequence of arrays, each of shape (n, 3)
        Of the members, finite.
    labels : array of int8, shape (n,)
        SELL=0, HOLD=1, BUY=2.
    """
    from scipy.optimize import minimize  # slow to import, and only fitting needs it

    stacked = np.stack([log_softmax(each) for each in logits], axis=2)  # (n, 3, members)
    n, _, members = stacked.shape
    chosen = stacked[np.arange(n), labels]  # (n, members)

    def loss(w: FloatArray) -> tuple[float, FloatArray]:
        u = stacked @ w
        gradient = np.einsum("nc,ncm->m", softmax(u), stacked) / n - chosen.mean(axis=0)
        return float(-log_softmax(u)[np.arange(n), labels].mean()), gradient

    equal = np.full(members, 1 / members)
    found = minimize(
        loss,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"ftol": 1e-12, "maxiter": 1000},
    ).x
    rounded = np.round(np.clip(found, 0.0, 1.0), WEIGHT_DIGITS)
    starts = [*([rounded / rounded.sum()] if np.isfinite(rounded).all() and rounded.sum() > 0 else []), equal, *np.eye(members)]
    best = min(starts, key=lambda w: loss(w)[0])
    return tuple(best.tolist())
