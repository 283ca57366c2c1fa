"""Time stamps: ISO 8601, epoch numbers or a form of `time_forms`, by the first cell; ambiguous times are refused."""

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
from .time_forms import EXAMPLE, TimeForm, check_time_format, day_and_month, form_of, two_digit_formats, undecided

_ISO = re.compile(
    r"(?:19|20|21)\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?(?:Z|[+-]\d\d(?::?\d\d)?))?)?", re.ASCII
)
_EPOCH = re.compile(r"(\d{1,18}|[1-8]\d{18})(?:\.0*)?", re.ASCII)
_MIDNIGHT = re.compile(r".{10}[T ]00:00(?::00(?:\.0+)?)? ?[+-].*", re.ASCII)
_MINUTES = re.compile(r"\d{12}", re.ASCII)
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
_STATE_FORM = "or state the form of the column, as with --time-format"
_REMEDIES = (
    (re.compile(r"\d+(?:[.,]\d+)?[eE]\+?\d+"), f"A spreadsheet has rounded it, and digits are lost: {_FETCH_AGAIN}."),
    (
        re.compile(r"\d{1,2}([/.-])\d{1,2}\1\d{4}.*"),
        f"Write 2024-01-31 13:00:00, {_STATE_FORM} '%d.%m.%Y %H:%M' where the day is first, or '%m/%d/%Y %H:%M'.",
    ),
    (
        re.compile(r".*\d[ -]?[AaPp]\.?[Mm]\.?"),
        f"Write the hour from 00 to 23, as in 2024-01-31 13:00:00, {_STATE_FORM} '%d-%b-%Y %I:%M %p'.",
    ),
    (re.compile(r"[2-7]\d{4}(?:\.\d+)?"), f"It looks like a spreadsheet's day number: {_FETCH_AGAIN}."),
    (re.compile(r"\d{8}"), "Write dates as 2024-01-31 or 20240131."),
    (
        re.compile(r"\s*"),
        "Fix the cell, or fetch the file again; flagbt data check counts such rows, and its fix drop-damaged leaves them out.",
    ),
)


def dates_of_midnights(stamps: TimeArray, local: TimeArray) -> TimeArray | None:
    """Return local stamps that are all midnights whose distance from UTC changes, else None.

    Such are the daily bars of an exchange in a zone with summer time: in UTC, they would not be of one constant length.
    """
    known = ~np.isnat(stamps)
    if len(np.unique((local - stamps)[known])) < 2 or (local.astype("datetime64[D]") != local)[known].any():
        return None
    return local


class TimeColumn:
    """Convert the cells of a time column to stamps, piece by piece; all cells must have the form of the first one.

    Parameters
    ----------
    name : str
        The column's name.
    faults : Faults
        Receives the cells that are not a time; their stamp is NaT.
    time_format : str
        How the times are written, in the notation of ``strptime``; empty to find it from the first cell.

    Raises
    ------
    UsageError
        Of `check_time_format`.
    """

    def __init__(self, name: str, faults: Faults, time_format: str = "") -> None:
        self.name, self.faults = name, faults
        self.form = check_time_format(time_format) if time_format else None
        self.is_stated = self.form is not None
        self.first = ""  # the first cell that is not blank
        self.epoch = False
        self.unit = -1  # of the first epoch number, as a position in _EPOCH_UNITS
        # The first place with a stamp without offset, with one with an offset (perhaps zero), and with one that is not zero.
        self.naive = self.offset = self.shifted = ""
        self._dates: list[TimeArray] | None = []  # the stamps in their own zone; None once text is not a local midnight

    @property
    def is_naive(self) -> bool:
        """Whether the times so far were written without an offset from UTC; epochs are not."""
        return bool(self.naive) and not self.offset

    def of_text(self, cells: Sequence[str], places: Places) -> TimeArray:
        """Return the stamps of the next rows of text, datetime64[ns] in UTC; naive means UTC.

        Raises
        ------
        DayOrMonthFirst
            For a first cell such as 01/02/2024.
        DataError
            For times with and without an offset from UTC in one column; at the first fault if ``faults`` is strict.
        """
        cells = [cell.strip() for cell in cells]
        if not self.first:
            self._find_form(cells, places)
        if self.form is not None:
            return self._of_form(cells, self.form, places)
        pattern = _EPOCH if self.epoch else _ISO
        good = np.array(list(map(bool, map(pattern.fullmatch, cells))))
        for at in np.flatnonzero(~good).tolist():
            self._damaged(cells[at], at, places, "an epoch number, as in the rows above" if self.epoch else None)
        if self.epoch:
            numbers = [int(cell.partition(".")[0]) if fits else 0 for cell, fits in zip(cells, good.tolist(), strict=True)]
            return self._of_epochs(np.array(numbers, dtype=np.int64), good, places)
        return self._of_iso(cells, good, places)

    def of_numbers(self, values: npt.NDArray[np.int64], known: npt.NDArray[np.bool_], places: Places) -> TimeArray:
        """Return the stamps of the next rows of whole numbers; where ``known`` is false the cell is blank."""
        sure = known & (values % 60_000 != 0)  # 202401310001 is a date, 202401310000 may be milliseconds of 1976
        first = values[np.argmax(sure if sure.any() else known)] if len(values) else 0
        if self.form is not None or (not self.first and known.any() and form_of(str(first))):  # 20240131
            texts = [str(value) if there else "" for value, there in zip(values.tolist(), known.tolist(), strict=True)]
            return self.of_text(texts, places)
        self.first = self.first or "0"
        for at in np.flatnonzero(~known).tolist():
            self._damaged("", at, places)
        return self._of_epochs(np.where(known, values, 0), known.copy(), places)

    def local_dates(self, stamps: TimeArray) -> TimeArray | None:
        """Return `dates_of_midnights` of all stamps."""
        return dates_of_midnights(stamps, np.concatenate(self._dates)) if self._dates else None

    def of_stamps(self, stamps: TimeArray, places: Places, *, is_naive: bool, local: TimeArray | None = None) -> TimeArray:
        """Return stamps that are times already, after adding a fault for each blank one; ``local`` are those of their zone."""
        if self._dates is not None and local is not None:
            self._dates.append(local)
        if is_naive and len(stamps):
            self.naive = self.naive or places.at(0, self.name)
        for at in np.flatnonzero(np.isnat(stamps)).tolist():
            self._damaged("", at, places)
        return stamps

    def _find_form(self, cells: list[str], places: Places) -> None:
        """Find how the times are written from the first cell that is not blank."""
        at = next((at for at, cell in enumerate(cells) if cell), None)
        if at is None:
            return
        self.first = cells[at]
        if self.is_stated or _ISO.fullmatch(self.first):
            return
        # May is an abbreviation and a name: another month shows which.
        self.form = form_of(next((cell for cell in cells[at:] if cell and "may" not in cell.lower()), self.first))
        if self.form is None or not self.form.fits(self.first):
            self.form = form_of(self.first)
        if self.form is None and _MINUTES.fullmatch(self.first):  # 202401310000 may be milliseconds of 1976, others show it
            sure = next((cell for cell in cells if _MINUTES.fullmatch(cell) and int(cell) % 60_000), "")
            form = form_of(sure)
            self.form = form if form is not None and all(form.fits(cell) for cell in cells if cell) else None
        self.epoch = self.form is None and bool(_EPOCH.fullmatch(self.first))
        if self.form is None and (formats := day_and_month(self.first)):
            raise undecided(places.at(at, self.name), self.first, formats)

    def _of_form(self, cells: list[str], form: TimeForm, places: Places) -> TimeArray:
        result = form.stamps(cells)
        bad = np.isnat(result)
        if not bad.all():
            place = places.at(int(np.argmin(bad)), self.name)
            self.naive, self.offset = ("", place) if form.has_offset else (place, "")
        for at in np.flatnonzero(bad).tolist():
            expected = (
                f"a time of the form {form.format}" if self.is_stated else f"a time as in the rows above ({shown(self.first)})"
            )
            self._damaged(cells[at], at, places, "a day of the calendar" if form.fits(cells[at]) else expected)
        return result

    def _of_iso(self, cells: list[str], good: npt.NDArray[np.bool_], places: Places) -> TimeArray:
        self._check_offsets(cells, good, places)
        texts = cells if good.all() else [cell if fits else None for cell, fits in zip(cells, good.tolist(), strict=True)]
        stamps = pd.to_datetime(pd.Series(texts, dtype="str"), format="ISO8601", utc=True, errors="coerce")
        result = pd.DatetimeIndex(stamps).tz_localize(None).as_unit("ns").to_numpy()
        for at in np.flatnonzero(np.isnat(result) & good).tolist():
            self._damaged(cells[at], at, places)
        if self._dates is not None:
            if all(_MIDNIGHT.fullmatch(cell) for cell in cells if cell):
                days = [cell[:10] if known else "NaT" for cell, known in zip(cells, ~np.isnat(result), strict=True)]
                self._dates.append(np.array(days, dtype="datetime64[ns]"))
            else:
                self._dates = None
        return result

    def _check_offsets(self, cells: list[str], good: npt.NDArray[np.bool_], places: Places) -> None:
        """Refuse a column where some stamps have a time zone and others do not."""
        if not self.naive and not self.shifted and all(map(_ends_in_z, cells)):
            self.offset = self.offset or places.at(0, self.name)
            return
        for at, cell in enumerate(cells):
            if not good[at]:
                continue
            clock = cell[10:]
            if cell[-1] != "Z" and "+" not in clock and "-" not in clock:
                self.naive = self.naive or places.at(at, self.name)
                continue
            self.offset = self.offset or places.at(at, self.name)
            if not self.shifted and cell[-1] != "Z" and not _ZERO_OFFSET.fullmatch(clock):
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
                "Write the whole column in one unit; flagbt data check counts such rows, and convert-units converts them."
            )
            self.faults.add(MIXED_UNITS, places.numbers[at], error)
        factor = np.array([nanoseconds for _, nanoseconds, _, _ in _EPOCH_UNITS])[unit]
        result: TimeArray = (np.where(good, values, 0) * factor).astype("datetime64[ns]")
        result[~good] = np.datetime64("NaT")
        return result

    def _damaged(self, cell: str, at: int, places: Places, expected: str | None = None) -> None:
        got = shown(cell) if cell.strip() else "a blank cell"
        remedy = "Fix the cell, or fetch the file again."
        if self.is_stated:
            remedy = "Fix the cell, or state the form of the whole column with --time-format."
        elif cell == self.first and self.form is None:  # so may be all cells
            remedy = f"Fix the cell, or state the form of the column with --time-format, as {EXAMPLE}."
        known = _REMEDIES if self.form is None else _REMEDIES[-1:]
        remedy = next((text for form, text in known if form.fullmatch(cell)), remedy)
        if self.form is None and two_digit_formats(cell.strip()):
            formats = two_digit_formats(str(self.first).strip()) or two_digit_formats(cell.strip())
            stated = " or ".join(f"--time-format '{each}'" for each in formats)
            remedy = f"A year of two digits is ambiguous: {_FETCH_AGAIN}, or state the form of the column, {stated}."
        expected = expected or "a time such as 2024-01-31T13:00:00Z or 2024-01-31 13:00:00 (UTC), or epoch seconds to ns"
        error = DataError(f"{places.at(at, self.name)}: expected {expected}, got {got}. {remedy}")
        self.faults.add(DAMAGED, places.numbers[at], error)
