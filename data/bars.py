"""Bars: immutable, validated hourly (or other regular) OHLCV. Invalid data is refused here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, JsonObject, TimeArray
from ..errors import DataError
from ..options import recorded
from .market_hours import DAY, DAYS, MONDAY, MarketHours, MissingRuns, missing_runs, stated_hours
from .market_hours import HOUR as HOUR
from .reading import AS_WRITTEN, Reading
from .recognised_hours import recognised_hours
from .time_range import TimeRange

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("open", "high", "low", "close", "volume")
YEAR = np.timedelta64(365, "D")


class Gap(NamedTuple):
    """Missing bars: the last bar before, the first bar after (open times, UTC), how many are missing."""

    before: np.datetime64
    after: np.datetime64
    missing: int

    def to_json(self) -> JsonObject:
        """Return the gap as JSON values."""
        return {"before": utc(self.before), "after": utc(self.after), "missing": self.missing}


class DaysWithoutBars(NamedTuple):
    """Whole days or sessions without bars, outside of a market's closed hours.

    Attributes
    ----------
    first, after : datetime64
        Open times, UTC, of the first missing bar and of the next one that is there.
    missing : int
        The number of missing bars.
    days : int
        The number of days, or of shorter sessions.
    """

    first: np.datetime64
    after: np.datetime64
    missing: int
    days: int

    def to_json(self) -> JsonObject:
        """Return the days as JSON values."""
        return {"first": utc(self.first), "after": utc(self.after), "missing": self.missing, "days": self.days}


def utc(stamp: np.datetime64) -> str:
    """Return a timestamp as ISO 8601 to the second in UTC, such as ``2024-01-01T00:00:00Z``."""
    return f"{np.datetime_as_string(stamp.astype('datetime64[s]'))}Z"


def seconds_text(step: np.timedelta64) -> str:
    """Return a length of time in seconds, such as ``3,600`` or ``0.25``."""
    value = float(step / np.timedelta64(1, "s"))
    return f"{int(value):,}" if value.is_integer() else f"{value:,.9g}"


@dataclass(frozen=True, eq=False)
class Bars:
    """A series of bars of one instrument, on a regular grid, possibly with gaps.

    Two Bars contain the same market data exactly when their ``digest`` is equal.

    Parameters
    ----------
    time : array of datetime64[ns], shape (n,)
        Each bar's OPEN time, UTC, strictly increasing, a whole number of steps after the first.
    open, high, low, close : array of float64, shape (n,)
        Prices in the quote currency, finite and above 0, ``low <= open, close <= high``.
    volume : array of float64, shape (n,)
        Base units, finite, 0 or more.
    source : str
        Origin of the bars, for messages and records (a file's name, not its path).
    synthetic : bool
        True for generated prices: everything computed from them is marked SYNTHETIC.
    step : timedelta64, optional
        The grid's step; by default the most frequent distance between neighbours (one hour for a single bar).
    reading : Reading
        What was stated about the file that they were read from, for records; its closed hours are those of the market.
    notes : tuple of str
        How the file was read, for records.

    Attributes
    ----------
    bars_per_year : float
        The number of bars in a year of 365 days, by the calendar of the series: number of bars * 365 days / (last open
        - first open + one step). A part from `take` keeps the value of the whole series.

    Raises
    ------
    DataError
        For any other input, naming the first invalid bar and the column. Nothing is repaired.
    """

    time: TimeArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    source: str = "bars"
    synthetic: bool = False
    step: np.timedelta64 = field(default=np.timedelta64("NaT"))
    reading: Reading = field(default=AS_WRITTEN, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    bars_per_year: float = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "time", _frozen(np.asarray(self.time).astype("datetime64[ns]")))
        for name in COLUMNS:
            put(self, name, _frozen(np.asarray(getattr(self, name), dtype=np.float64)))
        if len({len(getattr(self, name)) for name in ("time", *COLUMNS)}) != 1:
            raise DataError(f"{self.source}: the columns time, {', '.join(COLUMNS)} differ in length.")
        if len(self.time) == 0:
            raise DataError(f"{self.source}: there are no bars. Give a file with at least one row of data.")
        _check_order(self.time, self.source)
        if np.isnat(self.step):
            put(self, "step", commonest_step(self.time))
        put(self, "step", self.step.astype("timedelta64[ns]"))
        _check_grid(self.time, self.step, self.source)
        _check_prices(self)
        if self.reading.closed_hours is not None:
            _check_hours(self.time, self.market_hours, self.source)
        put(self, "bars_per_year", len(self) * float(YEAR / (self.end - self.time[0])))

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        what = "synthetic " if self.synthetic else ""
        return f"<Bars {self.source}: {len(self):,} {what}bars, {utc(self.time[0])} .. {utc(self.time[-1])}>"

    def __str__(self) -> str:
        return f"{self.source} ({len(self):,} bars, {utc(self.time[0])} .. {utc(self.time[-1])})"

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all timestamps and values, without the source's name."""
        sha = hashlib.sha256(b"flagbt bars 1")
        for name in ("time", *COLUMNS):
            sha.update(np.ascontiguousarray(getattr(self, name)).view(np.uint8).tobytes())
        return sha.hexdigest()

    @cached_property
    def market_hours(self) -> MarketHours:
        """When the market is closed: as stated, or as the bars show; a part from `take` has those of the whole series."""
        if self.reading.closed_hours is not None:
            return stated_hours(self.reading.closed_hours, self.time, self.step)
        return recognised_hours(self.time, self.step)

    @cached_property
    def missing(self) -> MissingRuns:
        """The missing bars outside of closed hours: `gaps`, and `days_without_bars`."""
        return missing_runs(self.time, self.step, self.market_hours)

    @property
    def gaps(self) -> list[Gap]:
        """Every run of missing bars, oldest first, without closed hours and whole days; ``missing`` counts the others."""
        runs = self.missing
        return [
            Gap(self.time[at], self.time[at + 1], missing)
            for at, missing, is_days in zip(runs.at.tolist(), runs.missing.tolist(), runs.are_days.tolist(), strict=True)
            if not is_days
        ]

    @property
    def days_without_bars(self) -> list[DaysWithoutBars]:
        """Whole days or sessions without bars in a market that closes: holidays, or missing bars; oldest first."""
        runs = self.missing.only(self.missing.are_days)
        rows = zip(runs.first, self.time[runs.at + 1], runs.missing.tolist(), runs.days.tolist(), strict=True)
        return [DaysWithoutBars(*row) for row in rows]

    @property
    def end(self) -> np.datetime64:
        """The time when the last bar closes."""
        return np.datetime64(self.time[-1] + self.step)

    def to_json(self) -> JsonObject:
        """Return the description of training bars that a checkpoint or a base stores."""
        return {**self.describe(), "bars": len(self)}

    def describe(self) -> JsonObject:
        """Return the description of the bars that all records share."""
        stated = {} if self.reading == AS_WRITTEN else {"reading": recorded(self.reading)}
        return {
            "source": self.source,
            "synthetic": self.synthetic,
            "digest": self.digest,
            "step_hours": self.step_hours,
            **stated,
        }

    def hours_json(self) -> JsonObject:
        """Return the closed hours and the days without bars as JSON values; nothing for a market that does not close."""
        if not self.market_hours.text:
            return {}
        return {
            "closed_hours": self.market_hours.text,
            "days_without_bars": [each.to_json() for each in self.days_without_bars],
        }

    @property
    def step_hours(self) -> float:
        """The grid's step in hours."""
        return float(self.step / HOUR)

    def frame(self) -> pd.DataFrame:
        """Return a fresh DataFrame with the UTC index ``time`` and the columns open .. volume.

        Its ``attrs`` keep the mark ``synthetic``, which pandas passes on to copies and parts of it.
        """
        import pandas as pd

        index = pd.DatetimeIndex(self.time, name="time").tz_localize("UTC")
        frame = pd.DataFrame({name: getattr(self, name) for name in COLUMNS}, index=index)
        frame.attrs["synthetic"] = self.synthetic
        return frame

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, source: str = "DataFrame", synthetic: bool = False, step: np.timedelta64 | None = None
    ) -> Bars:
        """Create Bars from a DataFrame with a DatetimeIndex (naive means UTC) of OPEN times."""
        import pandas as pd

        missing = [name for name in COLUMNS if name not in frame.columns]
        if missing or not isinstance(frame.index, pd.DatetimeIndex):
            raise DataError(
                f"{source}: expected a DatetimeIndex and the columns {', '.join(COLUMNS)}, "
                f"got the columns {', '.join(map(str, frame.columns))}."
            )
        index = frame.index.tz_convert("UTC").tz_localize(None) if frame.index.tz is not None else frame.index
        values: dict[str, Any] = {name: frame[name].to_numpy(dtype=np.float64) for name in COLUMNS}
        nat = np.timedelta64("NaT")
        return cls(index.to_numpy(), **values, source=source, synthetic=synthetic, step=nat if step is None else step)

    def position_of(self, stamp: np.datetime64) -> int:
        """Return the number of bars that open before ``stamp`` (the position of the first bar at or after it)."""
        return int(np.searchsorted(self.time, stamp.astype("datetime64[ns]"), side="left"))

    def between(self, timerange: TimeRange) -> slice:
        """Return the positions of the bars whose open time is in the range (end exclusive); it may be empty."""
        start = 0 if timerange.start is None else self.position_of(timerange.start)
        stop = len(self) if timerange.stop is None else self.position_of(timerange.stop)
        return slice(start, max(start, stop))

    def take(self, part: slice) -> Bars:
        """Return the bars at the positions ``part`` (at least one, contiguous), with the same step, year, hours and source."""
        columns = {name: getattr(self, name)[part] for name in COLUMNS}
        taken = Bars(
            self.time[part],
            **columns,
            source=self.source,
            synthetic=self.synthetic,
            step=self.step,
            reading=self.reading,
            notes=self.notes,
        )
        for name in ("bars_per_year", "market_hours"):
            object.__setattr__(taken, name, getattr(self, name))
        return taken


def _frozen(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    values = values.copy()
    values.setflags(write=False)
    return values


def commonest_step(time: TimeArray) -> np.timedelta64:
    """Return the most frequent distance between neighbours, the shortest if tied; an hour for a single bar."""
    if len(time) == 1:
        return HOUR
    steps, counts = np.unique(np.diff(time), return_counts=True)
    return np.timedelta64(steps[np.argmax(counts)])


def _check_order(time: TimeArray, source: str) -> None:
    if np.isnat(time).any():
        raise DataError(f"{source}: the bar number {int(np.argmax(np.isnat(time))) + 1} has no timestamp.")
    steps = np.diff(time)
    if (steps > np.timedelta64(0)).all():
        return
    at = int(np.argmax(steps <= np.timedelta64(0)))
    here, next_ = utc(time[at]), utc(time[at + 1])
    if here == next_:
        raise DataError(f"{source}: the time {here} occurs twice (bars {at + 1} and {at + 2}). Remove one of them.")
    raise DataError(
        f"{source}: bars are out of order: bar {at + 2} ({next_}) comes after bar {at + 1} ({here}). "
        "Sort the file by time, oldest first."
    )


def _check_grid(time: TimeArray, step: np.timedelta64, source: str) -> None:
    off = (time - time[0]) % step != np.timedelta64(0)
    if off.any():
        at = int(np.argmax(off))
        raise DataError(
            f"{source}: bar {at + 1} opens at {utc(time[at])}, off the grid of {seconds_text(step)} "
            f"seconds that starts at {utc(time[0])} ({int(off.sum()):,} such bars). "
            "Missing bars are allowed, shifted bars are not: fetch or resample the series onto one grid."
        )


def _check_hours(time: TimeArray, hours: MarketHours, source: str) -> None:
    """Refuse bars in stated closed hours: the hours are wrong, or the times are of another zone."""
    inside = hours.is_closed(time)
    if inside.any():
        at = int(np.argmax(inside))
        day = DAYS[int((time[at] - MONDAY) // DAY) % 7]
        raise DataError(
            f"{source}: bar {at + 1} opens at {utc(time[at])}, a {day}, in the stated closed hours {hours.text} "
            f"({int(inside.sum()):,} such bars). The hours are in UTC, all year: state only those that never have a bar, or "
            "give --time-zone if the file's times are not UTC."
        )


def _check_prices(bars: Bars) -> None:
    for name in COLUMNS:
        values = getattr(bars, name)
        bad = ~np.isfinite(values) | (values < 0) | ((values == 0) & (name != "volume"))
        _refuse(bars, bad, f"{name} is {{{name}}}", "a finite number above 0" if name != "volume" else "0 or more")
    _refuse(bars, bars.high < bars.low, "high {high} is below low {low}", "high >= low")
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    _refuse(bars, bars.high < top, "high {high} is below open {open} or close {close}", "low <= open, close <= high")
    _refuse(bars, bars.low > bottom, "low {low} is above open {open} or close {close}", "low <= open, close <= high")


def _refuse(bars: Bars, bad: npt.NDArray[np.bool_], fault: str, expected: str) -> None:
    if bad.any():
        at = int(np.argmax(bad))
        # All digits: with six, 73777.01 and 73777.02 would look equal.
        values = {name: repr(float(getattr(bars, name)[at])) for name in COLUMNS}
        raise DataError(
            f"{bars.source}: bar {at + 1} ({utc(bars.time[at])}): {fault.format(**values)}, expected {expected} "
            f"({int(bad.sum()):,} such bars). flagbt repairs nothing: fix the file or fetch it again."
        )
