"""Answer: one measure of significance, as a number, an interval, and a sentence; and Significance, all of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...storage.json_records import JsonRecord


@dataclass(frozen=True, kw_only=True)
class Answer(JsonRecord):
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
        The numbers that it is computed from, such as ``days`` or ``trials``.
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
    inputs: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval needs both low and high")


@dataclass(frozen=True)
class LuckVerdict(JsonRecord):
    """Whether a run is distinguishable from luck, None where it is not known, and a sentence."""

    beyond_luck: bool | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Significance(JsonRecord):
    """How much of a run's Sharpe ratio could be luck: six answers, and the verdict from them."""

    probabilistic_sharpe: Answer
    minimum_track_record: Answer
    deflated_sharpe: Answer
    sharpe_interval: Answer
    difference_interval: Answer
    random_entries: Answer
    verdict: LuckVerdict

    def answer(self, name: str) -> Answer:
        """Return the answer in the field ``name``."""
        found = getattr(self, name)
        assert isinstance(found, Answer), name
        return found

    def __repr__(self) -> str:
        answers = (self.deflated_sharpe, self.sharpe_interval, self.difference_interval, self.random_entries)
        return "\n".join([f"<{type(self).__name__}: {self.verdict.sentence}>", *(each.sentence for each in answers)])


@dataclass(frozen=True)
class Kind:
    """Describe a measure: name, unit, formula and paper."""

    name: str
    unit: str
    formula: str
    paper: str

    def unknown(self, reason: str, **inputs: float | None) -> Answer:
        """Return an answer without a value."""
        sentence = f"The {self.name} is not known: {reason}."
        return Answer(
            value=None, unit=self.unit, sentence=sentence, formula=self.formula, paper=self.paper, reason=reason, inputs=inputs
        )

    def known(
        self,
        value: float,
        sentence: str,
        *,
        inputs: Mapping[str, float | None],
        low: float | None = None,
        high: float | None = None,
        level: float | None = None,
    ) -> Answer:
        """Return an answer with a value.

        Raises
        ------
        ValueError
            When it is not finite: use ``unknown`` for an undefined number.
        """
        if not math.isfinite(value):
            raise ValueError(f"{self.name} is {value}")
        return Answer(
            value=value,
            unit=self.unit,
            sentence=sentence,
            formula=self.formula,
            paper=self.paper,
            low=low,
            high=high,
            level=level,
            inputs=inputs,
        )
