"""Resampling bars of markets that close, against pandas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from closing_markets import bars_at, forex, shares, without

from flagbt.data.bars import Bars
from flagbt.data.readers import read_bars
from flagbt.data.resample import ResampleResult, resample, timeframe
from flagbt.errors import DataError

Command = Callable[..., tuple[int, str, str]]
RULES = {"1d": "D", "4h": "4h", "1w": "W-MON"}
AGGREGATES = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


def check_by_pandas(bars: Bars, step: str, result: ResampleResult) -> None:
    """Compare every bucket with pandas' own: those that are kept are equal, and none is lost without a word."""
    buckets = bars.frame().resample(RULES[step], label="left", closed="left").agg(AGGREGATES).dropna()
    kept = result.bars.frame()
    pd.testing.assert_frame_equal(kept, buckets.loc[kept.index], check_freq=False, check_names=False)
    lost = buckets.index.difference(kept.index).tz_localize(None)
    assert lost.tolist() == [pd.Timestamp(each.time) for each in result.dropped]


def text_of(buckets: list) -> list[str]:
    """Return buckets as text."""
    return [f"{str(each.time)[:13]} {each.there}/{each.of}" for each in buckets]


SHARES = shares("2023-01-02", 152, 60, hours=("09:30-16:00",))
CASES = {
    "shares, off the hour, to days": (SHARES, "1d", [], []),
    "shares to weeks": (SHARES, "1w", [], []),
    "a holiday of shares": (without(SHARES, "2023-01-16", "2023-01-17"), "1w", [], ["2023-01-16T00 28/35"]),
    "a holiday of shares, to days": (without(SHARES, "2023-01-16", "2023-01-17"), "1d", [], []),
    "a half day of shares": (without(SHARES, "2023-01-25T19", "2023-01-26"), "1d", ["2023-01-25T00 5/7"], []),
    "an outage within a week": (without(SHARES, "2023-02-22T16", "2023-02-22T18"), "1w", ["2023-02-20T00 33/35"], []),
    "forex to days, through a change of the clock": (forex("2023-01-02", 20), "1d", [], []),
    "forex to four hours": (forex("2023-01-02", 20), "4h", [], []),
    "a holiday of forex, to days": (
        without(forex("2023-01-02", 20), "2023-02-19T22", "2023-02-20T22"),
        "1d",
        ["2023-02-20T00 2/24"],
        [],
    ),
    "a holiday of forex, to weeks": (
        without(forex("2023-01-02", 20), "2023-02-19T22", "2023-02-20T22"),
        "1w",
        [],
        ["2023-02-13T00 118/120", "2023-02-20T00 98/120"],
    ),
    "forex from the middle of a day": (
        forex("2023-01-02", 20)[15:-30],
        "1d",
        ["2023-01-02T00 9/24", "2023-05-18T00 18/24"],
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_markets_that_close(name: str) -> None:
    """If it fails, days with a closing hour or weeks with a holiday are lost, or buckets with missing bars are kept."""
    time, step, dropped, without_days = CASES[name]
    bars = bars_at(time)
    result = resample(bars, timeframe(step))
    assert (text_of(result.dropped), text_of(result.without_days)) == (dropped, without_days)
    assert result.buckets == len(result.bars) + len(dropped)
    check_by_pandas(bars, step, result)


def test_a_bar_in_two_buckets_is_refused() -> None:
    """If it fails, a bar from 15:30 to 16:30 counts as one of the four hours to 16:00."""
    with pytest.raises(DataError, match="the bar of 2023-01-02T15:30:00Z lies in two buckets.*or give a longer timeframe"):
        resample(bars_at(SHARES), timeframe("4h"))


def test_stated_hours_complete_a_bucket() -> None:
    """If it fails, a file that is too short to show its hours cannot be resampled."""
    two_weeks = forex("2023-05-01", 2)
    assert text_of(resample(bars_at(two_weeks), timeframe("1d")).dropped) == [
        "2023-05-05T00 21/24",
        "2023-05-07T00 3/24",
        "2023-05-12T00 21/24",
        "2023-05-14T00 3/24",
    ]
    assert resample(bars_at(two_weeks, "Fri 21:00-Sun 21:00"), timeframe("1d")).dropped == []


def test_a_part_of_bars_is_resampled_by_the_hours_of_the_whole() -> None:
    """If it fails, the result depends on how many weeks a part has."""
    bars = bars_at(SHARES)
    part = bars.take(slice(70, 140))
    assert resample(part, timeframe("1d")).dropped == []


def test_real_daily_bars_of_shares(shared_data: Path) -> None:
    """If it fails, weeks of a real file of shares are lost."""
    path = shared_data.parent / "failing" / "goog_daily_gaps.csv"
    if not path.is_file():
        pytest.skip("needs the real bars of shares, which are not part of this repository")
    bars = read_bars(path)
    assert (bars.market_hours.text, bars.gaps, len(bars.days_without_bars)) == ("Sat-Sun", [], 5)
    result = resample(bars, timeframe("1w"))
    check_by_pandas(bars, "1w", result)
    assert (result.buckets, text_of(result.dropped)[0]) == (32, "2004-08-16T00 2/5")


def test_the_command_reports_what_it_kept(tmp_path: Path, command: Command) -> None:
    """If it fails, the user cannot see how many buckets are lost, or that a week is kept without its holiday."""
    bars = bars_at(without(SHARES, "2023-01-16", "2023-01-17")[3:])
    bars.frame().to_csv(tmp_path / "a.csv", date_format="%Y-%m-%dT%H:%M:%SZ")
    code, out, _ = command("data", "resample", tmp_path / "a.csv", "--timeframe", "1w", "-o", tmp_path / "week.csv")
    assert code == 0
    assert "left out: the bucket of 2023-01-02T00:00:00Z, with 32 of its 35 bars" in out
    assert "kept without whole days: the bucket of 2023-01-16T00:00:00Z, with 28 of its 35 bars" in out
    assert "closed each week (UTC), so not missing: 20:30-13:30, Sat-Sun; in other weeks 21:30-14:30, Sat-Sun" in " ".join(
        out.split()
    )
    assert "21 of 22 buckets of 1w written" in out
    code, out, _ = command("data", "resample", tmp_path / "a.csv", "--timeframe", "1w", "-o", tmp_path / "w.csv", "--json")
    values = json.loads(out)
    assert (values["bars"], values["buckets"], len(values["dropped"])) == (21, 22, 1)
    assert values["without_days"] == [{"time": "2023-01-16T00:00:00Z", "there": 28, "of": 35}]
    assert np.array_equal(read_bars(tmp_path / "week.csv").close, read_bars(tmp_path / "w.csv").close)
