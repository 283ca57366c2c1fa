"""Answer: one measure of significance, as a number, an interval, and a sentence a trader understands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One measured number and its origin.

    Attributes
    ----------
    value : float or None
        None where it is undefined; ``reason`` then states why.
    unit : str
        ``probability``, ``days``, or ``Sharpe ratio a year``.
    low, high, level : float or None
        An interval and its level (0.9 for 90 %), in the value's unit.
    sentence : str
        Its meaning, in one plain sentence.
    formula, paper : str
    inputs : mapping
        JSON values of the inputs, such as ``days`` or ``trials``.
    """

    value: float | None
    unit: str
    sentence: str
    formula: str
    paper: str
    reason: str | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return every field as a JSON value."""
        return {**asdict(self), "inputs": dict(self.inputs)}


@dataclass(frozen=True)
class Kind:
    """Describe a measure: name, unit, formula and paper."""

    name: str
    unit: str
    formula: str
    paper: str

    def unknown(self, reason: str, **inputs: Any) -> Answer:
        """Return an answer without a value."""
        sentence = f"The {self.name} is not known: {reason}."
        return Answer(
            value=None, unit=self.unit, sentence=sentence, formula=self.formula, paper=self.paper, reason=reason, inputs=inputs
        )

    def known(self, value: float, sentence: str, **rest: Any) -> Answer:
        """Return an answer with a value.

        Raises
        ------
        ValueError
            When it is not finite: use ``unknown`` for an undefined number.
        """
        if not math.isfinite(value):
            raise ValueError(f"{self.name} is {value}")
        return Answer(value=value, unit=self.unit, sentence=sentence, formula=self.formula, paper=self.paper, **rest)
