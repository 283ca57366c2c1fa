"""The stated order of an imported model's classes, against the bars that it was trained on: a reversed one is refused.

A model fits its own training bars. If it ranks BUY below SELL there, or HOLD below the others, throughout, its outputs were
stated in another order, and a run would trade its opposite.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..data.labels import BUY, CLASS_NAMES, HOLD, SELL
from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .statistics import log_softmax, pair_auc

if TYPE_CHECKING:
    from .importing import OwnerDeclaration

MOST_BARS = 12_000
FEWEST_BARS = 1_000
PARTS = 4
# An AUC of chance is 0.5. Slow columns alone can move it by 0.1 over a year, but not in the same direction in each quarter.
REVERSED_AUC, REVERSED_IN_EACH_PART = 0.40, 0.45


def check_class_order(checkpoint: Checkpoint, declaration: OwnerDeclaration) -> None:
    """Refuse an order of classes that the last 12,000 training bars contradict; without known ones nothing is checked.

    Raises
    ------
    CheckpointError
        With the AUC, and the order that fits.
    """
    outputs, bars, seen, labels = declaration.outputs, declaration.bars, declaration.seen, declaration.labels
    if outputs is None or bars is None or seen is None or labels is None or declaration.schema is None:
        return
    part = bars.between(seen)
    first = max(part.start, part.stop - MOST_BARS)
    given = bars.take(slice(max(0, first - checkpoint.model.warmup_bars), part.stop))
    kept = part.stop - first
    logits, y = checkpoint.model.logits(given, device="cpu")[-kept:], labels.labels(given)[-kept:]
    known = np.asarray(np.isfinite(logits).all(axis=1)) & (y >= 0)
    scores, y = log_softmax(logits[known]), y[known]
    if len(y) < FEWEST_BARS:
        return
    side, hold = scores[:, BUY] - scores[:, SELL], scores[:, HOLD]
    for what, auc in (
        ("BUY against SELL", _reversed(side, y == BUY, y == SELL)),
        ("HOLD against the others", _reversed(hold, y == HOLD, y != HOLD)),
    ):
        if auc is not None:
            raise CheckpointError(
                f"checkpoint '{checkpoint.name}': its outputs were stated in the order {','.join(outputs.classes)}, and on "
                f"{len(y):,} of the bars that it was trained on it ranks {what} in reverse (AUC {auc:.2f}; a model fits its "
                f"own training bars). The order that fits them is --classes {','.join(_fitting(scores, y, outputs.classes))}."
            )


def _reversed(scores: FloatArray, up: BoolArray, down: BoolArray) -> float | None:
    """Return the AUC of ``up`` against ``down`` where it is reversed as a whole and in each part; None otherwise."""
    found = []
    for rows in (np.arange(len(scores)), *np.array_split(np.arange(len(scores)), PARTS)):
        one, other = scores[rows][up[rows]], scores[rows][down[rows]]
        if not len(one) or not len(other):
            return None
        found.append(pair_auc(one, other))
    whole, *parts = found
    return whole if whole < REVERSED_AUC and max(parts) < REVERSED_IN_EACH_PART else None


def _fitting(scores: FloatArray, labels: IntArray, stated: tuple[str, ...]) -> list[str]:
    """Return the classes of the model's columns in the order of the highest likelihood."""
    rows = np.arange(len(labels))
    best = max(permutations(range(3)), key=lambda order: float(scores[:, order][rows, labels].mean()))
    classes = list(stated)
    for code, column in enumerate(best):
        classes[stated.index(CLASS_NAMES[column])] = CLASS_NAMES[code]
    return classes
