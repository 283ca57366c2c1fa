"""The table of a sweep: one row per setting and range, in the grid's order, written as Parquet part by part."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StrategyError
from ..results.metrics import sweep_metrics
from ..storage.atomic_files import new_file

if TYPE_CHECKING:
    import pyarrow as pa

_TEXT = ("timerange", "ckpt", "calibration", "decision", "exit")
_WHOLE = ("setting", "cooldown_bars", "min_hold_bars")
_YES_OR_NO = ("short", "ruined")
# Columns before the metrics in their order. Those that are not text, whole or yes/no are float64, null where undefined.
_SETTING = (
    *("setting", "timerange", "ckpt", "calibration", "decision", "offset_sell", "offset_buy", "short", "cash"),
    *("fee_bps", "slippage_bps", "borrow_bps_per_day"),
    *("cooldown_bars", "min_hold_bars", "exit", "stop_loss", "take_profit", "max_short_notional", "close_short_above"),
    *("share_sell", "share_hold", "share_buy", "mcc", "sharpe_all"),
)
# Only in the parts, in the row of a setting's first range: the sums for the probability of backtest overfitting.
PARTS = "parts"


def columns() -> tuple[str, ...]:
    """Return the table's columns: the setting and its signals, the metrics of a sweep, and whether it lost everything.

    Raises
    ------
    StrategyError
        Where an installed package's metric has the name of another column.
    """
    swept = sweep_metrics()
    taken = next((metric for metric in swept if metric.name in (*_SETTING, "ruined", PARTS)), None)
    if taken is not None:
        raise StrategyError(
            f"metric '{taken.name}' of the package {taken.provider}: a sweep's table has another column of that name. Rename "
            "the metric, or give it sweep=None."
        )
    return (*_SETTING, *(metric.name for metric in swept), "ruined")


def table_schema(*, with_parts: bool) -> pa.Schema:
    """Return the schema of the table."""
    import pyarrow as pa

    whole = {*_WHOLE, *(metric.name for metric in sweep_metrics() if metric.unit == "count")}

    def kind(name: str) -> pa.DataType:
        if name in _TEXT:
            return pa.string()
        return pa.int64() if name in whole else pa.bool_() if name in _YES_OR_NO else pa.float64()

    fields = [pa.field(name, kind(name)) for name in columns()]
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
            writer.write_table(read_part(path, columns()).cast(table_schema(with_parts=False)))


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the row groups of a table."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).combine_chunks().to_batches()
