"""Trade diversity: the class shares of labels, signals and fills, and the funnel between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from markupsafe import Markup

from ...arrays import JsonValue
from ...data.labels import CLASS_NAMES
from ...engine.funnel import Funnel
from ...models.diversity import Confidence, Diversity
from ...results.number_text import NULL, percent, whole
from ...results.run_info import Fills
from ...results.run_record import RunRecord
from ..page import render

COLOUR_OF_CLASS = {"SELL": "sell", "HOLD": "hold", "BUY": "buy"}
FUNNEL_NAMES = {
    "no_signal": "without a signal",
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


@dataclass(frozen=True)
class FunnelStage:
    """A stage of the funnel: how many bars or orders reach it, its bar's parts, and what was removed before it, by reason."""

    label: str
    parts: Sequence[tuple[str, float]]
    count: int
    removed: str = ""


def diversity_section(stored: RunRecord) -> Markup:
    """Show the class shares from labels to fills, the funnel, and how the signals vary."""
    described, fills, funnel = stored.info.diversity, stored.info.fills, stored.funnel
    counts = {
        "stages": funnel_stages(funnel),
        "every_count": [(label, whole(count)) for label, count in _flat(funnel.to_json())],
    }
    if described is None:
        return render("sections/diversity", raw=None, **counts)
    raw, final = described.raw, described.final
    filled = fills.BUY + fills.SELL
    of_fills = {"SELL": fills.SELL / filled, "HOLD": 0.0, "BUY": fills.BUY / filled} if filled else None
    return render(
        "sections/diversity",
        raw=raw,
        final=final,
        shares=[
            ("Training labels", final.label_shares),
            ("Labels of these bars", stored.label_scores and stored.label_scores.shares),
            ("Raw signals", raw.shares),
            ("Final signals", final.shares),
            ("Fills", of_fills),
        ],
        counts=[_class_row(each, raw, final, fills) for each in CLASS_NAMES],
        confidence=[_confidence_row(name, found) for name, found in _in_order(final.confidence or {})],
        **counts,
    )


def funnel_stages(funnel: Funnel) -> list[FunnelStage]:
    """Return the stages of the funnel from bars to fills, on the scale of all bars."""
    bars = max(1, funnel.bars)
    stages = [FunnelStage("Bars", [("hold", 1.0)], funnel.bars)]
    if funnel.scored is not None:
        lost = {FUNNEL_NAMES["no_signal"]: funnel.no_signal or 0}
        stages.append(FunnelStage("Scored", [("hold", funnel.scored / bars)], funnel.scored, _removed(lost)))
        for counts, label in ((funnel.raw or {}, "Raw BUY or SELL"), (funnel.signal or {}, "Final BUY or SELL")):
            not_hold = {each: counts[each] for each in ("SELL", "BUY")}
            parts = [(COLOUR_OF_CLASS[each], count / bars) for each, count in not_hold.items()]
            stages.append(FunnelStage(label, parts, sum(not_hold.values())))
        kept = {_funnel_name(name): count for name, count in (funnel.kept or {}).items() if name != "hold"}
        ordered = funnel.ordered or 0
        stages.append(FunnelStage("Ordered", [("strategy", ordered / bars)], ordered, _removed(kept)))
    submitted, too_small = funnel.submitted, funnel.zero_size or 0
    # Earlier records sized an order before they submitted it.
    before = too_small if funnel.ordered == submitted + too_small else 0
    lost = {"smaller than one lot": before}
    stages.append(FunnelStage("Submitted", [("strategy", submitted / bars)], submitted, _removed(lost)))
    lost = {"smaller than one lot": too_small - before}
    lost |= {f"rejected ({why})": count for why, count in funnel.rejected.items()} | {"unfilled": funnel.unfilled}
    stages.append(FunnelStage("Filled", [("strategy", funnel.filled / bars)], funnel.filled, _removed(lost)))
    return stages


def _removed(lost: Mapping[str, int]) -> str:
    return ", ".join(f"{whole(count)} {why}" for why, count in lost.items() if count)


def _funnel_name(name: str) -> str:
    return FUNNEL_NAMES.get(name, name if name in CLASS_NAMES else name.replace("_", " "))


def _flat(counts: Mapping[str, JsonValue], before: str = "") -> list[tuple[str, int | None]]:
    """Return the counts with readable names, nested ones after their parent's; None where a count is unknown."""
    result: list[tuple[str, int | None]] = []
    for name, value in counts.items():
        text = _funnel_name(str(name))
        label = f"{before}: {text}" if before else text[0].upper() + text[1:]
        if isinstance(value, Mapping):
            result += _flat(value, label) or [(label, 0)]
        else:
            result.append((label, cast("int | None", value)))
    return result


def _class_row(each: str, raw: Diversity, final: Diversity, fills: Fills) -> list[str]:
    labels = final.label_shares
    cells = [each, percent(labels[each]) if labels else NULL]
    for described in (raw, final):
        shares = described.shares
        cells += [whole(described.counts[each]), percent(shares[each]) if shares else NULL]
    return [*cells, {"SELL": whole(fills.SELL), "HOLD": NULL, "BUY": whole(fills.BUY)}[each]]


def _in_order(confidence: Mapping[str, Confidence | None]) -> list[tuple[str, Confidence | None]]:
    return [(name, confidence[name]) for name in CLASS_NAMES if name in confidence]


def _confidence_row(name: str, found: Confidence | None) -> list[str]:
    return [name, *([NULL] * 4 if found is None else map(percent, (found.mean, found.q10, found.q50, found.q90)))]
