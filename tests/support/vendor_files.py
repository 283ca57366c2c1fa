"""Files in the layouts of vendors, rebuilt from generated bars; tests/data/vendors/README.md lists where each is documented.

Each `VendorFile` has the bars that it must give, which are those that it was built from. A second opinion, which shares no code
with this file or with the readers, is in vendor_by_hand.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from flagbt.data.bars import COLUMNS, Bars

HOURS = 60
START = pd.Timestamp("2024-01-11 20:00")  # a day above 12 follows, which proves whether the day or the month comes first
LINE = "\n"


class VendorFile(NamedTuple):
    """A file, the bars in it, and what a user states to read it."""

    name: str
    content: str
    bars: Bars
    reading: dict[str, str]


def market(seed: int, price: float, digits: int, *, step: str = "1h", n: int = HOURS, whole_volume: bool = False) -> Bars:
    """Return irregular bars: each opens near the close before, and no two of its prices are equal."""
    random = np.random.default_rng(seed)
    tick = 10.0**-digits
    close = price * np.exp(np.cumsum(random.normal(0, 0.004, n)))
    open_ = np.concatenate([[price], close[:-1]]) + tick * random.integers(-2, 3, n)
    open_, close = np.round(open_, digits), np.round(close, digits)
    close = np.where(close == open_, np.round(close + tick, digits), close)
    reach = price * random.uniform(0.0005, 0.006, (2, n)) + tick
    high, low = np.round(np.maximum(open_, close) + reach[0], digits), np.round(np.minimum(open_, close) - reach[1], digits)
    volume = random.integers(900, 90_000, n).astype(float) if whole_volume else np.round(random.uniform(3, 900, n), 5)
    start = START if step == "1h" else START.normalize()
    time = pd.date_range(start, periods=n, freq=step).to_numpy()
    return Bars(time, open_, high, low, close, volume)


BTC, ETH = market(1, 45_000, 2), market(2, 2_400, 2)
EURUSD = market(3, 1.09, 5, whole_volume=True)
AAPL, MSFT = (market(seed, price, 2, step="1D", whole_volume=True) for seed, price in ((4, 185.0), (5, 390.0)))
HOURLY_AAPL = market(6, 185, 2, whole_volume=True)


def stamps(bars: Bars) -> list[pd.Timestamp]:
    """Return the open times, without a zone."""
    return list(pd.DatetimeIndex(bars.time))


def epochs(bars: Bars, unit: str) -> list[int]:
    """Return the open times as epoch numbers."""
    return [int(value) for value in bars.time.astype(f"datetime64[{unit}]").astype(np.int64)]


def texts(bars: Bars, form: str, shift_hours: float = 0) -> list[str]:
    """Return the open times as text."""
    return [(stamp + pd.Timedelta(hours=shift_hours)).strftime(form) for stamp in stamps(bars)]


def fixed(values: Sequence[float], digits: int = 8) -> list[str]:
    """Return numbers as exchanges write them: 45000.10000000."""
    return [f"{value:.{digits}f}" for value in values]


def plain(values: Sequence[float]) -> list[str]:
    """Return numbers in the fewest digits; whole ones without a point."""
    return [f"{value:.0f}" if float(value).is_integer() else repr(float(value)) for value in values]


def prices(bars: Bars, order: str = "ohlcv", form: Callable[..., list[str]] = plain) -> list[list[str]]:
    """Return the columns of these initials, as text."""
    names = {name[0]: name for name in COLUMNS}
    return [form(getattr(bars, names[initial])) for initial in order]


def quote(bars: Bars) -> list[str]:
    """Return the volume in quote units."""
    return [f"{price * volume:.6f}" for price, volume in zip(bars.close, bars.volume, strict=True)]


def vwap(bars: Bars) -> list[float]:
    """Return a price within each bar."""
    return [round((low + high + close) / 3, 6) for low, high, close in zip(*numbers(bars, "lhc"), strict=True)]


def trades(bars: Bars) -> list[str]:
    """Return a number of trades for each bar."""
    return [str(3 + 7 * row % 50) for row in range(len(bars))]


def same(bars: Bars, cell: object) -> list[str]:
    """Return a column of one value."""
    return [str(cell)] * len(bars)


def table(head: str, *columns: Sequence[object], separator: str = ",", newest_first: bool = False) -> str:
    """Return columns as text below a header, which may be empty or several lines."""
    lines = [separator.join(map(str, cells)) for cells in zip(*columns, strict=True)]
    lines = lines[::-1] if newest_first else lines
    return LINE.join([*([head] if head else []), *lines]) + LINE


def rows(*columns: Sequence[object], newest_first: bool = False) -> list[list[object]]:
    """Return columns as rows of JSON."""
    made = [list(cells) for cells in zip(*columns, strict=True)]
    return made[::-1] if newest_first else made


def objects(names: str, *columns: Sequence[object], newest_first: bool = False) -> list[dict[str, object]]:
    """Return columns as objects of JSON; the names are separated by spaces."""
    return [dict(zip(names.split(), row, strict=True)) for row in rows(*columns, newest_first=newest_first)]


def numbers(bars: Bars, order: str = "ohlcv") -> list[list[float]]:
    """Return the columns of these initials, as numbers."""
    names = {name[0]: name for name in COLUMNS}
    return [getattr(bars, names[initial]).tolist() for initial in order]


def klines(bars: Bars, unit: str = "ms") -> list[list[str]]:
    """Return Binance's twelve columns as text."""
    step = int(bars.step / np.timedelta64(1, unit))
    opens = epochs(bars, unit)
    rest = [
        [str(at + step - 1) for at in opens],
        quote(bars),
        trades(bars),
        same(bars, "1.5"),
        same(bars, "9.25"),
        same(bars, 0),
    ]
    return [list(map(str, opens)), *prices(bars, form=fixed), *rest]


def closed_only(bars: Bars, hours: Callable[[pd.Timestamp], bool]) -> Bars:
    """Return the bars whose open time is in the hours."""
    return bars.take(np.array([hours(stamp) for stamp in stamps(bars)]))


BINANCE_TITLES = (
    "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,"
    "Taker buy base asset volume,Taker buy quote asset volume,Ignore"
)
BINANCE_NAMES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
MT5_HEAD = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"
STOOQ_HEAD = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
FLAT_HEAD = "ticker,volume,open,close,high,low,window_start,transactions"
CDD = "https://www.CryptoDataDownload.com\n"


def _frames() -> dict[str, str]:
    """Return what pandas writes of a frame as yfinance returns it, for one ticker and for two."""
    names = ["Close", "High", "Low", "Open", "Volume"]
    index = pd.DatetimeIndex(stamps(AAPL), name="Date")
    columns = {(name, ticker): getattr(bars, name.lower()) for name in names for ticker, bars in TICKERS.items()}
    both = pd.DataFrame(columns, index=index)
    both.columns = pd.MultiIndex.from_tuples(list(columns), names=["Price", "Ticker"])
    one = both.xs("AAPL", axis=1, level=1, drop_level=False)
    by_ticker = both.swaplevel(axis=1).sort_index(axis=1)
    unnamed = both.copy()
    unnamed.columns.names = [None, None]
    flat = one.copy()
    flat.columns = flat.columns.droplevel(1)
    lower = one.rename(columns=str.lower, level=0)
    return {
        "one-row": flat.to_csv(),
        "three-rows": one.to_csv(),
        "three-rows-lower": lower.to_csv(),
        "two-rows": one.reset_index().to_csv(index=False),
        "tickers": both.to_csv(),
        "by-ticker": by_ticker.to_csv(),
        "unnamed-levels": unnamed.to_csv(),
        "index": flat.rename_axis(None).to_csv(),
        "row-numbers": flat.reset_index().to_csv(),
    }


TICKERS = {"AAPL": AAPL, "MSFT": MSFT}
FRAMES = _frames()


def _stacked(pairs: dict[str, Bars], build: Callable[[str, Bars], str], head: str) -> str:
    """Return markets below each other."""
    return head + LINE + "".join(build(name, bars) for name, bars in pairs.items())


def _text_files() -> dict[str, VendorFile]:
    """Return the files of text."""
    made: dict[str, VendorFile] = {}

    def add(name: str, content: str, bars: Bars, **reading: str) -> None:
        made[name] = VendorFile(name, content, bars, reading)

    add("pandas-unnamed-index.csv", FRAMES["index"], AAPL)
    add("pandas-row-numbers.csv", FRAMES["row-numbers"], AAPL)
    add("yfinance-one-row.csv", FRAMES["one-row"], AAPL)
    adjusted = plain(AAPL.close * 0.98)
    head = "Date,Open,High,Low,Close,Adj Close,Volume"
    add("yahoo-download.csv", table(head, texts(AAPL, "%Y-%m-%d"), *prices(AAPL, "ohlc"), adjusted, *prices(AAPL, "v")), AAPL)
    head, zero = "Datetime,Open,High,Low,Close,Volume,Dividends,Stock Splits", same(HOURLY_AAPL, "0.0")
    new_york = texts(HOURLY_AAPL, "%Y-%m-%d %H:%M:%S-05:00", -5)
    add("yfinance-history.csv", table(head, new_york, *prices(HOURLY_AAPL), zero, zero), HOURLY_AAPL)
    add("yfinance-three-rows.csv", FRAMES["three-rows"], AAPL)
    add("yfinance-three-rows-lower.csv", FRAMES["three-rows-lower"], AAPL)
    add("yfinance-two-rows.csv", FRAMES["two-rows"], AAPL)
    for ticker, bars in TICKERS.items():
        for form in ("tickers", "by-ticker", "unnamed-levels"):
            add(f"yfinance-{form}-{ticker}.csv", FRAMES[form], bars, symbol=ticker)
    cells = klines(BTC)
    add("python-binance.csv", table(BINANCE_TITLES, *cells), BTC)
    add("python-binance-times.csv", table(BINANCE_TITLES, texts(BTC, "%Y-%m-%d %H:%M:%S"), *cells[1:]), BTC)
    add("python-binance-index.csv", table("," + BINANCE_TITLES, range(HOURS), *cells), BTC)
    add("binance-vision.csv", table("", *cells), BTC)
    add("binance-vision-us.csv", table("", *klines(BTC, "us")), BTC)
    add("binance-vision-header.csv", table(BINANCE_NAMES, *cells), BTC)
    add("binance-vision-header-us.csv", table(BINANCE_NAMES, *klines(BTC, "us")), BTC)
    add("XBTUSD_60.csv", table("", epochs(BTC, "s"), *prices(BTC), trades(BTC)), BTC)

    def flat(ticker: str, bars: Bars) -> str:
        return table("", same(bars, ticker), *prices(bars, "vochl"), epochs(bars, "ns"), trades(bars))

    add("polygon-flat.csv", FLAT_HEAD + LINE + flat("AAPL", HOURLY_AAPL), HOURLY_AAPL)
    pair = {"AAPL": HOURLY_AAPL, "MSFT": market(7, 390, 2, whole_volume=True)}
    for ticker, bars in pair.items():
        add(f"polygon-flat-{ticker}.csv", _stacked(pair, flat, FLAT_HEAD), bars, symbol=ticker)
    head = "symbol,timestamp,open,high,low,close,volume,trade_count,vwap"
    offset = texts(HOURLY_AAPL, "%Y-%m-%d %H:%M:%S+00:00")
    content = table(head, same(HOURLY_AAPL, "AAPL"), offset, *prices(HOURLY_AAPL), trades(HOURLY_AAPL), vwap(HOURLY_AAPL))
    add("alpaca-frame.csv", content, HOURLY_AAPL)
    date, clock = texts(EURUSD, "%Y.%m.%d"), texts(EURUSD, "%H:%M")
    add("EURUSD60.csv", table("", date, clock, *prices(EURUSD)), EURUSD)
    seconds, spread = texts(EURUSD, "%H:%M:%S"), same(EURUSD, 12)
    add("mt5.csv", table(MT5_HEAD, date, seconds, *prices(EURUSD), same(EURUSD, 0), spread, separator="\t"), EURUSD)
    head, days = MT5_HEAD.replace("<TIME>\t", ""), texts(AAPL, "%Y.%m.%d")
    add("mt5-daily.csv", table(head, days, *prices(AAPL), same(AAPL, 0), same(AAPL, 1), separator="\t"), AAPL)
    head, gmt = "Gmt time,Open,High,Low,Close,Volume", texts(EURUSD, "%d.%m.%Y %H:%M:%S.000")
    add("dukascopy-gmt.csv", table(head, gmt, *prices(EURUSD)), EURUSD)
    local = texts(EURUSD, "%d.%m.%Y %H:%M:%S.000 GMT+0100", 1)
    add("dukascopy-local.csv", table("Local time,Open,High,Low,Close,Volume", local, *prices(EURUSD)), EURUSD)
    silent = Bars(EURUSD.time, EURUSD.open, EURUSD.high, EURUSD.low, EURUSD.close, np.zeros(HOURS))
    est = texts(EURUSD, "%Y%m%d %H%M%S", -5)
    add("DAT_ASCII_EURUSD_M1_2024.csv", table("", est, *prices(EURUSD, "ohlc"), same(EURUSD, 0), separator=";"), silent)
    head = "Date,Open,High,Low,Close,Volume"
    add("stooq-daily.csv", table(head, texts(AAPL, "%Y-%m-%d"), *prices(AAPL)), AAPL)
    first = (same(EURUSD, "EURUSD"), same(EURUSD, 60), texts(EURUSD, "%Y%m%d"), texts(EURUSD, "%H%M%S"))
    add("stooq-hourly.csv", table(STOOQ_HEAD, *first, *prices(EURUSD), same(EURUSD, 0)), EURUSD)
    first = (same(AAPL, "AAPL.US"), same(AAPL, "D"), texts(AAPL, "%Y%m%d"), same(AAPL, "000000"))
    add("stooq-database-daily.csv", table(STOOQ_HEAD, *first, *prices(AAPL), same(AAPL, 0)), AAPL)
    head = "Date,Time,Open,High,Low,Close,Volume,OpenInterest"
    add("backtrader.csv", table(head, texts(BTC, "%Y-%m-%d"), texts(BTC, "%H:%M:%S"), *prices(BTC), same(BTC, 0)), BTC)
    head = "time,open,high,low,close,Volume"
    add("tradingview.csv", table(head, epochs(BTC, "s"), *prices(BTC)), BTC)
    iso = texts(BTC, "%Y-%m-%dT%H:%M:%S+01:00", 1)
    averages = ["", "", *plain(BTC.volume[2:])]
    add(
        "tradingview-indicators.csv", table(f"{head},Volume MA,Plot,Plot", iso, *prices(BTC), averages, averages, averages), BTC
    )
    return made | _download_files()


def _download_files() -> dict[str, VendorFile]:
    """Return the files of CryptoDataDownload, and those whose dates are of another form."""
    made: dict[str, VendorFile] = {}

    def add(name: str, content: str, bars: Bars = BTC) -> None:
        made[name] = VendorFile(name, content, bars, {})

    symbol, both = same(BTC, "BTCUSD"), (*prices(BTC), quote(BTC))
    head = "Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD"
    add("cdd-12-hour.csv", CDD + table(head, texts(BTC, "%Y-%m-%d %I-%p"), symbol, *both, newest_first=True))
    head, stamp = "Unix Timestamp,Date,Symbol,Open,High,Low,Close,Volume", texts(BTC, "%Y-%m-%d %H:%M:%S")
    add("cdd-gemini.csv", CDD + table(head, epochs(BTC, "ms"), stamp, symbol, *prices(BTC), newest_first=True))
    head = "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD"
    add("cdd-unix.csv", CDD + table(head, epochs(BTC, "s"), stamp, symbol, *both, newest_first=True))
    head = "unix,date,symbol,open,high,low,close,Volume USD,Volume BTC"
    swapped = (*prices(BTC, "ohlc"), quote(BTC), *prices(BTC, "v"))
    add("cdd-quote-first.csv", CDD + table(head, epochs(BTC, "s"), stamp, symbol, *swapped, newest_first=True))
    head, pair = "Unix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount", same(BTC, "BTC/USDT")
    add("cdd-trades.csv", CDD + table(head, epochs(BTC, "ms"), stamp, pair, *both, trades(BTC), newest_first=True))
    head = "Date,Open,High,Low,Close,Volume"
    add("slashes-year-first.csv", table(head, texts(BTC, "%Y/%m/%d %H:%M"), *prices(BTC)))
    add("slashes-days.csv", table(head, texts(AAPL, "%Y/%m/%d"), *prices(AAPL)), AAPL)
    add("trailing-utc.csv", table(head, texts(BTC, "%Y-%m-%d %H:%M:%S UTC"), *prices(BTC)))
    add("month-first.csv", table(head, texts(BTC, "%m/%d/%Y %H:%M"), *prices(BTC)))
    add("day-first.csv", table(head, texts(BTC, "%d/%m/%Y %H:%M"), *prices(BTC)))
    add("day-first-days.csv", table(head, texts(AAPL, "%d.%m.%Y"), *prices(AAPL)), AAPL)
    return made


def _json_files() -> dict[str, VendorFile]:
    """Return the files of JSON."""
    made: dict[str, VendorFile] = {}

    def add(name: str, value: object, bars: Bars = BTC, **reading: str) -> None:
        made[name] = VendorFile(name, json.dumps(value), bars, reading)

    seconds, ms, text_ms, whole = epochs(BTC, "s"), epochs(BTC, "ms"), list(map(str, epochs(BTC, "ms"))), HOURLY_AAPL
    add("ccxt.json", rows(ms, *numbers(BTC)))
    cells = klines(BTC)
    add("binance-rest.json", rows(ms, *cells[1:6], [int(at) for at in cells[6]], cells[7], range(9, 9 + HOURS), *cells[9:]))
    bybit = rows(text_ms, *prices(BTC), quote(BTC), newest_first=True)
    result = {"symbol": "BTCUSDT", "category": "spot", "list": bybit}
    add("bybit.json", {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1706000000123})
    add("bybit-rows.json", bybit)
    okx = rows(text_ms, *prices(BTC), quote(BTC), quote(BTC), same(BTC, 1), newest_first=True)
    add("okx.json", {"code": "0", "msg": "", "data": okx})
    add("okx-rows.json", okx)
    kucoin = rows(list(map(str, seconds)), *prices(BTC, "ochlv"), quote(BTC), newest_first=True)
    add("kucoin.json", {"code": "200000", "data": kucoin})
    add("kucoin-rows.json", kucoin)
    bitstamp = objects("close high low open timestamp volume", *prices(BTC, "chlo"), list(map(str, seconds)), *prices(BTC, "v"))
    add("bitstamp.json", {"data": {"ohlc": bitstamp, "pair": "BTC/USD"}})
    add("bitstamp-rows.json", bitstamp)
    add("coinbase-exchange.json", rows(seconds, *numbers(BTC, "lhocv"), newest_first=True))
    names = "start low high open close volume"
    advanced = objects(names, list(map(str, seconds)), *prices(BTC, "lhocv"), newest_first=True)
    add("coinbase-advanced.json", {"candles": advanced})
    kraken = rows(seconds, *prices(BTC, "ohlc"), list(map(str, vwap(BTC))), *prices(BTC, "v"), range(4, 4 + HOURS))
    add("kraken.json", {"error": [], "result": {"XXBTZUSD": kraken, "last": seconds[-2]}})
    add("kraken-rows.json", kraken)
    names = "v vw o c h l t n"
    polygon = objects(names, *numbers(whole, "v"), vwap(whole), *numbers(whole, "ochl"), epochs(whole, "ms"), range(HOURS))
    around = {"ticker": "AAPL", "queryCount": 60, "resultsCount": 60, "adjusted": True, "results": polygon, "status": "OK"}
    add("polygon.json", {**around, "request_id": "6a7e466379af0a71039d60cc78e72282", "count": 60}, whole)
    other = market(7, 390, 2, whole_volume=True)

    def alpaca(bars: Bars) -> list[dict[str, object]]:
        times = texts(bars, "%Y-%m-%dT%H:%M:%SZ")
        return objects(
            "c h l n o t v vw", *numbers(bars, "chl"), range(HOURS), *numbers(bars, "o"), times, *numbers(bars, "v"), vwap(bars)
        )

    add("alpaca.json", {"bars": {"AAPL": alpaca(whole)}, "next_page_token": None}, whole)
    add("alpaca-one.json", {"bars": alpaca(whole), "symbol": "AAPL", "next_page_token": None}, whole)
    both = {"bars": {"AAPL": alpaca(whole), "MSFT": alpaca(other)}, "next_page_token": None}
    for ticker, bars in (("AAPL", whole), ("MSFT", other)):
        add(f"alpaca-{ticker}.json", both, bars, symbol=ticker)
    ends = [at + 3_599_999 for at in ms]
    names = "T c h i l n o s t v"
    liquid = objects(
        names,
        ends,
        *prices(BTC, "ch"),
        same(BTC, "1h"),
        *prices(BTC, "l"),
        range(HOURS),
        *prices(BTC, "o"),
        same(BTC, "BTC"),
        ms,
        *prices(BTC, "v"),
    )
    add("hyperliquid.json", liquid)
    return made


def _other_files() -> dict[str, VendorFile]:
    """Return layouts that need not be read, but never as other bars."""
    made: dict[str, VendorFile] = {}

    def add(name: str, content: object, bars: Bars = BTC) -> None:
        made[name] = VendorFile(name, content if isinstance(content, str) else json.dumps(content), bars, {})

    seconds, ms = epochs(BTC, "s"), epochs(BTC, "ms")
    text = list(map(str, seconds))
    add("bitfinex.json", rows(ms, *numbers(BTC, "ochlv"), newest_first=True))
    add("gate.json", rows(text, quote(BTC), *prices(BTC, "chlov"), same(BTC, "true")))
    add("gate-old.json", rows(text, quote(BTC), *prices(BTC, "chlo")))
    cells = klines(BTC)
    add("mexc.json", rows(ms, *cells[1:6], [int(at) for at in cells[6]], cells[7]))
    bitget = rows(list(map(str, ms)), *prices(BTC), quote(BTC), quote(BTC))
    add("bitget.json", {"code": "00000", "msg": "success", "requestTime": 1706000000123, "data": bitget})
    names = "id open close low high amount vol count"
    htx = objects(names, seconds, *numbers(BTC, "oclhv"), list(map(float, quote(BTC))), range(HOURS), newest_first=True)
    add("htx.json", {"ch": "market.btcusdt.kline.60min", "status": "ok", "ts": 1706000000123, "data": htx})
    add("kucoin-futures.json", {"code": "200000", "data": rows(ms, *numbers(BTC), list(map(float, quote(BTC))))})
    names = "candle_date_time_utc opening_price high_price low_price trade_price timestamp candle_acc_trade_volume"
    late = [at + 3_598_123 for at in ms]
    add("upbit.json", objects(names, texts(BTC, "%Y-%m-%dT%H:%M:%S"), *numbers(BTC, "ohlc"), late, *numbers(BTC, "v")))
    twelve = objects("datetime open high low close volume", texts(BTC, "%Y-%m-%d %H:%M:%S"), *prices(BTC), newest_first=True)
    add("twelve-data.json", {"meta": {"symbol": "BTC/USD", "interval": "1h"}, "values": twelve, "status": "ok"})
    ticks = {"ticks": ms, "volume": BTC.volume.tolist(), "open": BTC.open.tolist(), "high": BTC.high.tolist()}
    add("deribit.json", {"result": ticks | {"low": BTC.low.tolist(), "close": BTC.close.tolist(), "status": "ok"}})
    head = "timestamp,open,high,low,close,volume"
    add("alpha-vantage.csv", table(head, texts(AAPL, "%Y-%m-%d"), *prices(AAPL), newest_first=True), AAPL)
    add("first-rate.csv", table("", texts(AAPL, "%Y-%m-%d %H:%M:%S"), *prices(AAPL)), AAPL)
    head = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol"
    first = (epochs(AAPL, "ns"), same(AAPL, 35), same(AAPL, 2), same(AAPL, 38))
    add("databento.csv", table(head, *first, *prices(AAPL), same(AAPL, "AAPL")), AAPL)
    head = "Timestamp,Gmtoffset,Datetime,Open,High,Low,Close,Volume"
    add("eodhd.csv", table(head, seconds, same(BTC, 0), texts(BTC, "%Y-%m-%d %H:%M:%S"), *prices(BTC)))
    head = "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor"
    half = [[repr(float(cell) / 2) for cell in column] for column in prices(AAPL, "chlov")]
    zero, one = same(AAPL, "0.0"), same(AAPL, "1.0")
    add("tiingo.csv", table(head, texts(AAPL, "%Y-%m-%d"), *prices(AAPL, "chlov"), *half, zero, one), AAPL)
    head = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>"
    first = (same(EURUSD, "EURUSD"), same(EURUSD, 60), texts(EURUSD, "%Y%m%d"), texts(EURUSD, "%H%M%S"))
    add("finam.csv", table(head, *first, *prices(EURUSD)), EURUSD)
    head = "Date,Close/Last,Volume,Open,High,Low"
    dollars = [[f"${cell}" for cell in column] for column in prices(AAPL, "cohl")]
    add(
        "nasdaq.csv",
        table(head, texts(AAPL, "%m/%d/%Y"), dollars[0], *prices(AAPL, "v"), *dollars[1:], newest_first=True),
        AAPL,
    )
    head = '"Date","Price","Open","High","Low","Vol.","Change %"'
    quoted = [
        [f'"{cell}"' for cell in column] for column in (texts(AAPL, "%m/%d/%Y"), *prices(AAPL, "cohlv"), same(AAPL, "0.5%"))
    ]
    add("investing.csv", table(head, *quoted, newest_first=True), AAPL)
    head = "date,open,high,low,close,volume,average,barCount"
    first = (texts(BTC, "%Y-%m-%d %H:%M:%S-05:00", -5), *prices(BTC), vwap(BTC), trades(BTC))
    add("interactive-brokers.csv", table(head, *first))
    return made


TEXT_FILES = _text_files()
JSON_FILES = _json_files()
OTHER_FILES = _other_files()
FILES = TEXT_FILES | JSON_FILES
