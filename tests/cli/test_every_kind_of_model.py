"""The commands with a model of every kind: run, diagnosed, calibrated, swept, proven, compared, shown."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kinds import BUILDERS, served_bars
from own_kinds import OWN_KINDS

from flagbt.data.readers import write_bars_csv
from flagbt.doctor.registry import built_in_checks
from flagbt.models.kinds import BUILT_IN

Flagbt = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=BUILDERS)
def ckpt(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Work in a folder with bars.csv and a small checkpoint ``mine`` of each kind."""
    for name, entry in OWN_KINDS.items():
        monkeypatch.setitem(BUILT_IN, name, entry)
    made = BUILDERS[request.param](tmp_path)
    desk = tmp_path / "desk"
    shutil.copytree(made.folder, desk / "checkpoints" / "mine")
    monkeypatch.chdir(desk)
    write_bars_csv(served_bars(), desk / "bars.csv")
    return "mine"


def done(command: Flagbt, *arguments: object, code: int = 0) -> str:
    """Run a command that must end with ``code``; return what it printed."""
    found, out, err = command(*arguments)
    assert found == code, f"{arguments}: {out}{err}"
    assert "Traceback" not in err
    return out


@pytest.mark.slow
def test_a_model_of_every_kind_passes_through_every_command(ckpt: str, command: Flagbt) -> None:
    """If it fails, a command works for the networks of flagbt only."""
    data = ("--ckpt", ckpt, "--data", "bars.csv")
    # 1. Run, and diagnose the checkpoint and the run
    done(command, "run", *data, "--timerange", "20230801-20230815", "--name", "plain")
    checkpoint = diagnosed(command, *data, "--timerange", "20230728-")
    assert {each["check"] for each in checkpoint["findings"]} == {each.name for each in built_in_checks()}
    skipped = {each["check"] for each in checkpoint["findings"] if each["severity"] == "skipped"}
    assert not {"invariance", "shares", "funnel", "rank-skill", "calibration", "label-map"} & skipped
    is_stored = "come from a file" in finding(checkpoint, "lookahead-model")["message"]  # then no bars can show look-ahead
    assert is_stored == ("lookahead-model" in skipped)
    of_run = diagnosed(command, "--run", "plain")
    assert "With the run's calibration" in finding(of_run, "shares")["message"]
    assert finding(of_run, "funnel")["message"].startswith("Of 336 signals") or is_stored
    remedies = [each["remedy"] for each in (*checkpoint["findings"], *of_run["findings"])]
    assert not [
        each for each in remedies if re.search(r"(labels|training|validation|class_weights)=", each)
    ]  # of functions only
    # 2. Calibrate, and run with it
    fit = done(command, "calibrate", *data, "--timerange", "20230728-20230812", "--store", "warm", "--force", "--json")
    assert json.loads(fit)["calibration"]["fitted_on"] == "20230728-20230812"
    done(command, "run", *data, "--timerange", "20230812-", "--calibration", "stored:warm", "--name", "warm")
    # 3. Prove, sweep, compare, show
    for proof in ("batch", "warmup"):
        done(command, "verify", proof, *data)
    done(command, "verify", "lookahead", *data, code=int(is_stored))
    swept = ("--timerange", "20230812-", "--decision", "argmax,threshold:0.4", "--fees", "0,10", "--workers", "1")
    done(command, "sweep", *data, *swept, "--out", "sweep")
    done(command, "compare", "plain", "warm", "-o", "compare.html")
    done(command, "report", "warm")
    for shown in (("runs", "show", "warm"), ("runs", "list"), ("ckpt", "show", ckpt), ("ckpt", "list")):
        assert done(command, *shown)


def diagnosed(command: Flagbt, *arguments: object) -> dict[str, Any]:
    """Return a diagnosis; a small random model may be broken, but no check may raise."""
    _, out, err = command("doctor", *arguments, "--json")
    assert out, err
    found: dict[str, Any] = json.loads(out)
    raised = [each for each in found["findings"] if "raised" in each["message"] or "could not be run" in each["message"]]
    assert raised == []
    return found


def finding(diagnosis: dict[str, Any], check: str) -> dict[str, Any]:
    """Return the finding of a check."""
    return next(each for each in diagnosis["findings"] if each["check"] == check)
