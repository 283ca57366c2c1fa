"""Costs: the price of an order, and therefore its largest size."""

from __future__ import annotations

import math
from dataclasses import InitVar, asdict, dataclass
from typing import Any

import backtrader as bt

from ..errors import UsageError
from .kernel import Rates, size_for

_LARGEST_BPS = 1_000.0
# How an order for a target exposure gets its size. Every record holds it: runs under two sizing rules are different tests.
SIZING = "at fill"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Fees and slippage, and the sizes that leave room for them. 1 bp is 0.01 %.

    Parameters
    ----------
    fee_bps : float
        Paid on the notional of every fill, each side.
    slippage_bps : float
        A buy fills this much above the bar's open, a sale this much below it, even outside the bar's high and low.
    borrow_bps_per_day : float
        Paid on the notional of a short position while it is open, charged bar by bar on the last close.
    lot_size : float
        Sizes are whole multiples of this many base units. A millionth of a bitcoin is a few cents: small enough that
        rounding costs 10,000 of cash less than 0.1 bp, large enough that dust does not count as an order.

    Raises
    ------
    UsageError
        For a cost that is negative, not finite or above 1,000 bps (10 %), a lot size that is not above 0, or a
        ``reserve_bps``, which no longer exists.
    """

    fee_bps: float = 10.0
    slippage_bps: float = 2.0
    borrow_bps_per_day: float = 1.0
    lot_size: float = 1e-6
    reserve_bps: InitVar[float | None] = None  # refused: orders were once sized at the close, and left a reserve in cash

    def __post_init__(self, reserve_bps: float | None) -> None:
        if reserve_bps is not None:
            raise UsageError(
                f"costs: reserve_bps is {reserve_bps!r}, and there is no such cost any more: an order is sized at its fill, "
                "from the equity at that open, so it needs no cash reserve. Leave it out."
            )
        for name in ("fee_bps", "slippage_bps", "borrow_bps_per_day"):
            value = getattr(self, name)
            if not 0 <= value <= _LARGEST_BPS:
                raise UsageError(
                    f"costs: {name} is {value:g}, expected 0 to {_LARGEST_BPS:,.0f} basis points (1 bp is 0.01 %, so "
                    "10 is a fee of 0.1 %)."
                )
        if not (math.isfinite(self.lot_size) and self.lot_size > 0):
            raise UsageError(f"costs: lot_size is {self.lot_size:g}, expected base units above 0, such as 0.000001.")

    @property
    def fee(self) -> float:
        """The fee as a fraction of the notional."""
        return self.fee_bps / 10_000

    @property
    def slippage(self) -> float:
        """The slippage as a fraction of the price."""
        return self.slippage_bps / 10_000

    def size_for(self, equity: float, price: float) -> float:
        """Return the base units (0 or more, whole lots) that ``equity`` pays for at the open ``price``.

        ``floor_to_lot(equity / (price * (1 + slippage) * (1 + fee)))``; 0 where equity is not above 0.
        """
        return size_for(equity, price, self.rates())

    def rates(self) -> Rates:
        """Return the costs as fractions."""
        return Rates(self.fee, self.slippage, self.borrow_bps_per_day / 10_000, self.lot_size)

    def describe(self) -> dict[str, float | str]:
        """Return every field as a JSON value, and the sizing rule of orders for a target exposure."""
        return asdict(self) | {"sizing": SIZING}


# TRAP: derive from CommissionInfo. CommInfoBase has percabs=False and silently divides the fee by 100.
class FractionalCommission(bt.CommissionInfo):  # type: ignore[misc]  # Backtrader has no types
    """Charge ``Costs`` in Backtrader: a percentage fee, fractional sizes, borrow on shorts.

    Parameters
    ----------
    costs : Costs
    """

    def __init__(self, *, costs: Costs) -> None:
        self.p.commission = costs.fee  # before super().__init__, which derives its own fields from it
        super().__init__()
        self.costs = costs

    def getsize(self, price: float, cash: float) -> float:
        """Return the base units that are worth ``cash``; Backtrader's own rounds to integers."""
        return cash / price

    def get_credit_interest(self, data: Any, pos: Any, dt: Any) -> float:  # noqa: ARG002 - Backtrader's signature
        """Return the borrow fee of a short position for the time since the bar before, in quote currency."""
        if pos.size >= 0:
            return 0.0
        # Backtrader's own version charges whole days, on the entry price however old. Stamps are floats of days: rounding
        # to the second keeps a bar's charge independent of its date.
        days = round((data.datetime[0] - data.datetime[-1]) * 86_400) / 86_400
        return float(self.costs.borrow_bps_per_day / 10_000 * days * abs(pos.size) * data.close[-1])
