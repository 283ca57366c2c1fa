"""The table of a sweep: one row per setting and range, in the grid's order, written as Parquet part by part."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StrategyError
from ..results.metrics import sweep_metrics
from ..storage.atomic_files import new_file
from .axes import DECISION, Axis
from .sweep_record import NewRow

if TYPE_CHECKING:
    import pyarrow as pa

# Columns before those of the axes, and after them; those of the metrics follow. Null where undefined.
_FIRST: dict[str, type] = {
    "setting": int,
    **dict.fromkeys(("timerange", "ckpt", "calibration", DECISION), str),
    **dict.fromkeys(("offset_sell", "offset_buy"), float),
}
_SIGNALS = ("share_sell", "share_hold", "share_buy", "mcc", "sharpe_all")
_RUINED = "ruined"
# Only in the parts, in the row of a setting's first range: the sums for the probability of backtest overfitting.
PARTS = "parts"
# Only in the parts: a setting's digest in the trial log, where the grid does not know it.
CONFIGURATION = "configuration"


def columns(axes: tuple[Axis, ...]) -> dict[str, type]:
    """Return the columns and the types of their values: the setting, its signals, the metrics, whether it lost everything.

    Raises
    ------
    StrategyError
        Where an installed package's metric has the name of another column.
    """
    setting = {**_FIRST, **{axis.name: axis.kind for axis in axes}, **dict.fromkeys(_SIGNALS, float)}
    swept = sweep_metrics()
    taken = next((metric for metric in swept if metric.name in (*setting, _RUINED, PARTS, CONFIGURATION)), None)
    if taken is not None:
        raise StrategyError(
            f"metric '{taken.name}' of the package {taken.provider}: a sweep's table has another column of that name. Rename "
            "the metric, or give it sweep=None."
        )
    return {**setting, **{metric.name: int if metric.unit == "count" else float for metric in swept}, _RUINED: bool}


def table_schema(axes: tuple[Axis, ...], *, with_parts: bool) -> pa.Schema:
    """Return the schema of the table."""
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
    fields = [pa.field(name, types[kind]) for name, kind in columns(axes).items()]
    extra = [pa.field(PARTS, pa.list_(pa.float64())), pa.field(CONFIGURATION, pa.string())]
    return pa.schema([*fields, *extra] if with_parts else fields)


def part_bytes(rows: Iterable[NewRow], axes: tuple[Axis, ...]) -> bytes:
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
