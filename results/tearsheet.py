"""The tearsheet: one page a run, which opens with what happened and why, and only then shows what it earned."""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from ..data.labels import CLASS_NAMES, label_spec
from ..engine.run import Run
from .charts import Line, drawdown_chart, equity_chart
from .metrics import daily_returns, drawdowns
from .page import (
    NULL,
    Html,
    Row,
    bar,
    document,
    escape,
    key,
    money,
    paragraph,
    percent,
    ratio,
    section,
    setting_text,
    stamp,
    stamps,
    table,
    track,
    verdict_card,
    whole,
)  # fmt: skip
from .quantstats_section import quantstats_section
from .summary import summary

TRADES_SHOWN = 200
COLOUR_OF_CLASS = {"SELL": "sell", "HOLD": "hold", "BUY": "buy"}
KIND_OF_VERDICT = {
    "one-sided": "bad", "collapsed": "bad", "skewed": "fair", "diverse": "good", "plausible": "good",
}  # fmt: skip
# Fields of a run's config that `flagbt run` takes back.
OPTIONS = {
    "strategy": "--strategy", "checkpoint": "--ckpt", "data": "--data", "timerange": "--timerange",
    "calibration": "--calibration", "decision": "--decision", "fee_bps": "--fee-bps",
    "slippage_bps": "--slippage-bps", "borrow_bps_per_day": "--borrow-bps-per-day", "cash": "--cash", "short": "--short",
    "cooldown_bars": "--cooldown-bars", "min_hold_bars": "--min-hold-bars", "exit": "--exit", "stop_loss": "--stop-loss",
    "take_profit": "--take-profit", "max_short_notional": "--max-short-notional",
    "close_short_above": "--close-short-above", "allow_overlap": "--allow-overlap",
    "seed": "--seed",
}  # fmt: skip
FUNNEL_NAMES = {
    "no_signal": "without a signal (warm-up)", "raw": "raw signal", "signal": "final signal", "kept": "position kept",
    "hold": "HOLD", "buy_while_long": "BUY while long", "sell_while_flat": "SELL while flat",
    "sell_while_short": "SELL while short", "min_hold": "held too shortly", "exits": "ordered by a rule",
    "unprompted": "ordered by a rule without a signal", "zero_size": "smaller than one lot",
}  # fmt: skip
# Headline rows: key in metrics, name, how it is written.
HEADLINES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("total_return", "Total return", lambda v: percent(v, signed=True)),
    ("cagr", "Growth a year (CAGR)", lambda v: percent(v, signed=True)),
    ("sharpe_daily", "Sharpe ratio, daily returns", ratio),
    ("sharpe_hourly", "Sharpe ratio, per-bar returns", ratio),
    ("sortino_daily", "Sortino ratio, daily returns", ratio),
    ("volatility_daily", "Volatility a year", percent),
    ("max_drawdown", "Deepest drawdown", percent),
    ("max_drawdown_days", "Longest drawdown, days", lambda v: ratio(v, 1)),
    ("calmar", "Calmar ratio", ratio),
    ("trades", "Closed trades", whole),
    ("open_trades", "Open trades", whole),
    ("win_rate", "Trades with a gain", percent),
    ("profit_factor", "Profit factor", ratio),
    ("avg_trade_return", "Mean return of a trade", lambda v: percent(v, 2, signed=True)),
    ("exposure", "Bars with a position", percent),
    ("turnover", "Turnover, times mean equity", ratio),
    ("fees_paid", "Fees paid", money),
    ("slippage_paid", "Slippage paid", money),
    ("final_equity", "Final equity", money),
)


def render_tearsheet(run: Run, benchmark: Run, *, name: str | None = None, notes: str | None = None) -> str:
    """Render a run as one offline HTML page; equal inputs give equal bytes.

    Parameters
    ----------
    run, benchmark : Run
        Over the same bars; the benchmark is buy and hold.
    name, notes : str, optional
        The user's own words; escaped.

    Returns
    -------
    str
        A whole page: no script, nothing fetched, no clock, id or absolute path.
    """
    summed = summary(run, benchmark)
    title = name or _title(run)
    body = "".join(
        (
            f"<header>\n<h1>{escape(title)}</h1>\n{paragraph(summed['sentence'], 'lead')}",
            paragraph(notes) if notes else "",
            "</header>\n",
            _verdicts(summed),
            _diversity(summed),
            _funnel(run),
            _what_ran(run),
            _performance(run, benchmark, summed["metrics"]),
            section("quantstats", quantstats_section(daily_returns(run), daily_returns(benchmark))),
            _trades(run.trades),
            section("Reproduce", f"<pre><code>{html.escape(command(run))}</code></pre>\n", _reproduce_note()),
        )
    )
    banners = stamps(synthetic=bool(run.data["synthetic"]), overlap=overlaps(run.config))
    return document(f"{title} – flagbt", body, banners=banners)


def command(run: Run) -> str:
    """Return the command that repeats the run, from its config: file names only, no path of this machine."""
    words = ["flagbt", "run"]
    for field, option in OPTIONS.items():
        value = run.config.get(field)
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words += [option, setting_text(value)]
    return shlex.join(words)


def overlaps(config: Mapping[str, Any]) -> bool:
    """Tell whether a run was allowed to trade bars that its checkpoint was trained on."""
    return bool(config.get("allow_overlap"))


def class_bars(rows: Sequence[tuple[str, Mapping[str, float] | None]]) -> Html:
    """Return stacked bars of SELL, HOLD and BUY shares with their legend; rows without shares are left out."""
    drawn = "".join(
        bar(label, [(COLOUR_OF_CLASS[each], shares[each]) for each in CLASS_NAMES], _shares(shares))
        for label, shares in rows
        if shares is not None
    )
    legend = key([(COLOUR_OF_CLASS[each], each) for each in CLASS_NAMES])
    return Html(f'{legend}<div class="bars">{drawn}</div>\n')


def _shares(shares: Mapping[str, float]) -> str:
    return " / ".join(f"{100 * shares[each]:.0f}" for each in CLASS_NAMES) + " %"


def _title(run: Run) -> str:
    checkpoint = (run.checkpoint or {}).get("name")
    return f"{run.config.get('strategy') or 'strategy'}{f', checkpoint {checkpoint}' if checkpoint else ''}"


def _verdicts(summed: Mapping[str, Any]) -> str:
    verdicts = summed["verdicts"]
    titles = {"signal": "Signals", "model": "Model, before calibration", "calibrated": "Model, after calibration"}
    if verdicts["model"] == verdicts["calibrated"]:  # nothing was calibrated: one card says it
        titles = {"signal": "Signals", "model": "Model"}
    cards = "".join(
        verdict_card(title, found["verdict"], found["sentence"], KIND_OF_VERDICT[found["verdict"]])
        for each, title in titles.items()
        if (found := verdicts[each]) is not None
    )
    return f'<div class="cards">{cards}</div>\n' if cards else ""


def _diversity(summed: Mapping[str, Any]) -> str:
    described = summed["diversity"]
    if described is None:
        return section("Trade diversity", paragraph("This strategy trades by itself and gives no signals to describe."))
    raw, final, fills = described["raw"], described["final"], summed["fills"]
    filled = fills["BUY"] + fills["SELL"]
    fill_shares = {"SELL": fills["SELL"] / filled, "HOLD": 0.0, "BUY": fills["BUY"] / filled} if filled else None
    pictures = class_bars(
        [
            ("Training labels", final["label_shares"]), ("Raw signals", raw["shares"]),
            ("Final signals", final["shares"]), ("Fills", fill_shares),
        ]
    )  # fmt: skip
    columns = f'<div class="columns"><div>{_diversity_table(raw, final)}</div><div>{_confidence(final)}</div></div>\n'
    return section("Trade diversity", pictures, _shares_table(raw, final, fills), columns)


def _shares_table(raw: Mapping[str, Any], final: Mapping[str, Any], fills: Mapping[str, Any]) -> Html:
    def row(each: str) -> list[str]:
        labels = final["label_shares"]
        cells = [each, percent(labels[each]) if labels else NULL]
        for described in (raw, final):
            shares = described["shares"]
            cells += [whole(described["counts"][each]), percent(shares[each]) if shares else NULL]
        return [*cells, NULL if each == "HOLD" else whole(fills[each])]

    columns = ["", "Labels", "Raw bars", "Raw", "Final bars", "Final", "Fills"]
    caption = f"Signals over {whole(final['scored_bars'])} scored bars"
    caption += ", beside the labels the model was trained on" if final["label_shares"] else "; there is no model"
    return table(caption, columns, [row(each) for each in CLASS_NAMES])


def _diversity_table(raw: Mapping[str, Any], final: Mapping[str, Any]) -> Html:
    def longest(described: Mapping[str, Any]) -> str:
        run = described["longest_run"]
        return f"{whole(run['bars'])} {run['signal']}" if run else NULL

    rows = [
        ["Diversity: bars not HOLD", percent(raw["diversity"]), percent(final["diversity"])],
        ["Entropy, 1 is even", ratio(raw["entropy"]), ratio(final["entropy"])],
        ["Effective number of actions", ratio(raw["effective_actions"]), ratio(final["effective_actions"])],
        ["Total variation to the labels", ratio(raw["total_variation"]), ratio(final["total_variation"])],
        ["Jensen-Shannon distance to the labels", ratio(raw["jensen_shannon"]), ratio(final["jensen_shannon"])],
        ["BUY among BUY and SELL", percent(raw["buy_sell_balance"]), percent(final["buy_sell_balance"])],
        ["Flips per 100 bars", ratio(raw["flips_per_100_bars"], 1), ratio(final["flips_per_100_bars"], 1)],
        ["Longest run, bars", longest(raw), longest(final)],
    ]
    return table("How the signals vary", ["", "Raw", "Final"], rows)


def _confidence(final: Mapping[str, Any]) -> Html:
    if final["confidence"] is None:
        return paragraph("There is no confidence to show: this strategy has no model.", "muted")
    names = ("mean", "q10", "q50", "q90")
    rows = [
        [each, *(percent(found[name]) if (found := final["confidence"][each]) else NULL for name in names)]
        for each in CLASS_NAMES
    ]
    return table(
        "Confidence: the highest probability, among the bars of each final signal",
        ["", "Mean", "10 %", "Median", "90 %"],
        rows,
    )


def _funnel(run: Run) -> str:
    steps = _flat(run.funnel)
    most = max([*(count for _, count in steps if count is not None), 1])
    rows = [[label, whole(count), track([("strategy", (count or 0) / most)])] for label, count in steps]
    return section(
        "From bars to fills",
        table("The funnel: where every bar's signal went", ["Step", "Count", "Share of the bars"], rows),
        paragraph("Signals are not trades: a SELL while flat, or a BUY while long, does nothing.", "muted"),
    )


def _flat(counts: Mapping[str, Any], before: str = "") -> list[tuple[str, int | None]]:
    """Return the counts with readable names, nested ones after their parent's; None where a count is unknown."""
    result: list[tuple[str, int | None]] = []
    for name, value in counts.items():
        words = FUNNEL_NAMES.get(name, name if name in CLASS_NAMES else str(name).replace("_", " "))
        label = f"{before}: {words}" if before else words[0].upper() + words[1:]
        if isinstance(value, Mapping):
            result += _flat(value, label) or [(label, 0)]
        else:
            result.append((label, value))
    return result


def _what_ran(run: Run) -> str:
    data, checkpoint = run.data, run.checkpoint
    rows = [
        ["Data", f"{data['source']} ({'SYNTHETIC' if data['synthetic'] else 'real prices'})"],
        ["Range", f"{data['first']} .. {data['last']}, {whole(len(run.bars))} bars of {data['step_hours']:g} h"],
        ["Data digest", str(data["digest"])[:16]],
        ["Starting cash", money(run.cash)],
    ]
    if "gaps" in data:
        rows.append(["Gaps in the file", f"{whole(data['gaps'])}, {whole(data['missing_bars'])} bars missing"])
    if checkpoint:
        rows += [
            ["Checkpoint", f"{checkpoint['name']}, digest {str(checkpoint['digest'])[:16]}"],
            ["Labels", label_spec(checkpoint["labels"]).question],
        ]
    shown = {"data", "cash", "checkpoint"}
    rows += [
        [name.replace("_", " ").capitalize(), setting_text(value)] for name, value in run.config.items() if name not in shown
    ]
    return section("What was run", table("Inputs and settings", ["Setting", "Value"], rows, words=True))


def _performance(run: Run, benchmark: Run, measured: Mapping[str, Any]) -> str:
    mine, theirs = measured["strategy"], measured["benchmark"]
    rows = [Row(label, [write(mine[name]), write(theirs[name])]) for name, label, write in HEADLINES]
    curves = [
        Line("Strategy", run.equity["equity"], "strategy"),
        Line("Buy and hold", benchmark.equity["equity"], "benchmark"),
    ]
    falls = [
        Line(curve.name, pd.Series(drawdowns(each), index=each.equity.index), curve.colour)
        for curve, each in zip(curves, (run, benchmark), strict=True)
    ]
    caption = f"{whole(mine['bars'])} bars, {ratio(mine['days'], 1)} days; 365 days a year; no risk-free rate"
    return section(
        "Strategy beside buy and hold",
        equity_chart(curves, "equity") if len(run.equity) > 1 else "",
        drawdown_chart(falls, "drawdown") if len(run.equity) > 1 else "",
        table(caption, ["", "Strategy", "Buy and hold"], rows),
        paragraph("An en dash stands for what is undefined, such as a ratio of no trades or of no variation.", "muted"),
    )


def _trades(trades: pd.DataFrame) -> str:
    if trades.empty:
        return section("Trades", paragraph("There were none."))
    columns = ["Trade", "Side", "Entered", "Left", "Entry", "Exit", "Size", "Bars", "Fees", "Gain", "Return"]
    rows = [
        [
            whole(trade["trade"]), trade["side"], stamp(trade["entry_time"]),
            "open" if trade["status"] == "open" else stamp(trade["exit_time"]), money(trade["entry_price"]),
            NULL if pd.isna(trade["exit_price"]) else money(trade["exit_price"]), ratio(trade["size"], 6),
            whole(trade["bars_held"]), money(trade["fees"]), money(trade["pnl"]),
            percent(trade["return"], 2, signed=True),
        ]
        for trade in trades.head(TRADES_SHOWN).to_dict("records")
    ]  # fmt: skip
    more = "all"
    if len(trades) > TRADES_SHOWN:
        more = f"the first {TRADES_SHOWN} of {whole(len(trades))} (all are in trades.csv)"
    return section("Trades", table(f"Round trips, {more}; times in UTC, gains after fees", columns, rows))


def _reproduce_note() -> Html:
    return paragraph(
        "Names stand for files on the machine that made this page. run.json holds the command as given, digests, "
        "library versions and seeds; the same command on the same inputs gives the same numbers.",
        "muted",
    )
