"""Table: the result of a format's function, and the faults that it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...arrays import FloatArray, Int64Array, TimeArray
from ...errors import DataError
from .column_choice import ColumnChoice

DAMAGED = "damaged"
MIXED_UNITS = "mixed-units"
MOST_FAULTS = 10_000
LONGEST_SHOWN = 60


def shown(value: object) -> str:
    """Quote a value for a message, on one line and cut to `LONGEST_SHOWN`."""
    text = str(value)
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}...")


def printable(value: object, longest: int = 200) -> str:
    """Return a text of a file or a library on one line, without control characters."""
    text = " ".join(str(value)[:longest].split())
    return text if text.isprintable() else text.encode("unicode_escape").decode()


class Places(NamedTuple):
    """Where each bar is in its file: ``line 7`` of a text (as an editor counts), ``row 6`` of a table."""

    name: str
    kind: str
    numbers: Sequence[int] | npt.NDArray[np.int64]

    def at(self, position: int, column: str) -> str:
        """Return the place of a cell of the bar at ``position``."""
        return f"{self.name}, {self.kind} {self.numbers[position]}, column {shown(column)}"


class Fault(NamedTuple):
    """A row that cannot be read as it is: ``kind`` is ``damaged`` or ``mixed-units``."""

    kind: str
    row: int
    message: str


@dataclass
class Faults:
    """The faults of single rows: raised at the first one if strict, else collected, one per row.

    Parameters
    ----------
    strict : bool
        True to raise at the first fault, as reading does; False to continue, as checking does.
    name : str
        The file's name, for the message when there are too many faults.
    found : dict of int to Fault
        By the row's line (or row) in the file.
    """

    strict: bool
    name: str = "bars"
    found: dict[int, Fault] = field(default_factory=dict)

    def add(self, kind: str, row: int, error: DataError) -> None:
        """Add a fault.

        Raises
        ------
        DataError
            The error itself when strict; otherwise when there are more than `MOST_FAULTS`.
        """
        if self.strict:
            raise error
        row = int(row)
        known = self.found.get(row)
        if known is None or (known.kind != DAMAGED and kind == DAMAGED):
            self.found[row] = Fault(kind, row, str(error))
        if len(self.found) > MOST_FAULTS:
            raise DataError(
                f"{self.name}: more than {MOST_FAULTS:,} rows cannot be read; the last fault: {error} "
                "So many are rather the form of the file: state it with --time-format or --columns, or fetch the file again."
            )


class Markets(NamedTuple):
    """The market of each row: its position in ``names``."""

    names: tuple[str, ...]
    of_row: Int64Array


class Table(NamedTuple):
    """A format's bars: the columns, not yet checked, and where each bar is in the file.

    ``notes`` are sentences for the user on how the file was read; ``format`` is its format; ``choice`` are the columns that
    were read; ``is_naive`` is whether the times were written without an offset from UTC; ``markets`` is None where no column
    names them, and ``market`` is the one whose rows these are. A row with a fault has NaT or NaN in the damaged cells.
    """

    time: TimeArray
    values: dict[str, FloatArray]
    places: Places
    synthetic: bool
    format: str
    notes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    choice: ColumnChoice = ColumnChoice((), {}, ())
    is_naive: bool = False
    markets: Markets | None = None
    market: str = ""

    def take(self, rows: npt.NDArray[np.intp]) -> Table:
        """Return the rows at these positions, in their order."""
        numbers = np.asarray(self.places.numbers)[rows]
        values = {name: column[rows] for name, column in self.values.items()}
        markets = None if self.markets is None else self.markets._replace(of_row=self.markets.of_row[rows])
        places = self.places._replace(numbers=numbers)
        return self._replace(time=self.time[rows], values=values, places=places, markets=markets)
