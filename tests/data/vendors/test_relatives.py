"""The near relatives of every vendor's file: the same bars in another notation are read as them or refused, never as others."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from vendor_files import FILES, VendorFile

from flagbt.data.readers import read_bars
from flagbt.errors import DataError

Cells = list[list[str]]
HEADERLESS = ("binance-vision.csv", "binance-vision-us.csv", "XBTUSD_60.csv", "EURUSD60.csv", "DAT_ASCII_EURUSD_M1_2024.csv")
# These times are local, or the second of two columns, so that a mark of UTC would make others of them.
OTHER_ZONES = ("DAT_", "dukascopy-local", "yfinance-history")


def cells_of(made: VendorFile) -> tuple[Cells, int]:
    """Return the cells of a file of text, and how many of its lines are above the data."""
    separator = next(each for each in ("\t", ";", ",") if each in made.content.splitlines()[-1])
    cells = list(csv.reader(io.StringIO(made.content), delimiter=separator))
    if made.name in HEADERLESS:
        return cells, 0
    above = next(at for at, row in enumerate(cells) if any(re.fullmatch(r"\d+\.\d+", cell) for cell in row))
    return cells, above


def text_of(cells: Cells, separator: str = ",", quoting: int = csv.QUOTE_MINIMAL, end: str = "\n") -> str:
    """Return cells as text."""
    out = io.StringIO()
    csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end).writerows(cells)  # type: ignore[arg-type]
    return out.getvalue()


def zipped(name: str, text: str) -> bytes:
    """Return text in an archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return packed.getvalue()


def packings(name: str, content: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield what the file is packed in: a name for it, the file's name, its bytes."""
    data = content.encode()
    yield "mark", name, b"\xef\xbb\xbf" + data
    yield "utf-16", name, content.encode("utf-16")
    yield "utf-16-be", name, b"\xfe\xff" + content.encode("utf-16-be")
    yield "gzip", f"{name}.gz", gzip.compress(data)
    yield "zip", f"{Path(name).stem}.zip", zipped(name, content)
    yield "upper-case ending", f"{Path(name).stem}{Path(name).suffix.upper()}", data


def written(made: VendorFile) -> Iterator[tuple[str, str]]:
    """Yield the other ways to write the text that change neither a name nor a cell, which must be read."""
    cells, above = cells_of(made)
    for separator in (",", ";", "\t", "|"):
        yield f"separator {separator!r}", text_of(cells, separator)
    yield "quoted", text_of(cells, quoting=csv.QUOTE_ALL)
    yield "quoted with semicolons", text_of(cells, ";", csv.QUOTE_ALL)
    yield "windows", text_of(cells, end="\r\n")
    yield "the other way round", text_of(cells[:above] + cells[above:][::-1])
    yield "blank lines at the end", text_of(cells) + "\n\n"
    yield "without the last line end", text_of(cells)[:-1]
    yield "blanks", text_of([[f" {cell} " if cell else cell for cell in row] for row in cells])


def changed(made: VendorFile) -> Iterator[tuple[str, str]]:
    """Yield texts of other columns or times, which may be refused."""
    cells, above = cells_of(made)
    head, data = cells[:above], cells[above:]
    for name, case in (("lower", str.lower), ("upper", str.upper), ("title", str.title)):
        yield f"{name} case", text_of([[case(cell) for cell in row] for row in head] + data)
    for name, cell in (("text", "x"), ("number", "1"), ("price", data[0][-1]), ("blank", "")):
        more = [[*row, "note" if at == above - 1 else ""] if len(row) > 1 else row for at, row in enumerate(head)]
        yield f"a last column, {name}", text_of(more + [[*row, cell] for row in data])
        yield (
            f"a first column, {name}",
            text_of([row if len(row) == 1 else [*row[-1:], *row[:-1]] for row in more] + [[cell, *row] for row in data]),
        )
    yield "without the last column", text_of([row if len(row) == 1 else row[:-1] for row in cells])
    yield "the separator at the end of lines", "".join(f"{row},\n" for row in text_of(cells).splitlines())
    width = len(data[0])
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(width).tolist() if seed else list(range(width))[::-1]
        yield f"columns {order}", text_of([row if len(row) == 1 else [row[at] for at in order] for row in cells])
    if not made.name.startswith(OTHER_ZONES):
        yield from marked_as_utc(head, data)
    yield "without the header", text_of(data)
    yield "the header twice", text_of(head + cells)
    yield "the header again at the end", text_of(cells + head)
    yield "another banner", "# a note, with commas, and more\n" + text_of(cells)


def marked_as_utc(head: Cells, data: Cells) -> Iterator[tuple[str, str]]:
    """Yield texts whose times, written without an offset, have one of zero, or the other separator of date and time."""
    at = next((at for at, cell in enumerate(data[0]) if re.fullmatch(r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?", cell)), None)
    if at is None:
        return
    for mark in ("Z", "+00:00", " UTC", "+0000", " +00:00", "-00:00", ".000", ".000Z", " GMT"):
        yield f"times with {mark!r}", text_of(head + [[*row[:at], row[at] + mark, *row[at + 1 :]] for row in data])
    yield "times with T", text_of(head + [[*row[:at], row[at].replace(" ", "T"), *row[at + 1 :]] for row in data])
    yield "slashes", text_of(head + [[*row[:at], row[at].replace("-", "/"), *row[at + 1 :]] for row in data])
    yield "points", text_of(head + [[*row[:at], row[at].replace("-", "."), *row[at + 1 :]] for row in data])


def arrays(value: object, change: Callable[[list[object]], list[object]]) -> object:
    """Return JSON with each array of rows changed."""
    if isinstance(value, dict):
        return {name: arrays(each, change) for name, each in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return change(value)
    return value


def cellwise(change: Callable[[object], object]) -> Callable[[list[object]], list[object]]:
    """Return a change of rows that changes each cell."""

    def of_rows(rows: list[object]) -> list[object]:
        return [
            {name: change(cell) for name, cell in row.items()} if isinstance(row, dict) else [change(cell) for cell in row]  # type: ignore[union-attr]
            for row in rows
        ]

    return of_rows


def rowwise(
    of_list: Callable[[list[object]], list[object]], of_dict: Callable[[dict[str, object]], dict[str, object]]
) -> Callable[[list[object]], list[object]]:
    """Return a change of rows by one for arrays and one for objects."""
    return lambda rows: [of_dict(row) if isinstance(row, dict) else of_list(row) for row in rows]  # type: ignore[arg-type]


def with_cell(cell: object, *, is_last: bool) -> Callable[[list[object]], list[object]]:
    """Return a change of rows that adds a cell to each."""
    if is_last:
        return rowwise(lambda row: [*row, cell], lambda row: row | {"more": cell})
    return rowwise(lambda row: [cell, *row], lambda row: {"more": cell} | row)


def with_names(case: Callable[[str], str]) -> Callable[[list[object]], list[object]]:
    """Return a change of rows that writes their names in another case."""
    return rowwise(list, lambda row: {case(name): cell for name, cell in row.items()})


def rows_in(value: object) -> list[object]:
    """Return the first array of rows."""
    found: list[list[object]] = []
    arrays(value, lambda rows: found.append(rows) or rows)  # type: ignore[func-returns-value]
    return found[0]


def as_number(cell: object) -> object:
    """Return a cell of text as a number, if it is one."""
    return json.loads(cell) if isinstance(cell, str) and re.fullmatch(r"-?\d+(\.\d+)?", cell) else cell


def json_written(made: VendorFile) -> Iterator[tuple[str, str]]:
    """Yield the other ways to write JSON that change no cell, which must be read."""
    value = json.loads(made.content)
    yield "indented", json.dumps(value, indent=2)
    yield "compact", json.dumps(value, separators=(",", ":"))
    yield "windows", json.dumps(value, indent=1).replace("\n", "\r\n")
    yield "the other way round", json.dumps(arrays(value, lambda rows: rows[::-1]))
    yield "names sorted", json.dumps(value, sort_keys=True)
    yield "other order of names", json.dumps(arrays(value, rowwise(list, lambda row: dict(reversed(row.items())))))
    if isinstance(value, dict):
        yield "other order around the rows", json.dumps(dict(reversed(value.items())))


def json_changed(made: VendorFile) -> Iterator[tuple[str, str]]:
    """Yield JSON with other cells or other wrapping, which may be refused."""
    value = json.loads(made.content)
    yield "all text", json.dumps(arrays(value, cellwise(lambda cell: cell if cell is None else str(cell))))
    yield "all numbers", json.dumps(arrays(value, cellwise(as_number)))
    for name, cell in (("null", None), ("1", 1), ("text", "x"), ("price", 45_000.5), ("false", False)):
        yield f"a last cell, {name}", json.dumps(arrays(value, with_cell(cell, is_last=True)))
        yield f"a first cell, {name}", json.dumps(arrays(value, with_cell(cell, is_last=False)))
    yield (
        "without the last cell",
        json.dumps(arrays(value, rowwise(lambda row: row[:-1], lambda row: dict(list(row.items())[:-1])))),
    )
    for name, case in (("upper", str.upper), ("title", str.title)):
        yield f"{name} case", json.dumps(arrays(value, with_names(case)))
    rows = rows_in(value)
    if "symbol" not in made.reading:
        for wrapped in (
            {"data": rows},
            {"result": {"list": rows}},
            {"a": {"b": {"c": rows}}},
            {"rows": rows, "others": [1, 2]},
            {"result": rows, "n": 60},
        ):
            yield f"in {list(wrapped)}", json.dumps(wrapped)
        yield "in an array", json.dumps([rows])
        yield from as_text(rows)
    if isinstance(rows[0], list):
        width = len(rows[0])
        for seed in range(6):
            order = np.random.default_rng(seed).permutation(width).tolist()
            yield f"cells {order}", json.dumps([[row[at] for at in order] for row in rows])  # type: ignore[index]


def as_text(rows: list[object]) -> Iterator[tuple[str, str]]:
    """Yield JSON rows as CSV, as scripts save them: without a header, and with pandas' numbers for one."""
    cells = [[str(cell) for cell in (row.values() if isinstance(row, dict) else row)] for row in rows]  # type: ignore[union-attr,attr-defined]
    names = list(map(str, rows[0])) if isinstance(rows[0], dict) else None
    if names:
        yield ".csv with names", text_of([names, *cells])
        yield ".csv with names and numbers of rows", text_of([["", *names], *([str(at), *row] for at, row in enumerate(cells))])
    yield ".csv without names", text_of(cells)
    yield ".csv with numbers as names", text_of([list(map(str, range(len(cells[0])))), *cells])
    yield (
        ".csv with numbers in front",
        text_of([["", *map(str, range(len(cells[0])))], *([str(at), *row] for at, row in enumerate(cells))]),
    )


def outcome(folder: Path, made: VendorFile, name: str, data: bytes) -> str:
    """Return 'read', or why the file was refused, or 'WRONG'."""
    path = folder / name
    path.write_bytes(data)
    try:
        bars = read_bars(path, **made.reading)
    except DataError as refused:
        return str(refused)
    return "read" if bars.digest == made.bars.digest else f"WRONG {bars!r}"


def relatives(made: VendorFile, *, must: bool) -> Iterator[tuple[str, str, bytes]]:
    """Yield the relatives of a file: those that must be read, or those that may be refused."""
    is_json = made.name.endswith(".json")
    if must:
        yield from packings(made.name, made.content)
        texts = json_written(made) if is_json else written(made)
    else:
        texts = json_changed(made) if is_json else changed(made)
    for name, text in texts:
        yield name, "changed.csv" if name.startswith(".csv") else made.name, text.encode()


@pytest.mark.parametrize("name", FILES)
def test_another_notation_is_read(tmp_path: Path, name: str) -> None:
    """A file that was saved with another separator, order, encoding or packing would be refused, or read as other bars."""
    made = FILES[name]
    found = {each: outcome(tmp_path, made, *file) for each, *file in relatives(made, must=True)}  # type: ignore[arg-type]
    assert {each: verdict for each, verdict in found.items() if verdict != "read"} == {}


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_never_read_as_other_bars(tmp_path: Path, name: str) -> None:
    """A column more, less or elsewhere, or other wrapping, would give a backtest of prices that the file does not have."""
    made = FILES[name]
    found = {each: outcome(tmp_path, made, *file) for each, *file in relatives(made, must=False)}  # type: ignore[arg-type]
    assert {each: verdict for each, verdict in found.items() if verdict.startswith("WRONG")} == {}
    assert {
        each: verdict
        for each, verdict in found.items()
        if verdict != "read" and "changed.csv" not in verdict and name not in verdict
    } == {}
