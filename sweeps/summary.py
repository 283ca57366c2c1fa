"""The summary of a sweep's table, read row group by row group: the best settings, and means for the heat map."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from ..arrays import FloatArray, JsonValue
from ..options import OptionValue
from .axes import axis_title, value_text
from .grid import Grid
from .sweep_record import TableRow, number_in

if TYPE_CHECKING:
    import pyarrow as pa

MOST_SHOWN = 100
MOST_CELLS_A_SIDE = 41
MOST_SAMPLED = 300
MEASURES = ("sharpe_daily", "total_return", "mcc", "share_sell", "share_hold", "share_buy")


@dataclass(frozen=True)
class Side:
    """One side of the heat map: its title, the labels of its cells, and the cell of each value.

    ``centres`` are the mean values of the cells, if the values are numbers.
    """

    title: str
    labels: tuple[str, ...]
    cell_of: dict[JsonValue, int]
    centres: tuple[float, ...] = ()

    @classmethod
    def of(cls, title: str, values: Iterable[OptionValue]) -> Side:
        """Assign each value to a cell; neighbours share a cell if there are too many values."""
        each = list(values)
        n = min(len(each), MOST_CELLS_A_SIDE)
        cells = [i * n // len(each) for i in range(len(each))]
        groups: list[list[OptionValue]] = [[] for _ in range(n)]
        for value, cell in zip(each, cells, strict=True):
            groups[cell].append(value)
        labels = tuple(value_text(group[0]) + ("" if len(group) == 1 else f" .. {value_text(group[-1])}") for group in groups)
        numeric = all(isinstance(value, float) for value in each)
        centres = tuple(sum(cast("list[float]", group)) / len(group) for group in groups) if numeric else ()
        return cls(title, labels, dict(zip(each, cells, strict=True)), centres)


@dataclass(frozen=True)
class TableLayout:
    """The layout of the heat map: by the two offsets if they vary, else by the two longest axes.

    Attributes
    ----------
    across, down : Side
    columns : tuple of str
        The table's columns on the two sides.
    """

    across: Side
    down: Side
    columns: tuple[str, str]

    @classmethod
    def of(cls, grid: Grid) -> TableLayout | None:
        """Return the layout, or None if no axis varies."""
        points = grid.model(0).points
        if len(points.offsets) > 1:
            offsets = sorted(points.offsets)
            return cls(
                Side.of("offset of BUY, HOLD's being 0", offsets),
                Side.of("offset of SELL, HOLD's being 0", offsets),
                ("offset_buy", "offset_sell"),
            )
        longest = sorted(grid.varied, key=lambda axis: -grid.length(axis))[:2]  # the outermost of equal ones
        if not longest:
            return None
        sides = [Side.of(axis_title(axis), _column_values(grid, axis)) for axis in longest]
        if len(sides) == 1:
            sides.append(Side("", ("",), {}))
        return cls(sides[0], sides[1], (longest[0], longest[1] if len(longest) > 1 else ""))


@dataclass(eq=False)
class Summary:
    """The summary of a table; ``take`` adds a batch of rows.

    Attributes
    ----------
    best : list of TableRow
        Rows of the best settings by ``sharpe_all``, best first; among equals, the first in the grid.
    best_mcc : TableRow or None
        The row with the highest MCC.
    sampled : list of TableRow
        Rows of a random sample of settings.
    named : list of TableRow
        For each calibration given by name, the first row of each range, checkpoint and decision.
    settings, traded, ruined : int
        The number of settings, of those with a Sharpe ratio, and of those that lost everything on any range.
    sums : tuple of two float
        Of the annualised Sharpe ratios, and of their squares.
    means : dict
        From (timerange, ckpt, decision) to an array (measures, down, across) of means, NaN for an empty cell.
    """

    grid: Grid
    layout: TableLayout | None
    chosen: frozenset[int]
    settings: int = 0
    traded: int = 0
    ruined: int = 0
    best_mcc: TableRow | None = None
    sampled: list[TableRow] = field(default_factory=list)
    _heap: list[tuple[float, int, list[TableRow]]] = field(default_factory=list)
    named: list[TableRow] = field(default_factory=list)
    sums: tuple[float, float] = (0.0, 0.0)
    _names: dict[JsonValue, set[tuple[JsonValue, ...]]] = field(default_factory=dict)
    _cells: dict[tuple[str, str, str], FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = {text: set() for text in self.grid.model(0).points.names}

    def take(self, batch: pa.RecordBatch) -> None:
        """Add a batch of rows; all rows of a setting are in one batch."""
        rows: dict[int, list[TableRow]] = {}
        for row in batch.to_pylist():
            rows.setdefault(row["setting"], []).append(row)
        for number, group in rows.items():
            self._take_setting(number, group)

    def _take_setting(self, number: int, rows: list[TableRow]) -> None:
        self.settings += 1
        self.ruined += any(bool(row["ruined"]) for row in rows)
        sharpe = number_in(rows[0], "sharpe_all")
        if sharpe is not None:
            self.traded += 1
            self.sums = self.sums[0] + sharpe, self.sums[1] + sharpe**2
            entry = (sharpe, -number, rows)
            if len(self._heap) < MOST_SHOWN:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heappushpop(self._heap, entry)
        if number in self.chosen:
            self.sampled.append(rows[0])
        for row in rows:
            mcc, best = number_in(row, "mcc"), self.best_mcc
            if mcc is not None and (best is None or mcc > (number_in(best, "mcc") or 0.0)):
                self.best_mcc = row
            self._take_cell(row)
            seen = self._names.get(row["calibration"])
            key = (row["timerange"], row["ckpt"], row["decision"])
            if seen is not None and key not in seen and len(self.named) < MOST_SHOWN:
                seen.add(key)
                self.named.append(row)

    def _take_cell(self, row: TableRow) -> None:
        if self.layout is None:
            return
        across, down = (row.get(name) if name else None for name in self.layout.columns)
        if (across is None and self.layout.columns[0].startswith("offset")) or across not in self.layout.across.cell_of:
            return
        shape = (2, len(MEASURES), len(self.layout.down.labels), len(self.layout.across.labels))
        key = cast("tuple[str, str, str]", (row["timerange"], row["ckpt"], row["decision"]))
        cells = self._cells.setdefault(key, np.zeros(shape))
        at = self.layout.down.cell_of.get(down, 0), self.layout.across.cell_of[across]
        for measure, name in enumerate(MEASURES):
            if (value := number_in(row, name)) is not None:
                cells[0, measure, *at] += value
                cells[1, measure, *at] += 1

    @property
    def best(self) -> list[list[TableRow]]:
        """The rows of the best settings, best first."""
        return [rows for _, _, rows in sorted(self._heap, key=lambda entry: (-entry[0], -entry[1]))]

    @property
    def means(self) -> dict[tuple[str, str, str], FloatArray]:
        """The mean of each measure in each cell, by (timerange, ckpt, decision), shape (measures, down, across)."""
        with np.errstate(invalid="ignore"):
            return {key: np.where(cells[1] > 0, cells[0] / cells[1], math.nan) for key, cells in self._cells.items()}


def _column_values(grid: Grid, axis: str) -> Sequence[OptionValue]:
    """Return the values of an axis as in the table's column."""
    if axis == "calibration":
        return grid.model(0).points.names
    if axis != "decision":
        return list(grid.values(axis))
    settings = {str(grid[place * _step(grid, axis)].decision): None for place in range(len(grid.values(axis)))}
    return list(settings)


def _step(grid: Grid, axis: str) -> int:
    return math.prod(grid.sizes[grid.axis_names.index(axis) + 1 :])
