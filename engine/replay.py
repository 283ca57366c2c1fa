"""The fast replay: the rules of the Backtrader path in one compiled loop, for sweeps over thousands of settings.

Backtrader remains the reference. `flagbt run` never uses this module; a test compares this loop with Backtrader's equity,
orders and fills, bar by bar, and ``check_replay`` compares any one run. So every sum follows Backtrader's order of
operations (``BackBroker._execute``, ``Position.update``), without fast maths: the results are equal to the last bit.
flagbt's own rules exist once: both paths call the functions of ``engine.kernel``, compiled here.

The first use compiles for some seconds. The result is cached next to this file, or in the user's cache folder where that is
read-only, or else not at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from ..arrays import FloatArray, Int64Array, IntArray, TimeArray
from ..data.bars import Bars
from ..data.labels import BUY, SELL
from ..errors import StrategyError, UsageError
from . import kernel
from .broker import Fill, OrderRecord
from .costs import Costs
from .feed import days_of
from .ledger import orders_table
from .order_refusal import LESS_THAN_A_LOT, RUIN
from .rules import Rules
from .simulation import Simulation

_TOLERANCE = 1e-9
STATUSES = ("unfilled", "filled", "zero-size")
REASONS = ("", LESS_THAN_A_LOT, RUIN)


@dataclass(frozen=True, eq=False)
class ReplayBars:
    """The traded bars as the replay needs them, computed once for many replays.

    Attributes
    ----------
    open, close : array of float64, shape (n_bars,)
    days : array of float64, shape (n_bars,)
        Time since the bar before, to the second; a short pays borrow for it. 0 for the first bar.
    last_of_day : array of int64, shape (n_days,)
        See ``last_bars_of_days``.
    time : array of datetime64[ns], shape (n_bars,)
        Open times, UTC.
    step_hours, bars_per_year : float
        As of `flagbt.data.bars.Bars`.
    """

    open: FloatArray
    close: FloatArray
    days: FloatArray
    last_of_day: Int64Array
    time: TimeArray
    step_hours: float
    bars_per_year: float

    @classmethod
    def of(cls, bars: Bars) -> ReplayBars:
        """Prepare bars: all of them are traded."""
        stamps = days_of(bars.time)
        days = np.zeros(len(bars))
        days[1:] = np.round((stamps[1:] - stamps[:-1]) * 86_400) / 86_400  # as FractionalCommission does
        return cls(
            np.ascontiguousarray(bars.open),
            np.ascontiguousarray(bars.close),
            days,
            last_bars_of_days(bars.time),
            bars.time,
            bars.step_hours,
            bars.bars_per_year,
        )

    def __len__(self) -> int:
        return len(self.close)


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """One replay's results as numbers.

    Attributes
    ----------
    bars : ReplayBars
    cash : float
        Starting cash, quote currency.
    table : array of float64, shape (n_bars, 6)
        Per bar, columns CASH, SIZE (base units held), BORROW (paid so far), BEFORE and AFTER (the exposure in force before
        and after the decision), WHY (see ``engine.rules``).
    orders : array of float64, shape (n_orders, 12)
        In the order they were decided, columns DECIDED (bar) ... SLIPPAGE, as in ``OrderRecord``.
    closed_trades : int
        Round trips from flat to flat or to a reversal, as the trades table counts them.
    """

    bars: ReplayBars
    cash: float
    table: FloatArray
    orders: FloatArray
    closed_trades: int

    @property
    def equity(self) -> FloatArray:
        """Cash + size * close at each bar's close, quote currency, shape (n_bars,)."""
        result: FloatArray = self.table[:, kernel.CASH] + self.table[:, kernel.SIZE] * self.bars.close
        return result

    def records(self) -> list[OrderRecord]:
        """Return the orders as the Backtrader path records them."""
        return [
            OrderRecord(
                int(row[kernel.DECIDED]),
                row[kernel.REQUESTED],
                row[kernel.TARGET],
                row[kernel.PRICE],
                STATUSES[int(row[kernel.STATUS])],
                REASONS[int(row[kernel.REASON])],
                int(row[kernel.FILLED]),
                row[kernel.FILLED_SIZE],
                row[kernel.NOTIONAL],
                row[kernel.FEE],
                row[kernel.SLIPPAGE],
            )
            for row in self.orders.tolist()
        ]

    def fills(self) -> list[Fill]:
        """Return the fills as the Backtrader path records them."""
        rows = self.orders[self.orders[:, kernel.FILLED] >= 0].tolist()
        return [Fill(int(row[kernel.FILLED]), row[kernel.FILLED_SIZE], row[kernel.FILL_PRICE], row[kernel.FEE]) for row in rows]


def last_bars_of_days(time: TimeArray) -> Int64Array:
    """Return for each UTC day, from the first to the last, the position of the last bar up to its end, shape (n_days,).

    A day without bars repeats the one before.
    """
    day = time.astype("datetime64[D]").astype(np.int64)
    every_day = np.arange(day[0], day[-1] + 1)
    return np.searchsorted(day, every_day, side="right") - 1


def position_rule(signal: IntArray, *, short: bool) -> FloatArray:
    """Return the target exposure of each signal, NaN to keep: ``Strategy.decide`` for a whole array.

    BUY -> +1, SELL -> 0 (-1 with ``short``), HOLD and no signal -> keep. *Causality: row by row.*
    """
    targets = np.full(len(signal), np.nan)
    targets[signal == BUY] = 1.0
    targets[signal == SELL] = -1.0 if short else 0.0
    return targets


def replay(
    bars: ReplayBars,
    targets: FloatArray,
    *,
    costs: Costs | None = None,
    cash: float = 10_000.0,
    short: bool = False,
    rules: Rules | None = None,
    scratch: Scratch | None = None,
) -> ReplayResult:
    """Replay target exposures over bars, exactly as ``run_backtest`` would. *Causality: row t uses bars <= t.*

    Parameters
    ----------
    bars : ReplayBars
        The traded bars.
    targets : array of float64, shape (n_bars,)
        Exposure wanted at each bar's close, NaN to keep; 0 to 1, or -1 to 1 with ``short``.
    costs, cash, short, rules
        As ``run_backtest``'s.
    scratch : Scratch, optional
        Memory to write into, so that many replays need no more than one. The next replay then overwrites the result.

    Raises
    ------
    UsageError
        When the targets are not one allowed exposure a bar.
    """
    lowest = -1.0 if short else 0.0
    targets = np.ascontiguousarray(targets, dtype=np.float64)
    if targets.shape != (len(bars),) or ((targets < lowest) | (targets > 1)).any():
        raise UsageError(
            f"replay: expected a target exposure from {lowest:g} to 1, or NaN to keep, for each of the {len(bars):,} bars, got "
            f"shape {targets.shape} with {int(((targets < lowest) | (targets > 1)).sum()):,} values outside. Shorts need "
            "short=True."
        )
    scratch = scratch or Scratch(len(bars))
    n_orders, closed = _compiled()(
        bars.open,
        bars.close,
        bars.days,
        targets,
        (costs or Costs()).rates(),
        (rules or Rules()).limits(),
        float(cash),
        scratch.table,
        scratch.orders,
    )
    return ReplayResult(bars, float(cash), scratch.table, scratch.orders[:n_orders], closed)


class Scratch:
    """Memory for the replays of ``n_bars`` bars, with at most one order per bar."""

    def __init__(self, n_bars: int) -> None:
        self.table = np.empty((n_bars, 6))
        self.orders = np.empty((n_bars, 12))


def check_replay(run: Simulation, replayed: ReplayResult) -> None:
    """Compare a replay with Backtrader's run of the same setting: every order, every fill, every bar's equity.

    Orders and their outcomes must be equal, and all numbers within 1e-9 of the largest of cash, position value and equity
    (sizes: of that divided by the close).

    Raises
    ------
    StrategyError
        Naming the first bar or order that differs; do not use the replay's numbers then.
    """
    theirs, mine = run.equity, replayed.equity
    close = replayed.bars.close
    size, cash = replayed.table[:, kernel.SIZE], replayed.table[:, kernel.CASH]
    scale = np.maximum.reduce([np.abs(cash), np.abs(size * close), np.abs(mine)])
    for name, values, unit in (("equity", mine, scale), ("cash", cash, scale), ("position_size", size, scale / close)):
        expected = theirs[name].to_numpy()
        bad = ~(np.abs(values - expected) <= _TOLERANCE * unit)
        if len(values) != len(expected) or bad.any():
            at = int(np.argmax(bad))
            raise StrategyError(
                f"the fast replay differs from Backtrader at the bar {theirs.index[at]}: {name} is {float(values[at])!r}, "
                f"in Backtrader {float(expected[at])!r}. Its numbers cannot be used: run this setting with `flagbt run`."
            )
    _check_orders(run, replayed, float(scale.max()))


def _check_orders(run: Simulation, replayed: ReplayResult, largest: float) -> None:
    mine, theirs = orders_table(replayed.records(), pd.DatetimeIndex(run.equity.index)), run.orders
    if len(mine) != len(theirs):
        raise StrategyError(
            f"the fast replay differs from Backtrader: it placed {len(mine):,} orders, Backtrader {len(theirs):,}. Its numbers "
            "cannot be used: run this setting with `flagbt run`."
        )
    for name in map(str, mine.columns):
        got, expected = mine[name], theirs[name]
        if got.dtype.kind == "f":
            atol = _TOLERANCE * largest if name in ("notional", "fee", "slippage_cost") else 1e-12
            same = np.isclose(got, expected, rtol=_TOLERANCE, atol=atol, equal_nan=True)
        else:
            same = ((got == expected) | (got.isna() & expected.isna())).to_numpy(dtype=np.bool_)
        if not same.all():
            at = int(np.argmin(same))
            raise StrategyError(
                f"the fast replay differs from Backtrader in order {at + 1}: {name} is {str(got[at])!r}, in Backtrader "
                f"{str(expected[at])!r}. Its numbers cannot be used: run this setting with `flagbt run`."
            )


@cache
def _compiled() -> Callable[..., tuple[int, int]]:
    """Compile the loop or load it from the cache; numba takes a second to import, so it is imported here."""
    import numba
    from numba.extending import register_jitable

    # Division by zero gives infinity, as in numpy: the check for it costs more than the division. Never use fastmath.
    options = {"error_model": "numpy", "nogil": True}
    for function in vars(kernel).values():  # those that ``kernel.simulate`` calls
        if inspect.isfunction(function) and function.__module__ == kernel.__name__ and function is not kernel.simulate:
            register_jitable(**options)(function)
    try:
        return numba.njit(kernel.simulate, cache=True, **options)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder that can be written: compile in each process
        return numba.njit(kernel.simulate, **options)  # type: ignore[no-any-return]
