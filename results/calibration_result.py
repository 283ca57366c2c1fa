"""CalibrationResult: a fitted calibration and its effect."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import JsonObject
from ..data.reading import AS_WRITTEN, Reading
from ..models.checkpoint import Checkpoint, StoredCalibration
from ..models.statistics import ClassifierScores
from ..options import recorded
from .reliability import Reliability


@dataclass(frozen=True)
class Scores:
    """Scores of probabilities against labels (``models.statistics.scores``) and their reliability by class."""

    scores: ClassifierScores
    reliability: Reliability

    def to_json(self) -> JsonObject:
        """Return both as JSON values."""
        return {**self.scores.to_json(), "reliability": self.reliability.to_json()}


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """A fitted calibration and its effect.

    Attributes
    ----------
    stored : StoredCalibration
        With its decision rule.
    before, after : Scores
        On the fitting range itself, without any calibration and with this one.
    held_out : Scores, optional
        With calibrations that did not see the rows they are scored on; None where a held-out range lacks a class.
    doctor_verdict : str
        The doctor's, on the fitting range.
    rank_skill : dict
        The doctor's finding of that name, as JSON values.
    notes : tuple of str
        Notes for the reader, first the one about offsets that cannot help.
    warnings : tuple of str
        What every page about the checkpoint and these bars must state, see `flagbt.results.caveats.checkpoint_stamps`.
    """

    checkpoint: Checkpoint
    stored: StoredCalibration
    before: Scores
    after: Scores
    held_out: Scores | None
    doctor_verdict: str
    rank_skill: JsonObject
    notes: tuple[str, ...]
    source: str
    synthetic: bool
    reading: Reading = AS_WRITTEN
    warnings: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """Return everything as JSON values."""
        stated = {} if self.reading == AS_WRITTEN else {"reading": recorded(self.reading)}
        return {
            "checkpoint": {
                "name": self.checkpoint.name,
                "digest": self.checkpoint.digest,
                "bars_seen_stated": self.checkpoint.bars_seen is not None,
                "text_until": self.checkpoint.text_read,
            },
            "data": {"source": self.source, "synthetic": self.synthetic, **stated},
            "calibration": self.stored.calibration.to_json(),
            "decision": self.stored.decision.to_json(),
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "held_out": None if self.held_out is None else self.held_out.to_json(),
            "doctor": {"verdict": self.doctor_verdict, "rank_skill": self.rank_skill},
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }
