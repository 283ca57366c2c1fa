"""Findings of the doctor: one per check, ranked, and the verdict derived from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

BROKEN, SUSPECT, WARNING, OK, SKIPPED = "broken", "suspect", "warning", "ok", "skipped"
UNCHECKED = "cannot be checked"  # of flagbt verify: the proof ran but shows nothing
SEVERITIES = (BROKEN, SUSPECT, WARNING, OK, SKIPPED)
HEALTHY, NO_SKILL = "healthy", "no skill"

# From the first cause to the last symptom: a fault in a bar's row spoils every later step.
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

# Causes that also trigger another check: that check's finding is ranked after independent causes.
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
    """Result of one check: a number, its limit and a message.

    Parameters
    ----------
    check : str
        One of ``CHECKS``.
    severity : str
        ``broken`` (later numbers are not valid), ``suspect``, ``warning``, ``ok`` or ``skipped``; of ``flagbt verify``
        also ``cannot be checked``.
    message : str
        The measurement and its meaning, or the reason why the check could not run.
    value, limit : float, optional
    remedy : str
        What to do; empty if nothing.
    otherwise : str
        What you would see if this were not the cause.
    columns : tuple of str
        The feature columns at fault, if any.
    explains : float, optional
        The measured share of the symptom that disappears without this cause, 0 to 1.
    undone : str
        A sentence with the numbers of that measurement.
    evidence : dict
        More numbers by name.
    """

    check: str
    severity: str
    message: str
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
        """Whether the severity is broken or suspect."""
        return self.severity in (BROKEN, SUSPECT)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; ``undone`` and ``otherwise`` are appended to the message."""
        values: dict[str, Any] = {
            "check": self.check,
            "severity": self.severity,
            "value": _finite(self.value),
            "limit": _finite(self.limit),
            "message": " ".join(each for each in (self.message, self.undone, self.otherwise) if each),
            "remedy": self.remedy,
        }
        return values | ({"columns": list(self.columns)} if self.columns else {}) | self.evidence


def _finite(value: float | None) -> float | None:
    """Return the number, or None if JSON cannot represent it."""
    return value if value is not None and math.isfinite(value) else None


def skipped(check: str, why: str, remedy: str = "") -> Finding:
    """Return the finding of a check that could not run, with the reason."""
    return Finding(check=check, severity=SKIPPED, message=why, remedy=remedy)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: problems, then warnings, then ok, then skipped.

    Problems that no other problem causes come first (see ``FOLLOWS``; a cause with a smaller measured share does not count).
    Then those with the larger explained share, rounded to a tenth. A cause without a measurement gets what the best measured
    one leaves. Ties follow the order of ``CHECKS``.
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
    """Every finding in rank order, the verdict and the number of items examined.

    Attributes
    ----------
    subject : str
        Name of the model.
    verdict : str
        ``broken`` or ``suspect`` if a finding is; else ``no skill`` if BUY is not distinguishable from SELL, which is a valid
        result; else ``healthy``.
    findings : tuple of Finding
    coverage : dict
        Counts of bars, rows, columns, moments and resamples examined.
    seconds : float
    pictures : dict
        Numbers for the page's charts; not part of the JSON.
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
    """Return the verdict.

    Parameters
    ----------
    direction : bool or None
        Whether BUY is distinguishable from SELL; None if it was not measured. Then the verdict is at best ``no skill``.
    """
    severities = {each.severity for each in findings}
    if BROKEN in severities:
        return BROKEN
    if SUSPECT in severities:
        return SUSPECT
    return HEALTHY if direction else NO_SKILL
