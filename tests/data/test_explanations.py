"""What explains many faults at once: no fix is offered that would make a wrong file of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flagbt.data.bars import COLUMNS, Bars
from flagbt.data.check import CheckResult, check_table
from flagbt.data.formats.likely_names import likely_name
from flagbt.data.readers import bars_of_file
from flagbt.data.reading import Reading
from flagbt.data.repair import repair
from flagbt.errors import DataError, FlagbtError

Walk = Callable[..., Bars]
Command = Callable[..., tuple[int, str, str]]


def put(folder: Path, frame: pd.DataFrame, name: str = "bars.csv") -> Path:
    """Write a frame with a column ``time`` as a file."""
    path = folder / name
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def frame(walk: Walk) -> pd.DataFrame:
    """Return 200 hourly bars with naive times."""
    bars = walk(200)
    table = {"time": pd.DatetimeIndex(bars.time), **{name: getattr(bars, name) for name in COLUMNS}}
    return pd.DataFrame(table)


def explanations(examined: CheckResult) -> dict[str, str]:
    """Return the explained kinds of problems with their explanations."""
    return {each.kind: str(each.explanation) for each in examined.problems if each.explanation}


def check_explained(path: Path, kind: str, *texts: str) -> None:
    """Check that a file's problem is explained in both readings, and that no fix is offered."""
    examined = check_table(path)
    found = explanations(examined)
    assert kind in found, examined.problems
    for text in texts:
        assert text in found[kind]
    assert examined.bars is None
    assert examined.offer is None
    assert not any(each.offered for each in examined.problems)
    with pytest.raises(DataError) as refusal:
        bars_of_file(path)
    for text in texts:
        assert text in str(refusal.value)
    assert "lists all such bars and their fixes" not in str(refusal.value)


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [0, 3])
def test_ticks_are_called_ticks(tmp_path: Path, places: int) -> None:
    """Single trades would be called bars off a grid of 0 seconds, and most of them left out."""
    random = np.random.default_rng(places)
    apart = np.cumsum(np.round(random.exponential(3, 300), places) + 10.0**-places)
    price = np.round(100 + np.cumsum(random.normal(0, 0.1, 300)), 2)
    time = pd.Timestamp("2024-03-05 14:30:00.25") + pd.to_timedelta(apart, unit="s")
    columns = {"time": time.strftime("%Y-%m-%dT%H:%M:%S.%f"), **dict.fromkeys(COLUMNS[:4], price), "volume": 1}
    path = put(tmp_path, pd.DataFrame(columns))
    check_explained(path, "off-grid", "ticks (single trades), not bars", "Aggregate them")
    assert "gaps" not in {each.kind for each in check_table(path).problems}


@pytest.mark.parametrize(("rule", "name"), [("MS", "monthly"), ("ME", "monthly"), ("QS", "quarterly"), ("YS", "yearly")])
def test_bars_of_the_calendar_are_called_so(tmp_path: Path, frame: pd.DataFrame, rule: str, name: str) -> None:
    """Monthly bars would be called bars off a grid of 2,678,400 seconds, and half of them left out."""
    part = frame.iloc[:40].assign(time=pd.date_range("1990-01-01", periods=40, freq=rule))
    check_explained(put(tmp_path, part), "off-grid", f"these are {name} bars".capitalize(), "fetch daily or weekly bars")


def test_some_stamps_of_the_ends_of_bars(tmp_path: Path, frame: pd.DataFrame) -> None:
    """The only bar with a whole hour would be kept, and all others left out."""
    time = frame["time"] + pd.Timedelta("59min59.999s")
    time[7] = frame["time"][8]
    path = put(tmp_path, frame.assign(time=time.dt.strftime("%Y-%m-%d %H:%M:%S.%f")))
    check_explained(path, "off-grid", "199 of 200", "line 9", "Write the times of all rows as those when the bars open")


@pytest.mark.parametrize("is_stacked", [True, False])
def test_two_markets_without_a_symbol(tmp_path: Path, frame: pd.DataFrame, walk: Walk, *, is_stacked: bool) -> None:
    """Two markets would be sorted into one series, or one of them would be chosen bar by bar."""
    other = frame.copy()
    other[list(COLUMNS[:4])] /= 17
    both = pd.concat([frame, other])
    path = put(tmp_path, both if is_stacked else both.sort_values("time", kind="stable"))
    check_explained(path, "disagreeing", "two markets in one file", "200 of 200 times occur more than once", "factor of 17")
    if is_stacked:
        check_explained(path, "out-of-order", "the times start again at line 202")


def test_times_without_their_time_of_day(tmp_path: Path, frame: pd.DataFrame) -> None:
    """One bar of each day would be kept as the day's."""
    path = put(tmp_path, frame.assign(time=frame["time"].dt.date, clock=frame["time"].dt.hour))
    check_explained(path, "disagreeing", "the times are coarser than the bars".capitalize(), "--columns time=0+1")


@pytest.mark.parametrize("long", [70, 130])
def test_two_lengths_in_one_file(tmp_path: Path, frame: pd.DataFrame, long: int) -> None:
    """Every twelfth bar of five minutes would be kept as one of an hour, or hours be read as five minutes."""
    hours = pd.date_range("2024-01-01", periods=long, freq="h")
    time = hours.append(pd.date_range(hours[-1] + pd.Timedelta("1h"), periods=200 - long, freq="5min"))
    path = put(tmp_path, frame.assign(time=time))
    if long > 100:
        check_explained(path, "off-grid", "two lengths in one file", "3,600 seconds", "300 seconds", "flagbt data resample")
    else:
        assert "two lengths in one file" in explanations(check_table(path))["gaps"]


def test_the_same_market_twice_is_not_two(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Two downloads of one market that overlap would be called two markets, and the fix be withheld."""
    later = frame.iloc[150:].assign(volume=frame["volume"] * 1.01)
    examined = check_table(put(tmp_path, pd.concat([frame, later])))
    assert explanations(examined) == {}
    assert examined.offer is not None
    assert len(repair(examined, examined.offer.fixes).bars) == 200


@pytest.mark.parametrize(
    ("zone", "change"),
    [("America/New_York", "2024-11-03 06:00"), ("Europe/Berlin", "2024-10-27 01:00"), ("Australia/Sydney", "2024-04-06 16:00")],
)
@pytest.mark.parametrize("minutes", [60, 15])
def test_an_hour_twice_in_autumn(tmp_path: Path, frame: pd.DataFrame, zone: str, change: str, minutes: int) -> None:
    """One of two different hours would be chosen, and all others stay shifted from UTC."""
    utc = pd.date_range(pd.Timestamp(change) - 100 * pd.Timedelta(minutes=minutes), periods=200, freq=f"{minutes}min")
    path = put(tmp_path, frame.assign(time=utc.tz_localize("UTC").tz_convert(zone).tz_localize(None)))
    check_explained(path, "disagreeing", "look like local times", "there twice", f"--time-zone {zone}")
    assert all(each.explanation for each in check_table(path).problems)
    shifted = put(tmp_path, frame.assign(time=utc.tz_localize("UTC")), "stated.csv")
    assert explanations(check_table(shifted)) == {}


@pytest.mark.parametrize("rule", ["4h", "1D"])
def test_longer_bars_in_local_time(tmp_path: Path, frame: pd.DataFrame, rule: str) -> None:
    """Half of the bars would be left out as off the grid, since clocks changed."""
    utc = pd.date_range("2024-02-20", periods=200, freq=rule, tz="UTC")
    local = frame.assign(time=utc.tz_convert("America/New_York").tz_localize(None))
    check_explained(put(tmp_path, local), "off-grid", "look like local times", "--time-zone America/New_York (or")
    assert explanations(check_table(put(tmp_path, frame.assign(time=utc), "utc.csv"))) == {}


def test_days_that_begin_at_a_local_hour(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Daily bars that begin in the afternoon of New York, as in forex, would lose the half of a year."""
    days = pd.date_range("2024-02-20 17:00", periods=200, freq="1D", tz="America/New_York")
    path = put(tmp_path, frame.assign(time=[str(day) for day in days]))
    check_explained(path, "off-grid", "in the local time of America/New_York", "local dates without an offset")


def test_the_moments_when_bars_were_stored(tmp_path: Path, frame: pd.DataFrame) -> None:
    """All bars but those that were stored in the commonest second would be left out."""
    random = np.random.default_rng(0)
    late = pd.to_timedelta(np.round(random.uniform(0.2, 40, 200), 3), unit="s")
    path = put(tmp_path, frame.assign(time=frame["time"] + late))
    check_explained(path, "off-grid", "up to 39.", "whole steps of 3,600 seconds", "Write the times when the bars open")


def test_an_hour_missing_in_spring_may_be_local_time(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Bars that are shifted by hours would be read as UTC without a hint."""
    utc = pd.date_range("2024-03-08", periods=200, freq="h", tz="UTC")
    path = put(tmp_path, frame.assign(time=utc.tz_convert("America/Chicago").tz_localize(None)))
    examined = check_table(path)
    assert "--time-zone America/New_York (or America/Chicago or" in explanations(examined)["gaps"]
    assert examined.bars is not None


def test_another_hour_twice_is_not_local_time(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Any repeated bar would be explained by clocks, and no fix be offered."""
    again = pd.concat([frame.iloc[:50], frame.iloc[20:21].assign(volume=1), frame.iloc[50:]])
    assert explanations(check_table(put(tmp_path, again))) == {}


def test_a_few_faults_are_not_explained(tmp_path: Path, frame: pd.DataFrame) -> None:
    """One shifted bar in a good file would be called ticks, and the fix be withheld."""
    time = frame["time"].copy()
    time[20] += pd.Timedelta("7min")
    examined = check_table(put(tmp_path, frame.assign(time=time)))
    assert explanations(examined) == {}
    assert examined.problems[0].kind == "off-grid"
    assert [step.fix for step in examined.problems[0].offered] == ["drop-off-grid"]


# --- values ----------------------------------------------------------------------------------------------------------


def test_a_volume_among_the_prices(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Nearly all bars would be left out, or fetched again as they are, where the columns have the names of others."""
    others = frame.rename(columns={"volume": "open", "open": "high", "high": "low", "low": "close", "close": "volume"})
    path = put(tmp_path, others.assign(open=others["high"] * np.resize([0.01, 100], len(others))))
    check_explained(path, "impossible", "not the prices of bars", "200 of 200 bars are impossible", "columns")


@pytest.mark.parametrize(
    "order", [("low", "high", "open", "close"), ("open", "close", "high", "low"), ("close", "open", "low", "high")]
)
def test_another_order_of_the_prices(tmp_path: Path, frame: pd.DataFrame, order: tuple[str, ...]) -> None:
    """The few bars that are possible in a wrong order would be kept as a series."""
    wrong = {role: frame[name] for role, name in zip(COLUMNS[:4], order, strict=True)}
    path = put(tmp_path, frame.assign(**wrong))
    check_explained(path, "impossible", f"read as {', '.join(order)}, 200 of 200 bars are possible", "--columns time=0,")
    option = str(check_table(path).problems[0].explanation).partition("--columns ")[2].removesuffix(".")
    right = bars_of_file(put(tmp_path, frame, "right.csv"))
    assert bars_of_file(path, Reading(columns=option)).digest == right.digest


def test_no_volumes_at_all(tmp_path: Path, frame: pd.DataFrame) -> None:
    """An index or forex without volumes would be reported as 200 bars without trades."""
    examined = check_table(put(tmp_path, frame.assign(volume=0)))
    assert "the file has no volumes" in explanations(examined)["zero-volume"].lower()
    assert examined.bars is not None


def test_prices_that_stay_at_another_level(tmp_path: Path, frame: pd.DataFrame) -> None:
    """A split, or another market below the first one, would be reported as a wrong price whose line is to be removed."""
    split = frame.copy()
    split.loc[120:, list(COLUMNS[:4])] /= 4
    (problem,) = check_table(put(tmp_path, split)).problems
    assert (problem.kind, problem.count) == ("jumps", 1)
    assert "from line 122 on they are 0.2" in problem.advice
    assert "adjusted for splits" in problem.advice
    spike = frame.copy()
    spike.loc[120, list(COLUMNS[:4])] /= 4
    assert explanations(check_table(put(tmp_path, spike))) == {}


# --- what fixes would do ---------------------------------------------------------------------------------------------


def test_most_rows_have_the_same_fault(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Leaving out all rows would be offered where the form of the file is the fault."""
    path = put(tmp_path, frame.assign(time=frame["time"].dt.strftime("%d %b %Y, %H h")))
    examined = check_table(path)
    assert [each.kind for each in examined.problems] == ["damaged"]
    assert "of 200 rows have the same fault. Leaving them out would leave 0 bars" in explanations(examined)["damaged"]
    assert "--time-format" in explanations(examined)["damaged"]
    assert examined.offer is None


def test_gaps_of_bad_rows_are_not_called_times_without_trades(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Rows with blank cells would be replaced by flat bars."""
    rows = frame.astype(str)
    rows.iloc[1::3, 1] = ""
    examined = check_table(put(tmp_path, rows))
    assert [each.kind for each in examined.problems] == ["damaged", "gaps"]
    assert explanations(examined) == {}
    assert "drop-damaged would leave out 67 of 200 rows" in examined.problems[0].advice


def test_the_number_is_stated_where_many_bars_go(tmp_path: Path, frame: pd.DataFrame, command: Command) -> None:
    """A fix would leave out a third of the bars, and the user learn it afterwards."""
    random = np.random.default_rng(0)
    bad = random.choice(200, 66, replace=False)
    high = frame["high"].to_numpy().copy()
    high[bad] = -1.0
    path = put(tmp_path, frame.assign(high=high))
    code, out, _ = command("data", "check", path)
    assert code == 1
    assert "drop-impossible would leave out 66 of 200 bars" in " ".join(out.split())
    assert "without 66 of 200 rows: --fix drop-impossible --output NEW.csv" in " ".join(out.split())
    found = json.loads(command("data", "check", path, "--json")[1])
    assert found["problems"][0]["would_drop"] == {"drop-impossible": {"bars": 66, "of": 200}}
    assert found["problems"][0]["fixes"] == ["drop-impossible"]
    assert found["offer"] == {"fixes": ["drop-impossible"], "would_drop": {"bars": 66, "of": 200}, "bars": 134}


def test_an_explained_fix_is_applied_by_name(tmp_path: Path, frame: pd.DataFrame) -> None:
    """A user who knows better could not choose a fix that is not offered."""
    path = put(tmp_path, pd.concat([frame, frame.assign(close=frame["low"], open=frame["low"], high=frame["high"] * 9)]))
    examined = check_table(path)
    assert len(repair(examined, ["sort", "keep-first"]).bars) == 200


@pytest.mark.parametrize("seed", range(40))
def test_what_is_offered_works(tmp_path: Path, frame: pd.DataFrame, seed: int) -> None:
    """An offered combination of fixes would leave a file that is still refused, or drop more than was stated."""
    random = np.random.default_rng(seed)
    rows = frame.astype(dict.fromkeys(COLUMNS, str)).assign(time=frame["time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    for _ in range(random.integers(1, 4)):
        at = random.choice(len(rows), random.integers(1, 9), replace=False)
        match random.integers(6):
            case 0:
                rows.iloc[at, random.integers(1, 6)] = "NULL"
            case 1:
                rows.iloc[at, 2] = "0.5"
            case 2:
                rows = pd.concat([rows, rows.iloc[at]])
            case 3:
                rows = pd.concat([rows.iloc[:50], rows.iloc[at].assign(volume="7.5"), rows.iloc[50:]])
            case 4:
                rows.iloc[at, 0] = [each.replace(":00:00", ":11:00") for each in rows.iloc[at, 0]]
            case 5:
                rows = rows.iloc[random.permutation(len(rows))]
    examined = check_table(put(tmp_path, rows))
    if examined.bars is not None:
        return
    assert examined.offer is not None, examined.problems
    fixed = repair(examined, examined.offer.fixes)
    assert len(fixed.bars) == examined.offer.bars == len(rows) - examined.offer.total.left_out
    assert examined.offer.total.left_out <= sum(each.left_out for problem in examined.problems for each in problem.offered)
    for problem in examined.problems:
        for step in problem.offered:
            assert f"{step.fix} " in problem.advice
            assert not step.is_large or f"would leave out {step.left_out} of {step.of}" in problem.advice


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "names", "likely"),
    [
        ("close", ("Date", "Open", "High", "Low", "Price"), "Price"),
        ("close", ("Date", "Open", "High", "Low", "Adj Close"), "Adj Close"),
        ("close", ("Date", "Open", "High", "Low", "Settle"), "Settle"),
        ("close", ("Date", "Open", "High", "Low", "Close time"), ""),
        ("close", ("Date", "Open", "High", "Low"), ""),
        ("volume", ("Open", "Vol."), "Vol."),
        ("volume", ("Open", "<TICKVOL>"), "<TICKVOL>"),
        ("volume", ("Open", "Amount"), "Amount"),
        ("volume", ("Open", "value", "trades"), ""),
        ("time", ("Trade day date", "Open"), "Trade day date"),
        ("high", ("low", "close", "hihg"), "hihg"),
        ("low", ("open", "close", "high"), ""),
    ],
)
def test_the_likely_name(role: str, names: tuple[str, ...], likely: str) -> None:
    """Another role's column would be suggested for the one that is missing."""
    assert likely_name(role, names) == likely


def test_the_likely_name_is_in_the_message(tmp_path: Path, frame: pd.DataFrame) -> None:
    """A file whose close is called Price would get the advice to rename 'low'."""
    path = put(tmp_path, frame.rename(columns={"close": "Last price"}))
    with pytest.raises(FlagbtError, match="Did you mean 'last price'.*--columns 'close=last price'"):
        bars_of_file(path)
    assert (
        bars_of_file(path, Reading(columns="close=last price")).digest == bars_of_file(put(tmp_path, frame, "right.csv")).digest
    )


@pytest.mark.parametrize(("first", "closed"), [("2024-01-17T00", "Fri 22:00-Sun 22:00"), ("2024-01-18T00", None)])
def test_a_short_file_is_offered_the_weekend_of_its_gaps(tmp_path: Path, first: str, closed: str | None) -> None:
    """If it fails, closed hours are offered for an outage, or other hours than those of the gap."""
    time = np.datetime64(first, "ns") + np.arange(24 * 9) * np.timedelta64(1, "h")
    if closed is None:  # an outage of two days from Thursday on
        kept = (time < np.datetime64("2024-01-18T12")) | (time >= np.datetime64("2024-01-20T12"))
    else:
        kept = (time < np.datetime64("2024-01-19T22")) | (time >= np.datetime64("2024-01-21T22"))
    rows = "".join(f"{stamp},10,12,9,11,{5 + at % 7}\n" for at, stamp in enumerate(time[kept].astype(str)))
    path = tmp_path / "bars.csv"
    path.write_text(f"time,open,high,low,close,volume\n{rows}")
    gaps = next(each for each in check_table(path).problems if each.kind == "gaps")
    assert (f"--closed-hours '{closed}'" in gaps.advice) == (closed is not None), gaps.advice
    assert ("--closed-hours" in gaps.advice) == (closed is not None)
    if closed is not None:
        stated = check_table(path, Reading(closed_hours=closed))
        assert "gaps" not in [each.kind for each in stated.problems]


@pytest.mark.parametrize(
    ("first", "days", "closed"), [("2024-01-16", 3, "21:00-14:30"), ("2024-01-17", 9, "21:00-14:30, Sat-Sun")]
)
def test_a_short_file_is_offered_the_nights_of_its_gaps(tmp_path: Path, first: str, days: int, closed: str) -> None:
    """If it fails, the nights of shares are to be fetched, and such a file cannot be resampled to days."""
    time = pd.date_range(first, periods=48 * days, freq="30min")
    time = time[(time.hour * 60 + time.minute >= 870) & (time.hour < 21) & (time.day_of_week < 5)]
    rows = pd.DataFrame({"time": time, **dict(zip(COLUMNS, (10, 12, 9, 11), strict=False)), "volume": range(5, 5 + len(time))})
    path = put(tmp_path, rows)
    gaps = next(each for each in check_table(path).problems if each.kind == "gaps")
    assert f"--closed-hours '{closed}'" in gaps.advice
    assert check_table(path, Reading(closed_hours=closed)).problems == ()


@pytest.mark.parametrize("is_stacked", [True, False])
@pytest.mark.parametrize("longer_first", [True, False])
def test_two_timeframes_that_overlap(tmp_path: Path, frame: pd.DataFrame, *, is_stacked: bool, longer_first: bool) -> None:
    """If it fails, a fix is offered that replaces hours by the bars of four hours."""
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    longer = frame.set_index("time").resample("4h").agg(how).reset_index()
    both = pd.concat([longer, frame] if longer_first else [frame, longer])
    path = put(tmp_path, both if is_stacked else both.sort_values("time", kind="stable"))
    check_explained(path, "disagreeing", "bars of two lengths", "times occur twice", "Give the bars of one length")


def test_bars_that_were_fetched_twice(tmp_path: Path, frame: pd.DataFrame) -> None:
    """If it fails, bars that the source has corrected are called bars of two lengths, and no fix is offered."""
    again = frame.iloc[50:80].assign(volume=lambda part: part["volume"] * 1.5)
    examined = check_table(put(tmp_path, pd.concat([frame.iloc[:80], again, frame.iloc[80:]])))
    assert examined.offer is not None
    assert "two lengths" not in " ".join(each.advice for each in examined.problems)


def test_outages_are_not_nights(tmp_path: Path, frame: pd.DataFrame) -> None:
    """If it fails, closed hours are offered for two outages."""
    path = put(tmp_path, frame.drop(index=[*range(30, 40), *range(54, 65)]))
    assert "--closed-hours" not in next(each for each in check_table(path).problems if each.kind == "gaps").advice
