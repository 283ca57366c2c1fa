"""Bounded reads of files from other people: JSON, YAML and the headers of safetensors.

Every such file is read here. A file that is too large, too deep, or not a regular file (a pipe, a device) is refused before
it is parsed. Nothing that is read here is executed.
"""

from __future__ import annotations

import json
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

LARGEST_TEXT_BYTES = 1_000_000  # a config file, a calibration
LARGEST_RECORD_BYTES = 16_000_000  # what flagbt writes: descriptions, histories
LARGEST_HEADER_BYTES = 10_000_000  # of a safetensors file: 88 million parameters need 40 kB
DEEPEST = 32  # levels of nested brackets; flagbt writes at most 7


def read_bytes(path: Path, *, largest_bytes: int) -> bytes:
    """Return the bytes of a regular file.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it is not a regular file, or larger than ``largest_bytes``.
    """
    size = _size_of_regular(path)
    with path.open("rb") as file:  # the size may differ from what the system reported
        content = file.read(largest_bytes + 1)
    if len(content) > largest_bytes:
        raise ValueError(f"it has {max(size, len(content)):,} bytes, at most {largest_bytes:,} are read")
    return content


def _size_of_regular(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    return status.st_size


def load_json(path: Path, *, largest_bytes: int = LARGEST_RECORD_BYTES, finite: bool = True) -> Any:
    """Return the values of a JSON file; ``finite`` refuses NaN and infinities.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it is too large, too deep, or not JSON.
    """
    return parse_json(read_bytes(path, largest_bytes=largest_bytes), finite=finite)


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Return the values of a JSON text; ``finite`` refuses NaN and infinities.

    Raises
    ------
    ValueError
        When it is deeper than ``DEEPEST`` or not JSON.
    """
    try:
        values = json.loads(text, parse_constant=_refuse_constant if finite else None)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level: list[object] = [values]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return values
    raise ValueError(_TOO_DEEP)


def check_safetensors(path: Path) -> None:
    """Refuse a safetensors file whose header is larger than ``LARGEST_HEADER_BYTES``, longer than the file, or not JSON.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        Describing the problem.
    """
    size = _size_of_regular(path)
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError(f"it has {len(start)} bytes, too few for a safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > min(LARGEST_HEADER_BYTES, size - 8):
            raise ValueError(
                f"its header claims {length:,} bytes; the file has {size:,}, and at most {LARGEST_HEADER_BYTES:,} are read"
            )
        header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")


def load_safetensors(path: Path, load_file: Callable[[Path], dict[str, T]]) -> dict[str, T]:
    """Return the tensors of a safetensors file by their names.

    Parameters
    ----------
    load_file : callable
        That of ``safetensors.numpy`` or ``safetensors.torch``.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it is damaged, or has a type of number that the library does not know.
    """
    from safetensors import SafetensorError

    check_safetensors(path)
    try:
        return load_file(path)
    except (LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise ValueError(str(error)) from None


_TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it contains the number {name}")
