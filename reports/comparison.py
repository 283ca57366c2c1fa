"""Comparison of stored runs: curves in one chart, metrics side by side, and the differences between the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..engine.run_settings import RunSettings
from ..errors import RangeError
from ..results.caveats import banners, with_stamp
from ..results.metric_set import declarations
from ..results.number_text import NULL, percent, ratio, whole
from ..results.ranking import best, measured, of_trader
from ..results.run_record import RunRecord
from ..results.run_view import drawdowns
from ..results.significance.measure import share
from .interactive_charts import Line, Panel, chart_document, line_chart
from .page import Html, Row, escape, paragraph, section, setting_text, table
from .sections.calibration import reliability_curves, reliability_line
from .sections.curves import ZOOM, times
from .sections.diversity import class_bars, funnel_bars
from .sections.significance import trials_then_now

# Config fields that must be equal before one run may be called better than another.
COST_FIELDS = ("fee_bps", "slippage_bps", "borrow_bps_per_day", "lot_size", "cash")
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
    count = "one run" if len(runs) == 1 else f"{len(runs)} runs"
    body = "".join(
        (
            f"<header>\n<h1>Comparison of {count}</h1>\n",
            paragraph(_sentence(runs, names, unequal), "lead"),
            "</header>\n",
            _runs_table(runs, names),
            section("Equity and drawdown", _curves(runs, names, unequal)),
            section("Metrics", _metrics_table(runs, names, unequal)),
            section("Signals", _signals(runs, names)),
            section("From bars to fills", _funnels(runs, names)),
            section("Calibration", _calibration(runs, names)),
            section("What differs", _differences_table(runs, names)),
        )
    )
    return chart_document("Comparison – flagbt", body, banners=warnings, wide=len(runs) > 2)


def comparison_table(runs: Sequence[RunRecord]) -> list[list[str]]:
    """Return rows of text for a terminal: the names, then one row per metric; ``*`` marks the best."""
    rows = [["", *labels(runs)]]
    for row in _metric_rows(runs, ranked=not inequalities(runs)):
        rows.append([row.head, *(f"{cell} *" if i == row.best else str(cell) for i, cell in enumerate(row.cells))])
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
    return run.label if run.folder is None else str(run.folder / "equity.parquet")


def inequalities(runs: Sequence[RunRecord]) -> list[str]:
    """Return why the runs are unequal tests: range, bars, costs, sizing or bars already seen; empty if they can be ranked."""
    found = []
    ranges = {(run.data.first, run.data.last) for run in runs}
    if len(ranges) > 1:
        found.append("the ranges differ (" + ", ".join(f"{first} .. {last}" for first, last in sorted(ranges)) + ")")
    if len({run.data.digest for run in runs}) > 1:
        sources = sorted({run.data.source for run in runs})
        found.append(f"the bars differ ({', '.join(sources)})")
    for field in COST_FIELDS:
        values = {setting_text(run.settings.get(field)) for run in runs}
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
    """Return the config fields and digests that differ between runs, as text for each run."""
    fields = sorted({field for run in runs for field in run.settings})
    columns = {field: [setting_text(run.settings.get(field)) for run in runs] for field in fields}
    columns["checkpoint digest"] = [NULL if run.checkpoint is None else run.checkpoint.digest[:16] for run in runs]
    columns["data digest"] = [run.data.digest[:16] for run in runs]
    return {field: values for field, values in columns.items() if len(set(values)) > 1}


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """Return a unique, short name for each run: the given one, with its id where two are the same."""
    given = [(run.info.name or _short(run))[:LONGEST_LABEL] for run in runs]
    return [f"{name} ({run.info.id})" if given.count(name) > 1 else name for name, run in zip(given, runs, strict=True)]


def _short(run: RunRecord) -> str:
    return f"{run.settings.strategy_name}{'' if run.checkpoint is None else f' {run.checkpoint.name}'}"


def _sentence(runs: Sequence[RunRecord], names: Sequence[str], unequal: Sequence[str]) -> str:
    if len(runs) == 1:
        return f"One run, and nothing to compare it with. {runs[0].sentence}"
    if unequal:
        return f"{len(runs)} runs side by side; they are not the same test, so none is called the best."
    sharpe = [of_trader(run, "sharpe_daily") for run in runs]
    found = best(sharpe, 1)
    if found is None:
        return f"{len(runs)} runs over the same bars and costs; their daily Sharpe ratios cannot be ranked."
    held = ratio(runs[0].benchmark_metrics.sharpe_daily)
    known = runs[found].significance
    luck = f" {with_stamp(known.verdict, runs[found].settings).sentence}" if known else ""
    return (
        f"{names[found]} has the highest daily Sharpe ratio, {ratio(sharpe[found])} (buy and hold {held}), on equal terms."
        f"{luck}"
    )


def _runs_table(runs: Sequence[RunRecord], names: Sequence[str]) -> Html:
    rows = [
        [name, f"{run.data.first[:10]} .. {run.data.last[:10]}", run.sentence] for name, run in zip(names, runs, strict=True)
    ]
    return table("The runs", ["Run", "Range", "Outcome"], rows, words=True)


def _curves(runs: Sequence[RunRecord], names: Sequence[str], unequal: Sequence[str]) -> Html:
    """Draw growth of 1, which is independent of the cash, with one benchmark where all runs share their bars."""
    if max(len(run.equity) for run in runs) < 2:
        return paragraph("One bar makes no chart.")
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


def _metrics_table(runs: Sequence[RunRecord], names: Sequence[str], unequal: Sequence[str]) -> Html:
    rows = _metric_rows(runs, ranked=not unequal)
    caption = (
        "Not ranked: the runs are not the same test"
        if unequal
        else "A star marks the best run, among those that traded and did not lose everything"
    )
    caption = f"{caption}. In grey: the difference to {names[0]}" if len(runs) > 1 else "The run and buy and hold"
    shown = [[_starred(cell, i == row.best, row.differences[i]) for i, cell in enumerate(row.cells)] for row in rows]
    if len(runs) > MOST_COLUMNS:
        across = [Row(name, [cells[i] for cells in shown]) for i, name in enumerate(names)]
        return table(caption, ["", *(row.head for row in rows)], across, sortable=not unequal)
    columns = ["", *names]
    if not unequal:  # then all runs share one buy and hold
        columns.append("Buy and hold")
        for row, cells in zip(rows, shown, strict=True):
            cells.append(Html(escape(row.held)))
    return table(caption, columns, [Row(row.head, cells) for row, cells in zip(rows, shown, strict=True)])


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


def _starred(cell: str, is_best: bool, difference: str) -> Html:
    shown = f'<span class="best">{escape(cell)}</span>' if is_best else escape(cell)
    return Html(shown + (f" <small>{escape(difference)}</small>" if difference else ""))


def _signals(runs: Sequence[RunRecord], names: Sequence[str]) -> Html:
    described = [(name, run.manifest["diversity"]) for name, run in zip(names, runs, strict=True)]
    known = [(name, each["final"]) for name, each in described if each is not None]
    if not known:
        return paragraph("None of these runs has signals.")
    label_shares = [each["label_shares"] for _, each in known if each["label_shares"] is not None]
    rows = [(name, each["shares"]) for name, each in known]
    if label_shares and all(shares == label_shares[0] for shares in label_shares):
        rows.insert(0, ("Training labels", label_shares[0]))
    missing = [name for name, each in described if each is None]
    note = f"Without signals: {', '.join(missing)}." if missing else ""
    columns = ["Run", "Signals", "Model, before calibration", "Model, after calibration"]
    verdicts = table("Verdicts", columns, [_verdict_row(name, run) for name, run in zip(names, runs, strict=True)], words=True)
    return Html(class_bars(rows) + (paragraph(note, "muted") if note else "") + verdicts)


def _verdict_row(name: str, run: RunRecord) -> list[str]:
    verdicts = run.manifest["verdicts"]
    given = [verdicts[each] for each in ("signal", "model", "calibrated")]
    return [name, *(each["verdict"] if each else NULL for each in given)]


def _funnels(runs: Sequence[RunRecord], names: Sequence[str]) -> Html:
    rows = [[name, *_funnel_cells(run.manifest["funnel"])] for name, run in zip(names, runs, strict=True)]
    columns = ["Run", "Bars", "Scored", "Raw, not HOLD", "Final, not HOLD", "Ordered", "Rejected", "Filled"]
    pictures = ""
    if len(runs) <= MOST_COLUMNS:
        drawn = "".join(
            f"<div><h3>{escape(name)}</h3>\n{funnel_bars(run.manifest['funnel'])}</div>"
            for name, run in zip(names, runs, strict=True)
        )
        pictures = f'<div class="columns">{drawn}</div>\n'
    return Html(pictures + table("Where every bar's signal went", columns, rows))


def _funnel_cells(funnel: Mapping[str, Any]) -> list[str]:
    not_hold = [None if funnel[name] is None else funnel[name]["SELL"] + funnel[name]["BUY"] for name in ("raw", "signal")]
    counts = [
        funnel["bars"],
        funnel["scored"],
        *not_hold,
        funnel["ordered"],
        sum(funnel["rejected"].values()),
        funnel["filled"],
    ]
    return [whole(count) for count in counts]


def _calibration(runs: Sequence[RunRecord], names: Sequence[str]) -> Html:
    scored = [(i, name, run.raw_metrics["labels"]) for i, (name, run) in enumerate(zip(names, runs, strict=True))]
    known = [(i, name, scores) for i, name, scores in scored if scores is not None]
    if not known:
        return paragraph("None of these runs has probabilities with labels to score them against.")
    lines = [reliability_line(name, scores["calibrated"]["reliability"], *_style(i)) for i, name, scores in known]
    rows = [
        [
            name,
            percent(scores["raw"]["ece"]),
            percent(scores["calibrated"]["ece"]),
            percent(scores["accuracy"]),
            ratio(scores["mcc"]),
        ]
        for _, name, scores in known
    ]
    columns = ["Run", "ECE before calibration", "ECE after", "Accuracy", "Matthews correlation"]
    return Html(
        reliability_curves(
            lines,
            "reliability",
            caption="Of the most probable class, after calibration.",
            description="How often the most probable class occurred, by its probability, for each run",
        )
        + table("Probabilities against labels", columns, rows)
    )


def _differences_table(runs: Sequence[RunRecord], names: Sequence[str]) -> Html:
    found = differences(runs)
    if len(runs) == 1:
        return paragraph("There is only one run, so there are no differences.")
    if not found:
        return paragraph("Nothing: the runs have the same settings, bars and checkpoint.")
    heads = [field.replace("_", " ") for field in found]
    if len(runs) > MOST_COLUMNS:
        rows = [[name, *(values[i] for values in found.values())] for i, name in enumerate(names)]
        return table("Only the settings that differ", ["Run", *heads], rows, words=True)
    rows = [[head, *values] for head, values in zip(heads, found.values(), strict=True)]
    return table("Only the settings that differ", ["Setting", *names], rows, words=True)
