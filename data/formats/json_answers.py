"""Which array of an exchange's answer has the bars: the only one, or the one of the market that is named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import DataError
from .json_parsing import RowParser
from .json_scan import ERROR_KEYS, JsonArray, JsonLayout, Keys
from .markets import chosen_market, several_markets, unknown_market
from .table import printable, shown

MOST_NAMED = 10  # markets in a message
_SYMBOL_KEYS = re.compile(
    r"(?:\d+\. )?(?:symbol|pair|currency_pair|ticker|instrument(?:_name)?|instid|product_id|market|coin)", re.IGNORECASE
)
_PAGE_KEYS = re.compile(r"next|next_page(?:_token|_url)?|next_(?:url|cursor|token)|next_?page_?cursor", re.IGNORECASE)
_ZONE_KEYS = re.compile(r"(?:\d+\. )?(?:exchange[_ ]?)?time[_ ]?zone(?:_?name)?", re.IGNORECASE)
_CODE_KEYS = re.compile(r"code|ret_?code|error_?code|status(?:_?code)?", re.IGNORECASE)
_SUCCESS = frozenset(("", "0", "ok", "success", "none", "null", "true", "false", "[]"))
# Keys that name a part of an answer, not a market.
_PARTS = re.compile(
    r"\d+|answer|bars?|body|candles?|chart|data|history|items?|k|klines?|list|ohlcv?|points|prices?|quotes?|records?|response|"
    r"results?|rows?|series|values?",
    re.IGNORECASE,
)


class MarketArray(NamedTuple):
    """The array with the bars; its market, if the user chose it by a key or text of the answer; and notes for the user."""

    array: JsonArray
    market: str
    notes: tuple[str, ...]
    time_zone: str


def choose_array(parser: RowParser, layout: JsonLayout, symbol: str | None) -> MarketArray:
    """Return the array to read.

    Parameters
    ----------
    parser : RowParser
        Of the text.
    layout : JsonLayout
        Its arrays, from `find_arrays`.
    symbol : str, optional
        The market that is wanted.

    Raises
    ------
    DataError
        When the answer holds an error or no rows, has several arrays and ``symbol`` names none, or is of another market.
    """
    arrays, name = layout.arrays, parser.name
    for keys, count in Counter(each.keys for each in arrays).items():
        if count > 1:
            raise DataError(f"{name}: the key {shown('.'.join(keys))} occurs twice, each time with rows. Keep one of them.")
    if len(arrays) > 1:
        arrays = [each for each in arrays if _may_be_bars(parser, each)]
        if not arrays:
            there = _named([".".join(each.keys) for each in layout.arrays])
            raise DataError(
                f"{name}: expected bars, got the arrays {there}, whose rows are too short for a time and four "
                "prices. Fetch candles."
            )
    if not arrays:
        raise _no_rows(layout, name)
    labels = _labels(arrays, layout)
    found = list(zip(arrays, labels, strict=True))
    if symbol is not None and any(names for _, names in found):
        matching = [(array, names) for array, names in found if symbol in names]
        matching = matching or [(array, names) for array, names in found if chosen_market(names, symbol) is not None]
        known = [label for names in labels for label in names]
        if not matching:
            raise DataError(unknown_market(name, symbol, known))
        found = matching
    if len(found) > 1:
        beside = {next(iter(_symbols_beside(each, layout, only=False)), "") for each, _ in found}
        if len(beside) == 1 and (market := beside.pop()):
            there = _named([".".join(each.keys) for each, _ in found])
            raise DataError(
                f"{name}: the rows of the market {shown(market)} are in {len(found)} arrays, {there}. If these are answers to "
                "several requests, join their rows in one array, or give a file for each."
            )
        raise DataError(several_markets(name, [names[0] for _, names in found]))
    array, names = found[0]
    place = printable(".".join(array.keys), 100)
    notes = [f"the bars are the rows of its key {shown(place)}"] if place else []
    page = next((keys[-1] for keys, value in layout.texts if _is_set(_PAGE_KEYS, keys, value)), "")
    notes += [f"it is one page of several, since its key {shown(page)} is not empty"] if page else []
    zone = next((value for keys, value in layout.texts if keys and _ZONE_KEYS.fullmatch(keys[-1])), "")
    return MarketArray(array, symbol if symbol is not None and names else "", tuple(notes), zone)


def _may_be_bars(parser: RowParser, array: JsonArray) -> bool:
    """Return whether the first row has cells for a time and four prices; an order book or a table of dividends has fewer."""
    try:
        return len(next(parser.rows(array), ())) > 4
    except DataError:
        return True  # it is damaged, as bars can be


def _labels(arrays: Sequence[JsonArray], layout: JsonLayout) -> list[list[str]]:
    """Return for each array the names of its market, that for messages first; none where no key or text names one."""
    beside = [_symbols_beside(each, layout, only=len(arrays) == 1) for each in arrays]
    keys = [[key for key in each.keys if not _PARTS.fullmatch(key)][-1:] for each in arrays]
    if len(arrays) == 1:
        return [beside[0] + keys[0]]
    whole = [[".".join(each.keys)] for each in arrays]
    candidates = (
        [[key for key in each.keys if not key.isdecimal()][-1:] for each in arrays],
        [each[:1] for each in beside],
        whole,
    )
    best = next(names for names in candidates if all(names) and len({each[0] for each in names}) == len(arrays))
    return [list(dict.fromkeys(a + b + c + d)) for a, b, c, d in zip(best, keys, beside, whole, strict=True)]


def _symbols_beside(array: JsonArray, layout: JsonLayout, *, only: bool) -> list[str]:
    """Return the texts that name a market, the nearest first: of the objects around an array, or of the whole answer."""
    found = [
        (keys, value)
        for keys, value in layout.texts
        if keys and _SYMBOL_KEYS.fullmatch(keys[-1]) and value and (only or array.keys[: len(keys) - 1] == keys[:-1])
    ]
    return [value for _, value in sorted(found, key=lambda each: -len(each[0]))]


def _named(names: Sequence[str]) -> str:
    shown_names = [shown(each) for each in names[:MOST_NAMED]]
    return ", ".join(shown_names) + (", ..." if len(names) > MOST_NAMED else "")


def _no_rows(layout: JsonLayout, name: str) -> DataError:
    problem = [value for keys, value in layout.texts if any(_is_set(ERROR_KEYS, (key,), value) for key in keys)]
    if problem:
        code = next((value for keys, value in layout.texts if _is_set(_CODE_KEYS, keys, value) and value not in problem), "")
        code = f" ({printable(code, 40)})" if code else ""
        return DataError(
            f"{name}: expected bars, but the exchange answered with an error: {shown(printable('; '.join(problem)))}{code}. "
            "Correct the request, such as its symbol or times, and fetch the file again."
        )
    texts = [keys for keys, _ in layout.texts]
    nested = next((keys for keys in texts if any(map(str.isdecimal, keys[:-2])) and not keys[-2].isdecimal()), None)
    if nested is not None:
        return DataError(
            f"{name}: expected rows of numbers and texts, but they hold objects within objects, such as "
            f"{shown(printable('.'.join(nested), 100))}. Write each bar as one object with a time, open, high, low, close and "
            "volume."
        )
    keys = [".".join(each) for each in dict.fromkeys(texts)]
    there = f"; its keys are {_named(keys)}" if keys else ""
    return DataError(f"{name}: the JSON has no rows of bars{there}. Fetch the file again, for times at which there are bars.")


def _is_set(pattern: re.Pattern[str], keys: Keys, value: str) -> bool:
    """Return whether the last key is one of a kind, and its value more than a sign that all is well."""
    return bool(keys) and bool(pattern.fullmatch(keys[-1])) and value.lower() not in _SUCCESS
