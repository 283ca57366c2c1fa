"""ColumnChoice: which columns of a table are read, and how their times are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ColumnChoice(NamedTuple):
    """The columns of a table that are read.

    Attributes
    ----------
    header : tuple of str
        The names of all columns; for rows without names, their roles.
    positions : mapping
        Role to position: open, high, low, close, volume; where they are there, ``synthetic``, ``symbol``, ``quote volume`` and
        ``other volume``.
    time : tuple of int
        The position of the times, or those of the date and of the time of day.
    vendor : str
        Whose form it is; empty for the usual names.
    time_format, time_zone : str
        As stated by the user, else by the vendor's form; empty where the cells show the form, and for UTC.
    is_close_time : bool
        Whether the stamps are those of the bars' ends.
    notes : tuple of str
        Sentences for the user.
    market : str
        The market of all rows, where the file names it outside of them.
    has_other_markets : bool
        Whether other columns have the prices of other markets, so that rows without a price of this one are not its bars.
    more_symbols : tuple of int
        Positions of further columns that may name the market of each row, such as an exchange's beside a pair's.
    """

    header: tuple[str, ...]
    positions: Mapping[str, int]
    time: tuple[int, ...]
    vendor: str = ""
    time_format: str = ""
    time_zone: str = ""
    is_close_time: bool = False
    notes: tuple[str, ...] = ()
    market: str = ""
    has_other_markets: bool = False
    more_symbols: tuple[int, ...] = ()

    @property
    def order(self) -> str:
        """The roles of the cells of rows without names, up to the last one that has a role."""
        last = max((at for at, role in enumerate(self.header) if not role.startswith("column ")), default=0)
        return ", ".join(self.header[: last + 1])

    @property
    def time_name(self) -> str:
        """The name of the time's column, or those of date and time of day."""
        return " ".join(self.header[at].strip() for at in self.time)

    @property
    def symbols(self) -> tuple[int, ...]:
        """The positions of all columns that name the market of each row."""
        return (self.positions["symbol"], *self.more_symbols) if "symbol" in self.positions else ()

    @property
    def used(self) -> frozenset[int]:
        """The positions that are read."""
        return frozenset((*self.positions.values(), *self.time, *self.symbols))
