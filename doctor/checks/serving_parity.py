"""Serving parity: compare features and logits of the serving path with those of the training path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..check import KNOWN_INPUT, ROWS, TRAINING_FILE, Check, Symptom
from ..counterfactual import with_training_rows
from ..finding import BROKEN, OK, Evidence, Finding, skipped
from ..paired_rows import TRAINING_UNKNOWN, lag_of, paired_rows
from ..subject import PathDifference, Subject


@dataclass(frozen=True)
class ServingDifference(Evidence):
    """The differences of the two paths, and by how many bars the served rows are late, if they are the training's."""

    difference: PathDifference
    bars_late: int = 0


def _run(subject: Subject) -> Finding:
    """Compare features and logits of the serving path with those of the training path on validation bars."""
    off = subject.parity(subject) if subject.parity is not None else _path_difference(subject)
    if isinstance(off, str):
        is_stored = subject.checkpoint is not None and not subject.checkpoint.imported and subject.loaded is not None
        return skipped(off, subject.remedy("Give past=.", TRAINING_FILE if is_stored else ""))
    examined = {"parity_rows": off.count}
    worst = max(off.rows, off.logits)
    late = lag_of(*paired_rows(subject)) if off.rows > off.limit and subject.trained and subject.parity is None else 0
    if worst <= off.limit:
        return Finding(
            severity=OK,
            message=f"On {off.count:,} rows both paths give the same features (within {off.rows:.2g}) and logits "
            f"({off.logits:.2g}).",
            value=worst,
            limit=off.limit,
            evidence=ServingDifference(off),
            examined=examined,
        )
    return Finding(
        severity=BROKEN,
        value=worst,
        limit=off.limit,
        columns=off.columns,
        message=f"On the same {off.count:,} bars, serving differs from training: features by up to {off.rows:.3g} standard "
        f"deviations in {len(off.columns)} columns, logits by up to {off.logits:.3g}"
        f"{f': it serves the rows of {late} bars earlier' if late else ''}.",
        remedy="Score the validation bars with the serving code, and fix it until features and logits agree.",
        otherwise="If the paths were the same, both would agree to rounding.",
        evidence=ServingDifference(off, late),
        examined=examined,
    )


def _path_difference(subject: Subject) -> PathDifference | str:
    """Return the differences of rows and logits, or why they are unknown."""
    if subject.trained is None:
        return TRAINING_UNKNOWN
    a, b = paired_rows(subject)
    if a.shape != b.shape:
        return "The two tables have different widths, so no row can be compared."
    if len(a) < 20:
        return "There are too few rows to compare."
    a, b = a[-1_000:], b[-1_000:]
    spread = a.std(axis=0)
    off = np.abs(a - b).max(axis=0) / np.where(spread > 1e-9, spread, 1.0)
    columns = tuple(c for c, each in zip(subject.served.columns, off, strict=True) if each > 1e-3)
    if not columns:
        return PathDifference(float(off.max()), 0.0, len(a))
    one, other = subject.predict_logits(a), subject.predict_logits(b)
    return PathDifference(float(off.max()), float(np.nanmax(np.abs(one - other))), len(a), columns)


CHECK = Check(
    name="serving-parity",
    rank=30,
    method="compare rows and logits of both paths on the same bars",
    run=_run,
    evidence=ServingDifference,
    needs=(ROWS, KNOWN_INPUT),
    causes=(Symptom.WRONG_OUTPUT,),
    follows=("lookahead-features", "schema", "lookahead-model", "adapter", "invariance", "input-ignored"),
    undo=lambda subject, _found: with_training_rows(subject),
)
