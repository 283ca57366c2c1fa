"""Samples: one model trains on several series, none of which contributes a day of the validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.data.labels import LabelSpec
from flagbt.data.readers import write_bars_csv
from flagbt.data.time_range import TimeRange
from flagbt.errors import DataError, RangeError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.kinds.network import architecture_of
from flagbt.models.overlap import check_overlap
from flagbt.training.recipe import Recipe
from flagbt.training.samples import Samples, gather_samples
from flagbt.training.trainer import Schedule
from flagbt.workflows.train import train_on

Walk = Callable[..., Bars]
Future = Callable[[Bars, int], Bars]
Command = Callable[..., tuple[int, str, str]]
BEFORE, AFTER = TimeRange.parse("-20230401"), TimeRange.parse("20230401-20230601")


@pytest.fixture(scope="module")
def bars(walk: Walk) -> Bars:
    """Give the primary series."""
    return walk(3600, seed=1, start="2023-01-01")


@pytest.fixture(scope="module")
def other(walk: Walk) -> Bars:
    """Give another market, which begins earlier and is as long."""
    return walk(3900, seed=2, start="2022-12-20", hourly_volatility=0.01)


def trained(bars: Bars, others: list[Bars], preset: str, target: Path) -> Checkpoint:
    """Train on the months before April, validated on the two after."""
    once = Schedule(epochs=1)
    recipe = Recipe(preset=preset, training=BEFORE, validation=AFTER, pretraining=once, schedule=once)
    return train_on(bars, target, recipe, more=others)


def gathered(bars: Bars, others: list[Bars], warmup_bars: int = 200) -> Samples:
    """Gather with every bar of the primary series past its warm-up and before April as a sample."""
    mark = np.zeros(len(bars), dtype=bool)
    mark[warmup_bars : bars.between(BEFORE).stop - 6] = True
    return gather_samples(bars, others, labels=LabelSpec(), training=mark, within=BEFORE, warmup_bars=warmup_bars)


def test_samples_of_another_series_use_their_own_past_and_nothing_after_the_training(bars: Bars, other: Bars) -> None:
    """A label window past the training's end leaks the validation; a context across the seam is another market's."""
    samples = gathered(bars, [other])
    at = np.flatnonzero(samples.training[len(bars) :])
    assert at[0] == 200
    assert other.time[at[-1] + 6] < np.datetime64("2023-04-01")
    assert other.time[at[-1] + 7] >= np.datetime64("2023-04-01")
    assert str(samples.seen) == "20221220-20230401"
    spec = LabelSpec()
    assert np.array_equal(samples.labels, np.concatenate([spec.labels(bars), spec.labels(other)]))


def test_another_series_does_not_leak_the_validation(
    bars: Bars, other: Bars, other_future: Future, nano_preset: str, tmp_path: Path
) -> None:
    """Markets move together: with another market's April, the validation would be a training figure."""
    last = other.between(BEFORE).stop - 1
    changed = other_future(other, last)
    here = trained(bars, [other], nano_preset, tmp_path / "here")
    there = trained(bars, [changed], nano_preset, tmp_path / "there")
    assert here.digest == there.digest
    alone = trained(bars, [], nano_preset, tmp_path / "alone")
    assert alone.digest != here.digest  # the other series is trained on


def test_a_checkpoint_names_every_series_and_is_refused_on_the_days_of_each(
    bars: Bars, other: Bars, nano_preset: str, tmp_path: Path
) -> None:
    """A checkpoint that hides a training series could be tested on it."""
    checkpoint = trained(bars, [other], nano_preset, tmp_path / "here")
    assert checkpoint.values["more_data"] == [other.to_json()]
    assert checkpoint.values["ranges"]["training"].startswith("20221220")
    assert checkpoint.values["ranges"]["pretraining"].startswith("20221220")
    assert other.digest[:16] in (checkpoint.folder / "README.md").read_text(encoding="utf-8")
    looks_back = checkpoint.schema.warmup_bars + architecture_of(checkpoint).receptive_bars
    assert checkpoint.values["samples"]["training"] == int(gathered(bars, [other], looks_back).training.sum())
    december = other.between(TimeRange.parse("-20221230"))
    with pytest.raises(RangeError, match="training"):
        check_overlap(checkpoint, checkpoint.stored_calibration().calibration, other, december)


def _coarse(bars: Bars) -> Bars:
    """Keep every fourth bar."""
    columns = {name: getattr(bars, name)[::4] for name in ("open", "high", "low", "close", "volume")}
    return Bars(bars.time[::4], **columns, source="coarse")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda bars, walk: bars, DataError, "the same bars as"),
        (lambda bars, walk: walk(300, start="2023-05-01"), RangeError, "leaves no sample in the training range"),
        (lambda bars, walk: _coarse(bars), DataError, "bars of 4 hours"),
    ],
    ids=["twice", "too late", "other step"],
)
def test_unfit_series_are_refused(bars: Bars, walk: Walk, make: Callable[..., Bars], error: type, message: str) -> None:
    """If it fails, a series of another step, without samples or counted twice is trained on silently."""
    with pytest.raises(error, match=message):
        gathered(bars, [make(bars, walk)])


def test_the_command_reads_more_files(
    bars: Bars, other: Bars, nano_preset: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the option is parsed and dropped, the model trains on one market instead of two."""
    monkeypatch.chdir(tmp_path)
    write_bars_csv(bars, Path("one.csv"))
    write_bars_csv(other, Path("two.csv"))
    Path("train.yaml").write_text("more_data: two.csv\n", encoding="utf-8")
    both = ("--preset", nano_preset, "--epochs", 1, "--timerange", "-20230401", "--validation", "20230401-20230601")
    code, _, message = command("train", "--data", "one.csv", "--config", "train.yaml", "--pretrain-epochs", 1, *both)
    assert code == 0, message
    assert [each["digest"] for each in read_checkpoint(Path("checkpoints/flagbt")).values["more_data"]] == [other.digest]
    once = ("--name", "base", "--preset", nano_preset, "--epochs", 1, "--timerange", "-20230401")
    code, _, message = command("pretrain", "--data", "one.csv", "--more-data", "two.csv", *once)
    assert code == 0, message
    code, _, message = command(
        "train", "--data", "one.csv", "--more-data", "two.csv", "--base", "bases/base", "--name", "again", *both[2:]
    )
    assert code == 0, message
    files = ("adapter.safetensors", "base.safetensors")
    first, again = (read_checkpoint(Path("checkpoints") / name).values["files"] for name in ("flagbt", "again"))
    assert all(first[name] == again[name] for name in files)  # the stored base is the one that the training makes
