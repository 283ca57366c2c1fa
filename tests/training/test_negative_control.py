"""Negative controls: no signal is found in noise, every objective finds a planted one, and a leak is caught."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flagbt.data.bars import Bars
from flagbt.data.readers import write_bars_csv
from flagbt.data.time_range import TimeRange
from flagbt.errors import UsageError
from flagbt.training.finetune import learn
from flagbt.training.negative_control import CONTROLS, random_walk, run_negative_control, shuffle_labels
from flagbt.training.objectives import Objective
from flagbt.training.preparation import prepare
from flagbt.training.recipe import Recipe
from flagbt.training.trainer import Schedule

Walk = Callable[..., Bars]
Command = Callable[..., tuple[int, str, str]]
VALIDATION = TimeRange.parse("20230501-")
OBJECTIVES = {
    "ce": Objective(),
    "focal": Objective(loss="focal"),
    "logit-adjusted": Objective(loss="logit-adjusted"),
    "balanced-softmax": Objective(loss="balanced-softmax"),
    "inverse": Objective(weights="inverse"),
    "sqrt": Objective(weights="sqrt"),
    "effective": Objective(weights="effective"),
}
LEAKING = """
import numpy as np
from flagbt import FeatureSet
def centred(bars):
    level = np.log(bars.close)
    mean = np.convolve(level, np.ones(13) / 13, mode="same")
    mean[:6], mean[-6:] = level[:6], level[-6:]
    return np.column_stack([mean - level, np.log(bars.high / bars.low)])
mine = FeatureSet("MODULE:mine", ("gap_to_centred_mean", "range"), 12, centred)
"""


@pytest.fixture
def recipe(nano_preset: str) -> Recipe:
    """Give a recipe that learns an existing signal in seconds."""
    return Recipe(
        preset=nano_preset,
        validation=VALIDATION,
        pretraining=Schedule(epochs=1),
        schedule=Schedule(epochs=3, learning_rate=5e-3),
    )


def planted(n: int = 4000, seed: int = 0) -> Bars:
    """Return bars that drift up while volume is high and down while it is low: the drift is known at the close."""
    random = np.random.default_rng(seed)
    regime = np.repeat(random.integers(-1, 2, n // 40 + 1), 40)[:n]
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 0.001, n) + 0.004 * regime))
    open_ = np.concatenate([[30_000.0], close[:-1]])
    time = np.datetime64("2023-01-01", "ns") + np.arange(n) * np.timedelta64(3600, "s")
    volume = random.lognormal(5, 0.2, n) * 8.0**regime
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    return Bars(time, open_, high, low, close, volume, source="planted", synthetic=True)


def check_that_it_finds_the_signal(bars: Bars, recipe: Recipe) -> None:
    """Train, and compare with the constant prior."""
    _, tuned = learn(prepare(bars, (), recipe), recipe, device=torch.device("cpu"))
    assert tuned.best.nll_corrected < tuned.best.nll_prior - 0.1


@pytest.mark.parametrize("name", ["ce", "sqrt"])
def test_a_signal_is_found_where_there_is_one_and_not_on_a_random_walk(name: str, walk: Walk, recipe: Recipe) -> None:
    """If it fails, the training finds a signal in noise, or misses one that exists."""
    chosen = replace(recipe, objective=OBJECTIVES[name])
    assert not run_negative_control(walk(4000, start="2023-01-01"), chosen, "random-walk").found
    check_that_it_finds_the_signal(planted(), chosen)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_beats_the_prior_on_a_random_walk(name: str, seed: int, walk: Walk, recipe: Recipe) -> None:
    """An objective that beats the constant prior on noise is evaluated wrongly."""
    schedule = replace(recipe.schedule, seed=seed)
    result = run_negative_control(
        walk(4000, start="2023-01-01"), replace(recipe, objective=OBJECTIVES[name], schedule=schedule), "random-walk"
    )
    assert not result.found, result.sentence


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_finds_a_planted_signal(name: str, recipe: Recipe) -> None:
    """A remedy against collapse must not lose the signal."""
    check_that_it_finds_the_signal(planted(seed=1), replace(recipe, objective=OBJECTIVES[name]))


def test_the_walk_has_the_stamps_volatility_and_volumes_of_the_market_only(walk: Walk) -> None:
    """If it fails, the control differs from the market in more than its order, or shares more than that with it."""
    bars = walk(6000, seed=2)
    made = random_walk(bars, np.random.default_rng(0))
    assert (made.time == bars.time).all()
    assert sorted(made.volume) == sorted(bars.volume)
    change, before = np.diff(np.log(made.close)), np.diff(np.log(bars.close))
    assert change.std() == pytest.approx(before.std(), rel=0.05)
    assert abs(change.mean()) < 4 * change.std() / np.sqrt(len(change))
    assert abs(np.corrcoef(change[1:], change[:-1])[0, 1]) < 0.05
    assert abs(np.corrcoef(change, before)[0, 1]) < 0.05
    assert made.digest == random_walk(bars, np.random.default_rng(0)).digest
    assert made.digest != random_walk(bars, np.random.default_rng(1)).digest


def test_labels_are_shuffled_within_each_side(walk: Walk, recipe: Recipe) -> None:
    """Labels that change sides would change the shares, and thus the prior that the control is compared with."""
    bars = walk(4000, start="2023-01-01")
    setup = prepare(bars, (), recipe)
    before, labels = setup.samples.labels, shuffle_labels(setup.samples, setup.split, np.random.default_rng(0)).labels
    for sample in (setup.split.training, setup.split.validation):
        assert (labels[sample] != before[sample]).any()
        assert np.bincount(labels[sample]).tolist() == np.bincount(before[sample]).tolist()
    outside = ~(setup.split.training | setup.split.validation)
    assert (labels[outside] == before[outside]).all()


def test_shuffled_labels_hide_even_a_planted_signal(recipe: Recipe) -> None:
    """A signal in shuffled labels comes from the loop or the split; here neither leaks."""
    result = run_negative_control(planted(), recipe, "shuffled-labels")
    assert not result.found
    assert result.sentence.startswith("On shuffled labels: validation NLL ")
    assert result.sentence.endswith(": no signal, as expected.")


def test_a_leaking_feature_is_caught_on_the_command_line(
    walk: Walk, nano_preset: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a feature that sees the future goes unnoticed: other scores cannot show it."""
    (tmp_path / "centred_mean.py").write_text(LEAKING.replace("MODULE", "centred_mean"))
    monkeypatch.chdir(tmp_path)
    write_bars_csv(walk(4000, start="2023-01-01"), tmp_path / "bars.csv")
    train = ["train", "--data", "bars.csv", "--preset", nano_preset, "--pretrain-epochs", 1, "--learning-rate", 0.005]
    code, printed, _ = command(*train, "--features", "centred_mean:mine", "--control", "random-walk", "--epochs", 3, "--json")
    result = json.loads(printed)
    assert (code, result["found"]) == (1, True)
    assert result["gain_interval"][0] > 0.01
    assert "the pipeline leaks. Look for a feature that sees the future" in result["sentence"]
    code, printed, _ = command(*train, "--control", "random-walk", "--epochs", 1)
    assert code == 0
    assert "no signal, as expected" in printed
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["bars.csv", "centred_mean.py"]


@pytest.mark.parametrize("option", [["--walk-forward", 2], ["--resume"], ["--overwrite"], ["--report-to", "wandb"]])
def test_controls_are_not_combined_with_what_they_cannot_do(option: list[object], command: Command, tmp_path: Path) -> None:
    """If it fails, a control silently ignores an option."""
    (tmp_path / "bars.csv").write_text("")
    code, _, error = command("train", "--data", tmp_path / "bars.csv", "--control", "random-walk", *option)
    assert code == 2
    assert f"--control: 'random-walk' cannot be combined with {option[0]}" in error


def test_an_unknown_control_is_refused(walk: Walk, recipe: Recipe) -> None:
    """If it fails, a misspelt control passes for one that found nothing."""
    assert CONTROLS == ("shuffled-labels", "random-walk")
    with pytest.raises(UsageError, match="--control: 'random-wlk' is unknown. Did you mean 'random-walk'"):
        run_negative_control(walk(4000, start="2023-01-01"), recipe, "random-wlk")
