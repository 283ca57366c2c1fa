"""Checks that the imports of several kinds share: the file, and the columns that the model states to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from .importing import OwnerDeclaration


def given_file(path: Path | None, what: str) -> Path:
    """Return the path of a file, ``what`` to name.

    Raises
    ------
    UsageError
        Where no path is given.
    CheckpointError
        Where it is a folder, a pipe or a device.
    """
    if path is None:
        raise UsageError(f"ckpt import: name {what}.")
    if not path.is_file():
        raise CheckpointError(f"ckpt import: {path} is not a regular file. Name {what}.")
    return path


def check_width(declaration: OwnerDeclaration, n_features: int) -> None:
    """Refuse a feature set of another width than the model's input; raises UsageError."""
    schema = declaration.schema
    if schema is not None and len(schema.columns) != n_features:
        raise UsageError(
            f"--features: '{schema.feature_set}' has {len(schema.columns)} columns, the model reads {n_features}. Where its "
            "training filled up with zeros, let the feature set return those columns too: the position of a column decides "
            "its meaning."
        )


def check_names(path: Path, names: Sequence[str], columns: tuple[str, ...]) -> None:
    """Refuse names of the feature set's columns at other positions; other names, such as Column_0, have no meaning here.

    Raises
    ------
    UsageError
        Naming the first such column.
    """
    known = {"_".join(column.split()): at for at, column in enumerate(columns)}
    for at, name in enumerate(names):
        if known.get("_".join(name.split()), at) != at:
            raise UsageError(
                f"--features: the model's feature {at} is '{name}' by its file {path.name}, and column {at} of the feature set "
                f"is '{columns[at]}'; '{name}' is its column {known['_'.join(name.split())]}. Give the feature set of the "
                "training, with its columns in the order of the file."
            )
