"""Bars of a longer step from bars of a shorter one, on UTC boundaries; a bucket with a missing bar is dropped."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ..errors import DataError, UsageError
from .bars import HOUR, Bars, utc

_TIMEFRAME = re.compile(r"([1-9]\d{0,4})(m|h|d|w)", re.ASCII)
_SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_MONDAY = np.datetime64("1970-01-05", "ns")  # weeks start on Monday, as on exchanges


class DroppedBucket(NamedTuple):
    """A dropped bucket: its open time, and how many of its bars exist."""

    time: np.datetime64
    there: int
    of: int


class ResampleResult(NamedTuple):
    """The longer bars, and the dropped buckets, oldest first."""

    bars: Bars
    dropped: list[DroppedBucket]


def timeframe(text: str) -> np.timedelta64:
    """Read a timeframe such as ``15m``, ``4h``, ``1d`` or ``1w``: a part of a day, a day, or a week.

    Raises
    ------
    UsageError
        For anything else.

    Examples
    --------
    >>> str(timeframe("4h"))
    '14400 seconds'
    """
    found = _TIMEFRAME.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not seconds or (86_400 % seconds and seconds != 604_800):
        raise UsageError(
            f"--timeframe: expected minutes or hours that divide a day, 1d or 1w (such as 15m, 4h, 1d), got '{text}'. "
            "Others have no fixed position in a day."
        )
    return np.timedelta64(seconds, "s")


def resample(bars: Bars, step: np.timedelta64) -> ResampleResult:
    """Join bars into buckets that start at whole steps of UTC: first open, highest high, lowest low, last close, sum of volume.

    Parameters
    ----------
    bars : Bars
    step : timedelta64
        A whole multiple of the bars' step, from `timeframe`.

    Returns
    -------
    ResampleResult
        Only buckets without a missing bar; the others are in ``dropped``.
        *Causality: a bucket contains the bars that open from its start to before its end, and closes with the last one.*

    Raises
    ------
    DataError
        When the step is not a multiple, the bars are off the UTC boundaries, or fewer than two buckets are complete.
    """
    of = int(step / bars.step)
    if of * bars.step != step or of < 2:
        raise DataError(
            f"{bars.source}: bars of {bars.step_hours:g} h cannot be joined into bars of {step / HOUR:g} h. "
            "Give a whole multiple, at least twice as long."
        )
    since = bars.time - _MONDAY
    if (since[0] % bars.step) != np.timedelta64(0):
        raise DataError(
            f"{bars.source}: the bars open off the UTC boundaries of their step (the first at {utc(bars.time[0])}), so no "
            "bucket starts with a bar. Fetch bars that open on these boundaries."
        )
    number = since // step
    starts = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
    counts = np.diff([*starts, len(bars)])
    complete = counts == of
    opens = _MONDAY + number[starts] * step.astype("timedelta64[ns]")
    dropped = [DroppedBucket(opens[at], int(counts[at]), of) for at in np.flatnonzero(~complete).tolist()]
    if complete.sum() < 2:
        raise DataError(
            f"{bars.source}: fewer than two buckets of {of} bars are complete. Give more bars, or a shorter timeframe."
        )
    with np.errstate(over="ignore"):  # Bars refuses values that are not finite
        volume = np.add.reduceat(bars.volume, starts)
    columns = {
        "open": bars.open[starts],
        "high": np.maximum.reduceat(bars.high, starts),
        "low": np.minimum.reduceat(bars.low, starts),
        "close": bars.close[starts + counts - 1],
        "volume": volume,
    }
    kept = {name: column[complete] for name, column in columns.items()}
    joined = Bars(opens[complete], **kept, source=bars.source, synthetic=bars.synthetic, step=step)
    return ResampleResult(joined, dropped)
