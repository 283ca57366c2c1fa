"""Cache of logits on disk: a checkpoint does not score the same bars twice.

An entry is a file ``<digest of its key>.logits`` in ``cache/logits`` below ``FLAGBT_HOME``: one line with the SHA-256 of all
that follows, one line with the key as JSON, then the array in NumPy's format. The key holds everything that could change a
bit of the logits, so a hit returns exactly the bits that scoring would return. A file that is damaged, or of another key, is
ignored: the bars are scored again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache as once
from functools import partial
from pathlib import Path

import numpy as np

from ..arrays import FloatArray, JsonObject, Progress
from ..data.bars import Bars
from ..storage.atomic_files import home_folder, remove_abandoned, write_bytes
from .checkpoint import Checkpoint
from .combining_model import CombiningModel

SUFFIX = ".logits"
LARGEST_BYTES = 512_000_000


def logits_of(
    checkpoint: Checkpoint,
    bars: Bars,
    *,
    device: str = "auto",
    batch_chunks: int | None = None,
    progress: Progress | None = None,
    cache: bool = True,
) -> FloatArray:
    """Return a checkpoint's logits of all bars, from the cache where they are there. *Causality: row t uses bars <= t.*

    The checkpoint's files are compared with their digests and its features are computed in any case. A cache that cannot be
    read or written is not used; a warning on stderr reports it once.

    Parameters
    ----------
    checkpoint : Checkpoint
    bars : Bars
        All bars, the history for the warm-up included.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    batch_chunks : int, optional
        Chunks a forward pass; see ``scoring.ScoringOptions``.
    progress : callable, optional
        Called with (bars scored, bars in all).
    cache : bool
        False neither reads nor writes the cache.

    Returns
    -------
    array of float64, shape (n_bars, 3)
        NaN in the warm-up.

    Raises
    ------
    CheckpointError
        When the checkpoint is damaged, or its features are not computed as at training.
    DeviceError
        When the device does not exist.
    """
    model = checkpoint.model
    model.device_name(device)  # one that the kind cannot use is refused
    if isinstance(model, CombiningModel):
        each = partial(logits_of, bars=bars, device=device, batch_chunks=batch_chunks, cache=cache)
        return model.combined(list(_of_members(model.members, each, len(bars), progress)))
    scored = partial(model.logits, bars, device=device, batch_size=batch_chunks, progress=progress)
    if not cache or not model.is_cached:
        return scored()
    key = key_of(checkpoint, bars, device, batch_chunks)
    found = read_entry(key, len(bars))
    if found is not None:
        model.check_files()  # as loading does, so that a hit does not hide damage
        if progress is not None:
            progress(len(bars), len(bars))
        return found
    logits = scored()
    write_entry(key, logits)
    return logits


def _of_members(
    members: Sequence[Checkpoint], scored: Callable[..., FloatArray], n_bars: int, progress: Progress | None
) -> Iterator[FloatArray]:
    """Yield the logits of each member; together they make the progress of one."""
    for i, member in enumerate(members):

        def shown(done: int, total: int, at: int = i) -> None:
            if progress is not None:
                progress((at * total + done) // len(members), total)

        yield scored(member, progress=shown)
        shown(n_bars, n_bars)


def key_of(checkpoint: Checkpoint, bars: Bars, device: str = "auto", batch_chunks: int | None = None) -> JsonObject:
    """Return everything that decides the bits of the logits, as JSON values; see `CheckpointModel.key`."""
    own = checkpoint.model.key(bars, device=device, batch_size=batch_chunks)
    return {**own, "checkpoint": checkpoint.digest, "bars": bars.digest}


def cache_folder() -> Path:
    """Return the folder of the entries; it may not exist."""
    return home_folder() / "cache" / "logits"


def entry_of(key: JsonObject) -> Path:
    """Return the file for the logits of a key."""
    return cache_folder() / (hashlib.sha256(_line(key)).hexdigest() + SUFFIX)


def read_entry(key: JsonObject, n_bars: int) -> FloatArray | None:
    """Return the logits (n_bars, 3) stored under a key; None where there is no valid entry."""
    path = entry_of(key)
    try:
        digest, _, rest = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    line, _, payload = rest.partition(b"\n")
    if line != _line(key) or hashlib.sha256(rest).hexdigest().encode() != digest:
        return None
    try:
        logits: FloatArray = np.lib.format.read_array(io.BytesIO(payload), allow_pickle=False)
    except ValueError:
        return None
    if logits.shape != (n_bars, 3) or logits.dtype != np.float64:
        return None
    with suppress(OSError):  # a read-only cache is still useful
        path.touch()
    return logits


def write_entry(key: JsonObject, logits: FloatArray) -> None:
    """Store logits under a key, whole or not at all; remove the least recently used entries where the cache is too large."""
    payload = io.BytesIO()
    np.lib.format.write_array(payload, logits, allow_pickle=False)
    rest = _line(key) + b"\n" + payload.getvalue()
    path = entry_of(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        _prune(path.parent)
    except OSError as error:
        _warn_once(
            f"flagbt: the scored logits cannot be kept in {path.parent}: {error.strerror or error}. Nothing is lost, but the "
            "next run scores these bars again. Free some space or fix the permissions there, name another folder in "
            "FLAGBT_HOME, or turn the cache off with --no-cache."
        )


@dataclass(frozen=True)
class Entry:
    """A file of the cache: its size in bytes, its last use (seconds since the epoch), the checkpoint's digest."""

    path: Path
    size: int
    used: float
    checkpoint: str | None


def entries() -> list[Entry]:
    """Return the entries of the cache, least recently used first; ``checkpoint`` is None where a file is damaged."""
    found = []
    for path, size, used in _files(cache_folder()):
        with suppress(OSError):
            with path.open("rb") as file:
                file.readline(100)
                line = file.readline(100_000)
            found.append(Entry(path, size, used, _checkpoint_of(line)))
    return found


def clear() -> tuple[int, int]:
    """Remove every entry; return their number and their bytes.

    Raises
    ------
    OSError
        When one cannot be removed.
    """
    files = _files(cache_folder())
    for path, _, _ in files:
        path.unlink(missing_ok=True)
    remove_abandoned(cache_folder())
    return len(files), sum(size for _, size, _ in files)


def _files(folder: Path, pattern: str = f"[!.]*{SUFFIX}") -> list[tuple[Path, int, float]]:
    """Return (path, bytes, last use) of the files, least recently used first; another process may remove some meanwhile."""
    found = []
    for path in folder.glob(pattern):
        with suppress(OSError):
            stat = path.stat()
            found.append((path, stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda each: (each[2], each[0].name))


def _prune(folder: Path) -> None:
    files = _files(folder)
    total = sum(size for _, size, _ in files)
    for path, size, _ in files:
        if total <= LARGEST_BYTES:
            break
        with suppress(OSError):
            path.unlink(missing_ok=True)
        total -= size
    remove_abandoned(folder)


def _line(key: JsonObject) -> bytes:
    return json.dumps(key, sort_keys=True).encode()


def _checkpoint_of(line: bytes) -> str | None:
    try:
        return str(json.loads(line)["checkpoint"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


@once
def _warn_once(text: str) -> None:
    logging.getLogger("flagbt").warning(text)  # Python prints it on stderr, unless the program configures logging
