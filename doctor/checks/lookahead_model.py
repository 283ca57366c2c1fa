"""Look-ahead of the model: change the rows after t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import FloatArray
from ..check import Check, Symptom
from ..counterfactual import with_live_bars
from ..finding import BROKEN, OK, Evidence, Finding, skipped
from ..subject import Subject

WINDOWS = 12
WATCHED_ROWS = 64
LARGEST_MOVE = 1e-3


@dataclass(frozen=True)
class ModelReach(Evidence):
    """The largest change of an earlier logit, how many bars before the replaced rows it lies, and the windows tried."""

    largest_move: float
    bars_ahead: int
    windows: int


def _run(subject: Subject) -> Finding:
    """Change the rows after t: the logits up to t must not change."""
    random = subject.random(4)
    windows, length = subject.windows(random, WATCHED_ROWS * 2, WINDOWS)
    if not windows:
        return skipped(f"There are fewer than {length:,} consecutive complete rows.", "Give a longer range.")
    if not _output_repeats(subject, windows[0]):
        return skipped("Its logits differ when the same rows are scored twice, so look-ahead is unknown.", "See invariance.")
    t = length - WATCHED_ROWS - 1
    largest, far = 0.0, 0
    for rows in windows:
        other = rows.copy()
        other[t + 1 :] = rows[random.permutation(length)[: length - t - 1]] + random.normal(0, 1, other[t + 1 :].shape) * (
            rows.std(axis=0) + 1e-3
        )
        off = np.abs(subject.predict_logits(rows)[: t + 1] - subject.predict_logits(other)[: t + 1]).max(axis=1)
        off = np.nan_to_num(off, nan=0.0)
        if off.max() > LARGEST_MOVE:
            far = max(far, t + 1 - int(np.argmax(off > LARGEST_MOVE)))
        largest = max(largest, float(off.max()))
    found, examined = ModelReach(largest, far, len(windows)), {"model_windows": len(windows)}
    if largest <= LARGEST_MOVE:
        return Finding(
            severity=OK,
            message=f"In {len(windows)} windows of {length:,} rows, no logit changed with the rows after it.",
            value=largest,
            limit=LARGEST_MOVE,
            evidence=found,
            examined=examined,
        )
    return Finding(
        severity=BROKEN,
        value=largest,
        limit=LARGEST_MOVE,
        message=f"The model reads later rows: if the rows after a bar are replaced, its logits up to that bar change by up to "
        f"{largest:.3g}, as far as {far} bars before the change.",
        remedy="Use a causal attention mask, no normalisation or pooling over the whole sequence, and train again.",
        otherwise="If the model were causal, these logits would not change.",
        evidence=found,
        examined=examined,
    )


def _output_repeats(subject: Subject, rows: FloatArray) -> bool:
    return float(np.nan_to_num(np.abs(subject.predict_logits(rows) - subject.predict_logits(rows))).max()) <= LARGEST_MOVE


CHECK = Check(
    name="lookahead-model",
    rank=40,
    method="replace the rows after a bar; its logits must not change",
    run=_run,
    evidence=ModelReach,
    needs=(),
    causes=(Symptom.WRONG_OUTPUT, Symptom.HIGH_SCORE),
    undo=lambda subject, _found: with_live_bars(subject),
)
