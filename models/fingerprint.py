"""Fingerprint: fixed rows with their logits, stored with a model of rows and compared whenever it is loaded.

Other code, another version of a library or weights that were mixed up load without an error; their logits show it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..arrays import Float32Array, FloatArray
from ..errors import CheckpointError
from ..storage.atomic_files import written_by
from ..storage.untrusted_files import load_safetensors

FINGERPRINT = "fingerprint.safetensors"
KEPT_ROWS = 16
FINGERPRINT_TOLERANCE = 1e-4  # of a logit

LogitsOfRows = Callable[[Float32Array], FloatArray]  # see `ReadsRows`


def fixed_rows(n: int, n_features: int) -> FloatArray:
    """Return standard normal rows (n, n_features), the same on every machine, to try a model with."""
    return np.random.Generator(np.random.Philox(key=20240101)).standard_normal((n, n_features))


def write_fingerprint(folder: Path, logits_of_rows: LogitsOfRows, *, n_features: int, context_bars: int, name: str) -> None:
    """Write random rows, float32 (context_bars + 16, n_features), and the logits of the last 16.

    Raises
    ------
    CheckpointError
        Where a logit is not finite.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    rows = fixed_rows(context_bars + KEPT_ROWS, n_features).astype(np.float32)
    logits = logits_of_rows(rows)[-KEPT_ROWS:]
    if not np.isfinite(logits).all():
        raise CheckpointError(
            f"checkpoint '{name}': on random rows of mean 0 and standard deviation 1, its logits are not finite. Check the "
            "model and its weights."
        )
    with written_by(SafetensorError):
        save_file({"rows": rows, "logits": np.ascontiguousarray(logits)}, folder / FINGERPRINT)


def checked_fingerprint(folder: Path, logits_of_rows: LogitsOfRows, *, name: str, cause: str) -> FloatArray:
    """Return the logits (16, 3) that a loaded model gives now on its stored rows.

    Parameters
    ----------
    cause : str
        A sentence or two for the message: what may have changed, and the remedy.

    Raises
    ------
    CheckpointError
        When the file is damaged, or a logit differs by more than 1e-4 from that of the import.
    """
    from safetensors.numpy import load_file

    path = folder / FINGERPRINT
    try:
        stored = load_safetensors(path, load_file)
        rows, expected = stored["rows"], stored["logits"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Copy the checkpoint again from its source.") from None
    if rows.dtype != np.float32 or rows.ndim != 2 or expected.shape != (KEPT_ROWS, 3) or len(rows) < KEPT_ROWS:
        raise CheckpointError(f"{path} holds no rows with their logits. Copy the checkpoint again from its source.")
    found = logits_of_rows(rows)[-KEPT_ROWS:]
    off = float(np.abs(found - expected).max())
    if not off <= FINGERPRINT_TOLERANCE:
        raise CheckpointError(
            f"checkpoint '{name}': the loaded model is not the one that was imported. On its {KEPT_ROWS} fingerprint rows the "
            f"logits differ by up to {off:.3g}, allowed are {FINGERPRINT_TOLERANCE:g}. {cause}"
        )
    return found
