"""Paths as a caller in Python gives them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import UsageError, kind_of, quoted_value


def path_of(value: object, argument: str, *, is_new: bool = False) -> Path:
    """Return an argument that names a file or folder as a path.

    Parameters
    ----------
    is_new : bool
        Whether it will be written: a name that is too long is refused at once.

    Raises
    ------
    UsageError
        For any other type, empty text, or text that no file can have as its name.
    """
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise UsageError(f"{argument}: expected a path, got {kind_of(value)}.")
    text = os.fsdecode(value)
    try:
        os.lstat(text)
    except OSError as error:  # it may be missing, or in a folder that cannot be entered
        if is_new and error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{argument}: {quoted_value(text)} is too long for the name of a file. Shorten it.") from None
    except ValueError:  # a NUL, or half a character
        raise UsageError(f"{argument}: {quoted_value(text)} holds a character that no file name may have. Remove it.") from None
    return Path(text)


def page_path(value: object, example: str) -> Path:
    """Return the path of a page to write; raises UsageError for a folder, or where it is not a path."""
    page = path_of(value, "page")
    if os.path.isdir(page):  # Path.is_dir raises for a name that is too long
        raise UsageError(f"page: {page} is a folder. Give a file name, such as {page / example}.")
    return page
