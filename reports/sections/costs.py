"""Costs: the costs paid, the break-even fee, and the run at different costs."""

from __future__ import annotations

from markupsafe import Markup

from ...results.number_text import money, percent, ratio
from ...results.run_record import RunRecord
from ..page import render


def costs_section(stored: RunRecord) -> Markup:
    """Show fees, the break-even fee, and the Sharpe ratio at 0, 1 and 2 times the costs."""
    config, costs = stored.settings, stored.cost_sensitivity
    rows = [
        (
            f"{each.factor:g} times the costs",
            ratio(each.sharpe_daily),
            percent(each.total_return, signed=True),
            money(each.fees_paid),
        )
        for each in (() if costs is None else costs.by_factor)
    ]
    return render(
        "sections/costs",
        paid=stored.metrics,
        fee_bps=config.get("fee_bps"),
        slippage_bps=config.get("slippage_bps"),
        costs=costs,
        by_factor=rows,
    )
