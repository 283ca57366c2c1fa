"""The trades table: every round trip, sortable by any column."""

from __future__ import annotations

import pandas as pd

from ...results.number_text import NULL, money, percent, ratio, stamp, whole
from ..page import Html, paragraph, section, table

TRADES_SHOWN = 1_000


def trades_section(trades: pd.DataFrame) -> Html:
    """Show the round trips, at most the first 1,000."""
    if trades.empty:
        return section("Trades", paragraph("There were no trades."))
    columns = ["Trade", "Side", "Entered", "Left", "Entry", "Exit", "Size", "Bars", "Fees", "Gain", "Return"]
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
    more = "all"
    if len(trades) > TRADES_SHOWN:
        more = f"the first {whole(TRADES_SHOWN)} of {whole(len(trades))}, and only these are sorted (all are in trades.csv)"
    caption = f"Round trips, {more}; times in UTC, gains after fees; click a column header to sort"
    return section("Trades", table(caption, columns, rows, sortable=True))
