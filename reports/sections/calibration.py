"""Calibration: whether probabilities match frequencies, and the confusion of signals and labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from ...data.labels import CLASS_NAMES, label_spec
from ...results.label_scores import LabelScores
from ...results.number_text import percent, whole
from ...results.reliability import ReliabilityBin
from ...results.run_record import RunRecord
from ..interactive_charts import Line, Marks, Panel, line_chart
from ..page import render
from .diversity import COLOUR_OF_CLASS

FEWEST_ROWS = 30  # in a drawn bin: a share of fewer bars is too uncertain
DIAGONAL = Line("Perfectly calibrated", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "muted", "dotted")


def calibration_section(stored: RunRecord) -> Markup:
    """Show reliability, ECE and the confusion matrix, or state why there are none."""
    scores = stored.label_scores
    if scores is None:
        has_labels = stored.checkpoint is not None or stored.settings.labels
        reason = "no bar has both a label and a signal" if has_labels else "this strategy has no probabilities"
        if stored.info.format_version == 1:
            reason = "flagbt did not measure it when this run was made; run it again"
        return render("sections/calibration", scores=None, reason=reason)
    bins = [
        ("Most probable class, before calibration", scores.raw.reliability),
        ("Most probable class, after calibration", scores.calibrated.reliability),
        *((f"{name}, after calibration", scores.calibrated.reliability_by_class[name]) for name in CLASS_NAMES),
    ]
    return render(
        "sections/calibration",
        scores=scores,
        question=label_spec(scores.labels).question,
        has_checkpoint=stored.checkpoint is not None,
        of_the_highest=_of_the_highest(scores),
        by_class=_by_class(scores),
        reliability=[(caption, [_bin_row(each) for each in found]) for caption, found in bins],
    )


def reliability_line(name: str, bins: Sequence[ReliabilityBin], colour: str, dash: str = "solid") -> Line:
    """Return a reliability curve: predicted probability against observed share, without bins of few bars."""
    drawn = [each for each in bins if each.rows >= FEWEST_ROWS]
    x, y = [each.mean_probability for each in drawn], [each.share_happened for each in drawn]
    return Line(name, np.array(x, dtype=np.float64), np.array(y, dtype=np.float64), colour, dash)


def reliability_curves(lines: Sequence[Line], name: str, *, description: str, caption: str) -> Markup:
    """Draw reliability curves over the diagonal, with a mark at each bin."""
    marks = [Marks(each.name, each.x, each.y, each.colour) for each in lines if len(each.x)]
    panel = Panel([DIAGONAL, *lines], "Observed frequency", "percent", 300, marks)
    return line_chart(
        [panel], name, description=description, caption=caption, x_title="Predicted probability", x_unit="percent"
    )


def _of_the_highest(scores: LabelScores) -> Markup:
    lines = [
        reliability_line("Before calibration", scores.raw.reliability, "benchmark", "dashed"),
        reliability_line("After calibration", scores.calibrated.reliability, "strategy"),
    ]
    return reliability_curves(
        lines,
        "reliability",
        caption=f"Of the most probable class. {_few()}",
        description="How often the most probable class occurred, by its probability, before and after calibration",
    )


def _by_class(scores: LabelScores) -> Markup:
    by_class = scores.calibrated.reliability_by_class
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


def _bin_row(each: ReliabilityBin) -> list[str]:
    return [
        f"{percent(each.low)} .. {percent(each.high)}",
        whole(each.rows),
        percent(each.mean_probability),
        percent(each.share_happened),
    ]
