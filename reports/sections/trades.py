"""The trades table: every round trip, sortable by any column."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from ...results.number_text import NULL, money, percent, ratio, stamp, whole
from ..page import render

TRADES_SHOWN = 1_000


def trades_section(trades: pd.DataFrame) -> Markup:
    """Show the round trips, at most the first 1,000."""
    if trades.empty:
        return render("sections/trades", rows=())
    rows = [
        [
            whole(trade["trade"]),
            trade["side"],
            stamp(trade["entry_time"]),
            "open" if trade["status"] == "open" else stamp(trade["exit_time"]),
            money(trade["entry_price"]),
            NULL if pd.isna(trade["exit_price"]) else money(trade["exit_price"]),
            ratio(trade["size"], 6),
            whole(trade["bars_held"]),
            money(trade["fees"]),
            money(trade["pnl"]),
            percent(trade["return"], 2, signed=True),
        ]
        for trade in trades.head(TRADES_SHOWN).to_dict("records")
    ]
    part = "all"
    if len(trades) > TRADES_SHOWN:
        part = f"the first {whole(TRADES_SHOWN)} of {whole(len(trades))}, and only these are sorted (all are in trades.csv)"
    return render("sections/trades", rows=rows, part=part)
