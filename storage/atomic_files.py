"""Atomic writes: a crash leaves the old file or the new one, never a part that looks complete."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from ..arrays import JsonObject
from ..errors import UsageError, kind_of
from .locks import try_lock
from .untrusted_files import LARGEST_TEXT_BYTES, load_json

TEMPORARY_PREFIX = ".flagbt-tmp-"
LONGEST_NAME = 255  # bytes, on every file system in use
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + "[0-9a-f]{8}-")
_CURRENT_FOLDER, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD and the flag of Linux's renameat2


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(values: object) -> str:
    """Return JSON as flagbt stores it: sorted keys, no NaN (a ValueError), LF at the end."""
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def home_folder() -> Path:
    """Return the user's folder: ``FLAGBT_HOME``, by default ``~/.flagbt``; it may not exist."""
    return Path(os.environ.get("FLAGBT_HOME") or os.path.expanduser("~/.flagbt"))


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; see ``write_bytes``."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it, and rename it over the old file.

    The first write in a folder removes the temporary files that killed processes left there.

    Raises
    ------
    OSError
        When the file cannot be written; an existing file is then unchanged.
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with new_file(path) as file:
        file.write(content)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file under a temporary name; when the block succeeds, sync it and rename it to ``path``.

    A replaced file passes on its mode; a new one has 0666 less the umask.

    Raises
    ------
    OSError
        When the file cannot be written, or is a device or a pipe, which a rename would replace by a file; an existing file is
        then unchanged.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))
    _tidy_once(path.parent.absolute())
    with _temporary(path, _new_file) as (temporary, descriptor):
        with open(descriptor, "wb", closefd=False) as file:
            yield file
        with suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))
        os.fsync(descriptor)
        temporary.replace(path)
        sync(path.parent)


def check_writable(folder: Path) -> None:
    """Check that ``folder`` can be written or created, before the work whose result belongs there; nothing is left behind.

    Raises
    ------
    OSError
        When it cannot: a file has its name, or the disk or the permissions forbid it.
    """
    existing = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not _nameless_file(existing):
        with _temporary(existing / "check", Path.mkdir):
            pass
    if len(os.fsencode(folder.name)) > LONGEST_NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(folder))


def _nameless_file(folder: Path) -> bool:
    """Create a file without a name in a folder, which a kill cannot leave behind; False where the system has no such files."""
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except AttributeError:  # not Linux
        return False
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return False
        raise
    return True


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files and folders of killed processes from a folder; those of running processes are locked."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in [each for each in entries if _TEMPORARY.match(each.name)]:
            path = Path(entry.path)
            with suppress(OSError), try_lock(path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def discard_tree(folder: Path) -> None:
    """Remove a folder, if it exists, in one step: a process killed meanwhile leaves all of it, or nothing of that name."""
    temporary = _temporary_name(folder)
    try:
        folder.rename(temporary)
    except FileNotFoundError:
        return
    except OSError:
        temporary = folder
    shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def written_by(*library_errors: type[Exception]) -> Iterator[None]:
    """Raise OSError where a library that writes a file raises another error, as on a full disk."""
    try:
        yield
    except library_errors as error:
        raise OSError(str(error)) from error


@contextmanager
def new_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder next to ``target``; when the block succeeds, sync it and rename it to ``target``.

    All its files get the mode 0666 less the umask, whatever wrote them.

    If the block raises, or the process dies, ``target`` is unchanged.

    Raises
    ------
    FileExistsError
        When ``target`` exists and ``overwrite`` is not set.
    OSError
        When the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent)
    with _temporary(target, Path.mkdir) as (temporary, _):
        yield temporary
        _set_mode(temporary)
        sync_tree(temporary)
        if overwrite and target.exists():
            _exchange(temporary, target)
        elif target.exists():
            raise FileExistsError(str(target))
        else:
            temporary.rename(target)
        sync(target.parent)


def _set_mode(folder: Path) -> None:
    """Make everything in a new folder as readable as the folder, by the umask: some libraries create files with mode 0600."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    for path in folder.rglob("*"):
        path.chmod(mode if path.is_dir() else mode & 0o666)


def _exchange(new: Path, old: Path) -> None:
    """Swap the names of two folders, in one step where the system can (Linux, most file systems)."""
    library = ctypes.CDLL(None, use_errno=True)
    swap = getattr(library, "renameat2", None)
    if swap is not None and swap(_CURRENT_FOLDER, os.fsencode(new), _CURRENT_FOLDER, os.fsencode(old), _RENAME_EXCHANGE) == 0:
        return
    # Otherwise in steps. Not a temporary name: a process killed between them leaves the old folder there for its owner.
    backup = old.with_name(f".{old.name}.before-overwrite-{secrets.token_hex(4)}")
    old.rename(backup)
    new.rename(old)
    backup.rename(new)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")


@contextmanager
def _temporary(path: Path, make: Callable[[Path], object]) -> Iterator[tuple[Path, int]]:
    """Create a temporary file or folder next to ``path`` and lock it; yield it, and remove what has that name afterwards."""
    temporary, descriptor = _create_locked(path, make)
    try:
        yield temporary, descriptor
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        os.close(descriptor)  # this also releases the lock


def _create_locked(path: Path, make: Callable[[Path], object]) -> tuple[Path, int]:
    """Create and lock. TRAP: between the two, another process may take the file for an abandoned one and remove it."""
    import fcntl

    while True:
        temporary = _temporary_name(path)
        make(temporary)
        try:
            descriptor = os.open(temporary, os.O_RDONLY if temporary.is_dir() else os.O_RDWR)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system without locks: nothing there is ever taken for abandoned
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def _new_file(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))


@cache
def _tidy_once(folder: Path) -> None:
    remove_abandoned(folder)


def sync_tree(folder: Path) -> None:
    """Flush every file under a folder, and the folder itself, to the disk."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            sync(file)
    sync(folder)


def check_no_links(folder: Path) -> None:
    """Refuse a folder that contains a symbolic link: its files could be read from anywhere.

    Raises
    ------
    ValueError
        Naming the link.
    """
    link = next((each for each in folder.rglob("*") if each.is_symlink()), None)
    if link is not None:
        raise ValueError(f"{link.name} in it is a symbolic link, and only folders without links are read")


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, *, what: str) -> JsonObject:
    """Read a JSON object of at most 1 MB from a user's file.

    Raises
    ------
    UsageError
        When the file cannot be read or contains something else; ``what`` starts the message.
    """
    try:
        values = load_json(path, largest_bytes=LARGEST_TEXT_BYTES)
    except (OSError, ValueError) as error:
        raise UsageError(f"{what}: {path} cannot be read as JSON: {error}.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{what}: {path} contains {kind_of(values)}, expected a JSON object.")
    return values
