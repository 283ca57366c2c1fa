"""Costs: the price of an order, and therefore its largest size."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, replace
from numbers import Real

from ..arrays import JsonObject
from ..errors import UsageError, quoted_value
from ..options import check_options, from_options, known_fields, option, option_table, recorded
from .kernel import Rates, size_for

_BPS = "0 to 1,000 basis points (1 bp is 0.01 %, so 10 is a fee of 0.1 %)"
# How an order for a target exposure gets its size. Every record holds it: runs under two sizing rules are different tests.
SIZING = "at fill"


@known_fields
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

    fee_bps: float = option(
        10.0,
        help="Fee per side.",
        unit="bps",
        minimum=0,
        maximum=1_000,
        expected=_BPS,
        sweep=True,
        also=("--fees",),
        recorded="always",
    )
    slippage_bps: float = option(
        2.0, help="Slippage per side.", unit="bps", minimum=0, maximum=1_000, expected=_BPS, sweep=True, recorded="always"
    )
    borrow_bps_per_day: float = option(
        1.0,
        help="Borrow fee on a short's notional, per day.",
        unit="bps",
        minimum=0,
        maximum=1_000,
        expected=_BPS,
        sweep=True,
        recorded="always",
    )
    lot_size: float = 1e-6
    reserve_bps: InitVar[float | None] = None  # refused: orders were once sized at the close, and left a reserve in cash

    def __post_init__(self, reserve_bps: float | None) -> None:
        if reserve_bps is not None:
            raise UsageError(
                f"costs: reserve_bps is {reserve_bps!r}, and there is no such cost any more: an order is sized at its fill, "
                "from the equity at that open, so it needs no cash reserve. Leave it out."
            )
        check_options(self, "costs")
        size = self.lot_size
        if isinstance(size, bool) or not isinstance(size, Real) or not 0 < size <= sys.float_info.max:
            raise UsageError(f"costs: lot_size is {quoted_value(size)}, expected base units above 0, such as 0.000001.")
        object.__setattr__(self, "lot_size", float(size))

    @classmethod
    def from_json(cls, settings: Mapping[str, object]) -> Costs:
        """Return the costs in a run's recorded settings; one that they do not hold has its default."""
        return from_options(cls, settings)

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

    def times(self, factor: float) -> Costs:
        """Return the costs with every one in basis points multiplied."""
        scaled = {each.name: factor * getattr(self, each.name) for each in option_table(Costs) if each.option.unit == "bps"}
        return replace(self, **scaled)

    def describe(self) -> JsonObject:
        """Return the costs as JSON values, and the sizing rule of orders for a target exposure."""
        return {**recorded(self), "lot_size": self.lot_size, "sizing": SIZING}
