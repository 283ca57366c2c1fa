"""Walk-forward: N trainings, each on its own past only, and what they said about the stretches that came next.

    |  1  |  2  |  3  |  4  |  5  |      a range cut into N + 2 blocks, here N = 3
    train  valid test                    fold 1
    train  ----- valid test              fold 2
    train  ----------- valid test        fold 3

Every fold is a whole training by the same recipe: its base is pre-trained, its features scaled, its epoch chosen and its
calibration fitted on bars before its test stretch, and no later bar is even handed to it. The test stretches follow one
another without gap or overlap, so the stitched signals are what a trader who re-trained at every edge would have seen.

What is left behind in ``output``:

    NAME-fold-1 .. NAME-fold-N     a checkpoint each: ``flagbt run --ckpt NAME-fold-1`` finds it
    NAME-walk-forward/
        signals.parquet            per bar of the test stretches: logits, probabilities, raw_signal, signal, fold
        walk_forward.json          the folds' ranges, digests, and scores on their own test stretch

To replay the stitched signals through Backtrader, read the file and give its columns to ``run_backtest`` as ``Signals``.
An interrupted walk keeps its finished folds: with ``resume`` it goes on with the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from .. import __version__
from ..arrays import IntArray
from ..data.bars import Bars, utc
from ..data.labels import NO_LABEL
from ..data.time_range import TimeRange
from ..errors import RangeError, TrainingError, UsageError
from ..models.calibration import Calibration
from ..models.checkpoint import Checkpoint, StoredCalibration, read_checkpoint
from ..models.decision import Decision
from ..models.model_signals import ModelSignals
from ..models.signals import Signals
from ..models.statistics import scores
from ..storage.atomic_files import discard_tree, json_text, new_folder
from ..training.base_source import find_base_source
from ..training.preparation import prepare
from ..training.recipe import EpochProgress, Recipe, StepProgress
from ..training.trainer import is_main_process, wait_for_all
from ..training.workspace import described, may_go_on, open_workspace, workspace_of
from .train import train

FORMAT = 1
DESCRIPTION = "walk_forward.json"
SIGNALS = "signals.parquet"


class Fold(NamedTuple):
    """What one fold trains on, is validated and calibrated on, and is tested on: each follows the one before."""

    training: TimeRange
    validation: TimeRange
    test: TimeRange


@dataclass(frozen=True, eq=False)
class WalkForward:
    """What a walk-forward left behind.

    Attributes
    ----------
    folder : Path
        ``NAME-walk-forward``.
    checkpoints : list of Checkpoint
        One a fold, oldest first.
    signals : DataFrame
        As in ``signals.parquet``: the UTC index ``time`` and ``Signals.frame`` with the column ``fold`` (from 1).
        *Causality: row t uses bars <= t, and a checkpoint trained, validated and calibrated on bars before its stretch.*
    values : dict
        ``walk_forward.json``.
    """

    folder: Path
    checkpoints: list[Checkpoint]
    signals: pd.DataFrame
    values: dict[str, Any]


def fold_name(name: str, number: int) -> str:
    """Return the name of a fold's checkpoint, counted from 1."""
    return f"{name}-fold-{number}"


def folds_of(bars: Bars, timerange: TimeRange, count: int) -> list[Fold]:
    """Cut a range into ``count`` + 2 blocks: fold k trains on the first k, is validated on the next, tested on the one after.

    All blocks have the same number of bars, but for the first, which takes what division leaves over.

    Raises
    ------
    UsageError
        When ``count`` is below 1.
    RangeError
        When a block would have no bar.
    """
    if count < 1:
        raise UsageError(f"--walk-forward: expected 1 fold or more, got {count}.")
    part = bars.between(timerange)
    size = (part.stop - part.start) // (count + 2)
    if size < 1:
        raise RangeError(
            f"--walk-forward {count}: the file has {part.stop - part.start:,} bars in the range "
            f"{'of --timerange ' + str(timerange) if timerange != TimeRange() else 'of the whole file'}, and {count} folds "
            f"need {count + 2} blocks. Choose a longer --timerange, or fewer folds."
        )
    at = [part.stop - size * left for left in range(count + 1, -1, -1)]  # where the blocks after the first begin, and the end
    edges = [np.datetime64(bars.time[i]) for i in at[:-1]] + [np.datetime64(bars.time[part.stop - 1] + bars.step)]
    first = np.datetime64(bars.time[part.start])
    return [
        Fold(TimeRange(first, edges[k]), TimeRange(edges[k], edges[k + 1]), TimeRange(edges[k + 1], edges[k + 2]))
        for k in range(count)
    ]


def walk_forward(
    bars: Bars,
    output: Path,
    name: str,
    recipe: Recipe,
    folds: int,
    *,
    more: Sequence[Bars] = (),
    device: torch.device | None = None,
    overwrite: bool = False,
    resume: bool = False,
    on_collapse: str = "warn",
    notify: Callable[[str], None] = lambda _note: None,
    watch: Callable[[int, EpochProgress], None] = lambda _fold, _progress: None,
    on_step: Callable[[int, StepProgress], None] = lambda _fold, _step: None,
) -> WalkForward:
    """Train a checkpoint a fold, and let each speak about the stretch that follows its validation.

    Parameters
    ----------
    output : Path
        The folder of checkpoints.
    name : str
        Of all of it; the folds are called ``NAME-fold-1`` and so on.
    recipe : Recipe
        Its ``training`` is the whole range to walk through (by default the file); it may name no ``validation``.
    folds : int
        How many, 1 or more.
    more : sequence of Bars
        Other series to learn from; each fold learns from what came before its validation.
    overwrite : bool
        Replace what is there of that name, fold by fold.
    resume : bool
        Keep the finished folds of an interrupted walk of the same recipe on the same bars, and go on with the next.
    on_collapse : str
        ``warn`` or ``stop``, as in ``train``.
    notify : callable
        Called with sentences as in ``train``; those about a fold begin with its name.
    watch, on_step : callable
        Called after every epoch, and after every step, with (the fold's number from 1, its progress).

    Raises
    ------
    UsageError
        When the recipe names a validation: every fold has its own.
    TrainingError
        When something of that name exists and ``overwrite`` is not set, and as ``train`` does.
    RangeError
        When a stretch leaves no sample. All folds are looked at before the first is trained.
    """
    if recipe.validation is not None:
        raise UsageError(
            f"--validation {recipe.validation}: with --walk-forward every fold is validated on its own stretch. Leave it out."
        )
    device = device or torch.device("cpu")
    target = output / f"{name}-walk-forward"
    going_on = resume and workspace_of(target).is_dir()  # it is made when the first fold is finished
    if going_on:
        with open_workspace(target, (bars, *more), asdict(recipe), overwrite=False, resume=True):
            pass  # its note vouches for the finished folds
    _refuse_what_is_there(target, [] if going_on else [output / fold_name(name, k + 1) for k in range(folds)], overwrite)

    # 1. What could stand in the way of any fold, before the first is trained
    cut = folds_of(bars, recipe.training, folds)
    pasts = [_past(bars, more, recipe, fold) for fold in cut]
    ground = find_base_source(recipe.preset, recipe.base, recipe.base_layers, recipe.features)
    told = {note for note in (recipe.objective.stacked_note(),) if note is not None}
    for note in told:
        notify(note)
    for number, (fold, past) in enumerate(zip(cut, pasts, strict=True), start=1):
        folder = output / fold_name(name, number)
        _labels(bars, recipe, bars.between(fold.test))
        if going_on and folder.exists():
            continue
        ready = prepare(past.bars, past.more, past.recipe, ground)
        if is_main_process():  # the others may come here when it has begun
            may_go_on(folder, ready.lessons.series, described(past.recipe, ground), overwrite=overwrite, resume=resume)
        for note in (each for each in ready.notes if each not in told):
            notify(f"{folder.name}: {note}")
            told.add(note)

    checkpoints: list[Checkpoint] = []
    frames: list[pd.DataFrame] = []
    entries: list[dict[str, Any]] = []
    index = pd.DatetimeIndex(bars.time, name="time").tz_localize("UTC")
    for number, (fold, past) in enumerate(zip(cut, pasts, strict=True), start=1):
        # 2. A training that is handed its past, and not one bar more
        folder = output / fold_name(name, number)
        if going_on and folder.exists():
            checkpoint = _finished(folder, fold, bars)
        else:
            checkpoint = train(
                past.bars,
                folder,
                past.recipe,
                more=past.more,
                device=device,
                overwrite=overwrite,
                resume=resume,
                on_collapse=on_collapse,
                watch=partial(watch, number),
                on_step=partial(on_step, number),
            )
            for note in (each for each in checkpoint.values["notes"] if each not in told):
                notify(f"{folder.name}: {note}")
        if number == 1 and not going_on:
            with open_workspace(target, (bars, *more), asdict(recipe), overwrite=True, resume=False):
                pass  # its note is there from now on

        # 3. What it says about the stretch that follows, through the path that serving takes
        stretch = bars.between(fold.test)
        signals = _signals(checkpoint, bars, stretch, device)
        frames.append(signals.frame(index[stretch]).assign(fold=np.int16(number)))
        checkpoints.append(checkpoint)

        # 4. How right that was; a label looks ahead, so that of the last bars is only known where the range goes on
        entries.append(_entry(number, fold, checkpoint, signals, _labels(bars, recipe, stretch)))

    # 5. The folder, whole or not at all
    stitched = pd.concat(frames)
    values = _description(bars, recipe, name, TimeRange(cut[0].training.start, cut[-1].test.stop), entries)
    if is_main_process():
        try:
            with new_folder(target, overwrite=overwrite) as folder:
                stitched.to_parquet(folder / SIGNALS, engine="pyarrow", compression="zstd")
                (folder / DESCRIPTION).write_text(json_text(values), encoding="utf-8")
        except OSError as error:
            raise TrainingError(
                f"--output: {target} cannot be written: {error.strerror or error}. Its folds are kept: mend that, and add "
                "--resume."
            ) from None
        discard_tree(workspace_of(target))
    wait_for_all()
    return WalkForward(target, checkpoints, stitched, values)


class _Past(NamedTuple):
    """What the training of one fold is handed."""

    bars: Bars
    more: list[Bars]
    recipe: Recipe


def _past(bars: Bars, more: Sequence[Bars], recipe: Recipe, fold: Fold) -> _Past:
    """Cut everything where the fold's validation ends. *Causality: no later bar is in it.*"""
    within = TimeRange(recipe.training.start, fold.training.stop)  # another series may begin before this one
    return _Past(
        bars.take(slice(0, bars.between(fold.validation).stop)),
        [each.take(each.between(TimeRange(None, fold.validation.stop))) for each in more],
        replace(recipe, training=within, validation=fold.validation),
    )


def _refuse_what_is_there(target: Path, folds: list[Path], overwrite: bool) -> None:
    there = next((each for each in (target, *folds) if each.exists()), None)
    if there is not None and not overwrite:
        go_on = ", --resume to go on after it" if workspace_of(target).is_dir() else ""
        raise TrainingError(
            f"--output: {there} exists. Choose another --name{go_on}, or --overwrite to replace it when its training is done."
        )
    if target.exists() and not (target / DESCRIPTION).is_file():
        raise TrainingError(
            f"--overwrite: {target} is there, but it is no walk-forward, so it is not replaced. Choose another --name."
        )


def _finished(folder: Path, fold: Fold, bars: Bars) -> Checkpoint:
    """Return a fold's checkpoint that an interrupted walk left; the walk's note already vouches for bars and recipe."""
    checkpoint = read_checkpoint(folder)
    for purpose, wanted in (("training", fold.training), ("validation", fold.validation)):
        found = checkpoint.ranges[purpose]
        if bars.between(found) != bars.between(wanted):
            raise TrainingError(
                f"--resume: {folder} has the {purpose} range {found}, and this walk would give it {wanted}: the number of "
                "folds was another. Give the same --walk-forward, or --overwrite to begin again."
            )
    return checkpoint


def _stored(checkpoint: Checkpoint) -> StoredCalibration:
    """Return the calibration of a fold, none where its validation allowed none."""
    if checkpoint.calibration_names():
        return checkpoint.stored_calibration()
    return StoredCalibration(Calibration(), Decision())


def _signals(checkpoint: Checkpoint, bars: Bars, stretch: slice, device: torch.device) -> Signals:
    stored = _stored(checkpoint)
    model = ModelSignals(checkpoint=checkpoint, calibration=stored.calibration, decision=stored.decision, device=str(device))
    before = stretch.start - model.warmup_bars  # a training block is longer than that, or nothing would have been trained
    return model(bars.take(slice(before, stretch.stop))).take(slice(model.warmup_bars, None))


def _labels(bars: Bars, recipe: Recipe, stretch: slice) -> IntArray:
    """Return the labels of a test stretch; no bar after the range is looked at."""
    within = bars.take(slice(0, bars.between(recipe.training).stop))
    labels = recipe.labels.labels(within)[stretch]
    if (labels == NO_LABEL).all():
        raise RangeError(
            f"--walk-forward: none of the {len(labels):,} bars of the test stretch from {utc(bars.time[stretch.start])} on has "
            f"a label of {recipe.labels}. Choose fewer folds, or another --timerange."
        )
    return labels


def _entry(number: int, fold: Fold, checkpoint: Checkpoint, signals: Signals, labels: IntArray) -> dict[str, Any]:
    assert signals.probabilities is not None  # for mypy: a model speaks
    stored = _stored(checkpoint)
    return {
        "fold": number,
        "checkpoint": checkpoint.name,
        "digest": checkpoint.digest,
        "ranges": {purpose: str(part) for purpose, part in fold._asdict().items()},
        "calibration": stored.calibration.to_json(),
        "decision": str(stored.decision),
        "model_verdict": checkpoint.values["model_verdict"]["verdict"],
        "scores": scores(signals.probabilities, labels, checkpoint.label_shares),
        "notes": checkpoint.values.get("notes", []),
    }


def _description(bars: Bars, recipe: Recipe, name: str, timerange: TimeRange, entries: list[dict[str, Any]]) -> dict[str, Any]:
    rows = np.array([entry["scores"]["rows"] for entry in entries])
    pooled = {key: float(np.average([entry["scores"][key] for entry in entries], weights=rows)) for key in ("nll", "nll_prior")}
    return {
        "format": FORMAT,
        "name": name,
        "flagbt": __version__,
        "data": bars.to_json(),
        "labels": recipe.labels.to_json(),
        "range": str(timerange),
        "folds": entries,
        "scores": {"rows": int(rows.sum()), **pooled},
    }
