"""Writing so that a crash leaves the old or the new on disk, never a half that looks whole."""

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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import UsageError
from .untrusted_files import LARGEST_TEXT_BYTES, load_json

TEMPORARY_PREFIX = ".flagbt-tmp-"
LONGEST_NAME = 255  # bytes, on every file system in use
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + "[0-9a-f]{8}-")
_HERE, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD and the flag of Linux's renameat2


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

    What a killed process left in the folder under such names is removed by the first write of this one.

    Raises
    ------
    OSError
        When it cannot be written; a file that was there is then as it was.
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with new_file(path) as file:
        file.write(content)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file under a temporary name; when the block ends well it is synced and put in the place of ``path``.

    A file that is replaced passes on its mode; a new one has 0666 less the umask.

    Raises
    ------
    OSError
        When it cannot be written; a file that was there is then as it was.
    """
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
    """Try whether ``folder`` can be written or made, before the work whose result belongs there; nothing is left behind.

    Raises
    ------
    OSError
        When it cannot: a file has its name, or the disk or the rights forbid it.
    """
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not _nameless_file(there):
        with _temporary(there / "check", Path.mkdir):
            pass
    if len(os.fsencode(folder.name)) > LONGEST_NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(folder))


def _nameless_file(folder: Path) -> bool:
    """Make a file without a name in a folder, which a kill cannot leave behind; False where the system has no such files."""
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
    """Remove the temporary files and folders that killed processes left in a folder; a living one's are locked, and stay."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in [each for each in entries if _TEMPORARY.match(each.name)]:
            path = Path(entry.path)
            with suppress(OSError), try_lock(path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def discard_tree(folder: Path) -> None:
    """Remove a folder, if it is there, in one step: a process killed meanwhile leaves all of it, or nothing of that name."""
    temporary = _temporary_name(folder)
    try:
        folder.rename(temporary)
    except FileNotFoundError:
        return
    except OSError:
        temporary = folder
    shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def try_lock(path: Path) -> Iterator[int]:
    """Lock a file or folder for this process, and yield its descriptor; a killed process's lock is gone with it.

    Raises
    ------
    BlockingIOError
        When another process has it.
    OSError
        When it cannot be opened, or its file system has no locks.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, seconds: float = 10.0) -> Iterator[None]:
    """Hold the lock of a folder or file: of several processes, one at a time does what is inside; nothing is left behind.

    Goes on without it after ``seconds`` (whoever holds it longer has stopped), and on a file system that has no locks.

    Raises
    ------
    OSError
        When it cannot be opened.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
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

    Its files have one mode, 0666 less the umask, whatever wrote them.

    Where the block raises, or the process dies, ``target`` is as it was.

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
        _give_one_mode(temporary)
        sync_tree(temporary)
        if overwrite and target.exists():
            _exchange(temporary, target)
        elif target.exists():
            raise FileExistsError(str(target))
        else:
            temporary.rename(target)
        sync(target.parent)


def _give_one_mode(folder: Path) -> None:
    """Let everything in a new folder be as readable as the folder is, by the umask: some libraries make their files 0600."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    for path in folder.rglob("*"):
        path.chmod(mode if path.is_dir() else mode & 0o666)


def _exchange(new: Path, old: Path) -> None:
    """Let two folders swap their names, in one step where the system can (Linux, most file systems)."""
    library = ctypes.CDLL(None, use_errno=True)
    swap = getattr(library, "renameat2", None)
    if swap is not None and swap(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _RENAME_EXCHANGE) == 0:
        return
    # In two steps. Not a temporary name: a process killed between them leaves the old one there, for its owner.
    aside = old.with_name(f".{old.name}.before-overwrite-{secrets.token_hex(4)}")
    old.rename(aside)
    new.rename(old)
    aside.rename(new)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")


@contextmanager
def _temporary(path: Path, make: Callable[[Path], object]) -> Iterator[tuple[Path, int]]:
    """Make something under a temporary name beside ``path`` and lock it; yield it, and remove what has that name after."""
    temporary, descriptor = _claimed(path, make)
    try:
        yield temporary, descriptor
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        os.close(descriptor)  # and with it the lock


def _claimed(path: Path, make: Callable[[Path], object]) -> tuple[Path, int]:
    """Make something and lock it. TRAP: between the two, another process may take it for an abandoned one and remove it."""
    import fcntl

    while True:
        temporary = _temporary_name(path)
        make(temporary)
        try:
            descriptor = os.open(temporary, os.O_RDONLY if temporary.is_dir() else os.O_RDWR)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system without locks: there, nothing is ever taken for abandoned
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
    """Force every file under a folder, and the folder itself, onto the disk."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            sync(file)
    sync(folder)


def check_no_links(folder: Path) -> None:
    """Refuse a folder of somebody else's that holds a symbolic link: its files would be read from anywhere.

    Raises
    ------
    ValueError
        Naming the link.
    """
    link = next((each for each in folder.rglob("*") if each.is_symlink()), None)
    if link is not None:
        raise ValueError(f"{link.name} in it is a symbolic link, and a folder is read only where all its files lie in it")


def sync(path: Path) -> None:
    """Force a file, or a folder's list of names, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, *, what: str) -> dict[str, Any]:
    """Read a JSON object of at most 1 MB that a user names.

    Raises
    ------
    UsageError
        When it cannot be read or holds something else; ``what`` opens the message.
    """
    try:
        values = load_json(path, largest_bytes=LARGEST_TEXT_BYTES)
    except (OSError, ValueError) as error:
        raise UsageError(f"{what}: {path} cannot be read as JSON: {error}.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{what}: {path} holds a {type(values).__name__}, expected a JSON object.")
    return values
