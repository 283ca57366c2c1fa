"""Run every check on a subject, measure what each cause explains, rank the findings and derive the verdict."""

from __future__ import annotations

import time

from ..arrays import PhaseProgress
from ..results.caveats import checkpoint_stamps
from .checks.lookahead_model import StoredAnswers
from .checks.overlap import CHECK as OVERLAP
from .checks.rank_skill import RankSkill
from .finding import SKIPPED, Diagnosis, Finding, verdict_of
from .ranking import ranked
from .registry import all_checks
from .subject import Subject


def examine(subject: Subject, *, progress: PhaseProgress = lambda _check, _done, _total: None) -> Diagnosis:
    """Run all checks and rank their findings.

    A check that cannot run is skipped and gives the reason. If your own function raises, only the check that called it is
    skipped.

    Parameters
    ----------
    progress : callable
        Called with (check, checks done, checks in all).

    Raises
    ------
    StrategyError
        When an installed package's check cannot be loaded.
    """
    started = time.perf_counter()
    checks = all_checks()
    found: list[Finding] = []
    for done, check in enumerate(checks):
        progress(check.name, done, len(checks))
        found.append(check.examine(subject))
    progress("", len(checks), len(checks))
    coverage = {"bars": len(subject.bars)}
    for each in found:
        coverage |= each.examined
    findings = [check.explained(subject, each) for check, each in zip(checks, found, strict=True)]
    return Diagnosis(
        subject=subject.name,
        verdict=verdict_of(findings, direction=_direction(findings)),
        findings=tuple(ranked(findings, checks)),
        coverage=coverage,
        seconds=time.perf_counter() - started,
        synthetic=subject.bars.synthetic,
        warnings=()
        if subject.checkpoint is None
        else tuple(checkpoint_stamps(subject.checkpoint, subject.bars.time[subject.tested])),
    )


def _direction(findings: list[Finding]) -> bool | None:
    """Return whether BUY is distinguishable from SELL on bars known to be unseen; None where that was not shown."""
    if any(each.check == OVERLAP.name and each.severity == SKIPPED for each in findings):
        return None  # the score may be memorised
    if any(isinstance(each.evidence, StoredAnswers) for each in findings):
        return None  # the score may come from later bars
    return next((each.evidence.has_direction for each in findings if isinstance(each.evidence, RankSkill)), None)
