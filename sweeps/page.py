"""The page of a sweep: the winner and its luck, heat maps, the shares of signals, the best settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from ..arrays import FloatArray
from ..reports.heat_map import GridAxis, heat_map
from ..reports.interactive_charts import Line, Panel, line_chart
from ..reports.page import Card, render, setting_text
from ..results.caveats import stamps
from ..results.metrics import RANKED_BY, sweep_metrics
from ..results.number_text import percent, ratio
from .parallel_coordinates import parallel_chart
from .runner import SweepOutcome
from .sentences import deflated_sentence, holdout_sentence, mcc_sentence, overfitting_sentence, setting_label, sweep_sentences
from .summary import MEASURES, Summary

MOST_MAPS = 4
_MAPPED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("sharpe_daily", "Mean daily Sharpe ratio", ratio),
    ("mcc", "MCC of signals against labels", lambda value: ratio(value, 3)),
    ("share_sell", "Share of SELL signals", percent),
    ("share_buy", "Share of BUY signals", percent),
)
_SIGNALS: dict[str, Callable[[Any], str]] = {
    "mcc": lambda value: ratio(value, 3),
    "share_sell": percent,
    "share_hold": percent,
    "share_buy": percent,
}


def _columns() -> dict[str, Callable[[Any], str]]:
    """Return the columns of results, and how each is written."""
    swept = {metric.name: metric.text for metric in sweep_metrics() if metric.sweep == "page" and metric.name != RANKED_BY}
    # One digit of the turnover: the table is wide.
    return {"sharpe_all": ratio, **swept, "turnover": lambda value: ratio(value, 1), **_SIGNALS}


def render_sweep(manifest: Mapping[str, Any], result: SweepOutcome) -> str:
    """Return the page as one offline file, whose size does not grow with the number of settings."""
    summary, varied = result.summary, list(manifest["varied"])
    size, lead, *_ = sweep_sentences(manifest)
    maps = list(summary.means.items()) if summary.layout is not None else []
    title = f"Sweep of {', '.join(model['name'] for model in manifest['grid']['models'])}"
    return render(
        "sweep",
        title=title,
        banners=stamps(synthetic=manifest["data"]["synthetic"], overlap=manifest["allow_overlap"]),
        wide=True,
        lead=lead,
        size=size,
        cards=_cards(manifest),
        winner=_winner(manifest, result),
        maps=_maps(summary),
        maps_left_out=max(0, len(maps) - MOST_MAPS),
        shares=_shares(summary),
        named_columns=["calibration", "ckpt", "decision", "range", *map(_head, _SIGNALS)],
        named=[_named_row(row) for row in summary.named],
        settings=manifest["settings"],
        several_ranges=len(manifest["ranges"]) > 1,
        best_columns=["setting", *map(_head, (*varied, *_columns()))],
        best=_best_rows([group[0] for group in summary.best], varied),
        sample=_sample(summary, manifest, varied),
        swept=_swept(manifest),
    )


def _cards(manifest: Mapping[str, Any]) -> list[Card]:
    winner, overfitting, checked = manifest["winner"], manifest["overfitting"], manifest["checked"]
    cards = []
    if winner is not None:
        deflated, after = winner["deflated_sharpe"], winner["holdout"]["strategy"]
        value = deflated["value"]
        cards.append(
            Card(
                "Deflated Sharpe ratio",
                ratio(value, 3),
                deflated_sentence(deflated),
                "fair" if value is None else "good" if value >= 0.95 else "bad",
            )
        )
    if overfitting is None:
        shown, kind = "unknown", "fair"
    else:
        shown = ratio(overfitting["probability"])
        kind = "good" if overfitting["probability"] < 0.1 else "fair" if overfitting["probability"] < 0.4 else "bad"
    cards.append(Card("Probability of backtest overfitting", shown, overfitting_sentence(overfitting), kind))
    if winner is not None:
        kind = "good" if (after["sharpe_daily"] or 0) > 0 and after["total_return"] > 0 else "bad"
        cards.append(
            Card(
                "The winner on the hold-out",
                f"Sharpe {ratio(after['sharpe_daily'])}",
                holdout_sentence(winner["holdout"]),
                kind,
            )
        )
    if manifest["best_mcc"] is not None:
        best = manifest["best_mcc"]["mcc"]
        cards.append(Card("Best MCC of all settings", ratio(best, 3), mcc_sentence(manifest), "fair"))
    cards.append(
        Card(
            "Checked in Backtrader",
            f"{checked['settings']:,} settings",
            f"{checked['orders']:,} orders and {checked['bars']:,} bars were compared with the fast replay. None differs.",
            "good",
        )
    )
    return cards


@dataclass(frozen=True, kw_only=True)
class WinnerSection:
    """The winner: its settings as a sentence, its chart, its numbers, and the command that repeats it."""

    label: str
    chart: Markup
    columns: list[str]
    rows: list[list[str]]
    command: str


def _winner(manifest: Mapping[str, Any], result: SweepOutcome) -> WinnerSection | None:
    winner = manifest["winner"]
    if winner is None or result.winner is None:
        return None
    lines = []
    for place, (name, strategy, benchmark) in enumerate(result.winner["curves"]):
        is_last = place == len(result.winner["curves"]) - 1
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
    columns = ["", *(f"ranked {row['timerange']}" for row in winner["rows"]), f"hold-out {winner['holdout']['timerange']}"]
    rows = []
    for name, write in _columns().items():
        if name in winner["holdout"]["strategy"] or name == "sharpe_all":
            key = RANKED_BY if name == "sharpe_all" else name
            for suffix, ranked, after in (
                ("", winner["rows"], winner["holdout"]["strategy"]),
                (", buy and hold", winner["buy_and_hold"], winner["holdout"]["buy_and_hold"]),
            ):
                rows.append([f"{_head(key)}{suffix}", *(write(each[key]) for each in ranked), write(after[key])])
    label = setting_label(winner["rows"][0], list(manifest["varied"])).capitalize()
    return WinnerSection(label=label, chart=chart, columns=columns, rows=rows, command=winner["run"])


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
        ]
        parts.append((f"{ckpt}, decision {decision}, {timerange}", maps))
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


def _named_row(row: Mapping[str, Any]) -> list[str]:
    named = [str(row[name]) for name in ("calibration", "ckpt", "decision", "timerange")]
    return named + [write(row[name]) for name, write in _SIGNALS.items()]


def _best_rows(rows: Sequence[Mapping[str, Any]], varied: list[str]) -> list[list[str]]:
    columns = _columns()
    names = (*varied, *columns)
    return [[f"{row['setting']:,}", *(columns.get(name, setting_text)(row[name]) for name in names)] for row in rows]


def _sample(summary: Summary, manifest: Mapping[str, Any], varied: list[str]) -> str:
    if len(varied) < 2 or len(summary.sampled) < 2:
        return ""
    best = [group[0] for group in summary.best[:1]]
    by_offsets = summary.layout is not None and summary.layout.columns[0].startswith("offset")
    settings = [
        each for name in varied for each in (("offset_sell", "offset_buy") if name == "calibration" and by_offsets else (name,))
    ]
    names = [*settings, "trades", "mcc", "sharpe_all"]
    caption = (
        f"{len(summary.sampled):,} of {manifest['settings']:,} settings, drawn at random. Each line is one setting, with its "
        "values on the left and its results on the right. Blue: the better half of those that traded. Bold: the winner."
    )
    return parallel_chart(summary.sampled, best, names, [_head(name) for name in names], caption=caption)


def _swept(manifest: Mapping[str, Any]) -> list[list[str]]:
    grid = manifest["grid"]
    rows = [[name.replace("_", " "), _values(values)] for name, values in grid.items() if name != "models"]
    points = grid["models"][0]["calibrations"]
    texts = [*(point["text"] for point in points["named"]), *(name for *_, name in points["also_named"])]
    return [
        ["checkpoints", ", ".join(f"{model['name']} {model['digest'][:12]}" for model in grid["models"])],
        ["calibrations by name", _values(texts) if texts else "–"],
        ["offsets of SELL and of BUY", _values(points["offsets"]) if points["offsets"] else "–"],
        *rows,
        ["bars", f"{manifest['data']['source']}, digest {manifest['data']['digest'][:12]}"],
        ["ranked on", ", ".join(manifest["ranges"])],
        ["hold-out", manifest["holdout"]],
    ]


def _values(values: Sequence[Any]) -> str:
    shown = [setting_text(value) for value in values[:12]]
    return ", ".join(shown) + (f", ... ({len(values):,} in all)" if len(values) > len(shown) else "")


def _head(name: str) -> str:
    return {"sharpe_all": "sharpe", "sharpe_daily": "Sharpe ratio, daily", "mcc": "MCC"}.get(name, name.replace("_", " "))
