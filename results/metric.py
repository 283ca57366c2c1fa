"""A metric as one object: its label, its unit, which way is better, where it is shown, and how it is computed.

flagbt's own metrics are the fields of `flagbt.results.metrics.Metrics`; installed packages add theirs in the entry-point group
``flagbt.metrics``.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache, partial
from numbers import Integral, Real
from typing import NamedTuple

from ..data.plugins import blamed_on, load_object, package_of, plugin_names
from ..errors import StrategyError, nearest
from .number_text import NULL, money, percent, ratio, whole
from .run_view import RunView

GROUP = "flagbt.metrics"
MetricValue = float | int | None

# How a value of each unit is written.
UNITS: dict[str, Callable[[MetricValue], str]] = {
    "return": partial(percent, signed=True),
    "return of a trade": partial(percent, digits=2, signed=True),
    "share": percent,
    "ratio": ratio,
    "days": partial(ratio, digits=1),
    "count": whole,
    "money": money,
    "bps": partial(ratio, digits=1),
}
SECTIONS = ("returns", "trades")
SWEEP_PLACES = ("page", "table")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a run.

    Parameters
    ----------
    name : str
        The key in JSON, and the name in Python: lower case, such as ``tail_ratio``.
    label : str
        The name on pages.
    unit : str
        One of ``UNITS``: ``return`` and ``share`` are fractions written in percent, a return with its sign; ``ratio``,
        ``days``, ``count`` (a whole number), ``money`` (quote currency), ``bps``.
    compute : callable
        Takes a `flagbt.results.run_view.RunView` and returns a number, or None where it is undefined. NaN and infinity become
        None.
    better : int, optional
        1: higher is better, -1: lower is better; None: neither, and no run is marked as the best.
    formula : str
        One line for the docs.
    section : str, optional
        The table on a run's page and the comparison: ``returns`` or ``trades``; None: not on pages.
    headline : bool
        Whether the terminal and ``flagbt run --json`` show it.
    sweep : str, optional
        ``page``: a column of a sweep's table, shown on its page; ``table``: only a column. It is then computed for every
        setting, so it should take microseconds.
    provider : str
        The package that a plug-in comes from; empty for flagbt's own.
    """

    name: str
    label: str
    unit: str
    compute: Callable[[RunView], MetricValue]
    better: int | None = None
    formula: str = ""
    section: str | None = "returns"
    headline: bool = True
    sweep: str | None = None
    provider: str = ""

    def text(self, value: MetricValue) -> str:
        """Return a value as text with its unit, such as ``+12.3 %``; an en dash for None."""
        return NULL if value is None else UNITS[self.unit](value)

    def value(self, run: RunView) -> MetricValue:
        """Compute the metric.

        Raises
        ------
        StrategyError
            When a plug-in raises, or returns anything but a number or None.
        """
        if not self.provider:
            return self.compute(run)
        who = f"metric '{self.name}'"
        with blamed_on(_code_of(self.compute), "compute", who=who):
            value = self.compute(run)
        return _number(value, who, whole_number=self.unit == "count")


class Figure(NamedTuple):
    """A number of a record's other sections that runs can be sorted by: of the significance, or of the costs."""

    name: str
    label: str
    better: int
    section: str


FIGURES = (
    Figure("probabilistic_sharpe", "Probabilistic Sharpe ratio", 1, "certainty"),
    Figure("deflated_sharpe", "Deflated Sharpe ratio", 1, "certainty"),
    Figure("minimum_track_record", "Minimum track record, days", -1, "certainty"),
    Figure("random_entries", "Random entries that do as well", -1, "certainty"),
    Figure("break_even_fee_bps", "Break-even fee, bps", 1, "costs"),
)


def plugin_metrics(taken: Collection[str]) -> tuple[Metric, ...]:
    """Return the metrics of the installed packages, by name.

    Parameters
    ----------
    taken : collection of str
        Names that no plug-in may have.

    Raises
    ------
    StrategyError
        When one cannot be imported, or is not a valid ``Metric``.
    """
    return _loaded(tuple(sys.path), frozenset(taken))


@cache
def _loaded(_path: tuple[str, ...], taken: frozenset[str]) -> tuple[Metric, ...]:
    # Cached by the import path, which decides what is installed: it is read once a block of a sweep.
    return tuple(_checked(name, where, taken) for name, where in sorted(plugin_names(GROUP).items()))


def _checked(name: str, where: str, taken: Collection[str]) -> Metric:
    """Return the metric of an entry point if it keeps the contract of ``Metric``."""
    found, provider = load_object(where, what="metric"), package_of(GROUP, name)
    who = f"metric '{name}' ({where}, of the package {provider})"
    if not isinstance(found, Metric):
        raise StrategyError(
            f"{who}: expected a flagbt.Metric, got {found!r:.80}. Fix the entry point, or uninstall the package."
        )
    faults = (
        (found.name != name, f"its name is {found.name!r}; use the entry point's name for both"),
        (not re.fullmatch(r"[a-z][a-z0-9_]*", name), "a name is lower-case letters, digits and underscores"),
        (name in taken, "flagbt has a metric, an attribute or a column of that name; choose another one"),
        (str(found.unit) not in UNITS, f"the unit {found.unit!r} is unknown. {nearest(str(found.unit), UNITS)}"),
        (found.better not in (1, -1, None), f"better is 1, -1 or None, got {found.better!r}"),
        (found.section not in (*SECTIONS, None), f"section is {' or '.join(SECTIONS)} or None, got {found.section!r}"),
        (found.sweep not in (*SWEEP_PLACES, None), f"sweep is {' or '.join(SWEEP_PLACES)} or None, got {found.sweep!r}"),
        (not callable(found.compute), f"compute is a function of one RunView, got {found.compute!r:.80}"),
    )
    if fault := next((text for wrong, text in faults if wrong), None):
        raise StrategyError(f"{who}: {fault}. Fix the metric, or uninstall the package.")
    return replace(found, provider=provider)


def _code_of(compute: Callable[..., object]) -> Callable[..., object]:
    """Return the function or class whose file is named when a metric fails."""
    while isinstance(compute, partial):
        compute = compute.func
    return compute if hasattr(compute, "__name__") and hasattr(compute, "__module__") else type(compute)


def _number(value: object, who: str, *, whole_number: bool) -> MetricValue:
    """Return a plug-in's value as a Python number; None for NaN and infinity."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise StrategyError(f"{who}: compute returned {value!r:.80}. Expected a number, or None where it is undefined.")
    if isinstance(value, Integral):
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        return None
    if whole_number and not number.is_integer():
        raise StrategyError(
            f"{who}: compute returned {number!r}, and its unit is count. Return a whole number, or change the unit."
        )
    return int(number) if whole_number else number
