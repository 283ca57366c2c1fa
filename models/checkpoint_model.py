"""CheckpointModel and RowModel: the bases of every kind of model whose files lie in a checkpoint's folder.

A kind is a subclass, registered under its name in the entry-point group ``flagbt.models`` (the built-in ones in
``kinds/__init__.py``). The description in ``checkpoint.json`` names the kind; what all kinds have (labels, ranges,
calibrations, digests) belongs to `Checkpoint`.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache as once
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..arrays import BoolArray, Float32Array, FloatArray, IntArray, JsonObject, JsonValue, Progress
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.labels import Labels
from ..data.time_range import TimeRange
from ..errors import CheckpointError, DeviceError, UsageError
from ..storage.untrusted_files import load_safetensors
from .device import check_device_name

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .importing import OwnerDeclaration

ALL_PARTS = ("schema", "labels", "ranges", "data")
# What an import may read besides, as the fields of `OwnerOptions`; ``argument`` is what follows the kind's name in ``--model``.
READABLE_OPTIONS = ("argument", "outputs", "context", "heads", "causal")


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingTable:
    """What `CheckpointModel.fit` learns from.

    Attributes
    ----------
    rows : array of float32, shape (n, F)
        Scaled feature rows of all bars, as `FeatureSchema.rows` gives them; NaN in a warm-up. *Row t uses bars <= t.*
    labels : array of int8, shape (n,)
        SELL=0, HOLD=1, BUY=2, -1 for none.
    training, validation : array of bool, shape (n,)
        The samples to learn from, and those that may choose among settings. No label of one reaches into the other.
    columns : tuple of str
        Names of the columns.
    seed : int
    series_starts : tuple of int
        Where each series begins: the rows of several series lie end to end, and a window must not reach across.
    """

    rows: Float32Array
    labels: IntArray
    training: BoolArray
    validation: BoolArray
    columns: tuple[str, ...]
    seed: int = 0
    series_starts: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True)
class ModelParts:
    """What a fit or an import has written, as ``checkpoint.json`` describes it.

    Attributes
    ----------
    settings : mapping
        The kind's own settings, JSON values; the registry adds the kind's name.
    parameters : int
        Number of parameters, leaves or members: what its size is measured by.
    trained : int
        How many of them were trained; by default all.
    more : mapping
        Other entries of ``checkpoint.json`` that this kind has (``lora``, ``base``, ``metrics``).
    note : str
        One sentence about the model for its card.
    """

    settings: Mapping[str, JsonValue]
    parameters: int
    trained: int | None = None
    more: Mapping[str, JsonValue] | None = None
    note: str = ""


class CheckpointModel(ABC):
    """A model in a checkpoint's folder. It must be cheap to construct: what is large is loaded by `logits`.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its description. ``settings`` are the kind's own part of it.

    Attributes
    ----------
    files : tuple of str
        Names of the files that it may have in the folder; each is compared with its digest at every load.
    needs : tuple of str
        What an owner must state about it before it runs: of ``schema``, ``labels``, ``ranges``, ``data``.
    reads_options : tuple of str
        What its ``import_from`` reads of ``argument``, ``outputs`` (with the classes), ``context``, ``heads``, ``causal``. An
        import refuses the others, and the columns too unless it needs the ``schema``.
    libraries : tuple of str
        Installed packages whose version could change a bit of a logit, for the key of the cache.
    modules : tuple of str
        Names of flagbt's modules, besides the one with the class, whose code decides a logit.
    is_cached : bool
        Whether logits are kept on disk.
    native_file : str
        The one file of its folder that other programs read as well, if there is one: `flagbt ckpt export` writes it.
    may_skip_bars : bool
        Whether it may have no answer, NaN, at a bar after its warm-up. Of any other kind, that is damage.
    default_seen : str, optional
        What an import takes for the bars that it has seen where its owner states nothing, as `OwnerDeclaration.seen_text`.
    """

    files: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ALL_PARTS
    reads_options: ClassVar[tuple[str, ...]] = ()
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    modules: ClassVar[tuple[str, ...]] = ()
    is_cached: ClassVar[bool] = True
    native_file: ClassVar[str] = ""
    may_skip_bars: ClassVar[bool] = False
    default_seen: ClassVar[str | None] = None

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @property
    def settings(self) -> JsonObject:
        """The kind's own settings."""
        return self.checkpoint.settings

    @property
    def folder(self) -> Path:
        """The checkpoint's folder."""
        return self.checkpoint.folder

    @property
    def labels(self) -> Labels:
        """See `Model`."""
        return self.checkpoint.labels

    @property
    def bars_seen(self) -> tuple[TimeRange, ...] | None:
        """See `Model`."""
        return self.checkpoint.bars_seen

    @property
    def text_until(self) -> date | None:
        """See `Model`."""
        return self.checkpoint.text_until

    @property
    def has_foreign_base(self) -> bool:
        """Whether it rests, or may rest, on a base that has read text or series which its trainings' bars do not show.

        Then `text_until` is stamped, known or not. By default every imported model may: no file reveals it. A kind that cannot
        have such a base, such as trees, returns False.
        """
        return self.checkpoint.imported or self.checkpoint.described.base.has_read_text

    @property
    @abstractmethod
    def warmup_bars(self) -> int:
        """See `Model`."""

    @abstractmethod
    def logits(
        self, bars: Bars, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `Model`. The folder's files are compared with their digests here or before."""

    @property
    def named_code(self) -> dict[str, list[str]]:
        """The user's own code that it runs: options of a command with their values.

        A file never makes code run by naming it; the user does, with these options.
        """
        stored = self.checkpoint.values["schema"]
        features = "" if stored is None else self.checkpoint.schema.feature_set
        return {"features": [features]} if ":" in features else {}

    def check_settings(self) -> None:  # noqa: B027  # most kinds have nothing to check
        """Raise ValueError or TypeError where ``settings`` cannot be used; called as the description is read."""

    def check_covers(self, bars: Bars) -> None:  # noqa: B027  # most kinds answer at every bar
        """Raise RangeError where it has no answer at any of these bars, which will be traded, fitted or examined."""

    def check_files(self) -> None:
        """Compare the files with their recorded digests; raise CheckpointError where one is missing or differs."""
        self.checkpoint.check_files()

    def arrays(self, file: str) -> dict[str, FloatArray]:
        """Read a safetensors file of the folder as float64, by the names of its arrays; its digest is compared first.

        Raises
        ------
        CheckpointError
            When it is missing or damaged.
        """
        from safetensors.numpy import load_file

        self.check_files()
        path = self.folder / file
        try:
            return {name: values.astype(np.float64) for name, values in load_safetensors(path, load_file).items()}
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}. Copy the checkpoint again from its source.") from None

    def key(self, bars: Bars, *, device: str, batch_size: int | None) -> JsonObject:
        """Return what decides a bit of the logits besides the checkpoint's digest and the bars, for the cache's key."""
        del bars
        check_device_name(device)
        return {
            "device": device,
            "batch_size": batch_size,
            "code": digest_of_code(type(self)),
            "libraries": {name: installed_version(name) for name in self.libraries},
        }

    def device_name(self, device: str) -> str:
        """Return the device that scores, where ``device`` may be ``auto``; by default a kind runs on the CPU only.

        Raises
        ------
        DeviceError
            Where the device does not exist or the kind cannot use it.
        """
        check_device_name(device)
        if device.startswith("cuda"):
            raise DeviceError(
                f"--device {device}: checkpoint '{self.checkpoint.name}' is of the kind '{self.checkpoint.kind}', which runs "
                "on the CPU only. Leave --device out."
            )
        return "cpu"

    @property
    def export_formats(self) -> Mapping[str, bool]:
        """The formats of `export`, the default first, and whether each is a folder."""
        return {"native": False} if self.native_file else {}

    def export(self, format_: str, output: Path) -> None:
        """Write the model for other programs: into the new folder ``output``, or as the file ``output``, whole or not at all.

        What is written must carry its description, so that `restore` needs no options; see `flagbt.models.exported`.
        """
        from .export import native_export

        del format_
        native_export(self.checkpoint, self.native_file, output)

    # Classmethods that a kind may have: how it is made.

    @classmethod
    def restore(cls, path: Path, folder: Path, description: JsonObject, base: str | None) -> JsonObject:
        """Write the files of an exported model into ``folder``; return its description, with their digests under ``files``.

        Raises
        ------
        CheckpointError
            When a file is missing or damaged.
        UsageError
            When ``base``, a checkpoint, is missing or not the right one.
        """
        files = description.get("files")
        if (
            base is not None
            or path.is_dir()
            or not cls.native_file
            or not isinstance(files, dict)
            or set(files) != {cls.native_file}
        ):
            raise UsageError(
                f"{path} was not exported from a model of this kind. Export the checkpoint again; leave --base out."
            )
        shutil.copyfile(path, folder / cls.native_file)
        return description

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a file or folder looks like this kind's, by its name and first bytes; nothing in it is run."""
        del path
        return False

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """Read a foreign file or folder and write this kind's files into ``folder``; nothing in it is run.

        ``path`` is None for a kind that needs no file.

        Raises
        ------
        CheckpointError
            When it is damaged or not of this kind.
        UsageError
            When something is missing or contradicts the file.
        """
        del path, folder, declaration
        raise UsageError(f"--model: models of the kind of {cls.__name__} cannot be imported.")

    @classmethod
    def fit(cls, table: TrainingTable, folder: Path, argument: str) -> ModelParts:
        """Train a model and write its files into ``folder``.

        Parameters
        ----------
        argument : str
            What follows the kind's name in ``--model KIND:ARGUMENT``; empty without one.
        """
        del table, folder, argument
        raise UsageError(f"--model: models of the kind of {cls.__name__} cannot be trained here.")


class RowModel(CheckpointModel):
    """A model that reads rows of features, one or a window of them; a subclass defines `logits_of_rows`."""

    _kept: tuple[str, Float32Array] | None = None

    @property
    def schema(self) -> FeatureSchema:
        """See `ReadsRows`."""
        return self.checkpoint.schema

    @property
    def context_bars(self) -> int:
        """See `ReadsRows`; by default 0."""
        return 0

    @property
    def warmup_bars(self) -> int:
        """The features' warm-up and the earlier rows of a window."""
        return self.schema.warmup_bars + self.context_bars

    def rows(self, bars: Bars) -> Float32Array:
        """Return the rows of bars, float32 (n_bars, F); those that `key` has computed are used once."""
        kept, self._kept = self._kept, None
        return kept[1] if kept is not None and kept[0] == bars.digest else self.schema.rows(bars)

    @abstractmethod
    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `ReadsRows`. The rows are finite."""

    def logits(
        self, bars: Bars, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `Model`."""
        found = np.full((len(bars), 3), np.nan)
        first = self.schema.warmup_bars
        if len(bars) > self.warmup_bars:
            rows = self.rows(bars)[first:]
            found[first:] = self.logits_of_rows(rows, device=device, batch_size=batch_size, progress=progress)
            found[: self.warmup_bars] = np.nan
        return found

    def key(self, bars: Bars, *, device: str, batch_size: int | None) -> JsonObject:
        """See `CheckpointModel.key`; the rows too, since a feature's code may change."""
        rows = hashlib.sha256(np.ascontiguousarray(self.rows(bars)).tobytes()).hexdigest()
        return {**super().key(bars, device=device, batch_size=batch_size), "schema": self.schema.digest, "rows": rows}


@once
def digest_of_code(kind: type[CheckpointModel]) -> str:
    """Return the SHA-256 (hex) of the files with a kind's code; a version kept by hand could be forgotten."""
    package = Path(__file__).resolve().parents[1]
    files = [Path(inspect.getfile(each)) for each in kind.__mro__ if each not in (object, ABC)]
    files += [package / f"{name.replace('.', '/')}.py" for name in kind.modules]
    return hashlib.sha256(b"".join(file.read_bytes() for file in dict.fromkeys(files))).hexdigest()


def installed_version(name: str) -> str:
    """Return the version of an installed package; empty where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
