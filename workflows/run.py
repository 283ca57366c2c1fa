"""Run: a backtest's result as Python and notebooks use it, and its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..arrays import PhaseProgress
from ..errors import UsageError, kind_of, quoted_value
from ..results.run_info import FORMAT_VERSION
from ..results.run_reader import read_run as read_record
from ..results.run_record import RunRecord
from ..storage.paths import page_path, path_of
from .inputs import check_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Run(RunRecord):
    """The result of a backtest, in memory or read back from its folder.

    Attributes
    ----------
    metrics : Metrics
        Of the strategy: ``run.metrics.sharpe_daily``, ``run.metrics.to_frame()``.
    benchmark : Benchmark
        Buy and hold of the same bars at the same costs: its ``metrics`` and ``equity``.
    equity : DataFrame
        Per bar, UTC index ``time``: close, cash, position_size, equity, exposure, benchmark_equity.
    returns : Series
        One return a UTC day.
    signals : DataFrame or None
        Per bar: the signals, with logits and probabilities where there is a model, and the target exposure. None for a plain
        Backtrader strategy.
    orders, trades : DataFrame
        Every order, the rejected ones included; round trips, the open one included.
    funnel : Funnel
        What became of every signal and order, in counts that add up.
    verdicts : Verdicts
        On the signals, the model, and a result too good to be true; each None where it is undefined.
    significance, cost_sensitivity, label_scores
        How much of the result could be luck; at which costs it ends; the signals against the labels. None in old records.
    before_after : BeforeAfter or None
        The parts before and after the newest text that the checkpoint's base has read, where the range contains that date.
    settings : RunSettings
        Everything that decides the result. ``data``, ``checkpoint`` and ``info`` describe the rest of the record.
    folder : Path or None
        None for a run that was not saved.
    """

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read a run folder; also of older versions.

        Raises
        ------
        UsageError
            When ``folder`` is not a path.
        RecordError
            When a file is missing, damaged, or of a newer format.
        """
        return cls.of(read_record(path_of(folder, "folder")))

    @classmethod
    def of(cls, record: RunRecord) -> Self:
        """Return a record as a Run."""
        return cls(**{name: getattr(record, name) for name in RunRecord.__dataclass_fields__})

    def save(self, out: str | Path = "runs", *, name: str | None = None, notes: str | None = None) -> Path:
        """Write the run into a new folder under ``out``, as `flagbt run` does, and return the folder.

        The trial log in ``out`` then counts this run, and every backtest on the same bars that this process has made and that
        no folder of runs has counted; the figures of luck in the folder count them too. The list ``index.html`` is updated.

        Parameters
        ----------
        out : str or Path
            The folder of run folders, made if missing.
        name, notes : str, optional
            Your own text.

        Raises
        ------
        UsageError
            When an argument has the wrong type.
        RecordError
            When the folder cannot be written; nothing is left behind then.
        """
        for argument, value in (("name", name), ("notes", notes)):
            if value is not None and not isinstance(value, str):
                raise UsageError(f"{argument}: expected text, got {kind_of(value)}.")
            if value is not None and any("\ud800" <= each <= "\udfff" for each in value):
                raise UsageError(
                    f"{argument}: {quoted_value(value)} holds half a character, which no file can hold. Remove it."
                )
        folder = save_run(self, path_of(out, "out"), name=name, notes=notes).folder
        assert folder is not None
        return folder

    def tearsheet(self, page: str | Path) -> Path:
        """Write the run's offline page, and return its path.

        Raises
        ------
        RecordError
            When it cannot be written; an existing page then stays unchanged.
        """
        from ..reports.tearsheet import render_tearsheet
        from ..results.store import write_page

        return write_page(page_path(page, "run.html"), render_tearsheet(self))

    def plot(self) -> Figure:
        """Return a matplotlib figure of the equity against buy and hold, and of the drawdown below it."""
        from ..reports.notebook import run_figure

        return run_figure(self)

    def __repr__(self) -> str:
        from ..reports.notebook import run_lines

        return "\n".join(run_lines(self))

    def _repr_html_(self) -> str:
        from ..reports.notebook import run_html

        return str(run_html(self))


read_run = Run.read


def save_run(
    run: Run,
    out: Path,
    *,
    name: str | None = None,
    notes: str | None = None,
    command: Sequence[str] = (),
    progress: PhaseProgress = lambda _phase, _done, _total: None,
) -> Run:
    """Write a run into a new folder under ``out``, and return it with that folder.

    Parameters
    ----------
    name, notes : str, optional
        The user's own text.
    command : sequence of str
        The command line, for the record.
    progress : callable
        Called with (``report``, done, in all).

    Raises
    ------
    RecordError
        When the folder or the trial log cannot be written; no folder is left then.
    """
    from ..reports.runs_index import write_index
    from ..reports.tearsheet import render_tearsheet
    from ..results.significance.current_trials import recorded_trial, recounted
    from ..results.store import write_run
    from ..results.trial_log import add_trials, read_trials
    from .unsaved_trials import UNSAVED, missing_from

    # 1. The trials on these bars: those of the folder, of this process, and this run
    check_out(out, option="out" if not command else "--out")
    log = read_trials(out)
    own = recorded_trial(run, log)
    if own is not None:
        tried = UNSAVED.on(own.bars)
        new = missing_from(log, [*(tried if own in tried else ()), own])
        run = recounted(run, log.with_trials(new).count(own))
        add_trials(out, new)  # before the folder: they count even if the record is lost

    # 2. The page and the folder
    progress("report", 0, 1)
    info = replace(run.info, format_version=FORMAT_VERSION, name=name, notes=notes, command=tuple(command))
    stored = write_run(replace(run, info=info), out, page=render_tearsheet)
    progress("report", 1, 1)
    write_index(out)
    return stored
