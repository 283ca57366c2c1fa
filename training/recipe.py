"""Recipe: everything that decides a training besides the bars, and what is reported while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..data.labels import Labels, LabelSpec
from ..data.time_range import TimeRange
from ..errors import check_choice
from ..models.network import Lora
from .finetune import BEST_BY
from .objectives import Objective
from .pretrain import SCHEDULE
from .trainer import Schedule


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training, besides the bars.

    Parameters
    ----------
    preset : str, optional
        ``tiny``, ``small``, ``88m`` or ``smollm2``; without it the base's, or ``tiny``.
    base : str, optional
        A base made by ``make_base``, as a name or a folder; with ``smollm2`` a language model's folder or hub id. Without
        it the base is pre-trained on the spot, or is the installed language model.
    base_layers : int, optional
        Of a language model, only the first so many layers.
    training, validation : TimeRange
        Without a validation, the last fifth of the training range is it.
    features : str, optional
        A feature set's name; without it the base's, or ``default``.
    labels : LabelSpec or TripleBarrier
    embargo_bars : int
        Bars after the training range that no validation sample may look at.
    objective : Objective
    lora : Lora
    pretraining, schedule : Schedule
        Of the base and of the fine-tuning.
    best_by : str
        Which validation score chooses the epoch: ``nll``, ``mcc``, ``macro_f1`` or ``balanced_accuracy``; or ``last``.
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

    def __post_init__(self) -> None:
        check_choice("--best-by", self.best_by, BEST_BY)


@dataclass(frozen=True)
class EpochProgress:
    """One epoch of a training, for whoever watches: ``stage`` is pretraining or training, ``entry`` the epoch's scores."""

    stage: str
    epochs: int
    entry: dict[str, Any]


@dataclass(frozen=True)
class StepProgress:
    """One step of an epoch, for whoever watches: ``done`` of ``steps`` in the epoch, which counts from 1."""

    stage: str
    epochs: int
    epoch: int
    done: int
    steps: int
