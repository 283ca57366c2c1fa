"""The adapter: compare the LoRA matrices and the head in the network with the checkpoint's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...models.checkpoint import Checkpoint
from ..check import Check, Need, Symptom
from ..counterfactual import with_matching_network
from ..finding import BROKEN, OK, Evidence, Finding
from ..lenient_load import FINGERPRINT_TOLERANCE, LenientCheckpoint, fingerprint_difference, stored_adapter
from ..subject import Subject

if TYPE_CHECKING:
    from torch import Tensor

EMPTY_NORM = 1e-9
CHECKPOINT = Need(
    lambda subject: "It needs a flagbt checkpoint." if subject.loaded is None or subject.checkpoint is None else ""
)


@dataclass(frozen=True)
class AdapterState(Evidence):
    """The faults of the loaded adapter, one text each, and the norms of its lora_B matrices.

    ``effect`` is the mean change of a logit when the adapter is switched off; None where it was not measured.
    """

    faults: tuple[str, ...]
    norms: tuple[float, ...]
    effect: float | None = None

    @property
    def empty(self) -> int:
        """The number of matrices that are zero."""
        return sum(norm < EMPTY_NORM for norm in self.norms)


def _run(subject: Subject) -> Finding:
    """Compare the LoRA matrices and the head in the network with the checkpoint's file."""
    loaded, checkpoint = subject.loaded, subject.checkpoint
    assert loaded is not None
    assert checkpoint is not None
    from ...models.kinds.network import adapter_state  # imports torch

    stored, state = stored_adapter(checkpoint), adapter_state(loaded.network)
    faults = _faults(loaded, stored, state)
    norms = tuple(float(tensor.norm()) for key, tensor in state.items() if "lora_B" in key)
    if norms and all(norm < EMPTY_NORM for norm in norms):
        faults.append("every lora_B is zero: the adapter was not loaded or not trained")
    examined = {"lora_matrices": len(norms)}
    if loaded.damaged:  # then the fingerprint may be missing as well
        faults.append(loaded.damaged.rstrip("."))
        return Finding(
            severity=BROKEN,
            value=float(len(faults)),
            limit=0.0,
            message=f"{'; '.join(faults)}.",
            remedy="Copy the checkpoint's whole folder again from its source.",
            otherwise="If the files were unchanged, their digests would match.",
            evidence=AdapterState(tuple(faults), norms),
            examined=examined,
        )
    off = fingerprint_difference(loaded.network, checkpoint)
    if faults:
        return Finding(
            severity=BROKEN,
            value=off,
            limit=FINGERPRINT_TOLERANCE,
            message=f"The fine-tuned weights are incomplete: {'; '.join(faults)}. On the fingerprint's rows the logits are off "
            f"by {off:.3g}.",
            remedy="Save and load the adapter with every fully trained module (PEFT: modules_to_save), and compare logits "
            "after loading with those before saving.",
            otherwise="If the adapter were complete, it would reproduce its fingerprint to 1e-4.",
            evidence=AdapterState(tuple(faults), norms),
            examined=examined,
        )
    found = AdapterState((), norms, effect := _effect(loaded, checkpoint))
    return Finding(
        severity=OK,
        message=f"All {len(stored)} tensors are loaded; lora_B norms {min(norms, default=0):.2g} .. "
        f"{max(norms, default=0):.2g}, {found.empty} of {len(norms)} empty; switching the adapter off changes the logits by "
        f"{effect:.2g} on average.",
        value=effect,
        limit=0.0,
        evidence=found,
        examined=examined,
    )


def _faults(loaded: LenientCheckpoint, stored: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
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


def _effect(loaded: LenientCheckpoint, checkpoint: Checkpoint) -> float:
    """Return the mean change of the fingerprint's logits when the adapter is switched off."""
    import torch

    from ...models.kinds.network import read_tensors

    rows = read_tensors(checkpoint.folder / "fingerprint.safetensors")["rows"][None]
    with torch.no_grad():
        on = loaded.network(rows)
        with loaded.network.disable_adapter():
            off = loaded.network(rows)
    return float((on - off).abs().mean())


CHECK = Check(
    name="adapter",
    rank=50,
    method="compare LoRA matrices and head with the file; norms; logits with the adapter off",
    run=_run,
    evidence=AdapterState,
    needs=(CHECKPOINT,),
    causes=(Symptom.WRONG_OUTPUT,),
    undo=lambda subject, _found: with_matching_network(subject),
)
