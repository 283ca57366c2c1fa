"""Settings of the C library's allocator for a training on the CPU: one step reuses the memory that the last one freed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_USUAL_TRIM_BYTES, _USUAL_MMAPS = 128 * 1024, 65_536
_NEVER = 2**31 - 1


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory in the process inside the block, and return it to the system at its end.

    Does nothing without glibc. By default glibc requests every block above 32 MB from the system and returns it when it is
    freed. A training step of `88m` allocates and frees thousands of such blocks, and the kernel clears every page each time.
    docs/benchmarks.md has the figures; ``benchmarks/training.py --usual-memory`` measures without this.
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
