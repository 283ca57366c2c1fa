"""Outputs: what a foreign model returns, logits or probabilities of three classes in some order, as flagbt's logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..data.labels import CLASS_NAMES
from ..errors import CheckpointError, UsageError, nearest
from ..storage.json_records import JsonRecord
from .statistics import SMALLEST_PROBABILITY

FORMS = ("probabilities", "logits")
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Outputs(JsonRecord):
    """The form and the order of a model's outputs, as its owner stated them.

    Parameters
    ----------
    form : str
        ``probabilities`` or ``logits``.
    classes : tuple of str
        SELL, HOLD and BUY in the order of the model's columns.
    """

    form: str = "probabilities"
    classes: tuple[str, ...] = CLASS_NAMES

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UsageError(f"--outputs: '{self.form}' is not known. {nearest(self.form, FORMS)}")
        if sorted(self.classes) != sorted(CLASS_NAMES):
            raise UsageError(
                f"--classes: expected SELL, HOLD and BUY, each once, in the order of the model's outputs, got "
                f"{', '.join(self.classes) or 'nothing'}."
            )

    @classmethod
    def of_settings(cls, settings: Mapping[str, object]) -> Outputs:
        """Read what a kind stored under ``outputs`` in its settings; raises ValueError or TypeError where it is damaged."""
        return cls.from_json(settings["outputs"], "outputs")

    def logits(self, values: npt.ArrayLike, *, rows: int, name: str) -> FloatArray:
        """Return the outputs of ``rows`` rows as logits, float64 (rows, 3), in the order SELL, HOLD, BUY.

        Probabilities become their logarithms. A row that is not finite becomes NaN.

        Raises
        ------
        CheckpointError
            For another shape, or probabilities that are none: below 0, or not of the sum 1. ``name`` is the checkpoint's.
        """
        found = np.asarray(values)
        if found.shape != (rows, 3) or found.dtype.kind not in "fiu":
            raise CheckpointError(
                f"checkpoint '{name}': expected {self.form} of shape {(rows, 3)}, one row per bar and one column for each of "
                f"{', '.join(self.classes)}, got {found.shape} of {found.dtype}. A model of another number of classes answers "
                "another question: export one with three."
            )
        ordered = found.astype(np.float64)[:, [self.classes.index(each) for each in CLASS_NAMES]]
        finite = np.isfinite(ordered).all(axis=1)
        ordered[~finite] = np.nan
        if self.form == "logits":
            return ordered
        total = ordered.sum(axis=1)
        wrong = finite & ((ordered < 0).any(axis=1) | (np.abs(total - 1) > SUM_TOLERANCE))
        if wrong.any():
            at = int(np.argmax(wrong))
            raise CheckpointError(
                f"checkpoint '{name}': its outputs were stated to be probabilities, and row {at:,} is "
                f"{', '.join(f'{value:.4g}' for value in ordered[at])}, of the sum {total[at]:.4g} ({int(wrong.sum()):,} such "
                "rows). Import it with --outputs logits, or export the model with its softmax."
            )
        return np.log(np.maximum(ordered, SMALLEST_PROBABILITY))


def read_outputs(form: str | None, classes: str | None) -> Outputs | None:
    """Read ``--outputs`` and ``--classes``; None where neither is given.

    Raises
    ------
    UsageError
        For another form, or other classes.
    """
    if form is None and classes is None:
        return None
    if form is None:
        raise UsageError("--classes: state with --outputs too whether the model returns probabilities or logits.")
    order = CLASS_NAMES if classes is None else tuple(each.strip().upper() for each in classes.split(","))
    return Outputs(form.strip().lower(), order)
