"""Stored base: a folder with a network pre-trained on bars, from which any number of trainings may start.

A checkpoint can serve as a base too: its LoRA matrices are merged into its base, and a training adds new ones.

    base.json         architecture, feature schema with its scaler, pre-training range, data, schedule, losses, versions
    base.safetensors  the weights

Names resolve in this order: a path, ``./bases/NAME``, ``$FLAGBT_HOME/bases/NAME``, a checkpoint's name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ..arrays import JsonObject
from ..data.feature_schema import FeatureSchema
from ..data.time_range import TimeRange
from ..errors import CheckpointError, FlagbtError, nearest
from ..models.checkpoint import DESCRIPTION as CHECKPOINT
from ..models.checkpoint import Checkpoint, checkpoint_folders, find_checkpoint
from ..models.description import BarsDescription
from ..models.kinds.architecture import AnyArchitecture, read_architecture
from ..models.kinds.language_model import PRESET, base_folders
from ..models.kinds.network import base_state, load_network, read_tensors
from ..models.kinds.network_model import network_of
from ..storage.atomic_files import check_no_links, sha256_of
from ..storage.json_records import JsonRecord
from ..storage.untrusted_files import load_json

FORMAT = 1
DESCRIPTION = "base.json"
WEIGHTS = "base.safetensors"
IDENTITY = ("architecture", "preset", "schema", "range", "data", "schedule", "losses", "files")


@dataclass(frozen=True, kw_only=True)
class BaseFacts(JsonRecord):
    """What a training reads of a base's description; ``losses`` are empty, and ``preset`` may be None, for a checkpoint."""

    preset: str | None
    range: str
    data: BarsDescription
    losses: tuple[float, ...]
    files: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class StoredBase:
    """A base's description, read from its folder.

    Attributes
    ----------
    folder : Path
    values : dict
        ``base.json`` as read.
    checkpoint : Checkpoint, optional
        The checkpoint that serves as the base; ``values`` are then derived from its description.
    """

    folder: Path
    values: JsonObject = field(repr=False)
    checkpoint: Checkpoint | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name if self.folder.name not in ("", "..") else self.folder.resolve().name

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of its description and weights; the name and the versions are excluded."""
        if self.checkpoint is not None:
            return self.checkpoint.digest
        identity = {key: self.values[key] for key in IDENTITY}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @cached_property
    def architecture(self) -> AnyArchitecture:
        """The network of the weights."""
        return read_architecture(self.values["architecture"])

    @cached_property
    def schema(self) -> FeatureSchema:
        """The feature schema, with the scaler of the base's rows."""
        return FeatureSchema.from_json(self.values["schema"])

    @cached_property
    def facts(self) -> BaseFacts:
        """The fields of the description."""
        return BaseFacts.from_json(self.values)

    @property
    def range(self) -> TimeRange:
        """The bars it was pre-trained on."""
        return TimeRange.parse(self.facts.range, option="range")

    def weights(self) -> dict[str, Tensor]:
        """Return the base's tensors as ``network.base_state`` does; for a checkpoint with LoRA merged, and its head.

        Raises
        ------
        CheckpointError
            When the file is missing or differs from what was saved.
        """
        if self.checkpoint is not None:
            return base_state(load_network(self.checkpoint), head=True)
        path = self.folder / WEIGHTS
        if not path.is_file() or sha256_of(path) != self.facts.files[WEIGHTS]:
            raise CheckpointError(
                f"base '{self.name}': {path} {'differs from what was saved' if path.is_file() else 'is missing'}. It was "
                "truncated or edited. Copy the folder again from its source, or make the base again with flagbt pretrain."
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
        raise CheckpointError(f"--base: {folder} is not a base: it holds no {DESCRIPTION}.{hint} flagbt pretrain makes one.")
    try:
        values = load_json(path)
        check_no_links(folder)
        if (version := int(values["format"])) <= FORMAT:
            return _checked(StoredBase(folder, values))
    except (OSError, ArithmeticError, LookupError, TypeError, ValueError, FlagbtError) as error:
        cause = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise CheckpointError(
            f"{path} is damaged: {cause}. Copy the base again from its source, or make it again with flagbt pretrain."
        ) from None
    raise CheckpointError(f"{path} has the format {version}; this flagbt reads {FORMAT}. Install a newer flagbt.")


def _checked(base: StoredBase) -> StoredBase:
    """Raise an error where a field cannot be used, so that a training does not fail halfway."""
    missing = [key for key in IDENTITY if key not in base.values]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    if base.range.stop is None or base.architecture.n_features != len(base.schema.columns):
        raise ValueError("its range has no end, or its columns are not those of its architecture")
    if WEIGHTS not in base.facts.files:
        raise ValueError(f"its files lack {WEIGHTS}")
    return base


def find_base(name: str) -> StoredBase:
    """Find a base by name: a path, ./bases/NAME, $FLAGBT_HOME/bases/NAME, or a checkpoint.

    Raises
    ------
    CheckpointError
        When there is none (the nearest name is given), or it is damaged.
    """
    if os.path.isdir(name) and (os.sep in name or os.path.isfile(os.path.join(name, DESCRIPTION))):
        if os.path.isfile(os.path.join(name, CHECKPOINT)):
            return base_of_checkpoint(find_checkpoint(name))
        return read_base(Path(name))
    for parent in base_folders():
        if name and os.sep not in name and os.path.isfile(parent / name / DESCRIPTION):
            return read_base(parent / name)
    if name and os.sep not in name and any(os.path.isfile(each / name / CHECKPOINT) for each in checkpoint_folders()):
        return base_of_checkpoint(find_checkpoint(name))
    known = [path.parent.name for parent in base_folders() for path in parent.glob(f"*/{DESCRIPTION}")]
    raise CheckpointError(
        f"--base: there is no base '{name}', neither as a folder nor in {' or '.join(map(str, base_folders()))}. "
        f"{nearest(name, known)} flagbt pretrain makes one; --preset {PRESET} uses a language model instead."
    )


def base_of_checkpoint(checkpoint: Checkpoint) -> StoredBase:
    """Return a checkpoint as a base; its range covers everything that the checkpoint has seen, for any purpose.

    Raises
    ------
    CheckpointError
        When something about an imported checkpoint is unknown, or it is not a network.
    """
    checkpoint.check_known()
    network_of(checkpoint)
    starts, stops = zip(*((seen.start, seen.stop) for seen in checkpoint.ranges.values()), strict=True)
    seen = TimeRange(
        None if None in starts else min(each for each in starts if each is not None),
        None if None in stops else max(each for each in stops if each is not None),
    )
    values: JsonObject = {
        **checkpoint.values,
        "preset": checkpoint.described.base.preset,
        "range": str(seen),
        "schedule": None,
        "losses": [],
    }
    return StoredBase(checkpoint.folder, values, checkpoint)
