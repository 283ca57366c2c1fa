"""The split: count validation samples close to a training sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import BoolArray
from ..cheap_learners import neighbour_accuracy
from ..check import TRAINING_FILE, Check, Symptom
from ..counterfactual import Ablation, compare_scores, scores_by_samples
from ..finding import BROKEN, OK, SUSPECT, WARNING, Evidence, Finding, skipped
from ..subject import Subject

LARGEST_NEIGHBOURS = 0.05
SPLIT_ROWS = 6_000


@dataclass(frozen=True)
class MemoryScore:
    """The accuracy of a memorising learner on a shuffled and on a purged split of ``rows`` rows."""

    shuffled: float
    purged: float
    rows: int

    def __str__(self) -> str:
        return (
            f"On these rows a memorising learner (nearest neighbour) scores {self.shuffled:.3f} on a shuffled split and "
            f"{self.purged:.3f} on a purged one."
        )


@dataclass(frozen=True)
class NearSamples(Evidence):
    """The share of validation samples close to a training sample, and what a memorising learner gains from such a split."""

    near_share: float
    samples: int
    memory: MemoryScore | None


def _run(subject: Subject) -> Finding:
    """Count validation samples close to a training sample, and measure the gain from a shuffled split.

    Labels of bars closer than the horizon overlap, and so do windows of features: the model has seen such a validation sample
    (Lopez de Prado 2018, chapter 7).
    """
    memory = _memory_score(subject)
    examined = {} if memory is None else {"split_rows": memory.rows}
    control = "" if memory is None else str(memory)
    if subject.training is None or subject.validation is None or not subject.training.any() or not subject.validation.any():
        why = f"The training and validation samples are not known. {control}".strip()
        from_file = subject.checkpoint is not None and not subject.checkpoint.imported
        remedy = subject.remedy("Give training= and validation=.", TRAINING_FILE if from_file else "")
        return skipped(why, remedy, examined=examined)
    near = _near(subject.validation, subject.training, subject.horizon_bars)
    found = NearSamples(float(near.sum() / subject.validation.sum()), int(subject.validation.sum()), memory)
    share = found.near_share
    examined["validation_samples"] = found.samples
    message = (
        f"{100 * share:.1f} % of the {found.samples:,} validation samples are within {subject.horizon_bars} bars of a training "
        "sample"
    )
    if share > LARGEST_NEIGHBOURS:
        return Finding(
            severity=BROKEN if share > 0.5 else SUSPECT,
            value=share,
            limit=LARGEST_NEIGHBOURS,
            message=f"{message}: they share most of their label and features with training bars, so the validation score "
            f"measures memory. {control}",
            remedy="Split by time, leave out the samples whose windows overlap (purge), and validate again.",
            otherwise="A purged split by time has no such samples.",
            evidence=found,
            examined=examined,
        )
    return Finding(
        severity=WARNING if share > 0 else OK,
        value=share,
        limit=LARGEST_NEIGHBOURS,
        message=f"{message}. {control}".strip(),
        remedy="Leave out the samples at the boundary whose labels overlap." if share > 0 else "",
        evidence=found,
        examined=examined,
    )


def _near(some: BoolArray, others: BoolArray, distance: int) -> BoolArray:
    """Return which of ``some`` are within ``distance`` places of one of ``others``."""
    at = np.flatnonzero(others)
    where = np.arange(len(some))
    right = np.clip(np.searchsorted(at, where), 0, len(at) - 1)
    left = np.clip(right - 1, 0, len(at) - 1)
    gap = np.minimum(np.abs(at[right] - where), np.abs(at[left] - where))
    return np.asarray(some & (gap <= distance))


def _memory_score(subject: Subject) -> MemoryScore | None:
    """Score a memorising learner on a shuffled and on a purged split; None with too few labelled rows, or none."""
    past, labels = (subject.past_rows, subject.past_labels) if subject.past is not None else (subject.rows, subject.labels)
    if labels is None or past is None or subject.reads_bars:
        return None
    usable = np.flatnonzero((labels >= 0) & np.isfinite(past).all(axis=1))[-SPLIT_ROWS:]
    if len(usable) < 1_000:
        return None
    rows, y = past[usable], labels[usable]
    n, cut, gap = len(usable), int(0.7 * len(usable)), subject.horizon_bars + min(168, subject.context)
    mixed = subject.random(6).permutation(n)
    shuffled = neighbour_accuracy(rows, y, mixed[:cut], mixed[cut:])
    purged = neighbour_accuracy(rows, y, np.arange(cut - gap), np.arange(cut, n))
    return MemoryScore(shuffled, purged, n)


def _undo(subject: Subject, _found: NearSamples) -> Ablation | None:
    scored = scores_by_samples(subject)
    if scored is None:
        return None
    validated, tested = scored
    return compare_scores(validated, tested, "On the tested bars, which are not close to training samples")


CHECK = Check(
    name="leaky-split",
    rank=70,
    method="count validation samples close to training samples; score a memorising learner on a shuffled and a purged split",
    run=_run,
    evidence=NearSamples,
    causes=(Symptom.HIGH_SCORE,),
    undo=_undo,
)
