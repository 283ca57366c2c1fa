"""Invariance: the logits of a bar in repeated calls, with padding, with a different history, in a batch and in bfloat16."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from ...arrays import FloatArray
from ..check import Check, Symptom
from ..counterfactual import with_matching_network
from ..finding import BROKEN, OK, Evidence, Finding, skipped
from ..lenient_load import FINGERPRINT_TOLERANCE, fingerprint_difference
from ..subject import Subject

WINDOWS = 4
WATCHED_ROWS = 64
LARGEST_MOVE = 1e-3
LARGEST_MOVE_UNKNOWN_CONTEXT = 0.02


@dataclass(frozen=True)
class LogitMoves(Evidence):
    """What else the logits depend on, each with the largest change of a logit, NaN where it was not measured.

    ``setting`` is the other setting that reproduces the fingerprint, such as ``heads 2 instead of 4``; empty if none does.
    """

    moves: tuple[tuple[str, float], ...]
    windows: int
    setting: str = ""


def _run(subject: Subject) -> Finding:
    """Compare the logits in repeated calls, with padding, with a different history, in a batch and in bfloat16."""
    random = subject.random(13)
    limit = LARGEST_MOVE if subject.context_bars is not None else LARGEST_MOVE_UNKNOWN_CONTEXT
    faults: list[tuple[str, float]] = []
    matching = None
    if subject.loaded is not None and subject.checkpoint is not None:
        if subject.loaded.network.training:
            faults.append(("the network is in training mode: dropout is on", float("nan")))
        off = fingerprint_difference(subject.loaded.network, subject.checkpoint)
        if off > FINGERPRINT_TOLERANCE:
            matching = subject.matching_network
            cure = f"; with {matching.setting} they are reproduced" if matching else ""
            why = f"{cure}: a setting that no tensor's shape shows, or another base"
            faults.append((f"the fingerprint's logits are off by {off:.3g}{why}", off))
    windows, length = subject.windows(random, WATCHED_ROWS, WINDOWS)
    if not windows and not faults:
        return skipped(f"There are fewer than {length:,} consecutive complete rows.", "Give a longer range.")
    for rows in windows:
        faults += _moves(subject, rows, limit)
    examined = {"invariance_windows": len(windows)}
    notes = _precision(subject, windows)
    worst = max((value for _, value in faults if np.isfinite(value)), default=0.0)
    found = LogitMoves(tuple(faults), len(windows), matching.setting if matching else "")
    if faults:
        return Finding(
            severity=BROKEN,
            value=worst,
            limit=limit,
            message=f"The logits depend on more than the bars: {'; '.join(dict.fromkeys(text for text, _ in faults))}.",
            remedy="Restore the checkpoint's own settings (evaluation mode, heads, context, positions, padding mask); "
            "store every setting in the checkpoint and compare a fingerprint at each load.",
            otherwise="With the right settings, the logits would agree to rounding.",
            evidence=found,
            examined=examined,
        )
    return Finding(
        severity=OK,
        message=f"Logits repeat, and ignore padding, batch and history length ({len(windows)} windows of {length:,} "
        f"rows){notes}.",
        value=worst,
        limit=limit,
        evidence=found,
        examined=examined,
    )


def _moves(subject: Subject, rows: FloatArray, limit: float) -> list[tuple[str, float]]:
    """Return what changed the last logits of a window, and by how much; lengths that predict refuses are left out."""
    width = rows.shape[1]
    base = subject.predict_logits(rows)[-WATCHED_ROWS:]
    tries = {
        "scored twice": (rows, slice(-WATCHED_ROWS, None)),
        "with rows of zeros before (left padding)": (np.concatenate([np.zeros((96, width)), rows]), slice(-WATCHED_ROWS, None)),
        "with rows of zeros after (right padding)": (
            np.concatenate([rows, np.zeros((48, width))]),
            slice(-WATCHED_ROWS - 48, -48),
        ),
        "with other rows before": (np.concatenate([rows[:37], rows]), slice(-WATCHED_ROWS, None)),
    }
    found = []
    for what, (given, part) in tries.items():
        try:
            off = float(np.nan_to_num(np.abs(subject.predict_logits(given)[part] - base)).max())
        except (ValueError, RuntimeError, IndexError):
            continue
        if off > limit:
            found.append((f"{what} (off by {off:.2g})", off))
    if subject.loaded is not None:
        import torch

        with torch.no_grad():
            one = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))[None]
            several = torch.cat([one.flip(1), one, torch.zeros_like(one)])
            off = float((subject.loaded.network(several)[1] - subject.loaded.network(one)[0])[-WATCHED_ROWS:].abs().max())
        if off > limit:
            found.append((f"in a batch with others (off by {off:.2g})", off))
    return found


def _precision(subject: Subject, windows: list[FloatArray]) -> str:
    """Return a note on the effect of bfloat16, which is not a fault."""
    if subject.loaded is None or not windows:
        return ""
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(windows[0], dtype=np.float32))[None]
    with torch.no_grad():
        plain = subject.loaded.network(rows)[0, -WATCHED_ROWS:]
        half = copy.deepcopy(subject.loaded.network).to(torch.bfloat16)(rows.to(torch.bfloat16))[0, -WATCHED_ROWS:].float()
    flips = float((plain.argmax(-1) != half.argmax(-1)).float().mean())
    change = float((plain - half).abs().max())
    return f"; in bfloat16 they change by up to {change:.2g}, and {100 * flips:.0f} % of the classes flip"


CHECK = Check(
    name="invariance",
    rank=60,
    method="score rows twice, with padding, in a batch, with a different history; find a wrong head count or context by the "
    "fingerprint",
    run=_run,
    evidence=LogitMoves,
    needs=(),
    causes=(Symptom.WRONG_OUTPUT,),
    follows=("lookahead-model", "adapter"),
    undo=lambda subject, _found: with_matching_network(subject),
)
