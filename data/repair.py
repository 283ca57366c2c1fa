"""Fixes by name: each leaves rows out or sorts them, and every change is listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError, UsageError, check_choice
from .bars import COLUMNS, Bars, utc
from .check import CheckResult, RowNumbers, impossible, off_grid, repeats, undamaged, unfinished
from .formats.table import MIXED_UNITS, Table
from .readers import bars_from_table


class RepairResult(NamedTuple):
    """The bars after the fixes, and one line for each change."""

    bars: Bars
    changes: list[str]


def repair(examined: CheckResult, fixes: Sequence[str]) -> RepairResult:
    """Apply fixes to the rows that were read, in the order of `FIXES`; the file is not changed.

    Parameters
    ----------
    examined : CheckResult
    fixes : sequence of str
        Names in `FIXES`.

    Raises
    ------
    UsageError
        For an unknown name, or two fixes that contradict each other.
    DataError
        When the bars are still refused, with the remaining faults and their places.
    """
    for fix in fixes:
        check_choice("--fix", fix, FIXES)
    if "keep-first" in fixes and "keep-last" in fixes:
        raise UsageError("--fix: keep-first and keep-last contradict each other. Choose one.")
    changes: list[str] = []
    table = examined.table
    for name, apply in FIXES.items():
        if name in fixes:
            with np.errstate(over="ignore", invalid="ignore"):
                table = apply(table, examined, changes)
    left = [fault for fault in examined.faults.found.values() if FIX_OF_FAULT[fault.kind] not in fixes]
    if left:
        first = min(left, key=lambda fault: fault.row)
        raise DataError(
            f"{first.message} Nothing was written: add {FIX_OF_FAULT[first.kind]} to --fix ({len(left):,} such rows)."
        )
    return RepairResult(bars_from_table(table, examined.path.name), changes)


def _row(table: Table, row: int) -> str:
    values = ", ".join(f"{name} {float(table.values[name][row])!r}" for name in COLUMNS)
    stamp = table.time[row]
    return f"{'no time' if np.isnat(stamp) else utc(stamp)}, {values}"


def _line(table: Table, row: int) -> str:
    return f"{table.places.kind} {table.places.numbers[row]}"


def _without(table: Table, rows: RowNumbers, changes: list[str], why: str | Callable[[int], str]) -> Table:
    for row in sorted(rows.tolist(), key=lambda each: int(table.places.numbers[each])):
        reason = why if isinstance(why, str) else why(row)
        changes.append(f"{_line(table, row)}: left out, {reason} ({_row(table, row)})")
    return table.take(np.setdiff1d(np.arange(len(table.time)), rows))


def _convert_units(table: Table, examined: CheckResult, changes: list[str]) -> Table:
    rows = {fault.row for fault in examined.faults.found.values() if fault.kind == MIXED_UNITS}
    found = np.flatnonzero(np.isin(table.places.numbers, sorted(rows))).tolist()
    for row in sorted(found, key=lambda each: int(table.places.numbers[each])):
        changes.append(f"{_line(table, row)}: the time is converted from another unit, {utc(table.time[row])}")
    return table


def _drop_damaged(table: Table, examined: CheckResult, changes: list[str]) -> Table:
    kept = undamaged(table, examined.faults)
    damaged = np.flatnonzero(~np.isin(table.places.numbers, kept.places.numbers))
    found = examined.faults.found
    return _without(table, damaged, changes, lambda row: f"damaged: {found[int(table.places.numbers[row])].message}")


def _sort(table: Table, _: CheckResult, changes: list[str]) -> Table:
    order = np.argsort(table.time, kind="stable")
    for at in np.flatnonzero(order != np.arange(len(order))).tolist():
        changes.append(
            f"{_line(table, order[at])}: moved from place {order[at] + 1} to {at + 1} ({utc(table.time[order[at]])})"
        )
    return table.take(order)


def _drop_duplicates(table: Table, _: CheckResult, changes: list[str]) -> Table:
    later, earlier, agree = repeats(table)
    first = dict(zip(later.tolist(), earlier.tolist(), strict=True))
    return _without(table, later[agree], changes, lambda row: f"equal to {_line(table, first[row])}")


def _keep_first(table: Table, _: CheckResult, changes: list[str]) -> Table:
    return _keep(table, changes, keep_first=True)


def _keep_last(table: Table, _: CheckResult, changes: list[str]) -> Table:
    return _keep(table, changes, keep_first=False)


def _keep(table: Table, changes: list[str], *, keep_first: bool) -> Table:
    others, kept, _ = repeats(table, keep_first=keep_first)
    of = dict(zip(others.tolist(), kept.tolist(), strict=True))
    return _without(table, others, changes, lambda row: f"of the same time as {_line(table, of[row])}")


def _drop_impossible(table: Table, _: CheckResult, changes: list[str]) -> Table:
    return _without(table, impossible(table), changes, "an impossible price or volume")


def _drop_off_grid(table: Table, _: CheckResult, changes: list[str]) -> Table:
    return _without(table, off_grid(table), changes, "off the grid")


def _drop_unfinished(table: Table, examined: CheckResult, changes: list[str]) -> Table:
    sign = unfinished(table, examined.seen) if len(table.time) else None
    rows = np.array([np.argmax(table.time)]) if sign else np.array([], dtype=np.intp)
    return _without(table, rows, changes, f"suspected unfinished: {sign}")


FIXES: dict[str, Callable[[Table, CheckResult, list[str]], Table]] = {
    "convert-units": _convert_units,
    "drop-damaged": _drop_damaged,
    "sort": _sort,
    "drop-duplicates": _drop_duplicates,
    "keep-first": _keep_first,
    "keep-last": _keep_last,
    "drop-impossible": _drop_impossible,
    "drop-off-grid": _drop_off_grid,
    "drop-unfinished": _drop_unfinished,
}
FIX_OF_FAULT = {"damaged": "drop-damaged", MIXED_UNITS: "convert-units"}
