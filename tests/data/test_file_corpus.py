"""A generated corpus of files as users have them: each is read as its bars, or refused with a known message."""

from __future__ import annotations

import gzip
import io
import json
import logging
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import flagbt
from flagbt.data.bars import COLUMNS, HOUR, Bars
from flagbt.data.formats import compressed_text as content
from flagbt.data.readers import FORMATS, bars_of_file, file_of, read_bars
from flagbt.errors import DataError

N = 30
EPOCH = 1_704_067_200  # 2024-01-01T00:00:00Z
STAMPS = [EPOCH + 3600 * i for i in range(N)]
_random = np.random.default_rng(7)
_close = np.round(30_000 * np.exp(np.cumsum(_random.normal(0, 0.004, N + 1))), 2)
OPEN, CLOSE = _close[:-1], _close[1:]
HIGH = np.round(np.maximum(OPEN, CLOSE) + _random.uniform(1, 90, N), 2)
LOW = np.round(np.minimum(OPEN, CLOSE) - _random.uniform(1, 90, N), 2)
VOLUME = np.round(_random.uniform(20, 2000, N), 5)
ROWS = list(zip(*(column.tolist() for column in (OPEN, HIGH, LOW, CLOSE, VOLUME)), strict=True))
NAMES = "open,high,low,close,volume"
BARS = Bars(np.array(STAMPS, "datetime64[s]"), OPEN, HIGH, LOW, CLOSE, VOLUME)


def iso(stamp: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return an epoch second as text."""
    return pd.Timestamp(stamp, unit="s").strftime(form)


def table(
    times: Iterable[object] = [iso(stamp) for stamp in STAMPS],
    *,
    head: str = f"timestamp,{NAMES}",
    separator: str = ",",
    number: Callable[[float], str] = repr,
    tail: Callable[[int], str] = lambda _: "",
    end: str = "\n",
) -> str:
    """Return the bars as text; the arguments choose the notation."""
    lines = [head.replace(",", separator)] if head else []
    for i, time in enumerate(times):
        lines.append(separator.join([str(time), *(number(value) for value in ROWS[i])]) + tail(i))
    return end.join(lines) + end


def line(text: str, number: int, change: Callable[[str], str]) -> str:
    """Return a text with one line changed; lines are counted from 1."""
    lines = text.split("\n")
    lines[number - 1] = change(lines[number - 1])
    return "\n".join(lines)


def cell(text: str, number: int, column: int, value: str, separator: str = ",") -> str:
    """Return a text with one cell changed."""

    def change(old: str) -> str:
        cells = old.split(separator)
        cells[column] = value
        return separator.join(cells)

    return line(text, number, change)


def german(value: float) -> str:
    """Return a number as a German spreadsheet writes it: 30.123,45."""
    return f"{value:,.5f}".rstrip("0").translate(str.maketrans(",.", ".,"))


def english(value: float) -> str:
    """Return a number with thousands commas, in quotes: "30,123.45"."""
    return f'"{value:,.5f}"'


def zipped(*entries: tuple[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def frame(unit: str = "ns") -> pd.DataFrame:
    """Return the bars as a frame like freqtrade's."""
    times = pd.DatetimeIndex(np.array(STAMPS, "datetime64[s]")).tz_localize("UTC").as_unit(unit)
    return pd.DataFrame({"date": times, **dict(zip(COLUMNS, np.array(ROWS).T, strict=True))})


def feather(data: pd.DataFrame, compression: str = "lz4") -> bytes:
    """Return a frame as Feather."""
    buffer = io.BytesIO()
    data.to_feather(buffer, compression=compression)
    return buffer.getvalue()


def parquet(data: pd.DataFrame, **options: Any) -> bytes:
    """Return a frame as Parquet."""
    return data.to_parquet(None, **options)  # type: ignore[no-any-return,call-overload]


def klines(scale: int = 1000) -> str:
    """Return the bars as in Binance's archive: 12 columns, no header."""
    rest = lambda i: f",{(STAMPS[i] + 3600) * scale - 1},{ROWS[i][4] * ROWS[i][3]},79,1.5,2.5,0"  # noqa: E731
    return table([stamp * scale for stamp in STAMPS], head="", number=lambda value: f"{value:.8f}", tail=rest)


def banner(text: str) -> str:
    """Return a text below a banner line."""
    return "https://www.example.org/data\n" + text


def download(times: Iterable[object], **options: Any) -> str:
    """Return the bars as data sites provide them: symbol, both volumes."""
    return table(
        times,
        head="unix,open,high,low,close,Volume BTC,Volume USDT,symbol",
        tail=lambda i: f",{ROWS[i][4] * ROWS[i][3]:.4f},BTC/USDT",
        **options,
    )


def newest_first(text: str, above: int = 1) -> str:
    """Return a text with its rows reversed."""
    lines = text.rstrip("\n").split("\n")
    return "\n".join([*lines[:above], *reversed(lines[above:])]) + "\n"


CANDLES = [[stamp * 1000, *row] for stamp, row in zip(STAMPS, ROWS, strict=True)]
OBJECTS = [
    {"time": stamp, **dict(zip(COLUMNS, row, strict=True)), "extra": None} for stamp, row in zip(STAMPS, ROWS, strict=True)
]
PLAIN = table()

# Files that are read as exactly these bars, and a part of the warning (empty: no warning).
GOOD: dict[str, tuple[str | bytes, str]] = {
    "plain.csv": (PLAIN, ""),
    "crlf.csv": (table(end="\r\n"), ""),
    "cr.csv": (table(end="\r"), ""),
    "bom.csv": ("\ufeff" + PLAIN, ""),
    "utf16.csv": (PLAIN.encode("utf-16"), ""),
    "utf16be.csv": (b"\xfe\xff" + PLAIN.encode("utf-16-be"), ""),
    "t-and-z.csv": (table(iso(s, "%Y-%m-%dT%H:%M:%SZ") for s in STAMPS), ""),
    "offset-zero.csv": (table((iso(s) + "+00:00" for s in STAMPS), head=f"Date,{NAMES.title()}"), ""),
    "offset-tokyo.csv": (table(iso(s + 9 * 3600) + "+09:00" for s in STAMPS), ""),
    "fractions.csv": (table(iso(s) + ".000000" for s in STAMPS), ""),
    "seconds.csv": (table(STAMPS, head=f"unix,{NAMES}"), ""),
    "milliseconds.csv": (table([s * 1000 for s in STAMPS]), ""),
    "microseconds.csv": (table([s * 10**6 for s in STAMPS]), ""),
    "nanoseconds.csv": (table([s * 10**9 for s in STAMPS]), ""),
    "float-seconds.csv": (table([float(s) for s in STAMPS]), ""),
    "slashes.csv": (table(iso(s, "%Y/%m/%d %H:%M") for s in STAMPS), ""),
    "am-pm.csv": (table(iso(s, "%Y-%m-%d %I-%p") for s in STAMPS), ""),
    "14-digits.csv": (table(iso(s, "%Y%m%d%H%M%S") for s in STAMPS), ""),
    "14-digits.json": (
        json.dumps([[int(iso(s, "%Y%m%d%H%M%S")), *row[1:]] for s, row in zip(STAMPS, CANDLES, strict=True)]),
        "",
    ),
    "14-digits.parquet": (parquet(frame().assign(date=[int(iso(s, "%Y%m%d%H%M%S")) for s in STAMPS])), ""),
    "semicolons.csv": (table(separator=";"), ""),
    "tabs.tsv": (table(separator="\t"), ""),
    "tabs.csv": (table(separator="\t"), ""),
    "bars.csv": (table(separator="|"), ""),
    "german.csv": (table(separator=";", number=german), ""),
    "decimal-commas.csv": (table(separator=";", number=lambda v: repr(v).replace(".", ",")), ""),
    "decimal-commas-quoted.csv": (table(number=lambda v: f'"{v!r}"'.replace(".", ",")), ""),
    "thousands-quoted.csv": (table(number=english), ""),
    "quoted.csv": (table((f'"{iso(s)}"' for s in STAMPS), number=lambda v: f'"{v!r}"'), ""),
    "quoted-note-over-lines.csv": (table(head=f"timestamp,{NAMES},note", tail=lambda i: ',"two\nlines"'), ""),
    "amount.csv": (table(head=f"timestamps,{NAMES},amount", tail=lambda i: f",{i}.5"), ""),
    "index-column.csv": ("\n".join(f"{i},{text}" for i, text in enumerate(PLAIN.splitlines())), ""),
    "banner.csv": (banner(PLAIN), "line 1 is above the header and was skipped"),
    "two-volumes.csv": (download(STAMPS), "the volume is that of the column 'Volume BTC', not 'Volume USDT'"),
    "kaggle.csv": (
        table(
            STAMPS,
            head="Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency)",
            tail=lambda i: f",{ROWS[i][4] * ROWS[i][3]:.4f}",
        ),
        "'Volume_(BTC)'",
    ),
    "newest-first.csv": (newest_first(PLAIN), "newest first"),
    "download.csv": (banner(newest_first(download([s * 1000 for s in STAMPS]))), "newest first"),
    "no-header.csv": (table(head=""), "read as time, open, high, low, close, volume"),
    "klines.csv": (klines(), "the order of Binance"),
    "klines-microseconds.csv": (klines(10**6), "the order of Binance"),
    "BTCUSDT-1h-2024-01.zip": (zipped(("BTCUSDT-1h-2024-01.csv", klines())), "the order of Binance"),
    "BTCUSDT-1h-2025-01.zip": (zipped(("BTCUSDT-1h-2025-01.csv", klines(10**6))), "the order of Binance"),
    "with-header.zip": (
        zipped(("x.csv", "open_time,open,high,low,close,volume,close_time,quote_volume,count,a,b,ignore\n" + klines())),
        "",
    ),
    "stored.zip": (zipped(("folder/", ""), ("folder/x.csv", PLAIN), method=zipfile.ZIP_STORED), ""),
    "macos.zip": (zipped(("x.csv", PLAIN), ("__MACOSX/._x.csv", b"\0\1")), ""),
    "report.zip": (zipped(("x.csv", PLAIN), ("x.txt", "Gap of 120s found between two bars.")), ""),
    "json.zip": (zipped(("x.json", json.dumps(CANDLES))), ""),
    "plain.csv.gz": (gzip.compress(PLAIN.encode()), ""),
    "freqtrade.json": (json.dumps(CANDLES), ""),
    "freqtrade-lines.json": (json.dumps(CANDLES).replace("], ", "],\n "), ""),
    "freqtrade.json.gz": (gzip.compress(json.dumps(CANDLES).encode()), ""),
    "strings.json": (json.dumps([[row[0], *map(str, row[1:])] for row in CANDLES]), ""),
    "objects.json": (json.dumps(OBJECTS), ""),
    "wrapped.json": (json.dumps({"candles": CANDLES}), "key 'candles'"),
    "objects-newest-first.json": (json.dumps(OBJECTS[::-1], indent=1), "newest first"),
    "freqtrade.feather": (feather(frame()), ""),
    "freqtrade-zstd.feather": (feather(frame("ms"), "zstd"), ""),
    "raw.feather": (feather(frame(), "uncompressed"), ""),
    "columns.parquet": (parquet(frame()), ""),
    "index.parquet": (parquet(frame().set_index("date"), compression="gzip"), ""),
    "epochs.parquet": (parquet(frame().assign(date=STAMPS)), ""),
    "text-times.parquet": (parquet(frame().assign(date=[iso(s) for s in STAMPS])), ""),
    "nested-besides.parquet": (parquet(frame().assign(more=[[i] for i in range(N)])), ""),
    "newest-first.parquet": (parquet(frame()[::-1]), "newest first"),
}

SECOND = ROWS[1]
# Files that are refused, and parts of the message: place, value, remedy.
BAD: dict[str, tuple[str | bytes, list[str]]] = {
    "blank-last-time.csv": (cell(PLAIN, N + 1, 0, ""), [f"line {N + 1}, column 'timestamp'", "blank cell", "drop-damaged"]),
    "null-after-notes-over-lines.csv": (
        cell(table(head=f"timestamp,{NAMES},note", tail=lambda i: ',"two\r\nlines"'), 10, 4, "NULL"),
        ["line 10, column 'close'"],
    ),
    "null.csv": (cell(PLAIN, 5, 4, "NULL"), ["line 5, column 'close'", "'NULL'", "drop-damaged"]),
    "spreadsheet.csv": (
        cell(table([s * 1000 for s in STAMPS]), 9, 0, "1.63875E+12"),
        ["line 9", "'1.63875E+12'", "spreadsheet"],
    ),
    "spreadsheet-comma.csv": (
        cell(table([s * 1000 for s in STAMPS], separator=";"), 2, 0, "1,63875E+12", ";"),
        ["line 2", "digits are lost"],
    ),
    "two-digit-year.csv": (table(iso(s, "%m/%d/%y %H:%M") for s in STAMPS), ["line 2", "'01/01/24 00:00'", "two digits"]),
    "day-or-month.csv": (table(iso(s, "%d.%m.%Y %H:%M") for s in STAMPS), ["line 2", "'01.01.2024 00:00'", "day or the month"]),
    "am-pm-alone.csv": (
        table(iso(s, "%d %m %Y %I%p") for s in STAMPS),
        ["line 2", "'01 01 2024 12AM'", "00 to 23", "--time-format"],
    ),
    "day-number.csv": (table([45292.0 + i / 24 for i in range(N)]), ["line 3", "'45292.041666666664'", "day number"]),
    "form-changes.csv": (
        cell(table(iso(s, "%Y/%m/%d %H:%M") for s in STAMPS), 9, 0, "2024-01-01 07:00"),
        ["line 9", "as in the rows above ('2024/01/01 00:00')", "'2024-01-01 07:00'"],
    ),
    "mixed-units.csv": (
        cell(table([s * 1000 for s in STAMPS]), 12, 0, str(STAMPS[10])),
        ["line 12", "from milliseconds to seconds", "one unit"],
    ),
    "mixed-styles.csv": (
        cell(table(STAMPS), 12, 0, iso(STAMPS[10])),
        ["line 12", "'2024-01-01 10:00:00'", "as in the rows above"],
    ),
    "some-offsets.csv": (cell(PLAIN, 6, 0, "2024-01-01 05:00:00+01:00"), ["line 2", "no offset", "line 6"]),
    "ambiguous-commas.csv": (
        table(separator=";", number=lambda v: f"{1 + v / 1000:.3f}".replace(".", ",")),
        ["decimal comma", "thousands", "no cell"],
    ),
    "contradicting-commas.csv": (
        cell(table(separator=";", number=german), 7, 1, "30,123.5", ";"),
        ["decimal comma in", "separates thousands in '30,123.5'"],
    ),
    "one-point-among-commas.csv": (
        cell(table(separator=";", number=german), 7, 1, "30123.25", ";"),
        ["line 7, column 'open'", "'30123.25'"],
    ),
    "apostrophes.csv": (cell(PLAIN, 3, 1, "30'123.45"), ["line 3", "without thousands separators"]),
    "currency.csv": (cell(PLAIN, 3, 1, "$30123.45"), ["line 3", "'$30123.45'", "currency signs"]),
    "thousands-unquoted.csv": (cell(PLAIN, 3, 1, "30,123.45"), ["line 3", "expected 6 cells", "got 7"]),
    "no-header-11-columns.csv": (
        "\n".join(row.rpartition(",")[0] for row in klines().splitlines()),
        ["line 1", "no header", "11 cells", "--columns"],
    ),
    "data-above-header.csv": (PLAIN.splitlines()[1] + "\n" + PLAIN, ["line 1", "row of data is above the header of line 2"]),
    "no-volume.csv": ("\n".join(row.rpartition(",")[0] for row in PLAIN.splitlines()), ["'volume' is missing"]),
    "only-quote-volume.csv": (table(head="timestamp,open,high,low,close,Volume USDT"), ["'volume' is missing", "base units"]),
    "volumes-exchanged.csv": (
        download(STAMPS).replace("Volume BTC,Volume USDT", "Volume USDT,Volume BTC"),
        ["'Volume BTC'", "base units", "price"],
    ),
    "close-time-only.csv": (table(head=f"close_time,{NAMES}"), ["time column", "'close_time'"]),
    "duplicates.csv": (
        line(PLAIN, 5, lambda old: f"{old}\n{old}"),
        ["occurs twice", "bar 4 is line 5, bar 5 is line 6", "data check"],
    ),
    "duplicates-disagree.csv": (cell(line(PLAIN, 5, lambda old: f"{old}\n{old}"), 6, 5, "1"), ["occurs twice", "line 6"]),
    "duplicates-newest-first.csv": (newest_first(line(PLAIN, 5, lambda old: f"{old}\n{old}")), ["occurs twice"]),
    "out-of-order.csv": (cell(cell(PLAIN, 4, 0, iso(STAMPS[3])), 5, 0, iso(STAMPS[2])), ["out of order", "bar 4 is line 5"]),
    "off-grid.csv": (cell(PLAIN, 8, 0, "2024-01-01 06:28:14.789"), ["off the grid", "bar 7 is line 8"]),
    "off-grid.json": (
        json.dumps(CANDLES[:9] + [[row[0] + 1_694_789, *row[1:]] for row in CANDLES[9:]]),
        ["off the grid", "row 10"],
    ),
    "high-below-low.csv": (cell(PLAIN, 3, 2, "1.5"), ["high 1.5 is below low", "bar 2 is line 3"]),
    "zero-price.csv": (cell(PLAIN, 3, 3, "0"), ["low is 0.0", "line 3"]),
    "negative-volume.csv": (cell(PLAIN, 3, 5, "-1"), ["volume is -1.0", "line 3"]),
    "cut-row.csv": (PLAIN[:-20], [f"line {N + 1}"]),
    "open-quote.csv": (cell(PLAIN, 4, 0, '"2024'), ["quotes"]),
    "latin-1.csv": (banner(PLAIN).replace("example", "b\xf6rse").encode("latin-1"), ["line 1", "0xf6", "UTF-8"]),
    "latin-1-deep.csv": (PLAIN.encode() + b"\xe9\n", [f"line {N + 2}", "0xe9"]),
    "utf16-cut.csv": (PLAIN.encode("utf-16")[:-1], ["UTF-16"]),
    "html.csv": ("<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", ["line 1", "web page"]),
    "long-line.csv": ("x" * 200_000, ["line 1", "longer than 100,000 characters"]),
    "columns.csv": (",".join([f"timestamp,{NAMES}", *["x"] * 2000]), ["2,006 columns"]),
    "empty.csv": ("", ["empty"]),
    "header-only.csv": (PLAIN.splitlines()[0], ["no row of data"]),
    "gz-inside.csv": (gzip.compress(PLAIN.encode()), ["name the file .csv.gz"]),
    "parquet-inside.csv": (parquet(frame()), ["name the file .parquet"]),
    "sheet.csv": (zipped(("xl/workbook.xml", "")), ["save the sheet as CSV"]),
    "cut.csv.gz": (gzip.compress(PLAIN.encode())[:-9], ["not a complete gzip file"]),
    "bomb.csv.gz": (gzip.compress(b"1" * 20_000_000), ["line 1", "longer than"]),
    "blank-lines.csv": (PLAIN + "\n" * 5_000, ["line 2001", "1,000 blank lines"]),
    "bomb-lines.csv.gz": (
        gzip.compress(PLAIN.encode() + (PLAIN.splitlines()[-1] + "\n").encode() * 200_000),
        ["bomb", "unpack it yourself"],
    ),
    "bomb.zip": (zipped(("x.json", b"[" + b" " * 20_000_000)), ["bomb"]),
    "bomb.json.gz": (gzip.compress(b"[" + b"[" * 20_000_000), ["bomb"]),
    "two-texts.zip": (zipped(("a.csv", PLAIN), ("b.csv", PLAIN)), ["one text file", "got 2", "'a.csv'"]),
    "no-text.zip": (zipped(("a.exe", "")), ["one text file", "got 0", "'a.exe'"]),
    "name-twice.zip": (
        zipped(("\u00e9.csv", PLAIN)).replace("\u00e9".encode(), b"\xa1\xa1", 1),
        ["not a complete zip archive", "is not text"],
    ),
    "traversal.zip": (zipped(("../../x.csv", PLAIN)), ["'../../x.csv'", "path outside the archive"]),
    "absolute.zip": (zipped(("/etc/x.csv", PLAIN)), ["path outside the archive"]),
    "windows-traversal.zip": (zipped(("..\\x.csv", PLAIN)), ["path outside the archive"]),
    "bzip2.zip": (zipped(("x.csv", PLAIN), method=zipfile.ZIP_BZIP2), ["method 12"]),
    "encrypted.zip": (
        zipped(("x.csv", PLAIN))
        .replace(b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04\x14\0\1\0")
        .replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"),
        ["encrypted"],
    ),
    "many-entries.zip": (zipped(*((f"{i}.csv", "") for i in range(1_200))), ["more than 1,000 entries"]),
    "cut.zip": (zipped(("x.csv", PLAIN))[:-30], ["not a complete zip archive"]),
    "text.zip": (PLAIN, ["not a complete zip archive"]),
    "wrong-sum.zip": (
        zipped(("x.csv", PLAIN), method=zipfile.ZIP_STORED).replace(b"2024-01-01 05", b"2024-01-01 06", 1),
        ["not a complete zip", "CRC"],
    ),
    "page.json": ("<html>502 Bad Gateway</html>", ["line 1", "array of rows", "<html>"]),
    "empty.json": ("[]", ["no row"]),
    "blank-row.json": ("[[]]", ["row 1"]),
    "deep.json": ("[" * 100_000, ["row 1", "not nested"]),
    "deep-inside.json": ("[[1704067200000, " + "[" * 5000 + "]" * 5000 + "]]", ["row 1"]),
    "cut.json": (json.dumps(CANDLES)[:-40], [f"row {N}"]),
    "nan.json": (json.dumps(CANDLES).replace(str(ROWS[2][3]), "NaN", 1), ["bar 3", "nan"]),
    "null.json": (json.dumps(CANDLES).replace(str(ROWS[2][3]), "null", 1), ["row 3", "null"]),
    "seven.json": (json.dumps([*CANDLES[:4], [*CANDLES[4], 1]]), ["row 5", "7 of them"]),
    "two-kinds.json": (json.dumps([CANDLES[0], OBJECTS[1]]), ["row 2"]),
    "huge-number.json": (json.dumps(CANDLES).replace(str(ROWS[2][3]), "9" * 3000, 1), ["row 3"]),
    "trailing.json": (json.dumps(CANDLES) + "[]", ["nothing after the array"]),
    "text-close.parquet": (parquet(frame().assign(close="x")), ["column 'close': expected a column of numbers"]),
    "null-close.parquet": (
        parquet(frame().assign(close=[None, *ROWS[1][:1] * (N - 1)])),
        ["row 1, column 'close'", "blank cell"],
    ),
    "list-time.parquet": (parquet(frame().assign(date=[[i] for i in range(N)])), ["column 'date'", "column of times"]),
    "cut.parquet": (parquet(frame())[:-30], ["not a complete Parquet file"]),
    "cut.feather": (feather(frame())[:-30], ["not a complete Feather file"]),
    "version-1.feather": (b"FEA1" + bytes(100), ["version 1"]),
    "text.feather": (PLAIN, ["not a complete Feather file"]),
    "wide.parquet": (
        parquet(pd.concat([frame(), pd.DataFrame({f"x{i}": [0.0] * N for i in range(1_100)})], axis=1)),
        ["1,106 columns"],
    ),
    "book.xlsx": (zipped(("xl/workbook.xml", "")), ["'.xlsx'", "convert the file"]),
}


def put(folder: Path, name: str, data: str | bytes) -> Path:
    """Write one file of the corpus."""
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_the_corpus_is_large_enough() -> None:
    """A smaller corpus would cover less than the documentation states."""
    assert len(GOOD) >= 50
    assert len(BAD) >= 70
    assert not set(GOOD) & set(BAD)


@pytest.mark.parametrize("name", GOOD)
def test_good_file(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """A file that users have would be refused, read as other bars, or reinterpreted without a warning."""
    data, warning = GOOD[name]
    with caplog.at_level(logging.WARNING):
        bars = read_bars(put(tmp_path, name, data))
    assert np.array_equal(bars.time, np.array(STAMPS, "datetime64[s]"))
    for column, expected in zip(COLUMNS, (OPEN, HIGH, LOW, CLOSE, VOLUME), strict=True):
        assert np.array_equal(getattr(bars, column), expected), column
    assert bars.step == HOUR
    assert warning in caplog.text
    assert bool(caplog.records) == bool(warning)


@pytest.mark.parametrize("synthetic", [False, True])
@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_back_what_it_writes(tmp_path: Path, ending: str, synthetic: bool) -> None:
    """A format would change a value, or lose the mark of synthetic bars."""
    bars = replace(BARS, synthetic=synthetic)
    back = read_bars(put(tmp_path, f"bars{ending}", file_of(bars, ending)))
    assert (back.digest, back.synthetic) == (bars.digest, synthetic)


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_refuses_a_part_of_a_file(tmp_path: Path, ending: str) -> None:
    """An interrupted download would be read as bars, or end in a traceback."""
    data = file_of(BARS, ending)
    for name, part in (("half", data[: len(data) // 2]), ("empty", b""), ("zeros", bytes(1000))):
        with pytest.raises(DataError, match=rf"^\S*{name}\{ending}"):
            read_bars(put(tmp_path, f"{name}{ending}", part))


@pytest.mark.parametrize("name", BAD)
def test_bad_file(tmp_path: Path, name: str) -> None:
    """A bad file would be read as a good one, end in a traceback, or be refused without place and remedy."""
    data, fragments = BAD[name]
    with pytest.raises(DataError) as caught:
        bars_of_file(put(tmp_path, name, data))
    message = str(caught.value)
    assert [fragment for fragment in fragments if fragment not in message] == [], message
    assert name in message
    assert "\n" not in message
    assert len(message) < 1_500


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of terabytes would be read until the memory is full."""
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(content.LARGEST_BYTES + 1)
    for name in ("huge.csv", "huge.parquet", "huge.feather", "huge.zip", "huge.json"):
        (tmp_path / "huge.csv").rename(tmp_path / "now") if name == "huge.csv" else None
        (tmp_path / "now").rename(tmp_path / name)
        with pytest.raises(DataError, match="at most 1,000,000,000 are read"):
            read_bars(tmp_path / name)
        (tmp_path / name).rename(tmp_path / "now")
    monkeypatch.setattr(content, "MOST_ROWS", 20)
    with pytest.raises(DataError, match="more than 20 lines"):
        read_bars(put(tmp_path, "long.csv", PLAIN))


def test_a_fault_of_another_market_does_not_matter(tmp_path: Path) -> None:
    """A damaged row of a market that is not chosen would refuse the file, or a blank market would be taken for another."""
    rows = PLAIN.splitlines()
    btc = [f"{row},BTC" for row in rows[1:]]
    eth = [f"{row},ETH" for row in rows[1:]]
    eth[3] = "2024-01-01 03:00:00,NULL,1,1,1,1,ETH"
    path = put(
        tmp_path, "two.csv", "\n".join([f"{rows[0]},symbol", *(row for pair in zip(btc, eth, strict=True) for row in pair)])
    )
    assert read_bars(path, symbol="btc").digest == BARS.digest
    for symbol, message in (("ETH", "'NULL'"), ("SOL", "'BTC', 'ETH'")):
        with pytest.raises(DataError, match=message):
            read_bars(path, symbol=symbol)


def test_how_a_file_was_read_is_in_the_record(tmp_path: Path) -> None:
    """If it fails, a reader of the run does not see that its bars were read in a way that could have been another."""
    bars = read_bars(put(tmp_path, "klines.csv", klines()))
    assert "order of Binance" in bars.notes[0]
    assert bars.take(slice(5, 20)).notes == bars.notes
    run = flagbt.backtest(bars, "buy-and-hold")
    assert run.data.notes == bars.notes
    page = tmp_path / "page.html"
    run.tearsheet(page)
    assert "How the file was read" in page.read_text(encoding="utf-8")
    assert "notes" not in flagbt.backtest(BARS, "buy-and-hold").data.to_json()
