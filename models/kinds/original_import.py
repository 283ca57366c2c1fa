"""Importing an original checkpoint: its weights under our names, and beside them what only its owner can say.

No tensor's shape depends on the number of heads, the context length or the mask, and none tells which columns were fed, in
which scale, what was asked, or which bars were seen. What the file's own ``config`` does not say must be stated: a guess
loads without any error and gives other logits with the same confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ... import __version__
from ...data.bars import Bars
from ...data.feature_schema import FeatureSchema
from ...data.labels import CLASS_NAMES, Labels, class_shares, labels_from_json
from ...data.time_range import TimeRange
from ...errors import CheckpointError, RangeError, UsageError
from ...storage.atomic_files import json_text, new_folder, sha256_of
from ..architecture import N_CLASSES, OriginalArchitecture, original_chunk_bars
from ..calibration import Calibration
from ..checkpoint import DESCRIPTION, FORMAT, STATED, Checkpoint, read_checkpoint
from ..decision import Decision
from ..network import Lora, build_base, fingerprint, with_lora, write_tensors
from .original_file import (
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
    """What the owner of a checkpoint says of it; None where nothing is said.

    Parameters
    ----------
    heads, context_bars : int, optional
    causal : bool, optional
        Whether a position of a window saw only those before it.
    schema : FeatureSchema, optional
        Columns in their order, and their scaler.
    labels : LabelSpec or TripleBarrier, optional
    seen : TimeRange, optional
        Every bar that taught it or judged it.
    validated_on : TimeRange, optional
        The part of those that only judged.
    bars : Bars, optional
        Bars of the market and length that it was trained on, which hold the range ``seen``.
    """

    heads: int | None = None
    context_bars: int | None = None
    causal: bool | None = None
    schema: FeatureSchema | None = None
    labels: Labels | None = None
    seen: TimeRange | None = None
    validated_on: TimeRange | None = None
    bars: Bars | None = None


def import_checkpoint(path: Path, target: Path, stated: OwnerDeclaration, *, overwrite: bool = False) -> Checkpoint:
    """Read an original checkpoint and write it as the checkpoint folder ``target``.

    Raises
    ------
    CheckpointError
        When the file is refused or does not have the original architecture, or ``target`` exists and ``overwrite`` is not
        set.
    UsageError
        When heads, context or mask are said by nobody, or said twice and differently, or make no network.
    RangeError
        When the bars do not hold the range that was seen.
    """
    if target.exists() and not overwrite:
        raise CheckpointError(f"--name: {target} exists. Choose another --name, or --overwrite to replace it.")
    foreign = read_original_checkpoint(path)
    sizes = sizes_of(foreign, path)
    architecture = _architecture(foreign, sizes, stated, path)
    known = _known(stated, architecture)
    lora = Lora(rank=sizes["rank"], alpha=sizes["rank"])
    base, adapter = dict(base_tensors(foreign.tensors)), dict(adapter_tensors(foreign.tensors))
    try:
        with new_folder(target, overwrite=overwrite) as folder:
            write_tensors(folder / "base.safetensors", base)
            write_tensors(folder / "adapter.safetensors", adapter)
            model = with_lora(build_base(architecture, base, place=str(path)), lora)
            _put(model, adapter)
            write_tensors(folder / "fingerprint.safetensors", _marks(model.eval(), architecture))
            values = {
                "format": FORMAT,
                "architecture": architecture.to_json(),
                "lora": {**lora.to_json(), "targets": list(architecture.lora_targets)},
                "base": _origin(path, foreign, stated),
                "parameters": original_parameter_counts(foreign.tensors),
                **known,
                "metrics": _claims(foreign),
                "calibrations": {"default": {"calibration": Calibration().to_json(), "decision": Decision().to_json()}},
                "versions": {"flagbt": __version__, **{name: version(name) for name in ("numpy", "peft", "torch")}},
                "files": {file.name: sha256_of(file) for file in sorted(folder.glob("*.safetensors"))},
            }
            (folder / DESCRIPTION).write_text(json_text(values), encoding="utf-8")
            (folder / "README.md").write_text(imported_card(target.name, values), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"--output: {target} cannot be written: {error.strerror or error}.") from None
    return read_checkpoint(target)


def _architecture(
    foreign: OriginalCheckpoint, sizes: dict[str, int], stated: OwnerDeclaration, path: Path
) -> OriginalArchitecture:
    """Return the architecture, once heads, context and mask have been said."""
    config = foreign.config
    context_key = next((key for key in CONTEXT_KEYS if key in config), "")
    heads = _agreed("--heads", stated.heads, config, "num_heads", path)
    context = _agreed("--context", stated.context_bars, config, context_key, path)
    causal = _agreed("--causal/--no-causal", stated.causal, config, "causal", path)
    if context == 1:
        causal = True if causal is None else causal  # one bar alone: there is nothing to mask
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
            f"{path} does not say {'; '.join(lacking)}. No tensor's shape depends on these, so a wrong value would load "
            "without any error and give other logits, with the same confidence. flagbt does not guess: look into the code or "
            "the log of its training, and say it."
        )
    width, positions = sizes["d_model"], sizes["positions"]
    if not isinstance(heads, int) or heads < 1 or width % heads:
        fits = [n for n in range(1, width + 1) if width % n == 0 and n <= 64]
        raise UsageError(f"--heads: {heads} heads do not share a width of {width}. Possible: {', '.join(map(str, fits))}.")
    if not isinstance(context, int) or not 1 <= context <= positions:
        raise UsageError(f"--context: {context} bars, and the file has {positions} learned positions. Choose 1 .. {positions}.")
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


def _agreed(option: str, stated: int | None, config: dict[str, Any], key: str, path: Path) -> Any:
    """Return what the user or the file's config says; both may say it, if it is the same."""
    told = config.get(key)
    if stated is not None and told is not None and stated != told:
        raise UsageError(
            f"{option}: {stated}, and the config in {path} says {key} {told!r}. It would load all the same, and compute "
            "something else. Leave the option out; where the config is wrong, save the bare state dict and state everything."
        )
    return told if stated is None else stated


def _known(stated: OwnerDeclaration, architecture: OriginalArchitecture) -> dict[str, Any]:
    """Return what else is stated, as ``checkpoint.json`` keeps it; None (or an empty object) for what is not."""
    schema, seen, bars = stated.schema, stated.seen, stated.bars
    if schema is not None and len(schema.columns) != architecture.n_features:
        raise UsageError(
            f"--features: '{schema.feature_set}' has {len(schema.columns)} columns, the checkpoint reads "
            f"{architecture.n_features}. Where its training filled the rest up with zeros, let the feature set give those "
            "columns too: which place a column had decides what it means."
        )
    judged = stated.validated_on or seen
    ranges = (
        None
        if seen is None
        else {"pretraining": str(seen), "training": str(seen), "validation": str(judged), "calibration": str(judged)}
    )
    shares, returns = None, None
    if stated.labels is not None and seen is not None and bars is not None:
        shares, returns = _measured(stated.labels, seen, bars)
    return {
        "schema": None if schema is None else schema.to_json(),
        "labels": None if stated.labels is None else stated.labels.to_json(),
        "ranges": ranges,
        "label_shares": shares,
        "class_returns": returns,
        "data": {} if bars is None else bars.to_json(),
    }


def _measured(labels: Labels, seen: TimeRange, bars: Bars) -> tuple[list[float], list[float]]:
    """Return the labels' shares and mean forward returns over the range seen, each (3,): SELL, HOLD, BUY."""
    part = bars.between(seen)
    inside = slice(part.start, max(part.start, part.stop - labels.horizon_bars))
    label, change = labels.labels(bars)[inside], labels.forward_return(bars)[inside]
    absent = [name for code, name in enumerate(CLASS_NAMES) if not (label == code).any()]
    if absent:
        raise RangeError(
            f"--trained-on {seen}: of the {inside.stop - inside.start:,} labels that {bars} has there, none is "
            f"{' or '.join(absent)}. Give --data that holds the range, or the range and the labels of the training."
        )
    return class_shares(label).tolist(), [float(change[label == code].mean()) for code in range(N_CLASSES)]


def _put(model: Any, adapter: dict[str, Tensor]) -> None:
    import peft

    left = peft.set_peft_model_state_dict(model, adapter)
    if left.unexpected_keys:
        raise CheckpointError(f"PEFT has no place for {', '.join(left.unexpected_keys[:3])}: install the version of the docs.")


def _marks(model: Any, architecture: OriginalArchitecture) -> dict[str, Tensor]:
    """Return a fingerprint on rows of standard normal numbers: no rows of its training are at hand."""
    random = np.random.Generator(np.random.Philox(key=20240101))
    n = architecture.receptive_bars + architecture.fingerprint_rows
    rows = random.standard_normal((n, architecture.n_features)).astype(np.float32)
    return fingerprint(model, rows, kept=architecture.fingerprint_rows)


def _origin(path: Path, foreign: OriginalCheckpoint, stated: OwnerDeclaration) -> dict[str, Any]:
    judged = None if stated.validated_on is None else str(stated.validated_on)
    plain = {
        str(key)[:80]: value for key, value in foreign.config.items() if is_finite_number(value) or isinstance(value, bool)
    }
    return {
        "preset": "original",
        "imported": {
            "file": path.name,
            "sha256": sha256_of(path),
            "form": foreign.form,
            "told": foreign.told,
            "config": {key: value if isinstance(value, int) else float(value) for key, value in plain.items()},
            "validated_on": judged,
        },
    }


def _claims(foreign: OriginalCheckpoint) -> dict[str, Any]:
    accuracy = foreign.told.get("val_accuracy")
    return {} if accuracy is None else {"validation": {"accuracy": accuracy / 100 if accuracy > 1 else accuracy}}


def imported_card(name: str, values: dict[str, Any]) -> str:
    """Return the README of an imported checkpoint, written from its description alone."""
    a, origin, data, counts = values["architecture"], values["base"]["imported"], values["data"], values["parameters"]
    said = ", ".join(f"{key} {value:g}" for key, value in origin["told"].items()) or "nothing"
    lacking = [text for key, text in STATED.items() if not values[key]]
    seen = values["ranges"]["training"] if values["ranges"] else "not known"
    judged = f"; of them it was only judged on {origin['validated_on']}" if origin["validated_on"] else ""
    question = labels_from_json(values["labels"]).question if values["labels"] else "It is not known which."
    measured = f"{data['source']}{' (SYNTHETIC)' if data['synthetic'] else ''}" if data else "nothing"
    mask = "a causal mask" if a["causal"] else "no causal mask"
    end = f"Not stated, so it cannot be run: {'; '.join(lacking)}" if lacking else "Nothing is missing"
    return f"""# {name}

Imported from `{origin["file"]}` ({origin["form"]}, SHA-256 `{origin["sha256"][:16]}`): a transformer of the original
architecture, {counts["all"]:,} parameters, {counts["trainable"]:,} of them trained, beside frozen linear layers
({a["layers"]} post-norm layers, width {a["d_model"]}, LoRA of rank {values["lora"]["rank"]}). It answers one question a bar:
{question}

What follows was stated by whoever imported it: no tensor tells it, and flagbt cannot check it.

- {a["heads"]} heads, windows of {a["context_bars"]} bars, {mask}. Each bar is judged by the window
  that ends with it, at its last position.
- Feature columns: {a["n_features"]}, {f"`{values['schema']['feature_set']}`" if values["schema"] else "it is not known which"}
- Bars it has seen: {seen}{judged}
- Shares and returns of its classes: measured on {measured}
- What its training said of itself: {said}
- {end}.
"""
