"""Bars by Arrow, for Parquet and Feather: only the columns of bars, in batches, with bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...arrays import FloatArray, TimeArray
from ...errors import DataError
from ..bars import Bars
from ..reading import Reading
from .column_choice import ColumnChoice
from .column_names import TIME_NAMES, choose_columns
from .compressed_text import MEGABYTE, MOST_ROWS, check_size
from .table import DAMAGED, Faults, Places, Table, printable, shown
from .table_builder import TableBuilder
from .time_stamps import TimeColumn

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROWS_AT_ONCE = 100_000
MOST_MEMORY = 2_000_000_000  # bytes of address space beyond what the process has
_PANDAS_INDEX = "__index_level_0__"  # a pandas index without a name


def bars_frame(bars: Bars) -> pd.DataFrame:
    """Return the bars as a frame to write, with the column ``synthetic`` of 1 if they are generated."""
    frame = bars.frame()
    return frame.assign(synthetic=1) if bars.synthetic else frame


@contextmanager
def arrow_errors(path: Path, kind: str) -> Iterator[None]:
    """Turn the errors of Arrow in the block into DataErrors, and limit the memory that the block takes."""
    import pyarrow as pa

    if path.is_dir():
        raise IsADirectoryError
    check_size(path)
    try:
        with _bounded_memory():
            yield
    except MemoryError:
        raise DataError(
            f"{path.name}: reading it takes more than {MOST_MEMORY:,} bytes of memory, too much for bars. Fetch it again."
        ) from None
    except (pa.ArrowException, ValueError, OSError, TypeError, KeyError, OverflowError, IndexError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's error; Arrow's errors have no number
            raise
        reason = printable(error).rstrip(".")
        raise DataError(f"{path.name}: this is not a complete {kind} file ({reason}). Fetch or write it again.") from None


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Limit the growth of the process to `MOST_MEMORY` in the block: compressed pages may claim and give any size.

    Arrow has no limit. Where the system has none either, as on Windows, memory is not bounded.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = size + MOST_MEMORY
    unlimited = resource.RLIM_INFINITY
    if (soft != unlimited and soft < limit) or (hard != unlimited and hard < limit):
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _range_index(schema: pa.Schema) -> tuple[str, int, int] | None:
    """Return name, start and step of an index that pandas stores as a range in the file's metadata, not as a column."""
    text = (schema.metadata or {}).get(b"pandas", b"")
    try:
        index = json.loads(text)["index_columns"][0] if len(text) < MEGABYTE else {}
        name, start, step = index["name"], index["start"], index["step"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    valid = all(type(each) is int and 0 < each < 2**62 for each in (start, step))
    return (name, start, step) if valid and str(name).lower() in TIME_NAMES else None


def chosen_columns(schema: pa.Schema, path: Path, reading: Reading) -> ColumnChoice:
    """Return the columns of bars of a table, whose names include that of pandas' index."""
    names = ["time" if name == _PANDAS_INDEX and not _has_time(schema) else str(name) for name in schema.names]
    if not _has_time(schema) and (index := _range_index(schema)) is not None:
        names.append(index[0])
    sample = ["12:00" if at < len(schema.names) and _is_time_of_day(schema, at) else "" for at in range(len(names))]
    return choose_columns(names, f"{path.name}, schema", reading, sample)


def _is_time_of_day(schema: pa.Schema, at: int) -> bool:
    """Return whether a column has times of day: by its type, or as text beside a column of dates."""
    import pyarrow as pa

    kind = schema.types[at]
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(pa.types.is_time(kind) or (is_text and any(map(pa.types.is_date, schema.types))))


def _has_time(schema: pa.Schema) -> bool:
    return bool({str(name).strip().lower() for name in schema.names} & set(TIME_NAMES))


def _column(batch: pa.RecordBatch, choice: ColumnChoice, at: int, first: int) -> pa.Array:
    """Return a batch's column by its position in the file, or the part of pandas' range in its place."""
    import pyarrow as pa

    name, names = choice.header[at], batch.schema.names
    name = _PANDAS_INDEX if name == "time" and name not in names and _PANDAS_INDEX in names else name
    here = [position for position, each in enumerate(names) if each == name]
    if here:  # several columns may have one name, and a batch may lack those that are not read
        alike = [position for position, each in enumerate(choice.header) if each == choice.header[at]]
        alike = alike if len(alike) == len(here) else [position for position in alike if position in choice.used]
        if len(alike) != len(here):
            raise ValueError("its data has different columns than its schema")
        return batch.column(here[alike.index(at)])
    index = _range_index(batch.schema)
    if index is None or index[0] != name:
        raise ValueError("its data has different columns than its schema")
    _, start, step = index
    if start + step * (first + batch.num_rows) >= 2**63:
        raise ValueError("the index runs beyond 64 bits")
    return pa.array(start + step * np.arange(first, first + batch.num_rows, dtype=np.int64))


def check_row_count(rows: int, path: Path) -> None:
    """Refuse a table of more than `MOST_ROWS`."""
    if rows > MOST_ROWS:
        raise DataError(f"{path.name}: it claims {rows:,} rows, at most {MOST_ROWS:,} are read. Split it into parts.")


def table_of_batches(batches: Iterator[pa.RecordBatch], choice: ColumnChoice, path: Path, faults: Faults, kind: str) -> Table:
    """Return the bars of a table's batches; ``choice`` is that of `chosen_columns`."""
    builder = TableBuilder(path.name, "row", choice, faults)
    names = choice.header
    count = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        batch.validate(full=True)
        check_row_count(count + batch.num_rows, path)
        numbers = np.arange(count + 1, count + batch.num_rows + 1)
        first, count = count, count + batch.num_rows
        arrays = {role: _column(batch, choice, at, first) for role, at in choice.positions.items()}
        places = builder.places(numbers)
        values = {
            role: _lenient_floats(arrays[role])
            if role == "quote volume"
            else _floats(arrays[role], names[choice.positions[role]], places, faults)
            for role in builder.roles
        }
        parts = [_column(batch, choice, at, first) for at in choice.time]
        times = times_of(parts[0], builder.column, places) if len(parts) == 1 else _joined_times(parts)
        marks = [str(mark) for mark in arrays["synthetic"].unique().to_pylist()[:10]] if "synthetic" in arrays else []
        symbols = [_column(batch, choice, at, first).to_pylist() for at in choice.symbols]
        markets = [[_market(cell) for cell in cells] for cells in symbols]
        builder.add(numbers, values, times, marks, markets)
    table = builder.table(kind)
    if table is None:
        raise DataError(f"{path.name}: the table has columns, but no rows. Fetch the file again.")
    return table


def _market(cell: object) -> str:
    text = cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)
    return "" if cell is None else text[:100]


def _joined_times(parts: list[pa.Array]) -> list[str]:
    import pyarrow as pa

    date, clock = (part.cast(pa.string()).to_pylist() for part in parts)
    return [f"{day or ''} {hour or ''}".strip() for day, hour in zip(date, clock, strict=True)]


def _lenient_floats(array: pa.Array) -> FloatArray:
    """Return numbers that only prove others: NaN where a cell, or the column, is none."""
    import pyarrow as pa

    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type)):
        return np.full(len(array), np.nan)
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def _floats(array: pa.Array, column: str, places: Places, faults: Faults) -> FloatArray:
    import pyarrow as pa

    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        first = next((value for value in array[:1000].to_pylist() if value is not None), None)
        raise DataError(
            f"{places.at(0, column)}: expected a column of numbers, got {shown(kind)} ({shown(first)}). "
            "Write the column as float64."
        )
    for at in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
        error = DataError(
            f"{places.at(at, column)}: expected a number, got a blank cell. Fix the cell, or fetch the file again."
        )
        faults.add(DAMAGED, places.numbers[at], error)
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def times_of(array: pa.Array, column: TimeColumn, places: Places) -> TimeArray:
    """Return the stamps in UTC of a column of times, epoch numbers or text."""
    import pandas as pd
    import pyarrow as pa

    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):  # Arrow keeps UTC, whatever the zone shown
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        stamps = array.cast(pa.timestamp("ns", zone), safe=True)
        known = stamps.is_valid().to_numpy(zero_copy_only=False)
        result = stamps.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).astype("datetime64[ns]")
        result = np.where(known, result, np.datetime64("NaT", "ns"))
        local = None if zone in (None, "UTC") else pd.DatetimeIndex(result).tz_localize("UTC").tz_convert(zone)
        in_zone = None if local is None else local.tz_localize(None).to_numpy()
        return column.of_stamps(result, places, is_naive=zone is None, local=in_zone)
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_integer(kind):
        known = array.is_valid().to_numpy(zero_copy_only=False)
        return column.of_numbers(array.fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False), known, places)
    if pa.types.is_floating(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.of_text(["" if cell is None else str(cell)[:1000] for cell in array.to_pylist()], places)
    raise DataError(
        f"{places.at(0, column.name)}: expected a column of times or epoch numbers, got {shown(kind)}. "
        "Write the column as timestamps in UTC."
    )
