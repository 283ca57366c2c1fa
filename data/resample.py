"""Bars of a longer step from bars of a shorter one, on UTC boundaries; a bucket with a missing bar is dropped.

Closed hours are not missing (`flagbt.data.market_hours`), nor are whole days without bars in a bucket of more than a day.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ..arrays import Int64Array, JsonObject, TimeArray
from ..errors import DataError, UsageError
from .bars import HOUR, Bars, utc
from .market_hours import DAY, MONDAY

_TIMEFRAME = re.compile(r"([1-9]\d{0,4})(m|h|d|w)", re.ASCII)
_SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Bucket(NamedTuple):
    """A bucket that lacks bars: its open time, how many of its bars exist, and how many should, closed hours aside."""

    time: np.datetime64
    there: int
    of: int

    def to_json(self) -> JsonObject:
        """Return the bucket as JSON values."""
        return {"time": utc(self.time), "there": self.there, "of": self.of}


class ResampleResult(NamedTuple):
    """The longer bars; the buckets that are dropped; those that are kept without whole days. Oldest first."""

    bars: Bars
    dropped: list[Bucket]
    without_days: list[Bucket]

    @property
    def buckets(self) -> int:
        """The number of all buckets with a bar."""
        return len(self.bars) + len(self.dropped)


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
        Only buckets without a missing bar; the others are in ``dropped``. Bars of closed hours are not missing. In buckets of
        more than a day, whole days without bars (holidays, or missing) are not either, and are listed in ``without_days``.
        *Causality: a bucket contains the bars that open from its start to before its end, and closes with the last one.*

    Raises
    ------
    DataError
        When the step is not a multiple, a bar lies across a boundary, or fewer than two buckets are complete.
    """
    of = int(step / bars.step)
    if of * bars.step != step or of < 2:
        raise DataError(
            f"{bars.source}: bars of {bars.step_hours:g} h cannot be joined into bars of {step / HOUR:g} h. "
            "Give a whole multiple, at least twice as long."
        )
    _check_boundaries(bars, step)
    number = (bars.time - MONDAY) // step
    starts = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
    counts = np.diff([*starts, len(bars)])
    opens = MONDAY + number[starts] * step.astype("timedelta64[ns]")
    expected = _slots(bars, opens, opens + step)
    absent = _days_before(bars, opens + step) - _days_before(bars, opens) if step > DAY else np.zeros_like(expected)
    complete = counts == expected - absent
    lacking = [Bucket(*row) for row in zip(opens, counts.tolist(), expected.tolist(), strict=True)]
    dropped = [lacking[at] for at in np.flatnonzero(~complete).tolist()]
    without_days = [lacking[at] for at in np.flatnonzero(complete & (absent > 0)).tolist()]
    if complete.sum() < 2:
        closed = " If the market is closed at night or on weekends, state it with --closed-hours." if bars.gaps else ""
        raise DataError(
            f"{bars.source}: fewer than two buckets of {of} bars are complete. Give more bars, or a shorter timeframe.{closed}"
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
    return ResampleResult(joined, dropped, without_days)


def _check_boundaries(bars: Bars, step: np.timedelta64) -> None:
    """Refuse bars across the boundaries of buckets; in a market that closes, bars need only be within their bucket."""
    since = bars.time - MONDAY
    if (since[0] % bars.step) == np.timedelta64(0):
        return
    across = since % step + bars.step > step
    if across.any() or not bars.market_hours.text:
        at = int(np.argmax(across))
        raise DataError(
            f"{bars.source}: the bars open off the UTC boundaries of their step (the first at {utc(bars.time[0])}), so "
            f"{'the bar of ' + utc(bars.time[at]) + ' lies in two buckets' if across.any() else 'buckets would lack a part'}. "
            "Fetch bars that open on these boundaries, or give a longer timeframe."
        )


def _slots(bars: Bars, start: TimeArray, stop: TimeArray) -> Int64Array:
    """Return how many bars should open from ``start`` to before ``stop``, closed hours aside."""
    first, last = (-((bars.time[0] - each) // bars.step) for each in (start, stop))
    slots: Int64Array = last - first - bars.market_hours.closed_bars(start, stop)
    return slots


def _days_before(bars: Bars, time: TimeArray) -> Int64Array:
    """Return how many bars of whole days without bars are missing before each time."""
    runs = bars.missing.only(bars.missing.are_days)
    if not len(runs.at):
        return np.zeros(len(time), dtype=np.int64)
    start, stop = bars.time[runs.at] + bars.step, bars.time[runs.at + 1]
    run = np.searchsorted(start, time, side="right") - 1
    before = np.concatenate([[0], np.cumsum(runs.missing)])
    within = _slots(bars, start[run], np.minimum(time, stop[run]))
    days: Int64Array = np.where(run < 0, 0, before[run] + within)
    return days
