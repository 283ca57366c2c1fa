"""The diagnosis as an offline page: the verdict, the ranked findings and charts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.labels import CLASS_NAMES
from ..errors import RecordError
from ..reports.page import Html, bar, document, escape, key, paragraph, section, table, verdict_card
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
    body = [
        Html(f"<h1>Diagnosis of {escape(diagnosis.subject)}</h1>\n"),
        paragraph(LEADS[diagnosis.verdict], "lead"),
        _problems(diagnosis),
        _shares(diagnosis.pictures),
        _logits(diagnosis.pictures),
        _drift(diagnosis.pictures),
        _sweep(diagnosis.pictures),
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


def _shares(pictures: dict[str, Any]) -> Html:
    if "predicted" not in pictures:
        return Html("")
    rows = [("most probable class", pictures["predicted"]), ("mean probability", pictures["mean"])]
    if pictures["prior"] is not None:
        rows.append(("training labels", pictures["prior"]))
    bars = "".join(
        bar(name, list(zip(COLOURS, shares, strict=True)), " / ".join(f"{100 * s:.0f}" for s in shares) + " %")
        for name, shares in rows
    )
    quantiles = pictures["logit_quantiles"]
    cells = [
        (c, percent(pictures["predicted"][k]), percent(pictures["confidence"][k]), *(ratio(quantiles[q][k]) for q in (0, 2)))
        for k, c in enumerate(CLASS_NAMES)
    ]
    return section(
        "Predictions",
        key(zip(COLOURS, CLASS_NAMES, strict=True)),
        Html(f'<div class="bars">{bars}</div>\n'),
        table(
            "By most probable class, on all tested bars: share, mean confidence, and logits at two percentiles",
            ["class", "share", "confidence", "5 %", "95 %"],
            cells,
        ),
    )


def _logits(pictures: dict[str, Any]) -> Html:
    if "histograms" not in pictures:
        return Html("")
    low, high = pictures["logit_range"]
    counts = dict(zip(CLASS_NAMES, (np.asarray(each) for each in pictures["histograms"]), strict=True))
    chart = histogram_chart(counts, np.linspace(low, high, 41), COLOURS, "logits", unit="logit")
    return section(
        "Logits",
        chart,
        paragraph("If all logits of one class are above the others, the model always predicts that class.", "muted"),
    )


def _drift(pictures: dict[str, Any]) -> Html:
    rows = pictures.get("drift")
    if not rows:
        return Html("")
    longest = max(1.0, *(psi for _, psi, _, _ in rows))
    bars = "".join(bar(name, [("buy", psi / longest)], f"PSI {psi:.2f}") for name, psi, _, _ in rows)
    return section(
        "Drift by column",
        Html(f'<div class="bars">{bars}</div>\n'),
        table(
            "Tested bars against training bars, the twelve columns with the largest drift (PSI above 0.25: another population)",
            ["column", "PSI", "KS", "outside the training's range"],
            [(name, ratio(psi), ratio(ks), percent(outside)) for name, psi, ks, outside in rows],
        ),
    )


def _sweep(pictures: dict[str, Any]) -> Html:
    sweep = pictures.get("sweep")
    if sweep is None:
        return Html("")
    best, sell, buy = sweep.best
    names = ("SELL against the rest", "HOLD against the rest", "BUY against the rest", "BUY against SELL")
    return section(
        "Could any pair of offsets help?",
        grid_chart(sweep.mcc, sweep.buy, sweep.sell, "sweep", labels=("offset of BUY", "offset of SELL", "MCC")),
        paragraph(
            f"Each cell is the MCC with these offsets added to the logits; HOLD has 0. The best, {best:.3f} at SELL "
            f"{sell:+.2f} and BUY {buy:+.2f}, is tuned on the labels that score it: an upper bound. Volatility alone "
            "raises it.",
            "muted",
        ),
        table(
            "Areas under the ROC curve with 95 % intervals from a bootstrap of weeks; 0.5 is chance",
            ["", "AUC", "from", "to"],
            [(name, *(ratio(x, 3) for x in each)) for name, each in zip(names, pictures["aucs"], strict=True)],
        ),
    )


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
