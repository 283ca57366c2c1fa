"""The files of vendor_files.py, read by hand with json and pandas as their vendors document them, never by flagbt's readers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pandas as pd

from flagbt.data.bars import Bars

EPOCH = pd.Timestamp("1970-01-01")


def bars_of(time: Any, open_: Any, high: Any, low: Any, close: Any, volume: Any) -> Bars:
    """Return columns as bars, oldest first; times may have a zone."""
    time = pd.to_datetime(pd.Series(time), utc=True).dt.tz_localize(None)
    columns = [pd.to_numeric(pd.Series(each)).astype("float64") for each in (open_, high, low, close, volume)]
    frame = pd.concat([time, *columns], axis=1, keys=range(6)).sort_values(0)
    return Bars(frame[0].to_numpy().astype("datetime64[ns]"), *(frame[at].to_numpy() for at in range(1, 6)))


def csv(text: str, **options: Any) -> pd.DataFrame:
    """Return text as a frame of text."""
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, **options)


def named(frame: pd.DataFrame, time: Any, names: str = "Open High Low Close Volume") -> Bars:
    """Return the bars of a frame whose columns have these names."""
    return bars_of(time, *(frame[name] for name in names.split()))


def placed(frame: pd.DataFrame, time: Any, *positions: int) -> Bars:
    """Return the bars of a frame whose columns have these positions."""
    return bars_of(time, *(frame[at] for at in positions))


def since_epoch(values: Any, unit: str) -> Any:
    """Return epoch numbers as times."""
    return EPOCH + pd.to_timedelta(pd.to_numeric(pd.Series(values)).astype("int64"), unit=unit)  # type: ignore[call-overload]


def levels(text: str, ticker: str, level: int) -> Bars:
    """Return the bars of one ticker of a frame with two levels of columns; the level of the tickers."""
    frame = pd.read_csv(io.StringIO(text), header=[0, 1], index_col=0).xs(ticker, axis=1, level=level)
    frame.index = pd.to_datetime(frame.index)
    return named(frame.reset_index(drop=True), list(frame.index))


def two_rows(text: str) -> Bars:
    """Return the bars of a frame whose index became a column."""
    frame = csv(text, header=0, skiprows=[1])
    return named(frame, pd.to_datetime(frame["Date"]))


def headerless(unit: str, *positions: int, **options: Any) -> Callable[[str], Bars]:
    """Return a reader of rows of text without names, with an epoch in front."""

    def read(text: str) -> Bars:
        frame = csv(text, header=None, **options)
        return placed(frame, since_epoch(frame[0], unit), *positions)

    return read


def json_rows(unit: str, *positions: int, path: str = "") -> Callable[[str], Bars]:
    """Return a reader of rows of JSON without names, with an epoch in front; the path to the rows is separated by spaces."""

    def read(text: str) -> Bars:
        value = json.loads(text)
        for name in path.split():
            value = value[name]
        frame = pd.DataFrame(value, dtype=object)
        return placed(frame, since_epoch(frame[0], unit), *positions)

    return read


def json_objects(unit: str, names: str, time: str, path: str = "") -> Callable[[str], Bars]:
    """Return a reader of objects of JSON; without a unit their times are text."""

    def read(text: str) -> Bars:
        value = json.loads(text)
        for name in path.split():
            value = value[name]
        frame = pd.DataFrame(value, dtype=object)
        return named(frame, since_epoch(frame[time], unit) if unit else pd.to_datetime(frame[time], utc=True), names)

    return read


def titled(
    time: str, form: str | None = None, unit: str = "", names: str = "Open High Low Close Volume", **options: Any
) -> Any:
    """Return a reader of text with a header, by the name and the form of its times."""

    def read(text: str) -> Bars:
        frame = csv(text, **options)
        times = since_epoch(frame[time], unit) if unit else pd.to_datetime(frame[time], format=form, utc=True)
        return named(frame, times, names)

    return read


def joined(date: str, clock: str, form: str, names: str, **options: Any) -> Callable[[str], Bars]:
    """Return a reader of text with a header, whose dates and times of day are in two columns."""

    def read(text: str) -> Bars:
        frame = csv(text, **options)
        return named(frame, pd.to_datetime(frame[date] + " " + frame[clock], format=form), names)

    return read


def metatrader_4(text: str) -> Bars:
    """Read `2024.01.02,08:00,open,high,low,close,volume`."""
    frame = csv(text, header=None)
    return placed(frame, pd.to_datetime(frame[0] + " " + frame[1], format="%Y.%m.%d %H:%M"), 2, 3, 4, 5, 6)


def histdata(text: str) -> Bars:
    """Read `20240102 080000;open;high;low;close;0`: Eastern Standard Time all year, five hours behind UTC."""
    frame = csv(text, header=None, sep=";")
    return placed(frame, pd.to_datetime(frame[0], format="%Y%m%d %H%M%S") + pd.Timedelta(hours=5), 1, 2, 3, 4, 5)


def flat_file(ticker: str) -> Callable[[str], Bars]:
    """Return a reader of one ticker of Polygon's flat files."""

    def read(text: str) -> Bars:
        frame = csv(text)
        frame = frame[frame["ticker"] == ticker].reset_index(drop=True)
        return named(frame, since_epoch(frame["window_start"], "ns"), LOWER)

    return read


LOWER = "open high low close volume"
SHORT = "o h l c v"
DATE = titled("Date", "%Y-%m-%d")
BRACKETS = "<OPEN> <HIGH> <LOW> <CLOSE> "
KLINES = headerless("ms", 1, 2, 3, 4, 5)


def download(time: str, unit: str, base: str, *, lower: bool = False) -> Callable[[str], Bars]:
    """Return a reader of CryptoDataDownload's files, by the columns of the time and of the volume in base units."""

    def read(text: str) -> Bars:
        frame = csv(text, skiprows=1)
        times = since_epoch(frame[time], unit) if unit else pd.to_datetime(frame[time], format="%Y-%m-%d %I-%p")
        names = [name.lower() if lower else name for name in ("Open", "High", "Low", "Close")]
        return bars_of(times, *(frame[name] for name in names), frame[base])

    return read


BY_HAND: dict[str, Callable[[str], Bars]] = {
    "pandas-unnamed-index.csv": titled("Unnamed: 0", "%Y-%m-%d"),
    "pandas-row-numbers.csv": DATE,
    "yfinance-one-row.csv": DATE,
    "yahoo-download.csv": DATE,
    "yfinance-history.csv": titled("Datetime"),
    "yfinance-three-rows.csv": lambda text: levels(text, "AAPL", 1),
    "yfinance-three-rows-lower.csv": lambda text: levels(
        text.replace(text.partition("\n")[0], "Price,Close,High,Low,Open,Volume"), "AAPL", 1
    ),
    "yfinance-two-rows.csv": two_rows,
    "yfinance-tickers-AAPL.csv": lambda text: levels(text, "AAPL", 1),
    "yfinance-tickers-MSFT.csv": lambda text: levels(text, "MSFT", 1),
    "yfinance-by-ticker-AAPL.csv": lambda text: levels(text, "AAPL", 0),
    "yfinance-by-ticker-MSFT.csv": lambda text: levels(text, "MSFT", 0),
    "yfinance-unnamed-levels-AAPL.csv": lambda text: levels(text, "AAPL", 1),
    "yfinance-unnamed-levels-MSFT.csv": lambda text: levels(text, "MSFT", 1),
    "python-binance.csv": titled("Open time", unit="ms"),
    "python-binance-times.csv": titled("Open time"),
    "python-binance-index.csv": titled("Open time", unit="ms"),
    "binance-vision.csv": KLINES,
    "binance-vision-us.csv": headerless("us", 1, 2, 3, 4, 5),
    "binance-vision-header.csv": titled("open_time", unit="ms", names=LOWER),
    "binance-vision-header-us.csv": titled("open_time", unit="us", names=LOWER),
    "XBTUSD_60.csv": headerless("s", 1, 2, 3, 4, 5),
    "polygon-flat.csv": flat_file("AAPL"),
    "polygon-flat-AAPL.csv": flat_file("AAPL"),
    "polygon-flat-MSFT.csv": flat_file("MSFT"),
    "alpaca-frame.csv": titled("timestamp", names=LOWER),
    "EURUSD60.csv": metatrader_4,
    "mt5.csv": joined("<DATE>", "<TIME>", "%Y.%m.%d %H:%M:%S", BRACKETS + "<TICKVOL>", sep="\t"),
    "mt5-daily.csv": titled("<DATE>", "%Y.%m.%d", names=BRACKETS + "<TICKVOL>", sep="\t"),
    "dukascopy-gmt.csv": titled("Gmt time", "%d.%m.%Y %H:%M:%S.%f"),
    "dukascopy-local.csv": titled("Local time", "%d.%m.%Y %H:%M:%S.%f GMT%z"),
    "DAT_ASCII_EURUSD_M1_2024.csv": histdata,
    "stooq-daily.csv": DATE,
    "stooq-hourly.csv": joined("<DATE>", "<TIME>", "%Y%m%d %H%M%S", BRACKETS + "<VOL>"),
    "stooq-database-daily.csv": joined("<DATE>", "<TIME>", "%Y%m%d %H%M%S", BRACKETS + "<VOL>"),
    "backtrader.csv": joined("Date", "Time", "%Y-%m-%d %H:%M:%S", "Open High Low Close Volume"),
    "tradingview.csv": titled("time", unit="s", names="open high low close Volume"),
    "tradingview-indicators.csv": titled("time", names="open high low close Volume"),
    "cdd-12-hour.csv": download("Date", "", "Volume BTC"),
    "cdd-gemini.csv": download("Unix Timestamp", "ms", "Volume"),
    "cdd-unix.csv": download("unix", "s", "Volume BTC", lower=True),
    "cdd-quote-first.csv": download("unix", "s", "Volume BTC", lower=True),
    "cdd-trades.csv": download("Unix", "ms", "Volume BTC"),
    "slashes-year-first.csv": titled("Date", "%Y/%m/%d %H:%M"),
    "slashes-days.csv": titled("Date", "%Y/%m/%d"),
    "trailing-utc.csv": titled("Date", "%Y-%m-%d %H:%M:%S UTC"),
    "month-first.csv": titled("Date", "%m/%d/%Y %H:%M"),
    "day-first.csv": titled("Date", "%d/%m/%Y %H:%M"),
    "day-first-days.csv": titled("Date", "%d.%m.%Y"),
    "ccxt.json": json_rows("ms", 1, 2, 3, 4, 5),
    "binance-rest.json": json_rows("ms", 1, 2, 3, 4, 5),
    "bybit.json": json_rows("ms", 1, 2, 3, 4, 5, path="result list"),
    "bybit-rows.json": json_rows("ms", 1, 2, 3, 4, 5),
    "okx.json": json_rows("ms", 1, 2, 3, 4, 5, path="data"),
    "okx-rows.json": json_rows("ms", 1, 2, 3, 4, 5),
    "kucoin.json": json_rows("s", 1, 3, 4, 2, 5, path="data"),
    "kucoin-rows.json": json_rows("s", 1, 3, 4, 2, 5),
    "bitstamp.json": json_objects("s", LOWER, "timestamp", path="data ohlc"),
    "bitstamp-rows.json": json_objects("s", LOWER, "timestamp"),
    "coinbase-exchange.json": json_rows("s", 3, 2, 1, 4, 5),
    "coinbase-advanced.json": json_objects("s", LOWER, "start", path="candles"),
    "kraken.json": json_rows("s", 1, 2, 3, 4, 6, path="result XXBTZUSD"),
    "kraken-rows.json": json_rows("s", 1, 2, 3, 4, 6),
    "polygon.json": json_objects("ms", SHORT, "t", path="results"),
    "alpaca.json": json_objects("", SHORT, "t", path="bars AAPL"),
    "alpaca-one.json": json_objects("", SHORT, "t", path="bars"),
    "alpaca-AAPL.json": json_objects("", SHORT, "t", path="bars AAPL"),
    "alpaca-MSFT.json": json_objects("", SHORT, "t", path="bars MSFT"),
    "hyperliquid.json": json_objects("ms", SHORT, "t"),
}
