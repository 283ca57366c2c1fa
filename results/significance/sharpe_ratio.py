"""Statistics of the Sharpe ratio: probabilistic and deflated Sharpe ratio, minimum track record length.

All Sharpe ratios here are per sampling period, not annualised: a daily one is mean / standard deviation of daily
returns. Skewness and kurtosis are those of the sample; a normal distribution has kurtosis 3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from ...arrays import FloatArray

CONFIDENCE = 0.95  # the least probability that counts as beyond luck


class Moments(NamedTuple):
    """The moments of a sample of returns.

    Attributes
    ----------
    n_returns : int
    sharpe : float
        Mean / standard deviation (ddof 1), not annualised.
    skewness, kurtosis : float
        Third and fourth standardised moments, 0 and 3 for a normal distribution.
    """

    n_returns: int
    sharpe: float
    skewness: float = 0.0
    kurtosis: float = 3.0

    @classmethod
    def of(cls, returns: FloatArray) -> Moments:
        """Measure returns, shape (n,), at least two that differ."""
        z = (returns - returns.mean()) / returns.std()
        return cls(len(returns), float(returns.mean() / returns.std(ddof=1)), float((z**3).mean()), float((z**4).mean()))

    @property
    def spread(self) -> float:
        """``1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2``: the variance times n_returns - 1 (Mertens 2002).

        0 or more for every sample's own moments, since kurtosis >= 1 + skewness**2.
        """
        return 1 - self.skewness * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2


def probabilistic_sharpe(moments: Moments, threshold: float = 0.0) -> float | None:
    """Return the probability that the true Sharpe ratio is above ``threshold`` (Bailey and Lopez de Prado 2012).

    ``Phi((sharpe - threshold) * sqrt(n_returns - 1) / sqrt(spread))``. None where the spread is 0: two outcomes in such
    proportions do not determine their error.
    """
    if moments.n_returns < 2 or not moments.spread > 1e-12:
        return None
    return float(ndtr((moments.sharpe - threshold) * math.sqrt(moments.n_returns - 1) / math.sqrt(moments.spread)))


def minimum_track_record(moments: Moments, threshold: float = 0.0, confidence: float = CONFIDENCE) -> float | None:
    """Return the number of returns at which the probabilistic Sharpe ratio reaches ``confidence``, all else equal.

    ``1 + spread * (ndtri(confidence) / (sharpe - threshold))**2`` (Bailey and Lopez de Prado 2012). None where the Sharpe
    ratio is not above the threshold, as no length is enough.
    """
    if not moments.sharpe > threshold:
        return None
    return 1 + moments.spread * (float(ndtri(confidence)) / (moments.sharpe - threshold)) ** 2


def expected_best(trials: int, variance: float) -> float:
    """Return the expected Sharpe ratio of the best of ``trials`` without skill.

    ``sqrt(variance) * ((1 - g) * ndtri(1 - 1/trials) + g * ndtri(1 - 1/(trials * e)))``, g Euler's constant (Bailey and
    Lopez de Prado 2014). 0 for a single trial, as there was no choice.

    Parameters
    ----------
    trials : int
        1 or more.
    variance : float
        Of the trials' Sharpe ratios.
    """
    if trials < 2:
        return 0.0
    g = float(np.euler_gamma)
    return math.sqrt(variance) * ((1 - g) * float(ndtri(1 - 1 / trials)) + g * float(ndtri(1 - 1 / (trials * math.e))))


def deflated_sharpe(moments: Moments, trials: int, variance: float) -> float | None:
    """Return the probability that the true Sharpe ratio is above the one that the best of ``trials`` reaches by luck.

    ``probabilistic_sharpe`` with ``expected_best`` as the threshold (Bailey and Lopez de Prado 2014).
    """
    return probabilistic_sharpe(moments, expected_best(trials, variance))
