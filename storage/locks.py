"""Locks on files and folders that end with the process that holds them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def try_lock(path: Path) -> Iterator[int]:
    """Lock a file or folder for this process, and yield its descriptor; the lock of a killed process is released.

    Raises
    ------
    BlockingIOError
        When another process holds the lock.
    OSError
        When the path cannot be opened, or its file system has no locks.
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
    """Lock a folder or file, so that one process at a time runs the block; no lock file is left behind.

    The block runs without the lock after ``seconds`` (a process that holds it longer has stopped), and on a file system
    without locks.

    Raises
    ------
    OSError
        When the path cannot be opened.
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
        os.close(descriptor)  # this also releases the lock
