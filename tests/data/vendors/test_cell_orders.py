"""Rows without names: whatever the order of their cells, they are read right or refused, never read wrong."""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from vendor_files import BTC, HOURS, epochs, market, quote, table, texts, trades, vwap

from flagbt.data.bars import COLUMNS, Bars
from flagbt.data.readers import read_strictly
from flagbt.data.reading import Reading
from flagbt.errors import DataError

ORDERS = list(itertools.permutations("ohlc"))
NAMES = {name[0]: name for name in COLUMNS}


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Keep thousands of warnings out of the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def remade(bars: Bars, **columns: np.ndarray) -> Bars:
    """Return the bars with some columns replaced, and the high and the low as they then have to be."""
    values = {name: getattr(bars, name) for name in COLUMNS} | columns
    values["high"] = np.maximum(values["high"], np.maximum(values["open"], values["close"]))
    values["low"] = np.minimum(values["low"], np.minimum(values["open"], values["close"]))
    return Bars(bars.time, **values)


def gaps(bars: Bars) -> Bars:
    """Return bars that do not open near the close before."""
    moved = np.round(bars.close * np.random.default_rng(8).normal(1, 0.01, len(bars)), 2)
    return remade(bars, open=moved)


def still(bars: Bars) -> Bars:
    """Return bars of which most have one price only, as in a market with few trades."""
    flat = np.arange(len(bars)) % 4 != 0
    columns = {name: np.where(flat, bars.close, getattr(bars, name)) for name in ("open", "high", "low")}
    return Bars(bars.time, **columns, close=bars.close, volume=bars.volume)


def rising(bars: Bars) -> Bars:
    """Return bars that open at their low and close at their high, but for every tenth."""
    tenth = np.arange(len(bars)) % 10 == 9
    low, high = (
        np.where(tenth, bars.low, np.minimum(bars.open, bars.close)),
        np.where(tenth, bars.high, np.maximum(bars.open, bars.close)),
    )
    return Bars(bars.time, np.where(tenth, bars.open, low), high, low, np.where(tenth, bars.close, high), bars.volume)


def volume_like_a_price(bars: Bars) -> Bars:
    """Return bars whose volumes are as large as their prices."""
    return Bars(
        bars.time,
        bars.open,
        bars.high,
        bars.low,
        bars.close,
        np.round(bars.close * np.random.default_rng(9).uniform(0.99, 1.01, len(bars)), 5),
    )


MARKETS: dict[str, Bars] = {
    "joined": BTC,
    "cheap": market(10, 0.08, 5),
    "dear": market(11, 4_500_000, 0),
    "gaps": gaps(BTC),
    "still": still(BTC),
    "rising": rising(BTC),
    "volume like a price": volume_like_a_price(market(12, 300, 2)),
}
JOINED = ("joined", "cheap", "dear", "volume like a price")
Layout = Callable[[Bars, tuple[str, ...]], list[list[object]]]


def priced(bars: Bars, order: tuple[str, ...]) -> list[list[object]]:
    """Return the four prices in an order."""
    return [getattr(bars, NAMES[each]).tolist() for each in order]


LAYOUTS: dict[str, Layout] = {
    "6": lambda b, order: [epochs(b, "ms"), *priced(b, order), b.volume.tolist()],
    "6, volume first": lambda b, order: [epochs(b, "s"), b.volume.tolist(), *priced(b, order)],
    "6, dates": lambda b, order: [texts(b, "%Y-%m-%d %H:%M:%S"), *priced(b, order), b.volume.tolist()],
    "5": lambda b, order: [epochs(b, "s"), *priced(b, order)],
    "7, trades": lambda b, order: [epochs(b, "s"), *priced(b, order), b.volume.tolist(), list(map(int, trades(b)))],
    "7, quote volume": lambda b, order: [epochs(b, "s"), *priced(b, order), b.volume.tolist(), list(map(float, quote(b)))],
    "7, quote volume first": lambda b, order: [
        epochs(b, "s"),
        *priced(b, order),
        list(map(float, quote(b))),
        b.volume.tolist(),
    ],
    "7, adjusted close": lambda b, order: [
        texts(b, "%Y-%m-%d %H:%M:%S"),
        *priced(b, order),
        np.round(b.close * 0.97, 5).tolist(),
        b.volume.tolist(),
    ],
    "7, date and time": lambda b, order: [texts(b, "%Y.%m.%d"), texts(b, "%H:%M"), *priced(b, order), b.volume.tolist()],
    "8, vwap": lambda b, order: [epochs(b, "s"), *priced(b, order), vwap(b), b.volume.tolist(), list(map(int, trades(b)))],
    "8, close time": lambda b, order: [
        epochs(b, "ms"),
        *priced(b, order),
        b.volume.tolist(),
        [at + 3_599_999 for at in epochs(b, "ms")],
        list(map(float, quote(b))),
    ],
    "8, zeros": lambda b, order: [epochs(b, "s"), *priced(b, order), b.volume.tolist(), [0.0] * len(b), [0.0] * len(b)],
    "8, quote volume first": lambda b, order: [
        epochs(b, "s"),
        list(map(float, quote(b))),
        *priced(b, order),
        b.volume.tolist(),
        ["true"] * len(b),
    ],
    "9": lambda b, order: [
        epochs(b, "ms"),
        *priced(b, order),
        b.volume.tolist(),
        list(map(float, quote(b))),
        list(map(float, quote(b))),
        [1] * len(b),
    ],
    "10, more prices": lambda b, order: [epochs(b, "ms"), *priced(b, order), *priced(b, order), b.volume.tolist()],
    "12": lambda b, order: [
        epochs(b, "ms"),
        *priced(b, order),
        b.volume.tolist(),
        [at + 3_599_999 for at in epochs(b, "ms")],
        list(map(float, quote(b))),
        [9] * len(b),
        [1.5] * len(b),
        [2.5] * len(b),
        [0] * len(b),
    ],
}
"""By the number of cells; vendors have some of them, in some orders."""

READ = {
    "6": ["ohlc", "lhoc", "ochl"],
    "6, dates": ["ohlc", "lhoc", "ochl"],
    "7, trades": ["ohlc"],
    "7, quote volume": ["ohlc", "ochl"],
    "7, date and time": ["ohlc"],
    "8, vwap": ["ohlc"],
    "8, close time": ["ohlc"],
    "8, quote volume first": ["chlo"],
    "9": ["ohlc"],
    "12": ["ohlc"],
}
"""The orders that vendors write, which are read where the values prove them."""


def outcome(
    folder: Path, bars: Bars, columns: list[list[object]], kind: str, newest_first: bool, stated: str | None = None
) -> str:
    """Return 'read', 'WRONG', or why the file was refused."""
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    rows = rows[::-1] if newest_first else rows
    path = folder / f"rows{kind}"
    path.write_text(json.dumps(rows) if kind == ".json" else table("", *map(list, zip(*rows, strict=True))))
    try:
        _, found = read_strictly(path, Reading(columns=stated))
    except DataError as refused:
        return str(refused)
    return "read" if found.digest == bars.digest else f"WRONG {found!r}"


def exchanged(order: str) -> str:
    """Return an order with open and close exchanged."""
    return order.translate(str.maketrans("oc", "co"))


@pytest.mark.parametrize("rows", [12, HOURS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_order_is_read_wrong(tmp_path: Path, layout: str, rows: int) -> None:
    """Prices would be exchanged without a word: a low taken for an open, a volume for a price.

    Which of two prices is the open and which the close can be seen only where bars open near the close before.
    """
    known = [*READ.get(layout, []), *(["ochl"] if layout == "7, trades" else [])]  # KuCoin has a turnover in its place
    wrong, case = [], 0
    for (name, whole), order in itertools.product(MARKETS.items(), map("".join, ORDERS)):
        if exchanged(order) in known and (name not in JOINED or rows < HOURS):
            continue
        bars = whole.take(slice(0, rows))
        case += 1
        kind, newest_first = (".csv", ".json")[case % 2], case // 2 % 2 == 0
        if outcome(tmp_path, bars, LAYOUTS[layout](bars, tuple(order)), kind, newest_first).startswith("WRONG"):
            wrong.append((name, order, kind, newest_first))
    assert case > 100
    assert wrong == []


@pytest.mark.parametrize("layout", READ)
def test_every_order_that_a_vendor_writes_is_read(tmp_path: Path, layout: str) -> None:
    """If everything were refused, the test above could not fail."""
    refused = {}
    for (name, bars), order in itertools.product(MARKETS.items(), READ[layout]):
        for kind, newest_first in itertools.product((".csv", ".json"), (False, True)):
            columns = LAYOUTS[layout](bars, tuple(order))
            refused[name, order, kind, newest_first] = outcome(tmp_path, bars, columns, kind, newest_first)
    assert {case: message for case, message in refused.items() if message != "read"} == {}


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "5"])
def test_any_order_is_read_where_it_is_stated(tmp_path: Path, layout: str) -> None:
    """A user who knows what a table is could not have it read, or would get other prices than stated."""
    found = {}
    for at, order in enumerate(map("".join, ORDERS)):
        columns = LAYOUTS[layout](BTC, tuple(order))
        position = {role: place(columns, BTC, role) for role in COLUMNS}
        time = "0+1" if layout == "7, date and time" else "0"
        stated = ",".join([f"time={time}", *(f"{role}={each}" for role, each in position.items())])
        found[order] = outcome(tmp_path, BTC, columns, (".csv", ".json")[at % 2], at % 3 == 0, stated)
    assert {order: message for order, message in found.items() if message != "read"} == {}


def place(columns: list[list[object]], bars: Bars, role: str) -> int:
    """Return the first position of a column of the bars."""
    return next(at for at, cells in enumerate(columns) if cells == getattr(bars, role).tolist())


def test_an_order_that_is_refused_names_the_option(tmp_path: Path) -> None:
    """A user would not learn how to have the table read."""
    for layout, order in (("6", "hlco"), ("7, trades", "clho"), ("5", "ohlc"), ("10, more prices", "ohlc")):
        message = outcome(tmp_path, BTC, LAYOUTS[layout](BTC, tuple(order)), ".csv", False)
        assert "--columns" in message, message
        assert "rows.csv, line 1" in message


def test_two_orders_that_fit_are_refused_with_both(tmp_path: Path) -> None:
    """One of two readings would be taken by chance: bars that rise in Bitfinex's order fall in Coinbase's."""
    low, high = BTC.low.tolist(), BTC.high.tolist()
    columns = [epochs(BTC, "s"), low, high, high, low, BTC.volume.tolist()]
    message = outcome(tmp_path, BTC, columns, ".csv", False)
    options = set(re.findall(r"--columns (\S+?)[. ]", message + " "))
    assert len(options) == 2, message
    risen = Bars(BTC.time, BTC.low, BTC.high, BTC.low, BTC.high, BTC.volume)
    fallen = Bars(BTC.time, BTC.high, BTC.high, BTC.low, BTC.low, BTC.volume)
    verdicts = [outcome(tmp_path, bars, columns, ".csv", False, option) for option in options for bars in (risen, fallen)]
    assert sorted(verdict == "read" for verdict in verdicts) == [False, False, True, True]
