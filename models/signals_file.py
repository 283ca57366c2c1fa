"""Files of signals, CSV, Parquet or Feather: the stamps and the columns of signals, and where each row is in its file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..arrays import FloatArray, TimeArray
from ..data.formats.arrow_table import ROWS_AT_ONCE, arrow_errors, check_row_count, times_of
from ..data.formats.column_names import TIME_NAMES, UNNAMED
from ..data.formats.compressed_text import Content, opened
from ..data.formats.csv_text import SEPARATORS, Piece, cells_of, equal_width, pieces_of
from ..data.formats.table import Faults, Places, shown
from ..data.formats.time_forms import DayOrMonthFirst, day_month_format
from ..data.formats.time_stamps import TimeColumn
from ..data.labels import BUY, CLASS_NAMES, HOLD, SELL
from ..data.local_time import clock_change
from ..errors import DataError, UsageError
from ..storage.paths import readable_file
from .signals import NO_SIGNAL

if TYPE_CHECKING:
    import pyarrow as pa

PROBABILITIES = ("p_sell", "p_hold", "p_buy")
SIGNAL_COLUMNS = ("signal", *PROBABILITIES, "exposure")
_BLANK = frozenset(("", "NAN", "NA", "N/A", "<NA>", "#N/A", "NULL", "NONE"))
_CODES = {**dict(zip(CLASS_NAMES, (SELL, HOLD, BUY), strict=True)), **dict.fromkeys(_BLANK, np.nan)}
_INDEX = "__index_level_0__"  # a pandas index without a name
_FORM = "Write the times as 2024-01-31 13:00:00, in UTC or with their offset."


class SignalTable(NamedTuple):
    """Rows of signals in the order of their file, not yet checked: NaN in a cell that is blank."""

    time: TimeArray
    columns: Mapping[str, FloatArray]
    places: Places


def read_signals_file(path: Path, option: str = "--signals") -> SignalTable:
    """Read a file of signals, which ``option`` names.

    Times have the forms of those of bars; without an offset they are UTC. A column of signals holds SELL, HOLD, BUY in any case
    or their numbers, -1 for none; the others hold numbers. Columns of other names are ignored.

    Raises
    ------
    UsageError
        For a name that ends otherwise than in ``.csv``, ``.csv.gz``, ``.parquet`` or ``.feather``.
    DataError
        For a file that is missing, damaged or beyond the limits, and for the first cell that cannot be read, with its line
        (text; the header's line counts) or row (Parquet, Feather).
    """
    name = path.name.lower()
    read = next((each for ending, each in _READERS.items() if name.endswith(ending)), None)
    if read is None and not os.path.isdir(path):  # Path.is_dir raises for a name that is too long
        raise UsageError(f"{option}: {path} ends in {path.suffix or 'no suffix'!r}, expected {', '.join(_READERS)}.")
    try:
        with readable_file(path, "signals", _READERS, option):
            return (read or _read_text)(path)
    except DataError as error:
        text, of_bars, _ = str(error).partition("--time-format")  # which belongs to the file of bars
        raise DataError(f"{text.rpartition('. ')[0]}. {_FORM}" if of_bars else text) from None


def names_probabilities(path: Path) -> bool:
    """Return whether a file has the columns of three probabilities; False for any file that cannot be read."""
    try:
        if path.name.lower().endswith((".csv", ".csv.gz")):
            with opened(path) as content:
                found = set(_layout(content).positions)
        elif path.name.lower().endswith((".parquet", ".feather")):
            with arrow_errors(path, _arrow_kind(path)), _arrow(path) as (schema, _):
                found = {str(each).strip().lower() for each in schema.names}
        else:
            return False
    except (DataError, OSError):
        return False
    return found.issuperset(PROBABILITIES)


def signal_codes(cells: Sequence[str], column: str, places: Places) -> FloatArray:
    """Return signals as 0, 1, 2, -1 and NaN for a blank cell.

    Raises
    ------
    DataError
        For any other cell, with its place.
    """
    known: dict[str, float] = {}
    for at, cell in enumerate(cells):
        if cell not in known:
            known[cell] = _code(cell, column, places, at)
    return np.array([known[cell] for cell in cells], dtype=np.float64)


def _code(cell: str, column: str, places: Places, at: int) -> float:
    text = cell.strip()
    if (code := _CODES.get(text.upper())) is not None:
        return code
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if value not in (NO_SIGNAL, SELL, HOLD, BUY):
        raise DataError(
            f"{places.at(at, column)}: {shown(text)} is not a signal, expected {', '.join(CLASS_NAMES)} or 0, 1, 2. Leave the "
            "cell blank where there is none."
        )
    return value


def _numbers(cells: Sequence[str], column: str, places: Places) -> FloatArray:
    with suppress(ValueError):  # all are numbers, as Python and other programs read them
        if "_" not in "".join(cells):
            return np.array(list(map(float, cells)))
    values = np.full(len(cells), np.nan)
    for at, cell in enumerate(cells):
        text = cell.strip()
        if text.upper() in _BLANK:
            continue
        try:
            values[at] = float(text.replace("_", "?"))
        except ValueError:
            raise DataError(
                f"{places.at(at, column)}: expected a number, got {shown(text)}. Write it with a point, as in 0.25, or leave "
                "the cell blank where there is no signal."
            ) from None
    return values


def _positions(names: Sequence[str], place: str) -> tuple[int, dict[str, int]]:
    """Return the position of the times, and those of the columns of signals, from names in lower case."""
    wanted = [each for each in SIGNAL_COLUMNS if each in names]
    if not wanted:
        raise no_signals(place, names)
    time = next((each for each in TIME_NAMES if each in names), None)
    doubled = next((each for each in (time, *wanted) if each is not None and names.count(each) > 1), None)
    if doubled is not None:
        raise DataError(f"{place}: the column '{doubled}' is there twice. Remove or rename one.")
    if time is None and names[0].replace(" ", "_") not in (*UNNAMED, _INDEX):
        raise DataError(
            f"{place}: no column holds times; its columns are {_listed(names)}. Name the column with the open times of the "
            f"bars {TIME_NAMES[0]}, or as one of {', '.join(TIME_NAMES[1:])}."
        )
    return 0 if time is None else names.index(time), {each: names.index(each) for each in wanted}


def no_signals(place: str, names: Sequence[str]) -> DataError:
    """Return the refusal of a table whose columns hold no signals."""
    return DataError(
        f"{place}: no column holds signals; its columns are {_listed(names)}. Name one signal or exposure, or three "
        f"{', '.join(PROBABILITIES)}."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(each[:40] for each in names[:15]) or "none"


class _Rows:
    """The rows of a file, piece by piece."""

    def __init__(self, name: str, kind: str, time_name: str, columns: Sequence[str], time_format: str = "") -> None:
        self.name, self.kind = name, kind
        self.column = TimeColumn(time_name, Faults(strict=True, name=name), time_format)
        self._times: list[TimeArray] = []
        self._numbers: list[Sequence[int]] = []
        self._values: dict[str, list[FloatArray]] = {each: [] for each in columns}

    def add(self, places: Places, times: TimeArray, values: Mapping[str, FloatArray]) -> None:
        self._times.append(times)
        self._numbers.append(np.asarray(places.numbers).tolist())
        for each, found in values.items():
            self._values[each].append(found)

    def table(self) -> SignalTable:
        if not self._times:
            raise DataError(f"{self.name}: there are no rows. Give one for each bar with a signal.")
        time = np.concatenate(self._times)
        if (dates := self.column.local_dates(time)) is not None:
            time = dates
        if self.column.is_naive and (change := clock_change(time)):
            raise DataError(
                f"{self.name}: {change.evidence}. That is local time, as in {change.zones[0]}, and signals are read as UTC "
                "where their times have no offset. Write the times in UTC, or with their offset."
            )
        values = {each: np.concatenate(pieces) for each, pieces in self._values.items()}
        return SignalTable(time, values, Places(self.name, self.kind, np.concatenate(self._numbers)))


# --- text ------------------------------------------------------------------------------------------------------------


class _Layout(NamedTuple):
    header: list[str]
    time: int
    positions: dict[str, int]
    pieces: Iterator[Piece]


def _read_text(path: Path) -> SignalTable:
    try:
        return _text_table(path, "")
    except DayOrMonthFirst:
        with opened(path) as content:
            layout = _layout(content)
            times = (([row[layout.time] for row in rows], places) for rows, places in _whole_rows(layout, path.name))
            order = day_month_format(times, layout.header[layout.time])
        return _text_table(path, order)


def _text_table(path: Path, time_format: str) -> SignalTable:
    with opened(path) as content:
        layout = _layout(content)
        found = _Rows(path.name, "line", layout.header[layout.time], [*layout.positions], time_format)
        for rows, places in _whole_rows(layout, path.name):
            cells = list(zip(*rows, strict=True))
            times = found.column.of_text(cells[layout.time], places)
            values = {
                each: (signal_codes if each == "signal" else _numbers)(cells[at], layout.header[at], places)
                for each, at in layout.positions.items()
            }
            found.add(places, times, values)
    return found.table()


def _layout(content: Content) -> _Layout:
    """Find the header, which is the first line that is not blank."""
    lines, name = content.lines(), content.path.name
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        headers = {each: [cell.strip() for cell in cells_of(line, each)] for each in SEPARATORS if each in line}
        known = (each for each, cells in headers.items() if set(map(str.lower, cells)) & set(SIGNAL_COLUMNS))
        separator = next(known, next(iter(headers), ","))
        header = headers.get(separator, [line.strip()])
        time, positions = _positions([each.lower() for each in header], f"{name}, line {number}")
        return _Layout(header, time, positions, pieces_of(content, lines, separator, number))
    raise DataError(f"{name}: the file is empty. Give a file with a header and at least one row.")


def _whole_rows(layout: _Layout, name: str) -> Iterator[tuple[list[list[str]], Places]]:
    for piece in layout.pieces:
        rows = equal_width(piece, len(layout.header), name, Faults(strict=True, name=name))
        yield rows, Places(name, "line", piece.lines)


# --- Arrow -----------------------------------------------------------------------------------------------------------


def _read_arrow(path: Path) -> SignalTable:
    with arrow_errors(path, _arrow_kind(path)), _arrow(path) as (schema, batches_of):
        time, positions = _positions([str(each).strip().lower() for each in schema.names], f"{path.name}, schema")
        names = [str(each) for each in schema.names]
        found = _Rows(path.name, "row", names[time], [*positions])
        count = 0
        for batch in batches_of(sorted({time, *positions.values()})):
            batch.validate(full=True)
            check_row_count(count + batch.num_rows, path)
            if batch.num_rows == 0:
                continue
            places = Places(path.name, "row", range(count + 1, count + batch.num_rows + 1))
            count += batch.num_rows
            times = times_of(batch.column(names[time]), found.column, places)
            values = {each: _arrow_values(batch.column(names[at]), each, places) for each, at in positions.items()}
            found.add(places, times, values)
        return found.table()


def _arrow_kind(path: Path) -> str:
    return "Feather" if path.name.lower().endswith(".feather") else "Parquet"


def _arrow(path: Path) -> AbstractContextManager[tuple[pa.Schema, _Batches]]:
    return _feather(path) if _arrow_kind(path) == "Feather" else _parquet(path)


_Batches = Callable[[Sequence[int]], "Iterator[pa.RecordBatch]"]


@contextmanager
def _parquet(path: Path) -> Iterator[tuple[pa.Schema, _Batches]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        schema = file.schema_arrow
        check_row_count(file.metadata.num_rows, path)
        if file.metadata.num_row_groups > ROWS_AT_ONCE:
            raise DataError(f"{path.name}: it has {file.metadata.num_row_groups:,} row groups. Write it again with fewer.")
        yield (
            schema,
            lambda at: file.iter_batches(ROWS_AT_ONCE, columns=[schema.names[each] for each in at], use_threads=False),
        )


@contextmanager
def _feather(path: Path) -> Iterator[tuple[pa.Schema, _Batches]]:
    import pyarrow as pa

    def batches(at: Sequence[int]) -> Iterator[pa.RecordBatch]:
        options = pa.ipc.IpcReadOptions(included_fields=list(at), use_threads=False)
        with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source, options=options) as file:
            yield from (file.get_batch(each) for each in range(file.num_record_batches))

    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source) as file:
        if file.num_record_batches > ROWS_AT_ONCE:
            raise DataError(f"{path.name}: it has {file.num_record_batches:,} parts. Write it again with fewer.")
        yield file.schema, batches


def _arrow_values(array: pa.Array, column: str, places: Places) -> FloatArray:
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if column == "signal" and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return signal_codes(["" if cell is None else cell for cell in array.to_pylist()], column, places)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        wanted = f"numbers, or the text {', '.join(CLASS_NAMES)}" if column == "signal" else "numbers"
        raise DataError(f"{places.at(0, column)}: expected a column of {wanted}, got {shown(kind)}. Write the column again.")
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


_READERS: dict[str, Callable[[Path], SignalTable]] = {
    ".csv": _read_text,
    ".csv.gz": _read_text,
    ".parquet": _read_arrow,
    ".feather": _read_arrow,
}
