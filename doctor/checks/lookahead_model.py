"""Look-ahead of the model: change the rows after t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import FloatArray
from ..check import Check, Symptom
from ..counterfactual import with_live_bars
from ..finding import BROKEN, OK, SKIPPED, Evidence, Finding, skipped
from ..perturbed_bars import perturb_future, perturb_past
from ..subject import Subject

WINDOWS = 12
WATCHED_ROWS = 64
BAR_WINDOWS, WATCHED_BARS = 4, 24
LARGEST_MOVE = 1e-3


@dataclass(frozen=True)
class ModelReach(Evidence):
    """The largest change of an earlier logit, how many bars before the replaced rows it lies, and the windows tried."""

    largest_move: float
    bars_ahead: int
    windows: int


@dataclass(frozen=True)
class StoredAnswers(Evidence):
    """Answers that stay the same on other bars: their skill may come from later bars, and nothing can show that it does not."""


def _run(subject: Subject) -> Finding:
    """Change the rows after t: the logits up to t must not change."""
    if subject.reads_bars:
        return _on_bars(subject)
    random = subject.random(4)
    windows, length = subject.windows(random, WATCHED_ROWS * 2, WINDOWS)
    if not windows:
        return skipped(f"There are fewer than {length:,} consecutive complete rows.", "Give a longer range.")
    if not _is_same(subject.predict_logits(windows[0]), subject.predict_logits(windows[0])):
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
    return _verdict(ModelReach(largest, far, len(windows)), length, "rows")


def _on_bars(subject: Subject) -> Finding:
    """Replace the bars after t, or leave them out: the logits up to t must not change."""
    random = subject.random(4)
    windows, length = subject.bar_windows(random, 2 * WATCHED_BARS, BAR_WINDOWS)
    if not windows:
        return skipped(f"There are fewer than {length:,} bars.", "Give a longer range.")
    t = length - WATCHED_BARS - 1
    largest, far = 0.0, 0
    bars = windows[0]
    if _is_same(subject.logits_on(bars), subject.logits_on(perturb_past(bars, random)), 0.0):
        return Finding(
            severity=SKIPPED,
            message="Its answers stay the same on other bars: they come from a file or are constant, so no change of the bars "
            "shows whether they were known at their time.",
            remedy="Show for each answer that it was computed from bars up to its own; to test that here, import the model "
            "itself.",
            evidence=StoredAnswers(),
        )
    for number, bars in enumerate(windows):
        base = subject.logits_on(bars)
        if number == 0 and not _is_same(base, subject.logits_on(bars)):
            again = "Its logits differ when the same bars are scored twice, so look-ahead is unknown."
            return skipped(again, "See invariance.")
        for other in (perturb_future(bars, t, random), bars.take(slice(0, t + 1))):
            now = subject.logits_on(other)[: t + 1]
            gone = np.isfinite(now) != np.isfinite(base[: t + 1])
            off = np.where(gone, np.inf, np.nan_to_num(np.abs(now - base[: t + 1]))).max(axis=1)
            if off.max() > LARGEST_MOVE:
                far = max(far, t + 1 - int(np.argmax(off > LARGEST_MOVE)))
            largest = max(largest, float(off.max()))
    return _verdict(ModelReach(largest, far, len(windows)), length, "bars")


def _verdict(found: ModelReach, length: int, what: str) -> Finding:
    """Return the finding; ``what`` is changed after a bar, rows or bars, in windows of ``length``."""
    examined = {"model_windows": found.windows}
    if found.largest_move <= LARGEST_MOVE:
        return Finding(
            severity=OK,
            message=f"In {found.windows} windows of {length:,} {what}, no logit changed with the {what} after it.",
            value=found.largest_move,
            limit=LARGEST_MOVE,
            evidence=found,
            examined=examined,
        )
    return Finding(
        severity=BROKEN,
        value=found.largest_move,
        limit=LARGEST_MOVE,
        message=f"The model reads later {what}: if the {what} after a bar are replaced, its logits up to that bar change by up "
        f"to {found.largest_move:.3g}, as far as {found.bars_ahead} bars before the change.",
        remedy="Use a causal attention mask, no normalisation or pooling over the whole sequence, and train again.",
        otherwise="If the model were causal, these logits would not change.",
        evidence=found,
        examined=examined,
    )


def _is_same(one: FloatArray, other: FloatArray, limit: float = LARGEST_MOVE) -> bool:
    return float(np.nan_to_num(np.abs(one - other)).max()) <= limit


CHECK = Check(
    name="lookahead-model",
    rank=40,
    method="replace the rows or bars after a bar; its logits must not change",
    run=_run,
    evidence=ModelReach,
    needs=(),
    causes=(Symptom.WRONG_OUTPUT, Symptom.HIGH_SCORE),
    undo=lambda subject, _found: with_live_bars(subject),
)
