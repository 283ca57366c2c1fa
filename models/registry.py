"""Registry of the kinds of models: the built-in ones and those of installed packages, by one door."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import __version__
from ..arrays import JsonObject
from ..data.plugins import described, load_object, package_of, plugin_names, registered
from ..errors import StrategyError, UsageError, kind_of, nearest, quoted_value
from .checkpoint_model import ALL_PARTS, READABLE_OPTIONS, CheckpointModel, installed_version
from .kinds import BUILT_IN

GROUP = "flagbt.models"
CONTRACT = "docs/models.md"
# How flagbt calls each method, besides ``self`` or the class.
_SCORING: dict[str, object] = {"device": "cpu", "batch_size": None, "progress": None}
_METHODS: dict[str, tuple[tuple[str, ...], dict[str, object]]] = {
    "logits": (("bars",), _SCORING),
    "logits_of_rows": (("rows",), _SCORING),
    "key": (("bars",), {"device": "cpu", "batch_size": None}),
    "check_settings": ((), {}),
    "check_files": ((), {}),
    "device_name": (("device",), {}),
}
_CLASS_METHODS: dict[str, tuple[str, ...]] = {
    "recognises": ("path",),
    "import_from": ("path", "folder", "declaration"),
    "fit": ("table", "folder", "argument"),
}
_PROPERTIES = ("warmup_bars", "context_bars")


def kind_names() -> list[tuple[str, str]]:
    """Return (name, one-line description) of every registered kind, the built-in ones first; none is imported.

    Raises
    ------
    StrategyError
        When two packages offer the same name, or a package offers the name of a built-in kind.
    """
    return described(_table(), BUILT_IN)


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
    try:
        found = load_object(table[name], what=f"kind of model '{name}',")
    except StrategyError as error:
        raise StrategyError(f"{error} {_remedy(name)}") from error
    return checked_kind(found, name)


def origin_of(name: str) -> str:
    """Return the installed package, with its version, that offers a kind; flagbt for a built-in one."""
    return f"flagbt {__version__}" if name in BUILT_IN else package_of(GROUP, name)


def versions_of(kind: type[CheckpointModel]) -> JsonObject:
    """Return the versions of flagbt, of the kind's package and of its libraries, as a checkpoint records them."""
    package, _, version = origin_of(name_of_kind(kind)).rpartition(" ")
    libraries = {name: installed_version(name) for name in kind.libraries}
    return {"flagbt": __version__, **({package: version} if package else {}), **libraries}


def defines(kind: type[CheckpointModel], method: str) -> bool:
    """Return whether a kind's class defines a method itself, such as ``fit``, which `CheckpointModel` only refuses."""
    return inspect.getattr_static(kind, method) is not inspect.getattr_static(CheckpointModel, method)


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
        where = f" ({_file_of(found)})" if inspect.isclass(found) else ""
        raise StrategyError(
            f"the kind of model '{name}' is {what}{where}: expected a subclass of flagbt.CheckpointModel, or of "
            f"flagbt.RowModel for a model that reads rows of features ({CONTRACT}). {_remedy(name)}"
        )
    for fault in _faults(found):
        raise StrategyError(
            f"the kind of model '{name}' ({_file_of(found)}) breaks its contract: {fault} ({CONTRACT}). {_remedy(name)}"
        )
    return found


def _faults(kind: type[CheckpointModel]) -> Iterator[str]:
    """Yield each part of the contract that a class breaks, as the class alone shows it."""
    if missing := sorted(kind.__abstractmethods__):
        yield f"it lacks {', '.join(missing)}"
        return
    yield from _wrong_call("__init__", kind, ("checkpoint",), {})
    for method, (arguments, options) in _METHODS.items():
        if hasattr(kind, method):
            yield from _wrong_call(method, getattr(kind, method), ("self", *arguments), options)
    for method, arguments in _CLASS_METHODS.items():
        if not isinstance(inspect.getattr_static(kind, method), classmethod):
            yield f"{method} is not a classmethod"
        else:
            yield from _wrong_call(method, getattr(kind, method), arguments, {})
    for name in _PROPERTIES:
        if inspect.isfunction(inspect.getattr_static(kind, name, None)):
            yield f"{name} is a method, expected a property"
    for name in ("files", "needs", "reads_options", "libraries", "modules"):
        value = getattr(kind, name)
        if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
            yield f"{name} is {quoted_value(value)}, expected a tuple of text"
    for name, known in (("needs", ALL_PARTS), ("reads_options", READABLE_OPTIONS)):
        yield from (
            f"{name} has '{each}', expected names of {', '.join(known)}" for each in getattr(kind, name) if each not in known
        )
    yield from (f"files has '{each}', expected names without a folder" for each in kind.files if Path(each).name != each)


def _wrong_call(
    method: str, function: Callable[..., object], arguments: tuple[str, ...], options: dict[str, object]
) -> Iterator[str]:
    """Yield how a method differs from the way in which flagbt calls it."""
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        shown = ", ".join([*(each for each in arguments if each != "self"), *(f"{name}=..." for name in options)])
        yield f"{method}({shown}) cannot be called: {error}"


def _remedy(name: str) -> str:
    if name in BUILT_IN or name not in plugin_names(GROUP):
        return "Fix it there."
    return f"Fix it there, or uninstall the package ({package_of(GROUP, name)}), whose entry point is in the group '{GROUP}'."


def _file_of(kind: type[object]) -> str:
    try:
        return inspect.getsourcefile(kind) or kind.__module__
    except TypeError:
        return kind.__module__


def _table() -> dict[str, str]:
    return registered(GROUP, BUILT_IN, "kind of model")
