"""Parquet."""

from __future__ import annotations

import io
from pathlib import Path

from ...errors import DataError
from ..bars import Bars
from ..reading import Reading
from .arrow_table import ROWS_AT_ONCE, arrow_errors, bars_frame, check_row_count, chosen_columns, table_of_batches
from .file_format import FileFormat
from .table import Faults, Table


def read_parquet(path: Path, faults: Faults, reading: Reading) -> Table:
    """Read a Parquet file."""
    import pyarrow.parquet as pq  # here, since it is slow and CSV does not need it

    with arrow_errors(path, "Parquet"), pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        choice = chosen_columns(schema, path, reading)
        check_row_count(rows, path)
        wanted = [schema.names[at] for at in sorted(choice.used) if at < len(schema.names)]
        if file.metadata.num_row_groups > ROWS_AT_ONCE:
            raise DataError(f"{path.name}: it has {file.metadata.num_row_groups:,} row groups. Write it again with fewer.")
        batches = file.iter_batches(ROWS_AT_ONCE, columns=wanted, use_threads=False)
        return table_of_batches(batches, choice, path, faults, "Parquet")


def bars_as_parquet(bars: Bars) -> bytes:
    """Return the bars as Parquet."""
    buffer = io.BytesIO()
    bars_frame(bars).to_parquet(buffer)
    return buffer.getvalue()


FORMAT = FileFormat(
    endings={".parquet": "Parquet; only the columns of bars are read"}, read=read_parquet, write=bars_as_parquet
)
