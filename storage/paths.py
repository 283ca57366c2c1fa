"""Paths as a caller in Python gives them."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UsageError, kind_of


def path_of(value: object, argument: str) -> Path:
    """Return an argument that names a file or folder as a path.

    Raises
    ------
    UsageError
        For any other type, or empty text.
    """
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return Path(os.fsdecode(value))
    raise UsageError(f"{argument}: expected a path, got {kind_of(value)}.")


def page_path(value: object, example: str) -> Path:
    """Return the path of a page to write; raises UsageError for a folder, or where it is not a path."""
    page = path_of(value, "page")
    if page.is_dir():
        raise UsageError(f"page: {page} is a folder. Give a file name, such as {page / example}.")
    return page
