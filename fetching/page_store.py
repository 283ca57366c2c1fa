"""PageStore: the hidden folder next to a file that is being fetched, so that a kill loses at most a page."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import DataError, FetchError
from ..storage.atomic_files import sync
from .exchange_rows import NO_ROWS, ExchangeRows, joined

LOCK, SERIES, PAGE = "lock", "series.json", ".npy"


class PageStore:
    """Pages of new bars, each a file that is complete or missing; its name contains the digest of its bytes.

    Parameters
    ----------
    output : Path
        The file that the pages are for.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.fetch")
        self.bars = 0
        self.removed = False  # True when pages of another fetch were removed
        self.finished = False

    def resume(self, series: Mapping[str, object]) -> ExchangeRows:
        """Return the bars of an earlier, unfinished fetch of the same series; remove those of another series.

        Raises
        ------
        DataError
            When the folder cannot be written.
        """
        with self._writing():
            file = self.folder / SERIES
            try:
                same = json.loads(file.read_text(encoding="utf-8")) == series
            except (OSError, ValueError):
                same = False
            pages = [page for path in sorted(self.folder.glob(f"*{PAGE}")) if (page := _page(path)) is not None] if same else []
            try:
                rows = joined(pages)
            except DataError:
                same, rows = False, NO_ROWS
            if not same:
                self.removed = any(self.folder.glob(f"*{PAGE}"))
                self._empty()
                self._put(SERIES, json.dumps(series).encode())
        self.bars = len(rows)
        return rows

    def keep(self, rows: ExchangeRows) -> None:
        """Store a page of new bars.

        Raises
        ------
        DataError
            When it cannot be written.
        """
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        data = buffer.getvalue()
        with self._writing():
            self._put(f"{hashlib.sha256(data).hexdigest()[:32]}{PAGE}", data)
        self.bars += len(rows)

    def replace_output(self, new: Path) -> None:
        """Replace the output by a finished file from this folder.

        Raises
        ------
        DataError
            When that fails; the output is then unchanged.
        """
        with self._writing():
            if self.output.exists():
                shutil.copymode(self.output, new)
            sync(new)
            new.replace(self.output)
            sync(self.output.parent)

    def discard(self) -> None:
        """Remove the pages, because they contradict each other."""
        self._empty()
        self.bars = 0

    def kept(self) -> str:
        """Return a sentence on what an interrupted fetch leaves."""
        return f"{self.bars:,} new bars are kept; the same command resumes there." if self.bars else "Nothing was changed."

    def finish(self) -> None:
        """Remove the folder: its bars are in the file now."""
        self.finished = True  # from here on, the folder may belong to another process
        self._empty()
        (self.folder / LOCK).unlink(missing_ok=True)
        self.folder.rmdir()

    def _empty(self) -> None:
        for path in self.folder.iterdir():
            if path.name != LOCK:
                path.unlink()

    def _put(self, name: str, data: bytes) -> None:
        temporary = self.folder / f"{name}.tmp"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / name)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _unwritable(self.output, error, self.kept()) from None


@contextmanager
def page_store(output: Path) -> Iterator[PageStore]:
    """Open the page store of a file for this process only.

    An empty store is removed at the end.

    Raises
    ------
    FetchError
        When another process is fetching into the same file.
    DataError
        When the folder cannot be written.
    """
    store = PageStore(output)
    try:
        lock = _lock(store)
    except OSError as error:
        raise _unwritable(output, error, "Nothing was changed.") from None
    try:
        yield store
    finally:
        try:
            if not (store.finished or store.bars):
                store.finish()
        finally:
            os.close(lock)


def _lock(store: PageStore) -> int:
    """Lock the folder's lock file; TRAP: an earlier process may remove it, with the folder, just after it was opened here."""
    import fcntl

    while True:
        store.folder.mkdir(exist_ok=True)
        try:
            lock = os.open(store.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == os.stat(store.folder / LOCK).st_ino:
                os.truncate(lock, 0)
                os.write(lock, str(os.getpid()).encode())
                return lock
        except BlockingIOError:
            number = os.pread(lock, 20, 0).decode(errors="replace") or "?"
            os.close(lock)
            raise FetchError(
                f"{store.output}: another flagbt (process {number}) is fetching into this file. Repeat when it has finished."
            ) from None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(lock)
            raise
        os.close(lock)


def _page(path: Path) -> ExchangeRows | None:
    """Read a page; remove a damaged one and return None."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest()[:32] == path.name.removesuffix(PAGE):
        rows = np.load(io.BytesIO(data), allow_pickle=False)
        if rows.dtype == np.float64 and rows.ndim == 2 and rows.shape[1] == NO_ROWS.shape[1]:
            return np.asarray(rows)
    path.unlink()
    return None


def _unwritable(output: Path, error: OSError, kept: str) -> DataError:
    reason = error.strerror or error
    return DataError(
        f"{output}: cannot be written ({reason}). Check the folder, its permissions and the space on its disk. {kept}"
    )
