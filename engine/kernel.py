"""The arithmetic of a backtest: sizes, rules and fills as scalar functions, and the loop that the fast replay compiles.

The Backtrader path calls ``next_target`` and ``order_at_open`` from here; the replay compiles the same functions. Backtrader's
own steps (``BackBroker._execute``, ``Position.update``) are repeated in the same order of operations, so that the results are
equal to the last bit.

TRAP: numba's cache on disk watches only this file. All functions that the loop calls must be here, or it misses their changes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..arrays import FloatArray

# Why a bar's target differs from the strategy's; 0 where it does not.
STOP_LOSS, TAKE_PROFIT, SHORT_LIMIT, HORIZON, COOLDOWN, MIN_HOLD, RUIN = 1, 2, 3, 4, 5, 6, 7
# Columns of the loop's two output tables: bars and orders.
CASH, SIZE, BORROW, BEFORE, AFTER, WHY = range(6)
DECIDED, REQUESTED, TARGET, PRICE, STATUS, REASON, FILLED, FILLED_SIZE, FILL_PRICE, NOTIONAL, FEE, SLIPPAGE = range(12)
UNFILLED, DONE, ZERO_SIZE = range(3)
NO_REASON, NO_LOT, RUINED = range(3)
_DUST = 1e-12  # base units that rounding may leave of a closed position, as in the ledger


class Rates(NamedTuple):
    """``Costs`` as fractions: of the notional, the price, the notional per day; and the lot in base units."""

    fee: float
    slippage: float
    borrow: float
    lot_size: float


class Limits(NamedTuple):
    """``Rules`` as plain numbers, for ``next_target``; an inactive rule is 0 bars or an infinite fraction."""

    cooldown_bars: int
    min_hold_bars: int
    horizon_bars: int
    stop_loss: float
    take_profit: float
    max_short: float
    close_short_above: float


class HeldPosition(NamedTuple):
    """The rules' inputs at a bar's close.

    Attributes
    ----------
    size : float
        Base units held, signed.
    entry_price : float
        Average entry price, slippage included; not read while flat.
    equity : float
        Cash + size * close.
    bars_held : int
        Bars since the entry filled, that bar included.
    bars_flat : int
        The same since the last exit filled; 0 before the first position.
    bars_since_wanted : int
        Bars since the strategy last wanted a position on the current side.
    """

    size: float
    entry_price: float
    equity: float
    bars_held: int
    bars_flat: int
    bars_since_wanted: int


class Account(NamedTuple):
    """Cash in quote currency, base units, and their average entry price (0 while flat)."""

    cash: float
    size: float
    price: float


def fill_price(price: float, size: float, rates: Rates) -> float:
    """Return the price at which an order of ``size`` base units (signed) fills where the market is at ``price``."""
    return price * (1 + rates.slippage) if size > 0 else price * (1 - rates.slippage)


def fee_of(size: float, price: float, rates: Rates) -> float:
    """Return the fee of a fill, in quote currency."""
    return abs(size) * rates.fee * price


def borrow_of(size: float, days: float, close: float, rates: Rates) -> float:
    """Return the borrow fee of a position, held ``days`` since the bar that closed at ``close``, in quote currency."""
    return rates.borrow * days * abs(size) * close if size < 0 else 0.0


def size_for(equity: float, price: float, rates: Rates) -> float:
    """Return the base units of ``Costs.size_for``, in arithmetic that the replay can compile."""
    if equity <= 0:
        return 0.0
    lots = equity / (price * (1 + rates.slippage) * (1 + rates.fee)) / rates.lot_size
    # 0.3 / 0.000001 is 299999.99999999994 in floats: without the added millionth of a lot, a whole lot would be lost. Where
    # that costs more than the cash, ``order_at_open`` reduces it.
    size = float(np.floor(lots + 1e-6)) * rates.lot_size
    # To 12 decimals, where a float has them. TRAP: not round(size, 12), which differs between numba and Python.
    return round(size * 1e12) / 1e12 if size < 1_000.0 else size


def size_of_target(target: float, account: Account, open_: float, rates: Rates) -> float:
    """Return the base units (signed) that a target exposure means at a bar's open.

    The exposure is a fraction of the equity marked at that open; for a reversal, of the equity after closing the old
    position, less slippage and fee.
    """
    if target == 0:
        return 0.0
    held = account.size
    equity = account.cash + held * open_
    if held * target < 0:
        price = fill_price(open_, -held, rates)
        equity = account.cash + held * price - abs(held) * price * rates.fee
    return math.copysign(size_for(equity * abs(target), open_, rates), target)


def order_at_open(target: float, account: Account, open_: float, rates: Rates) -> tuple[float, float]:
    """Return the order that brings an account to a target exposure as a bar opens: base units (signed) and the fill price.

    The size decides the side, and the side the slippage. The order can always be paid: where rounding, of floats or in
    ``size_for``, makes it cost more than the cash, it is reduced by a lot, so that Backtrader never refuses it.
    The size is 0 where it would be less than one lot.
    """
    wanted = size_of_target(target, account, open_, rates)
    less = rates.lot_size
    while True:
        size = wanted - account.size
        if abs(size) < rates.lot_size / 2:
            return 0.0, open_
        price = fill_price(open_, size, rates)
        if wanted == 0 or is_paid(account, size, price, rates):
            return size, price
        # One lot less; more where the position is so large that a float cannot represent a change of one lot.
        wanted = math.copysign(max(0.0, abs(wanted) - max(less, abs(wanted) * 4e-16)), target)
        less *= 2


def is_paid(account: Account, size: float, price: float, rates: Rates) -> bool:
    """Return whether an order leaves no debt, and no short above the equity at the order's price."""
    _, _, _, refused = execute(account, size, price, rates)
    after = account.size + size
    return not refused and (size > 0 or after >= 0 or -after * price <= account.cash + account.size * price)


def next_target(wanted: float, held: HeldPosition, close: float, limits: Limits) -> tuple[float, int]:
    """Return the target exposure at a bar's close, NaN to keep the position, and why it differs from the strategy's.

    The rules are written only here: ``StrategyAdapter`` calls this function, the replay compiles it.
    *Causality: uses the bar's own close and what came before it.*

    Parameters
    ----------
    wanted : float
        The strategy's own target exposure, NaN to keep.
    held : HeldPosition
    close : float
        The bar's close, quote currency.
    limits : Limits

    Returns
    -------
    target : float
    why : int
        0, or one of this module's codes.
    """
    if wanted < -limits.max_short:
        wanted = -limits.max_short
    # 1. Flat: an entry may have to wait.
    if held.size == 0:
        if 0 < held.bars_flat <= limits.cooldown_bars and wanted != 0 and not math.isnan(wanted):
            return math.nan, COOLDOWN
        return wanted, 0
    # 2. The strategy exits (a comparison with NaN is false): it may have to wait, and may not reverse.
    side = 1.0 if held.size > 0 else -1.0
    too_young = held.bars_held < limits.min_hold_bars
    if wanted * side <= 0 and not too_young:
        return (0.0 if limits.cooldown_bars > 0 else wanted), 0
    # 3. The strategy stays: a rule may exit.
    gain = side * (close / held.entry_price - 1)
    if gain <= -limits.stop_loss:
        return 0.0, STOP_LOSS
    if gain >= limits.take_profit:
        return 0.0, TAKE_PROFIT
    if side < 0 and limits.close_short_above < math.inf and -held.size * close > limits.close_short_above * held.equity:
        return 0.0, SHORT_LIMIT
    if wanted * side <= 0:
        return math.nan, MIN_HOLD
    if 0 < limits.horizon_bars <= held.bars_since_wanted and not too_young:
        return 0.0, HORIZON
    return wanted, 0


def execute(account: Account, size: float, price: float, rates: Rates) -> tuple[Account, float, float, bool]:
    """Return the account after an order, the base units filled, the fee paid, and whether a part was refused for margin.

    ``BackBroker._execute`` for one stock-like asset at leverage 1, in its order of operations.
    """
    held, cash = account.size, account.cash
    after = held + size
    if after == 0:
        opened, closed, average = 0.0, size, 0.0
    elif held == 0:
        opened, closed, average = size, 0.0, price
    elif held * size > 0:
        opened, closed, average = size, 0.0, (account.price * held + size * price) / after
    elif held * after > 0:
        opened, closed, average = 0.0, size, account.price
    else:
        opened, closed, average = after, -held, price
    paid_closing = paid_opening = 0.0
    if closed != 0:
        gain = -closed * (price - account.price)
        cash += -closed * account.price + gain
        paid_closing = fee_of(closed, price, rates)
        cash -= paid_closing
    refused = False
    if opened != 0:
        left = cash - opened * price
        paid_opening = fee_of(opened, price, rates)
        left -= paid_opening
        if left < 0:
            refused, opened, paid_opening = True, 0.0, 0.0
            # The closing part leaves nothing, as only a reversal has both parts.
            average = 0.0 if closed != 0 else account.price
        else:
            cash = left
    filled = closed + opened
    return Account(cash, held + filled, average), filled, paid_closing + paid_opening, refused


def closes_trade(held: float, size: float) -> tuple[bool, float]:
    """Return whether a fill closes a round trip, and the size of the trade after it, as the ledger's ``_round_trips``."""
    if held != 0 and size * held < 0 and abs(size) > abs(held) + _DUST:
        return True, size + held
    after = held + size
    return (True, 0.0) if abs(after) < _DUST else (False, after)


def simulate(
    open_: FloatArray,
    close: FloatArray,
    days: FloatArray,
    targets: FloatArray,
    rates: Rates,
    limits: Limits,
    starting_cash: float,
    table: FloatArray,
    orders: FloatArray,
) -> tuple[int, int]:
    """Replay all bars; write one row per bar into ``table`` and one row per order into ``orders``.

    Parameters
    ----------
    open_, close, days, targets : array, shape (n_bars,)
        See ``engine.replay``.
    table : array, shape (n_bars, 6)
    orders : array, shape (n_bars, 12)

    Returns
    -------
    n_orders, closed_trades : int
    """
    account = Account(starting_cash, 0.0, 0.0)
    borrow = in_force = fallback = trade_held = 0.0
    side, entry_bar, exit_bar, long_wanted, short_wanted = 0, 0, -1, 0, 0
    n_orders, closed_trades, pending, ruined = 0, 0, False, False
    for t in range(len(close)):
        order = orders[n_orders - 1]
        # 1. The bar opens: the borrow is paid.
        if account.size != 0:
            charge = borrow_of(account.size, days[t], close[t - 1], rates)
            borrow += charge
            account = Account(account.cash - charge, account.size, account.price)
        # 2. The pending order is sized and filled at the open.
        if pending:
            pending = False
            size, price = order_at_open(order[TARGET], account, open_[t], rates)
            order[REQUESTED] = size
            if size == 0:
                order[STATUS], order[REASON] = ZERO_SIZE, NO_LOT
                in_force = fallback
            else:
                account, filled, fee, _ = execute(account, size, price, rates)
                order[STATUS], order[FILLED], order[FILLED_SIZE], order[FILL_PRICE] = DONE, t, filled, price
                order[NOTIONAL], order[FEE], order[SLIPPAGE] = abs(filled) * price, fee, filled * (price - open_[t])
                is_closed, trade_held = closes_trade(trade_held, filled)
                closed_trades += is_closed
            now = int(account.size > 0) - int(account.size < 0)
            if now == 0:
                in_force = 0.0
                if side != 0:
                    exit_bar = t
            elif now != side:
                entry_bar = t
            side = now
        table[t, CASH], table[t, SIZE], table[t, BORROW], table[t, BEFORE] = account.cash, account.size, borrow, in_force
        # 3. The bar closes. A ruined account is closed for good; otherwise strategy and rules set a target.
        equity = account.cash + account.size * close[t]
        if ruined or equity <= 0:
            target = math.nan if ruined or account.size == 0 else 0.0
            why, ruined = RUIN, True
        else:
            wanted = targets[t]
            if wanted > 0:
                long_wanted = t
            elif wanted < 0:
                short_wanted = t
            held = HeldPosition(
                account.size,
                account.price,
                equity,
                t - entry_bar + 1 if side != 0 else 0,
                t - exit_bar + 1 if side == 0 and exit_bar >= 0 else 0,
                t - (long_wanted if side > 0 else short_wanted),
            )
            target, why = next_target(wanted, held, close[t], limits)
        # 4. A new target becomes an order, which is sized as the next bar opens.
        if not math.isnan(target) and target != in_force:
            order = orders[n_orders]
            n_orders += 1
            order[DECIDED], order[TARGET], order[PRICE], order[FILLED] = t, target, close[t], -1.0
            order[FILLED_SIZE] = order[NOTIONAL] = order[FEE] = order[SLIPPAGE] = 0.0
            order[REQUESTED] = order[FILL_PRICE] = math.nan
            order[STATUS], order[REASON] = UNFILLED, RUINED if why == RUIN else NO_REASON
            fallback, in_force, pending = in_force, target, True
        table[t, AFTER], table[t, WHY] = in_force, why
    return n_orders, closed_trades
