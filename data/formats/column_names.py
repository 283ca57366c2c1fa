"""Columns by name; the volume also by its values."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ...arrays import FloatArray
from ...errors import DataError
from ..bars import COLUMNS
from .likely_names import likely_name
from .number_style import is_number
from .table import shown

TIME_NAMES = ("timestamp", "timestamps", "time", "unix", "date", "datetime", "open_time")
BINANCE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
MOST_COLUMNS = 1_000
_VOLUME = re.compile(r"volume[ _]*\(?([a-z0-9]+)\)?")
_QUOTES = {"usdt", "usd", "usdc", "busd", "tusd", "fdusd", "dai", "eur", "gbp", "jpy", "try", "krw", "currency", "quote"}


def names_columns(header: Sequence[str]) -> bool:
    """Return whether a row is a header: it names a time column and at least a close."""
    names = {name.strip().lower() for name in header}
    return "close" in names and bool(names & set(TIME_NAMES))


def choose_columns(header: Sequence[str], place: str) -> dict[str, int]:
    """Return the position of 'time' and of each required column, and of 'synthetic' and 'quote volume' if present.

    Raises
    ------
    DataError
        When a column is missing, occurs twice, or is ambiguous.
    """
    if len(header) > MOST_COLUMNS:
        raise DataError(
            f"{place}: the table has {len(header):,} columns, at most {MOST_COLUMNS:,} are read. Give only the bars."
        )
    names = [name.strip().lower() for name in header]
    if looks_like_data(names):
        line = BINANCE_HEADER if len(names) == 12 else "open_time,open,high,low,close,volume"
        raise DataError(
            f"{place}: expected a header that names the columns, got a row of data ({shown(','.join(header))}). "
            f"If these are its columns, put the line '{line}' on top."
        )
    wanted = {name: name for name in (*COLUMNS, "synthetic")} | {
        "time": next((name for name in TIME_NAMES if name in names), "time")
    }
    chosen: dict[str, int] = {}
    for role, name in wanted.items():
        if names.count(name) > 1:
            raise DataError(f"{place}: the column '{name}' occurs twice. Remove or rename one of them.")
        if name in names:
            chosen[role] = names.index(name)
    if "volume" not in chosen:
        chosen |= _volumes(names, place)
    for role in ("time", *COLUMNS):
        if role not in chosen:
            raise DataError(f"{place}: {_missing(role, names)}")
    return chosen


def looks_like_data(row: Sequence[str]) -> bool:
    """Return whether a row has numbers in the positions of open to volume in files without a header."""
    return len(row) > 5 and all(is_number(cell.strip()) for cell in row[1:6])


def check_base_volume(values: dict[str, FloatArray], quote: FloatArray, name: str, column: str) -> None:
    """Refuse a volume chosen by its name if quote volume / volume is not a price of these bars.

    Raises
    ------
    DataError
        With the ratio, the price and the remedy.
    """
    known = (values["volume"] > 0) & np.isfinite(quote) & (values["close"] > 0)
    if not known.any():
        return
    with np.errstate(over="ignore"):
        ratio, price = np.median(quote[known] / values["volume"][known]), np.median(values["close"][known])
    if not 0.5 * price < ratio < 2 * price:
        raise DataError(
            f"{name}, column {shown(column)}: expected the volume in base units, but the other volume is {ratio:.6g} times as "
            f"large, and the price is {price:.6g}. Rename the column with base units to 'volume'."
        )


def _volumes(names: Sequence[str], place: str) -> dict[str, int]:
    """Choose between 'Volume BTC' and 'Volume USDT'."""
    found = [(at, match[1]) for at, name in enumerate(names) if (match := _VOLUME.fullmatch(name))]
    base = [at for at, unit in found if unit not in _QUOTES]
    if len(found) == 2 and len(base) == 1:
        quote = next(at for at, _ in found if at not in base)
        return {"volume": base[0], "quote volume": quote}
    if found:
        there = " and ".join(shown(names[at]) for at, _ in found[:5])
        raise DataError(
            f"{place}: the column 'volume' is missing, and it is not clear which of {there} is in base units. "
            "Rename the one in base units (BTC of BTC/USDT) to 'volume'."
        )
    return {}


def _missing(role: str, names: Sequence[str]) -> str:
    what = f"a time column ({', '.join(TIME_NAMES)})" if role == "time" else f"the column '{role}'"
    there = ", ".join(shown(name) for name in names[:15]) + (", ..." if len(names) > 15 else "")
    likely = likely_name(role, names)
    guess = f" Did you mean '{likely}'?" if likely else ""
    return (
        f"{what} is missing; the columns are {there}.{guess} "
        f"Rename a column, or remove lines above the header, until it names a time column and {', '.join(COLUMNS)}."
    )
