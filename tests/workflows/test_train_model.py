"""flagbt train --model: the samples, split, calibration and card of a network's training, for the fit of any kind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from walks import make_bars

import flagbt
from flagbt.arrays import Float32Array, FloatArray, Progress
from flagbt.data.bars import Bars
from flagbt.data.features import DEFAULT
from flagbt.data.labels import TripleBarrier
from flagbt.data.time_range import TimeRange
from flagbt.errors import FlagbtError, RangeError, TrainingError, UsageError
from flagbt.models.checkpoint import read_checkpoint
from flagbt.models.checkpoint_model import ModelParts, RowModel, TrainingTable
from flagbt.models.kinds import BUILT_IN
from flagbt.models.statistics import negative_log_likelihood, softmax
from flagbt.training.fit_recipe import FitRecipe
from flagbt.training.labelled_samples import label_samples, requested_split
from flagbt.training.progress import Monitor
from flagbt.workflows.train_model import train_model

Command = Callable[..., tuple[int, str, str]]
TREES = FitRecipe(model="lightgbm", validation=TimeRange.parse("20230401-20230515"))
TABLES: list[TrainingTable] = []


class SharesModel(RowModel):
    """Answer the training labels' shares, changed by the first column of a window; its file is a JSON list."""

    files: ClassVar[tuple[str, ...]] = ("shares.json",)

    @property
    def context_bars(self) -> int:
        """As its argument stated."""
        return int(str(self.settings["context_bars"]))

    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `ReadsRows`."""
        del device, batch_size, progress
        shares = np.array(json.loads((self.folder / "shares.json").read_text()))
        found = np.log(shares) + 0.1 * rows[:, :1].astype(np.float64)
        found[: self.context_bars] = np.nan
        if self.settings["answers"] == "none":
            found[:] = np.nan
        return found

    @classmethod
    def fit(cls, table: TrainingTable, folder: Path, argument: str) -> ModelParts:
        """Count the labels."""
        TABLES.append(table)
        context, _, answers = argument.partition(",")
        shares = np.bincount(table.labels[table.training], minlength=3) / table.training.sum()
        (folder / "shares.json").write_text(json.dumps(shares.tolist()))
        return ModelParts(settings={"context_bars": int(context or 0), "answers": answers}, parameters=3, note="Shares only.")


@pytest.fixture(autouse=True)
def shares_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a kind that no package installs."""
    monkeypatch.setitem(BUILT_IN, "shares", (f"{__name__}:SharesModel", "the shares of the labels"))
    TABLES.clear()


@pytest.fixture(scope="module")
def bars() -> Bars:
    """Return hourly bars, January to May 2023."""
    return make_bars(3600, seed=5, start="2023-01-01")


def test_a_trained_model_states_what_a_trained_network_states(bars: Bars, tmp_path: Path) -> None:
    """If it fails, what reads a checkpoint of a training (card, calibration, overlap guard) finds another thing here."""
    made = train_model(bars, tmp_path / "trees", TREES)
    values = made.values
    assert values["ranges"] == {
        "pretraining": "20230101-20230401",
        "training": "20230101-20230401",
        "validation": "20230401-20230515",
        "calibration": "20230401-20230515",
    }
    assert set(values["calibrations"]) == {"default"}  # type: ignore[call-overload]
    assert (values["seed"], values["lora"], values["notes"]) == (0, None, [])
    assert values["versions"].keys() >= {"flagbt", "lightgbm", "numpy"}  # type: ignore[union-attr]
    assert values["files"].keys() == {"model.txt"}  # type: ignore[union-attr]
    assert sorted(path.name for path in made.folder.iterdir()) == ["README.md", "checkpoint.json", "model.txt"]
    assert made.unknown == []
    assert not made.imported
    card = (made.folder / "README.md").read_text()
    assert "A model of the kind `lightgbm`" in card
    assert "refuses to test it on any of these" in card
    with pytest.raises(RangeError, match="overlap"):
        flagbt.backtest(bars, "flagtrader", checkpoint=made.folder, timerange="20230501-20230525")
    run = flagbt.backtest(bars, "flagtrader", checkpoint=made.folder, timerange="20230515-20230525")
    assert len(run.signals) == 240


def test_the_validation_is_scored_as_in_a_run_and_on_its_samples_only(bars: Bars, tmp_path: Path) -> None:
    """If it fails, the stated scores are of other bars, or of other rows, than a run's."""
    made = train_model(bars, tmp_path / "trees", TREES)
    split = requested_split(bars, TREES, DEFAULT.warmup_bars)
    labelled = label_samples(bars, (), TREES, split, DEFAULT.warmup_bars)
    assert made.values["samples"] == {
        "training": int(labelled.samples.training.sum()),
        "validation": int(split.validation.sum()),
    }
    p = softmax(made.model.logits(bars))[split.validation]
    nll = negative_log_likelihood(p, TREES.labels.labels(bars)[split.validation])
    assert made.values["metrics"]["validation"]["nll"] == pytest.approx(nll, abs=1e-12)  # type: ignore[index, call-overload]


def test_no_training_label_and_no_validation_sample_uses_a_bar_of_the_other_side(bars: Bars, tmp_path: Path) -> None:
    """If it fails, the validation is not held out."""
    recipe = FitRecipe(model="shares:40", validation=TREES.validation, embargo_bars=24)
    made = train_model(bars, tmp_path / "shares", recipe)
    (table,) = TABLES
    cut = int(np.searchsorted(bars.time, np.datetime64("2023-04-01", "ns")))
    assert np.flatnonzero(table.training).max() == cut - 1 - recipe.labels.horizon_bars
    assert np.flatnonzero(table.training).min() == DEFAULT.warmup_bars
    assert np.flatnonzero(table.validation).min() == cut + 24 + DEFAULT.warmup_bars
    assert np.isnan(table.rows[: DEFAULT.warmup_bars]).any(axis=1).all()
    assert np.isfinite(table.rows[table.training]).all()
    # The window of 40 rows, known after the fit, is kept clear of the training too
    expected = int(table.validation.sum()) - 40
    assert made.values["samples"]["validation"] == expected  # type: ignore[index, call-overload]


def test_more_series_lie_end_to_end(bars: Bars, tmp_path: Path) -> None:
    """If it fails, a label or a window reaches across the seam, or the other market is validated on."""
    other = make_bars(2500, seed=9, start="2023-01-10")
    made = train_model(bars, tmp_path / "shares", FitRecipe(model="shares", validation=TREES.validation), more=[other])
    (table,) = TABLES
    assert table.series_starts == (0, len(bars))
    assert len(table.rows) == len(bars) + len(other)
    assert not table.validation[len(bars) :].any()
    theirs = np.flatnonzero(table.training[len(bars) :])
    assert theirs.min() >= DEFAULT.warmup_bars
    assert other.time[theirs.max() + 6] < np.datetime64("2023-04-01", "ns")
    assert np.array_equal(table.labels[len(bars) :], TREES.labels.labels(other))
    assert [each["source"] for each in made.values["more_data"]] == [other.source]  # type: ignore[union-attr, index, call-overload]


def test_a_seed_repeats_every_bit_and_another_changes_it(bars: Bars, tmp_path: Path) -> None:
    """If it fails, a training cannot be repeated, or --seed does nothing."""
    digests = {
        name: train_model(bars, tmp_path / name, FitRecipe(model="lightgbm", validation=TREES.validation, seed=seed)).digest
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    }
    assert digests["a"] == digests["b"] != digests["c"]


def test_what_cannot_be_trained_is_refused_before_anything_is_written(bars: Bars, tmp_path: Path) -> None:
    """If it fails, a training runs for nothing, or leaves half a folder."""
    for model, error, message in (
        ("lightgmb", UsageError, "Did you mean 'lightgbm'"),
        ("llama", UsageError, "the kind 'llama' are not trained with --model. Kinds that are: .*lightgbm"),
        ("lightgbm:fast", UsageError, "--model: 'fast' is not known: this kind takes no argument"),
        ("shares:0,none", TrainingError, "no finite answer for [0-9,]+ of the [0-9,]+ validation samples"),
    ):
        with pytest.raises(error, match=message):
            train_model(bars, tmp_path / "mine", FitRecipe(model=model, validation=TREES.validation))
        assert list(tmp_path.iterdir()) == []
    flat = Bars(bars.time, *([np.full(len(bars), 100.0)] * 4), np.ones(len(bars)), source="flat", synthetic=True)
    with pytest.raises(TrainingError, match="the class SELL never occurs"):
        train_model(flat, tmp_path / "mine", TREES)
    made = train_model(bars, tmp_path / "mine", TREES)
    with pytest.raises(TrainingError, match="exists. Choose another --name, or --overwrite"):
        train_model(bars, tmp_path / "mine", TREES)
    replaced = train_model(bars, tmp_path / "mine", replace(TREES, seed=1), overwrite=True)
    assert replaced.digest != made.digest
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_validation_too_short_for_a_calibration_is_noted(bars: Bars, tmp_path: Path) -> None:
    """If it fails, a checkpoint lacks its calibration, and its owner learns it in the first run."""
    notes: list[str] = []
    short = FitRecipe(model="lightgbm", validation=TimeRange.parse("20230401-20230413"))
    made = train_model(bars, tmp_path / "mine", short, monitor=Monitor(notify=notes.append))
    assert notes[0].startswith("No calibration can be fitted on the validation 20230401-20230413: expected 200 labelled bars")
    assert made.values["notes"] == [notes[0]]
    assert made.calibration_names() == []


def test_other_labels_work(bars: Bars, tmp_path: Path) -> None:
    """If it fails, --labels is not for other models."""
    recipe = FitRecipe(model="lightgbm", validation=TREES.validation, labels=TripleBarrier(12, 1.0, 1.0))
    assert read_checkpoint(train_model(bars, tmp_path / "mine", recipe).folder).labels == recipe.labels


def test_the_command_prints_the_summary_and_refuses_options_of_networks(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, `flagbt train --model` prints something else than documented, or ignores options in silence."""
    monkeypatch.chdir(tmp_path)
    make_bars(3600, seed=5, start="2023-01-01").frame().to_csv("bars.csv")
    common = ("train", "--data", "bars.csv", "--model", "lightgbm", "--name", "trees", "--validation", "20230401-20230515")
    code, out, err = command(*common, "--seed", 3)
    assert code == 0, err
    assert out.splitlines()[0].startswith("lightgbm: validation NLL ")
    assert "checkpoint: checkpoints/trees  (test it on bars after 20230515)" in out
    code, out, err = command(*common, "--seed", 3, "--overwrite", "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["kind"] == "lightgbm"
    assert values["digest"] == read_checkpoint(Path("checkpoints/trees")).digest
    assert values.keys() >= {
        "samples",
        "labels",
        "validation",
        "validation_calibrated",
        "model_verdict",
        "calibration",
        "notes",
    }
    code, out, err = command(*common, "--overwrite", "--epochs", 10, "--lora-layers", "all")
    assert code == 2
    assert "--model: --epochs, --lora-layers belong to the training of a network" in err
    code, out, err = command(*common, "--overwrite", "--resume")
    assert (code, "--model: --resume belongs to the training of a network" in err) == (2, True)


def test_from_python(bars: Bars, tmp_path: Path) -> None:
    """If it fails, a notebook cannot train what the command line can."""
    recipe = flagbt.Recipe(validation=TREES.validation)
    made = flagbt.train(bars, tmp_path / "mine", recipe, model="lightgbm")
    assert made.digest == train_model(bars, tmp_path / "same", TREES).digest
    with pytest.raises(FlagbtError, match="model: best_by, device belong to the training of a network"):
        flagbt.train(bars, tmp_path / "two", flagbt.Recipe(best_by="mcc"), model="lightgbm", device="cuda")
    with pytest.raises(FlagbtError, match="model: expected text"):
        flagbt.train(bars, tmp_path / "two", model=3)  # type: ignore[arg-type]


def test_ctrl_c_leaves_nothing(bars: Bars, tmp_path: Path) -> None:
    """If it fails, a stopped training leaves a folder that looks like a checkpoint, or its parts."""
    bars.frame().to_csv(tmp_path / "bars.csv")
    (tmp_path / "my_models.py").write_text("import time\ndef slow():\n    open('started', 'w').close()\n    time.sleep(60)\n")
    code = (
        "import sys; from pathlib import Path; from my_models import slow\n"
        "from flagbt.models.kinds.lightgbm_model import LightGBMModel\n"
        "def fit(cls, table, folder, argument):\n"
        "    (folder / 'model.txt').write_text('half')\n    slow()\n"
        "LightGBMModel.fit = classmethod(fit)\n"
        "from flagbt.__main__ import main\n"
        "sys.argv = ['flagbt', 'train', '--data', 'bars.csv', '--model', 'lightgbm', '--name', 'mine']\nmain()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, stderr=subprocess.PIPE
    )
    for _ in range(600):
        if (tmp_path / "started").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert list((tmp_path / "checkpoints").iterdir()) == []
