"""The C library's memory while a training runs on the CPU: what one step frees, the next one uses."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_USUAL_TRIM_BYTES, _USUAL_MMAPS = 128 * 1024, 65_536
_NEVER = 2**31 - 1


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let the process keep what is freed inside, and give it back to the system at the end; does nothing without glibc.

    By default glibc asks the system for every block above 32 MB and returns it when it is freed. A training step of `88m`
    frees and takes thousands of them, and the kernel clears every page each time: figures in docs/benchmarks.md, and
    ``benchmarks/training.py --usual-memory`` measures without this.
    """
    library = ctypes.CDLL(None)
    tune, trim = getattr(library, "mallopt", None), getattr(library, "malloc_trim", None)
    if tune is None or trim is None:
        yield
        return
    tune(_MMAP_MAX, 0)
    tune(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        tune(_MMAP_MAX, _USUAL_MMAPS)
        tune(_TRIM_THRESHOLD, _USUAL_TRIM_BYTES)
        trim(0)
