"""What can be known before the first epoch is refused or reported before it, and a finished training leaves a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flagbt.data.bars import COLUMNS, Bars
from flagbt.data.labels import TripleBarrier
from flagbt.engine.run_request import RunRequest, Scoring
from flagbt.errors import CheckpointError, RangeError, TrainingError, UsageError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.training.objectives import Objective
from flagbt.training.progress import Monitor
from flagbt.training.recipe import Recipe
from flagbt.training.trainer import DivergedError, Schedule
from flagbt.workflows.backtest import backtest_request
from flagbt.workflows.train import train_on
from flagbt.workflows.walk_forward import WalkForwardRecipe, walk_forward

Walk = Callable[..., Bars]
Command = Callable[..., tuple[int, str, str]]
DAY = np.timedelta64(1, "D")


@pytest.fixture
def recipe(nano_preset: str) -> Recipe:
    """Give the quickest recipe: one epoch of each kind."""
    return Recipe(preset=nano_preset, pretraining=Schedule(epochs=1), schedule=Schedule(epochs=1))


def every_day(bars: Bars) -> Bars:
    """Return the same prices, a bar a day."""
    return with_prices(bars, bars.close, time=np.datetime64("2015-01-01", "ns") + np.arange(len(bars)) * DAY)


def with_prices(bars: Bars, close: Any, *, time: Any = None) -> Bars:
    """Return bars with other closes, opened at the close before, without wicks."""
    open_ = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    return Bars(bars.time if time is None else time, open_, high, low, close, bars.volume, source="made up", synthetic=True)


def rising_from(bars: Bars, n: int) -> Bars:
    """Return bars that rise by 0.5 % each from bar n on: every label there is BUY."""
    close = bars.close.copy()
    close[n:] = close[n - 1] * 1.005 ** np.arange(1, len(bars) - n + 1)
    return with_prices(bars, close)


def notes_and_checkpoint(bars: Bars, folder: Path, recipe: Recipe, **more: Any) -> tuple[list[str], Checkpoint]:
    """Train, and return the notes, marked as late after the first step, with the checkpoint."""
    notes: list[str] = []
    steps: list[int] = []

    def notify(note: str) -> None:
        notes.append(f"{'late: ' if steps else ''}{note}")

    monitor = Monitor(notify=notify, on_step=lambda progress: steps.append(progress.done))
    checkpoint = train_on(bars, folder, recipe, monitor=monitor, **more)
    assert steps
    return notes, checkpoint


@pytest.mark.parametrize("which", ["daily bars", "no SELL in the validation"])
def test_a_validation_that_allows_no_calibration_costs_the_calibration_alone(
    which: str, walk: Walk, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the training runs to its end, writes nothing, and --resume refuses: hours are lost."""
    monkeypatch.chdir(tmp_path)
    bars = every_day(walk(1100, seed=3)) if which == "daily bars" else rising_from(walk(3000, seed=3), 2000)
    notes, checkpoint = notes_and_checkpoint(bars, Path("checkpoints/mine"), recipe)
    # The validation's labels counted by hand: the last fifth, without samples that use training bars and without the horizon
    cut = int(0.8 * len(bars))
    before = checkpoint.model.warmup_bars
    change = bars.close[cut + before + 6 :] / bars.close[cut + before : -6] - 1
    counts = [int((change < -0.01).sum()), int((abs(change) <= 0.01).sum()), int((change > 0.01).sum())]
    assert (sum(counts) < 200) == (which == "daily bars")
    assert (counts[0] == 0) == (which != "daily bars")
    (note,) = notes
    assert f"with all of SELL, HOLD and BUY, got {sum(counts)} ({counts[0]}/{counts[1]}/{counts[2]})" in note
    assert "The checkpoint is written without one, to be run with --calibration none" in note
    assert "late" not in note

    # Every description states it, and the checkpoint runs without one
    assert checkpoint.values["calibrations"] == {}
    assert checkpoint.values["notes"] == notes
    assert checkpoint.values["samples"]["validation"] == sum(counts)
    assert checkpoint.values["metrics"]["validation_calibrated"] is None
    card = (checkpoint.folder / "README.md").read_text()
    assert "Calibration `default`: none\n" in card
    assert note in card
    bars.frame()[list(COLUMNS)].rename_axis("timestamp").to_csv("bars.csv")
    request = RunRequest(ckpt="mine", data=Path("bars.csv"), allow_overlap=True, scoring=Scoring(device="cpu"))
    with pytest.raises(CheckpointError, match=r"'mine' stores no calibration.*Run it with --calibration none, or fit one"):
        backtest_request(request, runs=Path("runs"))
    assert backtest_request(replace(request, calibration="none"), runs=Path("runs")).folder is None


def test_the_command_reports_a_missing_calibration(
    walk: Walk, nano_preset: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a terminal or a script takes a checkpoint for one that has a calibration."""
    monkeypatch.chdir(tmp_path)
    every_day(walk(1100, seed=3)).frame()[list(COLUMNS)].rename_axis("timestamp").to_csv("bars.csv")
    line = ["train", "--data", "bars.csv", "--preset", nano_preset, "--epochs", "1", "--pretrain-epochs", "1"]
    code, out, err = command(*line, "--name", "one")
    assert code == 0, err
    assert err.startswith("No calibration can be fitted on the validation ")  # before the table of epochs
    assert ", not calibrated; always predicting" in out
    assert "It has no calibration: flagbt run --ckpt one --calibration none\n" in out
    code, out, err = command(*line, "--name", "two", "--json")
    printed = json.loads(out)
    assert (code, printed["calibration"]) == (0, None)
    assert printed["notes"] == [err.splitlines()[0]]


@pytest.mark.parametrize(
    ("objective", "stacked"),
    [
        (Objective(weights="inverse", sampler="oversample"), ["--weight-strategy inverse", "--sampler oversample"]),
        (Objective(weights="sqrt", loss="balanced-softmax"), ["--weight-strategy sqrt", "--objective balanced-softmax"]),
        (Objective(sampler="oversample", loss="logit-adjusted"), ["--sampler oversample", "--objective logit-adjusted"]),
        (
            Objective(weights="effective", sampler="oversample", loss="balanced-softmax"),
            ["--weight-strategy effective", "--sampler oversample", "--objective balanced-softmax"],
        ),
        (Objective(weights="inverse"), []),
        (Objective(sampler="oversample", loss="focal"), []),
        (Objective(weights="sqrt", loss="logit-adjusted", tau=0.0), []),
    ],
    ids=lambda each: "" if isinstance(each, list) else f"{each.loss}-{each.weights}-{each.sampler}",
)
def test_stacked_corrections_are_warned_of(objective: Objective, stacked: list[str]) -> None:
    """Two corrections of the same imbalance add up: the model predicts SELL and BUY far too often."""
    note = objective.stacked_note()
    assert (note is None) == (not stacked)
    assert note is None or note.startswith(f"{' and '.join(stacked)} are stacked: ")


def test_a_warning_of_stacked_corrections_comes_before_the_first_epoch(walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """If it comes later, it costs the training."""
    stacked = replace(recipe, objective=Objective(weights="inverse", sampler="oversample"))
    notes, checkpoint = notes_and_checkpoint(walk(3000, seed=3), tmp_path / "mine", stacked)
    assert [note.split(": ")[0] for note in notes] == ["--weight-strategy inverse and --sampler oversample are stacked"]
    assert checkpoint.values["notes"] == notes
    assert checkpoint.calibration_names() == ["default"]


def test_a_training_that_diverges_keeps_what_was_good(walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, a NaN loss in epoch 2 ends in a traceback at the last epoch, with nothing written."""
    bars = walk(3000, seed=3)
    wild = replace(recipe, schedule=Schedule(epochs=4, learning_rate=100.0))
    notes, checkpoint = notes_and_checkpoint(bars, tmp_path / "wild", wild)
    assert len(json.loads((checkpoint.folder / "history.json").read_text())) == checkpoint.values["best_epoch"] == 1
    assert notes[-1].startswith(
        "late: epoch 2: the loss is nan: it diverged at a learning rate of 100. The training ended there, and epoch 1 of the 1 "
    )
    assert checkpoint.values["notes"][-1] == notes[-1].removeprefix("late: ")
    assert np.isfinite(checkpoint.values["metrics"]["validation"]["nll"])
    assert not (tmp_path / ".wild.training").exists()
    with pytest.raises(DivergedError, match=r"epoch 1: the loss is nan: it diverged at a learning rate of 1e\+08, and nothing"):
        train_on(bars, tmp_path / "wilder", replace(recipe, schedule=Schedule(learning_rate=1e8)))
    with pytest.raises(DivergedError, match=r"pre-training, epoch 1: the loss is nan"):
        train_on(bars, tmp_path / "mad", replace(recipe, pretraining=Schedule(epochs=1, learning_rate=1e30)))
    assert [path.name for path in tmp_path.iterdir()] == ["wild"]


def test_a_class_that_only_another_series_has(walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, the mean return of a class that the primary series lacks is NaN, which a checkpoint cannot contain."""
    # Steps of 0.3 % up or of nothing: no SELL in the primary series; the other series has every class
    random = np.random.default_rng(1)
    bars = walk(3000, seed=3)
    bars = with_prices(bars, 100 * np.exp(np.cumsum(np.where(random.random(3000) < 0.5, 0.003, 0.0))))
    other = walk(3000, seed=4)
    checkpoint = train_on(bars, tmp_path / "mine", recipe, more=[other])
    before = checkpoint.model.warmup_bars
    last = int(0.8 * 3000) - 6
    change, elsewhere = (each.close[before + 6 : last + 6] / each.close[before:last] - 1 for each in (bars, other))
    assert not (change < -0.01).any()
    expected = [elsewhere[elsewhere < -0.01].mean(), change[abs(change) <= 0.01].mean(), change[change > 0.01].mean()]
    assert checkpoint.class_returns == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sampler", ["natural", "oversample"])
def test_bars_without_a_label_are_not_samples(sampler: str, walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """Where prices are constant a triple barrier has no label: it would crash the sampler, or train the class -1."""
    bars = walk(3000, seed=3)
    close = bars.close.copy()
    close[1000:1400] = close[999]
    labels = TripleBarrier(12, 1.0, 1.0)
    halted = with_prices(bars, close)
    checkpoint = train_on(halted, tmp_path / "mine", replace(recipe, labels=labels, objective=Objective(sampler=sampler)))
    before = checkpoint.model.warmup_bars
    without = sum(np.diff(np.log(close[t - 168 : t + 1])).std() == 0 for t in range(before, int(0.8 * 3000) - 12))
    assert without > 200
    assert checkpoint.values["samples"]["training"] == int(0.8 * 3000) - 12 - before - without
    close[2300:] = close[2299]
    with pytest.raises(RangeError, match=r"--validation .*: none of its bars has a label of triple-barrier:12,1\.0,1\.0"):
        train_on(with_prices(bars, close), tmp_path / "flat", replace(recipe, labels=labels))


def test_a_folder_for_tensorboard_is_checked_first(
    recipe: Recipe, walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the pre-training runs before it is known that nothing can be logged."""
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--report-to tensorboard: tensorboard cannot be written"):
        train_on(walk(3000, seed=3), tmp_path / "mine", recipe, monitor=Monitor(report_to="tensorboard"))


def test_every_fold_is_checked_before_the_first_is_trained(walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, what stops the second fold is found after the first was trained."""
    bars = walk(3200, seed=8, start="2023-01-01")
    epochs: list[str] = []

    def walked(bars: Bars, recipe: Recipe, name: str = "mine", **more: Any) -> list[str]:
        notes: list[str] = []
        monitor = Monitor(
            notify=lambda note: notes.append(f"{'late: ' if epochs else ''}{note}"),
            on_epoch=lambda progress: epochs.append(progress.stage),
        )
        walk_forward(bars, tmp_path / name, WalkForwardRecipe(recipe, 2), monitor=monitor, **more)
        return notes

    (tmp_path / ".mine-fold-2.training").mkdir()
    with pytest.raises(TrainingError, match=r"an unfinished training of .*mine-fold-2 is there"):
        walked(bars, recipe)
    close = bars.close.copy()
    close[2100:] = close[2099]  # the last test segment has no label
    with pytest.raises(RangeError, match="none of the 800 bars of the test segment from 2023-04-11"):
        walked(with_prices(bars, close), replace(recipe, labels=TripleBarrier(12, 1.0, 1.0)), "flat")
    assert epochs == []
    assert [path.name for path in tmp_path.iterdir()] == [".mine-fold-2.training"]

    # A fold whose validation lacks SELL is reported before, and trained all the same
    notes = walked(
        rising_from(bars, 1600), replace(recipe, objective=Objective(weights="sqrt", sampler="oversample")), "rising"
    )
    assert [note.split(": ")[0] for note in notes] == [
        "--weight-strategy sqrt and --sampler oversample are stacked",
        "rising-fold-2",
    ]
    assert "got " in notes[1]
    assert [read_checkpoint(tmp_path / f"rising-fold-{k}").calibration_names() for k in (1, 2)] == [["default"], []]
    values = json.loads((tmp_path / "rising-walk-forward" / "walk_forward.json").read_text())
    assert [entry["calibration"]["method"] for entry in values["folds"]] == ["temperature", "none"]
    assert notes[1] == f"rising-fold-2: {values['folds'][1]['notes'][-1]}"


@pytest.mark.parametrize(
    "wrong", [{"training": "-20240301"}, {"validation": 3}, {"schedule": 5}, {"pretraining": None}, {"labels": "default"}]
)
def test_a_recipe_of_the_wrong_types_is_refused(wrong: dict[str, object]) -> None:
    """If it fails, a time range given as text ends in an AttributeError from inside the training."""
    name = next(iter(wrong))
    with pytest.raises(UsageError, match=rf"^recipe: {name} is .*, expected \w+.* such as "):
        Recipe(**wrong)  # type: ignore[arg-type]
