"""Reading: what a user states of a file of bars where the file itself does not show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import TypedDict

from ..errors import UsageError, quoted_value
from ..options import check_options, from_options, known_fields, option, option_table


@known_fields
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file of bars is read; by default the file shows everything.

    Parameters
    ----------
    columns : str, optional
        Roles and the columns that have them, by name or by position from 0: ``time=0,open=1,high=2,low=3,close=4,volume=5``.
        The roles are time, open, high, low, close, volume, and symbol; ``close_time`` instead of ``time`` where the stamps are
        those of the bars' ends; ``time=0+1`` where the date and the time of day are in two columns. Columns of other roles are
        found as without the option.
    time_format : str, optional
        How the times are written, in the notation of ``strptime``: ``%d.%m.%Y %H:%M``.
    time_zone : str, optional
        The zone of times that are written without an offset, such as ``America/New_York``. Default: UTC.
    symbol : str, optional
        The market to read from a file with several.
    closed_hours : str, optional
        When the market is closed each week, in UTC: ``Sat-Sun``, ``Fri 22:00-Sun 22:00``; several are separated by commas.
        Default: what the file shows.
    """

    columns: str | None = option(None, help="Columns by name, or by position from 0: time=Date,close=4.", group="Bars")
    time_format: str | None = option(None, help="How times are written, for strptime: '%d.%m.%Y %H:%M'.", group="Bars")
    time_zone: str | None = option(None, help="Zone of times without an offset. Default: UTC.", group="Bars")
    symbol: str | None = option(None, help="The market to read from a file with several.", group="Bars")
    closed_hours: str | None = option(
        None, help="Weekly hours without bars, UTC: Fri 22:00-Sun 22:00. Default: as the file shows.", group="Bars"
    )

    def __post_init__(self) -> None:
        check_options(self)


AS_WRITTEN = Reading()


def reading_text(stated: Mapping[str, object] | None) -> str:
    """Return what a record holds of a reading as the end of a clause, or an empty text.

    Examples
    --------
    >>> reading_text({"symbol": "BTCUSDT", "fee_bps": 5})
    ', read with --symbol BTCUSDT'
    >>> reading_text(None)
    ''
    """
    given = [f"{each.flag} {quote(str(stated[each.name]))}" for each in option_table(Reading) if stated and each.name in stated]
    return f", read with {' '.join(given)}" if given else ""


class FileOptions(TypedDict, total=False):
    """The fields of `Reading` besides ``columns``, as functions for Python take them by name."""

    time_format: str | None
    time_zone: str | None
    symbol: str | None
    closed_hours: str | None


class ReadingOptions(FileOptions, total=False):
    """The fields of `Reading`, as functions for Python take them by name; ``columns`` may be a mapping from roles as well."""

    columns: str | Mapping[str, int | str] | None


def reading_from(options: Mapping[str, object]) -> Reading:
    """Return how a file is read, from keyword arguments; others than those of a reading are left out.

    Raises
    ------
    UsageError
        For a value of another type.
    """
    stated = {name: options[name] for name in ReadingOptions.__annotations__ if name in options}
    if isinstance(columns := stated.get("columns"), Mapping):
        stated["columns"] = ",".join(_column_text(role, column) for role, column in columns.items()) or None
    return from_options(Reading, stated)


def _column_text(role: object, column: object) -> str:
    for text in (role, column):
        is_plain = isinstance(text, str) and text.strip() == text != "" and not set(text) & set(",=\n\r\0")
        if not (is_plain or (text is column and isinstance(text, int) and not isinstance(text, bool) and text >= 0)):
            raise UsageError(
                f"columns: {quoted_value(text)} is not a role or a column. Give names without a comma or '=', or positions "
                "from 0: columns={'time': 0, 'close': 'Price'}."
            )
    return f"{role}={column}"
