"""JSON as freqtrade writes it: an array of rows ``[epoch ms, open, high, low, close, volume]``; also an array of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...arrays import FloatArray, JsonObject, JsonValue
from ...errors import DataError
from ..bars import COLUMNS, Bars
from ..reading import Reading
from .column_names import choose_columns
from .compressed_text import MEGABYTE, MOST_ROWS, Content, opened
from .file_format import FileFormat
from .number_style import is_number
from .table import DAMAGED, Faults, Places, Table, shown
from .table_builder import TableBuilder

LARGEST_TEXT = 400 * MEGABYTE  # characters
LONGEST_ROW = 10_000  # characters
ROW_COLUMNS = ("time", *COLUMNS)
JsonRow = list[JsonValue] | JsonObject

_GAP = re.compile(r"[ \t\r\n]*")
_ROWS_AT_ONCE = 1_000


def read_rows_json(path: Path, faults: Faults, reading: Reading) -> Table:
    """Read an array of rows; each row is parsed separately, so that deep or large JSON costs little."""
    with opened(path) as content:
        text = _text(content)
    if not text.strip():
        raise DataError(f"{path.name}: the file is empty. Give an array of rows.")
    builder: TableBuilder | None = None
    header: list[str] = []
    count = 0
    for piece in _pieces(_rows(text, path.name)):
        numbers = np.arange(count + 1, count + len(piece) + 1)
        count += len(piece)
        if builder is None:
            header = list(piece[0]) if isinstance(piece[0], dict) else list(ROW_COLUMNS)
            builder = TableBuilder(path.name, "row", choose_columns(header, f"{path.name}, row 1", reading), faults)
        places, at = builder.places(numbers), builder.choice.positions
        rows = [_cells_of(row, header, each, path.name, faults) for each, row in zip(numbers.tolist(), piece, strict=True)]
        cells = list(zip(*rows, strict=True))
        values = {role: _floats(cells[at[role]], header[at[role]], places, faults) for role in builder.roles}
        times = [" ".join(_time_text(row[each]) for each in builder.choice.time) for row in rows]
        marks = [str(mark) for mark in cells[at["synthetic"]]] if "synthetic" in at else ()
        builder.add(numbers, values, times, marks, [str(cell) for cell in cells[at["symbol"]]] if "symbol" in at else None)
    kind = "JSON rows, as freqtrade keeps them" if header == list(ROW_COLUMNS) else "JSON objects"
    table = None if builder is None else builder.table(content.label(kind))
    if table is None:
        raise DataError(f"{path.name}: the array has no rows. Fetch the file again.")
    return table


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


def _rows(text: str, name: str) -> Iterator[JsonRow]:
    """Yield each row of the outer array, parsed separately."""
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise DataError(
            f"{name}, line {_line(text, at)}: expected an array of rows such as [[1704067200000, 10, 12, 9, 11, 5], ...], "
            f"got {shown(text[at : at + 30])}. Give only the candles, in such rows."
        )
    at, count = _skip(text, at + 1), 0
    while text[at : at + 1] != "]":
        count += 1
        if count > MOST_ROWS:
            raise DataError(f"{name}: the array has more than {MOST_ROWS:,} rows. Split it into parts.")
        end = text.find({"[": "]", "{": "}"}.get(text[at : at + 1], "\0"), at, at + LONGEST_ROW)
        if end < 0:
            raise _bad_row(text, at, count, name)
        try:
            yield json.loads(text[at : end + 1])
        except (ValueError, RecursionError):
            raise _bad_row(text, at, count, name) from None
        at = _skip(text, end + 1)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise _bad_row(text, at, count + 1, name, "a comma or the end of the array")
    rest = _skip(text, at + 1)
    if rest < len(text):
        raise _bad_row(text, rest, count + 1, name, "nothing after the array")


def _skip(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return at if found is None else found.end()


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _bad_row(
    text: str, at: int, row: int, name: str, expected: str = "a row of 6 numbers or an object, not nested"
) -> DataError:
    got = shown(text[at : at + 30]) if at < len(text) else "the end of the file"
    return DataError(f"{name}, line {_line(text, at)}, row {row}: expected {expected}, got {got}. Fetch the file again.")


def _cells_of(row: JsonRow, header: list[str], number: int, name: str, faults: Faults) -> list[JsonValue]:
    if isinstance(row, dict) and header != list(ROW_COLUMNS) and list(row) == header:
        return list(row.values())
    if isinstance(row, dict) and set(row) == set(header):
        return [row[each] for each in header]
    if isinstance(row, list) and header == list(ROW_COLUMNS) and len(row) == len(header):
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
        ".json": "rows of epoch, open, high, low, close, volume without names, as freqtrade writes them; or objects with names",
        ".json.gz": "the same, gzipped",
    },
    read=read_rows_json,
    write=bars_as_json,
)
