"""Ranking: the better value of each metric, the order of runs, and the conditions that fail a comparison."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UsageError, nearest
from .metric import FIGURES
from .metric_set import declarations
from .metrics import Metrics
from .run_record import RunRecord
from .run_view import ROUNDING, ruined_at

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def metric_name(text: str, *, option: str, runs: Sequence[RunRecord] = ()) -> str:
    """Return the metric for a user's text; a name without ``_daily`` means the daily one.

    Parameters
    ----------
    runs : sequence of RunRecord
        Whose records may hold metrics of packages that are not installed here.

    Raises
    ------
    UsageError
        For an unknown metric, with the nearest name.
    """
    name = text.strip().lower().replace("-", "_")
    installed = [metric.name for metric in Metrics.installed()]
    names = [
        *installed,
        *(figure.name for figure in FIGURES),
        *(each.name for each in declarations(run.metrics for run in runs)),
    ]
    for known in (name, f"{name}_daily"):
        if known in names:
            return known
    names = list(dict.fromkeys(names))
    raise UsageError(f"{option}: there is no metric '{text.strip()}'. {nearest(name, names)} All: {', '.join(names)}.")


def measured(run: RunRecord, name: str) -> float | None:
    """Return a run's metric or figure by its name, None where it is undefined or was not measured."""
    figure = next((each for each in FIGURES if each.name == name), None)
    if figure is None:
        return run.metrics.get(name)
    if figure.section == "costs":
        return None if run.cost_sensitivity is None else run.cost_sensitivity.break_even_fee_bps
    return None if run.significance is None else run.significance.answer(name).value


def better_of(name: str) -> int | None:
    """Return 1 where a higher value of a metric is better, -1 where a lower one is, None where neither is."""
    directions = {metric.name: metric.better for metric in Metrics.installed()} | {each.name: each.better for each in FIGURES}
    return directions.get(name)


def of_trader(run: RunRecord, name: str) -> float | None:
    """Return a run's number; None for one that never traded or lost everything: its low fees, for example, are not a merit."""
    ranked = run.metrics.trades and ruined_at(run) is None
    return measured(run, name) if ranked else None


def best(values: Sequence[float | None], direction: int) -> int | None:
    """Return the position of the only best value; None where fewer than two are defined or the best is shared.

    Values that differ by rounding are equal.
    """
    defined = {place: direction * value for place, value in enumerate(values) if value is not None}
    if len(defined) < 2:
        return None
    first, second = sorted(defined, key=lambda place: -defined[place])[:2]
    return None if math.isclose(defined[first], defined[second], rel_tol=ROUNDING, abs_tol=ROUNDING) else first


def ordered(runs: Sequence[RunRecord], name: str) -> list[RunRecord]:
    """Return the runs by a metric, the best first (or the highest, for a neutral metric), undefined ones last."""
    direction = better_of(name) or 1

    def key(run: RunRecord) -> float:
        value = of_trader(run, name)
        return math.inf if value is None else -direction * value

    return sorted(runs, key=key)


@dataclass(frozen=True)
class Condition:
    """A condition on a metric that fails a comparison, such as ``sharpe_daily < 0.5``."""

    name: str
    sign: str
    limit: float

    @classmethod
    def parse(cls, text: str, *, option: str = "--fail-if", runs: Sequence[RunRecord] = ()) -> Condition:
        """Read ``METRIC < NUMBER``, with <, <=, > or >=, as ``metric_name``; the text is never evaluated as code.

        Raises
        ------
        UsageError
            For anything else.
        """
        found = re.fullmatch(
            r"\s*([A-Za-z][A-Za-z0-9_-]*)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", text
        )
        if found is None:
            raise UsageError(
                f"{option}: expected a metric, one of < <= > >=, and a number, such as 'sharpe_daily < 0.5', got '{text}'."
            )
        return cls(metric_name(found.group(1), option=option, runs=runs), found.group(2), float(found.group(3)))

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.limit:g}"

    def failure(self, run: RunRecord, label: str) -> str | None:
        """Return why a run fails, None where it passes. An undefined value fails, as it might meet the condition."""
        value = measured(run, self.name)
        if value is None:
            return f"{label}: {self.name} is undefined there, so '{self}' cannot be ruled out."
        if not _OPERATORS[self.sign](value, self.limit):
            return None
        return f"{label}: {self.name} is {value:.6g}, and {self} fails."
