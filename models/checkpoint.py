"""Checkpoint: a folder with everything that a model needs to run, and the ranges of bars that it has seen.

    checkpoint.json          what this module reads: no weights, no torch
    README.md                its card
    the files of its kind    such as weights, named with their digests in the description (``CheckpointModel.files``)

Names resolve in this order: a path, ``./checkpoints/NAME``, the user's folder, the bundled ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..arrays import FloatArray, JsonObject
from ..data.feature_schema import FeatureSchema
from ..data.labels import Labels, labels_from_json
from ..data.time_range import TimeRange
from ..errors import CheckpointError, FlagbtError, UsageError, nearest
from ..storage.atomic_files import check_no_links, check_writable, home_folder, json_text, sha256_of, write_text
from ..storage.locks import locked
from ..storage.paths import path_of
from ..storage.untrusted_files import load_json
from .calibration import Calibration
from .decision import Decision
from .description import BarsDescription, CheckpointDescription
from .not_a_checkpoint import what_it_is
from .owner_options import UNKNOWN_SEEN
from .registry import find_kind
from .text_read import NO_TEXT, UNKNOWN_TEXT, known_date

if TYPE_CHECKING:
    from .checkpoint_model import CheckpointModel

T = TypeVar("T")
FORMAT = 1
LONGEST_CALIBRATION_NAME = 100
DESCRIPTION = "checkpoint.json"
BUNDLED = Path(__file__).resolve().parent / "bundled"
# A language model was pre-trained on text of no known dates: its "pretraining" range is the training range (docs/bases.md).
PURPOSES = ("pretraining", "training", "validation", "calibration")
# What an imported checkpoint may lack, with the option that declares it.
DECLARATIONS = {
    "schema": "the feature columns and their scaler (--features and --scaler)",
    "labels": "the question it answers (--labels)",
    "ranges": "the bars it has seen (--trained-on, which may also be none or unknown)",
    "data": "bars of the market and length it was trained on (--data)",
}
IDENTITY = ("architecture", "lora", "base", "schema", "labels", "ranges", "label_shares", "class_returns", "files")
IDENTITY_WHERE_STATED = ("bars_seen",)


@dataclass(frozen=True)
class StoredCalibration:
    """A named calibration of a checkpoint, with its decision rule."""

    calibration: Calibration
    decision: Decision


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint's description, read from its folder.

    Attributes
    ----------
    folder : Path
    values : dict
        ``checkpoint.json`` as read.
    """

    folder: Path
    values: JsonObject = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name if self.folder.name not in ("", "..") else self.folder.resolve().name

    @property
    def option(self) -> str:
        """Its value for ``--ckpt``, quoted for a shell: its name, or its path where the name finds none or another."""
        try:
            found = find_checkpoint(self.name).folder.resolve() == self.folder.resolve()
        except CheckpointError:
            found = False
        return shlex.quote(self.name if found else str(self.folder))

    @cached_property
    def described(self) -> CheckpointDescription:
        """The fields of the description."""
        return CheckpointDescription.from_json({**self.values, "data": self.values["data"] or None})

    @property
    def imported(self) -> bool:
        """Whether it was made elsewhere, so that a user declared what its files do not contain."""
        return self.described.base.imported is not None

    @property
    def unknown(self) -> list[str]:
        """What its kind needs and the import did not declare, as keys of ``DECLARATIONS``; empty for one trained here."""
        needs = self.model.needs
        stated = {key for key in DECLARATIONS if self.values[key]} | ({"ranges"} if self.values.get("bars_seen") else set())
        return [key for key in DECLARATIONS if key in needs and key not in stated]

    def check_known(self) -> None:
        """Raise an error where something about the checkpoint is unknown.

        Raises
        ------
        CheckpointError
            Naming everything that is missing, and the options that declare it.
        """
        if self.unknown:
            raise CheckpointError(
                f"checkpoint '{self.name}' was imported without {'; '.join(DECLARATIONS[key] for key in self.unknown)}. "
                "Its results would be meaningless or too optimistic, so it can be inspected (flagbt ckpt show, flagbt doctor) "
                "but not run. Import the file again with these options and --overwrite."
            )

    def _declared(self, value: T | None) -> T:
        if value is None:
            self.check_known()
            raise CheckpointError(f"checkpoint '{self.name}' lacks a part of its description. Copy it again from its source.")
        return value

    @property
    def settings(self) -> JsonObject:
        """The part of the description that belongs to its kind."""
        values = self.values["architecture"]
        if not isinstance(values, dict):
            raise TypeError("architecture is not an object")
        return values

    @property
    def kind(self) -> str:
        """The name of its kind of model, as registered."""
        return str(self.settings.get("kind"))

    def _three(self, values: tuple[float, ...] | None) -> FloatArray | None:
        """Return what was measured of the classes; raise CheckpointError where its kind needs it and it is unknown."""
        if values is None and "data" in self.unknown:
            self.check_known()
        return None if values is None else np.asarray(values, dtype=np.float64)

    @cached_property
    def model(self) -> CheckpointModel:
        """The model; what is large is loaded when bars are scored."""
        return find_kind(self.kind)(self)

    @cached_property
    def schema(self) -> FeatureSchema:
        """The feature schema fixed at training."""
        return FeatureSchema.from_json(self._declared(self.values["schema"]))

    @cached_property
    def labels(self) -> Labels:
        """The labels that the model was trained to predict."""
        return labels_from_json(self._declared(self.values["labels"]))

    @property
    def data(self) -> BarsDescription | None:
        """The bars that it was trained on; None where its kind needs none."""
        return self.described.data

    @property
    def label_shares(self) -> FloatArray | None:
        """Shares of SELL, HOLD, BUY among the training labels, shape (3,); None where no bars of a training are known."""
        return self._three(self.described.label_shares)

    @property
    def class_returns(self) -> FloatArray | None:
        """Mean forward return of the training bars labelled SELL, HOLD, BUY, as fractions, shape (3,); None where unknown."""
        return self._three(self.described.class_returns)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides its logits and ranges; calibrations, metrics and the name are excluded."""
        identity = {key: self.values[key] for key in IDENTITY}
        identity |= {key: self.values[key] for key in IDENTITY_WHERE_STATED if key in self.values}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def ranges(self) -> dict[str, TimeRange]:
        """The ranges it has seen, by purpose: pretraining, training, validation, calibration; empty where none are stated."""
        stated = self.described.ranges if self.values.get("bars_seen") else self._declared(self.described.ranges)
        return {purpose: TimeRange.parse(text, option=f"ranges.{purpose}") for purpose, text in (stated or {}).items()}

    @property
    def bars_seen(self) -> tuple[TimeRange, ...] | None:
        """All that it has seen; None where its owner stated that this is unknown."""
        return None if self.values.get("bars_seen") == UNKNOWN_SEEN else tuple(self.ranges.values())

    @property
    def text_until(self) -> date | None:
        """Date of the newest text or foreign series that its base has read; None where it is not known, or it has read none."""
        return known_date(self.text_read)

    @property
    def text_read(self) -> str | None:
        """The same date as text, ``unknown`` where it is not known, and None where its base has read neither."""
        stated = self.values.get("text_until") or (UNKNOWN_TEXT if self.model.has_foreign_base else NO_TEXT)
        return None if stated == NO_TEXT else str(stated)

    def calibration_names(self) -> list[str]:
        """Return the names of the stored calibrations."""
        return sorted(self.described.calibrations)

    def stored_calibration(self, name: str = "default") -> StoredCalibration:
        """Return the calibration stored under ``name``.

        Raises
        ------
        CheckpointError
            When there is no calibration of that name; the nearest name is given.
        """
        stored = self.described.calibrations.get(name)
        if stored is None and not self.calibration_names():
            raise CheckpointError(
                f"checkpoint '{self.name}' stores no calibration: none could be fitted in its training (see its card). Run "
                "it with --calibration none, or fit one on bars that it was not trained on: flagbt calibrate --store."
            )
        if stored is None:
            raise CheckpointError(
                f"checkpoint '{self.name}' stores no calibration '{name}'. {nearest(name, self.calibration_names())} "
                "Use --calibration none to run without."
            )
        place = f"{self.folder / DESCRIPTION}: calibrations.{name}"
        return StoredCalibration(
            Calibration.from_json(stored.calibration, place=place), Decision.from_json(stored.decision, place=place)
        )

    def check_storable(self, name: str, *, overwrite: bool = False) -> None:
        """Check that a calibration can be stored under ``name``, before the work starts.

        Raises
        ------
        UsageError
            When the name is not valid.
        CheckpointError
            When the name is taken, or the folder cannot be written or belongs to the installed package.
        """
        if not name.isprintable() or name != name.strip() or not 0 < len(name) <= LONGEST_CALIBRATION_NAME:
            raise UsageError(
                f"--store: {name!r} is not a valid name. Use 1 to {LONGEST_CALIBRATION_NAME} printable characters, without "
                "spaces around them."
            )
        if name in self.calibration_names() and not overwrite:
            raise CheckpointError(
                f"checkpoint '{self.name}' stores a calibration '{name}' already. Choose another name with --store NAME, or "
                "replace it with --overwrite."
            )
        real = self.folder.resolve()
        if BUNDLED.resolve() in real.parents:
            copy = Path("checkpoints") / real.name
            while os.path.lexists(copy):
                copy = copy.with_name(f"{copy.name}-copy")
            raise CheckpointError(
                f"--store: checkpoint '{self.name}' belongs to the installed flagbt ({real}), which an update replaces. "
                f"Copy it first: mkdir -p checkpoints && cp -rL {shlex.quote(str(real))} "
                f"{shlex.quote(str(copy))}, then repeat the command with --ckpt {shlex.quote(copy.name)}. "
                "Or write the calibration with --output FILE instead of --store, and run with --calibration FILE."
            )
        try:
            check_writable(self.folder)
        except OSError as error:
            raise self._unwritable(error) from None

    def store_calibration(self, name: str, stored: StoredCalibration, *, overwrite: bool = False) -> Checkpoint:
        """Write a calibration into ``checkpoint.json`` under ``name``, whole or not at all; return the updated checkpoint.

        The file is read again first, so that calibrations stored by other processes are kept. The digest does not change.

        Raises
        ------
        UsageError, CheckpointError
            As in ``check_storable``; the checkpoint is then unchanged.
        """
        entry = {"calibration": stored.calibration.to_json(), "decision": stored.decision.to_json()}
        try:
            with locked(self.folder):
                now = read_checkpoint(self.folder)
                now.check_storable(name, overwrite=overwrite)
                kept = now.values["calibrations"]
                assert isinstance(kept, Mapping)  # for mypy: it was read above
                values: JsonObject = {**now.values, "calibrations": {**kept, name: entry}}
                write_text(self.folder / DESCRIPTION, json_text(values))
        except OSError as error:
            raise self._unwritable(error) from None
        return Checkpoint(self.folder, values)

    def _unwritable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"--store: checkpoint '{self.name}' cannot be written, {self.folder}: {error.strerror or error}. Copy its folder "
            f"to checkpoints/{self.name} and store the calibration there, or write it to a file with --output and run with "
            "--calibration FILE."
        )

    def check_files(self) -> None:
        """Check every weight file against its recorded digest.

        Raises
        ------
        CheckpointError
            When a file is missing or its bytes differ.
        """
        for file, digest in self.described.files.items():
            path = self.folder / file
            if not path.is_file():
                raise CheckpointError(f"checkpoint '{self.name}': the file {path} is missing. Copy the whole folder again.")
            if sha256_of(path) != digest:
                raise CheckpointError(
                    f"checkpoint '{self.name}': {path} differs from what was saved (its SHA-256 is not the recorded one). "
                    "It was truncated or edited. Copy the folder again from its source."
                )


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's description.

    Raises
    ------
    CheckpointError
        When the folder holds none, or it is damaged or from a newer flagbt.
    """
    path = folder / DESCRIPTION
    try:
        values = load_json(path)
        if folder.parent != BUNDLED:  # some installers link every file of a package
            check_no_links(folder)
    except (FileNotFoundError, NotADirectoryError):
        hint = f" {what_it_is(folder)}" if os.path.exists(folder) else ""
        raise CheckpointError(f"{folder} is not a checkpoint: it holds no {DESCRIPTION}.{hint}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Copy the checkpoint again from its source.") from None
    version = values.get("format") if isinstance(values, dict) else None
    if not isinstance(version, int) or version > FORMAT:
        raise CheckpointError(f"{path} has the format {version!r}; this flagbt reads up to {FORMAT}. Install a newer flagbt.")
    missing = [key for key in (*IDENTITY, "calibrations", "data") if key not in values]
    if missing:
        raise CheckpointError(f"{path} is damaged: it lacks {', '.join(missing)}. Copy the checkpoint again from its source.")
    from .checkpoint_fields import check_fields, check_kind  # which need this module

    checkpoint = Checkpoint(folder, values)
    check_kind(checkpoint, path)
    try:
        check_fields(checkpoint)
    except (FlagbtError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        cause = f"{error} is missing." if isinstance(error, KeyError) else f"{str(error).rstrip('.')}."
        raise CheckpointError(f"{path} is damaged: {cause} Copy the checkpoint again from its source.") from error
    return checkpoint


def checkpoint_folders() -> list[Path]:
    """Return the folders to look up names in, in order; some may not exist."""
    return [Path("checkpoints"), home_folder() / "checkpoints", BUNDLED]


def checkpoint_places() -> dict[str, Path]:
    """Return the folder of every checkpoint by name, in the order of the folders; none is read."""
    found: dict[str, Path] = {}
    for parent in checkpoint_folders():
        for path in sorted(parent.glob(f"*/{DESCRIPTION}")) if parent.is_dir() else ():
            if not path.parent.name.startswith("."):
                found.setdefault(path.parent.name, path.parent)
    return found


def find_checkpoint(name: str) -> Checkpoint:
    """Find a checkpoint by name: a path, ./checkpoints/NAME, the user's folder, the bundled ones.

    Raises
    ------
    CheckpointError
        When there is none; the nearest name is given.
    """
    name = name if isinstance(name, str) and name else str(path_of(name, "--ckpt"))
    # os.path's functions return False where pathlib's raise, for example for a name too long for a file.
    if os.path.isdir(name) and (os.sep in name or os.path.isfile(os.path.join(name, DESCRIPTION))):
        return read_checkpoint(Path(name))
    for parent in checkpoint_folders():
        if os.sep not in name and os.path.isfile(parent / name / DESCRIPTION):
            return read_checkpoint(parent / name)
    if os.path.exists(name):
        raise CheckpointError(f"--ckpt: '{name}' is not a checkpoint. {what_it_is(Path(name))}")
    known = list(checkpoint_places())
    raise CheckpointError(
        f"--ckpt: there is no checkpoint '{name}', neither as a folder nor in "
        f"{' or '.join(str(folder) for folder in checkpoint_folders()[:2])}, nor among the bundled ones. {nearest(name, known)}"
    )
