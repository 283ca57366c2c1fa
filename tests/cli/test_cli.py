"""The command line with hostile and careless input: what is refused, how, and that nothing is left behind."""

from __future__ import annotations

import html
import importlib
import json
import os
import pkgutil
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest

from flagbt import cli as commands_folder
from flagbt.cli.main import COMMANDS, cli
from flagbt.data.bars import COLUMNS, Bars
from flagbt.data.readers import write_bars_csv
from flagbt.data.time_range import TimeRange
from flagbt.engine.run_request import RunRequest
from flagbt.errors import RangeError, UsageError
from flagbt.models.calibration import Calibration
from flagbt.models.checkpoint import Checkpoint
from flagbt.models.decision import Decision
from flagbt.models.overlap import check_overlap
from flagbt.results.metrics import Metrics
from flagbt.results.run_reader import read_run
from flagbt.results.store import find_run
from flagbt.workflows.backtest import backtest_request
from flagbt.workflows.run import save_run

Command = Callable[..., tuple[int, str, str]]
Walk = Callable[..., Bars]

DAYS = ("--timerange", "20240201-20240203")
SMA = ("run", "--strategy", "sma-cross", *DAYS)
JAN4 = ("run", "--ckpt", "Jan4", "--device", "cpu", *DAYS)
HEADER = "timestamp,open,high,low,close,volume"
ROW = "2024-01-01T{:02d}:00:00Z,100,101,99,100,5"
ROWS = [ROW.format(hour) for hour in range(4)]
FLAGBT = [sys.executable, "-P", "-m", "flagbt"]
NUMBERS = count()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder, and restore sys.path afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("FLAGBT_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def refused(command: Command, folder: Path) -> Callable[..., str]:
    """Return a function that runs a command that must fail cleanly, and returns its error paragraph."""

    def check(code: int, *arguments: object) -> str:
        before = tree(folder)
        got, out, err = command(*arguments)
        assert (got, out) == (code, ""), err
        assert re.fullmatch(r"flagbt: [^\n]+\n", err), err  # one paragraph, no traceback
        assert tree(folder) == before, "something was left behind"
        return err

    return check


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file's bytes, and every folder, below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def strict(text: str) -> dict[str, Any]:
    """Parse one JSON object strictly: NaN and Infinity are refused."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    values = json.loads(text, parse_constant=refuse)
    assert isinstance(values, dict)
    return values


def plug_in(folder: Path, code: str) -> str:
    """Write a module with the class Mine into the folder and return its name; ``code`` is the class or its module."""
    name = f"plug_in_{next(NUMBERS)}"
    imports = "import backtrader as bt\nimport numpy as np\nfrom flagbt import Signals, Strategy\n"
    (folder / f"{name}.py").write_text(imports + code)
    return name


# --- wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, ("runn",), r"No such command 'runn'.*'run', 'runs'.*flagbt --help"),
        (2, ("data", "inf"), "Did you mean 'info'"),
        (2, ("run", "--fee_bsp", "3"), "No such option '--fee-bsp'.*Did you mean.*'--fee-bps'.*See flagbt run --help"),
        (2, ("train", "--lr", "1e-3"), "No such option '--lr'. Did you mean '--learning-rate'"),
        (2, ("train", "--epoch", "3"), "Did you mean '--epochs'"),
        (2, ("train", "--bs", "3"), "Did you mean '--batch-size'"),
        (2, ("train", "--out", "x"), "Did you mean '--output'"),
        (2, ("train", "--modle", "x"), "Did you mean '--model'"),
        (2, ("run", "--fees", "3"), "Did you mean '--fee-bps'"),
        (2, ("run", "--commission", "3"), "Did you mean '--fee-bps'"),
        (2, ("run", "--slippage", "3"), "Did you mean '--slippage-bps'"),
        (2, ("run", "--start", "20240101"), "Did you mean '--timerange'"),
        (2, ("run", "--end_date", "20240101"), "Did you mean '--timerange'"),
        (2, ("run", "--initial-capital", "3"), "Did you mean '--cash'"),
        (2, ("run", "--checkpoint", "x"), "Did you mean '--ckpt'"),
        (2, ("run", "--output", "x"), "Did you mean '--out'"),
        (2, ("data", "fetch", "--pair", "x"), "Did you mean '--symbol'"),
        (2, ("data", "fetch", "--start", "x"), "Did you mean '--since'"),
        (2, ("run", "--lr", "1e-3"), "'--learning-rate' is an option of flagbt train and flagbt pretrain"),
        (2, ("run", "--holdout", "0.2"), "'--holdout' is an option of flagbt sweep"),
        (2, ("run", "--zzz", "0.2"), "No such option '--zzz'. See flagbt run --help"),
        (2, ("run", "extra"), "unexpected extra argument"),
        (2, ("run", "--cash"), "'--cash' requires an argument"),
        (2, ("run", "--strategy", "sma-corss"), "Did you mean 'sma-cross'"),
        (2, ("run", "--strategy", "flagtrader"), "needs a checkpoint: add --ckpt"),
        (2, ("run", "--strategy", "sma-cross", "--ckpt", "Jan4"), "leave --ckpt Jan4 out"),
        (1, ("run", "--ckpt", "Jan44"), "Did you mean 'Jan4'"),
        (1, ("run", "--ckpt", "A" * 300), "there is no checkpoint"),
        (1, ("ckpt", "show", "Jan44"), "Did you mean 'Jan4'"),
        (1, (*JAN4, "--calibration", "stored:reprt"), "Did you mean 'report'"),
        (2, (*JAN4, "--calibration", "nonsense"), r"got 'nonsense', which is not a file. Stored in 'Jan4': default, report"),
        (2, (*JAN4, "--calibration", "A" * 300), "which is not a file"),
        (2, (*JAN4, "--calibration", "offset:1,2"), "three finite numbers"),
        (2, (*JAN4, "--calibration", "offset:nan,1,1"), "three finite numbers"),
        (2, (*JAN4, "--decision", "argmaxx"), "Did you mean 'argmax'"),
        (2, (*JAN4, "--decision", ""), "unknown decision rule ''"),
        (2, (*JAN4, "--decision", "threshold:nan"), "probabilities between 0 and 1"),
        (2, (*JAN4, "--decision", "utility:"), "takes no numbers, got 'utility:'"),
        (2, (*SMA, "--decision", "argmax"), "there is none: add --ckpt"),
        (2, (*SMA, "--calibration", "none"), "there is none: add --ckpt"),
        (2, (*SMA, "--device", "cud"), r"expected auto, cpu, cuda or cuda:N, got 'cud'. Did you mean 'cuda'"),
        (2, (*JAN4[:3], *DAYS, "--device", "mps"), "expected auto, cpu, cuda or cuda:N"),
        (2, (*SMA, "--exit", "horizn"), "--exit: unknown exit rule 'horizn'. Did you mean 'horizon'"),
        (2, (*SMA, "--exit", "horizon"), "there is no checkpoint: write horizon:6 for 6 bars, or add --ckpt NAME"),
        (2, (*SMA, "--stop-loss", "5"), "stop_loss is 5, expected a fraction .* such as 0.05 for 5 %"),
        (2, (*SMA, "--stop-loss", "nan"), "--stop-loss: expected a number above 0, got 'nan'"),
        (2, (*SMA, "--cooldown-bars", "-1"), "--cooldown-bars"),
        (2, (*SMA, "--max-short-notional", "2"), "max_short_notional is 2, expected a share of equity above 0 and up to 1"),
        (2, (*SMA, "--close-short-above", "0.5"), "close_short_above is 0.5, expected times the equity, 1 or more"),
        (2, (*SMA, "--borrow-bps-per-day", "-1"), "borrow_bps_per_day is -1, expected 0 to 1,000 basis points"),
        (2, (*SMA, "--cash", "0"), "--cash: expected a number above 0, got '0'"),
        (2, (*SMA, "--cash", "NaN"), "--cash: expected a number above 0, got 'NaN'"),
        (2, (*SMA, "--cash", "1e308"), r"up to 1e\+15, got 1e\+308"),
        (2, (*SMA, "--fee-bps", "inf"), "--fee-bps: expected a number, got 'inf'"),
        (2, (*SMA, "--fee-bps", "-5"), "fee_bps is -5, expected 0 to 1,000"),
        (2, (*SMA, "--slippage_bps", "abc"), "--slippage-bps: expected a number, got 'abc'"),
        (2, (*SMA, "--seed", "-1"), "--seed: -1 is not in the range"),
        (2, (*SMA, "--batch-size", "0"), "--batch-size: 0 is not in the range"),
        (2, ("run", "--timerange", "20240201"), "--timerange: '20240201' is not a time range"),
        (2, ("run", "--timerange", "20240230-"), "'20240230' in '20240230-' is not a date"),
        (2, ("run", "--timerange", "20240201-20240101"), "ends before it starts"),
        (2, ("show-config", "--cash", "nan", "--json"), "--cash: expected a number above 0, got 'nan'"),
        (2, ("run", "--data", ""), "--data: expected a path, got ''"),
        (2, ("compare", "a", "b", "-o", ""), "--output: expected a path, got ''"),
        (2, ("compare",), "Missing argument 'RUNS"),
    ],
)
def test_wrong_usage_is_one_paragraph(refused: Callable[..., str], code: int, arguments: tuple[str, ...], message: str) -> None:
    """If it fails, a typing error gives a traceback, a silent default, or a useless message."""
    assert re.search(message, refused(code, *arguments))


def test_no_command_shows_the_help(command: Command) -> None:
    """If it fails, `flagbt` alone prints nothing, or exits with success."""
    code, out, err = command()
    assert (code, out) == (2, "")
    assert "Usage: flagbt" in err
    assert "train" in err


def test_every_command_is_under_a_heading_of_the_help(command: Command) -> None:
    """If it fails, the command of a file in cli/ cannot be called, or is called but not listed."""
    modules = [importlib.import_module(each.name) for each in pkgutil.iter_modules(commands_folder.__path__, "flagbt.cli.")]
    defined = [each for module in modules for each in vars(module).values() if isinstance(each, click.Command)]
    groups = [each for each in defined if isinstance(each, click.Group) and each is not cli]
    inner = [each for group in groups for each in group.commands.values()]
    assert {each.name for each in defined if each not in inner} - {cli.name} == set(cli.commands)
    code, out, _ = command("--help")
    assert code == 0
    for heading, commands in COMMANDS.items():
        section = out.partition(f"\n{heading}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in section.splitlines()] == [each.name for each in commands]


# --- bars ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, r"bars.csv: there is no such file"),
        ([], "the file is empty"),
        ([HEADER], "a header, but no row of data"),
        ([HEADER.replace(",close", ""), "2024-01-01,1,1,1,1"], "line 1: the column 'close' is missing"),
        ([HEADER, *ROWS, "yesterday,1,1,1,1,1"], "line 6, column 'timestamp': expected a time .*got 'yesterday'"),
        ([HEADER, ROWS[1], ROWS[0], *ROWS[2:]], "bars are out of order.*bar 1 is line 2, bar 2 is line 3"),
        ([HEADER, *ROWS, ROWS[-1]], "occurs twice.*bar 4 is line 5, bar 5 is line 6"),
        ([HEADER, *ROWS, "2024-01-01T04:30:00Z,1,1,1,1,1"], "off the grid of 3,600 seconds.*bar 5 is line 6"),
        ([HEADER, "2024-01-01,nan,1,1,1,1"], "open is nan, expected a finite number above 0.*line 2"),
        ([HEADER, "2024-01-01,-1,1,1,1,1"], "open is -1.0, expected a finite number above 0.*line 2"),
        ([HEADER, "2024-01-01,1,1,2,1,1"], "high 1.0 is below low 2.0.*line 2"),
        ([HEADER, *ROWS], "without --timerange: the 4 bars carry no signal: the warm-up takes"),
    ],
)
def test_bad_bars_name_the_line(refused: Callable[..., str], folder: Path, lines: list[str] | None, message: str) -> None:
    """If it fails, a file is repaired silently, or the message lacks the bad line."""
    if lines is not None:
        (folder / "bars.csv").write_text("".join(f"{line}\n" for line in lines))
    assert re.search(message, refused(1, "run", "--strategy", "sma-cross", "--data", "bars.csv", "--json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--strategy", "sma-cross", "--timerange", "20300101-"), "no bar opens in it.*holds 9,528 bars"),
        (("--ckpt", "Jan4", "--timerange", "20231201-20231202"), "24 bars .*The first 292 bars of the file are the warm-up"),
        (("--ckpt", "Jan4", "--timerange", "20231201-20231220"), "has seen bars .*Test it from --timerange 20240101- on"),
        (("--ckpt", "Jan4", "--timerange", "20231220-20240110"), "validation 20230701-20240101"),
    ],
)
def test_ranges_without_a_test_are_refused(refused: Callable[..., str], arguments: tuple[str, ...], message: str) -> None:
    """If it fails, a run scores no bars, or bars that its checkpoint was trained on."""
    assert re.search(message, refused(1, "run", *arguments))


def test_bars_of_another_step_are_refused(refused: Callable[..., str], folder: Path) -> None:
    """If it fails, a model of hourly bars trades bars of minutes or days, with meaningless results."""
    days = pd.date_range("2024-01-01", periods=400, freq="D").strftime("%Y-%m-%d")
    (folder / "daily.csv").write_text("\n".join([HEADER, *(f"{day},100,101,99,100,5" for day in days)]))
    assert "trained on bars of 1 h, and those of daily.csv are of 24 h" in refused(
        1, "run", "--ckpt", "Jan4", "--data", "daily.csv"
    )


def test_a_missing_gpu_is_an_error(refused: Callable[..., str]) -> None:
    """If it fails, a run meant for a GPU silently uses the CPU."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "this machine offers 0 CUDA device(s). Use --device cpu" in refused(
        1, "run", "--ckpt", "Jan4", *DAYS, "--device", "cuda"
    )


# --- calibration files and checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{bad", "cannot be read as JSON"),
        ("[1]", "contains a list"),
        ('{"method": "offst"}', "Did you mean 'offset'"),
        ('{"method": "offset", "ofset": [1, 2, 3]}', "unknown field 'ofset' of a calibration. Did you mean 'offset'"),
        ('{"method": "none", "scale": [2, 2, 2]}', "the method none has a scale"),
        ('{"calibration": [1]}', r"got \[1\]"),
        ('{"calibration": {"method": "none"}, "decisoin": 1}', "Did you mean 'decision'"),
        ('{"method": "offset", "offset": [1, 2, 3], "fitted_on": 5}', "fitted_on: '5' is not a time range"),
        ('{"method": "none", "decision": "argmax"}', "expected a decision such as"),
        ('{"method": "none", "decision": {"method": "threshold", "thresholds": ["a"]}}', "got 'threshold:a'"),
    ],
)
def test_calibration_files_are_checked(refused: Callable[..., str], folder: Path, text: str, message: str) -> None:
    """If it fails, a misspelt field is silently ignored."""
    (folder / "calibration.json").write_text(text)
    error = refused(2, *JAN4, "--calibration", "calibration.json")
    assert "calibration.json" in error
    assert re.search(message, error)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("ranges", {}, "there is nothing under ranges"),
        ("ranges", {"training": "x"}, "ranges.training: 'x' is not a time range"),
        ("labels", {}, "there is nothing under labels"),
        ("label_shares", [1], "label_shares are not three finite numbers"),
        ("architecture", {}, "the kind of model 'None' is not registered"),
        ("calibrations", [], "calibrations is a list, expected an object"),
        ("schema", {}, "there is nothing under schema"),
        ("files", [], "files is a list, expected an object"),
        ("metrics", float("nan"), "it contains the number NaN"),
    ],
)
def test_a_damaged_checkpoint_hides_no_other(
    refused: Callable[..., str], command: Command, folder: Path, nano: Checkpoint, field: str, value: object, message: str
) -> None:
    """If it fails, a checkpoint without ranges passes as never trained, or one bad folder breaks the list."""
    bad = folder / "checkpoints" / "bad"
    bad.mkdir(parents=True)
    (bad / "checkpoint.json").write_text(json.dumps({**nano.values, field: value}))
    for arguments in (("run", "--ckpt", "bad", *DAYS), ("ckpt", "show", "bad")):
        assert re.search(f"checkpoint.json (is damaged|cannot be read): {message}", refused(1, *arguments))
    assert "Did you mean 'Jan4'" in refused(1, "ckpt", "show", "Jan44")
    code, out, _ = command("ckpt", "list", "--json")
    listed = strict(out)
    assert code == 0
    assert "Jan4" in [each["name"] for each in listed["checkpoints"]]
    assert [each["name"] for each in listed["damaged"]] == ["bad"]


# --- where things are written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none", "/dev/null", "A" * 300])
def test_an_unwritable_folder_is_found_before_the_work(refused: Callable[..., str], folder: Path, place: str) -> None:
    """If it fails, an unwritable folder is found after hours of work, or a half-written folder is left."""
    (folder / "file").write_text("mine")
    assert f"--out: nothing can be written to {place}: " in refused(1, *SMA, "--out", place)
    write_row = folder / "bars.csv"
    write_row.write_text("\n".join([HEADER, *ROWS]))
    assert f"--output: nothing can be written to {place}: " in refused(1, "train", "--data", "bars.csv", "--output", place)


@pytest.mark.parametrize("name", ["", "..", ".", ".hidden", "a/b", "/tmp/absolute", "a\nb"])
def test_a_checkpoints_name_is_not_a_path(refused: Callable[..., str], name: str) -> None:
    """If it fails, `--name "" --overwrite` replaces the whole folder of checkpoints."""
    error = refused(2, "train", "--data", "bars.csv", "--overwrite", "--name", name)
    assert "is not a name for a checkpoint" in error


def test_overwrite_replaces_checkpoints_only(refused: Callable[..., str], folder: Path) -> None:
    """If it fails, a wrong --output deletes another folder."""
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter1.tex").write_text("years of work")
    error = refused(1, "train", "--data", "bars.csv", "--output", ".", "--name", "thesis", "--overwrite")
    assert "thesis is there, but it is not a checkpoint" in error


@pytest.mark.parametrize("option", ["--learning-rate", "--gamma", "--tau", "--beta"])
def test_training_knobs_are_finite(refused: Callable[..., str], option: str) -> None:
    """If it fails, a training runs for hours with a NaN."""
    assert f"{option}: expected a number" in refused(2, "train", "--data", "bars.csv", option, "nan")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--preset", "tyni", "Did you mean 'tiny'"),
        ("--objective", "focla", "Did you mean 'focal'"),
        ("--weight_strategy", "sqtr", "--weight-strategy: 'sqtr' is unknown. Did you mean 'sqrt'"),
        ("--features", "defualt", "Did you mean 'default'"),
        ("--device", "nonsense", "expected auto, cpu, cuda"),
        ("--labels", "triple-barier:24,1,1", "--labels: unknown kind of label 'triple-barier'. Did you mean 'triple-barrier'"),
        ("--labels", "horizon:6,nan", "--labels: expected a horizon of 1 bar or more"),
    ],
)
def test_training_names_are_suggested(
    refused: Callable[..., str], folder: Path, walk: Walk, option: str, value: str, message: str
) -> None:
    """If it fails, a misspelt objective trains another model."""
    write_bars_csv(walk(2000), "bars.csv")
    assert message in refused(2, "train", "--data", "bars.csv", option, value, "--json")


@pytest.mark.parametrize("place", ["file/x.csv", "missing/x.csv", f"{'y' * 300}.csv", "x.txt"])
def test_the_sample_is_written_whole_or_not_at_all(refused: Callable[..., str], folder: Path, place: str) -> None:
    """If it fails, a wrong file name gives a traceback or leaves a temporary file."""
    (folder / "file").write_text("mine")
    refused(1, "data", "sample", "-o", place)


# --- runs and comparisons --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two runs, named a and b, once."""
    out = tmp_path_factory.mktemp("made") / "runs"
    for name, strategy in (("a", "sma-cross"), ("b", "random")):
        request = RunRequest(strategy=strategy, timerange=TimeRange.parse(DAYS[1]))
        save_run(backtest_request(request, runs=out), out, name=name)
    return out


@pytest.fixture
def two_runs(made_runs: Path, folder: Path) -> tuple[Path, Path]:
    """Give copies of the two runs in ./runs, for a test to damage."""
    shutil.copytree(made_runs, "runs")
    a, b = (find_run(name, Path("runs")) for name in ("a", "b"))
    return a, b


def test_comparisons_that_cannot_be(refused: Callable[..., str], two_runs: tuple[Path, Path], folder: Path) -> None:
    """If it fails, a comparison of a run with itself, or with a wrong output path, gives a page or a traceback."""
    (folder / "file").write_text("mine")
    assert "is given twice" in refused(2, "compare", "a", two_runs[0])
    assert "Did you mean 'a'" in refused(2, "compare", "aa", "b")
    assert "no run in runs has a name that starts like this" in refused(2, "compare", "a", "A" * 300)
    for place in ("file/c.html", ".", "runs", "/proc/c.html", "A" * 300):
        assert f"could not be written to {place}: " in refused(1, "compare", "a", "b", "-o", place)
    assert "no run in runs" in refused(2, "runs", "show", "zzz")


def test_a_comparison_fails_on_a_condition(command: Command, two_runs: tuple[Path, Path]) -> None:
    """If it fails, --fail-if accepts a bad run, refuses a good one, or gives no reason."""
    sharpe = [read_run(each).metrics["sharpe_daily"] for each in two_runs]
    assert command("compare", "a", "b", "--fail-if", f"sharpe < {min(sharpe) - 1}")[0] == 0
    code, out, err = command("compare", "a", "b", "--fail-if", f"sharpe_daily < {max(sharpe) + 1}", "--json")
    assert (code, len(strict(out)["failures"])) == (1, 2)
    assert re.search(r"^flagbt: --fail-if: a: sharpe_daily is .* fails\. b: ", err, flags=re.M)
    assert Path("compare.html").is_file()
    code, out, _ = command("compare", "a", "b", "--sort", "sharpe", "--json")
    ranked = [each["sharpe_daily"] for each in strict(out)["runs"]]
    assert (code, strict(out)["sorted_by"], ranked) == (0, "sharpe_daily", sorted(sharpe, reverse=True))


def test_runs_are_listed_by_a_metric(command: Command, refused: Callable[..., str], two_runs: tuple[Path, Path]) -> None:
    """If it fails, the list is not sorted by the metric that the user names, or does not show it."""
    turnover = {each.name: read_run(each).metrics.turnover for each in two_runs}
    for name, order in (("turnover", sorted(turnover, key=lambda run: -(turnover[run] or 0))), ("fees-paid", None)):
        code, out, err = command("runs", "list", "--sort", name, "--json")
        assert code == 0, err
        listed = strict(out)["runs"]
        assert order is None or [each["run"] for each in listed] == order
        assert all(each[name.replace("-", "_")] is not None for each in listed)
    fees = [each["fees_paid"] for each in listed]
    assert fees == sorted(fees)  # lower is better
    _, out, _ = command("runs", "list", "--sort", "deflated_sharpe")
    assert "deflated sharpe" in out.splitlines()[0]
    assert "Did you mean 'turnover'" in refused(2, "runs", "list", "--sort", "turnovr")


def test_unknown_metrics_are_refused_with_the_nearest(refused: Callable[..., str], two_runs: tuple[Path, Path]) -> None:
    """If it fails, a misspelt metric in --sort or --fail-if is not reported."""
    assert "Did you mean 'sharpe_daily'" in refused(2, "compare", "a", "b", "--sort", "sharp_daily")
    assert "Did you mean 'total_return'" in refused(2, "compare", "a", "b", "--fail-if", "totl_return < 0")
    assert "such as 'sharpe_daily < 0.5'" in refused(2, "compare", "a", "b", "--fail-if", "sharpe_daily")
    assert not Path("compare.html").exists()


def test_a_page_is_rebuilt_byte_for_byte(command: Command, two_runs: tuple[Path, Path]) -> None:
    """If it fails, a rebuilt tearsheet differs, or the last run is not the default."""
    page = two_runs[1] / "tearsheet.html"
    before = page.read_bytes()
    page.write_text("lost")
    code, out, _ = command("report", "--json")
    assert (code, Path(strict(out)["tearsheet"]).resolve()) == (0, page.resolve())
    assert page.read_bytes() == before
    assert command("report", "a")[0] == 0


def test_an_empty_runs_folder_is_reported(refused: Callable[..., str], command: Command, folder: Path) -> None:
    """If it fails, the first `flagbt runs show` gives a traceback."""
    assert "there are no runs in runs. Create one with: flagbt run" in refused(1, "runs", "show")
    assert command("runs", "list")[:2] == (
        0,
        "There are no runs in runs. Make one: flagbt run --strategy flagtrader --ckpt Jan4\n",
    )
    assert strict(command("runs", "list", "--json")[1]) == {"runs": [], "damaged": []}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", b'{"format_version": 1}', "run.json in .* lacks id, name"),
        ("run.json", b"[]", "cannot be read"),
        ("metrics.json", b"{}", "it holds no metrics of strategy and benchmark"),
        ("metrics.json", b'{"strategy": {}, "benchmark": {}}', "it lacks max_drawdown, max_drawdown_days, trades"),
        ("equity.parquet", b"PAR1", "cannot be read"),
        ("orders.csv", b"", "cannot be read"),
    ],
)
def test_a_damaged_run_hides_no_other(
    refused: Callable[..., str], command: Command, two_runs: tuple[Path, Path], file: str, content: bytes, message: str
) -> None:
    """If it fails, one damaged folder breaks the list of runs, or gives a traceback."""
    (two_runs[0] / file).write_bytes(content)
    name = two_runs[0].name
    for arguments in (("runs", "show", name, "--json"), ("compare", name, "b"), ("report", name)):
        assert re.search(rf"run {two_runs[0].name}: .*{message}", refused(1, *arguments))
    code, out, _ = command("runs", "list", "--json")
    listed = strict(out)
    assert (code, [each["name"] for each in listed["runs"]]) == (0, ["b"])
    assert [each["run"] for each in listed["damaged"]] == [two_runs[0].name]


def test_a_run_has_all_metrics(two_runs: tuple[Path, Path]) -> None:
    """If it fails, a run lacks a metric, and no check reports it."""
    assert set(read_run(two_runs[0]).metrics) == {metric.name for metric in Metrics.installed()}


def test_overlap_is_stamped_everywhere(
    refused: Callable[..., str], command: Command, folder: Path, nano: Checkpoint, walk: Walk
) -> None:
    """If it fails, some output shows a result on training bars as a test."""
    write_bars_csv(walk(1000, seed=5, start="2023-01-01"), "bars.csv")
    arguments = ("run", "--ckpt", nano.folder, "--data", "bars.csv", "--timerange", "20230201-20230205", "--device", "cpu")
    assert "A result there would be too optimistic" in refused(1, *arguments)

    code, out, err = command(*arguments, "--allow-overlap", "--name", "seen")
    assert code == 0, err
    assert out.splitlines()[0].startswith("SYNTHETIC")
    assert out.splitlines()[1].startswith("OVERLAP allowed")
    shown = strict(command("runs", "show", "--json")[1])
    assert shown["overlap_allowed"] is True
    assert json.loads((Path(shown["run"]) / "run.json").read_text())["config"]["allow_overlap"] is True
    assert "OVERLAP ALLOWED" in Path(shown["tearsheet"]).read_text()
    assert "--allow-overlap" in reproduce_command(Path(shown["run"]))

    other = ("run", "--strategy", "random", "--data", "bars.csv", "--timerange", "20230201-20230205", "--name", "fair")
    assert command(*other)[0] == 0
    _, out, _ = command("compare", "seen", "fair")
    assert "OVERLAP allowed in at least one run" in out
    assert " *" not in out
    assert "trained on were allowed in seen" in " ".join(out.split())
    page = (folder / "compare.html").read_text()
    assert "OVERLAP ALLOWED" in page
    assert "so nothing is ranked" in page
    compared = strict(command("compare", "seen", "fair", "--json")[1])
    assert [each["overlap_allowed"] for each in compared["runs"]] == [True, False]
    assert compared["unequal"]
    assert [each["overlap"] for each in strict(command("runs", "list", "--json")[1])["runs"]] == [False, True]
    assert "SYNTHETIC OVERLAP" in command("runs", "list")[1]


def test_a_label_across_a_gap_counts_as_seen(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, bars whose label is in the training range pass as unseen after a gap in the data."""
    whole = walk(800, start="2022-12-01")
    kept = (whole.time < np.datetime64("2022-12-31T20")) | (whole.time >= np.datetime64("2023-01-01T05"))
    bars = Bars(whole.time[kept], **{name: getattr(whole, name)[kept] for name in COLUMNS})
    for text, seen in (("20221220-20221231T1400", False), ("20221220-20221231T1500", True)):
        part = bars.between(TimeRange.parse(text))
        with pytest.raises(RangeError, match="has seen bars") if seen else nullcontext():
            check_overlap(nano, Calibration(), bars, part)


# --- plug-ins --------------------------------------------------------------------------------------------------------

PLAIN = "class Mine(bt.Strategy):\n    def next(self):\n        {}\n"
OURS = "class Mine(Strategy):\n    def prepare(self, bars):\n        {}\n"
BUYS = "return Signals.plain(np.full(len(bars), 2))"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('two\\nlines')\n", r"importing '{m}' failed at .*{m}\.py, line 4: RuntimeError: two lines"),
        ("import sys\nsys.exit(0)\n", r"failed at .*{m}\.py, line 5: SystemExit: 0"),
        ("import no_such_module\n", r"{m}\.py, line 4: ModuleNotFoundError: No module named 'no_such_module'"),
        ("class Mine(:\n", r"SyntaxError: invalid syntax \({m}\.py, line 4\)"),
        ("Mine = 3\n", "is an int: expected a subclass"),
        ("class Mien(Strategy): ...\n", r"'{m}' \(.*{m}\.py\) has no 'Mine'. Did you mean 'Mien'"),
        ("class Mine(Strategy): ...\n", "strategy 'Mine': Mine defines no prepare"),
        (OURS.format("return 1 / 0"), r"strategy 'Mine': prepare failed at .*{m}\.py, line 6: ZeroDivisionError"),
        (OURS.format("raise SystemExit(0)"), r"prepare failed at .*{m}\.py, line 6: SystemExit"),
        (OURS.format("bars.close[0] = 5"), r"{m}\.py, line 6: ValueError: assignment destination is read-only"),
        (OURS.format("return None"), "got None"),
        (OURS.format("return Signals.plain(np.ones(3))"), r"signal has shape \(3,\)"),
        (OURS.format("return Signals.plain(np.full(len(bars), np.nan))"), "row 0 is nan, expected SELL=0"),
        (OURS.format("return Signals.plain(np.full(len(bars), 258))"), "row 0 is 258"),
        (OURS.format("return Signals([1] * len(bars), [1] * len(bars))"), "signal is a list, expected a numpy array"),
        (
            OURS.format("one = np.ones(len(bars), dtype=np.int8); return Signals(one, one, None, np.ones((len(bars), 3)))"),
            "the probabilities are below 0 or do not sum to 1",
        ),
        (
            OURS.format("one = np.ones(len(bars), dtype=np.int8); return Signals(one, one, np.full((len(bars), 3), np.nan))"),
            "there is a signal, but logits are not finite",
        ),
        (OURS.format(BUYS) + "    def decide(self, t, position):\n        raise KeyError('x')\n", r"{m}\.py, line 8: KeyError"),
        (
            OURS.format(BUYS) + "    def decide(self, t, position):\n        return float('nan')\n",
            "decide returned nan at the bar",
        ),
        (OURS.format(BUYS) + "    def decide(self):\n        return 1\n", r"called with \(t, position\)"),
        (OURS.format(BUYS) + "    def describe(self):\n        return {{'x': object()}}\n", "describe failed.*not JSON"),
        (OURS.format(BUYS) + "    def __init__(self, x):\n        pass\n", "missing 1 required positional argument: 'x'"),
        (PLAIN.format("1 / 0"), r"the replay failed at .*{m}\.py, line 6: ZeroDivisionError"),
        (PLAIN.format("self.data.signl[0]"), r"{m}\.py, line 6: AttributeError"),
        (PLAIN.format("self.env.runstop()"), "stopped Backtrader after 1 of 48 bars"),
        (PLAIN.format("self.broker.set_cash(1e9)"), r"called broker.set_cash\(\): the cash and the costs of a run are fixed"),
        (PLAIN.format("self.broker.setcommission(0)"), r"called broker.setcommission\(\)"),
        (
            "class Mine(bt.Strategy):\n    def __init__(self):\n        bt.ind.SMA(period=5.5)\n",
            r"the replay failed at .*{m}\.py, class Mine, inside .*backtrader",
        ),
        ("class Mine(bt.Strategy):\n    def __init__(self):\n        bt.ind.SMA(period=500)\n", "needs more than the 48 bars"),
    ],
)
def test_a_plug_ins_fault_names_its_file_and_line(refused: Callable[..., str], folder: Path, code: str, message: str) -> None:
    """If it fails, the author of a strategy gets flagbt's traceback, or a NaN trades as a SELL."""
    module = plug_in(folder, code.replace("{{", "{").replace("}}", "}"))
    error = refused(1, "run", "--strategy", f"{module}:Mine", *DAYS)
    assert re.search(message.replace("{m}", module), error), error


def test_a_strategy_without_short_goes_long_only(refused: Callable[..., str], command: Command, folder: Path) -> None:
    """If it fails, a plug-in without parameters cannot run, or --short is silently ignored."""
    module = plug_in(folder, OURS.format(BUYS) + "    def __init__(self):\n        pass\n")
    assert command("run", "--strategy", f"{module}:Mine", *DAYS)[0] == 0
    assert "goes long only" in refused(1, "run", "--strategy", f"{module}:Mine", *DAYS, "--short")


def test_flagbts_own_defects_keep_their_traceback(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a defect of flagbt is reported as a user's mistake, without its traceback."""
    monkeypatch.setattr("flagbt.strategies.baselines.rolling_mean", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command(*SMA)


PRINTS = """import os
print("imported")
class Mine(bt.Strategy):
    def __init__(self):
        print("made")
        os.system("echo child")
        os.write(1, b"descriptor\\n")
    def next(self):
        if len(self) == 3:
            print("traded")
            self.sell()
"""


@pytest.mark.parametrize(
    "arguments",
    [("run", *DAYS), pytest.param(("verify", "lookahead", "--timerange", "20240101-20240301"), marks=pytest.mark.slow)],
    ids=lambda each: each[0],
)
def test_output_of_a_strategy_stays_out_of_the_json(folder: Path, arguments: tuple[str, ...]) -> None:
    """If it fails, output of a user's code breaks the JSON on stdout."""
    name = plug_in(folder, f'import atexit\natexit.register(print, "ended")\n{PRINTS}')
    command = [*FLAGBT, *arguments, "--strategy", f"{name}:Mine", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert strict(result.stdout), result.stderr
    assert {"imported", "made", "child", "descriptor", "traded", "ended"} <= set(result.stderr.split())


def test_a_rejected_short_sale_is_printed(command: Command, folder: Path) -> None:
    """If it fails, the rejected orders of a strategy that only sells are not reported, or its own output is lost."""
    code, out, err = command("run", "--strategy", f"{plug_in(folder, PRINTS)}:Mine", *DAYS)
    assert code == 0, err
    assert "traded" in out.split()
    assert "1 rejected (short not allowed; --short lets a strategy sell what it does not hold)" in out


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_plain_strategy_reads_the_signals(command: Command, folder: Path, checkpoint: bool) -> None:
    """If it fails, a plain Backtrader strategy cannot use a checkpoint."""
    module = plug_in(
        folder,
        "class Mine(bt.Strategy):\n    def next(self):\n"
        "        print(self.data.signal[0], self.data.p_sell[0] + self.data.p_hold[0] + self.data.p_buy[0])\n",
    )
    extra = ("--ckpt", "Jan4", "--device", "cpu") if checkpoint else ()
    code, out, err = command("run", "--strategy", f"{module}:Mine", *DAYS, *extra)
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()[:48]]
    assert all((row[0] in ("0.0", "1.0", "2.0") and abs(float(row[1]) - 1) < 1e-9) is checkpoint for row in rows)
    assert all((row == ["nan", "nan"]) is not checkpoint for row in rows)


# --- config files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "settings.yaml cannot be read: No such file"),
        ("{bad: [", "is not YAML: .*line 1, column 8"),
        ("- 1\n- 2\n", "holds no settings"),
        ("strategy: random\nfees: 3\n", "line 2: unknown option 'fees'. Did you mean 'fee_bps'"),
        ("strategy: random\nfee-bsp: 3\n", "line 2: unknown option 'fee-bsp'. Did you mean 'fee_bps'"),
        ("fee_bps: 3\nfee-bps: 4\n", "line 2: 'fee-bps' is given in line 1 already"),
        ("seed: 0\nfee_bps: abc\n", "line 2: --fee-bps: expected a number, got 'abc'"),
        ("fee_bps: [1]\n", "line 1: 'fee_bps' has several values"),
        ("seed: 1.5\n", "line 1: --seed: '1.5' is not a valid integer"),
        ("seed: true\n", "line 1: --seed: 'true' is not"),
        ("cash: yes\n", "line 1: --cash: expected a number above 0, got 'yes'"),
        ("cash: .nan\n", "got '.nan'"),
        ("cash:\n", "line 1: 'cash' has no value"),
        ("short: maybe\n", "line 1: --short: 'maybe' is not a valid boolean"),
        ("timerange: 20240201\n", "line 1: --timerange: '20240201' is not a time range"),
        ('data: "\\0.csv"\n', "line 1: --data: expected a path"),
        ('? !!python/object/apply:os.system ["touch owned"]\n: 1\n', "line 1: unknown option"),
        ("strategy: !!python/object/apply:os.system [touch owned]\n", "has several values"),
    ],
)
def test_config_files_are_checked(refused: Callable[..., str], folder: Path, text: str | None, message: str) -> None:
    """If it fails, a misspelt or mistyped setting is silently ignored or converted."""
    if text is not None:
        (folder / "settings.yaml").write_text(text)
    for name in ("run", "show-config"):
        error = refused(2, name, "--config", "settings.yaml", "--json")
        assert "--config: settings.yaml" in error
        assert re.search(message, error)


def test_the_command_line_overrides_the_file(command: Command, folder: Path) -> None:
    """If it fails, show-config shows different values than run would use."""
    (folder / "settings.yaml").write_text("fee-bps: 3\nslippage_bps: 1_0\nshort: yes\nname: no\nstrategy: random\nseed: 7\n")
    _, out, err = command("show_config", "--config", "settings.yaml", "--fee_bps", "7", "--json")
    shown = strict(out)
    assert err == ""
    expected = {"fee_bps": 7.0, "slippage_bps": 10.0, "short": True, "name": "no", "strategy": "random", "cash": 10_000.0}
    assert {name: shown["config"][name] for name in expected} == expected
    sources = {"fee_bps": "command line", "slippage_bps": "file", "short": "file", "cash": "default", "timerange": "default"}
    assert {name: shown["sources"][name] for name in sources} == sources
    code, out, err = command("run", "--config", "settings.yaml", "--fee_bps", "7", *DAYS, "--json")
    assert code == 0, err
    config = json.loads((Path(strict(out)["run"]) / "run.json").read_text())["config"]
    assert (config["fee_bps"], config["slippage_bps"], config["short"], config["seed"]) == (7.0, 10.0, True, 7)


# --- what is printed -------------------------------------------------------------------------------------------------

SHOWN = {
    "total_return",
    "cagr",
    "sharpe_daily",
    "sharpe_per_bar",
    "max_drawdown",
    "trades",
    "win_rate",
    "exposure",
    "turnover",
    "fees_paid",
}


def test_the_json_of_every_command(command: Command, two_runs: tuple[Path, Path]) -> None:
    """If it fails, a script that parses flagbt's JSON breaks on a key or a NaN."""
    for arguments in (
        ("runs", "list"),
        ("runs", "show"),
        ("runs", "show", "a"),
        ("compare", "a", "b"),
        ("report",),
        ("ckpt", "list"),
        ("ckpt", "show", "Jan4"),
        ("strategies", "list"),
        ("data", "info"),
        ("show-config",),
        ("data", "sample", "-o", "sample.csv.gz"),
        SMA,
    ):
        code, out, err = command(*arguments, "--json")
        assert code == 0, err
        assert strict(out), arguments


def test_the_json_of_a_run(command: Command, folder: Path) -> None:
    """If it fails, `flagbt run --json` lacks documented keys."""
    code, out, err = command(*JAN4, "--json")
    assert code == 0, err
    values = strict(out)
    assert set(values) >= {
        "run",
        "bars",
        "scored_bars",
        "signals",
        "diversity",
        "effective_actions",
        "signal_verdict",
        "model_verdict",
        "funnel",
        "metrics",
        "benchmark",
        "tearsheet",
        "data",
        "checkpoint",
        "seconds",
    }
    assert list(values["signals"]) == ["SELL", "HOLD", "BUY"]
    assert set(values["metrics"]) == set(values["benchmark"]) == SHOWN
    assert set(values["data"]) == {"source", "synthetic", "digest"}
    assert values["data"]["synthetic"] is True
    assert set(values["checkpoint"]) == {"name", "digest"}
    assert values["checkpoint"]["name"] == "Jan4"
    assert set(values["seconds"]) >= {"score", "replay", "report"}
    assert values["bars"] == values["scored_bars"] == sum(values["signals"].values()) == 48
    assert values["model_verdict"] in ("collapsed", "plausible")
    assert Path(values["tearsheet"]).is_file()
    assert values["overlap_allowed"] is False
    shown = strict(command("runs", "show", "--json")[1])
    assert set(values) == set(shown)
    assert shown["metrics"] == values["metrics"]
    assert json.loads((Path(values["run"]) / "run.json").read_text())["device"] == "cpu"

    plain = strict(command("run", "--strategy", "always-hold", *DAYS, "--json")[1])
    assert plain["metrics"]["win_rate"] is None
    assert plain["metrics"]["sharpe_daily"] is None
    assert plain["checkpoint"] is None
    assert plain["model_verdict"] is None


def test_the_json_of_a_training(command: Command, folder: Path, nano_preset: str, walk: Walk) -> None:
    """If it fails, `flagbt train --json` lacks documented keys, or prints progress on stdout."""
    write_bars_csv(walk(2000, start="2023-01-01"), "bars.csv")
    code, out, err = command(
        "train",
        "--data",
        "bars.csv",
        "--preset",
        nano_preset,
        "--epochs",
        2,
        "--pretrain-epochs",
        1,
        "--name",
        "mine",
        "--weight_strategy",
        "sqrt",
        "--device",
        "cpu",
        "--json",
    )
    assert code == 0, err
    values = strict(out)
    assert set(values) >= {"checkpoint", "samples", "labels", "class_weights", "epochs", "best", "model_verdict"}
    assert set(values["samples"]) == {"train", "validation"}
    assert list(values["labels"]) == ["SELL", "HOLD", "BUY"]
    assert sum(values["labels"].values()) == values["samples"]["train"]
    assert [entry["epoch"] for entry in values["epochs"]] == [1, 2]
    assert values["best"] in values["epochs"]
    assert all({"epoch", "train_loss", "nll", "accuracy", "mcc"} <= set(entry) for entry in values["epochs"])
    assert len(values["class_weights"]) == 3
    assert values["data"]["synthetic"] is True
    code, out, err = command("train", "--data", "bars.csv", "--preset", nano_preset, "--name", "mine")
    assert (code, "mine exists. Choose another --name, or --overwrite" in err) == (1, True)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["mine"]


def test_synthetic_is_the_first_line(command: Command, two_runs: tuple[Path, Path]) -> None:
    """If it fails, generated prices look like a market's."""
    for arguments in (SMA, ("runs", "show"), ("compare", "a", "b"), ("data", "info"), ("data", "sample", "-o", "s.csv")):
        assert command(*arguments)[1].startswith("SYNTHETIC"), arguments


def test_text_of_the_user_is_not_markup(command: Command, folder: Path) -> None:
    """If it fails, a run's name is shown as an emoji or a colour, or breaks the page."""
    assert command(*SMA, "--name", ":bug: [red]x[/red] <b>")[0] == 0
    assert ":bug: [red]x[/red] <b>" in command("runs", "list")[1]
    page = next(folder.glob("runs/*/tearsheet.html")).read_text()
    assert "<b>" not in page.split("</header>")[0]
    assert ":bug: [red]x[/red] &lt;b&gt;" in page


# --- repeatability --------------------------------------------------------------------------------------------------


def reproduce_command(run: Path) -> list[str]:
    """Return the arguments of the command on a tearsheet, without ``flagbt``."""
    found = re.search(r"<pre><code>(flagbt run .*?)</code></pre>", (run / "tearsheet.html").read_text(), re.S)
    assert found is not None
    return shlex.split(html.unescape(found.group(1)))[1:]


def check_same_bytes(one: Path, other: Path, but: set[str]) -> None:
    """Check that two runs have equal files, and an equal run.json except for these fields."""
    first, second = tree(one), tree(other)
    manifests = [json.loads(files.pop("run.json")) for files in (first, second)]
    assert first == second
    differing = {name for name in manifests[0] | manifests[1] if manifests[0].get(name) != manifests[1].get(name)}
    assert differing <= but


CLOCKS = {"started", "finished", "seconds", "id"}


@pytest.mark.quantstats
def test_two_runs_are_the_same_bytes(command: Command, folder: Path) -> None:
    """If it fails, a result depends on the process, the hash seed or the clock."""
    code, out, err = command(*JAN4, "--json")
    assert code == 0, err
    done = flagbt(*JAN4, "--json", env={**os.environ, "PYTHONHASHSEED": "4711"})
    assert done.returncode == 0, done.stderr
    check_same_bytes(Path(strict(out)["run"]), Path(strict(done.stdout)["run"]), CLOCKS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--strategy", "random", "--seed", "5", "--cash", "1234567.891", "--fee-bps", "7.1234567", "--short"),
        (
            "--strategy",
            "random",
            "--short",
            "--cooldown-bars",
            "2",
            "--min-hold-bars",
            "3",
            "--exit",
            "horizon:6",
            "--stop-loss",
            "0.0123456789",
            "--take-profit",
            "0.02",
            "--borrow-bps-per-day",
            "4.5",
            "--max-short-notional",
            "0.5",
            "--close-short-above",
            "1.25",
        ),
        ("--ckpt", "Jan4", "--decision", "threshold:0.1234567891,0.0987654321", "--calibration", "offset:0.1234567,0,0.7"),
        ("--ckpt", "Jan4", "--calibration", "fit/offset.json"),
    ],
)
def test_the_printed_command_repeats_the_run(command: Command, folder: Path, arguments: tuple[str, ...]) -> None:
    """If it fails, the command on the tearsheet gives different results than the tearsheet."""
    rule = {"method": "threshold", "thresholds": [0.1234567891, 0.0987654321]}
    text = json.dumps({"calibration": {"method": "offset", "offset": [0.123456789, 0, 0.7]}, "decision": rule})
    for place in (folder / "offset.json", folder / "fit" / "offset.json"):  # a page contains names, not paths
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    code, out, err = command("run", *arguments, *DAYS, "--json")
    assert code == 0, err
    first = Path(strict(out)["run"])
    code, out, err = command(*reproduce_command(first), "--json")
    assert code == 0, err
    check_same_bytes(first, Path(strict(out)["run"]), CLOCKS | {"command"})


@pytest.mark.parametrize("rule", ["argmax", "utility", "threshold:0.1234567890123,0.3", "threshold:1e-07,0.5"])
def test_a_decision_rule_survives_a_round_trip(rule: str) -> None:
    """If it fails, a threshold is rounded in the record."""
    assert Decision.parse(str(Decision.parse(rule))) == Decision.parse(rule)
    with pytest.raises(UsageError):
        Decision.parse(f"{rule}:")


# --- an option given twice ------------------------------------------------------------------------------------------------


def commands_below(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the names that call it."""
    yield names, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands_below(below, *names, name)


def test_an_option_that_takes_one_value_is_given_once(command: Command) -> None:
    """If it fails, `--data A --data B` silently reads only B; every option is tried."""
    tried = 0
    for names, each in commands_below(cli):
        for option in each.params:
            if isinstance(option, click.Option) and not (option.is_flag or option.multiple):
                name, tried = max(option.opts, key=len), tried + 1
                code, out, err = command(*names, option.opts[0], "one", f"{name}=other")
                start = f"flagbt: {name}: given 2 times, 'one' and 'other', but it takes one value. Keep one of them. See "
                assert (code, out, err.startswith(start)) == (2, "", True), err
    assert tried > 100


def test_opposite_flags_are_not_both_given(refused: Callable[..., str], command: Command) -> None:
    """If it fails, `--cache --no-cache` silently uses the last one, or a repeated flag is refused."""
    assert "--cache and --no-cache are both given" in refused(2, "run", "--no-cache", "--cache")
    assert command("strategies", "list", "--json", "--json")[0] == 0


# --- signals, pipes, encodings, folders ------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["prepare", "decide"])
def test_an_interrupt_leaves_nothing(command: Command, folder: Path, moment: str) -> None:
    """If it fails, Ctrl-C prints a traceback or leaves half a run."""
    stop = f"__import__('os').kill({os.getpid()}, {int(signal.SIGINT)})"
    first = stop if moment == "prepare" else "pass"
    module = plug_in(
        folder,
        f"class Mine(Strategy):\n    def prepare(self, bars):\n        {first}\n        {BUYS}\n"
        f"    def decide(self, t, position):\n        {stop}\n",
    )
    before = tree(folder)
    assert command("run", "--strategy", f"{module}:Mine", *DAYS) == (130, "", "\nflagbt: stopped.\n")
    assert tree(folder) == before


def flagbt(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a separate process."""
    command = [*FLAGBT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=env)


def test_a_closed_pipe_is_quiet(folder: Path) -> None:
    """If it fails, `flagbt ... | head -1` ends in a traceback."""
    program = " ".join(map(shlex.quote, FLAGBT))
    for arguments in ("ckpt list", "ckpt show Jan4"):
        done = subprocess.run(
            ["bash", "-c", f"{program} {arguments} | true"], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stderr == ""
    full = subprocess.run(
        ["bash", "-c", f"{program} strategies list > /dev/full"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (full.returncode, full.stderr.count("\n")) == (1, 1)
    assert "the disk is full" in full.stderr


def test_a_terminal_without_utf8_works(folder: Path) -> None:
    """If it fails, a cron job or a Windows console gets a UnicodeEncodeError after the work."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1", "COLUMNS": "20"}
    done = flagbt(*SMA, "--name", "größer", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert re.search(r"win rate +- +-\n", done.stdout)  # unfolded in a pipe, its en dash a hyphen


def test_modules_of_the_users_folder_hide_nothing(folder: Path) -> None:
    """If it fails, flagbt breaks, or runs other code, in a folder that contains a data.py or a torch.py."""
    for name in ("data", "models", "engine", "strategies", "errors", "statistics", "html", "yaml", "backtrader", "quantstats"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('imported {name}')\n")
    (folder / "helper.py").write_text("import training\n")
    (folder / "training.py").write_text("ONE = 1\n")
    (folder / "mine.py").write_text(
        "import helper\nfrom flagbt.strategies.baselines import AlwaysHold\nclass P(AlwaysHold): ...\n"
    )
    done = flagbt("run", "--strategy", "mine:P", *DAYS)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unwritable_working_folder(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, running from a read-only or a deleted folder gives a traceback."""
    gone = folder / "gone"
    gone.mkdir()
    for place in (Path("/proc"), gone):
        monkeypatch.chdir(place)
        if place == gone:
            gone.rmdir()
        code, out, err = command(*SMA)
        assert (code, out) == (1, "")
        assert re.fullmatch(r"flagbt: --out: nothing can be written to runs: [^\n]*\n", err)
        assert command("ckpt", "list")[0] == 0
    monkeypatch.chdir(folder)
