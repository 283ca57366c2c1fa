"""Comparison: ranks only what is the same test, and says what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flagbt.engine.run import Run
from flagbt.errors import UsageError
from flagbt.results.compare import comparison_table, differences, inequalities, labels, render_comparison
from flagbt.results.store import StoredRun, read_run, write_run

RunMaker = Callable[..., Run]
Keeper = Callable[..., StoredRun]


@pytest.fixture
def keep(run_maker: RunMaker, tmp_path: Path) -> Keeper:
    """Give the maker of stored runs."""

    def make(n_bars: int = 240, *, seed: int = 0, name: str | None = None, **more: object) -> StoredRun:
        run = run_maker(n_bars, seed=seed, **more)
        benchmark = run_maker(n_bars, seed=seed, kind="buy-and-hold")
        return read_run(write_run(run, benchmark, tmp_path, report="page", name=name))

    return make


def test_the_best_of_equal_tests_is_marked(keep: Keeper) -> None:
    """If it fails, the wrong run is called the best, or doing nothing wins for its small drawdown."""
    runs = [keep(name="model"), keep(name="idle", kind="collapsed"), keep(name="held", kind="buy-and-hold")]
    table = {row[0]: row[1:] for row in comparison_table(runs)}
    assert table[""] == ["model", "idle", "held"]
    sharpe = [run.metrics["strategy"]["sharpe_daily"] for run in runs]
    best = "model" if sharpe[0] > sharpe[2] else "held"
    marked = [name for name, cell in zip(table[""], table["Sharpe ratio, daily returns"], strict=True) if "*" in cell]
    assert marked == [best]
    assert "*" not in table["Deepest drawdown"][1]
    page = render_comparison(runs)
    assert page.count('class="best"') == sum("*" in cell for row in table.values() for cell in row)
    assert f"{best} has the highest daily Sharpe ratio" in page


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"n_bars": 216}, "the ranges differ"),
        ({"seed": 5}, "the bars differ"),
        ({"config": {"fee_bps": 0.0}}, "fee_bps differs (0, 10)"),
    ],
)
def test_unequal_tests_are_not_ranked(keep: Keeper, other: dict[str, object], says: str) -> None:
    """If it fails, a run without costs, or over a kinder range, is called better."""
    runs = [keep(), keep(**other)]
    assert any(says in reason for reason in inequalities(runs))
    page = render_comparison(runs)
    assert "NOT COMPARABLE" in page
    assert says in page
    assert 'class="best"' not in page
    assert not any("*" in cell for row in comparison_table(runs) for cell in row)


def test_only_the_differing_settings_are_shown(keep: Keeper) -> None:
    """If it fails, the one setting that matters drowns among equal ones."""
    runs = [keep(), keep(config={"calibration": "offset:3,-2.5,1"})]
    assert differences(runs) == {"calibration": ["none", "offset:3,-2.5,1"]}
    assert inequalities(runs) == []


def test_equal_names_are_told_apart_and_escaped(keep: Keeper) -> None:
    """If it fails, two runs of one name are one column to the reader, or a name runs a script."""
    evil = "<script>alert(1)</script>"
    runs = [keep(name=evil), keep(name=evil), keep()]
    assert len(set(labels(runs))) == 3
    page = render_comparison(runs)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_many_runs_and_the_same_bytes_twice(keep: Keeper) -> None:
    """If it fails, the seventh run has no colour, or the page changes from one rendering to the next."""
    run = keep()
    runs = [replace(run, manifest=run.manifest | {"name": f"run {i}"}) for i in range(8)]
    assert render_comparison(runs) == render_comparison(runs)


def test_one_run_is_no_comparison(keep: Keeper) -> None:
    """If it fails, comparing one run gives a page that ranks it against nothing."""
    with pytest.raises(UsageError, match="two runs or more, got 1"):
        render_comparison([keep()])
