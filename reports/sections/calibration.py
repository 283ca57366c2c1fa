"""Calibration: whether probabilities match frequencies, and the confusion of signals and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...data.labels import CLASS_NAMES, label_spec
from ...results.number_text import percent, ratio, whole
from ...results.run_record import RunRecord
from ..interactive_charts import Line, Marks, Panel, line_chart
from ..page import Html, details, escape, paragraph, section, table
from .diversity import COLOUR_OF_CLASS

FEWEST_ROWS = 30  # in a drawn bin: a share of fewer bars is too uncertain
DIAGONAL = Line("Perfectly calibrated", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "muted", "dotted")


def calibration_section(stored: RunRecord) -> Html:
    """Show reliability, ECE and the confusion matrix, or state why there are none."""
    scores = stored.raw_metrics["labels"]
    if scores is None:
        has_labels = stored.manifest["checkpoint"] or stored.manifest["config"].get("labels")
        why = "no bar has both a label and a signal" if has_labels else "this strategy has no probabilities"
        if stored.manifest["format_version"] == 1:
            why = "flagbt did not measure it when this run was made; run it again"
        return section("Calibration and confusion", paragraph(f"Left out: {why}."))
    rows = [["Expected calibration error (15 bins)", percent(scores["raw"]["ece"]), percent(scores["calibrated"]["ece"])]]
    question = label_spec(scores["labels"]).question
    whose = "" if stored.manifest["checkpoint"] else " The labels are the strategy's label_spec, or else the default."
    charts = f'<div class="columns"><div>{_of_the_highest(scores)}</div><div>{_by_class(scores)}</div></div>\n'
    return section(
        "Calibration and confusion",
        paragraph(
            f"The label of a bar answers the question: {question} {whole(scores['rows'])} bars have a label and a "
            f"signal.{whose}",
            "muted",
        ),
        charts,
        table("Distance of the probabilities from the outcomes", ["", "Before calibration", "After"], rows),
        _confusion(scores),
        details("The numbers of the reliability charts", *_bins_tables(scores)),
    )


def reliability_line(name: str, bins: Sequence[Mapping[str, Any]], colour: str, dash: str = "solid") -> Line:
    """Return a reliability curve: predicted probability against observed share, without bins of few bars."""
    drawn = [each for each in bins if each["rows"] >= FEWEST_ROWS]
    x, y = ([each[key] for each in drawn] for key in ("mean_probability", "share_happened"))
    return Line(name, np.array(x, dtype=np.float64), np.array(y, dtype=np.float64), colour, dash)


def reliability_curves(lines: Sequence[Line], name: str, *, description: str, caption: str) -> Html:
    """Draw reliability curves over the diagonal, with a mark at each bin."""
    marks = [Marks(each.name, each.x, each.y, each.colour) for each in lines if len(each.x)]
    panel = Panel([DIAGONAL, *lines], "Observed frequency", "percent", 300, marks)
    return line_chart(
        [panel], name, description=description, caption=caption, x_title="Predicted probability", x_unit="percent"
    )


def _of_the_highest(scores: Mapping[str, Any]) -> Html:
    lines = [
        reliability_line("Before calibration", scores["raw"]["reliability"], "benchmark", "dashed"),
        reliability_line("After calibration", scores["calibrated"]["reliability"], "strategy"),
    ]
    return reliability_curves(
        lines,
        "reliability",
        caption=f"Of the most probable class. {_few()}",
        description="How often the most probable class occurred, by its probability, before and after calibration",
    )


def _by_class(scores: Mapping[str, Any]) -> Html:
    by_class = scores["calibrated"]["reliability_by_class"]
    lines = [
        reliability_line(each, by_class[each], COLOUR_OF_CLASS[each], dash)
        for each, dash in zip(CLASS_NAMES, ("solid", "dashed", "solid"), strict=True)
    ]
    return reliability_curves(
        lines,
        "reliability-by-class",
        caption=f"Of each class, after calibration. {_few()}",
        description="How often each class occurred, by its probability after calibration",
    )


def _few() -> str:
    return f"Bins of fewer than {FEWEST_ROWS} bars are not drawn."


def _confusion(scores: Mapping[str, Any]) -> Html:
    counts = np.array(scores["confusion"])
    rows = []
    for name, row in zip(CLASS_NAMES, counts, strict=True):
        total = max(1, int(row.sum()))
        cells = [_shaded(int(count), int(count) / total, right=CLASS_NAMES[k] == name) for k, count in enumerate(row)]
        rows.append([name, *cells, whole(int(row.sum()))])
    columns = ["Label", *(f"Signal {name}" for name in CLASS_NAMES), "All"]
    caption = (
        f"Confusion: final signals on the bars of each label, with their share of the row. Accuracy "
        f"{percent(scores['accuracy'])} (always HOLD: {percent(scores['shares']['HOLD'])}), "
        f"Matthews correlation {ratio(scores['mcc'])}"
    )
    return table(caption, columns, rows)


def _shaded(count: int, share: float, *, right: bool) -> Html:
    strength = round(8 + 42 * share)
    colour = "strategy" if right else "sell"
    style = f"background:color-mix(in srgb,var(--{colour}) {strength}%,transparent)"
    return Html(f'<span class="swatch" style="{style}">{escape(whole(count))} · {escape(percent(share, 0))}</span>')


def _bins_tables(scores: Mapping[str, Any]) -> list[str]:
    columns = ["Predicted probability", "Bars", "Mean prediction", "Observed frequency"]
    found = [
        ("Most probable class, before calibration", scores["raw"]["reliability"]),
        ("Most probable class, after calibration", scores["calibrated"]["reliability"]),
        *((f"{name}, after calibration", scores["calibrated"]["reliability_by_class"][name]) for name in CLASS_NAMES),
    ]
    return [table(caption, columns, [_bin_row(each) for each in bins]) for caption, bins in found]


def _bin_row(each: Mapping[str, Any]) -> list[str]:
    return [
        f"{percent(each['low'])} .. {percent(each['high'])}",
        whole(each["rows"]),
        percent(each["mean_probability"]),
        percent(each["share_happened"]),
    ]
