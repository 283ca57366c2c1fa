"""Bars of markets that close: shares, forex, and what of them is missing."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from flagbt.arrays import TimeArray
from flagbt.data.bars import HOUR, Bars
from flagbt.data.reading import Reading


def bars_at(time: TimeArray, closed_hours: str | None = None, step: np.timedelta64 | None = None) -> Bars:
    """Return bars at these times, a random walk that starts again with each call."""
    random = np.random.default_rng(len(time))
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, len(time))))
    open_ = np.concatenate([[100.0], close[:-1]])
    return Bars(
        time,
        open_,
        1.01 * np.maximum(open_, close),
        0.99 * np.minimum(open_, close),
        close,
        random.lognormal(5, 1, len(time)),
        step=np.timedelta64("NaT") if step is None else step,
        reading=Reading(closed_hours=closed_hours),
    )


def hourly(start: str, days: int) -> TimeArray:
    """Return every hour of some days, as in a market that never closes."""
    return np.datetime64(start, "ns") + np.arange(24 * days) * HOUR


def shares(first: str, days: int, step_minutes: int, *, zone: str = "America/New_York", hours: tuple[str, ...]) -> TimeArray:
    """Return the open times of a market of shares, Monday to Friday, by its local hours such as ``09:30-16:00``, in UTC."""
    found = []
    for number in range(days):
        day = datetime.fromisoformat(first) + timedelta(days=number)
        if day.weekday() >= 5:
            continue
        for session in hours:
            start, stop = (datetime.fromisoformat(f"{day:%Y-%m-%d}T{each}") for each in session.split("-"))
            while start < stop:
                utc = start.replace(tzinfo=ZoneInfo(zone)).astimezone(ZoneInfo("UTC")).replace(tzinfo=None)
                found.append(np.datetime64(utc, "ns"))
                start += timedelta(minutes=step_minutes)
    return np.array(found)


def forex(first: str, weeks: int) -> TimeArray:
    """Return the hours from Sunday 17:00 to Friday 17:00 of New York, in UTC: they move with summer time."""
    time = hourly(first, 7 * weeks)
    local = [
        datetime.fromtimestamp(int(each), ZoneInfo("America/New_York")) for each in time.astype("datetime64[s]").astype(int)
    ]
    week_hour = np.array([24 * each.weekday() + each.hour for each in local])
    return time[(week_hour < 4 * 24 + 17) | (week_hour >= 6 * 24 + 17)]


def without(time: TimeArray, start: str, stop: str) -> TimeArray:
    """Return the times outside of an interval."""
    return time[(time < np.datetime64(start, "ns")) | (time >= np.datetime64(stop, "ns"))]
