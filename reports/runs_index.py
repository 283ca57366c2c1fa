"""The index of a runs folder: one page that lists all runs, newest first, rebuilt after each run."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from ..errors import FlagbtError, RecordError
from ..results.caveats import legend, marks
from ..results.number_text import ratio, whole
from ..results.run_reader import read_numbers
from ..results.run_record import RunNumbers
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
            run = trials.run(read_numbers(folder))
            rows.append(_row(folder.name, run))
            shown.update(marks(run.info))
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


def _row(folder_name: str, run: RunNumbers) -> list[object]:
    data, mine, known = run.data, run.metrics, run.significance
    link = f'<a href="{quote(folder_name)}/tearsheet.html">{escape(title_of(run.info))}</a>'
    span = " ".join([f"{data.first[:10]} .. {data.last[:10]}", *marks(run.info)])
    low, high = (None, None) if known is None else (known.sharpe_interval.low, known.sharpe_interval.high)
    return [
        Html(f"{link}<br>{_small(folder_name)}"),
        Html(f"{escape(data.source)}<br>{_small(span)}"),
        mine.text("total_return"),
        run.benchmark_metrics.text("total_return"),
        mine.text("sharpe_daily"),
        ratio(None) if low is None else f"{ratio(low)} .. {ratio(high)}",
        _luck(run),
        trials_then_now(known),
        mine.text("trades"),
    ]


def _luck(run: RunNumbers) -> Html:
    note = "" if run.settings.bars_seen_stated else f"<br>{_small('bars seen: not stated')}"
    return Html(f"{escape(luck_word(run.significance))}{note}")


def _small(text: str) -> str:
    return f"<small>{escape(text)}</small>"
