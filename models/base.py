"""A base of one's own: a folder with a network pre-trained on bars, which any number of trainings may start from.

    base.json         architecture, feature schema with its scaler, pre-training range, data, schedule, losses, versions
    base.safetensors  the weights

Names resolve, in this order: a path, ``./bases/NAME``, ``$FLAGBT_HOME/bases/NAME``.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.schema import FeatureSchema
from ..data.timerange import TimeRange
from ..errors import CheckpointError, FlagbtError, nearest
from ..files import sha256_of
from .architecture import Architecture
from .language_model import PRESET, base_folders
from .network import read_tensors

FORMAT = 1
DESCRIPTION = "base.json"
WEIGHTS = "base.safetensors"
IDENTITY = ("architecture", "preset", "schema", "range", "data", "schedule", "losses", "files")


@dataclass(frozen=True, eq=False)
class StoredBase:
    """A base's description, read from its folder.

    Attributes
    ----------
    folder : Path
    values : dict
        ``base.json`` as read.
    """

    folder: Path
    values: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what it is and what it saw; the name and the versions do not enter."""
        identity = {key: self.values[key] for key in IDENTITY}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @cached_property
    def architecture(self) -> Architecture:
        """The network that the weights belong to."""
        return Architecture.from_json(self.values["architecture"])

    @cached_property
    def schema(self) -> FeatureSchema:
        """The feature schema, with the scaler by which the base knows its rows."""
        return FeatureSchema.from_json(self.values["schema"])

    @property
    def range(self) -> TimeRange:
        """The bars it was pre-trained on."""
        return TimeRange.parse(self.values["range"], option="range")

    def weights(self) -> dict[str, Tensor]:
        """Return ``network.base_state`` of the base.

        Raises
        ------
        CheckpointError
            When the file is missing or its bytes are not those that were saved.
        """
        path = self.folder / WEIGHTS
        if not path.is_file() or sha256_of(path) != self.values["files"][WEIGHTS]:
            raise CheckpointError(
                f"base '{self.name}': {path} {'differs from what was saved' if path.is_file() else 'is missing'}. It was "
                "truncated or edited: copy the folder again from its source, or make the base again with flagbt pretrain."
            )
        return read_tensors(path)


def read_base(folder: Path) -> StoredBase:
    """Read a base's description.

    Raises
    ------
    CheckpointError
        When the folder holds none, or it is damaged or from a newer flagbt.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        hint = f" It is a language model's folder: add --preset {PRESET}." if (folder / "config.json").is_file() else ""
        raise CheckpointError(f"--base: {folder} is no base: it holds no {DESCRIPTION}.{hint} flagbt pretrain makes one.")
    values: Any = None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if int(values["format"]) <= FORMAT:
            return _checked(StoredBase(folder, values))
    except (OSError, RecursionError, ArithmeticError, LookupError, TypeError, ValueError, FlagbtError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise CheckpointError(
            f"{path} is damaged: {said}. Copy the base again from its source, or make it again with flagbt pretrain."
        ) from None
    raise CheckpointError(f"{path} has the format {values['format']}; this flagbt reads {FORMAT}. Install a newer flagbt.")


def _checked(base: StoredBase) -> StoredBase:
    """Raise whatever comes when a field cannot be used: here, and not in the middle of a training."""
    missing = [key for key in IDENTITY if key not in base.values]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    if base.range.stop is None or base.architecture.n_features != len(base.schema.columns):
        raise ValueError("its range has no end, or its columns are not those of its architecture")
    for place, key in (("data", "step_hours"), ("data", "digest"), ("files", WEIGHTS)):
        base.values[place][key]
    return base


def find_base(name: str) -> StoredBase:
    """Return the base that ``name`` means: a path, ./bases/NAME, $FLAGBT_HOME/bases/NAME.

    Raises
    ------
    CheckpointError
        When there is none, with the nearest name, or it is damaged.
    """
    if os.path.isdir(name) and (os.sep in name or os.path.isfile(os.path.join(name, DESCRIPTION))):
        return read_base(Path(name))
    for parent in base_folders():
        if name and os.sep not in name and os.path.isfile(parent / name / DESCRIPTION):
            return read_base(parent / name)
    known = [path.parent.name for parent in base_folders() for path in parent.glob(f"*/{DESCRIPTION}")]
    raise CheckpointError(
        f"--base: there is no base '{name}', neither as a folder nor in {' or '.join(map(str, base_folders()))}. "
        f"{nearest(name, known)} flagbt pretrain makes one; --preset {PRESET} takes a language model instead."
    )
