"""Folders and files that are given as checkpoints but are not: each is described, with a remedy."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from flagbt.cli.main import cli
from flagbt.errors import CheckpointError
from flagbt.models.checkpoint import find_checkpoint
from flagbt.models.exported import exported_description
from flagbt.models.not_a_checkpoint import what_it_is

Command = Callable[..., tuple[int, str, str]]

LLAMA, BERT = json.dumps({"model_type": "llama"}), json.dumps({"model_type": "bert"})
ADAPTER = json.dumps({"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M", "peft_type": "LORA"})
COMMAND = re.compile(r"flagbt ((?:ckpt import|train|new|run|runs|sweep)\b[^.:;,()]*(?:\.\w+[^.:;,()]*)*)")
RUN = json.dumps({"checkpoint": {"name": "Jan4"}})


def parsed(words: str) -> bool:
    """Return whether a command of a message is one of flagbt's, with options that it has; raises click's error."""
    group: click.Command = cli
    arguments = shlex.split(words)
    with click.Context(cli) as context:
        while isinstance(group, click.Group):
            found = group.get_command(context, arguments.pop(0))
            assert found is not None, words
            group = found
        options = {each for option in group.params for each in option.opts}
        assert {each for each in arguments if each.startswith("--")} <= options, words
    return True


@pytest.mark.parametrize(
    ("files", "given", "expected"),
    [
        (
            {"x/adapter_config.json": ADAPTER, "x/config.json": LLAMA},
            "x",
            [
                "a PEFT adapter (LORA) of HuggingFaceTB/SmolLM2-135M",
                "--preset smollm2 --base HuggingFaceTB/SmolLM2-135M",
                "--base CHECKPOINT",
            ],
        ),
        ({"x/adapter_config.json": "{"}, "x", ["a PEFT adapter", "--base BASE"]),
        ({"x/adapter_model.safetensors": ""}, "x", ["a PEFT adapter"]),
        (
            {"x/config.json": LLAMA, "x/model.safetensors": ""},
            "x",
            ["a Hugging Face model (llama)", "flagbt train --preset smollm2 --base x"],
        ),
        ({"x/config.json": BERT}, "x", ["a Hugging Face model (bert)", "plain Llama models only", "flagbt new model my_model"]),
        (
            {"x/best.pt": "", "x/last.pth": ""},
            "x",
            ["It holds best.pt, last.pth", "the kind 'original'", "flagbt ckpt import x/best.pt --name NAME"],
        ),
        ({"best.pt": ""}, "best.pt", ["flagbt ckpt import best.pt --name NAME"]),
        ({"x/model.onnx": ""}, "x", ["the kind 'onnx'", "flagbt ckpt import x/model.onnx --name NAME"]),
        ({"x/model.safetensors": ""}, "x", ["weights alone", "flagbt new model my_model"]),
        ({"model.gguf": ""}, "model.gguf", ["a GGUF language model"]),
        ({"x/model.pkl": ""}, "x", ["a pickled model, which flagbt does not load", "skops.io.dump"]),
        ({"model.keras": ""}, "model.keras", ["flagbt ckpt import model.onnx --name NAME"]),
        ({"model.txt": "tree\nversion=v4\n"}, "model.txt", ["the kind 'lightgbm'", "flagbt ckpt import model.txt --name NAME"]),
        ({"x/run.json": RUN}, "x", ["a run folder", "flagbt runs show x", "made with --ckpt Jan4"]),
        ({"x/1/run.json": RUN}, "x", ["a folder of runs"]),
        ({"x/sweep.json": "{}"}, "x", ["a sweep folder"]),
        ({"x/base.json": "{}"}, "x", ["a base, not yet fine-tuned", "flagbt train --base x"]),
        ({"x/one/checkpoint.json": "{}"}, "x", ["a folder of checkpoints: one", "--ckpt x/one"]),
        ({"x/checkpoint-500/config.json": LLAMA}, "x", ["a transformers Trainer", "--base x/checkpoint-500"]),
        ({".x.training/a": ""}, "./.x.training", ["a training that has not finished", "--resume"]),
        ({"x/notes.md": "", "x/a": "", "x/b": "", "x/c": ""}, "x", ["It holds a, b, c and 1 more, nothing that flagbt knows"]),
        ({"x/a/": ""}, "x/a", ["an empty folder"]),
        ({"bars.csv": ""}, "bars.csv", ["Bars are given with --data bars.csv"]),
        ({"x/checkpoint.json": "{}"}, "x/checkpoint.json", ["Give its folder: --ckpt x"]),
        ({"x/\u202ebad\n.txt": ""}, "x", ["nothing that flagbt knows"]),
    ],
)
def test_other_models_and_folders_are_described(
    files: dict[str, str], given: str, expected: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the error for a model of another kind does not show what to do with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLAGBT_HOME", str(tmp_path / "home"))
    for name, text in files.items():
        file = tmp_path / name
        (file if name.endswith("/") else file.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            file.write_text(text, encoding="utf-8")
    for path in (given, str(tmp_path / given)):
        code, out, err = command("run", "--ckpt", path)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "is not a checkpoint" in err
        assert err.strip().isprintable()
        assert all(parsed(words) for words in COMMAND.findall(err.replace(f"{tmp_path}/", "")))
        for each in expected:
            assert each in err.replace(f"{tmp_path}/", ""), err


def test_a_name_that_is_nowhere_keeps_its_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a misspelt name is described as a folder, and the nearest checkpoint is not named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="there is no checkpoint 'Jan44'.*Did you mean 'Jan4'"):
        find_checkpoint("Jan44")


def test_a_pipe_and_a_damaged_header_are_named_as_what_they_are(tmp_path: Path) -> None:
    """If it fails, an import waits for a pipe, or names a file that does not exist."""
    os.mkfifo(pipe := tmp_path / "model.onnx")
    assert what_it_is(pipe) == "It is not a regular file, but a device, a pipe or a socket."
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match=r"w\.safetensors cannot be read: its header claims"):
        exported_description(tmp_path / "w.safetensors")
