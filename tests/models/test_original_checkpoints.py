"""Imported checkpoints: the logits of the original architecture, from all three forms of file, at every setting."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from flagbt.data.bars import Bars
from flagbt.data.feature_schema import FeatureSchema
from flagbt.data.features import DEFAULT, FeatureSet
from flagbt.data.labels import LabelSpec
from flagbt.data.time_range import TimeRange
from flagbt.errors import CheckpointError, RangeError, UsageError
from flagbt.models.checkpoint import Checkpoint, find_checkpoint
from flagbt.models.export import export_checkpoint
from flagbt.models.importing import OwnerDeclaration, import_model
from flagbt.models.kinds.architecture import read_architecture
from flagbt.models.kinds.network import architecture_of, base_of, load_network, load_unmerged, new_network, read_tensors
from flagbt.models.kinds.scoring import ScoringOptions, score

# The tests are not a package, so the reference is imported by its path.
_source = importlib.util.spec_from_file_location(
    "flagbt_test_original", Path(__file__).parents[1] / "support" / "original_checkpoint.py"
)
assert _source is not None
assert _source.loader is not None
_reference = importlib.util.module_from_spec(_source)
_source.loader.exec_module(_reference)
Original, SMALL = _reference.Original, _reference.SMALL

Walk = Callable[..., Bars]
FORMS: dict[str, Callable[[nn.Module], Any]] = {
    "bare": lambda model: model.state_dict(),
    "save": lambda model: {
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": torch.optim.AdamW(model.parameters()).state_dict(),
        "epoch": 7,
        "train_loss": np.float64(0.5),
        "val_loss": 0.6,
        "val_accuracy": 86.34,
        "config": config_of(model),
    },
    "config": lambda model: {"model": model.state_dict(), "config": config_of(model)},
}


def config_of(model: nn.Module) -> dict[str, int]:
    """Return the config that the original training stored."""
    block = model.transformer_blocks[0]
    return {
        "state_dim": model.state_embedding.in_features,
        "action_dim": 3,
        "d_model": model.state_embedding.out_features,
        "num_layers": len(model.transformer_blocks),
        "num_heads": block.attention.heads,
        "dim_feedforward": block.ffn[0].base.out_features,
        "lora_rank": block.ffn[0].lora.lora_A.shape[1],
    }


def saved(tmp_path: Path, model: nn.Module, form: str = "bare") -> Path:
    """Write a model in one of the three forms."""
    path = tmp_path / f"{form}.pt"
    torch.save(FORMS[form](model), path)
    return path


def declared(**facts: Any) -> OwnerDeclaration:
    """Declare what the tests' small models need, changed by ``facts``."""
    return OwnerDeclaration(**{"heads": 12, "context_bars": 24, "causal": True, **facts})


def rows_of(length: int, features: int = 60, sequences: int = 2, seed: int = 1) -> torch.Tensor:
    """Return random rows, shape (sequences, length, features)."""
    return torch.randn(sequences, length, features, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [8, 12])
@pytest.mark.parametrize("length", [1, 24, 64])
def test_logits_are_those_of_the_reference(tmp_path: Path, length: int, heads: int, causal: bool) -> None:
    """If it fails, an imported checkpoint computes something else than the original."""
    model = Original(heads, causal, **SMALL)
    facts = declared(heads=heads, context_bars=length, causal=causal)
    checkpoint = import_model(saved(tmp_path, model), tmp_path / "A", facts)
    network, rows = load_network(checkpoint), rows_of(length)
    with torch.no_grad():
        expected = model(rows)
        ours = network.head(network.read(rows))
    assert expected.std() > 0.1
    assert (ours - expected).abs().max() <= 1e-5
    unmerged = load_unmerged(checkpoint)
    with torch.no_grad():
        assert (unmerged(rows, 1)[:, 0] - expected[:, -1]).abs().max() <= 1e-5


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("context", [1, 24])
def test_each_bar_is_scored_on_the_window_that_ends_with_it(tmp_path: Path, walk: Walk, context: int, causal: bool) -> None:
    """If it fails, a bar is scored on another window than in training, or sees the future."""
    model = Original(8, causal, features=30, **SMALL)
    facts = declared(heads=8, context_bars=context, causal=causal)
    checkpoint = import_model(saved(tmp_path, model), tmp_path / "A", facts)
    bars, warmup = walk(400, seed=2), 10
    rows = rows_of(400, 30, 1)[0].numpy()
    rows[:warmup] = np.nan
    settings = {"architecture": architecture_of(checkpoint), "warmup_bars": warmup}
    logits = score(load_network(checkpoint), rows, bars, **settings)
    first = warmup + context - 1
    with torch.no_grad():
        windows = torch.stack([torch.from_numpy(rows[t - context + 1 : t + 1]) for t in range(first, 400)])
        expected = model(windows)[:, -1].numpy()
    assert np.isnan(logits[:first]).all()
    assert np.abs(logits[first:] - expected).max() <= 1e-5
    alone = score(load_network(checkpoint), rows, bars, first=380, options=ScoringOptions(bar_by_bar=True), **settings)
    assert np.abs(alone[380:] - logits[380:]).max() <= 1e-5
    changed = rows.copy()
    changed[300:] += 1
    moved = score(load_network(checkpoint), changed, bars, **settings)
    assert np.array_equal(moved[:300], logits[:300], equal_nan=True)
    assert not np.array_equal(moved[300:], logits[300:])


@pytest.mark.parametrize("form", FORMS)
def test_all_three_forms_of_file_give_the_same_checkpoint(tmp_path: Path, form: str) -> None:
    """If it fails, one form of file is loaded as another model."""
    model = Original(12, **SMALL)
    facts = declared() if form == "bare" else declared(heads=None)
    checkpoint = import_model(saved(tmp_path, model, form), tmp_path / "A", facts)
    rows = rows_of(24)
    with torch.no_grad():
        assert (load_network(checkpoint)(rows, 1)[:, 0] - model(rows)[:, -1]).abs().max() <= 1e-5
    reported = {"epoch": 7.0, "train_loss": 0.5, "val_loss": 0.6, "val_accuracy": 86.34} if form == "save" else {}
    assert checkpoint.values["base"]["imported"]["told"] == reported
    assert checkpoint.values["parameters"]["all"] == sum(p.numel() for p in model.parameters())


def test_the_numbers_of_parameters_are_those_of_the_description() -> None:
    """If it fails, the reference is not the original architecture, which is known by these two numbers."""
    with torch.device("meta"):
        model = Original()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert sum(sizes.values()) == 87_955_971
    assert sum(n for name, n in sizes.items() if ".base." not in name) == 2_938_371


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("transformer_blocks.1.ffn.3.lora.lora_A"), r"missing \(1\): \S+\.1\.ffn\.3\.lora\.lora_A"),
        (lambda s: s.pop("pos_embedding"), r"missing \(1\): pos_embedding"),
        (lambda s: s.update(extra=torch.ones(2)), r"unexpected \(1\): extra"),
        (lambda s: s.update({"action_head.weight": torch.ones(4, 96)}), r"action_head\.weight is \(4, 96\), expected \(3"),
        (lambda s: s.update({"transformer_blocks.2.norm1.bias": torch.ones(95)}), r"norm1\.bias is \(95,\), expected \(96,\)"),
        (lambda s: s.update({"output_norm.bias": torch.full((96,), torch.nan)}), "'output_norm.bias' holds numbers"),
        (lambda s: s.update({"output_norm.bias": torch.ones(96, dtype=torch.int64)}), "expected a tensor of floats"),
        (lambda s: s.update({"output_norm.bias": torch.ones(1).expand(96)}), "claims the shape"),
        (lambda s: s.update({"output_norm.bias": "text"}), "'output_norm.bias' is a str"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    """If it fails, a tensor is left out silently, and the model predicts something else."""
    state = dict(Original(12, **SMALL).state_dict())
    change(state)
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=message):
        import_model(tmp_path / "bad.pt", tmp_path / "A", declared())
    assert not (tmp_path / "A").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bad.pt"]


def test_nothing_is_guessed(tmp_path: Path) -> None:
    """If it fails, heads, context or mask, which no shape reveals, are guessed."""
    path = saved(tmp_path, Original(12, **SMALL))
    with pytest.raises(UsageError, match=r"--heads N.*--context BARS.*--causal or --no-causal.*does not guess"):
        import_model(path, tmp_path / "A", OwnerDeclaration())
    with pytest.raises(UsageError, match=r"--causal or --no-causal"):
        import_model(path, tmp_path / "A", declared(causal=None))
    assert import_model(path, tmp_path / "one", declared(context_bars=1, causal=None)).model.architecture.context_bars == 1


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"heads": 8}, "config in .* has num_heads 12"),
        ({"heads": None, "context_bars": 300}, r"--context: 300 bars, but the file has 256"),
    ],
)
def test_the_declaration_must_agree_with_the_file(tmp_path: Path, facts: dict[str, int], message: str) -> None:
    """If it fails, an option that contradicts the file's config is accepted, though one of them is wrong."""
    path = saved(tmp_path, Original(12, **SMALL), "config")
    with pytest.raises(UsageError, match=message):
        import_model(path, tmp_path / "A", declared(**facts))


def test_heads_must_share_the_width(tmp_path: Path) -> None:
    """If it fails, 7 heads of a width of 96 are accepted, or the error does not list the possible numbers."""
    with pytest.raises(UsageError, match="--heads: 7 heads do not share a width of 96. Possible: 1, 2, 3, 4, 6, 8, 12"):
        import_model(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", declared(heads=7))


def test_a_config_of_another_network_is_refused(tmp_path: Path) -> None:
    """If it fails, weights are imported with the config of another model."""
    model = Original(12, **SMALL)
    torch.save({"model": model.state_dict(), "config": {**config_of(model), "d_model": 768}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="its config has d_model 768, but its tensors have 96"):
        import_model(tmp_path / "a.pt", tmp_path / "A", declared())


@pytest.mark.parametrize("change", [{"heads": 8}, {"context_bars": 23}, {"causal": False}])
def test_a_knob_changed_later_is_caught_by_the_fingerprint(tmp_path: Path, change: dict[str, Any]) -> None:
    """If it fails, a changed head count, context or mask loads without any error and gives confident nonsense."""
    checkpoint = import_model(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", declared())
    values = {**checkpoint.values, "architecture": {**checkpoint.values["architecture"], **change}}
    with pytest.raises(CheckpointError, match="the logits differ"):
        load_network(Checkpoint(checkpoint.folder, values))


def test_the_doctor_names_the_knob_that_was_changed(tmp_path: Path, walk: Walk) -> None:
    """If it fails, the doctor does not find 8 heads instead of 12 where the columns are unknown."""
    from flagbt.doctor.checkpoint_subject import subject_of_checkpoint
    from flagbt.doctor.examine import examine

    checkpoint = import_model(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", declared(context_bars=8))
    healthy = examine(subject_of_checkpoint(checkpoint, walk(600)))
    done = {each.check: each.severity for each in healthy.findings if each.severity != "skipped"}
    assert done == dict.fromkeys(("lookahead-model", "adapter", "invariance", "input-ignored"), "ok")
    assert all("did not state" in each.message for each in healthy.findings if each.severity == "skipped")
    values = {**checkpoint.values, "architecture": {**checkpoint.values["architecture"], "heads": 8}}
    ill = examine(subject_of_checkpoint(Checkpoint(checkpoint.folder, values), walk(600)))
    assert ill.verdict == "broken"
    assert any("heads 12 instead of 8" in each.message for each in ill.findings)


def test_a_taken_name_is_an_error(tmp_path: Path) -> None:
    """If it fails, an import replaces another checkpoint."""
    path = saved(tmp_path, Original(12, **SMALL))
    first = import_model(path, tmp_path / "A", declared())
    with pytest.raises(CheckpointError, match=r"exists.*--overwrite"):
        import_model(path, tmp_path / "A", declared(heads=8))
    assert load_network(first) is not None
    assert import_model(path, tmp_path / "A", declared(heads=8), overwrite=True).digest != first.digest


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, r"--features and --scaler.*--labels.*--trained-on.*--data"),
        (
            {"labels": LabelSpec()},
            r"was imported without the feature columns and their scaler \(--features and --scaler\); the bars",
        ),
    ],
)
def test_missing_declarations_are_refused_when_needed(tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    """If it fails, a checkpoint runs on guessed columns, labels or ranges."""
    checkpoint = import_model(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", declared(**facts))
    for use in (lambda: checkpoint.schema, lambda: checkpoint.ranges, lambda: checkpoint.class_returns, checkpoint.check_known):
        with pytest.raises(CheckpointError, match=message):
            use()


def test_columns_must_be_as_many_as_the_network_reads(tmp_path: Path) -> None:
    """If it fails, a feature set of another width is accepted, and columns get another meaning."""
    schema = FeatureSchema.stated(DEFAULT, None)
    with pytest.raises(UsageError, match="'default' has 30 columns, the model reads 60"):
        import_model(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", declared(schema=schema))


@pytest.mark.parametrize(
    ("scaler", "message"),
    [
        ({"mean": [0.0] * 29}, "expected 30 finite numbers"),
        ({"scale": [0.0] * 30}, "expected 30 finite numbers"),
        ({"mean": ["x"] * 30}, "expected lists of numbers"),
        ({"means": [0.0] * 30}, "Did you mean 'mean'"),
        ({"clip": -1}, "expected 30 finite numbers"),
    ],
)
def test_a_scaler_that_cannot_be_used_is_refused(scaler: dict[str, Any], message: str) -> None:
    """If it fails, an invalid scaler changes every feature."""
    with pytest.raises(UsageError, match=message):
        FeatureSchema.stated(DEFAULT, scaler)


def test_a_declared_scaler_is_applied(walk: Walk) -> None:
    """If it fails, rows are not scaled as in training."""
    bars = walk(300)
    mean, scale = np.linspace(-1, 1, 30), np.linspace(0.5, 2, 30)
    plain = FeatureSchema.stated(DEFAULT, None).rows(bars)
    scaled = FeatureSchema.stated(DEFAULT, {"mean": mean.tolist(), "scale": scale.tolist(), "clip": 2}).rows(bars)
    assert np.allclose(plain[168:], DEFAULT(bars)[168:], rtol=1e-6)
    assert np.abs(plain[168:]).max() > 6  # no clipping by default
    assert np.allclose(scaled[168:], np.clip((DEFAULT(bars)[168:] - mean) / scale, -2, 2), rtol=1e-5, atol=1e-6)


def test_a_range_that_the_bars_do_not_hold_is_refused(tmp_path: Path, walk: Walk) -> None:
    """If it fails, label shares are measured on no bars at all."""
    facts = declared(labels=LabelSpec(), seen=TimeRange.parse("20100101-20110101"), bars=walk(500))
    with pytest.raises(RangeError, match=r"--trained-on 20100101-20110101: of the 0 labels"):
        import_model(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", facts)


@pytest.fixture
def imported(tmp_path: Path, walk: Walk) -> Checkpoint:
    """Give a small imported checkpoint with a complete declaration, on a random walk of 2023."""
    bars = walk(3000, seed=5, start="2023-01-01")
    facts = declared(
        heads=8,
        context_bars=8,
        causal=False,
        schema=FeatureSchema.stated(DEFAULT, None),
        labels=LabelSpec(),
        seen=TimeRange.parse("20230101-20230301"),
        bars=bars,
    )
    return import_model(saved(tmp_path, Original(8, False, features=30, **SMALL)), tmp_path / "imported", facts)


def test_label_shares_are_those_of_the_range_seen(imported: Checkpoint, walk: Walk) -> None:
    """If it fails, the verdict of collapse compares with label shares of other bars."""
    close = walk(3000, seed=5, start="2023-01-01").close[: 59 * 24]
    change = close[6:] / close[:-6] - 1
    shares = [(change < -0.01).mean(), (abs(change) <= 0.01).mean(), (change > 0.01).mean()]
    assert np.allclose(imported.label_shares, shares)
    assert np.isclose(imported.class_returns[2], change[change > 0.01].mean())


def test_an_exported_adapter_loads_with_peft(imported: Checkpoint, tmp_path: Path) -> None:
    """If it fails, PEFT loads an exported adapter as another model."""
    folder = export_checkpoint(imported, tmp_path / "adapter", "peft")
    model = peft.PeftModel.from_pretrained(base_of(imported, architecture_of(imported)), str(folder)).eval()
    rows = rows_of(40, 30)
    with torch.no_grad():
        assert (model(rows) - load_unmerged(imported)(rows)).abs().max() <= 1e-6
        assert not torch.allclose(model(rows), base_of(imported, architecture_of(imported)).eval()(rows), atol=1e-2)


def test_a_trained_checkpoints_adapter_loads_with_peft(nano: Checkpoint, tmp_path: Path) -> None:
    """If it fails, only imported checkpoints can be exported."""
    folder = export_checkpoint(nano, tmp_path / "adapter", "peft")
    model = peft.PeftModel.from_pretrained(base_of(nano, architecture_of(nano)), str(folder)).eval()
    rows = rows_of(40, 30)
    with torch.no_grad():
        assert (model(rows) - load_unmerged(nano)(rows)).abs().max() <= 1e-6


@pytest.mark.parametrize("which", ["imported", "nano"])
def test_a_merged_export_is_the_whole_network(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """If it fails, a merged file gives different logits, or lacks the number of heads."""
    checkpoint = request.getfixturevalue(which)
    file = export_checkpoint(checkpoint, tmp_path / "merged.safetensors", "merged")
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    network = new_network(read_architecture(json.loads(header["architecture"])))
    network.load_state_dict(load_file(file))
    rows = rows_of(40, 30)
    with torch.no_grad():
        assert (network.eval()(rows) - load_network(checkpoint)(rows)).abs().max() <= 1e-6
    assert header["digest"] == checkpoint.digest


def test_an_export_replaces_nothing_by_default(imported: Checkpoint, tmp_path: Path) -> None:
    """If it fails, an export overwrites an unrelated folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(CheckpointError):
            export_checkpoint(imported, tmp_path / "mine", "peft", overwrite=overwrite)
    with pytest.raises(CheckpointError, match="exists"):
        export_checkpoint(imported, tmp_path / "mine" / "thesis.txt", "merged")
    with pytest.raises(UsageError, match="Did you mean 'merged'"):
        export_checkpoint(imported, tmp_path / "x", "merge")
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_further_training_starts_from_what_the_import_knows(imported: Checkpoint, walk: Walk, tmp_path: Path) -> None:
    """If it fails, further training starts without the imported LoRA and head."""
    from flagbt.training.base_source import find_base_source
    from flagbt.training.recipe import Recipe
    from flagbt.training.trainer import Schedule
    from flagbt.workflows.train import train_on

    network, rows = load_network(imported), rows_of(40, 30)
    source = find_base_source(None, str(imported.folder), None, None)
    assert source.schema(np.zeros((0, 30))) == imported.schema
    start = new_network(source.architecture)
    base = source.base(0)
    assert base is not None
    start.load_state_dict(base.weights)
    with torch.no_grad():
        assert (start.eval()(rows) - network(rows)).abs().max() <= 1e-6
    recipe = Recipe(
        base=str(imported.folder),
        training=TimeRange.parse("20230301-20230401"),
        validation=TimeRange.parse("20230401-20230501"),
        schedule=Schedule(epochs=1, learning_rate=1e-9),
    )
    bars = walk(3000, seed=5, start="2023-01-01")
    trained = train_on(bars, tmp_path / "further", recipe)
    with torch.no_grad():  # with a tiny learning rate, the logits stay close to those of the import
        assert (load_network(trained)(rows) - network(rows)).abs().max() < 1e-3
    assert trained.values["ranges"]["pretraining"] == "20230101-20230301"
    assert trained.values["base"]["digest"] == imported.digest
    assert "starting from the checkpoint imported" in (trained.folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(RangeError, match="reaches into the validation"):
        train_on(bars, tmp_path / "cheat", Recipe(base=str(imported.folder), validation=TimeRange.parse("20230215-20230401")))


def test_the_weights_are_stored_transposed(imported: Checkpoint, tmp_path: Path) -> None:
    """If it fails, square LoRA matrices, which PEFT stores transposed, load without any error and are wrong."""
    model = Original(8, False, features=30, **SMALL)
    adapter = read_tensors(imported.folder / "adapter.safetensors")
    theirs = model.transformer_blocks[1].attention.out_proj.lora
    ours = adapter["base_model.model.layers.1.attention.o_proj.lora_A.weight"]
    assert torch.equal(ours, theirs.lora_A.T)
    assert torch.equal(adapter["base_model.model.layers.1.attention.o_proj.lora_B.weight"], theirs.lora_B.T)
    assert not any("lora" in name for name in read_tensors(imported.folder / "base.safetensors"))


def test_columns_from_a_plug_in_are_kept_by_name(tmp_path: Path) -> None:
    """If it fails, a schema loses the name of its feature set, and its columns cannot be checked later."""
    mine = FeatureSet("mine:COLUMNS", DEFAULT.columns, DEFAULT.warmup_bars, DEFAULT.compute)
    schema = FeatureSchema.stated(mine, None)
    path = saved(tmp_path, Original(12, features=30, **SMALL))
    checkpoint = import_model(path, tmp_path / "A", declared(schema=schema))
    assert checkpoint.schema.feature_set == "mine:COLUMNS"
    assert checkpoint.unknown == ["labels", "ranges", "data"]


@pytest.mark.slow
def test_the_full_size_is_imported_in_time_and_memory(tmp_path: Path) -> None:
    """If it fails, importing the full size needs over 30 seconds of processor time or 2 GB, or gives different logits."""
    import os
    import subprocess
    import sys

    model = Original(12, False)
    path = saved(tmp_path, model)
    assert 350e6 < path.stat().st_size < 360e6
    line = f"ckpt import {path} --name Jan4 --output {tmp_path} --heads 12 --context 64 --no-causal".split()
    process = subprocess.Popen([sys.executable, "-m", "flagbt", *line])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    assert status == 0
    assert usage.ru_utime + usage.ru_stime < 30  # processor time, since the clock depends on other programs
    assert usage.ru_maxrss * 1024 < 2e9
    network, rows = load_network(find_checkpoint(str(tmp_path / "Jan4"))), rows_of(64)
    with torch.no_grad():
        expected = model(rows)
        assert (network.head(network.read(rows)) - expected).abs().max() <= 1e-5
        assert expected.std() > 0.1
