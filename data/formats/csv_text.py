"""CSV and similar text: the separator, the header and the number style are detected, the rest is strict."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...arrays import FloatArray, Int64Array
from ...errors import DataError
from ..bars import COLUMNS, Bars
from ..reading import Reading
from .column_choice import ColumnChoice
from .column_names import choose_columns, names_columns
from .compressed_text import Content, opened
from .file_format import FileFormat
from .markets import may_be_market, unknown_market
from .number_style import CommaInNumber, NumberStyle, floats, is_number, style_of
from .row_order import choose_by_rows, is_time_of_day, looks_like_data
from .stacked_header import MOST_LINES, StackedHeader, stacked_header
from .stated_columns import EXAMPLE, states_all_positions, states_names
from .table import DAMAGED, Faults, Places, Table, printable, shown
from .table_builder import TableBuilder
from .time_forms import DayOrMonthFirst, day_month_format

_LINE_END = re.compile(r"\r\n|\r|\n")
# Text cells take ten times the memory of floats, so rows are converted in pieces; small pieces are the fastest.
ROWS_AT_ONCE = 1_000
HEADER_WITHIN = 10  # lines that are not blank
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


class Piece(NamedTuple):
    """Some rows, none blank, and the line where each starts."""

    lines: Int64Array
    rows: list[list[str]]


class CsvLayout(NamedTuple):
    """The layout of a text: its separator, its columns, and notes on skipped lines."""

    separator: str
    choice: ColumnChoice
    notes: tuple[str, ...]
    pieces: Iterator[Piece]


def read_delimited(path: Path, faults: Faults, reading: Reading) -> Table:
    """Read a CSV file; read it again if its numbers contain commas, and if its dates may have the month or the day first."""
    style: NumberStyle | None = None
    notes: tuple[str, ...] = ()
    while True:
        try:
            table = _read(path, faults, reading, style)
            return table._replace(notes=(*table.notes, *notes))
        except CommaInNumber:
            with opened(path) as content:
                layout = _find_layout(content, reading)
                places = [layout.choice.positions[name] for name in COLUMNS]
                style = style_of(
                    (row[at] for piece in layout.pieces for row in piece.rows for at in places if at < len(row)), path.name
                )
        except DayOrMonthFirst:
            if reading.time_format:
                raise
            with opened(path) as content:
                order = _day_month_format(_find_layout(content, reading), path.name)
            reading = replace(reading, time_format=order)
            notes = (f"its times are read as {order}, as its cells prove: a number above 12 is a day",)
        faults.found.clear()


def _day_month_format(layout: CsvLayout, name: str) -> str:
    choice = layout.choice
    pieces = (
        (
            [" ".join(row[at].strip() for at in choice.time if at < len(row)) for row in piece.rows],
            Places(name, "line", piece.lines),
        )
        for piece in layout.pieces
    )
    return day_month_format(pieces, choice.time_name)


def _read(path: Path, faults: Faults, reading: Reading, style: NumberStyle | None) -> Table:
    with opened(path) as content:
        layout = _find_layout(content, reading)
        choice = layout.choice
        at, header = choice.positions, choice.header
        builder = TableBuilder(path.name, "line", choice, faults)
        for piece in layout.pieces:
            if choice.has_other_markets:
                piece = _without_blank_prices(piece, [at[name] for name in COLUMNS])
            if reading.symbol is not None and choice.symbols:
                piece = _of_market(piece, choice.symbols, reading.symbol, builder)
            if not piece.rows:
                continue
            cells = list(zip(*equal_width(piece, len(header), path.name, faults), strict=True))
            places = builder.places(piece.lines)
            values = {
                role: _lenient_floats(cells[at[role]])
                if role == "quote volume"
                else floats(cells[at[role]], header[at[role]].strip(), places, faults, style)
                for role in builder.roles
            }
            times = cells[choice.time[0]]
            if len(choice.time) > 1:
                times = tuple(
                    " ".join(map(str.strip, parts)) for parts in zip(*(cells[each] for each in choice.time), strict=True)
                )
            marks = set(cells[at["synthetic"]]) if "synthetic" in at else ()
            builder.add(piece.lines, values, times, marks, [cells[each] for each in choice.symbols])
        kind = [f"CSV separated by {SEPARATORS[layout.separator]}"] if layout.separator != "," else ["CSV"]
        kind += [style.value] if style not in (None, NumberStyle.PLAIN) else []
        table = builder.table(content.label(", ".join(kind)), layout.notes)
    if table is None and builder.markets is not None and reading.symbol is not None and builder.markets.names:
        raise DataError(unknown_market(path.name, reading.symbol, builder.markets.names))
    if table is None:
        raise DataError(f"{path.name}: the file has a header, but no row of data below it. Fetch the file again.")
    return table


def equal_width(piece: Piece, width: int, name: str, faults: Faults) -> list[list[str]]:
    """Return the rows; one of another width than the header's is a fault, and its cells are blank."""
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


def _of_market(piece: Piece, columns: Sequence[int], symbol: str, builder: TableBuilder) -> Piece:
    """Return the rows that may be those of a market, in any case: faults in rows of the others do not matter."""
    whole = [[row[each] for each in columns] if len(row) > max(columns) else None for row in piece.rows]
    builder.see_markets(list(zip(*(cells for cells in whole if cells is not None), strict=True)))
    kept = [at for at, cells in enumerate(whole) if cells is None or may_be_market(cells, symbol)]
    return Piece(piece.lines[kept], [piece.rows[at] for at in kept])


def _without_blank_prices(piece: Piece, places: list[int]) -> Piece:
    """Return the rows where the market has a price: others are bars of the other markets only."""
    kept = [at for at, row in enumerate(piece.rows) if any(row[each].strip() for each in places if each < len(row))]
    return Piece(piece.lines[kept], [piece.rows[at] for at in kept])


def _lenient_floats(cells: Sequence[str]) -> FloatArray:
    try:
        return np.array(list(map(float, cells)))
    except ValueError:
        return np.array([float(cell) if is_number(cell) else np.nan for cell in cells])


# --- the layout ------------------------------------------------------------------------------------------------------


def _find_layout(content: Content, reading: Reading) -> CsvLayout:
    """Find the header among the first lines; text above it is skipped with a note, a row of data is refused."""
    name, lines = content.path.name, content.lines()
    head: list[str] = []
    filled: list[tuple[int, str]] = []
    for line in lines:
        head.append(line)
        if line.strip():
            filled.append((len(head), line))
            if len(filled) == HEADER_WITHIN:
                break
    if not filled:
        raise DataError(f"{name}: the file is empty. Give a file with a header and at least one row of data.")
    if filled[0][1].lstrip("\ufeff ").lower().startswith(("<!doctype", "<html", "<?xml")):
        raise DataError(
            f"{name}, line {filled[0][0]}: expected a table, got a web page. Open its address in a browser, and fetch it again."
        )
    found = _header_of(filled, reading, name)
    if found is None:
        return _layout_without_header(content, head, filled, lines, reading)
    at, separator, stacked = found
    number, line = filled[at]
    for above, each in filled[:at]:
        if looks_like_data(cells_of(each, separator)):
            raise DataError(f"{name}, line {above}: a row of data is above the header of line {number}. Fetch the file again.")
    notes = tuple(f"line {each} is above the header and was skipped: {shown(text.strip())}" for each, text in filled[:at])
    last = number if stacked is None else filled[at + stacked.lines - 1][0]
    first, pieces = _first_piece(pieces_of(content, chain(head[last:], lines), separator, last))
    header = cells_of(line, separator) if stacked is None else stacked.header
    place = f"{name}, line {number}"
    header = _with_unnamed_cells(header, separator, [] if first is None else first.rows, place, reading)
    sample = first.rows[0] if first is not None and len(first.rows[0]) == len(header) else ()
    choice = choose_columns(header, place, reading, sample)
    if stacked is not None:
        choice = choice._replace(market=stacked.market, has_other_markets=stacked.has_others)
    return CsvLayout(separator, choice, notes, pieces)


def _with_unnamed_cells(header: list[str], separator: str, rows: list[list[str]], place: str, reading: Reading) -> list[str]:
    """Return the header with a name for a cell that it leaves out: a blank last cell, or the time of day after a date.

    Where the user states all columns by position, the names do not matter.

    Raises
    ------
    DataError
        When no row has as many cells as the header has names.
    """
    widths = set(map(len, rows))
    if len(widths) != 1 or widths == {len(header)}:
        return header
    if widths == {len(header) + 1} and not any(row[-1].strip() for row in rows):
        return [*header, ""]
    at = next((at for at, name in enumerate(header) if name.strip().lower() == "date"), len(header))
    if widths == {len(header) + 1} and at < len(header) and all(map(_is_clock, (row[at + 1] for row in rows))):
        return [*header[: at + 1], "time", *header[at + 1 :]]
    if states_all_positions(reading.columns) and len(widths) == 1 and max(widths) > len(header):
        return [f"column {at}" for at in range(max(widths))]
    other = max(SEPARATORS, key=rows[0][0].count)
    if widths == {1} and other in rows[0][0]:
        raise DataError(
            f"{place}: the header's separator is {separator!r}, but that of the rows is {other!r} ({shown(rows[0][0])}). "
            "Use the same one in both, or remove the header: rows of a known source are read without it."
        )
    raise DataError(
        f"{place}: the header names {len(header)} columns, but the rows have {widths.pop()} ({shown(','.join(rows[0]))}). "
        f"Name all columns, or state all of them by their positions, as in --columns {EXAMPLE}."
    )


def _is_clock(cell: str) -> bool:
    return ":" in cell and is_time_of_day(cell)


def _header_of(filled: list[tuple[int, str]], reading: Reading, name: str) -> tuple[int, str, StackedHeader | None] | None:
    """Return the position of the header among the first lines, its separator, and its names if it has several lines."""
    for at, (_, line) in enumerate(filled):
        for separator in SEPARATORS:
            if separator not in line:
                continue
            following = [cells_of(each, separator) for _, each in filled[at : at + MOST_LINES]]
            if (stacked := stacked_header(following, reading.symbol, name)) is not None:
                return at, separator, stacked
            if names_columns(following[0], reading):
                return at, separator, None
    return None


def _layout_without_header(
    content: Content, head: list[str], filled: list[tuple[int, str]], lines: Iterator[str], reading: Reading
) -> CsvLayout:
    """Choose the columns of rows that are data from the first line, or refuse the first line as a header."""
    number, line = filled[0]
    place = f"{content.path.name}, line {number}"
    separator = max(SEPARATORS, key=line.count)
    cells = cells_of(line, separator)
    is_data = looks_like_data(cells) or sum(is_number(cell.strip()) for cell in cells) > 3
    if not is_data and (not reading.columns or states_names(reading.columns)):
        choose_columns(cells, place, reading)  # which refuses it
    first, pieces = _first_piece(pieces_of(content, chain(head, lines), separator, 0))
    choice = choose_by_rows([] if first is None else first.rows, place, reading)
    order = f"are read as {choice.order}, the order of {choice.vendor}" if choice.vendor else "are those of --columns"
    note = f"the file has no header; its {len(choice.header)} columns {order}"
    return CsvLayout(separator, choice, (note,), pieces)


def _first_piece(pieces: Iterator[Piece]) -> tuple[Piece | None, Iterator[Piece]]:
    first = next(pieces, None)
    return first, pieces if first is None else chain([first], pieces)


def cells_of(line: str, separator: str) -> list[str]:
    """Return the cells of one line; none where it is not a row."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def pieces_of(content: Content, lines: Iterable[str], separator: str, above: int) -> Iterator[Piece]:
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
        ".txt": "the same, with any of these separators",
    },
    read=read_delimited,
    write=bars_as_csv,
)
