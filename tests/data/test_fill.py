"""Times without trades: what --fill-no-trade writes, and where the check offers it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from closing_markets import bars_at, forex, hourly, shares, without

from flagbt.data.bars import Bars
from flagbt.data.check import CheckResult, check_table
from flagbt.data.fill import fill_no_trade
from flagbt.data.readers import read_bars
from flagbt.errors import DataError

Command = Callable[..., tuple[int, str, str]]


def thinned(days: int, share: float, seed: int = 0) -> Bars:
    """Return hourly bars of a market that never closes, without a random share of them."""
    time = hourly("2024-01-01", days)
    kept = np.random.default_rng(seed).random(len(time)) >= share
    kept[:2] = True
    return bars_at(time[kept], step=np.timedelta64(3600, "s"))


def written(bars: Bars, path: Path) -> Path:
    """Write bars as a file."""
    bars.frame().to_csv(path, date_format="%Y-%m-%dT%H:%M:%SZ")
    return path


@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_filled_bars_agree_with_pandas(share: float) -> None:
    """If it fails, a filled bar has a price that was not the last one known, or a traded bar is changed."""
    bars = thinned(40, share)
    result = fill_no_trade(bars)
    expected = bars.frame().resample("h").asfreq()
    expected["volume"] = expected["volume"].fillna(0.0)
    expected["close"] = expected["close"].ffill()
    for name in ("open", "high", "low"):
        expected[name] = expected[name].fillna(expected["close"])
    pd.testing.assert_frame_equal(result.bars.frame(), expected, check_freq=False)
    assert result.filled == len(expected) - len(bars)
    assert result.bars.gaps == []
    assert result.longest == max(gap.missing for gap in bars.gaps)
    assert len(list(result.lines())) == result.filled


def test_filled_bars_depend_on_the_past_alone() -> None:
    """If it fails, a filled bar knows a later price."""
    bars = thinned(40, 0.5)
    part = bars.take(slice(0, 200))
    whole, cut = fill_no_trade(bars).bars, fill_no_trade(part).bars
    assert cut.digest == whole.take(slice(0, len(cut))).digest


def test_closed_hours_and_holidays_are_not_filled() -> None:
    """If it fails, nights, weekends or holidays of a market get flat bars."""
    time = without(without(forex("2022-01-03", 52), "2022-06-15T10", "2022-06-15T13"), "2022-07-03T21", "2022-07-04T21")
    result = fill_no_trade(bars_at(time))
    assert result.filled == 3
    assert [str(each)[:13] for each in result.bars.time[result.is_filled]] == [
        "2022-06-15T10",
        "2022-06-15T11",
        "2022-06-15T12",
    ]
    assert "left missing: 1 further day without bars" in result.summary
    night = shares("2023-01-02", 60, 60, hours=("09:30-16:00",))
    assert fill_no_trade(bars_at(np.delete(night, [20, 21]))).filled == 2


def test_absurd_amounts_are_refused() -> None:
    """If it fails, a file is made up almost as a whole, or one that flagbt cannot read is written."""
    with pytest.raises(DataError, match=r"\d,\d{3} bars are missing, more than 10 times the \d+ that are there"):
        fill_no_trade(thinned(200, 0.95))
    time = np.datetime64("1970-01-01", "ns") + np.arange(1_000_000) * np.timedelta64(11 * 60, "s")
    price = np.ones(len(time))
    sparse = Bars(time, price, price, price, price, price, step=np.timedelta64(60, "s"))
    with pytest.raises(DataError, match=r"9,999,990 bars would be filled in, 10,999,990 in all; at most 10,000,000 are read"):
        fill_no_trade(sparse)


def gaps_of(examined: CheckResult) -> list[str]:
    """Return the advice for gaps."""
    return [problem.advice for problem in examined.problems if problem.kind == "gaps"]


OFFERED = {
    "many short gaps": (thinned(60, 0.3), True),
    "few trades": (thinned(60, 0.6), True),
    "one gap in a hundred": (thinned(200, 0.01), True),
    "an outage of a week": (bars_at(without(hourly("2024-01-01", 60), "2024-02-01", "2024-02-08")), False),
    "a dozen outages in a year": (thinned(365, 0.0015), False),
    "gaps in one month of ten": (bars_at(np.concatenate([thinned(30, 0.3).time, hourly("2024-01-31", 300)])), False),
    "fewer than one bar in ten": (thinned(200, 0.95), False),
}


@pytest.mark.parametrize("name", OFFERED)
def test_filling_is_offered_only_where_the_file_looks_like_it(name: str, tmp_path: Path) -> None:
    """If it fails, an outage is offered to be filled, or a file without its quiet hours is not explained."""
    bars, is_offered = OFFERED[name]
    (advice,) = gaps_of(check_table(written(bars, tmp_path / "a.csv")))
    assert ("--fill-no-trade --output NEW.csv" in advice) == is_offered
    if is_offered:
        assert f"{sum(gap.missing for gap in bars.gaps):,} flat bars" in advice
        assert "cannot be distinguished" in advice


def test_a_source_with_bars_of_volume_0_does_not_leave_them_out(tmp_path: Path) -> None:
    """If it fails, gaps of a source that has bars without trades are explained as times without trades."""
    frame = thinned(60, 0.3).frame()
    for rows, is_offered in ((slice(5, 6), True), (slice(None, None, 20), False)):
        frame.iloc[rows, 4] = 0.0
        frame.to_csv(tmp_path / "a.csv", date_format="%Y-%m-%dT%H:%M:%SZ")
        assert ("--fill-no-trade" in gaps_of(check_table(tmp_path / "a.csv"))[0]) == is_offered


def test_the_command(tmp_path: Path, command: Command) -> None:
    """If it fails, the new file is not the filled bars, a filled bar is not listed, or the old file is changed."""
    bars = thinned(40, 0.3)
    file = written(bars, tmp_path / "a.csv")
    before = file.read_bytes()
    code, out, err = command("data", "check", file, "--fill-no-trade", "-o", tmp_path / "new.csv")
    filled = fill_no_trade(bars)
    assert (code, err, file.read_bytes()) == (0, "", before)
    assert f"{filled.filled:,} bars filled in, flat at the previous close, volume 0" in " ".join(out.split())
    assert read_bars(tmp_path / "new.csv").digest == filled.bars.digest
    lines = (tmp_path / "new.csv.changes.txt").read_text().splitlines()
    assert lines[0] == "a.csv, CSV: --fill-no-trade"
    assert [line for line in lines if line.startswith("filled in: ")] == list(filled.lines())


def test_the_command_with_fixes(tmp_path: Path, command: Command) -> None:
    """If it fails, a file with other faults cannot be filled, or is filled before its faults are fixed."""
    frame = thinned(40, 0.3).frame()
    pd.concat([frame, frame.iloc[[7]]]).to_csv(tmp_path / "a.csv", date_format="%Y-%m-%dT%H:%M:%SZ")
    code, _, err = command("data", "check", tmp_path / "a.csv", "--fill-no-trade", "-o", tmp_path / "new.csv")
    assert code == 1
    assert not (tmp_path / "new.csv").exists()
    options = ("--fix", "sort,drop-duplicates", "--fill-no-trade", "-o", tmp_path / "new.csv", "--json")
    code, out, err = command("data", "check", tmp_path / "a.csv", *options)
    values = json.loads(out)
    filled = fill_no_trade(bars_at(frame.index.tz_localize(None).to_numpy()))
    assert (code, err, values["filled"], values["longest_filled_run"]) == (0, "", filled.filled, filled.longest)
    assert values["bars"] == len(filled.bars)


def test_filling_needs_a_new_file(tmp_path: Path, command: Command) -> None:
    """If it fails, --fill-no-trade without --output passes as a plain check."""
    code, _, err = command("data", "check", written(thinned(40, 0.3), tmp_path / "a.csv"), "--fill-no-trade")
    assert code == 2
    assert "--fill-no-trade go together with --output" in err
