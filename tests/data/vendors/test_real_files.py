"""Real files of vendors, where the development data are present: the bars of each equal those of a reading by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from vendor_by_hand import LOWER, bars_of, csv, headerless, json_rows, named, titled

from flagbt.data.bars import Bars
from flagbt.data.readers import read_bars
from flagbt.errors import DataError

SHARED = Path(__file__).resolve().parents[4] / "shared"
HOUR = pd.Timedelta(hours=1)


def banner(text: str) -> str:
    """Return a text without its first line."""
    return text.partition("\n")[2]


def half_days(text: str) -> Bars:
    """Read CryptoDataDownload's `2019-04-22 11-PM`."""
    frame = csv(text)
    return bars_of(pd.to_datetime(frame["Date"], format="%Y-%m-%d %I-%p"), *(frame[each] for each in HEAD_BTC))


def days(text: str) -> Bars:
    """Read CryptoDataDownload's days, below a banner."""
    frame = csv(banner(text))
    return bars_of(pd.to_datetime(frame["Date"]), *(frame[each] for each in HEAD_BTC))


def metatrader(text: str) -> Bars:
    """Read MetaTrader's export, whose real volume is 0 throughout."""
    frame = csv(text, sep="\t")
    time = pd.to_datetime(frame["<DATE>"] + " " + frame["<TIME>"], format="%Y.%m.%d %H:%M:%S")
    return named(frame, time, "<OPEN> <HIGH> <LOW> <CLOSE> <TICKVOL>")


def closing(text: str) -> Bars:
    """Read bars stamped a millisecond before their ends."""
    frame = csv(text)
    return named(frame, pd.to_datetime(frame["time"]) + pd.Timedelta(milliseconds=1) - HOUR, LOWER)


def new_york(text: str) -> Bars:
    """Read times of New York, where the hour from 1:00 occurs twice in autumn: first in summer time, four hours behind UTC."""
    frame = csv(text)
    local = pd.to_datetime(frame["timestamp"])
    is_winter = (local > pd.Timestamp("2024-11-03 01:00")) | local.duplicated()
    return named(frame, local + pd.to_timedelta(is_winter.map({False: 4, True: 5}), unit="h"), LOWER)


def market(name: str) -> Callable[[str], Bars]:
    """Return a reader of one market of several below each other."""

    def read(text: str) -> Bars:
        frame = csv(text)
        frame = frame[frame["symbol"] == name].reset_index(drop=True)
        return named(frame, pd.to_datetime(frame["timestamp"]), LOWER)

    return read


HEAD_BTC = ("Open", "High", "Low", "Close", "Volume BTC")
REAL: dict[str, tuple[Callable[[str], Bars], dict[str, str]]] = {
    "failing/binance_rest_klines.json": (json_rows("ms", 1, 2, 3, 4, 5), {}),
    "failing/coinbase_candles_low_high_open_close.json": (json_rows("s", 3, 2, 1, 4, 5), {}),
    "failing/cdd_12_hour_clock.csv": (half_days, {}),
    "failing/gemini_spot_called_perpetual.csv": (days, {}),
    "failing/goog_daily_gaps.csv": (titled("time", "%Y-%m-%d"), {}),
    "failing/kraken_ohlcvt_7_columns_no_header.csv": (headerless("s", 1, 2, 3, 4, 5), {}),
    "failing/local_time_autumn_dst.csv": (new_york, {"time_zone": "America/New_York"}),
    "failing/month_first_proved_by_day_13.csv": (titled("Date", "%m/%d/%Y %H:%M"), {}),
    "failing/mt5_export_tabs.csv": (metatrader, {}),
    "failing/pandas_to_csv_unnamed_index.csv": (titled("Unnamed: 0"), {}),
    "failing/python_binance_titles_open_space_time.csv": (titled("Open time", unit="ms"), {}),
    "failing/stamped_at_close_59_59_999.csv": (closing, {}),
    "failing/two_markets_one_after_the_other.csv": (market("ETHUSDT"), {"symbol": "ETHUSDT"}),
    "data/formats/binance_vision_klines_noheader_1m.csv": (headerless("ms", 1, 2, 3, 4, 5), {}),
    "data/formats/capitalised_date_offset_perp.csv": (titled("Date"), {}),
    "data/formats/timestamps_amount_header.csv": (titled("timestamps", names=LOWER), {}),
}


def text_of(name: str) -> tuple[Path, str]:
    """Return a real file and its text, or skip the test where it is absent."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"the development data are absent: no {name}")
    return path, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_is_read_as_by_hand(name: str) -> None:
    """A file that users have would be refused, or read as other bars."""
    path, text = text_of(name)
    by_hand, reading = REAL[name]
    expected, bars = by_hand(text), read_bars(path, **reading)
    assert (len(bars), bars.time[0], bars.time[-1]) == (len(expected), expected.time[0], expected.time[-1])
    assert bars.digest == expected.digest


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("failing/local_time_autumn_dst.csv", ["time_zone=", "2024-11-03"]),
        ("failing/two_markets_one_after_the_other.csv", ["BTCUSDT", "ETHUSDT", "symbol="]),
        ("failing/ticks_grid_of_0_seconds.csv", ["ticks"]),
    ],
)
def test_a_real_file_that_needs_an_option_or_is_none_of_bars(name: str, parts: list[str]) -> None:
    """A file of two markets, of local times or of trades would be read as bars, or refused without the remedy."""
    path, _ = text_of(name)
    with pytest.raises(DataError) as caught:
        read_bars(path)
    assert [part for part in parts if part not in str(caught.value)] == []
