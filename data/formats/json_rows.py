"""JSON: rows without names as freqtrade writes them, objects, and the answers of exchanges, which wrap either."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...arrays import FloatArray, JsonValue, TimeArray
from ...errors import DataError
from ..bars import COLUMNS, Bars
from ..reading import Reading
from .column_names import choose_columns
from .compressed_text import MEGABYTE, Content, opened
from .csv_text import is_marked
from .file_format import FileFormat
from .json_answers import choose_array
from .json_parsing import JsonRow, RowParser
from .json_scan import find_arrays
from .number_style import is_number
from .table import DAMAGED, Faults, Places, Table, printable, shown
from .time_stamps import TimeColumn

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
    header: list[str] | None = None
    chosen: dict[str, int] = {}
    column: TimeColumn | None = None
    times: list[TimeArray] = []
    pieces: dict[str, list[FloatArray]] = {name: [] for name in COLUMNS}
    marks: set[str] = set()
    count = 0
    for piece in _pieces(parser.rows(found.array)):
        numbers = list(range(count + 1, count + len(piece) + 1))
        count += len(piece)
        if header is None or column is None:
            header = list(found.array.header or (piece[0] if isinstance(piece[0], dict) else ROW_COLUMNS))
            chosen = choose_columns(header, f"{path.name}, row 1")
            column = TimeColumn(header[chosen["time"]], faults)
        places = Places(path.name, "row", numbers)
        cells = [_cells_of(row, header, at, path.name, faults) for at, row in zip(numbers, piece, strict=True)]
        for name in COLUMNS:
            pieces[name].append(_floats([row[chosen[name]] for row in cells], header[chosen[name]], places, faults))
        times.append(column.of_text([_time_text(row[chosen["time"]]) for row in cells], places))
        if "synthetic" in chosen:
            marks.update(str(row[chosen["synthetic"]]) for row in cells)
    if header is None:
        raise DataError(f"{path.name}: the array has no rows. Fetch the file again.")
    values = {name: np.concatenate(piece) for name, piece in pieces.items()}
    kind = "JSON rows, as freqtrade keeps them" if header == list(ROW_COLUMNS) else "JSON objects"
    ignored = tuple(printable(name) for at, name in enumerate(header) if at not in chosen.values())
    places = Places(path.name, "row", range(1, count + 1))
    return Table(np.concatenate(times), values, places, is_marked(marks), content.label(kind), found.notes, ignored)


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


def _cells_of(row: JsonRow, header: list[str], number: int, name: str, faults: Faults) -> Sequence[JsonValue]:
    if isinstance(row, list) and len(row) == len(header):
        return row
    if isinstance(row, dict) and list(row) == header:
        return list(row.values())
    if isinstance(row, dict) and set(row) == set(header):
        return [row[each] for each in header]
    got = f"{len(row)} of them" if isinstance(row, list) else f"the names {shown(', '.join(map(str, row)))}"
    error = DataError(
        f"{name}, row {number}: expected the cells {shown(', '.join(header[:15]))} as in the first row, got {got}. "
        "Fetch the file again."
    )
    faults.add(DAMAGED, number, error)
    return [None] * len(header)


def _floats(cells: list[JsonValue], column: str, places: Places, faults: Faults) -> FloatArray:
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
