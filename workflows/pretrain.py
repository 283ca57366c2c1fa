"""Make a base: from bars to a base folder, so that many trainings can share one pre-training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..data.bars import Bars, utc
from ..data.feature_schema import FeatureSchema
from ..data.features import feature_set
from ..data.labels import LabelSpec
from ..data.time_range import TimeRange
from ..errors import RangeError, UsageError
from ..models.description import BarsDescription, BaseDescription, described_bars
from ..models.kinds.architecture import Architecture
from ..models.kinds.language_model import PRESET as LANGUAGE_MODEL
from ..models.kinds.network import write_tensors
from ..storage.atomic_files import discard_tree, json_text, sha256_of
from ..training.base_source import DEFAULT_FEATURES, DEFAULT_PRESET, preset_architecture
from ..training.pretrain import BINS, SCHEDULE, pretrain
from ..training.progress import SILENT, Monitor
from ..training.result_folder import check_target, result_folder
from ..training.samples import Samples, gather_samples
from ..training.stored_base import DESCRIPTION, FORMAT, WEIGHTS, StoredBase, read_base
from ..training.trainer import Schedule, is_main_process, wait_for_all
from ..training.workspace import open_workspace


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """Everything that determines a base, besides the bars.

    Parameters
    ----------
    preset : str
        ``tiny``, ``small`` or ``88m``.
    timerange : TimeRange
        The bars to train on; by default all.
    features : str
        A feature set's name.
    horizon_bars : int
        How many bars at the range's end are read but not trained on. With a training's label horizon, the base is
        bit-identical to the one that ``flagbt train`` makes on that training range.
    schedule : Schedule
    """

    preset: str = DEFAULT_PRESET
    timerange: TimeRange = field(default_factory=TimeRange)
    features: str = DEFAULT_FEATURES
    horizon_bars: int = field(default_factory=lambda: LabelSpec().horizon_bars)
    schedule: Schedule = SCHEDULE


def make_base(
    bars: Bars,
    target: Path,
    recipe: BaseRecipe,
    *,
    more: Sequence[Bars] = (),
    device: torch.device | None = None,
    overwrite: bool = False,
    resume: bool = False,
    monitor: Monitor = SILENT,
) -> StoredBase:
    """Pre-train a base by next-bar prediction and write its folder ``target``.

    While it runs, every epoch is saved in ``.NAME.training`` next to ``target``, so a killed pre-training can be resumed.

    Parameters
    ----------
    target : Path
        The base's folder.
    more : sequence of Bars
        Other series to train on, in the same range.
    overwrite : bool
        Replace an existing folder, finished or unfinished, when the pre-training is done.
    resume : bool
        Continue from the last complete save of the same recipe on the same bars; without one, start.

    Raises
    ------
    TrainingError
        When ``target`` exists and ``overwrite`` is not set, an unfinished training exists and neither ``resume`` nor
        ``overwrite`` is set, or the folder cannot be written.
    RangeError
        When the range leaves too few samples.
    UsageError
        When the preset or the feature set is unknown, or ``horizon_bars`` is below 1.
    """
    if recipe.preset == LANGUAGE_MODEL:
        raise UsageError(
            f"--preset: '{LANGUAGE_MODEL}' is pre-trained already: use it in flagbt train. Choose tiny, small or 88m here."
        )
    if recipe.horizon_bars < 1:
        raise UsageError(f"--horizon-bars: expected 1 or more, got {recipe.horizon_bars}: the next bar must be in the range.")
    check_target(target, "pre-training", overwrite=overwrite)
    features = feature_set(recipe.features)
    architecture = preset_architecture(recipe.preset, len(features.columns))
    samples = _samples(bars, more, recipe, features.warmup_bars + architecture.receptive_bars)
    schema = FeatureSchema.fit(features, samples.training_features(features))
    with open_workspace(target, samples.series, asdict(recipe), overwrite=overwrite, resume=resume) as workspace:
        base = pretrain(
            samples,
            samples.rows(schema),
            architecture=architecture,
            first_row=schema.warmup_bars,
            schedule=recipe.schedule,
            device=device or torch.device("cpu"),
            folder=workspace / "pretraining",
            monitor=monitor,
        )
        if is_main_process():
            remedy = f"Its saves are kept in {workspace}: fix that, and add --resume."
            with result_folder(target, remedy, overwrite=overwrite) as folder:
                write_tensors(folder / WEIGHTS, base.weights)
                described = _description(recipe, architecture, schema, samples, base.losses)
                described = replace(described, files={WEIGHTS: sha256_of(folder / WEIGHTS)})
                (folder / DESCRIPTION).write_text(json_text(described.to_json()), encoding="utf-8")
            discard_tree(workspace)
    wait_for_all()
    return read_base(target)


def _samples(bars: Bars, more: Sequence[Bars], recipe: BaseRecipe, warmup_bars: int) -> Samples:
    part = bars.between(recipe.timerange)
    training = np.zeros(len(bars), dtype=bool)
    training[max(part.start, warmup_bars) : max(0, part.stop - recipe.horizon_bars)] = True
    if training.sum() < BINS:
        raise RangeError(
            f"--timerange {recipe.timerange} leaves {training.sum()} samples: the file has {part.stop - part.start:,} bars "
            f"there ({utc(bars.time[0])} .. {utc(bars.time[-1])} in all), {warmup_bars:,} go to the warm-up and "
            f"{recipe.horizon_bars} to the end. Choose a longer range."
        )
    labels = LabelSpec(horizon_bars=recipe.horizon_bars)
    return gather_samples(bars, more, labels=labels, training=training, within=recipe.timerange, warmup_bars=warmup_bars)


def _description(
    recipe: BaseRecipe, architecture: Architecture, schema: FeatureSchema, samples: Samples, losses: list[float]
) -> BaseDescription:
    bars, *more = samples.series
    return BaseDescription(
        format=FORMAT,
        preset=recipe.preset,
        architecture=architecture.to_json(),
        schema=schema.to_json(),
        range=str(samples.seen),
        samples=int(samples.training.sum()),
        horizon_bars=recipe.horizon_bars,
        data=BarsDescription.from_json(bars.to_json()),
        more_data=described_bars([each.to_json() for each in more]),
        schedule=recipe.schedule.to_json(),
        losses=tuple(losses),
        versions={"flagbt": __version__, **{name: version(name) for name in ("numpy", "torch", "transformers")}},
    )
