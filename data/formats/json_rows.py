"""JSON: rows without names as freqtrade writes them, objects, and the answers of exchanges, which wrap either."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...arrays import FloatArray, JsonValue
from ...errors import DataError
from ..bars import COLUMNS, Bars
from ..reading import Reading
from .column_choice import ColumnChoice
from .column_names import choose_columns
from .compressed_text import MEGABYTE, Content, opened
from .file_format import FileFormat
from .json_answers import choose_array
from .json_parsing import JsonRow, RowParser
from .json_scan import find_arrays
from .number_style import is_number
from .row_order import choose_by_rows
from .table import DAMAGED, Faults, Places, Table, printable, shown
from .table_builder import TableBuilder

LARGEST_TEXT = 400 * MEGABYTE  # characters
ROW_COLUMNS = ("time", *COLUMNS)

_ROWS_AT_ONCE = 1_000


def read_rows_json(path: Path, faults: Faults, reading: Reading) -> Table:
    """Read the array of rows; each row is parsed separately, so that deep or large JSON costs little."""
    with opened(path) as content:
        text = _text(content)
    if not text.strip():
        raise DataError(f"{path.name}: the file is empty. Give an array of rows.")
    parser = RowParser(text, path.name)
    found = choose_array(parser, find_arrays(text, path.name), reading.symbol)
    builder: TableBuilder | None = None
    first: JsonRow = []
    kind, count = "", 0
    for piece in _pieces(parser.rows(found.array)):
        numbers = np.arange(count + 1, count + len(piece) + 1)
        count += len(piece)
        if builder is None:
            first = piece[0]
            names = found.array.header or (tuple(first) if isinstance(first, dict) else ())
            choice = _choice(names, piece, f"{path.name}, row 1", reading)._replace(market=found.market)
            builder = TableBuilder(path.name, "row", choice, faults)
            kind = "JSON objects" if isinstance(first, dict) else "JSON columns" if names else "JSON rows"
            kind += ", as freqtrade keeps them" if not names and choice.header == ROW_COLUMNS else ""
        header, at, places = builder.choice.header, builder.choice.positions, builder.places(numbers)
        rows = [
            _cells_of(row, first, header, each, path.name, faults) for each, row in zip(numbers.tolist(), piece, strict=True)
        ]
        cells = list(zip(*rows, strict=True))
        values = {role: _floats(cells[at[role]], header[at[role]], places, faults) for role in builder.roles}
        times = [" ".join(_time_text(row[each]) for each in builder.choice.time) for row in rows]
        marks = [str(mark) for mark in cells[at["synthetic"]]] if "synthetic" in at else ()
        markets = [list(map(str, cells[each])) for each in builder.choice.symbols]
        builder.add(numbers, values, times, marks, markets)
    table = None if builder is None else builder.table(content.label(kind), found.notes)
    if table is None:
        raise DataError(f"{path.name}: the array has no rows. Fetch the file again.")
    if table.is_naive and found.time_zone and not table.choice.time_zone:
        zone = printable(found.time_zone, 40)
        note = (
            f"its times are read as UTC, but the file names the time zone {zone}; if they are local, state --time-zone {zone}"
        )
        table = table._replace(notes=(*table.notes, note))
    return table


def _choice(names: Sequence[str], piece: list[JsonRow], place: str, reading: Reading) -> ColumnChoice:
    first = piece[0]
    if names or isinstance(first, dict):
        cells = first.values() if isinstance(first, dict) else first
        return choose_columns(names, place, reading, [_time_text(cell) for cell in cells])
    rows = [[_time_text(cell) for cell in row] for row in piece if isinstance(row, list)]
    choice = choose_by_rows(rows, place, reading)
    if not choice.vendor or choice.header == ROW_COLUMNS:
        return choice
    note = f"its rows of {len(choice.header)} cells are read as {choice.order}, the order of {choice.vendor}"
    return choice._replace(notes=(note, *choice.notes))


def _text(content: Content) -> str:
    parts, length = [], 0
    # In blocks, not in lines: freqtrade writes everything on one line.
    while block := content.text.read(MEGABYTE):
        parts.append(block)
        length += len(block)
        if length > LARGEST_TEXT:
            raise DataError(
                f"{content.path.name}: the JSON has more than {LARGEST_TEXT:,} characters. Convert it to Feather or Parquet."
            )
    return "".join(parts)


def _pieces(rows: Iterator[JsonRow]) -> Iterator[list[JsonRow]]:
    piece = []
    for row in rows:
        piece.append(row)
        if len(piece) == _ROWS_AT_ONCE:
            yield piece
            piece = []
    if piece:
        yield piece


def _cells_of(
    row: JsonRow, first: JsonRow, header: Sequence[str], number: int, name: str, faults: Faults
) -> Sequence[JsonValue]:
    if isinstance(row, dict) and isinstance(first, dict):
        if list(row) == list(header):
            return list(row.values())
        if set(row) == set(header):
            return [row[each] for each in header]
    if isinstance(row, list) and isinstance(first, list) and len(row) == len(header):
        return row
    got = f"{len(row)} of them" if isinstance(row, list) else f"the names {shown(', '.join(map(str, row)))}"
    error = DataError(
        f"{name}, row {number}: expected the cells {shown(', '.join(header[:15]))} as in the first row, got {got}. "
        "Fetch the file again."
    )
    faults.add(DAMAGED, number, error)
    return [None] * len(header)


def _floats(cells: Sequence[JsonValue], column: str, places: Places, faults: Faults) -> FloatArray:
    try:
        if {type(cell) for cell in cells} <= {int, float}:
            return np.array(cells, dtype=np.float64)
    except OverflowError:
        pass
    values = np.full(len(cells), np.nan)
    for at, cell in enumerate(cells):
        text = "" if cell is None or isinstance(cell, bool) else str(cell) if abs(_size(cell)) < 400 else ""
        if is_number(text):
            values[at] = float(text)
        else:
            got = "null" if cell is None else shown(cell)
            error = DataError(f"{places.at(at, column)}: expected a number, got {got}. Fix the cell, or fetch the file again.")
            faults.add(DAMAGED, places.numbers[at], error)
    return values


def _size(cell: JsonValue) -> int:
    return cell.bit_length() // 3 if isinstance(cell, int) else len(str(cell))


def _time_text(cell: JsonValue) -> str:
    if isinstance(cell, float):
        return repr(cell) if cell % 1 else f"{cell:.0f}" if abs(cell) < 1e16 else repr(cell)
    return "" if cell is None or (isinstance(cell, int) and _size(cell) > 30) else str(cell)


def bars_as_json(bars: Bars) -> bytes:
    """Return the bars as rows without names, or as objects if they are generated, which rows cannot state."""
    stamps = bars.time.astype("datetime64[ms]").astype(np.int64).tolist()
    rows = [list(row) for row in zip(stamps, *(getattr(bars, name).tolist() for name in COLUMNS), strict=True)]
    if not bars.synthetic:
        return json.dumps(rows).encode()
    return json.dumps([{**dict(zip(ROW_COLUMNS, row, strict=True)), "synthetic": 1} for row in rows]).encode()


FORMAT = FileFormat(
    endings={
        ".json": "rows without names, as freqtrade writes them; or objects with names; also inside an exchange's answer",
        ".json.gz": "the same, gzipped",
    },
    read=read_rows_json,
    write=bars_as_json,
)
