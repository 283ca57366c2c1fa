"""path_of: an argument that names a file or a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import UsageError, quoted_value


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
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{argument}: expected a path, got a {type(value).__name__}.")
    text = os.fsdecode(value)
    if not text:
        raise UsageError(f"{argument}: expected a path, got an empty text.")
    try:
        os.lstat(text)
    except OSError as error:  # it may be missing, or in a folder that cannot be entered
        if is_new and error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{argument}: {quoted_value(text)} is too long for the name of a file. Shorten it.") from None
    except ValueError:  # a NUL, or half a character
        raise UsageError(f"{argument}: {quoted_value(text)} holds a character that no file name may have. Remove it.") from None
    return Path(text)
