"""Numbers as text: percentages, amounts, counts and times, in one format for the terminal and all pages."""

from __future__ import annotations

from datetime import datetime

NULL = "–"


def percent(value: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """Format a fraction in percent, such as ``-12.3 %``; an en dash for None.

    Examples
    --------
    >>> percent(0.3456), percent(0.3456, 0, signed=True), percent(-0.00001), percent(None)
    ('34.6 %', '+35 %', '0.0 %', '–')
    """
    return NULL if value is None else f"{_number(100 * value, digits, signed)} %"


def ratio(value: float | None, digits: int = 2) -> str:
    """Format a plain number, such as ``-0.37``; an en dash for None.

    Examples
    --------
    >>> ratio(1234.5678), ratio(-0.001), ratio(None)
    ('1,234.57', '0.00', '–')
    """
    return NULL if value is None else _number(value, digits, False)


def money(value: float | None) -> str:
    """Format an amount in quote currency with two decimals; an en dash for None."""
    return ratio(value, 2)


def counted(value: int, what: str) -> str:
    """Format a count of things, such as ``1 bar`` or ``8,760 bars``."""
    return f"{whole(value)} {what}{'' if value == 1 else 's'}"


def whole(value: float | None) -> str:
    """Format a count, such as ``8,760``; an en dash for None."""
    return ratio(value, 0)


def stamp(value: object) -> str:
    """Format a time as ``2024-01-01 13:00`` (UTC); an en dash for a missing one."""
    return value.strftime("%Y-%m-%d %H:%M") if isinstance(value, datetime) and value == value else NULL


def _number(value: float, digits: int, signed: bool) -> str:
    rounded = round(value, digits) + 0.0  # no "-0.0"
    return f"{rounded:{'+' if signed and rounded else ''},.{digits}f}"
