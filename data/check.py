"""Problems in the rows of a file of bars; nothing is changed.

Every kind of problem has, in `REMEDIES`, a fix of `data/repair.py` or advice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import JsonObject, TimeArray
from ..errors import DataError
from .bars import COLUMNS, HOUR, Bars, commonest_step, utc
from .formats.table import DAMAGED, MIXED_UNITS, Faults, Table, shown
from .market_hours import missing_runs, stated_hours
from .readers import bars_from_table, is_newest_first, read_table, reversed_rows
from .reading import AS_WRITTEN, Reading
from .recognised_hours import recognised_hours

RowNumbers = npt.NDArray[np.intp]
DAY = np.timedelta64(86_400, "s")
QUIET_SHARE = 0.05  # of the median volume of the last week of bars; below it, the last bar may be unfinished
QUIET_BARS = 168
PERPETUAL_STEP = 0.001  # base units, the volume step of Binance's perpetuals of BTC and ETH
PERPETUAL_WORTH = 1.0  # quote units; volume steps of spot markets are worth far less
FEWEST_VOLUMES = 24
JUMP = 1.5  # the largest hourly moves of BTC/USDT were 20 %
_PERPETUAL_NAME = re.compile(r"perp|swap|futures|(?<![a-z])um(?![a-z])|usdt[_-]usdt|usd[_-]m(?![a-z])", re.IGNORECASE)
_PERPETUAL_COLUMN = re.compile(r"funding|open[ _]?interest|mark[ _]?price|index[ _]?price", re.IGNORECASE)


class Remedy(NamedTuple):
    """The available fixes, advice, and whether the file is refused until the problem is fixed."""

    fixes: tuple[str, ...]
    message: str
    refused: bool


REMEDIES = {
    "damaged": Remedy(("drop-damaged",), "Fix the cells or fetch the file again; drop-damaged leaves these rows out.", True),
    "mixed-units": Remedy(("convert-units",), "convert-units writes all timestamps in one unit, detected by their size.", True),
    "out-of-order": Remedy(("sort",), "sort puts the rows in the order of time.", True),
    "duplicates": Remedy(("drop-duplicates",), "drop-duplicates keeps one of each: they are equal.", True),
    "disagreeing": Remedy(
        ("keep-first", "keep-last"),
        "Check which are right: keep-first keeps the upper one in the file, keep-last the lower.",
        True,
    ),
    "impossible": Remedy(("drop-impossible",), "Fetch these bars again; drop-impossible leaves them out, as gaps.", True),
    "off-grid": Remedy(
        ("drop-off-grid",),
        "Fetch the bars again: shifting a timestamp would move a price in time. drop-off-grid leaves these out, as gaps.",
        True,
    ),
    "unfinished": Remedy(("drop-unfinished",), "drop-unfinished leaves it out; a later fetch gets the finished bar.", False),
    "gaps": Remedy(
        (),
        "Fetch what the exchange has. flagbt fills nothing; an outage stays a gap, and runs continue after it. If the market "
        "is closed then each week, state it: --closed-hours 'Fri 22:00-Sun 22:00'.",
        False,
    ),
    "jumps": Remedy(
        (), "A price rarely halves within a bar: compare with another source; if it is wrong, remove the line.", False
    ),
    "zero-volume": Remedy((), "No trades: such bars may stay, but no order would have been filled at their price.", False),
    "perpetual": Remedy(
        (), "If you mean the spot market, fetch it: a perpetual's price differs, and funding is not included.", False
    ),
    "refused": Remedy((), "Fix the file, or fetch it again.", True),
}


@dataclass(frozen=True)
class Problem:
    """A kind of problem with its count, a description, and the first places."""

    kind: str
    count: int
    message: str
    where: tuple[str, ...] = ()

    @property
    def remedy(self) -> Remedy:
        """The remedy for this kind of problem."""
        return REMEDIES[self.kind]

    def to_json(self) -> JsonObject:
        """Return the problem as JSON values."""
        return {
            "kind": self.kind,
            "count": self.count,
            "refused": self.remedy.refused,
            "message": self.message,
            "where": list(self.where),
            "fixes": list(self.remedy.fixes),
            "remedy": self.remedy.message,
        }


@dataclass(frozen=True)
class CheckResult:
    """A file's table and faults, its bars if the file is accepted, and its problems in the order of `REMEDIES`."""

    path: Path
    table: Table
    faults: Faults
    bars: Bars | None
    problems: tuple[Problem, ...]
    seen: np.datetime64

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
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # prices may be anything here
        problems = [*_fault_problems(faults, table), *_row_problems(undamaged(table, faults), path, seen, reading)]
    bars = None
    if not any(problem.remedy.refused for problem in problems):
        try:
            bars = bars_from_table(table, path.name, reading)
        except DataError as error:
            problems.append(Problem("refused", 1, str(error)))
    order = list(REMEDIES)
    return CheckResult(path, table, faults, bars, tuple(sorted(problems, key=lambda each: order.index(each.kind))), seen)


# --- one function per kind of problem; data/repair.py uses the same ones -----------------------------------------------


def undamaged(table: Table, faults: Faults) -> Table:
    """Return the rows without a damaged cell."""
    damaged = [row for row, fault in faults.found.items() if fault.kind == DAMAGED]
    return table.take(np.flatnonzero(~np.isin(table.places.numbers, damaged))) if damaged else table


def step_of(time: TimeArray) -> np.timedelta64 | None:
    """Return the most frequent distance between different times, or None for fewer than two."""
    unique = np.unique(time)
    return commonest_step(unique) if len(unique) > 1 else None


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


def off_grid(table: Table) -> RowNumbers:
    """Return the rows off the grid: the grid from midnight UTC if any bar is on it, else the grid of most bars."""
    step = step_of(table.time)
    if step is None:
        return np.array([], dtype=np.intp)
    phase = table.time.astype(np.int64) % step.astype(np.int64)
    phases, counts = np.unique(phase, return_counts=True)
    on = 0 if 0 in phases and DAY % step == np.timedelta64(0) else phases[np.argmax(counts)]
    return np.flatnonzero(phase != on)


def jumps(table: Table) -> RowNumbers:
    """Return the rows whose high is more than `JUMP` times their low, or whose open is as far from the previous close."""
    step = step_of(table.time)
    o, high, low, close, _ = (table.values[name] for name in COLUMNS)
    far = high > JUMP * low
    if step is not None:
        order = np.argsort(table.time, kind="stable")
        next_, before = order[1:], order[:-1]
        ratio = o[next_] / close[before]
        adjacent = table.time[next_] - table.time[before] == step
        far[next_] |= adjacent & ((ratio > JUMP) | (ratio < 1 / JUMP))
    return np.flatnonzero(far)


def unfinished(table: Table, seen: np.datetime64) -> str | None:
    """Return why the newest bar may be unfinished, or None."""
    step = step_of(table.time)
    if step is None:
        return None
    at = int(np.argmax(table.time))
    end = table.time[at] + step
    if end > seen:
        return f"the bar of {utc(table.time[at])} ends at {utc(end)}, but the file was written by {utc(seen)}"
    volume = table.values["volume"]
    before = volume[np.argsort(table.time)][:-1][-QUIET_BARS:]
    before = before[np.isfinite(before)]
    if len(before) >= FEWEST_VOLUMES and volume[at] < min(QUIET_SHARE * float(np.median(before)), before.min()):
        return (
            f"the bar of {utc(table.time[at])} has a volume of {volume[at]:g}, below each of the {len(before)} bars before it "
            f"and below {100 * QUIET_SHARE:g} % of their median, {np.median(before):g}"
        )
    return None


def perpetual_signs(table: Table, path: Path) -> list[str]:
    """Return the signs that the bars are those of a perpetual future."""
    signs = []
    if found := _PERPETUAL_NAME.search(path.name):
        signs.append(f"the file's name contains {shown(found[0])}")
    signs += [f"it has a column {shown(name)}" for name in table.ignored if _PERPETUAL_COLUMN.search(name)][:3]
    volume, close = table.values["volume"], table.values["close"]
    traded = volume[np.isfinite(volume) & (volume > 0)]
    price = float(np.median(close[np.isfinite(close)])) if np.isfinite(close).any() else 0.0
    for step in (1.0, PERPETUAL_STEP):
        counts = traded / step
        whole = np.abs(counts - np.round(counts)) < 1e-6 * np.maximum(1, np.abs(counts) * 1e-9)
        if len(np.unique(traded)) >= FEWEST_VOLUMES and whole.all() and step * price >= PERPETUAL_WORTH:
            signs.append(
                f"all volumes are whole multiples of {step:g}, worth {step * price:.4g} in quote currency, as for contracts; "
                "spot markets have smaller steps"
            )
            break
    return signs


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
            problems.append(Problem(kind, len(found), min(found, key=lambda fault: fault.row).message, where))
    return problems


def _row_problems(table: Table, path: Path, seen: np.datetime64, reading: Reading) -> list[Problem]:
    if not len(table.time):
        return [Problem("refused", 1, "no row is complete")]
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
    add("impossible", impossible(table), "bars have an impossible price or volume (NaN, 0 or less, high below low)")
    step = step_of(table.time)
    rows = off_grid(table)
    if step is not None and len(rows):
        first = utc(table.time[np.sort(rows)[0]])
        add("off-grid", rows, f"bars open off the grid of {int(step / np.timedelta64(1, 's')):,} seconds, the first at {first}")

    # 3. Suspicions, which are not faults
    if sign := unfinished(table, seen):
        add("unfinished", np.array([np.argmax(table.time)]), sign)
    problems += _gap_problems(np.unique(table.time), step, reading)
    add("jumps", jumps(table), f"prices change by a factor of more than {JUMP:g}, within a bar or from the previous one")
    add("zero-volume", np.flatnonzero(table.values["volume"] == 0), "bars have a volume of 0")
    if not table.synthetic and (signs := perpetual_signs(table, path)):
        problems.append(Problem("perpetual", len(signs), "; ".join(signs)))
    return problems


def _gap_problems(time: TimeArray, step: np.timedelta64 | None, reading: Reading) -> list[Problem]:
    """Return the gaps outside of a market's closed hours, which the bars show or the user states."""
    if step is None:
        return []
    stated = reading.closed_hours
    hours = recognised_hours(time, step) if stated is None else stated_hours(stated, time, step)
    runs = missing_runs(time, step, hours)
    holes = runs.only(~runs.are_days)
    if not len(holes.at):
        return []
    longest = int(np.argmax(holes.missing))
    total, most = int(holes.missing.sum()), int(holes.missing[longest])
    outside = f" outside of the closed hours ({hours.text})" if hours.text else ""
    message = f"{total:,} bars are missing{outside}; the longest gap is of {most:,} after {utc(time[holes.at[longest]])}"
    return [Problem("gaps", len(holes.at), message, tuple(f"after {utc(time[at])}" for at in holes.at[:5].tolist()))]


def _difference(table: Table, row: int, other: int) -> str:
    name = next(name for name in COLUMNS if table.values[name][row] != table.values[name][other])
    here, there = (float(table.values[name][each]) for each in (row, other))
    numbers = table.places.numbers
    return f"{name} is {there!r} in {table.places.kind} {numbers[other]} and {here!r} in {table.places.kind} {numbers[row]}"
