"""Train: from bars to a checkpoint folder. Pre-train a base, fine-tune it, calibrate it, and write the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..arrays import FloatArray
from ..data.bars import Bars
from ..data.labels import class_counts, class_shares
from ..errors import check_choice
from ..models.checkpoint import DESCRIPTION, FORMAT, Checkpoint, StoredCalibration, read_checkpoint
from ..models.description import (
    BarsDescription,
    EpochScores,
    NamedCalibration,
    ObjectiveDescription,
    ParameterCounts,
    SampleCounts,
    TrainingDescription,
    TrainingScores,
    described_bars,
)
from ..models.diversity import model_verdict
from ..models.kinds.network import adapter_state, fingerprint, parameter_counts, write_tensors
from ..models.kinds.network_model import WEIGHT_FILES
from ..models.statistics import by_class, scores, softmax
from ..storage.atomic_files import discard_tree, json_text, sha256_of
from ..training.collapse_guard import ACTIONS
from ..training.finetune import CollapsedError, FineTuneResult, learn
from ..training.labelled_samples import class_returns
from ..training.model_card import card, curves_picture
from ..training.preparation import TrainingSetup, prepare
from ..training.pretrain import Base
from ..training.progress import SILENT, Monitor
from ..training.recipe import Recipe
from ..training.result_folder import check_target, result_folder
from ..training.trainer import (
    DivergedError,
    check_batch_size,
    check_reporter,
    is_main_process,
    tensorboard_folder,
    wait_for_all,
)
from ..training.workspace import open_workspace, resume_key


def train_on(
    bars: Bars,
    target: Path,
    recipe: Recipe,
    *,
    more: Sequence[Bars] = (),
    device: torch.device | None = None,
    overwrite: bool = False,
    resume: bool = False,
    monitor: Monitor = SILENT,
) -> Checkpoint:
    """Train a checkpoint and write its folder ``target``.

    Everything that can be known before the first epoch is checked, and refused or reported, before it.

    While it runs, every epoch is saved in ``.NAME.training`` next to ``target``, so a killed training can be resumed.

    Parameters
    ----------
    target : Path
        The checkpoint's folder.
    more : sequence of Bars
        Other series to train on, up to the start of the validation; only ``bars`` are validated.
    overwrite : bool
        Replace an existing folder, finished or unfinished, when the training is done.
    resume : bool
        Continue from the last complete save of the same recipe on the same bars; without one, start.
    monitor : Monitor
        Its ``notify`` gets the checkpoint's ``notes``, before the first epoch where that is possible.

    Raises
    ------
    DivergedError
        When the loss is not finite in the first epoch; later, the best earlier epoch is kept.
    CollapsedError
        When the guard has a finding and the monitor's ``on_collapse`` is ``stop``.
    TrainingError
        When ``target`` exists and ``overwrite`` is not set, an unfinished training exists and neither ``resume`` nor
        ``overwrite`` is set, its recipe was different, or a class never occurs among the training labels.
    TrainingStoppedError
        After Ctrl-C or SIGTERM.
    RangeError
        When a range leaves no sample.
    DataError
        When a feature is not finite.
    """
    check_choice("--on-collapse", monitor.on_collapse, ACTIONS)
    check_reporter(monitor.report_to)
    for schedule in (recipe.pretraining, recipe.schedule):
        check_batch_size(schedule)
    check_target(target, "training", overwrite=overwrite)

    # 1. The samples, the rows that a model reads, and what the checkpoint will lack
    setup = prepare(bars, more, recipe)
    for note in setup.notes:
        monitor.notify(note)

    # 2. A pre-trained base, then LoRA for the labels
    key = resume_key(recipe, setup.base_source)
    with open_workspace(target, setup.samples.series, key, overwrite=overwrite, resume=resume) as workspace:
        try:
            with tensorboard_folder(monitor.report_to, target.name):
                base, tuned = learn(setup, recipe, device=device or torch.device("cpu"), folder=workspace, monitor=monitor)
        except (CollapsedError, DivergedError):
            if is_main_process():
                discard_tree(workspace)
            raise
        if tuned.diverged is not None:
            monitor.notify(tuned.diverged)

        # 3. Its predictions on the validation, their calibration, and a decision rule for them
        logits = setup.validation_logits(tuned.model)
        calibration = setup.calibration(logits, recipe.labels, tuned.correction)

        # 4. The folder, whole or not at all
        described = _description(setup, recipe, base, tuned, logits, calibration)
        if is_main_process():
            parts = (
                None if setup.base_source.language else base.weights,
                adapter_state(tuned.model),
                _fingerprint(setup, tuned),
            )
            remedy = f"Its saves are kept in {workspace}: fix that, and add --resume."
            with result_folder(target, remedy, overwrite=overwrite) as folder:
                _write(folder, target.name, described, parts, tuned.history)
            discard_tree(workspace)
    wait_for_all()
    return read_checkpoint(target)


def _fingerprint(setup: TrainingSetup, tuned: FineTuneResult) -> dict[str, Tensor]:
    """Return the fingerprint of the model on the last rows of the validation samples."""
    stop = int(np.flatnonzero(setup.split.validation)[-1]) + 1
    a = setup.base_source.architecture
    rows = setup.primary_rows[max(0, stop - a.fingerprint_rows - a.receptive_bars) : stop]
    return fingerprint(tuned.model, rows, kept=a.fingerprint_rows)


def _description(
    setup: TrainingSetup,
    recipe: Recipe,
    base: Base,
    tuned: FineTuneResult,
    logits: FloatArray,
    stored: StoredCalibration | None,
) -> TrainingDescription:
    source, split, samples = setup.base_source, setup.split, setup.samples
    training_labels, validation_labels = setup.training_labels, setup.validation_labels
    shares = class_shares(training_labels)
    verdict = model_verdict(softmax(logits[split.validation]).mean(axis=0), shares)  # no calibration can hide a collapse
    assert verdict is not None  # for mypy: there are samples
    return TrainingDescription(
        format=FORMAT,
        architecture=source.architecture.to_json(),
        lora={**source.lora(recipe.lora).to_json(), "targets": list(source.architecture.lora_targets)},
        base=source.describe({"preset": source.preset, "schedule": recipe.pretraining.to_json(), "losses": base.losses}),
        parameters=ParameterCounts(*parameter_counts(tuned.model)),
        schema=setup.schema.to_json(),
        labels=recipe.labels.to_json(),
        embargo_bars=recipe.embargo_bars,
        label_shares=tuple(shares.tolist()),
        class_returns=tuple(class_returns(samples, recipe.labels).tolist()),
        ranges={
            "pretraining": str(source.pretraining_range(samples.seen)),
            "training": str(samples.seen),
            "validation": str(split.validation_range),
            "calibration": str(split.validation_range),
        },
        data=BarsDescription.from_json(setup.bars.to_json()),
        more_data=described_bars([each.to_json() for each in samples.series[1:]]),
        samples=SampleCounts(len(training_labels), int(split.validation.sum())),
        labels_counted=by_class(class_counts(training_labels).tolist()),
        objective=ObjectiveDescription(**vars(recipe.objective), class_weights=tuple(tuned.class_weights.tolist())),
        schedule=recipe.schedule.to_json(),
        best_epoch=tuned.best.epoch,
        best_by=recipe.best_by,
        findings=tuned.best.findings,
        notes=(*setup.notes, *([tuned.diverged] if tuned.diverged else [])),
        metrics=TrainingScores(
            scores(softmax(logits), validation_labels, shares),
            None if stored is None else scores(stored.calibration(logits), validation_labels, shares),
        ),
        model_verdict=verdict,
        calibrations={}
        if stored is None
        else {"default": NamedCalibration(stored.calibration.to_json(), stored.decision.to_json())},
        versions={"flagbt": __version__, **{name: version(name) for name in ("numpy", "peft", "torch", "transformers")}},
        text_until=source.text_until(recipe.text_until),
    )


def _write(
    folder: Path,
    name: str,
    described: TrainingDescription,
    parts: tuple[dict[str, Tensor] | None, ...],
    history: Sequence[EpochScores],
) -> None:
    """Write the files; ``parts`` are the tensors of ``WEIGHT_FILES``, None for a base that is stored elsewhere."""
    files = {file: tensors for file, tensors in zip(WEIGHT_FILES, parts, strict=True) if tensors is not None}
    for file, tensors in files.items():
        write_tensors(folder / file, tensors)
    described = replace(described, files={file: sha256_of(folder / file) for file in files})
    (folder / DESCRIPTION).write_text(json_text(described.to_json()), encoding="utf-8")
    (folder / "history.json").write_text(json_text([epoch.to_json() for epoch in history]), encoding="utf-8")
    (folder / "README.md").write_text(card(name, described), encoding="utf-8")
    curves_picture(history, folder / "curves.png")
