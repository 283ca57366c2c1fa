"""Trade diversity: the class shares of labels, signals and fills, and the funnel between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...data.labels import CLASS_NAMES
from ...results.number_text import NULL, percent, ratio, whole
from ...results.run_record import RunRecord
from ..page import Html, bar, details, escape, key, paragraph, section, table, track

COLOUR_OF_CLASS = {"SELL": "sell", "HOLD": "hold", "BUY": "buy"}
FUNNEL_NAMES = {
    "no_signal": "without a signal (warm-up)",
    "raw": "raw signal",
    "signal": "final signal",
    "kept": "position kept",
    "hold": "HOLD",
    "buy_while_long": "BUY while long",
    "sell_while_flat": "SELL while flat",
    "sell_while_short": "SELL while short",
    "min_hold": "minimum holding time not reached",
    "exits": "ordered by a rule",
    "unprompted": "ordered by a rule without a signal",
    "zero_size": "smaller than one lot",
    "ruined": "the account had lost everything",
    "ruin": "the account had lost everything",
}


def diversity_section(stored: RunRecord) -> Html:
    """Show the class shares from labels to fills, the funnel, and how the signals vary."""
    described, fills = stored.manifest["diversity"], stored.manifest["fills"]
    if described is None:
        note = paragraph("This strategy trades by itself and has no signals to describe.")
        return section("Trade diversity", note, _funnel(stored.manifest["funnel"]))
    raw, final = described["raw"], described["final"]
    filled = fills["BUY"] + fills["SELL"]
    of_fills = {"SELL": fills["SELL"] / filled, "HOLD": 0.0, "BUY": fills["BUY"] / filled} if filled else None
    pictures = class_bars(
        [
            ("Training labels", final["label_shares"]),
            ("Labels of these bars", (stored.raw_metrics["labels"] or {}).get("shares")),
            ("Raw signals", raw["shares"]),
            ("Final signals", final["shares"]),
            ("Fills", of_fills),
        ]
    )
    columns = f'<div class="columns"><div>{_variety(raw, final)}</div><div>{_confidence(final)}</div></div>\n'
    return section("Trade diversity", pictures, _shares_table(raw, final, fills), _funnel(stored.manifest["funnel"]), columns)


def class_bars(rows: Sequence[tuple[str, Mapping[str, float] | None]]) -> Html:
    """Return stacked bars of SELL, HOLD and BUY shares with their legend; rows without shares are left out."""
    drawn = "".join(
        bar(label, [(COLOUR_OF_CLASS[each], shares[each]) for each in CLASS_NAMES], _shares(shares))
        for label, shares in rows
        if shares is not None
    )
    legend = key([(COLOUR_OF_CLASS[each], each) for each in CLASS_NAMES])
    return Html(f'{legend}<div class="bars">{drawn}</div>\n')


def funnel_bars(funnel: Mapping[str, Any]) -> Html:
    """Draw the funnel: one bar per stage on the scale of all bars, and below it the counts lost there, by reason."""
    bars = max(1, funnel["bars"])
    stages = [_stage("Bars", [("hold", 1.0)], whole(funnel["bars"]), {})]
    if funnel["scored"] is not None:
        lost = {"without a signal (warm-up)": funnel["no_signal"]}
        stages.append(_stage("Scored", [("hold", funnel["scored"] / bars)], whole(funnel["scored"]), lost))
        for name, label in (("raw", "Raw BUY or SELL"), ("signal", "Final BUY or SELL")):
            not_hold = {each: funnel[name][each] for each in ("SELL", "BUY")}
            parts = [(COLOUR_OF_CLASS[each], count / bars) for each, count in not_hold.items()]
            stages.append(_stage(label, parts, whole(sum(not_hold.values())), {}))
        kept = {_funnel_name(name): count for name, count in funnel["kept"].items() if name != "hold"}
        stages.append(_stage("Ordered", [("strategy", funnel["ordered"] / bars)], whole(funnel["ordered"]), kept))
    submitted, too_small = funnel["submitted"], funnel["zero_size"] or 0
    # Earlier records sized an order before they submitted it.
    before = too_small if funnel["ordered"] == submitted + too_small else 0
    stages.append(_stage("Submitted", [("strategy", submitted / bars)], whole(submitted), {"smaller than one lot": before}))
    lost = {"smaller than one lot": too_small - before}
    lost |= {f"rejected ({why})": count for why, count in funnel["rejected"].items()} | {"unfilled": funnel["unfilled"]}
    stages.append(_stage("Filled", [("strategy", funnel["filled"] / bars)], whole(funnel["filled"]), lost))
    return Html(f'<div class="bars">{"".join(stages)}</div>\n')


def _stage(label: str, parts: Sequence[tuple[str, float]], value: str, lost: Mapping[str, int]) -> str:
    left = ", ".join(f"{whole(count)} {why}" for why, count in lost.items() if count)
    note = f'<span class="left">Removed: {escape(left)}</span>' if left else ""
    return (
        f'<div class="bar"><span>{escape(label)}</span>{track(parts)}<span class="value">{escape(value)}</span>{note}</div>\n'
    )


def _funnel(funnel: Mapping[str, Any]) -> str:
    counts = [[label, whole(count)] for label, count in _flat(funnel)]
    return "".join(
        (
            "<h3>The funnel, from bars to fills</h3>\n",
            funnel_bars(funnel),
            paragraph("Signals are not trades: a SELL while flat, or a BUY while long, does nothing.", "muted"),
            details("Every count of the funnel", table("The counts add up exactly", ["Step", "Count"], counts)),
        )
    )


def _funnel_name(name: str) -> str:
    return FUNNEL_NAMES.get(name, name if name in CLASS_NAMES else name.replace("_", " "))


def _flat(counts: Mapping[str, Any], before: str = "") -> list[tuple[str, int | None]]:
    """Return the counts with readable names, nested ones after their parent's; None where a count is unknown."""
    result: list[tuple[str, int | None]] = []
    for name, value in counts.items():
        text = _funnel_name(str(name))
        label = f"{before}: {text}" if before else text[0].upper() + text[1:]
        if isinstance(value, Mapping):
            result += _flat(value, label) or [(label, 0)]
        else:
            result.append((label, value))
    return result


def _shares(shares: Mapping[str, float]) -> str:
    return " / ".join(f"{100 * shares[each]:.0f}" for each in CLASS_NAMES) + " %"


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
    caption += ", with the model's training labels" if final["label_shares"] else "; there are no training labels"
    return table(caption, columns, [row(each) for each in CLASS_NAMES])


def _variety(raw: Mapping[str, Any], final: Mapping[str, Any]) -> Html:
    def longest(described: Mapping[str, Any]) -> str:
        run = described["longest_run"]
        return f"{whole(run['bars'])} {run['signal']}" if run else NULL

    rows = [
        ["Diversity: bars not HOLD", percent(raw["diversity"]), percent(final["diversity"])],
        ["Entropy (1 is uniform)", ratio(raw["entropy"]), ratio(final["entropy"])],
        ["Effective number of actions", ratio(raw["effective_actions"]), ratio(final["effective_actions"])],
        ["Total variation from the labels", ratio(raw["total_variation"]), ratio(final["total_variation"])],
        ["Jensen-Shannon distance from the labels", ratio(raw["jensen_shannon"]), ratio(final["jensen_shannon"])],
        ["BUY among BUY and SELL", percent(raw["buy_sell_balance"]), percent(final["buy_sell_balance"])],
        ["Flips per 100 bars", ratio(raw["flips_per_100_bars"], 1), ratio(final["flips_per_100_bars"], 1)],
        ["Longest run, bars", longest(raw), longest(final)],
    ]
    return table("How the signals vary", ["", "Raw", "Final"], rows)


def _confidence(final: Mapping[str, Any]) -> Html:
    if final["confidence"] is None:
        return paragraph("There is no confidence to show: this strategy has no probabilities.", "muted")
    names = ("mean", "q10", "q50", "q90")
    rows = [
        [each, *(percent(found[name]) if (found := final["confidence"][each]) else NULL for name in names)]
        for each in CLASS_NAMES
    ]
    return table(
        "Confidence: the highest probability, among the bars of each final signal", ["", "Mean", "10 %", "Median", "90 %"], rows
    )
