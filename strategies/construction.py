"""Make a strategy from its class: the arguments that options set, and the values of its own parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..data.plugins import blamed_on
from ..errors import StrategyError
from ..models.model_signals import ModelSignals
from ..storage.atomic_files import sha256_of
from .base import Strategy
from .declarations import is_built_in
from .parameters import ParameterValue


@dataclass(frozen=True, kw_only=True)
class StrategyMaker:
    """A strategy's class with the arguments of its constructor.

    Parameters
    ----------
    name : str
        As on the command line.
    kind : class
        A subclass of ``Strategy`` or of ``backtrader.Strategy``.
    params : mapping
        Values of its own parameters, checked.
    short : bool
    seed : int
        Passed to a constructor that takes them.
    """

    name: str
    kind: type[object]
    params: Mapping[str, ParameterValue] = field(default_factory=dict)
    short: bool = False
    seed: int = 0

    def make(self, model: ModelSignals | None) -> Strategy | type[object]:
        """Return an instance of a flagbt strategy, or the class of a plain Backtrader strategy.

        Parameters
        ----------
        model : ModelSignals or None
            For a strategy that uses one.

        Raises
        ------
        StrategyError
            When it cannot go short and ``short`` is set, or its constructor fails.
        """
        kind = self.kind
        if not issubclass(kind, Strategy):
            return kind
        parameters = inspect.signature(kind).parameters
        anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
        taken: dict[str, object] = {"short": self.short} if "short" in parameters or anything else {}
        if self.short and not taken:
            raise StrategyError(f"--short: {self.name} goes long only: its __init__ takes no short=.")
        if "seed" in parameters:
            taken["seed"] = self.seed
        constructor: Callable[..., Strategy] = kind
        with blamed_on(kind, "__init__"):
            return constructor(*([model] if kind.uses_model else []), **taken, **self.params)

    def describe(self) -> dict[str, object]:
        """Return the settings of a run's record that the constructor's arguments decide."""
        code = code_digest(self.kind)
        return {
            "strategy": self.name,
            **({} if code is None else {"code": code}),
            **({"seed": self.seed} if "seed" in inspect.signature(self.kind).parameters else {}),
            **({"params": dict(self.params)} if self.params else {}),
        }


def code_digest(strategy: type[object]) -> str | None:
    """Return the digest of a user strategy's source file, or None for a built-in: edited code is another configuration."""
    if is_built_in(strategy):
        return None
    try:
        return sha256_of(Path(inspect.getfile(strategy)))
    except (OSError, TypeError):  # made at run time, without a file
        return None
