"""The costs as Backtrader charges them."""

from __future__ import annotations

from datetime import datetime

import backtrader as bt

from .costs import Costs
from .kernel import borrow_of, fee_of


# TRAP: derive from CommissionInfo. CommInfoBase has percabs=False and silently divides the fee by 100.
class FractionalCommission(bt.CommissionInfo):  # type: ignore[misc]  # Backtrader has no types
    """Charge ``Costs`` in Backtrader: fees, fractional sizes, borrow on shorts. The arithmetic is that of ``engine.kernel``.

    Parameters
    ----------
    costs : Costs
    """

    def __init__(self, *, costs: Costs) -> None:
        self.p.commission = costs.fee  # before super().__init__, which derives its own fields from it
        super().__init__()
        self._rates = costs.rates()

    def getsize(self, price: float, cash: float) -> float:
        """Return the base units that are worth ``cash``; Backtrader's own rounds to integers."""
        return cash / price

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:  # noqa: ARG002 - Backtrader's signature
        return fee_of(size, price, self._rates)

    def get_credit_interest(self, data: bt.AbstractDataBase, pos: bt.Position, dt: datetime) -> float:  # noqa: ARG002 - Backtrader's signature
        """Return the borrow fee of a short position for the time since the bar before, in quote currency."""
        # Backtrader's own version charges whole days, on the entry price however old. Stamps are floats of days: rounding
        # to the second keeps a bar's charge independent of its date.
        days = round((data.datetime[0] - data.datetime[-1]) * 86_400) / 86_400
        return borrow_of(pos.size, days, data.close[-1], self._rates)
