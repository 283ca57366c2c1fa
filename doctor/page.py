"""The diagnosis as an offline page: the verdict, the ranked findings and charts."""

from __future__ import annotations

from pathlib import Path

from ..errors import RecordError
from ..reports.page import Html, document, escape, paragraph, section, table, verdict_card
from ..results.caveats import stamps
from ..storage.atomic_files import write_text
from .finding import Diagnosis, Finding
from .registry import all_checks

EDGES = {"broken": "bad", "suspect": "fair", "warning": "fair", "ok": "good", "skipped": ""}
LEADS = {
    "broken": "Broken: no number of this model is valid before the first finding below is fixed.",
    "suspect": "Suspect: a finding below may raise or lower its numbers.",
    "no skill": "No skill: nothing is broken, but the model was not shown to separate BUY from SELL. This is a valid result.",
    "healthy": "Healthy: nothing is broken, and the model separates BUY from SELL.",
}


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
    found = {each.check: each for each in diagnosis.findings}
    body = [
        Html(f"<h1>Diagnosis of {escape(diagnosis.subject)}</h1>\n"),
        paragraph(LEADS[diagnosis.verdict], "lead"),
        _problems(diagnosis),
        *(check.section(found[check.name]) for check in all_checks() if check.name in found),
        _checks(diagnosis),
        _coverage(diagnosis),
    ]
    return document(
        f"flagbt doctor: {diagnosis.subject}", "".join(body), banners=stamps(synthetic=diagnosis.synthetic, overlap=False)
    )


def _problems(diagnosis: Diagnosis) -> Html:
    shown = diagnosis.problems or [each for each in diagnosis.findings if each.severity == "warning"]
    if not shown:
        return section("Findings", paragraph("No problem was found."))
    title = "Problems, first causes first" if diagnosis.problems else "Warnings"
    return section(title, *(_finding(number, each) for number, each in enumerate(shown, 1)))


def _finding(number: int, each: Finding) -> Html:
    card = verdict_card(f"{number}. {each.check}", f"{each.severity}{_number(each)}", each.message, EDGES[each.severity])
    more = paragraph(each.otherwise, "muted") if each.otherwise and each.is_problem else ""
    undone = paragraph(each.undone) if each.undone else ""
    remedy = paragraph(f"Remedy: {each.remedy}") if each.remedy else ""
    return Html(f"{card}{undone}{more}{remedy}")


def _number(each: Finding) -> str:
    share = "" if each.explains is None else f"; explains {100 * each.explains:.0f} %"
    if each.value is None:
        return share
    return f": {each.value:.4g}" + ("" if each.limit is None else f", limit {each.limit:.4g}") + share


def _checks(diagnosis: Diagnosis) -> Html:
    rows = [
        (
            f"{number}. {each.check}",
            each.severity,
            "" if each.value is None else f"{each.value:.4g}",
            "" if each.limit is None else f"{each.limit:.4g}",
            each.message,
        )
        for number, each in enumerate(diagnosis.findings, 1)
    ]
    return section("Every check", table("In rank order", ["check", "severity", "value", "limit", "message"], rows, words=True))


def _coverage(diagnosis: Diagnosis) -> Html:
    tried = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in diagnosis.coverage.items())
    return section("Examined", paragraph(f"{tried}."))
