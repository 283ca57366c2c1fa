"""Ranking: the better value of each metric, the order of runs, and the conditions that fail a comparison."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
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


def metric_names(runs: Iterable[RunRecord] = ()) -> list[str]:
    """Return what runs can be sorted by: the installed metrics, the figures, and what else these records hold."""
    found = [*Metrics.installed(), *declarations(run.metrics for run in runs)]
    return list(dict.fromkeys([*(each.name for each in found), *(each.name for each in FIGURES)]))


def metric_name(text: str, *, option: str, known: Iterable[str] | None = None) -> str:
    """Return the metric for a user's text; a name without ``_daily`` means the daily one.

    Parameters
    ----------
    known : iterable of str, optional
        The names; by default ``metric_names``.

    Raises
    ------
    UsageError
        For an unknown metric, with the nearest name.
    """
    name = text.strip().lower().replace("-", "_")
    names = metric_names() if known is None else list(known)
    for each in (name, f"{name}_daily"):
        if each in names:
            return each
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
    return measured(run, name) if is_ranked(run) else None


def is_ranked(run: RunRecord) -> bool:
    """Return whether a run traded and did not lose everything."""
    return bool(run.metrics.trades) and ruined_at(run) is None


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
    return sorted(runs, key=lambda run: sort_key(of_trader(run, name), name))


def sort_key(value: float | None, name: str) -> float:
    """Return the number that sorts the best value of a metric first, and undefined ones last."""
    return math.inf if value is None else -(better_of(name) or 1) * value


@dataclass(frozen=True)
class Condition:
    """A condition on a metric that fails a comparison, such as ``sharpe_daily < 0.5``."""

    name: str
    sign: str
    limit: float

    @classmethod
    def parse(cls, text: str, *, option: str = "--fail-if", known: Iterable[str] | None = None) -> Condition:
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
        return cls(metric_name(found.group(1), option=option, known=known), found.group(2), float(found.group(3)))

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
