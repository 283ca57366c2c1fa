"""The hours of a week in which a market is closed, and what that makes of missing bars: gaps, or days without bars."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import BoolArray, Int64Array, TimeArray
from ..errors import UsageError, quoted_value

MINUTE = np.timedelta64(60, "s")
HOUR = np.timedelta64(3600, "s")
DAY = np.timedelta64(86_400, "s")
WEEK = np.timedelta64(604_800, "s")
MONDAY = np.datetime64("1970-01-05", "ns")  # weeks start on Monday, as on exchanges
LONGEST_HOLIDAY = np.timedelta64(16, "D")  # the Lunar New Year of 2020 closed Shanghai for 11 days
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EXAMPLES = "Sat-Sun, Fri 22:00-Sun 22:00, or 21:00-13:30 (every day)"
LONGEST_TEXT = 1000
MOST_ITEMS = 8  # of a pattern as text
MINUTES = 7 * 1440  # of a week
_ITEM = re.compile(r"(?:([a-z]{3})[a-z]*)?\s*(\d{1,2}:\d\d)?", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class MarketHours:
    """When a market is closed, on the grid of its bars.

    Parameters
    ----------
    starts, ends : array of datetime64[ns], shape (k,)
        Closed from ``starts[i]`` to before ``ends[i]``, in whole steps: no bar is expected to open there. Sorted, apart.
    step : timedelta64
        The grid's step.
    text : str
        The weekly pattern in UTC, such as ``Sat-Sun``; empty for a market that does not close.
    is_stated : bool
        True where a user stated the pattern, False where the bars show it.
    """

    starts: TimeArray
    ends: TimeArray
    step: np.timedelta64
    text: str = ""
    is_stated: bool = False

    @cached_property
    def _closed_before(self) -> Int64Array:
        return _sums_before((self.ends - self.starts) // self.step)

    @cached_property
    def _sessions_before(self) -> Int64Array:
        """The number of sessions (from one closed time to the next) before each; short remainders are not counted."""
        length = (self.starts[1:] - self.ends[:-1]).astype(np.int64)
        is_long = length >= np.median(length) / 2 if len(length) else np.zeros(0, dtype=bool)
        return _sums_before(is_long)

    def closed_bars(self, start: TimeArray, stop: TimeArray) -> Int64Array:
        """Return how many slots of the grid that open from ``start`` to before ``stop`` are closed."""
        return self._closed_until(stop) - self._closed_until(start)

    def _closed_until(self, time: TimeArray) -> Int64Array:
        if not len(self.starts):
            return np.zeros(len(time), dtype=np.int64)
        at = np.searchsorted(self.starts, time, side="right") - 1
        inside: npt.NDArray[np.timedelta64] = np.minimum(time, self.ends[at]) - self.starts[at]
        slots: Int64Array = -(-inside.astype(np.int64) // self.step.astype("timedelta64[ns]").astype(np.int64))
        closed: Int64Array = (self._closed_before[at] + slots) * (at >= 0)
        return closed

    def is_closed(self, time: TimeArray) -> BoolArray:
        """Return for each time whether it is in the closed hours."""
        at = np.searchsorted(self.starts, time, side="right") - 1
        return (at >= 0) & (time < self.ends[at]) if len(self.starts) else np.zeros(len(time), dtype=bool)

    def sessions(self, start: TimeArray, stop: TimeArray) -> Int64Array:
        """Return how many whole sessions lie from ``start`` to before ``stop``."""
        first = np.searchsorted(self.ends[:-1], start, side="left")
        last = np.searchsorted(self.starts[1:], stop, side="right")
        counted: Int64Array = self._sessions_before[last] - self._sessions_before[np.minimum(first, last)]
        return counted


def _sums_before(values: npt.NDArray[np.generic]) -> Int64Array:
    """Return the sum of the values before each, and of all."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values.astype(np.int64), out=sums[1:])
    return sums


class MissingRuns(NamedTuple):
    """Runs of missing bars outside of the closed hours, oldest first.

    Attributes
    ----------
    at : array of int, shape (k,)
        The position of the bar before each.
    missing : array of int64, shape (k,)
        How many bars are missing.
    first : array of datetime64[ns], shape (k,)
        The open time of the first one that is missing.
    days : array of int64, shape (k,)
        How many whole days or sessions are missing: holidays, or missing bars. 0 for a gap.
    """

    at: npt.NDArray[np.intp]
    missing: Int64Array
    first: TimeArray
    days: Int64Array

    @property
    def are_days(self) -> BoolArray:
        """For each run, whether it is of whole days in a market that closes, rather than a gap."""
        return self.days > 0

    @property
    def days_text(self) -> str:
        """A sentence about the days without bars, or empty."""
        days = int(self.days.sum())
        if not days:
            return ""
        first = np.datetime_as_string(self.first[self.are_days][0], unit="D")
        return f"{days:,} further day{'s' if days > 1 else ''} without bars: holidays, or missing; first {first}"

    def only(self, which: BoolArray) -> MissingRuns:
        """Return some of the runs."""
        return MissingRuns(self.at[which], self.missing[which], self.first[which], self.days[which])


def missing_runs(time: TimeArray, step: np.timedelta64, hours: MarketHours) -> MissingRuns:
    """Find the missing bars outside of closed hours.

    In a market that closes, a run that has a whole session in it, or 24 hours of a longer one (23 where summer time starts),
    and is not longer than `LONGEST_HOLIDAY`, is one of days without bars. In a market that never closes, every run is a gap.

    Parameters
    ----------
    time : array of datetime64[ns], shape (n,)
        Open times on the grid, strictly increasing.
    step : timedelta64
    hours : MarketHours
    """
    steps = np.diff(time) // step
    at = np.flatnonzero(steps > 1)
    start, stop = time[at] + step, time[at + 1]
    missing = steps[at].astype(np.int64) - 1
    first = start
    days = np.zeros(len(at), dtype=np.int64)
    if len(hours.starts) and len(at):
        missing -= hours.closed_bars(start, stop)
        within = np.maximum(0, np.searchsorted(hours.starts, start, side="right") - 1)
        first = np.where(hours.is_closed(start), hours.ends[within], start)
        days = np.maximum(hours.sessions(start, stop), (missing * step + HOUR) // DAY)
        days[stop - start > LONGEST_HOLIDAY] = 0
    kept = missing > 0
    return MissingRuns(at[kept], missing[kept], first[kept], days[kept])


def stated_hours(text: str, time: TimeArray, step: np.timedelta64) -> MarketHours:
    """Return the closed hours that a user states, for the weeks of the bars.

    A bar is closed if all of it is: a daily bar of Friday is not closed by ``Fri 22:00-Sun 22:00``, one of Saturday is.

    Parameters
    ----------
    text : str
        Days and times in UTC, several separated by commas: ``Sat-Sun``, ``Fri 22:00-Sun 22:00``, ``21:00-13:30`` (daily).
    time : array of datetime64[ns], shape (n,)
    step : timedelta64

    Raises
    ------
    UsageError
        For any other text, or one that leaves no open minute.
    """
    closed = _closed_minutes(text)
    first = (time[0] - MONDAY) // WEEK - 1
    weeks = int((time[-1] - MONDAY) // WEEK - first) + 2
    # One interval that goes past the end of the week is one, not two.
    bounds = np.flatnonzero(np.diff(np.concatenate([[closed[-1]], closed]).astype(np.int8)))
    bounds = bounds if closed[bounds[0]] else np.roll(bounds, -1)
    start, stop = bounds[::2], bounds[1::2]
    stop = np.where(stop <= start, stop + MINUTES, stop)
    monday = (MONDAY + (first + np.arange(weeks)) * WEEK.astype("timedelta64[ns]"))[:, None]
    starts, ends = ((monday + each * MINUTE).ravel() - time[0] for each in (start, stop))
    # Only whole bars: up to the next one's open time, down to the last one's end.
    starts, ends = -(-starts // step) * step + time[0], ends // step * step + time[0]
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    some = ends > starts
    return MarketHours(starts[some], ends[some], step, ", ".join(_items(text)), is_stated=True)


def _items(text: str) -> list[str]:
    return [" ".join(item.split()) for item in text.split(",")]


def _closed_minutes(text: str) -> BoolArray:
    """Return for each minute of a week from Monday whether it is closed."""
    closed = np.zeros(MINUTES, dtype=bool)
    for item in _items(text[:LONGEST_TEXT]):
        start, stop, is_daily = _interval(item)
        for day in range(7 if is_daily else 1):
            minutes = np.arange(start, stop if stop > start else stop + (1440 if is_daily else MINUTES)) + 1440 * day
            closed[minutes % MINUTES] = True
    if closed.all():
        raise UsageError(f"--closed-hours: {quoted_value(text)} leaves no open hour. Expected hours such as {EXAMPLES}.")
    return closed


def _interval(item: str) -> tuple[int, int, bool]:
    """Return an interval in minutes from Monday (or from midnight, if it is daily)."""
    parts = [_ITEM.fullmatch(part.strip()) for part in item.split("-")]
    moments: list[tuple[int | None, int | None]] = []
    for part in parts:
        if part is None or not part[0].strip():
            raise _unknown(item)
        day = None if part[1] is None else _day(item, part[0])
        moments.append((day, None if part[2] is None else _minute(item, part[2])))
    if len(moments) == 1 and moments[0][1] is None:
        moments *= 2
    if len(moments) != 2:
        raise _unknown(item)
    (first_day, start), (last_day, stop) = moments
    if first_day is None and last_day is None and start is not None and stop is not None and start % 1440 != stop % 1440:
        return start, stop, True
    if first_day is None or last_day is None or (start is None) != (stop is None):
        raise _unknown(item)
    if start is None or stop is None:
        return 1440 * first_day, 1440 * (last_day + 1) + (0 if last_day >= first_day else MINUTES), False
    first, last = 1440 * first_day + start, 1440 * last_day + stop
    if first % MINUTES == last % MINUTES:
        raise _unknown(item)
    return first, last, False


def _day(item: str, text: str) -> int:
    names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    word = re.sub(r"[^a-z]", "", text.lower())
    found = [number for number, name in enumerate(names) if name.startswith(word)]
    if not found:
        raise _unknown(item)
    return found[0]


def _minute(item: str, text: str) -> int:
    hour, minute = (int(each) for each in text.split(":"))
    if hour > 24 or minute > 59 or (hour == 24 and minute):
        raise _unknown(item)
    return 60 * hour + minute


def _unknown(item: str) -> UsageError:
    return UsageError(
        f"--closed-hours: expected days (Mon, Tue, Wed, Thu, Fri, Sat, Sun) and times in UTC, got {quoted_value(item)}. "
        f"Give hours such as {EXAMPLES}; separate several by commas."
    )


def weekly_text(closed: BoolArray, phase_minutes: int = 0) -> str:
    """Return a weekly pattern as text that `stated_hours` reads: a value per slot of a week, the first on Monday at the phase.

    Slots of less than a minute are described to the minute in which each starts.

    Examples
    --------
    >>> weekly_text(np.array([0, 0, 0, 0, 0, 1, 1], dtype=bool))
    'Sat-Sun'
    """
    minutes = (np.arange(MINUTES) - phase_minutes) % MINUTES * len(closed) // MINUTES
    per_minute: BoolArray = closed[minutes]
    every_day: BoolArray = np.logical_and.reduce(per_minute.reshape(7, 1440))
    items = [f"{_clock(start)}-{_clock(stop)}" for start, stop in _runs(every_day)]
    daily: BoolArray = np.tile(every_day, 7)
    for start, stop in _runs(per_minute):
        rest = np.arange(start, stop)
        rest = rest[~daily[rest % MINUTES]]
        if len(rest):  # not only a night: a weekend
            first, last = int(rest[0]) // 1440 * 1440, (int(rest[-1]) // 1440 + 1) * 1440
            is_days = every_day.any() and first >= start and last <= stop
            items.append(_weekly(first, last) if is_days else _weekly(start, stop))
    return ", ".join(items[:MOST_ITEMS]) + (", and more" if len(items) > MOST_ITEMS else "")


def _runs(closed: BoolArray) -> list[tuple[int, int]]:
    """Return the runs of True in a circle, as starts and ends; an end may lie beyond the last slot."""
    if closed.all() or not closed.any():
        return []
    change = np.diff(np.concatenate([[closed[-1]], closed]).astype(np.int8))
    starts, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    if ends[0] <= starts[0]:
        ends = np.concatenate([ends[1:], [ends[0] + len(closed)]])
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _clock(minute: int) -> str:
    minute %= 1440
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _weekly(start: int, stop: int) -> str:
    if start % 1440 == stop % 1440 == 0:
        first, last = DAYS[start // 1440 % 7], DAYS[(stop // 1440 - 1) % 7]
        return first if stop - start == 1440 else f"{first}-{last}"
    return f"{DAYS[start // 1440 % 7]} {_clock(start)}-{DAYS[stop // 1440 % 7]} {_clock(stop)}"
