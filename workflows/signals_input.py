"""Signals that were computed elsewhere: a Series or a table, aligned to the bars by time, as a strategy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ..arrays import FloatArray, IntArray
from ..data.bars import Bars, utc
from ..data.formats.table import Places
from ..data.labels import BUY, CLASS_NAMES, HOLD, SELL
from ..data.time_range import TimeRange
from ..engine.run_request import RunRequest
from ..errors import DataError, RangeError, UsageError, kind_of, quoted_value
from ..models.owner_options import NONE_SEEN, UNKNOWN_SEEN
from ..models.signal_rows import GivenRows, checked_rows
from ..models.signals import NO_SIGNAL, Signals
from ..models.signals_file import SIGNAL_COLUMNS, SignalTable, no_signals, read_signals_file, signal_codes
from ..storage.paths import path_of
from ..strategies.base import Position, Strategy

if TYPE_CHECKING:
    import pandas as pd

    SignalsInput = pd.Series | pd.DataFrame | str | Path
else:
    SignalsInput = object

_REMEDY = 'name it: series.rename("signal") for SELL=0, HOLD=1, BUY=2, or series.rename("exposure") for shares of equity'


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
                f"signals: {int((rows.values < 0).sum()):,} exposures are below 0, the first at "
                f"{utc(rows.time[np.argmax(rows.values < 0)])}, which is a short position. Add --short, or raise them to 0."
            )
        self.rows = rows
        self.bars_seen = bars_seen
        self._exposure: FloatArray | None = None

    def check_covers(self, bars: Bars, timerange: TimeRange) -> None:
        """Refuse a range of bars of which none has a signal; raises RangeError with the range of the signals."""
        known = self.rows.time[np.isfinite(self.rows.values.reshape(len(self.rows.time), -1)).all(axis=1)]
        traded = bars.time[bars.between(timerange)]
        if not len(traded) or np.isin(traded, known).any():  # the engine refuses a range without bars
            return
        span = f"they are from {utc(known[0])} to {utc(known[-1])}" if len(known) else "every row is blank"
        raise RangeError(
            f"signals: none of the {len(traded):,} bars to be traded has one, {utc(traded[0])} to {utc(traded[-1])}; {span}. "
            "Choose another range with --timerange, or give signals that cover it."
        )

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
        With the open times of bars in the index, in any zone, or a table with a time column; a path is a CSV, Parquet or
        Feather file of such a table. **A Series** of whole numbers up to 2 or of the text SELL, HOLD, BUY holds signals; one
        with fractions or values below 0 holds exposures, shares of equity from -1 to 1. A Series of 0 and 1 alone could be
        either: its name, ``signal`` or ``exposure``, decides. **A table** has the column ``signal``, or ``p_sell``, ``p_hold``
        and ``p_buy`` (with ``signal`` next to them or not), or ``exposure``. Other columns are ignored. NaN means no signal.
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
    is_path = isinstance(given, str | os.PathLike)
    table = read_signals_file(path_of(given, "signals")) if is_path else _table_of(given)
    return checked_rows(table, bars)


def given_signals(request: RunRequest, bars: Bars) -> GivenSignals:
    """Return the strategy that trades a request's file of signals.

    Raises
    ------
    UsageError
        For ``--bars-seen`` in another form, exposures below 0 without ``--short``, and as `signals_from`.
    DataError
        As `signals_from`.
    """
    text, seen = request.bars_seen, None
    if text is not None and text.strip().lower() != UNKNOWN_SEEN:
        each = [] if text.strip().lower() == NONE_SEEN else text.split(",")
        seen = tuple(TimeRange.parse(part, option="--bars-seen") for part in each)
    return GivenSignals(signals_from(cast(Path, request.signals), bars), bars_seen=seen, short=request.short)


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


def _table_of(given: object) -> SignalTable:
    """Return the columns of signals of a Series or a DataFrame."""
    import pandas as pd

    from .time_stamps_input import stamped

    if isinstance(given, pd.Series):
        name = given.name if isinstance(given.name, str) and given.name in ("signal", "exposure") else _kind_of(given)
        given = given.to_frame(name=name)
    if not isinstance(given, pd.DataFrame):
        raise UsageError(
            f"signals: expected a Series or a DataFrame with the bars' open times as its index, or a path of one, got "
            f"{kind_of(given)}. Give it the times: pandas.Series(values, index=frame.index)."
        )
    if given.empty:
        raise DataError("signals: there are no rows. Give one for each bar.")
    time, columns = stamped(given, "signals")
    names = columns.columns.tolist()
    there = [name for name in SIGNAL_COLUMNS if name in names]
    doubled = next((name for name in there if names.count(name) > 1), None)
    if doubled is not None:
        raise DataError(f"signals: the column '{doubled}' is there twice. Remove or rename one.")
    if not there:
        raise no_signals("signals", names)
    places = Places("signals", "row", range(1, len(time) + 1))
    return SignalTable(time, {name: _floats(columns[name], name, places) for name in there}, places)


def _floats(column: pd.Series, name: str, places: Places) -> FloatArray:
    """Return a column as floats, NaN where it is blank; text SELL, HOLD, BUY in any case is read as signals."""
    kind = column.dtype.kind
    if name == "signal" and kind == "b":
        raise DataError("signals: signal holds True and False, expected SELL=0, HOLD=1, BUY=2 or their names.")
    if name == "signal" and kind not in "iuf":
        blank = column.isna().tolist()
        texts = ["" if is_blank else str(cell) for cell, is_blank in zip(column, blank, strict=True)]
        return signal_codes(texts, name, places)
    if kind not in "iufb" or (kind == "b" and name != "exposure"):
        raise DataError(f"signals: the column '{name}' holds {column.dtype}, expected numbers.")
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


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


def _whole(values: FloatArray) -> IntArray:
    return np.where(np.isfinite(values), values, NO_SIGNAL).astype(np.int8)


def _sides_of(exposure: FloatArray, *, short: bool) -> IntArray:
    """Return the side of each exposure: BUY above 0, SELL below; 0 is SELL, which means flat, or HOLD where shorts are sold."""
    flat = HOLD if short else SELL
    sides = np.where(exposure > 0, BUY, np.where(exposure < 0, SELL, flat))
    return np.where(np.isfinite(exposure), sides, NO_SIGNAL).astype(np.int8)
