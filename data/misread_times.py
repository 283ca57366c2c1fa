"""Times that are read otherwise than they were meant: exchanged days and months, half a clock, and days of a zone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import TimeArray
from .bars import HOUR, seconds_text
from .explanation import REPETITIONS, Explanation
from .formats.table import Table
from .formats.time_zones import check_time_zone
from .row_faults import DAY, off_grid, step_of

_NOON = 12 * HOUR
_NOTHING = np.timedelta64(0)
_MOST_OF_A_MONTH = np.timedelta64(20, "D")
_FEWEST = 2  # leaps, or days of half a clock


def exchanged_days(table: Table) -> Explanation | None:
    """Return whether the rows are in order once day and month are exchanged wherever both may be a month.

    A spreadsheet, or a parser that takes each cell alone, reads 05/01/2024 as May and 13/01/2024 as January.
    """
    apart = np.diff(table.time)
    if (np.abs(apart) > _MOST_OF_A_MONTH).sum() < _FEWEST:
        return None
    other = np.diff(_exchanged(table.time))
    if not ((other > _NOTHING).all() or (other < _NOTHING).all()):
        return None
    leaps, others = _leaps(apart), _leaps(other)
    is_in_order = (apart > _NOTHING).all() or (apart < _NOTHING).all()
    if others * (4 if is_in_order else 1) >= leaps or (is_in_order and not _follows(table, np.abs(apart) > _MOST_OF_A_MONTH)):
        return None
    return Explanation(
        "day and month are exchanged in some dates",
        f"{leaps:,} distances between rows are not the commonest one; with day and month exchanged wherever the day is 12 or "
        f"less, the rows are in order, and {others:,} are not",
        "Export the bars again with dates such as 2024-01-31. If each cell is written with the day before the month, state it: "
        "--time-format '%Y-%d-%m %H:%M'.",
        (*REPETITIONS, "off-grid", "gaps", "jumps"),
    )


def _follows(table: Table, leaps: npt.NDArray[np.bool_]) -> bool:
    """Return whether prices change after a leap as they do within a bar, so that no time is missing there."""
    o, close = np.log(table.values["open"]), np.log(table.values["close"])
    return bool(np.median(np.abs(o[1:] - close[:-1])[leaps]) <= 2 * np.median(np.abs(close - o)))


def _exchanged(time: TimeArray) -> TimeArray:
    date, year = time.astype("datetime64[D]"), time.astype("datetime64[Y]")
    month = time.astype("datetime64[M]")
    day = (date - month.astype("datetime64[D]")).astype(np.int64)  # from 0
    months = (month - year.astype("datetime64[M]")).astype(np.int64)
    there = (year.astype("datetime64[M]") + day).astype("datetime64[D]") + months
    return np.where(day < 12, time + (there - date), time)


def _leaps(apart: npt.NDArray[np.timedelta64]) -> int:
    """Return how many distances are not the commonest one."""
    return len(apart) - int(np.unique(np.abs(apart), return_counts=True)[1].max())


def clock_of_12_hours(table: Table) -> Explanation | None:
    """Return whether the hours are those of a clock from 1 to 12 whose AM and PM are lost."""
    hours = (table.time - table.time.astype("datetime64[D]")) // HOUR
    if len(hours) < 2 or not ((hours >= 1) & (hours <= 12)).all():
        return None
    clock = np.where(hours == 12, table.time - _NOON, table.time)
    if not any(_is_half_a_clock(each) for each in (clock, clock[::-1])):
        return None
    return Explanation(
        "these are times of a clock of 12 hours without AM and PM",
        f"all hours are from 1 to 12, and the rows are in order if they begin again at noon, as after "
        f"{table.places.kind} {table.places.numbers[int(np.argmax(np.diff(table.time) < _NOTHING))]}",
        "Write hours from 0 to 23. If AM and PM are in another column, state both: --columns time=0+1, by their positions.",
        (*REPETITIONS, "gaps"),
    )


def _is_half_a_clock(clock: TimeArray) -> bool:
    """Return whether times of 0 to 11 o'clock are in order where each day's second half is 12 hours later."""
    days = clock.astype("datetime64[D]")
    is_new_day = np.diff(days) != _NOTHING
    noons = (np.diff(clock) < _NOTHING) & ~is_new_day
    counted = np.concatenate([[0], np.cumsum(noons)])
    first = np.flatnonzero(np.concatenate([[True], is_new_day]))
    halves = counted - np.repeat(counted[first], np.diff([*first, len(clock)]))
    of_days = int(noons.sum()) >= max(_FEWEST, len(first) / 2)
    return of_days and int(halves.max()) == 1 and bool((np.diff(clock + halves * _NOON) > _NOTHING).all())


def days_of_a_zone(table: Table) -> Explanation | None:
    """Return whether bars of a stated zone leave their grid in UTC, since its days are not all of 24 hours."""
    import pandas as pd

    step, zone = step_of(table.time), table.choice.time_zone
    if step is None or step <= HOUR or not zone:
        return None
    for stamps in (table.time, table.time + step):  # those of the bars' ends were converted before they were shifted
        local = pd.DatetimeIndex(stamps).tz_localize("UTC").tz_convert(check_time_zone(zone)).tz_localize(None)
        if not len(off_grid(table._replace(time=local.to_numpy().astype("datetime64[ns]")))):
            break
    else:
        return None
    off = f"{len(off_grid(table)):,} of {len(table.time):,} bars are off the grid of {seconds_text(step)} seconds in UTC"
    return Explanation(
        "these bars open at the same local time, and clocks change",
        f"{off}, and none is in the local time of {zone}",
        "Leave out --time-zone: bars of a day or more are read by their local dates."
        if step >= DAY
        else "Give bars of an hour or less: flagbt reads bars of one constant length.",
        ("off-grid", "gaps"),
    )
