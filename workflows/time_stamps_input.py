"""Time stamps of a user's table: any time zone is converted, none is read as UTC, and local time without a zone is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..arrays import TimeArray
from ..data.formats.column_names import TIME_NAMES
from ..data.formats.table import Faults, Places, shown
from ..data.formats.time_forms import DayOrMonthFirst, day_month_format
from ..data.formats.time_stamps import TimeColumn, dates_of_midnights
from ..data.local_time import clock_change
from ..errors import DataError, kind_of


def naive_remedy(zone: str = "America/New_York") -> str:
    """Return what to do about times without a time zone that look like the local time of a zone."""
    return (
        f'flagbt reads an index without a time zone as UTC. If it is local time, convert it: frame.tz_localize("{zone}", '
        'ambiguous="infer").tz_convert("UTC"), with its own zone; if it is UTC, state that: frame.tz_localize("UTC").'
    )


def stamped(table: pd.DataFrame, what: str) -> tuple[TimeArray, pd.DataFrame]:
    """Return a table's time stamps in UTC, and its other columns under their names in lower case.

    Parameters
    ----------
    table : DataFrame
        With a DatetimeIndex, or with its times in the index or in one of the columns ``TIME_NAMES``, as text or epoch numbers.
    what : str
        The argument, for messages.

    Raises
    ------
    DataError
        When there are no times, a time is missing, or they are local times without a zone across a change of the clocks.
    """
    names = _lower_names(table, what)
    plain = table.set_axis(names, axis=1)
    index: object = table.index
    column = None if isinstance(index, pd.DatetimeIndex) else next((name for name in TIME_NAMES if name in names), None)
    if column is not None:
        index = pd.Index(plain[column], name=column)
    times, is_naive = _times(index, len(table), what)
    if np.isnat(times).any():
        raise DataError(
            f"{what}: row {int(np.argmax(np.isnat(times))) + 1} has no time. Remove such rows, or fill in the time."
        )
    if is_naive:
        _refuse_local_time(times, what)
    return times, plain.drop(columns=[name for name in names if name == column])


def _lower_names(table: pd.DataFrame, what: str) -> list[str]:
    if table.columns.nlevels > 1:
        first = ", ".join(map(str, table.columns[:3].tolist()))
        raise DataError(
            f"{what}: its columns have {table.columns.nlevels} levels, such as {first}. Select one instrument, as with "
            'frame.xs("BTC-USD", axis=1, level=1).'
        )
    wrong = next((name for name in table.columns if not isinstance(name, str)), None)
    if wrong is not None:
        raise DataError(
            f"{what}: a column is named {shown(wrong)}, expected text. Name the columns, as open, high, low, close."
        )
    return [str(name).strip().lower() for name in table.columns]


def _times(index: object, rows: int, what: str) -> tuple[TimeArray, bool]:
    """Return the stamps, datetime64[ns] in UTC, and whether they had no time zone."""
    if isinstance(index, pd.Index) and index.dtype.kind == "M":
        stamps = pd.DatetimeIndex(index)
        is_naive = stamps.tz is None
        plain = stamps if is_naive else stamps.tz_convert("UTC").tz_localize(None)
        try:
            times, local = (each.as_unit("ns").to_numpy() for each in (plain, stamps.tz_localize(None)))
            dates = dates_of_midnights(times, local)
            return times if dates is None else dates, is_naive
        except (pd.errors.OutOfBoundsDatetime, OverflowError):
            raise DataError(f"{what}: a time is outside the years 1678 to 2262. Check the index.") from None
    if not isinstance(index, pd.Index) or isinstance(index, pd.RangeIndex | pd.PeriodIndex | pd.MultiIndex):
        raise _without_times(index, what)
    name = TIME_NAMES[0] if index.name is None else str(index.name)
    column, places = TimeColumn(name, Faults(strict=True, name=what)), Places(what, "row", range(1, rows + 1))
    if index.dtype.kind in "iu":
        if name.strip().lower().replace(" ", "_") not in TIME_NAMES:
            raise _without_times(index, what)
        return column.of_numbers(index.to_numpy(dtype=np.int64), np.ones(rows, dtype=np.bool_), places), False
    if index.dtype.kind not in "Of":
        raise _without_times(index, what)
    cells = ["" if pd.isna(cell) else str(cell)[:1000] for cell in index]
    try:
        times = column.of_text(cells, places)
        dates = column.local_dates(times)
        return times if dates is None else dates, column.is_naive
    except DayOrMonthFirst:
        column = TimeColumn(name, column.faults, day_month_format([(cells, places)], name))
        return column.of_text(cells, places), column.is_naive


def _without_times(index: object, what: str) -> DataError:
    remedy = " Convert it: frame.index = frame.index.to_timestamp()." if isinstance(index, pd.PeriodIndex) else ""
    return DataError(
        f"{what}: expected a DatetimeIndex of the bars' open times, or a time column ({', '.join(TIME_NAMES)}); its index is "
        f"{kind_of(index)}.{remedy}"
    )


def _refuse_local_time(times: TimeArray, what: str) -> None:
    """Refuse stamps without a zone that lack the hour that clocks skip in spring, or double the one that they repeat."""
    if change := clock_change(times):
        zone = change.zones[0]
        raise DataError(
            f"{what}: {change.evidence}. That is local time, as in {zone}, without a time zone. {naive_remedy(zone)}"
        )
