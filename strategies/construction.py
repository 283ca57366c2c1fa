"""Make a strategy from its class: the arguments that options set, and its parameters' values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..arrays import JsonObject
from ..data.plugins import blamed_on
from ..errors import StrategyError
from ..models.model_signals import ModelSignals
from .base import Strategy
from .code_digest import code_digest
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
        Values of its parameters, checked.
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

    def describe(self) -> JsonObject:
        """Return the settings of a run's record that the constructor's arguments decide."""
        code = code_digest(self.kind)
        return {
            "strategy": self.name,
            **({} if code is None else {"code": code}),
            **({"seed": self.seed} if "seed" in inspect.signature(self.kind).parameters else {}),
            **({"params": dict(self.params)} if self.params else {}),
        }
