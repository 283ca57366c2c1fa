"""RowClassifier: a fitted classifier of another library, which gives one row of features its three probabilities."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, FloatArray, Progress
from ...errors import UsageError
from ..checkpoint_model import RowModel
from ..outputs import Outputs

if TYPE_CHECKING:
    from ..importing import OwnerDeclaration

BLOCK_ROWS = 8192


class RowClassifier(RowModel):
    """A model of the kinds `lightgbm` and `sklearn`; a subclass defines `probabilities`. It runs on the CPU."""

    reads_options: ClassVar[tuple[str, ...]] = ("outputs",)

    @cached_property
    def outputs(self) -> Outputs:
        """The order of its classes."""
        return Outputs.of_settings(self.settings)

    @property
    def has_foreign_base(self) -> bool:
        """False: it has no base."""
        return False

    def check_settings(self) -> None:
        """Raise ValueError or TypeError where the settings are damaged."""
        if not isinstance(self.settings["n_features"], int):
            raise TypeError("n_features is not a whole number")
        _ = self.outputs

    @abstractmethod
    def probabilities(self, rows: Float32Array) -> npt.ArrayLike:
        """Return what the library gives for rows (n, F), as `Outputs.logits` takes it; a row's do not depend on the others."""

    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `ReadsRows`; a row's logits are the logarithms of its probabilities."""
        self.device_name(device)
        found, block = np.empty((len(rows), 3)), batch_size or BLOCK_ROWS
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            found[start : start + block] = self.outputs.logits(
                self.probabilities(part), rows=len(part), name=self.checkpoint.name
            )
            if progress is not None:
                progress(min(start + block, len(rows)), len(rows))
        return found


def check_form(declaration: OwnerDeclaration) -> None:
    """Refuse outputs that were stated to be logits; raises UsageError."""
    if declaration.outputs is not None and declaration.outputs.form != "probabilities":
        raise UsageError("--outputs: a classifier of this kind returns probabilities. Write --outputs probabilities.")
