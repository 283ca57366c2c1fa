"""Calibrate: a calibration fitted to a checkpoint on bars that did not teach it, and what it changes."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from ..arrays import FloatArray, IntArray, PhaseProgress
from ..data.bars import Bars
from ..data.time_range import TimeRange
from ..doctor.checkpoint_subject import subject_of_checkpoint
from ..doctor.examine import examine
from ..doctor.finding import BROKEN, SKIPPED, Diagnosis
from ..errors import CheckpointError, RangeError, UsageError, check_choice
from ..models.calibration import FITTED_METHODS, Calibration
from ..models.calibration_fit import check_rows, checked_shares, fit_calibration, held_out
from ..models.checkpoint import Checkpoint, StoredCalibration
from ..models.decision import Decision, choose_decision
from ..models.device import check_device_name
from ..models.logit_cache import logits_of
from ..models.model_signals import ModelSignals
from ..models.overlap import check_fit, check_step
from ..models.reliability import reliability
from ..models.statistics import scores
from ..results.calibration_result import CalibrationResult, Scores


def calibrate(
    checkpoint: Checkpoint,
    bars: Bars,
    timerange: TimeRange,
    method: str,
    *,
    shares: FloatArray | None = None,
    decision: Decision | None = None,
    device: str = "auto",
    cache: bool = True,
    force: bool = False,
    progress: PhaseProgress = lambda _phase, _done, _total: None,
) -> CalibrationResult:
    """Fit a calibration on a range that did not teach the checkpoint.

    Parameters
    ----------
    bars : Bars
        With the history before the range; none after the range is looked at.
    timerange : TimeRange
        Of the fit; it is stored in the calibration, and later runs on it are refused.
    method : str
        ``temperature``, ``offset``, ``vector``, ``prior`` or ``dirichlet``; see ``models.fitting``.
    shares : array, shape (3,), optional
        For ``prior``; by default the training labels'.
    decision : Decision, optional
        Kept with it; by default chosen on the range as a training does (``choose_decision``).
    device, cache
        Of the scoring; see ``logits_of``.
    force : bool
        Fit even where the doctor calls the checkpoint broken.
    progress : callable
        Called with (``checks`` or ``score``, done, in all).

    Raises
    ------
    RangeError
        When the range taught the checkpoint, or has too few labelled bars or lacks a class.
    CheckpointError
        When the checkpoint is broken, damaged, or gives no finite logits.
    UsageError
        When an argument is none.
    """
    # 1. What can be refused before any work
    check_choice("--method", method, FITTED_METHODS)
    check_device_name(device)
    if shares is not None and method != "prior":
        raise UsageError(f"--shares: the method {method} takes none. Leave them out, or choose --method prior.")
    wanted = checkpoint.label_shares if shares is None else shares
    if method == "prior":
        wanted = checked_shares(wanted, "--shares")
    check_step(checkpoint, bars)
    seen, first = _fitted_bars(checkpoint, bars, timerange)
    fitted_on = TimeRange(seen.time[first], np.datetime64(seen.time[-1] + seen.step))
    seen_purposes = check_fit(checkpoint, fitted_on)
    labels = checkpoint.labels.labels(seen)[first:]  # none looks beyond the range's end
    check_rows(labels[labels >= 0], str(fitted_on))

    # 2. Healthy first: the doctor's checks on these bars
    subject = subject_of_checkpoint(checkpoint, bars, timerange=fitted_on)
    diagnosis = examine(subject, progress=lambda _check, done, total: progress("checks", done, total))
    if not force:
        _refuse_broken(checkpoint, diagnosis)

    # 3. Logits, the fit, and what it changes
    logits = logits_of(
        checkpoint, seen, device=device, cache=cache, progress=lambda done, total: progress("score", done, total)
    )[first:]
    _check_finite(checkpoint, logits)
    shift = training_shift(checkpoint)
    horizon = checkpoint.labels.horizon_bars

    def fit(z: FloatArray, y: IntArray) -> Calibration:
        return fit_calibration(
            method,
            z,
            y,
            fitted_on=str(fitted_on),
            shift=shift,
            shares=wanted if method == "prior" else None,
            horizon_bars=horizon,
        )

    calibration = fit(logits, labels)
    known = labels >= 0
    z, y = logits[known], labels[known]
    apart = held_out(fit, z, y, horizon)
    probabilities = calibration(z)
    rule = decision or choose_decision(probabilities, y, class_returns=checkpoint.class_returns, step_hours=bars.step_hours)
    return CalibrationResult(
        checkpoint=checkpoint,
        stored=StoredCalibration(calibration, rule),
        before=_judged(Calibration()(z), y, checkpoint),
        after=_judged(probabilities, y, checkpoint),
        held_out=None if apart is None else _judged(apart, y, checkpoint),
        doctor_verdict=diagnosis.verdict,
        rank_skill=diagnosis.finding("rank-skill").to_json(),
        notes=tuple(_notes(diagnosis, seen_purposes, shift)),
        source=bars.source,
        synthetic=bars.synthetic,
    )


def training_shift(checkpoint: Checkpoint) -> FloatArray:
    """Return what takes the training's known weights off the logits when added, (3,); zeros where they are not known."""
    from ..training.objectives import Objective  # imports torch

    described, counted = checkpoint.values.get("objective"), checkpoint.values.get("labels_counted")
    if not isinstance(described, dict) or not isinstance(counted, dict):
        return np.zeros(3)
    given = {each.name: described[each.name] for each in fields(Objective) if each.name in described}
    counts = np.array([float(counted[name]) for name in ("SELL", "HOLD", "BUY")])
    return Objective(**given).correction(counts)


def _fitted_bars(checkpoint: Checkpoint, bars: Bars, timerange: TimeRange) -> tuple[Bars, int]:
    """Return the bars up to the range's end with the warm-up before it, and the position of its first bar among them."""
    warmup = ModelSignals(checkpoint=checkpoint).warmup_bars
    part = bars.between(timerange)
    first = max(part.start, warmup)
    if first >= part.stop:
        raise RangeError(
            f"--timerange {timerange}: {max(0, part.stop - part.start):,} bars of {bars} lie in it, and the first {warmup:,} "
            "of the file go to the warm-up, so none can be scored. Choose a later range, or give bars that start earlier."
        )
    history = max(warmup, checkpoint.labels.history_bars)
    start = max(0, first - history)
    return bars.take(slice(start, part.stop)), first - start


def _refuse_broken(checkpoint: Checkpoint, diagnosis: Diagnosis) -> None:
    broken = [each for each in diagnosis.findings if each.severity == BROKEN]
    if broken:
        first = broken[0]
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}' is broken, so no calibration is fitted: {first.check}: {first.message} "
            f"{first.remedy} A calibration would only hide it (flagbt doctor --ckpt {checkpoint.option} says more); --force "
            "fits one all the same."
        )


def _check_finite(checkpoint: Checkpoint, logits: FloatArray) -> None:
    whole = np.isfinite(logits).all(axis=1)
    if not whole.all():
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}' gives no finite logits on {int((~whole).sum()):,} of {len(logits):,} bars (NaN or "
            "infinite): its weights or its features are damaged. Nothing is fitted to the rest; see flagbt doctor."
        )


def _judged(probabilities: FloatArray, labels: IntArray, checkpoint: Checkpoint) -> Scores:
    return Scores(scores(probabilities, labels, checkpoint.label_shares), reliability(probabilities, labels))


def _notes(diagnosis: Diagnosis, seen: list[str], shift: FloatArray) -> list[str]:
    found = []
    skill = diagnosis.finding("rank-skill")
    if skill.severity == SKIPPED:
        found.append(f"Whether any offset could help was not measured: {skill.message}")
    else:
        interval = diagnosis.pictures["aucs"][3]
        if interval.low <= 0.5 <= interval.high:
            found.append(
                f"No offset can help: the AUC of BUY against SELL is {interval}, and its interval contains 0.5. A calibration "
                "mends how sure it is, not which way it points."
            )
        elif interval.high < 0.5:
            found.append(f"BUY against SELL is ordered the wrong way round, AUC {interval}: no offset mends that.")
    if diagnosis.verdict == BROKEN:
        broken = next(each for each in diagnosis.findings if each.severity == BROKEN)
        found.append(f"Fitted by force on a checkpoint that is broken ({broken.check}): believe no number below.")
    if "validation" in seen:
        found.append(
            "The range holds the checkpoint's own validation, which chose its best epoch: what stands under before is a "
            "little too good, and a range that it never saw would judge the calibration better."
        )
    if np.abs(shift).max() > 1e-12:
        moved = ", ".join(f"{-each:+.3f}" for each in shift)
        found.append(
            f"The training's weights are known to have moved SELL, HOLD and BUY by {moved}: the calibration takes it off."
        )
    return found
