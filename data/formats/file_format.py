"""FileFormat: all that flagbt knows of one format of bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..bars import Bars
from ..reading import Reading
from .table import Faults, Table


@dataclass(frozen=True)
class FileFormat:
    """A format of bars: a module of this package offers it under the name ``FORMAT``, and nothing else names it.

    Parameters
    ----------
    endings : mapping of str to str
        The ending of its files' names, such as ``.csv``, in lower case: what such a file is, in the words of docs/data.md.
    read : function of Path, Faults and Reading
        Reads a file as a `Table`, without checking the bars: it adds the faults of single rows to the `Faults`, raises a
        DataError for a file that is not of the format, and limits its memory and time for any input.
    write : function of Bars
        Returns a file of these bars; for an ending in .gz its caller compresses it. The tests and the fuzzer start from it.
    """

    endings: Mapping[str, str]
    read: Callable[[Path, Faults, Reading], Table]
    write: Callable[[Bars], bytes]
