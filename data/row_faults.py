"""Rows that break a rule, one function for each kind of problem, for the check, the fixes and the explanations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import TimeArray
from .bars import COLUMNS, commonest_step, utc
from .formats.table import DAMAGED, Faults, Table

RowNumbers = npt.NDArray[np.intp]
DAY = np.timedelta64(86_400, "s")
QUIET_SHARE = 0.05  # of the median volume of the last week of bars; below it, the last bar may be unfinished
QUIET_BARS = 168
FEWEST_VOLUMES = 24
JUMP = 1.5  # the largest hourly moves of BTC/USDT were 20 %


def undamaged(table: Table, faults: Faults) -> Table:
    """Return the rows without a damaged cell."""
    damaged = [row for row, fault in faults.found.items() if fault.kind == DAMAGED]
    return table.take(np.flatnonzero(~np.isin(table.places.numbers, damaged))) if damaged else table


def step_of(time: TimeArray) -> np.timedelta64 | None:
    """Return the most frequent distance between different times, or None for fewer than two."""
    different = distinct(time)
    return commonest_step(different) if len(different) > 1 else None


def distinct(time: TimeArray) -> TimeArray:
    """Return the different times that are known, oldest first: np.unique takes ten times as long for a million."""
    ordered = np.sort(time[~np.isnat(time)])
    is_new = np.append(True, np.diff(ordered) != np.timedelta64(0))
    different: TimeArray = ordered[is_new[: len(ordered)]]
    return different


def repeats(table: Table, *, keep_first: bool = True) -> tuple[RowNumbers, RowNumbers, npt.NDArray[np.bool_]]:
    """Return the rows that repeat a time, the row to keep (the first in the file, or the last), and whether they agree."""
    numbers = np.asarray(table.places.numbers)
    order = np.lexsort((numbers if keep_first else -numbers, table.time))
    _, first = np.unique(table.time[order], return_index=True)
    leader = order[np.repeat(first, np.diff([*first, len(order)]))]
    repeated = order != leader
    others, kept = order[repeated], leader[repeated]
    agree = np.ones(len(others), dtype=bool)
    for column in table.values.values():
        agree &= (column[others] == column[kept]) | (np.isnan(column[others]) & np.isnan(column[kept]))
    return others, kept, agree


def impossible(table: Table) -> RowNumbers:
    """Return the rows with impossible values: not finite, not above 0, high below low, open or close outside."""
    o, high, low, close, volume = (table.values[name] for name in COLUMNS)
    fine = np.ones(len(table.time), dtype=bool)
    for price in (o, high, low, close):
        fine &= np.isfinite(price) & (price > 0)
    fine &= np.isfinite(volume) & (volume >= 0)
    fine &= (high >= np.maximum(o, close)) & (low <= np.minimum(o, close))
    return np.flatnonzero(~fine)


def without_prices(table: Table) -> RowNumbers:
    """Return the rows whose four prices are all 0, or all not a number."""
    prices = np.array([table.values[name] for name in COLUMNS if name != "volume"])
    return np.flatnonzero((prices == 0).all(axis=0) | np.isnan(prices).all(axis=0))


def off_grid(table: Table) -> RowNumbers:
    """Return the rows off the grid: the grid from midnight UTC if any bar is on it, else the grid of most bars."""
    step = step_of(table.time)
    if step is None:
        return np.array([], dtype=np.intp)
    phase = table.time.astype(np.int64) % step.astype(np.int64)
    phases, counts = np.unique(phase, return_counts=True)
    on = 0 if 0 in phases and DAY % step == np.timedelta64(0) else phases[np.argmax(counts)]
    return np.flatnonzero(phase != on)


def jumps(table: Table) -> tuple[RowNumbers, float]:
    """Return the rows whose high is more than `JUMP` times their low, or whose open is as far from the previous close.

    The largest such factor follows; it is 1 where there are none. A price of 0 is impossible and has no factor.
    """
    step = step_of(table.time)
    o, high, low, close, _ = (table.values[name] for name in COLUMNS)
    factor = high / low
    if step is not None:
        order = np.argsort(table.time, kind="stable")
        next_, before = order[1:], order[:-1]
        ratio = o[next_] / close[before]
        ratio = np.maximum(ratio, 1 / ratio)
        adjacent = table.time[next_] - table.time[before] == step
        factor[next_] = np.fmax(factor[next_], np.where(adjacent, ratio, 1.0))
    rows = np.flatnonzero((factor > JUMP) & np.isfinite(factor))
    return rows, float(factor[rows].max(initial=1.0))


def unfinished(table: Table, seen: np.datetime64) -> str | None:
    """Return why the newest bar may be unfinished, or None."""
    step = step_of(table.time)
    if step is None:
        return None
    at = int(np.argmax(table.time))
    end = table.time[at] + step
    if end > seen:
        early = " (complete if its market closes earlier in the day)" if step >= DAY else ""
        return f"the bar of {utc(table.time[at])} ends at {utc(end)}, but the file was written by {utc(seen)}{early}"
    volume = table.values["volume"]
    before = volume[np.argsort(table.time)][:-1][-QUIET_BARS:]
    before = before[np.isfinite(before)]
    if len(before) >= FEWEST_VOLUMES and volume[at] < min(QUIET_SHARE * float(np.median(before)), before.min()):
        return (
            f"the bar of {utc(table.time[at])} has a volume of {volume[at]:g}, below each of the {len(before)} bars before it "
            f"and below {100 * QUIET_SHARE:g} % of their median, {np.median(before):g}"
        )
    return None
