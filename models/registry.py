"""Registry of the kinds of models: the built-in ones and those of installed packages, by one door."""

from __future__ import annotations

import inspect

from ..data.plugins import load_object, plugin_names
from ..errors import StrategyError, UsageError, kind_of, nearest
from .checkpoint_model import ALL_PARTS, CheckpointModel
from .kinds import BUILT_IN

GROUP = "flagbt.models"
_REMEDY = f"Fix it there, or uninstall the package: its entry point is in the group '{GROUP}'."
_METHODS = {"logits": "bars", "key": "bars", "check_settings": None, "device_name": "device"}


def kind_names() -> list[tuple[str, str]]:
    """Return (name, one-line description) of every registered kind, the built-in ones first; none is imported.

    Raises
    ------
    StrategyError
        When two packages offer the same name, or a package offers the name of a built-in kind.
    """
    listed = [(name, description) for name, (_, description) in BUILT_IN.items()]
    return listed + [(name, f"plug-in {path}") for name, path in sorted(_table().items()) if name not in BUILT_IN]


def find_kind(name: str) -> type[CheckpointModel]:
    """Return the class of a registered kind.

    Raises
    ------
    UsageError
        When the name is not registered; the nearest name is given.
    StrategyError
        When the class cannot be imported or breaks the contract.
    """
    table = _table()
    if name not in table:
        raise UsageError(f"the kind of model '{name}' is not registered. {nearest(name, table)}")
    return checked_kind(load_object(table[name], what=f"kind of model '{name}',"), name)


def name_of_kind(kind: type[CheckpointModel]) -> str:
    """Return the name that a kind's class is registered under.

    Raises
    ------
    StrategyError
        When it is not registered.
    """
    path = f"{kind.__module__}:{kind.__qualname__}"
    for name, known in _table().items():
        if known == path:
            return name
    raise StrategyError(f"the class {path} is not registered in the entry-point group '{GROUP}'. Add it to its package.")


def checked_kind(found: object, name: str) -> type[CheckpointModel]:
    """Return a kind's class where it keeps the contract.

    Raises
    ------
    StrategyError
        Naming the file, the broken part of the contract, and the remedy.
    """
    if not (inspect.isclass(found) and issubclass(found, CheckpointModel)):
        what = f"the class {found.__name__}" if inspect.isclass(found) else kind_of(found)
        raise StrategyError(
            f"the kind of model '{name}' is {what}: expected a subclass of flagbt.models.checkpoint_model.CheckpointModel, or "
            f"of RowModel for a model that reads rows of features. {_REMEDY}"
        )
    who = f"the kind of model '{name}' ({_file_of(found)})"
    if missing := sorted(found.__abstractmethods__):
        raise StrategyError(f"{who} lacks {', '.join(missing)}, which the contract needs (docs/models.md). {_REMEDY}")
    for method, first in _METHODS.items():
        parameters = list(inspect.signature(getattr(found, method)).parameters)[1:]
        if first is not None and parameters[:1] != [first]:
            shown = ", ".join(parameters) or "nothing"
            raise StrategyError(f"{who}: {method} takes {shown}, expected {first} first (docs/models.md). {_REMEDY}")
    for field in ("files", "needs", "libraries", "modules"):
        value = getattr(found, field)
        if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
            raise StrategyError(f"{who}: {field} is {value!r:.60}, expected a tuple of text. {_REMEDY}")
    if unknown := [each for each in found.needs if each not in ALL_PARTS]:
        raise StrategyError(f"{who}: needs has {unknown[0]!r:.60}. {nearest(str(unknown[0]), ALL_PARTS)} {_REMEDY}")
    return found


def _file_of(kind: type[object]) -> str:
    try:
        return inspect.getsourcefile(kind) or kind.__module__
    except TypeError:
        return kind.__module__


def _table() -> dict[str, str]:
    table = {name: path for name, (path, _) in BUILT_IN.items()}
    for name, path in plugin_names(GROUP).items():
        if table.setdefault(name, path) != path:
            raise StrategyError(
                f"an installed package offers the kind of model '{name}' as {path}, but that name is built in ({table[name]}). "
                "Rename its entry point, or uninstall the package."
            )
    return table
