"""Folders and files that are given as checkpoints but are not: each is described, with a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flagbt.errors import CheckpointError
from flagbt.models.checkpoint import find_checkpoint

Command = Callable[..., tuple[int, str, str]]

LLAMA, BERT = json.dumps({"model_type": "llama"}), json.dumps({"model_type": "bert"})
ADAPTER = json.dumps({"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M", "peft_type": "LORA"})
RUN = json.dumps({"checkpoint": {"name": "Jan4"}})


@pytest.mark.parametrize(
    ("files", "given", "expected"),
    [
        (
            {"x/adapter_config.json": ADAPTER, "x/config.json": LLAMA},
            "x",
            ["a PEFT adapter (LORA) of HuggingFaceTB/SmolLM2-135M", "--preset smollm2 --base HuggingFaceTB/SmolLM2-135M"],
        ),
        ({"x/adapter_config.json": "{"}, "x", ["a PEFT adapter", "--base BASE"]),
        ({"x/adapter_model.safetensors": ""}, "x", ["a PEFT adapter"]),
        (
            {"x/config.json": LLAMA, "x/model.safetensors": ""},
            "x",
            ["a Hugging Face model (llama)", "flagbt train --preset smollm2 --base x"],
        ),
        ({"x/config.json": BERT}, "x", ["a Hugging Face model (bert)", "plain Llama models only", "strategy of your own"]),
        (
            {"x/best.pt": "", "x/last.pth": ""},
            "x",
            ["files that torch.save wrote: best.pt, last.pth", "flagbt ckpt import x/best.pt"],
        ),
        ({"best.pt": ""}, "best.pt", ["flagbt ckpt import best.pt --name NAME"]),
        ({"x/model.onnx": ""}, "x", ["an ONNX model", "strategy of your own"]),
        ({"x/model.safetensors": ""}, "x", ["weights alone"]),
        ({"model.gguf": ""}, "model.gguf", ["a GGUF language model"]),
        ({"x/model.pkl": ""}, "x", ["a pickled model, which flagbt does not load"]),
        ({"model.txt": "tree\nversion=v4\n"}, "model.txt", ["a LightGBM model"]),
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
        for each in expected:
            assert each in err.replace(f"{tmp_path}/", ""), err


def test_a_name_that_is_nowhere_keeps_its_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a misspelt name is described as a folder, and the nearest checkpoint is not named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="there is no checkpoint 'Jan44'.*Did you mean 'Jan4'"):
        find_checkpoint("Jan44")
