"""Evidence: the measurements of a run besides its metrics, made once, before its page is written."""

from __future__ import annotations

from typing import Any

from ..engine.simulation import Simulation
from .caveats import with_stamp
from .cost_sensitivity import cost_sensitivity
from .label_scores import label_scores
from .significance.measure import significance
from .trial_log import TrialCount

# Sections of metrics.json besides strategy and benchmark; null in a run written without them.
SECTIONS = ("certainty", "costs", "labels")


def evidence(run: Simulation, benchmark: Simulation, trials: TrialCount, *, seed: int = 0) -> dict[str, Any]:
    """Return the sections ``certainty``, ``costs`` and ``labels`` of a run's record, as JSON values.

    See `flagbt.results.significance.measure.significance`, `flagbt.results.cost_sensitivity.cost_sensitivity` and
    `flagbt.results.label_scores.label_scores`. Takes a second or less for a year of hourly bars, once compiled.
    """
    answers = significance(run, benchmark, trials, seed=seed)
    return {
        "certainty": answers | {"verdict": with_stamp(answers["verdict"], run.config)},
        "costs": cost_sensitivity(run),
        "labels": label_scores(run),
    }
