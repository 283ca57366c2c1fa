"""Signals that were computed elsewhere: a Series or a table, aligned to the bars by time, as a strategy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import FloatArray, IntArray, TimeArray
from ..data.bars import Bars, utc
from ..data.labels import BUY, CLASS_NAMES, HOLD, SELL
from ..data.time_range import TimeRange
from ..errors import DataError, UsageError, kind_of, quoted_value
from ..models.signals import NO_SIGNAL, Signals
from ..strategies.base import Position, Strategy

if TYPE_CHECKING:
    import pandas as pd

    SignalsInput = pd.Series | pd.DataFrame | str | Path
else:
    SignalsInput = object

PROBABILITIES = ("p_sell", "p_hold", "p_buy")
_SUM_TOLERANCE = 1e-6
_REMEDY = 'name it: series.rename("signal") for SELL=0, HOLD=1, BUY=2, or series.rename("exposure") for shares of equity'


@dataclass(frozen=True, eq=False)
class GivenRows:
    """Checked rows of one kind, in the order of time.

    Parameters
    ----------
    kind : str
        ``signal``, ``probabilities`` or ``exposure``.
    time : array of datetime64[ns], shape (n,)
        Open times of bars, UTC, strictly increasing.
    values : array of float64, shape (n,) or (n, 3)
        NaN where a row has no signal.
    signal : array of float64, shape (n,), optional
        Signals next to probabilities, in place of the likeliest class.
    """

    kind: str
    time: TimeArray
    values: FloatArray
    signal: FloatArray | None = None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the kind, the stamps and the values: other signals are another trial."""
        sha = hashlib.sha256(f"flagbt signals 1 {self.kind}".encode())
        for values in (self.time.astype(np.int64), self.values, self.signal):
            if values is not None:
                sha.update(np.ascontiguousarray(values).view(np.uint8).tobytes())
        return sha.hexdigest()

    def at(self, bars: Bars, values: FloatArray) -> FloatArray:
        """Return the values at the bars, NaN at a bar without a row."""
        place = np.searchsorted(self.time, bars.time).clip(max=len(self.time) - 1)
        found = np.asarray(self.time[place] == bars.time)
        rows: FloatArray = values[place].copy()
        rows[~found] = np.nan
        return rows


class GivenSignals(Strategy):
    """Trade signals that were computed elsewhere.

    flagbt cannot check that they are causal: a signal at time t may use the bar that opens at t, and nothing later. It is
    ordered at that bar's close and fills at the next bar's open.

    Parameters
    ----------
    rows : GivenRows
        Bars without a row, or with NaN, have no signal: the position is kept.
    bars_seen : tuple of TimeRange, optional
        As in `Strategy`: None is not stated.
    short : bool
        Whether a SELL opens a short position. Exposures below 0 need it.
    """

    name = "signals"

    def __init__(self, rows: GivenRows, *, bars_seen: tuple[TimeRange | str, ...] | None = None, short: bool = False) -> None:
        super().__init__(short=short)
        if rows.kind == "exposure" and not short and (rows.values < 0).any():
            raise UsageError(
                f"signals: {int((rows.values < 0).sum()):,} exposures are below 0, which is a short position, and short is "
                "False. Give short=True, or raise them to 0."
            )
        self.rows = rows
        self.bars_seen = bars_seen
        self._exposure: FloatArray | None = None

    def prepare(self, bars: Bars) -> Signals:
        """Align the rows to the bars. *Causality: row t uses the row of bar t alone.*"""
        rows = self.rows
        values = rows.at(bars, rows.values)
        if rows.kind == "exposure":
            self._exposure = values
            return Signals.plain(_sides_of(values, short=bool((rows.values < 0).any())))
        if rows.kind == "signal":
            return Signals.plain(_whole(values))
        own = None if rows.signal is None else _whole(rows.at(bars, rows.signal))
        values[~np.isfinite(values).all(axis=1) if own is None else own == NO_SIGNAL] = np.nan
        return Signals(probabilities=values) if own is None else Signals(own, probabilities=values)

    def decide(self, t: int, position: Position) -> float | None:
        """Return the exposure of bar ``t``; for signals, follow the position rule. *Causality: row t uses bars <= t.*"""
        return super().decide(t, position) if self._exposure is None else float(self._exposure[t])

    def describe(self) -> dict[str, object]:
        """Return what a record needs to tell these signals from others, as JSON values."""
        return {**super().describe(), "kind": self.rows.kind, "signals": self.rows.digest}


def signals_from(given: SignalsInput, bars: Bars) -> GivenRows:
    """Read signals, and check them against the bars.

    Parameters
    ----------
    given : Series, DataFrame, str or Path
        With the open times of bars in the index, in any zone, or a table with a time column; a path is a CSV or Parquet file
        of such a table. **A Series** of whole numbers up to 2 or of the text SELL, HOLD, BUY holds signals; one with fractions
        or values below 0 holds exposures, shares of equity from -1 to 1. A Series of 0 and 1 alone could be either: its name,
        ``signal`` or ``exposure``, decides. **A table** has the column ``signal``, or ``p_sell``, ``p_hold`` and ``p_buy``
        (with ``signal`` next to them or not), or ``exposure``. Other columns are ignored. NaN means no signal.
    bars : Bars
        All bars; a bar without a row has no signal.

    Raises
    ------
    UsageError
        For any other type, or a Series that could be either.
    DataError
        For times that match no bar or occur twice, values out of range, probabilities that do not sum to 1, or a missing
        column.
    """
    import pandas as pd

    from .time_stamps_input import stamped

    what = "signals"
    if isinstance(given, str | os.PathLike):
        what = f"signals, {Path(given).name}"
        given = _read(Path(given))
    if isinstance(given, pd.Series):
        name = given.name if isinstance(given.name, str) and given.name in ("signal", "exposure") else _kind_of(given)
        given = given.to_frame(name=name)
    if not isinstance(given, pd.DataFrame):
        raise UsageError(
            f"signals: expected a Series or a DataFrame with the bars' open times as its index, or a path of one, got "
            f"{kind_of(given)}. Give it the times: pandas.Series(values, index=frame.index)."
        )
    if given.empty:
        raise DataError(f"{what}: there are no rows. Give one for each bar.")
    time, columns = stamped(given, what)
    order = np.argsort(time, kind="stable")
    time, columns = time[order], columns.iloc[order]
    _check_times(time, bars, what)
    return _rows_of(columns, time, what)


def seen_from(bars_seen: Sequence[TimeRange | str] | None) -> tuple[TimeRange | str, ...] | None:
    """Return the stated ranges of bars that the signals' maker has seen; None where they are not stated.

    Raises
    ------
    UsageError
        For anything but a sequence of time ranges.
    """
    if bars_seen is None:
        return None
    if isinstance(bars_seen, str | TimeRange) or not isinstance(bars_seen, Sequence):
        raise UsageError(
            f"bars_seen: expected a tuple of time ranges, such as ('20200101-20230701',), or () for none, got "
            f"{quoted_value(bars_seen)}."
        )
    for each in bars_seen:
        if not isinstance(each, str | TimeRange):
            raise UsageError(f"bars_seen: it holds {quoted_value(each)}, expected time ranges such as '20200101-20230701'.")
    return tuple(TimeRange.parse(each, option="bars_seen") if isinstance(each, str) else each for each in bars_seen)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    is_parquet = path.suffix.lower() == ".parquet"
    if not is_parquet and not path.name.lower().endswith((".csv", ".csv.gz")):
        raise UsageError(f"signals: {path} ends in {path.suffix or 'no suffix'!r}, expected .csv, .csv.gz or .parquet.")
    try:
        return pd.read_parquet(path) if is_parquet else pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' and pyarrow's errors are ValueErrors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"signals: {path} cannot be read ({reason}). Check the path and the file.") from None


def _kind_of(series: pd.Series) -> str:
    """Return ``signal`` or ``exposure`` for a Series whose name states neither, from its values."""
    import pandas as pd

    if series.dtype.kind not in "iufb":
        if isinstance(series.dtype, pd.StringDtype | pd.CategoricalDtype) or series.dtype.kind == "O":
            return "signal"
        raise DataError(f"signals: the Series holds {series.dtype}, expected numbers, or the text {', '.join(CLASS_NAMES)}.")
    values = set(series.dropna().unique().tolist())
    if series.dtype.kind == "b" or values <= {0, 1}:
        raise UsageError(f"signals: a Series of 0 and 1 alone may be signals or exposures. State which, and {_REMEDY}.")
    return "signal" if BUY in values and values <= {NO_SIGNAL, SELL, HOLD, BUY} else "exposure"


def _check_times(time: TimeArray, bars: Bars, what: str) -> None:
    twice = np.flatnonzero(time[1:] == time[:-1])
    if len(twice):
        raise DataError(f"{what}: the time {utc(time[twice[0]])} occurs twice ({len(twice):,} such rows). Keep one row a bar.")
    place = np.searchsorted(bars.time, time).clip(max=len(bars) - 1)
    strange = np.flatnonzero(bars.time[place] != time)
    if len(strange):
        first = time[strange[0]]
        raise DataError(
            f"{what}: {len(strange):,} of {len(time):,} times match no bar, the first {utc(first)}. A row has the OPEN time of "
            f"its bar, in UTC; the bars are {bars}. Shift or cut the rows: rows.loc[rows.index.isin(frame.index)]."
        )


def _rows_of(columns: pd.DataFrame, time: TimeArray, what: str) -> GivenRows:
    """Return the rows of the one kind that the columns hold."""
    there = [name for name in ("signal", *PROBABILITIES, "exposure") if name in columns.columns]
    doubled = next((name for name in there if columns.columns.tolist().count(name) > 1), None)
    if doubled is not None:
        raise DataError(f"{what}: the column '{doubled}' is there twice. Remove or rename one.")
    given = [name for name in PROBABILITIES if name in there]
    if given and len(given) < 3:
        missing = ", ".join(name for name in PROBABILITIES if name not in there)
        raise DataError(f"{what}: of the probabilities, {missing} is missing. Give {', '.join(PROBABILITIES)}, or signal.")
    if "exposure" in there:
        if len(there) > 1:
            raise DataError(f"{what}: it has exposure and {there[0]}, and only one can be traded. Drop the other column.")
        return GivenRows("exposure", time, _checked(columns["exposure"], "exposure", -1.0, 1.0, what))
    signal = None if "signal" not in there else _classes(columns["signal"], what)
    if given:
        probabilities = np.column_stack([_checked(columns[name], name, 0.0, 1.0, what) for name in PROBABILITIES])
        known = np.isfinite(probabilities).all(axis=1)
        wrong = np.flatnonzero(known & (np.abs(probabilities.sum(axis=1) - 1) > _SUM_TOLERANCE))
        if len(wrong):
            total = probabilities[wrong[0]].sum()
            raise DataError(
                f"{what}: at {utc(time[wrong[0]])} the probabilities sum to {total:.6g}, expected 1 ({len(wrong):,} such "
                "rows). Divide each row by its sum, if that is what they mean."
            )
        if signal is not None:
            signal = np.where(known, signal, np.nan)
        return GivenRows("probabilities", time, probabilities, signal)
    if signal is None:
        names = ", ".join(map(str, columns.columns[:15])) or "none"
        raise DataError(
            f"{what}: no column holds signals; its columns are {names}. Name one signal or exposure, or three "
            f"{', '.join(PROBABILITIES)}."
        )
    return GivenRows("signal", time, signal)


def _classes(column: pd.Series, what: str) -> FloatArray:
    """Return signals 0, 1, 2 as floats, NaN for none; text SELL, HOLD, BUY in any case is read."""
    if column.dtype.kind in "iuf":
        values = _checked(column, "signal", NO_SIGNAL, BUY, what)
        wrong = np.flatnonzero(np.isfinite(values) & (values != np.round(values)))
        if len(wrong):
            raise DataError(f"{what}: signal {values[wrong[0]]:g} in row {wrong[0] + 1} is not SELL=0, HOLD=1 or BUY=2.")
        if (values == NO_SIGNAL).any() and not (values == BUY).any():
            raise DataError(
                f"{what}: signal holds -1 and never 2, as in -1 for short, 0 for flat, 1 for long. Signals are SELL=0, HOLD=1, "
                "BUY=2, and -1 is a bar without one. If yours are sides, name them exposure; if not, write NaN for -1."
            )
        return np.where(values == NO_SIGNAL, np.nan, values)
    if column.dtype.kind == "b":
        raise DataError(f"{what}: signal holds True and False, expected SELL=0, HOLD=1, BUY=2 or their names.")
    codes = dict(zip(CLASS_NAMES, (SELL, HOLD, BUY), strict=True))
    blank = column.isna().to_numpy()
    names = [str(each).strip().upper() for each in column]
    for row, (name, is_blank) in enumerate(zip(names, blank, strict=True), 1):
        if not is_blank and name not in codes:
            raise DataError(f"{what}: signal '{name:.40}' in row {row} is not {', '.join(CLASS_NAMES)} or 0, 1, 2.")
    return np.array([codes.get(name, np.nan) for name in names], dtype=np.float64)


def _checked(column: pd.Series, name: str, low: float, high: float, what: str) -> FloatArray:
    """Return a column of numbers within limits, NaN allowed."""
    if column.dtype.kind not in "iuf" and not (column.dtype.kind == "b" and name == "exposure"):
        raise DataError(f"{what}: the column '{name}' holds {column.dtype}, expected numbers.")
    values = np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
    wrong = np.flatnonzero(~np.isnan(values) & ~((values >= low) & (values <= high)))
    if len(wrong):
        raise DataError(
            f"{what}: {name} is {values[wrong[0]]:g} in row {wrong[0] + 1}, expected {low:g} to {high:g} "
            f"({len(wrong):,} such rows)."
        )
    return values


def _whole(values: FloatArray) -> IntArray:
    return np.where(np.isfinite(values), values, NO_SIGNAL).astype(np.int8)


def _sides_of(exposure: FloatArray, *, short: bool) -> IntArray:
    """Return the side of each exposure: BUY above 0, SELL below; 0 is SELL, which means flat, or HOLD where shorts are sold."""
    flat = HOLD if short else SELL
    sides = np.where(exposure > 0, BUY, np.where(exposure < 0, SELL, flat))
    return np.where(np.isfinite(exposure), sides, NO_SIGNAL).astype(np.int8)
