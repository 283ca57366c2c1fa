"""compare, sweep, calibrate, train, diagnose and fetch from Python: the same results as the commands, and plain refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exchange_server import ExchangeServer, make_truth

import flagbt
from flagbt import FlagbtError, Run
from flagbt.results.trial_log import read_trials
from flagbt.workflows import python_backtest
from flagbt.workflows.unsaved_trials import UnsavedTrials

FRAME = flagbt.load_sample().frame()
SPRING = "20240101-20240501"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, in a process that has tried nothing yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(python_backtest, "UNSAVED", UnsavedTrials())
    monkeypatch.setattr("flagbt.workflows.unsaved_trials.UNSAVED", python_backtest.UNSAVED)
    return tmp_path


@pytest.fixture(scope="module")
def run() -> Run:
    """Return a run of Jan4."""
    return flagbt.backtest(FRAME, checkpoint="Jan4", timerange=SPRING)


def shown_plainly(result: object) -> str:
    """Return a result's text, after checking that it is short and stamped, and that its HTML needs nothing from elsewhere."""
    text, html = repr(result), result._repr_html_()  # type: ignore[attr-defined]
    assert len(text.splitlines()) <= 6
    for shown in (text, html):
        assert "SYNTHETIC" in shown
    assert "<script" not in html
    assert "http" not in html
    return text


def test_runs_in_memory_and_in_folders_are_compared(run: Run, desk: Path) -> None:
    """If it fails, a notebook must save every run before it can compare two."""
    other = flagbt.backtest(FRAME, "sma-cross", timerange=SPRING)
    found = flagbt.compare([run, other, run.save("runs", name="saved"), flagbt.backtest(FRAME, "sma-cross", timerange=SPRING)])
    assert found.labels == ("flagtrader Jan4", "sma-cross (run 2)", "saved", "sma-cross (run 4)")
    assert list(found.table.columns) == [*found.labels, "buy and hold"]
    assert found.table.loc["sharpe_daily", "saved"] == run.metrics.sharpe_daily
    shown_plainly(found)
    page = found.to_html("c.html").read_text(encoding="utf-8")
    assert all(label in page for label in found.labels)
    best = flagbt.compare([run, other], sort="sharpe").table.loc["sharpe_daily"]
    assert best.iloc[0] == max(best.iloc[:2])
    unequal = flagbt.compare([run, flagbt.backtest(FRAME, "sma-cross", timerange=SPRING, costs=flagbt.Costs(fee_bps=0))])
    assert unequal.unequal
    assert "NOT COMPARABLE" in shown_plainly(unequal)
    assert "buy and hold" not in unequal.table


def test_a_sweep_of_a_frame_is_that_of_the_command(command: Command, desk: Path) -> None:
    """If it fails, a notebook and the command line find another winner among the same settings."""
    found = flagbt.sweep(None, checkpoint="Jan4", timerange=SPRING, fee_bps=[0, 10], stop_loss=[None, 0.05])
    code, out, _ = command(
        "sweep", "--ckpt", "Jan4", "--timerange", SPRING, "--fee-bps", "0,10", "--stop-loss", "none,0.05", "--json"
    )
    assert code == 0
    listed = json.loads(out)
    assert listed["resumed"]
    assert (listed["sweep"], listed["page"]) == (str(found.folder), str(found.page))
    assert len(found.table) == listed["settings"] == 4
    assert found.winner is not None
    assert found.winner["setting"] == listed["winner"]["setting"]
    assert len(read_trials(desk / "runs").trials) == 4
    shown_plainly(found)
    frame = flagbt.sweep(FRAME, checkpoint="Jan4", timerange=SPRING, fee_bps=[0, 10], stop_loss=[None, 0.05])
    assert "--data FILE" in str(frame.values["winner"])
    pd.testing.assert_frame_equal(frame.table, found.table)
    after = flagbt.backtest(FRAME, checkpoint="Jan4", timerange=str(found.winner["timerange"]))
    assert after.significance is not None
    assert after.significance.deflated_sharpe.inputs["trials"] == 4  # the sweep's, this one included


@pytest.mark.slow
def test_a_script_sweeps_without_a_guard(desk: Path) -> None:
    """If it fails, a plain script that sweeps in processes starts itself again in each of them."""
    script = desk / "tune.py"
    script.write_text(
        "import flagbt\nprint('started')\n"
        f"found = flagbt.sweep(None, 'sma-cross', timerange='{SPRING}', params={{'fast_bars': [6, 12]}}, workers=2)\n"
        "print(found.winner.setting)\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=desk, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started") == 1


def test_a_calibration_is_fitted_and_shown(desk: Path) -> None:
    """If it fails, a notebook cannot fit a calibration, or does not see its effect."""
    found = flagbt.calibrate("Jan4", FRAME, timerange="20240401-20240701")
    assert found.calibration.method == "temperature"
    assert "20240401-20240701" in shown_plainly(found)
    assert found.to_html("cal.html").stat().st_size > 1_000
    (desk / "warm.json").write_text(
        json.dumps({"calibration": found.calibration.to_json(), "decision": found.decision.to_json()})
    )
    later = flagbt.backtest(FRAME, checkpoint="Jan4", calibration="warm.json", timerange="20240801-20241001")
    assert later.settings["calibration"] == "warm.json"
    with pytest.raises(FlagbtError, match="has seen bars of the requested range"):
        flagbt.backtest(FRAME, checkpoint="Jan4", calibration=Path("warm.json"), timerange="20240501-20241001")


def test_a_checkpoint_a_run_and_a_function_are_diagnosed(run: Run) -> None:
    """If it fails, a notebook's user must write a file to learn why a model collapses."""
    of_run, of_name = flagbt.diagnose(run, FRAME), flagbt.diagnose("Jan4", FRAME, timerange=SPRING)
    pairs = [(of_run.finding(each.check), each) for each in of_name.findings if each.check not in ("shares", "calibration")]
    assert [one.to_json() for one, _ in pairs] == [other.to_json() for _, other in pairs]
    assert "With the run's calibration the mean probabilities are SELL" in of_run.finding("shares").message
    assert of_run.subject in shown_plainly(of_run)
    assert of_run.to_html("d.html").stat().st_size > 1_000

    def features(bars: flagbt.Bars) -> np.ndarray:
        return np.append(np.nan, np.diff(np.log(bars.close)))[:, None]

    def predict(rows: np.ndarray) -> np.ndarray:
        return np.column_stack([-rows[:, 0], np.zeros(len(rows)), rows[:, 0]])

    of_function = flagbt.diagnose(predict, FRAME.iloc[:2_000], features=features, columns=["change"], labels=flagbt.LabelSpec())
    assert of_function.finding("shares").severity != "skipped"


@pytest.mark.slow
def test_a_checkpoint_is_trained_on_a_frame(desk: Path) -> None:
    """If it fails, a notebook cannot train on its DataFrame."""
    trained = flagbt.train(FRAME.iloc[:4_000], "checkpoints/mine")
    assert trained.folder == Path("checkpoints/mine")
    assert trained.digest == flagbt.find_checkpoint("mine").digest


sweep = partial(flagbt.sweep, FRAME, checkpoint="Jan4")
calibrate = partial(flagbt.calibrate, "Jan4", timerange=SPRING)
fetch = partial(flagbt.fetch, "BTC/USDT", since="2020-01-01")
WRONG: dict[str, tuple[Callable[[Run], object], str]] = {
    "compare one run": (lambda run: flagbt.compare(run), "compare: expected a list of runs"),
    "compare nothing": (lambda _: flagbt.compare([]), "compare: expected a list of runs"),
    "compare text": (lambda _: flagbt.compare("runs"), "compare: expected a list of runs"),
    "compare numbers": (lambda run: flagbt.compare([run, 3]), "compare: the item 2 is an int, expected a Run or the path"),
    "compare a missing folder": (lambda run: flagbt.compare([run, "nowhere"]), "run 'nowhere': no run in runs"),
    "compare a run with itself": (lambda run: flagbt.compare([run, run]), "is given twice"),
    "compare other bars": (
        lambda run: flagbt.compare([run, flagbt.backtest(FRAME, "random", timerange="20240601-20240701")]),
        "have no bar in common",
    ),
    "sort by nothing known": (lambda run: flagbt.compare([run], sort="sharp"), "sort: there is no metric 'sharp'"),
    "sort by a number": (lambda run: flagbt.compare([run], sort=3), "sort: expected the name of a metric"),
    "write to a folder": (lambda run: flagbt.compare([run]).to_html("."), "page: . is a folder"),
    "sweep no strategy": (lambda _: flagbt.sweep(FRAME), "name one checkpoint or more|name a strategy"),
    "sweep a number": (lambda _: flagbt.sweep(FRAME, checkpoint=3), "checkpoint: expected a checkpoint's name"),
    "sweep an unknown checkpoint": (lambda _: flagbt.sweep(FRAME, checkpoint="Jan44"), "Did you mean 'Jan4'"),
    "sweep an unknown option": (lambda _: sweep(fees=[1]), "no argument 'fees'. Did you mean fee_bps"),
    "sweep a fee as text": (lambda _: sweep(fee_bps=["low"]), "fee_bps"),
    "sweep no fee": (lambda _: sweep(fee_bps=[]), "fee_bps: no value is given"),
    "sweep a negative fee": (lambda _: sweep(fee_bps=-1), "fee_bps"),
    "sweep params as text": (lambda _: sweep(params="a=1"), "params: expected lists of values"),
    "sweep into a number": (lambda _: sweep(out=3), "out: expected a path"),
    "sweep a list": (lambda _: flagbt.sweep([1], checkpoint="Jan4"), "data: expected a DataFrame"),
    "sweep another range": (lambda _: sweep(timerange=2024), "timerange: expected text"),
    "sweep half a worker": (lambda _: sweep(workers=0.5), "workers"),
    "calibrate nothing": (lambda _: flagbt.calibrate(None, timerange=SPRING), "checkpoint: not given"),
    "calibrate a number": (lambda _: flagbt.calibrate(3, timerange=SPRING), "checkpoint: expected a checkpoint's name"),
    "calibrate without a range": (lambda _: flagbt.calibrate("Jan4", timerange=None), "timerange: not given"),
    "calibrate by another method": (
        lambda _: calibrate(method="temprature"),
        "method: 'temprature' is unknown. Did you mean 'temperature'",
    ),
    "calibrate by a number": (lambda _: calibrate(method=3), "method: expected text"),
    "calibrate to two shares": (lambda _: calibrate(method="prior", shares=[0.5, 0.5]), "shares"),
    "calibrate to words": (lambda _: calibrate(method="prior", shares="abc"), "shares: expected three numbers"),
    "calibrate with an unknown option": (lambda _: calibrate(forced=True), "Did you mean force"),
    "calibrate a decision": (lambda _: calibrate(decision=3), "decision: expected text"),
    "calibrate on a device": (lambda _: calibrate(device="tpu"), "device"),
    "train on a list": (lambda _: flagbt.train([1], "mine"), "data: expected a DataFrame"),
    "train into a number": (lambda _: flagbt.train(FRAME, 3), "target: expected a path, got an int"),
    "train a dict": (lambda _: flagbt.train(FRAME, "mine", {}), "recipe: expected Recipe, got a dict"),
    "train on more": (lambda _: flagbt.train(FRAME, "mine", more=[3]), "more: expected a DataFrame"),
    "train on one more": (lambda _: flagbt.train(FRAME, "mine", more=FRAME), "more: expected a list"),
    "train on a device": (lambda _: flagbt.train(FRAME, "mine", device="tpu"), "device: expected auto, cpu"),
    "train with former arguments": (lambda _: flagbt.train(FRAME, "mine", notify=print), "no longer takes notify"),
    "a page of a diagnosis that is a number": (
        lambda _: flagbt.diagnose("Jan4", FRAME, timerange=SPRING).to_html(3),
        "page: expected a path, got an int",
    ),
    "diagnose a number": (lambda _: flagbt.diagnose(3, FRAME, features=lambda bars: bars.close[:, None]), "is not a model"),
    "diagnose without features": (lambda _: flagbt.diagnose(lambda rows: rows, FRAME), "features is not given"),
    "diagnose an unknown name": (lambda _: flagbt.diagnose("Jan44", FRAME), "Did you mean 'Jan4'"),
    "diagnose a run without a checkpoint": (
        lambda _: flagbt.diagnose(flagbt.backtest(FRAME, "random", timerange=SPRING), FRAME),
        "the run 'random' of 'random' used no checkpoint",
    ),
    "diagnose with labels": (lambda _: flagbt.diagnose("Jan4", FRAME, labels=3), "labels is for a function"),
    "diagnose with an unknown option": (lambda _: flagbt.diagnose("Jan4", FRAME, sed=1), "Did you mean seed"),
    "diagnose with half a seed": (lambda _: flagbt.diagnose("Jan4", FRAME, seed=0.5), "seed: expected a whole number"),
    "diagnose a range": (lambda _: flagbt.diagnose("Jan4", FRAME, timerange="then"), "timerange: 'then' is not a time range"),
    "diagnose other bars": (lambda _: flagbt.diagnose("Jan4", 3), "data: expected a DataFrame"),
    "sweep a class": (lambda _: flagbt.sweep(FRAME, flagbt.Strategy), "name or 'module:Class', and this is Strategy itself"),
    "sweep a set": (lambda _: flagbt.sweep(FRAME, {3}), "strategy: expected a name such as 'sma-cross'"),
    "fetch a number": (lambda _: flagbt.fetch(3, since="2020-01-01"), "symbol: expected text, got 3"),
    "fetch since a word": (lambda _: flagbt.fetch("BTC/USDT", since="then"), "since: 'then' is not a date"),
    "fetch since a number": (lambda _: flagbt.fetch("BTC/USDT", since=2020), "since: expected a moment"),
    "fetch into a number": (lambda _: fetch(output=3), "output: expected a path"),
    "fetch from nowhere": (lambda _: fetch(exchange="binanse"), "Did you mean 'binance'"),
    "fetch with half an option": (lambda _: fetch(patience=3), "Did you mean patience_s"),
    "fetch with no patience": (lambda _: fetch(patience_s=0), "patience_s: expected seconds"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused_in_plain_words(name: str, run: Run) -> None:
    """If it fails, a user sees a traceback of a library in place of what to write."""
    call, expected = WRONG[name]
    with pytest.raises(FlagbtError, match=expected):
        call(run)


def test_bars_are_fetched(serve: Callable[..., ExchangeServer], desk: Path) -> None:
    """If it fails, bars cannot be fetched from Python."""
    server = serve(make_truth("2024-01-01", 60))
    bars = flagbt.fetch("BTC/USDT", since="2024-01-01", until=pd.Timestamp("2024-01-03"), base_url=server.url, source="api")
    assert len(bars) == 48
    assert flagbt.read_bars("binance-BTC-USDT-1h.csv.gz").digest == bars.digest
