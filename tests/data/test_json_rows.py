"""JSON of bars: where its rows are, which market they are of, and answers without rows."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flagbt.data.bars import COLUMNS, HOUR, Bars
from flagbt.data.formats import json_scan
from flagbt.data.readers import bars_of_file
from flagbt.data.reading import Reading
from flagbt.errors import DataError

N = 30
_draw = np.random.default_rng(3)
_close = np.round(30_000 * np.exp(np.cumsum(_draw.normal(0, 0.004, N + 1))), 2)
OPEN, CLOSE = _close[:-1], _close[1:]
HIGH, LOW = np.round(np.maximum(OPEN, CLOSE) * 1.001, 2), np.round(np.minimum(OPEN, CLOSE) * 0.999, 2)
BARS = Bars(
    np.datetime64("2024-01-01", "ns") + np.arange(N) * HOUR, OPEN, HIGH, LOW, CLOSE, np.round(_draw.uniform(1, 9, N), 5)
)
STAMPS = BARS.time.astype("datetime64[ms]").astype(int).tolist()
CANDLES = [list(row) for row in zip(STAMPS, *(getattr(BARS, name).tolist() for name in COLUMNS), strict=True)]
OBJECTS = [dict(zip(("time", *COLUMNS), row, strict=True)) for row in CANDLES]
TWO_MARKETS = {"bars": {"AAPL": OBJECTS, "MSFT": OBJECTS[1:]}, "next_page_token": None}
BTC_AND_ETH = [{"symbol": name, "meta": {}, "candles": rows} for name, rows in (("BTC", CANDLES), ("ETH", CANDLES[2:]))]


def read(folder: Path, content: object, symbol: str | None = None, name: str = "answer.json") -> Bars:
    """Write a value as JSON, or a text as it is, and read its bars."""
    path = folder / name
    text = content if isinstance(content, str) else json.dumps(content)
    if name.endswith(".zip"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("answer.json", text)
        path.write_bytes(buffer.getvalue())
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return bars_of_file(path, Reading(symbol=symbol))


def refused(folder: Path, content: object, symbol: str | None = None) -> str:
    """Return the message with which a content is refused: one paragraph that names the file."""
    with pytest.raises(DataError) as caught:
        read(folder, content, symbol)
    message = str(caught.value)
    assert message.startswith("answer.json")
    assert "\n" not in message
    assert len(message) < 1_500
    return message


WRAPPED = {
    "a key": ({"candles": CANDLES}, "candles"),
    "keys within keys": ({"error": [], "result": {"XXBTZUSD": CANDLES, "last": 1704538800}}, "result.XXBTZUSD"),
    "texts beside": ({"retCode": 0, "retMsg": "OK", "result": {"symbol": "BTCUSDT", "list": CANDLES}}, "result.list"),
    "objects": ({"data": {"pair": "BTC/USD", "ohlc": OBJECTS}}, "data.ohlc"),
    "objects around arrays in an array": ({"series": [{"id": 7, "rows": CANDLES}]}, "series.0.rows"),
    "empty arrays beside": ({"splits": [], "results": CANDLES, "errors": []}, "results"),
    "other tables beside": ({"bids": [[1, 2]], "fields": [{"name": "x"}], "rows": OBJECTS}, "rows"),
    "objects with more inside": ({"rows": [{**row, "tags": [1], "more": {"a": "]"}} for row in OBJECTS]}, "rows"),
    "texts with brackets": ({'a "quoted" ]}': 'b ]}"[{', "rows": [{**row, "note": '"]}'} for row in OBJECTS]}, "rows"),
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ending", [".json", ".json.gz", ".zip"])
@pytest.mark.parametrize("form", WRAPPED)
def test_rows_in_a_wrapping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str, ending: str, indent: int | None
) -> None:
    """An exchange's answer, saved as it is, would be refused, read as other bars, or read without a word on what was chosen."""
    content, place = WRAPPED[form]
    with caplog.at_level(logging.WARNING):
        bars = read(tmp_path, json.dumps(content, indent=indent), name=f"answer{ending}")
    assert bars.digest == BARS.digest
    assert f"the bars are the rows of its key '{place}'" in caplog.text


COLUMNS_BY_NAME = {name: [row[name] for row in OBJECTS] for name in OBJECTS[0]}
INDEXED = BARS.frame().rename_axis(None)
NUMBERED = BARS.frame().reset_index(names="time").assign(time=STAMPS)
ALPHA_VANTAGE = {
    "Meta Data": {"1. Information": "Intraday prices", "2. Symbol": "IBM"},
    "Time Series (60min)": {
        str(time): {f"{at}. {name}": str(row[name]) for at, name in enumerate(COLUMNS, 1)}
        for time, (_, row) in reversed(list(zip(INDEXED.index.tz_localize(None), INDEXED.iterrows(), strict=True)))
    },
}
YAHOO = {
    "meta": {"symbol": "IBM", "validRanges": ["1d", "5d"], "tradingPeriods": [[{"timezone": "EST", "start": 1}]]},
    "timestamp": [stamp // 1000 for stamp in STAMPS],
    "indicators": {"quote": [{name: COLUMNS_BY_NAME[name] for name in reversed(COLUMNS)}]},
}
BY_COLUMN = {
    "columns": COLUMNS_BY_NAME,
    "TradingView": {**{name[0]: column for name, column in COLUMNS_BY_NAME.items()}, "s": "ok"},
    "Yahoo": {"chart": {"result": [YAHOO], "error": None}},
    "Alpha Vantage": ALPHA_VANTAGE,
    "arrays by time": {str(row[0]): row[1:] for row in CANDLES},
    **{f"pandas {form}": json.loads(NUMBERED.to_json(orient=form)) for form in ("split", "index", "columns", "table")},
    **{
        f"pandas {form}, times as the index": json.loads(INDEXED.to_json(orient=form, date_format="iso"))
        for form in ("split", "index", "columns")
    },
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("form", BY_COLUMN)
def test_columns_and_keyed_rows(tmp_path: Path, form: str, indent: int | None) -> None:
    """What pandas, Yahoo, TradingView and Alpha Vantage write would be refused, or a value would move to another bar."""
    assert read(tmp_path, json.dumps(BY_COLUMN[form], indent=indent)).digest == BARS.digest


@pytest.mark.parametrize("form", ["Yahoo", "Alpha Vantage"])
def test_the_symbol_beside_columns(tmp_path: Path, form: str) -> None:
    """--symbol would be refused for the market that an answer is of, or not be compared with it."""
    assert read(tmp_path, BY_COLUMN[form], "IBM").digest == BARS.digest
    assert "no market 'MSFT'" in refused(tmp_path, BY_COLUMN[form], "MSFT")


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    """Values of one bar would be read as those of another."""
    short = {**COLUMNS_BY_NAME, "low": COLUMNS_BY_NAME["low"][:-1]}
    assert f"one has {N - 1} and others have more" in refused(tmp_path, short)
    other = json.loads(NUMBERED.to_json(orient="columns"))
    other["low"] = {f"{int(key) + (int(key) > 3)}": cell for key, cell in other["low"].items()}
    assert "row 5: expected the same keys in each column, got '4' and '5'" in refused(tmp_path, other)
    split = {"columns": ["time", *COLUMNS], "index": [1, 2], "data": CANDLES}
    assert "of 'index, data', but one has 2" in refused(tmp_path, split)


def test_one_page_of_several(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first page of a year of bars would be taken for the year."""
    with caplog.at_level(logging.WARNING):
        read(tmp_path, {"bars": OBJECTS, "next_page_token": "QUFQTHxN"})
    assert "one page of several, since its key 'next_page_token' is not empty" in caplog.text


@pytest.mark.parametrize("rows", [CANDLES, OBJECTS], ids=["rows", "objects"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"], ids=repr)
def test_a_row_on_each_line(tmp_path: Path, rows: list[object], end: str) -> None:
    """JSON lines, as recorders write them, would be refused."""
    assert read(tmp_path, "".join(json.dumps(row) + end for row in rows)).digest == BARS.digest


@pytest.mark.parametrize(
    ("content", "symbol", "first"),
    [
        (TWO_MARKETS, "AAPL", 0),
        (TWO_MARKETS, "msft", 1),
        (BTC_AND_ETH, "ETH", 2),
        ({"data": {"BTC": {"1h": CANDLES}, "ETH": {"1h": CANDLES[2:]}}}, "data.ETH.1h", 2),
        ({"result": {"XXBTZUSD": CANDLES, "last": 1}}, "XXBTZUSD", 0),
        ({"result": {"symbol": "BTCUSDT", "list": CANDLES}}, "BTCUSDT", 0),
        ({"meta": {"ticker": "X:BTCUSD"}, "results": CANDLES}, "X:BTCUSD", 0),
    ],
)
def test_the_chosen_market(tmp_path: Path, content: object, symbol: str, first: int) -> None:
    """--symbol would be refused for a market that the file has, or give another market's bars."""
    assert read(tmp_path, content, symbol).digest == BARS.take(slice(first, None)).digest


@pytest.mark.parametrize(
    ("content", "symbol", "parts"),
    [
        (TWO_MARKETS, None, ["those of 2 markets, 'AAPL', 'MSFT'", "--symbol AAPL"]),
        (TWO_MARKETS, "APPL", ["no market 'APPL'", "Did you mean 'AAPL'?"]),
        (BTC_AND_ETH, None, ["'BTC', 'ETH'"]),
        ({"BTC": {"1h": CANDLES}, "ETH": {"1h": CANDLES}}, "1h", ["2 markets, 'BTC.1h', 'ETH.1h'"]),
        ({"result": {"XXBTZUSD": CANDLES}}, "XXBTZEUR", ["no market 'XXBTZEUR'", "Did you mean 'XXBTZUSD'?"]),
        ({"data": {"pair": "BTC/USD", "ohlc": OBJECTS}}, "ETH/EUR", ["no market 'ETH/EUR'", "'BTC/USD'"]),
    ],
)
def test_a_market_that_is_not_clear(tmp_path: Path, content: object, symbol: str | None, parts: list[str]) -> None:
    """Bars of one market would be tested under the name of another."""
    message = refused(tmp_path, content, symbol)
    assert [part for part in parts if part not in message] == [], message


ANSWERED = "the exchange answered with an error: "


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"error": ["EQuery:Unknown asset pair"]}, f"{ANSWERED}'EQuery:Unknown asset pair'"),
        (
            {"code": "51001", "msg": "Instrument ID does not exist", "data": []},
            f"{ANSWERED}'Instrument ID does not exist' (51001)",
        ),
        ({"retCode": 10001, "retMsg": "Symbol Invalid", "result": {}}, f"{ANSWERED}'Symbol Invalid' (10001)"),
        ({"code": -1121, "msg": "Invalid symbol."}, f"{ANSWERED}'Invalid symbol.' (-1121)"),
        ({"status": "error", "errors": [{"message": "Bad value"}]}, f"{ANSWERED}'Bad value'"),
        ({"retCode": 0, "retMsg": "OK", "result": {"list": []}}, "no rows of bars; its keys are 'retCode', 'retMsg'"),
        ({"bars": {}, "next_page_token": None}, "no rows of bars"),
        ({}, "no rows of bars"),
        ([], "no rows"),
    ],
)
def test_an_answer_without_rows(tmp_path: Path, content: object, part: str) -> None:
    """An exchange's error would be reported as a damaged file, without its text."""
    assert part in refused(tmp_path, content)


DEEP = 100_000
WRAPPED_TEXT = json.dumps({"a": {"rows": CANDLES}, "b": 1}, indent=1)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("<html>", ["line 1", "'<html>'"]),
        (WRAPPED_TEXT[:-2], ["expected a comma or the end of the object", "the end of the file"]),
        (WRAPPED_TEXT[:200], ["the end of a row", "the end of the file"]),
        (WRAPPED_TEXT + WRAPPED_TEXT, ["expected nothing after the end", "answers of several requests"]),
        (json.dumps(CANDLES) + "\n" + json.dumps(CANDLES), ["line 2: expected nothing after the array", "join their rows"]),
        (json.dumps({"rows": CANDLES})[:-1] + ', "rows": [[1]]}', ["the key 'rows' occurs twice"]),
        (json.dumps(OBJECTS).replace('"close"', '"open"', 1), ["row 1", "each key once", "'open' twice"]),
        ('{"a":' * DEEP, ["at most 8 brackets"]),
        ('{"a":' * 3 + "[" * DEEP, ["the end of a row"]),
        ('{"a" 1}', ["a colon after the key", "'1}'"]),
        ("{a: 1}", ["a key in quotes", "'a: 1}'"]),
        ('{"a": what}', ["a JSON value", "'what}'"]),
        ('{"a": "' + "x" * 10_000_000, ["expected a value"]),
        ('{"a": "' + r"\"" * 5_000_000, ["expected a value"]),
        ('{"a": [["' + r"\"" * 5_000_000, ["the end of a row"]),
        ('[["' + r"\"" * 5_000_000, ["row 1"]),
        ("[" + "[1]," * 3 + "{]", ["row 4"]),
        ('{"a": ' + "{}" * 3 + "}", ["a comma or the end of the object"]),
        (json.dumps({f"x{i}": {} for i in range(json_scan.MOST_VALUES + 1)}), ["more than 10,000 values outside of rows"]),
        (json.dumps({"x" * 5_000: "y" * 5_000_000}), ["no rows of bars"]),
    ],
)
def test_hostile_json(tmp_path: Path, content: str, parts: list[str]) -> None:
    """A file that is no more JSON would end in a traceback, in a hang, or without its place."""
    started = time.process_time()
    message = refused(tmp_path, content)
    assert [part for part in parts if part not in message] == [], message
    assert time.process_time() - started < 5


@pytest.mark.parametrize("seed", range(10))
def test_mutations_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    """A few bytes changed, left out or written twice would end in a traceback."""
    draw = random.Random(seed)
    whole = [json.dumps(each) for each in (TWO_MARKETS["bars"], BTC_AND_ETH, {"a": {"rows": CANDLES[:3]}}, OBJECTS[:3])]
    for _ in range(100):
        text = draw.choice(whole)
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(text))
            text = text[:at] + draw.choice(['"', "[", "]", "{", "}", ",", ":", "", "\\", "9", "NaN", "null"]) + text[at + 1 :]
        with contextlib.suppress(DataError):
            read(tmp_path, text, draw.choice([None, "AAPL", "BTC"]))
