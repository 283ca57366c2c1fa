"""Importing an original checkpoint: its weights under our names, and beside them what only its owner can say.

No tensor's shape depends on the number of heads, the context length or the mask, and none tells which columns were fed, in
which scale, what was asked, or which bars were seen. What the file's own ``config`` does not say must be stated: a guess
loads without any error and gives other logits with the same confidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..data.bars import Bars
from ..data.labels import CLASS_NAMES, Labels, class_shares
from ..data.schema import FeatureSchema
from ..data.timerange import TimeRange
from ..errors import CheckpointError, RangeError, UsageError
from ..files import json_text, new_folder, sha256_of
from .architecture import N_CLASSES, OriginalArchitecture, original_chunk_bars
from .calibration import Calibration
from .checkpoint import DESCRIPTION, FORMAT, STATED, Checkpoint, read_checkpoint
from .decision import Decision
from .network import Lora, build_base, fingerprint, with_lora, write_tensors
from .pickled import read_pickled, tensors_of

SHAPES = {"model_state_dict": "a training's save", "model": "weights with their config"}
TOLD = ("epoch", "train_loss", "val_loss", "val_accuracy")
CONTEXT_KEYS = ("context_length", "sequence_length", "seq_len")
CONFIG_KEYS = {
    "state_dim": "n_features", "d_model": "d_model", "num_layers": "layers", "dim_feedforward": "d_feedforward",
    "lora_rank": "rank", "lora_alpha": "rank", "action_dim": "classes",
}  # fmt: skip
BLOCK = re.compile(r"transformer_blocks\.(\d{1,4})\.")
OURS = {
    "state_embedding": "embed", "pos_embedding": "positions", "output_norm": "norm", "action_head": "head",
}  # fmt: skip
OURS_IN_BLOCK = {"attention.out_proj": "attention.o_proj", "ffn.0": "up_proj", "ffn.3": "down_proj"}
MOST_NAMED = 24


@dataclass(frozen=True, kw_only=True)
class Stated:
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


@dataclass(frozen=True, eq=False)
class Foreign:
    """What a file holds: tensors under their own names, and what it says of itself.

    Attributes
    ----------
    tensors : dict of Tensor
    config : dict
    told : dict of float
        Its training's own words: ``epoch``, ``train_loss``, ``val_loss``, ``val_accuracy``.
    form : str
        Which of the three shapes the file has.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    told: dict[str, float]
    form: str


def import_checkpoint(path: Path, target: Path, stated: Stated, *, overwrite: bool = False) -> Checkpoint:
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
    foreign = read_foreign(path)
    sizes = _sizes(foreign, path)
    architecture = _architecture(foreign, sizes, stated, path)
    known = _known(stated, architecture)
    lora = Lora(rank=sizes["rank"], alpha=sizes["rank"])
    parts = {"base.safetensors": dict(_base(foreign.tensors)), "adapter.safetensors": dict(_adapter(foreign.tensors))}
    try:
        with new_folder(target, overwrite=overwrite) as folder:
            for file, tensors in parts.items():
                write_tensors(folder / file, tensors)
            model = with_lora(build_base(architecture, parts["base.safetensors"], place=str(path)), lora)
            _put(model, parts.pop("adapter.safetensors"))
            parts.clear()
            write_tensors(folder / "fingerprint.safetensors", _marks(model.eval(), architecture))
            values = {
                "format": FORMAT, "architecture": architecture.to_json(),
                "lora": {**lora.to_json(), "targets": list(architecture.lora_targets)},
                "base": _origin(path, foreign, stated), "parameters": _counts(foreign.tensors), **known,
                "metrics": _claims(foreign), "calibrations": {
                    "default": {"calibration": Calibration().to_json(), "decision": Decision().to_json()},
                },
                "versions": {"flagbt": __version__, **{name: version(name) for name in ("numpy", "peft", "torch")}},
                "files": {file.name: sha256_of(file) for file in sorted(folder.glob("*.safetensors"))},
            }  # fmt: skip
            (folder / DESCRIPTION).write_text(json_text(values), encoding="utf-8")
            (folder / "README.md").write_text(imported_card(target.name, values), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"--output: {target} cannot be written: {error.strerror or error}.") from None
    return read_checkpoint(target)


def read_foreign(path: Path) -> Foreign:
    """Read one of the three shapes: a bare state dict, a training's save, weights with their config.

    Raises
    ------
    CheckpointError
        When it is none of them, or is refused (``pickled.read_pickled``).
    """
    values = read_pickled(path)
    if not isinstance(values, dict) or not values:
        raise CheckpointError(f"{path} holds a {type(values).__name__}, expected a state dict, or a dict around one.")
    key = next((key for key in SHAPES if isinstance(values.get(key), dict)), None)
    state = values if key is None else values[key]
    if key is None and not any(isinstance(value, Tensor) for value in values.values()):
        raise CheckpointError(
            f"{path} holds {', '.join(str(name)[:40] for name in list(values)[:8])}: no tensors, and none of the keys "
            f"{', '.join(SHAPES)}. Give a state dict, or a dict around one."
        )
    config = {} if key is None else values.get("config") or {}
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: its config is a {type(config).__name__}, expected a dict. Save it as plain numbers.")
    told = {name: float(values[name]) for name in TOLD if key is not None and _is_number(values.get(name))}
    form = "a bare state dict" if key is None else SHAPES[key]
    return Foreign(tensors_of(state, path), config, told, form)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _sizes(foreign: Foreign, path: Path) -> dict[str, int]:
    """Return what the shapes tell, once every tensor is there, has its shape, and none is left over.

    Raises
    ------
    CheckpointError
        Naming what is missing, left over or of another shape, or where the file's own config says otherwise.
    """
    found = {name: tuple(tensor.shape) for name, tensor in foreign.tensors.items()}
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
        for what, names in (("missing", missing), ("unexpected", [each[:100] for each in extra]), ("of another shape", wrong))
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{path} does not have the original architecture. Tensors {'; '.join(faults)}. Nothing was written: an import "
            "that left tensors out would load, and answer something else."
        )
    for name, tensor in foreign.tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{path}: '{name}' holds numbers that are not finite: it diverged in training, or is damaged."
            )
    differ = [
        f"{key} {foreign.config[key]!r}, and its tensors have {sizes[ours]}"
        for key, ours in CONFIG_KEYS.items()
        if key in foreign.config and foreign.config[key] != sizes[ours]
    ]
    if differ:
        raise CheckpointError(f"{path}: its config says {'; '.join(differ)}. Weights and config are of different checkpoints.")
    return sizes


def _expected(sizes: dict[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield every tensor's name and shape in the original architecture."""
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
    for name, outputs in (("output_norm", None), ("action_head", N_CLASSES)):
        yield f"{name}.weight", (width,) if outputs is None else (outputs, width)
        yield f"{name}.bias", (outputs or width,)


def _architecture(foreign: Foreign, sizes: dict[str, int], stated: Stated, path: Path) -> OriginalArchitecture:
    """Return the architecture, once heads, context and mask have been said."""
    config = foreign.config
    context_key = next((key for key in CONTEXT_KEYS if key in config), "")
    heads = _agreed("--heads", stated.heads, config, "num_heads", path)
    context = _agreed("--context", stated.context_bars, config, context_key, path)
    causal = _agreed("--causal/--no-causal", stated.causal, config, "causal", path)
    if context == 1:
        causal = True if causal is None else causal  # one bar alone: there is nothing to mask
    lacking = [
        text for text, value in (
            ("how many attention heads it has (--heads N)", heads),
            ("how many bars of context it was trained on (--context BARS)", context),
            ("whether its attention was masked (--causal or --no-causal)", causal),
        ) if value is None
    ]  # fmt: skip
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
        n_features=sizes["n_features"], layers=sizes["layers"], d_model=width, heads=heads,
        d_feedforward=sizes["d_feedforward"], positions=positions, context_bars=context, causal=bool(causal),
        chunk_bars=original_chunk_bars(context),
    )  # fmt: skip


def _agreed(option: str, stated: int | None, config: dict[str, Any], key: str, path: Path) -> Any:
    """Return what the user or the file's config says; both may say it, if it is the same."""
    told = config.get(key)
    if stated is not None and told is not None and stated != told:
        raise UsageError(
            f"{option}: {stated}, and the config in {path} says {key} {told!r}. It would load all the same and compute something "
            "else. Leave the option out; where the config is wrong, save the bare state dict and state everything."
        )
    return told if stated is None else stated


def _known(stated: Stated, architecture: OriginalArchitecture) -> dict[str, Any]:
    """Return what else is stated, as ``checkpoint.json`` keeps it; None (or an empty object) for what is not."""
    schema, seen, bars = stated.schema, stated.seen, stated.bars
    if schema is not None and len(schema.columns) != architecture.n_features:
        raise UsageError(
            f"--features: '{schema.feature_set}' has {len(schema.columns)} columns, the checkpoint reads "
            f"{architecture.n_features}. Where its training filled the rest up with zeros, let the feature set give those "
            "columns too: which place a column had decides what it means."
        )
    judged = stated.validated_on or seen
    ranges = None if seen is None else {
        "pretraining": str(seen), "training": str(seen), "validation": str(judged), "calibration": str(judged)
    }  # fmt: skip
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
            f"--trained-on {seen}: of the {inside.stop - inside.start:,} labels that {bars!r} has there, none is "
            f"{' or '.join(absent)}. Give --data that holds the range, or the range and the labels of the training."
        )
    return class_shares(label).tolist(), [float(change[label == code].mean()) for code in range(N_CLASSES)]


def _ours(name: str) -> str:
    """Return our name of an original tensor, less what marks the base and LoRA."""
    head, _, rest = name.partition(".")
    if head != "transformer_blocks":
        return OURS[head] + (f".{rest}" if rest else "")
    number, _, rest = rest.partition(".")
    for theirs, ours in OURS_IN_BLOCK.items():
        rest = rest.replace(f"{theirs}.", f"{ours}.")
    return f"layers.{number}.{rest}"


def _base(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if ".lora." not in name and not name.startswith("action_head."):
            yield _ours(name).replace(".base.", "."), tensor.float().contiguous()


def _adapter(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield LoRA and head under PEFT's names; PEFT multiplies by the transposed matrices."""
    for name, tensor in tensors.items():
        if ".lora." in name:
            ours = _ours(name).replace(".lora.lora_", ".lora_")
            yield f"base_model.model.{ours}.weight", tensor.float().t().contiguous()
        elif name.startswith("action_head."):
            yield f"base_model.model.{_ours(name)}", tensor.float().contiguous()


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


def _counts(tensors: dict[str, Tensor]) -> dict[str, int]:
    sizes = {name: tensor.numel() for name, tensor in tensors.items()}
    frozen = sum(size for name, size in sizes.items() if ".base." in name)
    return {"all": sum(sizes.values()), "trainable": sum(sizes.values()) - frozen}


def _origin(path: Path, foreign: Foreign, stated: Stated) -> dict[str, Any]:
    judged = None if stated.validated_on is None else str(stated.validated_on)
    plain = {str(key)[:80]: value for key, value in foreign.config.items() if _is_number(value) or isinstance(value, bool)}
    return {"preset": "original", "imported": {
        "file": path.name, "sha256": sha256_of(path), "form": foreign.form, "told": foreign.told,
        "config": {key: value if isinstance(value, int) else float(value) for key, value in plain.items()},
        "validated_on": judged,
    }}  # fmt: skip


def _claims(foreign: Foreign) -> dict[str, Any]:
    accuracy = foreign.told.get("val_accuracy")
    return {} if accuracy is None else {"validation": {"accuracy": accuracy / 100 if accuracy > 1 else accuracy}}


def imported_card(name: str, values: dict[str, Any]) -> str:
    """Return the README of an imported checkpoint, written from its description alone."""
    a, origin, data = values["architecture"], values["base"]["imported"], values["data"]
    said = ", ".join(f"{key} {value:g}" for key, value in origin["told"].items()) or "nothing"
    lacking = [text for key, text in STATED.items() if not values[key]]
    mask = "causal" if a["causal"] else "without a causal mask"
    seen = values["ranges"]["training"] if values["ranges"] else "not known"
    columns = (
        f"`{values['schema']['feature_set']}`, {a['n_features']}" if values["schema"] else f"{a['n_features']}, not known which"
    )
    return f"""# {name}

Imported from `{origin["file"]}` ({origin["form"]}, SHA-256 `{origin["sha256"][:16]}`): a transformer of the original
architecture, {values["parameters"]["all"]:,} parameters, {values["parameters"]["trainable"]:,} of them trained beside frozen
linear layers ({a["layers"]} post-norm layers, width {a["d_model"]}, LoRA of rank {values["lora"]["rank"]}).

- Stated, since no tensor tells: {a["heads"]} heads, windows of {a["context_bars"]} bars, {mask}. Each bar is judged by the window that
  ends with it, at its last position.
- Feature columns: {columns}
- Bars it has seen: {seen}{f"; of them judged only on {origin['validated_on']}" if origin["validated_on"] else ""}
- Question asked: {values["labels"] or "not known"}
- Shares and returns of its classes measured on: {data["source"] if data else "nothing"}{" (SYNTHETIC)" if data.get("synthetic") else ""}
- What its training said of itself: {said}
{f"- Not stated, so it cannot be run: {'; '.join(lacking)}." if lacking else "- Nothing is missing. All of this was stated by whoever imported it, and flagbt cannot check it."}
"""
