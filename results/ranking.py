"""Ranking: the better value of each metric, the order of runs, and the conditions that fail a comparison."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UsageError, nearest
from .metrics import METRICS, ROUNDING, ruined_at
from .run_record import RunRecord

# 1: higher is better, -1: lower is better; a metric that is missing here is neither.
BETTER = {
    "total_return": 1,
    "cagr": 1,
    "sharpe_daily": 1,
    "sharpe_per_bar": 1,
    "sortino_daily": 1,
    "volatility_daily": -1,
    "max_drawdown": 1,
    "max_drawdown_days": -1,
    "calmar": 1,
    "win_rate": 1,
    "profit_factor": 1,
    "avg_trade_return": 1,
    "fees_paid": -1,
    "slippage_paid": -1,
    "final_equity": 1,
    "probabilistic_sharpe": 1,
    "deflated_sharpe": 1,
    "minimum_track_record": -1,
    "random_entries": -1,
    "break_even_fee_bps": 1,
}
SIGNIFICANCE = ("probabilistic_sharpe", "deflated_sharpe", "minimum_track_record", "random_entries")
NAMES = (*METRICS, *SIGNIFICANCE, "break_even_fee_bps")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def metric_name(text: str, *, option: str) -> str:
    """Return the metric for a user's text; a name without ``_daily`` means the daily one.

    Raises
    ------
    UsageError
        For an unknown metric, with the nearest name.
    """
    name = text.strip().lower().replace("-", "_")
    for known in (name, f"{name}_daily"):
        if known in NAMES:
            return known
    raise UsageError(f"{option}: there is no metric '{text.strip()}'. {nearest(name, NAMES)} All: {', '.join(NAMES)}.")


def measured(run: RunRecord, name: str) -> float | None:
    """Return a run's number by its name in NAMES, None where it is undefined or was not measured."""
    if name in METRICS:
        value = run.metrics[name]
    elif name in SIGNIFICANCE:
        value = None if run.significance is None else getattr(run.significance, name).value
    else:
        value = None if run.cost_sensitivity is None else run.cost_sensitivity.break_even_fee_bps
    return None if value is None else float(value)


def of_trader(run: RunRecord, name: str) -> float | None:
    """Return a run's number; None for one that never traded or lost everything: its low fees, for example, are not a merit."""
    ranked = run.metrics["trades"] and ruined_at(run) is None
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
    direction = BETTER.get(name, 1)

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
    def parse(cls, text: str, *, option: str = "--fail-if") -> Condition:
        """Read ``METRIC < NUMBER``, with <, <=, > or >=; the text is never evaluated as code.

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
        return cls(metric_name(found.group(1), option=option), found.group(2), float(found.group(3)))

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
