"""Zip archives with one text file in them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from ..bars import Bars
from ..reading import Reading
from .compressed_text import entry_name
from .csv_text import bars_as_csv, read_delimited
from .file_format import FileFormat
from .json_rows import read_rows_json
from .table import Faults, Table


def read_archive(path: Path, faults: Faults, reading: Reading) -> Table:
    """Read the text file in an archive, as JSON or CSV."""
    return (read_rows_json if entry_name(path).endswith(".json") else read_delimited)(path, faults, reading)


def bars_as_archive(bars: Bars) -> bytes:
    """Return an archive with the bars as CSV."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("bars.csv"), bars_as_csv(bars))
    return buffer.getvalue()


FORMAT = FileFormat(
    endings={".zip": "an archive with one table in it (CSV or JSON), as Binance has; a `.txt` beside it is not read"},
    read=read_archive,
    write=bars_as_archive,
)
