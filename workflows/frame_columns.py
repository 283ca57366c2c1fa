"""The columns of a DataFrame of bars: those of one market, under their usual names."""

from __future__ import annotations

import pandas as pd

from ..data.bars import COLUMNS
from ..data.formats.column_names import SYMBOL_NAMES, TIME_NAMES, choose_columns
from ..data.formats.markets import several_markets
from ..data.reading import AS_WRITTEN, Reading
from ..errors import DataError


def usual_columns(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return a DataFrame of one market with the usual names of columns in place of a vendor's.

    Columns of two levels, as yfinance gives them, have the level of the market's name removed. A frame without the columns
    of bars is returned as it is.

    Raises
    ------
    DataError
        For the bars of several markets, naming them.
    """
    frame = _of_one_ticker(frame, what)
    if frame.columns.nlevels > 1 or not all(isinstance(name, str) for name in frame.columns):
        return frame
    names = [name.strip().lower() for name in frame.columns]
    symbol = next((at for name in SYMBOL_NAMES if (at := _place(name, names)) is not None), None)
    if symbol is not None:
        markets = [str(each) for each in frame.iloc[:, symbol].dropna().unique()[:10_000]]
        if len(markets) > 1:
            name, first = frame.columns[symbol], frame.iloc[:, symbol].dropna().iloc[0]
            raise DataError(several_markets(what, markets, f"frame[frame[{name!r:.60}] == {first!r:.60}]"))
    return _renamed(frame, names, what)


def _renamed(frame: pd.DataFrame, names: list[str], what: str) -> pd.DataFrame:
    """Return a frame with the usual names, in the way of `choose_columns`."""
    of_index = isinstance(frame.index, pd.DatetimeIndex)
    of_index |= not set(TIME_NAMES) & set(names) and (frame.index.name is not None or frame.index.dtype.kind == "O")
    header = [*["time"] * of_index, *frame.columns]
    sample = [] if of_index else [str(cell) for cell in frame.iloc[0]]
    try:
        choice = choose_columns(header, what, Reading(columns="time=0") if of_index else AS_WRITTEN, sample)
    except DataError:  # `bars_from` states what is missing, in the words of a frame
        return frame
    if choice.time_format or choice.time_zone or choice.is_close_time:
        raise DataError(
            f"{what}: the columns are those of {choice.vendor}, whose times are written in a form of their own. Write them to "
            'a file, and give its path: frame.to_csv("bars.csv").'
        )
    columns = {role: frame.iloc[:, at - of_index] for role, at in choice.positions.items() if role in (*COLUMNS, "synthetic")}
    if not of_index:
        first, *others = (frame.iloc[:, at] for at in choice.time)
        columns["time"] = first if not others else first.astype(str) + " " + others[0].astype(str)
    made = pd.DataFrame(columns, index=frame.index)
    made.attrs = frame.attrs
    return made


def _place(name: str, names: list[str]) -> int | None:
    return names.index(name) if names.count(name) == 1 else None


def _of_one_ticker(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return a frame of two levels of columns, one of them with the names of prices, without the other level."""
    if frame.columns.nlevels != 2:
        return frame
    levels = [frame.columns.get_level_values(level) for level in (0, 1)]
    prices = [{"open", "high", "low", "close"} <= {str(name).strip().lower() for name in names} for names in levels]
    if not any(prices):
        return frame
    level = 1 - prices.index(True)
    markets = [str(each) for each in levels[level].unique()]
    if len(markets) > 1:
        raise DataError(several_markets(what, markets, f"frame.xs({levels[level][0]!r:.60}, axis=1, level={level})"))
    return frame.droplevel(level, axis=1)
