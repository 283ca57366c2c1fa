"""What metrics are computed from: the equity, positions, costs and trades of a run, from Backtrader or from the fast replay.

Conventions, the same everywhere: 365-day years, daily returns by UTC day, every return counted from the starting cash,
days without bars carry the last equity forward, no risk-free rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from ..arrays import FloatArray, Int64Array, TimeArray
from ..engine import kernel
from ..engine.ledger import trades_table
from ..engine.replay import ReplayResult, last_bars_of_days
from ..engine.simulation import Simulation

DAYS_PER_YEAR = 365
# Relative: below it, a spread of returns or a loss from a peak is only the rounding of float64.
ROUNDING = 1e-12


class EquityRecord(Protocol):
    """Anything with an equity, such as a `Simulation`, a stored run, or its benchmark."""

    @property
    def equity(self) -> pd.DataFrame:
        """Per bar, UTC index, with the column ``equity``."""

    @property
    def cash(self) -> float:
        """The equity before the first bar."""


@dataclass(frozen=True, eq=False)
class RunView:
    """One run as arrays, for the formulas of the metrics: the same for a Backtrader run and for a fast replay.

    Attributes
    ----------
    cash : float
        The starting cash, quote currency.
    time : array of datetime64[ns], shape (n_bars,)
        Open times of the traded bars, UTC.
    close, equity, position : array of float64, shape (n_bars,)
        The bar's close; the equity there, quote currency; the position held there, base units, signed.
    fee, slippage, notional : array of float64, shape (n_orders,)
        Per order, quote currency; 0 (or NaN) for one that never filled.
    closed_trades, open_trades : int
        Round trips.
    step_hours : float
        The bars' step.
    bars_per_year : float
        By the calendar of the whole series, see `flagbt.data.bars.Bars`.
    last_of_day : array of int64, shape (n_days,)
        For each UTC day from the first to the last, the position of the last bar up to its end.
    """

    cash: float
    time: TimeArray
    close: FloatArray
    equity: FloatArray
    position: FloatArray
    fee: FloatArray
    slippage: FloatArray
    notional: FloatArray
    closed_trades: int
    open_trades: int
    step_hours: float
    bars_per_year: float
    last_of_day: Int64Array
    _trades: Callable[[], pd.DataFrame]

    @classmethod
    def of_simulation(cls, run: Simulation) -> RunView:
        """View a backtest with at least one bar."""
        index, frame = bar_times(run), run.equity
        equity = frame["equity"].to_numpy(dtype=np.float64)
        fee, slippage, notional = run.orders[["fee", "slippage_cost", "notional"]].to_numpy(dtype=np.float64).T
        step_hours = run.data.step_hours
        days = _elapsed_days(index.to_numpy(), step_hours)
        return cls(
            cash=run.cash,
            time=index.to_numpy(),
            close=frame["close"].to_numpy(dtype=np.float64),
            equity=equity,
            position=frame["position_size"].to_numpy(dtype=np.float64),
            fee=fee,
            slippage=slippage,
            notional=notional,
            closed_trades=int((run.trades["status"] == "closed").sum()),
            open_trades=int((run.trades["status"] == "open").sum()),
            step_hours=step_hours,
            bars_per_year=float(run.data.bars_per_year or len(equity) * DAYS_PER_YEAR / days),
            last_of_day=last_bars_of_days(index.to_numpy()),
            _trades=lambda: run.trades,
        )

    @classmethod
    def of_replay(cls, replayed: ReplayResult) -> RunView:
        """View a fast replay; read it before the next replay into the same memory."""
        bars, table, orders = replayed.bars, replayed.table, replayed.orders

        def trades() -> pd.DataFrame:
            index = pd.DatetimeIndex(bars.time, tz="UTC")
            return trades_table(replayed.fills(), table[:, kernel.BORROW], bars.close, index)

        return cls(
            cash=replayed.cash,
            time=bars.time,
            close=bars.close,
            equity=replayed.equity,
            position=table[:, kernel.SIZE],
            fee=orders[:, kernel.FEE],
            slippage=orders[:, kernel.SLIPPAGE],
            notional=orders[:, kernel.NOTIONAL],
            closed_trades=replayed.closed_trades,
            open_trades=int(table[-1, kernel.SIZE] != 0),
            step_hours=bars.step_hours,
            bars_per_year=bars.bars_per_year,
            last_of_day=bars.last_of_day,
            _trades=trades,
        )

    @cached_property
    def trades(self) -> pd.DataFrame:
        """One row a round trip, see `flagbt.engine.simulation.Simulation`; a replay builds it on first use, in milliseconds."""
        return self._trades()

    @cached_property
    def ruined(self) -> bool:
        """Whether the equity was 0 or less at any close."""
        return bool((self.equity <= 0).any())

    @cached_property
    def daily_returns(self) -> FloatArray:
        """One return a UTC day, shape (n_days,), as ``daily_returns``; all NaN for a ruined account."""
        return self._returns(self.equity[self.last_of_day])

    @cached_property
    def bar_returns(self) -> FloatArray:
        """One return a bar, shape (n_bars,), the first from the starting cash; all NaN for a ruined account."""
        return self._returns(self.equity)

    @cached_property
    def drawdown(self) -> FloatArray:
        """Equity / highest so far - 1 at every bar's close, shape (n_bars,), as ``drawdowns``."""
        return falls(self.equity, self.cash)

    @property
    def days(self) -> float:
        """The clock time from the first bar's open to the last bar's close, in days."""
        return _elapsed_days(self.time, self.step_hours)

    def _returns(self, equity: FloatArray) -> FloatArray:
        return np.full(len(equity), np.nan) if self.ruined else returns_of(np.concatenate([[self.cash], equity]))


def daily_returns(run: EquityRecord) -> pd.Series[float]:
    """Return one return a UTC day, from the first traded day to the last.

    Returns
    -------
    Series of float64
        Naive UTC index at midnight, one row a calendar day. The first day's return counts from the starting cash; a day
        without bars has a return of 0. Values are not finite where the equity of the day before is 0.
    """
    index = bar_times(run)
    every_day = pd.date_range(index[0].normalize(), index[-1].normalize(), freq="D")
    at_close = run.equity["equity"].to_numpy(dtype=np.float64)[last_bars_of_days(index.to_numpy())]
    return pd.Series(returns_of(np.concatenate([[run.cash], at_close])), index=every_day, name="return")


def ruined_at(run: EquityRecord) -> pd.Timestamp | None:
    """Return the open time of the first bar at whose close the account had lost everything; None without one."""
    lost = run.equity["equity"].to_numpy() <= 0
    return pd.DatetimeIndex(run.equity.index)[int(lost.argmax())] if lost.any() else None


def drawdowns(run: EquityRecord) -> FloatArray:
    """Return equity / highest so far - 1 at every bar's close, shape (n_bars,); the starting cash counts as a peak."""
    return falls(run.equity["equity"].to_numpy(dtype=np.float64), run.cash)


def falls(equity: FloatArray, cash: float) -> FloatArray:
    """Return each value / the highest so far - 1; ``cash`` is the first peak, and a loss by rounding is 0."""
    fall = equity / np.maximum(np.maximum.accumulate(equity), cash) - 1
    return np.where(fall > -ROUNDING, 0.0, fall)


def returns_of(values: FloatArray) -> FloatArray:
    """Return each value / the one before - 1, shape (n - 1,); not finite after a 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result: FloatArray = values[1:] / values[:-1] - 1
    return result


def bar_times(run: EquityRecord) -> pd.DatetimeIndex:
    """Return the open times of the traded bars, naive UTC."""
    return pd.DatetimeIndex(run.equity.index).tz_convert("UTC").tz_localize(None)


def _elapsed_days(time: TimeArray, step_hours: float) -> float:
    return float(((time[-1] - time[0]) / np.timedelta64(1, "h") + step_hours) / 24)
