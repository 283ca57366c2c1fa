"""Train a checkpoint, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Unpack

from ..data.reading import AS_WRITTEN, ReadingOptions, reading_from
from ..errors import UsageError, kind_of, known_arguments, moved_arguments, python_words, quoted_value
from ..models.checkpoint import Checkpoint
from ..storage.paths import path_of
from ..training.fit_recipe import FitRecipe
from ..training.progress import SILENT, Monitor
from ..training.recipe import Recipe
from ..training.trainer import Schedule
from .arguments import instance_or_none
from .bars_input import BarsInput, bars_from, is_path


class TrainOptions(ReadingOptions, total=False):
    """How the files of bars are read, and the kind of model."""

    model: str | None


@moved_arguments(
    "Give monitor=flagbt.Monitor(...), with the same names; watch is on_epoch there.",
    *("notify", "watch", "on_step", "report_to", "on_collapse"),
)
@known_arguments("train", *TrainOptions.__annotations__)
def train(
    data: BarsInput,
    target: str | Path,
    recipe: Recipe | None = None,
    *,
    more: Sequence[BarsInput] = (),
    device: str = "cpu",
    overwrite: bool = False,
    resume: bool = False,
    monitor: Monitor = SILENT,
    **stated: Unpack[TrainOptions],
) -> Checkpoint:
    """Train a checkpoint and write its folder.

    While it runs, every epoch is saved next to ``target``, so a training that was stopped can be resumed.

    Parameters
    ----------
    data : DataFrame, str, Path, Bars
        As in `flagbt.backtest`.
    target : str or Path
        The checkpoint's folder; `flagbt.backtest` takes the checkpoint that is returned, or its folder.
    recipe : Recipe, optional
        What to train; by default a tiny model, validated on the last fifth of the bars.
    model : str, optional
        The kind of another model than a network, ``KIND`` or ``KIND:ARGUMENT``. Of ``recipe`` its ranges, features, labels,
        embargo and the schedule's seed are then used, and it states nothing else.
    more : sequence of the same
        Other series to train on, up to the start of the validation; only ``data`` is validated.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    overwrite : bool
        Replace an existing folder when the training is done.
    resume : bool
        Continue from the last complete save of the same recipe on the same bars.
    monitor : Monitor
        What the training reports to.
    columns, time_format, time_zone, symbol, closed_hours
        With a path, as in `flagbt.read_bars`; for every path in ``more`` too.

    Raises
    ------
    FlagbtError
        In plain words, for anything that is wrong with an argument, the bars or the training; see
        `flagbt.workflows.train.train_on`.
    """
    with python_words():
        recipe = instance_or_none(recipe, Recipe, "recipe", "recipe=flagbt.Recipe()") or Recipe()
        monitor = instance_or_none(monitor, Monitor, "monitor", "monitor=flagbt.Monitor()") or SILENT
        if isinstance(more, str) or not isinstance(more, Sequence):
            raise UsageError(f"more: expected a list of DataFrames, paths or Bars, got {kind_of(more)}.")
        for name, value in (("overwrite", overwrite), ("resume", resume)):
            if not isinstance(value, bool):
                raise UsageError(f"{name}: expected True or False, got {quoted_value(value)}.")
        if not isinstance(device, str):
            raise UsageError(f"device: expected text such as 'cpu' or 'cuda', got {kind_of(device)}.")
        model = stated.get("model")
        folder, reading = path_of(target, "target", is_new=True), reading_from(stated)
        fit = None if model is None else _fit_recipe(model, recipe, {"device": device != "cpu", "resume": resume})
        bars = bars_from(data, reading)
        others = [bars_from(each, reading if is_path(each) else AS_WRITTEN, argument="more") for each in more]

        if fit is not None:
            from .train_model import train_model

            return train_model(bars, folder, fit, more=others, overwrite=overwrite, monitor=monitor)
        from ..models.device import pick_device
        from .train import train_on

        return train_on(
            bars, folder, recipe, more=others, device=pick_device(device), overwrite=overwrite, resume=resume, monitor=monitor
        )


def _fit_recipe(model: object, recipe: Recipe, given: Mapping[str, bool]) -> FitRecipe:
    """Return the part of a recipe that a model of another kind reads; refuse what only a network does, if it is given."""
    if not isinstance(model, str):
        raise UsageError(f"model: expected text, the name of a kind, got {kind_of(model)}.")
    fit = FitRecipe(
        model=model,
        training=recipe.training,
        validation=recipe.validation,
        features=recipe.features or "default",
        labels=recipe.labels,
        embargo_bars=recipe.embargo_bars,
        seed=recipe.schedule.seed,
    )
    read = {each.name for each in fields(FitRecipe)}
    plain = Recipe(schedule=Schedule(seed=fit.seed))
    stated = [each.name for each in fields(Recipe) if getattr(recipe, each.name) != getattr(plain, each.name)]
    others = [name for name in stated if name not in read] + [name for name, is_given in given.items() if is_given]
    if others:
        raise UsageError(
            f"model: {', '.join(others)} {'belongs' if len(others) == 1 else 'belong'} to the training of a network, which "
            "model replaces. Leave one of them out."
        )
    return fit
