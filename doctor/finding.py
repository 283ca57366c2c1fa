"""What the doctor found: one finding a check, ranked, and the verdict they add up to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

BROKEN, SUSPECT, WARNING, OK, SKIPPED = "broken", "suspect", "warning", "ok", "skipped"
UNCHECKED = "cannot be checked"  # of flagbt verify: the proof ran, and proves nothing
SEVERITIES = (BROKEN, SUSPECT, WARNING, OK, SKIPPED)
HEALTHY, NO_SKILL = "healthy", "no skill"

# From the cause furthest upstream to the last symptom: what is wrong with a bar's row is wrong with everything after it.
CHECKS = (
    "lookahead-features",
    "schema",
    "serving-parity",
    "lookahead-model",
    "adapter",
    "invariance",
    "leaky-split",
    "label-map",
    "input-ignored",
    "class-weights",
    "drift",
    "overlap",
    "too-good",
    "shares",
    "funnel",
    "calibration",
    "rank-skill",
)

# What a check sees as well when another one has found the cause: such a finding follows the causes that stand alone.
_WEIGHTS = ("lookahead-model", "adapter")
_ROWS = ("schema", "serving-parity")
_CAUSES = (*_ROWS, *_WEIGHTS, "invariance", "label-map", "input-ignored", "class-weights", "drift")
_LEAKS = ("lookahead-features", "lookahead-model", "leaky-split", "overlap")
SYMPTOMS = ("too-good", "shares", "funnel", "calibration", "rank-skill")
FOLLOWS: dict[str, tuple[str, ...]] = {
    "serving-parity": ("lookahead-features", "schema", *_WEIGHTS, "invariance", "input-ignored"),
    "invariance": _WEIGHTS,
    "label-map": (*_ROWS, *_WEIGHTS, "invariance", "input-ignored", "class-weights"),
    "input-ignored": _WEIGHTS,
    "class-weights": (*_ROWS, *_WEIGHTS, "invariance", "input-ignored"),
    "funnel": (*_CAUSES, "shares"),
    "too-good": _LEAKS,
    "shares": _CAUSES,
    "calibration": (*_CAUSES, "shares", *_LEAKS),
    "rank-skill": (*_CAUSES, *_LEAKS),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check's outcome: a number against a limit, in words.

    Parameters
    ----------
    check : str
        One of ``CHECKS``.
    severity : str
        ``broken`` (nothing after it can be believed), ``suspect``, ``warning``, ``ok`` or ``skipped``; of ``flagbt verify``
        also ``cannot be checked``.
    says : str
        What was measured and what it means, or why the check could not run.
    value, limit : float, optional
    remedy : str
        What to do; empty where nothing is to be done.
    otherwise : str
        What would have been seen, were this not the cause.
    columns : tuple of str
        The guilty feature columns, where there are any.
    explains : float, optional
        The share of the symptom that goes when this is undone, 0 to 1, where that was measured.
    undone : str
        The numbers of that measurement, in words.
    evidence : dict
        More numbers, by name.
    """

    check: str
    severity: str
    says: str
    value: float | None = None
    limit: float | None = None
    remedy: str = ""
    otherwise: str = ""
    columns: tuple[str, ...] = ()
    explains: float | None = None
    undone: str = ""
    evidence: dict[str, float | int | bool] = field(default_factory=dict)

    @property
    def is_problem(self) -> bool:
        """Whether it is broken or suspect."""
        return self.severity in (BROKEN, SUSPECT)

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values; ``says`` ends in what it explains, and in what would be seen otherwise."""
        values: dict[str, Any] = {
            "check": self.check,
            "severity": self.severity,
            "value": _finite(self.value),
            "limit": _finite(self.limit),
            "says": " ".join(each for each in (self.says, self.undone, self.otherwise) if each),
            "remedy": self.remedy,
        }
        return values | ({"columns": list(self.columns)} if self.columns else {}) | self.evidence


def _finite(value: float | None) -> float | None:
    """Return the number, or None where JSON has none for it."""
    return value if value is not None and math.isfinite(value) else None


def skipped(check: str, why: str, remedy: str = "") -> Finding:
    """Return the finding of a check that could not run, and why."""
    return Finding(check=check, severity=SKIPPED, says=why, remedy=remedy)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: problems first, then warnings, then what is fine, then what was skipped.

    Among problems, those that no other problem brings about come first (see ``FOLLOWS``; a cause that was measured to explain
    less brings nothing about); among these, those that explain most
    of the symptom, to a tenth of it. A cause that could not be undone may explain what no measured one does. What is left
    equal comes in the order of ``CHECKS``, which is that of causes.
    """
    found = list(findings)
    problems = {each.check: each for each in found if each.is_problem}
    rest = 1 - max((each.explains or 0.0 for each in found if each.is_problem), default=0.0)

    def weight(each: Finding) -> float:
        if not each.is_problem or each.check in SYMPTOMS:
            return 0.0
        return round(rest if each.explains is None else each.explains, 1)

    def explains_less(cause: Finding, each: Finding) -> bool:
        return cause.explains is not None and each.explains is not None and weight(cause) < weight(each)

    def place(each: Finding) -> tuple[int, bool, float, int]:
        causes = [problems[name] for name in FOLLOWS.get(each.check, ()) if name in problems]
        follows = each.is_problem and not all(explains_less(cause, each) for cause in causes)
        return 0 if each.is_problem else SEVERITIES.index(each.severity), follows, -weight(each), CHECKS.index(each.check)

    return sorted(found, key=place)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Every finding in rank order, the verdict, and how much was looked at.

    Attributes
    ----------
    subject : str
        What was examined.
    verdict : str
        ``broken`` or ``suspect`` where a finding is; else ``no skill`` where BUY cannot be told from SELL, an honest end
        state; else ``healthy``.
    findings : tuple of Finding
    coverage : dict
        Counts of what was tried: bars, rows, columns, moments, resamples.
    seconds : float
    pictures : dict
        Numbers behind the page's pictures; no part of the JSON.
    """

    subject: str
    verdict: str
    findings: tuple[Finding, ...]
    coverage: dict[str, int]
    seconds: float
    pictures: dict[str, Any]
    synthetic: bool = False

    def finding(self, check: str) -> Finding:
        """Return the finding of one check."""
        return next(each for each in self.findings if each.check == check)

    @property
    def problems(self) -> list[Finding]:
        """The broken and suspect findings, most likely cause first."""
        return [each for each in self.findings if each.is_problem]

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as JSON values."""
        return {
            "verdict": self.verdict,
            "findings": [each.to_json() for each in self.findings],
            "coverage": self.coverage,
            "seconds": round(self.seconds, 3),
        }


def verdict_of(findings: Iterable[Finding], *, direction: bool | None) -> str:
    """Return the verdict; ``direction`` says whether BUY is told from SELL, None where it could not be measured.

    Health that was not shown is not claimed: without a measured direction, the verdict is ``no skill``.
    """
    severities = {each.severity for each in findings}
    if BROKEN in severities:
        return BROKEN
    if SUSPECT in severities:
        return SUSPECT
    return HEALTHY if direction else NO_SKILL
