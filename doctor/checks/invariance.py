"""Invariance: the logits of a bar in repeated calls, with padding, with a different history, in a batch and in bfloat16."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import FloatArray
from ...models.fingerprint import FINGERPRINT_TOLERANCE
from ..check import Check, Symptom
from ..counterfactual import with_matching_network
from ..finding import BROKEN, OK, Evidence, Finding, skipped
from ..subject import Subject

WINDOWS = 4
WATCHED_ROWS = 64
BAR_WINDOWS, WATCHED_BARS = 2, 24
ALONE_AT = np.array([-24, -17, -8, -1])  # of the watched bars
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
    if subject.reads_bars:
        return _on_bars(subject)
    random = subject.random(13)
    limit = LARGEST_MOVE if subject.context_bars is not None else LARGEST_MOVE_UNKNOWN_CONTEXT
    faults: list[tuple[str, float]] = []
    matching = None
    if subject.loaded is not None:
        if subject.loaded.is_training:
            faults.append(("the network is in training mode: dropout is on", float("nan")))
        off = subject.loaded.fingerprint_difference()
        if off > FINGERPRINT_TOLERANCE:
            matching = subject.matching_network
            cure = f"; with {matching[0]} they are reproduced" if matching else ""
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
    found = LogitMoves(tuple(faults), len(windows), matching[0] if matching else "")
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
    if subject.loaded is not None and (off := subject.loaded.batch_difference(rows, WATCHED_ROWS)) > limit:
        found.append((f"in a batch with others (off by {off:.2g})", off))
    return found


def _precision(subject: Subject, windows: list[FloatArray]) -> str:
    """Return a note on the effect of bfloat16, which is not a fault."""
    if subject.loaded is None or not windows:
        return ""
    change, flips = subject.loaded.half_precision(windows[0], WATCHED_ROWS)
    return f"; in bfloat16 they change by up to {change:.2g}, and {100 * flips:.0f} % of the classes flip"


def _on_bars(subject: Subject) -> Finding:
    """Compare the logits of a model that reads bars in repeated calls, alone, and with other bars before."""
    windows, length = subject.bar_windows(subject.random(13), WATCHED_BARS, BAR_WINDOWS)
    if not windows:
        return skipped(f"There are fewer than {length:,} bars.", "Give a longer range.")
    moves: dict[str, float] = {}
    for bars in windows:
        base = subject.logits_on(bars)
        alone = np.array([subject.logits_on(bars.take(slice(t - subject.context, t + 1)))[-1] for t in ALONE_AT + length])
        tries = {
            "scored twice": (subject.logits_on(bars), base),
            "alone, with the history of its warm-up only": (alone, base[ALONE_AT]),
            "with fewer bars before": (
                subject.logits_on(bars.take(slice(7, None)))[-WATCHED_BARS + 7 :],
                base[-WATCHED_BARS + 7 :],
            ),
        }
        for what, (one, other) in tries.items():
            off = np.where(np.isfinite(one) == np.isfinite(other), np.nan_to_num(np.abs(one - other)), np.inf)
            moves[what] = max(moves.get(what, 0.0), float(off.max()))
    found, worst = LogitMoves(tuple(moves.items()), len(windows)), max(moves.values())
    faults = [f"{what} (off by {off:.2g})" for what, off in moves.items() if off > LARGEST_MOVE]
    examined = {"invariance_windows": len(windows)}
    if faults:
        return Finding(
            severity=BROKEN,
            value=worst,
            limit=LARGEST_MOVE,
            message=f"The logits of a bar depend on more than the bars of its warm-up: {'; '.join(faults)}.",
            remedy="Remove its state, and what it takes from the other bars of a call, such as a scale; or state a longer "
            "warm-up.",
            otherwise="If they depended on these bars only, the logits would agree to rounding.",
            evidence=found,
            examined=examined,
        )
    return Finding(
        severity=OK,
        message=f"Logits repeat, and are the same alone and with fewer bars before ({len(windows)} windows of {length:,} "
        "bars).",
        value=worst,
        limit=LARGEST_MOVE,
        evidence=found,
        examined=examined,
    )


CHECK = Check(
    name="invariance",
    rank=60,
    method="score rows or bars twice, alone or in a batch, with padding, with a different history; find a wrong head count or "
    "context by the fingerprint",
    run=_run,
    evidence=LogitMoves,
    needs=(),
    causes=(Symptom.WRONG_OUTPUT,),
    follows=("lookahead-model", "adapter"),
    undo=lambda subject, _found: with_matching_network(subject),
)
