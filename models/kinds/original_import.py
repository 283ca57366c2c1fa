"""Import an original checkpoint: its weights under flagbt's names, with its owner's declaration.

No tensor shape depends on the number of heads, the context length or the mask, or reveals the feature columns, their scale,
the labels or the bars seen. The owner must declare what the file's ``config`` does not contain: a wrong guess loads without
any error and gives different logits with the same confidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import peft
from torch import Tensor, nn

from ... import __version__
from ...arrays import JsonObject, JsonValue
from ...data.bars import Bars
from ...data.feature_schema import FeatureSchema
from ...data.labels import CLASS_NAMES, Labels, class_shares
from ...data.time_range import TimeRange
from ...errors import CheckpointError, RangeError, UsageError
from ...storage.atomic_files import json_text, new_folder, sha256_of
from ...storage.json_records import JsonRecord
from ..architecture import N_CLASSES, Lora, OriginalArchitecture, original_chunk_bars
from ..calibration import Calibration
from ..checkpoint import DECLARATIONS, DESCRIPTION, FORMAT, Checkpoint, read_checkpoint
from ..decision import Decision
from ..network import build_base, fingerprint, with_lora, write_tensors
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


@dataclass(frozen=True, kw_only=True)
class OwnerDeclaration:
    """What the owner of a checkpoint declares about it; None where unknown.

    Parameters
    ----------
    heads, context_bars : int, optional
    causal : bool, optional
        Whether a position of a window saw only those before it.
    schema : FeatureSchema, optional
        Columns in their order, and their scaler.
    labels : LabelSpec or TripleBarrier, optional
    seen : TimeRange, optional
        Every bar used in training or validation.
    validated_on : TimeRange, optional
        The part used in validation only.
    bars : Bars, optional
        Bars of the market and length that it was trained on, which contain the range ``seen``.
    """

    heads: int | None = None
    context_bars: int | None = None
    causal: bool | None = None
    schema: FeatureSchema | None = None
    labels: Labels | None = None
    seen: TimeRange | None = None
    validated_on: TimeRange | None = None
    bars: Bars | None = None


def import_checkpoint(path: Path, target: Path, declaration: OwnerDeclaration, *, overwrite: bool = False) -> Checkpoint:
    """Read an original checkpoint and write it as the checkpoint folder ``target``.

    Raises
    ------
    CheckpointError
        When the file is refused or does not have the original architecture, or ``target`` exists and ``overwrite`` is not
        set.
    UsageError
        When heads, context or mask are unknown, contradict the file's config, or do not make a network.
    RangeError
        When the bars do not contain the range that was seen.
    """
    if target.exists() and not overwrite:
        raise CheckpointError(f"--name: {target} exists. Choose another --name, or --overwrite to replace it.")
    original = read_original_checkpoint(path)
    sizes = sizes_of(original, path)
    architecture = _architecture(original, sizes, declaration, path)
    known = _known(declaration, architecture)
    lora = Lora(rank=sizes["rank"], alpha=sizes["rank"])
    base, adapter = dict(base_tensors(original.tensors)), dict(adapter_tensors(original.tensors))
    try:
        with new_folder(target, overwrite=overwrite) as folder:
            write_tensors(folder / "base.safetensors", base)
            write_tensors(folder / "adapter.safetensors", adapter)
            model = with_lora(build_base(architecture, base, place=str(path)), lora)
            _load_adapter(model, adapter)
            write_tensors(folder / "fingerprint.safetensors", _random_fingerprint(model.eval(), architecture))
            values: JsonObject = {
                "format": FORMAT,
                "architecture": architecture.to_json(),
                "lora": {**lora.to_json(), "targets": list(architecture.lora_targets)},
                "base": _origin(path, original, declaration),
                "parameters": original_parameter_counts(original.tensors),
                **known,
                "metrics": _reported_metrics(original),
                "calibrations": {"default": {"calibration": Calibration().to_json(), "decision": Decision().to_json()}},
                "versions": {"flagbt": __version__, **{name: version(name) for name in ("numpy", "peft", "torch")}},
                "files": {file.name: sha256_of(file) for file in sorted(folder.glob("*.safetensors"))},
            }
            (folder / DESCRIPTION).write_text(json_text(values), encoding="utf-8")
            (folder / "README.md").write_text(imported_card(target.name, Checkpoint(folder, values)), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"--output: {target} cannot be written: {error.strerror or error}.") from None
    return read_checkpoint(target)


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


def _known(declaration: OwnerDeclaration, architecture: OriginalArchitecture) -> JsonObject:
    """Return the rest of the declaration as stored in ``checkpoint.json``; None (or an empty object) where unknown."""
    schema, labels, seen, bars = declaration.schema, declaration.labels, declaration.seen, declaration.bars
    if schema is not None and len(schema.columns) != architecture.n_features:
        raise UsageError(
            f"--features: '{schema.feature_set}' has {len(schema.columns)} columns, the checkpoint reads "
            f"{architecture.n_features}. Where its training filled up with zeros, let the feature set return those columns "
            "too: the position of a column decides its meaning."
        )
    validated = declaration.validated_on or seen
    ranges = (
        None
        if seen is None
        else {"pretraining": str(seen), "training": str(seen), "validation": str(validated), "calibration": str(validated)}
    )
    shares, returns = None, None
    if labels is not None and seen is not None and bars is not None:
        shares, returns = _measured(labels, seen, bars)
    return {
        "schema": None if schema is None else schema.to_json(),
        "labels": None if labels is None else labels.to_json(),
        "ranges": ranges,
        "label_shares": shares,
        "class_returns": returns,
        "data": {} if bars is None else bars.to_json(),
    }


def _measured(labels: Labels, seen: TimeRange, bars: Bars) -> tuple[list[float], list[float]]:
    """Return the labels' shares and mean forward returns over the range seen, each of shape (3,): SELL, HOLD, BUY."""
    part = bars.between(seen)
    inside = slice(part.start, max(part.start, part.stop - labels.horizon_bars))
    label, change = labels.labels(bars)[inside], labels.forward_return(bars)[inside]
    absent = [name for code, name in enumerate(CLASS_NAMES) if not (label == code).any()]
    if absent:
        raise RangeError(
            f"--trained-on {seen}: of the {inside.stop - inside.start:,} labels that {bars} has there, none is "
            f"{' or '.join(absent)}. Give --data that contains the range, or the range and the labels of the training."
        )
    return class_shares(label).tolist(), [float(change[label == code].mean()) for code in range(N_CLASSES)]


def _load_adapter(model: peft.PeftModel, adapter: dict[str, Tensor]) -> None:
    left = peft.set_peft_model_state_dict(model, adapter)
    if left.unexpected_keys:
        raise CheckpointError(f"PEFT does not know {', '.join(left.unexpected_keys[:3])}. Install the version of the docs.")


def _random_fingerprint(model: nn.Module, architecture: OriginalArchitecture) -> dict[str, Tensor]:
    """Return a fingerprint on rows of standard normal numbers, since no rows of its training are available."""
    random = np.random.Generator(np.random.Philox(key=20240101))
    n = architecture.receptive_bars + architecture.fingerprint_rows
    rows = random.standard_normal((n, architecture.n_features)).astype(np.float32)
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


def imported_card(name: str, checkpoint: Checkpoint) -> str:
    """Return the README of an imported checkpoint, written from its description alone."""
    a, described, unknown = checkpoint.architecture, checkpoint.described, checkpoint.unknown
    imported = described.base.imported or {}
    origin, scores = _ImportOrigin.from_json(imported), imported["told"]
    reported = _scores_text(scores) if isinstance(scores, Mapping) else "nothing"
    lacking = [DECLARATIONS[key] for key in unknown]
    seen = "not known" if described.ranges is None else described.ranges["training"]
    validated = f"; of these only for validation: {origin.validated_on}" if origin.validated_on else ""
    question = "It is not known which." if "labels" in unknown else checkpoint.labels.question
    columns = "it is not known which" if "schema" in unknown else f"`{checkpoint.schema.feature_set}`"
    data, counts = described.data, described.parameters
    measured = "nothing" if data is None else f"{data.source}{' (SYNTHETIC)' if data.synthetic else ''}"
    mask = "a causal mask" if isinstance(a, OriginalArchitecture) and a.causal else "no causal mask"
    end = f"Not declared, so it cannot be run: {'; '.join(lacking)}" if lacking else "Nothing is missing"
    return f"""# {name}

Imported from `{origin.file}` ({origin.form}, SHA-256 `{origin.sha256[:16]}`): a transformer of the original
architecture, {counts.all:,} parameters, {counts.trainable:,} of them trained, with frozen linear layers
({a.layers} post-norm layers, width {a.d_model}, LoRA of rank {described.lora.rank}). It answers one question per bar:
{question}

The following was declared at the import: no tensor reveals it, and flagbt cannot check it.

- {a.heads} heads, windows of {a.context_bars} bars, {mask}. Each bar is scored on the window
  that ends with it, at its last position.
- Feature columns: {a.n_features}, {columns}
- Bars it has seen: {seen}{validated}
- Shares and returns of its classes: measured on {measured}
- Reported by its training: {reported}
- {end}.
"""
