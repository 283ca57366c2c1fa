"""Train a model other than a network: from bars to a checkpoint folder, by the fit of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..arrays import FloatArray, JsonObject
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.features import feature_set
from ..data.labels import class_counts, class_shares
from ..errors import TrainingError, UsageError
from ..models.checkpoint import DESCRIPTION, FORMAT, Checkpoint, StoredCalibration, read_checkpoint
from ..models.checkpoint_model import CheckpointModel, ModelParts, TrainingTable
from ..models.description import (
    BarsDescription,
    FittedDescription,
    NamedCalibration,
    ParameterCounts,
    SampleCounts,
    TrainingScores,
    described_bars,
)
from ..models.diversity import model_verdict
from ..models.registry import defines, find_kind, kind_names, versions_of
from ..models.statistics import by_class, scores, softmax
from ..storage.atomic_files import json_text, sha256_of
from ..training.collapse_guard import collapse_findings
from ..training.fit_recipe import FitRecipe
from ..training.labelled_samples import LabelledSamples, class_returns, label_samples, requested_split
from ..training.model_card import fitted_card
from ..training.progress import SILENT, Monitor
from ..training.result_folder import check_target, result_folder


def train_model(
    bars: Bars,
    target: Path,
    recipe: FitRecipe,
    *,
    more: Sequence[Bars] = (),
    overwrite: bool = False,
    monitor: Monitor = SILENT,
) -> Checkpoint:
    """Fit a model by its kind, and write its checkpoint folder ``target``, whole or not at all.

    Samples, split, labels, calibration and decision are those of a network's training (`flagbt.workflows.train.train_on`).

    Parameters
    ----------
    more : sequence of Bars
        Other series to train on, up to the start of the validation; only ``bars`` are validated.
    overwrite : bool
        Replace an existing folder when the fit is done.
    monitor : Monitor
        Its ``notify`` gets the checkpoint's ``notes``, before the fit where that is possible.

    Raises
    ------
    UsageError
        When the kind is not registered, or cannot be trained here.
    TrainingError
        When ``target`` exists and ``overwrite`` is not set, a class never occurs among the training labels, or the fitted
        model gives no answer for a validation sample.
    RangeError
        When a range leaves no sample.
    DataError
        When a feature is not finite.
    """
    kind = trainable_kind(recipe.kind)
    check_target(target, "training", overwrite=overwrite)

    # 1. The samples, and the rows that a model reads
    features = feature_set(recipe.features)
    labelled = label_samples(bars, more, recipe, requested_split(bars, recipe, features.warmup_bars), features.warmup_bars)
    for note in labelled.notes:
        monitor.notify(note)
    schema = FeatureSchema.fit(features, labelled.samples.training_features(features))

    # 2. The model, then its predictions on the validation as in a run, their calibration, and a decision rule for them
    with result_folder(target, "Choose another folder.", overwrite=overwrite) as folder:
        parts = kind.fit(_table(labelled, schema, recipe.seed), folder, recipe.argument)
        files = {name: sha256_of(folder / name) for name in kind.files if (folder / name).is_file()}
        fitted = Checkpoint(folder, _values(recipe, parts, files, schema))
        labelled = _without_seen_context(labelled, recipe, fitted.model.warmup_bars)
        logits = _validation_logits(labelled, fitted)
        stored = labelled.calibration(logits, recipe.labels, np.zeros(3))

        # 3. The folder's description and card
        described = replace(_description(labelled, recipe, fitted, logits, stored), parameters=_counts(parts))
        values = {**described.to_json(), **(parts.more or {}), "versions": versions_of(kind)}
        (folder / DESCRIPTION).write_text(json_text(values), encoding="utf-8")
        (folder / "README.md").write_text(fitted_card(target.name, described, parts.note), encoding="utf-8")
    for finding in described.findings:
        monitor.notify(finding)
    return read_checkpoint(target)


def trainable_kind(name: str) -> type[CheckpointModel]:
    """Return the kind of that name, whose class defines how it is trained.

    Raises
    ------
    UsageError
        When it does not, or is not registered, with the kinds that can be trained.
    StrategyError
        When a package's kind breaks the contract.
    """
    kind = find_kind(name)
    if not defines(kind, "fit"):
        known = ", ".join(each for each, _ in kind_names() if defines(find_kind(each), "fit"))
        raise UsageError(
            f"--model: models of the kind '{name}' are not trained with --model. Kinds that are: {known}. Leave --model out "
            "to train a network."
        )
    return kind


def _table(labelled: LabelledSamples, schema: FeatureSchema, seed: int) -> TrainingTable:
    samples = labelled.samples
    validation = np.zeros(len(samples.labels), dtype=bool)
    validation[: len(labelled.bars)] = labelled.split.validation
    lengths = [len(each) for each in samples.series]
    return TrainingTable(
        rows=samples.of_each(schema.rows),
        labels=samples.labels,
        training=samples.training,
        validation=validation,
        columns=schema.columns,
        seed=seed,
        series_starts=tuple(sum(lengths[:at]) for at in range(len(lengths))),
    )


def _values(recipe: FitRecipe, parts: ModelParts, files: dict[str, str], schema: FeatureSchema) -> JsonObject:
    """Return the part of ``checkpoint.json`` that the model needs to score."""
    return {
        "architecture": {"kind": recipe.kind, **parts.settings},
        "lora": None,
        "base": {"preset": recipe.kind, **({"argument": recipe.argument} if recipe.argument else {})},
        "schema": schema.to_json(),
        "labels": recipe.labels.to_json(),
        "files": files,
        "parameters": _counts(parts).to_json(),
        "calibrations": {},
        "ranges": None,
        "data": None,
        "label_shares": None,
        "class_returns": None,
    }


def _counts(parts: ModelParts) -> ParameterCounts:
    return ParameterCounts(parts.parameters, parts.parameters if parts.trained is None else parts.trained)


def _without_seen_context(labelled: LabelledSamples, recipe: FitRecipe, warmup_bars: int) -> LabelledSamples:
    """Leave out the validation samples whose context, known only after the fit, reaches into the training range."""
    allowed = requested_split(labelled.bars, recipe, warmup_bars).validation
    return replace(labelled, split=replace(labelled.split, validation=labelled.split.validation & allowed))


def _validation_logits(labelled: LabelledSamples, fitted: Checkpoint) -> FloatArray:
    """Return the logits of the validation samples, NaN elsewhere, float64 (n_bars, 3); computed as in a run."""
    sample = labelled.split.validation
    stop = int(np.flatnonzero(sample)[-1]) + 1
    logits = np.full((len(sample), 3), np.nan)
    logits[:stop] = fitted.model.logits(labelled.bars.take(slice(0, stop)), device="cpu")
    without = sample & ~np.isfinite(logits).all(axis=1)
    if without.any():
        raise TrainingError(
            f"the fitted model gives no finite answer for {without.sum():,} of the {sample.sum():,} validation samples, so "
            "nothing is written. Change its settings, or its features."
        )
    logits[~sample] = np.nan
    return logits


def _description(
    labelled: LabelledSamples, recipe: FitRecipe, fitted: Checkpoint, logits: FloatArray, stored: StoredCalibration | None
) -> FittedDescription:
    samples, split, values = labelled.samples, labelled.split, fitted.values
    training_labels, known = labelled.training_labels, labelled.validation_labels
    shares = class_shares(training_labels)
    raw = scores(softmax(logits), known, shares)
    verdict = model_verdict(softmax(logits[split.validation]).mean(axis=0), shares)
    assert verdict is not None  # for mypy: there are samples
    return FittedDescription(
        format=FORMAT,
        architecture=fitted.settings,
        lora=None,
        base=dict(values["base"]),  # type: ignore[arg-type]
        parameters=fitted.described.parameters,
        schema=fitted.schema.to_json(),
        labels=recipe.labels.to_json(),
        embargo_bars=recipe.embargo_bars,
        label_shares=tuple(shares.tolist()),
        class_returns=tuple(class_returns(samples, recipe.labels).tolist()),
        ranges={
            "pretraining": str(samples.seen),
            "training": str(samples.seen),
            "validation": str(split.validation_range),
            "calibration": str(split.validation_range),
        },
        data=BarsDescription.from_json(labelled.bars.to_json()),
        more_data=described_bars([each.to_json() for each in samples.series[1:]]),
        samples=SampleCounts(len(training_labels), int(split.validation.sum())),
        labels_counted=by_class(class_counts(training_labels).tolist()),
        findings=tuple(collapse_findings(raw, shares)),
        notes=labelled.notes,
        metrics=TrainingScores(raw, None if stored is None else scores(stored.calibration(logits), known, shares)),
        model_verdict=verdict,
        calibrations={}
        if stored is None
        else {"default": NamedCalibration(stored.calibration.to_json(), stored.decision.to_json())},
        versions={},
        files=fitted.described.files,
        seed=recipe.seed,
    )
