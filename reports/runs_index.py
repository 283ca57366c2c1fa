"""The index of a runs folder: one page that lists all runs, newest first, rebuilt after each run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import FlagbtError, RecordError
from ..results.caveats import legend, marks, unstated
from ..results.metrics import Metrics
from ..results.number_text import ratio, whole
from ..results.run_record import read_record
from ..results.significance.current_trials import CurrentTrials
from ..results.store import list_runs
from ..storage.atomic_files import write_text
from ..storage.locks import locked
from .page import Html, document, escape, paragraph, table
from .sections.significance import luck_word, trials_then_now
from .tearsheet import title_of

INDEX_FILE = "index.html"
COLUMNS = ("Run", "Data", "Return", "Buy and hold", "Sharpe, daily", "90 % interval", "Luck", "Tried, then / now", "Trades")


def write_index(out: Path) -> Path:
    """List the runs of a folder on its index.html, and return the page's path.

    Parallel calls wait for each other before they read the runs, so that the last one sees all runs.

    Raises
    ------
    RecordError
        Where it cannot be written; the runs and the old page then stay unchanged.
    """
    out = Path(out)
    path = out / INDEX_FILE
    try:
        with locked(out):
            write_text(path, render_index(out))
    except OSError as error:
        raise RecordError(
            f"the runs are kept, but their list {path} could not be written: {error.strerror or error}. "
            "Free some space or fix the permissions there; the next run writes it again."
        ) from error
    return path


def render_index(out: Path) -> str:
    """Return the page, with each run deflated by the trials known now and damaged runs named below the table.

    Raises
    ------
    RecordError
        Where the trial log cannot be read.
    """
    rows, damaged, trials = [], [], CurrentTrials()
    shown: set[str] = set()
    trials.log(out)  # fail here, so that an unreadable log is not blamed on a run
    for folder in reversed(list_runs(out)):
        try:
            manifest, metrics = read_record(folder)
            rows.append(_row(folder, manifest, metrics, trials.significance(folder, manifest, metrics)))
            shown.update(marks(manifest))
        except FlagbtError as error:
            damaged.append(str(error))
    body = [f"<header>\n<h1>Runs</h1>\n{paragraph(_lead(len(rows)), 'lead')}</header>\n"]
    if rows:
        body.append(table("Newest first; click a column header to sort", COLUMNS, rows, sortable=True))
        body += [paragraph(line, "muted") for line in legend(shown)]
    if damaged:
        items = "".join(f"<li>{escape(each)}</li>\n" for each in damaged)
        body.append(f"<section>\n<h2>Not readable</h2>\n<ul>\n{items}</ul>\n</section>\n")
    return document("Runs – flagbt", "".join(body), wide=True)


def _lead(count: int) -> str:
    return "One run." if count == 1 else f"{whole(count)} runs."


def _row(
    folder: Path, manifest: Mapping[str, Any], metrics: Mapping[str, Any], certainty: Mapping[str, Any] | None
) -> list[object]:
    data, mine = manifest["data"], Metrics.from_json(metrics["strategy"])
    link = f'<a href="{quote(folder.name)}/tearsheet.html">{escape(title_of(manifest))}</a>'
    span = " ".join([f"{data['first'][:10]} .. {data['last'][:10]}", *marks(manifest)])
    interval = (certainty or {}).get("sharpe_interval") or {}
    low, high = interval.get("low"), interval.get("high")
    return [
        Html(f"{link}<br>{_small(folder.name)}"),
        Html(f"{escape(data['source'])}<br>{_small(span)}"),
        mine.text("total_return"),
        Metrics.from_json(metrics["benchmark"]).text("total_return"),
        mine.text("sharpe_daily"),
        ratio(None) if low is None else f"{ratio(low)} .. {ratio(high)}",
        _luck(certainty, manifest),
        trials_then_now(certainty),
        mine.text("trades"),
    ]


def _luck(certainty: Mapping[str, Any] | None, manifest: Mapping[str, Any]) -> Html:
    note = f"<br>{_small('bars seen: not stated')}" if unstated(manifest["config"]) else ""
    return Html(f"{escape(luck_word(certainty))}{note}")


def _small(text: str) -> str:
    return f"<small>{escape(text)}</small>"
