"""Writing so that a crash leaves the old or the new on disk, never a half that looks whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UsageError

TEMPORARY_PREFIX = ".flagbt-tmp-"
LARGEST_JSON_BYTES = 1_000_000
LONGEST_NAME = 255  # bytes, on every file system in use


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(values: Any) -> str:
    """Write JSON as flagbt stores it: sorted keys, no NaN (a ValueError), LF at the end."""
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def home_folder() -> Path:
    """Return the user's own folder: what ``FLAGBT_HOME`` names, by default ``~/.flagbt``; it may not exist."""
    return Path(os.environ.get("FLAGBT_HOME") or os.path.expanduser("~/.flagbt"))


def write_text(path: Path, text: str) -> None:
    """Write a file's new text in UTF-8; see ``write_bytes``."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file's new content under a temporary name, sync it, and put it in the old one's place.

    Raises
    ------
    OSError
        When it cannot be written; a file that was there is then as it was.
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")
    try:
        temporary.write_bytes(content)
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Try whether ``folder`` can be written or made, before the work whose result belongs there; nothing is left behind.

    Raises
    ------
    OSError
        When it cannot: a file has its name, or the disk or the rights forbid it.
    """
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    os.rmdir(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=there))
    if len(os.fsencode(folder.name)) > LONGEST_NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(folder))


@contextmanager
def locked(folder: Path, *, seconds: float = 10.0) -> Iterator[None]:
    """Hold a folder's lock, so that of several processes one at a time does what is inside; nothing is left behind.

    Goes on without it after ``seconds`` (whoever holds it longer has stopped), and on a file system that has no locks.

    Raises
    ------
    OSError
        When the folder cannot be opened.
    """
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)  # and with it the lock


@contextmanager
def new_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``target``; when the block ends well it is synced and takes its name.

    Where the block raises, or the process dies, ``target`` is as it was.

    Raises
    ------
    FileExistsError
        When ``target`` exists and ``overwrite`` is not set.
    OSError
        When the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{target.name}")
    temporary.mkdir()
    try:
        yield temporary
        sync_tree(temporary)
        if overwrite and target.exists():
            old = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-old-{target.name}")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        elif target.exists():
            raise FileExistsError(str(target))
        else:
            temporary.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Force every file under a folder, and the folder itself, onto the disk."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            sync(file)
    sync(folder)


def sync(path: Path) -> None:
    """Force a file, or a folder's list of names, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, *, what: str) -> dict[str, Any]:
    """Read a JSON object of at most 1 MB.

    Raises
    ------
    UsageError
        When it cannot be read or holds something else; ``what`` opens the message.
    """
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, at most {LARGEST_JSON_BYTES:,} are read")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{what}: {path} cannot be read as JSON: {error}.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{what}: {path} holds a {type(values).__name__}, expected a JSON object.")
    return values
