"""ExchangeRows: bars as exchanges give them, before they enter a file: float64 (n, 6), milliseconds, then open .. volume."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..data.bars import COLUMNS, Bars, utc
from ..errors import DataError

ExchangeRows = npt.NDArray[np.float64]  # whole milliseconds up to the year 285,000 are exact
Hole = tuple[int, int]  # milliseconds, end exclusive

NO_ROWS: ExchangeRows = np.empty((0, 1 + len(COLUMNS)))


def rows_of(bars: Bars) -> ExchangeRows:
    """Return bars as rows."""
    time = bars.time.astype("datetime64[ms]").astype(np.int64).astype(np.float64)
    return np.column_stack([time, *(getattr(bars, name) for name in COLUMNS)])


def bars_of_rows(rows: ExchangeRows, step_ms: int, source: str) -> Bars:
    """Make Bars of rows.

    Raises
    ------
    DataError
        Of `Bars`.
    """
    time = rows[:, 0].astype(np.int64).astype("datetime64[ms]")
    open_, high, low, close, volume = rows[:, 1:].T
    return Bars(time, open_, high, low, close, volume, source=source, step=np.timedelta64(step_ms, "ms"))


def utc_ms(ms: float) -> str:
    """Write a time in milliseconds as ISO 8601."""
    return utc(np.datetime64(int(ms), "ms"))


def values_text(row: ExchangeRows) -> str:
    """Write a bar's values in full."""
    return ", ".join(f"{name} {float(value)!r}" for name, value in zip(COLUMNS, row[1:], strict=True))


def common(first: ExchangeRows, second: ExchangeRows) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions, in each of two sorted sets of rows, of the bars that both contain."""
    at = np.searchsorted(first[:, 0], second[:, 0])
    inside = np.flatnonzero(at < len(first))
    both = inside[first[at[inside], 0] == second[inside, 0]]
    return at[both], both


def disagreement(first: ExchangeRows, second: ExchangeRows) -> tuple[ExchangeRows, ExchangeRows] | None:
    """Return the first bar that two sorted sets of rows contain with different values; None where they agree."""
    here, there = common(first, second)
    differ = (first[here] != second[there]).any(axis=1)
    at = int(np.argmax(differ)) if differ.any() else -1
    return None if at < 0 else (first[here[at]], second[there[at]])


def without(rows: ExchangeRows, known: ExchangeRows) -> ExchangeRows:
    """Return the rows whose bars are not among the known ones."""
    _, there = common(known, rows)
    keep = np.ones(len(rows), dtype=bool)
    keep[there] = False
    return rows[keep]


def joined(pieces: list[ExchangeRows]) -> ExchangeRows:
    """Return all rows, sorted, each bar once.

    Raises
    ------
    DataError
        When a bar occurs twice, with different values.
    """
    rows = np.concatenate([NO_ROWS, *pieces])
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    repeated = np.flatnonzero(np.diff(rows[:, 0]) == 0)
    for at in repeated:
        if (rows[at] != rows[at + 1]).any():
            both = f"{values_text(rows[at])}, then with {values_text(rows[at + 1])}"
            raise DataError(f"the bar {utc_ms(rows[at, 0])} occurs twice, with {both}")
    return np.delete(rows, repeated, axis=0)


def holes(rows: ExchangeRows, start: int, stop: int, step_ms: int) -> list[Hole]:
    """Return the ranges of missing bars from ``start`` (inclusive) to ``stop`` (exclusive), oldest first.

    Examples
    --------
    >>> row = np.ones((3, 6)); row[:, 0] = [20, 30, 60]
    >>> holes(row, 0, 75, 10)
    [(0, 20), (40, 60), (70, 75)]
    >>> holes(row, 20, 65, 10)
    [(40, 60)]
    """
    if not len(rows):
        return [(start, stop)] if start < stop else []
    time = rows[:, 0].astype(np.int64)
    before = [(start, int(time[0]))] if time[0] - step_ms >= start else []
    at = np.flatnonzero(np.diff(time) > step_ms)
    inside = zip((time[at] + step_ms).tolist(), time[at + 1].tolist(), strict=True)
    clipped = [(max(lo, start), min(hi, stop)) for lo, hi in inside if lo < stop and hi > start]
    after = [(int(time[-1]) + step_ms, stop)] if time[-1] + step_ms < stop else []
    return [(lo, hi) for lo, hi in [*before, *clipped, *after] if lo < hi]
