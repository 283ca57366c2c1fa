"""`--param`: a run with parameters of a strategy's own, in Backtrader, its record, page, comparison and trial."""

from __future__ import annotations

import html
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flagbt.data.bundled_sample import load_sample
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import run_backtest
from flagbt.engine.run_request import RunRequest
from flagbt.errors import StrategyError, UsageError
from flagbt.results.run_reader import read_run
from flagbt.results.trial_log import read_trials
from flagbt.strategies.baselines import SmaCross
from flagbt.workflows.backtest import backtest_request
from flagbt.workflows.run import save_run

Command = Callable[..., tuple[int, str, str]]
RANGE = "20240201-20240215"
SMA = ("run", "--strategy", "sma-cross", "--timerange", RANGE)
OWN = """
import backtrader as bt
import numpy as np
from flagbt import Signals, Strategy

class Plain(bt.Strategy):
    params = (("period", 24), ("factor", 1.0))

    def __init__(self):
        self.mean = bt.ind.SMA(period=self.p.period)

    def next(self):
        if self.data.close[0] > self.mean[0] * self.p.factor and not self.position:
            self.buy()
        elif self.data.close[0] < self.mean[0] and self.position:
            self.close()

class Fails(Strategy):
    def __init__(self, *, level: int = 1):
        self.level = 1 / (level - 3)

    def prepare(self, bars):
        return Signals.plain(np.ones(len(bars), dtype=np.int8))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to a folder with a module of strategies, and restore sys.path and the imported modules afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_parameters.py").write_text(OWN)
    yield tmp_path
    sys.modules.pop("own_parameters", None)


def test_a_parameter_reaches_the_constructor(command: Command, folder: Path) -> None:
    """If it fails, `--param` is ignored, or its run differs from the same strategy made in Python."""
    code, out, err = command(*SMA, "--param", "fast_bars=12", "--param", "slow_bars=48", "--json")
    assert code == 0, err
    stored = read_run(Path(json.loads(out)["run"]))
    direct = run_backtest(load_sample(), SmaCross(fast_bars=12, slow_bars=48), timerange=TimeRange.parse(RANGE))
    assert np.array_equal(stored.equity["equity"], direct.equity["equity"])
    assert len(direct.orders) > 2
    assert stored.settings["params"] == {"fast_bars": 12, "slow_bars": 48}
    assert stored.settings["parameters"] == {"fast_bars": 12, "slow_bars": 48}


def test_a_config_file_sets_parameters(command: Command, folder: Path) -> None:
    """If it fails, the YAML key `param` does nothing."""
    Path("run.yaml").write_text(f"strategy: sma-cross\ntimerange: {RANGE}\nparam: [fast_bars=12, slow_bars=48]\n")
    code, out, err = command("run", "--config", "run.yaml", "--json")
    assert code == 0, err
    assert read_run(Path(json.loads(out)["run"])).settings["params"] == {"fast_bars": 12, "slow_bars": 48}


def test_the_page_shows_and_repeats_the_parameters(command: Command, folder: Path) -> None:
    """If it fails, the command on the page repeats another run, or the page hides what was set."""
    code, out, err = command(*SMA, "--param", "fast_bars=12", "--json")
    assert code == 0, err
    first = Path(json.loads(out)["run"])
    page = (first / "tearsheet.html").read_text(encoding="utf-8")
    assert "fast_bars=12" in page.partition("All settings")[0]
    repeat = shlex.split(html.unescape(re.search(r"<pre><code>flagbt (.*?)</code>", page)[1]))
    code, out, err = command(*repeat, "--json")
    assert code == 0, err
    second = Path(json.loads(out)["run"])
    assert read_run(second).equity.equals(read_run(first).equity)
    assert read_run(second).info.trial == read_run(first).info.trial


def test_a_run_with_parameters_is_another_trial(command: Command, folder: Path) -> None:
    """If it fails, tuning by `--param` is not counted, and the best of many tries looks like skill."""
    for extra in ((), ("--param", "fast_bars=12"), ("--param", "fast_bars=12"), ("--param", "fast_bars=6")):
        assert command(*SMA, *extra)[0] == 0
    assert len(read_trials(folder / "runs").trials) == 3
    runs = (folder / "runs").glob("*-sma-cross-*")  # their names start with the second, which two of them may share
    fast_bars = {read_run(run).info.config["parameters"]["fast_bars"]: run for run in runs}
    code, _, err = command("compare", str(fast_bars[24]), str(fast_bars[12]), "--json")
    assert code == 0, err
    assert "fast_bars" in Path("compare.html").read_text(encoding="utf-8").partition("What differs")[2]


def test_a_plain_backtrader_strategy_gets_its_params(folder: Path) -> None:
    """If it fails, `params` of a Backtrader strategy cannot be set, or its orders lose the size that takes everything."""

    def ran(**params: object) -> tuple[int, float]:
        request = RunRequest(strategy="own_parameters:Plain", params=params, timerange=TimeRange.parse(RANGE))
        stored = read_run(save_run(backtest_request(request, runs=folder / "runs"), folder / "runs").folder)
        assert stored.settings.get("params", {}) == params
        return len(stored.orders), float(stored.equity["exposure"].max())

    default, quick, never = ran(), ran(period=6, factor=1.0), ran(factor=9.0)
    assert quick[0] > default[0] > 0 == never[0]
    assert default[1] == pytest.approx(1, abs=0.01)
    with pytest.raises(UsageError, match="Did you mean 'period'"):
        ran(perod=6)


def test_an_error_of_the_constructor_names_its_line(folder: Path) -> None:
    """If it fails, a value that a strategy cannot use gives flagbt's traceback."""
    request = RunRequest(strategy="own_parameters:Fails", params={"level": 3}, timerange=TimeRange.parse(RANGE))
    with pytest.raises(StrategyError, match=r"__init__ failed at .*own_parameters\.py, line 20: ZeroDivisionError"):
        backtest_request(request, runs=folder / "runs")
    with pytest.raises(UsageError, match="expected 1 <= fast_bars < slow_bars, got fast_bars=500"):
        backtest_request(RunRequest(strategy="sma-cross", params={"fast_bars": 500}), runs=folder / "runs")


@pytest.mark.parametrize("given", ["fast_bars=3", [("fast_bars", 3)], None, {"fast_bars": "3"}, {"bars": 3}])
def test_wrong_params_from_python_are_refused(folder: Path, given: object) -> None:
    """If it fails, `params` of a wrong type raises AttributeError, or is ignored."""
    with pytest.raises(UsageError, match="expected|has no parameter"):
        backtest_request(RunRequest(strategy="sma-cross", params=given), runs=folder / "runs")
    assert not list(folder.glob("runs/*-sma-cross-*"))
