"""Overlap: compare the tested bars with the bars that the model has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..check import Check, Symptom
from ..counterfactual import Ablation, compare_scores, scores_by_samples
from ..finding import OK, SUSPECT, Evidence, Finding, skipped
from ..subject import Subject


@dataclass(frozen=True)
class SeenBars(Evidence):
    """The share of tested bars that the model has seen, with their labels' horizon, and their number by purpose."""

    share: float
    tested_bars: int
    by_purpose: Mapping[str, int]


def _run(subject: Subject) -> Finding:
    """Compare the tested bars with the bars that the model has seen."""
    at = np.flatnonzero(subject.tested)
    if not len(at):
        return skipped("No bar is tested.")
    if subject.bars_seen is None and (subject.checkpoint is not None or subject.reads_bars):
        return skipped(
            "Which bars it has seen is not stated, so no score on these bars shows skill: it may be trained on them.",
            "If you know them, state them where it was imported (--trained-on) or run (--bars-seen).",
        )
    if subject.bars_seen is None and (subject.past is None or subject.training is None):
        return skipped(
            "The training bars are not known, so no score on these bars shows skill: the model may be trained on them.",
            "Give training=.",
        )
    h = subject.horizon_bars
    first, last = subject.bars.time[at], subject.bars.time[np.minimum(at + h, len(subject.bars) - 1)]
    seen, names = np.zeros(len(at), bool), list[tuple[str, int]]()
    for purpose, start, stop in _seen(subject):
        hit = (last >= start) & (first < stop)
        if hit.any():
            names.append((purpose, int(hit.sum())))
        seen |= hit
    found = SeenBars(float(seen.mean()), len(at), _sums(names))
    examined = {"tested_bars": len(at)}
    if found.share == 0 and subject.checkpoint is not None and subject.checkpoint.bars_seen is None:
        return skipped(
            "It is not stated which bars the checkpoint has seen, so no score on these bars shows skill: it may be trained on "
            "them.",
            "Import it with --trained-on.",
            examined=examined,
        )
    if found.share == 0:
        return Finding(
            severity=OK,
            value=0.0,
            limit=0.0,
            message=f"The model has seen none of the {len(at):,} tested bars.",
            evidence=found,
            examined=examined,
        )
    return Finding(
        severity=SUSPECT,
        value=found.share,
        limit=0.0,
        message=f"The model has seen {100 * found.share:.1f} % of the {len(at):,} tested bars, with their labels' horizon: "
        f"{', '.join(f'{purpose} ({count:,} bars)' for purpose, count in names)}. A score on them is not a test.",
        remedy="Test on bars after all that it has seen (--timerange).",
        otherwise="On unseen bars this share is 0.",
        evidence=found,
        examined=examined,
    )


def _sums(counts: list[tuple[str, int]]) -> dict[str, int]:
    return {purpose: sum(n for each, n in counts if each == purpose) for purpose, _ in counts}


def _seen(subject: Subject) -> list[tuple[str, np.datetime64, np.datetime64]]:
    """Return (purpose, first time, end) of every range that the model has seen."""
    early, late = np.datetime64("1678-01-01", "ns"), np.datetime64("2262-01-01", "ns")
    if subject.bars_seen is not None:
        return [
            (purpose, early if seen.start is None else seen.start, late if seen.stop is None else seen.stop)
            for purpose, seen in subject.bars_seen.items()
        ]
    assert subject.past is not None
    found = []
    for purpose, mask in (("training", subject.training), ("validation", subject.validation)):
        if mask is None or not mask.any():
            continue
        at = np.flatnonzero(mask)
        for part in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)[:2_000]:
            end = min(int(part[-1]) + subject.horizon_bars, len(subject.past) - 1)
            found.append((purpose, subject.past.time[part[0]], subject.past.time[end] + subject.past.step))
    return found if len(found) <= 2_000 else [("training", min(f[1] for f in found), max(f[2] for f in found))]


def _undo(subject: Subject, _found: SeenBars) -> Ablation | None:
    scored = scores_by_samples(subject)
    if scored is None:
        return None
    validated, tested = scored
    return compare_scores(tested, validated, "On the validation samples, which are not training samples")


CHECK = Check(
    name="overlap",
    rank=120,
    method="count tested bars that the model has seen",
    run=_run,
    evidence=SeenBars,
    causes=(Symptom.HIGH_SCORE,),
    undo=_undo,
)
