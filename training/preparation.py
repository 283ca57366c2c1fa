"""Preparation: the samples, rows and labels that a training starts from, checked before its first epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from ..arrays import Float32Array, FloatArray, IntArray
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.labels import CLASS_NAMES, Labels, class_counts
from ..data.time_range import TimeRange
from ..errors import RangeError, TrainingError
from ..models.calibration_fit import why_not_fitted
from ..models.kinds.scoring import ScoringOptions, score
from .base_source import BaseSource, find_base_source
from .chronological_split import Split, chronological_split
from .recipe import Recipe
from .samples import Samples, gather_samples

VALIDATION_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """Everything that is known before a training begins.

    Attributes
    ----------
    base_source : BaseSource
    split : Split
        Of the primary series.
    samples : Samples
        Of all series.
    schema : FeatureSchema
        Its scaler is fitted on the training samples only, or is the base's own.
    rows : array of float32, shape (n, F)
        ``samples.rows``. *Causality: row t uses bars <= t.*
    uncalibrated : str, optional
        Why no calibration can be fitted on the validation; None where one can.
    notes : tuple of str
        What the checkpoint's owner should know before the training.
    """

    base_source: BaseSource
    split: Split
    samples: Samples
    schema: FeatureSchema
    rows: Float32Array
    uncalibrated: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def bars(self) -> Bars:
        """The primary series."""
        return self.samples.series[0]

    @property
    def primary_rows(self) -> Float32Array:
        """The rows of the primary series, float32 (n_bars, F)."""
        return self.rows[: len(self.bars)]

    @property
    def training_labels(self) -> IntArray:
        """The labels of the training samples of all series, int8 (n_samples,)."""
        return self.samples.labels[self.samples.training]

    @property
    def validation_labels(self) -> IntArray:
        """The labels of the validation samples, -1 elsewhere, int8 (n_bars,)."""
        return np.where(self.split.validation, self.samples.labels[: len(self.bars)], np.int8(-1))

    def validation_logits(self, model: nn.Module, *, pause: Callable[[], None] = lambda: None) -> FloatArray:
        """Return a model's logits of the validation samples, NaN elsewhere, float64 (n_bars, 3).

        They are computed as in a run. ``pause`` is called after each forward pass.
        """
        at = np.flatnonzero(self.split.validation)
        logits = score(
            model,
            self.primary_rows,
            self.bars,
            architecture=self.base_source.architecture,
            warmup_bars=self.schema.warmup_bars,
            first=int(at[0]),
            stop=int(at[-1]) + 1,
            options=ScoringOptions(progress=lambda _done, _total: pause()),
        )
        logits[~self.split.validation] = np.nan
        return logits


def prepare(bars: Bars, more: Sequence[Bars], recipe: Recipe, base_source: BaseSource | None = None) -> TrainingSetup:
    """Check everything that can be known before the first epoch, and return what a training starts from.

    Parameters
    ----------
    more : sequence of Bars
        Other series to train on.
    base_source : BaseSource, optional
        By default the one that ``recipe`` names.

    Raises
    ------
    CheckpointError, RangeError, TrainingError, DataError, UsageError
        As listed for ``train``.
    """
    base_source = base_source or find_base_source(recipe.preset, recipe.base, recipe.base_layers, recipe.features)
    warmup_bars = base_source.features.warmup_bars + base_source.architecture.receptive_bars
    split = _split(bars, recipe, warmup_bars)
    base_source.check(bars, split.validation_range)
    base_source.text_until(recipe.text_until)  # refused before the first epoch
    samples = gather_samples(
        bars,
        more,
        labels=recipe.labels,
        training=split.training,
        warmup_bars=warmup_bars,
        within=TimeRange(recipe.training.start, split.training_range.stop),
    )
    # A bar has no triple-barrier label where the price is constant over 168 bars, since there is no volatility
    labelled = samples.labels >= 0
    samples = replace(samples, training=samples.training & labelled)
    own = labelled[: len(bars)]
    split = replace(split, training=split.training & own, validation=split.validation & own)
    if not split.validation.any():
        raise RangeError(
            f"--validation {split.validation_range}: none of its bars has a label of {recipe.labels}, since prices are "
            "constant there. Choose another range, or labels of the kind horizon."
        )
    counts = class_counts(samples.labels[samples.training])
    if (counts == 0).any():
        raise TrainingError(
            f"the class {CLASS_NAMES[int(np.argmin(counts))]} never occurs among the {counts.sum():,} training labels "
            f"({', '.join(f'{name} {n:,}' for name, n in zip(CLASS_NAMES, counts, strict=True))}). "
            "Use a longer range, or labels of a smaller threshold or nearer barriers."
        )
    schema = base_source.schema(samples.training_features(base_source.features))
    uncalibrated = why_not_fitted(samples.labels[: len(bars)][split.validation])
    without = (
        f"No calibration can be fitted on the validation {split.validation_range}: {uncalibrated}. The checkpoint is written "
        "without one, to be run with --calibration none or one of your own (flagbt calibrate). For a calibration, give a "
        "longer --validation, or --labels of a smaller threshold or nearer barriers."
    )
    notes = (recipe.objective.stacked_note(), without if uncalibrated else None)
    return TrainingSetup(
        base_source, split, samples, schema, samples.rows(schema), uncalibrated, tuple(note for note in notes if note)
    )


def class_returns(samples: Samples, labels: Labels) -> FloatArray:
    """Return the mean forward return of the training samples labelled SELL, HOLD, BUY, as fractions, shape (3,).

    They are those of the primary series; for a class that it lacks, those of all series.
    """
    change, label = samples.of_each(labels.forward_return), np.where(samples.training, samples.labels, np.int8(-1))
    own = len(samples.series[0])
    means = []
    for c in range(3):
        primary = change[:own][label[:own] == c]
        means.append((primary if len(primary) else change[label == c]).mean())
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
