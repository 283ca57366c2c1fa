"""Rows of training and serving on the same bars."""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray
from .subject import Subject

COMPARED_BARS = 3_000
LONGEST_LAG = 24
SAME = 1e-4
TRAINING_UNKNOWN = "The features of the training are not known."


def paired_rows(subject: Subject) -> tuple[FloatArray, FloatArray]:
    """Return the complete rows of training and serving on the same bars."""
    bars = subject.past if subject.past is not None else subject.bars
    stop = len(bars)
    if subject.past is not None and subject.training is not None and subject.training.any():
        stop = int(np.flatnonzero(subject.training)[-1]) + 1
    part = bars.take(slice(max(0, stop - COMPARED_BARS), stop))
    one, other = subject.training_table(part), subject.served(part)
    whole = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    return one[whole], other[whole]


def lag_of(a: FloatArray, b: FloatArray) -> int:
    """Return by how many bars the rows of b lag behind those of a; 0 if they are not rows of a."""
    if a.shape != b.shape:
        return 0
    spread = np.maximum(a.std(axis=0), 1e-9)
    late = (k for k in range(1, LONGEST_LAG + 1) if len(a) > k + 20)
    return next((k for k in late if (np.abs(a[:-k] - b[k:]) <= SAME * spread).all(axis=1).mean() > 0.9), 0)
