"""FitRecipe: everything that determines the fit of a model other than a network, besides the bars."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..data.labels import Labels, LabelSpec
from ..data.time_range import TimeRange


@dataclass(frozen=True, kw_only=True)
class FitRecipe:
    """Everything that determines a fit, besides the bars.

    Parameters
    ----------
    model : str
        The kind of model, ``KIND`` or ``KIND:ARGUMENT``.
    training, validation : TimeRange
        By default the validation is the last fifth of the training range.
    features : str
        A feature set's name.
    labels : LabelSpec or TripleBarrier
    embargo_bars : int
        How many bars after the training range no validation sample may use.
    seed : int
    """

    model: str
    training: TimeRange = field(default_factory=TimeRange)
    validation: TimeRange | None = None
    features: str = "default"
    labels: Labels = field(default_factory=LabelSpec)
    embargo_bars: int = 0
    seed: int = 0

    @property
    def kind(self) -> str:
        """The name of the kind."""
        return self.model.partition(":")[0]

    @property
    def argument(self) -> str:
        """What follows the kind's name; empty without one."""
        return self.model.partition(":")[2]
