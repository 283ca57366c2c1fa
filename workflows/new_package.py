"""Write a small package with a plug-in: one source file, one test, and the entry point by which flagbt finds it."""

from __future__ import annotations

import keyword
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from string import Template

from .. import __version__
from ..data.features import DEFAULT, ENTRY_POINT_GROUP
from ..data.plugins import plugin_names
from ..doctor.registry import GROUP as CHECKS
from ..doctor.registry import built_in_checks
from ..errors import RecordError, UsageError, quoted_value
from ..models.kinds import BUILT_IN as KINDS_OF_MODELS
from ..models.registry import GROUP as MODELS
from ..results.metric import GROUP as METRICS
from ..results.metrics import Metrics
from ..storage.atomic_files import new_folder
from ..strategies.registry import BUILT_IN
from ..strategies.registry import GROUP as STRATEGIES

TEMPLATES = Path(__file__).parent / "templates"
LONGEST_NAME = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclass(frozen=True)
class PackageKind:
    """A kind of plug-in.

    Attributes
    ----------
    what : str
        In the description of the package.
    group : str
        Its entry-point group.
    target : str
        The object's name in the source file; empty for a class named after the package.
    built_in : callable
        Returns the names that flagbt has itself.
    """

    what: str
    group: str
    target: str
    built_in: Callable[[], tuple[str, ...]]


# A kind is an entry here and a folder of templates.
PACKAGE_KINDS = {
    "strategy": PackageKind("A strategy", STRATEGIES, "", lambda: tuple(BUILT_IN)),
    "features": PackageKind("A feature set", ENTRY_POINT_GROUP, "FEATURES", lambda: (DEFAULT.name,)),
    "check": PackageKind("A check of the doctor", CHECKS, "CHECK", lambda: tuple(each.name for each in built_in_checks())),
    "model": PackageKind("A kind of model", MODELS, "", lambda: tuple(KINDS_OF_MODELS)),
    "metric": PackageKind("A metric", METRICS, "METRIC", lambda: tuple(sorted(Metrics.taken()))),
}


@dataclass(frozen=True)
class NewPackage:
    """What was written.

    Attributes
    ----------
    kind : str
        One of ``PACKAGE_KINDS``.
    name : str
        The name by which flagbt finds the plug-in after the installation.
    folder : Path
    files : tuple of Path
        Relative to the current folder, as ``folder`` is.
    """

    kind: str
    name: str
    folder: Path
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, object]:
        """Return the same as JSON values."""
        files = [each.as_posix() for each in self.files]
        return {"kind": self.kind, "name": self.name, "folder": self.folder.as_posix(), "files": files}


def new_package(kind: str, module: str) -> NewPackage:
    """Write a package in a new folder of the current folder: all of its files, or none.

    Parameters
    ----------
    kind : str
        One of ``PACKAGE_KINDS``.
    module : str
        The name of the folder, of the source file and of the module: lower-case letters, digits and single underscores.

    Raises
    ------
    UsageError
        For a name that cannot be used, or one that is taken: by a folder, a module, an installed package, or
        a plug-in of the same kind.
    RecordError
        When the folder cannot be written.
    """
    about = PACKAGE_KINDS[kind]
    _check_name(kind, module)
    name = module if kind == "metric" else module.replace("_", "-")
    _check_free(kind, module, name)
    values = {
        "module": module,
        "name": name,
        "project": module.replace("_", "-"),
        "title": module.replace("_", " ").capitalize(),
        "target": about.target or "".join(part.capitalize() for part in module.split("_")),
        "group": about.group,
        "description": f"{about.what} for flagbt.",
        "version": __version__,
    }
    templates = {
        "README.md": f"{kind}/README.md",
        "pyproject.toml": "pyproject.toml",
        f"src/{module}.py": f"{kind}/source.py",
        f"test_{module}.py": f"{kind}/test.py",
    }
    texts = {file: Template(_template(source)).substitute(values) for file, source in templates.items()}
    folder = Path(module)
    try:
        with new_folder(folder) as temporary:
            for file, text in texts.items():
                (temporary / file).parent.mkdir(exist_ok=True)
                (temporary / file).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise _exists(kind, module) from None
    except OSError as error:
        raise RecordError(
            f"new {kind} {module}: nothing can be written to the current folder: {error.strerror or error}. "
            "Fix its permissions, or change to another folder."
        ) from None
    return NewPackage(kind, name, folder, tuple(folder / file for file in texts))


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.template").read_text(encoding="utf-8")


def _check_name(kind: str, module: str) -> None:
    """Refuse a name that a module or a project cannot have, with the nearest one that it can."""
    if _NAME.fullmatch(module) and len(module) <= LONGEST_NAME and not keyword.iskeyword(module):
        return
    near = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", module).lower()).strip("_")[:LONGEST_NAME]
    near = near.rstrip("_")
    if not near or near[0].isdigit() or keyword.iskeyword(near):
        near = f"my_{near or kind}"[:LONGEST_NAME]
    raise UsageError(
        f"new {kind}: the name {quoted_value(module)} cannot be used: expected a Python module's name, in lower-case letters, "
        f"digits and single underscores, at most {LONGEST_NAME} characters. Did you mean '{near}'?"
    )


def _check_free(kind: str, module: str, name: str) -> None:
    """Refuse a name that already means something: the new package would hide it, or be hidden."""
    about = PACKAGE_KINDS[kind]
    start, remedy = f"new {kind} {module}:", f"Choose another name, such as my_{module}."
    if os.path.lexists(module):
        raise _exists(kind, module)
    if name in about.built_in():
        raise UsageError(f"{start} flagbt has '{name}' in '{about.group}' itself. {remedy}")
    if name in (others := plugin_names(about.group)):
        raise UsageError(f"{start} an installed package offers '{name}' in '{about.group}' already ({others[name]}). {remedy}")
    found = find_spec(module)
    if found is not None and found.origin is not None:
        raise UsageError(
            f"{start} there is already a module of that name ({found.origin}), and one would hide the other. {remedy}"
        )
    try:
        version = distribution(module.replace("_", "-")).version
    except PackageNotFoundError:
        return
    raise UsageError(f"{start} a package of that name is installed, version {version}, and would be replaced. {remedy}")


def _exists(kind: str, module: str) -> UsageError:
    return UsageError(
        f"new {kind} {module}: there is already a file or folder '{module}' in the current folder, and nothing is "
        "overwritten. Choose another name, or change to another folder."
    )
