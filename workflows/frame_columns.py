"""The columns of a DataFrame of bars: those of one market, under their usual names."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ..data.bars import COLUMNS
from ..data.formats.column_names import SYMBOL_NAMES, TIME_NAMES, choose_columns
from ..data.formats.markets import several_markets
from ..data.reading import AS_WRITTEN, Reading
from ..errors import DataError, quoted_value


def usual_columns(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return a DataFrame of one market with the usual names of columns in place of a vendor's.

    Two levels of columns, as yfinance gives them, or of the index, as Alpaca does, lose the level of the market's name. A frame
    without the columns of bars is returned as it is.

    Raises
    ------
    DataError
        For the bars of several markets, naming them, and for a vendor's form that only files are read in.
    """
    frame = _without_symbol_in_index(_of_one_ticker(frame, what), what)
    if frame.columns.nlevels > 1 or not all(isinstance(name, str) for name in frame.columns):
        return frame
    names = [name.strip().lower() for name in frame.columns]
    symbol = next((names.index(name) for name in SYMBOL_NAMES if names.count(name) == 1), None)
    if symbol is not None:
        markets = _markets(frame.iloc[:, symbol])
        if len(markets) > 1:
            place = f"frame[frame[{quoted_value(frame.columns[symbol])}] == {quoted_value(markets[0])}]"
            raise DataError(several_markets(what, [str(each) for each in markets], place))
    return _renamed(frame, names, what)


def _markets(cells: Iterable[object]) -> list[str | int]:
    """Return the different names, or numbers, of markets, in their order; other values are none."""
    return list(dict.fromkeys(each for each in cells if isinstance(each, str | int) and not isinstance(each, bool)))


def _renamed(frame: pd.DataFrame, names: list[str], what: str) -> pd.DataFrame:
    """Return a frame with the usual names, in the way of `choose_columns`."""
    of_index = isinstance(frame.index, pd.DatetimeIndex)
    of_index |= not set(TIME_NAMES) & set(names) and (frame.index.name is not None or frame.index.dtype.kind == "O")
    header = [*["time"] * of_index, *frame.columns]
    sample = [] if of_index else [cell if isinstance(cell, str) else quoted_value(cell) for cell in frame.iloc[0]]
    try:
        choice = choose_columns(header, what, Reading(columns="time=0") if of_index else AS_WRITTEN, sample)
    except DataError:  # `bars_from` states what is missing, in the words of a frame
        return frame
    if choice.time_format or choice.time_zone or choice.is_close_time or {"quote volume", "other volume"} & {*choice.positions}:
        source = f"those of {choice.vendor}" if choice.vendor else f"{', '.join(names[:15])}"
        raise DataError(
            f"{what}: the columns are {source}, whose times or volumes are read from files only. Write them to a file, and "
            'give its path: frame.to_csv("bars.csv").'
        )
    columns = {role: frame.iloc[:, at - of_index] for role, at in choice.positions.items() if role in (*COLUMNS, "synthetic")}
    if not of_index:
        first, *others = (frame.iloc[:, at] for at in choice.time)
        columns["time"] = first if not others else first.astype(str) + " " + others[0].astype(str)
    made = pd.DataFrame(columns, index=frame.index)
    made.attrs = frame.attrs
    return made


def _of_one_ticker(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return a frame of two levels of columns, one of them with the names of prices, without the other level."""
    if frame.columns.nlevels != 2:
        return frame
    levels = [frame.columns.get_level_values(level) for level in (0, 1)]
    prices = [
        {"open", "high", "low", "close"} <= {name.strip().lower() for name in names if isinstance(name, str)}
        for names in levels
    ]
    if not any(prices):
        return frame
    level = 1 - prices.index(True)
    markets = _markets(levels[level])
    if len(markets) > 1:
        place = f"frame.xs({quoted_value(markets[0])}, axis=1, level={level})"
        raise DataError(several_markets(what, [str(each) for each in markets], place))
    return frame.droplevel(level, axis=1)


def _without_symbol_in_index(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return a frame whose index has two levels, one of them with times, without the other level."""
    if frame.index.nlevels != 2:
        return frame
    levels = [frame.index.get_level_values(level) for level in (0, 1)]
    times = [isinstance(values, pd.DatetimeIndex) for values in levels]
    if sum(times) != 1:
        return frame
    level = times.index(False)
    markets = _markets(levels[level])
    if len(markets) > 1:
        place = f"frame.xs({quoted_value(markets[0])}, level={level})"
        raise DataError(several_markets(what, [str(each) for each in markets], place))
    return frame.droplevel(level)
