"""Plug-ins: objects that other packages offer by entry point, or that a user names as ``module:name``."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import entry_points

from ..errors import StrategyError, UsageError, nearest


def plugin_names(group: str) -> dict[str, str]:
    """Return ``{name: "module:object"}`` of the installed entry points of a group.

    Raises
    ------
    StrategyError
        When two packages offer the same name.
    """
    found: dict[str, str] = {}
    for point in entry_points(group=group):
        if found.get(point.name, point.value) != point.value:
            raise StrategyError(
                f"two installed packages offer '{point.name}' in '{group}': {found[point.name]} and {point.value}. "
                "Uninstall one, or name the object you mean as module:name."
            )
        found[point.name] = point.value
    return found


def load_object(path: str, *, what: str) -> object:
    """Import ``module:name``; modules in the current folder are found too.

    Raises
    ------
    UsageError
        When ``path`` is not of that form.
    StrategyError
        When the module cannot be imported or has no such name.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise UsageError(f"{what} '{path}': expected module:name, such as my_module:MyThing.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a plug-in's own code may raise anything while it is imported
        raise StrategyError(
            f"{what} '{path}': importing '{module_name}' failed: {type(error).__name__}: {error}. "
            "A module is looked for in the current folder and among the installed packages."
        ) from error
    try:
        return getattr(module, name)
    except AttributeError:
        names = [known for known in vars(module) if not known.startswith("_")]
        raise StrategyError(f"{what} '{path}': '{module_name}' has no '{name}'. {nearest(name, names)}") from None
