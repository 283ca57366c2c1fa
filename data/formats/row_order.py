"""The order of cells in rows without names, which the rows' values must prove."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ...arrays import FloatArray
from ...errors import DataError
from ..bars import COLUMNS
from ..reading import AS_WRITTEN, Reading
from .column_choice import ColumnChoice
from .number_style import is_number
from .stated_columns import EXAMPLE, check_one_role, position_of, stated_columns
from .table import shown
from .time_forms import check_time_format, day_and_month
from .vendor import Vendor
from .vendors import VENDORS

MOST_POSSIBLE = 0.5  # of the bars with a range: below it, an order is another one
PLAIN_CELLS = 6  # in rows of more, which are exchanges', the time is an epoch number
WIDEST = 2.0  # the median of high / low; above it, one of the two is not a price
SURE = 1.9  # standard errors by which closes follow opens more often than chance, so that the two are exchanged
CLEAR = 0.1  # of the distances from open to the close before, where those from close to the open before are smaller than it
_PRICES = ("open", "high", "low", "close")
_EPOCH = re.compile(r"\d{9,19}(?:\.\d*)?", re.ASCII)
_DATE = re.compile(r"(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{4}|(?:19|20)\d{6})(?:[ T].*)?", re.ASCII)
_TIME_OF_DAY = re.compile(r"\d\d?:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AaPp][Mm])?|\d{4}|\d{6}", re.ASCII)
_YEAR_FIRST = re.compile(r"(?:19|20)\d\d", re.ASCII)


def is_time(cell: str) -> bool:
    """Return whether a cell looks like a time: an epoch number or a date."""
    return bool(_EPOCH.fullmatch(cell.strip()) or _DATE.fullmatch(cell.strip()))


def is_time_of_day(cell: str) -> bool:
    """Return whether a cell looks like a time of day."""
    return bool(_TIME_OF_DAY.fullmatch(cell.strip()))


def looks_like_data(row: Sequence[str]) -> bool:
    """Return whether a row has a time and at least four numbers."""
    return bool(row) and is_time(row[0]) and sum(is_number(cell.strip()) for cell in row[1:]) > 3


def choose_by_rows(rows: Sequence[Sequence[str]], place: str, reading: Reading = AS_WRITTEN) -> ColumnChoice:
    """Choose the columns of rows without names: those that the user states, or the only known order that the rows allow.

    An order is allowed if most bars with a range have possible prices in it, opens follow closes (and not closes opens), and
    the other cells are what they should be: a quote volume is the volume times a price, a vwap lies in the bar.

    Parameters
    ----------
    rows : sequence of sequences of str
        The first rows; those of another length than the first are left out.
    place : str
        Of the first row, for messages.
    reading : Reading
        What the user states.

    Raises
    ------
    DataError
        When no known order is allowed, or two are and give different bars.
    """
    width = len(rows[0]) if rows else 0
    stated = stated_columns(reading.columns)
    if stated:
        return _as_stated(stated, rows[0], place, reading)
    cells = [row for row in rows if len(row) == width]
    numbers = np.array([_numbers(column) for column in zip(*cells, strict=True)]).T
    known = [vendor for vendor in VENDORS if vendor.rows and len(vendor.cells) == width and _has_times(vendor, cells)]
    with np.errstate(all="ignore"):
        share = {vendor.name: _share_possible(vendor, numbers, cells) for vendor in known}
    allowed = [vendor for vendor in known if share[vendor.name] > MOST_POSSIBLE]
    best = max((share[vendor.name] for vendor in allowed), default=0.0)
    allowed = [vendor for vendor in allowed if share[vendor.name] > best - 0.1]
    if not allowed:
        raise DataError(
            f"{place}: the rows have no header, and their {width} cells ({shown(','.join(rows[0]))}) are not in the order of a "
            f"known source. State the columns by their positions, as in --columns {EXAMPLE}."
        )
    for other in allowed[1:]:
        if not _same_bars(allowed[0], other, numbers):
            raise DataError(
                f"{place}: the rows have no header, and their {width} cells ({shown(','.join(rows[0]))}) may be in the order "
                f"of {allowed[0].name} ({allowed[0].rows}) or of {other.name} ({other.rows}). State the right one by "
                f"positions: --columns {_as_option(allowed[0])} or --columns {_as_option(other)}."
            )
    vendor = max(allowed, key=lambda each: bool(each.time_format))
    positions = {role: at for at, role in enumerate(vendor.cells) if role in COLUMNS}
    return ColumnChoice(
        tuple(role if role != "-" else f"column {at}" for at, role in enumerate(vendor.cells)),
        positions,
        _time_of(vendor),
        vendor.name,
        reading.time_format or vendor.time_format,
        reading.time_zone or vendor.time_zone,
        vendor.is_close_time,
        (vendor.note,) if vendor.note and not reading.time_zone else (),
    )


def _as_stated(stated: Mapping[str, str], row: Sequence[str], place: str, reading: Reading) -> ColumnChoice:
    header = [f"column {at}" for at in range(len(row))]
    lacking = [role for role in COLUMNS if role not in stated]
    time = stated.get("time", stated.get("close_time"))
    if lacking or time is None:
        lacking = [*([] if time is not None else ["time"]), *lacking]
        raise DataError(
            f"{place}: the rows have no header, so --columns has to state all of time, {', '.join(COLUMNS)}; it lacks "
            f"{', '.join(lacking)}. State them by position, as in --columns {EXAMPLE}."
        )
    names = header if looks_like_data(row) else row
    positions = {role: position_of(stated[role], names, place) for role in (*COLUMNS, "symbol") if role in stated}
    times = tuple(position_of(each.strip(), names, place) for each in time.split("+"))
    check_one_role([*(("time", at) for at in times), *positions.items()], names, place)
    return ColumnChoice(
        tuple(header),
        positions,
        times,
        time_format=reading.time_format or "",
        time_zone=reading.time_zone or "",
        is_close_time="close_time" in stated,
    )


def _numbers(cells: Sequence[str]) -> list[float]:
    try:
        return list(map(float, cells))
    except ValueError:
        return [float(cell) if is_number(cell) else np.nan for cell in cells]


def _time_of(vendor: Vendor) -> tuple[int, ...]:
    return tuple(at for at, role in enumerate(vendor.cells) if role in ("time", "date", "time of day"))


def _as_option(vendor: Vendor) -> str:
    time = "+".join(map(str, _time_of(vendor)))
    return ",".join([f"time={time}", *(f"{role}={vendor.cells.index(role)}" for role in COLUMNS)])


def _has_times(vendor: Vendor, rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row has a time where the vendor's rows have it."""
    cells = dict(zip(vendor.cells, rows[0], strict=True))
    if "time of day" in cells:
        return is_time(cells["date"]) and not _EPOCH.fullmatch(cells["date"]) and is_time_of_day(cells["time of day"])
    if not vendor.time_format:
        return is_time(cells["time"]) and (len(vendor.cells) <= PLAIN_CELLS or bool(_EPOCH.fullmatch(cells["time"].strip())))
    return check_time_format(vendor.time_format).fits(cells["time"].strip())


def _prices(vendor: Vendor, numbers: FloatArray) -> dict[str, FloatArray]:
    return {role: numbers[:, at] for at, role in enumerate(vendor.cells) if role not in ("-", "date", "time of day")}


def _share_possible(vendor: Vendor, numbers: FloatArray, rows: Sequence[Sequence[str]]) -> float:
    """Return the share of the bars with a range whose prices are possible; 0 where other cells contradict the order."""
    of = _prices(vendor, numbers)
    o, high, low, close, volume = (of[name] for name in COLUMNS)
    full = np.isfinite(o + high + low + close + volume)
    if not full.any():
        return 0.0
    possible = (low > 0) & (low <= np.minimum(o, close)) & (high >= np.maximum(o, close)) & (volume >= 0)
    ranged = full & (np.ptp(numbers[:, [vendor.cells.index(name) for name in _PRICES]], axis=1) > 0)
    if np.median(high[full] / low[full]) > WIDEST or (vendor.has_no_volume and volume[full].any()):
        return 0.0
    if any(not proof(of, full) for role, proof in _PROOFS.items() if role in of) or _is_exchanged(of, full, rows, vendor):
        return 0.0
    return float(possible[ranged].mean()) if ranged.any() else 1.0


def _is_later(first: str, last: str) -> bool | None:
    """Return whether the first of two times is the later one; None where the times do not show it."""
    if len(first) == len(last) and (_EPOCH.fullmatch(first) or _YEAR_FIRST.match(first)):
        return first > last  # numbers of one length, and dates with the year first, compare as text
    found: set[bool] = set()
    for format in day_and_month(first) or ():  # with the day first, and with the month first
        earlier, later = check_time_format(format).stamps([first, last])
        found |= set() if np.isnat(earlier) or np.isnat(later) else {bool(earlier > later)}
    return found.pop() if len(found) == 1 else None


def _is_exchanged(
    of: Mapping[str, FloatArray], full: npt.NDArray[np.bool_], rows: Sequence[Sequence[str]], vendor: Vendor
) -> bool:
    """Return whether each close follows the open before it more often than each open the close before it."""
    at = np.flatnonzero(full)
    first, last = (" ".join(rows[each][place].strip() for place in _time_of(vendor)).strip() for each in (at[0], at[-1]))
    if len(at) < 2 or (is_newest_first := _is_later(first, last)) is None:
        return False
    if is_newest_first:
        at = at[::-1]
    o, close = of["open"][at], of["close"][at]
    as_named, exchanged = np.abs(o[1:] - close[:-1]), np.abs(close[1:] - o[:-1])
    differ = as_named != exchanged
    n = int(differ.sum())
    if not n:
        return False
    more_often = (float((exchanged < as_named)[differ].mean()) - 0.5) * 2 * np.sqrt(n) >= SURE
    return bool(more_often or exchanged.sum() < CLEAR * as_named.sum())


def _is_quote_volume(of: Mapping[str, FloatArray], full: npt.NDArray[np.bool_]) -> bool:
    known = full & (of["volume"] > 0) & np.isfinite(of["quote volume"])
    if not known.any():
        return not np.isfinite(of["volume"][full]).any() or bool((of["volume"][full] == 0).all())
    with np.errstate(over="ignore"):
        ratio, price = np.median(of["quote volume"][known] / of["volume"][known]), np.median(of["close"][known])
    return bool(0.5 * price < ratio < 2 * price)


def _is_close_time(of: Mapping[str, FloatArray], full: npt.NDArray[np.bool_]) -> bool:
    later = of["close time"][full] / of["time"][full]
    return bool(((later > 1) & (later < 1.1)).all())


def _is_vwap(of: Mapping[str, FloatArray], full: npt.NDArray[np.bool_]) -> bool:
    traded = full & (of["volume"] > 0)
    within = (of["vwap"] >= of["low"] * (1 - 1e-6)) & (of["vwap"] <= of["high"] * (1 + 1e-6))
    return bool(within[traded].mean() > MOST_POSSIBLE) if traded.any() else bool((within | (of["vwap"] == 0))[full].all())


def _is_count(of: Mapping[str, FloatArray], full: npt.NDArray[np.bool_]) -> bool:
    counts = of["count"][full]
    return bool(((counts >= 0) & (counts == np.floor(counts))).all())


_PROOFS: Mapping[str, Callable[[Mapping[str, FloatArray], npt.NDArray[np.bool_]], bool]] = {
    "quote volume": _is_quote_volume,
    "close time": _is_close_time,
    "vwap": _is_vwap,
    "count": _is_count,
}


def _same_bars(one: Vendor, other: Vendor, numbers: FloatArray) -> bool:
    if one.is_close_time != other.is_close_time or _time_of(one) != _time_of(other):
        return False
    first, second = _prices(one, numbers), _prices(other, numbers)
    return all(np.array_equal(first[name], second[name], equal_nan=True) for name in COLUMNS)
