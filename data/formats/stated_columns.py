"""The columns that a user states by ``--columns``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import DataError, UsageError, check_choice, nearest
from ..bars import COLUMNS
from .table import shown

ROLES = ("time", "close_time", *COLUMNS, "symbol")
MOST_COMPARED, MOST_LISTED = 1_000, 15  # names of columns, for a guess and in a message
EXAMPLE = "time=0,open=1,high=2,low=3,close=4,volume=5"


def stated_columns(text: str | None) -> dict[str, str]:
    """Read ``--columns``: the column of each stated role, by name or position.

    Raises
    ------
    UsageError
        For a text of another form, an unknown role, or a role that is stated twice.

    Examples
    --------
    >>> stated_columns("time=0, close=Price")
    {'time': '0', 'close': 'Price'}
    """
    found: dict[str, str] = {}
    if text is None:
        return found
    for part in text.split(","):
        role, equals, column = (each.strip() for each in part.partition("="))
        if not equals or not column:
            raise UsageError(f"--columns: expected pairs such as {EXAMPLE}, got {shown(part.strip())}.")
        check_choice("--columns", role, ROLES)
        if role in found:
            raise UsageError(f"--columns: {role} is stated twice, as {shown(found[role])} and {shown(column)}. Keep one.")
        found[role] = column
    if "time" in found and "close_time" in found:
        raise UsageError("--columns: time and close_time are both stated. Keep the one by which the bars are stamped.")
    return found


def states_names(text: str) -> bool:
    """Return whether ``--columns`` states a column by its name rather than by its position, so that there is a header."""
    return any(not part.strip().isdigit() for column in stated_columns(text).values() for part in column.split("+"))


def states_all_positions(text: str | None) -> bool:
    """Return whether ``--columns`` states the positions of the time, the prices and the volume."""
    stated = stated_columns(text)
    return text is not None and {*COLUMNS} < {*stated} and bool({"time", "close_time"} & {*stated}) and not states_names(text)


def check_one_role(roles: Iterable[tuple[str, int]], header: Sequence[str], place: str) -> None:
    """Check that no column has two roles, except one column of prices as open, high, low and close.

    Raises
    ------
    DataError
        With both roles and the column.
    """
    found: dict[int, str] = {}
    listed = list(roles)
    prices = {at for role, at in listed if role in COLUMNS[:4]}
    for role, at in listed:
        other = found.setdefault(at, role)
        if other != role and not (len(prices) == 1 and {role, other} <= set(COLUMNS[:4])):
            raise DataError(
                f"{place}: with --columns, the column {shown(header[at].strip())} (position {at}) is both {other} and {role}. "
                "State another column for one of them; one column may be open, high, low and close, all four."
            )


def position_of(column: str, header: Sequence[str], place: str) -> int:
    """Return the position of a stated column: that of its name in the header, or the number that it is.

    Raises
    ------
    DataError
        When there is no such column, or its name occurs twice.
    """
    exact = [name.strip() for name in header]
    for names, wanted in ((exact, column), ([name.lower() for name in exact], column.lower())):
        if names.count(wanted) > 1:
            raise DataError(f"{place}: the column {shown(column)} of --columns occurs twice. State its position, from 0.")
        if wanted in names:
            return names.index(wanted)
    if column.isascii() and column.isdigit() and len(column) < 6:
        if int(column) < len(header):
            return int(column)
        raise DataError(
            f"{place}: --columns states the position {int(column)}, but there are {len(header)} columns, counted from 0."
        )
    readable = list(
        dict.fromkeys(name.strip() for name in header if name.strip().isprintable() and 0 < len(name.strip()) < 100)
    )
    guess = nearest(column, readable[:MOST_COMPARED])
    if not guess.startswith("Did you mean"):
        more = f" and {len(readable) - MOST_LISTED:,} more" if len(readable) > MOST_LISTED else ""
        guess = f"The columns are {', '.join(map(shown, readable[:MOST_LISTED]))}{more}." if readable else ""
    raise DataError(f"{place}: there is no column {shown(column)}, which --columns states. {guess}")
