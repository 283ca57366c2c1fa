"""The table of a sweep: one row per setting and range, in the grid's order, written as Parquet part by part."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..storage.atomic_files import new_file
from .axes import DECISION, Axis

if TYPE_CHECKING:
    import pyarrow as pa

# Columns before those of the axes, and after them. Those that are not text, whole or yes/no are float64, null where undefined.
_FIRST = ("setting", "timerange", "ckpt", "calibration", DECISION, "offset_sell", "offset_buy")
_RESULTS = (
    *("share_sell", "share_hold", "share_buy", "mcc"),
    *("sharpe_all", "sharpe_daily", "total_return", "max_drawdown", "trades", "exposure", "turnover"),
    *("fees_paid", "slippage_paid", "final_equity", "ruined"),
)
_KINDS: dict[str, type] = {
    **dict.fromkeys(("timerange", "ckpt", "calibration"), str),
    **dict.fromkeys(("setting", "trades"), int),
    "ruined": bool,
}
# Only in the parts, in the row of a setting's first range: the sums for the probability of backtest overfitting.
PARTS = "parts"


@cache
def table_schema(axes: tuple[Axis, ...], *, with_parts: bool) -> pa.Schema:
    """Return the schema of the table: a column for each axis, among them."""
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
    kinds = _KINDS | {axis.name: axis.kind for axis in axes}
    columns = dict.fromkeys((*_FIRST, *(axis.name for axis in axes), *_RESULTS))
    fields = [pa.field(name, types[kinds.get(name, float)]) for name in columns]
    return pa.schema([*fields, pa.field(PARTS, pa.list_(pa.float64()))] if with_parts else fields)


def part_bytes(rows: Iterable[dict[str, Any]], axes: tuple[Axis, ...]) -> bytes:
    """Return rows as the bytes of a Parquet file; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=table_schema(axes, with_parts=True)), target, compression="zstd")
    return target.getvalue()


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part written by ``part_bytes``, or some of its columns."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(columns=columns, use_threads=False)


def write_table(parts: Iterable[Path], target: Path, axes: tuple[Axis, ...]) -> None:
    """Write the parts in order as one Parquet file, a row group each, with one part in memory at a time.

    The file is written whole or not at all; see ``new_file``.
    """
    import pyarrow.parquet as pq

    schema = table_schema(axes, with_parts=False)
    with new_file(target) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for path in parts:
            writer.write_table(read_part(path, schema.names).cast(schema))


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the row groups of a table."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).combine_chunks().to_batches()
