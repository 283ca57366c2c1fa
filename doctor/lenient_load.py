"""Load a damaged or incomplete checkpoint: load the tensors that fit and list the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..arrays import FloatArray, JsonObject
from ..errors import CheckpointError
from ..models.checkpoint import Checkpoint
from ..models.kinds.architecture import AnyArchitecture
from ..models.kinds.network_model import network_of

if TYPE_CHECKING:
    import peft
    from torch import Tensor, nn

FINGERPRINT_TOLERANCE = 1e-4  # of a logit


class LenientCheckpoint(NamedTuple):
    """A leniently loaded network and what its files lack.

    Attributes
    ----------
    network : PeftModel
        With unmerged LoRA matrices, in evaluation mode, on the CPU.
    damaged : str
        Which weight file is missing or changed; empty if none.
    missing, unexpected : tuple of str
        Adapter tensors that the file lacks, and those that the network lacks.
    """

    network: peft.PeftModel
    damaged: str = ""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


def load_leniently(checkpoint: Checkpoint) -> LenientCheckpoint:
    """Load the tensors that fit the network.

    Raises
    ------
    CheckpointError
        When the base cannot be read.
    """
    import peft
    import torch

    from ..models.kinds.network import adapter_state, architecture_of, base_of, lora_of, with_lora

    try:
        checkpoint.check_files()
        damaged = ""
    except CheckpointError as error:
        damaged = str(error)
    torch.manual_seed(0)  # a head that the file lacks is initialised at random, the same in every call
    model = with_lora(base_of(checkpoint, architecture_of(checkpoint)), lora_of(checkpoint))
    adapter = stored_adapter(checkpoint)
    wanted = {name: tensor.shape for name, tensor in adapter_state(model).items()}
    fits = {name: tensor for name, tensor in adapter.items() if wanted.get(name) == tensor.shape}
    peft.set_peft_model_state_dict(model, {**adapter_state(model), **fits})
    model.eval()
    return LenientCheckpoint(model, damaged, tuple(sorted(set(wanted) - set(fits))), tuple(sorted(set(adapter) - set(fits))))


def stored_adapter(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of the adapter's file; empty if it cannot be read."""
    from ..models.kinds.network import read_tensors

    try:
        return dict(read_tensors(checkpoint.folder / "adapter.safetensors"))
    except CheckpointError:
        return {}


def predict_with(network: nn.Module, architecture: AnyArchitecture) -> Callable[[FloatArray], FloatArray]:
    """Return the network as a function from rows (n, F) to logits (n, 3); see `logits_in_chunks`."""
    from ..models.kinds.scoring import logits_in_chunks

    return partial(logits_in_chunks, network, receptive_bars=architecture.receptive_bars, chunk_bars=architecture.chunk_bars)


def fingerprint_difference(network: nn.Module, checkpoint: Checkpoint) -> float:
    """Return the largest difference between the network's and the stored logits of the fingerprint rows."""
    import torch

    from ..models.kinds.network import read_tensors

    stored = read_tensors(checkpoint.folder / "fingerprint.safetensors")
    with torch.no_grad():
        logits = network(stored["rows"][None], len(stored["logits"]))[0].float()
    return float((logits - stored["logits"]).abs().max().nan_to_num(float("inf")))


class MatchingNetwork(NamedTuple):
    """The network of a checkpoint's files with a setting that reproduces the fingerprint, such as other heads."""

    setting: str
    network: nn.Module
    architecture: AnyArchitecture


def find_matching_network(checkpoint: Checkpoint) -> MatchingNetwork | None:
    """Return the network with the heads, context or mask that reproduce the fingerprint; None if there is none.

    No tensor's shape depends on them, so a wrong value loads without an error.
    """
    now = network_of(checkpoint).architecture
    for field, other in now.mistakable():
        values: JsonObject = {**checkpoint.values, "architecture": other.to_json()}
        try:
            network = load_leniently(Checkpoint(checkpoint.folder, values)).network
            if fingerprint_difference(network, checkpoint) <= FINGERPRINT_TOLERANCE:
                setting = f"{field} {getattr(other, field)} instead of {getattr(now, field)}"
                return MatchingNetwork(setting, network, other)
        except (CheckpointError, RuntimeError, ValueError):  # this network cannot be built
            continue
    return None
