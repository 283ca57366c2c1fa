"""flagbt calibrate: the fit, what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from flagbt.data.bars import COLUMNS, Bars
from flagbt.data.time_range import TimeRange
from flagbt.errors import CheckpointError, RangeError, UsageError
from flagbt.models.calibration import Calibration
from flagbt.models.checkpoint import Checkpoint, StoredCalibration, find_checkpoint, read_checkpoint
from flagbt.models.decision import Decision, choose_decision
from flagbt.models.logit_cache import logits_of
from flagbt.models.statistics import negative_log_likelihood
from flagbt.reports.calibration_page import render_calibration
from flagbt.results.calibration_result import CalibrationResult
from flagbt.storage.atomic_files import sha256_of
from flagbt.workflows import calibrate as module
from flagbt.workflows.calibrate import CalibrateRequest, calibrate_request, training_shift

Command = Callable[..., tuple[int, str, str]]
Walk = Callable[..., Bars]
FIT = "20230715-20230820"
LATER = "20230821-20230905"
DIAGNOSES: dict[tuple[str, ...], Any] = {}


@pytest.fixture(autouse=True)
def one_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examine a checkpoint on the same bars only once: it takes most of a calibration's time."""
    subject_of, examine = module.subject_of_checkpoint, module.examine

    def subject(checkpoint: Checkpoint, bars: Bars, *, timerange: TimeRange) -> Any:
        key = (str(checkpoint.name), checkpoint.digest, bars.digest, str(timerange))
        return key, subject_of(checkpoint, bars, timerange=timerange)

    def diagnosis(keyed: Any, *, progress: Any) -> Any:
        if keyed[0] not in DIAGNOSES:
            DIAGNOSES[keyed[0]] = examine(keyed[1], progress=progress)
        return DIAGNOSES[keyed[0]]

    monkeypatch.setattr(module, "subject_of_checkpoint", subject)
    monkeypatch.setattr(module, "examine", diagnosis)


@pytest.fixture
def desk(nano: Checkpoint, walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a copy of nano, and a file of bars after all bars that nano has seen."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(nano.folder, tmp_path / "checkpoints" / "nano")
    frame = walk(1900, seed=11, start="2023-06-20").frame()[list(COLUMNS)]
    frame.rename_axis("timestamp").to_csv(tmp_path / "bars.csv")
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fit(checkpoint: Checkpoint, bars: Bars, timerange: str, method: str, **options: Any) -> CalibrationResult:
    """Fit a calibration on a range."""
    parsed = TimeRange.parse(timerange)
    return calibrate_request(CalibrateRequest(checkpoint=checkpoint, bars=bars, timerange=parsed, method=method, **options))


def collapse(folder: Path) -> None:
    """Make a checkpoint predict SELL by 30 on every bar, with a matching fingerprint."""
    adapter, marks = load_file(folder / "adapter.safetensors"), load_file(folder / "fingerprint.safetensors")
    (bias,) = [name for name in adapter if name.endswith("head.bias")]
    adapter[bias][0] += 30
    marks["logits"][:, 0] += 30
    values = json.loads((folder / "checkpoint.json").read_text())
    for name, tensors in (("adapter.safetensors", adapter), ("fingerprint.safetensors", marks)):
        save_file(tensors, folder / name)
        values["files"][name] = sha256_of(folder / name)
    (folder / "checkpoint.json").write_text(json.dumps(values))


def test_a_calibration_is_fitted_printed_stored_and_used(command: Command, desk: Path) -> None:
    """If it fails, a calibration cannot be fitted, stored and used, or is used on the bars of its fit."""
    before = read_checkpoint(Path("checkpoints/nano"))
    line = ["calibrate", "--ckpt", "nano", "--data", "bars.csv", "--timerange", FIT, "--method", "vector"]
    code, out, err = command(*line, "--store", "--output", "c.json", "--html", "c.html", "--png", "c.png", "--json")
    assert code == 0
    assert re.fullmatch(rf"checkpoint nano: \S+, digest {before.digest[:12]}\n", err)
    values = json.loads(out)
    assert values["calibration"]["method"] == values["stored"] == "vector"
    assert values["calibration"]["fitted_on"] == FIT
    assert values["after"]["nll"] < values["before"]["nll"]
    assert values["after"]["nll"] < values["held_out"]["nll"]
    assert values["before"]["rows"] == 36 * 24 - 6  # no label uses a bar after the range
    for column in ("before", "after", "held_out"):
        assert {"nll", "ece", "mcc", "predicted_shares", "reliability"} <= set(values[column])
        for each in values[column]["reliability"].values():
            assert sum(part["count"] for part in each["bins"]) == values["before"]["rows"]
    direction = values["doctor"]["rank_skill"]["value"]
    assert any(note.startswith("No offset can help") and f"{direction:.3f} (" in note for note in values["notes"])
    after = read_checkpoint(Path("checkpoints/nano"))
    assert after.digest == before.digest
    assert after.calibration_names() == ["default", "vector"]
    assert after.stored_calibration("default") == before.stored_calibration("default")
    kept = json.loads(Path("c.json").read_text())
    assert kept == {"calibration": values["calibration"], "decision": values["decision"]}
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")
    page = Path("c.html").read_text()
    assert "No offset can help" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    for calibration in ("stored:vector", "c.json"):
        run = ["run", "--ckpt", "nano", "--data", "bars.csv", "--calibration", calibration, "--json"]
        assert command(*run, "--timerange", LATER)[0] == 0
        code, _, err = command(*run, "--timerange", "20230819-20230901")
        assert code == 1
        assert f"fit of the calibration in use {FIT}" in err
        assert "from --timerange 20230820- on" in err


def test_an_existing_name_or_file_needs_overwrite(command: Command, desk: Path) -> None:
    """If it fails, a slip replaces a calibration that is in use."""
    checkpoint = read_checkpoint(Path("checkpoints/nano"))
    checkpoint.store_calibration("mine", StoredCalibration(Calibration("offset", offset=(1.0, 0.0, -1.0)), Decision()))
    Path("c.json").write_text("mine")
    before = tree(desk)
    line = ["calibrate", "--ckpt", "nano", "--data", "bars.csv", "--timerange", FIT, "--method", "temperature"]
    code, _, err = command(*line, "--store", "mine")
    assert code == 1
    assert "stores a calibration 'mine' already" in err
    assert "--overwrite" in err
    code, _, err = command(*line, "--output", "c.json")
    assert code == 1
    assert "c.json exists" in err
    assert {name: each for name, each in tree(desk).items() if "home" not in name} == before
    code, out, _ = command(*line, "--store", "mine", "--output", "c.json", "--overwrite")
    assert code == 0
    assert "stored: flagbt run --ckpt nano --calibration stored:mine" in out
    assert read_checkpoint(Path("checkpoints/nano")).stored_calibration("mine").calibration.method == "temperature"
    assert "calibration" in json.loads(Path("c.json").read_text())

    # The printed line finds this checkpoint, not another one with its name.
    shutil.copytree("checkpoints/nano", "my copies/nano")
    code, out, _ = command("calibrate", "--ckpt", "my copies/nano", *line[3:], "--store", "other")
    assert code == 0
    printed = next(each for each in out.splitlines() if each.startswith("stored: ")).removeprefix("stored: flagbt ")
    assert printed == "run --ckpt 'my copies/nano' --calibration stored:other"
    assert read_checkpoint(Path(shlex.split(printed)[2])).stored_calibration("other").calibration.method == "temperature"


def test_a_checkpoint_in_the_current_folder_has_a_name(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, `--ckpt .` gives messages, records and folders an empty name."""
    monkeypatch.chdir("checkpoints/nano")
    assert read_checkpoint(Path()).name == "nano"
    assert read_checkpoint(Path()).option == "."


BAD: list[tuple[list[str], int, str]] = [
    (["--timerange", "20230715-20230722"], 1, r"expected 200 labelled bars or more.*got 162"),
    (["--timerange", "20250101-20260101"], 1, "0 bars of"),
    (["--timerange", "20230620-20230622"], 1, "are the warm-up"),
    (["--timerange", FIT, "--method", "temprature"], 2, "Did you mean 'temperature'"),
    (["--timerange", FIT, "--method", "prior", "--shares", "0.5,0.5"], 2, "expected three shares"),
    (["--timerange", FIT, "--method", "prior", "--shares", "a,b,c"], 2, "expected SELL,HOLD,BUY"),
    (["--timerange", FIT, "--shares", "0.2,0.6,0.2"], 2, "the method temperature takes no shares"),
    (["--timerange", FIT, "--decision", "argmx"], 2, "Did you mean 'argmax'"),
    (["--timerange", FIT, "--device", "gpu"], 2, "expected auto, cpu, cuda"),
    (["--timerange", FIT, "--store", " "], 2, "is not a valid name"),
    (["--timerange", FIT, "--html", "bars.csv/page.html"], 1, "--html: nothing can be written"),
    ([], 2, "--timerange"),
]


@pytest.mark.parametrize(("options", "exit_code", "message"), BAD)
def test_bad_input_is_one_paragraph_and_nothing_is_lost(
    options: list[str], exit_code: int, message: str, command: Command, desk: Path
) -> None:
    """If it fails, an invalid fit gives a traceback, or writes something."""
    before = tree(desk)
    code, out, err = command("calibrate", "--ckpt", "nano", "--data", "bars.csv", *options)
    assert (code, out) == (exit_code, "")
    assert err.startswith("flagbt: ")
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert tree(desk) == before


def test_bars_of_the_training_are_refused(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, a calibration is fitted to the overconfidence of a model on its training bars."""
    bars = walk(4000, seed=5, start="2023-01-01")
    for seen in ("20230301-20230401", "20230410-20230601", "-20230601"):
        with pytest.raises(RangeError, match=r": pretraining .*; training .* from --timerange 20230501- on"):
            fit(nano, bars, seen, "temperature")


def test_the_validation_range_is_allowed_with_a_note(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, the validation range is refused, or its scores are printed without a note."""
    bars = walk(4000, seed=5, start="2023-01-01")
    done = fit(nano, bars, "20230501-", "offset")
    assert any("the checkpoint's validation" in note for note in done.notes)
    assert done.stored.calibration.fitted_on == "20230501-20230616T1600"  # an open end is closed: later files have more bars


def test_a_missing_class_is_refused(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, a calibration is fitted to a class that never occurs."""
    calm = walk(1900, seed=11, start="2023-06-20", hourly_volatility=0.0005)
    with pytest.raises(RangeError, match=r"all of SELL, HOLD and BUY, got 858 \(0/858/0\)"):
        fit(nano, calm, FIT, "temperature")


def test_logits_that_are_not_finite_are_refused(nano: Checkpoint, walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a calibration is fitted to the finite rows of a damaged model."""
    real = logits_of

    def damaged(*given: Any, **options: Any) -> np.ndarray:
        logits = real(*given, **options)
        logits[-40:-30, 1] = np.nan
        return logits

    monkeypatch.setattr(module, "logits_of", damaged)
    with pytest.raises(CheckpointError, match="no finite logits on 10 of 864 bars"):
        fit(nano, walk(1900, seed=11, start="2023-06-20"), FIT, "temperature")


def test_a_broken_checkpoint_is_refused_unless_forced(command: Command, desk: Path) -> None:
    """If it fails, an offset hides a broken model."""
    collapse(Path("checkpoints/nano"))
    before = tree(desk / "checkpoints")
    line = ["calibrate", "--ckpt", "nano", "--data", "bars.csv", "--timerange", FIT, "--method", "offset", "--store", "--json"]
    code, out, err = command(*line)
    assert (code, out) == (1, "")
    assert "is broken, so no calibration is fitted: shares: Collapsed" in err
    assert "--force" in err
    assert tree(desk / "checkpoints") == before
    code, out, _ = command(*line, "--force")
    assert code == 0
    values = json.loads(out)
    assert any("--force" in note and "shares" in note for note in values["notes"])
    assert values["doctor"]["verdict"] == "broken"
    assert values["before"]["mean_probabilities"]["SELL"] > 0.99


def test_the_fit_uses_no_later_bar(nano: Checkpoint, walk: Walk, other_future: Callable[[Bars, int], Bars]) -> None:
    """If it fails, labels at the range's end leak later bars into the calibration."""
    bars = walk(1900, seed=11, start="2023-06-20")
    stop = bars.between(TimeRange.parse(FIT)).stop
    done = [fit(nano, each, FIT, "vector", cache=False).to_json() for each in (bars, other_future(bars, stop - 1))]
    assert {**done[0], "data": None} == {**done[1], "data": None}


def test_the_trainings_weights_are_known() -> None:
    """If it fails, the known shift of a weighted training, log w, is not removed."""
    checkpoint = find_checkpoint("Jan19")
    moved = -np.log(checkpoint.values["objective"]["class_weights"])
    assert training_shift(checkpoint) == pytest.approx(moved - moved.mean())
    assert training_shift(find_checkpoint("Jan4")).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("place", ["name", "path", "link", "linked among the checkpoints"])
def test_the_installed_package_is_never_edited(
    place: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a user's calibration changes the installed package, or the printed remedy does not work."""
    monkeypatch.chdir(tmp_path)
    bundled, given = find_checkpoint("Jan4").folder, "Jan4"
    if place == "path":
        given = str(bundled)
    elif place == "link":
        given = "./mine"
        Path(given).symlink_to(bundled)
    elif place != "name":
        Path("checkpoints").mkdir()
        Path("checkpoints/Jan4").symlink_to(bundled)
    before = tree(bundled)
    line = ["--timerange", "20240101-20240401", "--device", "cpu"]
    code, out, err = command("calibrate", "--ckpt", given, *line, "--store")
    assert (code, out) == (1, "")
    (remedy, name), *_ = re.findall(r"Copy it first: (mkdir .+?), then repeat the command with --ckpt (\S+)\. ", err)
    subprocess.run(remedy, shell=True, check=True)
    if place == "linked among the checkpoints":
        assert name == "Jan4-copy"
        assert command("calibrate", "--ckpt", name, *line, "--store")[0] == 0
        assert "temperature" in find_checkpoint(name).calibration_names()
        assert find_checkpoint(name).digest == find_checkpoint("Jan4").digest
    assert find_checkpoint(name).folder == Path("checkpoints") / name
    find_checkpoint(name).check_storable("another")
    assert tree(bundled) == before


def test_two_processes_can_store_calibrations(nano: Checkpoint, tmp_path: Path) -> None:
    """If it fails, a process that read the file before another one's write loses the other's calibration."""
    folder = tmp_path / "copy"
    shutil.copytree(nano.folder, folder)
    one, other = read_checkpoint(folder), read_checkpoint(folder)
    stored = StoredCalibration(Calibration("offset", offset=(1.0, 0.0, -1.0)), Decision("utility"))
    one.store_calibration("one", stored)
    other.store_calibration("other", stored)
    assert read_checkpoint(folder).calibration_names() == ["default", "one", "other"]
    with pytest.raises(CheckpointError, match="stores a calibration 'one' already"):
        other.store_calibration("one", stored)
    with pytest.raises(UsageError, match="is not a valid name"):
        one.store_calibration("a\nb", stored)


def test_a_folder_that_cannot_be_written_keeps_its_checkpoint(nano: Checkpoint, tmp_path: Path) -> None:
    """If it fails, a full disk damages the checkpoint while a calibration is stored."""
    resource = pytest.importorskip("resource")
    folder = tmp_path / "copy"
    shutil.copytree(nano.folder, folder)
    before = tree(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(CheckpointError, match=r"cannot be written.*Copy its folder to checkpoints/copy.*--output"):
            read_checkpoint(folder).store_calibration("mine", StoredCalibration(Calibration(), Decision()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tree(folder) == before


def test_prior_matching_takes_the_training_shares_or_those_given(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, the method prior does not reach the requested shares."""
    bars = walk(1900, seed=11, start="2023-06-20")
    for shares in (None, np.array([0.3, 0.4, 0.3])):
        done = fit(nano, bars, FIT, "prior", shares=shares)
        wanted = nano.label_shares if shares is None else shares
        assert list(done.after.scores.mean_probabilities.values()) == pytest.approx(wanted, abs=0.005)


def test_the_figures_are_those_of_the_calibration(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, the table shows the scores of another calibration."""
    bars = walk(1900, seed=11, start="2023-06-20")
    done = fit(nano, bars, FIT, "dirichlet")
    part = bars.between(TimeRange.parse(FIT))
    logits = logits_of(nano, bars)[part][:-6]
    labels = nano.labels.labels(bars)[part][:-6]
    assert done.after.scores.nll == pytest.approx(negative_log_likelihood(done.stored.calibration(logits), labels))
    assert done.before.scores.nll == pytest.approx(negative_log_likelihood(Calibration()(logits), labels))
    given = fit(nano, bars, FIT, "dirichlet", decision=Decision("argmax"))
    assert given.stored == replace(done.stored, decision=Decision("argmax"))


def test_the_chosen_rule_trades() -> None:
    """If it fails, the chosen rule hardly trades: utility if it buys monthly, else thresholds at the labels' shares."""
    random = np.random.default_rng(0)
    p = random.dirichlet((3, 12, 3), 2000)
    labels = random.choice(3, 2000, p=[0.2, 0.6, 0.2]).astype(np.int8)
    options = {"step_hours": 1.0}
    assert choose_decision(p, labels, class_returns=np.array([-0.02, 0.0, 0.02]), **options) == Decision("utility")
    quiet = choose_decision(p, labels, class_returns=np.array([-1e-4, 0.0, 1e-4]), **options)
    assert quiet.method == "threshold"
    signal = quiet(p, class_returns=np.zeros(3), round_trip_cost=0.0)
    assert (signal != 1).mean() == pytest.approx((labels != 1).mean(), abs=0.01)


def test_the_page_escapes_every_text(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, a file name or a checkpoint's text becomes markup and runs in the browser."""
    evil = "<script>alert(1)</script>"
    done = fit(nano, walk(1900, seed=11, start="2023-06-20"), FIT, "temperature")
    page = render_calibration(replace(done, source=evil, notes=(evil,)))
    assert evil not in page
    assert page.count("&lt;script&gt;") == 2
