"""Columns by name: the usual names, and those of the vendors' forms; the volume also by its values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ...arrays import FloatArray
from ...errors import DataError
from ..bars import COLUMNS
from ..reading import AS_WRITTEN, Reading
from .column_choice import ColumnChoice
from .likely_names import likely_name
from .number_style import is_number
from .row_order import is_time, is_time_of_day
from .stated_columns import check_one_role, position_of, stated_columns
from .table import shown
from .vendor import Vendor
from .vendors import VENDORS

TIME_NAMES = ("timestamp", "timestamps", "time", "unix", "date", "datetime", "open_time")
SYMBOL_NAMES = (
    *("symbol", "ticker", "pair", "market", "instrument", "product_id", "asset", "coin"),
    *("sym", "tic", "stock", "security", "ts_code", "stock_code", "code", "secid", "isin", "figi", "cusip", "sedol", "ric"),
    *("permno", "asset_id", "symbol_id", "ticker_id", "instrument_id", "currency_pair", "trading_pair", "exchange", "venue"),
    *("token", "token_id", "coin_id", "股票代码"),
)
TITLES = ("name",)  # a company may change its own, so it is read only where no other column names the market
UNNAMED = ("", "unnamed:_0")  # the index of pandas' to_csv
MOST_COLUMNS = 1_000
_USUAL = Vendor(name="")
_LOCAL = re.compile(
    r"(?<![a-z])(local|eastern|central|pacific|[ecmp][sd]?t|[ijkb]st|cest|eet|eest|msk|(utc|gmt) ?[+-] ?\d.*)(?![a-z])"
)
_END = re.compile(r"clos|(?<![a-z])end")
_VOLUME = re.compile(r"volume[ _]*\(?([a-z0-9]{2,})\)?")
_QUOTES = {"usdt", "usd", "usdc", "busd", "tusd", "fdusd", "dai", "eur", "gbp", "jpy", "try", "krw", "currency", "quote"}


class Names:
    """The names of a header's columns, by which columns are found: in any case, with blanks or hyphens for underscores."""

    def __init__(self, header: Sequence[str]) -> None:
        self.exact = [name.strip() for name in header]
        self.plain = [re.sub(r"[\s_-]+", "_", name.strip("<>").strip().lower()) for name in self.exact]

    def all(self, name: str) -> list[int]:
        """Return the positions of a name; one of a single letter is compared in its case first."""
        found = [at for at, each in enumerate(self.exact) if each == name] if len(name) == 1 else []
        return found or [at for at, each in enumerate(self.plain) if each == name.lower()]

    def has(self, column: str) -> bool:
        """Return whether a stated column is one of the names, in any case."""
        return column.lower() in self.plain or column.lower() in map(str.lower, self.exact)

    def first(self, names: Sequence[str]) -> str | None:
        """Return the first of several names that the header has."""
        return next((name for name in names if self.all(name)), None)


def names_columns(header: Sequence[str], reading: Reading = AS_WRITTEN) -> bool:
    """Return whether a row is a header: it names a time column and at least a close, or those that the user states."""
    names, stated = Names(header), stated_columns(reading.columns)
    vendor = _form_of(names)
    has_time = bool({"time", "close_time"} & set(stated)) or "time" in vendor.columns
    if not (has_time or names.first((*TIME_NAMES, *UNNAMED)) is not None):
        return False
    if not (names.all(vendor.columns.get("close", "close")) or "close" in stated):
        return False
    for role, column in stated.items():
        if names.has(column):
            continue
        parts = [each.strip() for each in column.split("+")]
        numbered = [int(each) for each in parts if not names.has(each) and each.isdecimal()]
        cells = [header[at] for at in numbered if at < len(header)]
        if len(cells) + sum(map(names.has, parts)) < len(parts) or any(is_number(cell) or is_time(cell) for cell in cells):
            return False
        if cells and role == "time" and not header[0].strip():
            return False
    return True


def choose_columns(
    header: Sequence[str], place: str, reading: Reading = AS_WRITTEN, sample: Sequence[str] = ()
) -> ColumnChoice:
    """Choose the columns of a table with names.

    Parameters
    ----------
    header : sequence of str
    place : str
        Of the header, for messages.
    reading : Reading
        What the user states.
    sample : sequence of str
        The cells of a row, which show whether a column ``time`` holds times of day.

    Raises
    ------
    DataError
        When a column is missing, occurs twice, or is ambiguous.
    """
    if len(header) > MOST_COLUMNS:
        raise DataError(
            f"{place}: the table has {len(header):,} columns, at most {MOST_COLUMNS:,} are read. Give only the bars."
        )
    names, stated = Names(header), stated_columns(reading.columns)
    vendor = _form_of(names)
    wanted = {**{name: name for name in (*COLUMNS, "synthetic")}, **vendor.columns}
    wanted.setdefault("symbol", names.first((*SYMBOL_NAMES, *TITLES)) or "symbol")
    wanted.pop("time", None)
    positions: dict[str, int] = {}
    for role, name in wanted.items():
        found = names.all(name)
        if role in stated:
            positions[role] = position_of(stated[role], header, place)
        elif len(found) > 1:
            raise DataError(
                f"{place}: the column '{name}' occurs twice. Remove or rename one of them, or state the position of "
                f"the right one: --columns {role}={found[0]}."
            )
        elif found:
            positions[role] = found[0]
    if "volume" not in positions:
        positions |= _volumes([name.lower() for name in names.exact], place)
    if "volume" in stated:
        positions = {role: at for role, at in positions.items() if role not in ("quote volume", "other volume")}
    lacking = [role for role in COLUMNS if role not in positions]
    time = _time_columns(names, vendor, stated, sample, place, lacking)
    if lacking:
        raise _missing(place, lacking, names)
    if stated:
        check_one_role([*(("time", at) for at in time), *positions.items()], header, place)
    return ColumnChoice(
        tuple(header),
        positions,
        time,
        vendor.name,
        reading.time_format or ("" if {"time", "close_time"} & set(stated) else vendor.time_format),
        reading.time_zone or vendor.time_zone,
        "close_time" in stated or (vendor.is_close_time and "time" not in stated),
        (vendor.note,) if vendor.note and not reading.time_zone else (),
        more_symbols=() if "symbol" in stated else _more_symbols(names, {*positions.values(), *time}),
    )


def _more_symbols(names: Names, taken: Collection[int]) -> tuple[int, ...]:
    return tuple(at for at, name in enumerate(names.plain) if name in SYMBOL_NAMES and at not in taken)


def _form_of(names: Names) -> Vendor:
    """Return the first form of ``VENDORS`` that a header has, or that of the usual names.

    A form that reads a role from another column is not that of a table which also has the column of that name: a quote's
    ``last`` next to a ``close``.
    """
    for vendor in VENDORS:
        wanted = [*vendor.columns.values(), *vendor.marks]
        renamed = [role for role in COLUMNS if vendor.columns.get(role, role) != role and role not in wanted]
        if wanted and not vendor.rows and all(names.all(name) for name in wanted) and not any(map(names.all, renamed)):
            return vendor
    return _USUAL


def _time_columns(
    names: Names, vendor: Vendor, stated: Mapping[str, str], sample: Sequence[str], place: str, lacking: Sequence[str]
) -> tuple[int, ...]:
    """Return the position of the times, or those of date and time of day."""
    column = stated.get("time", stated.get("close_time"))
    if column is not None:
        parts = [column] if names.has(column) else column.split("+")
        return tuple(position_of(each.strip(), names.exact, place) for each in parts)
    name = vendor.columns.get("time") or names.first(TIME_NAMES)
    if name is None and names.plain[:1] and names.plain[0] in UNNAMED and (not sample or is_time(sample[0])):
        return (0,)
    if name is None:
        raise _missing(place, ["time", *lacking], names)
    found = names.all(name)
    if len(found) > 1:
        raise DataError(f"{place}: the column '{name}' occurs twice. Remove or rename one of them.")
    date, whole = names.all("date"), names.all("datetime")
    if name == "time" and len(date) == 1 and (not sample or is_time_of_day(sample[found[0]])):
        return date[0], found[0]
    if name == "time" and len(whole) == 1 and sample and is_time_of_day(sample[found[0]]):
        has_clock = ":" in sample[whole[0]] or not is_time(sample[whole[0]])
        return (whole[0],) if has_clock else (whole[0], found[0])
    return (found[0],)


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
            f"large, and the price is {price:.6g}. Rename the column with base units to 'volume', or state it: "
            "--columns volume=NAME."
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
        which = f"which of {there}" if len(found) > 1 else f"whether {there}"
        name = "NAME" if len(found) > 1 else _column_text(names[found[0][0]], names)
        raise DataError(
            f"{place}: the column 'volume' is missing, and it is not clear {which} is in base units. "
            f"State the one in base units (BTC of BTC/USDT): --columns 'volume={name}'."
        )
    return {}


def _column_text(name: str, names: Sequence[str]) -> str:
    """Return how ``--columns`` states a column: by its position if its name has characters of the option or of a shell."""
    return str(names.index(name)) if set(name) & set(",='") else name or "NAME"


def _missing(place: str, lacking: Sequence[str], names: Names) -> DataError:
    """Return the refusal of a header without some roles: it names the first, and how to state all of them."""
    role = lacking[0]
    what = f"a time column ({', '.join(TIME_NAMES)})" if role == "time" else f"the column '{role}'"
    lower = [name.lower() for name in names.exact]
    there = ", ".join(shown(name) for name in lower[:15]) + (", ..." if len(lower) > 15 else "")
    likely = {each: likely_name(each, lower) for each in lacking}
    prices = {"open", "high", "low"} & set(lacking)
    close = likely.get("close", "close")
    if len(prices) == 3 and close and not any(map(likely.get, prices)):
        return DataError(
            f"{place}: expected bars, but the columns are {there}, with one price for each time ('{close}'). "
            "Fetch bars, or aggregate these prices into bars first."
        )
    guess = f" Did you mean '{likely[role]}'?" if likely[role] else ""
    remedy = "Remove lines above the header, if there are any, or state" if ", line " in place else "State"
    # A column of the bars' ends, read as their opens, would move each price into the future of its time.
    time = "close_time" if _END.search(likely.get("time", "")) else "time"
    stated = ",".join(f"{time if each == 'time' else each}={_column_text(likely[each], lower)}" for each in lacking)
    zeros = " A table without volumes needs a column 'volume' of 0." if lacking[-1] == "volume" and not likely["volume"] else ""
    zone = " Its name has a zone: state that too, with --time-zone." if _LOCAL.search(likely.get("time", "")) else ""
    return DataError(
        f"{place}: {what} is missing; the columns are {there}.{guess} {remedy} the column{'s' if len(lacking) > 1 else ''}: "
        f"--columns '{stated}'.{zeros}{zone}"
    )
