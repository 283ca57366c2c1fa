"""The broker: Backtrader's broker, limited to leverage 1, that records every order, fill and bar."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import backtrader as bt
import numpy as np

from ..arrays import FloatArray, Progress
from ..errors import StrategyError
from .commission import FractionalCommission
from .costs import Costs
from .kernel import Account, fill_price, order_at_open
from .order_refusal import LESS_THAN_A_LOT, RUIN, only_closes, refusal_at_fill
from .plain_backtrader import AllIn

_PROGRESS_EVERY_BARS = 1_000
_REJECTED = (bt.Order.Margin, bt.Order.Rejected)
_DROPPED = (bt.Order.Canceled, bt.Order.Expired)
# A plain strategy that called these on its broker could earn money that its record does not show.
_FIXED = (
    *("set_cash", "setcash", "add_cash"),
    *("setcommission", "addcommissioninfo", "set_slippage_perc", "set_slippage_fixed", "set_coc", "set_coo"),
    *("set_filler", "set_int2pnl", "set_shortcash", "add_order_history", "set_fund_history"),
)
# Settings that earn nothing.
_FREE = ("checksubmit", "fundmode", "fundstartval", "eosbar")


@dataclass(slots=True)
class OrderRecord:
    """Record one order and its outcome.

    Attributes
    ----------
    decided, filled : int
        Positions of the bar at whose close it was decided, and of the bar at whose open it filled (-1: it did not).
    size : float
        Base units ordered, signed. An order for a target exposure gets its size at its fill; NaN where it never filled.
    target : float
        The exposure it should lead to; NaN for a plain Backtrader strategy's order.
    decision_price : float
        The close it was decided at.
    status, reason : str
        ``filled``, ``rejected``, ``zero-size`` or ``unfilled``. The reason why it is not filled; also marks the order that
        closes an account which has lost everything.
    filled_size, notional, fee, slippage_cost : float
        Of the filled part: base units (signed), and three amounts of quote currency.
    is_sized_at_fill : bool
        Whether its size was set at its fill: true of orders for a target exposure and of all-in orders.
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
    is_sized_at_fill: bool = False


class Fill(NamedTuple):
    """Record one execution: the bar's position, base units (signed), price, fee in quote currency."""

    bar: int
    size: float
    price: float
    fee: float


class RecordingBroker(bt.brokers.BackBroker):  # type: ignore[misc]  # Backtrader has no types
    """Extend Backtrader's broker for one feed with fractional sizes, costs, a short rule, and a record.

    Backtrader by itself accepts shorts of any size. Here an order that opens or enlarges a short is rejected at its
    fill when shorts are not allowed, or when the short's notional would exceed the equity (leverage 1). An order that only
    closes is never refused for margin.

    **Ruin:** where the equity at a close is 0 or less, all pending orders are cancelled, the position is closed at the next
    open, and every later order is rejected. Only closes count: an equity of 0 or less at an open has no effect,
    but an order that fills there can only close.

    Parameters
    ----------
    costs : Costs
        Charged on fills.
    starting_cash : float
        Quote currency.
    short_allowed : bool
        Whether positions below 0 are allowed.
    n_bars : int
        Total number of bars, for ``progress``.
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
        self._rates = costs.rates()
        self.addcommissioninfo(FractionalCommission(costs=costs))
        self.set_slippage_perc(costs.slippage)  # for strategies that read it; it is charged in _slip_up and _slip_down
        self.set_int2pnl(False)  # else the borrow would be paid in cash AND be counted in the next closing fee
        self.records: list[OrderRecord] = []
        self.fills: list[Fill] = []
        self._by_reference: dict[int, OrderRecord] = {}
        self._n_fills: dict[int, int] = {}
        self._unslipped: float | None = None
        self._rows: list[tuple[float, float, float]] = []
        self.is_ruined = False
        self._target: tuple[OrderRecord, bt.Strategy] | None = None

    def start(self) -> None:
        """Start a replay and lock cash and costs to the recorded values."""
        super().start()
        for name in _FIXED:
            setattr(self, name, _refuse(f"called broker.{name}()"))
        self._settings = {name: value for name, value in self.p._getkwargs().items() if name not in _FREE}

    def stop(self) -> None:
        """End a replay and check that the strategy has not changed the broker's settings."""
        super().stop()
        for name, value in self._settings.items():
            if getattr(self.p, name) != value:
                _refuse(f"set broker.p.{name}")()

    def record_of(self, order: bt.Order) -> OrderRecord:
        """Return the record of an order that this broker received."""
        return self._by_reference[order.ref]

    def next(self) -> None:
        """Fill pending orders at this bar's open, then record cash, size and the borrow paid so far."""
        data = self.cerebro.datas[0]
        if not self._rows:
            self._refuse_cheats()
        elif (self.cash, self.positions[data].size) != self._rows[-1][:2]:
            _refuse("set broker.cash or its position's size")()
        super().next()
        size = self.positions[data].size
        self._rows.append((self.cash, size, self.d_credit[data]))
        if not self.is_ruined and self.cash + size * data.close[0] <= 0:
            self._close_account(size)
        if self._progress is not None and len(self._rows) % _PROGRESS_EVERY_BARS == 0:
            self._progress(len(self._rows), self._n_bars)

    def order_target(self, target: float, *, owner: bt.Strategy, reason: str = "") -> OrderRecord:
        """Accept an order for a target exposure at a bar's close; it is sized and filled as the next bar opens.

        Parameters
        ----------
        target : float
            Signed fraction of the equity at that open.
        owner : backtrader.Strategy
        reason : str
            For the record, where the strategy did not place the order.

        Returns
        -------
        OrderRecord
            ``unfilled`` and without a size until the next open.
        """
        data = self.cerebro.datas[0]
        record = OrderRecord(len(data) - 1, math.nan, target, data.close[0], reason=reason, is_sized_at_fill=True)
        self.records.append(record)
        self._target = record, owner
        return record

    def _process_order_history(self) -> None:
        """Place the order for a target: Backtrader calls this once a bar, after the borrow is paid and before it fills."""
        super()._process_order_history()
        if self._target is None:
            return
        (record, owner), self._target = self._target, None
        data = self.cerebro.datas[0]
        held = self.positions[data]
        record.size, _ = order_at_open(record.target, Account(self.cash, held.size, held.price), data.open[0], self._rates)
        if not record.size:
            record.status, record.reason = "zero-size", LESS_THAN_A_LOT
            return
        # Simulated: placed before this bar, or Backtrader would delay it until the next; the owner is not notified.
        kind = bt.order.BuyOrder if record.size > 0 else bt.order.SellOrder
        order = kind(owner=owner, data=data, size=abs(record.size), price=record.decision_price, simulated=True)
        self._by_reference[order.ref] = record
        self._ocoize(order, None)
        self.submit(order, check=False)

    def _close_account(self, size: float) -> None:
        """Cancel pending orders and close any position at the next open."""
        self.is_ruined = True
        self._toactivate.clear()
        for order in list(self.pending):
            self.record_of(order).reason = RUIN
            self.cancel(order)
        if size:
            self.order_target(0.0, owner=self.cerebro.runningstrats[0], reason=RUIN)

    def transmit(self, order: bt.Order, check: bool = True) -> bt.Order:
        """Reject every order of a strategy once the account has lost everything."""
        if not self.is_ruined or order.ref in self._by_reference:
            return super().transmit(order, check=check)
        order.submit(self)
        order.reject(self)
        self.notify(order)
        self.record_of(order).reason = RUIN
        return order

    def notify(self, order: bt.Order) -> None:
        """Record every change of an order's state as it happens, before Backtrader passes it on.

        A strategy's own ``notify_order`` would come too late: it never receives the last bar's changes.
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
            record.reason = record.reason or order.getstatusname()

    def _note_fills(self, order: bt.Order, record: OrderRecord) -> None:
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

    def _try_exec(self, order: bt.Order) -> None:
        self._unslipped = None
        super()._try_exec(order)

    # Backtrader's own slippage is capped by the bar's high and low, and moves a limit order past its limit. Here a limit order
    # fills at its limit, or at the open where that is better, and never slips. `lim` marks limit orders.
    def _slip_up(self, pmax: float, price: float, doslip: bool = True, lim: bool = False) -> float:  # noqa: ARG002 - Backtrader's
        self._unslipped = price
        return price if lim else fill_price(price, 1.0, self._rates)

    def _slip_down(self, pmin: float, price: float, doslip: bool = True, lim: bool = False) -> float:  # noqa: ARG002 - Backtrader's
        self._unslipped = price
        return price if lim else fill_price(price, -1.0, self._rates)

    def _execute(self, order: bt.Order, ago: float | None = None, price: float | None = None, **kwargs: Any) -> object:
        all_in = isinstance(order.p.size, AllIn)
        if ago is None:  # Backtrader's check of a submitted order: the cash it would leave; below 0, it is refused
            if all_in:  # sized at its fill, so that it fits
                return max(0.0, kwargs["cash"])
            left = super()._execute(order, ago=ago, price=price, **kwargs)
            return max(0.0, left) if only_closes(order, self.positions[order.data].size) else left
        if price is None:
            return None
        if order.exectype == bt.Order.Historical:
            raise StrategyError(
                "the strategy placed an order with exectype Historical, which fills at any price that the order names. Use "
                "Market, Limit, Stop, StopLimit, StopTrail, StopTrailLimit or Close."
            )
        if order.exectype == bt.Order.Close:  # Backtrader itself fills these without slippage
            price = (self._slip_up if order.isbuy() else self._slip_down)(price, price)
        if all_in:
            self._size_all_in(order, price)
        why = refusal_at_fill(
            order.executed.remsize,
            price,
            held=self.positions[order.data].size,
            cash=self.cash,
            lot_size=self.costs.lot_size,
            short_allowed=self.short_allowed,
        )
        if not why:
            return super()._execute(order, ago=ago, price=price, **kwargs)
        self.record_of(order).reason = why
        order.reject()
        self.notify(order)
        self._ococheck(order)
        self._bracketize(order, cancel=True)
        return None

    def _size_all_in(self, order: bt.Order, price: float) -> None:
        """Set an all-in order's size from its fill price."""
        size = self.all_in(order.isbuy(), price)
        order.size = order.created.size = order.executed.remsize = size if order.isbuy() else -size
        record = self.record_of(order)
        record.size, record.is_sized_at_fill = order.size, True

    def all_in(self, is_buy: bool, price: float) -> float:
        """Return the base units (0 or more) of an all-in order that fills at ``price``, slippage included.

        Against a position, it closes that position. Otherwise a buy takes what the cash can pay, and a sale shorts the whole
        equity.
        """
        held = self.positions[self.cerebro.datas[0]]
        if held.size and (held.size > 0) != is_buy:
            return float(abs(held.size))
        account = Account(self.cash, 0.0, 0.0) if is_buy else Account(self.cash, held.size, held.price)
        size, _ = order_at_open(1.0 if is_buy else -1.0, account, price, self._rates._replace(slippage=0.0))
        return max(0.0, size if is_buy else -size)

    def _refuse_cheats(self) -> None:
        """Refuse settings that let a strategy see a bar before its orders fill in it."""
        if self.cerebro.p.cheat_on_open or self.cerebro._timerscheat:
            raise StrategyError(
                "the strategy set Backtrader to cheat (cheat_on_open, or a timer with cheat=True): it would see a bar's "
                "close, high and low before its orders fill in that bar. Order in next(), or by a timer without cheat."
            )

    def table(self) -> FloatArray:
        """Return cash, base units held, and borrow paid so far (quote currency) at each bar's close, shape (n, 3)."""
        return np.array(self._rows, dtype=np.float64).reshape(-1, 3)


def _refuse(what: str) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise StrategyError(
            f"the strategy {what}: the cash and the costs of a run are fixed before its first bar, or its "
            "result would not match its record. Use --cash, --fee-bps and --slippage-bps."
        )

    return refuse
