"""Schema: compare the served columns with the training's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import FloatArray
from ..check import KNOWN_INPUT, ROWS, Check, Symptom
from ..counterfactual import with_training_rows
from ..feature_table import FeatureTable
from ..finding import BROKEN, OK, Evidence, Finding, skipped
from ..paired_rows import SAME, TRAINING_UNKNOWN, lag_of, paired_rows
from ..subject import Subject


@dataclass(frozen=True)
class SchemaFaults(Evidence):
    """How the served columns differ from the training's, one text a fault, and the columns that do."""

    faults: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def _run(subject: Subject) -> Finding:
    """Compare the served columns with the training's: names, order, count, scale, and columns constant in training."""
    if subject.refusal:
        return Finding(
            severity=BROKEN,
            value=1.0,
            limit=0.0,
            message=subject.refusal,
            remedy="Install the feature set's version of the training, or train again on the installed one.",
            otherwise="If the features were the same, the checkpoint's digest and probe would match.",
            evidence=SchemaFaults((subject.refusal,)),
        )
    if subject.trained is None:
        return skipped(TRAINING_UNKNOWN, subject.remedy("Give training_features."))
    one, other = subject.trained, subject.served
    a, b = paired_rows(subject)
    examined = {"compared_rows": len(a)}
    faults, different = _named_faults(one, other)
    more, columns = _value_faults(one, other, a, b, named=bool(different))
    found = SchemaFaults((*faults, *more), tuple(dict.fromkeys((*different, *columns))))
    if not found.faults:
        message = f"The {len(one.columns)} served columns have the training's names, order and scale"
        digest = subject.checkpoint.schema.digest[:12] if subject.checkpoint else ""
        return Finding(
            severity=OK,
            message=f"{message}{f' (digest {digest})' * bool(digest)}.",
            value=0.0,
            limit=0.0,
            evidence=found,
            examined=examined,
        )
    return Finding(
        severity=BROKEN,
        value=float(len(found.columns)),
        limit=0.0,
        columns=found.columns,
        message=f"The served features differ from those in training: {'; '.join(found.faults)}.",
        remedy="Compute training and serving rows by one function, store its column names, order and scaler with the model, "
        "and refuse all others.",
        otherwise="If the features were the same, each column would have one name, position and scale on the same bars.",
        evidence=found,
        examined=examined,
    )


def _named_faults(one: FeatureTable, other: FeatureTable) -> tuple[list[str], tuple[str, ...]]:
    faults: list[str] = []
    different: tuple[str, ...] = ()
    if len(one.columns) != len(other.columns):
        faults.append(f"{len(other.columns)} columns instead of {len(one.columns)}")
    if one.named and other.named and one.columns != other.columns:
        wrong = [(i, x, y) for i, (x, y) in enumerate(zip(one.columns, other.columns, strict=False)) if x != y]
        same = set(one.columns) == set(other.columns)
        different = tuple(y for _, _, y in wrong)
        at = f", the first at position {wrong[0][0]}: '{wrong[0][2]}' instead of '{wrong[0][1]}'" if wrong else ""
        faults.append(f"{len(wrong)} columns {'in another position' if same else 'with another name'}{at}")
    return faults, different


def _value_faults(
    one: FeatureTable, other: FeatureTable, a: FloatArray, b: FloatArray, *, named: bool
) -> tuple[list[str], list[str]]:
    """Find swapped columns, other scales and columns that were constant in training, by their values."""
    if len(a) < 20:
        return [], []
    n = min(a.shape[1], b.shape[1])
    spread_a, spread_b = a.std(axis=0), b.std(axis=0)
    off = np.abs(a[:, :n] - b[:, :n]).max(axis=0) > SAME * np.maximum(spread_a[:n], 1e-9)
    tiny = 1e-9 * (1 + np.abs(a).max(axis=0))
    if (spread_b[:n] <= 1e-12).all():
        return [], []  # constant input is reported by input-ignored
    if lag_of(a[:, :n], b[:, :n]):
        return [], []  # the right features, late: reported by serving-parity
    dead = [k for k in range(n) if spread_a[k] <= tiny[k] and spread_b[k] > 1e-9 and off[k]]
    moved, scaled = [], []
    for k in np.flatnonzero(off).tolist():
        if k in dead or spread_a[k] <= tiny[k] or spread_b[k] <= 1e-12:
            continue
        twin = [j for j in range(a.shape[1]) if j != k and spread_a[j] > tiny[j] and _equal(a[:, j], b[:, k])]
        if twin:
            moved.append((k, twin[0]))
        elif abs(float(np.corrcoef(a[:, k], b[:, k])[0, 1])) > 0.95:
            scaled.append(k)
    faults = []
    if dead:
        faults.append(f"{len(dead)} columns that were constant in training vary in serving")
    if moved and not named:
        k, j = moved[0]
        faults.append(f"{len(moved)} columns have another column's values (position {k} has those of '{one.columns[j]}')")
    if scaled:
        k = scaled[0]
        faults.append(
            f"{len(scaled)} columns have another scale ('{other.columns[k]}' has mean {b[:, k].mean():.4g} and deviation "
            f"{spread_b[k]:.4g}, in training {a[:, k].mean():.4g} and {spread_a[k]:.4g})"
        )
    return faults, [other.columns[k] for k in sorted({*dead, *scaled, *(k for k, _ in moved)})]


def _equal(x: FloatArray, y: FloatArray) -> bool:
    return bool(np.abs(x - y).max() <= SAME * max(float(x.std()), 1e-9))


CHECK = Check(
    name="schema",
    rank=20,
    method="compare names, order, count and scale of the served columns with the training's; find columns constant in training",
    run=_run,
    evidence=SchemaFaults,
    needs=(ROWS, KNOWN_INPUT),
    causes=(Symptom.WRONG_OUTPUT,),
    undo=lambda subject, _found: with_training_rows(subject),
)
