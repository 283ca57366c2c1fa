"""Walk-forward: every fold knows its own past only, and the stitched signals are the folds' predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flagbt.data.bars import Bars
from flagbt.data.time_range import TimeRange
from flagbt.errors import RangeError, TrainingError, UsageError
from flagbt.models.checkpoint import find_checkpoint
from flagbt.models.model_signals import ModelSignals
from flagbt.models.overlap import check_overlap
from flagbt.models.statistics import constant_prior_nll, negative_log_likelihood
from flagbt.training.progress import EpochProgress, Monitor
from flagbt.training.recipe import Recipe
from flagbt.training.trainer import Schedule
from flagbt.workflows.train import train_on
from flagbt.workflows.walk_forward import WalkForward, WalkForwardRecipe, fold_name, folds_of, walk_forward

Walk = Callable[..., Bars]
RANGE = TimeRange.parse("20230105-20230501")


@pytest.fixture(scope="module")
def recipe(nano_preset: str) -> Recipe:
    """Give the quickest recipe: one epoch of each kind."""
    return Recipe(preset=nano_preset, training=RANGE, pretraining=Schedule(epochs=1), schedule=Schedule(epochs=1))


@pytest.fixture(scope="module")
def bars(walk: Walk) -> Bars:
    """Give a random walk that begins before the range and ends after it."""
    return walk(3200, seed=8, start="2023-01-01")


@pytest.fixture(scope="module")
def walked(bars: Bars, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> WalkForward:
    """Walk through the range once, in two folds."""
    return walk_forward(bars, tmp_path_factory.mktemp("walked") / "checkpoints" / "mine", WalkForwardRecipe(recipe, 2))


@pytest.mark.parametrize("count", [1, 2, 5, 6])
@pytest.mark.parametrize("timerange", ["-", "20230105-20230501"])
def test_folds_cover_the_range_without_gap_or_overlap(bars: Bars, count: int, timerange: str) -> None:
    """A bar tested twice counts double, a bar never tested is hidden, and one trained on before its test is a leak."""
    whole = TimeRange() if timerange == "-" else TimeRange.parse(timerange)
    folds = folds_of(bars, whole, count)
    part = bars.between(whole)
    parts = [[bars.between(each) for each in fold] for fold in folds]
    for training, validation, test in parts:
        assert training.start == part.start
        assert training.stop == validation.start < validation.stop == test.start < test.stop
    for (_, _, earlier), (training, validation, later) in pairwise(parts):
        assert earlier.stop == later.start
        assert training.stop == earlier.start  # the last fold's validation is now trained on
        assert validation == earlier
    assert parts[-1][2].stop == part.stop
    sizes = {each.stop - each.start for fold in parts for each in fold[1:]}
    assert len(sizes) == 1
    assert len(folds) == count


def test_each_fold_ends_before_its_test_segment(walked: WalkForward, bars: Bars) -> None:
    """A checkpoint that has seen its own test segment proves nothing."""
    folds = folds_of(bars, RANGE, 2)
    for checkpoint, fold, described in zip(walked.checkpoints, folds, walked.description.folds, strict=True):
        assert fold.test.start is not None
        for seen in checkpoint.ranges.values():
            assert seen.stop is not None
            assert seen.stop <= fold.test.start
        check_overlap(checkpoint, checkpoint.stored_calibration().calibration, bars, bars.between(fold.test))
        assert described.ranges["test"] == str(fold.test)
        assert described.digest == checkpoint.digest


def test_a_fold_equals_a_single_training_on_its_ranges(walked: WalkForward, bars: Bars, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, a fold depends on other folds, or on bars after its validation."""
    fold = folds_of(bars, RANGE, 2)[1]
    alone = train_on(bars, tmp_path / "alone", replace(recipe, training=fold.training, validation=fold.validation))
    assert alone.digest == walked.checkpoints[1].digest


def test_the_stitched_signals_are_those_of_each_checkpoint(walked: WalkForward, bars: Bars) -> None:
    """If it fails, a row is another fold's or a bar off, and no checkpoint reproduces it."""
    stored = pd.read_parquet(walked.folder / "signals.parquet")
    pd.testing.assert_frame_equal(stored, walked.signals)
    folds = folds_of(bars, RANGE, 2)
    tested = slice(bars.between(folds[0].test).start, bars.between(RANGE).stop)
    assert list(stored.index) == list(bars.frame().index[tested])
    for number, (checkpoint, fold) in enumerate(zip(walked.checkpoints, folds, strict=True), start=1):
        own = checkpoint.stored_calibration()
        model = ModelSignals(checkpoint=checkpoint, calibration=own.calibration, decision=own.decision, device="cpu")
        expected, found = model(bars).take(bars.between(fold.test)), stored[stored["fold"] == number]
        assert expected.logits is not None
        assert expected.probabilities is not None
        np.testing.assert_allclose(found[["logit_sell", "logit_hold", "logit_buy"]], expected.logits, atol=1e-5)
        np.testing.assert_allclose(found[["p_sell", "p_hold", "p_buy"]], expected.probabilities, atol=1e-5)
        assert found["signal"].tolist() == expected.signal.tolist()
        assert (found["signal"] >= 0).all()


def test_the_scores_are_those_of_the_test_segment(walked: WalkForward, bars: Bars, recipe: Recipe) -> None:
    """Scores of another segment, or with labels from after the range, are not out-of-sample scores."""
    values = json.loads((walked.folder / "walk_forward.json").read_text(encoding="utf-8"))
    assert values == walked.description.to_json()
    labels = recipe.labels.labels(bars)
    for number, (entry, fold) in enumerate(zip(values["folds"], folds_of(bars, RANGE, 2), strict=True), start=1):
        own = labels[bars.between(fold.test)]
        own = own[: len(own) - (6 if number == 2 else 0)]  # no bar after the range is used
        p = walked.signals.loc[walked.signals["fold"] == number, ["p_sell", "p_hold", "p_buy"]].to_numpy()[: len(own)]
        assert entry["scores"]["rows"] == len(own)
        assert entry["scores"]["nll"] == pytest.approx(negative_log_likelihood(p, own))
        prior = walked.checkpoints[number - 1].label_shares
        assert entry["scores"]["nll_prior"] == pytest.approx(constant_prior_nll(prior, own))
        assert {"mcc", "ece"} <= set(entry["scores"])
    rows = [entry["scores"]["rows"] for entry in values["folds"]]
    nll = sum(entry["scores"]["nll"] * n for entry, n in zip(values["folds"], rows, strict=True)) / sum(rows)
    assert values["scores"]["nll"] == pytest.approx(nll)


def test_names_resolve(walked: WalkForward, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, --ckpt cannot find a fold."""
    monkeypatch.chdir(walked.folder.parents[1])
    assert [find_checkpoint(fold_name("mine", k)).digest for k in (1, 2)] == [each.digest for each in walked.checkpoints]


def test_impossible_walks_are_refused(walked: WalkForward, bars: Bars, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, an impossible walk is refused late, or without a name or a remedy."""
    with pytest.raises(UsageError, match="every fold is validated on its own segment"):
        walk_forward(bars, tmp_path / "x", WalkForwardRecipe(replace(recipe, validation=RANGE), 2))
    with pytest.raises(UsageError, match="expected 1 fold or more, got 0"):
        walk_forward(bars, tmp_path / "x", WalkForwardRecipe(recipe, 0))
    with pytest.raises(RangeError, match=r"--walk-forward 5000: the file has 2,784 bars .* fewer folds"):
        walk_forward(bars, tmp_path / "x", WalkForwardRecipe(recipe, 5000))
    with pytest.raises(RangeError, match="leaves no sample"):
        walk_forward(bars, tmp_path / "x", WalkForwardRecipe(recipe, 40))
    with pytest.raises(TrainingError, match="mine-walk-forward exists. Choose another --name"):
        walk_forward(bars, walked.folder.with_name("mine"), WalkForwardRecipe(recipe, 2))
    (tmp_path / "thesis-walk-forward").mkdir()
    with pytest.raises(TrainingError, match="is not a walk-forward, so it is not replaced"):
        walk_forward(bars, tmp_path / "thesis", WalkForwardRecipe(recipe, 2), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis-walk-forward"]


def test_an_interrupted_walk_resumes(walked: WalkForward, bars: Bars, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, finished folds are trained again, or another walk's fold is taken for one of this walk."""

    def stop_in_the_second(progress: EpochProgress) -> None:
        if progress.stage.startswith("2/2 "):
            raise KeyboardInterrupt

    target = tmp_path / "mine"
    with pytest.raises(KeyboardInterrupt):
        walk_forward(bars, target, WalkForwardRecipe(recipe, 2), monitor=Monitor(on_epoch=stop_in_the_second))
    with pytest.raises(TrainingError, match=r"mine-fold-1 exists\. .* --resume to continue after it, or --overwrite"):
        walk_forward(bars, target, WalkForwardRecipe(recipe, 2))
    with pytest.raises(TrainingError, match="the number of folds was different"):
        walk_forward(bars, target, WalkForwardRecipe(recipe, 1), resume=True)
    with pytest.raises(TrainingError, match="embargo_bars was 0, is 5"):
        walk_forward(bars, target, WalkForwardRecipe(replace(recipe, embargo_bars=5), 2), resume=True)
    trained: set[str] = set()
    monitor = Monitor(on_epoch=lambda progress: trained.add(progress.stage))
    again = walk_forward(bars, target, WalkForwardRecipe(recipe, 2), resume=True, monitor=monitor)
    assert trained == {"2/2 pretraining", "2/2 training"}
    assert again.description.to_json() == walked.description.to_json()
    pd.testing.assert_frame_equal(again.signals, walked.signals)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine-fold-1", "mine-fold-2", "mine-walk-forward"]


def test_the_command_walks_forward(
    command: Callable[..., tuple[int, str, str]], bars: Bars, nano_preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, `flagbt train --walk-forward` leaves other things than its page promises."""
    monkeypatch.chdir(tmp_path)
    bars.frame().to_csv("bars.csv")
    arguments = (
        "train",
        "--data",
        "bars.csv",
        "--preset",
        nano_preset,
        "--epochs",
        1,
        "--pretrain-epochs",
        1,
        "--name",
        "mine",
        "--labels",
        "triple-barrier:12,1,1",
        "--embargo-bars",
        12,
        "--walk-forward",
        1,
        "--device",
        "cpu",
        "--json",
    )
    code, out, err = command(*arguments)
    assert code == 0, err
    values = json.loads(out)
    assert values["labels"] == {"kind": "triple-barrier", "horizon_bars": 12, "up": 1.0, "down": 1.0}
    assert [entry["checkpoint"] for entry in values["folds"]] == ["mine-fold-1"]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["mine-fold-1", "mine-walk-forward"]
    assert (tmp_path / values["walk_forward"] / "signals.parquet").is_file()
    assert find_checkpoint("mine-fold-1").values["embargo_bars"] == 12
    code, _, err = command(*arguments)
    assert (code, "mine-walk-forward exists. Choose another --name, or --overwrite" in err) == (1, True)
