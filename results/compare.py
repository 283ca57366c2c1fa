"""Comparison of stored runs: curves over one another, metrics side by side, and what was unequal about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..errors import UsageError
from .charts import Line, drawdown_chart, equity_chart
from .page import NULL, Html, Row, document, paragraph, ratio, section, setting_text, stamps, table
from .sections.curves import HEADLINES
from .sections.diversity import class_bars
from .stored_run import StoredRun
from .tearsheet import overlaps

# 1: higher is better, -1: lower is better; what is in neither is neither good nor bad.
BETTER = {
    "total_return": 1, "cagr": 1, "sharpe_daily": 1, "sharpe_hourly": 1, "sortino_daily": 1, "volatility_daily": -1,
    "max_drawdown": 1, "max_drawdown_days": -1, "calmar": 1, "win_rate": 1, "profit_factor": 1, "avg_trade_return": 1,
    "fees_paid": -1, "slippage_paid": -1, "final_equity": 1,
}  # fmt: skip
# Config fields that must be equal before one run may be called better than another.
COST_FIELDS = ("fee_bps", "slippage_bps", "borrow_bps_per_day", "reserve_bps", "lot_size", "cash")
RUN_COLOURS = 6
LONGEST_LABEL = 40


def render_comparison(runs: Sequence[StoredRun]) -> str:
    """Render two or more runs as one offline HTML page; equal inputs give equal bytes.

    Parameters
    ----------
    runs : sequence of StoredRun
        In the order in which they are shown.

    Raises
    ------
    UsageError
        For fewer than two runs.
    """
    _check(runs)
    names = labels(runs)
    unequal = inequalities(runs)
    banners = stamps(
        synthetic=any(run.manifest["data"]["synthetic"] for run in runs),
        overlap=any(overlaps(run.manifest["config"]) for run in runs),
    )
    if unequal:
        banners.append(f"NOT COMPARABLE AS THEY STAND, so nothing is ranked: {'; '.join(unequal)}.")
    body = "".join(
        (
            f"<header>\n<h1>Comparison of {len(runs)} runs</h1>\n",
            paragraph(_sentence(runs, names, unequal), "lead"),
            "</header>\n",
            _runs_table(runs, names),
            section("Equity and drawdown", _equity(runs, names, unequal), _drawdowns(runs, names)),
            section("Metrics", _metrics_table(runs, names, unequal)),
            section("Signals", _signals(runs, names)),
            section("What differs", _differences_table(runs, names)),
        )
    )
    return document("Comparison – flagbt", body, banners=banners)


def comparison_table(runs: Sequence[StoredRun]) -> list[list[str]]:
    """Return rows of text for a terminal: the names, then one row a metric; ``*`` marks the best.

    Raises
    ------
    UsageError
        For fewer than two runs.
    """
    _check(runs)
    rows = [["", *labels(runs)]]
    for row in _metric_rows(runs, ranked=not inequalities(runs)):
        rows.append([row.head, *(f"{cell} *" if i == row.best else str(cell) for i, cell in enumerate(row.cells))])
    return rows


def inequalities(runs: Sequence[StoredRun]) -> list[str]:
    """Say what makes the runs unequal tests: range, bars, costs or bars already seen; empty when they can be ranked."""
    found = []
    ranges = {(run.manifest["data"]["first"], run.manifest["data"]["last"]) for run in runs}
    if len(ranges) > 1:
        found.append("the ranges differ (" + ", ".join(f"{first} .. {last}" for first, last in sorted(ranges)) + ")")
    if len({run.manifest["data"]["digest"] for run in runs}) > 1:
        sources = sorted({str(run.manifest["data"]["source"]) for run in runs})
        found.append(f"the bars differ ({', '.join(sources)})")
    for field in COST_FIELDS:
        values = {setting_text(run.manifest["config"].get(field)) for run in runs}
        if len(values) > 1:
            found.append(f"{field} differs ({', '.join(sorted(values))})")
    seen = [name for name, run in zip(labels(runs), runs, strict=True) if overlaps(run.manifest["config"])]
    if seen:
        found.append(f"bars that the checkpoint may have been trained on were allowed in {', '.join(seen)}")
    return found


def differences(runs: Sequence[StoredRun]) -> dict[str, list[str]]:
    """Return the config fields and digests that are not the same in every run, as text for each run."""
    fields = sorted({field for run in runs for field in run.manifest["config"]})
    columns = {field: [setting_text(run.manifest["config"].get(field)) for run in runs] for field in fields}
    columns["checkpoint digest"] = [str((run.manifest["checkpoint"] or {}).get("digest", NULL))[:16] for run in runs]
    columns["data digest"] = [str(run.manifest["data"]["digest"])[:16] for run in runs]
    return {field: values for field, values in columns.items() if len(set(values)) > 1}


def labels(runs: Sequence[StoredRun]) -> list[str]:
    """Return a different, short name for each run: the given one, with its id where two are the same."""
    given = [str(run.manifest["name"] or _short(run))[:LONGEST_LABEL] for run in runs]
    return [f"{name} ({run.manifest['id']})" if given.count(name) > 1 else name for name, run in zip(given, runs, strict=True)]


def _check(runs: Sequence[StoredRun]) -> None:
    if len(runs) < 2:
        raise UsageError(f"compare: expected two runs or more, got {len(runs)}. flagbt runs list shows what there is.")


def _short(run: StoredRun) -> str:
    checkpoint = (run.manifest["checkpoint"] or {}).get("name")
    return f"{run.manifest['config'].get('strategy')}{f' {checkpoint}' if checkpoint else ''}"


def _sentence(runs: Sequence[StoredRun], names: Sequence[str], unequal: Sequence[str]) -> str:
    if unequal:
        return f"{len(runs)} runs side by side; they are not the same test, so none is called the best."
    sharpe = _of_traders(runs, "sharpe_daily")
    best = _best(sharpe, 1)
    if best is None:
        return f"{len(runs)} runs over the same bars and costs; their daily Sharpe ratios cannot be ranked."
    held = ratio(runs[0].metrics["benchmark"]["sharpe_daily"])
    return f"{names[best]} has the highest daily Sharpe ratio, {ratio(sharpe[best])} (buy and hold {held}), on equal terms."


def _runs_table(runs: Sequence[StoredRun], names: Sequence[str]) -> Html:
    rows = [
        [name, f"{run.manifest['data']['first'][:10]} .. {run.manifest['data']['last'][:10]}", run.manifest["sentence"]]
        for name, run in zip(names, runs, strict=True)
    ]
    return table("The runs", ["Run", "Range", "What came of it"], rows, words=True)


def _equity(runs: Sequence[StoredRun], names: Sequence[str], unequal: Sequence[str]) -> Html:
    """Draw growth of 1, so that runs with other cash stay readable; one benchmark where all share their bars."""
    lines = [
        Line(name, run.equity["equity"] / run.manifest["cash"], _colour(number))
        for number, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    if unequal:
        note = "Growth of 1. Buy and hold is left out: it is not the same for these runs."
    else:
        lines.append(Line("Buy and hold", runs[0].equity["benchmark_equity"] / runs[0].manifest["cash"], "benchmark"))
        note = "Growth of 1, with buy and hold of the same bars."
    return Html(equity_chart(lines, "equity", digits=2) + paragraph(note, "muted"))


def _drawdowns(runs: Sequence[StoredRun], names: Sequence[str]) -> Html:
    return drawdown_chart(
        [Line(name, _drawdown(run), _colour(number)) for number, (name, run) in enumerate(zip(names, runs, strict=True))],
        "drawdown",
    )


def _drawdown(run: StoredRun) -> pd.Series[float]:
    equity = run.equity["equity"]
    peak = np.maximum(equity.cummax(), run.manifest["cash"])
    fall: pd.Series[float] = equity / peak - 1
    return fall


def _colour(number: int) -> str:
    return f"run{number % RUN_COLOURS}"


def _metrics_table(runs: Sequence[StoredRun], names: Sequence[str], unequal: Sequence[str]) -> Html:
    columns = ["", *names]
    rows = _metric_rows(runs, ranked=not unequal)
    if not unequal:  # then buy and hold is one and the same
        columns.append("Buy and hold")
        first = runs[0].metrics["benchmark"]
        rows = [
            Row(row.head, [*row.cells, write(first[key])], row.best)
            for row, (key, _, write) in zip(rows, HEADLINES, strict=True)
        ]
    ranked = "A star marks the best run of a row, among those that traded"
    caption = "Not ranked: the runs are not the same test" if unequal else ranked
    return table(caption, columns, rows)


def _metric_rows(runs: Sequence[StoredRun], *, ranked: bool) -> list[Row]:
    rows = []
    for key, label, write in HEADLINES:
        values = [run.metrics["strategy"][key] for run in runs]
        best = _best(_of_traders(runs, key), BETTER[key]) if ranked and key in BETTER else None
        rows.append(Row(label, [write(value) for value in values], best))
    return rows


def _of_traders(runs: Sequence[StoredRun], key: str) -> list[float | None]:
    """Return a metric of each run, None for one that never traded: doing nothing is not a small drawdown."""
    measured = [run.metrics["strategy"] for run in runs]
    return [each[key] if each["trades"] + each["open_trades"] else None for each in measured]


def _best(values: Sequence[float | None], direction: int) -> int | None:
    """Return the position of the only best value; None where fewer than two are defined or the best is shared."""
    defined = [direction * value for value in values if value is not None]
    if len(defined) < 2 or defined.count(max(defined)) > 1:
        return None
    return [None if value is None else direction * value for value in values].index(max(defined))


def _signals(runs: Sequence[StoredRun], names: Sequence[str]) -> Html:
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
    columns = ["Run", "Signals", "Model, before calibration", "After it"]
    verdicts = table("Verdicts", columns, [_verdict_row(name, run) for name, run in zip(names, runs, strict=True)])
    return Html(class_bars(rows) + (paragraph(note, "muted") if note else "") + verdicts)


def _verdict_row(name: str, run: StoredRun) -> list[str]:
    verdicts = run.manifest["verdicts"]
    given = [verdicts[each] for each in ("signal", "model", "calibrated")]
    return [name, *(each["verdict"] if each else NULL for each in given)]


def _differences_table(runs: Sequence[StoredRun], names: Sequence[str]) -> Html:
    found = differences(runs)
    if not found:
        return paragraph("Nothing: the runs have the same settings, bars and checkpoint.")
    rows = [[field.replace("_", " "), *values] for field, values in found.items()]
    return table("Only the settings that differ", ["Setting", *names], rows, words=True)
