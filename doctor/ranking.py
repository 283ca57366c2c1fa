"""Rank findings: the most likely cause first."""

from __future__ import annotations

from collections.abc import Iterable

from .check import AnyCheck
from .finding import SEVERITIES, Finding


def ranked(findings: Iterable[Finding], checks: Iterable[AnyCheck]) -> list[Finding]:
    """Sort findings: problems, then warnings, then ok, then skipped.

    Problems that no other problem causes come first (see `Check.follows`; a cause with a smaller measured share does not
    count). Then those with the larger explained share, rounded to a tenth. A cause without a measurement gets what the best
    measured one leaves. Ties follow the checks' ranks.
    """
    found, check_of = list(findings), {each.name: each for each in checks}
    problems = [each for each in found if each.is_problem]
    rest = 1 - max((each.explains or 0.0 for each in problems), default=0.0)

    def weight(each: Finding) -> float:
        if not each.is_problem or not check_of[each.check].causes:
            return 0.0
        return round(rest if each.explains is None else each.explains, 1)

    def explains_less(cause: Finding, each: Finding) -> bool:
        return cause.explains is not None and each.explains is not None and weight(cause) < weight(each)

    def place(each: Finding) -> tuple[int, bool, float, int, str]:
        check = check_of[each.check]
        causes = [other for other in problems if check.comes_after(check_of[other.check])]
        follows = each.is_problem and not all(explains_less(cause, each) for cause in causes)
        severity = 0 if each.is_problem else SEVERITIES.index(each.severity)
        return severity, follows, -weight(each), check.rank, check.name

    return sorted(found, key=place)
