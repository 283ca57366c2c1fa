"""What Python prints of a run's parts: a few lines, not a wall of fields."""

from __future__ import annotations

from collections.abc import Callable

import flagbt
from flagbt.engine.simulation import Simulation
from flagbt.results.recording import record_of
from flagbt.results.significance.measure import significance
from flagbt.results.trial_log import TrialCount


def test_the_parts_of_a_run_print_at_most_six_lines(run_maker: Callable[..., Simulation]) -> None:
    """If it fails, a notebook's user who looks at one part of a run meets pages of fields."""
    run, benchmark = run_maker(48), run_maker(48, kind="buy-and-hold")
    record = record_of(run, benchmark)
    luck = significance(run, run, TrialCount(1, ()))
    for part in (record.metrics, record.benchmark, luck, record.verdicts, record.funnel, record.data, flagbt.Costs()):
        assert len(repr(part).splitlines()) <= 6
    assert record.metrics.text("total_return") in repr(record.metrics)
    assert record.benchmark.metrics.text("total_return") in repr(record.benchmark)
    assert luck.verdict.sentence in repr(luck)
    assert all(metric.label in repr(record.metrics) for metric in type(record.metrics).built_in() if metric.headline)
