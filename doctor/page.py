"""The diagnosis as an offline page: the verdict, the ranked findings and charts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ..data.labels import CLASS_NAMES
from ..errors import RecordError
from ..reports.page import render
from ..reports.static_charts import grid_chart, histogram_chart
from ..results.caveats import stamps
from ..results.number_text import percent, ratio
from ..storage.atomic_files import write_text
from .finding import Diagnosis, Finding

EDGES = {"broken": "bad", "suspect": "fair", "warning": "fair", "ok": "good", "skipped": ""}
LEADS = {
    "broken": "Broken: no number of this model is valid before the first finding below is fixed.",
    "suspect": "Suspect: a finding below may raise or lower its numbers.",
    "no skill": "No skill: nothing is broken, but the model was not shown to separate BUY from SELL. This is a valid result.",
    "healthy": "Healthy: nothing is broken, and the model separates BUY from SELL.",
}
COLOURS = ("sell", "hold", "buy")
AREAS = ("SELL against the rest", "HOLD against the rest", "BUY against the rest", "BUY against SELL")


def write_diagnosis(diagnosis: Diagnosis, path: Path) -> None:
    """Write the page to ``path``.

    Raises
    ------
    RecordError
        When the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, render_diagnosis(diagnosis))
    except OSError as error:
        raise RecordError(f"--html: {path} cannot be written: {error.strerror or error}. Choose another path.") from None


def render_diagnosis(diagnosis: Diagnosis) -> str:
    """Return the whole page as HTML; user text is escaped."""
    return render(
        "doctor",
        title=f"flagbt doctor: {diagnosis.subject}",
        banners=stamps(synthetic=diagnosis.synthetic, overlap=False),
        subject=diagnosis.subject,
        lead=LEADS[diagnosis.verdict],
        findings=diagnosis.problems or [each for each in diagnosis.findings if each.severity == "warning"],
        numbers=_numbers,
        edges=EDGES,
        sections=list(_sections(diagnosis.pictures)),
        checks=[
            (f"{number}. {each.check}", each.severity, _short(each.value), _short(each.limit), each.message)
            for number, each in enumerate(diagnosis.findings, 1)
        ],
        examined=", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in diagnosis.coverage.items()),
    )


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _numbers(each: Finding) -> str:
    """Return a finding's number, its limit and its share of the symptom, to follow the severity."""
    share = "" if each.explains is None else f"; explains {100 * each.explains:.0f} %"
    if each.value is None:
        return share
    return f": {_short(each.value)}" + ("" if each.limit is None else f", limit {_short(each.limit)}") + share


def _sections(pictures: dict[str, Any]) -> Iterator[Markup]:
    """Yield what the checks have measured, where they could run."""
    if "predicted" in pictures:
        yield _predictions(pictures)
    if "histograms" in pictures:
        low, high = pictures["logit_range"]
        counts = dict(zip(CLASS_NAMES, (np.asarray(each) for each in pictures["histograms"]), strict=True))
        yield render(
            "doctor/logits", chart=histogram_chart(counts, np.linspace(low, high, 41), COLOURS, "logits", unit="logit")
        )
    if rows := pictures.get("drift"):
        yield render("doctor/drift", rows=rows, longest=max(1.0, *(psi for _, psi, _, _ in rows)))
    if (sweep := pictures.get("sweep")) is not None:
        labels = ("offset of BUY", "offset of SELL", "MCC")
        yield render(
            "doctor/offsets",
            chart=grid_chart(sweep.mcc, sweep.buy, sweep.sell, "sweep", labels=labels),
            best=sweep.best,
            areas=list(zip(AREAS, pictures["aucs"], strict=True)),
        )


def _predictions(pictures: dict[str, Any]) -> Markup:
    shares = [("most probable class", pictures["predicted"]), ("mean probability", pictures["mean"])]
    if pictures["prior"] is not None:
        shares.append(("training labels", pictures["prior"]))
    quantiles = pictures["logit_quantiles"]
    rows = [
        (c, percent(pictures["predicted"][k]), percent(pictures["confidence"][k]), *(ratio(quantiles[q][k]) for q in (0, 2)))
        for k, c in enumerate(CLASS_NAMES)
    ]
    named = [(name, dict(zip(CLASS_NAMES, values, strict=True))) for name, values in shares]
    return render("doctor/predictions", shares=named, rows=rows)
