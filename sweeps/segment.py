"""A segment: the bars of one range of a sweep, with what is known of them before the work."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import FloatArray, IntArray
from ..data.bars import Bars
from ..data.time_range import TimeRange
from ..engine.replay import last_bars_of_days


@dataclass(frozen=True, eq=False)
class Segment:
    """The bars of one range, with each model's logits and labels: ranked on, or the hold-out.

    Attributes
    ----------
    timerange : TimeRange
    bars : Bars
        The traded bars, none outside the range.
    logits : tuple of array, each of shape (n_bars, 3)
        One per model of the grid, NaN in its warm-up.
    labels : tuple of array of int8, each of shape (n_bars,)
        One per model; -1 where the label needs bars after the range.
    before : Bars, optional
        The bars with those before the range that a strategy's warm-up needs; they end with the range.
    """

    timerange: TimeRange
    bars: Bars
    logits: tuple[FloatArray, ...] = ()
    labels: tuple[IntArray, ...] = ()
    before: Bars | None = None

    @property
    def history(self) -> Bars:
        """The bars with those before the range; only the range's where none are needed."""
        return self.bars if self.before is None else self.before

    @property
    def n_days(self) -> int:
        """The number of UTC days from the first bar to the last."""
        return len(last_bars_of_days(self.bars.time))
