"""A set of metrics with their values: read, written and shown by the declarations of its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Self, TypeVar, cast

import pandas as pd

from ..errors import UsageError, nearest, quoted_value
from .metric import FIGURES, Metric, MetricValue, plugin_metrics
from .run_view import RunView

T = TypeVar("T")


def declared(
    compute: Callable[[RunView], T],
    *,
    label: str,
    unit: str,
    formula: str,
    better: int | None = None,
    section: str | None = None,
    headline: bool = False,
    sweep: str | None = None,
) -> T:
    """Declare a field of ``Metrics``, of the type that ``compute`` returns; the arguments are those of ``Metric``."""
    metric = Metric(
        name="",  # the field's, see named
        label=label,
        unit=unit,
        compute=cast("Callable[[RunView], MetricValue]", compute),
        better=better,
        formula=formula,
        section=section,
        headline=headline,
        sweep=sweep,
    )
    return cast("T", field(metadata={"metric": metric}))


@dataclass(frozen=True, kw_only=True, repr=False)
class MetricSet:
    """The base of `flagbt.results.metrics.Metrics`, whose fields are all ``declared``.

    Attributes
    ----------
    plugins : mapping
        The metrics of other packages, by name; also those of a package that is not installed here.
    """

    plugins: Mapping[str, MetricValue] = field(default_factory=dict)

    @classmethod
    def built_in(cls) -> tuple[Metric, ...]:
        """Return the fields' metrics in their order."""
        return tuple(replace(each.metadata["metric"], name=each.name) for each in fields(cls) if "metric" in each.metadata)

    @classmethod
    def installed(cls) -> tuple[Metric, ...]:
        """Return the fields' metrics in their order, then those of the installed packages.

        Raises
        ------
        StrategyError
            When a package's metric cannot be loaded, or is not valid.
        """
        return (*cls.built_in(), *plugin_metrics(cls.taken()))

    @classmethod
    def taken(cls) -> frozenset[str]:
        """Return the names that no package's metric may have: those of metrics, attributes and columns."""
        return frozenset({*dir(cls), *(each.name for each in fields(cls)), *(figure.name for figure in FIGURES)})

    @classmethod
    def of(cls, run: RunView) -> Self:
        """Compute every installed metric."""
        return cls.from_json({metric.name: metric.value(run) for metric in cls.installed()})

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Return the metrics of JSON values; a newer one than the record is None, an unknown one is kept in ``plugins``.

        Raises
        ------
        ValueError
            Where a metric whose type does not allow None is missing, or a value is not a number.
        """
        own = {name: values.get(name) for name in _names_of(cls)}
        missing = [name for name in _never_none(cls) if own[name] is None]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        wrong = next((name for name in values if not _is_number(values[name])), None)
        if wrong is not None:
            raise ValueError(f"{wrong} is {values[wrong]!r:.60}, not a number")
        plugins = {name: value for name, value in values.items() if name not in own}
        return cls(**cast("dict[str, MetricValue]", own), plugins=cast("dict[str, MetricValue]", plugins))

    def to_json(self) -> dict[str, MetricValue]:
        """Return every metric as a JSON value, in the order of the fields, then the plug-ins'."""
        return {name: self[name] for name in self}

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row a metric.

        Returns
        -------
        DataFrame
            Index ``metric`` (the name); columns ``label``, ``value`` (float64, NaN where undefined), ``text`` (the value as
            pages write it), ``unit``, ``better`` (``higher``, ``lower`` or empty) and ``formula``.
        """
        rows = [
            {
                "metric": metric.name,
                "label": metric.label,
                "value": self[metric.name],
                "text": metric.text(self[metric.name]),
                "unit": metric.unit,
                "better": {1: "higher", -1: "lower", None: ""}[metric.better],
                "formula": metric.formula,
            }
            for metric in declarations([self])
        ]
        return pd.DataFrame(rows).set_index("metric").astype({"value": "float64"})

    def get(self, name: str) -> MetricValue:
        """Return a metric's value, None where it is undefined or not known."""
        found = self.plugins.get(name)
        return cast("MetricValue", getattr(self, name)) if name in _names_of(type(self)) else found

    def text(self, name: str) -> str:
        """Return a metric's value as text with its unit, such as ``+12.3 %``; an en dash where it is undefined."""
        metric = next((each for each in declarations([self]) if each.name == name), _unknown(name))
        return metric.text(self[name])

    def __getitem__(self, name: str) -> MetricValue:
        if name not in self:
            raise UsageError(f"there is no metric {quoted_value(name)}. {nearest(quoted_value(name), self)}")
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in _names_of(type(self)) or name in self.plugins)

    def __iter__(self) -> Iterator[str]:
        return iter([*_names_of(type(self)), *self.plugins])

    def __repr__(self) -> str:
        shown = [metric for metric in declarations([self]) if metric.headline]
        width = max(len(metric.label) for metric in shown)
        cells = [f"{metric.label:<{width}}  {metric.text(self[metric.name]):<10}" for metric in shown]
        half = -(-len(cells) // 2)  # two columns keep the text as short as that of a run
        lines = ["    " + "  ".join(cells[row::half]).rstrip() for row in range(half)]
        return "\n".join([f"{type(self).__name__}, {len(shown)} of {len(list(self))} (to_frame() has all):", *lines])

    if not TYPE_CHECKING:  # which would let a checker take any name

        def __getattr__(self, name: str) -> MetricValue:
            plugins = self.__dict__.get("plugins", {})  # empty while it is unpickled
            if name in plugins:
                return plugins[name]
            raise AttributeError(
                f"there is no metric {quoted_value(name)}. {nearest(name, [*type(self).__dataclass_fields__, *plugins])}"
            )


def declarations(sets: Iterable[MetricSet]) -> list[Metric]:
    """Return the metrics of sets, each once, in their order; of one whose package is not installed only the name is known."""
    found: dict[str, Metric] = {}
    for each in sets:
        known = {metric.name: metric for metric in type(each).installed()} if each.plugins else {}
        for metric in type(each).built_in():
            found.setdefault(metric.name, metric)
        for name in each.plugins:
            found.setdefault(name, known.get(name) or _unknown(name))
    return list(found.values())


def _unknown(name: str) -> Metric:
    return Metric(name=name, label=name.replace("_", " "), unit="ratio", compute=lambda _: None)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _names_of(kind: type[MetricSet]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind) if "metric" in each.metadata)


def _never_none(kind: type[MetricSet]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind) if "metric" in each.metadata and "None" not in str(each.type))
