"""Read an original checkpoint's file: the names and shapes of its tensors, its config and its training's scores.

The file has one of three forms: a bare state dict, a training's save (``model_state_dict`` with an optimizer's state and
scores), or weights with their config (``model`` and ``config``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError, kind_of
from .architecture import N_CLASSES
from .torch_pickle import read_pickled, tensors_of

FORMS = {"model_state_dict": "a training's save", "model": "weights with their config"}
REPORTED = ("epoch", "train_loss", "val_loss", "val_accuracy")
CONFIG_KEYS = {
    "state_dim": "n_features",
    "d_model": "d_model",
    "num_layers": "layers",
    "dim_feedforward": "d_feedforward",
    "lora_rank": "rank",
    "lora_alpha": "rank",
    "action_dim": "classes",
}
BLOCK = re.compile(r"transformer_blocks\.(\d{1,4})\.")
OURS = {"state_embedding": "embed", "pos_embedding": "positions", "output_norm": "norm", "action_head": "head"}
OURS_IN_BLOCK = {"attention.out_proj": "attention.o_proj", "ffn.0": "up_proj", "ffn.3": "down_proj"}
MOST_NAMED = 24


@dataclass(frozen=True, eq=False)
class OriginalCheckpoint:
    """The content of an original checkpoint's file.

    Attributes
    ----------
    tensors : dict of Tensor
        Under the names in the file.
    config : dict
    reported : dict of float
        Scores of its training: ``epoch``, ``train_loss``, ``val_loss``, ``val_accuracy``.
    form : str
        Which of the three forms the file has.
    """

    tensors: dict[str, Tensor]
    config: dict[str, object]
    reported: dict[str, float]
    form: str


def read_original_checkpoint(path: Path) -> OriginalCheckpoint:
    """Read a file in one of the three forms: a bare state dict, a training's save, weights with their config.

    Raises
    ------
    CheckpointError
        When it has none of these forms, or is refused (``torch_pickle.read_pickled``).
    """
    values = read_pickled(path)
    if not isinstance(values, dict) or not values:
        raise CheckpointError(f"{path} holds {kind_of(values)}, expected a state dict, or a dict around one.")
    key = next((key for key in FORMS if isinstance(values.get(key), dict)), None)
    state = values if key is None else values[key]
    if key is None and not any(isinstance(value, Tensor) for value in values.values()):
        raise CheckpointError(
            f"{path} holds {', '.join(str(name)[:40] for name in list(values)[:8])}: no tensors, and none of the keys "
            f"{', '.join(FORMS)}. Give a state dict, or a dict around one."
        )
    config = {} if key is None else values.get("config") or {}
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: its config is {kind_of(config)}, expected a dict. Save it as plain numbers.")
    reported = {name: float(values[name]) for name in REPORTED if key is not None and is_finite_number(values.get(name))}
    form = "a bare state dict" if key is None else FORMS[key]
    return OriginalCheckpoint(tensors_of(state, path), config, reported, form)


def is_finite_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def sizes_of(original: OriginalCheckpoint, path: Path) -> dict[str, int]:
    """Return the sizes that the tensors' shapes determine, after checking that all tensors fit and no other is there.

    Raises
    ------
    CheckpointError
        Naming the tensors that are missing, unexpected or of the wrong shape, or the sizes in which the file's config differs.
    """
    found = {name: tuple(tensor.shape) for name, tensor in original.tensors.items()}
    first = "transformer_blocks.0."

    def size(name: str, axis: int, dimensions: int, otherwise: int) -> int:
        shape = found.get(name, ())
        return shape[axis] if len(shape) == dimensions else otherwise

    sizes = {
        "n_features": size("state_embedding.weight", 1, 2, 60),
        "d_model": size("state_embedding.weight", 0, 2, 768),
        "positions": size("pos_embedding", 1, 3, 256),
        "d_feedforward": size(f"{first}ffn.0.base.weight", 0, 2, 3072),
        "rank": size(f"{first}attention.q_proj.lora.lora_A", 1, 2, 16),
        "layers": len({hit[1] for hit in map(BLOCK.match, found) if hit}) or 12,
        "classes": N_CLASSES,
    }
    expected = dict(_expected(sizes))
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    wrong = [
        f"{name} is {found[name]}, expected {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    faults = [
        f"{what} ({len(names)}): {', '.join(names[:MOST_NAMED])}{', ...' if len(names) > MOST_NAMED else ''}"
        for what, names in (("missing", missing), ("unexpected", [each[:100] for each in extra]), ("of the wrong shape", wrong))
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{path} does not have the original architecture. Tensors {'; '.join(faults)}. Nothing was written, since an "
            "import without some tensors would load and predict something else. For a class of your own, save its weights by "
            "safetensors.torch.save_file and import that file with --model python:my_module:MyModel."
        )
    for name, tensor in original.tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{path}: '{name}' holds numbers that are not finite: it diverged in training, or is damaged."
            )
    differ = [
        f"{key} {original.config[key]!r}, but its tensors have {sizes[ours]}"
        for key, ours in CONFIG_KEYS.items()
        if key in original.config and original.config[key] != sizes[ours]
    ]
    if differ:
        raise CheckpointError(f"{path}: its config has {'; '.join(differ)}. Weights and config are of different checkpoints.")
    return sizes


def _expected(sizes: dict[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of every tensor in the original architecture."""
    width, inner, rank = sizes["d_model"], sizes["d_feedforward"], sizes["rank"]
    yield "state_embedding.weight", (width, sizes["n_features"])
    yield "state_embedding.bias", (width,)
    yield "pos_embedding", (1, sizes["positions"], width)
    for i in range(sizes["layers"]):
        block = f"transformer_blocks.{i}."
        linears = [(f"attention.{name}_proj", width, width) for name in ("q", "k", "v", "out")]
        for name, inputs, outputs in (*linears, ("ffn.0", width, inner), ("ffn.3", inner, width)):
            yield f"{block}{name}.base.weight", (outputs, inputs)
            yield f"{block}{name}.base.bias", (outputs,)
            yield f"{block}{name}.lora.lora_A", (inputs, rank)
            yield f"{block}{name}.lora.lora_B", (rank, outputs)
        for norm in ("norm1", "norm2"):
            yield f"{block}{norm}.weight", (width,)
            yield f"{block}{norm}.bias", (width,)
    yield "output_norm.weight", (width,)
    yield "output_norm.bias", (width,)
    yield "action_head.weight", (N_CLASSES, width)
    yield "action_head.bias", (N_CLASSES,)


def _ours(name: str) -> str:
    """Return flagbt's name of an original tensor, without the marks of base and LoRA."""
    head, _, rest = name.partition(".")
    if head != "transformer_blocks":
        return OURS[head] + (f".{rest}" if rest else "")
    number, _, rest = rest.partition(".")
    for theirs, ours in OURS_IN_BLOCK.items():
        rest = rest.replace(f"{theirs}.", f"{ours}.")
    return f"layers.{number}.{rest}"


def base_tensors(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the base without its head under flagbt's names, in float32."""
    for name, tensor in tensors.items():
        if ".lora." not in name and not name.startswith("action_head."):
            yield _ours(name).replace(".base.", "."), tensor.float().contiguous()


def adapter_tensors(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield LoRA and head under PEFT's names, transposed as PEFT stores the matrices."""
    for name, tensor in tensors.items():
        if ".lora." in name:
            ours = _ours(name).replace(".lora.lora_", ".lora_")
            yield f"base_model.model.{ours}.weight", tensor.float().t().contiguous()
        elif name.startswith("action_head."):
            yield f"base_model.model.{_ours(name)}", tensor.float().contiguous()


def original_parameter_counts(tensors: dict[str, Tensor]) -> dict[str, int]:
    """Return the numbers of all parameters and of those outside the frozen linear layers."""
    sizes = {name: tensor.numel() for name, tensor in tensors.items()}
    frozen = sum(size for name, size in sizes.items() if ".base." in name)
    return {"all": sum(sizes.values()), "trainable": sum(sizes.values()) - frozen}
