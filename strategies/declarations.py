"""Declarations of a strategy: the bars it has seen, whether it reads bars, its labels. They are checked, never guessed.

A declaration is an attribute of the class or of the instance. Declarations of a built-in class hold for that class alone: a
user's subclass may do anything, so it makes its own declarations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.labels import Labels, LabelSpec, label_spec
from ..data.plugins import blamed_on
from ..data.time_range import TimeRange
from ..errors import StrategyError, UsageError, kind_of

_REMEDY = 'Write bars_seen = ("20200101-20230701",): a tuple of time ranges, () where it has seen none'


def bars_seen(strategy: object) -> tuple[TimeRange, ...] | None:
    """Return the ranges of bars on which any part of a strategy was trained, tuned or chosen; None where not declared.

    Parameters
    ----------
    strategy : Strategy, or a class
        A plain Backtrader strategy is a class until it is replayed; its instance is read afterwards.

    Raises
    ------
    StrategyError
        Where its ``bars_seen`` is anything but None or a tuple of time ranges (``TimeRange``, or text such as
        ``20200101-20230701``).
    """
    given = _declared(strategy, "bars_seen")
    if given is None:
        return None
    where = f"strategy '{name_of(strategy)}': bars_seen"
    if not isinstance(given, tuple):
        what = f"the text {given!r}" if isinstance(given, str) else kind_of(given)
        raise StrategyError(f"{where} is {what}, expected a tuple of time ranges. {_REMEDY}.")
    return tuple(_range(each, where) for each in given)


def reads_bars(strategy: object) -> bool:
    """Return whether a strategy's signals depend on prices or volumes; True unless it declares ``reads_bars = False``.

    Raises
    ------
    StrategyError
        Where its ``reads_bars`` is neither True nor False.
    """
    given = _declared(strategy, "reads_bars")
    if given is None:
        return True
    if not isinstance(given, bool):
        raise StrategyError(f"strategy '{name_of(strategy)}': reads_bars is {given!r}, expected True or False.")
    return given


def warmup_bars(strategy: object) -> int | None:
    """Return the bars of history that a strategy needs before its first signal; None where not declared.

    Raises
    ------
    StrategyError
        Where its ``warmup_bars`` is not a whole number of 0 or more.
    """
    given = _declared(strategy, "warmup_bars")
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 0:
        raise StrategyError(f"strategy '{name_of(strategy)}': warmup_bars is {given!r}, expected a whole number of 0 or more.")
    return int(given)


def labels_of(strategy: object) -> Labels:
    """Return the labels that a strategy's probabilities predict: its ``label_spec``, or the default labels.

    Raises
    ------
    StrategyError
        Where its ``label_spec`` is neither labels nor their text.
    """
    given = _declared(strategy, "label_spec")
    if given is None:
        return LabelSpec()
    if isinstance(given, str):
        try:
            return label_spec(given, option=f"strategy '{name_of(strategy)}': label_spec")
        except UsageError as error:
            raise StrategyError(str(error)) from None
    if not isinstance(given, Labels):
        raise StrategyError(
            f"strategy '{name_of(strategy)}': label_spec is {kind_of(given)}, expected labels such as "
            f"LabelSpec(horizon_bars=6, threshold=0.01), or their text, such as '{LabelSpec()}'."
        )
    return given


def is_built_in(kind: type[object]) -> bool:
    """Return whether a class belongs to flagbt."""
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]


def _declared(strategy: object, name: str) -> object:
    """Return the attribute as the nearest class declares it; None where no class, or only a built-in class, declares it."""
    kind: type[Any] = strategy if isinstance(strategy, type) else type(strategy)
    if strategy is kind or name not in getattr(strategy, "__dict__", {}):
        owner = next((each for each in kind.__mro__ if name in vars(each)), None)
        if owner is None or (is_built_in(owner) and not is_built_in(kind)):
            return None
        if strategy is kind and isinstance(vars(owner)[name], property):  # read again once there is an instance
            return None
    with blamed_on(kind, name):
        return getattr(strategy, name)


def _range(given: object, where: str) -> TimeRange:
    if isinstance(given, str):
        try:
            return TimeRange.parse(given, option=where)
        except UsageError as error:
            raise StrategyError(str(error)) from None
    if not isinstance(given, TimeRange):
        raise StrategyError(f"{where} holds {given!r}, expected time ranges. {_REMEDY}.")
    ends = [end for end in (given.start, given.stop) if end is not None]
    if len(ends) == 2 and ends[0] >= ends[1]:
        raise StrategyError(
            f"{where} holds {given}, which ends before it starts. The end is exclusive: write it after the start."
        )
    return given


def name_of(strategy: object) -> str:
    """Return the name of a strategy in records and tables: its ``name``, or the name of its class."""
    kind: type[Any] = strategy if isinstance(strategy, type) else type(strategy)
    name = getattr(strategy, "name", None)
    return name if isinstance(name, str) else kind.__name__
