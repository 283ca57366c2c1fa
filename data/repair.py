"""Fixes by name: each leaves rows out or sorts them, and every change is listed. What a fix would do is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..arrays import JsonObject
from ..errors import DataError, UsageError, check_choice
from .bars import COLUMNS, Bars, utc
from .formats.table import MIXED_UNITS, Table
from .readers import bars_from_table
from .row_faults import RowNumbers, impossible, off_grid, repeats, undamaged, unfinished

if TYPE_CHECKING:
    from .check import CheckResult

LARGE_SHARE = 0.01  # of the bars; a fix that leaves out more is offered with its number


class FixStep(NamedTuple):
    """The rows after a fix, and its changes, written only where they are wanted."""

    table: Table
    changes: Callable[[], list[str]]


class FixOutcome(NamedTuple):
    """What a fix would do after those before it: the rows that it would leave out, and of how many."""

    fix: str
    left_out: int
    of: int

    @property
    def is_large(self) -> bool:
        """Whether it would leave out more than one bar in a hundred."""
        return self.left_out > LARGE_SHARE * self.of


class FixesOutcome(NamedTuple):
    """What some fixes would do together: each one's outcome, and the number of bars, or None if they would be refused."""

    steps: tuple[FixOutcome, ...]
    bars: int | None

    @property
    def fixes(self) -> tuple[str, ...]:
        """The fixes, in the order in which they are applied."""
        return tuple(step.fix for step in self.steps)

    @property
    def total(self) -> FixOutcome:
        """The rows that all would leave out together, of those in the file."""
        return FixOutcome(",".join(self.fixes), sum(step.left_out for step in self.steps), self.steps[0].of)

    def to_json(self) -> JsonObject:
        """Return the outcome as JSON values."""
        total = self.total
        return {"fixes": list(self.fixes), "would_drop": {"bars": total.left_out, "of": total.of}, "bars": self.bars}


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
    for step in _steps(examined, fixes):
        changes += step.changes()
        table = step.table
    _check_faults(examined, fixes)
    return RepairResult(bars_from_table(table, examined.path.name, examined.reading), changes)


def outcome_of(examined: CheckResult, fixes: Sequence[str]) -> FixesOutcome:
    """Return what fixes would do together, in the order of `FIXES`, without listing their changes."""
    table, done = examined.table, []
    names = [name for name in FIXES if name in fixes]
    for name, step in zip(names, _steps(examined, fixes), strict=True):
        before, table = len(table.time), step.table
        done.append(FixOutcome(name, before - len(table.time), before))
    try:
        _check_faults(examined, fixes)
        bars: int | None = len(bars_from_table(table, examined.path.name, examined.reading))
    except DataError:
        bars = None
    return FixesOutcome(tuple(done), bars)


def _steps(examined: CheckResult, fixes: Sequence[str]) -> Iterator[FixStep]:
    table = examined.table
    for name, apply in FIXES.items():
        if name in fixes:
            with np.errstate(over="ignore", invalid="ignore"):
                step = apply(table, examined)
            table = step.table
            yield step


def _check_faults(examined: CheckResult, fixes: Sequence[str]) -> None:
    left = [fault for fault in examined.faults.found.values() if FIX_OF_FAULT[fault.kind] not in fixes]
    if left:
        first = min(left, key=lambda fault: fault.row)
        raise DataError(
            f"{first.message} Nothing was written: add {FIX_OF_FAULT[first.kind]} to --fix ({len(left):,} such rows)."
        )


def _row(table: Table, row: int) -> str:
    values = ", ".join(f"{name} {float(table.values[name][row])!r}" for name in COLUMNS)
    stamp = table.time[row]
    return f"{'no time' if np.isnat(stamp) else utc(stamp)}, {values}"


def _line(table: Table, row: int) -> str:
    return f"{table.places.kind} {table.places.numbers[row]}"


def _without(table: Table, rows: RowNumbers, why: Callable[[int], str]) -> FixStep:
    def changes() -> list[str]:
        found = sorted(rows.tolist(), key=lambda each: int(table.places.numbers[each]))
        return [f"{_line(table, row)}: left out, {why(row)} ({_row(table, row)})" for row in found]

    is_kept = np.ones(len(table.time), dtype=np.bool_)
    is_kept[rows] = False
    return FixStep(table.take(np.flatnonzero(is_kept)), changes)


def _convert_units(table: Table, examined: CheckResult) -> FixStep:
    def changes() -> list[str]:
        rows = {fault.row for fault in examined.faults.found.values() if fault.kind == MIXED_UNITS}
        found = np.flatnonzero(np.isin(table.places.numbers, sorted(rows))).tolist()
        return [
            f"{_line(table, row)}: the time is converted from another unit, {utc(table.time[row])}"
            for row in sorted(found, key=lambda each: int(table.places.numbers[each]))
        ]

    return FixStep(table, changes)


def _drop_damaged(table: Table, examined: CheckResult) -> FixStep:
    kept = undamaged(table, examined.faults)
    damaged = np.flatnonzero(~np.isin(table.places.numbers, kept.places.numbers))
    found = examined.faults.found
    return _without(table, damaged, lambda row: f"damaged: {found[int(table.places.numbers[row])].message}")


def _sort(table: Table, _: CheckResult) -> FixStep:
    order = np.argsort(table.time, kind="stable")

    def changes() -> list[str]:
        return [
            f"{_line(table, order[at])}: moved from place {order[at] + 1} to {at + 1} ({utc(table.time[order[at]])})"
            for at in np.flatnonzero(order != np.arange(len(order))).tolist()
        ]

    return FixStep(table.take(order), changes)


def _drop_duplicates(table: Table, _: CheckResult) -> FixStep:
    later, earlier, agree = repeats(table)
    first = dict(zip(later.tolist(), earlier.tolist(), strict=True))
    return _without(table, later[agree], lambda row: f"equal to {_line(table, first[row])}")


def _keep(table: Table, _: CheckResult, *, keep_first: bool) -> FixStep:
    others, kept = repeats(table, keep_first=keep_first)[:2]
    of = dict(zip(others.tolist(), kept.tolist(), strict=True))
    return _without(table, others, lambda row: f"of the same time as {_line(table, of[row])}")


def _drop_impossible(table: Table, _: CheckResult) -> FixStep:
    return _without(table, impossible(table), lambda _: "an impossible price or volume")


def _drop_off_grid(table: Table, _: CheckResult) -> FixStep:
    return _without(table, off_grid(table), lambda _: "off the grid")


def _drop_unfinished(table: Table, examined: CheckResult) -> FixStep:
    sign = unfinished(table, examined.seen) if len(table.time) else None
    rows = np.array([np.argmax(table.time)]) if sign else np.array([], dtype=np.intp)
    return _without(table, rows, lambda _: f"suspected unfinished: {sign}")


FIXES: dict[str, Callable[[Table, CheckResult], FixStep]] = {
    "convert-units": _convert_units,
    "drop-damaged": _drop_damaged,
    "sort": _sort,
    "drop-duplicates": _drop_duplicates,
    "keep-first": partial(_keep, keep_first=True),
    "keep-last": partial(_keep, keep_first=False),
    "drop-impossible": _drop_impossible,
    "drop-off-grid": _drop_off_grid,
    "drop-unfinished": _drop_unfinished,
}
FIX_OF_FAULT = {"damaged": "drop-damaged", MIXED_UNITS: "convert-units"}
