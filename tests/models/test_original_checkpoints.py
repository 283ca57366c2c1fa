"""Imported checkpoints: the logits of the original architecture, from all three shapes of file, at every setting."""

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
from flagbt.models.architecture import read_architecture
from flagbt.models.checkpoint import Checkpoint, find_checkpoint
from flagbt.models.export import export_checkpoint
from flagbt.models.kinds.original_import import OwnerDeclaration, import_checkpoint
from flagbt.models.network import architecture_of, base_of, load_network, load_unmerged, new_network, read_tensors
from flagbt.models.scoring import score

# The tests are no package: the reference is imported by its path.
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
    """Return the config that the original training kept."""
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
    """Write a model as one of the three shapes."""
    path = tmp_path / f"{form}.pt"
    torch.save(FORMS[form](model), path)
    return path


def stated(**facts: Any) -> OwnerDeclaration:
    """State what the tests' small models need, changed by ``facts``."""
    return OwnerDeclaration(**{"heads": 12, "context_bars": 24, "causal": True, **facts})


def rows_of(length: int, features: int = 60, sequences: int = 2, seed: int = 1) -> torch.Tensor:
    """Return random rows, shape (sequences, length, features)."""
    return torch.randn(sequences, length, features, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [8, 12])
@pytest.mark.parametrize("length", [1, 24, 64])
def test_logits_are_those_of_the_reference(tmp_path: Path, length: int, heads: int, causal: bool) -> None:
    """An import that computes something else would judge another model."""
    model = Original(heads, causal, **SMALL)
    facts = stated(heads=heads, context_bars=length, causal=causal)
    checkpoint = import_checkpoint(saved(tmp_path, model), tmp_path / "A", facts)
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
def test_each_bar_is_judged_by_the_window_that_ends_with_it(tmp_path: Path, walk: Walk, context: int, causal: bool) -> None:
    """A bar judged by any other window would be served otherwise than it was trained, or would see the future."""
    model = Original(8, causal, features=30, **SMALL)
    facts = stated(heads=8, context_bars=context, causal=causal)
    checkpoint = import_checkpoint(saved(tmp_path, model), tmp_path / "A", facts)
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
    alone = score(load_network(checkpoint), rows, bars, bar_by_bar=True, first=380, **settings)
    assert np.abs(alone[380:] - logits[380:]).max() <= 1e-5
    changed = rows.copy()
    changed[300:] += 1
    moved = score(load_network(checkpoint), changed, bars, **settings)
    assert np.array_equal(moved[:300], logits[:300], equal_nan=True)
    assert not np.array_equal(moved[300:], logits[300:])


@pytest.mark.parametrize("form", FORMS)
def test_all_three_shapes_of_file_give_the_same_checkpoint(tmp_path: Path, form: str) -> None:
    """A shape that loads otherwise would be another model under the same name."""
    model = Original(12, **SMALL)
    facts = stated() if form == "bare" else stated(heads=None)
    checkpoint = import_checkpoint(saved(tmp_path, model, form), tmp_path / "A", facts)
    rows = rows_of(24)
    with torch.no_grad():
        assert (load_network(checkpoint)(rows, 1)[:, 0] - model(rows)[:, -1]).abs().max() <= 1e-5
    told = checkpoint.values["base"]["imported"]["told"]
    assert told == ({"epoch": 7.0, "train_loss": 0.5, "val_loss": 0.6, "val_accuracy": 86.34} if form == "save" else {})
    assert checkpoint.values["parameters"]["all"] == sum(p.numel() for p in model.parameters())


def test_the_numbers_of_parameters_are_those_of_the_description() -> None:
    """The architecture is known by these two numbers: another one would be another network."""
    with torch.device("meta"):
        model = Original()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert sum(sizes.values()) == 87_955_971
    assert sum(n for name, n in sizes.items() if ".base." not in name) == 2_938_371


@pytest.mark.parametrize(
    ("change", "words"),
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
def test_what_does_not_fit_is_named_and_nothing_written(tmp_path: Path, change: Callable[[Any], Any], words: str) -> None:
    """A tensor left out in silence gives a model that answers something else."""
    state = dict(Original(12, **SMALL).state_dict())
    change(state)
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=words):
        import_checkpoint(tmp_path / "bad.pt", tmp_path / "A", stated())
    assert not (tmp_path / "A").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bad.pt"]


def test_nothing_is_guessed(tmp_path: Path) -> None:
    """Heads, context and mask change no shape: a guess would be wrong without any error."""
    path = saved(tmp_path, Original(12, **SMALL))
    with pytest.raises(UsageError, match=r"--heads N.*--context BARS.*--causal or --no-causal.*does not guess"):
        import_checkpoint(path, tmp_path / "A", OwnerDeclaration())
    with pytest.raises(UsageError, match=r"--causal or --no-causal"):
        import_checkpoint(path, tmp_path / "A", stated(causal=None))
    assert import_checkpoint(path, tmp_path / "one", stated(context_bars=1, causal=None)).architecture.context_bars == 1


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"heads": 8}, "config in .* says num_heads 12"),
        ({"heads": None, "context_bars": 300}, r"--context: 300 bars, and the file has 256"),
    ],
)
def test_what_is_stated_must_agree_with_the_file(tmp_path: Path, facts: dict[str, int], words: str) -> None:
    """Two voices that differ mean that one of them is wrong."""
    path = saved(tmp_path, Original(12, **SMALL), "config")
    with pytest.raises(UsageError, match=words):
        import_checkpoint(path, tmp_path / "A", stated(**facts))


def test_heads_must_share_the_width(tmp_path: Path) -> None:
    """Seven heads of 96 numbers are no network; the possible ones are named."""
    with pytest.raises(UsageError, match="--heads: 7 heads do not share a width of 96. Possible: 1, 2, 3, 4, 6, 8, 12"):
        import_checkpoint(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", stated(heads=7))


def test_a_config_of_another_network_is_refused(tmp_path: Path) -> None:
    """Weights under another model's config come from a mixed-up folder."""
    model = Original(12, **SMALL)
    torch.save({"model": model.state_dict(), "config": {**config_of(model), "d_model": 768}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="its config says d_model 768, and its tensors have 96"):
        import_checkpoint(tmp_path / "a.pt", tmp_path / "A", stated())


@pytest.mark.parametrize("change", [{"heads": 8}, {"context_bars": 23}, {"causal": False}])
def test_a_knob_changed_later_is_caught_by_the_fingerprint(tmp_path: Path, change: dict[str, Any]) -> None:
    """A wrong head count, context or mask loads without any error; served so, a model says nonsense with confidence."""
    checkpoint = import_checkpoint(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", stated())
    values = {**checkpoint.values, "architecture": {**checkpoint.values["architecture"], **change}}
    with pytest.raises(CheckpointError, match="the logits differ"):
        load_network(Checkpoint(checkpoint.folder, values))


def test_the_doctor_names_the_knob_that_was_changed(tmp_path: Path, walk: Walk) -> None:
    """A checkpoint served with 8 heads instead of 12 must be diagnosed as just that, even before its columns are known."""
    from flagbt.doctor.checkpoint_subject import subject_of_checkpoint
    from flagbt.doctor.examine import examine

    checkpoint = import_checkpoint(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", stated(context_bars=8))
    healthy = examine(subject_of_checkpoint(checkpoint, walk(600)))
    done = {each.check: each.severity for each in healthy.findings if each.severity != "skipped"}
    assert done == dict.fromkeys(("lookahead-model", "adapter", "invariance", "input-ignored"), "ok")
    assert all("did not state" in each.message for each in healthy.findings if each.severity == "skipped")
    values = {**checkpoint.values, "architecture": {**checkpoint.values["architecture"], "heads": 8}}
    ill = examine(subject_of_checkpoint(Checkpoint(checkpoint.folder, values), walk(600)))
    assert ill.verdict == "broken"
    assert any("heads 12 instead of 8" in each.message for each in ill.findings)


def test_a_taken_name_is_an_error(tmp_path: Path) -> None:
    """An import that replaced another checkpoint would lose it."""
    path = saved(tmp_path, Original(12, **SMALL))
    first = import_checkpoint(path, tmp_path / "A", stated())
    with pytest.raises(CheckpointError, match=r"exists.*--overwrite"):
        import_checkpoint(path, tmp_path / "A", stated(heads=8))
    assert load_network(first) is not None
    assert import_checkpoint(path, tmp_path / "A", stated(heads=8), overwrite=True).digest != first.digest


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, r"--features and --scaler.*--labels.*--trained-on.*--data"),
        ({"labels": LabelSpec()}, r"has said the feature columns and their scaler \(--features and --scaler\); the bars"),
    ],
)
def test_what_was_not_stated_is_refused_when_it_is_needed(tmp_path: Path, facts: dict[str, Any], words: str) -> None:
    """A run on guessed columns, labels or ranges would be a number that flatters."""
    checkpoint = import_checkpoint(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", stated(**facts))
    for use in (lambda: checkpoint.schema, lambda: checkpoint.ranges, lambda: checkpoint.class_returns, checkpoint.check_known):
        with pytest.raises(CheckpointError, match=words):
            use()


def test_columns_must_be_as_many_as_the_network_reads(tmp_path: Path) -> None:
    """A table of another width was filled up somewhere: where, decides what each column means."""
    schema = FeatureSchema.stated(DEFAULT, None)
    with pytest.raises(UsageError, match="'default' has 30 columns, the checkpoint reads 60"):
        import_checkpoint(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", stated(schema=schema))


@pytest.mark.parametrize(
    ("scaler", "words"),
    [
        ({"mean": [0.0] * 29}, "expected 30 finite numbers"),
        ({"scale": [0.0] * 30}, "expected 30 finite numbers"),
        ({"mean": ["x"] * 30}, "expected lists of numbers"),
        ({"means": [0.0] * 30}, "Did you mean 'mean'"),
        ({"clip": -1}, "expected 30 finite numbers"),
    ],
)
def test_a_scaler_that_cannot_be_used_is_refused(scaler: dict[str, Any], words: str) -> None:
    """A scale of another column turns each number into another one."""
    with pytest.raises(UsageError, match=words):
        FeatureSchema.stated(DEFAULT, scaler)


def test_a_stated_scaler_is_the_one_served(walk: Walk) -> None:
    """Rows served unscaled where the training scaled them, or the reverse, mean something else."""
    bars = walk(300)
    mean, scale = np.linspace(-1, 1, 30), np.linspace(0.5, 2, 30)
    plain = FeatureSchema.stated(DEFAULT, None).rows(bars)
    scaled = FeatureSchema.stated(DEFAULT, {"mean": mean.tolist(), "scale": scale.tolist(), "clip": 2}).rows(bars)
    assert np.allclose(plain[168:], DEFAULT(bars)[168:], rtol=1e-6)
    assert np.abs(plain[168:]).max() > 6  # nothing is cut unless it is said
    assert np.allclose(scaled[168:], np.clip((DEFAULT(bars)[168:] - mean) / scale, -2, 2), rtol=1e-5, atol=1e-6)


def test_a_range_that_the_bars_do_not_hold_is_refused(tmp_path: Path, walk: Walk) -> None:
    """Label shares of no bars at all would be invented."""
    facts = stated(labels=LabelSpec(), seen=TimeRange.parse("20100101-20110101"), bars=walk(500))
    with pytest.raises(RangeError, match=r"--trained-on 20100101-20110101: of the 0 labels"):
        import_checkpoint(saved(tmp_path, Original(12, **SMALL)), tmp_path / "A", facts)


@pytest.fixture
def imported(tmp_path: Path, walk: Walk) -> Checkpoint:
    """Give a small imported checkpoint of which everything is stated, on a random walk of 2023."""
    bars = walk(3000, seed=5, start="2023-01-01")
    facts = stated(
        heads=8,
        context_bars=8,
        causal=False,
        schema=FeatureSchema.stated(DEFAULT, None),
        labels=LabelSpec(),
        seen=TimeRange.parse("20230101-20230301"),
        bars=bars,
    )
    return import_checkpoint(saved(tmp_path, Original(8, False, features=30, **SMALL)), tmp_path / "imported", facts)


def test_label_shares_are_those_of_the_range_seen(imported: Checkpoint, walk: Walk) -> None:
    """A verdict of collapse compares with these shares: those of other bars would blame the model for the market."""
    close = walk(3000, seed=5, start="2023-01-01").close[: 59 * 24]
    change = close[6:] / close[:-6] - 1
    shares = [(change < -0.01).mean(), (abs(change) <= 0.01).mean(), (change > 0.01).mean()]
    assert np.allclose(imported.label_shares, shares)
    assert np.isclose(imported.class_returns[2], change[change > 0.01].mean())


def test_an_exported_adapter_loads_with_peft(imported: Checkpoint, tmp_path: Path) -> None:
    """An adapter that PEFT reads otherwise is another model elsewhere."""
    folder = export_checkpoint(imported, tmp_path / "adapter", "peft")
    model = peft.PeftModel.from_pretrained(base_of(imported, architecture_of(imported)), str(folder)).eval()
    rows = rows_of(40, 30)
    with torch.no_grad():
        assert (model(rows) - load_unmerged(imported)(rows)).abs().max() <= 1e-6
        assert not torch.allclose(model(rows), base_of(imported, architecture_of(imported)).eval()(rows), atol=1e-2)


def test_a_trained_checkpoints_adapter_loads_with_peft(nano: Checkpoint, tmp_path: Path) -> None:
    """The export is for every checkpoint, not only for imported ones."""
    folder = export_checkpoint(nano, tmp_path / "adapter", "peft")
    model = peft.PeftModel.from_pretrained(base_of(nano, architecture_of(nano)), str(folder)).eval()
    rows = rows_of(40, 30)
    with torch.no_grad():
        assert (model(rows) - load_unmerged(nano)(rows)).abs().max() <= 1e-6


@pytest.mark.parametrize("which", ["imported", "nano"])
def test_a_merged_export_is_the_whole_network(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A merged file that gives other logits, or does not say its heads, is a trap for whoever loads it."""
    checkpoint = request.getfixturevalue(which)
    file = export_checkpoint(checkpoint, tmp_path / "merged.safetensors", "merged")
    with safe_open(file, "pt") as opened:
        told = opened.metadata()
    network = new_network(read_architecture(json.loads(told["architecture"])))
    network.load_state_dict(load_file(file))
    rows = rows_of(40, 30)
    with torch.no_grad():
        assert (network.eval()(rows) - load_network(checkpoint)(rows)).abs().max() <= 1e-6
    assert told["digest"] == checkpoint.digest


def test_an_export_replaces_nothing_unasked(imported: Checkpoint, tmp_path: Path) -> None:
    """An export that overwrote a folder of something else would lose it."""
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
    """Fresh LoRA on the base alone would throw away what the imported LoRA and head had learnt."""
    from flagbt.training.base_source import find_base_source
    from flagbt.training.recipe import Recipe
    from flagbt.training.trainer import Schedule
    from flagbt.workflows.train import train

    network, rows = load_network(imported), rows_of(40, 30)
    ground = find_base_source(None, str(imported.folder), None, None)
    assert ground.schema(np.zeros((0, 30))) == imported.schema
    begun = new_network(ground.architecture)
    base = ground.base(0)
    assert base is not None
    begun.load_state_dict(base.weights)
    with torch.no_grad():
        assert (begun.eval()(rows) - network(rows)).abs().max() <= 1e-6
    recipe = Recipe(
        base=str(imported.folder),
        training=TimeRange.parse("20230301-20230401"),
        validation=TimeRange.parse("20230401-20230501"),
        schedule=Schedule(epochs=1, learning_rate=1e-9),
    )
    bars = walk(3000, seed=5, start="2023-01-01")
    trained = train(bars, tmp_path / "further", recipe)
    with torch.no_grad():  # next to no learning: what it says is next to what the import said
        assert (load_network(trained)(rows) - network(rows)).abs().max() < 1e-3
    assert trained.values["ranges"]["pretraining"] == "20230101-20230301"
    assert trained.values["base"]["digest"] == imported.digest
    assert "starting from the checkpoint imported" in (trained.folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(RangeError, match="reaches into the validation"):
        train(bars, tmp_path / "cheat", Recipe(base=str(imported.folder), validation=TimeRange.parse("20230215-20230401")))


def test_the_weights_land_in_our_format_transposed(imported: Checkpoint, tmp_path: Path) -> None:
    """PEFT's matrices lie the other way round: read as they are, square ones would fit and be wrong."""
    model = Original(8, False, features=30, **SMALL)
    adapter = read_tensors(imported.folder / "adapter.safetensors")
    theirs = model.transformer_blocks[1].attention.out_proj.lora
    ours = adapter["base_model.model.layers.1.attention.o_proj.lora_A.weight"]
    assert torch.equal(ours, theirs.lora_A.T)
    assert torch.equal(adapter["base_model.model.layers.1.attention.o_proj.lora_B.weight"], theirs.lora_B.T)
    assert not any("lora" in name for name in read_tensors(imported.folder / "base.safetensors"))


def test_columns_from_a_plug_in_are_kept_by_name(tmp_path: Path) -> None:
    """A schema that forgot whose columns they are could not be checked at serving."""
    mine = FeatureSet("mine:COLUMNS", DEFAULT.columns, DEFAULT.warmup_bars, DEFAULT.compute)
    schema = FeatureSchema.stated(mine, None)
    path = saved(tmp_path, Original(12, features=30, **SMALL))
    checkpoint = import_checkpoint(path, tmp_path / "A", stated(schema=schema))
    assert checkpoint.schema.feature_set == "mine:COLUMNS"
    assert checkpoint.unknown == ["labels", "ranges", "data"]


@pytest.mark.slow
def test_the_full_size_is_imported_in_time_and_memory(tmp_path: Path) -> None:
    """A laptop of 4 GB must be able to import what its owner trained: under 30 seconds of work and 2 GB, the same logits."""
    import os
    import subprocess
    import sys

    model = Original(12, False)
    path = saved(tmp_path, model)
    assert 350e6 < path.stat().st_size < 360e6
    told = f"ckpt import {path} --name Jan4 --output {tmp_path} --heads 12 --context 64 --no-causal".split()
    process = subprocess.Popen([sys.executable, "-m", "flagbt", *told])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    assert status == 0
    assert usage.ru_utime + usage.ru_stime < 30  # of the processor: the clock depends on what else the machine does
    assert usage.ru_maxrss * 1024 < 2e9
    network, rows = load_network(find_checkpoint(str(tmp_path / "Jan4"))), rows_of(64)
    with torch.no_grad():
        expected = model(rows)
        assert (network.head(network.read(rows)) - expected).abs().max() <= 1e-5
        assert expected.std() > 0.1
