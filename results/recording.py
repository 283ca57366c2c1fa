"""Make a run's record in memory: `record_of`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ..arrays import JsonValue
from ..data.bars import utc
from ..engine.simulation import Simulation
from ..models.text_read import UNKNOWN_TEXT, after
from .evidence import RunEvidence
from .library_versions import git_revision, library_versions
from .metrics import metrics
from .run_info import FORMAT_VERSION, RunInfo, TrialInfo
from .run_record import RunRecord
from .run_tables import per_bar, per_event
from .run_view import bar_times, ruined_at
from .summary import diversity_of, fills_of, sentence_of, verdicts_of
from .trial_log import bars_digest, trial_configuration


def record_of(
    run: Simulation,
    benchmark: Simulation,
    evidence: RunEvidence | None = None,
    *,
    seeds: Mapping[str, JsonValue] | None = None,
    device: str | None = None,
) -> RunRecord:
    """Return the record of a run, which was not saved.

    It equals the record that `flagbt.results.store.write_run` writes and `flagbt.results.run_reader.read_run` reads, but for
    the identity of the folder.

    Parameters
    ----------
    run, benchmark : Simulation
        Over the same bars.
    evidence : RunEvidence, optional
        By default nothing was measured.
    seeds : mapping, optional
        Of the random generators, by name.
    device : str, optional
        The device that scored the bars.
    """
    if not run.equity.index.equals(benchmark.equity.index):
        raise ValueError("the run and its benchmark must have the same bars")
    evidence = evidence or RunEvidence()
    measured, held, described = metrics(run), metrics(benchmark), diversity_of(run)
    verdicts, lost = verdicts_of(run, described), ruined_at(run)
    seconds = with_total(run.seconds)
    info = RunInfo(
        format_version=FORMAT_VERSION,
        id="",
        name=None,
        notes=None,
        config=run.config,
        data=run.data,
        checkpoint=run.checkpoint,
        text_bars=_text_bars(run),
        cash=run.cash,
        funnel=run.funnel,
        sentence=sentence_of(run, measured, held, described, verdicts),
        ruined=None if lost is None else utc(lost.to_datetime64()),
        diversity=described,
        fills=fills_of(run),
        verdicts=verdicts,
        trial=TrialInfo(bars_digest(run), trial_configuration(run)),
        command=(),
        seeds=seeds or {},
        versions=library_versions(),
        git_revision=git_revision(),
        device=device,
        started=(datetime.now(tz=UTC) - timedelta(seconds=seconds["total"])).isoformat(),
        finished="",
        seconds=seconds,
    )
    return RunRecord(
        info=info.as_read(),
        metrics=measured,
        benchmark_metrics=held,
        significance=evidence.significance and evidence.significance.as_read(),
        cost_sensitivity=evidence.cost_sensitivity and evidence.cost_sensitivity.as_read(),
        label_scores=evidence.label_scores and evidence.label_scores.as_read(),
        before_after=evidence.before_after and evidence.before_after.as_read(),
        equity=per_bar(run.equity.assign(benchmark_equity=benchmark.equity["equity"])),
        signals=None if run.signals is None else per_bar(run.signals),
        orders=per_event(run.orders),
        trades=per_event(run.trades),
    )


def _text_bars(run: Simulation) -> int | None:
    until = None if run.checkpoint is None else run.checkpoint.text_until
    if until is None or until == UNKNOWN_TEXT:
        return None
    return int((bar_times(run).to_numpy() < after(until)).sum())


def with_total(phases: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of a run's phases with their sum, ``total``."""
    own = {name: seconds for name, seconds in phases.items() if name != "total"}
    return {**own, "total": sum(own.values())}
