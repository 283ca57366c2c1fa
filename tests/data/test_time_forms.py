"""Forms of times besides ISO 8601 and epochs: recognised by the first cell, stated, or decided by the whole column."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagbt.arrays import TimeArray
from flagbt.data.bars import Bars
from flagbt.data.formats import arrow_table, time_forms
from flagbt.data.formats.table import Faults, Places
from flagbt.data.formats.time_forms import DayOrMonthFirst, check_time_format, day_and_month, day_month_format
from flagbt.data.formats.time_stamps import TimeColumn
from flagbt.data.readers import read_bars
from flagbt.errors import DataError, UsageError
from flagbt.workflows.bars_input import bars_from

MORNING = datetime(2024, 1, 2, 8, tzinfo=UTC)
# How one time is written, and the time if it is not MORNING.
WRITTEN = {
    "2024/01/02 08:00": None,
    "2024/01/02 08:00:00": None,
    "2024/1/2 8:00": None,
    "2024-1-2 8:00:00": None,
    "2024/01/02": datetime(2024, 1, 2, tzinfo=UTC),
    "2024/01/02T08:00:00": None,
    "2024/01/02 08:00:00.250": MORNING + timedelta(milliseconds=250),
    "2024.01.02 08:00": None,
    "2024.01.02 08:00:00": None,
    "2024.01.02": datetime(2024, 1, 2, tzinfo=UTC),
    "20240102": datetime(2024, 1, 2, tzinfo=UTC),
    "20240102 080000": None,
    "20240102 0800": None,
    "20240102 08:00": None,
    "20240102  08:00:00": None,
    "20240102080000": None,
    "202401020800": None,
    "20240102080000000": None,
    "20240102T080000Z": None,
    "2024-01-02 08-AM": None,
    "2019-04-22 11-PM": datetime(2019, 4, 22, 23, tzinfo=UTC),
    "2019-04-22 12-AM": datetime(2019, 4, 22, tzinfo=UTC),
    "2019-04-22 12-pm": datetime(2019, 4, 22, 12, tzinfo=UTC),
    "2024-01-31 01:00 PM": datetime(2024, 1, 31, 13, tzinfo=UTC),
    "2024-01-31 01:00:00 pm": datetime(2024, 1, 31, 13, tzinfo=UTC),
    "2024/01/31 1:00PM": datetime(2024, 1, 31, 13, tzinfo=UTC),
    "2024-01-02 08:00:00 UTC": None,
    "2024-01-02 08:00 utc": None,
    "2024/01/02 08:00 GMT": None,
    "2024/01/02 08:00Z": None,
    "2024/01/02 09:30:00 +01:30": None,
    "02.01.2024 09:00:00.000 GMT+0100": None,
    "02 Jan 2024 08:00": None,
    "2-Jan-2024 08:00": None,
    "02-JAN-2024": datetime(2024, 1, 2, tzinfo=UTC),
    "Jan 02, 2024": datetime(2024, 1, 2, tzinfo=UTC),
    "January 2, 2024": datetime(2024, 1, 2, tzinfo=UTC),
    "Tue Jan 02 2024 08:00:00": None,
    "Tue Jan 02 2024 09:00:00 GMT+0100": None,
    "Tue, 02 Jan 2024 08:00:00 GMT": None,
    "Tue Jan 02 08:00:00 2024": None,
}
REFUSED = {
    "2024/01/02 24:00": "a time such as",
    "2024/01/02 08:60": "a time such as",
    "2024/01/02 13:00 PM": "a time such as",
    "2024/01/02 00:30 AM": "a time such as",
    "2024/02/30": "a day of the calendar",
    "20230229": "a day of the calendar",
    "29-Feb-2023 08:00": "a day of the calendar",
    "2024/13/01": "--time-format",
    "31-Jan-24": "--time-format",
    "31/01/24": "--time-format '%d/%m/%y",
    "2024-01-02 08:00 a.m.": "--time-format",
    "2024-W01-1": "a time such as",
    "2024/01/02 08:00 CET": "a time such as",
    "datetime.datetime(2024, 1, 2, 8)": "a time such as",
    "45293.25": "day number",
    "1.70408E+12": "digits are lost",
    "\u0662\u0660\u0662\u0664/01/02": "a time such as",
    "\uff12\uff10\uff12\uff14\uff0f\uff10\uff11": "a time such as",
    "20241301": "epoch seconds",
}


def places(n: int, first: int = 2) -> Places:
    """Return the lines of n cells below a header."""
    return Places("bars.csv", "line", range(first, first + n))


def stamps(cells: Sequence[str], time_format: str = "", faults: Faults | None = None) -> TimeArray:
    """Return the stamps of a column."""
    column = TimeColumn("Date", faults or Faults(strict=True), time_format)
    return column.of_text(cells, places(len(cells)))


def expected(times: Sequence[datetime]) -> list[int]:
    """Return times as nanoseconds, by Python's own arithmetic."""
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return [(each - start) // timedelta(microseconds=1) * 1000 for each in times]


@pytest.mark.parametrize("cell", WRITTEN)
def test_a_form_is_recognised(cell: str) -> None:
    """A common way to write times would be refused, or read as another time."""
    assert stamps([f" {cell} ", cell]).tolist() == expected([WRITTEN[cell] or MORNING] * 2)


@pytest.mark.parametrize("cell", REFUSED)
def test_others_are_refused(cell: str) -> None:
    """A cell without one meaning would be read, or refused without its place, its value and the remedy."""
    with pytest.raises(DataError) as caught:
        stamps(["", cell][1:])
    message = str(caught.value)
    assert "bars.csv, line 2, column 'Date'" in message
    assert cell in message
    assert REFUSED[cell] in message


ALL = [
    date + clock + ending
    for date in time_forms._DATES
    for clock in ("", *map("".join, itertools.product(time_forms._SEPARATORS, time_forms._CLOCKS)))
    for ending in (time_forms._ENDINGS if clock else [""])
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ALL), st.lists(st.integers(-(10**9), 4 * 10**9), min_size=1, max_size=6), st.integers(-12 * 4, 14 * 4))
def test_round_trip_of_every_form(form: str, seconds: list[int], quarters: int) -> None:
    """Some combination of a date, a clock and an ending would be read as another one's, or a time be lost."""
    zone = timezone(timedelta(minutes=15 * quarters) if "%z" in form else timedelta(0))
    times = [datetime.fromtimestamp(each, UTC).astimezone(zone) for each in seconds]
    times = [each.replace(minute=0, second=0) if "%M" not in form else each for each in times]
    times = [each.replace(second=0) if "%S" not in form else each for each in times]
    times = [each.replace(hour=0) if "%H" not in form and "%I" not in form else each for each in times]
    cells = [each.strftime(form) for each in times]
    if "%b" in form and all(each.month == 5 for each in times):
        return  # May alone is a name and an abbreviation: either is right
    assert stamps(cells).tolist() == expected(times)
    assert stamps(cells, form).tolist() == expected(times)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789/-.: TZ+APManey", max_size=25), st.sampled_from(sorted(WRITTEN)))
def test_no_text_is_read_as_another_form(cell: str, first: str) -> None:
    """A cell of another form than the first one would be read, or raise an error that is not a fault of its row."""
    faults = Faults(strict=False)
    result = stamps([first, cell, first], faults=faults)
    assert result[0] == result[2]
    assert np.isnat(result[1]) == (3 in faults.found)
    assert not np.isnat(result[0])
    assert {2, 4}.isdisjoint(faults.found)


def test_a_fault_names_its_row() -> None:
    """All rows would be refused, or the wrong one."""
    faults = Faults(strict=False)
    cells = ["2024/01/02 08:00", "2024-01-02 09:00", "", "2024/01/02", "2024/01/02 12:00"]
    result = stamps(cells, faults=faults)
    assert np.isnat(result).tolist() == [False, True, True, True, False]
    assert sorted(faults.found) == [3, 4, 5]
    assert "as in the rows above ('2024/01/02 08:00'), got '2024-01-02 09:00'" in faults.found[3].message
    assert "blank cell" in faults.found[4].message
    assert "drop-damaged" in faults.found[4].message


def test_pieces_keep_the_form() -> None:
    """A later piece would be read in a form of its first cell."""
    column = TimeColumn("Date", Faults(strict=True))
    column.of_text(["2024/01/02"], places(1))
    with pytest.raises(DataError, match=r"line 9.*as in the rows above"):
        column.of_text(["2024-01-03"], places(1, 9))


def test_may_is_a_name_and_an_abbreviation() -> None:
    """A column of full names that starts in May would be refused in June."""
    assert stamps(["31 May 2024", "01 June 2024"]).tolist() == expected(
        [datetime(2024, 5, 31, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)]
    )


def test_epochs_stay_epochs() -> None:
    """Milliseconds of 1976 on whole minutes, which look like digits of a date, would be read as 2024."""
    for cell in ("200001320000", "202401020000", "1704067200", "1704067200000"):
        column = TimeColumn("time", Faults(strict=True))
        column.of_text([cell], places(1))
        assert column.epoch == (cell != "202401020000" or int(cell) % 60_000 == 0), cell


@pytest.mark.parametrize(
    ("cells", "naive"),
    [
        (["2024-01-02 08:00"], True),
        (["2024-01-02 08:00Z"], False),
        (["2024-01-02 08:00+00:00"], False),
        (["2024-01-02 08:00", "2024-01-02 09:00Z"], False),
        (["2024-01-02 08:00Z", "2024-01-02 09:00"], False),
        (["2024/01/02 08:00"], True),
        (["2024/01/02 08:00 UTC"], False),
        (["02.01.2024 08:00:00.000 GMT+0100"], False),
        (["1704067200"], False),
    ],
)
def test_times_without_offset_are_known(cells: list[str], naive: bool) -> None:
    """A stated time zone would shift times that are in UTC already, or leave local ones."""
    column = TimeColumn("time", Faults(strict=True))
    column.of_text(cells, places(len(cells)))
    assert column.is_naive == naive


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_stamps_of_parquet_without_a_zone_are_naive(zone: str | None) -> None:
    """Local times of a Parquet file could not be converted by a stated zone, or those in UTC would be."""
    array = pa.array([MORNING.replace(tzinfo=None)], pa.timestamp("us", zone))
    column = TimeColumn("time", Faults(strict=True))
    arrow_table.times_of(array, column, places(1))
    assert column.is_naive == (zone is None)


def test_the_examples_of_the_manual() -> None:
    """The manual would promise forms that are refused."""
    manual = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = manual.partition("## Other forms of times")[2].partition("\n\n- ")[0].splitlines()
    cells = [cell for row in rows if row.startswith("|") for cell in re.findall("`(.+?)`", row)]
    assert len(cells) > 20
    for cell in cells:
        decided = day_month_format([([cell], places(1))], "Date") if day_and_month(cell) else ""
        assert str(stamps([cell], decided)[0])[:13] in {"2024-01-31T13", "2024-01-31T09", "2024-01-31T00"}, cell


# --- stated -----------------------------------------------------------------------------------------------------------

STATED = {
    ("%d.%m.%Y %H:%M", "02.01.2024 08:00"): MORNING,
    ("%d.%m.%Y %H:%M", "2.1.2024 8:00"): MORNING,
    ("%m/%d/%y %I:%M %p", "01/02/24 08:00 am"): MORNING,
    ("%H:%M:%S %d/%m/%Y", "08:00:00 02/01/2024"): MORNING,
    ("%d.%m.%Y %H:%M:%S,%f", "02.01.2024 08:00:00,5"): MORNING + timedelta(milliseconds=500),
    ("%d.%m.%Y %H:%M %z", "02.01.2024 10:00 +0200"): MORNING,
    ("%Y\u5e74%m\u6708%d\u65e5 %H\u6642", "2024\u5e7401\u670802\u65e5 08\u6642"): MORNING,
    ("[%d.%m.%Y] (%H:%M)", "[02.01.2024] (08:00)"): MORNING,
    ("%d%%%m%%%Y", "2%1%2024"): datetime(2024, 1, 2, tzinfo=UTC),
    ("%Y%m%d%H%M", "202401020800"): MORNING,
    ("%Y-%m-%d %H:%M:%S", "2024-01-02 08:00:00"): MORNING,
}


@pytest.mark.parametrize(("form", "cell"), STATED)
def test_a_stated_form(form: str, cell: str) -> None:
    """A form that the user states would be read as another one."""
    assert stamps([cell], form).tolist() == expected([STATED[form, cell]])


@pytest.mark.parametrize(
    "cell", ["2024-01-02 08:00", "31.13.2024 08:00", "02.01.2024", "02.01.2024 08:00:00", "1704067200", "29.02.2023 08:00"]
)
def test_cells_that_do_not_have_the_stated_form(cell: str) -> None:
    """A stated form would be one suggestion among others, and a day and a month exchanged without a word."""
    with pytest.raises(DataError, match=r"line 2, column 'Date': expected a .*--time-format") as caught:
        stamps([cell], "%d.%m.%Y %H:%M")
    assert cell in str(caught.value)


def test_whole_numbers_in_a_stated_form() -> None:
    """A column 20240102 of a Parquet file would be refused as an epoch."""
    known = np.array([True, False, True])
    faults = Faults(strict=False)
    result = TimeColumn("date", faults, "%Y%m%d").of_numbers(np.array([20240102, 0, 20240103]), known, places(3))
    assert result[[0, 2]].tolist() == expected([datetime(2024, 1, day, tzinfo=UTC) for day in (2, 3)])
    assert sorted(faults.found) == [3]


CLOCKS = ("", "H", "HM", "HMS", "HMSf", "Ip", "IpM", "IpMS", "HMSfz", "HMz")
BETWEEN = st.sampled_from(
    ["", "", " ", "-", "/", ".", ":", "T", " at ", "(", "]", "*", "+", "?", "\\", "\u5e74", "%%", "|", "^", "7", "GMT"]
)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.datetimes(datetime(2000, 1, 1), datetime(2068, 1, 1)), st.sampled_from(["Ymd", "ybd", "YBdA", "Ymda"]))
def test_any_stated_form_reads_what_it_writes(data: st.DataObject, stamp: datetime, date: str) -> None:
    """Some order of the parts, or some text between them, would be read as another time."""
    clock = data.draw(st.sampled_from(CLOCKS))
    letters = data.draw(st.permutations(date + clock))
    form = "".join(f"%{letter}{data.draw(BETWEEN)}" for letter in letters)
    zone = timezone(timedelta(minutes=data.draw(st.integers(-700, 700))) if "z" in clock else timedelta(0))
    lost = {"microsecond": "f", "second": "S", "minute": "M", "hour": "HI"}
    written = stamp.replace(tzinfo=zone, **{part: 0 for part, each in lost.items() if not set(each) & set(clock)})
    if re.search("%f(%[YymdHIMS]|[0-9])", form):
        with pytest.raises(UsageError, match="fixed length"):
            check_time_format(form)
        return
    if re.search("%z(%[YymdHIMSf]|[0-9:])", form):
        with pytest.raises(UsageError, match="%z may have seconds"):
            check_time_format(form)
        return
    assert stamps([written.strftime(form)], form).tolist() == expected([written])


BAD_FORMATS = {
    "%Y": "one month",
    "%m/%d %H:%M": "one year",
    "%Y-%m-%d %Y": "%Y occurs twice",
    "%y-%Y-%m-%d": "one year",
    "DD.MM.YYYY": "one year (%Y)",
    "%d.%m.%Y %T": "use %H:%M:%S",
    "%d.%m.%Y %I:%M": "%I with %p",
    "%d.%m.%Y %H:%M %p": "%I with %p",
    "%d.%m.%Y %H:%S": "%S, but no minute",
    "%d.%m.%Y %M": "%M, but no hour",
    "%d.%m.%Y %H:%M.%f": "%f, but no second",
    "%d.%m.%Y %H:%M %Z": "--time-zone",
    "%d.%m.%Y %": "%",
    "%d.%m.%Y %\n": "is not read",
    "%s": "epochs are recognised",
    "%G-W%V-%u": "%G is not read",
    " ": "one year",
}


@pytest.mark.parametrize("form", BAD_FORMATS)
def test_a_format_that_cannot_be_read(form: str) -> None:
    """A typing error in the option would show as a fault of the file, or as a traceback."""
    with pytest.raises(UsageError) as caught:
        check_time_format(form)
    message = str(caught.value)
    assert message.startswith("--time-format")
    assert BAD_FORMATS[form] in message
    assert "'%d.%m.%Y %H:%M' for 31.01.2024 13:00" in message


# --- day and month ----------------------------------------------------------------------------------------------------

HOURS = [datetime(2024, 1, 10, tzinfo=UTC) + timedelta(hours=6 * i) for i in range(16)]  # the 10th to the 13th


@pytest.mark.parametrize("separator", ["/", ".", "-"])
@pytest.mark.parametrize("clock", ["", " %H:%M", " %H:%M:%S", " %I:%M:%S %p", ", %H:%M", " %H:%M:%S.%f"])
@pytest.mark.parametrize("order", ["%d{0}%m{0}%Y", "%m{0}%d{0}%Y"])
def test_the_column_shows_day_or_month(separator: str, clock: str, order: str) -> None:
    """A file whose cells prove the order would be refused, or read in the other one."""
    form = order.format(separator) + clock
    cells = [each.strftime(form) for each in HOURS]
    with pytest.raises(DayOrMonthFirst, match="line 2, column 'Date'.*day or the month"):
        stamps(cells)
    assert day_month_format([(cells[:5], places(5)), (cells[5:], places(11, 7))], "Date") == form
    assert stamps(cells, form).tolist() == expected(HOURS if clock else [each.replace(hour=0) for each in HOURS])


def test_a_column_that_does_not_show_it() -> None:
    """The order would be guessed, and three weeks of bars read as three years."""
    with pytest.raises(DayOrMonthFirst) as caught:
        day_month_format([(["", "junk", "01/02/2024 08:00", "12/12/2024 08:00"], places(4))], "Date")
    message = str(caught.value)
    assert "bars.csv, line 4, column 'Date'" in message
    assert "State it, --time-format '%d/%m/%Y %H:%M' or --time-format '%m/%d/%Y %H:%M'" in message


def test_a_column_that_contradicts_itself() -> None:
    """Of two cells that cannot both be right, one would win."""
    with pytest.raises(DataError, match=r"line 3.*'13/01/2024'.*'01/14/2024' \(line 4") as caught:
        day_month_format([(["01/01/2024", "13/01/2024", "01/14/2024"], places(3))], "Date")
    assert not isinstance(caught.value, DayOrMonthFirst)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "junk", ["2024/01/02 " + "0" * 2000, "1/" * 1000, "Jan " * 500, " " * 3000 + ":", "20240102" * 300, "%d" * 500]
)
def test_junk_takes_bounded_time(junk: str) -> None:
    """A pattern that tries every split would hang on long cells."""
    started = time.process_time()
    for first in ([], ["2024/01/02 08:00"]):
        with pytest.raises(DataError, match="more than 10,000 rows"):
            stamps([*first, *[junk] * 20_000], faults=Faults(strict=False))
    assert time.process_time() - started < 20


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/London", "Pacific/Auckland"])
def test_daily_bars_of_local_midnights(tmp_path: Path, zone: str) -> None:
    """If it fails, the daily bars of an exchange with summer time, as yfinance gives them, are refused or shifted by a day."""
    days = pd.date_range("2024-01-01", "2024-12-31", freq="B", tz=zone)
    close = 100 + np.arange(len(days)) % 7.0
    frame = pd.DataFrame({"Open": close, "High": close + 2, "Low": close - 1, "Close": close, "Volume": 5.0}, index=days)
    frame.index.name = "Date"
    frame.to_csv(tmp_path / "bars.csv")
    frame.to_parquet(tmp_path / "bars.parquet")
    dates = days.tz_localize(None).to_numpy().astype("datetime64[ns]")
    for bars in (read_bars(tmp_path / "bars.csv"), read_bars(tmp_path / "bars.parquet"), bars_from(frame)):
        assert np.array_equal(bars.time, dates)
    summer = frame[frame.index.month == 7]  # no change: in UTC as before
    assert read_bars_of(summer, tmp_path).time[0] == summer.index[0].tz_convert("UTC").tz_localize(None).to_datetime64()


def read_bars_of(frame: pd.DataFrame, folder: Path) -> Bars:
    """Return the bars of a frame by way of a file."""
    frame.to_csv(folder / "part.csv")
    return read_bars(folder / "part.csv")
