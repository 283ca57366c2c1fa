"""Registry of strategies: the built-in ones, those of installed packages, and any ``module:Class``.

Names are listed without importing the strategies, so that a listing is instant (no torch, no Backtrader).
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

from ..data.plugins import described, load_object, registered
from ..errors import StrategyError, UsageError, kind_of, nearest
from .base import Strategy

GROUP = "flagbt.strategies"

# Name: (path of the class, what `flagbt strategies list` prints). A built-in strategy needs this line only; an installed
# package offers its own as entry points of GROUP.
BUILT_IN: dict[str, tuple[str, str]] = {
    "flagtrader": ("flagbt.strategies.flagtrader:FlagTrader", "trades the signals of a fine-tuned checkpoint"),
    "buy-and-hold": ("flagbt.strategies.baselines:BuyAndHold", "buys once and holds to the end"),
    "always-hold": ("flagbt.strategies.baselines:AlwaysHold", "never trades"),
    "sma-cross": ("flagbt.strategies.baselines:SmaCross", "long while the 24-bar mean is above the 168-bar mean"),
    "random": ("flagbt.strategies.baselines:RandomSignals", "signals drawn at random, with the labels' shares"),
}


def strategy_names() -> list[tuple[str, str]]:
    """Return (name, one-line description) of every registered strategy, the built-in ones first.

    Raises
    ------
    StrategyError
        When two packages offer the same name, or a package offers the name of a built-in strategy.
    """
    return described(_table(), BUILT_IN)


def find_strategy(name: str) -> type[Any]:
    """Return the class of a registered name, or of ``package.module:Class`` (also from the current folder).

    Returns
    -------
    class
        A subclass of ``flagbt.strategies.base.Strategy`` or of ``backtrader.Strategy``.

    Raises
    ------
    UsageError
        When the name is not registered; the nearest name is given.
    StrategyError
        When the object cannot be imported or is not a strategy class, or two packages offer one name.
    """
    if ":" in name:
        return strategy_class(load_object(name, what="strategy"), name)
    table = _table()
    if name not in table:
        raise UsageError(
            f"strategy '{name}' is not registered. {nearest(name, table)} Name your own class as package.module:Class."
        )
    return strategy_class(load_object(table[name], what="strategy"), name)


def name_in_registry(path: str) -> str | None:
    """Return the registered name of a ``module:Class``; None where it has none."""
    return next((name for name, known in _table().items() if known == path), None)


def _table() -> dict[str, str]:
    return registered(GROUP, BUILT_IN, "strategy", takes_paths=True)


def strategy_class(found: object, name: str) -> type[Any]:
    """Return a strategy's class; raises StrategyError for anything else."""
    # A subclass of backtrader.Strategy has imported Backtrader already; sys.modules avoids the import for all others.
    backtrader = sys.modules.get("backtrader")
    bases = (Strategy,) if backtrader is None else (Strategy, backtrader.Strategy)
    if inspect.isclass(found) and issubclass(found, bases) and found not in bases:
        return found
    what = f"the class {found.__name__}" if inspect.isclass(found) else kind_of(found)
    raise StrategyError(
        f"strategy '{name}' is {what}: expected a subclass of flagbt.strategies.base.Strategy or of backtrader.Strategy."
    )
