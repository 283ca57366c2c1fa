"""The page of a sweep: the winner and its luck, heat maps, the shares of signals, the best settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from markupsafe import Markup

from ..arrays import FloatArray, JsonObject, JsonValue
from ..data.reading import reading_text
from ..reports.heat_map import GridAxis, heat_map
from ..reports.interactive_charts import Line, Panel, line_chart
from ..reports.page import Card, render, setting_text
from ..results.caveats import UNSTATED_STAMP, stamps
from ..results.metrics import RANKED_BY, sweep_metrics
from ..results.number_text import NULL, percent, ratio, whole
from ..results.significance.backtest_overfitting import Overfitting
from .axes import axis_title
from .parallel_coordinates import parallel_chart
from .runner import SweepOutcome
from .sentences import deflated_sentence, holdout_sentence, mcc_sentence, overfitting_sentence, setting_label, sweep_sentences
from .summary import MEASURES, Summary
from .sweep_record import HoldoutResult, SweepRecord, SweptModel, TableRow, WinnerDeflated, number_in

MOST_MAPS = 4
_NOT_AXES = ("models", "strategy", "code", "seed", "params", "combinations")
_MAPPED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("sharpe_daily", "Mean daily Sharpe ratio", ratio),
    ("mcc", "MCC of signals against labels", lambda value: ratio(value, 3)),
    ("share_sell", "Share of SELL signals", percent),
    ("share_buy", "Share of BUY signals", percent),
)
_SIGNALS: dict[str, Callable[[float | None], str]] = {
    "mcc": lambda value: ratio(value, 3),
    "share_sell": percent,
    "share_hold": percent,
    "share_buy": percent,
}


def _columns() -> dict[str, Callable[[float | None], str]]:
    """Return the columns of results, and how each is written."""
    swept = {metric.name: metric.text for metric in sweep_metrics() if metric.sweep == "page" and metric.name != RANKED_BY}
    # One digit of the turnover: the table is wide.
    return {"sharpe_all": ratio, **swept, "turnover": lambda value: ratio(value, 1), **_SIGNALS}


def render_sweep(record: SweepRecord, result: SweepOutcome) -> str:
    """Return the page as one offline file, whose size does not grow with the number of settings."""
    summary, varied = result.summary, record.varied
    size, lead, *_ = sweep_sentences(record)
    maps = list(summary.means.items()) if summary.layout is not None else []
    names = [*([] if record.strategy is None else [record.strategy]), *(model.name for model in record.models)]
    banners = stamps(synthetic=record.data.synthetic, overlap=record.allow_overlap)
    return render(
        "sweep",
        title=f"Sweep of {', '.join(names)}",
        banners=banners + [UNSTATED_STAMP] * record.is_unstated + record.text_stamps,
        wide=True,
        lead=lead,
        size=size,
        cards=_cards(record),
        winner=_winner(record, result),
        maps=_maps(summary),
        maps_left_out=max(0, len(maps) - MOST_MAPS),
        shares=_shares(summary),
        named_columns=["calibration", "ckpt", "decision", "range", *map(_head, _SIGNALS)],
        named=[_named_row(row) for row in summary.named],
        settings=record.settings,
        several_ranges=len(record.ranges) > 1,
        best_columns=["setting", *map(_head, (*varied, *_columns()))],
        best=_best_rows([group[0] for group in summary.best], varied),
        sample=_sample(summary, record),
        swept=_swept(record),
    )


def _cards(record: SweepRecord) -> list[Card]:
    return [
        *([] if record.winner is None else [_deflated_card(record.winner.deflated_sharpe)]),
        _overfitting_card(record.overfitting),
        *([] if record.winner is None else [_holdout_card(record.winner.holdout)]),
        *([] if record.best_mcc is None else [_mcc_card(record.best_mcc, record.varied)]),
        _checked_card(record),
    ]


def _deflated_card(deflated: WinnerDeflated) -> Card:
    value = deflated.value
    kind = "fair" if value is None else "good" if value >= 0.95 else "bad"
    return Card("Deflated Sharpe ratio", ratio(value, 3), deflated_sentence(deflated), kind)


def _overfitting_card(overfitting: Overfitting | None) -> Card:
    shown, kind = "unknown", "fair"
    if overfitting is not None:
        shown = ratio(overfitting.probability)
        kind = "good" if overfitting.probability < 0.1 else "fair" if overfitting.probability < 0.4 else "bad"
    return Card("Probability of backtest overfitting", shown, overfitting_sentence(overfitting), kind)


def _holdout_card(holdout: HoldoutResult) -> Card:
    sharpe, gain = holdout.strategy["sharpe_daily"], holdout.strategy["total_return"]
    kind = "good" if (sharpe or 0) > 0 and (gain or 0) > 0 else "bad"
    return Card("The winner on the hold-out", f"Sharpe {ratio(sharpe)}", holdout_sentence(holdout), kind)


def _mcc_card(best: TableRow, varied: Sequence[str]) -> Card:
    return Card("Best MCC of all settings", ratio(number_in(best, "mcc"), 3), mcc_sentence(best, varied), "fair")


def _checked_card(record: SweepRecord) -> Card:
    if not record.fast_replay:
        return Card("Run in Backtrader", f"{record.settings:,} settings", "There is no fast replay of it.", "good")
    checked = record.checked
    compared = f"{checked.orders:,} orders and {checked.bars:,} bars were compared with the fast replay. None differs."
    return Card("Checked in Backtrader", f"{checked.settings:,} settings", compared, "good")


@dataclass(frozen=True, kw_only=True)
class WinnerSection:
    """The winner: its settings as a sentence, its chart, its numbers, and the command that repeats it."""

    label: str
    chart: Markup
    columns: list[str]
    rows: list[list[str]]
    command: str


def _winner(record: SweepRecord, result: SweepOutcome) -> WinnerSection | None:
    winner = record.winner
    if winner is None or result.winner is None:
        return None
    lines = []
    for place, (name, strategy, benchmark) in enumerate(result.winner.curves):
        is_last = place == len(result.winner.curves) - 1
        what = f"hold-out {name}" if is_last else f"ranked {name}"
        for curve, returns, colour in (("the winner", strategy, "strategy"), ("buy and hold", benchmark, "benchmark")):
            growth = np.cumprod(1 + returns.to_numpy(dtype=np.float64))
            lines.append(
                Line(
                    f"{curve}, {what}",
                    returns.index.to_numpy(dtype="datetime64[ns]"),
                    growth,
                    colour,
                    "dashed" if is_last else "solid",
                )
            )
    chart = line_chart(
        [Panel(lines, title="Growth of 1 in each range")],
        "winner",
        description="Growth of the winner and of buy and hold, on the ranked ranges and on the hold-out",
    )
    holdout = winner.holdout
    rows = []
    for name, write in _columns().items():
        if name in holdout.strategy or name == "sharpe_all":
            key = RANKED_BY if name == "sharpe_all" else name
            for suffix, ranked, after in (
                ("", winner.rows, holdout.strategy),
                (", buy and hold", winner.buy_and_hold, holdout.buy_and_hold),
            ):
                rows.append([f"{_head(key)}{suffix}", *(write(number_in(each, key)) for each in ranked), write(after[key])])
    label = setting_label(winner.rows[0], record.varied)
    return WinnerSection(
        label=label if "_" in label.partition(" ")[0] else label.capitalize(),  # a parameter keeps its name
        chart=chart,
        columns=["", *(f"ranked {row['timerange']}" for row in winner.rows), f"hold-out {holdout.timerange}"],
        rows=rows,
        command=winner.run,
    )


def _maps(summary: Summary) -> list[tuple[str, list[Markup]]]:
    """Return the heading and the heat maps of each range, checkpoint and decision."""
    layout = summary.layout
    if layout is None:
        return []
    across = GridAxis(layout.across.title, layout.across.labels)
    down = GridAxis(layout.down.title, layout.down.labels)
    parts = []
    for number, ((timerange, ckpt, decision), values) in enumerate(list(summary.means.items())[:MOST_MAPS]):
        maps = [
            heat_map(
                values[MEASURES.index(name)],
                across,
                down,
                f"map-{number}-{name}",
                description=f"{title}, by {down.title} and {across.title}",
                caption=title,
                write=write,
            )
            for name, title, write in _MAPPED
            if decision is not None or np.isfinite(values[MEASURES.index(name)]).any()  # without a model, some are unknown
        ]
        model = "" if decision is None else f"{ckpt}, decision {decision}, "
        parts.append((f"{model}{timerange}", maps))
    return parts


def _shares(summary: Summary) -> str:
    layout = summary.layout
    if layout is None or not layout.columns[0].startswith("offset"):
        return ""
    down, across = (np.asarray(side.centres, dtype=np.float64) for side in (layout.down, layout.across))
    difference: FloatArray = np.round(down[:, None] - across[None, :], 9)
    x: FloatArray = np.unique(difference)
    panels = []
    for key, values in list(summary.means.items())[:MOST_MAPS]:
        lines = [
            Line(f"share of {name}", x, _by(difference, values[MEASURES.index(f"share_{name.lower()}")], x), name.lower())
            for name in ("SELL", "HOLD", "BUY")
        ]
        panels.append(Panel(lines, title=f"{key[1]}, decision {key[2]}, {key[0]}", unit="percent", height=220))
    if not panels:
        return ""
    return line_chart(
        panels,
        "shares",
        x_title="offset of SELL less offset of BUY",
        description="Shares of SELL, HOLD and BUY signals by the difference of their offsets",
        caption="Means over all settings with that difference. Where a share nears 100 %, the offset decides, not the model.",
    )


def _by(difference: FloatArray, values: FloatArray, x: FloatArray) -> FloatArray:
    found = [values[(difference == each) & np.isfinite(values)] for each in x]
    return np.array([each.mean() if len(each) else np.nan for each in found])


def _named_row(row: TableRow) -> list[str]:
    named = [str(row[name]) for name in ("calibration", "ckpt", "decision", "timerange")]
    return named + [write(number_in(row, name)) for name, write in _SIGNALS.items()]


def _best_rows(rows: Sequence[TableRow], varied: Sequence[str]) -> list[list[str]]:
    shown = []
    for row in rows:
        results = [write(number_in(row, name)) for name, write in _columns().items()]
        shown.append([whole(number_in(row, "setting")), *(setting_text(row[name]) for name in varied), *results])
    return shown


def _sample(summary: Summary, record: SweepRecord) -> str:
    varied = record.varied
    if len(varied) < 2 or len(summary.sampled) < 2:
        return ""
    best = [group[0] for group in summary.best[:1]]
    by_offsets = summary.layout is not None and summary.layout.columns[0].startswith("offset")
    settings = [
        each for name in varied for each in (("offset_sell", "offset_buy") if name == "calibration" and by_offsets else (name,))
    ]
    names = [*settings, "trades", *(["mcc"] if record.models else []), "sharpe_all"]
    caption = (
        f"{len(summary.sampled):,} of {record.settings:,} settings, drawn at random. Each line is one setting, with its "
        "values on the left and its results on the right. Blue: the better half of those that traded. Bold: the winner."
    )
    return parallel_chart(summary.sampled, best, names, [_head(name) for name in names], caption=caption)


def _swept(record: SweepRecord) -> list[list[str]]:
    return [
        *_strategy(record.grid),
        *_models(record.models),
        *([name.replace("_", " "), _values(values)] for name, values in record.grid.items() if name not in _NOT_AXES),
        ["bars", f"{record.data.source}{reading_text(record.data.reading)}, digest {record.data.digest[:12]}"],
        ["ranked on", ", ".join(record.ranges)],
        ["hold-out", record.holdout],
        *([["left out", record.refusal]] if record.refusal else []),
        *([["estimated time", record.estimate.sentence]] if record.estimate else []),
    ]


def _strategy(grid: Mapping[str, JsonValue]) -> list[list[str]]:
    """Return the rows of a strategy other than flagtrader."""
    if "strategy" not in grid:
        return []
    code, seed = str(grid.get("code", ""))[:12], str(grid.get("seed", ""))
    texts = {"strategy": str(grid["strategy"]), "digest of its file": code, "seed": seed}
    return [
        *([name, text] for name, text in texts.items() if text),
        *([f"parameter {name}", _values(values)] for name, values in cast("JsonObject", grid["params"]).items()),
    ]


def _models(models: Sequence[SweptModel]) -> list[list[str]]:
    if not models:
        return []
    points = models[0].calibrations
    return [
        ["checkpoints", ", ".join(f"{model.name} {model.digest[:12]}" for model in models)],
        ["calibrations by name", _values(points.texts) if points.texts else NULL],
        ["offsets of SELL and of BUY", _values(points.offsets) if points.offsets else NULL],
    ]


def _values(values: JsonValue) -> str:
    each = cast("Sequence[JsonValue]", values)
    shown = [setting_text(value) for value in each[:12]]
    return ", ".join(shown) + (f", ... ({len(each):,} in all)" if len(each) > len(shown) else "")


def _head(name: str) -> str:
    return {"sharpe_all": "sharpe", "sharpe_daily": "Sharpe ratio, daily", "mcc": "MCC"}.get(name, axis_title(name))
