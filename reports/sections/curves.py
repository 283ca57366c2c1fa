"""The curves of a run: equity against buy and hold, drawdown, and the price with entries and exits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup

from ...results.metric import SECTIONS
from ...results.metric_set import declarations
from ...results.number_text import counted, money, percent, ratio, whole
from ...results.run_record import RunRecord
from ...results.run_view import EquityRecord, drawdowns
from ..interactive_charts import MOST_MARKS, Line, Marks, Panel, line_chart
from ..page import render

ZOOM = "Drag over a range to zoom in; the round arrow resets the view."


def performance_section(stored: RunRecord) -> Markup:
    """Show equity and drawdown with buy and hold, and the headline numbers of both."""
    mine, theirs = stored.metrics, stored.benchmark_metrics
    shown = declarations([mine, theirs])
    returns, trades = (
        [
            (each.label, each.text(mine.get(each.name)), each.text(theirs.get(each.name)))
            for each in shown
            if each.section == part
        ]
        for part in SECTIONS
    )
    year = stored.data.bars_per_year  # not in older records
    bars = "" if year is None else f" and {whole(round(year))} bars"
    return render(
        "sections/performance",
        chart=_equity(stored) if len(stored.equity) > 1 else "",
        caption=f"{counted(mine.bars, 'bar')}, {ratio(mine.days, 1)} days; 365 days{bars} a year; no risk-free rate",
        returns=returns,
        trades=trades,
    )


def price_section(stored: RunRecord) -> Markup:
    """Show the closes with every entry and exit, and the position over time."""
    if len(stored.equity) < 2:
        return render("sections/price", chart="")
    trades, x = stored.trades, times(stored.equity)
    marks = []
    left = trades[trades["status"] == "closed"]
    if len(left):  # first, so that the entries are on top
        marks.append(_marks("Position closed", left, "exit", "benchmark", "diamond", 9))
    for side, name, colour, shape in (
        ("long", "Bought", "buy", "triangle"),
        ("short", "Sold short", "sell", "inverted_triangle"),
    ):
        entered = trades[trades["side"] == side]
        if len(entered):
            marks.append(_marks(name, entered, "entry", colour, shape, 10))
    close, exposure = stored.equity["close"].to_numpy(), stored.equity["exposure"].to_numpy()
    panels = [
        Panel([Line("Close", x, close, "muted")], unit="money", height=340, marks=marks),
        Panel([Line("Exposure", x, exposure, "strategy", steps=True)], "Exposure at the close", "percent", 130, filled=True),
    ]
    caption = f"Marks are at the bar and the price of the fill. {ZOOM}"
    if max((len(each.x) for each in marks), default=0) > MOST_MARKS:
        caption = f"Of {whole(len(trades))} trades, {whole(MOST_MARKS)} evenly chosen ones are marked. {caption}"
    description = f"Closing price over time with {whole(len(trades))} trades marked at their entries and exits"
    return render("sections/price", chart=line_chart(panels, "price", description=description, caption=caption))


def times(frame: pd.DataFrame) -> npt.NDArray[np.datetime64]:
    """Return the bars' timestamps as naive UTC."""
    index = pd.DatetimeIndex(frame.index)
    return np.asarray(index.tz_convert("UTC").tz_localize(None))


def _equity(stored: RunRecord) -> Markup:
    x = times(stored.equity)
    accounts: list[tuple[str, EquityRecord, str, str]] = [
        ("Strategy", stored, "strategy", "solid"),
        ("Buy and hold", stored.benchmark, "benchmark", "dashed"),
    ]
    equity = [Line(name, x, each.equity["equity"].to_numpy(), colour, dash) for name, each, colour, dash in accounts]
    falls = [Line(name, x, drawdowns(each), colour, dash) for name, each, colour, dash in accounts]
    panels = [Panel(equity, "Equity", "money", 280), Panel(falls, "Drawdown", "percent", 170, filled=True)]
    mine, theirs = stored.metrics, stored.benchmark_metrics
    description = (
        f"Equity over time: the strategy ends at {money(mine.final_equity)}, buy and hold at {money(theirs.final_equity)}; "
        f"deepest drawdowns {percent(mine.max_drawdown)} and {percent(theirs.max_drawdown)}"
    )
    return line_chart(panels, "equity", description=description, caption=f"By the bars' timestamps, UTC. {ZOOM}")


def _marks(name: str, trades: pd.DataFrame, event: str, colour: str, shape: str, size: int) -> Marks:
    stamps = np.asarray(pd.DatetimeIndex(trades[f"{event}_time"]).tz_convert("UTC").tz_localize(None))
    return Marks(name, stamps, trades[f"{event}_price"].to_numpy(dtype=np.float64), colour, shape, size)
