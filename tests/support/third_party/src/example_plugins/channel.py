"""A strategy: buy in the upper half of the last bars' range, sell in the lower half."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from flagbt import BUY, SELL, Bars, Signals, Strategy
from flagbt.models.signals import NO_SIGNAL


class Channel(Strategy):
    """BUY where the close is in the upper half of the range of the last bars, SELL where it is in the lower half."""

    name = "channel"
    bars_seen = ()

    def __init__(self, *, width_bars: int = 72, short: bool = False) -> None:
        super().__init__(short=short)
        self.width_bars = width_bars

    def prepare(self, bars: Bars) -> Signals:
        """Compare each close with the middle of its window's range. *Causality: row t uses bars <= t.*"""
        signal = np.full(len(bars), NO_SIGNAL)
        n = self.width_bars
        if len(bars) >= n:
            middle = (sliding_window_view(bars.high, n).max(axis=1) + sliding_window_view(bars.low, n).min(axis=1)) / 2
            signal[n - 1 :] = np.where(bars.close[n - 1 :] > middle, BUY, SELL)
        return Signals.plain(signal)

    def describe(self) -> dict[str, object]:
        """Return name, short and the width."""
        return super().describe() | {"width_bars": self.width_bars}
