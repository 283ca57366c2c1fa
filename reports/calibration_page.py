"""A fitted calibration as one offline page: its effect, its bars, and whether it could help."""

from __future__ import annotations

import json
from pathlib import Path

from ..data.labels import CLASS_NAMES
from ..errors import RecordError
from ..results.calibration_result import CalibrationResult, Scores
from ..results.caveats import stamps
from ..results.number_text import ratio
from ..results.reliability import Reliability
from ..storage.atomic_files import write_text
from .page import render
from .static_charts import reliability_chart, reliability_png

HELD_OUT = (
    "Before and after are measured on the bars of the fit itself. Held out: five segments in turn, each scored with a "
    "calibration fitted on the other four."
)


def calibration_columns(done: CalibrationResult) -> dict[str, Scores]:
    """Return the scores to compare: before, after, and held out where it could be measured."""
    shown = {"before": done.before, "after": done.after}
    return shown if done.held_out is None else {**shown, "held out": done.held_out}


def calibration_rows(done: CalibrationResult) -> list[list[str]]:
    """Return the table of a calibration's effect: a name, then a cell for each of ``calibration_columns``."""
    columns = list(calibration_columns(done).values())
    whose = "these bars'" if done.checkpoint.label_shares is None else "the training"

    def threes(key: str) -> list[str]:
        return [" / ".join(f"{100 * getattr(each.scores, key)[name]:.1f}" for name in CLASS_NAMES) + " %" for each in columns]

    return [
        ["NLL, nats per bar", *(ratio(each.scores.nll, 4) for each in columns)],
        [f"NLL of {whose} shares alone", *(ratio(each.scores.nll_prior, 4) for each in columns)],
        ["ECE of the most probable class", *(ratio(each.scores.ece, 4) for each in columns)],
        ["calibration error S / H / B", *(" / ".join(f"{x:.4f}" for x in each.reliability.errors) for each in columns)],
        ["most probable class S / H / B", *threes("predicted_shares")],
        ["mean probability S / H / B", *threes("mean_probabilities")],
        ["MCC of the most probable class", *(ratio(each.scores.mcc, 4) for each in columns)],
        ["labelled bars", *(f"{each.scores.rows:,}" for each in columns)],
    ]


def curves_of(done: CalibrationResult) -> dict[str, Reliability]:
    """Return the reliability to draw: before, and after (held out where it could be measured)."""
    after = ("after", done.after) if done.held_out is None else ("after, held out", done.held_out)
    return {"before": done.before.reliability, after[0]: after[1].reliability}


def write_pages(done: CalibrationResult, *, html: Path | None, png: Path | None) -> None:
    """Write the page and the picture to the given paths.

    Raises
    ------
    RecordError
        When one cannot be written.
    """
    for option, path in (("--html", html), ("--png", png)):
        if path is None:
            continue
        try:
            if option == "--html":
                write_text(path, render_calibration(done))
            else:
                reliability_png(curves_of(done), path)
        except OSError as error:
            raise RecordError(f"{option}: {path} cannot be written: {error.strerror or error}. Choose another place.") from None


def render_calibration(done: CalibrationResult) -> str:
    """Return the whole page; a user's text is escaped."""
    calibration, columns = done.stored.calibration, calibration_columns(done)
    return render(
        "calibration",
        title=f"flagbt calibrate: {done.checkpoint.name}",
        banners=[*stamps(synthetic=done.synthetic, overlap=False), *done.warnings],
        checkpoint=done.checkpoint,
        calibration=calibration,
        before=done.before.scores,
        after=(done.held_out or done.after).scores,
        held_out=done.held_out is not None,
        notes=done.notes,
        caption=HELD_OUT,
        columns=["", *columns],
        rows=calibration_rows(done),
        chart=reliability_chart(curves_of(done), "reliability"),
        json=json.dumps(calibration.to_json(), indent=2),
        decision=done.stored.decision,
        source=done.source,
        doctor_verdict=done.doctor_verdict,
    )
