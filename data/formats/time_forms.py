"""Ways to write times besides ISO 8601 and epochs, as data in the notation of ``strptime``; and those that a user states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from ...arrays import Int64Array, TimeArray
from ...errors import DataError, UsageError
from .table import Places, shown

# A date, then a separator and a clock, then an ending. A new way to write times is one more entry.
_DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d"),
    *("%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%Y-%b-%d", "%b %d, %Y", "%b %d %Y"),
    *("%d %B %Y", "%B %d, %Y", "%a %b %d %Y", "%a, %d %b %Y"),
)
_SEPARATORS = (" ", "T", "  ", ", ")
_CLOCKS = (
    *("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H%M", "%H%M%S", "%H%M%S%f"),
    *("%I:%M:%S %p", "%I:%M %p", "%I:%M:%S%p", "%I:%M%p", "%I-%p", "%I %p"),
)
_ENDINGS = ("", " UTC", " GMT", "Z", "%z", " %z", " GMT%z")
_WHOLE = ("%d.%m.%Y %H:%M:%S.%f GMT%z", "%a %b %d %H:%M:%S %Y")  # Dukascopy's own; that of C's ctime
_COMPACT = {"%Y%m%d", *(f"%Y%m%d{clock}" for clock in ("%H%M", "%H%M%S", "%H%M%S%f"))}  # digits alone, as epochs are
_UNDECIDED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(?:19|20|21)\d\d(?!\d)", re.ASCII)

_TWO_DIGITS = re.compile(r"(\d{1,2})([/.-])(\d{1,2}|[A-Za-z]{3})\2\d\d(?!\d)", re.ASCII)

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_DIRECTIVES = {
    "Y": r"(?:19|20|21)\d\d",
    "y": r"\d\d",
    "m": r"(?:0[1-9]|1[0-2])",
    "B": f"(?:{_MONTHS})",
    "b": f"(?:{'|'.join(name[:3] for name in _MONTHS.split('|'))})",
    "d": r"(?:0[1-9]|[12]\d|3[01])",
    "A": f"(?:{_DAYS})",
    "a": f"(?:{'|'.join(name[:3] for name in _DAYS.split('|'))})",
    "H": r"(?:[01]\d|2[0-3])",
    "I": r"(?:0[1-9]|1[0-2])",
    "p": "[AP]M",
    "M": r"[0-5]\d",
    "S": r"[0-5]\d",
    "f": r"(?:\d{9}|\d{6}|\d{3})",
    "z": r"(?:Z|[+-]\d\d:?[0-5]\d)",
    "%": "%",
}
# Between other characters, a number may lack its zero, and a fraction may have any length.
_APART = {
    "m": r"(?:1[0-2]|0?[1-9])",
    "d": r"(?:[12]\d|3[01]|0?[1-9])",
    "H": r"(?:1\d|2[0-3]|0?\d)",
    "I": r"(?:1[0-2]|0?[1-9])",
    "f": r"\d{1,9}",
}
_OF_A_DATE, _OF_A_CLOCK = [*"YymBbdAa"], [*"HIpMSfz"]
_INSTEAD = {
    "T": "use %H:%M:%S",
    "R": "use %H:%M",
    "F": "use %Y-%m-%d",
    "D": "use %m/%d/%y",
    "e": "use %d",
    "k": "use %H",
    "l": "use %I",
    "Z": "use %z for +0100, or the option --time-zone",
    "s": "leave the option out, since epochs are recognised",
}
EXAMPLE = "'%d.%m.%Y %H:%M' for 31.01.2024 13:00"


class DayOrMonthFirst(DataError):  # noqa: N818 - the text reader answers it by another pass
    """A date such as 01/02/2024: a reader that can read the column twice finds its form by `day_month_format`."""


class TimeForm:
    """A way to write times; each distinct date and each distinct clock of a column is parsed once.

    Parameters
    ----------
    format : str
        In the notation of ``strptime``, of directives that `check_time_format` accepts.
    """

    def __init__(self, format: str) -> None:
        self.format = format
        tokens = re.findall(r"%.|[^%]+", format, re.DOTALL)
        first = next((at for at, token in enumerate(tokens) if _letter(token) in _OF_A_CLOCK), len(tokens))
        if any(_letter(token) in _OF_A_DATE for token in tokens[first:]):  # the year is last, or the clock first
            first = len(tokens)
        end = first - (first > 0 and not _letter(tokens[first - 1]))  # the separator is in neither part
        parts = list(_expressions(tokens))
        date, between, clock = (tokens[:end], parts[:end]), "".join(parts[end:first]), (tokens[first:], parts[first:])
        self._formats = "".join(date[0]), "".join(clock[0])
        self._pattern = re.compile(f"({''.join(date[1])}){between}({''.join(clock[1])})", re.ASCII | re.IGNORECASE)

    @property
    def has_offset(self) -> bool:
        """Whether its times show their distance from UTC."""
        return "%z" in self.format or self.format.endswith(("UTC", "GMT", "Z"))

    def fits(self, cell: str) -> bool:
        """Return whether a cell is written so."""
        return self._pattern.fullmatch(cell) is not None

    def stamps(self, cells: Sequence[str]) -> TimeArray:
        """Return the stamps in UTC of stripped cells, NaT where one is not written so or is not a day of the calendar."""
        matches = list(map(self._pattern.fullmatch, cells))
        days = _parsed([None if match is None else match[1] for match in matches], self._formats[0])
        clocks = _parsed([None if match is None else match[2] for match in matches], self._formats[1])
        known = (days != _NAT) & (clocks != _NAT)
        return np.where(known, days + np.where(known, clocks - _START, 0), _NAT).astype("datetime64[ns]")


_NAT = np.iinfo(np.int64).min
_START = pd.Timestamp("1900-01-01").value  # the day of a clock without a date


def _parsed(texts: list[str | None], format: str) -> Int64Array:
    """Return the stamps of texts as integers."""
    if not format:
        return np.full(len(texts), _START)
    distinct = list(dict.fromkeys(texts))
    stamps = pd.to_datetime(pd.Series(distinct, dtype="str"), format=format, utc=True, errors="coerce")
    values = pd.DatetimeIndex(stamps).as_unit("ns").asi8.tolist()
    return np.array(list(map(dict(zip(distinct, values, strict=True)).__getitem__, texts)), dtype=np.int64)


def _letter(token: str) -> str:
    return token[1:] if token[:1] == "%" else ""


def _expressions(tokens: Sequence[str]) -> Iterator[str]:
    """Yield the regular expression of each directive, and of the text between."""
    for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False):
        letter = _letter(token)
        beside = "0" if _letter(before) not in ("", "%") or _letter(after) not in ("", "%") else before[-1:] + after[:1]
        apart = _DIRECTIVES if any(map(str.isdigit, beside)) else _APART
        yield (apart.get(letter) or _DIRECTIVES[letter]) if letter else re.escape(token)


@lru_cache(maxsize=256)
def _form(format: str) -> TimeForm:
    return TimeForm(format)


def check_time_format(format: str) -> TimeForm:
    """Return the form of times that a user states.

    Raises
    ------
    UsageError
        With what the format lacks, and an example.

    Examples
    --------
    >>> check_time_format("%d.%m.%Y %H:%M").stamps(["31.01.2024 13:00"]).tolist() == [1706706000000000000]
    True
    """
    letters = re.findall(r"%(.?)", format, re.DOTALL)
    dates = [letter for letter in letters if letter in [*"YymbBd"]]
    problem = ""
    if unknown := next((letter for letter in letters if letter not in _DIRECTIVES), None):
        problem = f"%{unknown} is not read" + (f"; {_INSTEAD[unknown]}" if unknown in _INSTEAD else "")
    elif "" in letters:
        problem = "a % is the last character"
    elif twice := next((letter for letter in letters if letter != "%" and letters.count(letter) > 1), None):
        problem = f"%{twice} occurs twice"
    elif sorted(dates) not in [sorted(year + day) for year in "Yy" for day in ("dm", "db", "dB")]:
        problem = "it must have one year (%Y), one month (%m, %b or %B) and one day (%d)"
    elif re.search("%f(%[YymdHIMS]|[0-9])", format):
        problem = "%f has no fixed length, so that no digit may follow it"
    elif re.search("%z(%[YymdHIMSf]|[0-9:])", format):
        problem = "%z may have seconds, so that no digit or colon may follow it"
    elif ("I" in letters) != ("p" in letters) or {"H", "I"} <= {*letters}:
        problem = "an hour from 1 to 12 is %I with %p (AM or PM), an hour from 0 to 23 is %H alone"
    else:
        hour = "H" in letters or "I" in letters
        finer = ((hour, "M", "hour"), ("M" in letters, "S", "minute"), ("S" in letters, "f", "second"))
        lacking = next(((fine, coarse) for there, fine, coarse in finer if fine in letters and not there), None)
        problem = f"it has %{lacking[0]}, but no {lacking[1]}" if lacking else ""
    if problem:
        raise UsageError(f"--time-format {shown(format)}: {problem}. Write it as in {EXAMPLE}.")
    return _form(format.strip())


def form_of(cell: str) -> TimeForm | None:
    """Return the form of a stripped cell, None if it is not known; the order of day and month is never guessed."""
    formats = [*_WHOLE]
    for date in _DATES:
        found = _prefix(date).match(cell)
        rest = None if found is None else _rest_of(cell[found.end() :], date)
        formats += [] if rest is None else [date + rest]
    fitting = next((form for form in map(_form, formats) if form.fits(cell)), None)
    return None if fitting is None or (fitting.format in _COMPACT and not _is_no_epoch(cell)) else fitting


def _rest_of(text: str, date: str = "") -> str | None:
    """Return the format of what follows a date: a clock and an ending, or nothing; None if it is not known."""
    if not text:
        return ""
    for separator in (*_SEPARATORS, *([""] if date == "%Y%m%d" else [])):
        for clock in _CLOCKS if text.startswith(separator) else ():
            found = _prefix(clock).match(text, len(separator))
            rest = "" if found is None else text[found.end() :]
            for ending in _ENDINGS if found is not None else ():
                if _prefix(ending).fullmatch(rest):
                    return separator + clock + ending
    return None


@lru_cache(maxsize=256)
def _prefix(format: str) -> re.Pattern[str]:
    return re.compile("".join(_expressions(re.findall(r"%.|[^%]+", format))), re.ASCII | re.IGNORECASE)


def _is_no_epoch(cell: str) -> bool:
    """Return whether digits cannot be an epoch, or not one on a whole minute.

    An epoch of 1973 to 2255 never has 8, 14, 17, 20 or 23 digits. 202401020800 milliseconds are 20.8 s after a minute of 1976.
    """
    return not cell.isdigit() or len(cell) in (8, 14, 17, 20, 23) or (len(cell) == 12 and int(cell) % 60_000 != 0)


# --- day and month ----------------------------------------------------------------------------------------------------


def day_and_month(cell: str) -> tuple[str, str] | None:
    """Return the two formats, day first and month first, of a stripped cell such as 01/02/2024 08:00; else None.

    Examples
    --------
    >>> day_and_month("01/02/2024 08:00")
    ('%d/%m/%Y %H:%M', '%m/%d/%Y %H:%M')
    """
    found = _UNDECIDED.match(cell)
    rest = None if found is None else _rest_of(cell[found.end() :])
    if found is None or rest is None:
        return None
    return f"%d{found[2]}%m{found[2]}%Y{rest}", f"%m{found[2]}%d{found[2]}%Y{rest}"


def two_digit_formats(cell: str) -> list[str]:
    """Return the formats in which a stripped cell with a year of two digits may be written.

    Examples
    --------
    >>> two_digit_formats("05/02/21 080000")
    ['%d/%m/%y %H%M%S', '%m/%d/%y %H%M%S', '%y/%m/%d %H%M%S']
    >>> two_digit_formats("01/19/24"), two_digit_formats("3-Jan-22")
    (['%m/%d/%y'], ['%d-%b-%y'])
    """
    found = _TWO_DIGITS.match(cell)
    rest = None if found is None else _rest_of(cell[found.end() :])
    if found is None or rest is None:
        return []
    orders = ["%d %b %y", "%y %b %d"] if found[3].isalpha() else ["%d %m %y", "%m %d %y", "%y %m %d"]
    formats = [order.replace(" ", found[2]) + rest for order in orders]
    return [each for each in formats if _form(each).fits(cell)]


def undecided(place: str, cell: str, formats: tuple[str, str], proof: str = "") -> DayOrMonthFirst:
    """Return the refusal of a date whose day and month may be exchanged."""
    return DayOrMonthFirst(
        f"{place}: it is not clear whether the day or the month comes first in {shown(cell)}{proof}. "
        f"State it, --time-format '{formats[0]}' or --time-format '{formats[1]}', or write the column as 2024-01-31 13:00:00."
    )


def day_month_format(pieces: Iterable[tuple[Sequence[str], Places]], column: str) -> str:
    """Find the form of a column of times from all of its cells: a number above 12 is a day.

    Parameters
    ----------
    pieces : iterable of (sequence of str, Places)
        The column, piece by piece, as `TimeColumn.of_text` takes it.
    column : str
        The column's name.

    Raises
    ------
    DayOrMonthFirst
        If no cell shows which comes first.
    DataError
        If the cells contradict each other.
    """
    doubtful: tuple[str, str] | None = None
    proofs: dict[int, tuple[str, str]] = {}  # 0 if the day comes first, 1 if the month does: place and cell
    for cells, places in pieces:
        for at, found in enumerate(map(_UNDECIDED.match, map(str.strip, cells))):
            if found is None:
                continue
            doubtful = doubtful or (places.at(at, column), found.string)
            first, second = int(found[1]) > 12, int(found[3]) > 12
            if first != second and int(second) not in proofs:
                proofs[int(second)] = places.at(at, column), found.string
    if doubtful is None:
        raise DataError(f"column {shown(column)}: expected a date such as 31/01/2024. Fetch the file again.")
    formats = day_and_month(next(iter(proofs.values()), doubtful)[1])
    if formats is None:
        raise DataError(
            f"{doubtful[0]}: the clock in {shown(doubtful[1])} is not known. State its form, as --time-format {EXAMPLE}."
        )
    if len(proofs) > 1:
        (day, with_day), (month, with_month) = proofs[0], proofs[1]
        month = month.partition(", ")[2]
        raise DataError(
            f"{day}: the day comes first in {shown(with_day)}, but the month in {shown(with_month)} ({month}). "
            "Write the whole column in one form, such as 2024-01-31 13:00:00."
        )
    if not proofs:
        raise undecided(*doubtful, formats, ", and no cell of the column shows it")
    return formats[next(iter(proofs))]
