"""Local time in stamps without an offset: clocks repeat an hour in autumn and skip one in spring, each zone at its own hour."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple
from zoneinfo import ZoneInfoNotFoundError

import numpy as np

from ..arrays import Int64Array, TimeArray
from .bars import HOUR, utc

# The commonest zones first; the clocks of those in one line change at the same local hour.
CLOCK_CHANGES = (
    ("America/New_York", "America/Chicago", "America/Los_Angeles"),
    ("Europe/London", "Europe/Lisbon"),
    ("Europe/Berlin", "Europe/Paris", "Europe/Madrid"),
    ("Europe/Athens", "Europe/Helsinki", "Europe/Kyiv"),
    ("Australia/Sydney", "Australia/Adelaide"),
    ("America/Santiago",),
    ("Pacific/Auckland",),
    ("America/Havana",),
    ("America/Sao_Paulo",),
    ("Asia/Beirut",),
    ("Asia/Jerusalem",),
    ("Asia/Tehran",),
    ("Africa/Cairo",),
)
_MOST_HOURS = 1_000_000  # of bars of an hour, more than a century


class ClockChange(NamedTuple):
    """Zones whose changes of the clocks a series without offsets shows, and the local hours that it lacks or has twice."""

    zones: tuple[str, ...]
    springs: TimeArray
    autumns: TimeArray

    @property
    def evidence(self) -> str:
        """The first such hour, in words."""
        if len(self.springs):
            first = utc(self.springs[0]).removesuffix("Z")
            return f"every hour that clocks skip in spring is missing, the first at {first}"
        return f"the hour that clocks repeat in autumn is there twice, at {utc(self.autumns[0]).removesuffix('Z')}"


def clock_change(time: TimeArray) -> ClockChange | None:
    """Return the change of the clocks that stamps without an offset show; None where they show none.

    Parameters
    ----------
    time : array of datetime64[ns]
        In any order. Bars longer than an hour show nothing.
    """
    ordered = np.sort(time)
    steps = np.diff(ordered)
    apart = steps[steps > np.timedelta64(0)]
    if not len(apart) or not np.timedelta64(0) < (step := np.median(apart.astype(np.int64)).astype("timedelta64[ns]")) <= HOUR:
        return None
    # 1. The hours that are there twice, and those that are missing between two bars
    repeated = np.unique(ordered[1:][steps == np.timedelta64(0)].astype("datetime64[h]"))
    before = ordered[:-1][steps == step + HOUR]
    missing = (before + step).astype("datetime64[h]")
    hours = np.unique(ordered.astype("datetime64[h]"))
    if not (len(repeated) or len(missing)) or len(hours) > _MOST_HOURS:
        return None
    # 2. A zone fits if no bar lies in an hour that its clocks skip, and most of the repeated hours are those that they repeat
    for zones in CLOCK_CHANGES:
        springs, autumns = _not_local(missing, zones[0], skipped=True), _not_local(repeated, zones[0], skipped=False)
        if not (len(springs) or len(autumns)) or 2 * len(autumns) < len(repeated):
            continue
        if not len(_not_local(hours, zones[0], skipped=True)):
            return ClockChange(zones, springs, autumns)
    return None


def zones_of_grid(time: TimeArray, step: np.timedelta64, *, is_local: bool) -> tuple[str, ...]:
    """Return the zones whose changes of the clocks explain that bars longer than an hour leave their grid, three at most.

    Parameters
    ----------
    time : array of datetime64[ns]
    step : timedelta64
        The distance between the bars.
    is_local : bool
        True: find the zones in whose local time the stamps are written, so that they are on one grid in UTC. False: the stamps
        are UTC, and are on one grid in the local time of the zones.
    """
    import pandas as pd

    if step <= HOUR or len(set(_phases(time, step)[:1_000].tolist())) > 3:
        return ()
    stamps = pd.DatetimeIndex(time)
    is_summer = np.ones(len(time), dtype=np.bool_)
    found: dict[str, bool] = {}  # by zone, whether its grid has midnight
    for zone in (zone for zones in CLOCK_CHANGES for zone in zones):
        with suppress(ZoneInfoNotFoundError):
            if is_local:
                there = stamps.tz_localize(zone, nonexistent="shift_forward", ambiguous=is_summer).tz_convert("UTC")
            else:
                there = stamps.tz_localize("UTC").tz_convert(zone)
            phases = _phases(there.tz_localize(None).to_numpy(), step)
            if (phases == phases[0]).all():
                found[zone] = bool(phases[0] == 0)
    return tuple(sorted(found, key=lambda zone: not found[zone])[:3])


def _phases(time: TimeArray, step: np.timedelta64) -> Int64Array:
    phases: Int64Array = time.astype("datetime64[ns]").astype(np.int64) % step.astype("timedelta64[ns]").astype(np.int64)
    return phases


def _not_local(hours: TimeArray, zone: str, *, skipped: bool) -> TimeArray:
    """Return the local hours that a zone's clocks skip, or those that they repeat; none where its rules are unknown."""
    import pandas as pd

    index = pd.DatetimeIndex(hours.astype("datetime64[s]"))
    is_summer = np.ones(len(hours), dtype=np.bool_)
    with suppress(ZoneInfoNotFoundError):  # a machine without a database of time zones
        if skipped:
            there = index.tz_localize(zone, nonexistent="NaT", ambiguous=is_summer)
        else:
            there = index.tz_localize(zone, nonexistent="shift_forward", ambiguous="NaT")
        found: TimeArray = index[there.isna()].to_numpy().astype("datetime64[ns]")
        return found
    return np.zeros(0, dtype="datetime64[ns]")
