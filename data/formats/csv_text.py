"""CSV and similar text: the separator, the header and the number style are detected, the rest is strict."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...arrays import FloatArray, Int64Array, TimeArray
from ...errors import DataError
from ..bars import COLUMNS, Bars
from ..reading import Reading
from .column_names import BINANCE_HEADER, check_base_volume, choose_columns, looks_like_data, names_columns
from .compressed_text import Content, opened
from .file_format import FileFormat
from .number_style import CommaInNumber, NumberStyle, floats, is_number, style_of
from .table import DAMAGED, Faults, Places, Table, printable, shown
from .time_stamps import TimeColumn

_LINE_END = re.compile(r"\r\n|\r|\n")
# Text cells take ten times the memory of floats, so rows are converted in pieces; small pieces are the fastest.
ROWS_AT_ONCE = 1_000
TIMES_AT_ONCE = 20_000  # a call of pandas costs as much as 500 timestamps
HEADER_WITHIN = 10  # lines that are not blank
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


class Piece(NamedTuple):
    """Some rows, none blank, and the line where each starts."""

    lines: Int64Array
    rows: list[list[str]]


class CsvLayout(NamedTuple):
    """The layout of a text: its separator, its header and the header's line, and notes on skipped lines."""

    separator: str
    header: list[str]
    line: int
    notes: tuple[str, ...]
    pieces: Iterator[Piece]


def read_delimited(path: Path, faults: Faults, reading: Reading) -> Table:  # noqa: ARG001
    """Read a CSV file; read it a second time if its numbers contain commas."""
    try:
        return _read(path, faults, None)
    except CommaInNumber:
        faults.found.clear()
        with opened(path) as content:
            layout = _find_layout(content)
            chosen = choose_columns(layout.header, f"{path.name}, line {layout.line}")
            places = [chosen[name] for name in COLUMNS]
            style = style_of(
                (row[at] for piece in layout.pieces for row in piece.rows for at in places if at < len(row)), path.name
            )
        return _read(path, faults, style)


def _read(path: Path, faults: Faults, style: NumberStyle | None) -> Table:
    with opened(path) as content:
        # 1. The header, and the columns it names
        layout = _find_layout(content)
        header = layout.header
        chosen = choose_columns(header, f"{path.name}, line {layout.line}")
        wanted = (*COLUMNS, *(["quote volume"] if "quote volume" in chosen else []))
        pieces: dict[str, list[FloatArray]] = {name: [] for name in wanted}
        times: list[TimeArray] = []
        lines: list[Int64Array] = []
        stamps: list[str] = []
        marks: set[str] = set()
        column = TimeColumn(header[chosen["time"]].strip(), faults)

        # 2. The rows, piece by piece
        for piece in layout.pieces:
            cells = list(zip(*_equal_width(piece, len(header), path.name, faults), strict=True))
            places = Places(path.name, "line", piece.lines)
            for name in COLUMNS:
                pieces[name].append(floats(cells[chosen[name]], header[chosen[name]].strip(), places, faults, style))
            if "quote volume" in chosen:
                pieces["quote volume"].append(_lenient_floats(cells[chosen["quote volume"]]))
            stamps += cells[chosen["time"]]
            lines.append(piece.lines)
            if "synthetic" in chosen:
                marks.update(cells[chosen["synthetic"]])
            if len(stamps) >= TIMES_AT_ONCE:
                times.append(_times(stamps, column, lines, path.name))
                stamps = []

    # 3. The table
    if not lines:
        raise DataError(f"{path.name}: the file has a header, but no row of data below it. Fetch the file again.")
    if stamps:
        times.append(_times(stamps, column, lines, path.name))
    values = {name: np.concatenate(piece) for name, piece in pieces.items()}
    notes = list(layout.notes)
    if "quote volume" in values:
        base, quote = header[chosen["volume"]].strip(), header[chosen["quote volume"]].strip()
        check_base_volume(values, values.pop("quote volume"), path.name, base)
        notes.append(f"the volume is that of the column {shown(base)}, not {shown(quote)}")
    kind = [f"CSV separated by {SEPARATORS[layout.separator]}"] if layout.separator != "," else ["CSV"]
    kind += [style.value] if style not in (None, NumberStyle.PLAIN) else []
    ignored = tuple(printable(name.strip()) for at, name in enumerate(header) if at not in chosen.values())
    return Table(
        np.concatenate(times),
        values,
        Places(path.name, "line", np.concatenate(lines)),
        is_marked(marks),
        content.label(", ".join(kind)),
        tuple(notes),
        ignored,
    )


def _times(stamps: list[str], column: TimeColumn, lines: list[Int64Array], name: str) -> TimeArray:
    """Return the stamps of the last rows read."""
    numbers = np.concatenate(lines[-TIMES_AT_ONCE:])
    return column.of_text(stamps, Places(name, "line", numbers[len(numbers) - len(stamps) :]))


def is_marked(marks: Iterable[str]) -> bool:
    """Return whether the cells of a column ``synthetic`` mark the bars as synthetic."""
    return any(mark.strip().lower() not in ("", "0", "false") for mark in marks)


def _equal_width(piece: Piece, width: int, name: str, faults: Faults) -> list[list[str]]:
    if set(map(len, piece.rows)) == {width}:
        return piece.rows
    rows = list(piece.rows)
    for at, row in enumerate(rows):
        if len(row) != width:
            line = int(piece.lines[at])
            error = DataError(
                f"{name}, line {line}: expected {width} cells as in the header, got {len(row)} "
                f"({shown(','.join(row))}). Fix this line, or fetch the file again."
            )
            faults.add(DAMAGED, line, error)
            rows[at] = [""] * width
    return rows


def _lenient_floats(cells: Sequence[str]) -> FloatArray:
    return np.array([float(cell) if is_number(cell) else np.nan for cell in cells])


# --- the layout ------------------------------------------------------------------------------------------------------


def _find_layout(content: Content) -> CsvLayout:
    """Find the header among the first lines; text above it is skipped with a note, a row of data is refused."""
    name, lines = content.path.name, content.lines()
    head: list[str] = []
    filled: list[tuple[int, str]] = []
    for line in lines:
        head.append(line)
        if line.strip():
            filled.append((len(head), line))
            if _separator_of_header(line) or len(filled) == HEADER_WITHIN:
                break
    if not filled:
        raise DataError(f"{name}: the file is empty. Give a file with a header and at least one row of data.")
    number, line = filled[-1]
    separator = _separator_of_header(line)
    if separator is None:  # no header: the first line is checked as if it were one
        number, line = filled[0]
        separator = max(SEPARATORS, key=line.count)
        if separator == "," and _is_binance([_cells(each, ",") for _, each in filled]):
            note = "the file has no header; its 12 columns are read as those of Binance's klines"
            pieces = _pieces(content, chain(head, lines), ",", 0)
            return CsvLayout(",", BINANCE_HEADER.split(","), number, (note,), pieces)
    above = [(at, each) for at, each in filled if at < number]
    for at, each in above:
        if looks_like_data(_cells(each, separator)):
            raise DataError(f"{name}, line {at}: a row of data is above the header of line {number}. Fetch the file again.")
    notes = tuple(f"line {at} is above the header and was skipped: {shown(each.strip())}" for at, each in above)
    pieces = _pieces(content, chain(head[number:], lines), separator, number)
    return CsvLayout(separator, _cells(line, separator), number, notes, pieces)


def _separator_of_header(line: str) -> str | None:
    return next((each for each in SEPARATORS if each in line and names_columns(_cells(line, each))), None)


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def _is_binance(rows: list[list[str]]) -> bool:
    """Return whether rows are Binance's klines: 12 numbers, with an epoch, prices in the order of OHLC, and a later epoch."""
    for row in rows:
        if len(row) != 12 or not all(is_number(cell) for cell in row):
            return False
        opens, o, high, low, close, _, closes, *_ = (float(cell) for cell in row)
        if not (opens > 1e8 and opens < closes < 1.1 * opens and low <= min(o, close) and high >= max(o, close)):
            return False
    return True


def _pieces(content: Content, lines: Iterable[str], separator: str, above: int) -> Iterator[Piece]:
    """Yield the rows below the first ``above`` lines, a piece at a time; empty lines are skipped."""
    before = above
    reader = csv.reader(lines, strict=True, delimiter=separator)
    try:
        while rows := list(islice(reader, ROWS_AT_ONCE)):
            numbers = np.arange(before + 1, before + 1 + len(rows))
            if reader.line_num + above != numbers[-1]:  # a quoted cell spans several lines
                more = np.array([sum(len(_LINE_END.findall(cell)) for cell in row) for row in rows])
                numbers += np.cumsum(more) - more
            before = reader.line_num + above
            if not all(rows):
                kept = [at for at, row in enumerate(rows) if row]
                numbers, rows = numbers[kept], [rows[at] for at in kept]
            if rows:
                yield Piece(numbers, rows)
            elif len(numbers) == 0 and before - above >= ROWS_AT_ONCE:
                raise DataError(f"{content.path.name}, line {before}: {ROWS_AT_ONCE:,} blank lines end here. Fetch it again.")
    except csv.Error as error:
        place = f"{content.path.name}, line {reader.line_num + above}"
        raise DataError(f"{place}: this is not a CSV row ({printable(error)}). Fix the quotes in this line.") from None


def bars_as_csv(bars: Bars) -> bytes:
    """Return the bars as CSV, with a last column ``synthetic`` of 1 if they are generated."""
    whole_seconds = bool((bars.time.astype("datetime64[s]") == bars.time).all())
    stamps = np.datetime_as_string(bars.time, unit="s" if whole_seconds else "ns").tolist()
    mark_name, mark = (",synthetic", ",1") if bars.synthetic else ("", "")
    cells = zip(stamps, *(getattr(bars, name).tolist() for name in COLUMNS), strict=True)
    rows = "".join(f"{time}Z,{o!r},{h!r},{low!r},{c!r},{v!r}{mark}\n" for time, o, h, low, c, v in cells)
    return f"timestamp,{','.join(COLUMNS)}{mark_name}\n{rows}".encode()


FORMAT = FileFormat(
    endings={
        ".csv": "text separated by commas, semicolons, tabs or vertical bars, with a header; Binance's klines may lack it",
        ".csv.gz": "the same, gzipped",
        ".tsv": "the same, with any of these separators",
    },
    read=read_delimited,
    write=bars_as_csv,
)
