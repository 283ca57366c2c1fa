"""Samples: the rows of one or more series of bars end to end, and which of them are training samples.

A model of one market learns more from several. Only the first, the primary series, is validated; the others are cut where its
training range ends, so that no other market reveals anything about the validation's days.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..arrays import BoolArray, Float32Array, FloatArray, IntArray
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.features import FeatureSet
from ..data.labels import Labels
from ..data.time_range import TimeRange
from ..errors import DataError, RangeError

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Samples:
    """Series of bars end to end, the primary one first; n bars in all.

    A training sample has its whole context in its own series, so no sample crosses a seam.

    Attributes
    ----------
    series : tuple of Bars
    labels : array of int8, shape (n,)
        SELL=0, HOLD=1, BUY=2.
    training : array of bool, shape (n,)
        Which bars are training samples.
    seen : TimeRange
        From the first to the last bar of any series in the training range.
    """

    series: tuple[Bars, ...]
    labels: IntArray
    training: BoolArray
    seen: TimeRange

    def training_features(self, features: FeatureSet) -> FloatArray:
        """Return the unscaled features of the training samples, float64 (n_samples, F)."""
        result: FloatArray = self.of_each(features)[self.training]
        return result

    def rows(self, schema: FeatureSchema) -> Float32Array:
        """Return the rows that a model reads, float32 (n, F); 0 in the warm-ups, which no sample uses."""
        rows: Float32Array = self.of_each(schema.rows)
        rows[np.isnan(rows)] = 0.0
        return rows

    def of_each(self, compute: Callable[[Bars], npt.NDArray[Scalar]]) -> npt.NDArray[Scalar]:
        """Return the results of ``compute`` for every series, end to end."""
        return np.concatenate([compute(each) for each in self.series])


def gather_samples(
    bars: Bars, more: Sequence[Bars], *, labels: Labels, training: BoolArray, within: TimeRange, warmup_bars: int
) -> Samples:
    """Put series end to end. *Causality: a sample's label uses no bar after the training range.*

    Parameters
    ----------
    bars : Bars
        The primary series, the only one to be validated.
    more : sequence of Bars
        Other series to train on, of the same step.
    training : array of bool, shape (n_bars,)
        The training samples of ``bars``.
    within : TimeRange
        The training range; a sample of another series has its label's window in it.
    warmup_bars : int
        Of the features and the model's receptive field together.

    Raises
    ------
    DataError
        When a series has a different step than ``bars``, or is given twice.
    RangeError
        When a series has no sample in the range.
    """
    first, marks, given = bars.between(within), [training], {bars.digest: bars.source}
    start, stop = bars.time[first.start], bars.time[first.stop - 1] + bars.step
    for other in more:
        if other.step != bars.step:
            raise DataError(
                f"--more-data: {other.source} has bars of {other.step_hours:g} hours, {bars.source} of {bars.step_hours:g}. "
                "One model has one step: leave that file out, or resample it."
            )
        if other.digest in given:
            raise DataError(
                f"--more-data: {other.source} contains the same bars as {given[other.digest]}. Give each series once: "
                "twice would only double its weight."
            )
        given[other.digest] = other.source
        part, mark = other.between(within), np.zeros(len(other), dtype=bool)
        mark[max(part.start, warmup_bars, labels.history_bars) : max(0, part.stop - labels.horizon_bars)] = True
        if not mark.any():
            raise RangeError(
                f"--more-data: {other.source} leaves no sample in the training range {within}: it has "
                f"{part.stop - part.start:,} bars there, {warmup_bars:,} of the file go to the warm-up and "
                f"{labels.horizon_bars} to the label. Leave it out, or choose a longer --timerange."
            )
        marks.append(mark)
        start, stop = min(start, other.time[part.start]), max(stop, other.time[part.stop - 1] + other.step)
    series = (bars, *more)
    return Samples(
        series, np.concatenate([labels.labels(each) for each in series]), np.concatenate(marks), TimeRange(start, stop)
    )
