"""A check of the doctor: the share of tested bars at a weekend."""

from __future__ import annotations

from dataclasses import dataclass

from flagbt.doctor.check import Check, drawn
from flagbt.doctor.finding import OK, SUSPECT, Evidence, Finding
from flagbt.doctor.subject import Subject

LARGEST_SHARE = 0.9


@dataclass(frozen=True)
class Weekends(Evidence):
    """The share of tested bars at a weekend."""

    share: float

    def to_json(self) -> dict[str, float]:
        """Return the share."""
        return {"weekend_share": self.share}


def run(subject: Subject) -> Finding:
    """Count the tested bars on Saturday and Sunday."""
    days = subject.bars.time[subject.tested].astype("datetime64[D]").astype(int) % 7
    found = Weekends(float(((days == 2) | (days == 3)).mean()))
    return Finding(
        severity=SUSPECT if found.share > LARGEST_SHARE else OK,
        value=found.share,
        limit=LARGEST_SHARE,
        message=f"{100 * found.share:.1f} % of the tested bars are at a weekend.",
        evidence=found,
    )


CHECK = Check(
    name="weekends",
    rank=5,
    method="count tested bars at a weekend",
    run=run,
    evidence=Weekends,
    needs=(),
    draw=lambda found: drawn("Weekends", note=f"{100 * found.share:.0f} %"),
)
