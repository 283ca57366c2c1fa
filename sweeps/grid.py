"""Grid: every combination of the axes' values, computed by number and never stored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, JsonObject, JsonValue
from ..engine.backtest import check_cash
from ..engine.costs import Costs
from ..engine.rules import Rules
from ..models.calibration import Calibration, recorded_text
from ..models.decision import Decision
from ..options import OptionValue, from_options
from ..results.repeat_command import plain
from ..results.trial_log import configuration_digest
from ..storage.atomic_files import json_text
from ..storage.json_records import json_value
from ..strategies.parameters import ParameterValue, parameter_text
from .axes import DECISION, PARAMETER, STORED, Axis, outermost_first

LARGEST_WITHOUT_YES = 10_000_000  # replays


@dataclass(frozen=True)
class Point:
    """A calibration of one checkpoint: its text on the command line, its value, and the decision stored with it, if any."""

    text: str
    calibration: Calibration
    decision: Decision | None = None

    @property
    def offsets(self) -> tuple[float, float] | None:
        """The offsets of SELL's and BUY's logits relative to HOLD's; None for a calibration that does more.

        A constant added to all three logits changes no probability, so only these two differences count.
        """
        if self.calibration.method not in ("none", "offset", "prior"):
            return None
        sell, hold, buy = self.calibration.offset
        return sell - hold, buy - hold


@dataclass(frozen=True)
class Points:
    """The calibrations of one checkpoint: the named ones, then every pair of offsets for SELL and BUY.

    Softmax does not change when one constant is added to all three logits, so three offsets have two degrees of freedom: HOLD's
    is 0 in a grid. A grid over all three would contain each calibration many times under different names, and count it as many
    trials. Pairs are computed on access: a million of them take no memory.

    Parameters
    ----------
    named : tuple of Point
    offsets : tuple of float
        The values of the grid, or none.
    aliases : mapping
        From a pair of the grid to its text, where ``--calibration`` names it too.
    """

    named: tuple[Point, ...] = ()
    offsets: tuple[float, ...] = ()
    aliases: Mapping[tuple[float, float], str] = field(default_factory=dict)

    @classmethod
    def of(cls, named: Iterable[Point], offsets: tuple[float, ...] = ()) -> Points:
        """Combine named calibrations and offsets; a named one that equals a pair becomes that pair, with its text."""
        grid, kept = {round(offset, 12) + 0.0: offset for offset in offsets}, list[Point]()
        aliases: dict[tuple[float, float], str] = {}
        for point in named:
            pair = None if point.offsets is None or point.decision is not None else point.offsets
            cell = None if pair is None else (grid.get(round(pair[0], 12) + 0.0), grid.get(round(pair[1], 12) + 0.0))
            if cell is None or cell[0] is None or cell[1] is None:
                kept.append(point)
            else:
                aliases.setdefault((cell[0], cell[1]), point.text)
        return cls(tuple(kept), offsets, aliases)

    def __len__(self) -> int:
        return len(self.named) + len(self.offsets) ** 2

    def __getitem__(self, place: int) -> Point:
        """Return the calibration with a number."""
        if not 0 <= place < len(self):
            raise IndexError(f"calibration {place} of {len(self)}")
        if place < len(self.named):
            return self.named[place]
        sell, buy = (self.offsets[each] for each in divmod(place - len(self.named), len(self.offsets)))
        text = self.aliases.get((sell, buy)) or f"offset:{plain(sell)},0,{plain(buy)}"
        return Point(text, Calibration("offset", offset=(sell, 0.0, buy)))

    @property
    def names(self) -> list[str]:
        """The texts of the calibrations given by name."""
        return [*(point.text for point in self.named), *self.aliases.values()]

    def describe(self) -> JsonObject:
        """Return the calibrations as JSON values, the pairs by their offsets alone."""
        return {
            "named": [
                {
                    "text": point.text,
                    "decision": None if point.decision is None else str(point.decision),
                    "calibration": point.calibration.to_json(),
                }
                for point in self.named
            ],
            "offsets": list(self.offsets),
            "also_named": [[*pair, text] for pair, text in self.aliases.items()],
        }


@dataclass(frozen=True, eq=False)
class SweptCheckpoint:
    """The part of a checkpoint that settings need; it can be sent to another machine.

    Attributes
    ----------
    name, digest : str
    class_returns : array, shape (3,)
        See ``Checkpoint.class_returns``.
    horizon_bars : int or None
        Of its labels.
    points : Points
        The same number for every model.
    """

    name: str
    digest: str
    class_returns: FloatArray | None
    horizon_bars: int | None
    points: Points


_NO_MODEL = SweptCheckpoint("", "", np.zeros(3), None, Points((Point("none", Calibration()),)))
PARAMS = "params"  # the axis whose values are combinations of a strategy's parameters


@dataclass(frozen=True)
class Configuration:
    """One setting of a grid.

    Attributes
    ----------
    number : int
        Its index in the grid, from 0.
    places : tuple of int
        The index of its value on each of the grid's ``axis_names``.
    model : int
        The index of its model.
    point : Point
    decision : Decision
    params : mapping
        The values given for the strategy's own parameters.
    values : mapping
        Its value on each of the grid's ``axes``, as given.
    costs, rules
        As ``run_backtest``'s.
    """

    number: int
    places: tuple[int, ...]
    model: int
    point: Point
    decision: Decision
    params: Mapping[str, ParameterValue]
    values: Mapping[str, OptionValue]
    costs: Costs
    rules: Rules

    @property
    def short(self) -> bool:
        """Whether positions below 0 are allowed."""
        return bool(self.values["short"])

    @property
    def cash(self) -> float:
        """The starting cash, quote currency."""
        return cast(float, self.values["cash"])

    @property
    def round_trip_cost(self) -> float:
        """Fees and slippage of entering and leaving, as a fraction."""
        return 2 * (self.costs.fee + self.costs.slippage)


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """The values of every axis; the settings are all their combinations.

    Parameters
    ----------
    models : tuple of SweptCheckpoint
        The checkpoints, each with its calibrations; none for a strategy without a model.
    axes : tuple of Axis
        The other axes, in the order of the table's columns: ``decision``, ``short``, ``cash``, costs and rules.
    combinations : tuple of mapping
        The values given for the strategy's own parameters.
    strategy : mapping
        The name of a strategy other than flagtrader, and what else decides its signals.
    """

    models: tuple[SweptCheckpoint, ...]
    axes: tuple[Axis, ...]
    combinations: tuple[Mapping[str, ParameterValue], ...] = ({},)
    strategy: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def inner(self) -> tuple[Axis, ...]:
        """The axes besides checkpoint, calibration and parameters, outermost first."""
        return outermost_first(self.axes)

    @cached_property
    def axis_names(self) -> tuple[str, ...]:
        """The names of all axes, outermost first."""
        return ("ckpt", "calibration", PARAMS, *(axis.name for axis in self.inner))

    @cached_property
    def columns(self) -> tuple[Axis, ...]:
        """The axes with a column in the table: one for each of the strategy's parameters, then ``axes``."""
        return (*parameter_axes(self.combinations), *self.axes)

    def values(self, name: str) -> tuple[OptionValue, ...]:
        """Return the values of an axis or of a parameter's column; of any except ``calibration``."""
        if name == "ckpt":
            return tuple(model.name for model in self.models)
        return next(axis.values for axis in self.columns if axis.name == name)

    def length(self, name: str) -> int:
        """Return the number of values of an axis or of a parameter's column."""
        return len(self.model(0).points) if name == "calibration" else len(self.values(name))

    def model(self, place: int) -> SweptCheckpoint:
        """Return a model; without any, one that does nothing."""
        return self.models[place] if self.models else _NO_MODEL

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of values on each of ``axis_names``."""
        first = (max(1, len(self.models)), len(self.model(0).points), len(self.combinations))
        return (*first, *(len(axis.values) for axis in self.inner))

    def __len__(self) -> int:
        return math.prod(self.sizes)

    @property
    def varied(self) -> list[str]:
        """The axes, and the parameters' columns, with more than one value."""
        found: list[str] = []
        for name, size in zip(self.axis_names, self.sizes, strict=True):
            if name == PARAMS:
                found += [axis.name for axis in self.columns if axis.name.startswith(PARAMETER) and len(axis.values) > 1]
            elif size > 1:
                found.append(name)
        return found

    def __getitem__(self, number: int) -> Configuration:
        """Return the setting with a number.

        Raises
        ------
        IndexError
            Outside 0 .. len - 1.
        UsageError
            For a value out of range.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"setting {number} of {len(self)}")
        left, backwards = number, []
        for size in reversed(self.sizes):
            left, place = divmod(left, size)
            backwards.append(place)
        places = tuple(reversed(backwards))
        values = {axis.name: axis.values[place] for axis, place in zip(self.inner, places[3:], strict=True)}
        model = self.model(places[0])
        point, decision = model.points[places[1]], str(values[DECISION])
        return Configuration(
            number,
            places,
            places[0],
            point,
            (point.decision or Decision()) if decision == STORED else Decision.parse(decision),
            self.combinations[places[2]],
            values,
            from_options(Costs, values),
            from_options(Rules, values).with_horizon(model.horizon_bars),
        )

    def check(self) -> None:
        """Check each value of each axis, before the work.

        Raises
        ------
        UsageError
            For a value out of range.
        """
        for cash in self.values("cash"):
            check_cash(cast(float, cash))
        step = 1
        for name, size in zip(reversed(self.axis_names), reversed(self.sizes), strict=True):
            for place in range(1 if name in ("calibration", PARAMS) else size):
                self[place * step]
            step *= size

    def describe(self) -> JsonObject:
        """Return everything that decides the grid's results, as JSON values."""
        models: list[JsonValue] = [
            {
                "name": model.name,
                "digest": model.digest,
                "horizon_bars": model.horizon_bars,
                "calibrations": model.points.describe(),
            }
            for model in self.models
        ]
        swept: JsonObject = {}
        if self.strategy:
            own = {axis.name.removeprefix(PARAMETER): list(axis.values) for axis in parameter_axes(self.combinations)}
            digest = hashlib.sha256(json_text([dict(each) for each in self.combinations]).encode()).hexdigest()
            swept = {**cast("JsonObject", json_value(self.strategy)), PARAMS: own, "combinations": digest}
        return {"models": models} | swept | {axis.name: list(axis.values) for axis in self.inner}

    def digests(self, numbers: range) -> Iterator[str]:
        """Yield each setting's digest in the trial log: the digest of a `flagbt run` with the same options."""
        for number in numbers:
            setting = self[number]
            config: JsonObject = {
                "strategy": "flagtrader",
                "cash": setting.cash,
                "short": setting.short,
                "decision": str(setting.decision),
                "parameters": {"calibration": setting.point.calibration.to_json(), "decision": str(setting.decision)},
                "calibration": recorded_text(setting.point.text),
            }
            settings = {**config, **setting.costs.describe(), **setting.rules.describe()}
            yield configuration_digest(settings, self.models[setting.model].digest)


def parameter_axes(combinations: Sequence[Mapping[str, ParameterValue]]) -> tuple[Axis, ...]:
    """Return an axis for each parameter with the distinct values of its column in the table, in their order.

    A column holds whole numbers, numbers, or yes and no, where all its values are; otherwise their text.
    """
    axes = []
    for name in combinations[0]:
        values = [each[name] for each in combinations]
        kinds = {type(value) for value in values} - {type(None)}
        kind = next((kind for kind in (bool, int, float) if kinds == {kind}), float if kinds == {int, float} else str)
        column = [value if value is None or kind is not str else parameter_text(value) for value in values]
        axes.append(Axis(f"{PARAMETER}{name}", kind, tuple(dict.fromkeys(column))))
    return tuple(axes)


def parameter_columns(params: Mapping[str, ParameterValue], columns: Sequence[Axis]) -> dict[str, ParameterValue]:
    """Return the values of a strategy's parameters as the columns of ``parameter_axes`` hold them."""
    kinds = {axis.name: axis.kind for axis in columns}
    named = {f"{PARAMETER}{name}": value for name, value in params.items()}
    return {name: parameter_text(value) if kinds[name] is str and value is not None else value for name, value in named.items()}


def canonical(calibration: Calibration) -> JsonObject:
    """Return a calibration's JSON in canonical form: HOLD's offset is 0, without method name and range."""
    hold = calibration.offset[1]
    offset = [round(each - hold, 12) + 0.0 for each in calibration.offset]
    return {"scale": calibration.to_json()["scale"], "offset": offset}


def random_share(n: int, share: float, seed: int) -> npt.NDArray[np.int64]:
    """Draw a share of n settings at random, rounded up; return their numbers, sorted, the same for the same seed."""
    wanted = min(n, math.ceil(n * share))
    return np.sort(np.random.default_rng(seed).choice(n, size=wanted, replace=False, shuffle=False))
