"""LenientCheckpoint: a network from damaged or incomplete files, with what they lack, for the doctor."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import peft
import torch
from torch import Tensor

from ...arrays import FloatArray, JsonObject
from ...errors import CheckpointError
from ..checkpoint import Checkpoint
from ..fingerprint import FINGERPRINT, FINGERPRINT_TOLERANCE
from .network import adapter_state, architecture_of, base_of, lora_of, read_tensors, with_lora
from .network_model import ADAPTER
from .scoring import logits_in_chunks


@dataclass(frozen=True, eq=False)
class LenientCheckpoint:
    """A leniently loaded network; see `flagbt.models.model.LenientNetwork`.

    Attributes
    ----------
    checkpoint : Checkpoint
        Its description, with the architecture in use.
    network : PeftModel
        With unmerged LoRA matrices, in evaluation mode, on the CPU.
    damaged : str
        Which weight file is missing or changed; empty if none.
    missing, unexpected : tuple of str
        Adapter tensors that the file lacks, and those that the network lacks.
    """

    checkpoint: Checkpoint
    network: peft.PeftModel
    damaged: str = ""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    @property
    def is_training(self) -> bool:
        """See `LenientNetwork`."""
        return bool(self.network.training)

    @property
    def stored_tensors(self) -> int:
        """See `LenientNetwork`."""
        return len(_stored_adapter(self.checkpoint))

    def logits_of_rows(self, rows: FloatArray) -> FloatArray:
        """See `LenientNetwork`; in chunks, see `logits_in_chunks`."""
        a = architecture_of(self.checkpoint)
        return logits_in_chunks(self.network, rows, receptive_bars=a.receptive_bars, chunk_bars=a.chunk_bars)

    def fingerprint(self) -> tuple[FloatArray, FloatArray]:
        """See `LenientNetwork`."""
        stored = read_tensors(self.checkpoint.folder / FINGERPRINT)
        return stored["rows"].double().numpy(), stored["logits"].double().numpy()

    @torch.no_grad()
    def fingerprint_difference(self) -> float:
        """See `LenientNetwork`; infinite where a logit is not finite."""
        stored = read_tensors(self.checkpoint.folder / FINGERPRINT)
        logits = self.network(stored["rows"][None], len(stored["logits"]))[0].float()
        return float((logits - stored["logits"]).abs().max().nan_to_num(float("inf")))

    def adapter_faults(self) -> list[str]:
        """See `LenientNetwork`."""
        stored, state = _stored_adapter(self.checkpoint), adapter_state(self.network)
        return [*_file_faults(self), *_memory_faults(stored, state)]

    def adapter_norms(self) -> tuple[float, ...]:
        """See `LenientNetwork`."""
        return tuple(float(tensor.norm()) for key, tensor in adapter_state(self.network).items() if "lora_B" in key)

    @torch.no_grad()
    def adapter_effect(self) -> float:
        """See `LenientNetwork`."""
        rows = read_tensors(self.checkpoint.folder / FINGERPRINT)["rows"][None]
        on = self.network(rows)
        with self.network.disable_adapter():
            off = self.network(rows)
        return float((on - off).abs().mean())

    @torch.no_grad()
    def batch_difference(self, rows: FloatArray, last: int) -> float:
        """See `LenientNetwork`."""
        one = _float32(rows)
        several = torch.cat([one.flip(1), one, torch.zeros_like(one)])
        return float((self.network(several)[1] - self.network(one)[0])[-last:].abs().max())

    @torch.no_grad()
    def half_precision(self, rows: FloatArray, last: int) -> tuple[float, float]:
        """See `LenientNetwork`."""
        given = _float32(rows)
        plain = self.network(given)[0, -last:]
        half = copy.deepcopy(self.network).to(torch.bfloat16)(given.to(torch.bfloat16))[0, -last:].float()
        flips = float((plain.argmax(-1) != half.argmax(-1)).float().mean())
        return float((plain - half).abs().max()), flips

    def reloaded(self) -> LenientCheckpoint:
        """See `LenientNetwork`."""
        return load_leniently(self.checkpoint)

    def with_other_setting(self) -> tuple[str, LenientCheckpoint] | None:
        """Return the network with the heads, context or mask that reproduce the fingerprint; None if there is none.

        No tensor's shape depends on them, so a wrong value loads without an error.
        """
        now = architecture_of(self.checkpoint)
        for field, other in now.mistakable():
            values: JsonObject = {**self.checkpoint.values, "architecture": other.to_json()}
            try:
                found = load_leniently(Checkpoint(self.checkpoint.folder, values))
                if found.fingerprint_difference() <= FINGERPRINT_TOLERANCE:
                    return f"{field} {getattr(other, field)} instead of {getattr(now, field)}", found
            except (CheckpointError, RuntimeError, ValueError):  # this network cannot be built
                continue
        return None


def load_leniently(checkpoint: Checkpoint) -> LenientCheckpoint:
    """Load the tensors that fit the network.

    Raises
    ------
    CheckpointError
        When the base cannot be read.
    """
    try:
        checkpoint.check_files()
        damaged = ""
    except CheckpointError as error:
        damaged = str(error)
    torch.manual_seed(0)  # a head that the file lacks is initialised at random, the same in every call
    model = with_lora(base_of(checkpoint, architecture_of(checkpoint)), lora_of(checkpoint))
    adapter = _stored_adapter(checkpoint)
    wanted = {name: tensor.shape for name, tensor in adapter_state(model).items()}
    fits = {name: tensor for name, tensor in adapter.items() if wanted.get(name) == tensor.shape}
    peft.set_peft_model_state_dict(model, {**adapter_state(model), **fits})
    model.eval()
    missing, unexpected = tuple(sorted(set(wanted) - set(fits))), tuple(sorted(set(adapter) - set(fits)))
    return LenientCheckpoint(checkpoint, model, damaged, missing, unexpected)


def _stored_adapter(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of the adapter's file; empty if it cannot be read."""
    try:
        return dict(read_tensors(checkpoint.folder / ADAPTER))
    except CheckpointError:
        return {}


def _file_faults(loaded: LenientCheckpoint) -> list[str]:
    faults = []
    if loaded.missing:
        has_head = any("head" in each for each in loaded.missing)
        what = "among them the head, so a new random head is used" if has_head else "their initial values are used"
        faults.append(f"{ADAPTER} lacks {len(loaded.missing)} tensors ({', '.join(loaded.missing[:3])}): {what}")
    if loaded.unexpected:
        faults.append(f"{ADAPTER} has {len(loaded.unexpected)} unused tensors ({', '.join(loaded.unexpected[:3])})")
    return faults


def _memory_faults(stored: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return which tensors in memory differ from those of the file."""
    shared = [key for key, tensor in stored.items() if key in state and state[key].shape == tensor.shape]
    differ = [key for key in shared if not torch.allclose(state[key].float(), stored[key].float(), atol=1e-6)]
    return [f"{len(differ)} of {len(stored)} tensors in memory differ from {ADAPTER} ({differ[0]})"] if differ else []


def _float32(rows: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))[None]
