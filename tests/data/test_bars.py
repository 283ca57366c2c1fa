"""Bars: what they refuse, and what they guarantee."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from flagbt.data.bars import COLUMNS, HOUR, Bars, Gap
from flagbt.data.time_range import TimeRange
from flagbt.errors import DataError

START = np.datetime64("2024-01-01", "ns")


def columns(n: int = 4) -> dict[str, np.ndarray]:
    """Return valid columns of ``n`` hourly bars."""
    close = 100.0 + np.arange(n)
    time = START + np.arange(n) * HOUR
    return {"time": time, "open": close - 1, "high": close + 1, "low": close - 2, "close": close, "volume": np.ones(n)}


def hours(*numbers: int) -> Bars:
    """Return bars that open these hours after the start."""
    return Bars(**{**columns(len(numbers)), "time": START + np.array(numbers) * HOUR}, step=HOUR)


SPOILT: list[tuple[str, int, float, str]] = [
    ("open", 2, np.nan, "bar 3 (2024-01-01T02:00:00Z): open is nan, expected a finite number above 0"),
    ("high", 1, np.inf, "bar 2 (2024-01-01T01:00:00Z): high is inf"),
    ("low", 0, -1.0, "bar 1 (2024-01-01T00:00:00Z): low is -1.0"),
    ("close", 3, 0.0, "bar 4 (2024-01-01T03:00:00Z): close is 0.0"),
    ("volume", 3, -0.5, "bar 4 (2024-01-01T03:00:00Z): volume is -0.5, expected 0 or more"),
    ("volume", 3, np.nan, "volume is nan"),
    ("high", 2, 99.99999, "high 99.99999 is below low 100.0, expected high >= low"),
    ("high", 2, 101.99999, "high 101.99999 is below open 101.0 or close 102.0"),
    ("low", 2, 101.00001, "low 101.00001 is above open 101.0 or close 102.0"),
]


@pytest.mark.parametrize(("column", "at", "value", "expected"), SPOILT)
def test_bad_values_are_refused(column: str, at: int, value: float, expected: str) -> None:
    """An impossible price or volume would enter a backtest, or the message would not name it."""
    spoilt = columns()
    spoilt[column][at] = value
    with pytest.raises(DataError) as caught:
        Bars(**spoilt, source="x.csv")
    assert str(caught.value).startswith("x.csv: ")
    assert expected in str(caught.value)


def test_zero_volume_and_flat_bars_are_allowed() -> None:
    """Bars of an hour without a trade, which exchanges give, would be refused."""
    flat = {name: np.full(2, 5.0) for name in COLUMNS}
    assert len(Bars(START + np.arange(2) * HOUR, **{**flat, "volume": np.zeros(2)})) == 2


BAD_TIMES: list[tuple[list[object], str]] = [
    ([0, 2, 1, 3], "out of order: bar 3 (2024-01-01T01:00:00Z) comes after bar 2 (2024-01-01T02:00:00Z)"),
    ([0, 1, 1, 2], "2024-01-01T01:00:00Z occurs twice (bars 2 and 3)"),
    ([0, 1, 2.5, 3], "bar 3 opens at 2024-01-01T02:30:00Z, off the grid of 3,600 seconds"),
    ([0, 1, None, 3], "bar number 3 has no timestamp"),
]


@pytest.mark.parametrize(("numbers", "expected"), BAD_TIMES)
def test_bad_times_are_refused(numbers: list[float | None], expected: str) -> None:
    """Bars out of order, doubled, shifted or without time would be replayed as if regular."""
    time = [np.datetime64("NaT") if n is None else START + np.timedelta64(int(n * 3600), "s") for n in numbers]
    with pytest.raises(DataError) as caught:
        Bars(**{**columns(), "time": np.array(time)}, step=HOUR)
    assert expected in str(caught.value)


def test_empty_and_unequal_columns_are_refused() -> None:
    """No bars, or columns of different length, would fail later with a traceback."""
    with pytest.raises(DataError, match="there are no bars"):
        Bars(**columns(0))
    with pytest.raises(DataError, match="differ in length"):
        Bars(**{**columns(4), "close": columns(3)["close"]})


def test_gaps_and_step() -> None:
    """Missing bars would not be counted, or a gap would be taken for the step."""
    bars = hours(0, 1, 2, 5, 6, 8)
    inferred = Bars(**{**columns(6), "time": bars.time})
    assert inferred.step == HOUR
    assert inferred.step_hours == 1.0
    assert inferred.gaps == [Gap(START + 2 * HOUR, START + 5 * HOUR, 2), Gap(START + 6 * HOUR, START + 8 * HOUR, 1)]
    assert inferred.end == START + 9 * HOUR
    assert Bars(**columns(1)).step == HOUR
    assert hours(0, 1, 2).gaps == []


def test_digest_follows_the_data_and_nothing_else() -> None:
    """A changed price would count as the same data, or a renamed file as other data."""
    bars = Bars(**columns())
    assert Bars(**columns(), source="other", synthetic=True).digest == bars.digest
    assert len(bars.digest) == 64
    for name in COLUMNS:
        changed = columns()
        changed[name][1] = np.nextafter(changed[name][1], np.inf)
        assert Bars(**changed).digest != bars.digest
    assert Bars(**{**columns(), "time": columns()["time"] + HOUR}).digest != bars.digest
    assert Bars(**columns(5)).take(slice(0, 4)).digest == bars.digest


def test_bars_cannot_be_changed() -> None:
    """A strategy could change the prices under a running backtest, or the caller's array the bars."""
    given = columns()
    bars = Bars(**given)
    given["close"][0] = 7.0
    assert bars.close[0] == 100.0
    for name in ("time", *COLUMNS):
        with pytest.raises(ValueError, match="read-only"):
            getattr(bars, name)[0] = getattr(bars, name)[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        bars.close = bars.open  # type: ignore[misc]
    frame = bars.frame()
    frame.loc[:, "close"] = 1.0
    assert bars.close[0] == 100.0


RANGES = [
    ("20240101T0100-20240101T0500", 1, 3),
    ("20240101T0101-20240101T0501", 2, 4),
    ("20240101T0300-20240101T0400", 3, 3),
    ("-20240101T0200", 0, 2),
    ("20240101T0600-", 4, 5),
    ("20230101-20230201", 0, 0),
    ("20250101-", 5, 5),
]


@pytest.mark.parametrize(("text", "start", "stop"), RANGES)
def test_between(text: str, start: int, stop: int) -> None:
    """A range would include the bar at its end, omit the one at its start, or fail at a gap."""
    assert hours(0, 1, 2, 5, 6).between(TimeRange.parse(text)) == slice(start, stop)


def test_take_keeps_grid_source_and_mark(walk: Callable[..., Bars]) -> None:
    """A part of synthetic bars would lose its mark, or get another grid."""
    bars = walk(30)
    part = bars.take(slice(10, 12))
    assert part.time.tolist() == bars.time[10:12].tolist()
    assert part.close.tolist() == bars.close[10:12].tolist()
    assert (part.source, part.synthetic) == (bars.source, True)
    assert hours(0, 1, 5, 9).take(slice(1, 4)).step == HOUR
    with pytest.raises(DataError, match="there are no bars"):
        bars.take(slice(3, 3))


def test_position_of() -> None:
    """The first bar at or after an instant would be off by one."""
    bars = hours(0, 1, 5)
    stamps = [START - HOUR, START, START + HOUR, START + 2 * HOUR, START + 5 * HOUR, START + 6 * HOUR]
    assert [bars.position_of(stamp) for stamp in stamps] == [0, 0, 1, 2, 2, 3]
    assert bars.position_of(np.datetime64("2024-01-01T01", "h")) == 1


def test_frames_there_and_back() -> None:
    """A frame in another zone, or a naive one, would shift the bars' times."""
    bars = hours(0, 1, 2, 5)
    frame = bars.frame()
    assert str(frame.index[3]) == "2024-01-01 05:00:00+00:00"
    for same in (frame, frame.tz_convert("Asia/Tokyo"), frame.tz_localize(None), frame.assign(extra=1)):
        assert Bars.from_frame(same).digest == bars.digest
    with pytest.raises(DataError, match="expected a DatetimeIndex"):
        Bars.from_frame(frame.reset_index(drop=True))
    with pytest.raises(DataError, match="the columns open, high, low, close, volume, got"):
        Bars.from_frame(pd.DataFrame(frame[["open"]]))


def test_repr_marks_synthetic_bars(walk: Callable[..., Bars]) -> None:
    """Generated prices would look real in a log."""
    assert "5 synthetic bars, 2024-01-01T00:00:00Z .. 2024-01-01T04:00:00Z" in repr(walk(5))
    assert "synthetic" not in repr(Bars(**columns()))
