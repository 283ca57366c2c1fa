"""What a notebook shows of a run and of a table: labels apart, dates apart, prose at the left, every trial counted."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import flagbt
from flagbt.reports.notebook import HEIGHT, LABEL_HEIGHT, Row, result_html, run_html, run_lines, ticks
from flagbt.workflows import python_backtest
from flagbt.workflows.unsaved_trials import UnsavedTrials

FRAME = flagbt.load_sample().frame()


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, in a process that has tried nothing yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(python_backtest, "UNSAVED", UnsavedTrials())
    monkeypatch.setattr("flagbt.workflows.unsaved_trials.UNSAVED", python_backtest.UNSAVED)


@pytest.mark.parametrize(
    ("low", "high"), [(-0.009, 1.13), (-0.9, 0.004), (0.0, 0.6), (-0.3, 0.0), (-0.0004, 0.0007), (-0.001, 1.0), (0.0, 0.0)]
)
def test_the_labels_of_the_small_chart_do_not_overlap(low: float, high: float) -> None:
    """If it fails, two levels of a run's chart are printed over each other, or one is printed twice."""
    found = ticks(low, high)
    assert len({each.text for each in found}) == len(found)
    assert sum(each.is_zero for each in found) == 1
    heights = sorted(each.label for each in found)
    assert all(lower - upper >= LABEL_HEIGHT for upper, lower in pairwise(heights))
    assert all(0 <= each.line <= HEIGHT for each in found)
    assert all(abs(each.label - each.line) <= LABEL_HEIGHT for each in found)
    order = sorted(found, key=lambda each: each.line)
    assert [each.label for each in order] == heights


@pytest.mark.parametrize("span", ["20240101-20240102", "20240101-20240107", "20240101-20240201", "2024"])
def test_the_dates_of_a_figure_do_not_overlap(span: str) -> None:
    """If it fails, the dates below a plot cannot be read."""
    figure = flagbt.backtest(FRAME, "buy-and-hold", timerange=span).plot()
    figure.draw_without_rendering()
    spans = [label.get_window_extent() for label in figure.axes[1].get_xticklabels() if label.get_text()]
    assert len(spans) >= 3
    assert all(left.x1 < right.x0 for left, right in pairwise(spans))


def test_prose_starts_at_the_left() -> None:
    """Jupyter aligns cells at the right: paragraphs there cannot be read."""
    prose = str(result_html([], ["x"], ["check", "found"], [Row("a", ["A long sentence."])], "", is_prose=True))
    assert re.search(r'<td style="text-align:left[^"]*">A long sentence', prose)
    numbers = str(result_html([], ["x"], ["metric", "run"], [Row("a", ["1.0"])], ""))
    assert '<td style="text-align:right">1.0' in numbers


def test_a_comparison_counts_later_backtests_of_the_process() -> None:
    """If it fails, the first of many unsaved tries looks as if it were the only one."""
    first = flagbt.backtest(FRAME, "sma-cross", timerange="20240101-20240701")
    others = [
        flagbt.backtest(FRAME, "sma-cross", timerange="20240101-20240701", params={"fast_bars": bars}) for bars in (6, 12)
    ]
    for each in (flagbt.compare([first, *others]), flagbt.compare([first.save("runs"), *others])):
        counts = [run.significance.deflated_sharpe.inputs["trials"] for run in each.runs if run.significance is not None]
        assert counts == [3, 3, 3]
    then = [run.significance.deflated_sharpe.inputs["trials"] for run in (first, *others) if run.significance is not None]
    assert then == [1, 2, 3]


def test_a_comparison_shows_buy_and_hold_and_explains_its_mark() -> None:
    """If it fails, a notebook shows returns without what the market did, and a star that means nothing."""
    runs = [flagbt.backtest(FRAME, "sma-cross", timerange="20240101-20240401", params={"fast_bars": n}) for n in (6, 12)]
    html = flagbt.compare(runs)._repr_html_().replace("\N{NO-BREAK SPACE}", " ")
    held = runs[0].benchmark.metrics.text("total_return")
    row = html.partition("Total return</th>")[2].partition("</tr>")[0]
    assert row.rstrip().endswith(f">{held}</td>")
    assert "* is the best run of a row." in html
    unequal = flagbt.compare([runs[0], flagbt.backtest(FRAME, "sma-cross", timerange="20240101-20240501")])._repr_html_()
    assert "buy and hold</th>" not in unequal
    assert " is the best run of a row" not in unequal


def test_a_runs_view_has_its_levels_once() -> None:
    """If it fails, the chart of a flat run has two labels of 0 %."""
    run = flagbt.backtest(
        FRAME, signals=pd.Series(["BUY", "SELL"], index=FRAME.index[[800, 802]]), timerange="2024", bars_seen=()
    )
    assert len(run_lines(run)) <= 6
    labels = re.findall(r">([+-]?[\d.]+ %)</text>", str(run_html(run)).replace("\N{NO-BREAK SPACE}", " "))
    assert "0 %" in labels
    assert len(labels) == len(set(labels))
    assert np.isclose(run.equity["equity"].iloc[-1], run.metrics.final_equity)
