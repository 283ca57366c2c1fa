"""Feather, as freqtrade writes it."""

from __future__ import annotations

import io
from pathlib import Path

from ...errors import DataError
from ..bars import Bars
from ..reading import Reading
from .arrow_table import ROWS_AT_ONCE, arrow_errors, bars_frame, chosen_columns, table_of_batches
from .file_format import FileFormat
from .table import Faults, Table


def read_feather(path: Path, faults: Faults, reading: Reading) -> Table:
    """Read a Feather file of version 2."""
    import pyarrow as pa

    with path.open("rb") as raw:
        if raw.read(4) == b"FEA1":
            raise DataError(f"{path.name}: this is Feather of version 1. Write it again with a current pandas.")
    with arrow_errors(path, "Feather"):
        with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source) as file:
            choice = chosen_columns(file.schema, path, reading)
            if file.num_record_batches > ROWS_AT_ONCE:
                raise DataError(f"{path.name}: it has {file.num_record_batches:,} parts. Write it again with fewer.")
            fields = sorted(at for at in choice.used if at < len(file.schema.names))
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source, options=options) as file:
            batches = (file.get_batch(at) for at in range(file.num_record_batches))
            return table_of_batches(batches, choice, path, faults, "Feather")


def bars_as_feather(bars: Bars) -> bytes:
    """Return the bars as Feather."""
    buffer = io.BytesIO()
    bars_frame(bars).reset_index().to_feather(buffer)
    return buffer.getvalue()


FORMAT = FileFormat(
    endings={".feather": "Feather of version 2, as freqtrade writes it"}, read=read_feather, write=bars_as_feather
)
