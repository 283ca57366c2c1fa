"""Local times to UTC, and stamps of the bars' ends."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagbt.arrays import TimeArray
from flagbt.data.formats.closing_stamps import are_closing, open_times
from flagbt.data.formats.table import Places
from flagbt.data.formats.time_zones import check_time_zone, to_utc
from flagbt.errors import DataError, UsageError

ZONES = (
    "America/New_York",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",  # its summer is the standard time
    "Australia/Sydney",
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # clocks change by half an hour
    "America/Havana",  # at midnight
    "UTC",
)
START = int(datetime(2019, 1, 1, tzinfo=UTC).timestamp())
HOURS = 6 * 365 * 24
NEW_YORK = "America/New_York"


def local(seconds: np.ndarray, zone: str) -> TimeArray:
    """Return the local times of epoch seconds, by Python's zoneinfo, one by one."""
    known = ZoneInfo(zone)
    naive = [datetime.fromtimestamp(each, known).replace(tzinfo=None) for each in seconds.tolist()]
    return np.array(naive, dtype="datetime64[ns]")


def instants(time: TimeArray, zone: str) -> TimeArray:
    """Return the instants of local times of a file with one line above them."""
    return to_utc(time, zone, Places("bars.csv", "line", np.arange(2, 2 + len(time))), "Date")


def is_repeated(stamp: np.datetime64, zone: str) -> bool:
    """Return whether a local time occurs twice in a zone."""
    naive = stamp.astype("datetime64[s]").item()
    first, second = (naive.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1))
    return bool(first > second)


@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    first=st.integers(0, HOURS),
    near_change=st.integers(-400, 400) | st.none(),
    minutes=st.sampled_from([1, 5, 15, 30, 60, 120, 240, 360, 720]),
    bars=st.integers(1, 2_000),
    newest_first=st.booleans(),
    missing=st.randoms(use_true_random=False),
)
def test_utc_to_local_and_back(
    zone: str, first: int, near_change: int | None, minutes: int, bars: int, newest_first: bool, missing: object
) -> None:
    """A bar of local time would be an hour off, or a good file be refused."""
    start = START + first * 3600 // (minutes * 60) * (minutes * 60)
    if near_change is not None:  # New York's clocks changed on 3 November 2024 at 06:00 UTC, Berlin's on 27 October at 01:00
        change = {"Europe/Berlin": 1_729_990_800, "Australia/Lord_Howe": 1_712_415_600}.get(zone, 1_730_613_600)
        start = (change + (near_change - bars // 2) * minutes * 60) // (minutes * 60) * (minutes * 60)
    seconds = start + np.arange(bars) * minutes * 60
    time = local(seconds, zone)
    doubtful = np.array([is_repeated(each, zone) for each in time])
    if bars > 20:  # some bars are missing, but none of a repeated hour
        kept = np.array([missing.random() > 0.1 for _ in range(bars)]) | doubtful  # type: ignore[attr-defined]
        seconds, time, doubtful = seconds[kept], time[kept], doubtful[kept]
    order = slice(None, None, -1) if newest_first else slice(None)
    refusal = ""
    try:
        assert np.array_equal(instants(time[order], zone), seconds.astype("datetime64[s]")[order])
    except DataError as error:
        refusal = str(error)
    # Only a repeated hour that a file begins or ends in has one pass alone.
    assert not refusal or ("occurs twice" in refusal and (doubtful[0] or doubtful[-1] or len(time) < 6))


def test_the_repeated_hour_oldest_and_newest_first() -> None:
    """The two passes would be exchanged, and the bars be out of order."""
    hours = np.array([4, 5, 6, 7]) * 3600 + int(datetime(2024, 11, 3, tzinfo=UTC).timestamp())
    time = local(hours, NEW_YORK)
    assert [str(each)[11:16] for each in time] == ["00:00", "01:00", "01:00", "02:00"]
    assert instants(time, NEW_YORK).astype("datetime64[s]").astype(np.int64).tolist() == hours.tolist()
    assert instants(time[::-1], NEW_YORK).astype("datetime64[s]").astype(np.int64).tolist() == hours[::-1].tolist()


REFUSED = {
    "one of two hours": (["2024-11-03T00:00", "2024-11-03T01:00", "2024-11-03T02:00"], 3, "2024-11-03 01:00:00 occurs twice"),
    "three of two": (["2024-11-03T00:00", *["2024-11-03T01:00"] * 3, "2024-11-03T02:00"], 3, "occurs twice"),
    "no other hour": (["2024-11-03T01:00"] * 3, 2, "occurs twice"),
    "only one bar": (["2024-11-03T01:30"], 2, "occurs twice"),
    "an hour that does not exist": (["2024-03-10T01:00", "2024-03-10T02:00"], 3, "2024-03-10 02:00:00 does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_times_that_no_clock_shows_once(case: str) -> None:
    """A time would be guessed, or refused without its place and value."""
    cells, line, message = REFUSED[case]
    for order in (1, -1) if case != "only one bar" else (1,):
        with pytest.raises(DataError) as caught:
            instants(np.array(cells[::order], dtype="datetime64[ns]"), NEW_YORK)
        assert message in str(caught.value)
        assert "bars.csv, line" in str(caught.value)
        assert f"line {line}," in str(caught.value) or order < 0
        assert "America/New_York" in str(caught.value)


def test_one_pass_on_the_steps_of_the_others() -> None:
    """Bars of four hours, of which one lies in the repeated hour, would be refused each autumn."""
    seconds = int(datetime(2024, 10, 26, 20, tzinfo=UTC).timestamp()) + np.arange(-5, 5) * 4 * 3600
    time = local(seconds, "Europe/Berlin")
    assert is_repeated(time[6], "Europe/Berlin")
    assert np.array_equal(instants(time, "Europe/Berlin"), seconds.astype("datetime64[s]"))


def test_blank_times_stay_blank() -> None:
    """A damaged row would get a time, or hide the order of the rows around it."""
    time = np.array(["2024-11-03T00:30", "NaT", "2024-11-03T01:30", "NaT", "2024-11-03T01:30"], dtype="datetime64[ns]")
    result = instants(time, NEW_YORK)
    assert np.isnat(result).tolist() == [False, True, False, True, False]
    assert result[[2, 4]].astype("datetime64[m]").astype(str).tolist() == ["2024-11-03T05:30", "2024-11-03T06:30"]
    assert np.isnat(instants(time[1:2], NEW_YORK)).all()
    assert len(instants(time[:0], NEW_YORK)) == 0


@pytest.mark.parametrize("zone", [NEW_YORK, "UTC+14:00", "UTC-12"])
@pytest.mark.parametrize("stamp", [-(2**63) + 1, 2**63 - 1])
def test_times_that_no_zone_can_shift(stamp: int, zone: str) -> None:
    """The last times that 64 bits hold, as in a hostile Parquet file, would be a traceback, or wrap around."""
    with pytest.raises(DataError, match=r"line 3, column 'Date'.*1678 to 2261"):
        instants(np.array([0, stamp], dtype="datetime64[ns]"), zone)


def test_a_fixed_distance() -> None:
    """The sign would be that of Etc/GMT+2, which is two hours behind UTC."""
    time = np.array(["2024-01-01T02:00"], dtype="datetime64[ns]")
    assert instants(time, "UTC+02:00").astype(str).tolist()[0].startswith("2024-01-01T00:00")
    assert instants(time, "UTC-5:30").astype(str).tolist()[0].startswith("2024-01-01T07:30")
    assert instants(time, "Etc/GMT+5").astype(str).tolist()[0].startswith("2024-01-01T07:00")


@pytest.mark.parametrize("name", ["UTC", "GMT", "EST5EDT", "Etc/GMT+5", "America/New_York", "UTC+02:00", "utc-0330", "UTC+14"])
def test_zones_that_are_known(name: str) -> None:
    """A zone of the database would be refused."""
    assert check_time_zone(name).utcoffset(datetime(2024, 1, 1)) is not None


NEAREST = {
    "America/NewYork": "'America/New_York'",
    "america/new_york": "'America/New_York'",
    "New York": "'America/New_York'",
    "EDT": "'America/New_York'",
    "PST": "'America/Los_Angeles'",
    "CEST": "'Europe/Berlin'",
    "+02:00": "'UTC+02:00'",
    "GMT+5": "'UTC+5'",
    "utc ": "'UTC'",
    "UTC+25": "America/New_York",
    "": "America/New_York",
    "localtime": "America/New_York",
    "../../etc/passwd": "America/New_York",
    "\0": "America/New_York",
    "x" * 10_000: "America/New_York",
}


@pytest.mark.parametrize("name", NEAREST)
def test_zones_that_are_not_known(name: str) -> None:
    """A typing error would be a traceback, or be read as another zone."""
    with pytest.raises(UsageError, match="^--time-zone") as caught:
        check_time_zone(name)
    assert NEAREST[name] in str(caught.value)
    assert len(str(caught.value)) < 400


# --- the ends of bars -------------------------------------------------------------------------------------------------

STEPS = [np.timedelta64(minutes, "m") for minutes in (1, 5, 60, 240, 1440, 3 * 1440, 7 * 1440)]
BEFORE = [np.timedelta64(1, unit) for unit in ("ns", "us", "ms", "s")]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("step", STEPS)
def test_stamps_of_the_ends(step: np.timedelta64, before: np.timedelta64) -> None:
    """Each bar would be read one step too late, and the model see the future."""
    opens = np.datetime64("2024-01-01", "ns") + np.arange(40) * step
    kept = np.delete(opens, [7, 8, 21])  # gaps
    ends = kept + step - before
    assert are_closing(ends)
    assert are_closing(ends[::-1])
    assert are_closing(np.insert(ends, 3, np.datetime64("NaT")))
    assert np.array_equal(open_times(ends, step), kept)
    assert np.isnat(open_times(np.insert(ends, 3, np.datetime64("NaT")), step)).tolist() == [
        at == 3 for at in range(len(ends) + 1)
    ]
    assert not are_closing(kept)


@pytest.mark.parametrize("step", STEPS)
def test_exact_ends(step: np.timedelta64) -> None:
    """Bars that are known to be stamped at their exact ends would keep them."""
    opens = np.datetime64("2024-01-01", "ns") + np.arange(9) * step
    assert np.array_equal(open_times(opens + step, step), opens)


def test_other_stamps_are_no_ends() -> None:
    """Open times, ticks or a file with one odd bar would be moved by a step."""
    hour = np.timedelta64(1, "h")
    ends = np.datetime64("2024-01-01", "ns") + np.arange(1, 30) * hour - np.timedelta64(1, "ms")
    mixed = ends.copy()
    mixed[5] += np.timedelta64(1, "ms")
    month_ends = (
        np.arange(np.datetime64("2020-02"), np.datetime64("2023-02")).astype("datetime64[D]").astype("datetime64[ns]")
        - BEFORE[2]
    )
    others = {
        "one bar": ends[:1],
        "none": ends[:0],
        "blank": np.full(3, np.datetime64("NaT", "ns")),
        "one of them exact": mixed,
        "2 ms before": ends - np.timedelta64(1, "ms"),
        "a minute before": ends - np.timedelta64(59_999, "ms"),
        "half past": ends + np.timedelta64(30, "m"),
        "steps of a second": np.datetime64("2024-01-01", "ns") + np.arange(30) * np.timedelta64(1, "s"),
        "steps of 90 seconds": np.datetime64("2024-01-01", "ns") + np.arange(1, 30) * np.timedelta64(90, "s") - BEFORE[2],
        "months": month_ends,
        "all the same": np.repeat(ends[:1], 5),
        "seven minutes": np.datetime64("2024-01-01", "ns") + np.arange(30) * np.timedelta64(7, "m") - BEFORE[2],
    }
    assert [name for name, time in others.items() if are_closing(time)] == []
