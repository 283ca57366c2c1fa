"""The output of a model, checked: logits or probabilities of shape (n, 3), as logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import FloatArray
from ..errors import UsageError, kind_of
from .feature_table import filled

Predict = Callable[[FloatArray], FloatArray]


def checked_output(predict: Predict, rows: FloatArray) -> FloatArray:
    """Return what a model gives for rows (n, F), a missing value replaced by the last known one, as float64 (n, 3).

    Raises
    ------
    UsageError
        When the output has a different shape.
    """
    given = predict(filled(rows))
    expected = f"predict: expected logits or probabilities of shape {(len(rows), 3)} for {len(rows)} rows"
    remedy = "Return one row per bar, in the order SELL, HOLD, BUY."
    try:
        output = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        what = repr(given) if isinstance(given, str) else f"{kind_of(given)} that is not an array of numbers"
        raise UsageError(f"{expected}, got {what:.80}. {remedy}") from None
    if output.shape != (len(rows), 3):
        flat = output.reshape(-1)
        if len(flat) == len(rows) > 1 and np.isin(flat, (-1, 0, 1, 2)).all():
            remedy = "These look like labels, one per row. Give the function that returns probabilities, such as predict_proba."
        raise UsageError(f"{expected}, got {'None' if given is None else output.shape}. {remedy}")
    return output


def as_logits(output: FloatArray) -> FloatArray:
    """Return an output (n, 3) as logits: probabilities become their logarithms."""
    finite = output[np.isfinite(output).all(axis=1)]
    if len(finite) and (finite >= 0).all() and np.allclose(finite.sum(axis=1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(output, 1e-12)))
    return output


def check_output(predict: Predict, rows: FloatArray) -> None:
    """Call a model once, to refuse a function that is not a model.

    Errors that the function itself raises are ignored here; the checks report them.

    Raises
    ------
    UsageError
        When it returns anything but logits or probabilities.
    """
    try:
        output = checked_output(predict, rows)
    except UsageError:
        raise
    except Exception:
        return
    if len(rows) > 1 and (np.sort(output, axis=1) == (0.0, 0.0, 1.0)).all() and len(np.unique(output.argmax(axis=1))) > 1:
        raise UsageError(
            f"predict: each of the {len(rows)} rows tried is one 1 and two 0: these are one-hot labels, not probabilities. "
            "Give the function that returns probabilities, such as predict_proba."
        )
