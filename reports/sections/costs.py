"""Costs: the costs paid, the break-even fee, and the run at different costs."""

from __future__ import annotations

from ...results.number_text import money, percent, ratio
from ...results.run_record import RunRecord
from ..page import Html, paragraph, section, setting_text, table


def costs_section(stored: RunRecord) -> Html:
    """Show fees, the break-even fee, and the Sharpe ratio at 0, 1 and 2 times the costs."""
    mine, config, costs = stored.metrics, stored.settings, stored.raw_metrics["costs"]
    paid = (
        f"Paid {money(mine['fees_paid'])} in fees and {money(mine['slippage_paid'])} in slippage, at "
        f"{setting_text(config.get('fee_bps'))} and {setting_text(config.get('slippage_bps'))} bps per side."
    )
    if costs is None:
        return section("Costs", paragraph(paid), paragraph("At other costs: not measured when this run was made.", "muted"))
    parts = [paragraph(f"{paid} {costs['break_even_sentence']}")]
    if costs["reason"] is None:
        rows = [
            [
                f"{each['factor']:g} times the costs",
                ratio(each["sharpe_daily"]),
                percent(each["total_return"], signed=True),
                money(each["fees_paid"]),
            ]
            for each in costs["by_factor"]
        ]
        columns = ["", "Sharpe ratio, daily", "Total return", "Fees paid"]
        parts.append(table("The same decisions at different costs: fee, slippage and borrow together", columns, rows))
    return section("Costs", *parts)
