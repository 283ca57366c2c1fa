"""Walk-forward: N trainings, each on its own past only, and their predictions for the segments that follow.

    |  1  |  2  |  3  |  4  |  5  |      a range cut into N + 2 blocks, here N = 3
    train  valid test                    fold 1
    train  ----- valid test              fold 2
    train  ----------- valid test        fold 3

Every fold is a complete training by the same recipe: its base is pre-trained, its features scaled, its epoch chosen and its
calibration fitted on bars before its test segment; its training receives no later bar. The test segments follow one another
without gap or overlap, so a trader who re-trained at every edge would have seen exactly the stitched signals.

The folder of checkpoints then contains:

    NAME-fold-1 .. NAME-fold-N     one checkpoint per fold: ``flagbt run --ckpt NAME-fold-1`` finds it
    NAME-walk-forward/
        signals.parquet            per bar of the test segments: logits, probabilities, raw_signal, signal, fold
        walk_forward.json          the folds' ranges and digests, and their scores on their own test segments

To replay the stitched signals through Backtrader, read the file and pass its columns to ``run_backtest`` as ``Signals``.
An interrupted walk keeps its finished folds: with ``resume`` it continues with the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

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
from ..models.description import BarsDescription, FoldDescription, PooledScores, TrainingDescription, WalkForwardDescription
from ..models.model_signals import ModelSignals
from ..models.signals import Signals
from ..models.statistics import scores
from ..storage.atomic_files import discard_tree, json_text
from ..training.base_source import find_base_source
from ..training.preparation import prepare
from ..training.progress import SILENT, Monitor
from ..training.recipe import Recipe
from ..training.result_folder import result_folder
from ..training.trainer import is_main_process, wait_for_all
from ..training.workspace import can_resume, open_workspace, recipe_key, resume_key, workspace_of
from .train import train_on

FORMAT = 1
DESCRIPTION = "walk_forward.json"
SIGNALS = "signals.parquet"


@dataclass(frozen=True)
class WalkForwardRecipe:
    """Everything that determines a walk-forward, besides the bars.

    Parameters
    ----------
    recipe : Recipe
        Of every fold. Its ``training`` is the range to walk through, by default the whole file; it names no ``validation``.
    folds : int
        How many, 1 or more.

    Raises
    ------
    UsageError
        When the recipe names a validation: every fold has its own.
    """

    recipe: Recipe
    folds: int

    def __post_init__(self) -> None:
        if self.recipe.validation is not None:
            raise UsageError(
                f"--validation {self.recipe.validation}: with --walk-forward every fold is validated on its own segment. "
                "Leave it out."
            )


class Fold(NamedTuple):
    """The ranges of one fold, each of which follows the one before; it is calibrated on the validation too."""

    training: TimeRange
    validation: TimeRange
    test: TimeRange


@dataclass(frozen=True, eq=False)
class WalkForward:
    """The result of a walk-forward.

    Attributes
    ----------
    folder : Path
        ``NAME-walk-forward``.
    checkpoints : list of Checkpoint
        One per fold, oldest first.
    signals : DataFrame
        As in ``signals.parquet``: the UTC index ``time`` and ``Signals.frame`` with the column ``fold`` (from 1).
        *Causality: row t uses bars <= t, and a checkpoint trained, validated and calibrated on bars before its segment.*
    description : WalkForwardDescription
        ``walk_forward.json``.
    """

    folder: Path
    checkpoints: list[Checkpoint]
    signals: pd.DataFrame
    description: WalkForwardDescription


def fold_name(name: str, number: int) -> str:
    """Return the name of a fold's checkpoint, counted from 1."""
    return f"{name}-fold-{number}"


def folds_of(bars: Bars, timerange: TimeRange, count: int) -> list[Fold]:
    """Cut a range into ``count`` + 2 blocks: fold k trains on the first k, is validated on the next, tested on the one after.

    All blocks have the same number of bars, except for the first, which also takes the remainder.

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
    target: Path,
    recipe: WalkForwardRecipe,
    *,
    more: Sequence[Bars] = (),
    device: torch.device | None = None,
    overwrite: bool = False,
    resume: bool = False,
    monitor: Monitor = SILENT,
) -> WalkForward:
    """Train a checkpoint per fold, and predict the segment that follows its validation.

    Parameters
    ----------
    target : Path
        ``FOLDER/NAME``: the results are the folders ``NAME-fold-1`` and so on, and ``NAME-walk-forward``, in ``FOLDER``.
    more : sequence of Bars
        Other series to train on; each fold uses their bars up to its validation.
    overwrite : bool
        Replace existing results of that name, fold by fold.
    resume : bool
        Keep the finished folds of an interrupted walk of the same recipe on the same bars, and continue with the next.
    monitor : Monitor
        As in ``train``, but its ``report_to`` is not used. A note on a fold begins with the fold's name, and the stage of a
        progress with the fold's number.

    Raises
    ------
    TrainingError
        When results of that name exist and ``overwrite`` is not set; otherwise as ``train``.
    RangeError
        When a segment leaves no sample. All folds are checked before the first is trained.
    """
    folder = target.with_name(f"{target.name}-walk-forward")
    resuming = resume and workspace_of(folder).is_dir()  # it is made when the first fold is finished
    if resuming:
        _write_or_check_note(folder, (bars, *more), recipe, resume=True)
    folders = [target.with_name(fold_name(target.name, number)) for number in range(1, recipe.folds + 1)]
    _refuse_existing(folder, [] if resuming else folders, overwrite)

    # 1. What could stop any fold, before the first is trained
    folds = folds_of(bars, recipe.recipe.training, recipe.folds)
    pasts = [
        _past(bars, more, recipe.recipe, fold, path, finished=resuming and path.exists())
        for fold, path in zip(folds, folders, strict=True)
    ]
    reported = _check_folds(bars, recipe.recipe, pasts, monitor, overwrite=overwrite, resume=resume)

    checkpoints, tested = [], []
    for number, past in enumerate(pasts, start=1):
        # 2. A training that receives its past and not one bar more
        if past.finished:
            checkpoint = _finished_checkpoint(past, bars)
        else:
            checkpoint = train_on(
                past.bars,
                past.folder,
                past.recipe,
                more=past.more,
                device=device,
                overwrite=overwrite,
                resume=resume,
                monitor=monitor.of_fold(f"{number}/{recipe.folds}"),
            )
            _report(past.folder, checkpoint.described.notes, reported, monitor)
        if number == 1 and not resuming:
            _write_or_check_note(folder, (bars, *more), recipe, resume=False)
        checkpoints.append(checkpoint)

        # 3. Its predictions for the segment that follows, computed as in a run
        tested.append(_signals(checkpoint, bars, bars.between(past.fold.test), device or torch.device("cpu")))

    # 4. Their scores, and the folder, whole or not at all
    description = _description(bars, recipe.recipe, target.name, pasts, checkpoints, tested)
    stitched = _stitched(bars, pasts, tested)
    if is_main_process():
        with result_folder(folder, "Its folds are kept: fix that, and add --resume.", overwrite=overwrite) as new:
            stitched.to_parquet(new / SIGNALS, engine="pyarrow", compression="zstd")
            (new / DESCRIPTION).write_text(json_text(description.to_json()), encoding="utf-8")
        discard_tree(workspace_of(folder))
    wait_for_all()
    return WalkForward(folder, checkpoints, stitched, description)


def _write_or_check_note(folder: Path, series: Sequence[Bars], recipe: WalkForwardRecipe, *, resume: bool) -> None:
    """Write the note in the workspace that vouches for the finished folds; with ``resume``, check that it is of this walk."""
    with open_workspace(folder, series, recipe_key(recipe.recipe), overwrite=not resume, resume=resume):
        pass


class _Past(NamedTuple):
    """One fold, and what its training receives."""

    folder: Path
    finished: bool  # by an interrupted walk
    fold: Fold
    bars: Bars
    more: list[Bars]
    recipe: Recipe


def _past(bars: Bars, more: Sequence[Bars], recipe: Recipe, fold: Fold, folder: Path, *, finished: bool) -> _Past:
    """Cut everything where the fold's validation ends. *Causality: no later bar is in it.*"""
    within = TimeRange(recipe.training.start, fold.training.stop)  # another series may begin before this one
    return _Past(
        folder,
        finished,
        fold,
        bars.take(slice(0, bars.between(fold.validation).stop)),
        [each.take(each.between(TimeRange(None, fold.validation.stop))) for each in more],
        replace(recipe, training=within, validation=fold.validation),
    )


def _check_folds(
    bars: Bars, recipe: Recipe, pasts: list[_Past], monitor: Monitor, *, overwrite: bool, resume: bool
) -> set[str]:
    """Check every fold that is still to be trained, report its notes, and return them."""
    base_source = find_base_source(recipe.preset, recipe.base, recipe.base_layers, recipe.features)
    reported = {note for note in (recipe.objective.stacked_note(),) if note is not None}
    for note in reported:
        monitor.notify(note)
    for past in pasts:
        _labels(bars, recipe, bars.between(past.fold.test))
        if past.finished:
            continue
        setup = prepare(past.bars, past.more, past.recipe, base_source)
        if is_main_process():  # the others may arrive here when it has begun
            key = resume_key(past.recipe, base_source)
            can_resume(past.folder, setup.samples.series, key, overwrite=overwrite, resume=resume)
        _report(past.folder, setup.notes, reported, monitor)
        reported.update(setup.notes)
    return reported


def _report(folder: Path, notes: Sequence[str], reported: set[str], monitor: Monitor) -> None:
    for note in notes:
        if note not in reported:
            monitor.notify(f"{folder.name}: {note}")


def _refuse_existing(folder: Path, folds: list[Path], overwrite: bool) -> None:
    existing = next((each for each in (folder, *folds) if each.exists()), None)
    if existing is not None and not overwrite:
        resume = ", --resume to continue after it" if workspace_of(folder).is_dir() else ""
        raise TrainingError(
            f"--output: {existing} exists. Choose another --name{resume}, or --overwrite to replace it when its training is "
            "done."
        )
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise TrainingError(f"--overwrite: {folder} is not a walk-forward, so it is not replaced. Choose another --name.")


def _finished_checkpoint(past: _Past, bars: Bars) -> Checkpoint:
    """Return a fold's checkpoint from an interrupted walk, whose note already vouches for bars and recipe."""
    checkpoint = read_checkpoint(past.folder)
    for purpose, wanted in (("training", past.fold.training), ("validation", past.fold.validation)):
        found = checkpoint.ranges[purpose]
        if bars.between(found) != bars.between(wanted):
            raise TrainingError(
                f"--resume: {past.folder} has the {purpose} range {found}, and this walk would give it {wanted}: the number of "
                "folds was different. Give the same --walk-forward, or --overwrite to start again."
            )
    return checkpoint


def _stored(checkpoint: Checkpoint) -> StoredCalibration:
    """Return a fold's calibration, or none where its validation is too small for one."""
    if checkpoint.calibration_names():
        return checkpoint.stored_calibration()
    return StoredCalibration(Calibration(), Decision())


def _signals(checkpoint: Checkpoint, bars: Bars, part: slice, device: torch.device) -> Signals:
    stored = _stored(checkpoint)
    model = ModelSignals(checkpoint=checkpoint, calibration=stored.calibration, decision=stored.decision, device=str(device))
    start = part.start - model.warmup_bars  # a training block is longer, or its training would have failed
    return model(bars.take(slice(start, part.stop))).take(slice(model.warmup_bars, None))


def _labels(bars: Bars, recipe: Recipe, part: slice) -> IntArray:
    """Return the labels of a test segment; they use no bar after the range, so the last ones are unknown."""
    within = bars.take(slice(0, bars.between(recipe.training).stop))
    labels = recipe.labels.labels(within)[part]
    if (labels == NO_LABEL).all():
        raise RangeError(
            f"--walk-forward: none of the {len(labels):,} bars of the test segment from {utc(bars.time[part.start])} on has a "
            f"label of {recipe.labels}. Choose fewer folds, or another --timerange."
        )
    return labels


def _stitched(bars: Bars, pasts: list[_Past], tested: list[Signals]) -> pd.DataFrame:
    index = pd.DatetimeIndex(bars.time, name="time").tz_localize("UTC")
    return pd.concat(
        [
            signals.frame(index[bars.between(past.fold.test)]).assign(fold=np.int16(number))
            for number, (past, signals) in enumerate(zip(pasts, tested, strict=True), start=1)
        ]
    )


def _described_fold(number: int, fold: Fold, checkpoint: Checkpoint, signals: Signals, labels: IntArray) -> FoldDescription:
    assert signals.probabilities is not None  # for mypy: a model's signals have them
    stored = _stored(checkpoint)
    return FoldDescription(
        fold=number,
        checkpoint=checkpoint.name,
        digest=checkpoint.digest,
        ranges={purpose: str(part) for purpose, part in fold._asdict().items()},
        calibration=stored.calibration.to_json(),
        decision=str(stored.decision),
        model_verdict=TrainingDescription.from_json(checkpoint.values).model_verdict.verdict,
        scores=scores(signals.probabilities, labels, checkpoint.label_shares),
        notes=checkpoint.described.notes,
    )


def _description(
    bars: Bars, recipe: Recipe, name: str, pasts: list[_Past], checkpoints: list[Checkpoint], tested: list[Signals]
) -> WalkForwardDescription:
    folds = [
        _described_fold(number, past.fold, checkpoint, signals, _labels(bars, recipe, bars.between(past.fold.test)))
        for number, (past, checkpoint, signals) in enumerate(zip(pasts, checkpoints, tested, strict=True), start=1)
    ]
    rows = [fold.scores.rows for fold in folds]
    return WalkForwardDescription(
        format=FORMAT,
        name=name,
        flagbt=__version__,
        data=BarsDescription.from_json(bars.to_json()),
        labels=recipe.labels.to_json(),
        range=str(TimeRange(pasts[0].fold.training.start, pasts[-1].fold.test.stop)),
        folds=tuple(folds),
        scores=PooledScores(
            rows=sum(rows),
            nll=float(np.average([fold.scores.nll for fold in folds], weights=rows)),
            nll_prior=float(np.average([fold.scores.nll_prior for fold in folds], weights=rows)),
        ),
    )
