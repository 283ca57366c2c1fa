"""The ledger: orders and trades as tables that add up to the cash."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..arrays import FloatArray
from .broker import Fill, OrderRecord
from .simulation import ORDER_COLUMNS, TRADE_COLUMNS

_DUST = 1e-12  # base units that rounding may leave of a closed position


@dataclass(slots=True)
class _Trade:
    """Collect one round trip; sizes in base units (signed), money in quote currency."""

    side: int
    entry_bar: int
    held: float = 0.0
    bought: float = 0.0
    entry_value: float = 0.0
    exit_value: float = 0.0
    fees: float = 0.0
    exit_bar: int = -1
    exits: list[float] = field(default_factory=list)

    def add(self, size: float, price: float, fee: float) -> None:
        self.held += size
        self.fees += fee
        if size * self.side > 0:
            self.bought += size
            self.entry_value += size * price
        else:
            self.exits.append(size)
            self.exit_value += -size * price
        if abs(self.held) < _DUST:
            self.held = 0.0


def orders_table(records: Iterable[OrderRecord], time: pd.DatetimeIndex) -> pd.DataFrame:
    """Return one row per order, ORDER_COLUMNS, in the order they were decided.

    ``time`` holds the traded bars' open times. A rejected order has fill columns only where a part of it filled: a
    reversal from short to long closes the short even where the cash is too little for the long. ``size`` is the size
    ordered, ``notional / fill_price`` the size filled. Where nothing filled, ``filled`` is NaT and ``fill_price`` NaN. An order
    for a target exposure gets its size and side at its fill: in an order of the last bar, ``size`` is NaN and ``side`` empty;
    in one smaller than a lot, 0 and empty.
    """
    rows = [
        (
            number,
            _stamp(time, record.decided),
            "buy" if record.size > 0 else "sell" if record.size < 0 else "",
            record.target,
            record.size,
            record.decision_price,
            record.status,
            record.reason,
            _stamp(time, record.filled),
            record.notional / abs(record.filled_size) if record.filled_size else math.nan,
            record.notional,
            record.fee,
            record.slippage_cost,
        )
        for number, record in enumerate(records, start=1)
    ]
    table = pd.DataFrame(rows, columns=list(ORDER_COLUMNS))
    numbers = ("target", "size", "decision_price", "fill_price", "notional", "fee", "slippage_cost")
    return _typed(table, ("order",), ("decided", "filled"), numbers, ("side", "status", "reason"))


def trades_table(fills: Iterable[Fill], borrow: FloatArray, close: FloatArray, time: pd.DatetimeIndex) -> pd.DataFrame:
    """Return one row a round trip, TRADE_COLUMNS; the starting cash plus all ``pnl`` is the final equity.

    A trade runs from flat to flat. A fill that reverses a position closes one trade and opens the next; its fee is
    split by size. Prices are averages by size; ``size`` is the total size of the trade's entries, above 0 on both sides;
    ``fees`` includes the borrow. An open trade is marked at the last close, and its exit columns are empty.

    Parameters
    ----------
    fills : iterable of Fill
        Oldest first.
    borrow : array of float64, shape (n_bars,)
        Borrow paid up to each bar, quote currency, cumulative.
    close : array of float64, shape (n_bars,)
        The traded bars' closes.
    time : DatetimeIndex
        Their open times.
    """
    rows = [_row(number, trade, borrow, close, time) for number, trade in enumerate(_round_trips(fills), start=1)]
    table = pd.DataFrame(rows, columns=list(TRADE_COLUMNS))
    numbers = ("entry_price", "exit_price", "size", "fees", "pnl", "return")
    return _typed(table, ("trade", "bars_held"), ("entry_time", "exit_time"), numbers, ("side", "status"))


def _round_trips(fills: Iterable[Fill]) -> list[_Trade]:
    trades: list[_Trade] = []
    for fill in fills:
        size, fee = fill.size, fill.fee
        if abs(size) < _DUST:  # where Backtrader splits a reversal, rounding may leave this part of the order for the next bar
            continue
        trade = trades[-1] if trades and trades[-1].held else None
        if trade is not None and size * trade.held < 0 and abs(size) > abs(trade.held) + _DUST:
            part = -trade.held
            part_fee = fee * part / size
            trade.add(part, fill.price, part_fee)
            trade.exit_bar = fill.bar
            size, fee, trade = size - part, fee - part_fee, None
        if trade is None:
            trade = _Trade(side=1 if size > 0 else -1, entry_bar=fill.bar)
            trades.append(trade)
        trade.add(size, fill.price, fee)
        if not trade.held:
            trade.exit_bar = fill.bar
    return trades


def _row(number: int, trade: _Trade, borrow: FloatArray, close: FloatArray, time: pd.DatetimeIndex) -> tuple[object, ...]:
    last = len(close) - 1
    is_open = bool(trade.held)
    until = last if is_open else trade.exit_bar
    # The borrow charged as a bar opens is for the time before it: the entry bar's charge belongs to the trade before.
    fees = trade.fees + float(borrow[until] - borrow[trade.entry_bar])
    pnl = trade.exit_value - trade.entry_value - fees + trade.held * float(close[last])
    exit_price = math.nan if is_open else -trade.exit_value / float(np.sum(trade.exits))
    return (
        number,
        "long" if trade.side > 0 else "short",
        "open" if is_open else "closed",
        time[trade.entry_bar],
        _stamp(time, -1 if is_open else trade.exit_bar),
        trade.entry_value / trade.bought,
        exit_price,
        abs(trade.bought),
        last - trade.entry_bar + 1 if is_open else trade.exit_bar - trade.entry_bar,
        fees,
        pnl,
        pnl / abs(trade.entry_value),
    )


def _typed(
    table: pd.DataFrame, counts: Sequence[str], times: Sequence[str], numbers: Sequence[str], texts: Sequence[str]
) -> pd.DataFrame:
    """Set every column's type, so that an empty table has the same types as a full one."""
    for name in times:
        table[name] = pd.DatetimeIndex(table[name].to_list(), dtype="datetime64[ns, UTC]")
    kinds = dict.fromkeys(counts, "int64") | dict.fromkeys(numbers, "float64") | dict.fromkeys(texts, "str")
    return table.astype(kinds)


def _stamp(time: pd.DatetimeIndex, bar: int) -> object:
    return pd.NaT if bar < 0 else time[bar]
