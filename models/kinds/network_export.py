"""Export a network, as an adapter that PEFT reads or as one file with everything merged, and restore it from either."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save

from ...arrays import JsonObject, JsonValue
from ...errors import CheckpointError, UsageError
from ...storage.atomic_files import new_file, sha256_of
from ...storage.untrusted_files import load_json
from ..checkpoint import Checkpoint, find_checkpoint
from ..exported import IN_FOLDER, IN_HEADER, exported_text
from ..fingerprint import FINGERPRINT
from .architecture import AnyArchitecture, Lora, read_architecture
from .network import adapter_state, build_base, load_network, load_unmerged, lora_config, read_tensors, write_tensors
from .network_model import ADAPTER, BASE
from .original_import import random_fingerprint

ADAPTER_CONFIG, ADAPTER_MODEL = "adapter_config.json", "adapter_model.safetensors"
# What PEFT writes about a program or a run, and flagbt never follows: it decides no logit.
UNUSED = (
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
    "task_type",
    "runtime_config",
)


def export_adapter(checkpoint: Checkpoint, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``, and what the import needs besides the base."""
    model = load_unmerged(checkpoint)
    model.peft_config["default"].save_pretrained(str(folder))
    write_tensors(folder / ADAPTER_MODEL, adapter_state(model), {"format": "pt"})
    shutil.copyfile(checkpoint.folder / FINGERPRINT, folder / FINGERPRINT)
    (folder / IN_FOLDER).write_text(exported_text(checkpoint), encoding="utf-8")
    (folder / "README.md").write_text(
        f"""# The adapter of {checkpoint.name}

LoRA matrices and head of the flagbt checkpoint {checkpoint.name}, under PEFT's names. They need that checkpoint's base
(digest `{checkpoint.digest}`):

    import peft
    from flagbt.models.checkpoint import find_checkpoint
    from flagbt.models.kinds.network import architecture_of, base_of

    checkpoint = find_checkpoint("{checkpoint.name}")
    model = peft.PeftModel.from_pretrained(base_of(checkpoint, architecture_of(checkpoint)), "THIS FOLDER").eval()

Back as a checkpoint of flagbt: `flagbt ckpt import THIS_FOLDER --base {checkpoint.name} --name NAME`.
""",
        encoding="utf-8",
    )


def export_merged(checkpoint: Checkpoint, output: Path) -> None:
    """Write a safetensors file of the whole network; its header holds what no tensor shows."""
    state = {name: tensor.contiguous() for name, tensor in load_network(checkpoint).state_dict().items()}
    # No tensor shape reveals heads, context and mask, so the header holds the architecture.
    header = {
        "format": "pt",
        "architecture": json.dumps(checkpoint.values["architecture"], sort_keys=True),
        "checkpoint": checkpoint.name,
        "digest": checkpoint.digest,
        IN_HEADER: exported_text(checkpoint),
    }
    with new_file(output) as file:
        file.write(save(dict(sorted(state.items())), header))


def restore_network(path: Path, folder: Path, description: JsonObject, base: str | None) -> JsonObject:
    """Write an exported network into ``folder``, and return its description with the digests of its files.

    Raises
    ------
    CheckpointError
        When a file is damaged, or is not the one that was exported.
    UsageError
        When the base of an adapter is missing or another one.
    """
    architecture = read_architecture(description["architecture"])
    if path.is_dir():
        return _restore_adapter(path, folder, description, architecture, base)
    if base is not None:
        raise UsageError(f"--base: {path.name} holds the whole network, so it needs no base. Leave --base out.")
    weights = read_tensors(path)
    if not any(name.startswith("head.") for name in weights):
        raise CheckpointError(f"{path} lacks the tensors of the head. Export the checkpoint again.")
    network = build_base(architecture, weights, place=str(path)).eval()
    write_tensors(folder / BASE, weights)
    write_tensors(folder / FINGERPRINT, random_fingerprint(network, architecture))
    origin = description.get("base")
    return {
        **description,
        "lora": None,
        "base": {
            "preset": origin.get("preset") if isinstance(origin, dict) else None,
            "imported": {"file": path.name, "sha256": sha256_of(path), "form": "merged", "validated_on": None},
            "was": {"base": origin},
        },
        "files": _digests(folder, (BASE, FINGERPRINT)),
    }


def _restore_adapter(
    path: Path, folder: Path, description: JsonObject, architecture: AnyArchitecture, base: str | None
) -> JsonObject:
    if base is None:
        raise UsageError(f"{path} is an adapter without its base. Name the checkpoint that it belongs to: --base CHECKPOINT.")
    owner, stated = find_checkpoint(base), description["files"]
    expected = stated.get(BASE) if isinstance(stated, dict) else None
    own_base = description["base"]
    if owner.described.files.get(BASE) != expected or (expected is None and owner.values["base"] != own_base):
        raise UsageError(
            f"--base: the adapter in {path} was trained on another base than that of '{owner.name}' (its {BASE} has the "
            f"SHA-256 {str(owner.described.files.get(BASE))[:12]}, expected {str(expected)[:12]}). Name the checkpoint that it "
            "was exported from, or one trained on the same base."
        )
    owner.check_files()
    lora = Lora.from_json(description["lora"], "lora")
    check_adapter_config(path / ADAPTER_CONFIG, architecture, lora)
    adapter = read_tensors(path / ADAPTER_MODEL)
    if expected is not None:
        shutil.copyfile(owner.folder / BASE, folder / BASE)
    write_tensors(folder / ADAPTER, adapter)
    shutil.copyfile(path / FINGERPRINT, folder / FINGERPRINT)
    return {**description, "files": _digests(folder, (BASE, ADAPTER, FINGERPRINT))}


def check_adapter_config(path: Path, architecture: AnyArchitecture, lora: Lora) -> None:
    """Refuse an ``adapter_config.json`` that states anything else than flagbt's own LoRA; nothing that it names is followed.

    Raises
    ------
    CheckpointError
        Naming the field, its value, and the expected one.
    """
    try:
        values = load_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Export the adapter again.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object. Export the adapter again.")
    own = lora_config(architecture, lora).to_dict()
    expected = {name: _plain(getattr(value, "value", value)) for name, value in own.items()}
    for name, found in values.items():
        wanted = expected.get(name)
        if name in UNUSED or (name not in expected and found in (None, False, {}, [])):
            continue
        if _plain(found) != wanted:
            raise CheckpointError(
                f"{path}: {name} is {_short(found)}, and flagbt loads an adapter with {_short(own.get(name))} there only. "
                "Any other value would give other logits. Export the adapter again, or train it with flagbt."
            )
    for name in ("peft_type", "r", "lora_alpha", "target_modules", "modules_to_save"):
        if name not in values:
            raise CheckpointError(f"{path} lacks {name}. Export the adapter again.")


def _plain(value: object) -> object:
    """Return a value as JSON has it; a set or list of names in order, since peft gives it none."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, set | list | tuple):
        return sorted((_plain(each) for each in value), key=str)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _digests(folder: Path, names: tuple[str, ...]) -> JsonObject:
    found: dict[str, JsonValue] = {name: sha256_of(folder / name) for name in names if (folder / name).is_file()}
    return found
