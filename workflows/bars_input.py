"""Bars from whatever a user has: a DataFrame, a path, Bars, or nothing for the bundled sample."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from ..arrays import FloatArray
from ..data.bars import COLUMNS, Bars
from ..data.formats.closing_stamps import are_closing, open_times
from ..data.formats.likely_names import likely_name
from ..data.reading import AS_WRITTEN, Reading
from ..data.row_faults import step_of
from ..errors import DataError, UsageError, kind_of
from .inputs import load_bars, stated_options

_logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import pandas as pd

    BarsInput = pd.DataFrame | str | Path | Bars | None
else:
    BarsInput = object


def is_path(data: object) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether an argument for bars names a file."""
    return isinstance(data, str | os.PathLike)


def bars_from(data: BarsInput, reading: Reading = AS_WRITTEN, *, argument: str = "data") -> Bars:
    """Return the bars that an argument names.

    Parameters
    ----------
    data : DataFrame, str, Path, Bars, optional
        A DataFrame has the bars' open times in its index, or in a time column, and the columns open, high, low, close and
        volume, in any case or by the names that a file may have; two levels of columns, as yfinance gives them, are read too if
        they are of one market. Times in any zone are converted; **times without a zone are read as UTC**, and refused where
        they are local times across a change of the clocks. A path is read as `flagbt.read_bars` does. None: the bundled
        SYNTHETIC sample.
    reading : Reading
        Of a path: what the file does not show.
    argument : str
        The argument's name, for messages.

    Raises
    ------
    UsageError
        For any other type, and for a reading of anything but a path.
    DataError
        For bars that break a rule of `Bars`, or a table without them. Nothing is repaired.
    """
    import pandas as pd

    if data is None or is_path(data):
        return load_bars(None if data is None else Path(data), reading)
    if reading != AS_WRITTEN and isinstance(data, Bars | pd.DataFrame):
        raise _unreadable(data, reading, argument)
    if isinstance(data, Bars):
        return data
    if isinstance(data, pd.DataFrame):
        return _of_frame(data, argument)
    raise UsageError(
        f"{argument}: expected a DataFrame, a path, Bars, or None for the bundled SYNTHETIC sample, got {kind_of(data)}."
    )


def _unreadable(data: object, reading: Reading, argument: str) -> UsageError:
    """Return the refusal of a reading of bars in memory."""
    option = stated_options(reading)[0]
    if isinstance(data, Bars):
        remedy = "These are read already: give it to flagbt.read_bars, or leave it out."
    else:
        remedy = _FRAME_REMEDIES[option]
    return UsageError(f"{option}: it states how a file is read, and {argument} is {kind_of(data)}. {remedy}")


_FRAME_REMEDIES = {
    "--columns": 'Name the columns in the frame: frame.rename(columns={"Price": "close"}).',
    "--time-format": 'Convert the times: frame.index = pandas.to_datetime(frame.index, format="...", utc=True).',
    "--time-zone": 'State the zone in the frame: frame.tz_localize("America/New_York").',
    "--symbol": 'Select the market in the frame: frame[frame["symbol"] == "BTCUSDT"].',
    "--closed-hours": "The frame's bars show when the market is closed: leave it out.",
}


def _of_frame(frame: pd.DataFrame, argument: str) -> Bars:
    from .frame_columns import usual_columns
    from .time_stamps_input import naive_remedy, stamped

    what = f"{argument}, DataFrame"
    if frame.empty:
        raise DataError(f"{what}: there are no bars. Give at least one row.")
    times, columns = stamped(frame := usual_columns(frame, what), what)
    if are_closing(times) and (step := step_of(times)) is not None:
        _logger.warning("%s: its times are those of the bars' ends; each bar opens one step earlier.", what)
        times = open_times(times, step)
    opened, high, low, close, volume = (_numbers(columns, name, what) for name in COLUMNS)
    marks = {str(mark) for mark in columns["synthetic"].unique()} if "synthetic" in columns.columns else set()
    synthetic = bool(frame.attrs.get("synthetic")) or bool(marks & {"1", "1.0", "True"})
    if len(times) > 1 and bool((np.diff(times) < np.timedelta64(0)).all()):
        raise DataError(f"{what}: its bars are newest first. Sort them: frame.sort_index().")
    try:
        return Bars(times, opened, high, low, close, volume, source="DataFrame", synthetic=synthetic)
    except DataError as error:
        is_naive = getattr(frame.index, "tz", None) is None
        about_time = any(text in str(error) for text in ("off the grid", "occurs twice", "out of order"))
        raise DataError(f"{error} {naive_remedy()}" if is_naive and about_time else str(error)) from None


def _numbers(columns: pd.DataFrame, name: str, what: str) -> FloatArray:
    """Return a column as floats."""
    names = columns.columns.tolist()
    if names.count(name) != 1:
        if name in names:
            raise DataError(f"{what}: the column '{name}' is there {names.count(name)} times. Remove or rename the others.")
        likely = likely_name(name, names)
        near = f" Did you mean '{likely}'?" if likely else ""
        raise DataError(
            f"{what}: the column '{name}' is missing; its columns are {', '.join(names[:15]) or 'none'}.{near} The columns "
            f"{', '.join(COLUMNS)} are needed, in any case: rename or add it."
        )
    column = columns[name]
    if column.dtype.kind not in "iuf":
        raise DataError(
            f"{what}: the column '{name}' holds {column.dtype}, expected numbers. Convert it with pandas.to_numeric."
        )
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
