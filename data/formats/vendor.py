"""Vendor: how one source writes bars, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """The form of one source of bars: what differs from a table with the usual names.

    A table with names has the form if it has all of ``columns`` and ``marks``; rows without names have it if their cells,
    in the order of ``rows``, are a time and possible prices.

    Parameters
    ----------
    name : str
        The source, for messages and the table of docs/data.md.
    columns : mapping
        Role to the name of its column, in lower case with underscores for spaces and hyphens: time, open, high, low, close,
        volume, ``quote volume``, ``other volume`` (taken where the volume is 0 throughout), symbol. Roles that are missing have
        their usual names. A name of one letter is compared in its case.
    marks : tuple of str
        Other names of columns by which the form is recognised.
    rows : str
        The roles of the cells of a row without names, separated by commas: those of ``columns``, ``date`` and ``time of day``
        where they are apart, and ``close time``, ``vwap``, ``count``, which are compared with the others as a proof; ``-`` for
        any other cell.
    time_format : str
        How times are written, in the notation of ``strptime``, if the form of the cells does not show it.
    time_zone : str
        The zone of times without an offset, if it is documented and not UTC.
    is_close_time : bool
        Whether the stamps are those of the bars' ends.
    has_no_volume : bool
        Whether its volumes are 0 throughout, so that rows without names that have a volume are of another source.
    note : str
        What a reader of these bars should know; shown with the bars unless the user states the zone.
    """

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    rows: str = ""
    time_format: str = ""
    time_zone: str = ""
    is_close_time: bool = False
    has_no_volume: bool = False
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The roles of the cells of a row without names."""
        return tuple(role.strip() for role in self.rows.split(",")) if self.rows else ()
