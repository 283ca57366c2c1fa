"""Bars from files, and back: each format reads a table, then all tables pass the same checks.

A new format is one file in ``data/formats`` with a `FileFormat` of the name ``FORMAT``: it is found there.
"""

from __future__ import annotations

import gzip
import importlib
import logging
import os
import pkgutil
import re
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np

from ..arrays import TimeArray
from ..errors import DataError, known_arguments, python_words
from ..storage.atomic_files import write_bytes
from ..storage.paths import path_of, readable_file
from . import formats
from .bars import Bars
from .explanation import REPETITIONS
from .explanations import another_level, explained
from .formats.file_format import FileFormat
from .formats.markets import of_one_market
from .formats.table import Faults, Places, Table
from .formats.utc_open_times import with_utc_open_times
from .misread_times import exchanged_days
from .reading import AS_WRITTEN, Reading, ReadingOptions, reading_from

UNKNOWN_STEP = np.timedelta64("NaT")  # Bars then finds the step

LISTED_BY_CHECK = "flagbt data check lists all such bars and their fixes."
_logger = logging.getLogger(__name__)


@known_arguments("read_bars", *ReadingOptions.__annotations__)
def read_bars(path: str | Path, **stated: Unpack[ReadingOptions]) -> Bars:
    """Read a file of bars, in any of ``FORMATS``.

    Columns are found by name, in any case: one of ``TIME_NAMES`` (the first in that order) with the bars' OPEN times, and
    open, high, low, close, volume; or the names of a known source. Others are ignored, except the column ``synthetic`` of 1
    by which ``write_bars_csv`` marks generated prices. Times are ISO 8601 (naive means UTC), epoch numbers in one unit,
    detected by their size, or in another form that the file shows.

    A layout that can be read in one way without loss is read, with a warning of the logger ``flagbt.data.readers``: a
    banner above the header, rows without a header in the order of a known source, a file written newest first,
    'Volume BTC' next to 'Volume USDT'. Where two readings are possible, the file is refused, and the arguments decide.

    Parameters
    ----------
    path : str or Path
        A file whose name ends in one of ``FORMATS``.
    columns : str or mapping, optional
        Roles and the columns that have them, by name or by position from 0: ``{"time": 0, "close": "Price"}``, or
        ``time=0,close=Price``; the roles are time, open, high, low, close, volume, symbol, and close_time in place of time.
    time_format : str, optional
        How the times are written, in the notation of ``strptime``.
    time_zone : str, optional
        The zone of times that are written without an offset; by default UTC.
    symbol : str, optional
        The market to read from a file with several.
    closed_hours : str, optional
        When the market is closed each week, in UTC: ``Fri 22:00-Sun 22:00``; by default what the file shows.

    Returns
    -------
    Bars
        With exactly the file's floats; ``source`` is the file's name.

    Raises
    ------
    UsageError
        For an argument that is not of these forms.
    DataError
        For a file that is missing, unreadable, damaged or beyond the limits, and for the first cell that is not a time or
        number or violates a rule of `Bars`, with its line (text; the header's line counts) or row (Parquet, Feather, JSON)
        and column. Nothing is repaired: a blank or NaN cell is refused too.
    """
    with python_words():
        return bars_of_file(path_of(path, "path"), reading_from(stated))


def bars_of_file(path: Path, reading: Reading = AS_WRITTEN) -> Bars:
    """Read a file of bars as `read_bars`, with the words of the command line in messages."""
    table, bars = read_strictly(path, reading)
    for note in table.notes:
        _logger.warning("%s: %s.", path.name, note)
    return bars


def read_strictly(path: Path, reading: Reading = AS_WRITTEN) -> tuple[Table, Bars]:
    """Return a file's table, oldest row first, and its bars.

    Raises
    ------
    DataError
        As `read_bars`.
    """
    table = read_table(path, Faults(strict=True, name=path.name), reading)
    table = reversed_rows(table) if is_newest_first(table.time) else table
    bars = bars_from_table(table, path.name, reading)
    with np.errstate(all="ignore"):
        jump = another_level(table)
    if jump is not None:  # two markets, or a split: the bars are right one by one
        table = table._replace(notes=(*table.notes, f"{jump.found}: {jump.evidence}; flagbt data check states what it may be"))
        bars = replace(bars, notes=table.notes)
    return table, bars


def read_table(path: Path, faults: Faults, reading: Reading = AS_WRITTEN) -> Table:
    """Read a file's columns as they are, not yet checked.

    Raises
    ------
    DataError
        For a file that cannot be read as a table; for the first fault in a row if ``faults`` is strict.
    """
    found = _format_of(path)
    with readable_file(path, "bars", FORMATS):
        return with_utc_open_times(of_one_market(found.read(path, faults, reading), reading.symbol), reading)


def is_newest_first(time: TimeArray) -> bool:
    """Return whether no bar is newer than the one above it, and not all have the same time."""
    steps = np.diff(time)
    return not np.isnat(steps).any() and bool((steps <= np.timedelta64(0)).all() and steps.any())


def reversed_rows(table: Table) -> Table:
    """Return a table with its rows in reverse order, and a note."""
    note = "its bars are written newest first, and were read from the last to the first"
    return table.take(np.arange(len(table.time))[::-1])._replace(notes=(*table.notes, note))


def bars_from_table(table: Table, source: str, reading: Reading = AS_WRITTEN) -> Bars:
    """Create Bars from a table, or report the lines of the file that violate a rule.

    Raises
    ------
    DataError
        Of `Bars`, with the places in the file.
    """
    try:
        bars = Bars(
            table.time,
            **table.values,
            source=source,
            synthetic=table.synthetic,
            step=UNKNOWN_STEP,
            reading=reading,
            notes=table.notes,
        )
    except DataError as error:
        places = _places_in_file(str(error), table.places)
        about_prices = ", expected " in str(error)
        found = explained(table, ("impossible",) if about_prices else (*REPETITIONS, "off-grid")) if len(table.time) else ()
        if found:
            raise DataError(f"{str(error).partition('. ')[0]}.{places} {found[0]}") from None
        raise DataError(f"{error}{places} {LISTED_BY_CHECK}") from None
    if (misread := exchanged_days(table)) is not None:
        raise DataError(f"{source}: {misread}")
    return bars


def write_bars_csv(bars: Bars, path: str | Path) -> None:
    """Write bars as CSV that `read_bars` reads back with an equal digest; gzipped if the name ends in .gz.

    The same bars always give the same bytes. The file is written in one step: under a temporary name in its folder, then
    renamed. Generated prices get a last column ``synthetic`` of 1, so that they stay marked.

    Parameters
    ----------
    bars : Bars
        Times are written as ISO 8601 with Z, floats with every digit they need.
    path : str or Path
        A name that ends in .csv or .csv.gz, in a folder that exists; a file of that name is replaced.

    Raises
    ------
    DataError
        If the name ends otherwise, or the file cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith((".csv", ".csv.gz")):
        raise DataError(f"{path}: expected a name that ends in .csv or .csv.gz. Rename the file.")
    try:
        write_bytes(path, file_of(bars, path.name))
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be written ({reason}). Check that its folder exists.") from None


def file_of(bars: Bars, name: str) -> bytes:
    """Return the content of a file of bars with this name, which ends in one of ``FORMATS``."""
    data = _format_of(Path(name)).write(bars)
    return gzip.compress(data, mtime=0) if name.lower().endswith(".gz") else data


def _found_formats() -> dict[str, FileFormat]:
    """Return the formats by the endings of their files: the ``FORMAT`` of each module of data/formats that has one."""
    found: dict[str, FileFormat] = {}
    for module in pkgutil.iter_modules(formats.__path__, f"{formats.__name__}."):
        each = getattr(importlib.import_module(module.name), "FORMAT", None)
        if each is None:  # a part that several formats share
            continue
        if not isinstance(each, FileFormat):
            raise TypeError(f"{module.name}.FORMAT: expected a FileFormat, got {type(each).__name__}")
        for ending in each.endings:
            if not re.fullmatch(r"(\.[a-z0-9]+)+", ending) or ending in found:
                raise ValueError(f"{module.name}.FORMAT: {ending!r} is not an ending in lower case, or another format has it")
            found[ending] = each
    return found


FORMATS = _found_formats()  # by the ending of the file's name


def _format_of(path: Path) -> FileFormat:
    for ending, each in FORMATS.items():
        if path.name.lower().endswith(ending):
            return each
    if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
        raise DataError(f"{path}: this is a folder. Give the path of one file of bars inside it.")
    raise DataError(
        f"{path}: the name ends in {path.suffix or 'no suffix'!r}, which flagbt does not read. "
        f"It reads {', '.join(FORMATS)}: convert the file to one of them."
    )


def _places_in_file(message: str, places: Places) -> str:
    """Translate the bar numbers of a message of `Bars` (counted from 1) into places in the file."""
    text = message.removeprefix(f"{places.name}: ")
    numbers: list[int] = []
    for first, second in re.findall(r"\bbars? (?:number )?(\d+)(?: and (\d+))?", text):
        numbers += [int(number) for number in (first, second) if number]
    if not numbers:
        return ""
    lines = ", ".join(f"bar {n} is {places.kind} {places.numbers[n - 1]}" for n in sorted(set(numbers)))
    return f" In the file, {lines}."
