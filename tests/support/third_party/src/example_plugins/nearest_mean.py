"""A kind of model: the class whose mean row is the nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from flagbt import ModelParts, RowModel, TrainingTable
from flagbt.arrays import Float32Array, FloatArray, Progress

FILE = "means.safetensors"


class NearestMean(RowModel):
    """The logit of a class is minus the squared distance between a row and the mean of the class's training rows."""

    files = (FILE,)

    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """Return one row of logits for each row. *Causality: row t uses row t only.*"""
        del device, batch_size, progress
        means = self.arrays(FILE)["means"]
        return np.stack([-((rows - mean) ** 2).sum(axis=1) for mean in means], axis=1)

    @classmethod
    def fit(cls, table: TrainingTable, folder: Path, argument: str) -> ModelParts:
        """Average the training rows of each class."""
        del argument
        means = np.stack([table.rows[table.training & (table.labels == code)].mean(axis=0) for code in range(3)])
        save_file({"means": means}, folder / FILE)
        return ModelParts(settings={"n_features": len(table.columns)}, parameters=means.size)
