"""Calibration: compare probabilities with frequencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data.labels import CLASS_NAMES, class_shares
from ...models.statistics import expected_calibration_error, negative_log_likelihood
from ...results.reliability import reliability
from ..check import FEWEST_LABELLED_BARS, KNOWN_INPUT, LABELS, Check, Symptom
from ..finding import OK, SUSPECT, WARNING, Evidence, Finding, skipped
from ..subject import Subject

LARGEST_ECE, SUSPECT_ECE = 0.10, 0.30


@dataclass(frozen=True)
class CalibrationError(Evidence):
    """Mean differences of confidence and accuracy: of the most probable class, by class, and with the stored calibration."""

    ece: float
    by_class: tuple[float, ...]
    stored: float | None = None


def _run(subject: Subject) -> Finding:
    """Compare probabilities with frequencies: ECE of the most probable class (Guo et al. 2017), by class (Kull et al. 2019)."""
    assert subject.labels is not None
    p, y = subject.probabilities[subject.evaluated], subject.labels[subject.evaluated]
    if len(y) < FEWEST_LABELLED_BARS:
        return skipped(f"It needs {FEWEST_LABELLED_BARS} labelled bars; there are {len(y):,}.")
    corrected = None if subject.corrected is None else subject.corrected(subject.logits[subject.evaluated])
    found = CalibrationError(
        ece=(ece := expected_calibration_error(p, y)),
        by_class=tuple(reliability(p, y).errors.tolist()),
        stored=None if corrected is None else expected_calibration_error(corrected, y),
    )
    stored = "" if found.stored is None else f" With {subject.calibrated_by} it is {found.stored:.3f}."
    each = ", ".join(f"{c} {error:.3f}" for c, error in zip(CLASS_NAMES, found.by_class, strict=True))
    nll, constant = negative_log_likelihood(p, y), negative_log_likelihood(np.tile(class_shares(y), (len(y), 1)), y)
    severity = SUSPECT if ece > SUSPECT_ECE else WARNING if ece > LARGEST_ECE else OK
    return Finding(
        severity=severity,
        value=ece,
        limit=LARGEST_ECE,
        message=f"Confidence and accuracy differ by {ece:.3f} on average (by class: {each}); NLL {nll:.3f}, of a constant "
        f"guess of these labels' shares {constant:.3f}.{stored}",
        remedy="Fix the findings above, then fit a temperature: flagbt calibrate." if severity != OK else "",
        otherwise="If its confidence were right, 60 % of the predictions with 60 % confidence would be correct.",
        evidence=found,
        examined={"calibration_bars": len(y)},
    )


CHECK = Check(
    name="calibration",
    rank=160,
    method="compare confidence with accuracy",
    run=_run,
    evidence=CalibrationError,
    needs=(KNOWN_INPUT, LABELS),
    follows=(Symptom.WRONG_OUTPUT, "shares", Symptom.HIGH_SCORE),
)
