"""Paths as a caller in Python gives them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, UsageError, kind_of, nearest, quoted_value


@contextmanager
def readable_file(path: Path, what: str, endings: Iterable[str], option: str = "") -> Iterator[None]:
    """Turn the system's errors of a file that is read in the block into DataErrors.

    Parameters
    ----------
    path : Path
    what : str
        What its file should hold, such as ``bars``.
    endings : iterable of str
        Of the names of such files: the nearest one in the folder is suggested.
    option : str
        What named the file, for the start of the message.

    Raises
    ------
    DataError
        For a file that is missing, a folder, or cannot be read.
    """
    place = f"{option}: {path}" if option else str(path)
    try:
        yield
    except FileNotFoundError:
        near = _neighbour(path, tuple(endings))
        raise DataError(f"{place}: there is no such file. {near}Give the path of a file of {what}.") from None
    except IsADirectoryError:
        raise DataError(f"{place}: this is a folder. Give the path of one file of {what} inside it.") from None
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{place}: cannot be read ({reason}). Check the file and its permissions.") from None


def _neighbour(path: Path, endings: tuple[str, ...]) -> str:
    """Return a sentence with a readable file of a similar name in the same folder, if there is one."""
    if not path.parent.is_dir():
        return f"Its folder {path.parent} does not exist either. "
    try:
        names = [each.name for each in path.parent.iterdir() if each.name.lower().endswith(endings)]
    except OSError:  # a folder that cannot be listed
        return ""
    guess = nearest(path.name, names)
    return f"{guess} " if guess.startswith("Did you mean") else ""


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
