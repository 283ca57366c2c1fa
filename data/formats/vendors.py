"""The forms of known sources of bars: the next one is an entry of this list.

The first form that a table with names has is used, so an entry comes before those that ask for less of the same names.
Rows without names are read by the only order of cells that their values allow, so the order of these entries is free.
tests/data/vendors/README.md states where each form is documented.
"""

from __future__ import annotations

from .vendor import Vendor

_SERVER_TIME = "its times are in the unknown zone of the broker's server, and are read as UTC unless --time-zone states it"
_EASTERN = "its times are Eastern Standard Time all year (UTC-5), as HistData documents them, and were converted to UTC"
_LOTS = "the volume of shares is in lots of 100, as the source documents it"

VENDORS = (
    # --- tables with names ---
    Vendor(
        name="Upbit",
        columns={
            "time": "candle_date_time_utc",
            "open": "opening_price",
            "high": "high_price",
            "low": "low_price",
            "close": "trade_price",
            "volume": "candle_acc_trade_volume",
            "quote volume": "candle_acc_trade_price",
            "symbol": "market",
        },
    ),
    Vendor(
        name="BitMEX",
        columns={"time": "timestamp", "volume": "homenotional", "quote volume": "foreignnotional"},
        is_close_time=True,
    ),
    Vendor(name="HTX", columns={"time": "id", "volume": "amount", "quote volume": "vol"}, marks=("count",)),
    Vendor(
        name="Hyperliquid",
        columns={"time": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "symbol": "s"},
        marks=("T", "i"),
    ),
    Vendor(name="Alpaca, Polygon", columns={"time": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}),
    Vendor(name="Polygon, flat files", columns={"time": "window_start", "symbol": "ticker"}),
    Vendor(name="Coinbase, Advanced Trade", columns={"time": "start"}),
    Vendor(name="Databento", columns={"time": "ts_event"}),
    Vendor(name="MetaTrader 5", columns={"volume": "vol", "other volume": "tickvol"}, marks=("date",), note=_SERVER_TIME),
    Vendor(name="Stooq, database", columns={"volume": "vol"}, marks=("ticker", "per", "openint")),
    Vendor(name="MetaStock", columns={"volume": "vol"}, marks=("ticker", "date")),
    Vendor(name="Finam", columns={"volume": "vol"}, marks=("date", "time")),
    Vendor(name="Tushare", columns={"time": "trade_date", "volume": "vol", "symbol": "ts_code"}, note=_LOTS),
    Vendor(name="Barchart", columns={"close": "last"}, marks=("time", "change")),
    Vendor(name="Barchart, since 2023", columns={"close": "latest"}, marks=("time", "change")),
    Vendor(name="CryptoCompare", columns={"volume": "volumefrom", "quote volume": "volumeto"}),
    Vendor(
        name="Poloniex, until 2022", columns={"volume": "quotevolume", "quote volume": "volume"}, marks=("weightedaverage",)
    ),
    Vendor(name="IQ Option", columns={"time": "from", "high": "max", "low": "min"}, marks=("at", "to")),
    Vendor(
        name="MOEX",
        columns={"time": "begin"},
        marks=("end", "value"),
        time_zone="Europe/Moscow",
        note="its times are Moscow time, as MOEX documents them, and were converted to UTC",
    ),
    Vendor(
        name="AKShare",
        columns={"time": "日期", "open": "开盘", "high": "最高", "low": "最低", "close": "收盘", "volume": "成交量"},
        note=_LOTS,
    ),
    Vendor(
        name="tables in Japanese",
        columns={"time": "日付", "open": "始値", "high": "高値", "low": "安値", "close": "終値", "volume": "出来高"},
    ),
    Vendor(
        name="Stooq, in Polish",
        columns={
            "time": "data",
            "open": "otwarcie",
            "high": "najwyzszy",
            "low": "najnizszy",
            "close": "zamkniecie",
            "volume": "wolumen",
        },
    ),
    Vendor(name="Dukascopy", columns={"time": "gmt_time"}, time_format="%d.%m.%Y %H:%M:%S.%f"),
    Vendor(name="Dukascopy, local time", columns={"time": "local_time"}, time_format="%d.%m.%Y %H:%M:%S.%f GMT%z"),
    # --- rows without names ---
    Vendor(name="freqtrade, ccxt", rows="time, open, high, low, close, volume"),
    Vendor(name="Coinbase Exchange", rows="time, low, high, open, close, volume"),
    Vendor(name="Bitfinex", rows="time, open, close, high, low, volume"),
    Vendor(name="Kraken, OHLCVT files", rows="time, open, high, low, close, volume, count"),
    Vendor(name="Bybit", rows="time, open, high, low, close, volume, quote volume"),
    Vendor(name="KuCoin", rows="time, open, close, high, low, volume, quote volume"),
    Vendor(name="Kraken", rows="time, open, high, low, close, vwap, volume, count"),
    Vendor(name="MEXC", rows="time, open, high, low, close, volume, close time, quote volume"),
    Vendor(name="Bitget", rows="time, open, high, low, close, volume, -, quote volume"),
    Vendor(name="Gate.io", rows="time, quote volume, close, high, low, open, volume, -"),
    Vendor(name="OKX, spot", rows="time, open, high, low, close, volume, -, quote volume, -"),
    Vendor(name="OKX, derivatives", rows="time, open, high, low, close, -, volume, quote volume, -"),
    Vendor(name="Binance", rows="time, open, high, low, close, volume, close time, quote volume, count, -, -, -"),
    Vendor(name="MetaTrader 4", rows="date, time of day, open, high, low, close, volume", note=_SERVER_TIME),
    Vendor(
        name="HistData",
        rows="time, open, high, low, close, volume",
        time_format="%Y%m%d %H%M%S",
        time_zone="Etc/GMT+5",
        has_no_volume=True,
        note=_EASTERN,
    ),
)
