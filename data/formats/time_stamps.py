"""Time stamps: ISO 8601 or epoch numbers, distinguished by form and size; ambiguous times are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import methodcaller

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...arrays import TimeArray
from ...errors import DataError
from .table import DAMAGED, MIXED_UNITS, Faults, Places, shown

_ISO = re.compile(
    r"(?:19|20|21)\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?(?:Z|[+-]\d\d(?::?\d\d)?))?)?", re.ASCII
)
_EPOCH = re.compile(r"(\d{1,18}|[1-8]\d{18})(?:\.0*)?", re.ASCII)
_ends_in_z = methodcaller("endswith", "Z")
_ZERO_OFFSET = re.compile(r".*(?:Z|[+-]00(?::?00)?)", re.ASCII)
# Unit, nanoseconds in it, smallest and first too large value: 1973 to 2255, where each number has one unit only.
_EPOCH_UNITS = (
    ("seconds", 10**9, 10**8, 9 * 10**9),
    ("milliseconds", 10**6, 10**11, 9 * 10**12),
    ("microseconds", 10**3, 10**14, 9 * 10**15),
    ("nanoseconds", 1, 10**17, 9 * 10**18),
)
_FETCH_AGAIN = "fetch the file again and do not re-save it with a spreadsheet"
_REMEDIES = (
    (re.compile(r"\d+(?:[.,]\d+)?[eE]\+?\d+"), f"A spreadsheet has rounded it, and digits are lost: {_FETCH_AGAIN}."),
    (
        re.compile(r"\d{1,2}([/.-])\d{1,2}\1\d{2}(?!\d).*"),
        f"A year of two digits, and a day and a month that can be exchanged, are ambiguous: {_FETCH_AGAIN}.",
    ),
    (
        re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{4}.*"),
        "It is not clear whether the day or the month comes first: write the column as 2024-01-31 13:00:00.",
    ),
    (re.compile(r".*\d[ -]?[AaPp]\.?[Mm]\.?"), "Write the hour from 00 to 23, as in 2024-01-31 13:00:00."),
    (re.compile(r"[2-7]\d{4}(?:\.\d+)?"), f"It looks like a spreadsheet's day number: {_FETCH_AGAIN}."),
    (re.compile(r"\d{8}"), "Write dates with hyphens, as in 2024-01-31."),
    (
        re.compile(r"\s*"),
        "Fix the cell, or fetch the file again; to leave the row out, use flagbt data check with --fix drop-damaged.",
    ),
)


class TimeColumn:
    """Convert the cells of a time column to stamps, piece by piece; all cells must have the form of the first one.

    Parameters
    ----------
    name : str
        The column's name.
    faults : Faults
        Receives the cells that are not a time; their stamp is NaT.
    """

    def __init__(self, name: str, faults: Faults) -> None:
        self.name, self.faults = name, faults
        self.epoch: bool | None = None
        self.unit = -1  # of the first epoch number, as a position in _EPOCH_UNITS
        self.naive = self.shifted = ""  # the first place with a stamp without offset, and with one that is not zero

    def of_text(self, cells: Sequence[str], places: Places) -> TimeArray:
        """Return the stamps of the next rows of text, datetime64[ns] in UTC; naive means UTC."""
        cells = [cell.strip() for cell in cells]
        if self.epoch is None:
            first = next((cell for cell in cells if cell), "")
            self.epoch = bool(_EPOCH.fullmatch(first))
        pattern = _EPOCH if self.epoch else _ISO
        good = np.array(list(map(bool, map(pattern.fullmatch, cells))))
        for at in np.flatnonzero(~good).tolist():
            self._damaged(cells[at], at, places, "an epoch number, as in the rows above" if self.epoch else None)
        if self.epoch:
            numbers = [int(cell.partition(".")[0]) if fits else 0 for cell, fits in zip(cells, good.tolist(), strict=True)]
            return self._of_epochs(np.array(numbers, dtype=np.int64), good, places)
        return self._of_iso(cells, good, places)

    def of_numbers(self, values: npt.NDArray[np.int64], known: npt.NDArray[np.bool_], places: Places) -> TimeArray:
        """Return the stamps of the next rows of whole epoch numbers; where ``known`` is false the cell is blank."""
        for at in np.flatnonzero(~known).tolist():
            self._damaged("", at, places)
        return self._of_epochs(np.where(known, values, 0), known.copy(), places)

    def of_stamps(self, stamps: TimeArray, places: Places) -> TimeArray:
        """Return stamps that are times already, after adding a fault for each blank one."""
        for at in np.flatnonzero(np.isnat(stamps)).tolist():
            self._damaged("", at, places)
        return stamps

    def _of_iso(self, cells: list[str], good: npt.NDArray[np.bool_], places: Places) -> TimeArray:
        self._check_offsets(cells, good, places)
        texts = cells if good.all() else [cell if fits else None for cell, fits in zip(cells, good.tolist(), strict=True)]
        stamps = pd.to_datetime(pd.Series(texts, dtype="str"), format="ISO8601", utc=True, errors="coerce")
        result = pd.DatetimeIndex(stamps).tz_localize(None).as_unit("ns").to_numpy()
        for at in np.flatnonzero(np.isnat(result) & good).tolist():
            self._damaged(cells[at], at, places)
        return result

    def _check_offsets(self, cells: list[str], good: npt.NDArray[np.bool_], places: Places) -> None:
        """Refuse a column where some stamps have a time zone and others do not."""
        if not self.naive and not self.shifted and all(map(_ends_in_z, cells)):
            return
        for at, cell in enumerate(cells):
            if not good[at] or cell[-1] == "Z":
                continue
            clock = cell[10:]
            if "+" not in clock and "-" not in clock:
                self.naive = self.naive or places.at(at, self.name)
            elif not self.shifted and not _ZERO_OFFSET.fullmatch(clock):
                self.shifted = places.at(at, self.name)
        if self.naive and self.shifted:
            raise DataError(
                f"{self.naive}: this time has no offset from UTC, but that of {self.shifted.removeprefix(f'{places.name}, ')} "
                "has one, so it may or may not be UTC. Write all times with an offset, or all in UTC."
            )

    def _of_epochs(self, values: npt.NDArray[np.int64], good: npt.NDArray[np.bool_], places: Places) -> TimeArray:
        unit = np.full(len(values), -1)
        for at, (_, _, smallest, too_large) in enumerate(_EPOCH_UNITS):
            unit[(values >= smallest) & (values < too_large)] = at
        for at in np.flatnonzero((unit < 0) & good).tolist():
            self._damaged(str(values[at]), at, places, "epoch seconds, ms, us or ns of the years 1973 to 2255")
        good &= unit >= 0
        if self.unit < 0 and good.any():
            self.unit = int(unit[np.argmax(good)])
        for at in np.flatnonzero(good & (unit != self.unit)).tolist():
            before, after = _EPOCH_UNITS[self.unit][0], _EPOCH_UNITS[unit[at]][0]
            error = DataError(
                f"{places.at(at, self.name)}: here the times change from {before} to {after} ({shown(values[at])}). "
                "Write the whole column in one unit, or use flagbt data check with --fix convert-units."
            )
            self.faults.add(MIXED_UNITS, places.numbers[at], error)
        factor = np.array([nanoseconds for _, nanoseconds, _, _ in _EPOCH_UNITS])[unit]
        result: TimeArray = (np.where(good, values, 0) * factor).astype("datetime64[ns]")
        result[~good] = np.datetime64("NaT")
        return result

    def _damaged(self, cell: str, at: int, places: Places, expected: str | None = None) -> None:
        got = shown(cell) if cell.strip() else "a blank cell"
        remedy = next((text for form, text in _REMEDIES if form.fullmatch(cell)), "Fix the cell, or fetch the file again.")
        expected = expected or "a time such as 2024-01-31T13:00:00Z or 2024-01-31 13:00:00 (UTC), or epoch seconds to ns"
        error = DataError(f"{places.at(at, self.name)}: expected {expected}, got {got}. {remedy}")
        self.faults.add(DAMAGED, places.numbers[at], error)
