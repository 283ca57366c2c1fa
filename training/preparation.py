"""Preparation: the samples, rows and labels that the training of a network starts from, checked before its first epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from ..arrays import Float32Array, FloatArray
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..models.kinds.scoring import ScoringOptions, score
from .base_source import BaseSource, find_base_source
from .labelled_samples import LabelledSamples, label_samples, requested_split
from .recipe import Recipe


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingSetup(LabelledSamples):
    """Everything that is known before a training begins.

    Attributes
    ----------
    base_source : BaseSource
    schema : FeatureSchema
        Its scaler is fitted on the training samples only, or is the base's own.
    rows : array of float32, shape (n, F)
        ``samples.rows``. *Causality: row t uses bars <= t.*
    """

    base_source: BaseSource
    schema: FeatureSchema
    rows: Float32Array

    @property
    def primary_rows(self) -> Float32Array:
        """The rows of the primary series, float32 (n_bars, F)."""
        return self.rows[: len(self.bars)]

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
    split = requested_split(bars, recipe, warmup_bars)
    base_source.check(bars, split.validation_range)
    base_source.text_until(recipe.text_until)  # refused before the first epoch
    labelled = label_samples(bars, more, recipe, split, warmup_bars)
    samples, stacked = labelled.samples, recipe.objective.stacked_note()
    schema = base_source.schema(samples.training_features(base_source.features))
    return TrainingSetup(
        split=labelled.split,
        samples=samples,
        uncalibrated=labelled.uncalibrated,
        notes=((stacked,) if stacked else ()) + labelled.notes,
        base_source=base_source,
        schema=schema,
        rows=samples.rows(schema),
    )
