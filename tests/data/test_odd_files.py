"""Files that are readable in a wrong way: several markets, shuffled days, other clocks. None may be read, or repaired, so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow.feather import write_feather
from pyarrow.parquet import write_table

from flagbt.data.check import check_table
from flagbt.data.readers import read_bars
from flagbt.data.reading import Reading
from flagbt.errors import DataError


def rows(n: int = 200, *, start: str = "2024-01-01", step: str = "h", price: float = 100.0, seed: int = 0) -> pd.DataFrame:
    """Return n plausible bars with their times in a first column."""
    random = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(random.normal(0, 0.01, n)))
    before = np.concatenate([[price], close[:-1]]) * np.exp(random.normal(0, 0.001, n))
    frame = pd.DataFrame({"timestamp": pd.date_range(start, periods=n, freq=step), "open": before})
    frame["high"] = np.maximum(before, close) * (1 + np.abs(random.normal(0, 0.005, n)))
    frame["low"] = np.minimum(before, close) * (1 - np.abs(random.normal(0, 0.005, n)))
    return frame.assign(close=close, volume=np.round(random.lognormal(3, 1, n), 3))


def written(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame in the format of the ending, and return the path."""
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".json":
        frame.assign(timestamp=frame["timestamp"].astype("datetime64[ms]").astype("int64")).to_json(path, orient="records")
    else:
        frame.to_csv(path, index=False)
    return path


# --- markets ---------------------------------------------------------------------------------------------------------


def two_markets(column: str, **beside: str) -> pd.DataFrame:
    """Return the bars of A, then those of B from the next hour on, with the market's name in a column."""
    first, second = rows(60, price=100), rows(60, price=20, seed=1, start="2024-01-03 12:00")
    return pd.concat([first.assign(**beside, **{column: "A"}), second.assign(**beside, **{column: "B"})])


@pytest.mark.parametrize("column", ["sym", "TIC", "ts_code", "code", "ISIN", "asset_id", "exchange", "Venue", "Name"])
@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
def test_markets_by_other_names_of_their_column(tmp_path: Path, column: str, ending: str) -> None:
    """Otherwise a file of one share after another is one series that falls by 80 % between them."""
    path = written(two_markets(column), tmp_path / f"bars{ending}")
    with pytest.raises(DataError, match="the bars are those of 2 markets, 'A', 'B'"):
        read_bars(path)
    assert len(read_bars(path, symbol="b")) == 60


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
def test_the_column_that_decides_is_found(tmp_path: Path, ending: str) -> None:
    """Otherwise a first column with one value for all hides the one that names two markets."""
    path = written(two_markets("exchange", symbol="BTC/USD"), tmp_path / f"bars{ending}")
    with pytest.raises(DataError, match="the bars are those of 2 markets, 'A', 'B'"):
        read_bars(path)
    assert len(read_bars(path, symbol="A")) == 60


def test_pairs_of_several_exchanges(tmp_path: Path) -> None:
    """Otherwise bars of one pair from two exchanges are mixed once the pair is chosen."""
    names = [("BTC", "X"), ("BTC", "Y"), ("ETH", "Y")]
    frames = [rows(50, seed=at).assign(pair=pair, exchange=exchange) for at, (pair, exchange) in enumerate(names)]
    path = written(pd.concat(frames).sort_values("timestamp", kind="stable"), tmp_path / "bars.csv")
    with pytest.raises(DataError, match="3 markets, 'BTC X', 'BTC Y', 'ETH Y'"):
        read_bars(path)
    np.testing.assert_array_equal(read_bars(path, symbol="BTC Y").close, frames[1]["close"])
    with pytest.raises(DataError, match=r"no market 'BTC', which .* 'BTC [XY]'"):
        read_bars(path, symbol="BTC")


def test_a_company_may_change_its_name(tmp_path: Path) -> None:
    """Otherwise a share whose company was renamed is refused as two markets, though its symbol is one."""
    frame = two_markets("name", symbol="META")
    assert len(read_bars(written(frame, tmp_path / "bars.csv"))) == 120


def test_each_share_has_its_exchange(tmp_path: Path) -> None:
    """Otherwise a share is not found by its symbol where its exchange is beside it."""
    frame = two_markets("symbol")
    frame["exchange"] = frame["symbol"].map({"A": "NYSE", "B": "NASDAQ"})
    assert len(read_bars(written(frame, tmp_path / "bars.csv"), symbol="B")) == 60


def test_blanks_around_a_market_do_not_make_another(tmp_path: Path) -> None:
    """Otherwise 'A' and 'A ' are two markets that a message cannot distinguish."""
    frame = rows(60).assign(symbol=["A", "A "] * 30)
    assert len(read_bars(written(frame, tmp_path / "bars.csv"))) == 60


def test_faults_of_another_exchange_do_not_matter(tmp_path: Path) -> None:
    """Otherwise a damaged row of a market that is not chosen makes the chosen one unreadable."""
    first, second = rows(50).assign(pair="BTC", exchange="X"), rows(50, seed=1).assign(pair="BTC", exchange="Y")
    other = rows(50, seed=2).assign(pair="ETH", exchange="Y")
    text = pd.concat([first, second, other]).to_csv(index=False).replace(f"{first['close'][7]}", "NULL")
    (tmp_path / "bars.csv").write_text(text)
    np.testing.assert_array_equal(read_bars(tmp_path / "bars.csv", symbol="BTC Y").close, second["close"])


# --- times -----------------------------------------------------------------------------------------------------------


def check_unoffered(path: Path, text: str, **stated: str) -> None:
    """Check that a file is refused with an explanation, and that no fix is offered for it."""
    with pytest.raises(DataError, match=text):
        read_bars(path, **stated)
    examined = check_table(path, Reading(**stated))
    assert any(problem.remedy.refused for problem in examined.problems)
    assert examined.offer is None
    assert any(re.search(text, problem.advice + problem.message) for problem in examined.problems)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("n", "step"), [(90, "D"), (24 * 60, "h"), (90, "B")])
def test_days_that_a_parser_took_for_months(tmp_path: Path, n: int, step: str, backwards: bool) -> None:
    """Otherwise sorting is offered, and makes of 1 to 12 January the first days of twelve months."""
    frame = rows(n, step=step)
    frame["timestamp"] = [
        f"{each:%Y-%d-%m %H:%M}" if each.day < 13 else f"{each:%Y-%m-%d %H:%M}" for each in frame["timestamp"]
    ]
    path = written(frame.iloc[::-1] if backwards else frame, tmp_path / "bars.csv")
    check_unoffered(path, "[Dd]ay and month are exchanged in some dates")


def test_days_that_are_all_taken_for_months(tmp_path: Path) -> None:
    """Otherwise hours of nine days are read without a word as those of the first days of nine months."""
    frame = rows(200)
    frame["timestamp"] = frame["timestamp"].dt.strftime("%Y-%d-%m %H:%M")
    path = written(frame, tmp_path / "bars.csv")
    check_unoffered(path, "[Dd]ay and month are exchanged in some dates")
    assert str(read_bars(path, time_format="%Y-%d-%m %H:%M").time[-1]) == "2024-01-09T07:00:00.000000000"


@pytest.mark.parametrize("days", [1, 3])
def test_missing_months_are_gaps(tmp_path: Path, days: int) -> None:
    """Otherwise a file with the first days of several months only is refused as one of exchanged dates."""
    frame = rows(24 * 200)
    some = frame[frame["timestamp"].dt.day <= days]
    assert len(read_bars(written(some, tmp_path / "bars.csv")).gaps) == 6


@pytest.mark.parametrize("hours", [range(24), range(9, 16)])
@pytest.mark.parametrize("backwards", [False, True])
def test_half_a_clock(tmp_path: Path, hours: range, backwards: bool) -> None:
    """Otherwise sorting is offered for times without AM and PM, and puts 1 o'clock in the afternoon before 9 in the morning."""
    frame = rows(300)
    frame = frame[frame["timestamp"].dt.hour.isin([*hours])]
    frame = frame.assign(timestamp=frame["timestamp"].dt.strftime("%Y-%m-%d %I:%M"))
    path = written(frame.iloc[::-1] if backwards else frame, tmp_path / "bars.csv")
    check_unoffered(path, "clock of 12 hours without AM and PM")


@pytest.mark.parametrize("options", [{}, {"columns": "close_time=timestamp"}])
@pytest.mark.parametrize("clock", ["00:00:00", "16:00:00", "23:59:59"])
def test_daily_bars_keep_their_local_dates(tmp_path: Path, clock: str, options: dict[str, str]) -> None:
    """Otherwise who states the zone of daily bars reads that they are off the grid, and not to leave the option out."""
    frame = rows(300, step="D")
    frame["timestamp"] += pd.Timedelta(clock)
    path = written(frame, tmp_path / "bars.csv")
    check_unoffered(path, "Leave out -?-?time.zone", time_zone="America/New_York", **options)
    assert len(read_bars(path, **options)) == 300


def test_two_kinds_of_stamps_at_the_end(tmp_path: Path) -> None:
    """Otherwise dropping 98 of 100 bars is offered for times that end in 59 s here and 59.999 s there."""
    frame = rows(200)
    frame["timestamp"] += pd.to_timedelta([3_599.0 + 0.999 * (at % 2) for at in range(200)], unit="s")
    check_unoffered(written(frame, tmp_path / "bars.csv"), "are near the bars' opening times")


@pytest.mark.parametrize(("step", "before"), [("s", "1ms"), ("5s", "1us"), ("s", "1ns")])
def test_seconds_stamped_at_their_ends(tmp_path: Path, step: str, before: str) -> None:
    """Otherwise bars of a second that Binance stamps 00:00:00.999 open one second late."""
    frame = rows(100, step=step)
    opened = frame["timestamp"].copy()
    frame["timestamp"] = [
        each.isoformat() for each in opened + pd.Timedelta(seconds=5 if step == "5s" else 1) - pd.Timedelta(before)
    ]
    bars = read_bars(written(frame, tmp_path / "bars.csv"))
    np.testing.assert_array_equal(bars.time, opened.to_numpy().astype("datetime64[ns]"))


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M", "%Y-%m-%d"])
def test_a_time_of_day_beside_datetime(tmp_path: Path, form: str) -> None:
    """Otherwise the time of day alone is taken for the time, though the day is in the column beside it."""
    frame = rows(60)
    frame = frame.assign(time=frame["timestamp"].dt.strftime("%H:%M"), datetime=frame["timestamp"].dt.strftime(form))
    bars = read_bars(written(frame.drop(columns="timestamp"), tmp_path / "bars.csv"))
    np.testing.assert_array_equal(bars.time, frame["timestamp"].to_numpy().astype("datetime64[ns]"))


def test_dates_beside_times_of_day_as_text(tmp_path: Path) -> None:
    """Otherwise Parquet with dates and '09:30' is refused, although the same CSV is read."""
    frame = rows(60)
    frame = frame.assign(date=frame["timestamp"].dt.date, time=frame["timestamp"].dt.strftime("%H:%M"))
    bars = read_bars(written(frame.drop(columns="timestamp"), tmp_path / "bars.parquet"))
    np.testing.assert_array_equal(bars.time, frame["timestamp"].to_numpy().astype("datetime64[ns]"))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("start", ["2023-11-18", "2023-11-17"])
def test_digits_of_days_are_no_milliseconds(tmp_path: Path, ending: str, start: str) -> None:
    """Otherwise one in six files of days such as 202311180000 is read without a word as bars of 1976."""
    frame = rows(12, step="D", start=start)
    days = frame["timestamp"].to_numpy().astype("datetime64[ns]")
    frame["timestamp"] = frame["timestamp"].dt.strftime("%Y%m%d%H%M").astype("int64")
    np.testing.assert_array_equal(read_bars(written(frame, tmp_path / f"bars{ending}")).time, days)


@pytest.mark.parametrize("start", ["1976-05-30 00:00", "1976-06-01 13:16:40"])
def test_milliseconds_of_1976(tmp_path: Path, start: str) -> None:
    """Otherwise epochs that look like digits of a date here and there are refused, or read as another year."""
    frame = rows(200, start=start)
    hours = frame["timestamp"].to_numpy().astype("datetime64[ns]")
    frame["timestamp"] = frame["timestamp"].astype("datetime64[ms]").astype("int64")
    np.testing.assert_array_equal(read_bars(written(frame, tmp_path / "bars.csv")).time, hours)


# --- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".feather"])
def test_the_position_of_a_name_that_occurs_twice(tmp_path: Path, ending: str) -> None:
    """Otherwise the position that a message wants reads the other column of this name."""
    frame = rows(60)
    table = pa.Table.from_pandas(frame.assign(other=frame["low"], late=frame["high"]), preserve_index=False)
    table = table.rename_columns([*frame.columns, "close", "close"])
    path = tmp_path / f"bars{ending}"
    if ending == ".csv":
        table.to_pandas().to_csv(path, index=False)
    else:
        (write_table if ending == ".parquet" else write_feather)(table, path)
    bars = read_bars(path, columns="close=6,open=7")
    np.testing.assert_array_equal(bars.close, frame["low"])
    np.testing.assert_array_equal(bars.open, frame["high"])


def test_columns_of_two_levels_are_stated_by_position(tmp_path: Path) -> None:
    """Otherwise the message on yfinance's Parquet states names with commas, which the option does not read."""
    frame = rows(60).set_index("timestamp")
    frame.columns = pd.MultiIndex.from_product([frame.columns, ["AAPL"]])
    frame.to_parquet(tmp_path / "bars.parquet")
    with pytest.raises(DataError, match="open=0,high=1,low=2,close=3,volume=4"):
        read_bars(tmp_path / "bars.parquet")
    assert len(read_bars(tmp_path / "bars.parquet", columns="open=0,high=1,low=2,close=3,volume=4")) == 60


def test_symbols_as_bytes(tmp_path: Path) -> None:
    """Otherwise a market is called "b'A'", and --symbol A does not find it."""
    frame = two_markets("symbol")
    frame["symbol"] = frame["symbol"].str.encode("ascii")
    assert len(read_bars(written(frame, tmp_path / "bars.parquet"), symbol="A")) == 60


def test_rows_without_a_header_end_with_the_time(tmp_path: Path) -> None:
    """Otherwise their first row is called a header, with prices as names of columns."""
    frame = rows(60)
    frame = frame.assign(timestamp=frame["timestamp"].astype("datetime64[s]").astype("int64"))
    path = tmp_path / "bars.csv"
    frame[[*frame.columns[1:], "timestamp"]].to_csv(path, index=False, header=False)
    with pytest.raises(DataError, match="the rows have no header"):
        read_bars(path)
    assert len(read_bars(path, columns="open=0,high=1,low=2,close=3,volume=4,time=5")) == 60


def test_a_single_volume_of_another_name(tmp_path: Path) -> None:
    """Otherwise the message is about which of one column is right."""
    path = written(rows(60).rename(columns={"volume": "Volume (BTC)"}), tmp_path / "bars.csv")
    with pytest.raises(DataError, match="not clear whether 'volume"):
        read_bars(path)
    assert len(read_bars(path, columns={"volume": "Volume (BTC)"})) == 60


@pytest.mark.parametrize("factor", [0.7, 1.2])
def test_a_close_of_another_scale(tmp_path: Path, factor: float) -> None:
    """Otherwise an adjusted close beside other prices is called their high, with an option that reads it so."""
    frame = rows(300)
    path = written(frame.assign(close=frame["close"] * factor), tmp_path / "bars.csv")
    check_unoffered(path, "[Tt]he column 'close' is of another scale")


@pytest.mark.parametrize("name", ["Time (EST)", "date_est", "Date (GMT+2)", "Time local"])
def test_a_zone_in_the_name_of_the_times(tmp_path: Path, name: str) -> None:
    """Otherwise the option that the message states reads local times as UTC without a word."""
    path = written(rows(60).rename(columns={"timestamp": name}), tmp_path / "bars.csv")
    with pytest.raises(DataError, match="has a zone: state that too, with time_zone"):
        read_bars(path)


@pytest.mark.parametrize("name", ["Time (UTC)", "bar date", "cet", "Last time"])
def test_no_zone_in_the_name_of_the_times(tmp_path: Path, name: str) -> None:
    """Otherwise a zone is wanted where the times are in UTC, or where letters of a word look like one."""
    path = written(rows(60).rename(columns={"timestamp": name}), tmp_path / "bars.csv")
    with pytest.raises(DataError, match="a time column") as refusal:
        read_bars(path)
    assert "has a zone" not in str(refusal.value)


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
def test_the_base_volume_is_proved_in_each_format(tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise Parquet with exchanged volumes is read with the quote volume, and without a note on which column was taken."""
    frame = rows(60).rename(columns={"volume": "Volume BTC"})
    frame["Volume USDT"] = frame["Volume BTC"] * frame["close"]
    bars = read_bars(written(frame, tmp_path / f"right{ending}"))
    np.testing.assert_array_equal(bars.volume, frame["Volume BTC"])
    assert "the volume is that of the column 'Volume BTC', not 'Volume USDT'" in caplog.text
    wrong = frame.rename(columns={"Volume BTC": "Volume USDT", "Volume USDT": "Volume BTC"})
    with pytest.raises(DataError, match="expected the volume in base units"):
        read_bars(written(wrong, tmp_path / f"wrong{ending}"))


def test_a_quote_volume_as_text_proves_nothing(tmp_path: Path) -> None:
    """Otherwise Parquet whose quote volume is text or blank, which is not read, is refused."""
    frame = rows(60).rename(columns={"volume": "Volume BTC"}).assign(**{"Volume USDT": "-"})
    assert len(read_bars(written(frame, tmp_path / "bars.parquet"))) == 60


@pytest.mark.parametrize("symbol", [None, "BTC"])
def test_answers_to_several_requests_in_one_file(tmp_path: Path, symbol: str | None) -> None:
    """Otherwise two pages of one market are called two markets, of which one is to be chosen."""
    frame = rows(60).assign(timestamp=lambda each: each["timestamp"].astype("datetime64[ms]").astype("int64"))
    pages = [{"symbol": "BTC", "candles": part.to_dict("records")} for part in (frame[:30], frame[30:])]
    (tmp_path / "bars.json").write_text(json.dumps(pages))
    with pytest.raises(DataError, match="the rows of the market 'BTC' are in 2 arrays, '0.candles', '1.candles'"):
        read_bars(tmp_path / "bars.json", symbol=symbol)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d"])
@pytest.mark.parametrize("order", [["close", "open", "high", "low"], ["close", "high", "low", "open"]])
def test_exchanged_opens_and_closes_show_whatever_the_date(
    tmp_path: Path, order: list[str], form: str, backwards: bool
) -> None:
    """Otherwise rows without names whose day or month is first are read with opens and closes exchanged."""
    frame = rows(100, step="D")[["timestamp", *order, "volume"]]
    frame = frame.assign(timestamp=frame["timestamp"].dt.strftime(form))
    path = tmp_path / "bars.csv"
    (frame.iloc[::-1] if backwards else frame).to_csv(path, index=False, header=False)
    with pytest.raises(DataError, match="are not in the order of a known source"):
        read_bars(path)
