"""Backtests of this process that are not in a trial log yet: they were tried too, and count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..results.trial_log import Trial, TrialLog


@dataclass
class UnsavedTrials:
    """The configurations that this process has tried and not saved, by bars and configuration.

    A notebook that tries a hundred settings and saves the best has tried a hundred: each backtest's figures of luck count all
    of them on the same bars, and saving any of them adds them all to the folder's trial log.
    """

    _sharpes: dict[tuple[str, str], float | None] = field(default_factory=dict)

    def add(self, trial: Trial) -> None:
        """Add a trial; one that was added before counts once."""
        self._sharpes[trial.bars, trial.configuration] = trial.sharpe

    def on(self, bars: str) -> list[Trial]:
        """Return the trials on the bars with this digest."""
        return [Trial(*key, sharpe) for key, sharpe in self._sharpes.items() if key[0] == bars]


def missing_from(log: TrialLog, trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that a log does not hold, each once."""
    found = {(each.bars, each.configuration): each for each in trials}
    return [each for key, each in found.items() if key not in log.trials]


UNSAVED = UnsavedTrials()
