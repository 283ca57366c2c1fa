"""The times of a table as open times in UTC: from local times, and from those of the bars' ends."""

from __future__ import annotations

import numpy as np

from ...errors import DataError
from ..reading import Reading
from ..row_faults import step_of
from .closing_stamps import are_closing, open_times
from .table import Table, shown
from .time_zones import check_time_zone, to_utc


def with_utc_open_times(table: Table, reading: Reading) -> Table:
    """Return a table with open times in UTC, and a note where they were those of the bars' ends.

    Raises
    ------
    UsageError
        For an unknown ``--time-zone``.
    DataError
        For a stated zone of times with an offset, local times that its clocks skip, and one bar alone stamped at its end.
    """
    table = _in_utc(table, reading)
    is_stated = table.choice.is_close_time
    if not (is_stated or are_closing(table.time)):
        return table
    step = step_of(table.time[~np.isnat(table.time)])
    if step is None:
        raise DataError(
            f"{table.places.name}: one bar alone, stamped at its end, does not show when it opens. Give at least two bars."
        )
    first = np.datetime_as_string(table.time[~np.isnat(table.time)][0], unit="ms")
    note = f"its times are those of the bars' ends, such as {first}; each bar opens one step earlier"
    return table._replace(time=open_times(table.time, step), notes=(*table.notes, note))


def _in_utc(table: Table, reading: Reading) -> Table:
    zone = table.choice.time_zone
    if reading.time_zone:
        check_time_zone(reading.time_zone)
        if not table.is_naive:
            raise DataError(
                f"{table.places.name}, column {shown(table.choice.time_name)}: --time-zone states {shown(reading.time_zone)}, "
                "but the times are epochs or have an offset from UTC, so they are not local. Leave the option out."
            )
    if not zone or not table.is_naive:
        return table
    return table._replace(time=to_utc(table.time, zone, table.places, table.choice.time_name))
