"""Training: weights and losses by independent calculation, samples counted once, nothing learned from later bars."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.utils.class_weight import compute_class_weight

from flagbt.data.bars import Bars
from flagbt.data.labels import LabelSpec, TripleBarrier
from flagbt.data.time_range import TimeRange
from flagbt.errors import RangeError, TrainingError, UsageError
from flagbt.models.checkpoint import Checkpoint
from flagbt.models.kinds import scoring
from flagbt.models.kinds.network import load_unmerged
from flagbt.models.statistics import ClassifierScores, scores
from flagbt.training.chronological_split import chronological_split
from flagbt.training.collapse_guard import collapse_findings
from flagbt.training.objectives import Objective
from flagbt.training.pretrain import next_bar_quantities
from flagbt.training.progress import EpochProgress, Monitor
from flagbt.training.recipe import Recipe
from flagbt.training.sequence_chunks import IGNORED, ChunkDataset
from flagbt.training.trainer import Schedule, TrainingStoppedError
from flagbt.workflows.train import train_on

Walk = Callable[..., Bars]
Future = Callable[[Bars, int], Bars]
VALIDATION = TimeRange.parse("20230501-")


@pytest.fixture
def recipe(nano_preset: str) -> Recipe:
    """Give the quickest recipe: one epoch of each kind."""
    return Recipe(preset=nano_preset, validation=VALIDATION, pretraining=Schedule(epochs=1), schedule=Schedule(epochs=1))


def test_class_weights_agree_with_sklearn_and_the_report() -> None:
    """If the weights differ from the report's for its counts, another model is trained."""
    counts = np.array([7131.0, 28720.0, 7942.0])
    labels = np.repeat([0, 1, 2], counts.astype(int))
    inverse = Objective(weights="inverse").class_weights(counts)
    assert inverse == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert Objective(weights="sqrt").class_weights(counts) == pytest.approx(np.sqrt(inverse))
    assert Objective().class_weights(counts).tolist() == [1, 1, 1]
    beta = 0.999
    by_hand = np.array([1 / sum(beta**i for i in range(int(n))) for n in counts])  # 1 / effective number
    effective = Objective(weights="effective", beta=beta).class_weights(counts)
    assert effective == pytest.approx(3 * by_hand / by_hand.sum())
    assert effective.mean() == pytest.approx(1)


def test_losses_and_gradients_by_closed_form() -> None:
    """If it fails, a loss does not follow the formula in its docstring."""
    logits = torch.tensor([[0.5, -0.2, 0.1], [1.0, 2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    labels, prior = torch.tensor([2, 1]), torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    p = torch.softmax(logits, dim=1)
    ce = Objective().losses(logits, labels, prior)
    assert ce.tolist() == pytest.approx([-np.log(p[0, 2].item()), -np.log(p[1, 1].item())])
    focal = Objective(loss="focal", gamma=2.0).losses(logits, labels, prior)
    assert focal.tolist() == pytest.approx([-((1 - q) ** 2) * np.log(q) for q in (p[0, 2].item(), p[1, 1].item())])
    assert Objective(loss="focal", gamma=0.0).losses(logits, labels, prior).tolist() == pytest.approx(ce.tolist())
    z = logits.detach().numpy() + 0.7 * np.log(prior.numpy())
    expected = np.log(np.exp(z).sum(1)) - z[[0, 1], [2, 1]]
    adjusted = Objective(loss="logit-adjusted", tau=0.7).losses(logits, labels, prior)
    assert adjusted.tolist() == pytest.approx(expected.tolist())
    balanced = Objective(loss="balanced-softmax").losses(logits, labels, prior)
    assert balanced.tolist() == pytest.approx(Objective(loss="logit-adjusted").losses(logits, labels, prior).tolist())
    (gradient,) = torch.autograd.grad(focal.sum(), logits)
    q = p.detach().numpy()[0]
    outer = 2 * (1 - q[2]) * np.log(q[2]) * q[2] - (1 - q[2]) ** 2  # d focal / d log p, times the softmax derivative
    assert gradient[0].tolist() == pytest.approx((outer * (np.array([0, 0, 1]) - q)).tolist())


@pytest.mark.parametrize("wrong", [{"loss": "focl"}, {"weights": "sqr"}, {"gamma": -1.0}, {"beta": 1.0}])
def test_unknown_objectives_are_refused(wrong: dict[str, object]) -> None:
    """If it fails, a misspelt name trains something else."""
    with pytest.raises(UsageError, match="--objective|--weight-strategy|objective"):
        Objective(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["gamma", "tau", "beta", "label_smoothing"])
def test_objectives_that_are_not_numbers_are_refused(field: str, wrong: float) -> None:
    """A NaN passes every comparison written the wrong way round, and trains a model of NaN."""
    with pytest.raises(UsageError, match=f"--{field.replace('_', '-')}: expected .*, got {wrong}"):
        Objective(**{field: wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "wrong", "option"),
    [
        *(("learning_rate", value, "--learning-rate") for value in (float("nan"), float("inf"), 0.0, -1.0)),
        *(("epochs", 0, "--epochs"), ("batch_chunks", 0, "--batch-size"), ("seed", -1, "--seed")),
        ("weight_decay", float("nan"), "schedule: expected a finite weight_decay"),
    ],
)
def test_schedules_that_cannot_run_are_refused(field: str, wrong: float, option: str) -> None:
    """In Python there is no command line to refuse them."""
    with pytest.raises(UsageError, match=option):
        Schedule(**{field: wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("epoch", [0, 1, 2, 7])
def test_every_sample_counts_exactly_once_per_epoch(epoch: int) -> None:
    """A bar counted twice is overweighted, one never counted is lost; both happen silently at a chunk's edge."""
    n, first_row = 500, 20
    rows = np.arange(n, dtype=np.float32)[:, None]
    rows[:first_row] = np.nan
    targets = np.full(n, IGNORED, dtype=np.int64)
    targets[60:431] = np.arange(60, 431)
    dataset = ChunkDataset(rows, targets, chunk_bars=64, receptive_bars=14, first_row=first_row, multiple_of=4)
    assert len(dataset) % 4 == 0
    dataset.set_epoch(epoch)
    seen: list[int] = []
    for i in range(len(dataset)):
        item = dataset[i]
        counted = item["targets"] != IGNORED
        assert (len(item["rows"]), len(counted)) == (64, 50)  # the memory is context only
        assert torch.isfinite(item["rows"]).all()
        assert (item["rows"][14:][counted, 0] == item["targets"][counted]).all()
        for at in torch.nonzero(counted)[:, 0].tolist():
            memory = item["rows"][at : at + 15, 0]
            assert memory.tolist() == list(range(int(memory[-1]) - 14, int(memory[-1]) + 1))
        seen += item["targets"][counted].tolist()
    assert sorted(seen) == list(range(60, 431))


def test_epochs_have_equal_lengths_and_different_cuts() -> None:
    """The learning-rate schedule counts steps, so their number must not differ between epochs."""
    dataset = ChunkDataset(
        np.zeros((900, 2), dtype=np.float32), np.zeros(900, dtype=np.int64), chunk_bars=64, receptive_bars=14, first_row=0
    )
    starts = []
    for epoch in range(5):
        dataset.set_epoch(epoch)
        starts.append((len(dataset), dataset.starts[0]))
    assert len({length for length, _ in starts}) == 1
    assert len({start for _, start in starts}) == 5


@pytest.mark.parametrize("labels", [LabelSpec(6), TripleBarrier(24)], ids=str)
@pytest.mark.parametrize("warmup_bars", [100, 292])
@pytest.mark.parametrize(("training", "embargo_bars"), [("-20230215", 0), ("-20230215", 50), ("20230105-20230210", 0)])
def test_the_split_purges_exactly_the_samples_that_use_the_other_side(
    walk: Walk, labels: LabelSpec | TripleBarrier, warmup_bars: int, training: str, embargo_bars: int
) -> None:
    """A bar used on both sides leaks one into the other; a sample purged without need is lost."""
    bars, validation = walk(2000, start="2023-01-01"), TimeRange.parse("20230215-20230315")
    split = chronological_split(
        bars,
        labels,
        training=TimeRange.parse(training),
        validation=validation,
        warmup_bars=warmup_bars,
        embargo_bars=embargo_bars,
    )
    train, valid = (set(range(len(bars))[bars.between(part)]) for part in (TimeRange.parse(training), validation))
    last_train, last_valid, every = max(train), max(valid), set(range(len(bars)))
    blocked = train | set(range(last_train + 1, last_train + 1 + embargo_bars))
    volatility = 168 if isinstance(labels, TripleBarrier) else 0
    for t in range(len(bars)):
        touched = set(range(t - max(warmup_bars, volatility), t + labels.horizon_bars + 1))
        there = touched <= every
        assert split.training[t] == (there and t in train and max(touched) <= last_train and not touched & valid)
        assert split.validation[t] == (there and t in valid and max(touched) <= last_valid and not touched & blocked)
    assert split.training.any()
    assert split.validation.any()
    assert str(split.validation_range) == "20230215-20230315"  # all of it has been seen, as a sample or as context


@pytest.mark.parametrize(
    ("embargo_bars", "message"), [(0, "no bar of the training range"), (400, "or a smaller --embargo-bars")]
)
def test_a_validation_that_is_all_context_is_refused(walk: Walk, embargo_bars: int, message: str) -> None:
    """If it fails, an empty validation selects the epoch, or the message does not name the cause."""
    days = 3 if not embargo_bars else 14
    with pytest.raises(RangeError, match=message):
        chronological_split(
            walk(2000, start="2023-01-01"),
            LabelSpec(),
            training=TimeRange.parse("-20230201"),
            validation=TimeRange.parse(f"20230201-202302{days + 1:02d}"),
            warmup_bars=100,
            embargo_bars=embargo_bars,
        )


@pytest.mark.parametrize(
    ("training", "validation", "message"),
    [
        ("-20230301", "20230201-20230401", "overlap"),
        ("20230301-20230315", "20230201-20230220", "validated on later bars"),
        ("-20230103", "20230201-20230301", "leaves no sample"),
        ("-20230201", "20300101-", "leaves no sample"),
    ],
)
def test_impossible_splits_are_refused(walk: Walk, training: str, validation: str, message: str) -> None:
    """A validation that the training saw, or that is empty, measures nothing."""
    with pytest.raises(RangeError, match=message):
        chronological_split(
            walk(2000, start="2023-01-01"),
            LabelSpec(),
            training=TimeRange.parse(training),
            validation=TimeRange.parse(validation),
            warmup_bars=100,
        )


def test_next_bar_targets_look_one_bar_ahead_and_no_further(walk: Walk, other_future: Future) -> None:
    """A pre-training target that looks further leaks the future into every checkpoint made from it."""
    bars, t = walk(300), 200
    here, there = next_bar_quantities(bars), next_bar_quantities(other_future(bars, t))
    assert np.array_equal(here[:t], there[:t], equal_nan=True)
    assert not np.array_equal(here[t], there[t])
    change = np.diff(np.log(bars.close))
    assert here[100, 0] == pytest.approx(change[100] / (np.sqrt((change[76:100] ** 2).mean()) + 1e-5))
    assert np.isnan(here[-1]).all()


def test_nothing_after_the_validation_start_is_trained_on(
    walk: Walk, other_future: Future, recipe: Recipe, tmp_path: Path
) -> None:
    """If another future changes the weights by a bit, validation figures are training figures."""
    bars = walk(4000, seed=5, start="2023-01-01")
    start = bars.position_of(np.datetime64("2023-05-01"))
    one = train_on(bars, tmp_path / "one", recipe)
    two = train_on(other_future(bars, start - 1), tmp_path / "two", recipe)
    for file in ("base.safetensors", "adapter.safetensors"):
        mine, theirs = load_file(one.folder / file), load_file(two.folder / file)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert one.schema == two.schema
    assert one.values["metrics"]["validation"] != two.values["metrics"]["validation"]


def test_a_seed_repeats_a_training(nano: Checkpoint, walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, results cannot be repeated, and so not compared."""
    bars = walk(4000, seed=5, start="2023-01-01")
    first, again = train_on(bars, tmp_path / "a", recipe), train_on(bars, tmp_path / "b", recipe)
    other = train_on(bars, tmp_path / "c", replace(recipe, schedule=replace(recipe.schedule, seed=1)))
    assert first.digest == again.digest != other.digest


def test_only_the_adapter_and_the_head_are_trained(nano: Checkpoint) -> None:
    """If the base is not frozen, it is not LoRA, and the adapter is not small."""
    trained = {name for name, p in load_unmerged(nano).named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name or "head.modules_to_save" in name for name in trained)
    lora_b = [tensor for name, tensor in load_file(nano.folder / "adapter.safetensors").items() if "lora_B" in name]
    assert all(tensor.abs().max() > 0 for tensor in lora_b)


def test_predictable_volatility_is_learned(recipe: Recipe, tmp_path: Path) -> None:
    """If alternating calm and volatile weeks cannot be learned, nothing can."""
    random = np.random.default_rng(0)
    n = 5000
    volatility = np.where((np.arange(n) // 250) % 2 == 0, 0.001, 0.012)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 1, n) * volatility))
    open_ = np.concatenate([[30_000.0], close[:-1]])
    high, low = np.maximum(open_, close) * (1 + volatility / 3), np.minimum(open_, close) * (1 - volatility / 3)
    time = np.datetime64("2023-01-01", "ns") + np.arange(n) * np.timedelta64(3600, "s")
    bars = Bars(time, open_, high, low, close, random.lognormal(5, 1, n), source="regimes", synthetic=True)
    found = train_on(bars, tmp_path / "found", replace(recipe, schedule=Schedule(epochs=6, learning_rate=5e-3)))
    score = found.values["metrics"]["validation_calibrated"]
    assert score["nll"] < score["nll_prior"] - 0.1
    assert found.values["model_verdict"]["verdict"] == "plausible"


def test_the_folder_is_complete_and_the_best_epoch_is_chosen_by_nll(nano: Checkpoint) -> None:
    """If it fails, a checkpoint lacks what its users need to evaluate it."""
    assert {file.name for file in nano.folder.iterdir()} == {
        "README.md",
        "adapter.safetensors",
        "base.safetensors",
        "checkpoint.json",
        "curves.png",
        "fingerprint.safetensors",
        "history.json",
    }
    history = json.loads((nano.folder / "history.json").read_text())
    best = min(history, key=lambda entry: entry["nll_corrected"])
    assert nano.values["best_epoch"] == best["epoch"]
    assert nano.values["metrics"]["validation"]["nll"] == pytest.approx(best["nll"], abs=1e-6)
    assert nano.values["ranges"] == {
        "pretraining": "20230101-20230501",
        "training": "20230101-20230501",
        "validation": "20230501-20230616T1600",
        "calibration": "20230501-20230616T1600",
    }
    assert "SYNTHETIC" in (nano.folder / "README.md").read_text()


def test_an_existing_checkpoint_is_never_damaged(walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, a second training that fails destroys hours of the first."""
    bars = walk(4000, seed=5, start="2023-01-01")
    target = tmp_path / "kept"
    before = train_on(bars, target, recipe).digest
    with pytest.raises(TrainingError, match="exists. Choose another --name, or --overwrite"):
        train_on(bars, target, recipe)

    def fail(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_on(bars, target, recipe, overwrite=True, monitor=Monitor(on_epoch=fail))
    assert Checkpoint(target, json.loads((target / "checkpoint.json").read_text())).digest == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".kept.training", "kept"]  # the saves, to resume from


def test_impossible_trainings_are_refused(walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, an impossible training is refused late, or without a name."""
    calm = walk(4000, seed=5, start="2023-01-01", hourly_volatility=1e-5)
    with pytest.raises(TrainingError, match="the class SELL never occurs among the .* training labels"):
        train_on(calm, tmp_path / "x", recipe)
    with pytest.raises(UsageError, match="Did you mean 'tiny'"):
        train_on(calm, tmp_path / "x", replace(recipe, preset="tinny"))
    with pytest.raises(RangeError, match="leaves no sample"):
        train_on(walk(150, start="2023-04-28"), tmp_path / "x", recipe)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        train_on(walk(4000, seed=5, start="2023-01-01"), tmp_path / "file" / "x", recipe)


def test_oversampling_balances_the_classes_and_redraws_its_rest() -> None:
    """If it fails, a class does not count as often as HOLD, or a sample is lost (the report's option 3)."""
    labels = np.repeat([0, 1, 2], [70, 287, 79]).astype(np.int8)
    objective = Objective(sampler="oversample")
    one, two = objective.draws(labels, 0, seed=1), objective.draws(labels, 1, seed=1)
    for times in (one, two):
        assert [times[labels == c].sum() for c in range(3)] == [287, 287, 287]
        assert times.min() >= 1
        assert set(times[labels == 0]) == {4, 5}
    assert (one != two).any()
    assert np.array_equal(one, objective.draws(labels, 0, seed=1))
    assert (Objective().draws(labels, 0, seed=1) == 1).all()


@pytest.mark.parametrize(
    "objective",
    [
        Objective(weights="inverse"),
        Objective(weights="sqrt"),
        Objective(sampler="oversample"),
        Objective(loss="logit-adjusted", tau=0.6),
        Objective(loss="balanced-softmax"),
        Objective(weights="sqrt", sampler="oversample", loss="balanced-softmax"),
    ],
)
def test_the_correction_restores_the_natural_shares(objective: Objective) -> None:
    """If a corrected constant model, trained to its optimum, misses the labels' shares, so does every corrected model."""
    labels = np.repeat([0, 1, 2], [160, 660, 180]).astype(np.int8)
    counts = np.bincount(labels).astype(np.float64)
    weights = torch.tensor(objective.class_weights(counts))[torch.tensor(labels, dtype=torch.long)]
    times = torch.tensor(objective.draws(labels, 0, seed=0)).double()
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    prior = torch.tensor(counts / counts.sum())
    optimiser = torch.optim.LBFGS([logits], lr=1, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        losses = objective.losses(logits.expand(len(labels), 3), torch.tensor(labels, dtype=torch.long), prior)
        loss = (weights * times * losses).sum() / (weights * times).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    shares = torch.softmax(logits.detach() + torch.tensor(objective.correction(counts)), dim=0)
    assert shares.tolist() == pytest.approx((counts / counts.sum()).tolist(), abs=2e-3)


def test_label_smoothing_by_hand() -> None:
    """If it fails, smoothing moves another share of the target, or is accepted where it has no meaning."""
    logits = torch.tensor([[0.5, -0.2, 0.1]], dtype=torch.float64)
    log_p = torch.log_softmax(logits, dim=1)[0]
    smooth = Objective(label_smoothing=0.3).losses(logits, torch.tensor([2]), torch.ones(3) / 3)
    assert smooth.item() == pytest.approx((-(0.7 * log_p[2] + 0.1 * log_p.sum())).item())
    with pytest.raises(UsageError, match="--label-smoothing"):
        Objective(loss="focal", label_smoothing=0.1)


def epoch_scores(mean: tuple[float, float, float], accuracy: float = 0.66, auc: float | None = 0.53) -> ClassifierScores:
    """Return an epoch's scores with these values in the fields that the guard reads."""
    some = scores(np.eye(3) / 2 + 1 / 6, np.array([0, 1, 2], dtype=np.int8), np.full(3, 1 / 3))
    named = dict(zip(("SELL", "HOLD", "BUY"), mean, strict=True))
    return replace(some, mean_probabilities=named, accuracy=accuracy, majority_share=0.656, auc_buy_sell=auc)


def test_the_guard_reports_collapse_and_leaks_only() -> None:
    """If it fails, 86 % validation accuracy or a model that always predicts SELL goes unreported."""
    shares = np.array([0.163, 0.656, 0.181])
    assert collapse_findings(epoch_scores((0.15, 0.68, 0.17)), shares) == []
    assert [text.split(":")[0] for text in collapse_findings(epoch_scores((0.99, 0.005, 0.005)), shares)] == ["collapsed"]
    leaky = collapse_findings(epoch_scores((0.16, 0.66, 0.18), accuracy=0.8634, auc=0.97), shares)
    assert [text.split(":")[0] for text in leaky] == ["too good to be true"] * 2
    assert collapse_findings(epoch_scores((0.16, 0.66, 0.18), auc=None), shares) == []


def test_on_collapse_stop_ends_the_training_and_leaves_nothing(
    walk: Walk, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a feature that sees the label costs hours instead of one epoch."""
    (tmp_path / "leaky.py").write_text(
        "import numpy as np\nfrom flagbt import FeatureSet\n"
        "def ahead(bars):\n"
        "    later = np.append(bars.close[6:], np.repeat(bars.close[-1], 6))\n"
        "    return np.column_stack([later / bars.close - 1, np.log(bars.close)])\n"
        "mine = FeatureSet('leaky:mine', ('ahead', 'level'), 0, ahead)\n"
    )
    monkeypatch.chdir(tmp_path)
    bars = walk(4000, seed=5, start="2023-01-01")
    leaking = replace(recipe, features="leaky:mine", schedule=Schedule(epochs=3, learning_rate=1e-2))
    with pytest.raises(TrainingError, match=r"too good to be true: .*nothing was written"):
        train_on(bars, tmp_path / "out" / "x", leaking, monitor=Monitor(on_collapse="stop"))
    assert list((tmp_path / "out").iterdir()) == []
    findings: list[str] = []
    monitor = Monitor(on_epoch=lambda progress: findings.extend(progress.scores.findings if progress.scores else ()))
    kept = train_on(bars, tmp_path / "out" / "x", leaking, monitor=monitor)
    assert any("too good to be true" in text for text in findings)
    assert kept.values["findings"]
    with pytest.raises(UsageError, match="--on-collapse: 'halt' is unknown"):
        train_on(bars, tmp_path / "y", recipe, monitor=Monitor(on_collapse="halt"))
    with pytest.raises(UsageError, match="--report-to nowhere: the package nowhere is not installed here"):
        train_on(bars, tmp_path / "y", recipe, monitor=Monitor(report_to="nowhere"))
    assert not (tmp_path / ".y.training").exists()


def test_an_interrupted_training_resumes_exactly(walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """If it fails, a training stopped in either stage and resumed has another digest than one never stopped."""
    bars = walk(4000, seed=5, start="2023-01-01")
    longer = replace(recipe, pretraining=Schedule(epochs=2), schedule=Schedule(epochs=2))
    whole = train_on(bars, tmp_path / "whole", longer)

    def interrupt_at(stage: str, epoch: int) -> Monitor:
        def on_epoch(progress: EpochProgress) -> None:
            if (progress.stage, progress.epoch) == (stage, epoch):
                raise KeyboardInterrupt

        return Monitor(on_epoch=on_epoch)

    for stage, epoch in (("pretraining", 2), ("training", 1), ("training", 2)):
        with pytest.raises(KeyboardInterrupt):
            train_on(bars, tmp_path / "parts", longer, resume=True, monitor=interrupt_at(stage, epoch))
    with pytest.raises(TrainingError, match="an unfinished training of .*Add --resume"):
        train_on(bars, tmp_path / "parts", longer)
    with pytest.raises(TrainingError, match=r"had different options.*best_by was nll, is mcc"):
        train_on(bars, tmp_path / "parts", replace(longer, best_by="mcc"), resume=True)
    note = tmp_path / ".parts.training" / "recipe.json"
    own = note.read_text()
    note.write_text(json.dumps({**json.loads(own), "flagbt": "0.1.0"}))
    with pytest.raises(TrainingError, match=r"started by flagbt 0\.1\.0, .*Finish it with that version, or --overwrite"):
        train_on(bars, tmp_path / "parts", longer, resume=True)
    note.write_text(own)
    parts = train_on(bars, tmp_path / "parts", longer, resume=True)
    assert parts.digest == whole.digest
    assert (parts.folder / "history.json").read_bytes() == (whole.folder / "history.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_stop_during_an_evaluation_waits_for_one_forward_pass(
    epoch: int, walk: Walk, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluating a large model takes minutes: SIGKILL would follow SIGTERM, and the whole epoch would be lost."""
    bars = walk(4000, seed=5, start="2023-01-01")
    longer = replace(recipe, schedule=Schedule(epochs=2))
    passes: list[int] = []
    at = -1

    def forward(*arguments: Any) -> Any:
        passes.append(1)
        if len(passes) == at:
            signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    real = scoring._forward
    monkeypatch.setattr(scoring, "_forward", forward)
    whole = train_on(bars, tmp_path / "whole", longer)
    per_evaluation, rest = divmod(len(passes), 3)  # after each epoch, and for the best one at the end
    assert (per_evaluation > 8, rest) == (True, 0)
    passes.clear()
    at = (epoch - 1) * per_evaluation + 4
    with pytest.raises(TrainingStoppedError, match="everything up to here is saved"):
        train_on(bars, tmp_path / "parts", longer)
    assert len(passes) == at
    history = [*(tmp_path / ".parts.training" / "training").glob("checkpoint-*/history.json")]
    assert [len(json.loads(path.read_text())) for path in history] == [epoch - 1]  # saved, but not evaluated
    assert [path.name for path in history[0].parent.glob("COMPLETE")] == ["COMPLETE"]
    parts = train_on(bars, tmp_path / "parts", longer, resume=True)
    assert parts.digest == whole.digest
    assert (parts.folder / "history.json").read_bytes() == (whole.folder / "history.json").read_bytes()


TRIAL = """
import sys
from pathlib import Path
from flagbt.data.readers import read_bars
from flagbt.data.time_range import TimeRange
from flagbt.models.kinds.architecture import PRESETS
from flagbt.models.kinds.architecture import Lora
from flagbt.training.trainer import Schedule, is_main_process
from flagbt.training.objectives import Objective
from flagbt.training.recipe import Recipe
from flagbt.workflows.train import train_on

dropout = float(sys.argv[3])
PRESETS["nano"] = {
    "layers": 2, "d_model": 16, "heads": 2, "d_feedforward": 32, "context_bars": 8, "chunk_bars": 128, "dropout": dropout
}
recipe = Recipe(
    preset="nano", validation=TimeRange.parse("20230501-"), objective=Objective(weights="inverse"),
    lora=Lora(dropout=dropout),
    pretraining=Schedule(epochs=3), schedule=Schedule(epochs=4),
)
made = train_on(read_bars(sys.argv[1]), Path(sys.argv[2]), recipe, resume=True)
if is_main_process():
    print(made.digest)
"""


@pytest.fixture
def trial(walk: Walk, tmp_path: Path) -> tuple[Path, Path]:
    """Write a script that trains in a separate process, and the bars it reads."""
    from flagbt.data.readers import write_bars_csv

    write_bars_csv(walk(4000, seed=5, start="2023-01-01"), tmp_path / "bars.csv")
    (tmp_path / "trial.py").write_text(TRIAL)
    return tmp_path / "trial.py", tmp_path / "bars.csv"


@pytest.mark.slow
def test_ten_kills_change_nothing(trial: tuple[Path, Path], tmp_path: Path) -> None:
    """If ten kill -9 and --resume at random moments change a weight, a power cut costs a night's work."""
    script, bars = trial
    random = np.random.default_rng(7)
    started = time.monotonic()
    whole = subprocess.run(
        [sys.executable, script, bars, tmp_path / "whole", "0.1"], capture_output=True, text=True, check=True
    )
    length = time.monotonic() - started
    command = [sys.executable, script, bars, tmp_path / "killed", "0.1"]
    killed = 0
    while killed < 10:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                process.communicate(timeout=length * random.uniform(0.3, 1.0))
                shutil.rmtree(tmp_path / "killed")  # it finished: start again
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
                if (tmp_path / "killed").exists():
                    shutil.rmtree(tmp_path / "killed")
    last = subprocess.run(command, capture_output=True, text=True, check=True)
    assert last.stdout == whole.stdout
    assert not (tmp_path / ".killed.training").exists()


STARVED = """
import resource, sys
from pathlib import Path
import flagbt.workflows.train
from flagbt.cli.main import run_command_line
taken = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, ((taken + 600 * 1024) * 1024,) * 2)
run_command_line()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited and read the Linux way")
def test_out_of_memory_names_the_batch_size_to_try(trial: tuple[Path, Path], tmp_path: Path) -> None:
    """If it fails, a failed allocation gives a traceback, or damages the checkpoint of that name."""
    target = tmp_path / "kept"
    target.mkdir()
    (target / "checkpoint.json").write_text("precious")
    command = [sys.executable, "-c", STARVED, "train", "--data", trial[1], "--output", tmp_path, "--name", "kept"]
    command += ["--epochs", "1", "--pretrain-epochs", "1", "--batch-size", "200", "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith(
        "flagbt: training ran out of the machine's memory with --batch-size 200. Repeat the command with --batch-size 100, "
        "and with --overwrite: the saves of this training are kept, but only the same options can continue them, with "
        "--resume.\n"
    )
    assert (target / "checkpoint.json").read_text() == "precious"
    assert (tmp_path / ".kept.training").is_dir()


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_an_epoch_loses_nothing(trial: tuple[Path, Path], tmp_path: Path) -> None:
    """If it fails, Ctrl-C gives another exit code than 130, no way to resume, or another digest after resuming."""
    command = [sys.executable, "-m", "flagbt", "train", "--data", trial[1], "--output", tmp_path, "--json"]
    command += ["--epochs", "3", "--pretrain-epochs", "1", "--batch-size", "1", "--validation", "20230501-"]
    whole = subprocess.run([*command, "--name", "whole"], capture_output=True, text=True, check=True)
    saves = tmp_path / ".stopped.training" / "training"
    with subprocess.Popen(
        [*command, "--name", "stopped"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not list(saves.glob("checkpoint-*/COMPLETE")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.endswith(
        "flagbt: stopped; everything up to here is saved. Repeat the command with --resume to continue exactly from here.\n"
    )
    assert not (tmp_path / "stopped").exists()
    state = json.loads(next(saves.glob("checkpoint-*/trainer_state.json")).read_text())
    assert 1 < state["epoch"] < 3
    assert state["epoch"] % 1  # in the middle
    resumed = subprocess.run([*command, "--name", "stopped", "--resume"], capture_output=True, text=True, check=True)
    assert json.loads(resumed.stdout)["digest"] == json.loads(whole.stdout)["digest"]


TORCHRUN = (
    "torch.distributed.run",
    "--nproc-per-node",
    "2",
    "--rdzv-backend",
    "c10d",
    "--rdzv-endpoint",
    "127.0.0.1:0",
    "--local-addr",
    "127.0.0.1",
)
ACCELERATE = (
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--main_process_port",
    "0",
)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_train_like_one(launcher: tuple[str, ...], trial: tuple[Path, Path], tmp_path: Path) -> None:
    """If each process divides the weighted losses by its own weights, the objective is another."""
    script, bars = trial
    subprocess.run([sys.executable, script, bars, tmp_path / "one", "0.0"], capture_output=True, check=True)
    launch = [sys.executable, "-m", *launcher, script, bars, tmp_path / "two", "0.0"]
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    curves = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "two")]
    for mine, theirs in zip(*curves, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
        assert mine["nll"] == pytest.approx(theirs["nll"], rel=1e-5)
    weights = [load_file(tmp_path / name / "adapter.safetensors") for name in ("one", "two")]
    assert all(torch.allclose(mine, weights[1][name], atol=1e-5) for name, mine in weights[0].items())


@pytest.mark.slow
def test_accelerate_launches_the_command(trial: tuple[Path, Path], tmp_path: Path) -> None:
    """If it fails, each process prints a table or writes a checkpoint."""
    command = ["-m", "flagbt", "train", "--data", str(trial[1]), "--output", str(tmp_path), "--name", "shared"]
    command += ["--epochs", "1", "--pretrain-epochs", "1", "--batch-size", "2"]
    launch = [sys.executable, "-m", *ACCELERATE, *command]
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[:2] for line in done.stderr.splitlines()[1:]] == [["pretraining", "1/1"], ["training", "1/1"]]
    assert done.stdout.count("checkpoint: ") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.csv", "shared", "trial.py"]


def test_triple_barrier_labels_are_trained_stored_and_shown(walk: Walk, recipe: Recipe, tmp_path: Path) -> None:
    """A checkpoint that loses its labels is tested, purged and described by others."""
    bars, labels = walk(4000, seed=5, start="2023-01-01"), TripleBarrier(12, 1.0, 1.25)
    checkpoint = train_on(bars, tmp_path / "barriers", replace(recipe, labels=labels, embargo_bars=24))
    assert checkpoint.labels == labels
    assert checkpoint.values["embargo_bars"] == 24
    assert checkpoint.class_returns[0] < 0 < checkpoint.class_returns[2]
    assert labels.question in (checkpoint.folder / "README.md").read_text()
    assert checkpoint.values["samples"]["training"] + 12 + 168 + 14 == bars.position_of(np.datetime64("2023-05-01"))


@pytest.mark.parametrize(
    "objective",
    [
        Objective(),
        Objective(weights="inverse"),
        Objective(weights="sqrt", sampler="oversample"),
        Objective(loss="logit-adjusted", tau=0.7, weights="effective"),
        Objective(loss="balanced-softmax"),
    ],
)
def test_the_first_logits_are_the_best_constant_ones(objective: Objective) -> None:
    """If it fails, a short training only learns the shares, and its first epoch looks like a collapse."""
    counts = np.array([700.0, 2900.0, 800.0])
    logits = torch.tensor(objective.first_logits(counts), requires_grad=True)
    labels = torch.arange(3)
    repeats = counts.max() / counts if objective.sampler == "oversample" else np.ones(3)
    weight = torch.tensor(counts * repeats * objective.class_weights(counts))
    losses = objective.losses(logits.repeat(3, 1), labels, torch.tensor(counts / counts.sum()))
    ((weight * losses).sum() / weight.sum()).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-12


@pytest.mark.slow
def test_every_score_reaches_tensorboard(trial: tuple[Path, Path], tmp_path: Path) -> None:
    """If it fails, the logs lack scores, or are removed with the workspace."""
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")
    command = ["train", "--data", str(trial[1]), "--name", "a", "--epochs", "2", "--pretrain-epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "flagbt", *command, "--report-to", "tensorboard"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    read = (
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E\n"
        "e = E('tensorboard/a'); e.Reload(); print([each.value for each in e.Scalars('eval/nll')], e.Tags()['scalars'])"
    )
    found = subprocess.run([sys.executable, "-c", read], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    history = json.loads((tmp_path / "checkpoints" / "a" / "history.json").read_text())
    values = [float(value) for value in found[1 : found.index("]")].split(",")]
    assert values == pytest.approx([entry["nll"] for entry in history], rel=1e-6)
    assert {"eval/mcc", "eval/ece", "eval/macro_f1", "eval/auc_buy_sell"} <= set(re.findall(r"'(\S+)'", found))
