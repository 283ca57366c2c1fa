"""The feed: Bars and their signals as Backtrader lines."""

from __future__ import annotations

from array import array

import backtrader as bt
import numpy as np

from ..arrays import FloatArray, TimeArray
from ..data.bars import Bars
from ..models.signals import NO_SIGNAL, Signals

_DAYS_TO_1970 = 719_163  # datetime.date(1970, 1, 1).toordinal()
SIGNAL_LINES = ("signal", "raw_signal", "p_sell", "p_hold", "p_buy", "logit_sell", "logit_hold", "logit_buy")


# TRAP: Backtrader takes a stamp at face value. These are OPEN times, as exchanges give them: at `next()` the bar has
# closed one step later. And a line of datetimes holds floats: find a bar by position (len(data) - 1), never by time.
class BarsFeed(bt.feed.DataBase):  # type: ignore[misc]  # Backtrader has no types
    """Present bars as a Backtrader data feed, filled in bulk.

    Parameters
    ----------
    bars : Bars
        The bars to replay.
    signals : Signals, optional
        One row per bar; strategies read them as ``self.data.signal[0]``, ``self.data.p_buy[0]`` and so on, see
        ``SIGNAL_LINES``. SELL=0, HOLD=1, BUY=2; NaN where there is none.
    """

    lines = SIGNAL_LINES

    def __init__(self, *, bars: Bars, signals: Signals | None = None) -> None:
        super().__init__()
        self.bars = bars
        self.signals = signals
        days, rest = divmod(round(bars.step_hours * 60), 24 * 60)
        whole_days = days > 0 and not rest
        self.p.timeframe = self._timeframe = bt.TimeFrame.Days if whole_days else bt.TimeFrame.Minutes
        self.p.compression = self._compression = days if whole_days else max(1, round(bars.step_hours * 60))

    def preload(self) -> None:
        """Fill every line's array at once; row by row would double the time of a replay."""
        bars = self.bars
        columns: dict[str, FloatArray] = {
            "datetime": days_of(bars.time),
            "open": bars.open,
            "high": bars.high,
            "low": bars.low,
            "close": bars.close,
            "volume": bars.volume,
        } | signal_columns(self.signals)
        absent = np.full(len(bars), np.nan)
        for alias in self.getlinealiases():
            line = getattr(self.lines, alias)
            line.array = array("d", np.ascontiguousarray(columns.get(alias, absent), dtype=np.float64).tobytes())
        self.home()

    def _load(self) -> bool:
        return False  # preload() has loaded all bars

    # Backtrader copies all lines into tick_* attributes at every bar, for replayed and live feeds. This feed is neither;
    # without the copies, the broker reads the lines themselves.
    def _tick_nullify(self) -> None: ...

    def _tick_fill(self, force: bool = False) -> None: ...


def days_of(time: TimeArray) -> FloatArray:
    """Return Backtrader's float days (1.0 is 0001-01-01) of timestamps, shape (n,)."""
    stamps = time.astype("datetime64[us]")
    days = stamps.astype("datetime64[D]")
    result: FloatArray = days.astype(np.int64) + _DAYS_TO_1970 + (stamps - days).astype(np.int64) / 86_400e6
    return result


def signal_columns(signals: Signals | None) -> dict[str, FloatArray]:
    """Return the signal lines' values by name, each shape (n,), NaN where there is no signal; none without signals."""
    if signals is None:
        return {}
    columns = {
        name: np.where(values == NO_SIGNAL, np.nan, values.astype(np.float64))
        for name, values in (("signal", signals.signal), ("raw_signal", signals.raw))
    }
    for prefix, rows in (("p", signals.probabilities), ("logit", signals.logits)):
        if rows is not None:
            columns |= {f"{prefix}_{name}": rows[:, i] for i, name in enumerate(("sell", "hold", "buy"))}
    return columns
