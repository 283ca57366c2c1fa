"""Bars of two lengths that overlap, as where the files of two timeframes were joined."""

from __future__ import annotations

import numpy as np

from .explanation import REPETITIONS, Explanation
from .formats.table import Table

FEWEST = 5  # times that occur twice
WITHIN, WIDER = 0.9, 0.5  # shares of the pairs: the shorter bar lies within the longer, which has a wider range


def nested_bars(table: Table) -> Explanation | None:
    """Return whether the rows of a repeated time are bars of two lengths: they open alike, and one lies within the other."""
    order = np.argsort(table.time, kind="stable")
    at = np.flatnonzero(table.time[order][1:] == table.time[order][:-1])
    if len(at) < FEWEST:
        return None
    open_, high, low, volume = (table.values[name] for name in ("open", "high", "low", "volume"))
    one, other = order[at], order[at + 1]
    is_longer = (high - low)[one] > (high - low)[other]
    short, long = np.where(is_longer, other, one), np.where(is_longer, one, other)
    within = (open_[long] == open_[short]) & (high[long] >= high[short]) & (low[long] <= low[short])
    within &= volume[long] >= volume[short]
    wider = (high[long] > high[short]) | (low[long] < low[short])
    if within.mean() < WITHIN or wider.mean() < WIDER:
        return None
    return Explanation(
        "these are bars of two lengths in one file",
        f"{int(within.sum()):,} times occur twice, with the same open and one bar's range and volume within the other's",
        "Give the bars of one length; if a column names it, choose by it: --columns symbol=NAME and --symbol 1h.",
        (*REPETITIONS, "off-grid", "gaps"),
    )
