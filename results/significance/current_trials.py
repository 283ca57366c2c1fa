"""Update a stored run's significance to the trials known now; the record keeps the count at the time of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

from ...errors import RecordError
from ..caveats import with_stamp
from ..run_record import RunNumbers
from ..trial_log import Trial, TrialCount, TrialLog, configuration_digest, read_trials
from .answer import Significance
from .measure import YEAR, deflated_answer, verdict
from .sharpe_ratio import Moments

Record = TypeVar("Record", bound=RunNumbers)
_COUNTS = ("trials", "trials_with_sharpe", "variance", "damaged_lines")


class CurrentTrials:
    """Read the trial logs next to run folders, each once.

    Parameters
    ----------
    unsaved : callable
        From the digest of traded bars to trials on them that are in no log yet, which count too; by default none.
    """

    def __init__(self, unsaved: Callable[[str], Iterable[Trial]] = lambda _bars: ()) -> None:
        self._logs: dict[Path, TrialLog] = {}
        self._unsaved = unsaved

    def log(self, out: Path) -> TrialLog:
        """Return the trial log of a runs folder.

        Raises
        ------
        RecordError
            Where it cannot be read.
        """
        out = out.resolve()
        if out not in self._logs:
            self._logs[out] = read_trials(out)
        return self._logs[out]

    def run(self, stored: Record, *, out: Path | None = None) -> Record:
        """Return a run with its significance for the trials known now, see ``current_significance``.

        They come from the log next to its folder, or of the folder of runs ``out`` where the run was not saved; without
        either, it keeps its significance.

        Raises
        ------
        RecordError
            Where the log cannot be read, or the record's section ``certainty`` is damaged.
        """
        folder = None if stored.folder is None else stored.folder.resolve()
        runs = out if folder is None else folder.parent
        if runs is None:
            return stored
        log = self.log(runs)
        if stored.info.trial is not None:
            log = log.with_trials(self._unsaved(stored.info.trial.bars))
        try:
            return replace(stored, significance=current_significance(stored, log))
        except (KeyError, TypeError, ValueError) as error:  # an input is missing, or None
            if folder is None:  # made in this process: no file is damaged
                raise
            raise RecordError(
                f"run {folder.name}: the section certainty of metrics.json in {folder} cannot be read ({error}). "
                "Run the backtest again."
            ) from error


def current_significance(stored: RunNumbers, log: TrialLog) -> Significance | None:
    """Return a record's significance with its deflated Sharpe ratio and its verdict for the trials of a log.

    The answer's inputs hold both counts: ``trials`` now, and ``trials_at_run``. A log with fewer trials than the record, such
    as one of another folder, changes nothing: the recorded trials still count. The same record and log give the same values,
    and the recorded ones without new trials. None for a record without significance.
    """
    known = stored.significance
    if known is None:
        return None
    inputs = known.deflated_sharpe.inputs
    own = recorded_trial(stored, log)
    now = None if own is None else log.count(own)
    if now is None or now.trials < cast("int", inputs["trials"]):
        return known
    return _counted(known, stored, now, at_run=cast("int", inputs["trials_at_run"]))


def recounted(run: Record, now: TrialCount) -> Record:
    """Return a run as if it were made now: its significance takes these trials, its own included, as those at the run."""
    known = run.significance
    return run if known is None else replace(run, significance=_counted(known, run, now, at_run=now.trials))


def _counted(known: Significance, run: RunNumbers, now: TrialCount, *, at_run: int) -> Significance:
    """Return the significance with the deflated Sharpe ratio and the verdict of these trials; unchanged by equal ones."""
    then = known.deflated_sharpe
    if tuple(then.inputs[name] for name in _COUNTS) == (now.trials, len(now.sharpes), now.variance, now.damaged_lines):
        return known
    moments = None if then.reason else _moments(known)
    answer = deflated_answer(moments, now, days=cast("int", then.inputs["days"]), at_run=at_run, why=then.reason)
    verdict_now = verdict(answer, known.sharpe_interval, known.random_entries)
    return replace(known, deflated_sharpe=answer, verdict=with_stamp(verdict_now, run.settings))


def recorded_trial(stored: RunNumbers, log: TrialLog) -> Trial | None:
    """Return a stored run as a trial.

    Records before format 3 do not identify their bars: they come from the one line of the log with the same configuration
    and Sharpe ratio; None unless there is exactly one.
    """
    sharpe, stated = stored.metrics.sharpe_daily, stored.info.trial
    if stated is not None:
        return Trial(stated.bars, stated.configuration, sharpe)
    own = configuration_digest(stored.settings, None if stored.checkpoint is None else stored.checkpoint.digest)
    bars = [bars for (bars, configuration), logged in log.trials.items() if configuration == own and logged == sharpe]
    return Trial(bars[0], own, sharpe) if len(bars) == 1 else None


def _moments(known: Significance) -> Moments:
    inputs: Mapping[str, float | None] = known.deflated_sharpe.inputs
    if "sharpe_per_day" not in inputs:  # before format 3
        inputs = known.probabilistic_sharpe.inputs
        inputs = {**inputs, "sharpe_per_day": cast("float", inputs["sharpe_daily"]) / YEAR}
    days, *moments = (cast("float", inputs[name]) for name in ("days", "sharpe_per_day", "skewness", "kurtosis"))
    return Moments(int(days), *moments)
