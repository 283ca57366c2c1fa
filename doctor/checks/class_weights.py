"""Class weights: how much of the shift in the log-odds they can explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data.labels import CLASS_NAMES
from ...models.diversity import COLLAPSED_TOTAL_VARIATION, total_variation
from ...models.statistics import softmax
from ..check import KNOWN_INPUT, Check, Need, Symptom
from ..counterfactual import Ablation, compare_outputs
from ..finding import OK, SUSPECT, WARNING, Evidence, Finding, skipped
from ..subject import Subject

HARMLESS_LOG_WEIGHT = 1.0
WEIGHTS = Need(
    lambda subject: (
        "The class weights of the loss, or the labels' shares, are not known."
        if subject.class_weights is None or subject.prior is None
        else ""
    ),
    "Give class_weights= and labels=.",
    "",
)


@dataclass(frozen=True)
class WeightShift(Evidence):
    """The shift of the log-odds that the weights can explain, and the observed one.

    ``before`` and ``after`` are the total variation between mean probabilities and the training labels' shares, as they are
    and with log(weights) subtracted.
    """

    explained: float
    observed: float
    before: float
    after: float


def _run(subject: Subject) -> Finding:
    """Compute how much of the shift in the log-odds the class weights can explain.

    A model trained with a weighted loss predicts p w / sum (Elkan 2001): weights shift the log-odds of two classes by the
    logarithm of their ratio at most.
    """
    weights, prior = subject.class_weights, subject.prior
    assert weights is not None
    assert prior is not None
    scored = np.isfinite(subject.logits).all(axis=1)
    if not scored.any():
        return skipped("The model has no output on the tested bars.")
    z = subject.logits[scored]
    shift = np.log(weights)
    observed = z.mean(axis=0) - np.log(np.maximum(prior, 1e-9))
    up, down = CLASS_NAMES[int(np.argmax(observed))], CLASS_NAMES[int(np.argmin(observed))]
    found = WeightShift(
        explained=float(shift.max() - shift.min()),
        observed=float(observed.max() - observed.min()),
        before=total_variation(softmax(z).mean(axis=0), prior),
        after=total_variation(softmax(z - shift).mean(axis=0), prior),
    )
    facts = (
        f"The weights {', '.join(f'{w:.2f}' for w in weights)} can shift the log-odds by at most {found.explained:.2f}; the "
        f"observed shift from the labels' shares is {found.observed:.2f} ({up} over {down}). Subtracting log(weights) changes "
        f"the total variation between mean probabilities and labels from {found.before:.2f} to {found.after:.2f}"
    )
    collapsed = found.before > COLLAPSED_TOTAL_VARIATION
    if collapsed and found.after < found.before / 2 and found.explained > HARMLESS_LOG_WEIGHT:
        is_corrected = subject.corrected is not None and (
            total_variation(subject.corrected(z).mean(axis=0), prior) <= COLLAPSED_TOTAL_VARIATION
        )
        return Finding(
            severity=WARNING if is_corrected else SUSPECT,
            value=found.explained,
            limit=HARMLESS_LOG_WEIGHT,
            message=f"{facts}: the class weights shift the predictions"
            f"{f', and {subject.calibrated_by} corrects it' if is_corrected else ''}.",
            remedy="Subtract log(weights) from the logits (a calibration), or train without weights.",
            otherwise="If the weights were not the cause, subtracting log(weights) would not restore the shares.",
            evidence=found,
        )
    blame = "they do not explain it" if collapsed else "there is nothing to explain"
    return Finding(severity=OK, value=found.explained, limit=found.observed, message=f"{facts}: {blame}.", evidence=found)


def _undo(subject: Subject, _found: WeightShift) -> Ablation | None:
    if subject.class_weights is None:
        return None
    return compare_outputs(subject, subject.logits - np.log(subject.class_weights), "With log(weights) subtracted")


CHECK = Check(
    name="class-weights",
    rank=100,
    method="compare the shift of the log-odds that the weights can explain with the observed one",
    run=_run,
    evidence=WeightShift,
    needs=(KNOWN_INPUT, WEIGHTS),
    causes=(Symptom.WRONG_OUTPUT,),
    follows=("schema", "serving-parity", "lookahead-model", "adapter", "invariance", "input-ignored"),
    undo=_undo,
)
