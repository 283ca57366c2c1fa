"""Problems in the rows of a file of bars; nothing is changed.

Every kind of problem has, in `REMEDIES`, a fix of `data/repair.py` or advice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..arrays import JsonObject
from ..errors import DataError
from .bars import COLUMNS, HOUR, Bars, seconds_text, utc
from .explanation import Explanation
from .explanations import explained, most_damaged
from .formats.table import DAMAGED, MIXED_UNITS, Faults, Table
from .gap_explanations import perhaps_nights, perhaps_weekends, times_without_trades
from .market_hours import missing_runs, stated_hours
from .perpetual import perpetual_signs
from .readers import LISTED_BY_CHECK, bars_from_table, is_newest_first, read_table, reversed_rows
from .reading import AS_WRITTEN, Reading
from .recognised_hours import recognised_hours
from .repair import FixesOutcome, FixOutcome, outcome_of
from .row_faults import (
    JUMP,
    RowNumbers,
    distinct,
    impossible,
    jumps,
    off_grid,
    repeats,
    step_of,
    undamaged,
    unfinished,
    without_prices,
)

FEWEST_BARS = 2  # left by fixes; one bar is not a series


class Remedy(NamedTuple):
    """Advice, the fixes with what each does, and whether the file is refused until the problem is fixed."""

    message: str
    fixes: dict[str, str]
    refused: bool


REMEDIES = {
    "damaged": Remedy("Fix the cells or fetch the file again.", {"drop-damaged": "leaves out these rows"}, True),
    "mixed-units": Remedy(
        "A file has its timestamps in one unit.", {"convert-units": "writes all in one, detected by their size"}, True
    ),
    "out-of-order": Remedy("Bars are read oldest first.", {"sort": "puts the rows in the order of time"}, True),
    "duplicates": Remedy("Each time has one bar.", {"drop-duplicates": "keeps one of each and leaves out these rows"}, True),
    "disagreeing": Remedy(
        "Check which are right.",
        {
            "keep-first": "keeps the upper one in the file and leaves out these rows",
            "keep-last": "keeps the lower one and leaves out these rows",
        },
        True,
    ),
    "impossible": Remedy("Fetch these bars again.", {"drop-impossible": "leaves out these bars, as gaps"}, True),
    "off-grid": Remedy(
        "Fetch the bars again: shifting a timestamp would move a price in time.",
        {"drop-off-grid": "leaves out these bars, as gaps"},
        True,
    ),
    "unfinished": Remedy("A later fetch gets the finished bar.", {"drop-unfinished": "leaves out this one"}, False),
    "gaps": Remedy(
        "Fetch what the exchange has. flagbt fills nothing; an outage stays a gap, and runs continue after it.", {}, False
    ),
    "jumps": Remedy(
        "A price rarely changes so much within a bar: compare with another source, and if it is wrong, remove the line. For "
        "shares, use prices that are adjusted for splits.",
        {},
        False,
    ),
    "zero-volume": Remedy("No trades: such bars may stay, but no order would have been filled at their price.", {}, False),
    "perpetual": Remedy(
        "If you mean the spot market, fetch it: a perpetual's price differs, and funding is not included.", {}, False
    ),
    "refused": Remedy("Fix the file, or fetch it again.", {}, True),
}


@dataclass(frozen=True)
class Problem:
    """A kind of problem with its count, a description, and the first places.

    ``explanation`` is what explains it better than single bad rows: no fix is offered then. ``offered`` are the fixes that
    lead to a file that is read, with what each would leave out.
    """

    kind: str
    count: int
    message: str
    where: tuple[str, ...] = ()
    explanation: Explanation | None = None
    offered: tuple[FixOutcome, ...] = ()

    @property
    def remedy(self) -> Remedy:
        """The remedy for this kind of problem."""
        return REMEDIES[self.kind]

    @property
    def advice(self) -> str:
        """What to do, with the offered fixes and what they leave out where that is more than a few bars."""
        if self.explanation is not None:
            return str(self.explanation)
        return " ".join([self.remedy.message, *(f"{each.fix} {self._effect(each)}." for each in self.offered)])

    def _effect(self, outcome: FixOutcome) -> str:
        text = self.remedy.fixes[outcome.fix]
        if not outcome.is_large:
            return text
        return text.replace("leaves out these", f"would leave out {outcome.left_out:,} of {outcome.of:,}")

    def to_json(self) -> JsonObject:
        """Return the problem as JSON values."""
        return {
            "kind": self.kind,
            "count": self.count,
            "refused": self.remedy.refused,
            "message": self.message,
            "where": list(self.where),
            "fixes": [each.fix for each in self.offered],
            "remedy": self.advice,
            "would_drop": {each.fix: {"bars": each.left_out, "of": each.of} for each in self.offered},
            "explanation": None if self.explanation is None else self.explanation.to_json(),
        }


@dataclass(frozen=True)
class CheckResult:
    """A file's table and faults, its bars if the file is accepted, and its problems in the order of `REMEDIES`.

    ``offer`` are all offered fixes together, with what is left: None where there is nothing to fix, or no way to.
    """

    path: Path
    table: Table
    faults: Faults
    bars: Bars | None
    problems: tuple[Problem, ...]
    seen: np.datetime64
    reading: Reading
    offer: FixesOutcome | None = None

    def to_json(self) -> JsonObject:
        """Return the result as JSON values."""
        time = self.table.time[~np.isnat(self.table.time)]
        step = step_of(time)
        bars = self.bars
        return {
            "source": self.path.name,
            "format": self.table.format,
            "notes": list(self.table.notes),
            "ignored_columns": list(self.table.ignored),
            "synthetic": self.table.synthetic,
            "rows": len(self.table.time),
            "first": utc(time.min()) if len(time) else None,
            "last": utc(time.max()) if len(time) else None,
            "step_hours": None if step is None else float(step / HOUR),
            "readable": bars is not None,
            "digest": None if bars is None else bars.digest,
            "gaps": [] if bars is None else [gap.to_json() for gap in bars.gaps],
            **({} if bars is None else bars.hours_json()),
            "problems": [problem.to_json() for problem in self.problems],
            "offer": None if self.offer is None else self.offer.to_json(),
        }


def check_table(path: str | Path, reading: Reading = AS_WRITTEN, *, now: datetime | None = None) -> CheckResult:
    """Check a file of bars.

    Parameters
    ----------
    path : str or Path
    reading : Reading
        What the file does not show.
    now : datetime, optional
        The current time, to detect an unfinished bar; by default the computer's clock.

    Raises
    ------
    DataError
        When the file cannot be read as a table: without a header, cut off, beyond the limits.
    """
    path = Path(path)
    faults = Faults(strict=False, name=path.name)
    table = read_table(path, faults, reading)
    if is_newest_first(undamaged(table, faults).time):
        table = reversed_rows(table)
    seen = _seen(path, now or datetime.now(UTC))
    rows = undamaged(table, faults)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # prices may be anything here
        problems = _explained([*_fault_problems(faults, table), *_row_problems(rows, path, seen, reading)], rows)
    bars = None
    if not any(problem.remedy.refused for problem in problems):
        try:
            bars = bars_from_table(table, path.name, reading)
        except DataError as error:
            problems.append(Problem("refused", 1, str(error).removesuffix(LISTED_BY_CHECK).strip()))
    order = list(REMEDIES)
    problems.sort(key=lambda each: order.index(each.kind))
    return _with_offer(CheckResult(path, table, faults, bars, tuple(problems), seen, reading))


# --- problems --------------------------------------------------------------------------------------------------------


def _seen(path: Path, now: datetime) -> np.datetime64:
    """Return the time when the file existed already: its modification time, unless the clock is before it."""
    stamp = min(path.stat().st_mtime, now.timestamp())
    return np.datetime64(int(stamp * 1000), "ms")


def _where(table: Table, rows: RowNumbers) -> tuple[str, ...]:
    numbers = np.asarray(table.places.numbers)
    return tuple(f"{table.places.kind} {number}" for number in np.sort(numbers[rows])[:5].tolist())


def _fault_problems(faults: Faults, table: Table) -> list[Problem]:
    problems = []
    for kind in (DAMAGED, MIXED_UNITS):
        found = sorted(fault for fault in faults.found.values() if fault.kind == kind)
        if found:
            where = tuple(f"{table.places.kind} {fault.row}" for fault in found[:5])
            message = min(found, key=lambda fault: fault.row).message
            why = most_damaged(found, len(table.time)) if kind == DAMAGED else None
            problems.append(Problem(kind, len(found), message, where, why))
    return problems


def _row_problems(table: Table, path: Path, seen: np.datetime64, reading: Reading) -> list[Problem]:
    if not len(table.time):
        return []  # all are damaged
    problems: list[Problem] = []

    def add(kind: str, rows: RowNumbers, message: str) -> None:
        if len(rows):
            problems.append(Problem(kind, len(rows), message, _where(table, rows)))

    # 1. Order and repetitions
    add("out-of-order", np.flatnonzero(np.diff(table.time) < np.timedelta64(0)) + 1, "rows are older than the row above them")
    others, kept, agree = repeats(table)
    add("duplicates", others[agree], "rows repeat the time and the values of a row above them")
    differing = others[~agree]
    if len(differing):
        example = _difference(table, int(differing[0]), int(kept[~agree][0]))
        add("disagreeing", differing, f"rows repeat the time of a row above them with different values: {example}")

    # 2. Values and the grid
    rows, empty = impossible(table), without_prices(table)
    what = "bars have an impossible price or volume (NaN, 0 or less, high below low)"
    only_empty = "rows have no prices (all 0 or NaN), as is usual for days and intervals without trades"
    add("impossible", rows, only_empty if len(rows) == len(empty) else what)
    step = step_of(table.time)
    rows = off_grid(table)
    if step is not None and len(rows):
        first = utc(table.time[np.sort(rows)[0]])
        add("off-grid", rows, f"bars open off the grid of {seconds_text(step)} seconds, the first at {first}")

    # 3. Suspicions, which are not faults
    if sign := unfinished(table, seen):
        add("unfinished", np.array([np.argmax(table.time)]), sign)
    problems += _gap_problems(table, step, reading)
    rows, largest = jumps(table)
    change = f"prices change by a factor of more than {JUMP:g}, within a bar or from the previous one"
    add("jumps", rows, f"{change}; the largest factor is {largest:.3g}")
    add("zero-volume", np.flatnonzero(table.values["volume"] == 0), "bars have a volume of 0")
    if not table.synthetic and (signs := perpetual_signs(table, path)):
        problems.append(Problem("perpetual", len(signs), "; ".join(signs)))
    return problems


def _gap_problems(table: Table, step: np.timedelta64 | None, reading: Reading) -> list[Problem]:
    """Return the gaps outside of a market's closed hours, which the bars show or the user states."""
    if step is None:
        return []
    time, stated = distinct(table.time), reading.closed_hours
    hours = recognised_hours(time, step) if stated is None else stated_hours(stated, time, step)
    runs = missing_runs(time, step, hours)
    holes = runs.only(~runs.are_days)
    if not len(holes.at):
        return []
    longest = int(np.argmax(holes.missing))
    total, most = int(holes.missing.sum()), int(holes.missing[longest])
    outside = f" outside of the closed hours ({hours.text})" if hours.text else ""
    bars = "1 bar is" if total == 1 else f"{total:,} bars are"
    message = f"{bars} missing{outside}; the longest gap is of {most:,} after {utc(time[holes.at[longest]])}"
    where = tuple(f"after {utc(time[at])}" for at in holes.at[:5].tolist())
    why = None
    if not hours.text:
        why = perhaps_weekends(time, step, holes) or perhaps_nights(time, step, holes)
        why = why or times_without_trades(time, holes, float((table.values["volume"] == 0).mean()))
    return [Problem("gaps", len(holes.at), message, where, why)]


def _difference(table: Table, row: int, other: int) -> str:
    name = next(name for name in COLUMNS if table.values[name][row] != table.values[name][other])
    here, there = (float(table.values[name][each]) for each in (row, other))
    numbers = table.places.numbers
    return f"{name} is {there!r} in {table.places.kind} {numbers[other]} and {here!r} in {table.places.kind} {numbers[row]}"


# --- what to do ------------------------------------------------------------------------------------------------------


def _explained(problems: list[Problem], table: Table) -> list[Problem]:
    """Return the problems with what explains them; gaps in rows that are not bars of one length are not reported."""
    kinds = {problem.kind for problem in problems}
    found = explained(table, kinds) if len(table.time) else ()
    by_kind = {kind: each for each in reversed(found) for kind in each.kinds}
    refused = {kind for kind in kinds if REMEDIES[kind].refused}
    is_refused = bool(refused & set(by_kind))
    if refused:  # bars may be missing only because their rows are bad
        problems = [replace(each, explanation=None) if each.kind == "gaps" else each for each in problems]
    return [
        replace(problem, explanation=by_kind.get(problem.kind, problem.explanation))
        for problem in problems
        if not (problem.kind == "gaps" and "gaps" in by_kind and is_refused)
    ]


def _with_offer(examined: CheckResult) -> CheckResult:
    """Return the result with the fixes that lead to a file that is read, once their outcome is computed."""
    problems = examined.problems
    stuck = any(each.remedy.refused and (each.explanation or not each.remedy.fixes) for each in problems)
    fixes = [fix for each in problems if each.explanation is None for fix in each.remedy.fixes]
    if stuck or not fixes:
        return examined
    first = last = outcome_of(examined, [fix for fix in fixes if fix != "keep-last"])
    if "keep-last" in fixes:
        last = outcome_of(examined, [fix for fix in fixes if fix != "keep-first"])
    if first.bars is None or last.bars is None or min(first.bars, last.bars) < FEWEST_BARS:
        return examined
    outcomes = {step.fix: step for step in (*first.steps, *last.steps)}
    offered = [
        each if each.explanation else replace(each, offered=tuple(outcomes[fix] for fix in each.remedy.fixes))
        for each in problems
    ]
    return replace(examined, problems=tuple(offered), offer=first)
