"""The table of a sweep: one row per setting and range, in the grid's order, written as Parquet part by part."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..storage.atomic_files import new_file

if TYPE_CHECKING:
    import pyarrow as pa

_TEXT = ("timerange", "ckpt", "calibration", "decision", "exit")
_WHOLE = ("setting", "cooldown_bars", "min_hold_bars", "trades")
_YES_OR_NO = ("short", "ruined")
# Columns in their order. Those that are not text, whole or yes/no are float64, null where undefined.
COLUMNS = (
    *("setting", "timerange", "ckpt", "calibration", "decision", "offset_sell", "offset_buy", "short", "cash"),
    *("fee_bps", "slippage_bps", "borrow_bps_per_day"),
    *("cooldown_bars", "min_hold_bars", "exit", "stop_loss", "take_profit", "max_short_notional", "close_short_above"),
    *("share_sell", "share_hold", "share_buy", "mcc"),
    *("sharpe_all", "sharpe_daily", "total_return", "max_drawdown", "trades", "exposure", "turnover"),
    *("fees_paid", "slippage_paid", "final_equity", "ruined"),
)
# Only in the parts, in the row of a setting's first range: the sums for the probability of backtest overfitting.
PARTS = "parts"


@cache
def table_schema(*, with_parts: bool) -> pa.Schema:
    """Return the schema of the table."""
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        if name in _TEXT:
            return pa.string()
        return pa.int64() if name in _WHOLE else pa.bool_() if name in _YES_OR_NO else pa.float64()

    fields = [pa.field(name, kind(name)) for name in COLUMNS]
    return pa.schema([*fields, pa.field(PARTS, pa.list_(pa.float64()))] if with_parts else fields)


def part_bytes(rows: Iterable[dict[str, Any]]) -> bytes:
    """Return rows as the bytes of a Parquet file; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=table_schema(with_parts=True)), target, compression="zstd")
    return target.getvalue()


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part written by ``part_bytes``, or some of its columns."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(columns=columns, use_threads=False)


def write_table(parts: Iterable[Path], target: Path) -> None:
    """Write the parts in order as one Parquet file, a row group each, with one part in memory at a time.

    The file is written whole or not at all; see ``new_file``.
    """
    import pyarrow.parquet as pq

    with new_file(target) as file, pq.ParquetWriter(file, table_schema(with_parts=False), compression="zstd") as writer:
        for path in parts:
            writer.write_table(read_part(path, COLUMNS).cast(table_schema(with_parts=False)))


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the row groups of a table."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).combine_chunks().to_batches()
