"""The diagnosis as an offline page: the verdict, the ranked findings and charts."""

from __future__ import annotations

from ..reports.page import render
from ..results.caveats import stamps
from .finding import Diagnosis, Finding
from .registry import all_checks

EDGES = {"broken": "bad", "suspect": "fair", "warning": "fair", "ok": "good", "skipped": ""}
LEADS = {
    "broken": "Broken: no number of this model is valid before the first finding below is fixed.",
    "suspect": "Suspect: a finding below may raise or lower its numbers.",
    "no skill": "No skill: nothing is broken, but the model was not shown to separate BUY from SELL. This is a valid result.",
    "healthy": "Healthy: nothing is broken, and the model separates BUY from SELL.",
}


def render_diagnosis(diagnosis: Diagnosis) -> str:
    """Return the whole page as HTML; user text is escaped."""
    found = {each.check: each for each in diagnosis.findings}
    return render(
        "doctor",
        title=f"flagbt doctor: {diagnosis.subject}",
        banners=[*stamps(synthetic=diagnosis.synthetic, overlap=False), *diagnosis.warnings],
        subject=diagnosis.subject,
        lead=LEADS[diagnosis.verdict],
        findings=diagnosis.problems or [each for each in diagnosis.findings if each.severity == "warning"],
        numbers=_numbers,
        edges=EDGES,
        sections=[check.section(found[check.name]) for check in all_checks() if check.name in found],
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
