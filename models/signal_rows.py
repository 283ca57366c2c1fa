"""GivenRows: signals that were computed elsewhere, checked and in the order of time, of one kind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, TimeArray
from ..data.bars import Bars, utc
from ..data.formats.table import Places
from ..data.labels import BUY
from ..errors import DataError
from .signals import NO_SIGNAL
from .signals_file import PROBABILITIES, SignalTable

_SUM_TOLERANCE = 1e-6


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


def checked_rows(table: SignalTable, bars: Bars | None, *, may_lie_outside: bool = False) -> GivenRows:
    """Return the rows of a file or table in the order of time, checked.

    Parameters
    ----------
    table : SignalTable
    bars : Bars, optional
        The bars that the rows belong to; None where they are not known.
    may_lie_outside : bool
        Whether rows before the first bar and after the last are allowed, at whole steps from it.

    Raises
    ------
    DataError
        For a time that occurs twice or matches no bar, a value out of range, probabilities that do not sum to 1, or a missing
        column, with its place.
    """
    order = np.argsort(table.time, kind="stable")
    places = table.places._replace(numbers=np.asarray(table.places.numbers)[order])
    columns = {name: values[order] for name, values in table.columns.items()}
    table = SignalTable(table.time[order], columns, places)
    _check_once(table)
    if bars is not None:
        _check_times(table, bars, may_lie_outside=may_lie_outside)
    return _rows_of(table)


def past_grid(time: TimeArray, bars: Bars) -> npt.NDArray[np.timedelta64]:
    """Return by how much each time is past the last whole step from the first bar; 0 on the grid of the bars."""
    return np.asarray((time - bars.time[0]) % bars.step)


def _check_once(table: SignalTable) -> None:
    """Refuse a time that occurs twice."""
    time, places = table.time, table.places
    twice = np.flatnonzero(time[1:] == time[:-1])
    if len(twice):
        first, second = sorted(np.asarray(places.numbers)[twice[0] : twice[0] + 2].tolist())
        raise DataError(
            f"{places.name}, {places.kind} {second}: the time {utc(time[twice[0]])} occurs twice, first in {places.kind} "
            f"{first} ({len(twice):,} such rows). Keep one row a bar."
        )


def _check_times(table: SignalTable, bars: Bars, *, may_lie_outside: bool) -> None:
    """Refuse a time that is not the open time of a bar."""
    time, places = table.time, table.places
    at = np.searchsorted(bars.time, time).clip(max=len(bars) - 1)
    matched = bars.time[at] == time
    past = past_grid(time, bars)
    if may_lie_outside:
        matched |= ((time < bars.time[0]) | (time > bars.time[-1])) & (past == np.timedelta64(0))
    strange = np.flatnonzero(~matched)
    if not len(strange):
        return
    past = past[strange]
    shift = past[0] if (past == past[0]).all() else np.timedelta64(0)
    seconds = shift / np.timedelta64(1, "s")
    why = f" All of them are {seconds:,g} s past the open time of a bar: subtract that." if seconds else ""
    raise DataError(
        f"{places.name}, {places.kind} {places.numbers[strange[0]]}: {len(strange):,} of {len(time):,} times match no bar, the "
        f"first {utc(time[strange[0]])}.{why} A row has the OPEN time of its bar, in UTC or with its offset; the bars are "
        f"{bars}. Shift the rows, or leave out those of other bars: rows.loc[rows.index.isin(frame.index)] of a Series or "
        "DataFrame."
    )


def _rows_of(table: SignalTable) -> GivenRows:
    """Return the rows of the one kind that the columns hold."""
    time, columns, places = table
    there, what = [*columns], places.name
    given = [name for name in PROBABILITIES if name in there]
    if given and len(given) < 3:
        missing = ", ".join(name for name in PROBABILITIES if name not in there)
        raise DataError(f"{what}: of the probabilities, {missing} is missing. Give {', '.join(PROBABILITIES)}, or signal.")
    if "exposure" in there:
        if len(there) > 1:
            raise DataError(f"{what}: it has exposure and {there[0]}, and only one can be traded. Drop the other column.")
        return GivenRows("exposure", time, _within(columns["exposure"], "exposure", -1.0, 1.0, places))
    signal = None if "signal" not in there else _classes(columns["signal"], places)
    if signal is not None and not given:
        return GivenRows("signal", time, signal)
    probabilities = np.column_stack([_within(columns[name], name, 0.0, 1.0, places) for name in PROBABILITIES])
    known = np.isfinite(probabilities).all(axis=1)
    wrong = np.flatnonzero(known & (np.abs(probabilities.sum(axis=1) - 1) > _SUM_TOLERANCE))
    if len(wrong):
        at = wrong[0]
        raise DataError(
            f"{what}, {places.kind} {places.numbers[at]}: at {utc(time[at])} the probabilities sum to "
            f"{probabilities[at].sum():.9g}, expected 1 ({len(wrong):,} such rows). Divide each row by its sum, if that is "
            "what they mean, and write every digit."
        )
    return GivenRows("probabilities", time, probabilities, None if signal is None else np.where(known, signal, np.nan))


def _classes(values: FloatArray, places: Places) -> FloatArray:
    """Return signals 0, 1, 2, NaN for none."""
    _within(values, "signal", NO_SIGNAL, BUY, places)
    wrong = np.flatnonzero(np.isfinite(values) & (values != np.round(values)))
    if len(wrong):
        raise DataError(f"{places.at(int(wrong[0]), 'signal')}: {values[wrong[0]]:g} is not SELL=0, HOLD=1 or BUY=2.")
    if (values == NO_SIGNAL).any() and not (values == BUY).any():
        first = int(np.argmax(values == NO_SIGNAL))
        raise DataError(
            f"{places.at(first, 'signal')}: signal holds -1 and never 2, as in -1 for short, 0 for flat, 1 for long. Signals "
            "are SELL=0, HOLD=1, BUY=2, and -1 is a bar without one. If yours are sides, name them exposure; if not, leave "
            "those cells blank."
        )
    return np.where(values == NO_SIGNAL, np.nan, values)


def _within(values: FloatArray, name: str, low: float, high: float, places: Places) -> FloatArray:
    """Return numbers within limits, NaN allowed."""
    wrong = np.flatnonzero(~np.isnan(values) & ~((values >= low) & (values <= high)))
    if len(wrong):
        raise DataError(
            f"{places.at(int(wrong[0]), name)}: {values[wrong[0]]:g} is outside {low:g} to {high:g} ({len(wrong):,} such "
            "rows). Check the column, or leave the cell blank where there is no signal."
        )
    return values
