"""The adapter: a flagbt strategy's decisions as Backtrader orders, bar by bar."""

from __future__ import annotations

import math

import backtrader as bt

from ..data.bars import utc
from ..errors import StrategyError
from ..models.signals import NO_SIGNAL
from ..strategies.base import Position, Strategy
from .broker import OrderRecord
from .kernel import RUIN, HeldPosition, Limits, next_target
from .rules import Rules


class StrategyAdapter(bt.Strategy):  # type: ignore[misc]  # Backtrader has no types
    """At each bar's close, settle the last order, call the strategy and the rules, and order a new target.

    An order is a target exposure: the broker sizes it as it fills, see ``RecordingBroker.order_target``. Once the account has
    lost everything, neither is called any more: the broker closes the position, and nothing follows.

    Parameters
    ----------
    plugin : Strategy
        Makes the decisions; its ``signals`` cover all bars, the history included.
    first : int
        Position of the first traded bar among all bars.
    signal : list of int
        Of the traded bars. The strategy is not called at a bar without one; the rules apply at every bar.
    limits : Limits
        The rules.

    Attributes
    ----------
    before, after : list of float
        The exposure in force before and after each bar's decision.
    why : list of int
        The code of the rule that changed each bar's target, see ``engine.rules``.
    """

    # `plugin`: Cerebro.addstrategy already has a parameter `strategy`.
    def __init__(self, *, plugin: Strategy, first: int, signal: list[int], limits: Limits) -> None:
        self.before: list[float] = []
        self.after: list[float] = []
        self.why: list[int] = []
        self._strategy = plugin
        self._first = first
        self._signal = signal
        self._limits = None if limits == Rules().limits() else limits  # without any, a tenth of the time is saved
        self._in_force = 0.0
        self._fallback = 0.0
        self._pending: OrderRecord | None = None
        self._entry_bar = 0
        self._exit_bar = -1
        self._wanted_bar = {1: 0, -1: 0}
        self._side = 0

    def next(self) -> None:
        """Decide at a bar's close; Backtrader calls this after the broker has filled at the bar's open."""
        bar, held = len(self.before), self.broker.getposition(self.data)
        if self._pending is not None:
            self._settle(self._pending, held.size)
        self.before.append(self._in_force)
        if self.broker.is_ruined:
            self._in_force = 0.0
            self.why.append(RUIN)
            self.after.append(0.0)
            return
        bars_held = bar - self._entry_bar + 1 if held.size else 0
        wanted = self._wanted(bar, bars_held, held) if self._signal[bar] != NO_SIGNAL else math.nan
        target, why = wanted, 0
        if self._limits is not None:
            target, why = next_target(wanted, self._held(bar, bars_held, held), self.data.close[0], self._limits)
        self.why.append(why)
        if target == target and target != self._in_force:  # NaN keeps
            self._pending = self.broker.order_target(target, owner=self)
            self._fallback, self._in_force = self._in_force, target
        self.after.append(self._in_force)

    def _wanted(self, bar: int, bars_held: int, held: bt.Position) -> float:
        """Return the strategy's target, NaN to keep."""
        entry_price = held.price if held.size else math.nan
        target = self._strategy.decide(self._first + bar, Position(self._in_force, held.size, bars_held, entry_price))
        if target is None:
            return math.nan
        wanted = self._checked(target)
        if wanted:
            self._wanted_bar[1 if wanted > 0 else -1] = bar
        return wanted

    def _held(self, bar: int, bars_held: int, held: bt.Position) -> HeldPosition:
        bars_flat = bar - self._exit_bar + 1 if not held.size and self._exit_bar >= 0 else 0
        equity = self.broker.cash + held.size * self.data.close[0]
        return HeldPosition(
            held.size, held.price, equity, bars_held, bars_flat, bar - self._wanted_bar[1 if held.size > 0 else -1]
        )

    def _settle(self, record: OrderRecord, size: float) -> None:
        """Update the target in force from the last order, which was sized and filled as this bar opened."""
        if record.status != "filled":
            self._in_force = self._fallback
        side = (size > 0) - (size < 0)
        if side == 0:
            self._in_force = 0.0
            if self._side:
                self._exit_bar = record.filled
        elif side != self._side:
            self._entry_bar = record.filled
        self._side = side
        self._pending = None

    def _checked(self, target: float) -> float:
        """Return the target as a float, or raise with what the strategy should have returned."""
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
