"""A metric: the return of the worst day."""

from __future__ import annotations

from flagbt import Metric
from flagbt.results.run_view import RunView


def worst(run: RunView) -> float | None:
    """Return the lowest daily return, None without a day."""
    return float(run.daily_returns.min()) if len(run.daily_returns) else None


WORST_DAY = Metric(
    name="worst_day", label="Worst day", unit="return", better=1, compute=worst, formula="lowest daily return", sweep="page"
)
