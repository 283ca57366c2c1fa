"""Run a backtest and write its run folder: the request's backtest, its metrics, its tearsheet."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..arrays import PhaseProgress
from ..models.device import check_device_name
from .backtest import backtest_inputs, scoring_device, simulate_request
from .inputs import check_out
from .request import RunRequest

if TYPE_CHECKING:
    from ..results.run_record import RunRecord


def run(
    request: RunRequest,
    *,
    out: Path,
    name: str | None = None,
    notes: str | None = None,
    command: list[str] | None = None,
    progress: PhaseProgress = lambda _phase, _done, _total: None,
) -> RunRecord:
    """Run a backtest, write its run folder and return its record.

    Parameters
    ----------
    out : Path
        The folder of run folders.
    name, notes : str, optional
        The user's own text.
    command : list of str, optional
        The command line, for the record.
    progress : callable
        Called with (phase, bars done, bars in all).

    Raises
    ------
    FlagbtError
        With one paragraph for the user; no folder is left then.
    """
    from ..reports.runs_index import write_index
    from ..reports.tearsheet import render_tearsheet
    from ..results.evidence import evidence
    from ..results.recording import Provenance, record_of
    from ..results.store import write_run
    from ..results.trial_log import add_trials, read_trials, trial_of

    # 1. The inputs, and every check that needs no work
    check_device_name(request.scoring.device)
    check_out(out)
    read_trials(out)  # an unreadable log is refused before the work
    inputs = backtest_inputs(request, progress)

    # 2. Backtrader, bar by bar: the strategy, then buy and hold
    backtest, benchmark = simulate_request(request, inputs, progress)

    # 3. How much of the result could be luck, given all trials on these bars, this run included
    started = time.perf_counter()
    trial = trial_of(backtest)
    measured = evidence(backtest, benchmark, read_trials(out).count(trial), seed=request.seed)
    backtest = replace(backtest, seconds={**backtest.seconds, "certainty": time.perf_counter() - started})

    # 4. The page and the folder. The trial is logged first: it counts even if its record is lost
    provenance = Provenance(
        name=name,
        notes=notes,
        command=tuple(command or ()),
        seeds={"strategy": request.seed},
        device=scoring_device(request, inputs.model),
    )
    record = record_of(backtest, benchmark, measured, provenance)
    add_trials(out, [trial])
    progress("report", 0, 1)
    stored = write_run(record, out, page=render_tearsheet)
    progress("report", 1, 1)
    write_index(out)
    return stored
