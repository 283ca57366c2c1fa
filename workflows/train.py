"""Train: from bars to a checkpoint folder. Pre-train a base, fine-tune it, calibrate it, write it all down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..arrays import Float32Array, FloatArray
from ..data.bars import Bars
from ..data.labels import class_counts, class_shares
from ..errors import TrainingError, check_choice
from ..models.calibration_fit import fit_calibration
from ..models.checkpoint import DESCRIPTION, FORMAT, WEIGHT_FILES, Checkpoint, StoredCalibration, read_checkpoint
from ..models.decision import choose_decision
from ..models.diversity import model_verdict
from ..models.network import adapter_state, fingerprint, parameter_counts, write_tensors
from ..models.statistics import by_class, scores, softmax
from ..storage.atomic_files import discard_tree, json_text, new_folder, sha256_of
from ..training.collapse_guard import ACTIONS
from ..training.finetune import CollapsedError, FineTuneResult
from ..training.model_card import card, curves_picture
from ..training.preparation import TrainingSetup, class_returns, learn, prepare
from ..training.pretrain import Base
from ..training.recipe import EpochProgress, Recipe, StepProgress
from ..training.trainer import DivergedError, check_reporter, check_shared, is_main_process, reporting, wait_for_all
from ..training.workspace import described, open_workspace


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
    watch: Callable[[EpochProgress], None] = lambda _progress: None,
    on_step: Callable[[StepProgress], None] = lambda _step: None,
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
                    recipe,
                    ready,
                    device=device,
                    work=work,
                    report_to=report_to,
                    on_collapse=on_collapse,
                    watch=watch,
                    on_step=on_step,
                )
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


def _calibrate(
    logits: FloatArray, bars: Bars, recipe: Recipe, ready: TrainingSetup, correction: FloatArray
) -> StoredCalibration:
    """Fit a temperature on the validation samples, and choose the rule that goes with it."""
    split, labels = ready.split, ready.judged_labels
    fitted = fit_calibration("temperature", logits, labels, fitted_on=str(split.validation_range), shift=correction)
    decision = choose_decision(
        fitted(logits[split.validation]),
        labels,
        class_returns=class_returns(ready.lessons, recipe.labels),
        step_hours=bars.step_hours,
    )
    return StoredCalibration(fitted, decision)


def _stretch(ready: TrainingSetup) -> Float32Array:
    last = int(np.flatnonzero(ready.split.validation)[-1]) + 1
    a = ready.ground.architecture
    return ready.judged_rows[max(0, last - a.fingerprint_rows - a.receptive_bars) : last]


def _description(
    ready: TrainingSetup,
    recipe: Recipe,
    base: Base,
    tuned: FineTuneResult,
    logits: FloatArray,
    stored: StoredCalibration | None,
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
        else {"default": {"calibration": stored.calibration.to_json(), "decision": stored.decision.to_json()}},
        "versions": {"flagbt": __version__, **{name: version(name) for name in ("numpy", "peft", "torch", "transformers")}},
    }


def _write(
    folder: Path,
    name: str,
    values: dict[str, Any],
    base: dict[str, Tensor] | None,
    tuned: FineTuneResult,
    marks: dict[str, Tensor],
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
