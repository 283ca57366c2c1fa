"""Recipe: everything that determines a training, besides the bars."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from ..data.labels import Labels, LabelSpec, TripleBarrier
from ..data.time_range import TimeRange
from ..errors import UsageError, check_choice
from ..models.kinds.architecture import Lora
from ..models.text_read import check_past
from .objectives import Objective
from .pretrain import SCHEDULE
from .trainer import Schedule

BEST_BY = ("nll", "mcc", "macro_f1", "balanced_accuracy", "last")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a training, besides the bars.

    Parameters
    ----------
    preset : str, optional
        ``tiny``, ``small``, ``88m`` or ``smollm2``; by default the base's, or ``tiny``.
    base : str, optional
        A base made by ``make_base``, as a name or a folder; with ``smollm2`` a language model's folder or hub id. By default
        the base is pre-trained first, or is the installed language model.
    base_layers : int, optional
        How many of a language model's first layers to use; by default all.
    training, validation : TimeRange
        By default the validation is the last fifth of the training range.
    features : str, optional
        A feature set's name; by default the base's, or ``default``.
    labels : LabelSpec or TripleBarrier
    embargo_bars : int
        How many bars after the training range no validation sample may use.
    objective : Objective
    lora : Lora
    pretraining, schedule : Schedule
        For the base and for the fine-tuning.
    best_by : str
        The validation score that selects the epoch: ``nll``, ``mcc``, ``macro_f1`` or ``balanced_accuracy``; or ``last``.
    text_until : date, optional
        The date of the newest text that a language model used as the base has read; by default the one that its checkpoint
        states, or not known.
    """

    preset: str | None = None
    base: str | None = None
    base_layers: int | None = None
    training: TimeRange = field(default_factory=TimeRange)
    validation: TimeRange | None = None
    features: str | None = None
    labels: Labels = field(default_factory=LabelSpec)
    embargo_bars: int = 0
    objective: Objective = field(default_factory=Objective)
    lora: Lora = field(default_factory=Lora)
    pretraining: Schedule = SCHEDULE
    schedule: Schedule = field(default_factory=Schedule)
    best_by: str = "nll"
    text_until: date | None = None

    def __post_init__(self) -> None:
        check_choice("--best-by", self.best_by, BEST_BY)
        if self.text_until is not None:
            check_past(self.text_until)
        for name, (kinds, example) in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) and not (name == "validation" and value is None):
                expected = " or ".join(kind.__name__ for kind in kinds)
                raise UsageError(f"recipe: {name} is {value!r:.60}, expected {expected}, such as {example}.")


_RANGE = 'flagbt.TimeRange.parse("20230101-20240101")'
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "training": ((TimeRange,), _RANGE),
    "validation": ((TimeRange,), _RANGE),
    "labels": ((LabelSpec, TripleBarrier), "LabelSpec()"),
    "objective": ((Objective,), "Objective()"),
    "lora": ((Lora,), "Lora()"),
    "pretraining": ((Schedule,), "Schedule(epochs=2)"),
    "schedule": ((Schedule,), "Schedule(epochs=2)"),
}
