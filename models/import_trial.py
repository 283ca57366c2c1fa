"""The trial of a model at its import: scores that depend on chance or on other rows, or have another form, are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Float32Array, FloatArray
from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .checkpoint_model import RowModel
from .fingerprint import fixed_rows
from .outputs import SUM_TOLERANCE

if TYPE_CHECKING:
    from .importing import OwnerDeclaration

TRIED_ROWS = 64
TOLERANCE = 1e-4  # absolute and relative, of logits: rounding in another order is far below


def try_model(checkpoint: Checkpoint, declaration: OwnerDeclaration) -> None:
    """Run a model on random rows or bars, so that a wrong file is refused at its import and not at its first use.

    Raises
    ------
    CheckpointError
        Where it fails, or its scores are not a function of the rows that they belong to.
    """
    model = checkpoint.model
    model.check_settings()
    if isinstance(model, RowModel):
        if declaration.schema is not None:
            rows = fixed_rows(model.context_bars + TRIED_ROWS, len(declaration.schema.columns))
            _try_rows(model, rows.astype(np.float32), declaration)
    elif declaration.bars is not None:
        n = min(len(declaration.bars), model.warmup_bars + TRIED_ROWS)
        model.logits(declaration.bars.take(slice(0, n)), device="cpu")


def _try_rows(model: RowModel, rows: Float32Array, declaration: OwnerDeclaration) -> None:
    context, name = model.context_bars, f"checkpoint '{model.checkpoint.name}'"
    first, again = (model.logits_of_rows(rows, device="cpu") for _ in range(2))
    scored = first[context:]
    if not np.isfinite(scored).all(axis=1).any():
        raise CheckpointError(
            f"{name}: none of its scores of {TRIED_ROWS} random rows is a finite number. Export it again, and compare its "
            "outputs there with those of the library that trained it."
        )
    if (at := _differing(first, again)) is not None:
        raise CheckpointError(
            f"{name}: two calls with the same rows differ ({_shown(first[at])}, then {_shown(again[at])}). Something in it is "
            "random, such as dropout in training mode. Export it for inference: model.eval() in torch."
        )
    for t in (context, context + TRIED_ROWS // 2, context + TRIED_ROWS - 1):
        alone = model.logits_of_rows(rows[t - context : t + 1], device="cpu")[-1]
        if _differing(first[t : t + 1], alone[None]) is not None:
            _refuse_company(name, first[t], alone, "alone")
    moved = np.arange(len(rows))[7:] if context else np.random.default_rng(0).permutation(len(rows))
    other = model.logits_of_rows(rows[moved], device="cpu")
    if (at := _differing(first[moved][context:], other[context:])) is not None:
        _refuse_company(name, first[moved][context + at], other[context + at], "in other company")
    outputs = declaration.outputs
    if outputs is not None and outputs.form == "logits" and _are_probabilities(scored):
        raise CheckpointError(
            f"{name}: its outputs were stated to be logits, and each of {TRIED_ROWS} random rows gives three numbers from 0 "
            f"to 1 of the sum 1, such as {_shown(scored[0])}: these are probabilities. Import it with --outputs probabilities."
        )


def _differing(expected: FloatArray, found: FloatArray) -> int | None:
    """Return the first row with a difference beyond the tolerance; None where there is none."""
    same = np.isclose(expected, found, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True).all(axis=1)
    return None if same.all() else int(np.argmin(same))


def _refuse_company(name: str, expected: FloatArray, found: FloatArray, how: str) -> None:
    raise CheckpointError(
        f"{name}: a row's scores depend on the rows beside it in a batch ({_shown(expected)} in one, {_shown(found)} {how}). "
        "A backtest could not be repeated bar by bar, and could see the future. Causes are a softmax or a normalisation over "
        "the first axis, batch normalisation in training mode, or windows with another axis first. Export it for inference, "
        "with the batch as the first axis."
    )


def _are_probabilities(logits: FloatArray) -> bool:
    return bool((logits >= 0).all() and (np.abs(logits.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def _shown(row: FloatArray) -> str:
    return ", ".join(f"{value:.4g}" for value in row)
