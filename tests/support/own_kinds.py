"""Two kinds of model that no package installs: one reads rows of features, the other reads bars only."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from flagbt.arrays import Float32Array, FloatArray, Progress
from flagbt.data.bars import Bars
from flagbt.errors import CheckpointError
from flagbt.models.checkpoint_model import CheckpointModel, ModelParts, RowModel
from flagbt.models.import_checks import check_width
from flagbt.models.importing import OwnerDeclaration
from flagbt.storage.atomic_files import json_text
from flagbt.storage.untrusted_files import load_json

WEIGHTS = "weights.json"
OWN_KINDS = {
    "linear": ("own_kinds:LinearModel", "the same linear layer on each row"),
    "closes": ("own_kinds:ClosesModel", "the last return, scaled by a number in a file"),
}


def numbers_in(path: Path, shape: tuple[int, ...]) -> FloatArray:
    """Return the numbers in a JSON file; raises CheckpointError where they have another shape."""
    try:
        found = np.asarray(load_json(path), dtype=np.float64)
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Copy it again.") from None
    if found.shape != shape:
        raise CheckpointError(f"{path} has the shape {found.shape}, expected {shape}. Copy it again.")
    return found


class LinearModel(RowModel):
    """Logits x @ W + b of the mean of the last three rows; its file has W and b, (F + 1, 3)."""

    files: ClassVar[tuple[str, ...]] = (WEIGHTS,)

    @property
    def context_bars(self) -> int:
        """Two earlier rows."""
        return 2

    def check_settings(self) -> None:
        """Raise ValueError where the number of features makes no layer."""
        n = self.settings["n_features"]
        if not isinstance(n, int) or not 1 <= n <= 10_000:
            raise ValueError(f"n_features is {n!r}.")

    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `ReadsRows`."""
        del device, batch_size, progress
        self.check_files()
        weights = numbers_in(self.folder / WEIGHTS, (int(str(self.settings["n_features"])) + 1, 3))
        found = np.full((len(rows), 3), np.nan)
        for t in range(self.context_bars, len(rows)):
            mean = rows[t - self.context_bars : t + 1].astype(np.float64).mean(axis=0)
            found[t] = (mean[:, None] * weights[:-1]).sum(axis=0) + weights[-1]
        return found

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """Copy the weights."""
        assert path is not None
        weights = load_json(path)
        check_width(declaration, len(weights) - 1)
        (folder / WEIGHTS).write_text(json_text(weights))
        return ModelParts(settings={"n_features": len(weights) - 1}, parameters=3 * len(weights))


class ClosesModel(CheckpointModel):
    """BUY where the last return was positive, by a scale in its file; it needs no features and has seen no bars."""

    files: ClassVar[tuple[str, ...]] = (WEIGHTS,)
    needs: ClassVar[tuple[str, ...]] = ("labels",)

    @property
    def warmup_bars(self) -> int:
        """One earlier close."""
        return 1

    def logits(
        self, bars: Bars, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `Model`."""
        del device, batch_size, progress
        self.check_files()
        scale = float(numbers_in(self.folder / WEIGHTS, (1,))[0])
        change = scale * np.diff(np.log(bars.close), prepend=np.nan)
        return np.column_stack([-change, np.where(np.isfinite(change), 1.0, np.nan), change])

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """Copy the scale."""
        del declaration
        assert path is not None
        (folder / WEIGHTS).write_text(json_text(load_json(path)))
        return ModelParts(settings={}, parameters=1)
