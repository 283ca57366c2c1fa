"""What trainings state about their results: ``checkpoint.json``, ``history.json``, ``base.json``, ``walk_forward.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..arrays import JsonObject, JsonValue
from ..storage.json_records import OMIT_NONE, JsonRecord
from .diversity import Verdict
from .kinds.architecture import Lora
from .statistics import ClassifierScores

TEXT = "text"  # the corpus of a language model: neither bars nor dates


@dataclass(frozen=True, kw_only=True)
class EpochScores(ClassifierScores):
    """Scores of an epoch of a fine-tuning on the validation samples, before calibration.

    Attributes
    ----------
    epoch : int
        From 1.
    train_loss : float
    nll_corrected : float
        The negative log-likelihood after ``Objective.correction``.
    findings : tuple of str
        The guard's, about the corrected probabilities.
    """

    epoch: int
    train_loss: float
    nll_corrected: float
    findings: tuple[str, ...] = ()

    def value(self, best_by: str) -> float:
        """Return what epochs are compared by, the larger the better; ``best_by`` as in ``Recipe``."""
        if best_by == "last":
            return self.epoch
        return -self.nll_corrected if best_by == "nll" else float(getattr(self, best_by))


@dataclass(frozen=True)
class BarsDescription(JsonRecord):
    """Bars that something was trained on, as `flagbt.data.bars.Bars.to_json` gives them; ``reading`` where it was stated."""

    source: str
    synthetic: bool
    digest: str
    step_hours: float
    bars: int
    reading: Mapping[str, JsonValue] | None = field(default=None, metadata=OMIT_NONE)


@dataclass(frozen=True)
class ParameterCounts(JsonRecord):
    """Numbers of parameters: all, and those that the fine-tuning trained."""

    all: int
    trainable: int


@dataclass(frozen=True)
class SampleCounts(JsonRecord):
    """Numbers of samples."""

    training: int
    validation: int


@dataclass(frozen=True)
class TrainingScores(JsonRecord):
    """Scores on the validation samples: as trained, and calibrated, None where no calibration could be fitted."""

    validation: ClassifierScores
    validation_calibrated: ClassifierScores | None


@dataclass(frozen=True)
class NamedCalibration(JsonRecord):
    """A stored calibration and its decision rule, as JSON values."""

    calibration: Mapping[str, JsonValue]
    decision: Mapping[str, JsonValue]


@dataclass(frozen=True, kw_only=True)
class ObjectiveDescription(JsonRecord):
    """The fields of ``Objective``, and the class weights that it gave."""

    loss: str
    weights: str
    sampler: str
    label_smoothing: float
    gamma: float
    tau: float
    beta: float
    class_weights: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class BaseOrigin(JsonRecord):
    """Where the base of a checkpoint came from; fields of other origins are None.

    Attributes
    ----------
    preset : str
    imported : mapping
        Given where the checkpoint was imported.
    name, digest : str
        Of a base that the training found; None where it made its own.
    data : BarsDescription
        Bars that a found base was pre-trained on.
    was : mapping
        Given where the base was a checkpoint.
    corpus : str
        ``text`` for a language model, with the number of its ``layers`` used and its ``source``.
    """

    preset: str | None = None
    imported: Mapping[str, JsonValue] | None = None
    name: str | None = None
    digest: str | None = None
    data: BarsDescription | None = None
    was: Mapping[str, JsonValue] | None = None
    corpus: str | None = None
    source: Mapping[str, str] | None = None
    layers: int | None = None
    all_layers: int | None = None

    @property
    def has_read_text(self) -> bool:
        """Whether it, or the base of the checkpoint that it was, was pre-trained on text."""
        earlier = (self.was or {}).get("base")
        return self.corpus is not None or (earlier is not None and BaseOrigin.from_json(earlier).has_read_text)


@dataclass(frozen=True, kw_only=True)
class CheckpointDescription(JsonRecord):
    """What every ``checkpoint.json`` has, and what those of a training state besides; None where an import did not declare it.

    Attributes
    ----------
    label_shares, class_returns : tuple of float
        Of SELL, HOLD, BUY.
    ranges : mapping
        By purpose, see ``Checkpoint.ranges``.
    files : mapping
        SHA-256 (hex) of each file of weights.
    objective, metrics : mapping
        As their owner or the training states them.
    labels_counted : mapping
        By class name.
    """

    base: BaseOrigin
    lora: Lora | None
    label_shares: tuple[float, ...] | None
    class_returns: tuple[float, ...] | None
    ranges: Mapping[str, str] | None
    data: BarsDescription | None
    calibrations: Mapping[str, NamedCalibration]
    files: Mapping[str, str]
    parameters: ParameterCounts
    embargo_bars: int = 0
    objective: Mapping[str, JsonValue] | None = None
    labels_counted: Mapping[str, int] | None = None
    metrics: Mapping[str, Mapping[str, JsonValue] | None] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainedDescription(JsonRecord):
    """What every ``checkpoint.json`` has that was written by a training here, whatever the kind of model.

    Attributes
    ----------
    architecture, lora, base, schema, labels : mapping
        JSON values of the objects of these names.
    label_shares, class_returns : tuple of float
        Of SELL, HOLD, BUY.
    ranges : mapping
        By purpose, see ``Checkpoint.ranges``.
    labels_counted : mapping
        By class name.
    findings : tuple of str
        The guard's, about the validation.
    notes : tuple of str
        What the owner should know.
    text_until : str
        The date of the newest text that the base has read; None where it is not known, or it has read none.
    files : mapping
        SHA-256 (hex) of each file of weights; None until they are written.
    """

    format: int
    architecture: Mapping[str, JsonValue]
    lora: Mapping[str, JsonValue] | None
    base: Mapping[str, JsonValue]
    parameters: ParameterCounts
    schema: Mapping[str, JsonValue]
    labels: Mapping[str, JsonValue]
    embargo_bars: int = 0
    label_shares: tuple[float, ...]
    class_returns: tuple[float, ...]
    ranges: Mapping[str, str]
    data: BarsDescription
    more_data: tuple[BarsDescription, ...] | None = field(default=None, metadata=OMIT_NONE)
    samples: SampleCounts
    labels_counted: Mapping[str, int]
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    metrics: TrainingScores
    model_verdict: Verdict
    calibrations: Mapping[str, NamedCalibration]
    versions: Mapping[str, str]
    text_until: str | None = field(default=None, metadata=OMIT_NONE)
    files: Mapping[str, str] | None = field(default=None, metadata=OMIT_NONE)


@dataclass(frozen=True, kw_only=True)
class TrainingDescription(TrainedDescription):
    """``checkpoint.json`` of a network that was trained here.

    Attributes
    ----------
    schedule : mapping
        JSON values of the object of this name.
    best_by : str
        What chose the best epoch.
    """

    lora: Mapping[str, JsonValue]
    objective: ObjectiveDescription
    schedule: Mapping[str, JsonValue]
    best_epoch: int
    best_by: str = "nll"


@dataclass(frozen=True, kw_only=True)
class FittedDescription(TrainedDescription):
    """``checkpoint.json`` of a model of another library that was fitted here; ``seed`` is that of the fit."""

    seed: int


@dataclass(frozen=True, kw_only=True)
class BaseDescription(JsonRecord):
    """``base.json``: a base that was pre-trained here; ``losses`` are those of the epochs, in nats per quantity."""

    format: int
    preset: str
    architecture: Mapping[str, JsonValue]
    schema: Mapping[str, JsonValue]
    range: str
    samples: int
    horizon_bars: int
    data: BarsDescription
    more_data: tuple[BarsDescription, ...] | None = field(default=None, metadata=OMIT_NONE)
    schedule: Mapping[str, JsonValue]
    losses: tuple[float, ...]
    versions: Mapping[str, str]
    files: Mapping[str, str] | None = field(default=None, metadata=OMIT_NONE)


@dataclass(frozen=True, kw_only=True)
class FoldDescription(JsonRecord):
    """A fold in ``walk_forward.json``; its ``scores`` are of its test segment."""

    fold: int
    checkpoint: str
    digest: str
    ranges: Mapping[str, str]
    calibration: Mapping[str, JsonValue]
    decision: str
    model_verdict: str
    scores: ClassifierScores
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PooledScores(JsonRecord):
    """Scores over all test segments: the means of the folds', weighted by their rows."""

    rows: int
    nll: float
    nll_prior: float


@dataclass(frozen=True, kw_only=True)
class WalkForwardDescription(JsonRecord):
    """``walk_forward.json``."""

    format: int
    name: str
    flagbt: str
    data: BarsDescription
    labels: Mapping[str, JsonValue]
    range: str
    folds: tuple[FoldDescription, ...]
    scores: PooledScores


def best_of(history: Sequence[EpochScores], best_by: str) -> EpochScores:
    """Return the best epoch, the earliest of equally good ones; for ``last`` the last one."""
    return max(history, key=lambda epoch: epoch.value(best_by))


def described_bars(values: Sequence[JsonObject]) -> tuple[BarsDescription, ...] | None:
    """Return the descriptions of other series of bars; None where there are none."""
    return tuple(map(BarsDescription.from_json, values)) or None
