"""Markets that close: which missing bars are closed hours, days without bars, or gaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from closing_markets import bars_at, forex, hourly, shares, without

from flagbt.arrays import TimeArray
from flagbt.data.bars import HOUR
from flagbt.data.check import check_table
from flagbt.data.market_hours import missing_runs, stated_hours, weekly_text
from flagbt.data.reading import Reading
from flagbt.data.recognised_hours import recognised_hours
from flagbt.errors import DataError, UsageError

MINUTE = np.timedelta64(60, "s")
DAY = np.timedelta64(1, "D")
US_SHARES = shares("2022-01-03", 728, 60, hours=("09:30-16:00",))
MARKETS = {
    "shares by the day": (hourly("2020-01-01", 400)[::24][np.arange(400) % 7 < 5], "Mon-Tue"),
    "forex through both changes of the clock": (
        forex("2022-01-03", 104),
        "Fri 21:00-Sun 21:00; in other weeks Fri 22:00-Sun 22:00",
    ),
    "shares by the hour, off the hour": (US_SHARES, "20:30-13:30, Sat-Sun; in other weeks 21:30-14:30, Sat-Sun"),
    "a month across a change of the clock": (
        shares("2023-03-01", 31, 60, hours=("09:30-16:00",)),
        "20:30-13:30, Sat-Sun; in other weeks 21:30-14:30, Sat-Sun",
    ),
    "a lunch break by the minute": (
        shares("2023-01-02", 60, 1, zone="Asia/Tokyo", hours=("09:00-11:30", "12:30-15:00")),
        "02:30-03:30, 06:00-00:00, Sat-Sun",
    ),
    "an hour of each day, in a file that starts shortly before a change of the clock": (
        shares("2022-01-31", 200, 60, zone="America/Chicago", hours=("00:00-16:00", "17:00-23:00")),
        "04:00-05:00, 21:00-22:00, Sat 04:00-Mon 05:00; in other weeks 05:00-06:00, 22:00-23:00, Sat 05:00-Mon 06:00",
    ),
    "three weeks of forex": (forex("2023-05-01", 3), "Fri 21:00-Sun 21:00"),
}


@pytest.mark.parametrize("name", MARKETS)
def test_closed_hours_are_recognised(name: str) -> None:
    """If it fails, every night and weekend of a market that closes is reported as a gap."""
    time, text = MARKETS[name]
    bars = bars_at(time)
    assert bars.market_hours.text == text
    assert (bars.gaps, bars.days_without_bars) == ([], [])
    assert not bars.market_hours.is_closed(bars.time).any()


def random_outages(time: TimeArray, share: float, seed: int) -> TimeArray:
    """Return the times without a random share of them."""
    kept = np.random.default_rng(seed).random(len(time)) >= share
    return time[kept | (np.arange(len(time)) == 0)]


NEVER_CLOSE = {
    "one outage on a Saturday, two weeks": without(hourly("2024-01-01", 14), "2024-01-06T00", "2024-01-07T00"),
    "outages on two Saturdays, two months": without(
        without(hourly("2024-01-01", 60), "2024-01-06T00", "2024-01-07T00"), "2024-01-13T00", "2024-01-14T00"
    ),
    "a month of outage": without(hourly("2024-01-01", 200), "2024-03-02T07", "2024-04-04T11"),
    **{
        f"{share:.0%} of the hours, {days} days": random_outages(hourly("2024-01-01", days), share, seed=days)
        for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9)
        for days in (24, 60, 400)
    },
}


@pytest.mark.parametrize("name", NEVER_CLOSE)
def test_gaps_of_a_market_that_never_closes_stay_gaps(name: str) -> None:
    """If it fails, an outage, or hours without trades, are taken for closed hours, and missing bars are not reported."""
    time = NEVER_CLOSE[name]
    bars = bars_at(time, step=HOUR)
    steps = np.diff(time) // HOUR
    assert bars.market_hours.text == ""
    assert [gap.missing for gap in bars.gaps] == (steps[steps > 1] - 1).tolist()
    assert bars.days_without_bars == []
    assert bars.hours_json() == {}


@pytest.mark.parametrize("seed", range(60))
def test_random_markets_with_outages_and_holidays(seed: int) -> None:
    """If it fails, closed hours contain a bar, or outages are lost among them, or holidays are reported as gaps."""
    random = np.random.default_rng(seed)
    step = int(random.choice([15, 30, 60, 120]))
    per_day, weeks = 1440 // step, int(random.integers(4, 60))
    # 1. A weekly pattern: a weekend of one to three days, and in half of the markets a night
    week = np.ones((7, per_day), dtype=bool)
    week[(random.integers(7) + np.arange(random.integers(1, 4))) % 7] = False
    if random.random() < 0.5:
        night = (random.integers(per_day) + np.arange(random.integers(2, per_day - 5))) % per_day
        week[:, night] = False
    open_ = np.tile(week.ravel(), weeks)
    there = open_.copy()
    # 2. Outages inside of sessions, at least two hours from closed hours and from each other; whole sessions as holidays
    change = np.flatnonzero(np.diff(np.concatenate([[False], open_, [False]]).astype(np.int8)))
    expected_gaps, holidays, free, usual = [], 0, 120 // step, np.median(change[1::2] - change[::2])
    for start, stop in zip(change[::2].tolist(), change[1::2].tolist(), strict=True):
        length = min(int(random.integers(1, 4)), stop - start - 2 * free - 1)
        if length > 0 and random.random() < 0.1:
            at = int(random.integers(start + free, stop - free - length))
            there[at : at + length] = False
            expected_gaps.append(length)
        elif random.random() < 0.02 and change[1] < start < stop < change[-2] and usual / 2 <= stop - start <= 2 * per_day:
            there[start:stop] = False
            holidays += 1
    time = np.datetime64("2024-01-01", "ns") + np.flatnonzero(there) * (step * MINUTE)
    bars = bars_at(time, step=step * MINUTE)
    assert bars.market_hours.text != ""
    assert not bars.market_hours.is_closed(bars.time).any()
    assert [gap.missing for gap in bars.gaps] == expected_gaps
    assert bool(bars.days_without_bars) == bool(holidays)


def test_a_part_keeps_the_hours_of_the_whole() -> None:
    """If it fails, a run on a week of shares reports each night as a gap."""
    bars = bars_at(without(US_SHARES, "2022-06-15T16", "2022-06-15T18"))
    part = bars.take(slice(bars.position_of(np.datetime64("2022-06-13")), bars.position_of(np.datetime64("2022-06-18"))))
    assert [gap.missing for gap in part.gaps] == [2]
    assert [gap.missing for gap in bars_at(part.time).gaps] == [17, 17, 2, 17, 17]


def test_a_holiday_is_not_a_gap_and_a_half_day_is() -> None:
    """If it fails, holidays are reported as gaps of the exchange, or missing bars within a session are not."""
    time = without(without(US_SHARES, "2023-07-03T17", "2023-07-05"), "2023-07-28T17", "2023-07-29")
    bars = bars_at(time)
    assert [(str(each.first)[:16], each.days) for each in bars.days_without_bars] == [("2023-07-03T17:30", 1)]
    assert [gap.missing for gap in bars.gaps] == [3]
    assert bars.missing.days_text == "1 further day without bars: holidays, or missing; first 2023-07-03"


def test_a_hole_of_a_month_is_a_gap_in_a_market_that_closes() -> None:
    """If it fails, a file that lacks a month is described as one with holidays."""
    bars = bars_at(without(forex("2022-01-03", 52), "2022-05-02", "2022-05-30"))
    assert [gap.missing for gap in bars.gaps] == [4 * 120]
    assert bars.days_without_bars == []


STATED = {
    "Sat-Sun": 48,
    "sat": 24,
    "Saturday - Sunday": 48,
    "Fri 22:00-Sun 22:00": 48,
    "Sun-Mon": 48,
    "21:00-13:30": 7 * 16,
    "Fri 22:00-Sun 22:00, 21:00-22:00": 48 + 5,
    "00:00-24:00": None,
    "Mon-Sun": None,
    "Fri 25:00-Sun 22:00": None,
    "Fri 22:00": None,
    "Sun 24:00-Mon 00:00": None,
    "Fri 22:00-Fri 22:00": None,
    "Fri 22:00-Fri 21:00": 167,
    "24:00-01:00": 7,
    "Sat 24:00-Sun 24:00": 24,
    "Fri-Sun 22:00": None,
    "Fri 22:00-22:00": None,
    "": None,
    ",": None,
    "weekend": None,
    "Sat-Sun-Mon": None,
    "22:00-22:00": None,
}


@pytest.mark.parametrize("text", STATED)
def test_stated_hours(text: str) -> None:
    """If it fails, stated hours close other bars than a reader of the text expects, or nonsense is accepted."""
    time = hourly("2024-01-01", 21)
    if STATED[text] is None:
        with pytest.raises(UsageError, match="--closed-hours"):
            stated_hours(text, time, HOUR)
        return
    hours = stated_hours(text, time, HOUR)
    assert int(hours.is_closed(time).sum()) == 3 * STATED[text]
    assert hours.closed_bars(time[:1], time[-1:] + HOUR).tolist() == [3 * STATED[text]]


def test_recognised_text_can_be_stated() -> None:
    """If it fails, the pattern that flagbt reports is not one that --closed-hours accepts."""
    time = shares("2023-01-02", 60, 60, hours=("09:30-16:00",))
    hours = recognised_hours(time, HOUR)
    again = stated_hours(hours.text, time, HOUR)
    assert hours.text == "21:30-14:30, Sat-Sun"
    assert missing_runs(time, HOUR, again).missing.tolist() == []


def test_a_daily_bar_is_closed_only_as_a_whole() -> None:
    """If it fails, stating the weekend of forex to the hour removes Friday's or Sunday's daily bar."""
    days = np.datetime64("2024-01-01", "ns") + np.arange(21) * DAY
    closed = stated_hours("Fri 22:00-Sun 22:00", days, DAY).is_closed(days)
    assert [str(each)[:10] for each in days[closed]] == ["2024-01-06", "2024-01-13", "2024-01-20"]


def test_bars_in_stated_hours_are_refused() -> None:
    """If it fails, a file in another time zone passes with closed hours that contradict it."""
    with pytest.raises(
        DataError, match=r"bar 119 opens at 2024-01-05T22:00:00Z, a Fri, .*Fri 22:00-Sun 22:00 \(96 such bars\)"
    ):
        bars_at(hourly("2024-01-01", 14), "Fri 22:00-Sun 22:00")


def test_stated_hours_replace_what_the_file_shows() -> None:
    """If it fails, a short file's weekend stays a gap though it was stated, or stated hours are mixed with others."""
    assert len(bars_at(forex("2023-05-01", 2)).gaps) == 2
    assert bars_at(forex("2023-05-01", 2), "Fri 21:00-Sun 21:00").gaps == []
    assert [gap.missing for gap in bars_at(forex("2023-05-01", 4), "Fri 21:00-Sun 20:00").gaps] == [1, 1, 1, 1]


def test_the_text_of_a_pattern() -> None:
    """If it fails, the reported closed hours are not those of the pattern."""
    week = np.zeros(168, dtype=bool)
    week[5 * 24 + 6 :] = True
    week[:8] = True
    assert weekly_text(week) == "Sat 06:00-Mon 08:00"
    assert weekly_text(np.roll(week, 1)) == "Sat 07:00-Mon 09:00"
    assert weekly_text(week, phase_minutes=30) == "Sat 06:30-Mon 08:30"
    assert weekly_text(np.arange(168) % 72 == 22) == "Mon 22:00-Mon 23:00, Thu 22:00-Thu 23:00, Sun 22:00-Sun 23:00"
    assert weekly_text(np.zeros(168, dtype=bool)) == ""


def test_commands_report_the_hours(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """If it fails, a user cannot see which hours were taken for closed, or the check lists weekends as gaps."""
    time = without(without(forex("2023-01-02", 20), "2023-02-15T10", "2023-02-15T12"), "2023-02-19T22", "2023-02-20T22")
    file = tmp_path / "eurusd.csv"
    bars_at(time).frame().to_csv(file, date_format="%Y-%m-%dT%H:%M:%SZ")
    for arguments in (("data", "info", "--data", file), ("data", "check", file)):
        code, out, _ = command(*arguments, "--json")
        values = json.loads(out)
        assert code == 0
        assert values["closed_hours"] == "Fri 21:00-Sun 21:00; in other weeks Fri 22:00-Sun 22:00"
        assert [gap["missing"] for gap in values["gaps"]] == [2]
        assert [(each["first"], each["days"]) for each in values["days_without_bars"]] == [("2023-02-19T22:00:00Z", 1)]
        code, out, _ = command(*arguments)
        assert "1 further day without bars: holidays, or missing; first 2023-02-19" in " ".join(out.split())
    (problem,) = [each for each in check_table(file).problems if each.kind == "gaps"]
    assert (problem.count, problem.message.split(";")[0]) == (
        1,
        "2 bars are missing outside of the closed hours (Fri 21:00-Sun 21:00",
    )


def test_the_check_and_a_run_use_stated_hours(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """If it fails, --closed-hours is read and not used, or a file that contradicts it is accepted."""
    file = tmp_path / "eurusd.csv"
    bars_at(forex("2023-05-01", 2)).frame().to_csv(file, date_format="%Y-%m-%dT%H:%M:%SZ")
    assert [each.kind for each in check_table(file).problems] == ["gaps"]
    assert check_table(file, Reading(closed_hours="Fri 21:00-Sun 21:00")).problems == ()
    (refused,) = [each for each in check_table(file, Reading(closed_hours="Mon")).problems if each.remedy.refused]
    assert "a Mon, in the stated closed hours Mon (48 such bars)" in refused.message
    data = ("--data", file, "--closed-hours", "Fri 21:00-Sun 21:00", "--out", tmp_path / "runs")
    code, _, err = command(
        "run", "--strategy", "sma-cross", "--param", "fast_bars=3", "--param", "slow_bars=9", *data, "--json"
    )
    assert code == 0, err
    page = next((tmp_path / "runs").glob("*/tearsheet.html")).read_text(encoding="utf-8")
    assert "<dt>Closed each week, UTC</dt><dd>Fri 21:00-Sun 21:00</dd>" in page
    recorded = json.loads(next((tmp_path / "runs").glob("*/run.json")).read_text())["data"]
    assert (recorded["gaps"], recorded["missing_bars"], recorded["closed_hours"]) == (0, 0, "Fri 21:00-Sun 21:00")
