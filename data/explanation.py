"""Explanation: what many rows are, where that explains their faults better than each row alone."""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import JsonObject

REPETITIONS = ("out-of-order", "duplicates", "disagreeing")


class Explanation(NamedTuple):
    """What the rows are, the evidence with its numbers, what solves it, and the kinds of problems that it explains."""

    found: str
    evidence: str
    action: str
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.found[0].upper()}{self.found[1:]}: {self.evidence}. {self.action}"

    def to_json(self) -> JsonObject:
        """Return the explanation as JSON values."""
        return {"found": self.found, "evidence": self.evidence, "action": self.action}
