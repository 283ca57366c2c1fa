"""Update a stored run's significance to the trials known now; the record keeps the count at the time of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import RecordError
from ..caveats import with_stamp
from ..run_record import RunRecord
from ..trial_log import Trial, TrialLog, configuration_digest, read_trials
from .answer import Answer
from .measure import YEAR, deflated_answer, verdict
from .sharpe_ratio import Moments


class CurrentTrials:
    """Read the trial logs next to run folders, each once."""

    def __init__(self) -> None:
        self._logs: dict[Path, TrialLog] = {}

    def significance(self, folder: Path, manifest: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the significance of the run in ``folder`` from the log next to it, see ``current_significance``.

        Raises
        ------
        RecordError
            Where the log cannot be read, or the record's section ``certainty`` is damaged.
        """
        log = self.log(folder.resolve().parent)
        try:
            return current_significance(manifest, metrics, log)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(
                f"run {folder.name}: the section certainty of metrics.json in {folder} cannot be read ({error}). "
                "Run the backtest again."
            ) from error

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

    def run(self, stored: RunRecord) -> RunRecord:
        """Return a stored run with its significance from the log next to it; raises as ``significance`` does."""
        certainty = self.significance(stored.folder, stored.manifest, stored.metrics)
        return replace(stored, metrics=stored.metrics | {"certainty": certainty})


def current_significance(manifest: Mapping[str, Any], metrics: Mapping[str, Any], log: TrialLog) -> dict[str, Any] | None:
    """Return a record's section ``certainty`` with its deflated Sharpe ratio and its verdict for the trials of a log.

    The answer's inputs hold both counts: ``trials`` now, and ``trials_at_run``. A log with fewer trials than the record, such
    as one of another folder, changes nothing: the recorded trials still count. The same record and log give the same values,
    and the recorded ones without new trials. None for a record without the section.
    """
    if metrics["certainty"] is None:
        return None
    certainty = dict(metrics["certainty"])
    then = certainty["deflated_sharpe"]
    inputs = {"trials_at_run": then["inputs"]["trials"], **then["inputs"]}  # records before format 3 hold one count
    certainty["deflated_sharpe"] = {**then, "inputs": inputs}
    own = recorded_trial(manifest, metrics, log)
    now = None if own is None else log.count(own)
    recorded = tuple(inputs[name] for name in ("trials", "trials_with_sharpe", "variance", "damaged_lines"))
    if now is None or now.trials < inputs["trials"]:
        return certainty
    if recorded == (now.trials, len(now.sharpes), now.variance, now.damaged_lines):
        return certainty
    answer = deflated_answer(
        None if then["reason"] else _moments(certainty),
        now,
        days=inputs["days"],
        at_run=inputs["trials_at_run"],
        why=then["reason"],
    )
    others = {name: Answer(**certainty[name]) for name in ("sharpe_interval", "random_entries")}
    verdict_now = verdict({"deflated_sharpe": answer, **others})
    return certainty | {"deflated_sharpe": answer.to_json(), "verdict": with_stamp(verdict_now, manifest["config"])}


def recorded_trial(manifest: Mapping[str, Any], metrics: Mapping[str, Any], log: TrialLog) -> Trial | None:
    """Return a stored run as a trial.

    Records before format 3 do not identify their bars: they come from the one line of the log with the same configuration
    and Sharpe ratio; None unless there is exactly one.
    """
    sharpe, stated = metrics["strategy"]["sharpe_daily"], manifest.get("trial")
    if stated is not None:
        return Trial(stated["bars"], stated["configuration"], sharpe)
    own = configuration_digest(manifest["config"], manifest["checkpoint"])
    bars = [bars for (bars, configuration), logged in log.trials.items() if configuration == own and logged == sharpe]
    return Trial(bars[0], own, sharpe) if len(bars) == 1 else None


def _moments(certainty: Mapping[str, Any]) -> Moments:
    known = certainty["deflated_sharpe"]["inputs"]
    if "sharpe_per_day" not in known:  # before format 3
        known = certainty["probabilistic_sharpe"]["inputs"]
        known = {**known, "sharpe_per_day": known["sharpe_daily"] / YEAR}
    return Moments(known["days"], known["sharpe_per_day"], known["skewness"], known["kurtosis"])
