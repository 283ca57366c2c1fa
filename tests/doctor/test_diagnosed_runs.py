"""The doctor of a run: its checkpoint, bars, calibration and decision, or the probabilities that it stored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import flagbt
from flagbt.data.readers import read_bars, write_bars_csv
from flagbt.models.checkpoint import Checkpoint

Flagbt = Callable[..., tuple[int, str, str]]
RANGE = "20230801-20230901"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nano: Checkpoint, walk: Callable[..., flagbt.Bars]) -> Path:
    """Work in a folder with bars.csv and the checkpoint ``mine``."""
    shutil.copytree(nano.folder, tmp_path / "checkpoints" / "mine")
    write_bars_csv(walk(1_800, 8, start="2023-07-01"), tmp_path / "bars.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def doctor(desk: Path, command: Flagbt) -> Callable[..., dict[str, Any]]:
    """Return the function that diagnoses a new run with more options of ``flagbt run``."""

    def examine(*more: object) -> dict[str, Any]:
        code, out, err = command("run", "--ckpt", "mine", "--data", "bars.csv", "--timerange", RANGE, "--name", "one", *more)
        assert code == 0, out + err
        code, out, err = command("doctor", "--run", "one", "--json")
        assert code in (0, 1), err
        found: dict[str, Any] = json.loads(out)
        return found

    return examine


def message(diagnosis: dict[str, Any], check: str) -> str:
    """Return the message of a check's finding."""
    return str(next(each["message"] for each in diagnosis["findings"] if each["check"] == check))


def test_its_calibration_and_its_decision_are_examined(doctor: Callable[..., dict[str, Any]], desk: Path) -> None:
    """If it fails, a run with other offsets is diagnosed by what the checkpoint stores."""
    found = doctor("--calibration", "offset:9,0,0", "--decision", "argmax")
    assert "With the run's calibration the mean probabilities are SELL 99." in message(found, "shares")
    assert "Of 744 signals, 744 SELL, 0 HOLD and 0 BUY" in message(found, "funnel")
    run = flagbt.read_run(next((desk / "runs").glob("*-mine-*")))
    assert run.funnel.signal == {"SELL": 744, "HOLD": 0, "BUY": 0}
    in_python = flagbt.diagnose(run)
    assert in_python.subject == "mine in the run one"
    assert [(each.check, each.value) for each in in_python.findings] == [(e["check"], e["value"]) for e in found["findings"]]


def test_a_changed_checkpoint_and_other_bars_are_refused(
    doctor: Callable[..., dict[str, Any]], desk: Path, command: Flagbt, walk: Callable[..., flagbt.Bars]
) -> None:
    """If it fails, a run is diagnosed with another model, or on bars that it did not trade."""
    doctor()
    bars = read_bars(desk / "bars.csv")
    # A file that was moved, or is longer or shorter than it was, holds the same bars
    write_bars_csv(walk(1_800, 9, start="2023-07-01"), desk / "other.csv")
    (desk / "bars.csv").rename(desk / "moved.csv")
    code, _, err = command("doctor", "--run", "one")
    assert code
    assert "names its bars as 'bars.csv', which does not exist here. Give them with --data" in err
    assert command("doctor", "--run", "one", "--data", "moved.csv")[0] in (0, 1)
    write_bars_csv(bars.take(slice(0, 1_700)), desk / "bars.csv")
    assert command("doctor", "--run", "one")[0] in (0, 1)
    code, _, err = command("doctor", "--run", "one", "--data", "other.csv")
    assert code
    assert "traded other bars" in err
    # Another checkpoint of that name
    values = json.loads((desk / "checkpoints/mine/checkpoint.json").read_text())
    shutil.move(desk / "checkpoints/mine", desk / "kept")
    code, _, err = command("doctor", "--run", "one")
    assert code
    assert "there is no checkpoint 'mine'" in err
    assert "Give the folder of the one that it used with --ckpt" in err
    shutil.copytree(desk / "kept", desk / "checkpoints" / "mine")
    values["ranges"]["training"] = "20220101-20220301"
    (desk / "checkpoints/mine/checkpoint.json").write_text(json.dumps(values))
    code, _, err = command("doctor", "--run", "one")
    assert code
    assert "checkpoints/mine has the digest" in err
    assert command("doctor", "--run", "one", "--ckpt", "kept")[0] in (0, 1)


def test_the_probabilities_of_a_run_are_examined(desk: Path, command: Flagbt) -> None:
    """If it fails, a file of probabilities from elsewhere cannot be diagnosed, or passes for a model that was proven causal."""
    bars = read_bars(desk / "bars.csv").frame()
    change = np.log(bars["close"]).diff().fillna(0).to_numpy() * 80
    p = np.exp(np.column_stack([-change, np.ones(len(bars)), change]))
    table = pd.DataFrame(p / p.sum(axis=1, keepdims=True), index=bars.index, columns=["p_sell", "p_hold", "p_buy"])
    table.iloc[::7] = np.nan
    table.to_csv(desk / "given.csv", index_label="time")
    more = ("--data", "bars.csv", "--timerange", RANGE, "--bars-seen", "20220101-20230101")
    code, out, err = command("run", "--signals", "given.csv", *more, "--name", "given")
    assert code == 0, out + err
    code, out, err = command("doctor", "--run", "given", "--json")
    found = json.loads(out)
    severities = {each["check"]: each["severity"] for each in found["findings"]}
    assert severities["lookahead-model"] == "skipped"
    assert "they come from a file or are constant" in message(found, "lookahead-model")
    assert severities["overlap"] == "ok"
    assert {severities[each] for each in ("shares", "funnel", "rank-skill", "calibration")} <= {"ok", "warning"}
    assert "It has no answer on 106 of the tested bars" in message(found, "shares")


def test_a_run_without_probabilities_is_refused(desk: Path, command: Flagbt) -> None:
    """If it fails, the user of a strategy without a model gets a traceback, or an empty diagnosis."""
    assert command("run", "--strategy", "sma-cross", "--data", "bars.csv", "--timerange", RANGE, "--name", "plain")[0] == 0
    code, _, err = command("doctor", "--run", "plain")
    assert code == 2
    assert "used no checkpoint and stored no probabilities" in err
    assert "flagbt verify lookahead" in err
