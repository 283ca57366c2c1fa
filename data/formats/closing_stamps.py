"""Stamps of the bars' ends: 08:59:59.999 for the bar that opens at 08:00."""

from __future__ import annotations

import numpy as np

from ...arrays import TimeArray
from ..row_faults import step_of

_NOTHING = np.timedelta64(0, "ns")
_BEFORE_THE_END = [np.timedelta64(1, unit).astype("timedelta64[ns]") for unit in ("ns", "us", "ms", "s")]
_SECOND, _MINUTE, _DAY, _WEEK = (np.timedelta64(1, unit).astype("timedelta64[ns]") for unit in ("s", "m", "D", "W"))


def are_closing(time: TimeArray) -> bool:
    """Return whether every stamp is the same 1 ns, 1 us, 1 ms or 1 s before a whole step since midnight UTC.

    The step is the commonest distance between two rows, up to one week: whole minutes, or a few seconds where the stamps are
    less than a second before. Blank stamps do not count; one bar has no step, so it is not known to be stamped at its end.

    Examples
    --------
    >>> are_closing(np.array(["2024-01-01T08:59:59.999", "2024-01-01T09:59:59.999"], dtype="datetime64[ns]"))
    True
    """
    known = time[~np.isnat(time)]
    before = max(_before_the_end(known[:1], whole) for whole in (_SECOND, _MINUTE))
    if before == _NOTHING:  # nearly all files, without sorting them
        return False
    step = step_of(known)
    whole = _SECOND if before < _SECOND and step is not None and step < _MINUTE else _MINUTE
    if step is None or step % whole != _NOTHING or step > _WEEK or (_DAY % step != _NOTHING and step % _DAY != _NOTHING):
        return False
    return bool(_before_the_end(known, step) > _NOTHING)


def open_times(time: TimeArray, step: np.timedelta64) -> TimeArray:
    """Return the open times of bars that are stamped at their ends, exactly or as `are_closing` recognises; NaT stays NaT.

    Examples
    --------
    >>> stamps = np.array(["2024-01-01T08:59:59.999", "2024-01-01T09:59:59.999"], dtype="datetime64[ns]")
    >>> open_times(stamps, np.timedelta64(1, "h")).astype("datetime64[m]").tolist()[0].hour
    8
    """
    return time + _before_the_end(time[~np.isnat(time)], step) - step


def _before_the_end(known: TimeArray, step: np.timedelta64) -> np.timedelta64:
    """Return how long before a whole step all stamps are; 0 where that is none of the usual distances."""
    since_midnight = known.astype("datetime64[ns]") - np.datetime64(0, "ns")
    whole = min(step, _DAY)
    return next(
        (each for each in _BEFORE_THE_END if each < whole and ((since_midnight + each) % whole == _NOTHING).all()), _NOTHING
    )
