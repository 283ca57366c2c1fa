"""Local times to UTC: the hour that clocks repeat in autumn is settled by the rows, others that are not clear are refused."""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, timedelta, timezone, tzinfo
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...arrays import BoolArray, TimeArray
from ...errors import DataError, UsageError, nearest
from ..row_faults import step_of
from .table import Places, shown

_Steps = npt.NDArray[np.timedelta64]

_OFFSET = re.compile(r"UTC([+-])(\d{1,2})(?::?([0-5]\d))?", re.ASCII | re.IGNORECASE)
_LARGEST_OFFSET = timedelta(hours=14)
_EARLIEST, _LATEST = np.datetime64("1678-01-01", "ns"), np.datetime64("2261-12-31", "ns")  # a day from what 64 bits hold
_OF_THE_MACHINE = {"localtime", "Factory", "posixrules"}
# What people write that is not a name of the database, or another zone's.
_CALLED = {
    "America/New_York": "et edt us/east eastern nyse nasdaq est/edt",
    "America/Chicago": "ct cdt cst central cme",
    "America/Los_Angeles": "pt pst pdt pacific",
    "Europe/London": "bst lse uk",
    "Europe/Berlin": "cest xetra germany",
    "Europe/Athens": "eest",
    "Asia/Kolkata": "ist india nse bse",
    "Asia/Tokyo": "jst",
    "Asia/Seoul": "kst korea",
    "Asia/Shanghai": "china beijing",
    "Asia/Hong_Kong": "hkt hkex",
    "Asia/Singapore": "sgt sgx",
    "Australia/Sydney": "aest aedt asx",
}


def check_time_zone(name: str) -> tzinfo:
    """Return a zone of the IANA database, or one of a fixed distance such as ``UTC+02:00``.

    Raises
    ------
    UsageError
        With the nearest name.

    Examples
    --------
    >>> check_time_zone("UTC+02:00"), check_time_zone("America/New_York")
    (datetime.timezone(datetime.timedelta(seconds=7200)), zoneinfo.ZoneInfo(key='America/New_York'))
    """
    if found := _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
        if offset <= _LARGEST_OFFSET:
            return timezone(offset if found[1] == "+" else -offset)
    names = zoneinfo.available_timezones() - _OF_THE_MACHINE
    if name == "UTC" or name in names:
        return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)
    wanted = name.strip().lower().replace(" ", "_")[:100]
    alike = {each for each in names if wanted in (each.lower(), each.lower().rpartition("/")[2])}
    alike |= {each for each, others in _CALLED.items() if wanted in others.split()}
    guess = f"Did you mean '{min(alike, key=lambda each: (len(each), each))}'?" if alike else nearest(wanted, names)
    if _OFFSET.fullmatch(f"UTC{wanted.removeprefix('gmt')}"):
        guess = f"Did you mean 'UTC{wanted.removeprefix('gmt')}'?"
    guess = f"{guess} " if guess.startswith("Did you mean") else ""
    raise UsageError(
        f"--time-zone: {shown(name)} is unknown. {guess}Give a name such as America/New_York, or a distance such as UTC+02:00."
    )


def to_utc(time: TimeArray, zone: str, places: Places, name: str) -> TimeArray:
    """Return the instants of local times, in the order of the file: oldest first, or newest first.

    An hour that clocks repeat is known by its rows where they contain both passes, or where one pass alone lies on the steps
    of the other bars.

    Parameters
    ----------
    time : array of datetime64[ns]
        Local; NaT stays NaT.
    zone : str
        As `check_time_zone` takes it.
    places : Places
        Of the times in their file.
    name : str
        The column's name, for messages.

    Raises
    ------
    DataError
        For a time that the clocks of the zone skip, or repeat without the rows showing which of the two it is.
    """
    local, known = pd.DatetimeIndex(time), ~np.isnat(time)
    if (beyond := known & ((time < _EARLIEST) | (time > _LATEST))).any():
        at = int(np.argmax(beyond))
        raise DataError(
            f"{places.at(at, name)}: expected a time of the years 1678 to 2261, got {_text(time[at])}. Fetch the file again."
        )
    sides = [_instants(local, zone, is_first=is_first) for is_first in (True, False)]
    early, late = np.minimum(*sides), np.maximum(*sides)
    skipped = np.flatnonzero(known & np.isnat(early))
    if len(skipped):
        raise DataError(
            f"{places.at(int(skipped[0]), name)}: {_text(time[skipped[0]])} does not exist in {zone}, where clocks skip it in "
            "spring. The times are in UTC or in another zone: leave --time-zone out, or state theirs."
        )
    rows = np.flatnonzero(known)
    if len(rows) > 1 and np.sign(np.diff(time[rows]).astype(np.int64)).sum() < 0:
        rows = rows[::-1]
    doubtful = (early != late)[rows]
    result, settled = early.copy(), early[rows[~doubtful]]
    step = step_of(settled) if doubtful.any() else None
    origin = settled[0] if len(settled) else _EARLIEST
    for start, end in _runs(doubtful, time[rows]):
        run = rows[start:end]
        is_second = _second_pass(time[run], early[run] - origin, late[run] - origin, step)
        if is_second is None:
            raise DataError(
                f"{places.at(int(run[0]), name)}: {_text(time[run[0]])} occurs twice in {zone}, where clocks are set back, and "
                "the rows do not show which of the two this is. Leave out the rows of this hour, or write the times in UTC."
            )
        result[run] = np.where(is_second, late[run], early[run])
    return result


def _instants(local: pd.DatetimeIndex, zone: str, *, is_first: bool) -> TimeArray:
    is_summer = np.full(len(local), is_first)
    stamps = local.tz_localize(check_time_zone(zone), ambiguous=is_summer, nonexistent="NaT")
    return stamps.tz_convert("UTC").tz_localize(None).to_numpy()


def _runs(doubtful: BoolArray, local: TimeArray) -> list[tuple[int, int]]:
    """Return start and end of the rows in one repeated hour."""
    apart = np.abs(np.diff(local)) > np.timedelta64(1, "D")
    edges = np.flatnonzero((np.diff(doubtful.astype(np.int8)) != 0) | apart) + 1
    bounds = [0, *edges.tolist(), len(doubtful)]
    return [(start, end) for start, end in pairwise(bounds) if start < end and doubtful[start]]


def _second_pass(local: TimeArray, early: _Steps, late: _Steps, step: np.timedelta64 | None) -> BoolArray | None:
    """Return which rows of a repeated hour, oldest first, belong to its second pass; None where that is not clear.

    ``early`` and ``late`` are the two instants of each row, since another bar; ``step`` is the bars' distance, if known.
    """
    back = np.flatnonzero(np.diff(local) <= np.timedelta64(0))
    if len(back) == 1:
        return np.asarray(np.arange(len(local)) > back[0])
    if len(back) > 1 or step is None:
        return None
    on_grid = [bool((each % step == np.timedelta64(0)).all()) for each in (early, late)]
    return np.full(len(local), on_grid[1]) if on_grid[0] != on_grid[1] else None


def _text(stamp: np.datetime64) -> str:
    return str(np.datetime_as_string(stamp, unit="s")).replace("T", " ")
