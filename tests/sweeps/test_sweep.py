"""Sweeps: the grid, the table, the winner, refused input, and interruptions."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flagbt.data.bars import Bars
from flagbt.data.labels import LabelSpec
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import run_backtest
from flagbt.engine.costs import Costs
from flagbt.engine.rules import Rules
from flagbt.engine.run_request import RunRequest
from flagbt.errors import FlagbtError, StrategyError
from flagbt.models.calibration import Calibration
from flagbt.models.checkpoint import Checkpoint
from flagbt.models.decision import Decision
from flagbt.models.model_signals import ModelSignals
from flagbt.results.metrics import metrics
from flagbt.results.run_reader import read_run
from flagbt.results.trial_log import read_trials
from flagbt.strategies.flagtrader import FlagTrader
from flagbt.sweeps import worker as worker_module
from flagbt.sweeps.grid import Grid, Point, Points, SweptCheckpoint, random_share
from flagbt.sweeps.process_backend import in_this_process, over_processes
from flagbt.sweeps.ray_backend import over_ray
from flagbt.sweeps.worker import ROWS, Segment, SweepWorker, Unit
from flagbt.workflows.backtest import backtest_request
from flagbt.workflows.finished_sweep import FinishedSweep
from flagbt.workflows.sweep import sweep_request
from flagbt.workflows.sweep_request import SweepRequest, axes_of

HOUR = np.timedelta64(3600, "s")


@pytest.fixture(scope="module")
def bars(walk) -> Bars:
    """Return 66 days of hourly bars after all bars that the checkpoint has seen."""
    return walk(24 * 66, 11, start="2024-01-01", hourly_volatility=0.008)


@pytest.fixture(scope="module")
def data(bars: Bars, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of these bars."""
    path = tmp_path_factory.mktemp("bars") / "bars.csv"
    bars.frame().to_csv(path, index_label="time")
    return path


@pytest.fixture
def make_request(nano: Checkpoint, data: Path) -> Callable[..., SweepRequest]:
    """Return a function that makes the request of a small sweep."""

    def make(**changes: Any) -> SweepRequest:
        given = {
            "ckpt": (str(nano.folder),),
            "data": data,
            "timerange": (TimeRange.parse("20240110-"),),
            "offsets": (-1.0, 0.0, 1.0),
            "decision": ("argmax", "utility"),
            "fee_bps": (0.0, 10.0),
            "cooldown_bars": (0, 6),
            "workers": 1,
        }
        return SweepRequest.of(given | changes)

    return make


@pytest.fixture
def swept(make_request: Callable[..., SweepRequest], tmp_path: Path) -> Callable[..., FinishedSweep]:
    """Return a function that runs a small sweep in a separate folder."""

    def do(name: str = "sweeps", **changes: Any) -> FinishedSweep:
        return sweep_request(make_request(**changes), out=tmp_path / name, runs=tmp_path / f"{name}-runs")

    return do


def rows_of(swept: FinishedSweep) -> list[dict[str, Any]]:
    """Return the rows of a sweep's table."""
    return pq.read_table(swept.folder / "table.parquet").to_pylist()


def made_grid(**axes: Any) -> Grid:
    """Return a grid over one made-up checkpoint."""
    points = axes.pop("points", Points(offsets=(-2.0, 0.0, 2.0)))
    return Grid(models=(SweptCheckpoint("made", "d" * 64, np.array([-0.02, 0.0, 0.02]), 6, points),), axes=axes_of(axes))


def made_worker(n_settings: int = 400, n_bars: int = 24 * 40) -> SweepWorker:
    """Return a sweep's worker on noise, to try the backends with."""
    random = np.random.default_rng(3)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 0.008, n_bars)))
    open_ = np.concatenate([[30_000.0], close[:-1]])
    time_ = np.datetime64("2024-01-01", "ns") + np.arange(n_bars) * HOUR
    bars = Bars(time_, open_, np.maximum(open_, close), np.minimum(open_, close), close, np.ones(n_bars), "noise", True)
    logits = random.normal(size=(n_bars, 3)) + np.array([0.0, 1.0, 0.0])
    grid = made_grid(points=Points(offsets=tuple(np.linspace(-3, 3, 10))), fee_bps=tuple(map(float, range(n_settings // 100))))
    segment = Segment(TimeRange(time_[0], time_[-1] + HOUR), bars, (logits,), (LabelSpec().labels(bars),))
    return SweepWorker(grid, (segment,), 8)


def test_a_grid_is_every_combination_once() -> None:
    """If it fails, settings are missing, or counted twice."""
    grid = made_grid(
        decision=("argmax", "utility"), fee_bps=(0.0, 5.0), exit=("signal", "horizon", "horizon:3"), stop_loss=(None, 0.1)
    )
    assert len(grid) == 9 * 2 * 2 * 3 * 2
    seen = {
        (each.point.calibration.offset, each.decision, each.costs.fee_bps, each.rules.exit, each.rules.stop_loss)
        for each in (grid[number] for number in range(len(grid)))
    }
    offsets = [(sell, 0.0, buy) for sell in (-2.0, 0.0, 2.0) for buy in (-2.0, 0.0, 2.0)]
    assert seen == set(
        product(offsets, (Decision(), Decision("utility")), (0.0, 5.0), ("signal", "horizon:6", "horizon:3"), (None, 0.1))
    )
    assert [grid[number].number for number in range(len(grid))] == list(range(len(grid)))
    assert len(set(grid.digests(range(len(grid))))) == len(grid)
    assert set(grid.varied) == {"calibration", "decision", "fee_bps", "exit", "stop_loss"}
    assert grid.axis_names == tuple(dict.fromkeys(grid.axis_names))
    with pytest.raises(IndexError):
        grid[len(grid)]


def test_offsets_are_pairs_because_only_differences_count() -> None:
    """If it fails, one calibration is counted as many trials, or the report's offsets are not found."""
    logits = np.random.default_rng(0).normal(size=(500, 3))
    points = Points.of(
        [Point("none", Calibration()), Point("report", Calibration("offset", offset=(3.0, -2.5, 1.0)))], (3.5, 5.5)
    )
    assert len(points) == 1 + 4
    assert points.names == ["none", "report"]
    assert [points[place].text for place in range(5)] == [
        "none",
        "offset:3.5,0,3.5",
        "offset:3.5,0,5.5",
        "report",
        "offset:5.5,0,5.5",
    ]
    same = points[3].calibration(logits), Calibration("offset", offset=(3.0, -2.5, 1.0))(logits)
    assert np.allclose(*same, rtol=0, atol=1e-12)
    assert points[3].offsets == (5.5, 3.5)
    # With a stored decision, it is another setting.
    assert len(Points.of([Point("stored", Calibration(), Decision("utility"))], (-1.0, 0.0, 1.0))) == 10
    million = Points(offsets=tuple(float(each) for each in range(1_000)))
    assert (len(million), million[999_999].text) == (1_000_000, "offset:999,0,999")


def test_the_random_share_is_the_same_for_the_same_seed() -> None:
    """If it fails, a resumed sweep checks other settings than the interrupted one."""
    drawn = random_share(10_000, 0.01, 4)
    assert len(drawn) == len(set(drawn.tolist())) == 100
    assert np.array_equal(drawn, random_share(10_000, 0.01, 4))
    assert not np.array_equal(drawn, random_share(10_000, 0.01, 5))
    assert random_share(50, 0.01, 0).shape == (1,)


def test_a_row_equals_a_run(swept, bars: Bars, nano: Checkpoint) -> None:
    """If it fails, a sweep ranks by numbers that Backtrader does not give with the real model."""
    found = swept(decision=("argmax", "utility", "stored"), short=(False, True), exit=("signal", "horizon"), check_share=0.0)
    rows = rows_of(found)
    assert len(rows) == found.values["settings"] == 9 * 3 * 2 * 2 * 2 * 2
    assert found.values["ranges"] == ["20240110-20240221"]
    assert found.values["holdout"] == "20240221-20240307"
    for row in [rows[number] for number in random_share(len(rows), 0.02, 9)]:
        offset = Calibration("offset", offset=(row["offset_sell"], 0.0, row["offset_buy"]))
        costs = Costs(fee_bps=row["fee_bps"])
        model = ModelSignals(
            checkpoint=nano,
            calibration=offset,
            decision=Decision.parse(row["decision"]),
            round_trip_cost=2 * (costs.fee + costs.slippage),
        )
        rules = Rules(cooldown_bars=row["cooldown_bars"], exit="horizon:6" if row["exit"] == "horizon" else "signal")
        backtest = run_backtest(
            bars,
            FlagTrader(model, short=row["short"]),
            timerange=TimeRange.parse(row["timerange"]),
            costs=costs,
            short=row["short"],
            rules=rules,
        )
        expected = metrics(backtest)
        for name in (
            "total_return",
            "sharpe_daily",
            "max_drawdown",
            "trades",
            "exposure",
            "turnover",
            "fees_paid",
            "final_equity",
        ):
            assert row[name] == expected[name], name
        signals = backtest.signals["signal"].to_numpy()
        shares = [float((signals == each).mean()) for each in range(3)]
        assert [row["share_sell"], row["share_hold"], row["share_buy"]] == pytest.approx(shares)


def test_the_winner_is_the_best_of_the_table_and_a_run_repeats_it(
    swept, make_request, nano: Checkpoint, data: Path, tmp_path: Path
) -> None:
    """If it fails, the page shows another winner, or a run of the winner counts as another trial."""
    found = swept()
    winner = found.values["winner"]
    rows = rows_of(found)
    best = max((row for row in rows if row["sharpe_all"] is not None), key=lambda row: (row["sharpe_all"], -row["setting"]))
    assert winner["rows"] == [best]
    holdout = winner["holdout"]
    recorded = backtest_request(
        RunRequest(
            ckpt=str(nano.folder),
            data=data,
            timerange=TimeRange.parse(holdout["timerange"]),
            calibration=best["calibration"],
            decision=best["decision"],
            costs=Costs(fee_bps=best["fee_bps"]),
            rules=Rules(cooldown_bars=best["cooldown_bars"]),
        ),
        runs=tmp_path / "sweeps-runs",
    )
    assert {name: recorded.metrics[name] for name in holdout["strategy"]} == holdout["strategy"]
    assert {name: recorded.benchmark_metrics[name] for name in holdout["buy_and_hold"]} == holdout["buy_and_hold"]
    # Every setting is in the trial log, under the digest of its run.
    logged = {configuration for _, configuration in read_trials(tmp_path / "sweeps-runs").trials}
    assert len(logged) == found.values["settings"]
    assert winner["deflated_sharpe"]["trials"] == found.values["settings"]
    other = swept("sweeps", fee_bps=(10.0, 30.0)).values["winner"]["deflated_sharpe"]
    assert (other["trials"], other["of_this_sweep"]) == (36 * 3, 72)


WITH_EVERYTHING = (
    "--fee-bps",
    "3.5,7",
    "--cash",
    "2500",
    "--short",
    "--stop-loss",
    "0.05",
    "--take-profit",
    "0.25",
    "--exit",
    "horizon:5",
    "--cooldown-bars",
    "2",
    "--min-hold-bars",
    "3",
    "--max-short-notional",
    "0.5",
    "--close-short-above",
    "1.5",
    "--borrow-bps-per-day",
    "4",
    "--slippage-bps",
    "1",
    "--device",
    "cpu",
    "--batch-size",
    "7",
    "--allow-overlap",
    "--runs",
    "my runs",
)


@pytest.mark.parametrize("options", [(), WITH_EVERYTHING], ids=["plain", "with everything"])
def test_the_line_that_repeats_the_winner_runs_as_printed(
    options: tuple[str, ...], command, nano: Checkpoint, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the line uses the SYNTHETIC sample, or repeats another setting, or ignores the trial log."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(data, tmp_path / "my bars.csv")
    arguments = ("sweep", "--ckpt", nano.folder, "--data", "my bars.csv", "--timerange", "20240110-", "--offsets", "0,1")
    code, printed, err = command(*arguments, "--workers", "1", *options)
    assert code == 0, err
    line = next(each for each in printed.splitlines() if each.startswith("Repeat the winner")).partition(": ")[2]
    (page,) = (tmp_path / "sweeps").glob("*/sweep.html")
    assert f"<pre>{line}</pre>" in html.unescape(page.read_text())
    manifest = json.loads((page.parent / "sweep.json").read_text())
    code, out, err = command(*shlex.split(line)[1:], "--json")
    assert code == 0, err
    values = json.loads(out)
    assert (values["data"]["synthetic"], values["data"]["source"]) == (False, "my bars.csv")
    stored = read_run(Path(values["run"]))
    holdout = manifest["winner"]["holdout"]
    assert {name: stored.metrics[name] for name in holdout["strategy"]} == holdout["strategy"]
    assert values["overlap_allowed"] is bool(options)
    assert stored.folder.parent.name == ("my runs" if options else "runs")
    assert f"--calibration {manifest['winner']['rows'][0]['calibration']}" in line
    # All outputs count the same trades: the sweep's page and table, `runs list`, the list of runs, and trades.csv.
    listed = json.loads(command("runs", "list", "--out", stored.folder.parent, "--json")[1])["runs"][0]["trades"]
    assert listed == holdout["strategy"]["trades"] == len(stored.trades) == values["metrics"]["trades"]
    assert f"<td>{listed:,}</td></tr>" in (stored.folder.parent / "index.html").read_text().replace("\n", "")
    # A finished sweep prints the files' current names.
    (tmp_path / "moved").mkdir()
    (tmp_path / "my bars.csv").rename("moved/my bars.csv")
    moved = [str(each).replace("my bars", "moved/my bars") for each in arguments]
    again = command(*moved, "--workers", "1", *options)[1]
    assert "finished before" in again
    assert line.replace("my bars", "moved/my bars") in again


def test_ranking_never_looks_at_the_hold_out(swept, bars: Bars, tmp_path: Path) -> None:
    """If it fails, the winner depends on the bars that test it."""
    found = swept()
    cut = bars.position_of(TimeRange.parse(found.values["holdout"]).start)
    frame = bars.frame()
    frame.iloc[cut:] *= np.linspace(1, 3, len(bars) - cut)[:, None] ** 0.3
    frame.to_csv(tmp_path / "other.csv", index_label="time")
    other = swept("other", data=tmp_path / "other.csv")
    assert (found.folder / "table.parquet").read_bytes() == (other.folder / "table.parquet").read_bytes()
    assert found.values["winner"]["rows"] == other.values["winner"]["rows"]
    assert found.values["winner"]["holdout"] != other.values["winner"]["holdout"]


def test_several_ranges_are_ranked_together(swept) -> None:
    """If it fails, a setting is ranked on one range, or its days are counted twice."""
    ranges = (TimeRange.parse("20240110-20240201"), TimeRange.parse("20240205-20240301"))
    found = swept(timerange=ranges, holdout="20240301-20240307")
    rows = rows_of(found)
    assert len(rows) == 2 * found.values["settings"]
    assert [row["timerange"] for row in rows[:4]] == ["20240110-20240201", "20240205-20240301"] * 2
    assert all(first["sharpe_all"] == second["sharpe_all"] for first, second in zip(rows[::2], rows[1::2], strict=True))
    assert any(row["sharpe_all"] != row["sharpe_daily"] for row in rows)
    assert found.values["overfitting"]["days"] == 22 + 25


class Killed(BaseException):
    """Simulates the end of the process."""


def test_an_interrupted_sweep_is_resumed(make_request, tmp_path: Path) -> None:
    """If it fails, an interruption loses finished pieces, or changes the table."""
    request = make_request(cooldown_bars=tuple(range(4)))
    whole = sweep_request(request, out=tmp_path / "whole", runs=tmp_path / "runs-whole")
    reported: list[tuple[str, int]] = []
    for stop_at in (("sweep", 60), ("sweep", 100), ("check", 2), None):

        def watch(phase: str, done: int, total: int, stop_at: Any = stop_at) -> None:
            reported.append((phase, done))
            if stop_at is not None and phase == stop_at[0] and done >= stop_at[1]:
                raise Killed

        try:
            again = sweep_request(request, out=tmp_path / "parts", runs=tmp_path / "runs-parts", progress=watch)
        except Killed:
            (folder,) = (tmp_path / "parts").iterdir()
            assert not (folder / "sweep.json").exists()
            reported.clear()
    assert reported[0][0] == "score"
    assert ("sweep", 144) in reported
    assert ("sweep", 16) not in reported
    assert again.folder.name == whole.folder.name
    assert (again.folder / "table.parquet").read_bytes() == (whole.folder / "table.parquet").read_bytes()
    assert not list(again.folder.glob("*pieces*"))
    assert {name: again.values[name] for name in ("overfitting", "checked")} == {
        name: whole.values[name] for name in ("overfitting", "checked")
    }
    winners = [dict(each.values["winner"]) for each in (again, whole)]
    lines = [shlex.split(each.pop("run")) for each in winners]
    folders = [line[line.index("--out") + 1] for line in lines]
    assert folders == [str(tmp_path / "runs-parts"), str(tmp_path / "runs-whole")]
    assert winners[0] == winners[1]
    finished = sweep_request(request, out=tmp_path / "parts", runs=tmp_path / "runs-parts")
    assert finished.resumed
    assert finished.values == json.loads((again.folder / "sweep.json").read_text())


def test_a_wrong_replay_stops_the_sweep(swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a fault in the replay makes a sweep's numbers differ from Backtrader's."""
    right = worker_module.replay

    def wrong(bars: Any, targets: Any, *, costs: Costs, **rest: Any) -> Any:
        return right(bars, targets, costs=Costs(fee_bps=costs.fee_bps + 0.001, slippage_bps=costs.slippage_bps), **rest)

    monkeypatch.setattr(worker_module, "replay", wrong)
    with pytest.raises(StrategyError, match=r"setting \d+ over 20240110-20240221: the fast replay differs from Backtrader"):
        swept()
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert not (folder / "sweep.json").exists()
    assert not (folder / "sweep.html").exists()


def test_a_wrong_metric_stops_the_sweep(swept, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, the table's metrics may differ from a run's although orders and equity agree."""
    right = worker_module.replay_metrics
    monkeypatch.setattr(worker_module, "replay_metrics", lambda replayed: right(replayed) | {"turnover": 1.0})
    with pytest.raises(StrategyError, match="turnover is 1.0 in the fast replay, and .* in Backtrader's run"):
        swept()


def test_the_page_is_offline_and_does_not_grow(swept, tmp_path: Path) -> None:
    """If it fails, the page uses the network, hides a stamp, or grows with the sweep."""
    small = (swept("small", timerange=(TimeRange.parse("20240110-20240201"),)).folder / "sweep.html").read_text()
    large = swept(
        "large",
        timerange=(TimeRange.parse("20240110-20240201"),),
        offsets=tuple(np.linspace(-3, 3, 30)),
        fee_bps=(0.0,),
        cooldown_bars=(0,),
        check_share=0.0,
    )
    page = (large.folder / "sweep.html").read_text()
    outside = re.sub(
        r"<script>.*?</script>", "", page, flags=re.DOTALL
    )  # Bokeh's script contains addresses that it never requests
    assert len(page) < len(small) + 800_000
    assert not re.search(r'(?:src|href)\s*=\s*["\']?(?:https?:)?//', outside)
    assert "default-src 'none'" in page
    for text in (
        "Deflated Sharpe ratio",
        "Probability of backtest overfitting",
        "Share of SELL signals",
        "of 1,800 settings",
        "hold-out",
    ):
        assert text in page, text
    assert "OVERLAP" not in page


def test_a_sweep_without_trades_has_no_winner(swept) -> None:
    """If it fails, a sweep whose settings all predict HOLD ends in a traceback, or has a winner."""
    found = swept(offsets=(-30.0, -20.0), decision=("argmax",))
    assert (found.values["winner"], found.values["overfitting"], found.values["settings_with_sharpe"]) == (None, None, 0)
    assert "none of them traded" in (found.folder / "sweep.html").read_text()
    assert all(row["sharpe_all"] is None and row["share_hold"] == 1 for row in rows_of(found))


def test_a_setting_that_loses_everything_is_not_ranked(swept, tmp_path: Path, walk) -> None:
    """If it fails, a ruined short is ranked by later bars, or counted as never traded."""
    part = walk(24 * 66, 11, start="2024-01-01", hourly_volatility=0.008).frame()
    rise = np.interp(np.arange(len(part)), [0, 24 * 20, 24 * 30, 24 * 50, len(part)], [1, 1, 4, 4, 0.5])
    part.loc[:, ["open", "high", "low", "close"]] *= rise[:, None]
    part.to_csv(tmp_path / "rises.csv", index_label="time")
    rises = {"data": tmp_path / "rises.csv", "timerange": (TimeRange.parse("20240110-"),), "holdout": "0.1"}
    found = swept(**rises, offsets=(-20.0, 20.0), decision=("argmax",), fee_bps=(10.0,), cooldown_bars=(0,), short=(True,))
    rows = {(row["offset_sell"], row["offset_buy"]): row for row in rows_of(found)}
    sells = rows[20.0, -20.0]
    assert sells["ruined"]
    assert (sells["sharpe_daily"], sells["sharpe_all"], sells["trades"]) == (None, None, 1)
    assert not rows[-20.0, 20.0]["ruined"]
    assert rows[-20.0, 20.0]["sharpe_daily"] > 0
    assert (
        found.values["settings_ruined"] == sum(row["ruined"] for row in rows.values()) == 2
    )  # the one that mixes SELL and BUY, too
    assert found.values["winner"]["rows"][0]["offset_buy"] == 20.0
    assert "2 more lost everything" in (found.folder / "sweep.html").read_text()
    only = swept("only", **rises, offsets=(), calibration=("offset:20,0,-20",), decision=("argmax",), short=(True,))
    assert only.values["winner"] is None
    assert "never traded, or lost everything" in (only.folder / "sweep.html").read_text()


def test_overlap_is_refused_and_stamped(swept, nano: Checkpoint, walk, tmp_path: Path) -> None:
    """If it fails, a sweep picks its winner on bars that the checkpoint was trained on."""
    walk(2000, 5, start="2023-05-01").frame().to_csv(tmp_path / "seen.csv", index_label="time")
    seen = {"data": tmp_path / "seen.csv", "timerange": (TimeRange.parse("20230520-"),)}
    with pytest.raises(FlagbtError, match=r"has seen bars of the requested range, .*or add --allow-overlap"):
        swept(**seen)
    allowed = swept(**seen, allow_overlap=True)
    assert allowed.values["allow_overlap"]
    assert "OVERLAP ALLOWED" in (allowed.folder / "sweep.html").read_text()


REFUSED = [
    (("--ckpt", "Jan91"), "there is no checkpoint 'Jan91'.*Did you mean 'Jan19'"),
    ((), "--ckpt: name one checkpoint or more"),
    (
        ("--ckpt", "Jan19", "--offsets", "grid:4..-4:1"),
        "--offsets: the grid is empty: it ends before it starts, got 'grid:4..-4:1'",
    ),
    (("--ckpt", "Jan19", "--offsets", "grid:1..4"), "--offsets: expected grid:FROM..TO:STEP, such as grid:-4..4:0.5"),
    (("--ckpt", "Jan19", "--offsets", "grid:1..4:0"), "expected a step above 0"),
    (
        ("--ckpt", "Jan19", "--offsets", "grid:-4..4:0.001"),
        r"the grid has 64,016,001 settings over 1 range\(s\), 64,016,001 replays, more than 10,000,000. Add --yes",
    ),
    (("--ckpt", "Jan19", "--fees", "0,-3"), "fee_bps is -3, expected 0 to 1,000"),
    (("--ckpt", "Jan19", "--fees", "nan"), "--fee-bps: expected numbers, such as 0,5,10, or grid:0..20:5, got 'nan'"),
    (("--ckpt", "Jan19", "--cash", "0"), "cash: expected an amount of quote currency above 0"),
    (("--ckpt", "Jan19", "--cooldown-bars", "1.5"), "--cooldown-bars: expected whole numbers"),
    (("--ckpt", "Jan19", "--short", "maybe"), "--short: expected yes, no, or both"),
    (("--ckpt", "Jan19", "--decisions", "argmax,utilty"), "unknown decision rule 'utilty'. Did you mean 'utility'"),
    (("--ckpt", "Jan19", "--holdout", "2"), "--holdout: expected a share of the last range above 0 and below 1"),
    (("--ckpt", "Jan19", "--holdout", "20240201-20240301"), "settings are ranked on 20240101-20250101, which overlaps it"),
    (
        ("--ckpt", "Jan19", "--timerange", "20240101-20240301", "--timerange", "20240201-20240401"),
        "20240101-20240301 and 20240201-20240401 overlap, so their common bars would count twice",
    ),
    (("--ckpt", "Jan19", "--timerange", "20240101-20240103"), "holds 48 bars, too few to rank settings"),
    (("--ckpt", "Jan19", "--timerange", "20300101-"), "the range holds 0 bars of"),
    (("--ckpt", "Jan19", "--check-share", "3"), "--check-share: expected a share from 0 to 1, got 3"),
    (("--ckpt", "Jan19", "--backend", "dask"), "--backend: .*dask"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(each[0])[:60] for each in REFUSED])
def test_bad_input_is_one_paragraph(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, message: str) -> None:
    """If it fails, a mistake ends in a traceback, or is found after hours of work."""
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = command("sweep", *arguments)
    assert code in (1, 2)
    assert stdout == ""
    assert re.search(message, stderr), stderr
    assert stderr.count("\n") == 1
    assert not list(tmp_path.glob("sweeps/*"))


def test_a_yaml_file_has_lines(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, an error in a config file is reported without its line."""
    monkeypatch.chdir(tmp_path)
    for text, message in (
        ("ckpt: Jan19\nfee_bsp: [1, 2]\n", "line 2: unknown option 'fee_bsp'. Did you mean 'fee_bps'?"),
        ("ckpt: Jan19\n\nfee_bps: []\n", "line 3: 'fee_bps' is an empty list"),
        ("ckpt: Jan19\nfee_bps:\n  - 1\n  - x\n", "line 2: --fee-bps: expected numbers"),
        ("ckpt: [Jan19, {a: 1}]\n", "line 1: 'ckpt' holds more than single values"),
        ("ckpt: Jan19\nholdout: [0.1, 0.2]\n", "line 2: 'holdout' has several values"),
        ("ckpt: Jan19\nfee_bps: [1, null]\n", "line 2: 'fee_bps' has no value"),
    ):
        (tmp_path / "sweep.yaml").write_text(text)
        code, _, stderr = command("sweep", "--config", "sweep.yaml")
        assert (code, stderr.count("\n")) == (2, 1), stderr
        assert message in stderr


def test_the_command_from_a_yaml_file(
    command, data: Path, nano: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, an option does not reach the sweep, or --json does not print JSON."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(
        f"ckpt: {nano.folder}\ndata: {data}\ntimerange: 20240110-\noffsets: grid:0..1:0.5\n"
        "calibration: ['offset:2,1,1.5', none]\ndecision: [argmax, 'threshold:0.3,0.4']\nfee-bps: grid:0..10:5\n"
        "short: [no, yes]\nstop_loss: [none, 0.05]\nworkers: 1\n"
    )
    code, stdout, stderr = command("sweep", "--config", "sweep.yaml", "--exit", "signal,horizon:3", "--json")
    assert code == 0, stderr
    values = json.loads(stdout)
    assert values["settings"] == 9 * 2 * 2 * 3 * 2 * 2
    assert values["grid"]["decision"] == ["argmax", "threshold:0.3,0.4"]
    assert values["grid"]["models"][0]["calibrations"]["also_named"] == [[1.0, 0.5, "offset:2,1,1.5"], [0.0, 0.0, "none"]]
    assert Path(values["page"]).is_file()
    code, stdout, _ = command("sweep", "--config", "sweep.yaml", "--exit", "signal,horizon:3")
    assert code == 0
    assert "finished before" in stdout
    assert "Deflated Sharpe ratio over 432 trials" in stdout


def test_ray_that_is_missing_names_the_extra(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a user without Ray gets a traceback instead of the install command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, stderr = command("sweep", "--ckpt", "Jan19", "--backend", "ray")
    assert code == 2
    assert "Ray is not installed here. Install it with: pip install 'flagbt[sweep]'" in stderr


def test_two_sweeps_do_not_share_a_folder(make_request, tmp_path: Path) -> None:
    """If it fails, a sweep that ends removes the pieces of another one."""

    def second(phase: str, done: int, total: int) -> None:
        if phase == "sweep" and done:
            sweep_request(make_request(), out=tmp_path / "sweeps", runs=tmp_path / "runs")

    with pytest.raises(FlagbtError, match="another sweep with the same settings is running in"):
        sweep_request(make_request(), out=tmp_path / "sweeps", runs=tmp_path / "runs", progress=second)


def everything(
    backend: Callable[..., Any], worker: SweepWorker, *, at_first: Callable[[], object] = lambda: None
) -> list[bytes]:
    """Return the results of all blocks, in order; call ``at_first`` after the first one."""
    units = [Unit(ROWS, number) for number in range(worker.n_blocks)]
    found: dict[Unit, bytes] = {}
    for unit, content in backend(worker, units, workers=2):
        if not found:
            at_first()
        assert unit not in found
        found[unit] = content
    return [found[unit] for unit in units]


def kill_a_worker_process() -> None:
    """Kill one of this process's workers, as the system does when memory runs out."""
    os.kill(active_children()[0].pid or 0, signal.SIGKILL)


def descendants(root: int) -> dict[int, str]:
    """Return the descendants of a process, and their command lines."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                lines[int(entry.name)] = (entry / "cmdline").read_text()
            except OSError:
                continue
    below, level = {}, {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        below |= {pid: lines.get(pid, "") for pid in level}
    return below


def kill_a_ray_worker() -> None:
    """Kill one of the workers of the Ray that this process started."""
    workers = [pid for pid, line in descendants(os.getpid()).items() if line.startswith("ray::")]
    os.kill(workers[0], signal.SIGKILL)


@pytest.mark.slow
def test_every_backend_gives_the_same_bytes_though_workers_die() -> None:
    """If it fails, results depend on the backend, or a killed worker loses them."""
    pytest.importorskip("ray", reason="Ray is an optional extra")
    worker = made_worker(4_000, 24 * 120)
    alone = everything(in_this_process, worker)
    assert everything(over_processes, worker, at_first=kill_a_worker_process) == alone
    assert everything(over_ray, worker, at_first=kill_a_ray_worker) == alone


@pytest.mark.slow
@pytest.mark.parametrize("backend", [over_processes, over_ray])
def test_an_error_comes_back_from_a_worker_as_it_is(backend: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, an error found by a worker is shown as a traceback."""
    worker = made_worker(100)
    broken = SweepWorker(made_grid(close_short_above=(0.5,)), worker.segments, 8)  # refused in the worker
    with pytest.raises(FlagbtError, match="close_short_above is 0.5"):
        list(backend(broken, [Unit(ROWS, 0)], workers=1))


@pytest.mark.slow
def test_a_sweep_killed_at_any_moment_is_resumed(nano: Checkpoint, data: Path, tmp_path: Path) -> None:
    """If it fails, a killed command loses finished pieces, or leaves processes behind."""
    arguments = [
        sys.executable,
        "-m",
        "flagbt",
        "sweep",
        "--ckpt",
        str(nano.folder),
        "--data",
        str(data),
        "--timerange",
        "20240110-",
        "--offsets",
        "grid:-3..3:0.25",
        "--fees",
        "0,5,10,20",
        "--runs",
        str(tmp_path / "runs"),
    ]
    subprocess.run([*arguments, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    killed = 0
    for pieces_wanted in (1, 20, 45, 64):
        process = subprocess.Popen(
            [*arguments, "--out", str(tmp_path / "parts")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if len(list((tmp_path / "parts").glob("*/pieces/*-*"))) >= pieces_wanted:
                left = list(descendants(process.pid))
                process.kill()
                process.wait()
                killed += 1
                gone = time.monotonic() + 20
                while any(alive(pid) for pid in left) and time.monotonic() < gone:
                    time.sleep(0.1)
                assert not [pid for pid in left if alive(pid)]
            time.sleep(0.005)
    assert killed >= 2
    subprocess.run([*arguments, "--out", str(tmp_path / "parts")], check=True, capture_output=True)
    (whole,), (parts,) = (tmp_path / "whole").iterdir(), (tmp_path / "parts").iterdir()
    assert (whole / "table.parquet").read_bytes() == (parts / "table.parquet").read_bytes()
    first, second = (json.loads((folder / "sweep.json").read_text()) for folder in (whole, parts))
    for name in ("winner", "best_mcc", "overfitting", "checked"):
        if name == "winner":  # the trial log already has the first sweep's settings, and they are the same trials
            assert first[name]["rows"] == second[name]["rows"]
        assert first[name] == second[name]
    assert sorted(each.name for each in parts.iterdir()) == ["sweep.html", "sweep.json", "table.parquet"]


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_memory_does_not_grow_with_the_settings(tmp_path: Path, data: Path, nano: Checkpoint) -> None:
    """If it fails, a sweep of a million settings runs out of memory."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom flagbt.data.time_range import TimeRange\n"
        "from flagbt.workflows.sweep import sweep_request\nfrom flagbt.workflows.sweep_request import SweepRequest\n"
        "n, out = int(sys.argv[3]), Path(sys.argv[4])\n"
        "part = TimeRange.parse('20240110-20240125')\n"
        "request = SweepRequest(ckpt=(sys.argv[1],), data=Path(sys.argv[2]), timerange=(part,),\n"
        "    offsets=tuple(each / n for each in range(n)), check_share=0.0, workers=1)\n"
        "sweep_request(request, out=out, runs=out / 'runs')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    most = []
    for n in (32, 200):
        done = subprocess.run(
            [sys.executable, "-c", code, str(nano.folder), str(data), str(n), str(tmp_path / str(n))],
            capture_output=True,
            text=True,
            check=True,
        )
        most.append(int(done.stdout) / 1024)
    assert most[1] < most[0] + 40, most


def test_no_digits_are_lost_in_a_command() -> None:
    """If it fails, the command on the page repeats another setting."""
    from flagbt.sweeps.record import repeat_command

    grid = made_grid(points=Points(offsets=(1 / 3,)), fee_bps=(1234567 / 1e5,), cash=(1234567.25,), stop_loss=(1 / 7,))
    line = repeat_command(grid, grid[0], "20240101-20240201")
    assert f"--fee-bps {1234567 / 1e5!r}" in line
    assert f"offset:{1 / 3!r},0,{1 / 3!r}" in line
    assert "--cash 1234567.25" in line
    assert f"--stop-loss {1 / 7!r}" in line
