"""Findings of the doctor: one per check, with typed evidence; the diagnosis that holds them, and its verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ..arrays import JsonObject
from ..errors import UsageError, check_choice, nearest

BROKEN, SUSPECT, WARNING, OK, SKIPPED = "broken", "suspect", "warning", "ok", "skipped"
UNCHECKED = "cannot be checked"  # of flagbt verify: the proof ran but shows nothing
SEVERITIES = (BROKEN, SUSPECT, WARNING, OK, SKIPPED)
HEALTHY, NO_SKILL = "healthy", "no skill"


@dataclass(frozen=True)
class Evidence:
    """Base of what a check measured: a frozen dataclass for the page, for the check's `undo`, and for Python."""

    def to_json(self) -> JsonObject:
        """Return the numbers that the finding's JSON holds as well; none by default."""
        return {}


E = TypeVar("E", bound=Evidence)
_SHOWN_PROBLEMS, _LONGEST_LINE = 3, 150  # of the text in a notebook


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of one check: a number, its limit and a message.

    Parameters
    ----------
    check : str
        The check's name; `Check.examine` fills it in.
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
    evidence : Evidence, optional
        What was measured, of the check's own type; None where nothing was.
    examined : mapping
        Counts of bars, rows, columns, moments and resamples.
    """

    check: str = ""
    severity: str
    message: str
    value: float | None = None
    limit: float | None = None
    remedy: str = ""
    otherwise: str = ""
    columns: tuple[str, ...] = ()
    explains: float | None = None
    undone: str = ""
    evidence: Evidence | None = field(default=None, repr=False)
    examined: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("severity", self.severity, (*SEVERITIES, UNCHECKED))

    @property
    def is_problem(self) -> bool:
        """Whether the severity is broken or suspect."""
        return self.severity in (BROKEN, SUSPECT)

    def to_json(self) -> JsonObject:
        """Return JSON values; ``undone`` and ``otherwise`` are appended to the message."""
        values: JsonObject = {
            "check": self.check,
            "severity": self.severity,
            "value": _finite(self.value),
            "limit": _finite(self.limit),
            "message": " ".join(each for each in (self.message, self.undone, self.otherwise) if each),
            "remedy": self.remedy,
        }
        if self.columns:
            values["columns"] = list(self.columns)
        return values if self.evidence is None else {**values, **self.evidence.to_json()}


def _finite(value: float | None) -> float | None:
    """Return the number, or None if JSON cannot represent it."""
    return value if value is not None and math.isfinite(value) else None


def skipped(why: str, remedy: str = "", *, examined: Mapping[str, int] | None = None) -> Finding:
    """Return the finding of a check that could not run, with the reason."""
    return Finding(severity=SKIPPED, message=why, remedy=remedy, examined=examined or {})


@dataclass(frozen=True, kw_only=True, repr=False)
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
    coverage : mapping
        Counts of bars, rows, columns, moments and resamples examined by all checks.
    seconds : float
    synthetic : bool
        Whether the bars are.
    warnings : tuple of str
        What every page about the checkpoint and these bars must state, see `flagbt.results.caveats.checkpoint_stamps`.
    """

    subject: str
    verdict: str
    findings: tuple[Finding, ...]
    coverage: Mapping[str, int]
    seconds: float
    synthetic: bool = False
    warnings: tuple[str, ...] = ()

    def finding(self, check: str) -> Finding:
        """Return the finding of one check.

        Raises
        ------
        UsageError
            When no check has that name; the nearest name is given.
        """
        found = {each.check: each for each in self.findings}
        if check not in found:
            raise UsageError(f"finding: no check is named '{check}'. {nearest(check, found)}")
        return found[check]

    def evidence(self, kind: type[E]) -> E | None:
        """Return the evidence of a type, such as `RankSkill` of `doctor.checks.rank_skill`; None where none was found.

        Examples
        --------
        >>> diagnosis = Diagnosis(subject="x", verdict="no skill", findings=(), coverage={}, seconds=0.0)
        >>> diagnosis.evidence(Evidence) is None
        True
        """
        return next((each.evidence for each in self.findings if isinstance(each.evidence, kind)), None)

    def to_html(self, page: str | Path) -> Path:
        """Write the offline page, and return its path; raises RecordError where it cannot be written."""
        from ..results.store import write_page
        from ..storage.paths import page_path
        from .page import render_diagnosis

        return write_page(page_path(page, "doctor.html"), render_diagnosis(self))

    def __repr__(self) -> str:
        shown = [f"{each.check}: {each.severity}. {each.message}" for each in self.problems[:_SHOWN_PROBLEMS]]
        more = len(self.problems) - len(shown)
        counts = ((each, sum(found.severity == each for found in self.findings)) for each in SEVERITIES)
        lines = [
            f"<Diagnosis of {self.subject}: {self.verdict} ({', '.join(f'{n} {each}' for each, n in counts if n)})>",
            "SYNTHETIC DATA, not a market." if self.synthetic else "",
            *self.warnings,
            *(line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..." for line in shown),
            f"and {more} more: to_html(page) writes them all" if more else "",
        ]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        from ..reports.notebook import Row, result_html

        rows = [Row(each.check, [each.severity, each.message, each.remedy]) for each in self.findings]
        stamps = ["SYNTHETIC DATA, not a market."] * self.synthetic + list(self.warnings)
        note = f"{len(self.findings)} checks in {self.seconds:.1f} s. to_html(page) writes the whole page."
        columns = ["check", "severity", "found", "remedy"]
        return str(result_html(stamps, [f"{self.subject}: {self.verdict}"], columns, rows, note, is_prose=True))

    @property
    def problems(self) -> list[Finding]:
        """The broken and suspect findings, most likely cause first."""
        return [each for each in self.findings if each.is_problem]

    def to_json(self) -> JsonObject:
        """Return the diagnosis as JSON values."""
        return {
            "verdict": self.verdict,
            "findings": [each.to_json() for each in self.findings],
            "coverage": dict(self.coverage),
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
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
