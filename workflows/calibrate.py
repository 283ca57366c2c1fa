"""Fit a calibration to a checkpoint, on bars that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray, PhaseProgress
from ..data.bars import Bars
from ..data.labels import NO_LABEL
from ..data.scorable_range import scorable_range
from ..data.time_range import TimeRange
from ..doctor.checkpoint_subject import subject_of_checkpoint
from ..doctor.checks.rank_skill import RankSkill
from ..doctor.examine import examine
from ..doctor.finding import BROKEN, Diagnosis
from ..errors import CheckpointError, UsageError, check_choice
from ..models.calibration import FITTED_METHODS, Calibration
from ..models.calibration_fit import check_rows, checked_shares, fit_calibration, held_out
from ..models.checkpoint import Checkpoint, StoredCalibration
from ..models.decision import Decision, choose_decision
from ..models.device import check_device_name
from ..models.logit_cache import logits_of
from ..models.model_signals import ModelSignals
from ..models.overlap import check_fit, check_step
from ..models.statistics import scores
from ..results.calibration_result import CalibrationResult, Scores
from ..results.caveats import checkpoint_stamps
from ..results.reliability import reliability


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrateRequest:
    """The options of `flagbt calibrate` for one checkpoint and its bars.

    Parameters
    ----------
    checkpoint : Checkpoint
    bars : Bars
        With the history before the range; bars after the range are not used.
    timerange : TimeRange
        Of the fit. It is stored in the calibration, and later runs on it are refused.
    method : str
        ``temperature``, ``offset``, ``vector``, ``prior`` or ``dirichlet``; see ``models.calibration_fit``.
    shares : array, shape (3,), optional
        For ``prior``. Default: the shares of the training labels.
    decision : Decision, optional
        Stored with the calibration. Default: chosen on the range, as in training (``choose_decision``).
    device, cache
        Of the scoring; see ``logits_of``.
    force : bool
        Fit even if the doctor finds the checkpoint broken.
    """

    checkpoint: Checkpoint
    bars: Bars
    timerange: TimeRange
    method: str
    shares: FloatArray | None = None
    decision: Decision | None = None
    device: str = "auto"
    cache: bool = True
    force: bool = False


def calibrate_request(
    request: CalibrateRequest, *, progress: PhaseProgress = lambda _phase, _done, _total: None
) -> CalibrationResult:
    """Fit a calibration on a range that the checkpoint was not trained on.

    Parameters
    ----------
    progress : callable
        Called with (``checks`` or ``score``, done, in all).

    Raises
    ------
    RangeError
        When the checkpoint was trained on the range, or the range has too few labelled bars or lacks a class.
    CheckpointError
        When the checkpoint is broken or damaged, or its logits are not finite.
    UsageError
        When an argument is invalid.
    """
    # 1. Every check that needs no work
    checkpoint, bars = request.checkpoint, request.bars
    check_choice("--method", request.method, FITTED_METHODS)
    check_device_name(request.device)
    shares = _checked_shares(request)
    check_step(checkpoint, bars)
    seen, first = _fitted_bars(checkpoint, bars, request.timerange)
    fitted_on = TimeRange(seen.time[first], seen.end)
    purposes = check_fit(checkpoint, fitted_on)
    labels = checkpoint.labels.labels(seen)[first:]  # no label uses a bar after the range
    checkpoint.model.check_covers(seen.take(slice(first, len(seen))))
    check_rows(labels[labels >= 0], str(fitted_on))

    # 2. The doctor's checks on these bars
    subject = subject_of_checkpoint(checkpoint, bars, timerange=fitted_on)
    diagnosis = examine(subject, progress=lambda _check, done, total: progress("checks", done, total))
    if not request.force:
        _refuse_broken(checkpoint, diagnosis)

    # 3. The logits, the fit, and the scores before and after
    scored = partial(progress, "score")
    logits = logits_of(checkpoint, seen, device=request.device, cache=request.cache, progress=scored)[first:]
    answered = _answered(checkpoint, logits)
    labels = np.where(answered, labels, NO_LABEL)
    known = labels != NO_LABEL
    check_rows(labels[known], str(fitted_on))
    shift, horizon = training_shift(checkpoint), checkpoint.labels.horizon_bars
    fit = partial(fit_calibration, request.method, fitted_on=str(fitted_on), shift=shift, shares=shares, horizon_bars=horizon)
    calibration, z, y = fit(logits, labels), logits[known], labels[known]
    on_held_out = held_out(fit, z, y, horizon)
    probabilities = calibration(z)
    decision = request.decision or choose_decision(
        probabilities, y, class_returns=checkpoint.class_returns, step_hours=bars.step_hours
    )
    return CalibrationResult(
        checkpoint=checkpoint,
        stored=StoredCalibration(calibration, decision),
        before=_scores(Calibration()(z), y, checkpoint),
        after=_scores(probabilities, y, checkpoint),
        held_out=None if on_held_out is None else _scores(on_held_out, y, checkpoint),
        doctor_verdict=diagnosis.verdict,
        rank_skill=diagnosis.finding("rank-skill").to_json(),
        notes=(*_coverage(answered), *_seen_notes(checkpoint), *_notes(diagnosis, purposes, shift)),
        warnings=tuple(checkpoint_stamps(checkpoint, seen.time[first:])),
        source=bars.source,
        synthetic=bars.synthetic,
        reading=bars.reading,
    )


def _checked_shares(request: CalibrateRequest) -> FloatArray | None:
    """Return the shares that the method ``prior`` matches, and None for any other method, which takes none."""
    if request.method == "prior":
        shares = request.checkpoint.label_shares if request.shares is None else request.shares
        if shares is None:
            raise UsageError(
                f"--method prior: the shares of the training labels of '{request.checkpoint.name}' are not known. State the "
                "shares of SELL, HOLD and BUY to match, such as --shares 0.16,0.66,0.18."
            )
        return checked_shares(shares, "--shares")
    if request.shares is not None:
        raise UsageError(
            f"--shares: the method {request.method} takes no shares. Leave --shares out, or choose --method prior."
        )
    return None


def training_shift(checkpoint: Checkpoint) -> FloatArray:
    """Return the offsets, shape (3,), that remove the effect of the training's weights; zeros if these are unknown."""
    described, counted = checkpoint.values.get("objective"), checkpoint.values.get("labels_counted")
    if not isinstance(described, dict) or not isinstance(counted, dict):
        return np.zeros(3)
    from ..training.objectives import Objective  # imports torch

    given = {each.name: described[each.name] for each in fields(Objective) if each.name in described}
    counts = np.array([float(counted[name]) for name in ("SELL", "HOLD", "BUY")])
    return Objective(**given).correction(counts)


def _fitted_bars(checkpoint: Checkpoint, bars: Bars, timerange: TimeRange) -> tuple[Bars, int]:
    """Return the range's bars with the history before them, and the position of the range's first bar."""
    warmup = ModelSignals(checkpoint=checkpoint).warmup_bars
    part = scorable_range(bars, timerange, warmup)
    start = max(0, part.start - max(warmup, checkpoint.labels.history_bars))
    return bars.take(slice(start, part.stop)), part.start - start


def _refuse_broken(checkpoint: Checkpoint, diagnosis: Diagnosis) -> None:
    broken = [each for each in diagnosis.findings if each.severity == BROKEN]
    if broken:
        first = broken[0]
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}' is broken, so no calibration is fitted: {first.check}: {first.message} "
            f"{first.remedy} A calibration would only hide it (flagbt doctor --ckpt {checkpoint.option} shows more). Add "
            "--force to fit it anyway."
        )


def _answered(checkpoint: Checkpoint, logits: FloatArray) -> BoolArray:
    """Return the bars with finite logits; raise CheckpointError where others are damage."""
    finite = np.asarray(np.isfinite(logits).all(axis=1))
    if not finite.all() and not checkpoint.model.may_skip_bars:
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}' gives no finite logits on {int((~finite).sum()):,} of {len(logits):,} bars (NaN "
            "or infinite): its weights or its features are damaged. No calibration is fitted; see flagbt doctor."
        )
    return finite


def _coverage(answered: BoolArray) -> list[str]:
    """Return a note where some bars have no answer."""
    if answered.all():
        return []
    return [f"It answers at {int(answered.sum()):,} of the range's {len(answered):,} bars, and only those were fitted."]


def _scores(probabilities: FloatArray, labels: IntArray, checkpoint: Checkpoint) -> Scores:
    return Scores(scores(probabilities, labels, checkpoint.label_shares), reliability(probabilities, labels))


def _seen_notes(checkpoint: Checkpoint) -> list[str]:
    if checkpoint.bars_seen is not None:
        return []
    note = "It is not stated which bars the checkpoint has seen. If it was trained on these, it is overconfident here, the "
    return [f"{note}calibration has learned that, and the scores are too good."]


def _notes(diagnosis: Diagnosis, purposes: list[str], shift: FloatArray) -> list[str]:
    notes = []
    skill = diagnosis.evidence(RankSkill)
    if skill is None:
        notes.append(f"Whether an offset could help was not measured: {diagnosis.finding('rank-skill').message}")
    else:
        interval = skill.direction
        if interval.low <= 0.5 <= interval.high:
            notes.append(
                f"No offset can help: the AUC of BUY against SELL is {interval}, and its interval contains 0.5. A calibration "
                "corrects the confidence, not the direction."
            )
        elif interval.high < 0.5:
            notes.append(f"BUY and SELL are ranked in reverse, AUC {interval}: no offset can fix that.")
    if diagnosis.verdict == BROKEN:
        broken = next(each for each in diagnosis.findings if each.severity == BROKEN)
        notes.append(f"Fitted with --force on a broken checkpoint ({broken.check}): do not rely on the figures below.")
    if "validation" in purposes:
        notes.append(
            "The range contains the checkpoint's validation, which chose its best epoch, so the scores before calibration are "
            "slightly too good. An unseen range would evaluate the calibration better."
        )
    if np.abs(shift).max() > 1e-12:
        moved = ", ".join(f"{-each:+.3f}" for each in shift)
        notes.append(
            f"The training's weights moved the logits of SELL, HOLD and BUY by {moved}. The calibration removes that shift."
        )
    return notes
