"""Comparison of stored runs: curves in one chart, metrics side by side, and the differences between the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..engine.costs import Costs
from ..engine.funnel import Funnel
from ..engine.run_request import RunRequest
from ..engine.run_settings import RunSettings
from ..errors import RangeError
from ..options import option_table
from ..results.caveats import banners, with_stamp
from ..results.label_scores import LabelScores
from ..results.metric_set import declarations
from ..results.number_text import NULL, percent, ratio, whole
from ..results.ranking import best, measured, of_trader
from ..results.run_record import RunRecord
from ..results.run_view import drawdowns
from ..results.significance.measure import share
from .interactive_charts import Line, Panel, line_chart
from .page import render, setting_text
from .sections.calibration import reliability_curves, reliability_line
from .sections.curves import ZOOM, times
from .sections.diversity import funnel_stages
from .sections.significance import trials_then_now

# Config fields that must be equal before one run may be called better than another, and the value of one not recorded.
COST_FIELDS = {**{each.name: each.default for each in fields(Costs)}, "cash": None}
RUN_COLOURS = 6
DASHES = ("solid", "dashed", "dotted", "dashdot")
LONGEST_LABEL = 40
MOST_COLUMNS = 6  # more runs than that become rows of a table, without a funnel picture each


def render_comparison(runs: Sequence[RunRecord]) -> str:
    """Render runs as one offline HTML page; equal inputs give equal bytes.

    Parameters
    ----------
    runs : sequence of RunRecord
        One or more, in the order in which they are shown; pass them through
        `flagbt.results.significance.current_trials.CurrentTrials` for the trials known now.

    Raises
    ------
    RangeError
        Where two runs have no bar in common.
    """
    check_common_bars(runs)
    names = labels(runs)
    unequal = inequalities(runs)
    warnings = banners([run.info for run in runs], names)
    if unequal:
        warnings.append(f"NOT COMPARABLE, so nothing is ranked: {'; '.join(unequal)}.")
    pairs = list(zip(names, runs, strict=True))
    differing_columns, differing = _differences_table(runs, names)
    return render(
        "comparison",
        title="Comparison – flagbt",
        banners=warnings,
        wide=len(runs) > 2,
        names=names,
        sentence=comparison_sentence(runs),
        outcomes=[(name, f"{run.data.first[:10]} .. {run.data.last[:10]}", run.sentence) for name, run in pairs],
        curves=_curves(runs, names, unequal),
        metrics=_metrics_table(runs, names, unequal),
        shares=_class_shares(pairs),
        without_signals=[name for name, run in pairs if run.info.diversity is None],
        verdicts=[_verdict_row(name, run) for name, run in pairs],
        funnels=[(name, funnel_stages(run.funnel)) for name, run in pairs if len(runs) <= MOST_COLUMNS],
        counts=[[name, *_funnel_cells(run.funnel)] for name, run in pairs],
        reliability=_reliability(pairs),
        scores=[_score_row(name, scores) for name, run in pairs if (scores := run.label_scores) is not None],
        differing_columns=differing_columns,
        differing=differing,
    )


def comparison_table(runs: Sequence[RunRecord], *, held: bool = False) -> list[list[str]]:
    """Return rows of text: the names, then one row per metric; ``*`` marks the best; ``held`` adds buy and hold, last."""
    rows = [["", *labels(runs), *(["buy and hold"] * held)]]
    for row in _metric_rows(runs, ranked=not inequalities(runs)):
        cells = [f"{cell} *" if i == row.best else str(cell) for i, cell in enumerate(row.cells)]
        rows.append([row.head, *cells, *([row.held] * held)])
    return rows


def check_common_bars(runs: Sequence[RunRecord]) -> None:
    """Refuse runs if two of them have no bar in common.

    Raises
    ------
    RangeError
        Naming the two runs, their files and ranges.
    """
    spans = [(run.equity.index[0], run.equity.index[-1], run) for run in runs]
    for i, (first, last, run) in enumerate(spans):
        for other_first, other_last, other in spans[i + 1 :]:
            apart = last < other_first or other_last < first
            if apart or not run.equity.index.isin(other.equity.index).any():
                ranges = " and ".join(f"{_place(each)} ({each.data.first} .. {each.data.last})" for each in (run, other))
                raise RangeError(
                    f"compare: the runs {_own_name(run)} and {_own_name(other)} have no bar in common: {ranges}. "
                    "Compare runs over the same range."
                )


def _own_name(run: RunRecord) -> str:
    return run.label if run.folder is None else run.folder.name


def _place(run: RunRecord) -> str:
    return run.data.source if run.folder is None else str(run.folder / "equity.parquet")


def inequalities(runs: Sequence[RunRecord]) -> list[str]:
    """Return why the runs are unequal tests: range, bars, costs, sizing or bars already seen; empty if they can be ranked."""
    found = []
    ranges = {(run.data.first, run.data.last) for run in runs}
    if len(ranges) > 1:
        found.append("the ranges differ (" + ", ".join(f"{first} .. {last}" for first, last in sorted(ranges)) + ")")
    if len({run.data.digest for run in runs}) > 1:
        sources = sorted({run.data.source for run in runs})
        found.append(f"the bars differ ({', '.join(sources)})")
    for field, default in COST_FIELDS.items():
        values = {setting_text(run.settings.get(field, default)) for run in runs}
        if len(values) > 1:
            found.append(f"{field} differs ({', '.join(sorted(values))})")
    sizings = {_sizing(run.settings) for run in runs}
    if len(sizings) > 1:
        found.append(f"orders were sized by different rules ({', '.join(sorted(sizings))})")
    seen = [name for name, run in zip(labels(runs), runs, strict=True) if run.settings.allow_overlap]
    if seen:
        found.append(f"bars that the checkpoint or the strategy may have been trained on were allowed in {', '.join(seen)}")
    return found


def _sizing(config: RunSettings) -> str:
    """Return how a run's orders got their sizes; older records without the field left a reserve at the close."""
    return str(config.get("sizing") or f"at close, with a reserve of {setting_text(config.get('reserve_bps'))} bps")


def differences(runs: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Return the config fields and digests that differ between runs, as text for each run.

    An option that a record holds only where it was changed has its default in the others.
    """
    fields = sorted({field for run in runs for field in run.settings})
    unchanged = {each.name: each.default for each in option_table(RunRequest) if each.option.recorded == "changed"}
    columns = {field: [setting_text(run.settings.get(field, unchanged.get(field))) for run in runs] for field in fields}
    columns["checkpoint digest"] = [NULL if run.checkpoint is None else run.checkpoint.digest[:16] for run in runs]
    columns["text until"] = [setting_text(None if run.checkpoint is None else run.checkpoint.text_until) for run in runs]
    columns["data digest"] = [run.data.digest[:16] for run in runs]
    return {field: values for field, values in columns.items() if len(set(values)) > 1}


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """Return a unique, short name for each run: the given one, with its id where two are the same."""
    given = [(run.info.name or _short(run))[:LONGEST_LABEL] for run in runs]
    return [f"{name} ({run.info.id})" if given.count(name) > 1 else name for name, run in zip(given, runs, strict=True)]


def _short(run: RunRecord) -> str:
    return f"{run.settings.title}{'' if run.checkpoint is None else f' {run.checkpoint.name}'}"


def comparison_sentence(runs: Sequence[RunRecord]) -> str:
    """Return the result of a comparison in a sentence."""
    if len(runs) == 1:
        return f"One run, and nothing to compare it with. {runs[0].sentence}"
    if inequalities(runs):
        return f"{len(runs)} runs side by side; they are not the same test, so none is called the best."
    sharpe = [of_trader(run, "sharpe_daily") for run in runs]
    found = best(sharpe, 1)
    if found is None:
        return f"{len(runs)} runs over the same bars and costs; their daily Sharpe ratios cannot be ranked."
    held = ratio(runs[0].benchmark_metrics.sharpe_daily)
    known = runs[found].significance
    luck = f" {with_stamp(known.verdict, runs[found].settings).sentence}" if known else ""
    name, highest = labels(runs)[found], ratio(sharpe[found])
    return f"{name} has the highest daily Sharpe ratio, {highest} (buy and hold {held}), on equal terms.{luck}"


def _curves(runs: Sequence[RunRecord], names: Sequence[str], unequal: Sequence[str]) -> str:
    """Draw growth of 1, which is independent of the cash, with one benchmark where all runs share their bars."""
    if max(len(run.equity) for run in runs) < 2:
        return ""
    growth = [
        _line(i, name, run, run.equity["equity"] / run.cash) for i, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    falls = [_line(i, name, run, pd.Series(drawdowns(run))) for i, (name, run) in enumerate(zip(names, runs, strict=True))]
    if unequal:
        note = "Growth of 1. Buy and hold is left out: it is not the same for these runs."
    else:
        held = runs[0].benchmark.equity["equity"] / runs[0].cash
        growth.append(Line("Buy and hold", times(runs[0].equity), held.to_numpy(), "benchmark", "dashed"))
        note = "Growth of 1, with buy and hold of the same bars."
    panels = [Panel(growth, "Growth of 1", height=320), Panel(falls, "Drawdown", "percent", 200, filled=len(runs) == 1)]
    description = f"Growth of 1 and drawdown over time of {len(runs)} runs; the metrics below have the numbers"
    return line_chart(panels, "equity", description=description, caption=f"{note} {ZOOM}")


def _line(number: int, name: str, run: RunRecord, values: pd.Series[float]) -> Line:
    return Line(name, times(run.equity), values.to_numpy(dtype=np.float64), *_style(number))


def _style(number: int) -> tuple[str, str]:
    return f"run{number % RUN_COLOURS}", DASHES[number // RUN_COLOURS % len(DASHES)]


class MetricCell(NamedTuple):
    """A metric of a run as text, whether it is the best, and the difference to the first run."""

    text: str
    is_best: bool = False
    difference: str = ""


class MetricsTable(NamedTuple):
    """The table of metrics: one row per metric, or per run where there are many."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[MetricCell]]]
    sortable: bool = False


def _metrics_table(runs: Sequence[RunRecord], names: Sequence[str], unequal: Sequence[str]) -> MetricsTable:
    rows = _metric_rows(runs, ranked=not unequal)
    caption = (
        "Not ranked: the runs are not the same test"
        if unequal
        else "A star marks the best run, among those that traded and did not lose everything"
    )
    caption = f"{caption}. In grey: the difference to {names[0]}" if len(runs) > 1 else "The run and buy and hold"
    shown = [
        (row.head, [MetricCell(cell, i == row.best, row.differences[i]) for i, cell in enumerate(row.cells)]) for row in rows
    ]
    if len(runs) > MOST_COLUMNS:
        across = [(name, [cells[i] for _, cells in shown]) for i, name in enumerate(names)]
        return MetricsTable(caption, ["", *(head for head, _ in shown)], across, sortable=not unequal)
    if unequal:
        return MetricsTable(caption, ["", *names], shown)
    # All runs share one buy and hold.
    with_benchmark = [(row.head, [*cells, MetricCell(row.held)]) for row, (_, cells) in zip(rows, shown, strict=True)]
    return MetricsTable(caption, ["", *names, "Buy and hold"], with_benchmark)


class MetricRow(NamedTuple):
    """A metric of every run as text, the best run's position, differences to the first run, and buy and hold of the first."""

    head: str
    cells: list[str]
    best: int | None
    differences: list[str]
    held: str = NULL


def _metric_rows(runs: Sequence[RunRecord], *, ranked: bool) -> list[MetricRow]:
    rows = []
    held = runs[0].benchmark_metrics
    for metric in declarations(run.metrics for run in runs):
        if metric.section is None:
            continue
        values = [measured(run, metric.name) for run in runs]
        found = best([of_trader(run, metric.name) for run in runs], metric.better) if ranked and metric.better else None
        cells, changes = [metric.text(value) for value in values], _differences(values, metric.text)
        rows.append(MetricRow(metric.label, cells, found, changes, metric.text(held.get(metric.name))))
        if metric.name == "sharpe_daily":
            rows += _luck_rows(runs, ranked=ranked)
    return rows


def _luck_rows(runs: Sequence[RunRecord], *, ranked: bool) -> list[MetricRow]:
    deflated = [of_trader(run, "deflated_sharpe") for run in runs]
    cells = [NULL if value is None else share(value) for value in deflated]
    tried = [trials_then_now(run.significance) for run in runs]
    blank = [""] * len(runs)
    return [
        MetricRow("Sharpe ratio, 90 % interval", [_interval(run) for run in runs], None, blank),
        MetricRow("Deflated Sharpe ratio", cells, best(deflated, 1) if ranked else None, blank),
        MetricRow("Tried on these bars, then / now", tried, None, blank),
    ]


def _differences(values: Sequence[float | None], write: Callable[[float], str]) -> list[str]:
    first, result = values[0], [""]
    for value in values[1:]:
        if value is None or first is None:
            result.append("")
        else:
            text = write(value - first)
            result.append(text if text.startswith(("-", "+")) else f"+{text}")
    return result


def _interval(run: RunRecord) -> str:
    known = run.significance
    if known is None or known.sharpe_interval.low is None:
        return NULL
    return f"{ratio(known.sharpe_interval.low)} .. {ratio(known.sharpe_interval.high)}"


def _class_shares(pairs: Sequence[tuple[str, RunRecord]]) -> list[tuple[str, Mapping[str, float] | None]]:
    """Return the shares of each run's final signals, below those of the training labels where all runs share them."""
    known = [(name, run.info.diversity.final) for name, run in pairs if run.info.diversity is not None]
    label_shares = [each.label_shares for _, each in known if each.label_shares is not None]
    rows = [(name, each.shares) for name, each in known]
    if label_shares and all(shares == label_shares[0] for shares in label_shares):
        rows.insert(0, ("Training labels", label_shares[0]))
    return rows


def _verdict_row(name: str, run: RunRecord) -> list[str]:
    given = (run.verdicts.signal, run.verdicts.model, run.verdicts.calibrated)
    return [name, *(NULL if each is None else each.verdict for each in given)]


def _funnel_cells(funnel: Funnel) -> list[str]:
    not_hold = [None if counts is None else counts["SELL"] + counts["BUY"] for counts in (funnel.raw, funnel.signal)]
    counts = [funnel.bars, funnel.scored, *not_hold, funnel.ordered, sum(funnel.rejected.values()), funnel.filled]
    return [whole(count) for count in counts]


def _reliability(pairs: Sequence[tuple[str, RunRecord]]) -> str:
    """Draw a reliability curve for each run with probabilities and labels; return nothing where there is none."""
    lines = [
        reliability_line(name, scores.calibrated.reliability, *_style(i))
        for i, (name, run) in enumerate(pairs)
        if (scores := run.label_scores) is not None
    ]
    if not lines:
        return ""
    return reliability_curves(
        lines,
        "reliability",
        caption="Of the most probable class, after calibration.",
        description="How often the most probable class occurred, by its probability, for each run",
    )


def _score_row(name: str, scores: LabelScores) -> list[str]:
    before, after = scores.raw.ece, scores.calibrated.ece
    return [name, percent(before), percent(after), percent(scores.accuracy), ratio(scores.mcc)]


def _differences_table(runs: Sequence[RunRecord], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the settings that differ; the runs are the rows where there are many."""
    found = differences(runs)
    heads = [field.replace("_", " ") for field in found]
    if len(runs) > MOST_COLUMNS:
        rows = [[name, *(values[i] for values in found.values())] for i, name in enumerate(names) if found]
        return ["Run", *heads], rows
    return ["Setting", *names], [[head, *values] for head, values in zip(heads, found.values(), strict=True)]
