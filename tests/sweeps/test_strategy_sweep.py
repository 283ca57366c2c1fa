"""Sweeps of any strategy: parameters as axes, the fast replay or Backtrader, and what is refused."""

from __future__ import annotations

import html
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flagbt.data.bars import Bars
from flagbt.data.readers import read_bars
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import run_backtest
from flagbt.engine.costs import Costs
from flagbt.engine.run_request import RunRequest
from flagbt.errors import FlagbtError, RangeError, StrategyError, UsageError
from flagbt.results.metrics import metrics
from flagbt.results.run_reader import read_run
from flagbt.results.trial_log import read_trials
from flagbt.strategies.baselines import RandomSignals, SmaCross
from flagbt.sweeps import estimate
from flagbt.sweeps import worker as worker_module
from flagbt.workflows.backtest import backtest_request
from flagbt.workflows.finished_sweep import FinishedSweep
from flagbt.workflows.sweep import sweep_request
from flagbt.workflows.sweep_request import SweepRequest

Command = Callable[..., tuple[int, str, str]]
COMPARED = ("total_return", "sharpe_daily", "max_drawdown", "trades", "exposure", "turnover", "fees_paid", "final_equity")
OWN = '''
import backtrader as bt
import numpy as np
from flagbt import Signals, Strategy


class Momentum(Strategy):
    """Follows the position rule; its warm-up is not declared."""

    def __init__(self, *, window: int = 24, short: bool = False):
        super().__init__(short=short)
        if window < 2:
            raise ValueError("the window is too short")
        self.window = window

    def prepare(self, bars):
        signal = np.full(len(bars), -1)
        change = bars.close[self.window :] - bars.close[: -self.window]
        signal[self.window :] = np.select([change > 0, change < 0], [2, 0], 1)
        return Signals.plain(signal)


class Half(Momentum):
    """Decides for itself."""

    bars_seen = ()

    def __init__(self, *, window: int = 24, size: float = 0.5, short: bool = False):
        super().__init__(window=window, short=short)
        self.size = size

    def decide(self, t, position):
        target = super().decide(t, position)
        return None if target is None else target * self.size


class Modelled(Strategy):
    """Trades a checkpoint's signals where they repeat."""

    uses_model = True
    bars_seen = ()

    def __init__(self, model, *, repeats: int = 1, short: bool = False):
        super().__init__(short=short)
        self.model, self.repeats = model, repeats

    def prepare(self, bars):
        found = self.model(bars)
        kept = found.signal.copy()
        for back in range(1, self.repeats):
            kept[back:] = np.where(found.signal[back:] == found.signal[:-back], kept[back:], 1)
        return Signals(np.where(found.signal == -1, -1, kept).astype(np.int8), found.raw, found.logits, found.probabilities)

    def describe(self):
        return {**super().describe(), **self.model.describe(), "repeats": self.repeats}


class Plain(bt.Strategy):
    params = (("period", 24), ("factor", 1.0))

    def __init__(self):
        if self.p.period < 2:
            raise ValueError("the period is too short")
        self.mean = bt.ind.SMA(period=self.p.period)

    def next(self):
        if self.data.close[0] > self.mean[0] * self.p.factor and not self.position:
            self.buy()
        elif self.data.close[0] < self.mean[0] and self.position:
            self.close()


class Seen(Momentum):
    bars_seen = ("20240115-20240120",)
'''


@pytest.fixture(scope="module")
def bars(walk) -> Bars:
    """Return 50 days of hourly bars."""
    return walk(24 * 50, 11, start="2024-01-01", hourly_volatility=0.008)


@pytest.fixture(scope="module")
def data(bars: Bars, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of these bars."""
    path = tmp_path_factory.mktemp("bars") / "bars.csv"
    bars.frame().to_csv(path, index_label="time")
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to a folder with a module of strategies, and restore sys.path and the imported modules afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_swept.py").write_text(OWN)
    yield tmp_path
    sys.modules.pop("own_swept", None)


@pytest.fixture
def swept(data: Path, tmp_path: Path) -> Callable[..., FinishedSweep]:
    """Return a function that sweeps a strategy in a separate folder."""

    def do(
        strategy: str, name: str = "sweeps", notice: Callable[[str], None] = lambda _: None, **changes: Any
    ) -> FinishedSweep:
        given = {"data": data, "timerange": (TimeRange.parse("20240110-"),), "workers": 1}
        request = SweepRequest.of({"strategy": strategy, **given, **changes})
        return sweep_request(request, out=tmp_path / name, runs=tmp_path / f"{name}-runs", notice=notice)

    return do


def rows_of(swept: FinishedSweep) -> list[dict[str, Any]]:
    """Return the rows of a sweep's table."""
    return pq.read_table(swept.folder / "table.parquet").to_pylist()


def assert_is_a_run(row: dict[str, Any], strategy: str, data: Path, out: Path, **options: Any) -> None:
    """Compare a row with `flagbt run` on the same options: its metrics, and its trial."""
    params = {name.removeprefix("param."): value for name, value in row.items() if name.startswith("param.")}
    request = RunRequest.of(
        {
            "strategy": strategy,
            "params": params,
            "data": data,
            "timerange": TimeRange.parse(row["timerange"]),
            **{name: row[name] for name in ("fee_bps", "cooldown_bars", "short")},
            **options,
        }
    )
    before = read_trials(out).trials
    record = backtest_request(request, runs=out)
    assert {name: record.metrics[name] for name in COMPARED} == {name: row[name] for name in COMPARED}
    assert read_trials(out).trials == before, "the run counts as another trial than the sweep's setting"


@pytest.mark.parametrize(
    ("strategy", "axes"),
    [
        ("sma-cross", {"params": {"fast_bars": (6, 12), "slow_bars": (24, 48)}, "short": (False, True)}),
        ("random", {"cooldown_bars": (0, 6), "short": (False, True), "seed": 3}),
        ("own_swept:Momentum", {"params": {"window": (12, 30)}}),
        ("own_swept:Half", {"params": {"window": (12, 30), "size": (0.25, 0.5)}}),
        ("own_swept:Plain", {"params": {"period": (12, 30), "factor": (1.0, 1.01)}}),
    ],
)
def test_a_row_is_the_run_of_the_same_options(
    swept: Callable[..., FinishedSweep], data: Path, tmp_path: Path, strategy: str, axes: dict[str, Any]
) -> None:
    """If it fails, a sweep ranks a strategy by other numbers than a run's, or counts the same configuration twice."""
    found = swept(strategy, fee_bps=(0.0, 10.0), **axes)
    rows = rows_of(found)
    assert len(rows) == found.values["settings"] == len(read_trials(tmp_path / "sweeps-runs").trials)
    for row in rows:
        assert_is_a_run(row, strategy, data, tmp_path / "sweeps-runs", seed=axes.get("seed", 0))
    best = max((row for row in rows if row["sharpe_all"] is not None), key=lambda row: (row["sharpe_all"], -row["setting"]))
    assert found.values["winner"]["rows"] == [best]
    assert found.values["winner"]["deflated_sharpe"]["trials"] == len(rows)
    assert found.values["fast_replay"] is (strategy not in ("own_swept:Half", "own_swept:Plain"))
    assert ("estimate" in found.values) is not found.values["fast_replay"]


def test_settings_are_ranked_on_the_same_bars(swept: Callable[..., FinishedSweep], bars: Bars) -> None:
    """If it fails, a setting with a shorter warm-up is ranked on more days than another."""
    for strategy, params, warmup in (
        ("sma-cross", {"slow_bars": (48, 400)}, 399),  # declared
        ("own_swept:Momentum", {"window": (12, 400)}, 400),  # measured
    ):
        found = swept(strategy, timerange=(TimeRange.parse("20240103-"),), params=params)
        first = TimeRange.parse(found.values["ranges"][0]).start
        assert bars.position_of(first) == warmup
    assert all(row["timerange"] == found.values["ranges"][0] for row in rows_of(found))


def test_the_table_the_page_and_the_record_name_the_parameters(swept: Callable[..., FinishedSweep]) -> None:
    """If it fails, the parameters of a row, the winner or the heat map cannot be seen."""
    found = swept("sma-cross", params={"fast_bars": (6, 12, 24), "slow_bars": (48, 96)}, fee_bps=(0.0, 10.0))
    rows, page = rows_of(found), (found.folder / "sweep.html").read_text(encoding="utf-8")
    assert {(row["param.fast_bars"], row["param.slow_bars"]) for row in rows} == {(a, b) for a in (6, 12, 24) for b in (48, 96)}
    assert all(row["ckpt"] is row["calibration"] is row["decision"] is row["mcc"] is None for row in rows)
    assert found.values["varied"] == ["param.fast_bars", "param.slow_bars", "fee_bps"]
    assert found.values["grid"]["params"] == {"fast_bars": [6, 12, 24], "slow_bars": [48, 96]}
    assert "Sweep of sma-cross" in page
    assert "varying fast_bars, slow_bars, fee bps" in page
    assert "parameter fast_bars" in page
    assert "by slow_bars and fast_bars" in page
    assert (
        "MCC" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL).partition("Heat maps")[2].partition("Best")[0]
    )
    assert found.folder.name.startswith("sma-cross-")


def test_combinations_that_the_strategy_refuses_are_left_out_and_counted(swept: Callable[..., FinishedSweep]) -> None:
    """If it fails, a grid with fast_bars >= slow_bars cannot be swept, or loses settings silently."""
    notices: list[str] = []
    found = swept("sma-cross", notice=notices.append, params={"fast_bars": (6, 48, 96), "slow_bars": (48, 96)})
    combinations = {(row["param.fast_bars"], row["param.slow_bars"]) for row in rows_of(found)}
    assert combinations == {(6, 48), (6, 96), (48, 96)}
    start = "3 of 6 combinations were refused by the strategy: sma-cross: expected 1 <= fast_bars < slow_bars, got fast_bars=48"
    assert notices[0].startswith(start)
    assert (found.values["combinations"], found.values["combinations_refused"]) == (3, 3)
    assert start in html.unescape((found.folder / "sweep.html").read_text(encoding="utf-8"))
    for strategy, params, reason in (
        ("own_swept:Half", {"window": (1, 12)}, "the window is too short"),
        ("own_swept:Plain", {"period": (1, 12)}, "the period is too short"),
    ):
        assert reason in swept(strategy, params=params).values["refusal"]
        with pytest.raises(UsageError, match=f"refused all 2 combinations, the first one with: .*{reason}"):
            swept(strategy, params=dict.fromkeys(params, (0, 1)))
        with pytest.raises(StrategyError, match=f"__init__ failed at .*own_swept.py, line .*{reason}"):
            swept(strategy, params=dict.fromkeys(params, (1,)))


def test_a_sweep_in_backtrader_states_its_time_first(
    swept: Callable[..., FinishedSweep], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If it fails, a sweep of hours starts without a word, or its estimate is not one of a measured setting."""
    notices: list[str] = []
    found = swept("own_swept:Plain", notice=notices.append, params={"period": (12, 24, 30)})
    stated = found.values["estimate"]
    assert stated["seconds"] == pytest.approx(3 * stated["measured_seconds"] / 1)
    assert (stated["setting"], stated["settings"], stated["workers"], stated["sentence"]) == (0, 3, 1, notices[0])
    assert "so every setting is run in Backtrader. Measured: setting 0, " in notices[0]
    assert "Estimate: 3 settings x " in notices[0]
    assert found.values["checked"]["settings"] == 0
    assert "Run in Backtrader" in (found.folder / "sweep.html").read_text(encoding="utf-8")
    monkeypatch.setattr(estimate, "LONGEST_WITHOUT_YES", 0.0)
    with pytest.raises(UsageError, match=r"Estimate: 2 settings x .* That is more than an hour. Add --yes to run it"):
        swept("own_swept:Plain", "long", params={"period": (12, 24)})
    assert not list((tmp_path / "long").glob("*")), "a refused sweep left a folder"
    assert swept("own_swept:Plain", "long", params={"period": (12, 24)}, yes=True).values["settings"] == 2


class Killed(BaseException):
    """Simulates the end of the process."""


@pytest.mark.parametrize("strategy", ["own_swept:Half", "own_swept:Plain"])
def test_a_sweep_in_backtrader_is_resumed(data: Path, tmp_path: Path, strategy: str) -> None:
    """If it fails, an interruption loses settings that took seconds each, or changes the table."""
    name = {"own_swept:Half": "window", "own_swept:Plain": "period"}[strategy]
    request = SweepRequest(
        strategy=strategy,
        params={name: tuple(range(10, 16))},
        data=data,
        timerange=(TimeRange.parse("20240110-20240130"),),
        workers=1,
    )
    whole = sweep_request(request, out=tmp_path / "whole", runs=tmp_path / "runs-whole")

    def watch(phase: str, done: int, total: int) -> None:
        if phase == "sweep" and done >= 3:
            raise Killed

    with pytest.raises(Killed):
        sweep_request(request, out=tmp_path / "parts", runs=tmp_path / "runs-parts", progress=watch)
    notices: list[str] = []
    again = sweep_request(request, out=tmp_path / "parts", runs=tmp_path / "runs-parts", notice=notices.append)
    assert "Estimate: 3 settings x" in notices[0]
    assert (again.folder / "table.parquet").read_bytes() == (whole.folder / "table.parquet").read_bytes()
    assert sweep_request(request, out=tmp_path / "parts", runs=tmp_path / "runs-parts").resumed


@pytest.mark.parametrize("strategy", ["sma-cross", "own_swept:Half", "own_swept:Plain"])
def test_processes_give_the_same_bytes(swept: Callable[..., FinishedSweep], strategy: str) -> None:
    """If it fails, the table depends on the number of workers, or a worker cannot import a user's file."""
    name = {"sma-cross": "fast_bars", "own_swept:Half": "window", "own_swept:Plain": "period"}[strategy]
    alone, together = (
        swept(strategy, f"workers-{workers}", params={name: tuple(range(10, 15))}, workers=workers) for workers in (1, 2)
    )
    assert (alone.folder / "table.parquet").read_bytes() == (together.folder / "table.parquet").read_bytes()
    assert alone.values["winner"]["rows"] == together.values["winner"]["rows"]


@pytest.mark.slow
def test_ray_gives_the_same_bytes(swept: Callable[..., FinishedSweep]) -> None:
    """If it fails, a cluster computes another table, or cannot run a user's strategy."""
    pytest.importorskip("ray", reason="Ray is an optional extra")
    for strategy, params in (("sma-cross", {"fast_bars": (6, 12)}), ("own_swept:Plain", {"period": (12, 24, 30)})):
        alone = swept(strategy, params=params)
        cluster = swept(strategy, "ray", params=params, backend="ray", workers=2)
        assert (alone.folder / "table.parquet").read_bytes() == (cluster.folder / "table.parquet").read_bytes()


def test_a_wrong_replay_of_a_strategy_stops_the_sweep(
    swept: Callable[..., FinishedSweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a fault in the replay, or in a strategy that answers differently each time, makes wrong numbers."""
    right = worker_module.position_rule
    monkeypatch.setattr(worker_module, "position_rule", lambda signal, *, short: right(signal[::-1], short=short))
    with pytest.raises(StrategyError, match=r"setting \d+ over .*: the fast replay differs from Backtrader"):
        swept("sma-cross", params={"fast_bars": (6, 12)})


def test_a_strategy_with_a_model_is_swept_over_both(
    swept: Callable[..., FinishedSweep], nano, data: Path, tmp_path: Path
) -> None:
    """If it fails, --ckpt and --param cannot be varied together, or the model's numbers differ from a run's."""
    found = swept(
        "own_swept:Modelled",
        ckpt=(str(nano.folder),),
        params={"repeats": (1, 2)},
        decision=("argmax", "utility"),
        offsets=(-1.0, 0.0),
    )
    rows = rows_of(found)
    assert len(rows) == 4 * 2 * 2
    assert all(row["mcc"] is not None for row in rows)
    assert len({row["total_return"] for row in rows}) > 4
    for row in rows[::3]:
        options = {"ckpt": str(nano.folder), "calibration": row["calibration"], "decision": row["decision"]}
        assert_is_a_run(row, "own_swept:Modelled", data, tmp_path / "sweeps-runs", **options)


@pytest.mark.parametrize("strategy", ["own_swept:Seen", "own_swept:Plain", "sma-cross"])
def test_bars_that_it_has_seen_are_refused_or_stamped(swept: Callable[..., FinishedSweep], strategy: str) -> None:
    """If it fails, a sweep picks its winner on bars that the strategy was tuned on, or hides that this is not stated."""
    name = {"sma-cross": "fast_bars", "own_swept:Seen": "window", "own_swept:Plain": "period"}[strategy]
    if strategy == "own_swept:Seen":
        with pytest.raises(
            RangeError, match=r"has seen bars of the range to be traded, .* its bars_seen holds 20240115-20240120"
        ):
            swept(strategy, params={name: (12, 24)})
        assert "OVERLAP ALLOWED" in (
            swept(strategy, params={name: (12, 24)}, allow_overlap=True).folder / "sweep.html"
        ).read_text(encoding="utf-8")
        return
    found = swept(strategy, params={name: (12, 24)})
    is_stated = strategy == "sma-cross"
    assert found.values["bars_seen"] == ([] if is_stated else None)
    assert ("BARS SEEN NOT STATED" in (found.folder / "sweep.html").read_text(encoding="utf-8")) is not is_stated


def test_the_hold_out_stays_unseen(swept: Callable[..., FinishedSweep], bars: Bars, tmp_path: Path) -> None:
    """If it fails, the winner of a strategy's sweep depends on the bars that test it."""
    found = swept("own_swept:Momentum", params={"window": (12, 24, 36)})
    cut = bars.position_of(TimeRange.parse(found.values["holdout"]).start)
    frame = bars.frame()
    frame.iloc[cut:] *= np.linspace(1, 3, len(bars) - cut)[:, None] ** 0.3
    frame.to_csv(tmp_path / "other.csv", index_label="time")
    other = swept("own_swept:Momentum", "other", params={"window": (12, 24, 36)}, data=tmp_path / "other.csv")
    assert (found.folder / "table.parquet").read_bytes() == (other.folder / "table.parquet").read_bytes()
    assert found.values["winner"]["holdout"] != other.values["winner"]["holdout"]


@pytest.mark.parametrize(
    ("strategy", "param", "more"),
    [
        ("sma-cross", "fast_bars=6,12", ("--param", "slow_bars=grid:24..72:24", "--short", "no,yes")),
        ("random", None, ("--seed", "4", "--cooldown-bars", "0,6")),
        ("own_swept:Half", "size=0.25,0.5", ("--param", "window=12")),
        ("own_swept:Plain", "period=12,24", ("--param", "factor=1", "--param", "factor=1.01")),
    ],
)
def test_the_command_repeats_the_winner(
    command: Command, data: Path, strategy: str, param: str | None, more: tuple[str, ...]
) -> None:
    """If it fails, --param does not reach a sweep, or the printed line runs another setting."""
    given = () if param is None else ("--param", param)
    arguments = ("sweep", "--strategy", strategy, *given, *more, "--data", data, "--timerange", "20240110-", "--workers", "1")
    code, out, err = command(*arguments)
    assert code == 0, err
    line = next(each for each in out.splitlines() if each.startswith("Repeat the winner")).partition(": ")[2]
    (page,) = Path("sweeps").glob("*/sweep.html")
    assert f"<pre>{html.escape(line)}</pre>" in html.unescape(page.read_text(encoding="utf-8")).replace("'", "&#x27;")
    manifest = json.loads((page.parent / "sweep.json").read_text(encoding="utf-8"))
    code, out, err = command(*shlex.split(line)[1:], "--json")
    assert code == 0, err
    stored, holdout = read_run(Path(json.loads(out)["run"])), manifest["winner"]["holdout"]
    assert {name: stored.metrics[name] for name in holdout["strategy"]} == holdout["strategy"]
    assert "finished before" in command(*arguments)[1]


REFUSED = [
    (("--strategy", "sma-cross", "--param", "fast_bar=6,12"), "strategy 'sma-cross' has no parameter 'fast_bar'. Did you mean"),
    (("--strategy", "sma-cross", "--param", "fast_bars=6,x"), "--param fast_bars=x: expected a whole number, got 'x'"),
    (("--strategy", "sma-cross", "--param", "fast_bars=6,,12"), "--param fast_bars=: expected a whole number, got nothing"),
    (("--strategy", "sma-cross", "--param", "fast_bars"), "--param: expected NAME=VALUE"),
    (("--strategy", "sma-cross", "--param", "fast_bars=grid:9..3:1"), "--param fast_bars: the grid is empty"),
    (("--strategy", "sma-cross", "--param", "fast_bars=grid:3..9:0.5"), "--param fast_bars=3.0: expected a whole number"),
    (("--strategy", "sma-cross", "--param", "short=yes"), "is set by --short. Use that option."),
    (("--strategy", "sma-corss"), "strategy 'sma-corss' is not registered. Did you mean 'sma-cross'"),
    (("--strategy", "sma-cross", "--ckpt", "Jan4"), "--strategy sma-cross uses no checkpoint: leave --ckpt Jan4 out"),
    (("--strategy", "sma-cross", "--offsets", "0,1"), "--offsets needs a checkpoint, and there is none"),
    (("--strategy", "sma-cross", "--decision", "utility"), "--decision needs a checkpoint, and there is none"),
    (("--strategy", "sma-cross", "--exit", "horizon"), "horizon"),
    (("--strategy", "own_swept:Modelled"), "--strategy own_swept:Modelled needs a checkpoint: add --ckpt NAME"),
    (("--strategy", "own_swept:Plain", "--stop-loss", "0.05"), "these rules apply to a flagbt strategy's targets"),
    (("--ckpt", "Jan4", "--param", "fast_bars=3"), "strategy 'flagtrader' has no parameter 'fast_bars'. It takes none."),
    (("--strategy", "always-hold", "--param", "x=1"), "strategy 'always-hold' has no parameter 'x'. It takes none."),
    (
        ("--strategy", "sma-cross", "--param", "fast_bars=grid:1..5000:1", "--param", "slow_bars=grid:5001..10000:1"),
        "25,000,000 combinations of values, expected at most 1,000,000",
    ),
    (("--strategy", "sma-cross", "--param", "slow_bars=48,99999"), "The first 99,998 bars of the file are the warm-up"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(each[0])[:60] for each in REFUSED])
def test_bad_input_is_one_paragraph(command: Command, folder: Path, arguments: tuple[str, ...], message: str) -> None:
    """If it fails, a mistake ends in a traceback, or is found after the work."""
    code, out, err = command("sweep", *arguments, "--timerange", "20240110-20240201")
    assert (code in (1, 2), out) == (True, ""), err
    assert message in err, err
    assert err.count("\n") == 1
    assert not list(folder.glob("sweeps/*"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fast_bars": 6}, "params: fast_bars is 6, expected a tuple of values, such as (6, 12)."),
        ({"fast_bars": ()}, "fast_bars is (), expected a tuple of values"),
        ({"fast_bars": "6,12"}, "expected a tuple of values"),
        ({"fast_bars": (6, "12")}, "params: fast_bars: expected a whole number, got '12' of type str."),
        ([("fast_bars", (6, 12))], "params: expected a dict of names and values, such as {'fast_bars': (6, 12)}"),
        (None, "got None of type NoneType"),
    ],
)
def test_wrong_params_from_python_are_refused(swept: Callable[..., FinishedSweep], params: object, message: str) -> None:
    """If it fails, `params` of a wrong type raises TypeError in the middle of a sweep."""
    with pytest.raises(FlagbtError) as caught:
        swept("sma-cross", params=params)
    assert message in str(caught.value)


def test_a_config_file_sweeps_parameters(command: Command, data: Path) -> None:
    """If it fails, the YAML key `param` does nothing in a sweep."""
    Path("sweep.yaml").write_text(
        f'strategy: sma-cross\ndata: {data}\ntimerange: 20240110-\nworkers: 1\nparam: ["fast_bars=6,12", "slow_bars=48"]\n'
    )
    code, out, err = command("sweep", "--config", "sweep.yaml", "--json")
    assert code == 0, err
    assert json.loads(out)["grid"]["params"] == {"fast_bars": [6, 12], "slow_bars": [48]}


def test_a_row_equals_backtrader_on_the_same_bars(swept: Callable[..., FinishedSweep], data: Path) -> None:
    """If it fails, the fast replay of a strategy is not what Backtrader gives for an instance made by hand."""
    row = rows_of(swept("sma-cross", params={"fast_bars": (6,), "slow_bars": (30,)}, short=(True,), fee_bps=(5.0,)))[0]
    every, part = read_bars(data), TimeRange.parse(row["timerange"])
    by_hand = run_backtest(
        every, SmaCross(fast_bars=6, slow_bars=30, short=True), timerange=part, costs=Costs(fee_bps=5.0), short=True
    )
    assert {name: row[name] for name in COMPARED} == {name: metrics(by_hand)[name] for name in COMPARED}
    row = rows_of(swept("random", "random", seed=7))[0]
    by_hand = run_backtest(every, RandomSignals(seed=7), timerange=TimeRange.parse(row["timerange"]))
    assert row["final_equity"] == metrics(by_hand)["final_equity"]
