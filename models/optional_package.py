"""Packages that only some kinds of models need: each is an extra of flagbt, imported when such a model is used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ..errors import DeviceError


def imported(module: str, *, extra: str) -> ModuleType:
    """Import a package that only some kinds of models need.

    Parameters
    ----------
    module : str
        Its name for ``import``.
    extra : str
        The extra of flagbt that installs it.

    Raises
    ------
    DeviceError
        Where it is not installed, or cannot be loaded on this machine, with the line that installs it.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library that it needs is not on this machine
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package
        why = "which is not installed" if missing else f"which cannot be loaded here ({type(error).__name__}: {error})"
        raise DeviceError(
            f'this kind of model needs the package {package}, {why}. Install it with: pip install "flagbt[{extra}]".'
        ) from None
