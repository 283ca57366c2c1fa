"""Why an order is refused: the reasons that flagbt adds to Backtrader's own (too little cash, cancelled, expired)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import backtrader as bt

NO_SHORTS, SHORT_ABOVE_EQUITY = "short not allowed", "short above equity"
LESS_THAN_A_LOT, RUIN = "less than one lot", "the account had lost everything"


def refusal_at_fill(change: float, price: float, *, held: float, cash: float, lot_size: float, short_allowed: bool) -> str:
    """Return why an order may not fill; empty where it may.

    Parameters
    ----------
    change, held : float
        Base units ordered and held, signed.
    price : float
        Of the fill.
    cash : float
        Quote currency, before the fill.
    lot_size : float
        Base units.
    """
    if not change:
        return LESS_THAN_A_LOT
    after = held + change
    if change > 0 or after > -lot_size / 2:
        return ""
    if not short_allowed:
        return NO_SHORTS
    return SHORT_ABOVE_EQUITY if -after * price > cash + held * price else ""


def only_closes(order: bt.Order, held: float) -> bool:
    """Return whether an order only closes a position: the current one, or the one its bracket's parent opens."""
    size = order.created.size
    opposed = [held, 0 if order.parent is None else order.parent.created.size]
    return any(size * each < 0 and abs(size) <= abs(each) for each in opposed)
