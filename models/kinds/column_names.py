"""The names of a model's columns, where its file states them, against those of the feature set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import UsageError


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
