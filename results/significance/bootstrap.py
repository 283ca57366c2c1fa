"""Stationary-bootstrap confidence intervals of Sharpe ratios, studentised so that they hold for autocorrelated returns."""

from __future__ import annotations

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
    from arch.bootstrap import StationaryBootstrap  # imports statsmodels, so only here

    series = [returns] if benchmark is None else [returns, benchmark]
    value, influence = _estimate([each[None] for each in series])
    block = _block_length(influence[0])
    lags = max(1, round(block))
    error = _error(influence, lags)[0]
    sampler = StationaryBootstrap(block, np.arange(len(returns)), seed=seed)
    drawn: npt.NDArray[np.int64] = np.array([positions[0] for positions, _ in sampler.bootstrap(resamples)])
    with np.errstate(divide="ignore", invalid="ignore"):
        values, influences = _estimate([each[drawn] for each in series])
        studentised = (values - value[0]) / _error(influences, lags)
    studentised = studentised[np.isfinite(studentised)]
    if not error > 0 or len(studentised) < FEWEST_VARYING * resamples:
        return None
    below, above = np.quantile(studentised, [(1 - level) / 2, (1 + level) / 2])
    return SharpeInterval(float(value[0]), float(value[0] - above * error), float(value[0] - below * error), block)


def _estimate(series: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return each row's Sharpe ratio and influence series, shapes (rows,) and (rows, n), less the second series' values."""
    value, influence = _sharpe_and_influence(series[0])
    for other in series[1:]:
        theirs, their_influence = _sharpe_and_influence(other)
        value, influence = value - theirs, influence - their_influence
    return value, influence


def _sharpe_and_influence(returns: FloatArray) -> tuple[FloatArray, FloatArray]:
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
