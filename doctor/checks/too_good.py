"""Too good to be true: implausibly high scores, and skill of the same pipeline on a random walk."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import IntArray
from ...data.labels import class_counts, class_shares
from ...models.statistics import direction_auc, softmax
from ...training.collapse_guard import LARGEST_ACCURACY_GAIN, LARGEST_DIRECTION_AUC
from ..cheap_learners import fit_and_score
from ..finding import OK, SUSPECT, Finding, skipped
from ..perturbed_bars import random_walk_like
from ..subject import Subject, first_complete_row
from .feature_rows import Note

FEWEST_LABELLED_BARS = 300
WALK_BARS = 16_000
LARGEST_WALK_AUC = 0.62
LARGEST_WALK_GAIN = 0.08
WALK_VOLATILITY_SHARE = 0.605  # of threshold / sqrt(horizon): then about half of the labels are HOLD


def too_good(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Compare the scores with plausible limits, and run the same pipeline on a random walk, which is unpredictable."""
    del pictures
    name, faults, facts = "too-good", [], []
    value: float | None = None
    # 1. The training's scores and those measured here
    for where, accuracy, baseline, auc, slack in _scored(subject):
        gain = accuracy - baseline
        facts.append(
            f"{where}: accuracy {accuracy:.3f} against {baseline:.3f} for the better of the most frequent class and the last "
            "label"
            f"{'' if auc is None else f', BUY-against-SELL AUC {auc:.3f}'}"
        )
        if gain > LARGEST_ACCURACY_GAIN or (auc is not None and auc - slack > LARGEST_DIRECTION_AUC):
            faults.append(facts[-1])
        value = max(value or 0.0, auc or 0.0)
    # 2. A random walk, which is unpredictable
    walk = _walk_control(subject, coverage)
    if walk is not None:
        text, auc, bad = walk
        value = max(value or 0.0, auc)
        facts.append(text)
        if bad:
            faults.append(text)
    if faults:
        return Finding(
            check=name,
            severity=SUSPECT,
            value=value,
            limit=LARGEST_DIRECTION_AUC,
            message=f"Too good to be true: {'; '.join(faults)}.",
            remedy="Look for a column that uses the future, a random split, or training bars among the test bars.",
            otherwise="A sound pipeline stays near the most frequent class's share and an AUC of 0.55 on hourly bars, and has "
            "no skill on a random walk.",
        )
    if not facts:
        return skipped(name, "It needs labels.", "Give labels=.")
    text = "; ".join(facts)
    return Finding(check=name, severity=OK, value=value, limit=LARGEST_DIRECTION_AUC, message=f"{text[0].upper()}{text[1:]}.")


def _scored(subject: Subject) -> list[tuple[str, float, float, float | None, float]]:
    """Return (where, accuracy, baseline, direction AUC, its slack) of the training's validation and of the tested bars."""
    result: list[tuple[str, float, float, float | None, float]] = []
    claims = subject.claims
    if {"accuracy", "majority_share"} <= claims.keys():
        result.append(("the validation range", claims["accuracy"], claims["majority_share"], claims.get("auc_buy_sell"), 0.0))
    elif (validated := _on_validation(subject)) is not None:
        result.append(validated)
    if subject.labels is not None and subject.evaluated.sum() >= FEWEST_LABELLED_BARS:
        y, p = subject.labels[subject.evaluated], subject.probabilities[subject.evaluated]
        before = np.roll(np.asarray(subject.labels), subject.horizon_bars)[subject.evaluated]
        known = before >= 0
        persistence = float((before[known] == y[known]).mean()) if known.any() else 0.0
        baseline = max(float(class_shares(y).max()), persistence)
        result.append(
            ("the tested bars", float((p.argmax(axis=1) == y).mean()), baseline, direction_auc(p, y), _slack(y, subject))
        )
    return result


def _slack(labels: IntArray, subject: Subject) -> float:
    """Return one standard deviation of an AUC of 0.5 (Mann and Whitney 1947) on labels that overlap for a horizon."""
    sell, _, buy = class_counts(labels).tolist()
    return float(np.sqrt(subject.horizon_bars * (sell + buy) / (12 * max(1, sell * buy))))


def _on_validation(subject: Subject) -> tuple[str, float, float, float | None, float] | None:
    """Score the model on the training's rows of the validation samples; None if they are not known."""
    rows, labels, mask = subject.past_rows, subject.past_labels, subject.validation
    if rows is None or labels is None or mask is None or mask.sum() < FEWEST_LABELLED_BARS:
        return None
    at = np.flatnonzero(mask)
    start, stop = max(first_complete_row(rows), int(at[0]) - subject.context), int(at[-1]) + 1
    p = np.full((len(labels), 3), np.nan)
    p[start:stop] = softmax(subject.predict_logits(rows[start:stop]))
    known = mask & (labels >= 0) & np.isfinite(p).all(axis=1)
    if known.sum() < FEWEST_LABELLED_BARS:
        return None
    y = labels[known]
    accuracy = float((p[known].argmax(axis=1) == y).mean())
    return "the validation samples", accuracy, float(class_shares(y).max()), direction_auc(p[known], y), _slack(y, subject)


def _walk_control(subject: Subject, coverage: Note) -> tuple[str, float, bool] | None:
    """Run features, labels, a cheap learner and the model on a random walk; None without labels."""
    if subject.labelled is None:
        return None
    random = subject.random(5)
    spec = subject.label_spec
    threshold = getattr(spec, "threshold", 0.01)
    volatility = max(1e-4, min(0.05, threshold / np.sqrt(subject.horizon_bars) / WALK_VOLATILITY_SHARE * 0.9))
    bars = random_walk_like(WALK_BARS, random, volatility=volatility)
    try:
        labels, rows = np.asarray(subject.labelled(bars)), subject.training_table(bars)
    except Exception:  # your own function may accept only its own bars
        return None
    half, h = len(bars) // 2, subject.horizon_bars
    at = np.arange(len(bars))
    usable = (labels >= 0) & np.isfinite(rows).all(axis=1)
    if len(np.unique(labels[usable])) < 3:
        return None
    train, test = usable & (at < half - h), usable & (at >= half + first_complete_row(rows))
    accuracy, auc = fit_and_score(rows, labels, train, test)
    majority = float(class_shares(labels[test]).max())
    coverage["walk_bars"] = len(bars)
    highest = auc or 0.5
    text = (
        f"on a random walk, which is unpredictable, a regression on the training's features has an accuracy of {accuracy:.3f} "
        f"(most frequent class {majority:.3f}, BUY-against-SELL AUC {auc or 0.5:.3f})"
    )
    start = max(half, len(bars) - 6_000)
    if subject.trained is None or subject.served.columns == subject.trained.columns:
        p = softmax(subject.predict_logits(rows[start:]))
        fits = np.isfinite(p).all(axis=1) & (labels[start:] >= 0)
        own = direction_auc(p[fits], labels[start:][fits])
        text += f", the model itself an AUC of {own if own is not None else 0.5:.3f}"
        highest = max(highest, own or 0.5)
    return text, highest, accuracy - majority > LARGEST_WALK_GAIN or highest > LARGEST_WALK_AUC
