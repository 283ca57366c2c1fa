"""Comparison: ranks only equal tests, and states what is unequal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flagbt.engine.rules import Rules
from flagbt.engine.simulation import Simulation
from flagbt.errors import RangeError, UsageError
from flagbt.reports.comparison import comparison_table, differences, inequalities, labels, render_comparison
from flagbt.results.ranking import Condition, metric_name, ordered
from flagbt.results.run_record import RunRecord

RunMaker = Callable[..., Simulation]
Keeper = Callable[..., RunRecord]


@pytest.fixture
def keep(run_maker: RunMaker, keep_run: Keeper, tmp_path: Path) -> Keeper:
    """Give the maker of stored runs."""

    def make(n_bars: int = 240, *, seed: int = 0, name: str | None = None, **more: object) -> RunRecord:
        run = run_maker(n_bars, seed=seed, **more)
        benchmark = run_maker(n_bars, seed=seed, kind="buy-and-hold", start=more.get("start", "2024-01-01"))
        return keep_run(run, benchmark, tmp_path, name=name)

    return make


def test_the_best_of_equal_tests_is_marked(keep: Keeper) -> None:
    """If it fails, the wrong run is marked as the best, or a run without trades wins with its small drawdown."""
    runs = [keep(name="model"), keep(name="idle", kind="collapsed"), keep(name="held", kind="buy-and-hold")]
    table = {row[0]: row[1:] for row in comparison_table(runs)}
    assert table[""] == ["model", "idle", "held"]
    sharpe = [run.metrics["sharpe_daily"] for run in runs]
    best = "model" if sharpe[0] > sharpe[2] else "held"
    marked = [name for name, cell in zip(table[""], table["Sharpe ratio, daily returns"], strict=True) if "*" in cell]
    assert marked == [best]
    assert "*" not in table["Maximum drawdown"][1]
    page = render_comparison(runs)
    assert page.count('class="best"') == sum("*" in cell for row in table.values() for cell in row)
    assert f"{best} has the highest daily Sharpe ratio" in page


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"n_bars": 216}, "the ranges differ"),
        ({"seed": 5}, "the bars differ"),
        ({"config": {"fee_bps": 0.0}}, "fee_bps differs (0, 10)"),
        (
            {"config": {"sizing": None, "reserve_bps": 20.0}},
            "orders were sized by different rules (at close, with a reserve of 20 bps, at fill)",
        ),
    ],
)
def test_unequal_tests_are_not_ranked(keep: Keeper, other: dict[str, object], reason: str) -> None:
    """If it fails, a run without costs, over an easier range, or with older sizing rules, is ranked as better."""
    runs = [keep(), keep(**other)]
    assert any(reason in each for each in inequalities(runs))
    page = render_comparison(runs)
    assert "NOT COMPARABLE" in page
    assert reason in page
    assert 'class="best"' not in page
    assert not any("*" in cell for row in comparison_table(runs) for cell in row)


def test_only_the_differing_settings_are_shown(keep: Keeper) -> None:
    """If it fails, the one differing setting is hidden among equal ones."""
    runs = [keep(), keep(config={"calibration": "offset:3,-2.5,1"})]
    assert differences(runs) == {"calibration": ["none", "offset:3,-2.5,1"]}
    assert inequalities(runs) == []


def test_an_option_at_its_default_is_shown_as_that_default(keep: Keeper) -> None:
    """If it fails, a reader cannot see what an option was in the run that did not change it."""
    runs = [keep(), keep(config=Rules(cooldown_bars=6, stop_loss=0.05).describe())]
    assert differences(runs) == {"cooldown_bars": ["0", "6"], "stop_loss": ["–", "0.05"]}


def test_equal_names_are_distinguished_and_escaped(keep: Keeper) -> None:
    """If it fails, two runs of one name look like one column, or a name runs a script."""
    evil = "<script>alert(1)</script>"
    runs = [keep(name=evil), keep(name=evil), keep()]
    assert len(set(labels(runs))) == 3
    page = render_comparison(runs)
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_many_runs_and_the_same_bytes_twice(keep: Keeper) -> None:
    """If it fails, the seventh run has no colour, or the page changes from one rendering to the next."""
    run = keep()
    runs = [replace(run, info=replace(run.info, name=f"run {i}")) for i in range(8)]
    assert render_comparison(runs) == render_comparison(runs)


@pytest.mark.parametrize("count", [1, 50])
def test_one_run_and_fifty(keep: Keeper, count: int) -> None:
    """If it fails, one run has no page, or the page of fifty hides some or is too large."""
    run = keep()
    runs = [replace(run, info=replace(run.info, name=f"run {i}")) for i in range(count)]
    page = render_comparison(runs)
    assert all(f"run {i}" in page for i in range(count))
    assert len(page) < 6_000_000
    assert ("nothing to compare it with" in page) == (count == 1)


def test_runs_without_a_common_bar_are_refused_by_name(keep: Keeper) -> None:
    """If it fails, a page compares 2023 with 2024, or does not name the two runs without common bars."""
    runs = [keep(), keep(start="2024-03-01")]
    with pytest.raises(RangeError, match="have no bar in common") as refused:
        render_comparison(runs)
    assert all(str(run.folder / "equity.parquet") in str(refused.value) for run in runs)


def test_differences_are_to_the_first_run(keep: Keeper) -> None:
    """If it fails, the grey numbers are differences to something else."""
    runs = [keep(name="a"), keep(name="b", kind="buy-and-hold")]
    one, two = (run.metrics["sharpe_daily"] for run in runs)
    assert f"<small>{two - one:+.2f}</small>" in render_comparison(runs)


@pytest.mark.parametrize(
    "text", ["sharpe_daily < 0.5", "sharpe<.5", " total_return >= -1e-1 ", "deflated-sharpe <= 0.95", "trades > +3."]
)
def test_conditions_that_are_understood(text: str) -> None:
    """If it fails, a valid condition of a pipeline is refused."""
    condition = Condition.parse(text)
    assert metric_name(condition.name, option="--sort") == condition.name
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sharpe_daily",
        "sharpe_daily < ",
        "sharpe_daily = 1",
        "sharpe_daily < nan",
        "1 < sharpe_daily",
        "trades < 1 or 1",
        "__import__('os').system('true') < 1",
        "trades < 0x10",
        "trades < 1; trades > 0",
    ],
)
def test_conditions_that_are_not(text: str) -> None:
    """If it fails, a typing mistake passes for a condition that never fails, or text is evaluated."""
    with pytest.raises(UsageError, match="expected a metric"):
        Condition.parse(text)


def test_an_unknown_metric_has_a_nearest_one() -> None:
    """If it fails, the error for the typing mistake sharp_daily gives no suggestion."""
    with pytest.raises(UsageError, match="Did you mean 'sharpe_daily'"):
        metric_name("sharp_daily", option="--sort")
    with pytest.raises(UsageError, match="there is no metric 'code'"):
        Condition.parse("code < 1")
    assert metric_name("Sortino", option="--sort") == "sortino_daily"


def test_conditions_at_their_limits(keep: Keeper) -> None:
    """If it fails, a run at the limit fails, or one with an undefined number passes silently."""
    run, idle = keep(), keep(kind="collapsed")
    sharpe = run.metrics["sharpe_daily"]
    assert Condition("sharpe_daily", "<", sharpe).failure(run, "a") is None
    assert "a: sharpe_daily is" in str(Condition("sharpe_daily", "<=", sharpe).failure(run, "a"))
    assert Condition("trades", ">", 1e9).failure(run, "a") is None
    assert "undefined" in str(Condition("sharpe_daily", "<", 0.5).failure(idle, "idle"))
    assert "undefined" in str(Condition("deflated_sharpe", "<", 0.5).failure(run, "not measured"))


def test_the_best_comes_first_and_the_idle_last(keep: Keeper) -> None:
    """If it fails, --sort ranks a deeper drawdown, or a run without trades, first."""
    runs = [keep(kind="collapsed", name="idle"), keep(name="model"), keep(name="held", kind="buy-and-hold")]
    for name, better in (("max_drawdown", max), ("fees_paid", min)):
        found = ordered(runs, name)
        values = [run.metrics[name] for run in found[:2]]
        assert values[0] == better(values)
        assert found[2].info.name == "idle"


def test_a_run_that_lost_everything_is_never_the_best(keep: Keeper) -> None:
    """If it fails, a ruined account gets the star for its low fees, or for its remaining cash."""
    lost, held = keep(name="lost"), keep(name="held", kind="buy-and-hold")
    equity = lost.equity.copy()
    equity.iloc[20, equity.columns.get_loc("equity")] = 0.0
    numbers = replace(lost.metrics, fees_paid=0.0, total_return=5.0, final_equity=6e4, max_drawdown_days=0.1)
    lost = replace(lost, equity=equity, metrics=numbers)
    table = {row[0]: row[1:] for row in comparison_table([lost, held])}
    assert not any("*" in row[0] for row in table.values())
    assert table["Total return"][0] == "+500.0 %"
    assert [run.info.name for run in ordered([lost, held], "total_return")] == ["held", "lost"]
