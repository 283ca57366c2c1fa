"""Checks of the model itself: does it see later rows, is its adapter there, do its answers hold still, does it listen?"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ...arrays import FloatArray
from ..finding import BROKEN, OK, Finding, skipped
from ..lenient_load import fingerprint_difference, knobs_that_fit, stored_adapter
from ..subject import Subject, filled
from .feature_rows import Note

STRETCHES = 12
WATCHED_ROWS = 64
SHUFFLED_ROWS = 3_000
LARGEST_MOVE = 1e-3
LARGEST_MOVE_UNKNOWN_CONTEXT = 0.02
SMALLEST_ANSWER = 0.01


def lookahead_model(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Change the rows after t: the logits up to t must not move."""
    del pictures
    name, random = "lookahead-model", subject.random(4)
    whole, length = _stretches(subject, random, WATCHED_ROWS * 2)
    if not whole:
        return skipped(name, f"There are fewer than {length:,} whole rows in a row to try.", "Give a longer range.")
    if not _answers_again(subject, whole[0]):
        return skipped(name, "Asked twice it gives other answers, so nothing can be told of later rows.", "See invariance.")
    t = length - WATCHED_ROWS - 1
    largest, far = 0.0, 0
    for rows in whole:
        other = rows.copy()
        other[t + 1 :] = rows[random.permutation(length)[: length - t - 1]] + random.normal(0, 1, other[t + 1 :].shape) * (
            rows.std(axis=0) + 1e-3
        )
        off = np.abs(subject.ask(rows)[: t + 1] - subject.ask(other)[: t + 1]).max(axis=1)
        off = np.nan_to_num(off, nan=0.0)
        if off.max() > LARGEST_MOVE:
            far = max(far, t + 1 - int(np.argmax(off > LARGEST_MOVE)))
        largest = max(largest, float(off.max()))
    coverage["model_stretches"] = len(whole)
    if largest <= LARGEST_MOVE:
        says = f"In {len(whole)} stretches of {length:,} rows, no logit moved with the rows after it."
        return Finding(check=name, severity=OK, says=says, value=largest, limit=LARGEST_MOVE)
    return Finding(
        check=name,
        severity=BROKEN,
        value=largest,
        limit=LARGEST_MOVE,
        says=f"The model reads later rows: when those after a bar are replaced, its logits up to that bar move by up to "
        f"{largest:.3g}, "
        f"as far as {far} bars before the change.",
        remedy="Give the attention its causal mask (and no normalisation or pooling over the whole sequence), then train "
        "again.",
        otherwise="Were the model causal, those logits would stay where they are.",
    )


def _stretches(
    subject: Subject, random: np.random.Generator, extra: int, count: int = STRETCHES
) -> tuple[list[FloatArray], int]:
    """Return stretches of consecutive whole rows, each the model's context and ``extra`` rows long, and that length."""
    rows = filled(subject.rows[subject.first_row :])
    length = subject.context + extra
    if len(rows) < length:
        return [], length
    starts = random.integers(0, len(rows) - length + 1, count).tolist()
    return [rows[start : start + length].copy() for start in starts], length


def _answers_again(subject: Subject, rows: FloatArray) -> bool:
    return float(np.nan_to_num(np.abs(subject.ask(rows) - subject.ask(rows))).max()) <= LARGEST_MOVE


def adapter(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Is what fine-tuning made in the network: the LoRA matrices and the head?"""
    del pictures
    name = "adapter"
    if subject.opened is None or subject.checkpoint is None:
        return skipped(name, "It needs one of flagbt's checkpoints.")
    import torch

    from ...models.network import adapter_state

    opened, checkpoint = subject.opened, subject.checkpoint
    network, faults = opened.network, []
    if opened.missing:
        what = (
            "the head among them, so a fresh random one answers"
            if any("head" in each for each in opened.missing)
            else "they are as new"
        )
        faults.append(f"adapter.safetensors lacks {len(opened.missing)} tensors ({', '.join(opened.missing[:3])}): {what}")
    if opened.unexpected:
        faults.append(
            f"adapter.safetensors holds {len(opened.unexpected)} tensors of no use ({', '.join(opened.unexpected[:3])})"
        )
    state = adapter_state(network)
    stored = stored_adapter(checkpoint)
    differ = [
        key
        for key, tensor in stored.items()
        if key in state
        and state[key].shape == tensor.shape
        and not torch.allclose(state[key].float(), tensor.float(), atol=1e-6)
    ]
    if differ:
        faults.append(f"{len(differ)} of {len(stored)} tensors in memory are not those of adapter.safetensors ({differ[0]})")
    norms = [float(tensor.norm()) for key, tensor in state.items() if "lora_B" in key]
    empty = sum(norm < 1e-9 for norm in norms)
    if norms and empty == len(norms):
        faults.append("every lora_B is zero: the adapter was not loaded, or never trained")
    coverage["lora_matrices"] = len(norms)
    if opened.damaged:  # then not even the fingerprint may be there
        faults.append(opened.damaged.rstrip("."))
        return Finding(
            check=name,
            severity=BROKEN,
            value=float(len(faults)),
            limit=0.0,
            says=f"{'; '.join(faults)}.",
            remedy="Copy the checkpoint's whole folder again from its source.",
            otherwise="Were the files those that were saved, their digests would fit.",
        )
    off = fingerprint_difference(network, checkpoint)
    if faults:
        return Finding(
            check=name,
            severity=BROKEN,
            value=off,
            limit=1e-4,
            says=f"What fine-tuning made is not all there: {'; '.join(faults)}. On the fingerprint's rows the logits are "
            f"off by "
            f"{off:.3g}.",
            remedy="Save and load the adapter with every module that was trained in full (PEFT: modules_to_save), and compare "
            "logits after loading with those before saving.",
            otherwise="Were the adapter whole, its fingerprint would be reproduced to 1e-4.",
        )
    moved = _adapter_effect(subject)
    says = (
        f"All {len(stored)} tensors are loaded; lora_B norms {min(norms, default=0):.2g} .. {max(norms, default=0):.2g}, "
        f"{empty} of "
        f"{len(norms)} empty; switching the adapter off moves the logits by {moved:.2g} on average."
    )
    return Finding(check=name, severity=OK, says=says, value=moved, limit=0.0)


def _adapter_effect(subject: Subject) -> float:
    import torch

    from ...models.network import read_tensors

    assert subject.opened is not None
    assert subject.checkpoint is not None
    rows = read_tensors(subject.checkpoint.folder / "fingerprint.safetensors")["rows"][None]
    with torch.no_grad():
        on = subject.opened.network(rows)
        with subject.opened.network.disable_adapter():
            off = subject.opened.network(rows)
    return float((on - off).abs().mean())


def invariance(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Do the answers hold still: twice the same, whatever stands before or behind, in a batch, in another precision?"""
    name, random = "invariance", subject.random(13)
    limit = LARGEST_MOVE if subject.context_bars is not None else LARGEST_MOVE_UNKNOWN_CONTEXT
    faults: list[tuple[str, float]] = []
    if subject.opened is not None and subject.checkpoint is not None:
        if subject.opened.network.training:
            faults.append(("the network is in training mode: dropout is on", float("nan")))
        off = fingerprint_difference(subject.opened.network, subject.checkpoint)
        if off > 1e-4:
            fits = None if subject.opened.network.training else knobs_that_fit(subject.checkpoint, 1e-4)
            told = f"; with {fits[0]} they are reproduced" if fits else ""
            pictures["mended"] = fits[1:] if fits else None
            why = f"{told}: a knob that no tensor's shape reveals, or another base"
            faults.append((f"the fingerprint's logits are off by {off:.3g}{why}", off))
    whole, length = _stretches(subject, random, WATCHED_ROWS, 4)
    if not whole and not faults:
        return skipped(name, f"There are fewer than {length:,} whole rows in a row to try.", "Give a longer range.")
    for rows in whole:
        faults += _moves(subject, rows, limit)
    coverage["invariance_stretches"] = len(whole)
    notes = _precision(subject, whole)
    worst = max((value for _, value in faults if np.isfinite(value)), default=0.0)
    if faults:
        said = list(dict.fromkeys(text for text, _ in faults))
        return Finding(
            check=name,
            severity=BROKEN,
            value=worst,
            limit=limit,
            says=f"The same bar gets other logits for reasons that are not the market: {'; '.join(said)}.",
            remedy="Restore the checkpoint's own settings (evaluation mode, heads, context, positions, padding mask); "
            "store every knob in the checkpoint and compare a fingerprint at each load.",
            otherwise="Were these in order, the logits would agree to rounding.",
        )
    says = f"Logits repeat, and ignore padding, batch and length of history ({len(whole)} stretches of {length:,} rows){notes}."
    return Finding(check=name, severity=OK, says=says, value=worst, limit=limit)


def _moves(subject: Subject, rows: FloatArray, limit: float) -> list[tuple[str, float]]:
    """Return what moved the last logits of a stretch, and by how much; a length that predict refuses is left out."""
    width = rows.shape[1]
    base = subject.ask(rows)[-WATCHED_ROWS:]
    tries = {
        "asked twice": (rows, slice(-WATCHED_ROWS, None)),
        "with rows of zeros before (left padding)": (np.concatenate([np.zeros((96, width)), rows]), slice(-WATCHED_ROWS, None)),
        "with rows of zeros behind (right padding)": (
            np.concatenate([rows, np.zeros((48, width))]),
            slice(-WATCHED_ROWS - 48, -48),
        ),
        "with other rows before": (np.concatenate([rows[:37], rows]), slice(-WATCHED_ROWS, None)),
    }
    found = []
    for what, (given, part) in tries.items():
        try:
            off = float(np.nan_to_num(np.abs(subject.ask(given)[part] - base)).max())
        except (ValueError, RuntimeError, IndexError):
            continue
        if off > limit:
            found.append((f"{what} (off by {off:.2g})", off))
    if subject.opened is not None:
        import torch

        with torch.no_grad():
            one = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))[None]
            several = torch.cat([one.flip(1), one, torch.zeros_like(one)])
            off = float((subject.opened.network(several)[1] - subject.opened.network(one)[0])[-WATCHED_ROWS:].abs().max())
        if off > limit:
            found.append((f"in a batch with others (off by {off:.2g})", off))
    return found


def _precision(subject: Subject, whole: list[FloatArray]) -> str:
    """Return a note on what bfloat16 changes; it is no fault."""
    if subject.opened is None or not whole:
        return ""
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(whole[0], dtype=np.float32))[None]
    with torch.no_grad():
        plain = subject.opened.network(rows)[0, -WATCHED_ROWS:]
        half = copy.deepcopy(subject.opened.network).to(torch.bfloat16)(rows.to(torch.bfloat16))[0, -WATCHED_ROWS:].float()
    flips = float((plain.argmax(-1) != half.argmax(-1)).float().mean())
    return (
        f"; in bfloat16 they move by up to {float((plain - half).abs().max()):.2g}, and {100 * flips:.0f} % of the classes flip"
    )


def input_ignored(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Shuffle the rows over the bars: a model that listens gives other answers."""
    del pictures
    name, random = "input-ignored", subject.random(11)
    rows = filled(subject.rows[subject.first_row :])[-SHUFFLED_ROWS:]
    if len(rows) < max(32, subject.context // 4):
        return skipped(name, f"There are only {len(rows)} whole rows.", "Give a longer range.")
    coverage["shuffled_rows"] = len(rows)
    remedy = "Look at what is fed (constant or missing columns) and at what is loaded (an output bias alone, a dead layer)."
    if (rows.std(axis=0) <= 1e-12).all():
        return Finding(
            check=name,
            severity=BROKEN,
            value=0.0,
            limit=SMALLEST_ANSWER,
            says=f"Every one of the last {len(rows):,} rows that the model is served is the same: it has nothing to answer to.",
            remedy="Mend the serving path: it feeds constants.",
            columns=subject.served.columns[:60],
            otherwise="Were the rows alive, they would differ from bar to bar.",
        )
    one, other = subject.ask(rows), subject.ask(rows[random.permutation(len(rows))])
    gaps = [(each - each.mean(axis=1, keepdims=True)) for each in (one, other)]
    moved = float(np.nanmean(np.abs(gaps[0] - gaps[1]).max(axis=1)))
    if moved < SMALLEST_ANSWER:
        return Finding(
            check=name,
            severity=BROKEN,
            value=moved,
            limit=SMALLEST_ANSWER,
            remedy=remedy,
            says=f"With the rows shuffled over {len(rows):,} bars the logits move by {moved:.2g} on average: the model "
            f"ignores its input.",
            otherwise="Were it listening, the answers would follow the rows.",
        )
    says = f"With the rows shuffled over {len(rows):,} bars the logits move by {moved:.2g} on average: the model listens."
    return Finding(check=name, severity=OK, says=says, value=moved, limit=SMALLEST_ANSWER)
