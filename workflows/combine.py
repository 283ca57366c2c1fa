"""Combine checkpoints into one: check that they answer one question, choose their weights, write the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from ..arrays import FloatArray, JsonObject, PhaseProgress
from ..data.bars import Bars
from ..data.scorable_range import scorable_range
from ..data.time_range import TimeRange
from ..errors import CheckpointError, UsageError
from ..models.calibration_fit import check_rows
from ..models.checkpoint import DESCRIPTION, PURPOSES, Checkpoint, read_checkpoint
from ..models.combining_model import CombiningModel, members_of
from ..models.device import check_device_name
from ..models.importing import OwnerDeclaration, description_of, known_of
from ..models.logit_cache import logits_of
from ..models.overlap import check_fit, check_step
from ..models.pool import check_weights, fit_weights, pooled
from ..models.registry import find_kind
from ..models.statistics import negative_log_likelihood, softmax
from ..storage.atomic_files import json_text, new_folder

FITTED = "fitted"


@dataclass(frozen=True, eq=False, kw_only=True)
class CombineRequest:
    """What is combined, and how.

    Parameters
    ----------
    members : tuple of Checkpoint
    kind : str
        The kind of model that is made.
    weights : tuple of float, or str, optional
        One for each member, of the sum 1; or ``fitted``. Equal by default.
    bars : Bars, optional
        For ``fitted``, with the history before the range.
    timerange : TimeRange, optional
        For ``fitted``: bars that no member was trained on. It is stored, and later runs on it are refused.
    device, cache
        Of the scoring; see ``logits_of``.
    """

    members: tuple[Checkpoint, ...]
    kind: str
    weights: tuple[float, ...] | str | None = None
    bars: Bars | None = None
    timerange: TimeRange | None = None
    device: str = "auto"
    cache: bool = True


@dataclass(frozen=True, kw_only=True)
class FittedWeights:
    """Weights, and the negative log-likelihoods on the bars that they were fitted on, in nats per bar.

    Attributes
    ----------
    weights : tuple of float
    fitted_on : str
        The time range.
    nll, nll_equal : float
        Of the pool, and of the pool with equal weights.
    nll_members : tuple of float
        Of each member alone.
    notes : tuple of str
        What the owner should know.
    """

    weights: tuple[float, ...]
    fitted_on: str
    nll: float
    nll_equal: float
    nll_members: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Combination:
    """A checkpoint that was made of others, and the fit of its weights, if there was one."""

    checkpoint: Checkpoint
    weights: tuple[float, ...]
    fit: FittedWeights | None


def combine_request(
    request: CombineRequest,
    target: Path,
    *,
    overwrite: bool = False,
    progress: PhaseProgress = lambda _phase, _done, _total: None,
) -> Combination:
    """Write the checkpoint folder ``target``, whole or not at all.

    Raises
    ------
    UsageError
        When the members cannot be combined, or the weights are not theirs.
    RangeError
        When the weights are to be fitted where a member was trained, or on too few bars.
    CheckpointError
        When a member is damaged, or ``target`` exists and ``overwrite`` is not set.
    """
    if target.exists() and not overwrite:
        raise CheckpointError(f"--name: {target} exists. Choose another --name, or --overwrite to replace it.")
    kind, members = find_kind(request.kind), request.members
    if not issubclass(kind, CombiningModel):
        raise UsageError(f"models of the kind '{request.kind}' are not made of other checkpoints.")
    kind.check_members(members)
    fit = _fit(request, progress) if request.weights == FITTED else None
    if fit is None and (request.bars is not None or request.timerange is not None):
        raise UsageError("--data and --timerange are for --weights fitted, and other weights need no bars. Leave them out.")
    weights = _given(request) if fit is None else fit.weights
    try:
        with new_folder(target, overwrite=overwrite) as folder:
            _write(kind, members, weights, fit, target.name, folder)
    except OSError as error:
        raise CheckpointError(f"--output: {target} cannot be written: {error.strerror or error}.") from None
    return Combination(checkpoint=read_checkpoint(target), weights=weights, fit=fit)


def _write(
    kind: type[CombiningModel],
    members: Sequence[Checkpoint],
    weights: Sequence[float],
    fit: FittedWeights | None,
    name: str,
    folder: Path,
) -> None:
    parts = kind.combine(members, folder, weights=weights, fitted_on=None if fit is None else fit.fitted_on)
    values = description_of(kind, parts, known_of(OwnerDeclaration()), folder)
    if fit is not None:
        values["notes"] = list(fit.notes)
    (folder / DESCRIPTION).write_text(json_text(values), encoding="utf-8")
    made = read_checkpoint(folder)
    made.model.check_files()
    (folder / "README.md").write_text(combined_card(name, made, parts.note), encoding="utf-8")


def _given(request: CombineRequest) -> tuple[float, ...]:
    """Return the weights as given, equal without any."""
    members, weights = request.members, request.weights
    if weights is None:
        return (1 / len(members),) * len(members)
    names = ", ".join(each.name for each in members)
    if isinstance(weights, str) or len(weights) != len(members):
        given = f"'{weights}'" if isinstance(weights, str) else f"{len(weights)} weights"
        raise UsageError(f"--weights: expected {FITTED}, or one number for each of {names}, in this order, got {given}.")
    try:
        check_weights(weights)
    except ValueError as error:
        shares = np.asarray(weights) / sum(weights) if sum(weights) > 0 and min(weights) >= 0 else np.zeros(0)
        hint = f" In these proportions: {','.join(f'{each:.6g}' for each in shares)}." if len(shares) else ""
        raise UsageError(f"--weights: {error}, as those of {names} must be.{hint}") from None
    return weights


def _fit(request: CombineRequest, progress: PhaseProgress) -> FittedWeights:
    """Fit the weights on the request's range, which no member was trained on."""
    members, bars = request.members, request.bars
    if bars is None or request.timerange is None:
        raise UsageError(
            "--weights fitted: name the bars of the fit with --data FILE --timerange A-B: a range that no member was trained "
            "on, and that is not tested later."
        )
    check_device_name(request.device)
    labels = members[0].labels
    warmup = max(each.model.warmup_bars for each in members)
    part = scorable_range(bars, request.timerange, warmup)
    start = max(0, part.start - max(warmup, labels.history_bars))
    seen, first = bars.take(slice(start, part.stop)), part.start - start
    fitted_on = TimeRange(seen.time[first], seen.end)
    notes = []
    for each in members:
        check_step(each, bars)
        if "validation" in check_fit(each, fitted_on):
            notes.append(
                f"The weights were fitted on bars of the validation of {each.name}, which chose its best epoch: it may weigh "
                "slightly too much."
            )
        if (each.described.objective or {}).get("weights", "none") != "none":
            notes.append(
                f"{each.name} was trained with class weights, which move its probabilities: it weighs less than its skill is "
                "worth. Compare with equal weights, both calibrated with --method vector."
            )
        if each.bars_seen is None:
            notes.append(
                f"It is not known which bars {each.name} has seen: if it was trained on those of the fit, it weighs too much."
            )
    y = labels.labels(seen)[first:]  # no label uses a bar after the range
    logits = []
    for each in members:
        scored = partial(progress, each.name)
        logits.append(logits_of(each, seen, device=request.device, cache=request.cache, progress=scored)[first:])
    known = (y >= 0) & np.isfinite(logits).all(axis=(0, 2))
    check_rows(y[known], str(fitted_on))
    z, y = [each[known] for each in logits], y[known]
    weights = fit_weights(z, y)

    def nll(of: FloatArray) -> float:
        return negative_log_likelihood(softmax(of), y)

    return FittedWeights(
        weights=weights,
        fitted_on=str(fitted_on),
        nll=nll(pooled(z, weights)),
        nll_equal=nll(pooled(z, (1 / len(z),) * len(z))),
        nll_members=tuple(map(nll, z)),
        notes=tuple(notes),
    )


def combined_card(name: str, checkpoint: Checkpoint, note: str) -> str:
    """Return the README of a combination, written from its description alone."""
    seen = checkpoint.ranges
    ranges = ", ".join(f"{purpose} {seen[purpose]}" for purpose in PURPOSES if purpose in seen) or "none"
    unknown = " and others, which are not known" if checkpoint.bars_seen is None else ""
    members = "\n".join(
        f"| {each.name} | {each.kind} | `{each.digest[:12]}` | {each.described.parameters.all:,} |"
        for each in members_of(checkpoint)
    )
    notes = "".join(f"- {each}\n" for each in checkpoint.described.notes)
    return f"""# {name}

A model of the kind `{checkpoint.kind}`, made of other checkpoints, which lie whole in its folder. {note}
It answers one question per bar: {checkpoint.labels.question}

| member | kind | digest | parameters |
| --- | --- | --- | --- |
{members}

- Bars it has seen: {ranges}{unknown}
- Newest text or foreign series it has read: {checkpoint.text_read or "none"}
{notes}- It is not calibrated. On bars that no member was trained on:

      flagbt calibrate --ckpt {name} --data FILE --timerange A-B --method vector --store default --overwrite
"""


def weights_of(text: str | None) -> tuple[float, ...] | str | None:
    """Read ``--weights``: numbers separated by commas, or ``fitted``; None where it is not given."""
    if text is None or text.strip().lower() == FITTED:
        return None if text is None else FITTED
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise UsageError(f"--weights: '{text}' is neither {FITTED} nor numbers such as 0.5,0.5.") from None


def combination_json(made: Combination) -> JsonObject:
    """Return a combination as JSON values."""
    fit = made.fit
    members = [
        {"name": each.name, "digest": each.digest, "kind": each.kind, "weight": weight}
        for each, weight in zip(members_of(made.checkpoint), made.weights, strict=True)
    ]
    fitted = (
        None
        if fit is None
        else {
            "fitted_on": fit.fitted_on,
            "nll": fit.nll,
            "nll_equal": fit.nll_equal,
            "nll_members": list(fit.nll_members),
            "notes": list(fit.notes),
        }
    )
    checkpoint = made.checkpoint
    return cast(
        "JsonObject",
        {
            "checkpoint": str(checkpoint.folder),
            "digest": checkpoint.digest,
            "kind": checkpoint.kind,
            "members": members,
            "fit": fitted,
        },
    )
