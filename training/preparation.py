"""Preparation: the samples, rows and labels that a training starts from, checked before its first epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..arrays import Float32Array, FloatArray, IntArray
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.labels import CLASS_NAMES, Labels, class_counts
from ..data.time_range import TimeRange
from ..errors import RangeError, TrainingError
from ..models.calibration_fit import why_not_fitted
from .base_source import BaseSource, find_base_source
from .chronological_split import Split, chronological_split
from .finetune import FineTuneResult, finetune, validation_logits
from .pretrain import Base, pretrain
from .recipe import EpochProgress, Recipe, StepProgress
from .samples import Samples, gather_samples

VALIDATION_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """Everything that is known before a training begins.

    Attributes
    ----------
    ground : Ground
    split : Split
        Of the judged series.
    lessons : Lessons
        Of all series.
    schema : FeatureSchema
        Its scaler is fitted on the training samples only, or is the base's own.
    rows : array of float32, shape (n, F)
        ``lessons.rows``. *Causality: row t uses bars <= t.*
    uncalibrated : str, optional
        Why no calibration can be fitted on the validation; None where one can.
    notes : tuple of str
        What the owner of the checkpoint should know before it is trained.
    """

    ground: BaseSource
    split: Split
    lessons: Samples
    schema: FeatureSchema
    rows: Float32Array
    uncalibrated: str | None
    notes: tuple[str, ...]

    @property
    def bars(self) -> Bars:
        """The series that is judged."""
        return self.lessons.series[0]

    @property
    def judged_labels(self) -> IntArray:
        """The labels of the validation samples, -1 elsewhere, int8 (n_bars,)."""
        return np.where(self.split.validation, self.lessons.labels[: len(self.bars)], np.int8(-1))

    @property
    def judged_rows(self) -> Float32Array:
        """The rows of the judged series, float32 (n_bars, F)."""
        return self.rows[: len(self.bars)]

    def validation_logits(self, tuned: FineTuneResult) -> FloatArray:
        """Return what a model says about the validation samples (n_bars, 3), NaN elsewhere."""
        logits = validation_logits(
            tuned.model, self.bars, self.judged_rows, self.split.validation, self.ground.architecture, self.schema.warmup_bars
        )
        logits[~self.split.validation] = np.nan
        return logits


def prepare(bars: Bars, more: Sequence[Bars], recipe: Recipe, ground: BaseSource | None = None) -> TrainingSetup:
    """Return what a training by ``recipe`` starts from, on its ground if that is laid; ``train`` says what is refused."""
    ground = ground or find_base_source(recipe.preset, recipe.base, recipe.base_layers, recipe.features)
    looks_back = ground.features.warmup_bars + ground.architecture.receptive_bars
    split = _split(bars, recipe, looks_back)
    ground.check(bars, split.validation_range)
    lessons = gather_samples(
        bars,
        more,
        labels=recipe.labels,
        training=split.training,
        warmup_bars=looks_back,
        within=TimeRange(recipe.training.start, split.training_range.stop),
    )
    # Where 168 bars stand still there is no volatility, and a triple barrier has no label: no sample of either side
    labelled = lessons.labels >= 0
    lessons = replace(lessons, training=lessons.training & labelled)
    own = labelled[: len(bars)]
    split = replace(split, training=split.training & own, validation=split.validation & own)
    if not split.validation.any():
        raise RangeError(
            f"--validation {split.validation_range}: none of its bars has a label of {recipe.labels}, since prices stand "
            "still there. Choose another range, or labels of the kind horizon."
        )
    counts = class_counts(lessons.labels[lessons.training])
    if (counts == 0).any():
        raise TrainingError(
            f"the class {CLASS_NAMES[int(np.argmin(counts))]} never occurs among the {counts.sum():,} training labels "
            f"({', '.join(f'{name} {n:,}' for name, n in zip(CLASS_NAMES, counts, strict=True))}). "
            "Use a longer range, or labels of a smaller threshold or nearer barriers."
        )
    schema = ground.schema(lessons.sampled(ground.features))
    uncalibrated = why_not_fitted(lessons.labels[: len(bars)][split.validation])
    without = (
        f"No calibration can be fitted on the validation {split.validation_range}: {uncalibrated}. The checkpoint is written "
        "without one, to be run with --calibration none or one of your own (flagbt calibrate). For a calibration, give a "
        "longer --validation, or --labels of a smaller threshold or nearer barriers."
    )
    notes = (recipe.objective.stacked_note(), without if uncalibrated else None)
    return TrainingSetup(ground, split, lessons, schema, lessons.rows(schema), uncalibrated, tuple(filter(None, notes)))


def learn(
    recipe: Recipe,
    ready: TrainingSetup,
    *,
    device: torch.device,
    work: Path | None = None,
    report_to: str | None = None,
    on_collapse: str = "warn",
    watch: Callable[[EpochProgress], None] = lambda _progress: None,
    on_step: Callable[[StepProgress], None] = lambda _step: None,
) -> tuple[Base, FineTuneResult]:
    """Return the base and what fine-tuning made of it; ``work`` is where every epoch is saved, None for nowhere."""
    ground, rows, first_row = ready.ground, ready.rows, ready.schema.warmup_bars
    base = ground.base(recipe.pretraining.seed) or pretrain(
        ready.lessons,
        rows,
        architecture=ground.architecture,
        first_row=first_row,
        schedule=recipe.pretraining,
        device=device,
        on_epoch_end=lambda epoch, loss: watch(
            EpochProgress("pretraining", recipe.pretraining.epochs, {"epoch": epoch, "train_loss": loss})
        ),
        on_step=lambda *step: on_step(StepProgress("pretraining", recipe.pretraining.epochs, *step)),
        folder=work and work / "pretraining",
    )
    tuned = finetune(
        ready.bars,
        ready.lessons,
        rows,
        ready.split.validation,
        base.weights,
        architecture=ground.architecture,
        lora=ground.lora(recipe.lora),
        objective=recipe.objective,
        schedule=recipe.schedule,
        first_row=first_row,
        device=device,
        on_epoch_end=lambda entry: watch(EpochProgress("training", recipe.schedule.epochs, entry)),
        on_step=lambda *step: on_step(StepProgress("training", recipe.schedule.epochs, *step)),
        folder=work and work / "training",
        report_to=report_to,
        best_by=recipe.best_by,
        on_collapse=on_collapse,
    )
    return base, tuned


def class_returns(lessons: Samples, labels: Labels) -> FloatArray:
    """Return the mean forward return of the training samples labelled SELL, HOLD, BUY, as fractions, shape (3,).

    Of the judged series; of all of them for a class that never occurs in its own samples.
    """
    change, label = lessons.of_each(labels.forward_return), np.where(lessons.training, lessons.labels, np.int8(-1))
    own = len(lessons.series[0])
    means = []
    for c in range(3):
        mine = change[:own][label[:own] == c]
        means.append((mine if len(mine) else change[label == c]).mean())
    return np.array(means)


def _split(bars: Bars, recipe: Recipe, warmup_bars: int) -> Split:
    training, validation = recipe.training, recipe.validation
    if validation is None:
        part = bars.between(training)
        cut = part.start + int((1 - VALIDATION_SHARE) * (part.stop - part.start))
        if part.stop - part.start < 2:
            raise RangeError(f"--timerange {training}: the file has no bars there.")
        validation = TimeRange(bars.time[cut], training.stop)
        training = TimeRange(training.start, bars.time[cut])
    elif training.stop is None:
        training = TimeRange(training.start, validation.start)
    return chronological_split(
        bars, recipe.labels, training=training, validation=validation, warmup_bars=warmup_bars, embargo_bars=recipe.embargo_bars
    )
