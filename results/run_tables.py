"""The tables of a run's record: one row a bar, an order or a trade, with the same types in memory and in a file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..engine.simulation import ORDER_COLUMNS, TRADE_COLUMNS

EQUITY_COLUMNS = ("close", "cash", "position_size", "equity", "exposure", "benchmark_equity")
_TIMES = ("decided", "filled", "entry_time", "exit_time")
_TEXTS = ("side", "status", "reason")
_COUNTS = ("order", "trade", "bars_held")
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def per_bar(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of one row a bar as it is read back from its file."""
    plain = frame.copy(deep=False)
    plain.attrs = {}  # pandas would write them into the file
    index = pd.DatetimeIndex(plain.index)
    plain.index = pd.DatetimeIndex(index.array, name=index.name)  # without a freq
    return plain


def per_event(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the orders or the trades with the types of their columns, as they are read back from their file."""
    return pd.DataFrame({str(column): _typed(str(column), frame[column]) for column in frame.columns}).reset_index(drop=True)


def table_files(tables: Mapping[str, pd.DataFrame | None]) -> dict[str, bytes]:
    """Return the contents of the files with these tables, by name; None for a table that the run does not have."""
    per_bar_tables = {name: tables[name] for name in ("equity", "signals")}
    files = {f"{name}.parquet": _parquet(table) for name, table in per_bar_tables.items() if table is not None}
    return files | {f"{name}.csv": _csv(table) for name in ("orders", "trades") if (table := tables[name]) is not None}


def read_equity(file: Path) -> pd.DataFrame:
    """Read equity.parquet."""
    return _with_columns(pd.read_parquet(file), EQUITY_COLUMNS)


def read_signals(file: Path) -> pd.DataFrame:
    """Read signals.parquet."""
    return pd.read_parquet(file)


def read_orders(file: Path) -> pd.DataFrame:
    """Read orders.csv, with the original numbers and types, also where it is empty."""
    return _read_csv(file, ORDER_COLUMNS)


def read_trades(file: Path) -> pd.DataFrame:
    """Read trades.csv as `read_orders` reads the orders."""
    return _read_csv(file, TRADE_COLUMNS)


def _parquet(frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.to_parquet(stream, engine="pyarrow", compression="zstd")
    return stream.getvalue()


def _csv(frame: pd.DataFrame) -> bytes:
    # Without a float format pandas writes the shortest text that reads back as the same number.
    return str(frame.to_csv(index=False, lineterminator="\n", date_format=_TIME_FORMAT)).encode("utf-8", "backslashreplace")


def _with_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
    return frame


def _read_csv(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    # Python's float() is exact; pandas' own parser differs by version.
    texts = _with_columns(pd.read_csv(file, dtype=str, keep_default_na=False), columns)
    found: dict[str, pd.Series[Any]] = {}
    for column in texts.columns:
        cells = texts[column]
        if column in _TIMES:
            found[column] = pd.to_datetime(cells.replace("", None), utc=True, format=_TIME_FORMAT)
        elif column in (*_TEXTS, *_COUNTS):
            found[column] = cells
        else:
            found[column] = pd.Series([float(text) if text else np.nan for text in cells], dtype=np.float64)
    return per_event(pd.DataFrame(found))


def _typed(column: str, values: pd.Series[Any]) -> pd.Series[Any]:
    if column in _TIMES:
        return values.astype("datetime64[ns, UTC]").dt.floor("s")  # a file holds whole seconds
    if column in _TEXTS:
        return values.fillna("").astype("str")
    return values.astype("int64" if column in _COUNTS else "float64")
