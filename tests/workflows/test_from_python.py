"""flagbt.backtest and Run: every kind of argument, the same numbers as the command, and plain refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

import flagbt
from flagbt import FlagbtError, Run, Strategy
from flagbt.data.readers import write_bars_csv
from flagbt.engine.run_request import RunOptions, RunRequest
from flagbt.options import option_table
from flagbt.results.trial_log import read_trials
from flagbt.strategies.baselines import SmaCross
from flagbt.workflows import python_backtest
from flagbt.workflows.unsaved_trials import UnsavedTrials

BARS = flagbt.load_sample().take(slice(0, 1_000))
FRAME = BARS.frame()


class Every(bt.Strategy):  # type: ignore[misc]  # Backtrader has no types
    """Buy on every n-th bar, and close on the next."""

    params = (("bars", 50),)

    def next(self) -> None:
        """Buy or close."""
        if len(self) % self.p.bars == 0:
            self.buy()
        elif self.position:
            self.close()


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, in a process that has tried nothing yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(python_backtest, "UNSAVED", UnsavedTrials())
    monkeypatch.setattr("flagbt.workflows.unsaved_trials.UNSAVED", python_backtest.UNSAVED)
    return tmp_path


def numbers(run: Run) -> tuple[object, ...]:
    """Return what must be equal in two runs of the same test."""
    return run.metrics.to_json(), run.equity["equity"].tolist(), run.info.trial


def test_the_numbers_are_those_of_the_command(desk: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """If it fails, a notebook and the command line disagree about the same backtest."""
    write_bars_csv(BARS, desk / "bars.csv")
    arguments = ("--strategy", "sma-cross", "--data", "bars.csv", "--timerange", "20231210-", "--fee-bps", "5", "--json")
    code, out, _ = command("run", *arguments, "--out", "runs")
    assert code == 0
    stored = flagbt.read_run(json.loads(out)["run"])
    costs = flagbt.Costs(fee_bps=5)
    again = flagbt.read_run(flagbt.backtest("bars.csv", "sma-cross", timerange="20231210-", costs=costs).save("again"))
    assert again.settings == stored.settings
    assert again.significance == stored.significance
    for data in ("bars.csv", Path("bars.csv"), FRAME, BARS):
        made = flagbt.backtest(data, "sma-cross", timerange="20231210-", costs=costs)
        assert numbers(made) == numbers(stored), type(data)
    for strategy in (SmaCross, "flagbt.strategies.baselines:SmaCross"):
        made = flagbt.backtest("bars.csv", strategy, timerange="20231210-", costs=costs)
        assert made.metrics.to_json() == stored.metrics.to_json()


def test_every_kind_of_strategy_runs() -> None:
    """If it fails, a strategy that the command line runs cannot be run from Python, or the reverse."""
    made = flagbt.backtest(FRAME, SmaCross(fast_bars=12, slow_bars=48))
    named = flagbt.backtest(FRAME, "sma-cross", params={"fast_bars": 12, "slow_bars": 48})
    of_class = flagbt.backtest(FRAME, SmaCross, params={"fast_bars": 12, "slow_bars": 48})
    assert made.metrics == named.metrics == of_class.metrics
    plain = flagbt.backtest(FRAME, Every, params={"bars": 100})
    assert plain.signals is None
    assert plain.metrics.trades == 9 or plain.metrics.trades == 10
    assert plain.settings["params"] == {"bars": 100}
    year = flagbt.backtest(None, "buy-and-hold", timerange="2024")
    assert (year.data.first, year.data.last) == ("2024-01-01T00:00:00Z", "2024-12-31T23:00:00Z")


def test_a_checkpoint_is_named_or_given() -> None:
    """If it fails, Jan4 by its name, its folder and its object are three tests."""
    jan4 = flagbt.find_checkpoint("Jan4")
    runs = [flagbt.backtest(FRAME, checkpoint=each, timerange="20240101-") for each in ("Jan4", jan4, jan4.folder)]
    assert len({json.dumps(run.metrics.to_json()) for run in runs}) == 1
    assert [run.checkpoint is not None and run.checkpoint.digest for run in runs] == [jan4.digest] * 3


def test_edited_code_of_a_notebook_is_another_trial() -> None:
    """If it fails, a hundred versions of a class that has no file count as one trial."""

    def version(hours: int) -> type[Strategy]:
        space: dict[str, object] = {"__name__": "notebook"}  # of which there is no file
        exec(
            "import numpy as np\nfrom flagbt import Signals, Strategy\n"
            "class Mine(Strategy):\n    bars_seen = ()\n    def prepare(self, bars):\n"
            f"        return Signals.plain(np.where(np.arange(len(bars)) % {hours} == 0, 2, 0))\n",
            space,
        )
        found = space["Mine"]
        assert isinstance(found, type)
        return found

    one, same, other = (flagbt.backtest(FRAME, version(hours)) for hours in (24, 24, 48))
    assert one.info.trial == same.info.trial != other.info.trial
    assert one.significance is not None
    assert [each.significance and each.significance.deflated_sharpe.inputs["trials"] for each in (one, same, other)] == [
        1,
        1,
        2,
    ]


def test_unsaved_backtests_count_when_one_is_saved(desk: Path) -> None:
    """If it fails, the best of a notebook's hundred settings is saved as if it were the only one."""
    tried = [flagbt.backtest(FRAME, "sma-cross", params={"fast_bars": hours}) for hours in (6, 12, 24)]
    counts = [run.significance and run.significance.deflated_sharpe.inputs["trials"] for run in tried]
    assert counts == [1, 2, 3]
    flagbt.backtest(FRAME.iloc[:900], "sma-cross")  # other bars
    assert not (desk / "runs").exists()
    saved = flagbt.read_run(tried[0].save("runs", name="first", notes="a note"))
    assert len(read_trials(desk / "runs").trials) == 3
    assert saved.significance is not None
    inputs = saved.significance.deflated_sharpe.inputs
    assert (inputs["trials"], inputs["trials_at_run"]) == (3, 3)
    assert (saved.info.name, saved.info.notes, saved.label) == ("first", "a note", "first")
    assert numbers(saved) == numbers(tried[0])
    assert (desk / "runs" / "index.html").is_file()
    text = (desk / "runs" / "trials.jsonl").read_text()
    tried[1].save("runs")
    assert (desk / "runs" / "trials.jsonl").read_text() == text
    later = flagbt.backtest(FRAME, "sma-cross", params={"fast_bars": 36})
    assert later.significance is not None
    assert later.significance.deflated_sharpe.inputs["trials"] == 4


def test_a_saved_run_is_read_back_as_it_was(desk: Path) -> None:
    """If it fails, numbers or stamps change on the way to the disk and back."""
    run = flagbt.backtest(FRAME, signals=FRAME["close"].pct_change().clip(-1, 1), short=True, bars_seen=["20200101-20230101"])
    saved = flagbt.read_run(run.save("runs"))
    assert isinstance(saved, Run)
    for name in ("equity", "orders", "trades", "signals"):
        pd.testing.assert_frame_equal(getattr(saved, name), getattr(run, name))
    assert saved.settings == run.settings
    assert saved.settings.bars_seen == ("20200101-20230101",)
    assert saved.funnel == run.funnel
    assert repr(saved).splitlines()[:-1] == repr(run).splitlines()[:-1]


def test_a_run_is_shown_in_few_lines_and_with_its_stamps(desk: Path) -> None:
    """If it fails, a notebook shows a wall of text, or numbers without what a reader must know first."""
    run = flagbt.backtest(FRAME, signals=pd.Series([2, 0], FRAME.index[[10, 500]], name="signal"))
    text, html = repr(run), run._repr_html_().replace("\xa0", " ")
    assert len(text.splitlines()) <= 6
    for stamp in ("SYNTHETIC", "BARS SEEN NOT STATED"):
        assert stamp in text
        assert stamp in html
    assert run.sentence in text
    assert run.sentence in html
    assert html.count("<polyline") == 2
    assert "<script" not in html
    assert "//" not in html.replace("</", "")
    page = run.tearsheet("page.html")
    assert page == Path("page.html")
    text = page.read_text(encoding="utf-8")
    assert "SYNTHETIC" in text
    assert "flagbt.backtest(data, signals=signals, " in text
    assert "flagbt run" not in text
    figure = run.plot()
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 2]
    figure.savefig(desk / "run.png")


def test_the_options_are_those_of_the_request() -> None:
    """If it fails, an option of `flagbt run` is missing in Python."""
    flat = {each.name for each in option_table(RunRequest) if each.owner not in ("costs", "rules")}
    assert set(RunOptions.__annotations__) == flat - {"strategy", "signals", "bars_seen", "ckpt", "data", "timerange", "params"}


SIGNAL = pd.Series([2, 0], FRAME.index[[10, 500]], name="signal")
WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no strategy": ({"strategy": None}, "strategy: not given"),
    "a strategy that is a number": ({"strategy": 3}, "strategy: expected a name such as 'sma-cross', .* got an int"),
    "an empty strategy": ({"strategy": ""}, "got an empty text"),
    "an unknown strategy": ({"strategy": "sma-corss"}, "'sma-corss' is not registered. Did you mean 'sma-cross'"),
    "no module": ({"strategy": "nowhere:Class"}, "nowhere"),
    "a class of another kind": ({"strategy": dict}, "the class dict: expected a subclass"),
    "a needed checkpoint": ({"strategy": "flagtrader"}, r"needs a checkpoint: add checkpoint=NAME"),
    "a needless checkpoint": ({"checkpoint": "Jan4"}, "uses no checkpoint: leave checkpoint"),
    "an unknown checkpoint": ({"strategy": None, "checkpoint": "Jan44"}, "no checkpoint 'Jan44'.*Did you mean 'Jan4'"),
    "a checkpoint that is a number": ({"strategy": None, "checkpoint": 4}, "checkpoint: expected a checkpoint's name"),
    "a made strategy and params": (
        {"strategy": SmaCross(), "params": {"fast_bars": 2}},
        "params: the strategy is made already",
    ),
    "a made strategy and a checkpoint": ({"strategy": SmaCross(), "checkpoint": "Jan4"}, "checkpoint: the strategy is made"),
    "params as text": ({"params": "fast_bars=12"}, "params: expected values by name, .* got a str"),
    "params with numbers as names": ({"params": {1: 2}}, "params: a name is 1, expected text"),
    "an unknown parameter": ({"params": {"fast_bar": 12}}, "fast_bars"),
    "a parameter as text": ({"params": {"fast_bars": "many"}}, "params: fast_bars: expected a whole number, got 'many'"),
    "a range that is none": ({"timerange": "last year"}, "timerange: 'last year' is not a time range"),
    "a range that is a number": ({"timerange": 2024}, "timerange: expected text such as .* got an int"),
    "a range without bars": ({"timerange": "20300101-"}, "timerange=20300101-: no bar opens in it"),
    "costs as a number": ({"costs": 5}, r"costs: expected Costs, got an int. Write costs=flagbt.Costs\(fee_bps=5\)"),
    "rules as a dict": ({"rules": {}}, "rules: expected Rules, got a dict"),
    "costs in rules": ({"rules": flagbt.Costs()}, "rules: expected Rules, got a Costs"),
    "an unknown argument": ({"alow_overlap": True}, "there is no argument 'alow_overlap'. Did you mean allow_overlap"),
    "a fee in the wrong place": ({"fee_bps": 5}, r"fee_bps is given as costs=flagbt.Costs\(fee_bps=...\)"),
    "a fee by another name": ({"commission": 5}, r"Did you mean costs=flagbt.Costs\(fee_bps"),
    "a command's option": ({"ckpt": "Jan4"}, "ckpt is given as checkpoint="),
    "cash as text": ({"cash": "10000"}, "cash: expected"),
    "no cash": ({"cash": 0}, "cash: expected an amount of quote currency above 0"),
    "short as text": ({"short": "yes"}, "short: expected True or False, got 'yes'"),
    "a seed below 0": ({"seed": -1}, "seed: expected"),
    "an unknown device": ({"strategy": None, "checkpoint": "Jan4", "device": "tpu"}, "device"),
    "a batch of half a chunk": ({"batch_size": 0.5}, "batch_size is 0.5, expected a whole number"),
    "a calibration as a number": ({"calibration": 3}, "calibration: expected stored"),
    "a calibration without a checkpoint": ({"calibration": "none"}, "calibration needs a checkpoint"),
    "a decision as a number": ({"decision": 1}, "decision: expected text"),
    "runs as a number": ({"runs": 3}, "runs: expected a path, got an int"),
    "bars seen without signals": ({"bars_seen": ()}, "bars_seen: it belongs to signals"),
    "signals and a strategy": ({"signals": SIGNAL}, "signals: they take the place of a strategy, and strategy is given too"),
    "signals and a checkpoint": ({"strategy": None, "signals": SIGNAL, "checkpoint": "Jan4"}, "and checkpoint is given too"),
    "signals and params": ({"strategy": None, "signals": SIGNAL, "params": {"a": 1}}, "and params is given too"),
    "signals as a list": ({"strategy": None, "signals": [0, 1]}, "signals: expected a Series or a DataFrame"),
    "bars seen as text": ({"strategy": None, "signals": SIGNAL, "bars_seen": "2023"}, "bars_seen: expected a tuple"),
    "bars seen in the test": (
        {"strategy": None, "signals": SIGNAL, "bars_seen": ["20231201-20231215"], "timerange": "20231205-"},
        "20231201-20231215",
    ),
    "data as a list": ({"data": [1, 2]}, "data: expected a DataFrame"),
    "a file that is missing": ({"data": "btc.csv"}, "btc.csv: there is no such file"),
    "a column that is missing": ({"data": FRAME.drop(columns="low")}, "column 'low' is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused_in_plain_words(name: str) -> None:
    """If it fails, a user sees a traceback of a library in place of what to write."""
    changed, expected = WRONG[name]
    given = {"data": FRAME, "strategy": "sma-cross", **changed}
    with pytest.raises(FlagbtError, match=expected):
        flagbt.backtest(given.pop("data"), given.pop("strategy"), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda run: run.save(3), "out: expected a path, got an int"),
        (lambda run: run.save(""), "out: expected a path, got an empty text"),
        (lambda run: run.save("runs", name=3), "name: expected text, got an int"),
        (lambda run: run.save("runs", notes=["a"]), "notes: expected text, got a list"),
        (lambda run: run.tearsheet("."), "page: . is a folder. Give a file name"),
        (lambda run: run.tearsheet(None), "page: expected a path, got None"),
        (lambda _: flagbt.read_run(3), "folder: expected a path, got an int"),
        (lambda _: flagbt.read_run("nowhere"), "nowhere is not a run folder"),
        (lambda _: flagbt.Costs(fee_bps="5"), "costs: fee_bps is '5', expected 0 to 1,000 basis points"),
        (lambda _: flagbt.Costs(fee_bps=-1), "costs: fee_bps is -1"),
        (lambda _: flagbt.Rules(stop_loss=5), "rules: stop_loss is 5"),
        (lambda run: run.metrics["sharp_daily"], "no metric 'sharp_daily'. Did you mean 'sharpe_daily'"),
    ],
)
def test_wrong_uses_of_a_run_are_refused_in_plain_words(call: Callable[[Run], object], expected: str) -> None:
    """If it fails, a user sees a traceback of a library in place of what to write."""
    run = flagbt.backtest(FRAME, "buy-and-hold")
    with pytest.raises(FlagbtError, match=expected):
        call(run)
    assert np.isfinite(run.equity["equity"]).all()
