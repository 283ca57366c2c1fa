"""A checkpoint opened without refusing it: what fits is loaded, and what does not is noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import FloatArray
from ..errors import CheckpointError
from ..models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import nn


class LenientCheckpoint(NamedTuple):
    """What loading a checkpoint's network came to.

    Attributes
    ----------
    network : Module
        With the LoRA matrices apart, in evaluation mode, on the CPU.
    damaged : str
        Which weight file is missing or differs from what was saved; empty where none does.
    missing, unexpected : tuple of str
        Tensors of the adapter that the file lacks, or has too many.
    """

    network: Any
    damaged: str = ""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


def open_checkpoint(checkpoint: Checkpoint) -> LenientCheckpoint:
    """Load what fits.

    Raises
    ------
    CheckpointError
        When the base cannot be read at all.
    """
    import peft
    import torch

    from ..models.network import Lora, adapter_state, base_of, with_lora

    try:
        checkpoint.check_files()
        damaged = ""
    except CheckpointError as error:
        damaged = str(error)
    torch.manual_seed(0)  # a head that the file lacks is a fresh one, the same at every look
    model = with_lora(base_of(checkpoint, checkpoint.architecture), Lora.from_json(checkpoint.values["lora"]))
    adapter = stored_adapter(checkpoint)
    wanted = {name: tensor.shape for name, tensor in adapter_state(model).items()}
    fits = {name: tensor for name, tensor in adapter.items() if wanted.get(name) == tensor.shape}
    peft.set_peft_model_state_dict(model, {**adapter_state(model), **fits})
    model.eval()
    return LenientCheckpoint(model, damaged, tuple(sorted(set(wanted) - set(fits))), tuple(sorted(set(adapter) - set(fits))))


def stored_adapter(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the tensors of the adapter's file; none where it cannot be read."""
    from ..models.network import read_tensors

    try:
        return dict(read_tensors(checkpoint.folder / "adapter.safetensors"))
    except CheckpointError:
        return {}


def logits_in_chunks(network: nn.Module, rows: FloatArray, *, receptive_bars: int, chunk_bars: int) -> FloatArray:
    """Return logits (n, 3) of consecutive rows (n, F); NaN in the first ``receptive_bars``. Row t uses rows <= t."""
    import torch

    result = np.full((len(rows), 3), np.nan)
    inputs = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
    stride = max(1, chunk_bars - receptive_bars)
    with torch.no_grad():
        for start in range(receptive_bars, len(rows), stride):
            stop, begin = min(start + stride, len(rows)), start - receptive_bars
            result[start:stop] = network(inputs[None, begin:stop], stop - start)[0].double().numpy()
    return result


def fingerprint_difference(network: nn.Module, checkpoint: Checkpoint) -> float:
    """Return the largest difference between a network's logits and the stored ones of the fingerprint rows."""
    import torch

    from ..models.network import read_tensors

    stored = read_tensors(checkpoint.folder / "fingerprint.safetensors")
    with torch.no_grad():
        logits = network(stored["rows"][None], len(stored["logits"]))[0].float()
    return float((logits - stored["logits"]).abs().max().nan_to_num(float("inf")))


def knobs_that_fit(checkpoint: Checkpoint, tolerance: float) -> tuple[str, Any, dict[str, Any]] | None:
    """Return the heads, context or mask with which the fingerprint is reproduced: in words, the network, its knobs.

    No tensor's shape depends on any of them, so a wrong one loads in silence.
    """
    now = checkpoint.architecture
    for knob, other in now.mistakable():
        values = {**checkpoint.values, "architecture": other.to_json()}
        try:
            network = open_checkpoint(Checkpoint(checkpoint.folder, values)).network
            if fingerprint_difference(network, checkpoint) <= tolerance:
                return f"{knob} {getattr(other, knob)} instead of {getattr(now, knob)}", network, values["architecture"]
        except (CheckpointError, RuntimeError, ValueError):  # such a network cannot be built
            continue
    return None
