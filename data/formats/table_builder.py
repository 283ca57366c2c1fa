"""TableBuilder: a table from its rows, piece by piece, in the same way for each format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...arrays import FloatArray, Int64Array, TimeArray
from ..bars import COLUMNS
from .column_choice import ColumnChoice
from .column_names import check_base_volume
from .markets import MarketColumns
from .table import Faults, Markets, Places, Table, printable, shown
from .time_stamps import TimeColumn

TIMES_AT_ONCE = 20_000  # a call of pandas costs as much as 500 timestamps


class TableBuilder:
    """Collect the rows of a file.

    Parameters
    ----------
    name : str
        The file's.
    kind : str
        ``line`` or ``row``, what the numbers of rows count.
    choice : ColumnChoice
    faults : Faults

    Attributes
    ----------
    roles : tuple of str
        The columns of numbers.
    column : TimeColumn
        Converts the times.
    """

    def __init__(self, name: str, kind: str, choice: ColumnChoice, faults: Faults) -> None:
        self.choice = choice
        self.column = TimeColumn(choice.time_name, faults, choice.time_format)
        self.roles = tuple(role for role in (*COLUMNS, "other volume", "quote volume") if role in choice.positions)
        self._name, self._kind = name, kind
        self._values: dict[str, list[FloatArray]] = {role: [] for role in self.roles}
        self._numbers: list[Int64Array] = []
        self._times: list[TimeArray] = []
        self._stamps: list[str] = []
        self._marks: set[str] = set()
        symbols = " ".join(choice.header[at].strip() for at in choice.symbols)
        self._markets = MarketColumns(f"{name}, column {shown(symbols)}") if choice.symbols else None

    def places(self, numbers: Int64Array) -> Places:
        """Return the places of rows by their numbers."""
        return Places(self._name, self._kind, numbers)

    def add(
        self,
        numbers: Int64Array,
        values: Mapping[str, FloatArray],
        times: Sequence[str] | TimeArray,
        marks: Iterable[str] = (),
        markets: Sequence[Sequence[str]] = (),
    ) -> None:
        """Add rows.

        Parameters
        ----------
        numbers : array of int64
            Where each row is in the file.
        values : mapping
            The numbers of each of `roles`.
        times : sequence of str, or array of datetime64
            Text is converted; if date and time of day are apart, they are joined by a blank.
        marks : iterable of str
            Cells of a column ``synthetic``.
        markets : sequence of sequences of str
            The cells of each column of ``choice.symbols``.
        """
        for role in self.roles:
            self._values[role].append(values[role])
        self._numbers.append(numbers)
        self._marks.update(marks)
        if self._markets is not None:
            self._markets.add(markets)
        if isinstance(times, np.ndarray):
            self._times.append(times)
            return
        self._stamps += times
        if len(self._stamps) >= TIMES_AT_ONCE:
            self._convert()

    def see_markets(self, columns: Sequence[Sequence[str]]) -> None:
        """Take the names of markets from rows that are not added, for messages."""
        if self._markets is not None:
            self._markets.see(columns)

    @property
    def markets(self) -> Markets | None:
        """The markets of the rows so far; None where no column names them."""
        return None if self._markets is None else self._markets.markets()

    def _convert(self) -> None:
        """Convert the stamps that wait, which are those of the last rows."""
        numbers: list[Int64Array] = []
        for piece in reversed(self._numbers):
            numbers.append(piece)
            if sum(map(len, numbers)) >= len(self._stamps):
                break
        last = np.concatenate(numbers[::-1])[-len(self._stamps) :]
        self._times.append(self.column.of_text(self._stamps, self.places(last)))
        self._stamps = []

    def table(self, kind: str, notes: Sequence[str] = ()) -> Table | None:
        """Return the table of all rows, or None if there is none; ``kind`` is the format for the user.

        Raises
        ------
        DataError
            When the volume is not in base units.
        """
        if not self._numbers:
            return None
        if self._stamps:
            self._convert()
        choice, header, positions = self.choice, self.choice.header, self.choice.positions
        values = {role: np.concatenate(pieces) for role, pieces in self._values.items()}
        notes = [*choice.notes, *notes]
        if "quote volume" in values:
            base, quote = (header[positions[role]].strip() for role in ("volume", "quote volume"))
            check_base_volume(values, values.pop("quote volume"), self._name, base)
            if not choice.vendor:
                notes.append(f"the volume is that of the column {shown(base)}, not {shown(quote)}")
        if "other volume" in values:
            other = values.pop("other volume")
            if not (values["volume"] > 0).any():
                zero, used = (header[positions[role]].strip() for role in ("volume", "other volume"))
                notes.append(f"the volume is that of the column {shown(used)}, since {shown(zero)} is 0 in all rows")
                values["volume"] = other
        times = np.concatenate(self._times)
        if (dates := self.column.local_dates(times)) is not None:
            times = dates
            notes.append("its bars open at midnight of a zone whose clocks change, and are read by their local dates")
        markets = Markets((choice.market,), np.zeros(len(times), dtype=np.int64)) if choice.market else None
        return Table(
            times,
            values,
            self.places(np.concatenate(self._numbers)),
            is_marked(self._marks),
            kind,
            tuple(notes),
            tuple(printable(name.strip()) for at, name in enumerate(header) if at not in choice.used),
            choice,
            self.column.is_naive,
            self.markets or markets,
        )


def is_marked(marks: Iterable[str]) -> bool:
    """Return whether the cells of a column ``synthetic`` mark the bars as synthetic."""
    return any(mark.strip().lower() not in ("", "0", "false") for mark in marks)
