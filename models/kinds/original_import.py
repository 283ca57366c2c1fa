"""Import an original checkpoint: its weights under flagbt's names, with its owner's declaration.

No tensor shape depends on the number of heads, the context length or the mask, or reveals the feature columns, their scale,
the labels or the bars seen. The owner must declare what the file's ``config`` does not contain: a wrong guess loads without
any error and gives different logits with the same confidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peft
from torch import Tensor, nn

from ...arrays import JsonObject, JsonValue
from ...errors import CheckpointError, UsageError
from ...storage.atomic_files import sha256_of
from ...storage.json_records import JsonRecord
from ..checkpoint_model import ModelParts
from ..fingerprint import FINGERPRINT, fixed_rows
from ..import_checks import check_width
from ..importing import OwnerDeclaration
from .architecture import AnyArchitecture, Lora, OriginalArchitecture, original_chunk_bars
from .network import build_base, fingerprint, with_lora, write_tensors
from .network_model import ADAPTER, BASE
from .original_tensors import (
    REPORTED,
    OriginalCheckpoint,
    adapter_tensors,
    base_tensors,
    is_finite_number,
    original_parameter_counts,
    read_original_checkpoint,
    sizes_of,
)

CONTEXT_KEYS = ("context_length", "sequence_length", "seq_len")


def import_original(path: Path, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
    """Read an original checkpoint and write its weights under flagbt's names into ``folder``.

    Raises
    ------
    CheckpointError
        When the file is refused or does not have the original architecture.
    UsageError
        When heads, context or mask are unknown, contradict the file's config, or do not make a network.
    """
    original = read_original_checkpoint(path)
    sizes = sizes_of(original, path)
    architecture = _architecture(original, sizes, declaration, path)
    check_width(declaration, architecture.n_features)
    lora = Lora(rank=sizes["rank"], alpha=sizes["rank"])
    base, adapter = dict(base_tensors(original.tensors)), dict(adapter_tensors(original.tensors))
    write_tensors(folder / BASE, base)
    write_tensors(folder / ADAPTER, adapter)
    model = with_lora(build_base(architecture, base, place=str(path)), lora)
    _load_adapter(model, adapter)
    write_tensors(folder / FINGERPRINT, random_fingerprint(model.eval(), architecture))
    counts = original_parameter_counts(original.tensors)
    return ModelParts(
        settings=architecture.to_json(),
        parameters=counts["all"],
        trained=counts["trainable"],
        more={
            "lora": {**lora.to_json(), "targets": list(architecture.lora_targets)},
            "base": _origin(path, original, declaration),
            "metrics": _reported_metrics(original),
        },
        note=_note(architecture, lora, original),
    )


def _architecture(
    original: OriginalCheckpoint, sizes: dict[str, int], declaration: OwnerDeclaration, path: Path
) -> OriginalArchitecture:
    """Return the architecture, with heads, context and mask from the declaration or the file's config."""
    config = original.config
    context_key = next((key for key in CONTEXT_KEYS if key in config), "")
    heads = _agreed("--heads", declaration.heads, config, "num_heads", path)
    context = _agreed("--context", declaration.context_bars, config, context_key, path)
    causal = _agreed("--causal/--no-causal", declaration.causal, config, "causal", path)
    if context == 1:
        causal = True if causal is None else causal  # a single bar has nothing to mask
    lacking = [
        text
        for text, value in (
            ("how many attention heads it has (--heads N)", heads),
            ("how many bars of context it was trained on (--context BARS)", context),
            ("whether its attention was masked (--causal or --no-causal)", causal),
        )
        if value is None
    ]
    if lacking:
        raise UsageError(
            f"{path} does not contain {'; '.join(lacking)}. No tensor shape depends on these, so a wrong value would load "
            "without any error and give different logits, with the same confidence. flagbt does not guess: find them in "
            "the code or the log of its training, and give these options."
        )
    width, positions = sizes["d_model"], sizes["positions"]
    if not isinstance(heads, int) or heads < 1 or width % heads:
        fits = [n for n in range(1, width + 1) if width % n == 0 and n <= 64]
        raise UsageError(f"--heads: {heads} heads do not share a width of {width}. Possible: {', '.join(map(str, fits))}.")
    if not isinstance(context, int) or not 1 <= context <= positions:
        raise UsageError(f"--context: {context} bars, but the file has {positions} learned positions. Choose 1 .. {positions}.")
    return OriginalArchitecture(
        n_features=sizes["n_features"],
        layers=sizes["layers"],
        d_model=width,
        heads=heads,
        d_feedforward=sizes["d_feedforward"],
        positions=positions,
        context_bars=context,
        causal=bool(causal),
        chunk_bars=original_chunk_bars(context),
    )


def _agreed(option: str, declared: int | None, config: Mapping[str, object], key: str, path: Path) -> object:
    """Return the value from the declaration or the file's config; where both have one, they must agree."""
    found = config.get(key)
    if declared is not None and found is not None and declared != found:
        raise UsageError(
            f"{option}: {declared}, but the config in {path} has {key} {found!r}. A wrong value would load and compute "
            "something else. Leave the option out; where the config is wrong, save the bare state dict and give all options."
        )
    return found if declared is None else declared


def _load_adapter(model: peft.PeftModel, adapter: dict[str, Tensor]) -> None:
    left = peft.set_peft_model_state_dict(model, adapter)
    if left.unexpected_keys:
        raise CheckpointError(f"PEFT does not know {', '.join(left.unexpected_keys[:3])}. Install the version of the docs.")


def random_fingerprint(model: nn.Module, architecture: AnyArchitecture) -> dict[str, Tensor]:
    """Return a fingerprint on rows of standard normal numbers, since no rows of its training are available."""
    n = architecture.receptive_bars + architecture.fingerprint_rows
    rows = fixed_rows(n, architecture.n_features).astype(np.float32)
    return fingerprint(model, rows, kept=architecture.fingerprint_rows)


@dataclass(frozen=True, kw_only=True)
class _ImportOrigin(JsonRecord):
    """The file of an imported checkpoint."""

    file: str
    sha256: str
    form: str
    config: Mapping[str, JsonValue]
    validated_on: str | None


def _origin(path: Path, original: OriginalCheckpoint, declaration: OwnerDeclaration) -> JsonObject:
    plain = {
        str(key)[:80]: value for key, value in original.config.items() if is_finite_number(value) or isinstance(value, bool)
    }
    origin = _ImportOrigin(
        file=path.name,
        sha256=sha256_of(path),
        form=original.form,
        config={key: value if isinstance(value, int) else float(value) for key, value in plain.items()},
        validated_on=None if declaration.validated_on is None else str(declaration.validated_on),
    )
    return {"preset": "original", "imported": {**origin.to_json(), "told": original.reported}}


def _reported_metrics(original: OriginalCheckpoint) -> JsonObject:
    accuracy = original.reported.get("val_accuracy")
    return {} if accuracy is None else {"validation": {"accuracy": accuracy / 100 if accuracy > 1 else accuracy}}


def _scores_text(scores: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{key} {scores[key]:g}" for key in REPORTED if key in scores) or "nothing"


def _note(architecture: OriginalArchitecture, lora: Lora, original: OriginalCheckpoint) -> str:
    """Return what the card states about the network, as its owner declared it."""
    a = architecture
    mask = "a causal mask" if a.causal else "no causal mask"
    return (
        f"It is a transformer of the original architecture with frozen linear layers ({a.layers} post-norm layers, width "
        f"{a.d_model}, LoRA of rank {lora.rank}), stated to have {a.heads} heads, windows of {a.context_bars} bars and {mask}. "
        "Each bar is scored on the window that ends with it, at its last position. Reported by its training: "
        f"{_scores_text(original.reported)}."
    )
