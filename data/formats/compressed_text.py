"""The lines of a text file, plain, gzipped or zipped, with limits against hostile files."""

from __future__ import annotations

import gzip
import io
import mmap
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ...errors import DataError
from .table import printable, shown

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MEGABYTE = 1_000_000
LARGEST_BYTES = 1_000 * MEGABYTE  # of a file, packed and unpacked
LARGEST_RATIO = 200  # real bars compress to a third or a tenth; only a bomb, or one bar repeated, exceeds this
RATIO_COUNTS_FROM = 8 * MEGABYTE
LONGEST_LINE = 100_000  # characters
MOST_ROWS = 10_000_000  # nineteen years of one-minute bars
MOST_ENTRIES = 1_000  # of a zip archive

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".json")
_OTHER_FORMATS = {
    b"\x1f\x8b": "gzip data: name the file .csv.gz",
    b"PAR1": "Parquet data: name the file .parquet",
    b"ARROW1": "Feather data: name the file .feather",
    b"PK\x03\x04": "a zip archive or a spreadsheet: name it .zip, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet: save the sheet as CSV",
    b"\xff\xfe\0\0": "UTF-32 text: save the file as UTF-8",
    b"\0\0\xfe\xff": "UTF-32 text: save the file as UTF-8",
    b"\x28\xb5\x2f\xfd": "zstd data: unpack it",
    b"BZh": "bzip2 data: unpack it",
    b"\xfd7zXZ": "xz data: unpack it",
}


class Content:
    """An open text file: its lines one by one, and its compression.

    Parameters
    ----------
    raw : readable binary stream
    path : Path
    wrapping : str
        "", "gzip" or "zip".
    """

    def __init__(self, raw: io.BufferedReader, path: Path, wrapping: str) -> None:
        head = raw.peek(8)[:8]
        for magic, remedy in _OTHER_FORMATS.items():
            if head.startswith(magic):
                raise DataError(f"{path.name}: expected text, got {remedy}.")
        self.encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        self.path, self.wrapping = path, wrapping
        self.text = io.TextIOWrapper(raw, encoding=self.encoding, newline="")

    def lines(self) -> Iterator[str]:
        """Yield each line with its end."""
        for number, line in enumerate(iter(partial(self.text.readline, LONGEST_LINE + 1), ""), 1):
            if len(line) > LONGEST_LINE:
                raise DataError(
                    f"{self.path.name}, line {number}: the line is longer than {LONGEST_LINE:,} characters "
                    f"({shown(line)}). This is not a table of bars: give another file."
                )
            if number > MOST_ROWS:
                raise DataError(f"{self.path.name}: the file has more than {MOST_ROWS:,} lines. Split it into parts.")
            yield line

    def label(self, kind: str) -> str:
        """Return the name of the format: the kind of text, its compression, and its encoding if not UTF-8."""
        return ", ".join(filter(None, (kind, self.wrapping, "UTF-16" if self.encoding == "utf-16" else "")))


@contextmanager
def opened(path: Path) -> Iterator[Content]:
    """Open a text file for its lines; .gz means gzip, .zip a zip archive with one text file.

    Raises
    ------
    DataError
        For a file that is too large, damaged, a bomb, or not text in UTF-8 or UTF-16.
    OSError
        When the system cannot read it.
    """
    if path.is_dir():
        raise IsADirectoryError
    check_size(path)
    try:
        with _stream(path) as (raw, wrapping):
            yield Content(raw, path, wrapping)
    except UnicodeError as error:
        raise _not_text(path, error) from None
    except (EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's error; those of gzip have no number
            raise
        kind = "zip archive" if path.name.lower().endswith(".zip") else "gzip file"
        raise DataError(f"{path.name}: this is not a complete {kind} ({printable(error)}). Fetch it again.") from None


def check_size(path: Path) -> None:
    """Refuse a file of more than `LARGEST_BYTES`, and anything that is not a regular file, such as a pipe.

    Raises
    ------
    DataError
        With the size.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path.name}: this is not a regular file. Save its content into a file first.")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise DataError(
            f"{path.name}: the file has {size:,} bytes, at most {LARGEST_BYTES:,} are read. Split it into parts, "
            "or save only the columns of bars."
        )


@contextmanager
def _stream(path: Path) -> Iterator[tuple[io.BufferedReader, str]]:
    name, size = path.name, path.stat().st_size
    with path.open("rb") as file:
        if name.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=file) as gzipped, _Limited(gzipped, name, size) as limited:
                yield io.BufferedReader(limited), "gzip"
        elif name.lower().endswith(".zip"):
            with _archive(path, file) as archive:
                entry = _only_text(archive, name)
                with _unpacked(archive, entry) as unpacked, _Limited(unpacked, name, size) as limited:
                    yield io.BufferedReader(limited), "zip"
        else:
            yield io.BufferedReader(io.FileIO(file.fileno(), closefd=False)), ""


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(entry)
    except UnicodeError:  # an archive has each name twice, and zipfile decodes the second one here
        raise zipfile.BadZipFile("the name before its content is not text") from None


class _Limited(io.RawIOBase):
    """Unpacked bytes, up to the limits."""

    def __init__(self, unpacked: IO[bytes] | gzip.GzipFile, name: str, packed_bytes: int) -> None:
        self.unpacked, self.name, self.size = unpacked, name, 0
        self.most = min(LARGEST_BYTES, max(RATIO_COUNTS_FROM, LARGEST_RATIO * packed_bytes))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        data = self.unpacked.read(len(view))
        self.size += len(data)
        if self.size > self.most:
            raise DataError(
                f"{self.name}: it unpacks to more than {self.most:,} bytes, over {LARGEST_RATIO} times its size or more than "
                f"{LARGEST_BYTES:,}. Bars do not compress so well: it may be a zip bomb. If you trust it, unpack it yourself."
            )
        view[: len(data)] = data
        return len(data)


def _archive(path: Path, file: IO[bytes]) -> zipfile.ZipFile:
    if os.fstat(file.fileno()).st_size:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at, entries = -1, 0
            while (at := data.find(b"PK\x01\x02", at + 1)) >= 0 and entries <= MOST_ENTRIES:
                entries += 1
        if entries > MOST_ENTRIES:
            raise DataError(f"{path.name}: the archive has more than {MOST_ENTRIES:,} entries. Unpack the one with the bars.")
    return zipfile.ZipFile(file)


def _only_text(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return the archive's one text file; nothing is unpacked to the disk."""
    entries = [
        each for each in archive.infolist() if not each.filename.endswith("/") and not each.filename.startswith("__MACOSX/")
    ]
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise DataError(
                f"{name}: its entry {shown(entry.filename)} has a path outside the archive, which is unsafe. Fetch it again."
            )
    texts = [entry for entry in entries if entry.filename.lower().endswith(TEXT_ENDINGS)]
    if len(texts) > 1:  # beside a table, HistData has a report in a .txt
        texts = [entry for entry in texts if not entry.filename.lower().endswith(".txt")] or texts
    if len(texts) != 1:
        names = ", ".join(shown(entry.filename) for entry in entries[:5]) or "no entries"
        raise DataError(
            f"{name}: expected an archive with one text file ({', '.join(TEXT_ENDINGS)}), got {len(texts)} of them "
            f"among {names}{', ...' if len(entries) > 5 else ''}. Unpack it, and give one file."
        )
    entry = texts[0]
    if entry.flag_bits & 1:
        raise DataError(f"{name}: its entry {shown(entry.filename)} is encrypted. Unpack it yourself, and give the file.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            f"{name}: its entry {shown(entry.filename)} is compressed by method {entry.compress_type}, flagbt reads stored and "
            "deflated ones. Unpack it yourself, and give the file."
        )
    return entry


def entry_name(path: Path) -> str:
    """Return the name of the one text file in a zip archive, or the file's name without .gz.

    Raises
    ------
    DataError
        As `opened` does.
    """
    if not path.name.lower().endswith(".zip"):
        return path.name.lower().removesuffix(".gz")
    if path.is_dir():
        raise IsADirectoryError
    check_size(path)
    try:
        with path.open("rb") as file, _archive(path, file) as archive:
            return _only_text(archive, path.name).filename.lower()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise DataError(f"{path.name}: this is not a complete zip archive ({printable(error)}). Fetch it again.") from None


def _not_text(path: Path, error: UnicodeError) -> DataError:
    """Find the first line that is not UTF-8; the decoder has read ahead, and does not know the line."""
    if isinstance(error, UnicodeDecodeError) and error.encoding.startswith("utf-8"):
        with _stream(path) as (raw, _):
            number = 0
            while line := raw.readline(LONGEST_LINE):
                number += 1
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as inner:
                    return DataError(
                        f"{path.name}, line {number}: expected UTF-8 text, got the byte 0x{line[inner.start]:02x}. "
                        "Give a CSV file, saved as UTF-8."
                    )
    return DataError(f"{path.name}: this is not valid text in UTF-8 or UTF-16 ({printable(error)}). Save the file as UTF-8.")
