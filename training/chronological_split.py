"""Chronological splits: training samples, and later validation samples. No bar is used by samples of both sides.

After the purging and the embargo of Lopez de Prado (2018), Advances in Financial Machine Learning, chapter 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray
from ..data.bars import Bars, utc
from ..data.labels import Labels
from ..data.time_range import TimeRange
from ..errors import RangeError


@dataclass(frozen=True, eq=False)
class Split:
    """Which bars are training samples and which are validation samples.

    Attributes
    ----------
    training, validation : array of bool, shape (n_bars,)
    training_range, validation_range : TimeRange
        The requested ranges, cut to the bars of the series.
    """

    training: BoolArray
    validation: BoolArray
    training_range: TimeRange
    validation_range: TimeRange


def chronological_split(
    bars: Bars, labels: Labels, *, training: TimeRange, validation: TimeRange, warmup_bars: int, embargo_bars: int = 0
) -> Split:
    """Mark the samples of both sides, and purge exactly those that use a bar of the other side.

    The sample of bar t uses the bars [t - b, t + h]: h is the labels' ``horizon_bars``, and b, its context, is the larger of
    ``warmup_bars`` and the labels' ``history_bars``. Then

    - a training sample is a bar of ``training`` that has b bars before it and uses no bar after ``training`` and none of
      ``validation``: its label's window is purged;
    - a validation sample is a bar of ``validation`` that uses no bar after ``validation``, no bar of ``training`` (or before),
      and none of the ``embargo_bars`` bars that follow ``training``: its context is purged as well.

    So no bar is used on both sides: neither the validation scores nor a calibration depend on training bars.
    ``validation_range`` still contains the whole of ``validation``: its first bars are not samples, but the model has seen
    them as context.

    Parameters
    ----------
    warmup_bars : int
        Of the features and the model's receptive field together.
    embargo_bars : int
        How many bars after ``training`` no validation sample may use, 0 or more.

    Raises
    ------
    RangeError
        When the ranges overlap, the validation does not follow the training, or a side has no sample.
    """
    if training.overlaps(validation) or (validation.start is None):
        raise RangeError(
            f"--timerange {training} and --validation {validation} overlap, or the validation has no start. "
            "The validation must begin where the training ends or later."
        )
    train, valid = bars.between(training), bars.between(validation)
    if train.stop > valid.start:
        raise RangeError(
            f"--validation {validation} starts before the training range {training} ends: a model is validated on later bars. "
            "Choose a later --validation."
        )
    before, after = max(warmup_bars, labels.history_bars), labels.horizon_bars
    free = train.stop + embargo_bars  # the first bar that a validation sample may use
    marks = {}
    for name, part, first in (("training", train, before), ("validation", valid, free + before)):
        mark = np.zeros(len(bars), dtype=bool)
        mark[max(part.start, first) : max(0, part.stop - after)] = True
        if not mark.any():
            raise RangeError(
                _no_sample(bars, name, training if name == "training" else validation, part, before, after, embargo_bars)
            )
        marks[name] = mark
    return Split(marks["training"], marks["validation"], _cut(bars, train), _cut(bars, valid))


def _no_sample(bars: Bars, name: str, wanted: TimeRange, part: slice, before: int, after: int, embargo_bars: int) -> str:
    whole = f"({utc(bars.time[0])} .. {utc(bars.time[-1])} in all)"
    if name == "training":
        why = f"{before:,} go to the warm-up and {after} to the label. Choose a longer range."
    else:
        why = (
            f"a sample there uses no bar of the training range and none of the {embargo_bars:,} bars of --embargo-bars after "
            f"it, but {before:,} bars before its own and {after} after. Choose a longer --validation"
            f"{', or a smaller --embargo-bars' if embargo_bars else ''}."
        )
    return f"the {name} range {wanted} leaves no sample: the file has {part.stop - part.start:,} bars there {whole}, {why}"


def _cut(bars: Bars, part: slice) -> TimeRange:
    return TimeRange(bars.time[part.start].astype("datetime64[ns]"), bars.time[part.stop - 1] + bars.step)
