"""Bars from files, and back: one function a format turns a file into columns, then all pass the same checks.

A new format is one function ``Path -> Table`` and one line in ``FORMATS``.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import DataError, nearest
from .bars import COLUMNS, Bars, FloatArray, TimeArray

TIME_NAMES = ("timestamp", "timestamps", "time", "date", "datetime", "open_time", "unix")
BINANCE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
# Text cells take ten times the memory of floats, so rows become floats in pieces; small pieces are the fastest.
ROWS_AT_ONCE = 1_000
UNKNOWN_STEP = np.timedelta64("NaT")  # lets Bars find the step

_ISO = re.compile(
    r"(?:19|20|21)\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?(?:Z|[+-]\d\d(?::?\d\d)?))?)?", re.ASCII
)
_EPOCH = re.compile(r"(\d{1,18}|[1-8]\d{18})(?:\.0*)?", re.ASCII)
_SCIENTIFIC = re.compile(r"\d+(?:[.,]\d+)?[eE]\+?\d+", re.ASCII)
# Unit, nanoseconds in it, smallest and first too large value: 1973 to 2255, where no two units can be confused.
_EPOCH_UNITS = (
    ("seconds", 10**9, 10**8, 9 * 10**9),
    ("milliseconds", 10**6, 10**11, 9 * 10**12),
    ("microseconds", 10**3, 10**14, 9 * 10**15),
    ("nanoseconds", 1, 10**17, 9 * 10**18),
)
_FOREIGN_MAGIC = {
    b"\x1f\x8b": "gzip data: name the file .csv.gz",
    b"PAR1": "Parquet data: name the file .parquet",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save the sheet as CSV",
    b"\xff\xfe": "UTF-16 text: save the file as UTF-8",
    b"\xfe\xff": "UTF-16 text: save the file as UTF-8",
}


class Places(NamedTuple):
    """Where each bar stands in its file: ``line 7`` of a text (as an editor counts), ``row 6`` of a table."""

    name: str
    word: str
    numbers: Sequence[int]

    def at(self, position: int, column: str) -> str:
        """Say where the cell of the bar at ``position`` stands."""
        return f"{self.name}, {self.word} {self.numbers[position]}, column '{column}'"


class Table(NamedTuple):
    """What a format's function gives: the bars' columns, not yet checked, and where each bar stands."""

    time: TimeArray
    values: dict[str, FloatArray]
    places: Places
    synthetic: bool


def read_bars(path: str | Path) -> Bars:
    """Read a file of bars: CSV, gzipped CSV or Parquet.

    Columns are found by name, in any case: one of ``TIME_NAMES`` (the first in that order) with the bars' OPEN times,
    and open, high, low, close, volume; others are ignored, except that ``write_bars_csv`` marks generated prices by a
    column ``synthetic`` of 1. Times are ISO 8601 (naive means UTC) or epoch numbers in one unit, told by their size.

    Parameters
    ----------
    path : str or Path
        A file whose name ends in .csv, .csv.gz or .parquet.

    Returns
    -------
    Bars
        With exactly the file's floats; ``source`` is the file's name.

    Raises
    ------
    DataError
        For a file that is missing, unreadable or damaged, and for the first cell that is no time or number or breaks
        a rule of `Bars`, with its line (CSV; the header is line 1) or row (Parquet) and column. Nothing is repaired:
        a blank or NaN cell is refused too.
    """
    path = Path(path)
    read = _format_of(path)
    try:
        table = read(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file. {_neighbour(path)}Give the path of a file of bars.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: this is a folder. Give the path of one file of bars inside it.") from None
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}). Check the file and its permissions.") from None
    try:
        return Bars(table.time, **table.values, source=path.name, synthetic=table.synthetic, step=UNKNOWN_STEP)
    except DataError as error:
        raise DataError(f"{error}{_where_bars_stand(str(error), table.places)}") from None


def write_bars_csv(bars: Bars, path: str | Path) -> None:
    """Write bars as CSV that `read_bars` reads back with an equal digest; gzipped if the name ends in .gz.

    The same bars always give the same bytes. The file appears whole or not at all: it is written under a temporary
    name beside it, then renamed. Generated prices get a last column ``synthetic`` of 1, so that they stay marked.

    Parameters
    ----------
    bars : Bars
        What to write: times as ISO 8601 with Z, floats with every digit they need.
    path : str or Path
        A name that ends in .csv or .csv.gz, in a folder that exists; a file of that name is replaced.

    Raises
    ------
    DataError
        If the name ends otherwise, or the file cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith((".csv", ".csv.gz")):
        raise DataError(f"{path}: expected a name that ends in .csv or .csv.gz. Name the file so.")
    whole_seconds = bool((bars.time.astype("datetime64[s]") == bars.time).all())
    stamps = np.datetime_as_string(bars.time, unit="s" if whole_seconds else "ns").tolist()
    mark_name, mark = (",synthetic", ",1") if bars.synthetic else ("", "")
    cells = zip(stamps, *(getattr(bars, name).tolist() for name in COLUMNS), strict=True)
    rows = "".join(f"{time}Z,{o!r},{h!r},{low!r},{c!r},{v!r}{mark}\n" for time, o, h, low, c, v in cells)
    data = f"timestamp,{','.join(COLUMNS)}{mark_name}\n{rows}".encode()
    if path.name.lower().endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be written ({reason}). Check that its folder exists.") from None


# --- formats: each a function from a path to a Table -----------------------------------------------------------------


def _read_csv(path: Path) -> Table:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows = _numbered(reader, path.name)
    first_line, header = next(rows, (1, []))
    if not header:
        raise DataError(f"{path.name}: the file is empty. Give a file with a header and at least one row of data.")
    chosen = _choose_columns(header, f"{path.name}, line {first_line}")
    lines: list[int] = []
    times: list[str] = []
    marks: set[str] = set()
    pieces: dict[str, list[FloatArray]] = {name: [] for name in COLUMNS}
    while piece := list(islice(rows, ROWS_AT_ONCE)):
        for line, row in piece:
            if len(row) != len(header):
                raise DataError(
                    f"{path.name}, line {line}: expected {len(header)} cells as in the header, got {len(row)} "
                    f"({_shown(','.join(row))}). Mend this line, or fetch the file again."
                )
        cells = list(zip(*(row for _, row in piece), strict=True))
        places = Places(path.name, "line", [line for line, _ in piece])
        lines += places.numbers
        times += cells[chosen["time"]]
        for name in COLUMNS:
            pieces[name].append(_floats(cells[chosen[name]], header[chosen[name]].strip(), places))
        if "synthetic" in chosen:
            marks.update(cells[chosen["synthetic"]])
    if not lines:
        raise DataError(f"{path.name}: the file has a header, but no row of data below it. Fetch the file again.")
    places = Places(path.name, "line", lines)
    time = _times_of_text(times, header[chosen["time"]].strip(), places)
    return Table(time, {name: np.concatenate(pieces[name]) for name in COLUMNS}, places, _is_marked(marks))


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa  # here, since it is slow and CSV does not need it

    if path.is_dir():
        raise IsADirectoryError
    try:
        frame = pd.read_parquet(path)
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; Arrow's own have no number
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{path.name}: this is no whole Parquet file ({reason}). Fetch or write it again.") from None
    header = [str(column) for column in frame.columns]
    columns: list[pd.Series[Any]] = [frame.iloc[:, at] for at in range(len(header))]
    if frame.index.name is not None or not isinstance(frame.index, pd.RangeIndex):
        header.insert(0, str(frame.index.name or "time"))
        columns.insert(0, frame.index.to_series())
    chosen = _choose_columns(header, f"{path.name}, schema")
    if len(frame) == 0:
        raise DataError(f"{path.name}: the table has columns, but no rows. Fetch the file again.")
    places = Places(path.name, "row", range(1, len(frame) + 1))
    values = {}
    for name in COLUMNS:
        column = columns[chosen[name]]
        if not pd.api.types.is_numeric_dtype(column.dtype) or column.dtype.kind not in "iuf":
            raise DataError(
                f"{places.at(0, header[chosen[name]])}: expected a column of numbers, got {column.dtype} "
                f"({_shown(column.iloc[0])}). Write the column as float64."
            )
        values[name] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    time = _times_of_column(columns[chosen["time"]], header[chosen["time"]], places)
    marks = set(columns[chosen["synthetic"]].astype(str)) if "synthetic" in chosen else set()
    return Table(time, values, places, _is_marked(marks))


FORMATS: dict[str, Callable[[Path], Table]] = {".csv": _read_csv, ".csv.gz": _read_csv, ".parquet": _read_parquet}


def _format_of(path: Path) -> Callable[[Path], Table]:
    for ending, read in FORMATS.items():
        if path.name.lower().endswith(ending):
            return read
    if path.is_dir():
        raise DataError(f"{path}: this is a folder. Give the path of one file of bars inside it.")
    raise DataError(
        f"{path}: the name ends in {path.suffix or 'no suffix'!r}, which flagbt does not read. "
        f"It reads {', '.join(FORMATS)}: convert the file to one of them."
    )


def _neighbour(path: Path) -> str:
    """Name a readable file of nearly that name in the same folder, if there is one."""
    if not path.parent.is_dir():
        return f"Its folder {path.parent} does not exist either. "
    guess = nearest(path.name, [p.name for p in path.parent.iterdir() if p.name.lower().endswith(tuple(FORMATS))])
    return f"{guess} " if guess.startswith("Did you mean") else ""


# --- text ------------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    data = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path.name}: this is no whole gzip file ({error}). Fetch it again.") from None
    for magic, remedy in _FOREIGN_MAGIC.items():
        if data.startswith(magic):
            raise DataError(f"{path.name}: expected CSV text, got {remedy}.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}, line {line}: expected UTF-8 text, got the byte 0x{data[error.start]:02x}. "
            "Give a CSV file, saved as UTF-8."
        ) from None


def _numbered(reader: Any, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with its line number; lines without any character are passed over."""
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        place = f"{name}, line {reader.line_num}"
        raise DataError(f"{place}: this is no CSV row ({error}). Mend the quotes there.") from None


def _floats(cells: Sequence[str], column: str, places: Places) -> FloatArray:
    # Python's float() is exact, but takes 1_000 for a number.
    try:
        if "_" not in "".join(cells):
            return np.array([float(cell) for cell in cells])
    except ValueError:
        pass
    at = next(at for at, cell in enumerate(cells) if not _is_number(cell))
    got = _shown(cells[at]) if cells[at].strip() else "a blank cell"
    raise DataError(f"{places.at(at, column)}: expected a number, got {got}. Mend the cell, or fetch the file again.")


def _is_number(cell: str) -> bool:
    try:
        return "_" not in cell and float(cell) is not None
    except ValueError:
        return False


# --- columns ---------------------------------------------------------------------------------------------------------


def _choose_columns(header: Sequence[str], place: str) -> dict[str, int]:
    """Return the position of 'time' and of each required column (and of 'synthetic' if there)."""
    names = [name.strip().lower() for name in header]
    if len(names) > 5 and all(_is_number(name) for name in names[1:6]):
        line = BINANCE_HEADER if len(names) == 12 else "open_time,open,high,low,close,volume"
        raise DataError(
            f"{place}: expected a header that names the columns, got a row of data ({_shown(','.join(header))}). "
            f"Files of Binance's archive have no header: put the line '{line}' on top."
        )
    wanted = {name: name for name in (*COLUMNS, "synthetic")} | {
        "time": next((name for name in TIME_NAMES if name in names), "time")
    }
    chosen: dict[str, int] = {}
    for role, name in wanted.items():
        if names.count(name) > 1:
            raise DataError(f"{place}: the column '{name}' stands twice. Remove or rename one of them.")
        if name in names:
            chosen[role] = names.index(name)
    for role in ("time", *COLUMNS):
        if role not in chosen:
            raise DataError(f"{place}: {_missing(role, names)}")
    return chosen


def _missing(role: str, names: Sequence[str]) -> str:
    what = f"a time column ({', '.join(TIME_NAMES)})" if role == "time" else f"the column '{role}'"
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and separator in names[0]:
            return f"{what} is missing, since the cells are separated by {word}. Save the file with commas."
    there = ", ".join(_shown(name) for name in names[:15]) + (", ..." if len(names) > 15 else "")
    guess = nearest(role, names)
    guess = f" {guess}" if guess.startswith("Did you mean") else ""
    return (
        f"{what} is missing; the columns there are {there}.{guess} "
        f"Rename a column, or remove lines above the header, until it names a time column and {', '.join(COLUMNS)}."
    )


def _is_marked(marks: set[str]) -> bool:
    return any(mark.strip().lower() not in ("", "0", "false") for mark in marks)


# --- times -----------------------------------------------------------------------------------------------------------


def _times_of_text(cells: Sequence[str], column: str, places: Places) -> TimeArray:
    cells = [cell.strip() for cell in cells]
    epoch = bool(_EPOCH.fullmatch(cells[0]))
    pattern = _EPOCH if epoch else _ISO
    bad = next((at for at, cell in enumerate(cells) if not pattern.fullmatch(cell)), None)
    if bad is not None:
        raise _no_time(cells[bad], bad, column, places, "an epoch number, as in the first row" if epoch else None)
    if epoch:
        return _times_of_epochs(np.array([int(cell.partition(".")[0]) for cell in cells]), column, places)
    stamps = pd.to_datetime(pd.Series(cells, dtype="str"), format="ISO8601", utc=True, errors="coerce")
    if stamps.isna().any():
        bad = int(np.argmax(stamps.isna()))
        raise _no_time(cells[bad], bad, column, places)
    return _naive_utc(pd.DatetimeIndex(stamps))


def _times_of_column(column: pd.Series[Any], name: str, places: Places) -> TimeArray:
    empty = column.isna().to_numpy()
    if empty.any():
        raise _no_time("", int(np.argmax(empty)), name, places)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _naive_utc(pd.DatetimeIndex(column))
    if column.dtype.kind in "iu":
        return _times_of_epochs(column.to_numpy(dtype=np.int64), name, places)
    return _times_of_text([str(cell) for cell in column], name, places)


def _naive_utc(stamps: pd.DatetimeIndex) -> TimeArray:
    if stamps.tz is not None:
        stamps = stamps.tz_convert("UTC").tz_localize(None)
    return stamps.as_unit("ns").to_numpy()


def _times_of_epochs(values: npt.NDArray[np.int64], column: str, places: Places) -> TimeArray:
    unit = np.full(len(values), -1)
    for at, (_, _, smallest, too_large) in enumerate(_EPOCH_UNITS):
        unit[(values >= smallest) & (values < too_large)] = at
    if (unit < 0).any():
        bad = int(np.argmax(unit < 0))
        raise _no_time(str(values[bad]), bad, column, places, "epoch seconds, ms, us or ns of the years 1973 to 2255")
    if (unit != unit[0]).any():
        bad = int(np.argmax(unit != unit[0]))
        before, after = _EPOCH_UNITS[unit[0]][0], _EPOCH_UNITS[unit[bad]][0]
        raise DataError(
            f"{places.at(bad, column)}: here the times change from {before} to {after} ({_shown(str(values[bad]))}). "
            "Write the whole column in one unit."
        )
    return (values * _EPOCH_UNITS[unit[0]][1]).astype("datetime64[ns]")


def _no_time(cell: str, at: int, column: str, places: Places, expected: str | None = None) -> DataError:
    got = _shown(cell) if cell.strip() else "a blank cell"
    remedy = "Mend the cell, or fetch the file again."
    if _SCIENTIFIC.fullmatch(cell):
        remedy = "A spreadsheet has rounded it, and digits are lost: fetch the file again and do not re-save it."
    expected = expected or "a time such as 2024-01-31T13:00:00Z or 2024-01-31 13:00:00 (UTC), or epoch seconds to ns"
    return DataError(f"{places.at(at, column)}: expected {expected}, got {got}. {remedy}")


# --- messages --------------------------------------------------------------------------------------------------------


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _where_bars_stand(message: str, places: Places) -> str:
    """Translate the bar numbers of a message of `Bars` (counted from 1) into places in the file."""
    said = message.removeprefix(f"{places.name}: ")
    numbers: list[int] = []
    for first, second in re.findall(r"\bbars? (?:number )?(\d+)(?: and (\d+))?", said):
        numbers += [int(number) for number in (first, second) if number]
    if not numbers:
        return ""
    stands = ", ".join(f"bar {n} is {places.word} {places.numbers[n - 1]}" for n in sorted(set(numbers)))
    return f" In the file, {stands}."
