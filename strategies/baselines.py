"""Strategies without a model: the baselines that a checkpoint must beat."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, TimeArray
from ..data.bars import Bars
from ..data.labels import BUY, HOLD, SELL
from ..errors import UsageError
from ..models.signals import NO_SIGNAL, Signals
from .base import Strategy

UnsignedArray = npt.NDArray[np.uint64]


class BuyAndHold(Strategy):
    """BUY at every bar: bought at the second bar's open, held to the end."""

    name = "buy-and-hold"
    bars_seen = ()
    reads_bars = False

    def prepare(self, bars: Bars) -> Signals:
        """Return BUY for every bar. *Causality: row t uses bars <= t.*"""
        return Signals.plain(np.full(len(bars), BUY))


class AlwaysHold(Strategy):
    """HOLD at every bar: never trades, so its equity is the starting cash."""

    name = "always-hold"
    bars_seen = ()
    reads_bars = False

    def prepare(self, bars: Bars) -> Signals:
        """Return HOLD for every bar. *Causality: row t uses bars <= t.*"""
        return Signals.plain(np.full(len(bars), HOLD))


class SmaCross(Strategy):
    """BUY while the fast mean of the close is above the slow one, SELL while it is below, HOLD where they are equal.

    Means are equal where they differ by no more than their rounding error (`mean_error`). So a tie of the prices as written
    is HOLD in every unit: one satoshi or one bitcoin.

    Parameters
    ----------
    fast_bars, slow_bars : int
        Bars in each mean, ``1 <= fast_bars < slow_bars``; the first ``slow_bars - 1`` bars carry no signal.
    short : bool
        Whether a SELL may open a short position.

    Raises
    ------
    UsageError
        When the two lengths do not fit.
    """

    name = "sma-cross"
    bars_seen = ()

    def __init__(self, *, fast_bars: int = 24, slow_bars: int = 168, short: bool = False) -> None:
        super().__init__(short=short)
        if not 1 <= fast_bars < slow_bars:
            raise UsageError(
                f"sma-cross: expected 1 <= fast_bars < slow_bars, got fast_bars={fast_bars} and slow_bars={slow_bars}."
            )
        self.fast_bars = fast_bars
        self.slow_bars = slow_bars

    @cached_property  # kept on the class, so that no subclass inherits it as its declaration; a subclass can still set it
    def warmup_bars(self) -> int:  # type: ignore[override]
        """Bars before the first complete slow mean."""
        return self.slow_bars - 1

    def prepare(self, bars: Bars) -> Signals:
        """Compare the two means at every bar. *Causality: row t uses bars <= t.*"""
        signal = np.full(len(bars), NO_SIGNAL)
        slow = rolling_mean(bars.close, self.slow_bars)
        fast = rolling_mean(bars.close, self.fast_bars)
        difference = slow - fast
        rounding = mean_error(slow, self.slow_bars) + mean_error(fast, self.fast_bars)
        signal[np.abs(difference) <= rounding] = HOLD
        signal[difference < -rounding] = BUY
        signal[difference > rounding] = SELL
        return Signals.plain(signal)

    def describe(self) -> dict[str, object]:
        """Return name, short and the two lengths."""
        return super().describe() | {"fast_bars": self.fast_bars, "slow_bars": self.slow_bars}


class RandomSignals(Strategy):
    """Signals drawn at random: SELL 16 %, HOLD 66 %, BUY 18 %, about the labels' shares in 2020-2024.

    Parameters
    ----------
    seed : int
        0 or more. The same seed gives the same signal to the same hour in every range.
    short : bool
        Whether a SELL may open a short position.

    Raises
    ------
    UsageError
        When the seed is negative.
    """

    name = "random"
    bars_seen = ()
    reads_bars = False
    sell_share = 0.16
    buy_share = 0.18

    def __init__(self, *, seed: int = 0, short: bool = False) -> None:
        super().__init__(short=short)
        if seed < 0:
            raise UsageError(f"random: expected a seed of 0 or more, got {seed}.")
        self.seed = seed

    def prepare(self, bars: Bars) -> Signals:
        """Draw each bar's signal from its timestamp. *Causality: row t uses bars <= t.*"""
        share = uniform_of_time(bars.time, self.seed)
        signal = np.full(len(bars), HOLD)
        signal[share < self.sell_share] = SELL
        signal[share >= 1 - self.buy_share] = BUY
        return Signals.plain(signal)

    def describe(self) -> dict[str, object]:
        """Return name, short and the seed."""
        return super().describe() | {"seed": self.seed}


def rolling_mean(values: FloatArray, n_bars: int) -> FloatArray:
    """Return the mean of each row and the ``n_bars - 1`` rows before it, shape (n,); NaN for the first ``n_bars - 1``.

    *Causality: row t uses rows <= t.*
    """
    result = np.full(len(values), np.nan)
    rows = len(values) - n_bars + 1
    if rows <= 0:
        return result
    # A running sum (cumsum, or pandas' rolling) carries rounding errors from the first bar on, so the signal at a bar would
    # depend on where the series starts. Adding the window's rows from oldest to newest avoids that.
    total = np.zeros(rows)
    for offset in range(n_bars):
        total += values[offset : offset + rows]
    result[n_bars - 1 :] = total / n_bars
    return result


def mean_error(mean: FloatArray, n_bars: int) -> FloatArray:
    """Return a bound of the error of ``rolling_mean`` against the true mean of the prices as they are written.

    Let u = 2**-53, half of float64's epsilon. Reading a decimal price has a relative error of at most u, and so has each of
    the n - 1 additions of positive numbers, and the division (Higham 2002, Accuracy and Stability of Numerical Algorithms,
    section 4.2). To first order that is (n + 1) u of the mean; ``n * epsilon`` is at least as large. It is far below the
    smallest true difference: for prices of 9 digits and means of 24 and 168 bars, 5e-14 against 6e-12 of the price.
    """
    return n_bars * float(np.finfo(np.float64).eps) * mean


def uniform_of_time(time: TimeArray, seed: int) -> FloatArray:
    """Return a uniform number in [0, 1) for each timestamp, shape (n,): a stateless hash of stamp and seed."""
    seconds = time.astype("datetime64[s]").astype(np.int64).astype(np.uint64)
    key = _mix(np.array([seed % 2**64], dtype=np.uint64))
    bits: UnsignedArray = _mix(seconds ^ key) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _mix(values: UnsignedArray) -> UnsignedArray:
    """Apply SplitMix64's output function (Steele, Lea and Flood 2014) to arrays, where uint64 wraps around silently."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
