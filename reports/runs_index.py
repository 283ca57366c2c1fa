"""The index of a runs folder: one page that lists all runs, newest first, rebuilt after each run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import FlagbtError, RecordError
from ..results.caveats import legend, marks
from ..results.number_text import ratio
from ..results.run_reader import read_numbers
from ..results.run_record import RunNumbers
from ..results.significance.current_trials import CurrentTrials
from ..results.store import list_runs
from ..storage.atomic_files import write_text
from ..storage.locks import locked
from .page import render
from .sections.significance import luck_word, trials_then_now
from .tearsheet import title_of

INDEX_FILE = "index.html"


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """A run in the list: the texts of its row."""

    folder: str
    title: str
    source: str
    span: str
    total_return: str
    benchmark_return: str
    sharpe_daily: str
    interval: str
    luck: str
    unstated: bool
    tried: str
    trades: str


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
    return render("runs_index", title="Runs – flagbt", wide=True, runs=rows, legend=legend(shown), damaged=damaged)


def _row(folder: str, run: RunNumbers) -> IndexRow:
    data, mine, known = run.data, run.metrics, run.significance
    low, high = (None, None) if known is None else (known.sharpe_interval.low, known.sharpe_interval.high)
    return IndexRow(
        folder=folder,
        title=title_of(run.info),
        source=data.source,
        span=" ".join([f"{data.first[:10]} .. {data.last[:10]}", *marks(run.info)]),
        total_return=mine.text("total_return"),
        benchmark_return=run.benchmark_metrics.text("total_return"),
        sharpe_daily=mine.text("sharpe_daily"),
        interval=ratio(None) if low is None else f"{ratio(low)} .. {ratio(high)}",
        luck=luck_word(known),
        unstated=not run.settings.bars_seen_stated,
        tried=trials_then_now(known),
        trades=mine.text("trades"),
    )
