"""The bridge: a flagbt strategy's decisions as Backtrader orders, bar by bar."""

from __future__ import annotations

import math
from typing import Any

import backtrader as bt

from ..data.bars import utc
from ..errors import StrategyError
from ..models.signals import NO_SIGNAL
from ..strategies.base import Position, Strategy
from .broker import OrderRecord


class Bridge(bt.Strategy):  # type: ignore[misc]  # Backtrader has no types
    """At each bar's close: settle the last order, ask the strategy, order where its target is a new one.

    Parameters
    ----------
    plugin : Strategy
        What decides; its ``signals`` cover all bars, the history included.
    first : int
        Position of the first traded bar among all bars.
    signal : list of int
        Of the traded bars.

    Attributes
    ----------
    before, after : list of float
        The exposure in force before and after each bar's decision.
    """

    # `plugin`: Cerebro.addstrategy has a parameter `strategy` of its own.
    def __init__(self, *, plugin: Strategy, first: int, signal: list[int]) -> None:
        self.before: list[float] = []
        self.after: list[float] = []
        self._strategy = plugin
        self._first = first
        self._signal = signal
        self._in_force = 0.0
        self._fallback = 0.0
        self._pending: OrderRecord | None = None
        self._entry_bar = 0
        self._side = 0

    def next(self) -> None:
        """Backtrader calls this at each bar's close, after the broker has filled at the bar's open."""
        bar, held = len(self.before), self.broker.getposition(self.data)
        if self._pending is not None:
            self._settle(self._pending, held.size)
        self.before.append(self._in_force)
        if self._signal[bar] != NO_SIGNAL:
            bars_held = bar - self._entry_bar + 1 if held.size else 0
            entry_price = held.price if held.size else math.nan
            position = Position(self._in_force, held.size, bars_held, entry_price)
            target = self._strategy.decide(self._first + bar, position)
            if target is not None and self._checked(target) != self._in_force:
                self._order(bar, float(target), held.size)
        self.after.append(self._in_force)

    def _settle(self, record: OrderRecord, size: float) -> None:
        """Take the target in force from what the last order came to; market orders are settled one bar later."""
        if record.status != "filled":
            self._in_force = self._fallback
        side = (size > 0) - (size < 0)
        if side == 0:
            self._in_force = 0.0
        elif side != self._side:
            self._entry_bar = record.filled
        self._side = side
        self._pending = None

    def _order(self, bar: int, target: float, held: float) -> None:
        close = self.data.close[0]
        size = self._size_for(target, held, close) - held
        if abs(size) < self.broker.costs.lot_size / 2:
            self.broker.records.append(OrderRecord(bar, 0.0, target, close, "zero-size", "less than one lot"))
            return
        give = self.buy if size > 0 else self.sell
        # Closing needs no margin, but Backtrader's check at the close would refuse to close a short that has lost
        # everything, and would hold it for ever.
        only_closes = size * held < 0 and abs(size) <= abs(held)
        self._pending = self.broker.record_of(give(size=abs(size), _checksubmit=not only_closes))
        self._pending.target = target
        self._fallback, self._in_force = self._in_force, target

    def _size_for(self, target: float, held: float, close: float) -> float:
        """Return the base units (signed) that the target exposure means at this close."""
        if target == 0:
            return 0.0
        costs = self.broker.costs
        equity = self.broker.cash + held * close
        if held * target < 0:
            equity = costs.equity_after_closing(equity, held, close)
        return math.copysign(costs.size_for(equity * abs(target), close), target)

    def _checked(self, target: Any) -> float:
        """Return the target as a float, or say what the strategy should have returned."""
        allowed = self.broker.short_allowed
        lowest = -1.0 if allowed else 0.0
        try:
            value = float(target)
        except (TypeError, ValueError):
            value = math.nan
        if lowest <= value <= 1.0:
            return value
        number = len(self.before) - 1
        where = utc(self.data.bars.time[number])
        remedy = "" if allowed or not -1 <= value < 0 else " Shorts need short=True (--short)."
        raise StrategyError(
            f"strategy '{self._strategy.name}': decide returned {target!r} at the bar {where}, expected None or an "
            f"exposure from {lowest:g} to 1.{remedy}"
        )
