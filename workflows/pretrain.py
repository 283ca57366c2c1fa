"""Make a base: from bars to a base folder, so that many trainings start from one pre-training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..data.bars import Bars, utc
from ..data.feature_schema import FeatureSchema
from ..data.features import feature_set
from ..data.labels import LabelSpec
from ..data.time_range import TimeRange
from ..errors import RangeError, TrainingError, UsageError
from ..models.kinds.language_model import PRESET as LANGUAGE_MODEL
from ..models.network import write_tensors
from ..models.stored_base import DESCRIPTION, FORMAT, WEIGHTS, StoredBase, read_base
from ..storage.atomic_files import discard_tree, json_text, new_folder, sha256_of
from ..training.base_source import DEFAULT_FEATURES, DEFAULT_PRESET, preset_architecture
from ..training.pretrain import BINS, SCHEDULE, pretrain
from ..training.recipe import EpochProgress, StepProgress
from ..training.samples import gather_samples
from ..training.trainer import Schedule, is_main_process, wait_for_all
from ..training.workspace import open_workspace


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """Everything that decides a base, besides the bars.

    Parameters
    ----------
    preset : str
        ``tiny``, ``small`` or ``88m``.
    timerange : TimeRange
        The bars to learn from; all by default.
    features : str
        A feature set's name.
    horizon_bars : int
        Bars at the range's end that are read but not learned from, as many as a training's labels reach ahead: then
        the base is the one that ``flagbt train`` makes on that training range, to the last bit.
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
    watch: Callable[[EpochProgress], None] = lambda _progress: None,
    on_step: Callable[[StepProgress], None] = lambda _step: None,
) -> StoredBase:
    """Pre-train a base by next-bar prediction and write its folder ``target``.

    While it runs, every epoch is saved in ``.NAME.training`` beside it, so that a killed pre-training can go on.

    Parameters
    ----------
    target : Path
        The base's folder.
    more : sequence of Bars
        Other series to learn from, in the same range.
    overwrite : bool
        Replace what is there, finished or unfinished, when the pre-training is done.
    resume : bool
        Go on from the last finished save of the same recipe on the same bars; without one, begin.
    watch, on_step : callable
        Called after every epoch, and after every step.

    Raises
    ------
    TrainingError
        When ``target`` exists and ``overwrite`` is not set, or an unfinished one is there and neither ``resume`` nor
        ``overwrite`` is set, or the folder cannot be written.
    RangeError
        When the range leaves too few samples.
    UsageError
        When the preset or the feature set is unknown, or ``horizon_bars`` is below 1.
    """
    if recipe.preset == LANGUAGE_MODEL:
        raise UsageError(
            f"--preset: '{LANGUAGE_MODEL}' is pre-trained already: use it in flagbt train. Here: tiny, small or 88m."
        )
    if recipe.horizon_bars < 1:
        raise UsageError(f"--horizon-bars: {recipe.horizon_bars} is below 1: the bar to foresee must lie in the range.")
    if target.exists() and not overwrite:
        raise TrainingError(
            f"--output: {target} exists. Choose another --name, or --overwrite to replace it when the pre-training is done."
        )
    features = feature_set(recipe.features)
    architecture = preset_architecture(recipe.preset, len(features.columns))
    part = bars.between(recipe.timerange)
    sample = np.zeros(len(bars), dtype=bool)
    sample[max(part.start, features.warmup_bars + architecture.receptive_bars) : max(0, part.stop - recipe.horizon_bars)] = True
    if sample.sum() < BINS:
        raise RangeError(
            f"--timerange {recipe.timerange} leaves {sample.sum()} samples: the file has {part.stop - part.start:,} bars there "
            f"({utc(bars.time[0])} .. {utc(bars.time[-1])} in all), {features.warmup_bars + architecture.receptive_bars:,} go "
            f"to the warm-up and {recipe.horizon_bars} to the end. Choose a longer range."
        )
    lessons = gather_samples(
        bars,
        more,
        labels=LabelSpec(horizon_bars=recipe.horizon_bars),
        training=sample,
        within=recipe.timerange,
        warmup_bars=features.warmup_bars + architecture.receptive_bars,
    )
    schema = FeatureSchema.fit(features, lessons.sampled(features))
    with open_workspace(target, lessons.series, asdict(recipe), overwrite=overwrite, resume=resume) as work:
        base = pretrain(
            lessons,
            lessons.rows(schema),
            architecture=architecture,
            first_row=schema.warmup_bars,
            schedule=recipe.schedule,
            device=device or torch.device("cpu"),
            on_epoch_end=lambda epoch, loss: watch(
                EpochProgress("pretraining", recipe.schedule.epochs, {"epoch": epoch, "train_loss": loss})
            ),
            on_step=lambda *step: on_step(StepProgress("pretraining", recipe.schedule.epochs, *step)),
            folder=work / "pretraining",
        )
        values: dict[str, Any] = {
            "format": FORMAT,
            "preset": recipe.preset,
            "architecture": architecture.to_json(),
            "schema": schema.to_json(),
            "range": str(lessons.seen),
            "samples": int(lessons.training.sum()),
            "horizon_bars": recipe.horizon_bars,
            "data": bars.to_json(),
            **({"more_data": [each.to_json() for each in more]} if more else {}),
            "schedule": recipe.schedule.to_json(),
            "losses": base.losses,
            "versions": {"flagbt": __version__, **{name: version(name) for name in ("numpy", "torch", "transformers")}},
        }
        if is_main_process():
            try:
                with new_folder(target, overwrite=overwrite) as folder:
                    write_tensors(folder / WEIGHTS, base.weights)
                    described = {**values, "files": {WEIGHTS: sha256_of(folder / WEIGHTS)}}
                    (folder / DESCRIPTION).write_text(json_text(described), encoding="utf-8")
            except OSError as error:
                raise TrainingError(
                    f"--output: {target} cannot be written: {error.strerror or error}. Its saves are kept in {work}: mend "
                    "that, and add --resume."
                ) from None
            discard_tree(work)
    wait_for_all()
    return read_base(target)
