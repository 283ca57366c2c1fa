"""Stationary-bootstrap confidence intervals, studentised so that they hold for autocorrelated returns or losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...arrays import FloatArray

RESAMPLES = 1_000
LARGEST_BLOCK_SHARE = 0.25
FEWEST_VARYING = 0.95  # share of resamples that must have a Sharpe ratio


class SharpeInterval(NamedTuple):
    """A confidence interval.

    Attributes
    ----------
    value, low, high : float
        Per sampling period, not annualised.
    block : float
        Mean length of the resampled blocks, in returns.
    """

    value: float
    low: float
    high: float
    block: float


class ChangeInterval(NamedTuple):
    """A confidence interval of a statistic after a moment less the same before it.

    Attributes
    ----------
    value, low, high : float
        Per sampling period, not annualised.
    blocks : tuple of float
        Mean length of the resampled blocks before and after, in rows.
    """

    value: float
    low: float
    high: float
    blocks: tuple[float, float]


# Rows of samples (rows, n, ...) -> the statistic of each row (rows,) and the influence of each value on it (rows, n).
Statistic = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


def change_interval(
    before: FloatArray,
    after: FloatArray,
    statistic: Statistic,
    *,
    level: float = 0.9,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ChangeInterval | None:
    """Return a confidence interval of a statistic of one period less that of an earlier one.

    As `sharpe_interval`, but the periods have no day in common: each is resampled alone, in blocks of a length that fits it,
    and the squares of their errors add up.

    Parameters
    ----------
    before, after : array of float64, shape (n, ...) and (m, ...)
    statistic : callable
        `sharpe_and_influence` or `mean_and_influence`.

    Returns
    -------
    ChangeInterval or None
        None where too many resamples have no value.
    """
    values, errors, drawn, drawn_errors, blocks = [], [], [], [], []
    for place, sample in enumerate((before, after)):
        random = np.random.default_rng([seed, place])
        with np.errstate(divide="ignore", invalid="ignore"):
            value, influence = statistic(sample[None])
            block = _block_length(influence[0])
            lags = max(1, round(block))
            rows, influences = statistic(sample[_positions(len(sample), block, resamples, random)])
            values.append(float(value[0]))
            errors.append(float(_error(influence, lags)[0]))
            drawn.append(rows - value[0])
            drawn_errors.append(_error(influences, lags))
            blocks.append(block)
    error = math.hypot(*errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = (drawn[1] - drawn[0]) / np.hypot(drawn_errors[0], drawn_errors[1])
    studentised = studentised[np.isfinite(studentised)]
    if not error > 0 or len(studentised) < FEWEST_VARYING * resamples:
        return None
    lower, upper = np.quantile(studentised, [(1 - level) / 2, (1 + level) / 2])
    change = values[1] - values[0]
    return ChangeInterval(change, float(change - upper * error), float(change - lower * error), (blocks[0], blocks[1]))


def mean_and_influence(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean over all items of each row, from each day's sum and count of items, and the influence of each day.

    Parameters
    ----------
    sums : array of float64, shape (rows, n, 2)
        Of each day: the sum of its items' values, and their number.
    """
    total, count = sums[..., 0], sums[..., 1]
    mean = total.sum(axis=1) / count.sum(axis=1)
    return mean, (total - mean[:, None] * count) / count.mean(axis=1, keepdims=True)


def sharpe_interval(
    returns: FloatArray, benchmark: FloatArray | None = None, *, level: float = 0.9, resamples: int = RESAMPLES, seed: int = 0
) -> SharpeInterval | None:
    """Return a confidence interval of a Sharpe ratio, or of its difference to a benchmark's.

    Blocks of random length are drawn (Politis and Romano 1994), the same from both series, which keeps their correlation.
    Their mean length is that of Politis and White (2004) with the correction of Patton, Politis and White (2009), for the
    statistic's influence series: each return's contribution to the estimate. The interval is studentised: it uses the
    quantiles of ``(resampled - value) / error of the resample``, with the errors of Newey and West (1987) over the influence
    series, as Ledoit and Wolf (2008) do for the difference. Plain percentiles cover too little where returns are
    autocorrelated.

    Parameters
    ----------
    returns, benchmark : array of float64, shape (n,)
    level : float
    resamples : int
    seed : int

    Returns
    -------
    SharpeInterval or None
        None where too many resamples have no Sharpe ratio, as for returns that hardly ever vary.
    """
    series = [returns] if benchmark is None else [returns, benchmark]
    value, influence = _estimate([each[None] for each in series])
    block = _block_length(influence[0])
    lags = max(1, round(block))
    error = _error(influence, lags)[0]
    drawn = _positions(len(returns), block, resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        values, influences = _estimate([each[drawn] for each in series])
        studentised = (values - value[0]) / _error(influences, lags)
    studentised = studentised[np.isfinite(studentised)]
    if not error > 0 or len(studentised) < FEWEST_VARYING * resamples:
        return None
    below, above = np.quantile(studentised, [(1 - level) / 2, (1 + level) / 2])
    return SharpeInterval(float(value[0]), float(value[0] - above * error), float(value[0] - below * error), block)


def _positions(n: int, block: float, resamples: int, seed: int | np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the positions that each resample draws, shape (resamples, n)."""
    from arch.bootstrap import StationaryBootstrap  # imports statsmodels, so only here

    sampler = StationaryBootstrap(block, np.arange(n), seed=seed)
    return np.array([positions[0] for positions, _ in sampler.bootstrap(resamples)])


def _estimate(series: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return each row's Sharpe ratio and influence series, shapes (rows,) and (rows, n), less the second series' values."""
    value, influence = sharpe_and_influence(series[0])
    for other in series[1:]:
        theirs, their_influence = sharpe_and_influence(other)
        value, influence = value - theirs, influence - their_influence
    return value, influence


def sharpe_and_influence(returns: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return Sharpe ratios and the influence of each return, z - sharpe / 2 * (z**2 - 1) for standardised returns z."""
    centred = returns - returns.mean(axis=1, keepdims=True)
    spread = returns.std(axis=1, keepdims=True)
    z = centred / spread
    ratio = returns.mean(axis=1, keepdims=True) / spread
    n = returns.shape[1]
    # The value has ddof 1, as everywhere; the influence function is the population's.
    return ratio[:, 0] * np.sqrt((n - 1) / n), z - ratio / 2 * (z**2 - 1)


def _error(influence: FloatArray, lags: int) -> FloatArray:
    """Return the standard error of the mean influence, shape (rows,): Newey and West (1987), Bartlett weights."""
    n = influence.shape[1]
    variance = (influence**2).mean(axis=1)
    for lag in range(1, min(lags, n - 1) + 1):
        covariance = np.einsum("ij,ij->i", influence[:, lag:], influence[:, :-lag]) / n
        variance = variance + 2 * (1 - lag / (lags + 1)) * covariance
    result: FloatArray = np.sqrt(np.maximum(variance, 0) / n)
    return result


def _block_length(influence: FloatArray) -> float:
    """Return the mean block length for a series, 1 to a quarter of it."""
    from arch.bootstrap import optimal_block_length

    with np.errstate(divide="ignore", invalid="ignore"):
        length = float(optimal_block_length(influence)["stationary"].iloc[0])
    return float(np.clip(length if np.isfinite(length) else 1.0, 1.0, max(1.0, LARGEST_BLOCK_SHARE * len(influence))))
