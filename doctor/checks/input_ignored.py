"""The use of the input: shuffle the rows over the bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..check import ROWS, Check, Symptom
from ..counterfactual import with_training_rows
from ..feature_table import filled
from ..finding import BROKEN, OK, Evidence, Finding, skipped
from ..subject import Subject

SHUFFLED_ROWS = 3_000
SMALLEST_EFFECT = 0.01


@dataclass(frozen=True)
class InputEffect(Evidence):
    """The mean change of the logits, less their mean, with the rows shuffled; 0 where all rows are equal."""

    mean_move: float
    rows: int


def _run(subject: Subject) -> Finding:
    """Shuffle the rows over the bars: a model that uses its input gives different logits."""
    random = subject.random(11)
    rows = filled(subject.rows[subject.first_row :])[-SHUFFLED_ROWS:]
    if len(rows) < max(32, subject.context // 4):
        return skipped(f"There are only {len(rows)} complete rows.", "Give a longer range.")
    examined = {"shuffled_rows": len(rows)}
    if (rows.std(axis=0) <= 1e-12).all():
        return Finding(
            severity=BROKEN,
            value=0.0,
            limit=SMALLEST_EFFECT,
            message=f"All of the last {len(rows):,} served rows are equal: the input is constant.",
            remedy="Fix the serving path: it serves constants.",
            columns=subject.served.columns[:60],
            otherwise="If the columns were not constant, the rows would differ from bar to bar.",
            evidence=InputEffect(0.0, len(rows)),
            examined=examined,
        )
    one, other = subject.predict_logits(rows), subject.predict_logits(rows[random.permutation(len(rows))])
    gaps = [(each - each.mean(axis=1, keepdims=True)) for each in (one, other)]
    moved = float(np.nanmean(np.abs(gaps[0] - gaps[1]).max(axis=1)))
    effect = f"With the rows shuffled over {len(rows):,} bars, the logits change by {moved:.2g} on average"
    ignored = moved < SMALLEST_EFFECT
    return Finding(
        severity=BROKEN if ignored else OK,
        value=moved,
        limit=SMALLEST_EFFECT,
        message=f"{effect}: the model {'ignores' if ignored else 'uses'} its input.",
        remedy="Look at the input (constant or missing columns) and at the loaded weights (an output bias alone, a dead layer)."
        if ignored
        else "",
        otherwise="If the model used its input, the logits would follow the rows." if ignored else "",
        evidence=InputEffect(moved, len(rows)),
        examined=examined,
    )


CHECK = Check(
    name="input-ignored",
    rank=90,
    method="shuffle the rows over the bars; the logits must change",
    run=_run,
    evidence=InputEffect,
    needs=(ROWS,),
    causes=(Symptom.WRONG_OUTPUT,),
    follows=("lookahead-model", "adapter"),
    undo=lambda subject, _found: with_training_rows(subject),
)
