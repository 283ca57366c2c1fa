"""Describe a folder or file that was given as a checkpoint but is not one, and what its owner can do with it.

Only names and small descriptions are read; nothing is unpickled and no weights are read.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from ..arrays import JsonObject
from ..errors import FlagbtError
from ..storage.untrusted_files import load_json
from .kinds import BASE_TYPES
from .registry import defines, find_kind, kind_names

_OWN_CLASS = (
    "name a class of your own that computes with it, --model python:my_module:MyModel (docs/models.md), or write a kind of "
    "model: flagbt new model my_model"
)
MOST_NAMED = 3
_LONGEST_NAME = 80


def what_it_is(path: Path) -> str:
    """Return a sentence or two on what an existing ``path`` is, and what to do with it."""
    if not path.is_file() and not path.is_dir():
        return "It is not a regular file, but a device, a pipe or a socket."
    try:
        return _of_file(path) if path.is_file() else _of_folder(path)
    except OSError as error:
        return f"It cannot be read: {error.strerror or error}."


def _of_file(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.name == "checkpoint.json":
        return f"Give its folder: --ckpt {path.parent}."
    if importable := _importable(path):
        return importable
    if suffix == ".safetensors":
        return (
            "It holds weights alone (safetensors), without the code that computes with them, the labels they predict or the "
            f"bars they have seen. To import them, {_OWN_CLASS}."
        )
    if suffix == ".gguf":
        return f"It is a GGUF language model. As a base, give the folder of its safetensors form: {_base_command('FOLDER')}."
    if suffix in (".pkl", ".pickle", ".joblib"):
        return (
            "It is a pickled model, which flagbt does not load, since a pickle can run any code. Where it was made, save it in "
            "another form: skops.io.dump for scikit-learn, save_model for LightGBM, or ONNX; then import that file with flagbt "
            "ckpt import."
        )
    if suffix in (".h5", ".keras", ".pb", ".tflite"):
        return (
            "It is a Keras or TensorFlow model. Export it as ONNX and import that: flagbt ckpt import model.onnx --name NAME."
        )
    if suffix in (".csv", ".parquet", ".feather", ".json", ".gz", ".zip"):
        return (
            f"It is a file; a checkpoint is a folder. Bars are given with --data {path}, signals of another program with "
            f"flagbt run --signals {path}."
        )
    return "It is a file; a checkpoint is a folder written by flagbt train or flagbt ckpt import."


def _importable(path: Path) -> str | None:
    """Return the command that imports a file or folder which a kind of model recognises."""
    try:
        names = [name for name, _ in kind_names()]
    except FlagbtError:  # two packages with one name, which an import reports
        return None
    for name in names:
        try:
            kind = find_kind(name)
        except FlagbtError:  # a broken package, which flagbt ckpt kinds shows
            continue
        if defines(kind, "recognises") and kind.recognises(path):
            return (
                f"It looks like a model of the kind '{name}': import it with flagbt ckpt import {shlex.quote(str(path))} "
                "--name NAME. What only you can state about it is in docs/models.md."
            )
    return None


def _of_folder(path: Path) -> str:
    if path.name.endswith(".training"):
        return "It is a training that has not finished: the same flagbt train command with --resume continues it."
    names = sorted(each.name for each in path.iterdir())
    if not names:
        return "It is an empty folder."
    if "checkpoint.json" not in names and not _OWN_FILES & set(names) and (importable := _importable(path)):
        return importable
    for found, describe in _KINDS:
        if found in names:
            return describe(path)
    for name in names:
        if (path / name).is_file() and (importable := _importable(path / name)):
            return f"It holds {_some(names)}. {_short(name)}: {importable}"
    for suffixes, what in (
        ((".gguf",), "GGUF models"),
        ((".safetensors",), "weights (safetensors)"),
        ((".pkl", ".pickle", ".joblib"), "pickled models"),
    ):
        hits = [name for name in names if name.lower().endswith(suffixes)]
        if hits:
            return f"It holds {what}: {_some(hits)}. {_of_file(path / hits[0])}"
    below = [name for name in names if (path / name / "checkpoint.json").is_file()]
    if below:
        return f"It is a folder of checkpoints: {_some(below)}. Give one of them: --ckpt {path / below[0]}."
    runs = [name for name in names if (path / name / "run.json").is_file()]
    if runs:
        return (
            f"It is a folder of runs; flagbt runs list --out {path} lists them. Each run names the checkpoint it was made with."
        )
    saves = [name for name in names if name.startswith("checkpoint-") and (path / name).is_dir()]
    if saves:
        return f"It is the output of a transformers Trainer, with {_some(saves)}. {_of_folder(path / saves[-1])}"
    return (
        f"It holds {_some(names)}, nothing that flagbt knows as a model. A checkpoint is a folder written by flagbt train or "
        "flagbt ckpt import; flagbt ckpt list shows those that exist."
    )


def _adapter(path: Path) -> str:
    values = _read(path / "adapter_config.json")
    base = values.get("base_model_name_or_path")
    of = f" of {_short(base)}" if isinstance(base, str) and base else ""
    kind = _short(values.get("peft_type") or "PEFT")
    return (
        f"It is a PEFT adapter ({kind}){of}. An adapter that flagbt exported is imported on its checkpoint: flagbt ckpt import "
        f"{shlex.quote(str(path))} --name NAME --base CHECKPOINT. For another one, train here on the same base "
        f"({_base_command(_short(base) if of else 'BASE')}), or {_OWN_CLASS}."
    )


def _hugging_face(path: Path) -> str:
    values = _read(path / "config.json")
    kind = values.get("model_type")
    if not isinstance(kind, str):
        return f"Its config.json names no model_type. {_weights(path)}"
    if kind in BASE_TYPES:
        return f"It is a Hugging Face model ({kind}): a base, not a checkpoint. Train on it: {_base_command(str(path))}."
    return (
        f"It is a Hugging Face model ({_short(kind)}); flagbt fine-tunes plain Llama models only. To trade it as it is, "
        f"{_OWN_CLASS}."
    )


def _weights(path: Path) -> str:
    del path
    return f"It is a model folder of another program. To trade it, {_OWN_CLASS}."


def _run(path: Path) -> str:
    checkpoint = _read(path / "run.json").get("checkpoint")
    name = checkpoint.get("name") if isinstance(checkpoint, dict) else None
    made = f"It was made with --ckpt {_short(name)}." if name else "It was made without a checkpoint."
    return f"It is a run folder: flagbt runs show {path} shows it. {made}"


def _sweep(path: Path) -> str:
    del path
    return "It is a sweep folder: its page, sweep.html, names the checkpoints and the winning setting."


def _base(path: Path) -> str:
    return f"It is a base, not yet fine-tuned: flagbt train --base {path} --data FILE --name NAME makes a checkpoint of it."


def _walk(path: Path) -> str:
    del path
    return "It is a walk-forward folder: each of its folds is a separate checkpoint. Give one of them."


_OWN_FILES = {"run.json", "sweep.json", "base.json", "walk_forward.json"}
_KINDS: tuple[tuple[str, Callable[[Path], str]], ...] = (
    ("run.json", _run),
    ("sweep.json", _sweep),
    ("base.json", _base),
    ("walk_forward.json", _walk),
    ("adapter_config.json", _adapter),
    ("adapter_model.safetensors", _adapter),
    ("adapter_model.bin", _adapter),
    ("config.json", _hugging_face),
    ("saved_model.pb", _weights),
    ("pytorch_model.bin", _weights),
)


def _base_command(base: str) -> str:
    return f"flagbt train --preset smollm2 --base {base} --data FILE --name NAME"


def _read(path: Path) -> JsonObject:
    try:
        values = load_json(path)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _some(names: list[str]) -> str:
    shown = ", ".join(_short(name) for name in names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"


def _short(text: object) -> str:
    printable = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(text))
    return printable if len(printable) <= _LONGEST_NAME else f"{printable[:_LONGEST_NAME]}..."
