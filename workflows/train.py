"""Train: from bars to a checkpoint folder. Pre-train a base, fine-tune it, calibrate it, write it all down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..data.bars import Bars, FloatArray
from ..data.feature_schema import FeatureSchema, Float32Array
from ..data.labels import CLASS_NAMES, IntArray, Labels, LabelSpec, class_counts, class_shares
from ..data.time_range import TimeRange
from ..errors import RangeError, TrainingError, check_choice
from ..models.calibration_fit import fit_calibration, why_not_fitted
from ..models.checkpoint import DESCRIPTION, FORMAT, WEIGHT_FILES, Checkpoint, StoredCalibration, read_checkpoint
from ..models.decision import choose_decision
from ..models.diversity import model_verdict
from ..models.network import Lora, adapter_state, fingerprint, parameter_counts, write_tensors
from ..models.statistics import by_class, scores, softmax
from ..storage.atomic_files import discard_tree, held, json_text, new_folder, sha256_of
from ..storage.untrusted_files import parse_json
from ..training.base_source import Ground, lay_ground
from ..training.chronological_split import Split, chronological_split
from ..training.collapse_guard import ACTIONS
from ..training.finetune import BEST_BY, CollapsedError, FineTuned, finetune, validation_logits
from ..training.model_card import card, curves_picture
from ..training.objectives import Objective
from ..training.pretrain import SCHEDULE, Base, pretrain
from ..training.samples import Lessons, gather_lessons
from ..training.trainer import DivergedError, Schedule, check_reporter, check_shared, is_main_process, reporting, wait_for_all

VALIDATION_SHARE = 0.2
RECIPE = "recipe.json"


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
class Progress:
    """One epoch of a training, for whoever watches: ``stage`` is pretraining or training, ``entry`` the epoch's scores."""

    stage: str
    epochs: int
    entry: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One step of an epoch, for whoever watches: ``done`` of ``steps`` in the epoch, which counts from 1."""

    stage: str
    epochs: int
    epoch: int
    done: int
    steps: int


def train(
    bars: Bars,
    target: Path,
    recipe: Recipe,
    *,
    more: Sequence[Bars] = (),
    device: torch.device | None = None,
    overwrite: bool = False,
    resume: bool = False,
    report_to: str | None = None,
    on_collapse: str = "warn",
    notify: Callable[[str], None] = lambda _note: None,
    watch: Callable[[Progress], None] = lambda _progress: None,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> Checkpoint:
    """Train a checkpoint and write its folder ``target``.

    Whatever can be known before the first epoch is refused, or told, before it.

    While it runs, every epoch is saved in ``.NAME.training`` beside it, so that a killed training can go on.

    Parameters
    ----------
    target : Path
        The checkpoint's folder.
    more : sequence of Bars
        Other series to learn from, before the validation starts; only ``bars`` are judged.
    overwrite : bool
        Replace what is there, finished or unfinished, when the training is done.
    resume : bool
        Go on from the last finished save of the same recipe on the same bars; without one, begin.
    report_to : str, optional
        ``tensorboard``, ``wandb`` or ``trackio``.
    on_collapse : str
        ``warn``, or ``stop``: what to do when the guard finds a collapse, or a score too good to be true.
    notify : callable
        Called with a sentence, before the first epoch where it can be known then, for everything that the checkpoint will
        lack or that its owner should know; they are its ``notes``.
    watch, on_step : callable
        Called after every epoch, and after every step.

    Raises
    ------
    DivergedError
        When the loss is not finite in the first epoch already; later, the best epoch before is kept.
    TrainingError
        When ``target`` exists and ``overwrite`` is not set, an unfinished training is there and neither ``resume`` nor
        ``overwrite`` is set, its recipe was another, or a class never occurs among the training labels.
    TrainingStoppedError
        After Ctrl-C.
    RangeError
        When a range leaves no sample.
    DataError
        When a feature is not finite.
    """
    device = device or torch.device("cpu")

    check_choice("--on-collapse", on_collapse, ACTIONS)
    check_reporter(report_to)
    for schedule in (recipe.pretraining, recipe.schedule):
        check_shared(schedule)
    if target.exists() and not overwrite:
        raise TrainingError(
            f"--output: {target} exists. Choose another --name, or --overwrite to replace it when the training is done."
        )

    # 1. What teaches and what judges, the rows a model reads, and what the checkpoint will lack
    ready = prepare(bars, more, recipe)
    for note in ready.notes:
        notify(note)

    # 2. A base that knows bars, then LoRA for the question
    with open_workspace(
        target, ready.lessons.series, described(recipe, ready.ground), overwrite=overwrite, resume=resume
    ) as work:
        try:
            with reporting(report_to, target.name):
                base, tuned = learn(
                    recipe, ready, device=device, work=work, report_to=report_to, on_collapse=on_collapse, watch=watch,
                    on_step=on_step,
                )  # fmt: skip
        except (CollapsedError, DivergedError):
            if is_main_process():
                discard_tree(work)
            raise
        if tuned.diverged is not None:
            notify(tuned.diverged)

        # 3. What it says on the validation, calibrated, and a rule that acts on it
        logits = ready.validation_logits(tuned)
        calibrated = None if ready.uncalibrated else _calibrate(logits, bars, recipe, ready, tuned.correction)

        # 4. The folder, whole or not at all
        values = _description(ready, recipe, base, tuned, logits, calibrated)
        if is_main_process():
            marks = fingerprint(tuned.model, _stretch(ready), kept=ready.ground.architecture.fingerprint_rows)
            try:
                with new_folder(target, overwrite=overwrite) as folder:
                    _write(folder, target.name, values, None if ready.ground.language else base.weights, tuned, marks)
            except OSError as error:
                raise TrainingError(
                    f"--output: {target} cannot be written: {error.strerror or error}. Its saves are kept in {work}: fix "
                    "that, and add --resume."
                ) from None
            discard_tree(work)
    wait_for_all()
    return read_checkpoint(target)


def described(recipe: Recipe, ground: Ground) -> dict[str, Any]:
    """Return what must be the same for a training to be gone on from, the bars aside."""
    return {**asdict(recipe), "base": [recipe.base, ground.digest]}


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that is known before a training begins.

    Attributes
    ----------
    ground : Ground
    split : Split
        Of the judged series.
    lessons : Lessons
        Of all series.
    schema : FeatureSchema
        Its scaler is fitted on the training samples only, or is the base's own.
    rows : array of float32, shape (n, F)
        ``lessons.rows``. *Causality: row t uses bars <= t.*
    uncalibrated : str, optional
        Why no calibration can be fitted on the validation; None where one can.
    notes : tuple of str
        What the owner of the checkpoint should know before it is trained.
    """

    ground: Ground
    split: Split
    lessons: Lessons
    schema: FeatureSchema
    rows: Float32Array
    uncalibrated: str | None
    notes: tuple[str, ...]

    @property
    def bars(self) -> Bars:
        """The series that is judged."""
        return self.lessons.series[0]

    @property
    def judged_labels(self) -> IntArray:
        """The labels of the validation samples, -1 elsewhere, int8 (n_bars,)."""
        return np.where(self.split.validation, self.lessons.labels[: len(self.bars)], np.int8(-1))

    @property
    def judged_rows(self) -> Float32Array:
        """The rows of the judged series, float32 (n_bars, F)."""
        return self.rows[: len(self.bars)]

    def validation_logits(self, tuned: FineTuned) -> FloatArray:
        """Return what a model says about the validation samples (n_bars, 3), NaN elsewhere."""
        logits = validation_logits(
            tuned.model, self.bars, self.judged_rows, self.split.validation, self.ground.architecture, self.schema.warmup_bars
        )
        logits[~self.split.validation] = np.nan
        return logits


def prepare(bars: Bars, more: Sequence[Bars], recipe: Recipe, ground: Ground | None = None) -> Prepared:
    """Return what a training by ``recipe`` starts from, on its ground if that is laid; ``train`` says what is refused."""
    ground = ground or lay_ground(recipe.preset, recipe.base, recipe.base_layers, recipe.features)
    looks_back = ground.features.warmup_bars + ground.architecture.receptive_bars
    split = _split(bars, recipe, looks_back)
    ground.check(bars, split.validation_range)
    lessons = gather_lessons(
        bars, more, labels=recipe.labels, training=split.training, warmup_bars=looks_back,
        within=TimeRange(recipe.training.start, split.training_range.stop),
    )  # fmt: skip
    # Where 168 bars stand still there is no volatility, and a triple barrier has no label: no sample of either side
    labelled = lessons.labels >= 0
    lessons = replace(lessons, training=lessons.training & labelled)
    own = labelled[: len(bars)]
    split = replace(split, training=split.training & own, validation=split.validation & own)
    if not split.validation.any():
        raise RangeError(
            f"--validation {split.validation_range}: none of its bars has a label of {recipe.labels}, since prices stand "
            "still there. Choose another range, or labels of the kind horizon."
        )
    counts = class_counts(lessons.labels[lessons.training])
    if (counts == 0).any():
        raise TrainingError(
            f"the class {CLASS_NAMES[int(np.argmin(counts))]} never occurs among the {counts.sum():,} training labels "
            f"({', '.join(f'{name} {n:,}' for name, n in zip(CLASS_NAMES, counts, strict=True))}). "
            "Use a longer range, or labels of a smaller threshold or nearer barriers."
        )
    schema = ground.schema(lessons.sampled(ground.features))
    uncalibrated = why_not_fitted(lessons.labels[: len(bars)][split.validation])
    without = (
        f"No calibration can be fitted on the validation {split.validation_range}: {uncalibrated}. The checkpoint is written "
        "without one, to be run with --calibration none or one of your own (flagbt calibrate). For a calibration, give a "
        "longer --validation, or --labels of a smaller threshold or nearer barriers."
    )
    notes = (recipe.objective.stacked_note(), without if uncalibrated else None)
    return Prepared(ground, split, lessons, schema, lessons.rows(schema), uncalibrated, tuple(filter(None, notes)))


def learn(
    recipe: Recipe,
    ready: Prepared,
    *,
    device: torch.device,
    work: Path | None = None,
    report_to: str | None = None,
    on_collapse: str = "warn",
    watch: Callable[[Progress], None] = lambda _progress: None,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> tuple[Base, FineTuned]:
    """Return the base and what fine-tuning made of it; ``work`` is where every epoch is saved, None for nowhere."""
    ground, rows, first_row = ready.ground, ready.rows, ready.schema.warmup_bars
    base = ground.base(recipe.pretraining.seed) or pretrain(
        ready.lessons, rows, architecture=ground.architecture, first_row=first_row,
        schedule=recipe.pretraining, device=device, on_epoch_end=lambda epoch, loss: watch(
            Progress("pretraining", recipe.pretraining.epochs, {"epoch": epoch, "train_loss": loss})
        ), on_step=lambda *step: on_step(Step("pretraining", recipe.pretraining.epochs, *step)),
        folder=work and work / "pretraining",
    )  # fmt: skip
    tuned = finetune(
        ready.bars, ready.lessons, rows, ready.split.validation, base.weights, architecture=ground.architecture,
        lora=ground.lora(recipe.lora),
        objective=recipe.objective, schedule=recipe.schedule, first_row=first_row, device=device,
        on_epoch_end=lambda entry: watch(Progress("training", recipe.schedule.epochs, entry)),
        on_step=lambda *step: on_step(Step("training", recipe.schedule.epochs, *step)),
        folder=work and work / "training", report_to=report_to, best_by=recipe.best_by, on_collapse=on_collapse,
    )  # fmt: skip
    return base, tuned


def workspace_of(target: Path) -> Path:
    """Return the folder in which an unfinished training of ``target`` keeps its saves."""
    return target.with_name(f".{target.name}.training")


@contextmanager
def open_workspace(
    target: Path, series: Sequence[Bars], recipe: dict[str, Any], *, overwrite: bool, resume: bool
) -> Iterator[Path]:
    """Yield the folder of saves, new or to go on from, and keep every other training out of it meanwhile.

    It is only gone on from by the same recipe on the same bars.

    Raises
    ------
    TrainingError
        When it is another training's, or another process is at work in it, or it cannot be written.
    """
    work = workspace_of(target)
    if not is_main_process():
        yield work  # it may be there by now, made by the main process; `fit` waits for it
        return
    with _alone_in(work, target):
        going_on = may_go_on(target, series, recipe, overwrite=overwrite, resume=resume)
        if going_on:
            yield work
            return
        discard_tree(work)
    note = _note(series, recipe)
    try:
        with new_folder(work) as folder:
            (folder / RECIPE).write_text(note, encoding="utf-8")
    except OSError as error:
        if work.exists():
            raise _at_work(target) from None
        raise TrainingError(
            f"--output: {target} cannot be written: {error.strerror or error}. Choose another folder."
        ) from None
    with _alone_in(work, target):
        yield work


@contextmanager
def _alone_in(work: Path, target: Path) -> Iterator[None]:
    """Lock a workspace, if it is there and its file system has locks; a killed process's lock is gone with it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(held(work))
        except BlockingIOError:
            raise _at_work(target) from None
        except OSError:
            pass  # it is not there, or there are no locks
        yield


def _at_work(target: Path) -> TrainingError:
    return TrainingError(
        f"--output: another process is training {target} at this moment. Wait for it, or end it and add --resume; or choose "
        "another --name."
    )


def _note(series: Sequence[Bars], recipe: dict[str, Any]) -> str:
    return json.dumps({"bars": [each.digest for each in series], "flagbt": __version__, **recipe}, default=str, sort_keys=True)


def may_go_on(target: Path, series: Sequence[Bars], recipe: dict[str, Any], *, overwrite: bool, resume: bool) -> bool:
    """Return whether to go on from the saves that are there; False to begin.

    Raises
    ------
    TrainingError
        When they are another training's, or neither going on nor replacing them is asked for.
    """
    work = workspace_of(target)
    if work.exists() and not resume and not overwrite:
        raise TrainingError(
            f"--output: an unfinished training of {target} is there ({work}). Add --resume to go on from its last save, or "
            "--overwrite to begin again."
        )
    if not resume or not (work / RECIPE).is_file():
        return False
    before, now = (work / RECIPE).read_text(encoding="utf-8"), _note(series, recipe)
    if before != now:
        raise TrainingError(
            f"--resume: the unfinished training in {work} had other options, other bars or another flagbt: going on would mix "
            f"two trainings. Give the same options ({_differences(before, now)}), or --overwrite to begin again."
        )
    return True


def _differences(before: str, now: str) -> str:
    try:
        old, new = parse_json(before), parse_json(now)
    except ValueError:
        return "its note is damaged"
    return "; ".join(f"{key} was {old.get(key)}, is {new[key]}" for key in new if old.get(key) != new[key])[:400]


def _split(bars: Bars, recipe: Recipe, warmup_bars: int) -> Split:
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


def _calibrate(logits: FloatArray, bars: Bars, recipe: Recipe, ready: Prepared, correction: FloatArray) -> StoredCalibration:
    """Fit a temperature on the validation samples, and choose the rule that goes with it."""
    split, labels = ready.split, ready.judged_labels
    fitted = fit_calibration("temperature", logits, labels, fitted_on=str(split.validation_range), shift=correction)
    decision = choose_decision(
        fitted(logits[split.validation]), labels, class_returns=class_returns(ready.lessons, recipe.labels),
        step_hours=bars.step_hours,
    )  # fmt: skip
    return StoredCalibration(fitted, decision)


def class_returns(lessons: Lessons, labels: Labels) -> FloatArray:
    """Return the mean forward return of the training samples labelled SELL, HOLD, BUY, as fractions, shape (3,).

    Of the judged series; of all of them for a class that never occurs in its own samples.
    """
    change, label = lessons.of_each(labels.forward_return), np.where(lessons.training, lessons.labels, np.int8(-1))
    own = len(lessons.series[0])
    means = []
    for c in range(3):
        mine = change[:own][label[:own] == c]
        means.append((mine if len(mine) else change[label == c]).mean())
    return np.array(means)


def _stretch(ready: Prepared) -> Float32Array:
    last = int(np.flatnonzero(ready.split.validation)[-1]) + 1
    a = ready.ground.architecture
    return ready.judged_rows[max(0, last - a.fingerprint_rows - a.receptive_bars) : last]


def _description(
    ready: Prepared, recipe: Recipe, base: Base, tuned: FineTuned, logits: FloatArray, stored: StoredCalibration | None
) -> dict[str, Any]:
    ground, split, lessons, bars, judged = ready.ground, ready.split, ready.lessons, ready.bars, ready.judged_labels
    taught = lessons.labels[lessons.training]
    shares = class_shares(taught)
    notes = [*ready.notes, *([tuned.diverged] if tuned.diverged else [])]
    verdict = model_verdict(softmax(logits[split.validation]).mean(axis=0), shares)  # no calibration can hide a collapse
    whole, trainable = parameter_counts(tuned.model)
    return {
        "format": FORMAT,
        "architecture": ground.architecture.to_json(),
        "lora": {**ground.lora(recipe.lora).to_json(), "targets": list(ground.architecture.lora_targets)},
        "base": ground.describe({"preset": ground.preset, "schedule": recipe.pretraining.to_json(), "losses": base.losses}),
        "parameters": {"all": whole, "trainable": trainable},
        "schema": ready.schema.to_json(),
        "labels": recipe.labels.to_json(),
        "embargo_bars": recipe.embargo_bars,
        "label_shares": shares.tolist(),
        "class_returns": class_returns(lessons, recipe.labels).tolist(),
        "ranges": {
            "pretraining": str(ground.pretraining_range(lessons.seen)),
            "training": str(lessons.seen),
            "validation": str(split.validation_range),
            "calibration": str(split.validation_range),
        },
        "data": bars.to_json(),
        **({"more_data": [each.to_json() for each in lessons.series[1:]]} if lessons.series[1:] else {}),
        "samples": {"training": len(taught), "validation": int(split.validation.sum())},
        "labels_counted": by_class(class_counts(taught).tolist()),
        "objective": {**recipe.objective.to_json(), "class_weights": tuned.class_weights.tolist()},
        "schedule": recipe.schedule.to_json(),
        "best_epoch": tuned.best["epoch"],
        "best_by": recipe.best_by,
        "findings": tuned.best["findings"],
        "notes": notes,
        "metrics": {
            "validation": scores(softmax(logits), judged, shares),
            "validation_calibrated": None if stored is None else scores(stored.calibration(logits), judged, shares),
        },
        "model_verdict": verdict,
        "calibrations": {}
        if stored is None
        else {
            "default": {"calibration": stored.calibration.to_json(), "decision": stored.decision.to_json()},
        },
        "versions": {"flagbt": __version__, **{name: version(name) for name in ("numpy", "peft", "torch", "transformers")}},
    }


def _write(
    folder: Path, name: str, values: dict[str, Any], base: dict[str, Tensor] | None, tuned: FineTuned, marks: dict[str, Tensor]
) -> None:
    """Write the files; ``base`` is None where the description refers to one that lives elsewhere."""
    parts = dict(zip(WEIGHT_FILES, (base, adapter_state(tuned.model), marks), strict=True))
    files = {file: tensors for file, tensors in parts.items() if tensors is not None}
    for file, tensors in files.items():
        write_tensors(folder / file, tensors)
    described = {**values, "files": {file: sha256_of(folder / file) for file in files}}
    (folder / DESCRIPTION).write_text(json_text(described), encoding="utf-8")
    (folder / "history.json").write_text(json_text(tuned.history), encoding="utf-8")
    (folder / "README.md").write_text(card(name, described), encoding="utf-8")
    curves_picture(tuned.history, folder / "curves.png")
