"""Evidence: the measurements of a run besides its metrics, made once, before its page is written."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..engine.simulation import Simulation
from .before_after import BeforeAfter, before_after
from .caveats import with_stamp
from .cost_sensitivity import CostSensitivity, cost_sensitivity
from .label_scores import LabelScores, label_scores
from .significance.answer import Significance
from .significance.measure import significance
from .trial_log import TrialCount

# The names of the evidence in metrics.json, beside strategy and benchmark; null in a run written without it.
SECTIONS = ("certainty", "costs", "labels")


@dataclass(frozen=True, kw_only=True)
class RunEvidence:
    """The evidence of a run; each part None where it was not measured, or cannot be."""

    significance: Significance | None = None
    cost_sensitivity: CostSensitivity | None = None
    label_scores: LabelScores | None = None
    before_after: BeforeAfter | None = None


def evidence(run: Simulation, benchmark: Simulation, trials: TrialCount, *, seed: int = 0) -> RunEvidence:
    """Measure the evidence of a run; takes a second or less for a year of hourly bars, once compiled.

    See `flagbt.results.significance.measure.significance`, `flagbt.results.cost_sensitivity.cost_sensitivity`,
    `flagbt.results.label_scores.label_scores` and `flagbt.results.before_after.before_after`.
    """
    answers = significance(run, benchmark, trials, seed=seed)
    return RunEvidence(
        significance=replace(answers, verdict=with_stamp(answers.verdict, run.config)),
        cost_sensitivity=cost_sensitivity(run),
        label_scores=label_scores(run),
        before_after=before_after(run, seed=seed),
    )
