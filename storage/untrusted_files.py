"""Reading what somebody else wrote: JSON, YAML and the headers of safetensors, no larger and no deeper than they need be.

Every such file comes through here. A file that is larger, deeper, or no plain file at all (a pipe, a device) is refused
before it is parsed. Nothing that is read here is run.
"""

from __future__ import annotations

import json
import stat
import struct
from pathlib import Path
from typing import Any, NoReturn

LARGEST_TEXT_BYTES = 1_000_000  # a config file, a calibration
LARGEST_RECORD_BYTES = 16_000_000  # what flagbt itself writes: descriptions, histories
LARGEST_HEADER_BYTES = 10_000_000  # of a safetensors file: 88 million parameters need 40 kB
DEEPEST = 32  # brackets within brackets; flagbt writes at most 7


def read_bytes(path: Path, *, largest_bytes: int) -> bytes:
    """Return a plain file's bytes.

    Raises
    ------
    OSError
        When it cannot be read.
    ValueError
        When it is no plain file, or larger than ``largest_bytes``.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no plain file")
    with path.open("rb") as file:  # its size may not be what the system said
        read = file.read(largest_bytes + 1)
    if len(read) > largest_bytes:
        raise ValueError(f"it has {max(found.st_size, len(read)):,} bytes, at most {largest_bytes:,} are read")
    return read


def load_json(path: Path, *, largest_bytes: int = LARGEST_RECORD_BYTES, finite: bool = True) -> Any:
    """Return the values of a JSON file; ``finite`` refuses NaN and infinities in it.

    Raises
    ------
    OSError
        When it cannot be read.
    ValueError
        When it is too large, too deep, or no JSON.
    """
    return parse_json(read_bytes(path, largest_bytes=largest_bytes), finite=finite)


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Return the values of a JSON text; ``finite`` refuses NaN and infinities in it.

    Raises
    ------
    ValueError
        When it is deeper than ``DEEPEST`` or no JSON.
    """
    try:
        values = json.loads(text, parse_constant=_no_number if finite else None)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return values
    raise ValueError(_TOO_DEEP)


def check_safetensors(path: Path) -> None:
    """Refuse a safetensors file whose header is larger than ``LARGEST_HEADER_BYTES``, longer than the file, or no JSON.

    Raises
    ------
    OSError
        When it cannot be read.
    ValueError
        Saying what is wrong.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no plain file")
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError(f"it has {len(start)} bytes, too few for a safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > min(LARGEST_HEADER_BYTES, found.st_size - 8):
            raise ValueError(
                f"its header claims {length:,} bytes; the file has {found.st_size:,}, and at most {LARGEST_HEADER_BYTES:,} are "
                "read"
            )
        header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")


_TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it holds the number {name}")
