"""Too good to be true: implausibly high scores, and skill of the same pipeline on a random walk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...data.labels import class_counts, class_shares
from ...models.statistics import direction_auc, softmax
from ...training.collapse_guard import LARGEST_ACCURACY_GAIN, LARGEST_DIRECTION_AUC
from ..cheap_learners import fit_and_score
from ..check import FEWEST_LABELLED_BARS, Check, Symptom
from ..feature_table import first_complete_row
from ..finding import OK, SUSPECT, Evidence, Finding, skipped
from ..perturbed_bars import random_walk_like
from ..subject import Subject

WALK_BARS = 16_000
LARGEST_WALK_AUC = 0.62
LARGEST_WALK_GAIN = 0.08
WALK_VOLATILITY_SHARE = 0.605  # of threshold / sqrt(horizon): then about half of the labels are HOLD


@dataclass(frozen=True)
class BarScore:
    """Scores on some bars against the better of the most frequent class and the last label.

    ``auc`` is that of BUY against SELL, None if a side is empty; ``slack`` is one standard deviation of it by chance.
    """

    where: str
    accuracy: float
    baseline: float
    auc: float | None
    slack: float

    @property
    def is_too_good(self) -> bool:
        """Whether a score is above the plausible limits."""
        gain = self.accuracy - self.baseline
        return gain > LARGEST_ACCURACY_GAIN or (self.auc is not None and self.auc - self.slack > LARGEST_DIRECTION_AUC)

    def __str__(self) -> str:
        return (
            f"{self.where}: accuracy {self.accuracy:.3f} against {self.baseline:.3f} for the better of the most frequent class "
            f"and the last label{'' if self.auc is None else f', BUY-against-SELL AUC {self.auc:.3f}'}"
        )


@dataclass(frozen=True)
class WalkScore:
    """Scores of the same pipeline on a random walk: a regression on the features, and the model itself if it could run."""

    accuracy: float
    majority: float
    auc: float
    model_auc: float | None
    bars: int

    @property
    def highest_auc(self) -> float:
        """The higher AUC of the two."""
        return max(self.auc, self.model_auc or 0.5)

    @property
    def is_too_good(self) -> bool:
        """Whether it has skill, where there is nothing to know."""
        return self.accuracy - self.majority > LARGEST_WALK_GAIN or self.highest_auc > LARGEST_WALK_AUC

    def __str__(self) -> str:
        model = "" if self.model_auc is None else f", the model itself an AUC of {self.model_auc:.3f}"
        return (
            "on a random walk, which is unpredictable, a regression on the training's features has an accuracy of "
            f"{self.accuracy:.3f} (most frequent class {self.majority:.3f}, BUY-against-SELL AUC {self.auc:.3f}){model}"
        )


@dataclass(frozen=True)
class PlausibleScores(Evidence):
    """The scores of the training and of the tested bars, and those on a random walk."""

    scores: tuple[BarScore, ...]
    walk: WalkScore | None


def _run(subject: Subject) -> Finding:
    """Compare the scores with plausible limits, and run the same pipeline on a random walk, which is unpredictable."""
    found = PlausibleScores(tuple(_scored(subject)), _walk_score(subject))
    facts: list[BarScore | WalkScore] = [*found.scores, *([] if found.walk is None else [found.walk])]
    faults = [str(each) for each in facts if each.is_too_good]
    if not facts and subject.labelled is not None:
        return skipped(f"It needs {FEWEST_LABELLED_BARS} labelled bars.", "Give a longer range.")
    if not facts:
        return skipped("It needs labels.", subject.remedy("Give labels=."))
    value = max([each.auc or 0.0 for each in found.scores] + [each.highest_auc for each in [found.walk] if each])
    examined = {} if found.walk is None else {"walk_bars": found.walk.bars}
    if faults:
        return Finding(
            severity=SUSPECT,
            value=value,
            limit=LARGEST_DIRECTION_AUC,
            message=f"Too good to be true: {'; '.join(faults)}.",
            remedy="Look for a column that uses the future, a random split, or training bars among the test bars.",
            otherwise="A sound pipeline stays near the most frequent class's share and an AUC of 0.55 on hourly bars, and has "
            "no skill on a random walk.",
            evidence=found,
            examined=examined,
        )
    text = "; ".join(map(str, facts))
    return Finding(
        severity=OK,
        value=value,
        limit=LARGEST_DIRECTION_AUC,
        message=f"{text[0].upper()}{text[1:]}.",
        evidence=found,
        examined=examined,
    )


def _scored(subject: Subject) -> list[BarScore]:
    """Return the scores of the training's validation and of the tested bars."""
    result: list[BarScore] = []
    claims = subject.claims
    if {"accuracy", "majority_share"} <= claims.keys():
        accuracy, majority = claims["accuracy"], claims["majority_share"]
        result.append(BarScore("the validation range", accuracy, majority, claims.get("auc_buy_sell"), 0.0))
    elif (validated := _on_validation(subject)) is not None:
        result.append(validated)
    if subject.labels is not None and subject.evaluated.sum() >= FEWEST_LABELLED_BARS:
        y, p = subject.labels[subject.evaluated], subject.probabilities[subject.evaluated]
        before = np.roll(np.asarray(subject.labels), subject.horizon_bars)[subject.evaluated]
        known = before >= 0
        persistence = float((before[known] == y[known]).mean()) if known.any() else 0.0
        baseline = max(float(class_shares(y).max()), persistence)
        accuracy = float((p.argmax(axis=1) == y).mean())
        result.append(BarScore("the tested bars", accuracy, baseline, direction_auc(p, y), _slack(y, subject)))
    return result


def _slack(labels: IntArray, subject: Subject) -> float:
    """Return one standard deviation of an AUC of 0.5 (Mann and Whitney 1947) on labels that overlap for a horizon."""
    sell, _, buy = class_counts(labels).tolist()
    return float(np.sqrt(subject.horizon_bars * (sell + buy) / (12 * max(1, sell * buy))))


def _on_validation(subject: Subject) -> BarScore | None:
    """Score the model on the training's rows of the validation samples; None if they are not known."""
    labels, mask = subject.past_labels, subject.validation
    if labels is None or mask is None or mask.sum() < FEWEST_LABELLED_BARS:
        return None
    logits = subject.past_logits(mask)
    if logits is None:
        return None
    p = softmax(logits)
    known = mask & (labels >= 0) & np.isfinite(p).all(axis=1)
    if known.sum() < FEWEST_LABELLED_BARS:
        return None
    y = labels[known]
    accuracy = float((p[known].argmax(axis=1) == y).mean())
    majority = float(class_shares(y).max())
    return BarScore("the validation samples", accuracy, majority, direction_auc(p[known], y), _slack(y, subject))


def _walk_score(subject: Subject) -> WalkScore | None:
    """Run features, labels, a cheap learner and the model on a random walk; None without labels, or without features."""
    if subject.labelled is None or subject.reads_bars:
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
    start, own = max(half, len(bars) - 6_000), None
    if subject.trained is None or subject.served.columns == subject.trained.columns:
        p = softmax(subject.predict_logits(rows[start:]))
        fits = np.isfinite(p).all(axis=1) & (labels[start:] >= 0)
        measured = direction_auc(p[fits], labels[start:][fits])
        own = 0.5 if measured is None else measured
    return WalkScore(accuracy, majority, auc or 0.5, own, len(bars))


CHECK = Check(
    name="too-good",
    rank=130,
    method="compare accuracy and AUC with plausible limits; run features, labels and model on a random walk, which is "
    "unpredictable",
    run=_run,
    evidence=PlausibleScores,
    follows=(Symptom.HIGH_SCORE,),
)
