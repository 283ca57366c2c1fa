"""Plug-ins: objects that other packages provide as entry points, or that a user names as ``module:name``."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

from ..errors import FlagbtError, StrategyError, UsageError, nearest

PACKAGE = Path(__file__).resolve().parents[1]
NAMED_CODE = ("features", "model_code")  # options that let a checkpoint's own code run, as a record names them
STANDARD_LIBRARY = str(Path(os.__file__).parent)


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
                f"two installed packages provide '{point.name}' in '{group}': {found[point.name]} and {point.value}. "
                "Uninstall one, or name the object as module:name."
            )
        found[point.name] = point.value
    return found


def registered(group: str, built_in: Mapping[str, tuple[str, str]], what: str, *, takes_paths: bool = False) -> dict[str, str]:
    """Return ``{name: "module:object"}`` of the built-in objects, then of those that installed packages provide.

    Parameters
    ----------
    built_in : mapping
        Name: (path, what it is in one line).
    what : str
        What such an object is, for the message.
    takes_paths : bool
        Whether ``module:object`` works in place of a name.

    Raises
    ------
    StrategyError
        When two packages offer the same name, or a package offers the name of a built-in object.
    """
    table = {name: path for name, (path, _) in built_in.items()}
    for name, path in plugin_names(group).items():
        if table.setdefault(name, path) != path:
            meanwhile = f"; {path} works as a name meanwhile" if takes_paths else ""
            raise StrategyError(
                f"an installed package offers the {what} '{name}' as {path}, but that name is built in ({table[name]}). "
                f"Rename its entry point, or uninstall the package{meanwhile}."
            )
    return table


def described(table: Mapping[str, str], built_in: Mapping[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (name, one-line description) of what `registered` returned, the built-in objects first."""
    listed = [(name, description) for name, (_, description) in built_in.items()]
    return listed + [(name, f"plug-in {path}") for name, path in sorted(table.items()) if name not in built_in]


def load_object(path: str, *, what: str, named: bool = True, option: str = "--features") -> object:
    """Import ``module:name``; modules in the current folder are found too, after the installed ones.

    Parameters
    ----------
    named : bool
        Whether a user named it. A module that only a file names is not imported. It is found only if it is imported
        already, because the user named it elsewhere or imported it.
    option : str
        The option of a command with which the user can name it.

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
    if not named and module_name not in sys.modules:
        raise StrategyError(
            f"{what} '{path}': it is named by a file, and code runs only when you name it yourself. If you trust the module "
            f"'{module_name}', add {option} {path} (in Python, import it first)."
        )
    _add_current_folder()
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a plug-in's code may raise anything during the import
        place = _place_of(error, None)
        raise StrategyError(
            f"{what} '{path}': importing '{module_name}' failed{f' at {place}' if place else ''}: {_error_text(error)}. "
            "Modules are searched in the current folder and among the installed packages."
        ) from error
    try:
        return getattr(module, name)
    except AttributeError:
        names = [known for known in vars(module) if not known.startswith("_")]
        file = getattr(module, "__file__", None)
        place = f" ({file})" if file else ""
        raise StrategyError(f"{what} '{path}': '{module_name}'{place} has no '{name}'. {nearest(name, names)}") from None


def package_of(group: str, name: str) -> str:
    """Return the installed package, with its version, that provides an entry point."""
    found = next(point.dist for point in entry_points(group=group, name=name))
    return "unknown" if found is None else f"{found.name} {found.version}"


@contextmanager
def blamed_on(plugin: Callable[..., object], what: str, *, who: str = "") -> Iterator[None]:
    """Turn an exception in a plug-in's code into one paragraph with the plug-in's file and line.

    Exceptions of flagbt's classes are not changed, nor are those that flagbt raises outside the plug-in's code: they are
    defects of flagbt, and need their traceback.

    Parameters
    ----------
    plugin : class or function
        The class or function whose code runs in the block.
    what : str
        The called method, such as ``prepare``.
    who : str, optional
        The plug-in in the message; by default the strategy with the class's name.

    Raises
    ------
    StrategyError
        In place of any other exception, ``SystemExit`` included.
    """
    try:
        yield
    except FlagbtError:
        raise
    except (Exception, SystemExit) as error:
        place = _place_of(error, plugin)
        if place is None or plugin.__module__.partition(".")[0] == __name__.partition(".")[0]:
            raise
        who = who or f"strategy '{plugin.__name__}'"
        raise StrategyError(f"{who}: {what} failed at {place}: {_error_text(error)}. Fix the error there.") from error


def _add_current_folder() -> None:
    """Make modules of the current folder importable, after all others: a models.py or a torch.py there hides no package."""
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was removed meanwhile
        return
    if here not in sys.path:
        sys.path.append(here)


def _place_of(error: BaseException, plugin: Callable[..., object] | None) -> str | None:
    """Return the plug-in's file and line in an error's traceback, or None for a failure of flagbt.

    Without a class (while it is imported) that is the last line outside the standard library. An error outside the
    plug-in's file comes from a wrong call of the plug-in, or from a library that the plug-in called.
    """
    # The first frame is flagbt's call; frames of this file are left out.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__][1:]
    file = None if plugin is None else _file_of(plugin)
    for frame in reversed(frames):
        if frame.filename == file or (plugin is None and not frame.filename.startswith(("<", STANDARD_LIBRARY))):
            return f"{frame.filename}, line {frame.lineno}"
    if plugin is None or (frames and _is_flagbts(frames[-1].filename)):
        return None
    last = f", inside {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return f"{file}, {'class' if isinstance(plugin, type) else 'function'} {plugin.__name__}{last}"


def _file_of(plugin: Callable[..., object]) -> str:
    try:
        return inspect.getsourcefile(plugin) or plugin.__module__
    except TypeError:  # made without a file
        return plugin.__module__


def _is_flagbts(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(PACKAGE) and "site-packages" not in path.relative_to(PACKAGE).parts


def _error_text(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its message cannot be written)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
