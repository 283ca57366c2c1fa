"""How a file is read, as functions for Python take it: by name, of a path only, and in the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import flagbt
from flagbt import read_bars
from flagbt.data.reading import Reading, reading_from, reading_text
from flagbt.reports.tearsheet import command as repeat_of

BTC = "BTCUSDT"
RANGE = "20230901-20230915"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, walk: Callable[..., flagbt.Bars]) -> Path:
    """Write the bars of one market, and a file with those of two."""
    folder = tmp_path_factory.mktemp("bars")
    frames = {symbol: walk(2200, seed, start="2023-07-01").frame() for symbol, seed in ((BTC, 1), ("ETHUSDT", 2))}
    frames[BTC].to_csv(folder / "one.csv")
    pd.concat([frame.assign(symbol=symbol) for symbol, frame in frames.items()]).to_csv(folder / "two.csv")
    return folder


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLAGBT_HOME", str(tmp_path / "home"))


def test_backtest_and_sweep_read_one_market_of_two(files: Path) -> None:
    """A file that the command line reads cannot be read in a notebook, or gives another trial there."""
    one = flagbt.backtest(files / "one.csv", "sma-cross", timerange=RANGE)
    two = flagbt.backtest(files / "two.csv", "sma-cross", timerange=RANGE, symbol=BTC)
    assert two.info.trial == one.info.trial
    assert ("symbol" in one.settings, two.settings["symbol"]) == (False, BTC)
    assert f"--data two.csv --symbol {BTC} --timerange" in repeat_of(two.settings)
    read = flagbt.backtest(read_bars(files / "two.csv", symbol=BTC), "sma-cross", timerange=RANGE)
    assert (read.settings["symbol"], read.info.trial) == (BTC, one.info.trial)
    assert repeat_of(read.settings).startswith("flagbt.backtest(data, 'sma-cross', ")
    assert "symbol" not in repeat_of(read.settings)  # of bars that are read already, it would be refused
    swept = flagbt.sweep(files / "two.csv", "sma-cross", params={"fast_bars": [6, 12]}, symbol=BTC, workers=1)
    alone = flagbt.sweep(files / "one.csv", "sma-cross", params={"fast_bars": [6, 12]}, workers=1)
    assert swept.table.equals(alone.table)


def test_the_other_functions_read_one_market_of_two(files: Path, nano: flagbt.Checkpoint, nano_preset: str) -> None:
    """A function takes the argument and reads another market, or both."""
    both = ((files / "one.csv", {}), (files / "two.csv", {"symbol": BTC}))
    fits = [flagbt.calibrate(nano, data, timerange="20230801-20230901", force=True, **about) for data, about in both]
    assert fits[0].calibration == fits[1].calibration
    assert fits[1].to_json()["data"]["reading"] == {"symbol": BTC}
    found = [flagbt.diagnose(nano, data, timerange=RANGE, **about) for data, about in both]
    assert found[0].to_json()["findings"] == found[1].to_json()["findings"]
    recipe = flagbt.Recipe(preset=nano_preset)
    made = [flagbt.train(data, f"made-{place}", recipe, **about) for place, (data, about) in enumerate(both)]
    assert made[0].values["files"] == made[1].values["files"]
    with pytest.raises(flagbt.FlagbtError, match=r"one\.csv: symbol chooses 'BTCUSDT', but the file has no column"):
        flagbt.train(files / "two.csv", "made", recipe, more=[files / "one.csv"], symbol=BTC)
    more = read_bars(files / "two.csv", symbol="ETHUSDT")  # read already, so in its own way
    assert (
        flagbt.train(files / "two.csv", "more", recipe, more=[more], symbol=BTC).values["more_data"][0]["digest"] == more.digest
    )


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"time": 0, "close": "Price"}, "time=0,close=Price"),
        ("time=0, close=Price", "time=0, close=Price"),
        ({}, None),
        (None, None),
    ],
)
def test_columns_are_a_text_or_a_mapping(columns: object, text: str | None) -> None:
    """The mapping, as a notebook writes it, means other columns than the option."""
    assert reading_from({"columns": columns, "seed": 3}) == Reading(columns=text)


def _frame() -> pd.DataFrame:
    return flagbt.load_sample().frame()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: {"data": _frame(), "columns": "close=Price"},
            "columns: it states how .* data is a DataFrame. Name the columns",
        ),
        (lambda: {"data": _frame(), "time_zone": "Asia/Tokyo"}, "time_zone: .* is a DataFrame. State the zone.*tz_localize"),
        (lambda: {"data": _frame(), "time_format": "%d"}, "time_format: .* pandas.to_datetime"),
        (lambda: {"data": _frame(), "symbol": "BTC"}, "symbol: .* Select the market in the frame"),
        (lambda: {"data": _frame(), "closed_hours": "Sat-Sun"}, "closed_hours: .* leave it out"),
        (lambda: {"data": flagbt.load_sample(), "symbol": "BTC"}, "symbol: .* data is a Bars. These are read already"),
        (lambda: {"symbol": "BTC"}, "symbol: it states how a file of bars is read, and there is none. Add data=FILE"),
        (lambda: {"data": "a.csv", "symbl": "BTC"}, "there is no argument 'symbl'. Did you mean symbol?"),
        (lambda: {"data": "a.csv", "timezone": "UTC"}, "there is no argument 'timezone'. Did you mean time_zone?"),
        (lambda: {"data": "a.csv", "symbol": 3}, "symbol: expected text, got 3"),
        (lambda: {"data": "a.csv", "columns": ["time"]}, "columns: expected text"),
        (lambda: {"data": "a.csv", "columns": {"time": -1}}, "columns: -1 is not a role or a column"),
        (lambda: {"data": "a.csv", "columns": {"time": "a,b=c"}}, "columns: 'a,b=c' is not a role or a column"),
        (lambda: {"data": "a.csv", "columns": {3: "a"}}, "columns: 3 is not a role or a column"),
    ],
)
def test_what_is_not_of_a_path_is_refused(call: Callable[[], dict[str, object]], message: str) -> None:
    """An argument about a file is ignored for bars in memory, or a wrong one fails with a library's traceback."""
    for function in (flagbt.backtest, flagbt.sweep):
        with pytest.raises(flagbt.FlagbtError, match=message):
            function(**{"strategy": "buy-and-hold", **call()})  # type: ignore[operator]


def test_columns_of_a_function_are_not_those_of_a_file(files: Path, nano: flagbt.Checkpoint) -> None:
    """The doctor takes the columns of a file for the names of features."""
    with pytest.raises(
        flagbt.FlagbtError, match=r"diagnose: columns are the names .*flagbt\.read_bars\(path, columns=\.\.\.\)"
    ):
        flagbt.diagnose(nano, files / "one.csv", columns="close=close")  # type: ignore[arg-type]


def test_a_reading_keeps_to_its_bars() -> None:
    """A part of the bars loses how they were read, or it changes their digest and so every trial."""
    bars = flagbt.load_sample()
    stated = flagbt.Bars(
        *(getattr(bars, name) for name in ("time", "open", "high", "low", "close", "volume")), reading=Reading(symbol="A")
    )
    assert (stated.digest, stated.take(slice(5, 9)).reading) == (bars.digest, Reading(symbol="A"))
    assert ("reading" in bars.to_json(), stated.to_json()["reading"]) == (False, {"symbol": "A"})
    assert reading_text(stated.describe()["reading"]) == ", read with --symbol A"  # type: ignore[arg-type]


def test_read_bars_takes_the_arguments_and_names_them(files: Path, tmp_path: Path) -> None:
    """read_bars reads less than the commands, or a message names an option that Python does not have."""
    one = read_bars(files / "one.csv")
    assert read_bars(files / "two.csv", symbol=BTC).digest == one.digest
    frame = one.frame().rename(columns={"close": "Price"}).tz_convert("Europe/Berlin")
    frame = frame[frame.index < "2023-10-01"]  # before clocks change
    frame.set_axis(frame.index.strftime("%d.%m.%Y %H:%M").rename("When")).to_csv(path := tmp_path / "own.csv")
    for columns in ({"time": "When", "close": "Price"}, {"time": 0, "close": 4}, "time=When,close=Price"):
        bars = read_bars(path, columns=columns, time_format="%d.%m.%Y %H:%M", time_zone="Europe/Berlin")
        assert bars.digest == one.take(slice(0, len(bars))).digest
    assert bars.reading == Reading(columns="time=When,close=Price", time_format="%d.%m.%Y %H:%M", time_zone="Europe/Berlin")
    with pytest.raises(flagbt.FlagbtError, match=r"Choose one: symbol='BTCUSDT'\."):
        read_bars(files / "two.csv")
    with pytest.raises(flagbt.FlagbtError, match="read_bars: there is no argument 'tz'"):
        read_bars(files / "two.csv", tz="UTC")  # type: ignore[call-arg]
    with pytest.raises(flagbt.FlagbtError, match="read_bars: there is no argument 'timezone'. Did you mean time_zone?"):
        read_bars(files / "two.csv", timezone="UTC")  # type: ignore[call-arg]
