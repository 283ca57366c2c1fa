"""Find every check: the files of ``doctor/checks``, and the entry points ``flagbt.checks`` of installed packages."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module

from ..data.plugins import load_object, plugin_names
from ..errors import StrategyError, kind_of, nearest
from . import checks
from .check import AnyCheck, Check, Symptom

GROUP = "flagbt.checks"


def built_in_checks() -> tuple[AnyCheck, ...]:
    """Return the ``CHECK`` of every file in ``doctor/checks``, from the first cause to the last symptom."""
    modules = (import_module(f"{checks.__name__}.{each.name}") for each in pkgutil.iter_modules(checks.__path__))
    return _in_order(module.CHECK for module in modules)


def all_checks() -> tuple[AnyCheck, ...]:
    """Return the built-in checks and those of installed packages, from the first cause to the last symptom.

    Raises
    ------
    StrategyError
        When a package's check cannot be loaded, is not a `Check`, has another check's name, or follows an unknown one.
    """
    found = {each.name: each for each in built_in_checks()}
    for name, path in sorted(plugin_names(GROUP).items()):
        what = f"check '{name}' of an installed package,"
        remedy = f"Fix it there, or uninstall the package: the doctor runs every check of the group '{GROUP}'."
        try:
            check = load_object(path, what=what)
        except StrategyError as error:
            raise StrategyError(f"{error} {remedy}") from error
        if not isinstance(check, Check):
            raise StrategyError(f"{what} '{path}': expected a flagbt.doctor.check.Check, got {kind_of(check)}. {remedy}")
        if check.name in found:
            raise StrategyError(f"{what} '{path}': another check is named '{check.name}' too. Rename it. {remedy}")
        found[check.name] = check
    for check in found.values():
        for each in check.follows:
            if not isinstance(each, Symptom) and each not in found:
                raise StrategyError(f"check '{check.name}' follows '{each}', which is not a check. {nearest(each, found)}")
    return _in_order(found.values())


def _in_order(checks: Iterable[AnyCheck]) -> tuple[AnyCheck, ...]:
    return tuple(sorted(checks, key=lambda each: (each.rank, each.name)))
