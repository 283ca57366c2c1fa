"""Build a network with LoRA through peft, save it, load it, and verify that it is the one that was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...arrays import Float32Array
from ...errors import CheckpointError, UsageError
from ...storage.atomic_files import written_by
from ...storage.untrusted_files import load_safetensors
from ..checkpoint import DESCRIPTION, Checkpoint
from ..description import TEXT
from ..fingerprint import FINGERPRINT, FINGERPRINT_TOLERANCE
from .architecture import FINGERPRINT_ROWS, AnyArchitecture, Architecture, Lora
from .fast_dropout import Dropout
from .language_model import LANGUAGE_MODEL_PARTS, referred
from .llama import BarTransformer
from .network_model import ADAPTER, BASE, network_of
from .original import OriginalTransformer

Network = BarTransformer | OriginalTransformer


def new_network(architecture: AnyArchitecture) -> Network:
    """Return a new network of an architecture's kind (from torch's global generator)."""
    return BarTransformer(architecture) if isinstance(architecture, Architecture) else OriginalTransformer(architecture)


def lora_config(architecture: AnyArchitecture, lora: Lora) -> peft.LoraConfig:
    """Return peft's settings of the low-rank updates of a network."""
    layers = architecture.layers
    top = (
        {"layers_to_transform": list(range(layers - lora.top_layers, layers)), "layers_pattern": "layers"}
        if lora.top_layers
        else {}
    )
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(architecture.lora_targets),
        modules_to_save=list(lora.trained),
        bias="none",
        **top,
    )


def with_lora(base: Network, lora: Lora) -> peft.PeftModel:
    """Freeze ``base`` and add trainable low-rank updates to its linear layers; the head is trained in full.

    Raises
    ------
    UsageError
        When more layers are to be adapted than the base has.
    """
    layers = base.architecture.layers
    if lora.top_layers is not None and not 1 <= lora.top_layers <= layers:
        raise UsageError(
            f"--lora-layers: top:{lora.top_layers} of a base of {layers} layers. Choose top:1 .. top:{layers}, or all."
        )
    model = peft.get_peft_model(base, lora_config(base.architecture, lora))
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            for name, dropout in module.lora_dropout.items():
                if isinstance(dropout, nn.Dropout):  # without dropout it is an identity
                    module.lora_dropout[name] = Dropout(dropout.p)
    return model


def adapter_state(model: peft.PeftModel) -> dict[str, Tensor]:
    """Return the result of fine-tuning: the LoRA matrices and the modules trained in full, under PEFT's names."""
    state = peft.get_peft_model_state_dict(model)
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def base_state(base: nn.Module, *, head: bool = False) -> dict[str, Tensor]:
    """Return the base's weights; with ``head`` also those of its head, for a base whose head is trained."""
    return {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in base.state_dict().items()
        if head or not name.startswith("head.")
    }


def build_base(architecture: AnyArchitecture, weights: dict[str, Tensor], *, place: str) -> Network:
    """Return the network with the base's weights, and a new head (from torch's global generator) where they have none.

    Raises
    ------
    CheckpointError
        When a tensor is missing, unexpected or of the wrong shape, naming it and ``place``.
    """
    with torch.device("meta"):  # compare the shapes before allocating memory
        empty = new_network(replace(architecture, layers=min(architecture.layers, len(weights) + 1)))
    head = any(name.startswith("head.") for name in weights)
    expected = {
        name: tuple(tensor.shape) for name, tensor in empty.state_dict().items() if head or not name.startswith("head.")
    }
    _compare_shapes(expected, {name: tuple(tensor.shape) for name, tensor in weights.items()}, place)
    base = new_network(architecture)
    base.load_state_dict(weights, strict=False)
    return base


def language_base(architecture: Architecture, tensors: dict[str, Tensor], *, place: str) -> dict[str, Tensor]:
    """Return a whole base from a language model's layers, with a new embedding of rows (from torch's global generator).

    The word embeddings are not used.

    Raises
    ------
    CheckpointError
        When the layers do not fit the architecture, naming ``place``.
    """
    fresh = base_state(BarTransformer(architecture))
    expected = {name: tuple(tensor.shape) for name, tensor in fresh.items() if name.startswith(LANGUAGE_MODEL_PARTS)}
    _compare_shapes(expected, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, place)
    return {**fresh, **tensors}


def base_of(checkpoint: Checkpoint, architecture: AnyArchitecture) -> Network:
    """Return a checkpoint's base, from its own file or from the language model that it refers to."""
    origin = checkpoint.described.base
    if origin.corpus != TEXT:
        place = checkpoint.folder / BASE
        return build_base(architecture, read_tensors(place), place=str(place))
    tensors = referred(origin, name=checkpoint.name)
    place = Path(checkpoint.folder / DESCRIPTION)
    if not isinstance(architecture, Architecture):
        raise CheckpointError(f"{place} is damaged: a language model cannot be a base of the kind '{architecture.kind}'.")
    return build_base(architecture, language_base(architecture, tensors, place=str(place)), place=str(place))


def architecture_of(checkpoint: Checkpoint) -> AnyArchitecture:
    """Return the architecture that a checkpoint's description names; raises CheckpointError for another kind."""
    return network_of(checkpoint).architecture


def lora_of(checkpoint: Checkpoint) -> Lora:
    """Return the LoRA settings that a checkpoint's description names; raises CheckpointError for one without."""
    network_of(checkpoint)
    lora = checkpoint.described.lora
    if lora is None:
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}' has no adapter: its LoRA matrices were merged into its base before its import."
        )
    return lora


def load_unmerged(checkpoint: Checkpoint) -> peft.PeftModel:
    """Load a checkpoint's network on the CPU in evaluation mode, with LoRA not merged, and verify its fingerprint.

    Raises
    ------
    CheckpointError
        When a file is damaged, a tensor is missing, or the fingerprint's logits are not reproduced.
    """
    checkpoint.check_files()
    architecture = architecture_of(checkpoint)
    model = with_lora(base_of(checkpoint, architecture), lora_of(checkpoint))
    adapter = read_tensors(checkpoint.folder / ADAPTER)
    expected = {name: tuple(tensor.shape) for name, tensor in adapter_state(model).items()}
    found = {name: tuple(tensor.shape) for name, tensor in adapter.items()}
    _compare_shapes(expected, found, str(checkpoint.folder / ADAPTER))
    peft.set_peft_model_state_dict(model, adapter)
    model.eval()
    check_fingerprint(model, checkpoint)
    return model


def load_network(checkpoint: Checkpoint) -> nn.Module:
    """Load a checkpoint's network on the CPU in evaluation mode, LoRA merged into the base; see ``load_unmerged``."""
    if checkpoint.described.lora is not None:
        return merged(load_unmerged(checkpoint))
    checkpoint.check_files()
    network = base_of(checkpoint, architecture_of(checkpoint)).eval()
    network.requires_grad_(False)  # as peft leaves a merged base: torch computes other bits where a gradient may be wanted
    check_fingerprint(network, checkpoint)
    return network


def merged(model: peft.PeftModel) -> nn.Module:
    """Merge the LoRA matrices into the base's weights; the given model must not be used afterwards."""
    whole: nn.Module = model.merge_and_unload()
    return whole.eval()


@torch.no_grad()
def fingerprint(model: nn.Module, rows: Float32Array, *, kept: int = FINGERPRINT_ROWS) -> dict[str, Tensor]:
    """Return feature rows and the logits of the last ``kept`` of them, fp32 on the CPU.

    Parameters
    ----------
    rows : array of float32, shape (n, F)
        Contiguous validation rows: the receptive field, then ``kept`` more.
    """
    inputs = torch.from_numpy(np.ascontiguousarray(rows))
    return {"rows": inputs, "logits": model(inputs[None], min(kept, len(rows)))[0].float().clone()}


@torch.no_grad()
def check_fingerprint(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Verify that the loaded network gives the logits that it gave when it was saved.

    Raises
    ------
    CheckpointError
        When a logit differs by more than 1e-4, as with a missing adapter, wrong heads, or a lost mask or head.
    """
    stored = read_tensors(checkpoint.folder / FINGERPRINT)
    logits = model(stored["rows"][None], len(stored["logits"]))[0].float()
    off = float((logits - stored["logits"]).abs().max())
    if not off <= FINGERPRINT_TOLERANCE:
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}': the loaded network is not the one that was saved. On its {len(logits)} "
            f"fingerprint rows the logits differ by up to {off:.3g}, allowed are {FINGERPRINT_TOLERANCE:g}. An architecture "
            "field (heads, context) was changed, or a library computes differently. Restore checkpoint.json, or install "
            "the versions that it names."
        )


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Return (all, trainable) numbers of parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, sorted by name, with ``metadata`` in the header; raises OSError, as on a full disk."""
    with written_by(SafetensorError):
        save_file(dict(sorted(tensors.items())), path, metadata=metadata)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU.

    Raises
    ------
    CheckpointError
        When it is missing or damaged.
    """
    try:
        return load_safetensors(path, load_file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Copy the checkpoint again from its source.") from None


def _compare_shapes(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], place: str) -> None:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    wrong = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    if missing or extra or wrong:
        faults = [
            *(f"missing: {', '.join(missing[:3])} ({len(missing)} in all)" for _ in missing[:1]),
            *(f"unexpected: {', '.join(extra[:3])} ({len(extra)} in all)" for _ in extra[:1]),
            *(f"'{name}' has the shape {found[name]}, expected {expected[name]}" for name in wrong[:1]),
        ]
        raise CheckpointError(
            f"{place} does not fit the architecture in checkpoint.json: {'; '.join(faults)}. "
            "Files of different checkpoints were mixed. Copy the whole folder again."
        )
