"""Headers of several lines, as pandas writes columns of several levels: names of prices above or below those of markets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from ...errors import DataError
from ..bars import COLUMNS
from .markets import chosen_market, several_markets, unknown_market
from .number_style import is_number
from .row_order import is_time
from .time_forms import form_of

MOST_LINES = 3
_AMOUNT = re.compile(r"[^\w.,]{0,2}\d[\d.,' ]*[%KMBT]?", re.ASCII)  # 2,590.00, $191.56, 155.07K, -7.55%
_PRICES = set(COLUMNS) - {"volume"}


class StackedHeader(NamedTuple):
    """The names of the columns, those of other markets with their market; the lines; the market; whether there are others."""

    header: list[str]
    lines: int
    market: str
    has_others: bool


def stacked_header(rows: Sequence[Sequence[str]], symbol: str | None, name: str) -> StackedHeader | None:
    """Return the header that the first rows are together, or None if they are not one of several lines.

    Raises
    ------
    DataError
        For several markets of which none is chosen, or one that is not there.
    """
    heads = list(takewhile(_has_names, rows[:MOST_LINES]))
    if len(heads) < 2 or len(set(map(len, heads))) > 1:
        return None
    prices = next((head for head in heads if {cell.strip().lower() for cell in head} >= _PRICES), None)
    tickers = next((head for head in heads if head is not prices and all(cell.strip() for cell in head[1:])), None)
    if prices is None or tickers is None:
        return None
    last = heads[-1]
    time = last[0] if not any(cell.strip() for cell in last[1:]) else prices[0]
    markets = list(dict.fromkeys(cell.strip() for cell in tickers[1:]))
    if symbol is None and len(markets) > 1:
        raise DataError(several_markets(name, markets))
    at = 0 if symbol is None else chosen_market(markets, symbol)
    if at is None:
        raise DataError(unknown_market(name, str(symbol), markets))
    pairs = zip(prices[1:], tickers[1:], strict=True)
    header = [price if ticker.strip() == markets[at] else f"{price} of {ticker.strip()}" for price, ticker in pairs]
    return StackedHeader([time, *header], len(heads), markets[at], len(markets) > 1)


def _has_names(row: Sequence[str]) -> bool:
    return len(row) > len(COLUMNS) and not any(_is_value(cell.strip()) for cell in row)


def _is_value(cell: str) -> bool:
    """Return whether a cell is a number, perhaps with commas or a unit, or a time: a ticker may only begin as one (0005.HK)."""
    return bool(is_number(cell) or _AMOUNT.fullmatch(cell) or is_time(cell) or form_of(cell) is not None)
