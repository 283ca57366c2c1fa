"""The arithmetic of a backtest: sizes, rules and fills as scalar functions, and the loop that the fast replay compiles.

The Backtrader path calls ``next_target`` and ``size_of_target`` as they stand here; the replay compiles the same text. What
Backtrader does by itself (``BackBroker._execute``, ``Position.update``) is repeated in its own order of operations, so that
the same floats come out, to the last bit.

TRAP: numba's cache on disk watches this one file. Whatever the loop calls must lie here, or a change of it goes unseen.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..data.bars import FloatArray

# Why a bar's target is not what the strategy wanted; 0 where it is.
STOP_LOSS, TAKE_PROFIT, SHORT_LIMIT, HORIZON, COOLDOWN, MIN_HOLD = 1, 2, 3, 4, 5, 6
# Columns of what the loop writes: a bar's, and an order's.
CASH, SIZE, BORROW, BEFORE, AFTER, WHY = range(6)
DECIDED, ASKED, TARGET, PRICE, STATUS, REASON, FILLED, FILLED_SIZE, FILL_PRICE, NOTIONAL, FEE, SLIPPAGE = range(12)
UNFILLED, DONE, REJECTED, ZERO_SIZE = range(4)
NO_REASON, MARGIN, NO_SHORTS, ABOVE_EQUITY, NO_LOT = range(5)
_DUST = 1e-12  # base units: what sums of float sizes leave of a closed position, as in the ledger


class Rates(NamedTuple):
    """``Costs`` as fractions: of the notional, the price, the notional a day, the equity; and the lot in base units."""

    fee: float
    slippage: float
    borrow: float
    reserve: float
    lot_size: float


class Limits(NamedTuple):
    """``Rules`` as plain numbers, for ``next_target``; a rule that is off is 0 bars or an infinite fraction."""

    cooldown_bars: int
    min_hold_bars: int
    horizon_bars: int
    stop_loss: float
    take_profit: float
    max_short: float
    close_short_above: float


class Held(NamedTuple):
    """What the rules know at a bar's close.

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
        The same since the last exit filled; 0 where nothing was ever held.
    bars_since_asked : int
        Bars since the strategy last wanted a position on the side that is held.
    """

    size: float
    entry_price: float
    equity: float
    bars_held: int
    bars_flat: int
    bars_since_asked: int


class Account(NamedTuple):
    """Cash in quote currency, base units held, and their average entry price (0 while flat)."""

    cash: float
    size: float
    price: float


def size_for(equity: float, price: float, rates: Rates) -> float:
    """Return the base units that ``Costs.size_for`` promises, in arithmetic that the replay can compile."""
    if equity <= 0:
        return 0.0
    notional = equity * (1 - rates.reserve)
    lots = notional / (price * (1 + rates.slippage) * (1 + rates.fee)) / rates.lot_size
    # 0.3 / 0.000001 is 299999.99999999994 in floats: without the millionth of a lot, it would lose a whole one.
    size = float(np.floor(lots + 1e-6)) * rates.lot_size
    # To 12 decimals, where a float has them. TRAP: not round(size, 12), of which numba's is another one than Python's.
    return round(size * 1e12) / 1e12 if size < 1_000.0 else size


def size_of_target(target: float, held: float, cash: float, close: float, rates: Rates) -> float:
    """Return the base units (signed) that a target exposure means at a close, with ``held`` base units and ``cash``.

    Where the position turns around, the equity is what is left once the old one is closed, fee and slippage paid.
    """
    if target == 0:
        return 0.0
    equity = cash + held * close
    if held * target < 0:
        equity = equity - abs(held) * close * (rates.fee + rates.slippage)
    return math.copysign(size_for(equity * abs(target), close, rates), target)


def next_target(wanted: float, held: Held, close: float, limits: Limits) -> tuple[float, int]:
    """Return the target exposure at a bar's close, NaN to keep what is held, and why it is not what was wanted.

    The one place where the rules are written: Backtrader's bridge calls this function, the replay compiles it.
    *Causality: uses the bar's own close and what came before it.*

    Parameters
    ----------
    wanted : float
        The strategy's own target exposure, NaN to keep.
    held : Held
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
    # 2. The strategy leaves (a comparison with NaN is false): it may have to wait, and may not turn around.
    side = 1.0 if held.size > 0 else -1.0
    too_young = held.bars_held < limits.min_hold_bars
    if wanted * side <= 0 and not too_young:
        return (0.0 if limits.cooldown_bars > 0 else wanted), 0
    # 3. It stays: something else may end it.
    gain = side * (close / held.entry_price - 1)
    if gain <= -limits.stop_loss:
        return 0.0, STOP_LOSS
    if gain >= limits.take_profit:
        return 0.0, TAKE_PROFIT
    if side < 0 and limits.close_short_above < math.inf and -held.size * close > limits.close_short_above * held.equity:
        return 0.0, SHORT_LIMIT
    if wanted * side <= 0:
        return math.nan, MIN_HOLD
    if 0 < limits.horizon_bars <= held.bars_since_asked and not too_young:
        return 0.0, HORIZON
    return wanted, 0


def execute(account: Account, size: float, price: float, fee: float) -> tuple[Account, float, float, bool]:
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
        paid_closing = abs(closed) * fee * price
        cash -= paid_closing
    refused = False
    if opened != 0:
        left = cash - opened * price
        paid_opening = abs(opened) * fee * price
        left -= paid_opening
        if left < 0:
            refused, opened, paid_opening = True, 0.0, 0.0
            # What is left is what the closing part leaves: nothing, as only an order that turns around has both parts.
            average = 0.0 if closed != 0 else account.price
        else:
            cash = left
    filled = closed + opened
    return Account(cash, held + filled, average), filled, paid_closing + paid_opening, refused


def cash_after(account: Account, size: float, price: float, fee: float) -> float:
    """Return the cash that Backtrader's check of a submitted order expects to be left: at the close, without slippage."""
    held, cash = account.size, account.cash
    after = held + size
    opened, closed = size, 0.0
    if held != 0 and held * size < 0:
        opened, closed = (after, -held) if held * after < 0 else (0.0, size)
    if closed != 0:
        cash += -closed * price
        cash -= abs(closed) * fee * price
    if opened != 0:
        cash -= opened * price
        cash -= abs(opened) * fee * price
    return cash


def short_forbidden(account: Account, size: float, price: float, lot_size: float, short_allowed: bool) -> int:
    """Return why an order may not open or enlarge a short, or NO_REASON: ``RecordingBroker``'s rule."""
    after = account.size + size
    if size > 0 or after > -lot_size / 2:
        return NO_REASON
    if not short_allowed:
        return NO_SHORTS
    return ABOVE_EQUITY if -after * price > account.cash + account.size * price else NO_REASON


def closes_trade(held: float, size: float) -> tuple[bool, float]:
    """Return whether a fill closes a round trip, and what the trade after it holds: the ledger's ``_round_trips``."""
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
    short_allowed: bool,
    table: FloatArray,
    orders: FloatArray,
) -> tuple[int, int]:
    """Replay all bars; write a row a bar into ``table`` and a row an order into ``orders``.

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
    side, entry_bar, exit_bar, long_asked, short_asked = 0, 0, -1, 0, 0
    n_orders, closed_trades, pending, is_checked = 0, 0, False, False
    for t in range(len(close)):
        order = orders[n_orders - 1]
        # 1. The bar opens. What was submitted is checked at the last close, before the borrow is paid.
        if pending and is_checked and not cash_after(account, order[ASKED], close[t - 1], rates.fee) >= 0:
            pending, order[STATUS], order[REASON] = False, REJECTED, MARGIN
            in_force = fallback
        if account.size < 0:
            charge = rates.borrow * days[t] * abs(account.size) * close[t - 1]
            borrow += charge
            account = Account(account.cash - charge, account.size, account.price)
        # 2. It fills at the open plus slippage, unless it is a short too many.
        if pending:
            pending = False
            size = order[ASKED]
            price = open_[t] * (1 + rates.slippage) if size > 0 else open_[t] * (1 - rates.slippage)
            reason = short_forbidden(account, size, price, rates.lot_size, short_allowed)
            filled = 0.0
            if reason == NO_REASON:
                account, filled, fee, refused = execute(account, size, price, rates.fee)
                if refused:
                    reason = MARGIN
            if filled != 0:
                order[FILLED], order[FILLED_SIZE], order[FILL_PRICE] = t, filled, price
                order[NOTIONAL], order[FEE], order[SLIPPAGE] = abs(filled) * price, fee, filled * (price - open_[t])
                is_closed, trade_held = closes_trade(trade_held, filled)
                closed_trades += is_closed
            order[STATUS], order[REASON] = DONE if reason == NO_REASON else REJECTED, reason
            if reason != NO_REASON:
                in_force = fallback
            now = int(account.size > 0) - int(account.size < 0)
            if now == 0:
                in_force = 0.0
                if side != 0:
                    exit_bar = t
            elif now != side:
                entry_bar = t
            side = now
        table[t, CASH], table[t, SIZE], table[t, BORROW], table[t, BEFORE] = account.cash, account.size, borrow, in_force
        # 3. It closes: strategy and rules name a target; a new one becomes an order.
        wanted = targets[t]
        if wanted > 0:
            long_asked = t
        elif wanted < 0:
            short_asked = t
        held = Held(
            account.size, account.price, account.cash + account.size * close[t], t - entry_bar + 1 if side != 0 else 0,
            t - exit_bar + 1 if side == 0 and exit_bar >= 0 else 0, t - (long_asked if side > 0 else short_asked),
        )  # fmt: skip
        target, why = next_target(wanted, held, close[t], limits)
        if not math.isnan(target) and target != in_force:
            size = size_of_target(target, account.size, account.cash, close[t], rates) - account.size
            order = orders[n_orders]
            n_orders += 1
            order[DECIDED], order[TARGET], order[PRICE], order[FILLED] = t, target, close[t], -1.0
            order[FILLED_SIZE] = order[NOTIONAL] = order[FEE] = order[SLIPPAGE] = 0.0
            order[FILL_PRICE] = math.nan
            if abs(size) < rates.lot_size / 2:
                order[ASKED], order[STATUS], order[REASON] = 0.0, ZERO_SIZE, NO_LOT
            else:
                order[ASKED], order[STATUS], order[REASON] = size, UNFILLED, NO_REASON
                # Closing needs no margin: see the bridge.
                is_checked = not (size * account.size < 0 and abs(size) <= abs(account.size))
                fallback, in_force, pending = in_force, target, True
        table[t, AFTER], table[t, WHY] = in_force, why
    return n_orders, closed_trades
