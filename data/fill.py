"""Fill times without trades, which some exchanges leave out of their files, with flat bars of volume 0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..arrays import BoolArray
from ..errors import DataError
from .bars import COLUMNS, Bars, utc
from .formats.compressed_text import MOST_ROWS
from .market_hours import MissingRuns

MOST_FILLED = 10  # filled bars per bar that is there
MOST_SLOTS = 64_000_000  # missing ones, closed hours included
UNCERTAIN = "an outage of the exchange cannot be distinguished from times without trades"


class FillResult(NamedTuple):
    """The bars with the flat ones among them.

    Attributes
    ----------
    bars : Bars
    is_filled : array of bool, shape (n,)
        Which of them are filled in.
    longest : int
        The number of bars in the longest run that was filled.
    longest_start : datetime64
        The open time of its first bar.
    """

    bars: Bars
    is_filled: BoolArray
    longest: int
    longest_start: np.datetime64

    @property
    def filled(self) -> int:
        """The number of bars that were filled in."""
        return int(self.is_filled.sum())

    @property
    def summary(self) -> str:
        """A sentence about what was filled."""
        days = self.bars.missing.days_text
        left = f"; left missing: {days}" if days else ""
        if not self.filled:
            return f"no bar is missing outside of closed hours: none was filled in{left}"
        return (
            f"{self.filled:,} bars filled in, flat at the previous close, volume 0; the longest run is of {self.longest:,} "
            f"from {utc(self.longest_start)}; {UNCERTAIN}{left}"
        )

    def lines(self) -> Iterator[str]:
        """Yield a line for each bar that was filled in."""
        for at in np.flatnonzero(self.is_filled).tolist():
            yield f"filled in: {utc(self.bars.time[at])}, flat at {float(self.bars.close[at])!r}, volume 0"


def fill_no_trade(bars: Bars) -> FillResult:
    """Return bars with a flat bar at the previous close, of volume 0, for each missing one.

    Closed hours are not filled, nor are whole days without bars in a market that closes (`flagbt.data.market_hours`).
    *Causality: a filled bar has the close of the last bar before it.*

    Raises
    ------
    DataError
        When more bars are missing than `MOST_FILLED` times those that are there, or the result has too many rows to be read.
    """
    runs = bars.missing.only(~bars.missing.are_days)
    _check_amount(bars, runs)
    if not len(runs.at):
        return FillResult(bars, np.zeros(len(bars), dtype=bool), 0, bars.time[0])
    slots = ((bars.time[runs.at + 1] - bars.time[runs.at]) // bars.step).astype(np.int64) - 1
    source = np.repeat(runs.at, slots)
    number = np.arange(len(source)) - np.repeat(np.cumsum(slots) - slots, slots) + 1
    time = bars.time[source] + number * bars.step
    is_open = ~bars.market_hours.is_closed(time)
    time, source = time[is_open], source[is_open]
    order = np.argsort(np.concatenate([bars.time, time]), kind="stable")
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(bars, name), bars.close[source] if name != "volume" else np.zeros(len(source))])[order]
        for name in COLUMNS
    }
    filled = replace(bars, time=np.concatenate([bars.time, time])[order], **columns)
    longest = int(np.argmax(runs.missing))
    return FillResult(filled, order >= len(bars), int(runs.missing[longest]), np.datetime64(runs.first[longest]))


def _check_amount(bars: Bars, runs: MissingRuns) -> None:
    missing = int(runs.missing.sum())
    if missing > MOST_FILLED * len(bars):
        raise DataError(
            f"{bars.source}: {missing:,} bars are missing, more than {MOST_FILLED} times the {len(bars):,} that are there, so "
            "almost all would be made up. Resample the bars to a longer timeframe, or cut the file at its longest gap."
        )
    slots = int(((bars.time[runs.at + 1] - bars.time[runs.at]) // bars.step).astype(np.int64).sum())
    if len(bars) + missing > MOST_ROWS or slots > MOST_SLOTS:
        raise DataError(
            f"{bars.source}: {missing:,} bars would be filled in, {len(bars) + missing:,} in all; at most {MOST_ROWS:,} are "
            "read. Split the file into parts, or resample the bars to a longer timeframe."
        )
