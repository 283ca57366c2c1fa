"""JSON: rows without names as freqtrade writes them, objects, and the answers of exchanges, which wrap either."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...arrays import FloatArray, JsonObject, JsonValue
from ...errors import DataError
from ..bars import COLUMNS, Bars
from ..reading import Reading
from .column_choice import ColumnChoice
from .column_names import choose_columns
from .compressed_text import MEGABYTE, MOST_ROWS, Content, opened
from .file_format import FileFormat
from .json_answers import choose_array
from .json_scan import LINES, JsonArray, find_arrays, flat_end, line_of, skip_gap
from .number_style import is_number
from .row_order import choose_by_rows
from .table import DAMAGED, Faults, Places, Table, shown
from .table_builder import TableBuilder

LARGEST_TEXT = 400 * MEGABYTE  # characters
LONGEST_ROW = 10_000  # characters
ROW_COLUMNS = ("time", *COLUMNS)
JsonRow = list[JsonValue] | JsonObject

_ROWS_AT_ONCE = 1_000


def read_rows_json(path: Path, faults: Faults, reading: Reading) -> Table:
    """Read the array of rows; each row is parsed separately, so that deep or large JSON costs little."""
    with opened(path) as content:
        text = _text(content)
    if not text.strip():
        raise DataError(f"{path.name}: the file is empty. Give an array of rows.")
    found = choose_array(text, find_arrays(text, path.name), path.name, reading.symbol)
    notes = (f"the bars are the rows of its key {shown(found.place)}",) if found.place else ()
    builder: TableBuilder | None = None
    named = False
    count = 0
    for piece in _pieces(_rows(text, found.array, path.name)):
        numbers = np.arange(count + 1, count + len(piece) + 1)
        count += len(piece)
        if builder is None:
            named = isinstance(piece[0], dict)
            choice = _choice(piece, f"{path.name}, row 1", reading)._replace(market=found.market)
            builder = TableBuilder(path.name, "row", choice, faults)
        header, at, places = builder.choice.header, builder.choice.positions, builder.places(numbers)
        names = header if named else None
        rows = [
            _cells_of(row, header, names, each, path.name, faults) for each, row in zip(numbers.tolist(), piece, strict=True)
        ]
        cells = list(zip(*rows, strict=True))
        values = {role: _floats(cells[at[role]], header[at[role]], places, faults) for role in builder.roles}
        times = [" ".join(_time_text(row[each]) for each in builder.choice.time) for row in rows]
        marks = [str(mark) for mark in cells[at["synthetic"]]] if "synthetic" in at else ()
        builder.add(numbers, values, times, marks, [str(cell) for cell in cells[at["symbol"]]] if "symbol" in at else None)
    rows_kind = "JSON rows, as freqtrade keeps them" if builder and builder.choice.header == ROW_COLUMNS else "JSON rows"
    table = builder.table(content.label("JSON objects" if named else rows_kind), notes) if builder else None
    if table is None:
        raise DataError(f"{path.name}: the array has no rows. Fetch the file again.")
    return table


def _choice(piece: list[JsonRow], place: str, reading: Reading) -> ColumnChoice:
    first = piece[0]
    if isinstance(first, dict):
        return choose_columns(list(first), place, reading, [_time_text(cell) for cell in first.values()])
    rows = [[_time_text(cell) for cell in row] for row in piece if isinstance(row, list)]
    choice = choose_by_rows(rows, place, reading)
    if not choice.vendor or choice.header == ROW_COLUMNS:
        return choice
    note = f"its rows of {len(choice.header)} cells are read as {', '.join(choice.header)}, the order of {choice.vendor}"
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


def _rows(text: str, array: JsonArray, name: str) -> Iterator[JsonRow]:
    """Yield each row of an array, or of each line, parsed separately."""
    lines = array.kind == LINES
    at, count = array.start if lines else skip_gap(text, array.start + 1), 0
    while (found := text[at : at + 1]) != "]" and (found or not lines):
        count += 1
        if count > MOST_ROWS:
            raise DataError(f"{name}: the array has more than {MOST_ROWS:,} rows. Split it into parts.")
        row, end = _row(text, at, count, name)
        yield row
        at = skip_gap(text, end)
        if lines:
            continue
        if text[at : at + 1] == ",":
            at = skip_gap(text, at + 1)
        elif text[at : at + 1] != "]":
            raise _bad_row(text, at, count + 1, name, "a comma or the end of the array")
    rest = skip_gap(text, at + 1)
    if rest < len(text) and not array.keys:
        raise _bad_row(text, rest, count + 1, name, "nothing after the array")


def _row(text: str, at: int, number: int, name: str) -> tuple[JsonRow, int]:
    """Return the row that starts here, and its end."""
    end = flat_end(text, at, at + LONGEST_ROW)
    try:
        if end > 0:
            row, found_end = _DECODER.raw_decode(text, at)
            if found_end == end:
                return row, end
    except _KeyTwiceError as error:
        raise _bad_row(text, at, number, name, f"each key once in a row, not {shown(error)} twice") from None
    except ValueError:
        pass
    raise _bad_row(text, at, number, name)


class _KeyTwiceError(ValueError):
    """An object has a key twice; JSON libraries keep the first or the last of its values."""


def _unique(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        raise _KeyTwiceError(next(key for key in names if names.count(key) > 1))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _bad_row(
    text: str, at: int, row: int, name: str, expected: str = "a row of 6 numbers or an object, not nested"
) -> DataError:
    got = shown(text[at : at + 30]) if at < len(text) else "the end of the file"
    return DataError(f"{name}, line {line_of(text, at)}, row {row}: expected {expected}, got {got}. Fetch the file again.")


def _cells_of(
    row: JsonRow, header: tuple[str, ...], names: tuple[str, ...] | None, number: int, name: str, faults: Faults
) -> list[JsonValue]:
    if isinstance(row, dict) and names is not None:
        if tuple(row) == names:
            return list(row.values())
        if set(row) == set(names):
            return [row[each] for each in names]
    if isinstance(row, list) and names is None and len(row) == len(header):
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
