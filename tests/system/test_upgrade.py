"""What version 0.1.0 wrote is read by this one, with the same numbers: runs, a sweep, a checkpoint, a base, YAML files, trials.

`tests/system/written_by_0_1/make_fixtures.sh` made the files, and expected.json: what 0.1.0 itself printed about them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flagbt.results.trial_log import read_trials
from flagbt.training.stored_base import find_base

FOLDER = Path(__file__).with_name("written_by_0_1")
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
Command = Callable[..., tuple[int, str, str]]
# Paths and clocks, and the sentences' place: what may differ where nothing has changed.
LEFT_OUT = {"seconds", "folder", "page", "tearsheet", "sources", "run", "warnings"}


@pytest.fixture
def command(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Give the command line in a folder with all that 0.1.0 left."""
    shutil.copytree(FOLDER, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FLAGBT_HOME", str(tmp_path / "home"))
    return command


def run_named(strategy: str) -> str:
    """Return the name of the one run folder of a strategy."""
    return next(path.name for path in (FOLDER / "runs").iterdir() if strategy in path.name)


def differences(expected: Any, found: Any, place: str = "") -> list[str]:
    """Return where numbers, words or arrays of what 0.1.0 printed are not those that were found; more keys may be found."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = [key for key in expected if key not in LEFT_OUT]
        return [each for key in keys for each in differences(expected[key], found.get(key, "nothing"), f"{place}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            each for i, pair in enumerate(zip(expected, found, strict=True)) for each in differences(*pair, f"{place}[{i}]")
        ]
    if isinstance(expected, str) and " " in expected:
        return []  # a sentence
    equal = pytest.approx(expected, rel=1e-6) == found if isinstance(expected, float) else expected == found
    return [] if equal else [f"{place}: {expected!r} was, {found!r} is"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("runs_list", ["runs", "list"]),
        ("runs_show_nano", ["runs", "show", run_named("nano")]),
        ("runs_show_sma", ["runs", "show", run_named("sma")]),
        ("compare_nano", ["compare", run_named("nano"), "--fail-if", "max_drawdown < -0.9"]),
        ("ckpt_show", ["ckpt", "show", "nano"]),
        ("show_config", ["show-config", "--config", "run.yaml"]),
        ("run_config_again", ["run", "--config", "run.yaml", "--out", "again"]),
        (
            "run_warm",
            ["run", "--ckpt", "nano", "--timerange", "20240601-20240608", "--calibration", "warm.json", "--out", "again"],
        ),
    ],
)
def test_what_0_1_wrote_gives_the_same_numbers(name: str, arguments: list[str], command: Command) -> None:
    """If this fails, an upgrade changes a number, or refuses a record."""
    code, printed, errors = command(*arguments, "--json")
    assert code == 0, errors
    assert differences(EXPECTED[name], json.loads(printed)) == []


def test_a_sweep_of_0_1_given_again_is_the_same(command: Command) -> None:
    """If this fails, an upgrade changes a sweep's numbers, or counts its settings as new trials."""
    before = read_trials(Path("runs"))
    old = next(Path("sweeps").iterdir())
    stored = json.loads((old / "sweep.json").read_text(encoding="utf-8"))
    command("data", "sample", "-o", "sample.csv")
    code, printed, errors = command("sweep", "--config", "sweep.yaml", "--json")
    assert code == 0, errors
    found = json.loads(printed)
    assert differences(stored["winner"], found["winner"]) == []
    new = next(path for path in Path("sweeps").iterdir() if path != old)  # flagbt's version is part of a sweep's digest
    pd.testing.assert_frame_equal(pd.read_parquet(old / "table.parquet"), pd.read_parquet(new / "table.parquet"))
    assert read_trials(Path("runs")) == before


def test_a_page_of_a_run_of_0_1_is_made_again(command: Command) -> None:
    """If this fails, a record of 0.1.0 cannot be shown."""
    code, _, errors = command("report", run_named("nano"))
    assert code == 0, errors
    assert "nano" in (Path("runs") / run_named("nano") / "tearsheet.html").read_text(encoding="utf-8")


def test_a_base_of_0_1_is_read() -> None:
    """If this fails, bases have to be trained again after an upgrade."""
    base = find_base(str(FOLDER / "bases" / "first"))
    assert base.digest == EXPECTED["pretrain"]["digest"]


@pytest.mark.slow
def test_a_training_by_a_yaml_file_of_0_1_gives_the_same_checkpoint(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the same recipe on the same bars gives another model after an upgrade."""
    from flagbt.models.kinds.architecture import PRESETS

    nano = {"layers": 2, "d_model": 16, "heads": 2, "d_feedforward": 32, "context_bars": 8, "chunk_bars": 32}
    monkeypatch.setitem(PRESETS, "nano", nano)
    shutil.move("checkpoints/nano", "before")
    command("data", "sample", "-o", "sample.csv")
    code, printed, errors = command("train", "--config", "train.yaml", "--json")
    assert code == 0, errors
    assert differences(EXPECTED["train"]["best"], json.loads(printed)["best"]) == []
