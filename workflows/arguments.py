"""The arguments of the functions for Python: what each may be, and plain words for anything else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..data.time_range import TimeRange
from ..errors import UsageError, kind_of, quoted_value
from ..models.checkpoint import Checkpoint
from ..models.decision import Decision
from ..strategies.base import Strategy

if TYPE_CHECKING:
    StrategyInput = str | Strategy | type[object] | None
    CheckpointInput = str | Path | Checkpoint | None
    TimeRangeInput = str | TimeRange | None
else:
    StrategyInput = CheckpointInput = TimeRangeInput = object

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])


def silent_phases(_phase: str, _done: int, _total: int) -> None:
    """Take the progress of phases and do nothing."""


class GivenStrategy(NamedTuple):
    """A strategy as a caller names it.

    Attributes
    ----------
    name : str
        Its registered name, or ``module:Class``; where the command line cannot find it, its class's name.
    kind : type, optional
        Its class; None where it is found by its name.
    instance : Strategy, optional
        A strategy that was made already.
    has_name : bool
        Whether the command line finds it by its name.
    """

    name: str
    kind: type[object] | None = None
    instance: Strategy | None = None
    has_name: bool = True


def instance_or_none(value: object, kind: type[T], argument: str, example: str) -> T | None:
    """Return an argument of a class; raises UsageError for any other value than None."""
    if value is None or isinstance(value, kind):
        return value
    raise UsageError(f"{argument}: expected {kind.__name__}, got {kind_of(value)}. Write {example}.")


def time_range_from(value: object, argument: str = "timerange") -> TimeRange:
    """Return a time range; None is all time.

    Raises
    ------
    UsageError
        For any other type, or text that is not a range.
    """
    if value is None:
        return TimeRange()
    if isinstance(value, TimeRange):
        return value
    if isinstance(value, str):
        return TimeRange.parse(value, option=argument)
    raise UsageError(f"{argument}: expected text such as '20240101-20240701' or '2024', or a TimeRange, got {kind_of(value)}.")


def checkpoint_from(value: object, argument: str = "checkpoint") -> str | None:
    """Return a checkpoint's name or folder as text; raises UsageError for any other type."""
    if value is None:
        return None
    if isinstance(value, Checkpoint):
        return str(value.folder)
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return os.fsdecode(value)
    raise UsageError(
        f"{argument}: expected a checkpoint's name, its folder, or a Checkpoint, got "
        f"{kind_of(value)}. flagbt ckpt list shows the names."
    )


def decision_from(value: object) -> Decision | None:
    """Return a decision rule, or the one that a text describes; raises UsageError for any other type or text."""
    if value is None or isinstance(value, Decision):
        return value
    if isinstance(value, str):
        return Decision.parse(value)
    raise UsageError(f"decision: expected text such as 'argmax', or a Decision, got {kind_of(value)}.")


def callback_from(value: F | None, argument: str, example: str, otherwise: F) -> F:
    """Return a function that a caller is called back by, ``otherwise`` for None; raises UsageError for any other value."""
    if value is None:
        return otherwise
    if callable(value):
        return value
    raise UsageError(f"{argument}: expected a function, such as {example}, got {quoted_value(value)}.")


def params_from(value: object) -> Mapping[str, object]:
    """Return the values of a strategy's own parameters by name; raises UsageError for anything but a mapping of names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"params: expected values by name, such as {{'fast_bars': 12}}, got {kind_of(value)}.")
    wrong = next((name for name in value if not isinstance(name, str)), None)
    if wrong is not None:
        raise UsageError(f"params: a name is {quoted_value(wrong)}, expected text, such as {{'fast_bars': 12}}.")
    return value


def strategy_from(value: object) -> GivenStrategy:
    """Return the strategy that an argument means.

    Raises
    ------
    UsageError
        For anything but a name, a strategy, or a strategy's class.
    StrategyError
        For a class that is neither flagbt's nor Backtrader's.
    """
    if isinstance(value, str) and value:
        return GivenStrategy(value)
    if isinstance(value, Strategy):
        return GivenStrategy(value.name, instance=value, has_name=False)
    if isinstance(value, type):
        return _of_class(value)
    raise UsageError(
        f"strategy: expected a name such as 'sma-cross', 'module:Class', a Strategy or its class, or a Backtrader strategy's "
        f"class, got {kind_of(value)}. flagbt strategies lists the names."
    )


def _of_class(kind: type[object]) -> GivenStrategy:
    from ..strategies.registry import name_in_registry, strategy_class

    strategy_class(kind, kind.__name__)
    path = f"{kind.__module__}:{kind.__qualname__}"
    registered = name_in_registry(path)
    if registered is not None:
        return GivenStrategy(registered, kind)
    if kind.__module__ == "__main__" or "<" in path:  # a class of a notebook or of a function
        return GivenStrategy(kind.__name__, kind, has_name=False)
    return GivenStrategy(path, kind)
