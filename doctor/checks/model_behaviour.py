"""Checks of the model: look-ahead, the adapter, the invariance of its logits, the use of its input."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ...arrays import FloatArray
from ...models.checkpoint import Checkpoint
from ..finding import BROKEN, OK, Finding, skipped
from ..lenient_load import LenientCheckpoint, find_matching_network, fingerprint_difference, stored_adapter
from ..subject import Subject, filled
from .feature_rows import Note

WINDOWS = 12
WATCHED_ROWS = 64
SHUFFLED_ROWS = 3_000
LARGEST_MOVE = 1e-3
LARGEST_MOVE_UNKNOWN_CONTEXT = 0.02
SMALLEST_EFFECT = 0.01


def lookahead_model(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Change the rows after t: the logits up to t must not change."""
    del pictures
    name, random = "lookahead-model", subject.random(4)
    windows, length = _windows(subject, random, WATCHED_ROWS * 2)
    if not windows:
        return skipped(name, f"There are fewer than {length:,} consecutive complete rows.", "Give a longer range.")
    if not _output_repeats(subject, windows[0]):
        return skipped(
            name, "Its logits differ when the same rows are scored twice, so look-ahead is unknown.", "See invariance."
        )
    t = length - WATCHED_ROWS - 1
    largest, far = 0.0, 0
    for rows in windows:
        other = rows.copy()
        other[t + 1 :] = rows[random.permutation(length)[: length - t - 1]] + random.normal(0, 1, other[t + 1 :].shape) * (
            rows.std(axis=0) + 1e-3
        )
        off = np.abs(subject.predict_logits(rows)[: t + 1] - subject.predict_logits(other)[: t + 1]).max(axis=1)
        off = np.nan_to_num(off, nan=0.0)
        if off.max() > LARGEST_MOVE:
            far = max(far, t + 1 - int(np.argmax(off > LARGEST_MOVE)))
        largest = max(largest, float(off.max()))
    coverage["model_windows"] = len(windows)
    if largest <= LARGEST_MOVE:
        message = f"In {len(windows)} windows of {length:,} rows, no logit changed with the rows after it."
        return Finding(check=name, severity=OK, message=message, value=largest, limit=LARGEST_MOVE)
    return Finding(
        check=name,
        severity=BROKEN,
        value=largest,
        limit=LARGEST_MOVE,
        message=f"The model reads later rows: if the rows after a bar are replaced, its logits up to that bar change by up to "
        f"{largest:.3g}, as far as {far} bars before the change.",
        remedy="Use a causal attention mask, no normalisation or pooling over the whole sequence, and train again.",
        otherwise="If the model were causal, these logits would not change.",
    )


def _windows(subject: Subject, random: np.random.Generator, extra: int, count: int = WINDOWS) -> tuple[list[FloatArray], int]:
    """Return random windows of consecutive rows, each as long as the model's context and ``extra`` rows, and that length."""
    rows = filled(subject.rows[subject.first_row :])
    length = subject.context + extra
    if len(rows) < length:
        return [], length
    starts = random.integers(0, len(rows) - length + 1, count).tolist()
    return [rows[start : start + length].copy() for start in starts], length


def _output_repeats(subject: Subject, rows: FloatArray) -> bool:
    return float(np.nan_to_num(np.abs(subject.predict_logits(rows) - subject.predict_logits(rows))).max()) <= LARGEST_MOVE


def adapter(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Compare the LoRA matrices and the head in the network with the checkpoint's file."""
    del pictures
    name = "adapter"
    loaded, checkpoint = subject.loaded, subject.checkpoint
    if loaded is None or checkpoint is None:
        return skipped(name, "It needs a flagbt checkpoint.")
    from ...models.network import adapter_state  # imports torch

    stored, state = stored_adapter(checkpoint), adapter_state(loaded.network)
    faults = _adapter_faults(loaded, stored, state)
    norms = [float(tensor.norm()) for key, tensor in state.items() if "lora_B" in key]
    empty = sum(norm < 1e-9 for norm in norms)
    if norms and empty == len(norms):
        faults.append("every lora_B is zero: the adapter was not loaded or not trained")
    coverage["lora_matrices"] = len(norms)
    if loaded.damaged:  # then the fingerprint may be missing as well
        faults.append(loaded.damaged.rstrip("."))
        return Finding(
            check=name,
            severity=BROKEN,
            value=float(len(faults)),
            limit=0.0,
            message=f"{'; '.join(faults)}.",
            remedy="Copy the checkpoint's whole folder again from its source.",
            otherwise="If the files were unchanged, their digests would match.",
        )
    off = fingerprint_difference(loaded.network, checkpoint)
    if faults:
        return Finding(
            check=name,
            severity=BROKEN,
            value=off,
            limit=1e-4,
            message=f"The fine-tuned weights are incomplete: {'; '.join(faults)}. On the fingerprint's rows the logits are off "
            f"by {off:.3g}.",
            remedy="Save and load the adapter with every fully trained module (PEFT: modules_to_save), and compare logits "
            "after loading with those before saving.",
            otherwise="If the adapter were complete, it would reproduce its fingerprint to 1e-4.",
        )
    effect = _adapter_effect(loaded, checkpoint)
    message = (
        f"All {len(stored)} tensors are loaded; lora_B norms {min(norms, default=0):.2g} .. {max(norms, default=0):.2g}, "
        f"{empty} of {len(norms)} empty; switching the adapter off changes the logits by {effect:.2g} on average."
    )
    return Finding(check=name, severity=OK, message=message, value=effect, limit=0.0)


def _adapter_faults(loaded: LenientCheckpoint, stored: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """Return what is missing, unexpected or different in a loaded adapter: the tensors of its file, and those in memory."""
    import torch

    faults = []
    if loaded.missing:
        has_head = any("head" in each for each in loaded.missing)
        what = "among them the head, so a new random head is used" if has_head else "their initial values are used"
        faults.append(f"adapter.safetensors lacks {len(loaded.missing)} tensors ({', '.join(loaded.missing[:3])}): {what}")
    if loaded.unexpected:
        faults.append(f"adapter.safetensors has {len(loaded.unexpected)} unused tensors ({', '.join(loaded.unexpected[:3])})")
    shared = [key for key, tensor in stored.items() if key in state and state[key].shape == tensor.shape]
    differ = [key for key in shared if not torch.allclose(state[key].float(), stored[key].float(), atol=1e-6)]
    if differ:
        faults.append(f"{len(differ)} of {len(stored)} tensors in memory differ from adapter.safetensors ({differ[0]})")
    return faults


def _adapter_effect(loaded: LenientCheckpoint, checkpoint: Checkpoint) -> float:
    """Return the mean change of the fingerprint's logits when the adapter is switched off."""
    import torch

    from ...models.network import read_tensors

    rows = read_tensors(checkpoint.folder / "fingerprint.safetensors")["rows"][None]
    with torch.no_grad():
        on = loaded.network(rows)
        with loaded.network.disable_adapter():
            off = loaded.network(rows)
    return float((on - off).abs().mean())


def invariance(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Compare the logits in repeated calls, with padding, with a different history, in a batch and in bfloat16."""
    name, random = "invariance", subject.random(13)
    limit = LARGEST_MOVE if subject.context_bars is not None else LARGEST_MOVE_UNKNOWN_CONTEXT
    faults: list[tuple[str, float]] = []
    if subject.loaded is not None and subject.checkpoint is not None:
        if subject.loaded.network.training:
            faults.append(("the network is in training mode: dropout is on", float("nan")))
        off = fingerprint_difference(subject.loaded.network, subject.checkpoint)
        if off > 1e-4:
            fits = None if subject.loaded.network.training else find_matching_network(subject.checkpoint, 1e-4)
            cure = f"; with {fits[0]} they are reproduced" if fits else ""
            pictures["matching_network"] = fits[1:] if fits else None
            why = f"{cure}: a setting that no tensor's shape shows, or another base"
            faults.append((f"the fingerprint's logits are off by {off:.3g}{why}", off))
    windows, length = _windows(subject, random, WATCHED_ROWS, 4)
    if not windows and not faults:
        return skipped(name, f"There are fewer than {length:,} consecutive complete rows.", "Give a longer range.")
    for rows in windows:
        faults += _moves(subject, rows, limit)
    coverage["invariance_windows"] = len(windows)
    notes = _precision(subject, windows)
    worst = max((value for _, value in faults if np.isfinite(value)), default=0.0)
    if faults:
        return Finding(
            check=name,
            severity=BROKEN,
            value=worst,
            limit=limit,
            message=f"The logits depend on more than the bars: {'; '.join(dict.fromkeys(text for text, _ in faults))}.",
            remedy="Restore the checkpoint's own settings (evaluation mode, heads, context, positions, padding mask); "
            "store every setting in the checkpoint and compare a fingerprint at each load.",
            otherwise="With the right settings, the logits would agree to rounding.",
        )
    message = f"Logits repeat, and ignore padding, batch and history length ({len(windows)} windows of {length:,} rows){notes}."
    return Finding(check=name, severity=OK, message=message, value=worst, limit=limit)


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


def input_ignored(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Shuffle the rows over the bars: a model that uses its input gives different logits."""
    del pictures
    name, random = "input-ignored", subject.random(11)
    rows = filled(subject.rows[subject.first_row :])[-SHUFFLED_ROWS:]
    if len(rows) < max(32, subject.context // 4):
        return skipped(name, f"There are only {len(rows)} complete rows.", "Give a longer range.")
    coverage["shuffled_rows"] = len(rows)
    remedy = "Look at the input (constant or missing columns) and at the loaded weights (an output bias alone, a dead layer)."
    if (rows.std(axis=0) <= 1e-12).all():
        return Finding(
            check=name,
            severity=BROKEN,
            value=0.0,
            limit=SMALLEST_EFFECT,
            message=f"All of the last {len(rows):,} served rows are equal: the input is constant.",
            remedy="Fix the serving path: it serves constants.",
            columns=subject.served.columns[:60],
            otherwise="If the columns were not constant, the rows would differ from bar to bar.",
        )
    one, other = subject.predict_logits(rows), subject.predict_logits(rows[random.permutation(len(rows))])
    gaps = [(each - each.mean(axis=1, keepdims=True)) for each in (one, other)]
    moved = float(np.nanmean(np.abs(gaps[0] - gaps[1]).max(axis=1)))
    effect = f"With the rows shuffled over {len(rows):,} bars, the logits change by {moved:.2g} on average"
    if moved < SMALLEST_EFFECT:
        return Finding(
            check=name,
            severity=BROKEN,
            value=moved,
            limit=SMALLEST_EFFECT,
            remedy=remedy,
            message=f"{effect}: the model ignores its input.",
            otherwise="If the model used its input, the logits would follow the rows.",
        )
    return Finding(check=name, severity=OK, message=f"{effect}: the model uses its input.", value=moved, limit=SMALLEST_EFFECT)
