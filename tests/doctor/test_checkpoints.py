"""The doctor on checkpoints: faults of the files and of the network, the bundled ones, the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flagbt.data.bars import Bars
from flagbt.data.readers import write_bars_csv
from flagbt.data.time_range import TimeRange
from flagbt.doctor.checkpoint_subject import subject_of_checkpoint
from flagbt.doctor.examine import examine
from flagbt.doctor.feature_table import FeatureTable
from flagbt.doctor.finding import Diagnosis
from flagbt.doctor.registry import built_in_checks
from flagbt.doctor.subject import Subject
from flagbt.errors import RangeError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.kinds.lenient_network import LenientCheckpoint, load_leniently
from flagbt.models.kinds.llama import BarTransformer
from flagbt.models.kinds.network import read_tensors, write_tensors
from flagbt.storage.atomic_files import json_text, sha256_of

Command = Callable[..., tuple[int, str, str]]


class TransformerWithoutMask(BarTransformer):
    """A transformer without its causal mask."""

    def hidden(self, rows: Tensor, last: int | None = None) -> Tensor:
        """Let every position use the rows before and after it."""
        seen = super().hidden(rows) + super().hidden(rows.flip(1)).flip(1)
        return seen[:, -(last or rows.shape[1]) :]


@pytest.fixture(scope="module")
def past(walk: Callable[..., Bars]) -> Bars:
    """Give the bars that nano was trained on."""
    return walk(4000, seed=5, start="2023-01-01")


@pytest.fixture(scope="module")
def later(walk: Callable[..., Bars]) -> Bars:
    """Give bars that nano has never seen."""
    return walk(1500, seed=9)


def edited(checkpoint: Checkpoint, folder: Path, **changes: object) -> Checkpoint:
    """Return a copy of a checkpoint with fields of its description changed."""
    shutil.copytree(checkpoint.folder, folder)
    (folder / "checkpoint.json").write_text(json_text({**checkpoint.values, **changes}), encoding="utf-8")
    return read_checkpoint(folder)


def with_adapter(checkpoint: Checkpoint, folder: Path, keep: Callable[[str], bool]) -> Checkpoint:
    """Return a copy whose adapter file holds only some tensors, its digest brought up to date."""
    copy = edited(checkpoint, folder)
    tensors = read_tensors(folder / "adapter.safetensors")
    write_tensors(folder / "adapter.safetensors", {name: tensor for name, tensor in tensors.items() if keep(name)})
    files = {**copy.values["files"], "adapter.safetensors": sha256_of(folder / "adapter.safetensors")}
    (folder / "checkpoint.json").write_text(json_text({**copy.values, "files": files}), encoding="utf-8")
    return read_checkpoint(folder)


def wrong_heads(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Return a copy with another head count, which no tensor's shape shows."""
    return edited(checkpoint, folder, architecture={**checkpoint.values["architecture"], "heads": 4})


def adapter_not_loaded(checkpoint: Checkpoint) -> LenientCheckpoint:
    """Return the network without the loaded LoRA matrices."""
    loaded = load_leniently(checkpoint)
    with torch.no_grad():
        for name, parameter in loaded.network.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    return loaded


def unmasked(loaded: LenientCheckpoint) -> LenientCheckpoint:
    """Return the network without its causal mask."""
    loaded.network.base_model.model.__class__ = TransformerWithoutMask
    return loaded


def served_as(checkpoint: Checkpoint, change: Callable[[np.ndarray], np.ndarray]) -> FeatureTable:
    """Return the checkpoint's features, changed before the model."""
    return FeatureTable(checkpoint.schema.columns, lambda bars: change(checkpoint.schema.rows(bars).astype(np.float64)))


def backwards(rows: np.ndarray) -> np.ndarray:
    """Reverse the columns."""
    return rows[:, ::-1]


def unscaled(checkpoint: Checkpoint) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that reverts the scaler."""
    mean, scale = np.asarray(checkpoint.schema.mean), np.asarray(checkpoint.schema.scale)
    return lambda rows: rows * scale + mean


def problems(subject: Subject) -> list[str]:
    """Return the names of the broken and suspect checks, in rank order."""
    return [each.check for each in examine(subject).problems]


def test_a_sound_checkpoint_has_no_problem(nano: Checkpoint, later: Bars, past: Bars) -> None:
    """If it fails, the doctor may find other faults than the planted ones, and alarms honest users."""
    diagnosis = examine(subject_of_checkpoint(nano, later, past=past))
    assert diagnosis.problems == []
    assert diagnosis.verdict in ("healthy", "no skill")
    assert [each.check for each in diagnosis.findings if each.severity == "skipped"] == []
    assert diagnosis.finding("serving-parity").severity == "ok"


def test_a_wrong_head_count_is_found_and_the_right_one_named(nano: Checkpoint, later: Bars, past: Bars, tmp_path: Path) -> None:
    """If it fails, a checkpoint with another head count predicts nonsense, and the wrong setting stays unknown."""
    diagnosis = examine(subject_of_checkpoint(wrong_heads(nano, tmp_path / "heads"), later, past=past))
    assert diagnosis.problems[0].check == "invariance"
    assert "with heads 2 instead of 4" in diagnosis.problems[0].message


@pytest.mark.slow
def test_a_missing_mask_is_the_first_problem(nano: Checkpoint, later: Bars, past: Bars) -> None:
    """If it fails, a model that reads later rows passes as sound."""
    subject = subject_of_checkpoint(nano, later, past=past, loaded=unmasked(load_leniently(nano)))
    assert problems(subject)[0] == "lookahead-model"


@pytest.mark.slow
def test_an_adapter_that_was_not_loaded_is_the_first_problem(nano: Checkpoint, later: Bars, past: Bars) -> None:
    """If it fails, the base predicts in place of the fine-tuned model."""
    assert problems(subject_of_checkpoint(nano, later, past=past, loaded=adapter_not_loaded(nano)))[0] == "adapter"


@pytest.mark.slow
def test_a_head_that_was_not_saved_is_the_first_problem(nano: Checkpoint, later: Bars, past: Bars, tmp_path: Path) -> None:
    """If it fails, a new random head predicts, and its collapse is blamed on the training."""
    diagnosis = examine(
        subject_of_checkpoint(with_adapter(nano, tmp_path / "no-head", lambda name: "head" not in name), later, past=past)
    )
    assert diagnosis.problems[0].check == "adapter"
    assert "new random head" in diagnosis.problems[0].message


@pytest.mark.slow
def test_a_test_range_inside_the_training_is_the_first_problem(nano: Checkpoint, past: Bars) -> None:
    """If it fails, a score on the training bars passes as a test."""
    assert problems(subject_of_checkpoint(nano, past, timerange=TimeRange.parse("20230201-20230401"))) == ["overlap"]


def half_loaded(loaded: LenientCheckpoint) -> None:
    """Load every second LoRA matrix only."""
    for number, (name, parameter) in enumerate(loaded.network.named_parameters()):
        if "lora_B" in name and number % 4 < 2:
            parameter.zero_()


def dropout_on(loaded: LenientCheckpoint) -> None:
    """Leave evaluation mode, with a dropout of 0.1."""
    loaded.network.train()
    for module in loaded.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1


def half_precision(loaded: LenientCheckpoint) -> None:
    """Keep the weights in float16."""
    for parameter in loaded.network.parameters():
        parameter.copy_(parameter.half().float())


def dead_head(loaded: LenientCheckpoint) -> None:
    """Zero the head's weights, so that only its bias remains."""
    for name, parameter in loaded.network.named_parameters():
        if "head" in name and parameter.ndim == 2:
            parameter.zero_()


def swapped_head(loaded: LenientCheckpoint) -> None:
    """Put the head's rows in another order."""
    for name, parameter in loaded.network.named_parameters():
        if "head" in name and "modules_to_save" in name and parameter.shape[0] == 3:
            parameter.copy_(parameter[[2, 1, 0]].clone())


def other_base(loaded: LenientCheckpoint) -> None:
    """Put the adapter on another base."""
    for name, parameter in loaded.network.named_parameters():
        if "lora" not in name and "head" not in name and parameter.ndim == 2:
            parameter.mul_(1.3)


IN_MEMORY: dict[str, tuple[Callable[[LenientCheckpoint], None], str]] = {
    "half an adapter": (half_loaded, "adapter"),
    "dropout on": (dropout_on, "invariance"),
    "float16 weights": (half_precision, "adapter"),
    "a dead head": (dead_head, "adapter"),
    "a head turned around": (swapped_head, "adapter"),
    "another base": (other_base, "invariance"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_network_that_is_not_the_files_is_the_first_problem(name: str, nano: Checkpoint, later: Bars, past: Bars) -> None:
    """If it fails, a loading defect of another kind is mistaken for a weak market."""
    change, check = IN_MEMORY[name]
    loaded = load_leniently(nano)
    with torch.no_grad():
        change(loaded)
    diagnosis = examine(subject_of_checkpoint(nano, later, past=past, loaded=loaded))
    assert diagnosis.problems[0].check == check, [(e.check, e.message) for e in diagnosis.problems]
    assert all(each.otherwise and each.remedy for each in diagnosis.problems)


def a_bar_late(rows: np.ndarray) -> np.ndarray:
    """Serve the rows of the bar before."""
    return np.concatenate([np.full((1, rows.shape[1]), np.nan), rows[:-1]])


def twins_swapped(rows: np.ndarray) -> np.ndarray:
    """Swap two returns of equal scale."""
    return rows[:, [1, 0, *range(2, rows.shape[1])]]


SERVED = {
    "a bar late": (a_bar_late, "serving-parity"),
    "twins swapped": (twins_swapped, "schema"),
    "clipped": (lambda rows: np.clip(rows, -0.5, 0.5), "serving-parity"),
    "constant": (lambda rows: np.where(np.isfinite(rows), 0.0, np.nan), "input-ignored"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED)
def test_a_checkpoint_with_a_serving_fault_is_reported(name: str, nano: Checkpoint, later: Bars, past: Bars) -> None:
    """If it fails, a sound checkpoint is retrained because of its serving."""
    change, check = SERVED[name]
    diagnosis = examine(subject_of_checkpoint(nano, later, past=past, served=served_as(nano, change)))
    assert check in [each.check for each in diagnosis.problems[:2]], [(e.check, e.message) for e in diagnosis.problems]
    assert {each.check for each in diagnosis.problems[:1]} <= {check, "schema", "serving-parity"}


PAIRS: dict[str, tuple[Callable[[Checkpoint, Path, Bars, Bars], Subject], set[str]]] = {
    "adapter not loaded + no mask": (
        lambda nano, _folder, later, past: subject_of_checkpoint(
            nano, later, past=past, loaded=unmasked(adapter_not_loaded(nano))
        ),
        {"adapter", "lookahead-model"},
    ),
    "wrong heads + test inside training": (
        lambda nano, folder, _later, past: subject_of_checkpoint(
            wrong_heads(nano, folder / "heads"), past, timerange=TimeRange.parse("20230201-20230401")
        ),
        {"invariance", "overlap"},
    ),
    "head not saved + columns permuted": (
        lambda nano, folder, later, past: subject_of_checkpoint(
            with_adapter(nano, folder / "no-head", lambda name: "head" not in name),
            later,
            past=past,
            served=served_as(nano, backwards),
        ),
        {"adapter", "schema"},
    ),
    "adapter not loaded + scaler missing": (
        lambda nano, _folder, later, past: subject_of_checkpoint(
            nano, later, past=past, loaded=adapter_not_loaded(nano), served=served_as(nano, unscaled(nano))
        ),
        {"adapter", "schema"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_two_faults_of_a_checkpoint_are_both_in_the_first_three(
    name: str, nano: Checkpoint, tmp_path: Path, later: Bars, past: Bars
) -> None:
    """If it fails, one fault of a checkpoint hides another."""
    plant, checks = PAIRS[name]
    found = problems(plant(nano, tmp_path, later, past))
    assert checks <= set(found[:3]), found


@pytest.mark.slow
def test_a_changed_feature_set_is_reported_not_raised(nano: Checkpoint, later: Bars, tmp_path: Path) -> None:
    """If it fails, the doctor refuses a faulty checkpoint instead of examining it."""
    schema = replace(nano.schema, probe=tuple(value + 0.5 for value in nano.schema.probe))
    subject = subject_of_checkpoint(edited(nano, tmp_path / "changed", schema=schema.to_json()), later)
    diagnosis = examine(subject)
    assert diagnosis.problems[0].check == "schema"
    assert "computes different values than at training" in diagnosis.problems[0].message


@pytest.mark.slow
def test_a_damaged_file_is_reported_not_raised(nano: Checkpoint, later: Bars, tmp_path: Path) -> None:
    """If it fails, a truncated download raises instead of being reported."""
    copy = edited(nano, tmp_path / "damaged")
    (copy.folder / "adapter.safetensors").write_bytes(b"short")
    diagnosis = examine(subject_of_checkpoint(copy, later))
    assert diagnosis.problems[0].check == "adapter"
    assert "differs from what was saved" in diagnosis.problems[0].message


def test_a_range_without_a_scored_bar_is_refused(nano: Checkpoint, walk: Callable[..., Bars]) -> None:
    """If it fails, a diagnosis without a scored bar is healthy."""
    with pytest.raises(RangeError, match="none can be scored"):
        subject_of_checkpoint(nano, walk(100))


def diagnosed(command: Command, *arguments: object) -> tuple[int, Diagnosis | dict[str, object]]:
    """Return the exit code and the JSON of `flagbt doctor`."""
    code, out, err = command("doctor", "--json", *arguments)
    assert out, err
    return code, json.loads(out)


def test_the_command_prints_the_json_that_is_documented(
    command: Command, nano: Checkpoint, later: Bars, tmp_path: Path
) -> None:
    """If it fails, scripts that read the diagnosis break."""
    write_bars_csv(later, tmp_path / "later.csv")
    code, shown = diagnosed(command, "--ckpt", nano.folder, "--data", tmp_path / "later.csv", "--html", tmp_path / "page.html")
    assert code == 0
    assert isinstance(shown, dict)
    assert set(shown) == {"verdict", "findings", "coverage", "seconds", "warnings"}
    findings = shown["findings"]
    assert isinstance(findings, list)
    assert {each["check"] for each in findings} == {check.name for check in built_in_checks()}
    for each in findings:
        assert set(each) - {"columns"} == {"check", "severity", "value", "limit", "message", "remedy"}
        assert each["severity"] in ("broken", "suspect", "warning", "ok", "skipped")
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_broken_checkpoint_exits_with_1(command: Command, nano: Checkpoint, later: Bars, tmp_path: Path) -> None:
    """If it fails, a script continues with a broken checkpoint."""
    write_bars_csv(later, tmp_path / "later.csv")
    code, shown = diagnosed(command, "--ckpt", wrong_heads(nano, tmp_path / "heads").folder, "--data", tmp_path / "later.csv")
    assert isinstance(shown, dict)
    assert (code, shown["verdict"]) == (1, "broken")


def test_without_a_checkpoint_it_names_the_missing_option(command: Command) -> None:
    """If it fails, a new user's first command ends in a traceback."""
    code, _, err = command("doctor")
    assert code == 2
    assert "--ckpt" in err
    assert "--example jan19" in err
