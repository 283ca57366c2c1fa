"""The digest of a user's own strategy: edited code is another configuration, and another trial."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

from ..storage.atomic_files import sha256_of
from .declarations import is_built_in


def code_digest(strategy: type[object]) -> str | None:
    """Return the digest of the file of a strategy's class, or of its functions where it has none; None for a built-in one."""
    if is_built_in(strategy):
        return None
    try:
        return sha256_of(Path(inspect.getfile(strategy)))
    except (OSError, TypeError):  # made in a notebook, or at run time
        sha = hashlib.sha256(b"flagbt code 1")
        for kind in strategy.__mro__:
            for name, value in sorted(vars(kind).items()) if _is_users(kind) else ():
                sha.update(repr((kind.__qualname__, name, *_content(value))).encode())
        return sha.hexdigest()


def _is_users(kind: type[object]) -> bool:
    return not is_built_in(kind) and kind.__module__.partition(".")[0] not in ("backtrader", "builtins")


def _content(value: object) -> Iterator[object]:
    """Yield what decides a member of a class: a function's code, or a plain value; nothing that differs by process."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, FunctionType):
        yield from _code(value.__code__)
        yield repr(value.__defaults__), repr(value.__kwdefaults__)
    elif isinstance(value, bool | int | float | str | tuple | None):
        yield repr(value)


def _code(code: CodeType) -> Iterator[object]:
    yield code.co_code.hex()
    yield code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _code(each)
        else:  # a set is written in the order of a process
            yield sorted(map(repr, each)) if isinstance(each, frozenset) else repr(each)
