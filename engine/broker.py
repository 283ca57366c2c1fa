"""The broker: Backtrader's own, kept to leverage 1, and recording every order, fill and bar."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import backtrader as bt
import numpy as np

from ..data.bars import FloatArray
from ..errors import StrategyError
from .costs import AllIn, Costs, FractionalCommission

Progress = Callable[[int, int], None]
_PROGRESS_EVERY_BARS = 1_000
_REJECTED = (bt.Order.Margin, bt.Order.Rejected)
_DROPPED = (bt.Order.Canceled, bt.Order.Expired)
NO_SHORTS, NO_LOT = "short not allowed", "less than one lot"
# What a plain strategy could call on its broker and so earn what its record does not say.
_FIXED = (
    "set_cash", "setcash", "add_cash", "setcommission", "addcommissioninfo", "set_slippage_perc", "set_slippage_fixed",
    "set_coc", "set_coo", "set_checksubmit", "set_filler", "set_int2pnl", "set_shortcash", "set_fundmode",
    "add_order_history", "set_fund_history",
)  # fmt: skip


@dataclass(slots=True)
class OrderRecord:
    """What became of one order.

    Attributes
    ----------
    decided, filled : int
        Positions of the bar at whose close it was decided, and of the bar at whose open it filled (-1: it did not).
    size : float
        Base units asked for, signed.
    target : float
        The exposure it should lead to; NaN for a plain Backtrader strategy's order.
    decision_price : float
        The close it was decided at.
    status, reason : str
        ``filled``, ``rejected``, ``zero-size`` or ``unfilled``, and why, where it is not filled.
    filled_size, notional, fee, slippage_cost : float
        Of what was filled: base units (signed), and three amounts of quote currency.
    """

    decided: int
    size: float
    target: float
    decision_price: float
    status: str = "unfilled"
    reason: str = ""
    filled: int = -1
    filled_size: float = 0.0
    notional: float = 0.0
    fee: float = 0.0
    slippage_cost: float = 0.0


class Fill(NamedTuple):
    """One execution: the bar's position, base units (signed), price, fee in quote currency."""

    bar: int
    size: float
    price: float
    fee: float


class RecordingBroker(bt.brokers.BackBroker):  # type: ignore[misc]  # Backtrader has no types
    """Backtrader's broker for one feed, with fractional sizes, costs, a short rule, and a record.

    Backtrader by itself accepts shorts of any size. Here an order that opens or enlarges a short is rejected at its
    fill when shorts are not allowed, or when the short's notional would exceed the equity (leverage 1). Nothing is
    liquidated: a short that has lost everything goes on losing until the strategy closes it.

    Parameters
    ----------
    costs : Costs
        What fills pay.
    starting_cash : float
        Quote currency.
    short_allowed : bool
        Whether positions below 0 are.
    n_bars : int
        How many bars there will be, for ``progress``.
    progress : callable, optional
        Called with (bars done, bars in all) every 1,000 bars.
    """

    def __init__(
        self, *, costs: Costs, starting_cash: float, short_allowed: bool, n_bars: int, progress: Progress | None = None
    ) -> None:
        super().__init__()
        self.costs = costs
        self.short_allowed = short_allowed
        self._n_bars = n_bars
        self._progress = progress
        self.set_cash(starting_cash)
        self.addcommissioninfo(FractionalCommission(costs=costs))
        # TRAP: without slip_out, slippage is capped by the bar's high and low; without slip_open, there is none.
        self.set_slippage_perc(costs.slippage, slip_open=True, slip_limit=True, slip_match=True, slip_out=True)
        self.set_int2pnl(False)  # else the borrow would be paid in cash AND be counted in the next closing fee
        self.records: list[OrderRecord] = []
        self.fills: list[Fill] = []
        self._by_reference: dict[int, OrderRecord] = {}
        self._n_fills: dict[int, int] = {}
        self._unslipped: float | None = None
        self._rows: list[tuple[float, float, float]] = []

    def start(self) -> None:
        """Begin a replay: from here on cash and costs are what the record says."""
        super().start()
        for name in _FIXED:
            setattr(self, name, _refuse(name))

    def record_of(self, order: Any) -> OrderRecord:
        """Return the record of an order that was given to this broker."""
        return self._by_reference[order.ref]

    def next(self) -> None:
        """Fill what is pending at this bar's open, then note cash, size and the borrow paid so far."""
        if not self._rows:
            self._refuse_cheats()
        super().next()
        data = self.cerebro.datas[0]
        self._rows.append((self.cash, self.positions[data].size, self.d_credit[data]))
        if self._progress is not None and len(self._rows) % _PROGRESS_EVERY_BARS == 0:
            self._progress(len(self._rows), self._n_bars)

    def notify(self, order: Any) -> None:
        """Note every change of an order's state, when it happens, before Backtrader passes it on.

        A strategy's own ``notify_order`` would come too late: what happens on the last bar is never delivered to it.
        """
        super().notify(order)
        record = self._by_reference.get(order.ref)
        if record is None:
            bar = len(order.data) - 1
            record = OrderRecord(bar, float(order.created.size), math.nan, float(order.created.pclose))
            self._by_reference[order.ref] = record
            self.records.append(record)
        self._note_fills(order, record)
        if order.status == bt.Order.Completed:
            record.status = "filled"
        elif order.status in _REJECTED:
            record.status = "rejected"
            record.reason = record.reason or order.getstatusname()
        elif order.status in _DROPPED:
            record.reason = order.getstatusname()

    def _note_fills(self, order: Any, record: OrderRecord) -> None:
        seen = self._n_fills.get(order.ref, 0)
        for bit in list(order.executed.exbits)[seen:]:
            fill = Fill(len(order.data) - 1, float(bit.size), float(bit.price), float(bit.comm))
            self.fills.append(fill)
            record.filled = fill.bar
            record.filled_size += fill.size
            record.notional += abs(fill.size) * fill.price
            record.fee += fill.fee
            if self._unslipped is not None:
                record.slippage_cost += fill.size * (fill.price - self._unslipped)
        self._n_fills[order.ref] = len(order.executed.exbits)

    def _try_exec(self, order: Any) -> None:
        self._unslipped = None
        super()._try_exec(order)

    # A limit order fills at its limit, or at the open where that is better, and never slips: Backtrader's own slippage
    # would carry it past its limit, since `slip_out` lets a price leave the bar. `lim` marks limit orders.
    def _slip_up(self, pmax: float, price: float, doslip: bool = True, lim: bool = False) -> Any:
        self._unslipped = price
        return price if lim else super()._slip_up(pmax, price, doslip)

    def _slip_down(self, pmin: float, price: float, doslip: bool = True, lim: bool = False) -> Any:
        self._unslipped = price
        return price if lim else super()._slip_down(pmin, price, doslip)

    def _execute(self, order: Any, ago: Any = None, price: Any = None, **kwargs: Any) -> Any:
        all_in = isinstance(order.p.size, AllIn)
        if ago is None or price is None:  # Backtrader's check at the close; what is all-in is sized at its fill, and fits
            return kwargs["cash"] if all_in else super()._execute(order, ago=ago, price=price, **kwargs)
        if order.exectype == bt.Order.Close:  # Backtrader lets these fill without slippage
            price = (self._slip_up if order.isbuy() else self._slip_down)(price, price)
        if all_in and not self._size_all_in(order, price):
            return self._turn_down(order, NO_LOT)
        if why := self._short_forbidden(order, price):
            return self._turn_down(order, why)
        return super()._execute(order, ago=ago, price=price, **kwargs)

    def _size_all_in(self, order: Any, price: float) -> float:
        """Give an all-in order the size that holds at its fill, and return it: what it closes, or what the cash pays."""
        size = self.all_in(order.isbuy(), price)
        order.size = order.created.size = order.executed.remsize = size if order.isbuy() else -size
        self.record_of(order).size = order.size
        return size

    def all_in(self, is_buy: bool, price: float) -> float:
        """Return the base units (0 or more) of an all-in order that fills at ``price``, slippage included.

        Against a position, it closes that one. Otherwise a buy takes what the cash pays, and a sale makes the whole equity
        a short. Whole lots.
        """
        held = self.positions[self.cerebro.datas[0]].size
        if held and (held > 0) != is_buy:
            return float(abs(held))
        return self.costs.paid_by(self.cash if is_buy else self.cash + 2 * held * price, price)

    def _turn_down(self, order: Any, why: str) -> None:
        """Reject an order at its fill, and what depends on it."""
        self.record_of(order).reason = why
        order.reject()
        self.notify(order)
        self._ococheck(order)
        self._bracketize(order, cancel=True)

    def _refuse_cheats(self) -> None:
        """Refuse what lets a strategy see a bar before its orders fill in it."""
        if self.cerebro.p.cheat_on_open or self.cerebro._timerscheat:
            raise StrategyError(
                "the strategy asked Backtrader to cheat (cheat_on_open, or a timer with cheat=True): it would see a bar's "
                "close, high and low before its orders fill in that bar. Order in next(), or by a timer without cheat."
            )

    def _short_forbidden(self, order: Any, price: float) -> str:
        size, change = self.positions[order.data].size, order.executed.remsize
        after = size + change
        if change > 0 or after > -self.costs.lot_size / 2:
            return ""
        if not self.short_allowed:
            return NO_SHORTS
        return "short above equity" if -after * price > self.cash + size * price else ""

    def table(self) -> FloatArray:
        """Return cash, base units held, and borrow paid so far (quote currency) at each bar's close, shape (n, 3)."""
        return np.array(self._rows, dtype=np.float64).reshape(-1, 3)


def _refuse(name: str) -> Callable[..., None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise StrategyError(
            f"the strategy called broker.{name}(): the cash and the costs of a run are fixed before its first bar, or its "
            "result would not be what its record says. Use --cash, --fee-bps and --slippage-bps."
        )

    return refuse
