"""The one error tree: what a user did or has that stops the work, said in one paragraph.

    FlagbtError                exit 1   the base; never raised itself
    ├── UsageError             exit 2   an option's value or a name that flagbt does not know
    ├── DataError              exit 1   a bars file, or bars, that cannot be used as they are
    ├── FetchError             exit 1   an exchange that does not answer, or not so that bars can be made of it
    ├── RangeError             exit 1   a time range with no bars, too few, or that overlaps training
    ├── CheckpointError        exit 1   a checkpoint that is missing, damaged or does not fit
    ├── StrategyError          exit 1   a plug-in that cannot be loaded or breaks its contract
    ├── DeviceError            exit 1   a requested device that is not there, or is out of memory
    ├── TrainingError          exit 1   a training that cannot start or must stop
    └── RecordError            exit 1   a run folder that cannot be written or read

A message says what was expected, what was got (the value and its place) and what to do.
Only these are shown without a traceback: any other exception is a defect of flagbt's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FlagbtError(Exception):
    """Base of every error that a user can cause and mend; ``exit_code`` is the command line's."""

    exit_code = 1


class UsageError(FlagbtError):
    """An option's value, or a name, that flagbt does not know."""

    exit_code = 2


class DataError(FlagbtError):
    """Bars, or a file of bars, that cannot be used as they are."""


class FetchError(FlagbtError):
    """An exchange that does not answer, or whose answers are no bars."""


class RangeError(FlagbtError):
    """A time range with no bars, with too few, or that overlaps what a checkpoint was trained on."""


class CheckpointError(FlagbtError):
    """A checkpoint that is missing, damaged, or does not fit the bars or the code."""


class StrategyError(FlagbtError):
    """A strategy or feature plug-in that cannot be loaded, or that breaks its contract."""


class DeviceError(FlagbtError):
    """A requested device that is not there, or that ran out of memory."""


class TrainingError(FlagbtError):
    """A training that cannot start, or that must stop."""


class RecordError(FlagbtError):
    """A run folder that cannot be written or read."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the sentence that names the nearest known name, or lists them all when none is near.

    Examples
    --------
    >>> nearest("Jan91", ["Jan4", "Jan19"])
    "Did you mean 'Jan19'?"
    >>> nearest("zzz", ["b", "a"])
    'Known: a, b.'
    >>> nearest("zzz", [])
    'None is known.'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    if close:
        found = next(n for n in names if n.lower() == close[0])
        return f"Did you mean '{found}'?"
    return f"Known: {', '.join(names)}." if names else "None is known."


def check_choice(option: str, value: str, known: Iterable[str]) -> None:
    """Refuse a value that is none of the known ones.

    Raises
    ------
    UsageError
        Naming the option, the value and the nearest known one.
    """
    names = list(known)
    if value not in names:
        raise UsageError(f"{option}: '{value}' is unknown. {nearest(value, names)}")
