"""The page of a sweep: the winner and its luck, heat maps, the shares of signals, the best settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import FloatArray
from ..reports.heat_map import GridAxis, heat_map
from ..reports.interactive_charts import Line, Panel, chart_document, line_chart
from ..reports.page import Html, Row, escape, paragraph, section, setting_text, table, verdict_card
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
    title = f"Sweep of {', '.join(model['name'] for model in manifest['grid']['models'])}"
    first, *others = sweep_sentences(manifest)
    body = [
        Html(f"<h1>{escape(title)}</h1>\n"),
        paragraph(others[0], "lead"),
        _cards(manifest),
        paragraph(first),
        _winner(manifest, result),
        _maps(summary),
        _shares(summary),
        _named(summary),
        _best(summary, manifest, varied),
        _sample(summary, manifest, varied),
        _record(manifest),
    ]
    banners = stamps(synthetic=manifest["data"]["synthetic"], overlap=manifest["allow_overlap"])
    return chart_document(title, "".join(body), banners=banners, wide=True)


def _cards(manifest: Mapping[str, Any]) -> Html:
    winner, overfitting, checked = manifest["winner"], manifest["overfitting"], manifest["checked"]
    cards = []
    if winner is not None:
        deflated, after = winner["deflated_sharpe"], winner["holdout"]["strategy"]
        value = deflated["value"]
        cards.append(
            verdict_card(
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
    cards.append(verdict_card("Probability of backtest overfitting", shown, overfitting_sentence(overfitting), kind))
    if winner is not None:
        kind = "good" if (after["sharpe_daily"] or 0) > 0 and after["total_return"] > 0 else "bad"
        cards.append(
            verdict_card(
                "The winner on the hold-out",
                f"Sharpe {ratio(after['sharpe_daily'])}",
                holdout_sentence(winner["holdout"]),
                kind,
            )
        )
    if manifest["best_mcc"] is not None:
        best = manifest["best_mcc"]["mcc"]
        cards.append(verdict_card("Best MCC of all settings", ratio(best, 3), mcc_sentence(manifest), "fair"))
    cards.append(
        verdict_card(
            "Checked in Backtrader",
            f"{checked['settings']:,} settings",
            f"{checked['orders']:,} orders and {checked['bars']:,} bars were compared with the fast replay. None differs.",
            "good",
        )
    )
    return Html(f'<div class="cards">\n{"".join(cards)}</div>\n')


def _winner(manifest: Mapping[str, Any], result: SweepOutcome) -> Html:
    winner = manifest["winner"]
    if winner is None or result.winner is None:
        return Html("")
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
                rows.append(Row(f"{_head(key)}{suffix}", [*(write(each[key]) for each in ranked), write(after[key])]))
    return section(
        "The winner",
        paragraph(setting_label(winner["rows"][0], list(manifest["varied"])).capitalize() + "."),
        chart,
        table("No setting was ranked on the hold-out.", columns, rows),
        Html(f"<pre>{escape(winner['run'])}</pre>\n"),
    )


def _maps(summary: Summary) -> Html:
    layout, means = summary.layout, summary.means
    if layout is None or not means:
        return Html("")
    shown = list(means.items())[:MOST_MAPS]
    more = f" {len(means) - MOST_MAPS:,} more combinations are not shown." if len(means) > MOST_MAPS else ""
    parts = [
        paragraph(
            "Each cell is the mean over all settings with its values, such as those with different fees. The table below shows "
            f"the best settings.{more}"
        )
    ]
    for number, (key, values) in enumerate(shown):
        parts.append(Html(f"<h3>{escape(', '.join((key[1], f'decision {key[2]}', key[0])))}</h3>\n"))
        maps = [
            heat_map(
                values[MEASURES.index(name)],
                GridAxis(layout.across.title, layout.across.labels),
                GridAxis(layout.down.title, layout.down.labels),
                f"map-{number}-{name}",
                description=f"{title}, by {layout.down.title} and {layout.across.title}",
                caption=title,
                write=write,
            )
            for name, title, write in _MAPPED
        ]
        parts.append(Html(f'<div class="columns">{"".join(maps)}</div>\n'))
    return section("Heat maps", *parts)


def _shares(summary: Summary) -> Html:
    layout = summary.layout
    if layout is None or not layout.columns[0].startswith("offset"):
        return Html("")
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
        return Html("")
    chart = line_chart(
        panels,
        "shares",
        x_title="offset of SELL less offset of BUY",
        description="Shares of SELL, HOLD and BUY signals by the difference of their offsets",
        caption="Means over all settings with that difference. Where a share nears 100 %, the offset decides, not the model.",
    )
    return section("From one class to the other", chart)


def _by(difference: FloatArray, values: FloatArray, x: FloatArray) -> FloatArray:
    found = [values[(difference == each) & np.isfinite(values)] for each in x]
    return np.array([each.mean() if len(each) else np.nan for each in found])


def _named(summary: Summary) -> Html:
    if not summary.named:
        return Html("")
    names = ("mcc", "share_sell", "share_hold", "share_buy")
    columns = ["calibration", "ckpt", "decision", "range", *(_head(name) for name in names)]
    rows = [
        Row(
            str(row["calibration"]),
            [row["ckpt"], row["decision"], row["timerange"], *(_SIGNALS[name](row[name]) for name in names)],
        )
        for row in summary.named
    ]
    caption = "One row per checkpoint, decision and range. Costs and rules do not change signals, except with utility."
    return section("Calibrations by name", table(caption, columns, rows))


def _best(summary: Summary, manifest: Mapping[str, Any], varied: list[str]) -> Html:
    rows = [group[0] for group in summary.best]
    names, columns = [*varied, *_columns()], _columns()
    caption = (
        f"The best {len(rows):,} of {manifest['settings']:,} settings by daily Sharpe ratio on the ranked bars"
        f"{' (the figures are of the first range; sharpe is of all ranges)' if len(manifest['ranges']) > 1 else ''}. All "
        "settings are in table.parquet. Click a column's header to sort."
    )
    if not rows:
        return Html("")
    cells = [Row(f"{row['setting']:,}", [columns.get(name, setting_text)(row[name]) for name in names]) for row in rows]
    return section("Best settings", table(caption, ["setting", *map(_head, names)], cells, sortable=True))


def _sample(summary: Summary, manifest: Mapping[str, Any], varied: list[str]) -> Html:
    if len(varied) < 2 or len(summary.sampled) < 2:
        return Html("")
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
    return section(
        "Settings as lines", parallel_chart(summary.sampled, best, names, [_head(name) for name in names], caption=caption)
    )


def _record(manifest: Mapping[str, Any]) -> Html:
    grid = manifest["grid"]
    rows = [Row(name.replace("_", " "), [_values(values)]) for name, values in grid.items() if name != "models"]
    points = grid["models"][0]["calibrations"]
    texts = [*(point["text"] for point in points["named"]), *(name for *_, name in points["also_named"])]
    rows = [
        Row("checkpoints", [", ".join(f"{model['name']} {model['digest'][:12]}" for model in grid["models"])]),
        Row("calibrations by name", [_values(texts) if texts else "–"]),
        Row("offsets of SELL and of BUY", [_values(points["offsets"]) if points["offsets"] else "–"]),
        *rows,
        Row("bars", [f"{manifest['data']['source']}, digest {manifest['data']['digest'][:12]}"]),
        Row("ranked on", [", ".join(manifest["ranges"])]),
        Row("hold-out", [manifest["holdout"]]),
    ]
    return section("What was swept", table("", ["", "values"], rows, words=True))


def _values(values: Sequence[Any]) -> str:
    shown = [setting_text(value) for value in values[:12]]
    return ", ".join(shown) + (f", ... ({len(values):,} in all)" if len(values) > len(shown) else "")


def _head(name: str) -> str:
    return {"sharpe_all": "sharpe", "sharpe_daily": "Sharpe ratio, daily", "mcc": "MCC"}.get(name, name.replace("_", " "))
