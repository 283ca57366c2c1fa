"""Random hostile files: every reader gives bars or a one-paragraph error, within seconds and a gigabyte."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flagbt.data.formats import arrow_table as columnar
from flagbt.data.readers import read_bars
from flagbt.errors import DataError

SCRIPT = Path(__file__).with_name("fuzz_readers.py")
SLICE = 2_000
quick = settings(max_examples=60, deadline=5_000, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Import fuzz_readers.py by its path."""
    source = importlib.util.spec_from_file_location("fuzz_readers", SCRIPT)
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Keep thousands of warnings out of the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def hostile(script: ModuleType) -> Iterator[Callable[[str, bytes], bool]]:
    """Return a function that writes bytes under a file ending and reads them."""
    with tempfile.TemporaryDirectory() as folder:

        def read(ending: str, data: bytes) -> bool:
            path = Path(folder) / f"input{ending}"
            path.write_bytes(data)
            return bool(script.read_hostile(path))

        yield read


numbers = st.one_of(
    st.floats(),
    st.integers(),
    st.floats(1, 1e6).map(lambda v: f"{v:,.2f}"),
    st.sampled_from(["", "NULL", "1,5", "1.234", "-", "1e400"]),
)
stamps = st.one_of(
    st.integers(0, 10**20),
    st.integers(1_500_000_000, 1_800_000_000),
    st.datetimes().map(str),
    st.sampled_from(["", "1.6E+12", "01/02/21", "2024-01-01 10-PM", "2024-01-01T00:00+09", "nan", "9" * 30]),
)
words = st.sampled_from(
    ["timestamp", "unix", "open", "High", "low", "close", "Volume BTC", "Volume USDT", "volume", "x", "synthetic"]
)
header = st.one_of(st.just(["timestamp", "open", "high", "low", "close", "volume"]), st.lists(words, max_size=9), st.just([]))
rows = st.lists(st.tuples(stamps, st.lists(numbers, min_size=4, max_size=6)), max_size=12)


@quick
@given(
    head=header,
    rows=rows,
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r", "\0"]),
    quote=st.booleans(),
)
def test_text_of_hostile_cells(hostile: Any, head: list[str], rows: Any, separator: str, end: str, quote: bool) -> None:
    """Cells of every kind, in any layout, would end in a traceback, or be accepted by one path and refused by the other."""
    lines = [head, *([str(time), *map(str, cells)] for time, cells in rows)]
    text = end.join(separator.join(f'"{cell}"' if quote else cell for cell in line) for line in lines)
    data = text.encode("utf-8", "surrogatepass")
    hostile(".csv", data)
    hostile(".tsv", text.encode("utf-16", "surrogatepass"))
    hostile(".csv.gz", gzip.compress(data))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.csv", data)
    hostile(".zip", buffer.getvalue())


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda v: st.lists(v) | st.dictionaries(words, v),
)
json_rows = st.lists(st.one_of(values, st.tuples(stamps, numbers, numbers, numbers, numbers, numbers)), max_size=8)


@quick
@given(value=st.one_of(values, json_rows))
def test_json_of_hostile_values(hostile: Any, value: Any) -> None:
    """JSON of a different shape would end in a traceback."""
    hostile(".json", json.dumps(value, default=str).encode())


columns = st.sampled_from(
    [
        "float64",
        "int64",
        "float32",
        "uint8",
        "bool",
        "string",
        "timestamp[s]",
        "timestamp[us, tz=UTC]",
        "date32",
        "list",
        "decimal",
    ]
)


@quick
@given(
    kinds=st.lists(columns, min_size=6, max_size=6), n=st.integers(0, 5), start=st.integers(-(2**40), 2**40), null=st.booleans()
)
def test_tables_of_hostile_columns(hostile: Any, kinds: list[str], n: int, start: int, null: bool) -> None:
    """Columns of another type than numbers and times would end in a traceback."""
    types = {
        "timestamp[s]": pa.timestamp("s"),
        "timestamp[us, tz=UTC]": pa.timestamp("us", "UTC"),
        "string": pa.string(),
        "bool": pa.bool_(),
        "date32": pa.date32(),
        "list": pa.list_(pa.int64()),
        "decimal": pa.decimal128(20, 2),
    }
    names = ["time", "open", "high", "low", "close", "volume"]
    arrays = []
    for kind in kinds:
        whole = [start + 3600 * i for i in range(n)]
        cells: list[Any] = [None] * n if null else whole
        if kind in ("string", "list", "bool", "uint8", "date32", "decimal", "float32") and not null:
            cells = [
                {
                    "string": str(i),
                    "list": [i],
                    "bool": i % 2 == 0,
                    "uint8": i % 256,
                    "float32": float(i % 2**20),
                    "date32": i % 10_000,
                    "decimal": i % 1000,
                }[kind]
                for i in whole
            ]
        arrays.append(pa.array(cells, types[kind] if kind in types else getattr(pa, kind)()))
    table = pa.table(dict(zip(names, arrays, strict=True)))
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    hostile(".parquet", buffer.getvalue())
    buffer = io.BytesIO()
    pyarrow.feather.write_feather(table, buffer, compression="lz4")
    hostile(".feather", buffer.getvalue())


def zeros(n: int) -> pa.Table:
    """Return a table that compresses to nearly nothing."""
    return pa.table(dict.fromkeys(("time", "open", "high", "low", "close", "volume"), pa.array(np.full(n, 1.0))))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets a process bound its memory this way")
def test_feather_that_expands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that expands to gigabytes would fill the machine's memory."""
    path = tmp_path / "bomb.feather"
    pyarrow.feather.write_feather(zeros(4_000_000), path, compression="zstd", chunksize=4_000_000)
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(columnar, "MOST_MEMORY", 20_000_000)
    with pytest.raises(DataError, match="takes more than 20,000,000 bytes of memory"):
        read_bars(path)


def test_parquet_that_expands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file of a billion rows would be read to its end; its pages are unpacked one by one."""
    path = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(zeros(2_000_000), path, compression="zstd")
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(columnar, "MOST_ROWS", 1_000_000)
    with pytest.raises(DataError, match="claims 2,000,000 rows, at most 1,000,000 are read"):
        read_bars(path)


def test_metadata_with_a_false_size(tmp_path: Path) -> None:
    """A table that claims too many rows would be read until the memory is full."""
    table = pd.DataFrame({"time": [1], **{name: [1.0] for name in ("open", "high", "low", "close", "volume")}})
    table.to_parquet(tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    assert data.count(b"\x16\x02") >= 1
    (tmp_path / "a.parquet").write_bytes(data.replace(b"\x16\x02", b"\x16\x7e"))
    with pytest.raises(DataError, match=r"a\.parquet"):
        read_bars(tmp_path / "a.parquet")


@pytest.mark.slow
def test_a_short_fuzz_run_guided_by_coverage(script: ModuleType) -> None:
    """Unexpected bytes would end in a traceback, a hang or a full memory; make fuzz runs far more."""
    pytest.importorskip("atheris", reason="atheris is not installed: make fuzz installs it where there is a build of it")
    done = subprocess.run([sys.executable, SCRIPT, "--runs", str(SLICE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("no failure") == len(script.endings())
