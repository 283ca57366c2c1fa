"""Reading and writing files of bars."""

from __future__ import annotations

import gzip
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flagbt.data import formats, readers
from flagbt.data.bars import COLUMNS, HOUR, Bars
from flagbt.data.readers import FORMATS, bars_of_file, read_bars, write_bars_csv
from flagbt.errors import DataError

HEADER = "timestamp,open,high,low,close,volume\n"
TEXT = (
    HEADER + "2024-01-01T00:00:00Z,10,12,9,11,5\n"
    "2024-01-01T01:00:00Z,11,13,10,12.5,6.25\n"
    "2024-01-01T02:00:00Z,12.5,13,12,12,0\n"
)
EXPECTED_TIME = np.datetime64("2024-01-01", "ns") + np.arange(3) * HOUR
EPOCH = 1_704_067_200  # 2024-01-01T00:00:00Z


def written(folder: Path, text: str | bytes, name: str = "bars.csv") -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def with_times(*cells: object, name: str = "timestamp") -> str:
    """Return a valid file with other time cells."""
    rows = TEXT.splitlines()[1:]
    body = [f"{cell},{row.partition(',')[2]}" for cell, row in zip(cells, rows, strict=True)]
    return "\n".join([HEADER.strip().replace("timestamp", name), *body])


def refused(path: Path) -> str:
    """Return the error message for a file: one paragraph that names the file."""
    with pytest.raises(DataError) as caught:
        bars_of_file(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


GOOD = {
    "plain": TEXT,
    "Windows line ends and a byte-order mark": "\ufeff" + TEXT.replace("\n", "\r\n"),
    "no newline at the end": TEXT.rstrip(),
    "blank lines": TEXT.replace("\n", "\n\n"),
    "capitals and blanks in the header": TEXT.replace(HEADER, " Timestamp , OPEN,High ,low,Close,VOLUME\n"),
    "extra columns": "\n".join(f"x,{line},{i}" for i, line in enumerate(TEXT.splitlines())),
    "columns in another order": "\n".join(",".join(reversed(line.split(","))) for line in TEXT.splitlines()),
    "quoted cells": TEXT.replace("11,13", '"11","13"'),
    "naive stamps with a blank": TEXT.replace("T", " ", 99).replace("Z", "").replace(" imestamp", "timestamp"),
    "minutes only": with_times("2024-01-01T00:00Z", "2024-01-01T01:00Z", "2024-01-01 02:00"),
    "offsets": with_times("2024-01-01T01:00:00+01:00", "2023-12-31 20:00:00-0500", "2024-01-01T02:00:00.000+00"),
    "seconds": with_times(EPOCH, EPOCH + 3600, EPOCH + 7200, name="unix"),
    "seconds as floats": with_times(f"{EPOCH}.0", f"{EPOCH + 3600}.0", f"{EPOCH + 7200}.00", name="UNIX"),
    "milliseconds": with_times(*((EPOCH + i * 3600) * 10**3 for i in range(3)), name="open_time"),
    "microseconds": with_times(*((EPOCH + i * 3600) * 10**6 for i in range(3)), name="Date"),
    "nanoseconds": with_times(*((EPOCH + i * 3600) * 10**9 for i in range(3)), name="datetime"),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_good_csv(tmp_path: Path, text: str) -> None:
    """A common way to write the same bars would be refused, or read as other bars."""
    bars = read_bars(written(tmp_path, text))
    assert bars.time.tolist() == EXPECTED_TIME.tolist()
    assert bars.open.tolist() == [10, 11, 12.5]
    assert bars.high.tolist() == [12, 13, 13]
    assert bars.low.tolist() == [9, 10, 12]
    assert bars.close.tolist() == [11, 12.5, 12]
    assert bars.volume.tolist() == [5, 6.25, 0]
    assert bars.source == "bars.csv"
    assert not bars.synthetic


BAD = {
    "empty": ("", ["the file is empty"]),
    "blank lines only": ("\n\n", ["the file is empty"]),
    "header only": (HEADER, ["no row of data"]),
    "missing column": (TEXT.replace("close", "closing"), ["line 1", "'close' is missing", "'closing'", "Did you mean"]),
    "missing time": (TEXT.replace("timestamp", "when"), ["line 1", "time column", "open_time", "'when'"]),
    "column twice": (TEXT.replace("volume", "Close"), ["line 1", "'close' occurs twice"]),
    "no header": (TEXT.replace(HEADER, "").replace("\n", ",,\n"), ["no header", "8 cells", "--columns time=0,open=1"]),
    "spurious time": (TEXT.replace("2024-01-01T01:00:00Z", "noon"), ["line 3", "'timestamp'", "'noon'", "UTC"]),
    "relative time": (TEXT.replace("2024-01-01T01:00:00Z", "now"), ["line 3", "'now'"]),
    "month 13": (TEXT.replace("2024-01-01T01", "2024-13-01T01"), ["line 3", "'timestamp'", "'2024-13-01T01:00:00Z'"]),
    "hour 24": (TEXT.replace("01T01", "01T24"), ["line 3", "'2024-01-01T24:00:00Z'"]),
    "blank time": (TEXT.replace("2024-01-01T02:00:00Z", " "), ["line 4", "'timestamp'", "a blank cell"]),
    "day first": (with_times("01/02/2024", "01/02/2024", "01/02/2024"), ["line 2", "'01/02/2024'"]),
    "year 9999": (TEXT.replace("2024-", "9999-"), ["line 2", "'9999-01-01T00:00:00Z'"]),
    "a month 13 without hyphens": (with_times(20241301, 20241302, 20241303), ["line 2", "epoch seconds", "'20241301'"]),
    "spreadsheet": (with_times("1.63875E+12", 1, 2), ["line 2", "1.63875E+12", "spreadsheet", "fetch"]),
    "mixed units": (
        with_times(EPOCH * 1000, EPOCH * 1000 + 3_600_000, EPOCH + 7200),
        ["line 4", "from milliseconds to seconds", f"'{EPOCH + 7200}'", "one unit"],
    ),
    "epoch then ISO": (with_times(EPOCH, EPOCH + 3600, "2024-01-01T02:00:00Z"), ["line 4", "epoch number"]),
    "words": (TEXT.replace("12.5,6.25", "twelve,6.25"), ["line 3", "column 'close'", "'twelve'", "expected a number"]),
    "underscore": (TEXT.replace("10,12,9", "1_0,12,9"), ["line 2", "column 'open'", "'1_0'"]),
    "blank": (TEXT.replace("12.5,6.25", ",6.25"), ["line 3", "column 'close'", "a blank cell"]),
    "NULL": (TEXT.replace("12.5,6.25", "NULL,6.25"), ["line 3", "column 'close'", "'NULL'"]),
    "NaN": (TEXT.replace("12.5,6.25", "NaN,6.25"), ["bar 2 is line 3", "close is nan"]),
    "infinite": (TEXT.replace("12.5,6.25", "12.5,inf"), ["bar 2 is line 3", "volume is inf"]),
    "too many cells": (TEXT.replace("12.5,6.25", "12.5,6.25,7"), ["line 3", "expected 6 cells", "got 7"]),
    "too few cells": (TEXT.replace("12.5,6.25", "12.5"), ["line 3", "expected 6 cells", "got 5"]),
    "open quote": (TEXT.replace("2024-01-01T02", '"2024-01-01T02'), ["line 4", "quotes"]),
    "unsorted": (with_times(EPOCH + 3600, EPOCH, EPOCH + 7200), ["out of order", "bar 1 is line 2, bar 2 is line 3"]),
    "twice": (with_times(EPOCH, EPOCH + 3600, EPOCH + 3600), ["occurs twice", "bar 2 is line 3, bar 3 is line 4"]),
    "off the grid": (with_times(EPOCH, EPOCH + 3600, EPOCH + 7260), ["off the grid", "bar 3 is line 4"]),
    "negative": (TEXT.replace("12.5,6.25", "12.5,-6.25"), ["bar 2 is line 3", "volume is -6.25"]),
    "high below low": (TEXT.replace("10,12,9", "10,8,9"), ["bar 1 is line 2", "high 8.0 is below low 9.0"]),
    "after blank lines": (TEXT.replace("\n", "\n\n").replace("10,12,9", "10,8,9"), ["bar 1 is line 3", "high 8.0"]),
    "not UTF-8": (TEXT.encode() + b"\xff\xe9", ["line 5", "UTF-8", "0xff"]),
    "binary": (bytes(range(1, 256)) * 9, ["UTF-8"]),
    "NUL bytes": (b"\0" * 500, ["line 1", "is missing"]),
    "UTF-32": (TEXT.encode("utf-32"), ["UTF-32", "save the file as UTF-8"]),
    "gzip without its suffix": (gzip.compress(TEXT.encode()), ["name the file .csv.gz"]),
    "a spreadsheet": (b"PK\x03\x04...", ["save the sheet as CSV"]),
}


@pytest.mark.parametrize(("text", "fragments"), BAD.values(), ids=BAD.keys())
def test_bad_csv(tmp_path: Path, text: str | bytes, fragments: list[str]) -> None:
    """A bad file would be read as a good one, or refused without place and remedy."""
    message = refused(written(tmp_path, text))
    assert [fragment for fragment in fragments if fragment not in message] == [], message


def test_line_numbers_hold_across_pieces(tmp_path: Path, walk: Callable[..., Bars]) -> None:
    """In a long file the error would name a wrong line, since rows are converted in pieces."""
    path = tmp_path / "long.csv"
    write_bars_csv(walk(2_500), path)
    lines = path.read_text().splitlines()
    lines[2_399] = lines[2_399].replace(lines[2_399].split(",")[4], "oops")
    path.write_text("\n".join(lines))
    assert "line 2400, column 'close'" in refused(path)


def test_real_slices(shared_data: Path) -> None:
    """A format that users have would not load, or be refused without its line."""
    formats = shared_data / "formats"
    assert len(read_bars(formats / "timestamps_amount_header.csv")) == 50
    assert len(read_bars(formats / "capitalised_date_offset_perp.csv")) == 50
    assert len(read_bars(formats / "freqtrade_BTC_USDT-1h.feather")) == 50
    binance = read_bars(formats / "binance_vision_klines_noheader_1m.csv")
    assert (binance.step, binance.close[0]) == (np.timedelta64(60, "s"), 0.00002854)
    assert "line 16, column 'unix': here the times change" in refused(formats / "cdd_banner_mixed_units.csv")
    assert "bar 4 is row 4" in refused(formats / "freqtrade_json_offgrid.json")


def test_the_long_file(shared_data: Path) -> None:
    """The development series would load slowly, or with bars lost or changed."""
    start = time.process_time()
    bars = read_bars(shared_data / "btc_usdt_1h_2020_2024.csv")
    assert time.process_time() - start < 2  # about 0.25 s on an idle machine
    assert len(bars) == 43_816
    assert (len(bars.gaps), sum(gap.missing for gap in bars.gaps)) == (15, 32)
    assert (bars.open[0], bars.volume[0], bars.high.max()) == (7195.24, 511.814901, 108353.0)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    """A wrong path would end in a traceback instead of a remedy."""
    written(tmp_path, TEXT, "btc_1h.csv")
    assert "Did you mean 'btc_1h.csv'?" in refused(tmp_path / "btc_1hr.csv")
    assert "does not exist either" in refused(tmp_path / "nowhere" / "x.csv")
    assert "this is a folder" in refused(tmp_path)
    for ending in FORMATS:
        (tmp_path / f"folder{ending}").mkdir()
        assert "this is a folder" in refused(tmp_path / f"folder{ending}")
    assert "'.xlsx'" in refused(written(tmp_path, "", "bars.xlsx"))
    assert "no suffix" in refused(written(tmp_path, "", "bars"))


def test_damaged_gzip(tmp_path: Path) -> None:
    """A truncated or invalid .gz would give a traceback, or half of its bars."""
    data = gzip.compress(TEXT.encode())
    assert len(read_bars(written(tmp_path, data, "good.CSV.GZ"))) == 3
    assert "not a complete gzip file" in refused(written(tmp_path, data[:-12], "cut.csv.gz"))
    assert "not a complete gzip file" in refused(written(tmp_path, data[:30] + b"\0" * 20 + data[50:], "flip.csv.gz"))
    assert "not a complete gzip file" in refused(written(tmp_path, TEXT, "text.csv.gz"))


def frame() -> pd.DataFrame:
    """Return the three bars as a frame with a UTC index."""
    index = pd.DatetimeIndex(EXPECTED_TIME, name="date").tz_localize("UTC")
    rows = [[float(cell) for cell in line.split(",")[1:]] for line in TEXT.splitlines()[1:]]
    return pd.DataFrame(rows, index=index, columns=list(COLUMNS))


PARQUET: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "index": lambda f: f,
    "nameless index": lambda f: f.rename_axis(None),
    "column": lambda f: f.reset_index(),
    "another zone": lambda f: f.tz_convert("Asia/Tokyo").reset_index(),
    "naive, in seconds": lambda f: f.tz_localize(None).reset_index().astype({"date": "datetime64[s]"}),
    "epoch ms": lambda f: f.assign(time=[(EPOCH + i * 3600) * 1000 for i in range(3)]).reset_index(drop=True),
    "epoch index": lambda f: f.set_index(pd.Index([EPOCH + i * 3600 for i in range(3)], name="unix")),
    "text": lambda f: f.assign(time=f.index.strftime("%Y-%m-%d %H:%M:%S")).reset_index(drop=True),
    "capitals, float32": lambda f: f.astype("float32").rename(columns=str.title),
    "nullable": lambda f: f.convert_dtypes(),
}


@pytest.mark.parametrize("shape", PARQUET.values(), ids=PARQUET.keys())
def test_good_parquet(tmp_path: Path, shape: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """The same bars would differ between Parquet and CSV."""
    path = tmp_path / "bars.parquet"
    shape(frame()).to_parquet(path)
    assert read_bars(path).digest == read_bars(written(tmp_path, TEXT)).digest


BAD_PARQUET: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "no rows": (lambda f: f.iloc[:0], "no rows"),
    "no column": (lambda f: f.drop(columns="low"), "'low' is missing"),
    "no time": (lambda f: f.reset_index(drop=True), "time column"),
    "text": (lambda f: f.assign(close=["11", "12", "x"]), "row 1, column 'close': expected a column of numbers"),
    "no close": (lambda f: f.assign(close=[11, None, 12]), "row 2, column 'close': expected a number, got a blank cell"),
    "not a number": (lambda f: f.assign(close=[11, np.inf, 12]), "close is inf"),
    "where": (lambda f: f.assign(close=[11, np.inf, 12]), "bar 2 is row 2"),
    "no stamp": (lambda f: f.assign(time=[f.index[0], None, f.index[2]]).reset_index(drop=True), "row 2, column 't"),
    "unsorted": (lambda f: f.iloc[[0, 2, 1]], "bar 2 is row 2, bar 3 is row 3"),
}


@pytest.mark.parametrize(("spoil", "fragment"), BAD_PARQUET.values(), ids=BAD_PARQUET.keys())
def test_bad_parquet(tmp_path: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame], fragment: str) -> None:
    """A bad table would be read as a good one, or its fault would not be located."""
    path = tmp_path / "bars.parquet"
    spoil(frame()).to_parquet(path)
    assert fragment in refused(path)


def test_damaged_parquet(tmp_path: Path) -> None:
    """A truncated or invalid Parquet file would end in a traceback."""
    path = tmp_path / "bars.parquet"
    frame().to_parquet(path)
    data = path.read_bytes()
    for damaged in (data[:-20], b"", TEXT.encode(), data[:200] + data[260:]):
        assert "not a complete Parquet file" in refused(written(tmp_path, damaged, "damaged.parquet"))


prices = st.floats(min_value=5e-324, max_value=1.7e308)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(st.tuples(st.lists(prices, min_size=4, max_size=4).map(sorted), prices), min_size=1, max_size=20),
    gap=st.integers(0, 20),
    ending=st.sampled_from([".csv", ".csv.gz"]),
    start=st.sampled_from(["2024-01-01T00:00:00", "1999-12-31T23:59:59.5", "2030-06-01T00:00:00.123456789"]),
    synthetic=st.booleans(),
)
def test_write_then_read(tmp_path: Path, cells: list, gap: int, ending: str, start: str, synthetic: bool) -> None:
    """Writing bars and reading them back would change a value, or lose the mark of synthetic bars."""
    low, open_, close, high = np.array([four for four, _ in cells]).T
    position = np.arange(len(cells))
    at = np.datetime64(start, "ns") + (position + 7 * (position >= gap)) * HOUR
    volume = np.array([volume for _, volume in cells])
    bars = Bars(at, open_, high, low, close, volume, synthetic=synthetic, step=HOUR)
    path = tmp_path / f"bars{ending}"
    write_bars_csv(bars, path)
    back = read_bars(path)
    assert back.digest == bars.digest
    assert back.synthetic == synthetic


def test_written_bytes_are_fixed(tmp_path: Path, walk: Callable[..., Bars]) -> None:
    """Two files of one series would differ, by a time or a name in the gzip header."""
    paths = [tmp_path / "a.csv.gz", tmp_path / "b.csv.gz", tmp_path / "a.csv"]
    for path in paths:
        write_bars_csv(walk(50), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes()[4:8] == b"\0\0\0\0"  # the header's time
    assert gzip.decompress(paths[0].read_bytes()) == paths[2].read_bytes()
    header, first = paths[2].read_text().splitlines()[:2]
    assert header == "timestamp,open,high,low,close,volume,synthetic"
    assert first.startswith("2024-01-01T00:00:00Z,30000.0,")


def test_failed_write_leaves_the_old_file(tmp_path: Path, walk: Callable[..., Bars], monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk would leave half a file under the final name, or temporary files."""
    path = tmp_path / "bars.csv"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_bars_csv(walk(5), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["bars.csv"]


def test_refused_targets(tmp_path: Path, walk: Callable[..., Bars]) -> None:
    """Bars would be written as CSV under the name of another format, or a missing folder would give a traceback."""
    with pytest.raises(DataError, match=r"expected a name that ends in \.csv"):
        write_bars_csv(walk(5), tmp_path / "bars.parquet")
    with pytest.raises(DataError, match="Check that its folder exists"):
        write_bars_csv(walk(5), tmp_path / "nowhere" / "bars.csv")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("FORMAT = 'csv'", "expected a FileFormat, got str"),
        ("from .parquet import FORMAT", "'.parquet' is not an ending in lower case, or another format has it"),
    ],
    ids=["another object", "an ending twice"],
)
def test_a_wrong_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str) -> None:
    """A wrong object would fail at its first file, and of two formats of one ending the last one would win silently."""
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    (tmp_path / "zz_wrong.py").write_text(code)
    importlib.invalidate_caches()
    with pytest.raises((TypeError, ValueError), match=message):
        readers._found_formats()
    del sys.modules["flagbt.data.formats.zz_wrong"]
