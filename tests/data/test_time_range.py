"""Time ranges as users write them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagbt.data.time_range import TimeRange
from flagbt.errors import UsageError

GOOD = [
    ("20240101-20240701", "2024-01-01T00:00", "2024-07-01T00:00"),
    ("20240101-", "2024-01-01T00:00", None),
    ("-20240701", None, "2024-07-01T00:00"),
    (" 20240229T1330-20240301T06 ", "2024-02-29T13:30", "2024-03-01T06:00"),
]


@pytest.mark.parametrize(("text", "start", "stop"), GOOD)
def test_good_ranges(text: str, start: str | None, stop: str | None) -> None:
    """A range would mean other times than written."""
    assert TimeRange.parse(text) == TimeRange(start and np.datetime64(start, "ns"), stop and np.datetime64(stop, "ns"))


BAD = [
    ("", "is not a time range"),
    ("-", "is not a time range"),
    ("20240101", "is not a time range"),
    ("2024-01-01", "is not a time range"),
    ("20240101-20240201-20240301", "is not a time range"),
    ("20240230-", "'20240230' in '20240230-' is not a date"),
    ("20241301-", "is not a date"),
    ("20240101T2500-", "is not a date"),
    ("202401-202402", "is not a date"),
    ("yesterday-", "'yesterday' in 'yesterday-' is not a date"),
    ("20240701-20240101", "ends before it starts"),
    ("20240701-20240701", "ends before it starts"),
]


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_bad_ranges(text: str, expected: str) -> None:
    """A mistyped range would select different bars than intended, or the message would not name the option."""
    with pytest.raises(UsageError) as caught:
        TimeRange.parse(text, option="--train-range")
    assert str(caught.value).startswith("--train-range: ")
    assert expected in str(caught.value)


minutes = st.integers(0, 60 * 24 * 365 * 60)
stamps = st.none() | minutes.map(lambda m: np.datetime64("1990-01-01", "ns") + np.timedelta64(m, "m"))


@given(stamps, stamps)
def test_written_and_read_back(one: np.datetime64 | None, other: np.datetime64 | None) -> None:
    """The range in a run's record would not be the range of the run."""
    if one is not None and other is not None:
        one, other = min(one, other), max(one, other) + np.timedelta64(1, "m")
    if one is None and other is None:
        return
    written = TimeRange(one, other)
    assert TimeRange.parse(str(written)) == written


OVERLAPS = [
    ("20240101-20240201", "20240201-20240301", False),
    ("20240101-20240202", "20240201-20240301", True),
    ("20240101-20240401", "20240201-20240301", True),
    ("20240101-", "-20240101", False),
    ("20240101-", "-20240102", True),
    ("-20240101", "-20200101", True),
    ("20240101-", "20250101-", True),
]


@pytest.mark.parametrize(("one", "other", "expected"), OVERLAPS)
def test_overlaps(one: str, other: str, expected: bool) -> None:
    """A checkpoint could be tested on its training bars, or adjacent ranges would be refused."""
    a, b = TimeRange.parse(one), TimeRange.parse(other)
    assert bool(a.overlaps(b)) is expected
    assert bool(b.overlaps(a)) is expected


def test_an_unbounded_range_overlaps_all() -> None:
    """Training on everything would not count as overlap."""
    assert bool(TimeRange().overlaps(TimeRange.parse("20240101-20240102")))
    assert str(TimeRange()) == "-"
