"""Where a file has two meanings it is refused with the option that decides, and read as stated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from vendor_by_hand import bars_of
from vendor_files import AAPL, BTC, ETH, EURUSD, FILES, HOURS, epochs, prices, same, table, texts

from flagbt.data.bars import Bars
from flagbt.data.readers import read_strictly
from flagbt.data.reading import Reading
from flagbt.errors import FlagbtError

HEAD = "Date,Open,High,Low,Close,Volume"


def read(folder: Path, content: str, name: str = "file.csv", **options: str) -> Bars:
    """Write and read a file."""
    path = folder / (name or "file.csv")
    path.write_bytes(content.encode())
    return read_strictly(path, Reading(**options))[1]


def refused(folder: Path, content: str, *parts: str, name: str = "file.csv", **options: str) -> str:
    """Return why a file is refused, in one paragraph with these parts."""
    with pytest.raises(FlagbtError) as caught:
        read(folder, content, name, **options)
    message = str(caught.value)
    assert [part for part in (name, *parts) if part not in message] == [], message
    assert "\n" not in message
    return message


def shifted(bars: Bars, hours: float) -> Bars:
    """Return the bars at other times."""
    moved = bars.time + np.timedelta64(int(hours * 3600), "s")
    return Bars(moved, bars.open, bars.high, bars.low, bars.close, bars.volume)


@pytest.mark.parametrize("separator", "/.-")
def test_days_and_months_up_to_12(tmp_path: Path, separator: str) -> None:
    """Half of all dates would be another day of another month."""
    bars = AAPL.take(slice(0, 12))
    first = pd.Timestamp("2024-02-01")
    months = [f"{at + 1:02}{separator}02{separator}2024" for at in range(12)]
    content = table(HEAD, months, *prices(bars))
    message = refused(tmp_path, content, "line 2, column 'Date'", f"01{separator}02{separator}2024", "--time-format")
    forms = [f"%d{separator}%m{separator}%Y", f"%m{separator}%d{separator}%Y"]
    assert [form for form in forms if form not in message] == []
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    by_day = bars_of(pd.date_range(first, periods=12), *columns)
    assert read(tmp_path, content, time_format=forms[0]).digest == by_day.digest
    by_month = refused(tmp_path, content, time_format=forms[1])  # the 2nd of each month: no common step
    assert "2024-01-02" in by_month or "monthly" in by_month


def test_a_stated_form_that_does_not_fit(tmp_path: Path) -> None:
    """A wrong option would read other times, or end in a traceback."""
    content = FILES["month-first.csv"].content
    assert read(tmp_path, content, time_format="%m/%d/%Y %H:%M").digest == BTC.digest
    refused(tmp_path, content, "line ", "01/13/2024", time_format="%d/%m/%Y %H:%M")
    refused(tmp_path, content, "--time-format", time_format="%m/%d/%Y")
    for form in ("x", "%", "%Q", "%Y%Y", "%d", "%H:%M"):
        refused(tmp_path, content, "time", time_format=form, name="")


def test_two_markets_need_a_symbol(tmp_path: Path) -> None:
    """Two markets would be one series with jumps between them."""
    head = "timestamp,open,high,low,close,volume,symbol"
    rows = [
        (texts(bars, "%Y-%m-%dT%H:%M:%SZ"), *prices(bars), same(bars, name))
        for name, bars in (("BTCUSDT", BTC), ("ETHUSDT", ETH))
    ]
    stacked = table(head, *(one + two for one, two in zip(*rows, strict=True)))
    order = [at for pair in zip(range(HOURS), range(HOURS, 2 * HOURS), strict=True) for at in pair]
    interleaved = table(head, *([(one + two)[at] for at in order] for one, two in zip(*rows, strict=True)))
    for content in (stacked, interleaved):
        refused(tmp_path, content, "BTCUSDT", "ETHUSDT", "--symbol")
        assert read(tmp_path, content, symbol="BTCUSDT").digest == BTC.digest
        assert read(tmp_path, content, symbol="ETHUSDT").digest == ETH.digest
        refused(tmp_path, content, "ETHUSD", "Did you mean 'ETHUSDT'?", symbol="ETHUSD")
    one = table(head, *rows[0])
    assert read(tmp_path, one).digest == BTC.digest
    assert read(tmp_path, one, symbol="BTCUSDT").digest == BTC.digest
    refused(tmp_path, one, "BTCUSDT", symbol="ETHUSDT")


@pytest.mark.parametrize(
    "name", ["polygon-flat-AAPL.csv", "alpaca-AAPL.json", "yfinance-tickers-AAPL.csv", "yfinance-by-ticker-AAPL.csv"]
)
def test_a_vendors_file_of_two_markets(tmp_path: Path, name: str) -> None:
    """A vendor's several markets would be one series, or only the first of them."""
    content = FILES[name].content
    refused(tmp_path, content, "AAPL", "MSFT", "--symbol", name=name)
    refused(tmp_path, content, "MSTF", "Did you mean 'MSFT'?", name=name, symbol="MSTF")


def test_a_symbol_of_a_file_without_any(tmp_path: Path) -> None:
    """A symbol that nothing confirms would be taken for the file's."""
    message = refused(tmp_path, FILES["tradingview.csv"].content, symbol="BTCUSDT")
    assert "symbol" in message


def test_times_in_a_stated_zone(tmp_path: Path) -> None:
    """Bars stamped by a clock in New York would be hours too early, or an hour wrong in summer."""
    content = table(HEAD, texts(BTC, "%Y-%m-%d %H:%M:%S"), *prices(BTC))
    assert read(tmp_path, content, time_zone="America/New_York").digest == shifted(BTC, 5).digest
    assert read(tmp_path, content, time_zone="Asia/Kolkata").digest == shifted(BTC, -5.5).digest
    assert read(tmp_path, content, time_zone="UTC").digest == BTC.digest
    for zone in ("America/New_Yrk", "../../etc/passwd", "EST5EDT4", "New York"):
        refused(tmp_path, content, "zone", name="", time_zone=zone)


@pytest.mark.parametrize("start", ["2024-03-09 12:00", "2024-11-02 12:00"])
def test_times_in_a_zone_whose_clock_changes(tmp_path: Path, start: str) -> None:
    """In spring an hour would be missing, in autumn two bars would have the same time."""
    time = pd.date_range(start, periods=HOURS, freq="1h")
    bars = Bars(time.to_numpy(), BTC.open, BTC.high, BTC.low, BTC.close, BTC.volume)
    local = time.tz_localize("UTC").tz_convert("America/New_York").strftime("%Y-%m-%d %H:%M:%S").tolist()
    for newest_first in (False, True):
        content = table(HEAD, local, *prices(BTC), newest_first=newest_first)
        assert read(tmp_path, content, time_zone="America/New_York").digest == bars.digest
    if start.startswith("2024-11"):
        refused(tmp_path, table(HEAD, local, *prices(BTC)), "2024-11-03")


def test_a_servers_zone(tmp_path: Path) -> None:
    """MetaTrader's bars could not be read in the time of the broker's server."""
    for name in ("mt5.csv", "EURUSD60.csv"):
        moved = read(tmp_path, FILES[name].content, time_zone="Europe/Athens")
        assert moved.digest == shifted(EURUSD, -2).digest


def test_times_of_the_end(tmp_path: Path) -> None:
    """Bars stamped at their ends would be a step late, and a strategy would see an hour of the future."""
    ends = texts(shifted(BTC, 1), "%Y-%m-%d %H:%M:%S")
    content = table(HEAD, ends, *prices(BTC))
    assert read(tmp_path, content, columns="close_time=Date").digest == BTC.digest
    assert read(tmp_path, content, columns="close_time=0").digest == BTC.digest
    late = [f"{text}:59:59.999" for text in texts(BTC, "%Y-%m-%d %H")]
    assert read(tmp_path, table(HEAD, late, *prices(BTC)), columns="close_time=Date").digest == BTC.digest


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ("time=0,open=1", ["high", "low", "close", "volume"]),
        ("time=0,open=1,high=2,low=3,close=4,volume=99", ["99", "counted from 0"]),
        ("time=0,opne=1", ["opne", "Did you mean 'open'?"]),
        ("time=0,open=1,open=2", ["open", "twice"]),
        ("time", ["columns"]),
        ("", ["columns"]),
        ("=", ["columns"]),
        ("time=0,close_time=6,open=1,high=2,low=3,close=4,volume=5", ["time", "close_time"]),
        ("time=0,open=1,high=3,low=2,close=4,volume=5", ["high"]),
        ("time=-1,open=1,high=2,low=3,close=4,volume=5", ["-1"]),
        ("time=0,open=1,high=2,low=3,close=5,volume=5", ["position 5", "both close and volume"]),
        ("time=0,open=1,high=2,low=3,close=1,volume=5", ["position 1", "both open and close"]),
        ("time=0,open=0,high=2,low=3,close=4,volume=5", ["position 0", "both time and open"]),
    ],
)
def test_stated_columns_that_cannot_be(tmp_path: Path, columns: str, parts: list[str]) -> None:
    """A slip in the option would read other columns, or end in a traceback."""
    refused(tmp_path, FILES["XBTUSD_60.csv"].content, *parts, name="", columns=columns)


def test_columns_by_name_and_by_position(tmp_path: Path) -> None:
    """A table with any names could not be read by a user who knows what it is."""
    content = table("when,first,top,bottom,last,size", texts(BTC, "%Y-%m-%d %H:%M:%S"), *prices(BTC))
    names = "time=when,open=first,high=top,low=bottom,close=last,volume=size"
    assert read(tmp_path, content, columns=names).digest == BTC.digest
    assert read(tmp_path, content, columns="time=0,open=1,high=2,low=3,close=4,volume=5").digest == BTC.digest
    assert read(tmp_path, content, columns=names.replace("first", "FIRST").replace(",", " , ")).digest == BTC.digest
    refused(tmp_path, content, "frist", "Did you mean 'first'?", columns=names.replace("first", "frist"))
    wide = f"{HEAD}{',x' * 900}"
    many = [same(BTC, 1)] * 900
    message = refused(
        tmp_path, table(wide, texts(BTC, "%Y-%m-%d %H:%M:%S"), *prices(BTC), *many), "there is no column", columns=names
    )
    assert len(message) < 500
    rows = [
        dict(zip(("when", "first", "top", "bottom", "last", "size"), row, strict=True))
        for row in zip(epochs(BTC, "s"), *prices(BTC), strict=True)
    ]
    assert read(tmp_path, json.dumps(rows), "file.json", columns=names).digest == BTC.digest
    exact = FILES["tradingview.csv"].content.replace("close", "adjusted", 1)
    assert read(tmp_path, exact, columns="close=adjusted").digest == BTC.digest


def test_a_slip_in_one_stated_name(tmp_path: Path) -> None:
    """The header would be taken for a row, and the message would be about another column, which is there."""
    content = table("when,first,top,bottom,last,size", texts(BTC, "%Y-%m-%d %H:%M:%S"), *prices(BTC))
    names = "time=when,open=first,high=top,low=bottom,close=lats,volume=size"
    refused(tmp_path, content, "no column 'lats'", "Did you mean 'last'?", columns=names)
    refused(tmp_path, content, "time", "is missing", "'when'", columns=names.replace("lats", "last").replace("time=when,", ""))


def test_a_stated_column_that_another_role_has(tmp_path: Path) -> None:
    """The volume would be read as the close, without a word."""
    content = table(HEAD, texts(BTC, "%Y-%m-%d %H:%M:%S"), *prices(BTC))
    refused(tmp_path, content, "'Volume' (position 5)", "both close and volume", columns="close=Volume")


def test_one_column_of_prices(tmp_path: Path) -> None:
    """A table with one price for each time could not be read by a user who knows what it is."""
    content = table("time,price,size", texts(BTC, "%Y-%m-%d %H:%M:%S"), same(BTC, 100.5), same(BTC, 2))
    bars = read(tmp_path, content, columns="open=price,high=price,low=price,close=price,volume=size")
    assert set(bars.open) == set(bars.close) == {100.5}


def test_a_header_with_another_separator_than_the_rows(tmp_path: Path) -> None:
    """A user would look for missing columns, where only the header's separator is wrong."""
    rows = table("", texts(BTC, "%Y-%m-%d %H:%M:%S"), *prices(BTC), separator=";")
    refused(tmp_path, f"{HEAD}\n{rows}", "the header's separator is ','", "that of the rows is ';'", "remove the header")


def test_a_header_with_fewer_names_than_cells(tmp_path: Path) -> None:
    """A file whose header is wrong could not be read by a user who knows its columns, or only some of them."""
    made = FILES["XBTUSD_60.csv"]
    content = f"time,open,high,low,close,volume\n{made.content}"
    refused(tmp_path, content, "names 6 columns, but the rows have 7", "--columns time=0,open=1")
    refused(tmp_path, content, "names 6 columns, but the rows have 7", columns="volume=5")
    refused(tmp_path, content, "names 6 columns", columns="time=time,open=1,high=2,low=3,close=4,volume=5")
    assert read(tmp_path, content, columns="time=0,open=1,high=2,low=3,close=4,volume=5").digest == made.bars.digest


@pytest.mark.parametrize("name", ["close_time", "Closing time", "end_time", "bar end date"])
def test_a_column_of_the_ends_of_bars_is_offered_as_one(tmp_path: Path, name: str) -> None:
    """The advice would make each bar open at its end, so that a strategy sees the future."""
    content = table(HEAD.replace("Date", name), texts(shifted(BTC, 1), "%Y-%m-%d %H:%M:%S"), *prices(BTC))
    message = refused(tmp_path, content, f"--columns 'close_time={name.lower()}'")
    stated = message.split("--columns '")[1].split("'")[0]
    assert read(tmp_path, content, columns=stated).digest == BTC.digest


def test_parts_of_a_time_by_name(tmp_path: Path) -> None:
    """A header would be taken for a row where a date and an hour are stated by their names."""
    days, hours = texts(BTC, "%Y-%m-%d"), texts(BTC, "%H")
    content = table("day,hour,open,high,low,close,volume", days, hours, *prices(BTC))
    for columns in ("time=day+hour", "time=0+hour", "time=0+1", "time=Day + Hour"):
        assert read(tmp_path, content, columns=columns, time_format="%Y-%m-%d %H").digest == BTC.digest
    refused(tmp_path, content, "no column 'huor'", "'hour'", columns="time=day+huor", time_format="%Y-%m-%d %H")
    parts = ([text[:4] for text in days], [text[5:7] for text in days], [text[8:] for text in days], hours)
    content = table("y,m,d,h1,open,high,low,close,volume", *parts, *prices(BTC))
    assert read(tmp_path, content, columns="time=y+m+d+h1", time_format="%Y %m %d %H").digest == BTC.digest


@pytest.mark.parametrize(("name", "is_local"), [("Time (EET)", True), ("Local date", True), ("Date (UTC)", False)])
def test_the_zone_of_a_column_of_local_times(tmp_path: Path, name: str, is_local: bool) -> None:
    """The advice would read local times as UTC."""
    content = table(HEAD.replace("Date", name), texts(BTC, "%Y-%m-%d %H:%M:%S"), *prices(BTC))
    message = refused(tmp_path, content, f"--columns 'time={name.lower()}'")
    assert ("--time-zone" in message) == is_local


def test_a_web_page(tmp_path: Path) -> None:
    """The columns of a page that reports a failed download would be listed."""
    refused(tmp_path, "<!DOCTYPE html>\n<html><body>Not found</body></html>\n", "got a web page")
