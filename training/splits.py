"""Chronological splits: what may teach, what may only judge. Nothing after the validation start enters training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.bars import Bars, utc
from ..data.labels import LabelSpec
from ..data.timerange import TimeRange
from ..errors import RangeError

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """Which bars are training samples and which are validation samples.

    Attributes
    ----------
    training, validation : array of bool, shape (n_bars,)
    training_range, validation_range : TimeRange
        As asked for, cut to the bars that there are.
    """

    training: BoolArray
    validation: BoolArray
    training_range: TimeRange
    validation_range: TimeRange


def chronological_split(
    bars: Bars, labels: LabelSpec, *, training: TimeRange, validation: TimeRange, warmup_bars: int
) -> Split:
    """Mark the samples of both sides, purged by the label's horizon.

    A bar is a training sample when it opens in ``training``, has ``warmup_bars`` bars before it, and the close that its
    label looks at lies before the validation starts. A validation sample's label must lie inside ``validation``.

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
            f"--validation {validation} starts before the training range {training} ends: a model is judged on later bars."
        )
    marks = {}
    for name, part, limit in (("training", train, min(train.stop, valid.start)), ("validation", valid, valid.stop)):
        mark = np.zeros(len(bars), dtype=bool)
        mark[max(part.start, warmup_bars) : max(0, limit - labels.horizon_bars)] = True
        if not mark.any():
            raise RangeError(
                f"the {name} range {training if name == 'training' else validation} leaves no sample: the file has "
                f"{part.stop - part.start:,} bars there ({utc(bars.time[0])} .. {utc(bars.time[-1])} in all), "
                f"{warmup_bars:,} go to the warm-up and {labels.horizon_bars} to the label. Choose a longer range."
            )
        marks[name] = mark
    return Split(
        marks["training"], marks["validation"], _cut(bars, train), _cut(bars, valid),
    )  # fmt: skip


def _cut(bars: Bars, part: slice) -> TimeRange:
    return TimeRange(bars.time[part.start].astype("datetime64[ns]"), bars.time[part.stop - 1] + bars.step)
