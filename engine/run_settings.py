"""RunSettings: the settings of a run, as its record holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, cast

from ..arrays import JsonObject, JsonValue
from ..data.reading import Reading
from ..options import option_table
from ..storage.json_records import JsonRecord, json_value, read_value
from .costs import Costs

# The types of the settings that `RunSettings` has as attributes; any other setting is as it was given.
_TYPES: Mapping[str, object] = {
    "strategy": str,
    "cash": float,
    "seed": int | None,
    "parameters": Mapping[str, object],
    "bars_seen": tuple[str, ...] | None,
    **dict.fromkeys(
        ("strategy_name", "code", "signals", "data", "timerange", "checkpoint", "calibration", "decision", "labels"), str | None
    ),
    **dict.fromkeys(("allow_overlap", "short"), bool | None),
    **{each.name: each.kind | None for kind in (Reading, Costs) for each in option_table(kind)},
    "lot_size": float | None,
}


@dataclass(frozen=True)
class RunSettings(JsonRecord, Mapping[str, JsonValue]):
    """The settings of a run by the name of their option: a mapping of JSON values, with the usual ones as attributes.

    The same settings on the same digests give the same run. A setting that was not recorded, as by an old version, is not in
    the mapping; its attribute is then None, or its default.

    Parameters
    ----------
    recorded : mapping
        JSON values: strategy, checkpoint, data, timerange, calibration, decision, every cost and active rule, cash, short,
        seed, and whatever else decides the run's result.

    Raises
    ------
    ValueError
        Where the value of an attribute is of another type.
    """

    recorded: Mapping[str, JsonValue]

    def __post_init__(self) -> None:
        object.__setattr__(self, "recorded", json_value(self.recorded))
        for name, kind in _TYPES.items():
            if name in self.recorded:
                read_value(kind, self.recorded[name], name)

    def __getitem__(self, name: str) -> JsonValue:
        return self.recorded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.recorded)

    def __len__(self) -> int:
        return len(self.recorded)

    def to_json(self) -> JsonObject:
        """Return the recorded values."""
        return dict(self.recorded)

    @classmethod
    def from_json(cls, value: object, place: str = "") -> Self:
        """Read the values; raises ValueError as `flagbt.storage.json_records.JsonRecord.from_json` does."""
        values = cast("Mapping[str, JsonValue]", read_value(Mapping[str, object], value, place))
        try:
            return cls(values)
        except ValueError as error:
            raise ValueError(f"{place}.{error}" if place else str(error)) from None

    @property
    def strategy(self) -> str:
        """The strategy, as named on the command line."""
        return str(self.get("strategy") or "strategy")

    @property
    def strategy_name(self) -> str:
        """The strategy's own name."""
        return str(self.get("strategy_name") or self.strategy)

    @property
    def title(self) -> str:
        """The strategy's own name, with the file of signals that it trades, if any."""
        return f"{self.strategy_name} {self['signals']}" if "signals" in self else self.strategy_name

    @property
    def signals_digest(self) -> str | None:
        """The digest of the signals that were computed elsewhere; None for a strategy."""
        parameters = self.get("parameters")
        digest = parameters.get("signals") if self.strategy == "signals" and isinstance(parameters, Mapping) else None
        return digest if isinstance(digest, str) else None

    @property
    def costs(self) -> Costs:
        """The costs; the default of one that was not recorded."""
        return Costs.from_json(self.recorded)

    @property
    def short(self) -> bool:
        """Whether positions below 0 were allowed."""
        return bool(self.get("short"))

    @property
    def allow_overlap(self) -> bool:
        """Whether bars that the checkpoint or the strategy has seen were allowed."""
        return bool(self.get("allow_overlap"))

    @property
    def bars_seen(self) -> tuple[str, ...] | None:
        """The time ranges that the strategy and its checkpoint have seen; None where they are not stated, or not recorded."""
        seen = cast("Sequence[str] | None", self.get("bars_seen"))
        return None if seen is None else tuple(seen)

    @property
    def bars_seen_stated(self) -> bool:
        """Whether the bars that the strategy has seen are stated; in older records, whether it is a built-in one."""
        return self["bars_seen"] is not None if "bars_seen" in self else "code" not in self

    @property
    def labels(self) -> str | None:
        """The labels that a strategy with its own probabilities states, as ``--labels`` writes them."""
        return cast("str | None", self.get("labels"))
