"""Labelled samples: the split into training and validation samples that any training starts from, checked before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import FloatArray, IntArray
from ..data.bars import Bars
from ..data.labels import CLASS_NAMES, Labels, class_counts
from ..data.time_range import TimeRange
from ..errors import RangeError, TrainingError
from ..models.calibration_fit import fit_calibration, why_not_fitted
from ..models.checkpoint import StoredCalibration
from ..models.decision import choose_decision
from .chronological_split import Split, chronological_split
from .samples import Samples, gather_samples

if TYPE_CHECKING:
    from .fit_recipe import FitRecipe
    from .recipe import Recipe

VALIDATION_SHARE = 0.2


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledSamples:
    """The samples of a training and of its validation.

    Attributes
    ----------
    split : Split
        Of the primary series.
    samples : Samples
        Of all series.
    uncalibrated : str, optional
        Why no calibration can be fitted on the validation; None where one can.
    notes : tuple of str
        What the checkpoint's owner should know before the training.
    """

    split: Split
    samples: Samples
    uncalibrated: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def bars(self) -> Bars:
        """The primary series."""
        return self.samples.series[0]

    @property
    def training_labels(self) -> IntArray:
        """The labels of the training samples of all series, int8 (n_samples,)."""
        return self.samples.labels[self.samples.training]

    @property
    def validation_labels(self) -> IntArray:
        """The labels of the validation samples, -1 elsewhere, int8 (n_bars,)."""
        return np.where(self.split.validation, self.samples.labels[: len(self.bars)], np.int8(-1))

    def calibration(self, logits: FloatArray, labels: Labels, correction: FloatArray) -> StoredCalibration | None:
        """Fit a temperature on the validation samples, and choose the decision rule for it; None where none can be fitted.

        Parameters
        ----------
        logits : array, shape (n_bars, 3)
        correction : array, shape (3,)
            What removes the effect of the training's weights from the logits.
        """
        if self.uncalibrated:
            return None
        known, on = self.validation_labels, str(self.split.validation_range)
        fitted = fit_calibration("temperature", logits, known, fitted_on=on, shift=correction)
        decision = choose_decision(
            fitted(logits[self.split.validation]),
            known,
            class_returns=class_returns(self.samples, labels),
            step_hours=self.bars.step_hours,
        )
        return StoredCalibration(fitted, decision)


def label_samples(
    bars: Bars, more: Sequence[Bars], recipe: Recipe | FitRecipe, split: Split, warmup_bars: int
) -> LabelledSamples:
    """Return the labelled samples of all series, those of ``bars`` as ``split`` marks them.

    Parameters
    ----------
    more : sequence of Bars
        Other series to train on.
    warmup_bars : int
        Of the features and the model's receptive field together.

    Raises
    ------
    RangeError, TrainingError, DataError
        When a series has no sample, the validation no label, or the training labels lack a class.
    """
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
    uncalibrated = why_not_fitted(samples.labels[: len(bars)][split.validation])
    without = (
        f"No calibration can be fitted on the validation {split.validation_range}: {uncalibrated}. The checkpoint is written "
        "without one, to be run with --calibration none or one of your own (flagbt calibrate). For a calibration, give a "
        "longer --validation, or --labels of a smaller threshold or nearer barriers."
    )
    return LabelledSamples(split=split, samples=samples, uncalibrated=uncalibrated, notes=(without,) if uncalibrated else ())


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


def requested_split(bars: Bars, recipe: Recipe | FitRecipe, warmup_bars: int) -> Split:
    """Return the split of the primary series; without a validation, the last fifth of the range is one.

    Raises
    ------
    RangeError
        As in ``chronological_split``.
    """
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
