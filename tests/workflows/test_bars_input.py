"""Bars from a DataFrame, a path or Bars: times in any zone, names in any case, and plain refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flagbt import Bars, FlagbtError, load_sample
from flagbt.data.readers import write_bars_csv
from flagbt.workflows.bars_input import bars_from

Change = Callable[[pd.DataFrame], object]


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    """Return a year of hourly bars, from December 2023, with a UTC index."""
    return load_sample().frame()


def test_every_kind_of_data_gives_the_same_bars(year: pd.DataFrame, tmp_path: Path) -> None:
    """If it fails, the same prices are another test, depending on how a user holds them."""
    bars = load_sample()
    write_bars_csv(bars, tmp_path / "bars.csv")
    epochs = year.reset_index().assign(time=bars.time.astype("datetime64[s]").astype(np.int64))
    yahoo = year.rename(columns=str.title)
    yahoo.columns = pd.MultiIndex.from_product([yahoo.columns, ["BTC-USD"]], names=["Price", "Ticker"])
    kinds = {
        "nothing": None,
        "Bars": bars,
        "a path": tmp_path / "bars.csv",
        "a path as text": str(tmp_path / "bars.csv"),
        "a frame": year,
        "New York": year.tz_convert("America/New_York"),
        "no zone": year.tz_localize(None),
        "microseconds": year.set_axis(year.index.as_unit("us")),
        "upper case": year.rename(columns=str.upper),
        "title case, more columns": year.rename(columns=str.title).assign(Symbol="BTC"),
        "a time column": year.reset_index(),
        "text in the index": year.set_axis(year.index.astype(str)),
        "dates as objects": year.reset_index().astype({"time": object}),
        "epoch seconds": epochs,
        "float32": year.assign(volume=year["volume"].astype("Float64")),
        "yfinance": yahoo,
        "yfinance, by ticker": yahoo.swaplevel(axis=1),
        "ccxt": epochs.assign(time=bars.time.astype("datetime64[ms]").astype(np.int64)).rename(columns={"time": "timestamp"}),
        "python-binance": epochs.rename(columns=lambda name: "Open time" if name == "time" else name.title()),
        "python-binance, times in the index": year.set_axis(pd.Index(epochs["time"], name="Open time")),
        "Alpaca": pd.concat({"BTC/USD": year}, names=["symbol"]),
        "short names": year.reset_index().rename(columns=lambda name: name[0]),
        "day first": year.reset_index().assign(time=year.index.strftime("%d/%m/%Y %H:%M").to_numpy()),
        "date and time of day": year.assign(
            Date=year.index.strftime("%Y.%m.%d"), Time=year.index.strftime("%H:%M")
        ).reset_index(drop=True),
    }
    for name, data in kinds.items():
        assert bars_from(data).digest == bars.digest, name


def test_generated_prices_stay_marked(year: pd.DataFrame) -> None:
    """If it fails, a frame of the SYNTHETIC sample gives a run without its stamp."""
    assert bars_from(year).synthetic
    assert bars_from(year.loc["2024-02":"2024-03"].copy()).synthetic
    unmarked = pd.DataFrame(year.to_dict("series"))
    unmarked.attrs.clear()
    assert not bars_from(unmarked).synthetic
    assert bars_from(unmarked.assign(synthetic=1)).synthetic


@pytest.mark.parametrize(
    "zone", ["America/New_York", "America/Chicago", "Europe/London", "Europe/Paris", "Australia/Melbourne"]
)
@pytest.mark.parametrize(
    "cut", [slice(None), slice("2024-03", "2024-04"), slice("2024-10", "2024-11")], ids=["year", "March", "autumn"]
)
def test_local_time_without_a_zone_is_refused(year: pd.DataFrame, zone: str, cut: slice) -> None:
    """If it fails, half of a user's bars are an hour off, and nothing states it."""
    local = year.tz_convert(zone).tz_localize(None)[cut]
    local.index.freq = None
    with pytest.raises(FlagbtError, match=r"local time, as in .* without a time zone.*tz_localize.*tz_convert"):
        bars_from(local)
    if cut == slice(None):  # the doubled hour has been removed, and the skipped one is still missing
        with pytest.raises(FlagbtError, match="hour that clocks skip in spring is missing"):
            bars_from(local[~local.index.duplicated()])


def test_times_in_utc_without_a_zone_are_read(year: pd.DataFrame) -> None:
    """If it fails, ordinary gaps, or a zone that never changes its clocks, are taken for summer time."""
    naive = year.tz_localize(None)
    gaps = naive.drop(naive.index[[500, 1_203, 4_000, 4_001]])
    assert len(bars_from(gaps)) == len(naive) - 4
    assert bars_from(year.tz_convert("Asia/Tokyo").tz_localize(None)).time[0] == np.datetime64("2023-12-01T09:00")
    missing = np.datetime64("2024-03-10T02:00")  # the hour that New York skips, in bars that are in UTC
    assert len(bars_from(year.drop(pd.Timestamp(missing, tz="UTC")))) == len(year) - 1
    minutes = pd.date_range("2024-03-01", "2024-04-15", freq="5min")
    assert len(bars_from(pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0), index=minutes))) == 12_961


WRONG: dict[str, tuple[Change, str]] = {
    "a list": (lambda _: [1, 2], "data: expected a DataFrame, a path, Bars, or None .* got a list"),
    "an array": (lambda f: f.to_numpy(), "got an ndarray"),
    "a number": (lambda _: 3, "got an int"),
    "a Series": (lambda f: f["close"], "got a Series"),
    "no file": (lambda _: "btc.csv", "btc.csv: there is no such file"),
    "empty text": (lambda _: "", "this is a folder|there is no such file|does not read"),
    "no rows": (lambda f: f.iloc[:0], "there are no bars"),
    "no times": (
        lambda f: f.reset_index(drop=True),
        "expected a DatetimeIndex .* or a time column .* its index is a RangeIndex",
    ),
    "periods": (lambda f: f.tz_localize(None).to_period("h"), r"to_timestamp\(\)"),
    "two levels": (lambda f: pd.concat({"BTC": f[["open", "close"]]}, axis=1), r"levels.*frame\.xs"),
    "two tickers": (
        lambda f: pd.concat({"AAPL": f, "MSFT": f}, axis=1).swaplevel(axis=1),
        r"2 markets, 'AAPL', 'MSFT', .* Choose one: frame\.xs\('AAPL', axis=1, level=1\)",
    ),
    "two groups": (lambda f: pd.concat({"AAPL": f, "MSFT": f}, axis=1), r"Choose one: frame\.xs\('AAPL', axis=1, level=0\)"),
    "two markets": (
        lambda f: pd.concat([f.assign(Ticker="AAPL"), f.assign(Ticker="MSFT")]),
        r"2 markets, 'AAPL', 'MSFT', .* Choose one: frame\[frame\['Ticker'\] == 'AAPL'\]",
    ),
    "two symbols in the index": (
        lambda f: pd.concat({"AAPL": f, "MSFT": f}, names=["symbol"]),
        r"2 markets, 'AAPL', 'MSFT', .* Choose one: frame\.xs\('AAPL', level=0\)",
    ),
    "two volumes": (
        lambda f: f.rename(columns={"volume": "Volume BTC"}).assign(**{"Volume USDT": 1.0}),
        "'?volume btc.* read from files only",
    ),
    "other times": (
        lambda f: f.reset_index(drop=True).assign(**{"gmt time": "01.02.2024 00:00:00.000"}),
        "those of Dukascopy, whose times or volumes are read from files only. Write them to a file",
    ),
    "numbers as names": (lambda f: f.set_axis(range(5), axis=1), "a column is named '0', expected text"),
    "a typing error": (lambda f: f.rename(columns={"close": "clsoe"}), "column 'close' is missing; .* Did you mean 'clsoe'"),
    "a column less": (lambda f: f.drop(columns="volume"), "column 'volume' is missing; its columns are open, high, low, close"),
    "a column twice": (lambda f: f.assign(Close=1.0), "the column 'close' is there 2 times"),
    "text": (lambda f: f.assign(open="x"), r"column 'open' holds str, expected numbers.*to_numeric"),
    "NaN": (lambda f: f.assign(open=f["open"].where(f["open"] < f["open"].max())), "open is nan, expected a finite number"),
    "prices below 0": (lambda f: -f, "expected a finite number above 0"),
    "newest first": (lambda f: f.iloc[::-1], r"newest first. Sort them: frame\.sort_index\(\)"),
    "out of order": (lambda f: pd.concat([f.iloc[5:9], f.iloc[:4]]), "out of order"),
    "a bar twice": (lambda f: f.iloc[[0, 1, 1, 2]], "occurs twice"),
    "off the grid": (lambda f: pd.concat([f.iloc[:9], f.iloc[9:].shift(freq="7min")]), "off the grid"),
    "NaT": (lambda f: f.set_axis(f.index.where(np.arange(len(f)) != 3)), "row 4 has no time"),
    "text that means nothing": (
        lambda f: f.reset_index().assign(time="yesterday"),
        "expected a time such as .* got 'yesterday'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_data_is_refused_in_plain_words(year: pd.DataFrame, name: str) -> None:
    """If it fails, a user sees a library's traceback, or bars that are wrong."""
    change, expected = WRONG[name]
    with pytest.raises(FlagbtError, match=expected):
        bars_from(change(year))  # type: ignore[arg-type]


def test_the_far_future_is_refused(year: pd.DataFrame) -> None:
    """If it fails, pandas' own error for a date beyond nanoseconds reaches the user."""
    later = pd.date_range("3000-01-01", periods=len(year), freq="h", unit="s", tz="UTC")
    with pytest.raises(FlagbtError, match="outside the years 1678 to 2262"):
        bars_from(year.set_axis(later))


def test_bars_pass_unchanged() -> None:
    """If it fails, Bars lose their step or their source."""
    bars: Bars = load_sample()
    assert bars_from(bars) is bars


def test_the_ends_of_bars_are_not_their_opens(year: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    """If it fails, a frame indexed by Binance's close time is traded an hour late, and nothing states it."""
    ends = year.set_axis(year.index + pd.Timedelta("59min 59.999s"))
    assert bars_from(ends).digest == bars_from(year).digest
    assert "its times are those of the bars' ends" in caplog.text
