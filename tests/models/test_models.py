"""Networks, checkpoints and scoring: the same logits on every path, and an error where that is impossible."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_logits import network_logits
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from flagbt.data.bars import Bars
from flagbt.data.time_range import TimeRange
from flagbt.errors import CheckpointError, DeviceError, RangeError, UsageError
from flagbt.models.calibration import Calibration
from flagbt.models.checkpoint import Checkpoint, StoredCalibration, checkpoint_places, find_checkpoint, read_checkpoint
from flagbt.models.decision import Decision
from flagbt.models.device import pick_device
from flagbt.models.kinds.architecture import Architecture
from flagbt.models.kinds.llama import BarTransformer
from flagbt.models.kinds.llama_attention import band_attention, block_masks
from flagbt.models.kinds.network import architecture_of, load_network, load_unmerged
from flagbt.models.kinds.scoring import ScoringOptions, score
from flagbt.models.model_signals import ModelSignals
from flagbt.models.overlap import check_overlap

Walk = Callable[..., Bars]
Future = Callable[[Bars, int], Bars]
CPU = torch.device("cpu")


def logits(checkpoint: Checkpoint, bars: Bars, first: int = 0, stop: int | None = None, **options: Any) -> np.ndarray:
    """Score bars with a checkpoint's merged network."""
    model, schema, architecture = load_network(checkpoint), checkpoint.schema, architecture_of(checkpoint)
    return score(
        model,
        schema.rows(bars),
        bars,
        architecture=architecture,
        warmup_bars=schema.warmup_bars,
        first=first,
        stop=stop,
        options=ScoringOptions(**options),
    )


def with_gaps(bars: Bars) -> Bars:
    """Leave some bars out, as exchanges do."""
    keep = np.ones(len(bars), dtype=bool)
    keep[[300, 301, 302, 410, 555]] = False
    columns = {name: getattr(bars, name)[keep] for name in ("open", "high", "low", "close", "volume")}
    return Bars(bars.time[keep], **columns, step=bars.step)


@pytest.mark.parametrize("name", ["Jan4", "Jan19", "Jan19-sqrt", "focal"])
def test_bundled_logits_do_not_see_the_future(walk: Walk, other_future: Future, name: str) -> None:
    """If it fails, logits depend on later bars, and every backtest of them is invalid."""
    bars, t = walk(700, seed=3), 520
    checkpoint = find_checkpoint(name)
    before, after = logits(checkpoint, bars)[: t + 1], logits(checkpoint, other_future(bars, t))[: t + 1]
    assert np.isfinite(before).all(axis=1).sum() > 200
    assert np.array_equal(before, after, equal_nan=True)


def test_a_network_without_the_mask_is_caught(walk: Walk, other_future: Future, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, the check above passes even without a causal mask."""
    monkeypatch.setattr(
        "flagbt.models.kinds.llama.block_masks", lambda n, context, device: torch.ones_like(block_masks(n, context, device))
    )
    monkeypatch.setattr("flagbt.models.kinds.network.check_fingerprint", lambda model, checkpoint: None)
    bars, t = walk(700, seed=3), 520
    checkpoint = find_checkpoint("Jan4")
    before, after = logits(checkpoint, bars)[: t + 1], logits(checkpoint, other_future(bars, t))[: t + 1]
    assert not np.array_equal(before, after, equal_nan=True)


@pytest.mark.parametrize("gaps", [False, True])
def test_logits_do_not_depend_on_the_scored_range(nano: Checkpoint, walk: Walk, gaps: bool) -> None:
    """If it fails, a model's decisions change with the time range."""
    bars = with_gaps(walk(900, seed=4)) if gaps else walk(900, seed=4)
    whole = logits(nano, bars)
    warmup = nano.schema.warmup_bars + architecture_of(nano).receptive_bars
    shorter = logits(nano, bars.take(slice(0, 640)))
    later = logits(nano, bars.take(slice(131, len(bars))))
    assert np.isfinite(whole[warmup:]).all()
    assert np.isnan(whole[:warmup]).all()
    assert np.array_equal(whole[:640], shorter, equal_nan=True)
    assert np.abs(whole[131 + warmup :] - later[warmup:]).max() <= 1e-5
    if not gaps:
        assert np.array_equal(whole[131 + warmup :], later[warmup:])


def test_logits_of_a_part_are_those_of_the_whole(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, scoring a part gives different logits than scoring the whole."""
    bars = walk(700, seed=4)
    part = logits(nano, bars, first=400, stop=501)
    assert np.array_equal(part[400:501], logits(nano, bars)[400:501])
    assert np.isnan(part[:400]).all()
    assert np.isnan(part[501:]).all()


@pytest.mark.parametrize("name", ["nano", "Jan4"])
def test_batch_sizes_agree_with_bar_by_bar(name: str, nano: Checkpoint, walk: Walk) -> None:
    """If it fails, the batch size changes logits, and results depend on the free memory."""
    checkpoint = nano if name == "nano" else find_checkpoint(name)
    bars = with_gaps(walk(1200, seed=6))
    whole = logits(checkpoint, bars)
    scored = np.isfinite(whole).all(axis=1)
    for batch in (1, 7, 4096):
        assert np.abs(logits(checkpoint, bars, batch_chunks=batch) - whole)[scored].max() <= 1e-5
    slow = logits(checkpoint, bars, bar_by_bar=True, first=700, stop=760)
    assert np.abs(slow - whole)[700:760].max() <= 1e-5


@pytest.mark.parametrize("batch", [1, 7, 4096])
def test_batch_sizes_give_the_same_signals(batch: int, nano: Checkpoint, walk: Walk) -> None:
    """If it fails, the batch size changes signals, and so trades."""
    bars, stored = walk(900, seed=8), nano.stored_calibration()
    model = ModelSignals(checkpoint=nano, calibration=stored.calibration, decision=stored.decision, device="cpu")
    assert np.array_equal(replace(model, batch_chunks=batch)(bars).signal, model(bars).signal)


def test_the_model_ignores_bars_before_its_receptive_field(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, the warm-up bars are not enough history."""
    architecture = architecture_of(nano)
    rows = nano.schema.rows(walk(400))[200:]
    model, r = load_network(nano), architecture.receptive_bars
    other = rows.copy()
    other[: 100 - r] = 0
    assert np.array_equal(network_logits(model, rows)[100:], network_logits(model, other)[100:])
    other[100 - r] = 5
    assert not np.array_equal(network_logits(model, rows)[100], network_logits(model, other)[100])


def test_merged_and_unmerged_agree(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, merging the adapter gives another model, or the adapter has no effect."""
    rows = nano.schema.rows(walk(400))[200:300]
    whole, apart = network_logits(load_network(nano), rows), network_logits(load_unmerged(nano), rows)
    assert np.abs(whole - apart).max() <= 1e-4
    bare = load_unmerged(nano)
    with bare.disable_adapter():
        assert np.abs(network_logits(bare, rows) - whole).max() > 1e-3


def damaged(checkpoint: Checkpoint, folder: Path, change: Callable[[dict], None]) -> Checkpoint:
    """Copy a checkpoint with an edited description."""
    shutil.copytree(checkpoint.folder, folder)
    values = json.loads((folder / "checkpoint.json").read_text())
    change(values)
    (folder / "checkpoint.json").write_text(json.dumps(values))
    return read_checkpoint(folder)


@pytest.mark.parametrize(("field", "value"), [("heads", 4), ("context_bars", 16), ("context_bars", 4)])
def test_knobs_that_no_shape_reveals_are_caught(nano: Checkpoint, tmp_path: Path, field: str, value: int) -> None:
    """If it fails, a wrong head count loads without any error, since no tensor shape depends on it."""
    broken = damaged(nano, tmp_path / "broken", lambda values: values["architecture"].__setitem__(field, value))
    with pytest.raises(CheckpointError, match="not the one that was saved"):
        load_network(broken)


@pytest.mark.parametrize("file", ["base.safetensors", "adapter.safetensors", "fingerprint.safetensors"])
def test_damaged_and_missing_files_are_named(nano: Checkpoint, tmp_path: Path, file: str) -> None:
    """If it fails, an incomplete copy of a checkpoint runs."""
    copy = damaged(nano, tmp_path / "copy", lambda values: None)
    (copy.folder / file).write_bytes((copy.folder / file).read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=f"{file} differs from what was saved"):
        load_network(copy)
    (copy.folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} is missing"):
        load_network(copy)


def test_an_adapter_that_lost_its_head_is_refused(nano: Checkpoint, tmp_path: Path) -> None:
    """If it fails, a checkpoint without its trained head runs with a random one; PEFT saves no custom head by default."""
    copy = damaged(nano, tmp_path / "copy", lambda _values: None)
    copy = Checkpoint(copy.folder, {**copy.values, "files": {}})  # as if the digests were those of the changed files
    tensors = load_file(copy.folder / "adapter.safetensors")
    assert any("head" in name for name in tensors)
    save_file({name: t for name, t in tensors.items() if "head" not in name}, copy.folder / "adapter.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: .*head\.bias.* \(2 in all\)"):
        load_network(copy)
    save_file({name: torch.zeros_like(t) for name, t in tensors.items()}, copy.folder / "adapter.safetensors")
    with pytest.raises(CheckpointError, match="not the one that was saved"):
        load_network(copy)


def test_descriptions_that_are_damaged_or_newer_are_refused(nano: Checkpoint, tmp_path: Path) -> None:
    """If it fails, a damaged or newer description raises a KeyError later instead of a clear error."""
    with pytest.raises(CheckpointError, match="has the format 99; this flagbt reads up to 1"):
        damaged(nano, tmp_path / "newer", lambda values: values.update(format=99))
    with pytest.raises(CheckpointError, match="lacks schema"):
        damaged(nano, tmp_path / "lacking", lambda values: values.pop("schema"))
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path / "garbage")


def test_the_digest_covers_what_matters(nano: Checkpoint, tmp_path: Path) -> None:
    """If it fails, the digest misses other weights or ranges, or changes with a calibration."""
    other = damaged(nano, tmp_path / "other", lambda values: values["files"].update({"base.safetensors": "0"}))
    renamed = damaged(nano, tmp_path / "renamed", lambda values: None)
    kept = renamed.store_calibration("mine", StoredCalibration(Calibration("offset", offset=(1.0, 0.0, 0.0)), Decision()))
    assert other.digest != nano.digest
    assert renamed.digest == kept.digest == nano.digest
    assert read_checkpoint(kept.folder).stored_calibration("mine").calibration.offset == (1.0, 0.0, 0.0)
    with pytest.raises(CheckpointError, match="Did you mean 'mine'"):
        kept.stored_calibration("mime")


def test_names_resolve_in_order(nano: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a bundled checkpoint hides the user's checkpoint of the same name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLAGBT_HOME", str(tmp_path / "home"))
    assert find_checkpoint("Jan4").folder.parent.name == "bundled"
    shutil.copytree(nano.folder, tmp_path / "home" / "checkpoints" / "Jan4")
    assert find_checkpoint("Jan4").folder == tmp_path / "home" / "checkpoints" / "Jan4"
    shutil.copytree(nano.folder, tmp_path / "checkpoints" / "Jan4")
    assert find_checkpoint("Jan4").folder == Path("checkpoints/Jan4")
    assert checkpoint_places()["Jan4"] == Path("checkpoints/Jan4")
    assert find_checkpoint(str(nano.folder)).digest == nano.digest
    with pytest.raises(CheckpointError, match="Did you mean 'Jan19'"):
        find_checkpoint("Jan91")


def test_bundled_checkpoints_are_small_and_documented() -> None:
    """If it fails, bundled checkpoints bloat the installation, or their cards do not mark them as re-trainings."""
    for name in ("Jan4", "Jan19", "Jan19-sqrt", "focal"):
        checkpoint = find_checkpoint(name)
        size = sum(file.stat().st_size for file in checkpoint.folder.iterdir())
        assert size <= 4 * 1024 * 1024
        assert checkpoint.values["parameters"]["all"] < 900_000
        card = (checkpoint.folder / "README.md").read_text()
        assert "own small re-training" in card
        assert "On 2024" in card
        assert checkpoint.ranges["calibration"].stop <= np.datetime64("2024-01-01")
    assert find_checkpoint("Jan4").stored_calibration("report").calibration.offset == (3.0, -2.5, 1.0)


def test_bars_it_was_trained_on_are_refused(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, a model is tested on bars it has seen, the label's horizon included."""
    bars = walk(9000, seed=9, start="2023-01-01")
    none = Calibration()
    check_overlap(nano, none, bars, bars.between(TimeRange.parse("20230616T1600-")))
    for text in ("20230301-20230401", "20230601-20230702", "20221201-20230102"):
        with pytest.raises(RangeError, match="has seen bars of the requested range"):
            check_overlap(nano, none, bars, bars.between(TimeRange.parse(text)))
    fitted = replace(none, fitted_on="20230901-20231001")
    with pytest.raises(RangeError, match="fit of the calibration in use 20230901-20231001"):
        check_overlap(nano, fitted, bars, bars.between(TimeRange.parse("20230701-20230901")))  # touched by the horizon
    check_overlap(nano, fitted, bars, bars.between(TimeRange.parse("20230701-20230831T1800")))


def test_a_missing_gpu_is_an_error() -> None:
    """If it fails, flagbt silently falls back to the CPU, which takes hours."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="offers 0 CUDA device"):
        pick_device("cuda")
    with pytest.raises(UsageError, match="expected auto, cpu, cuda"):
        pick_device("tpu9")
    assert pick_device("auto") == CPU


def test_the_band_mask_is_the_context() -> None:
    """If it fails, a context of k is not k bars, itself included."""
    torch.manual_seed(0)
    architecture = Architecture(
        n_features=3, layers=1, d_model=8, heads=2, d_feedforward=16, context_bars=4, chunk_bars=32, dropout=0.0
    )
    model = BarTransformer(architecture).eval()
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    base = network_logits(model, rows)
    moved = []
    for at in range(12):
        other = rows.copy()
        other[at] += 1
        moved.append(np.flatnonzero(np.abs(network_logits(model, other) - base).max(axis=1) > 0).tolist())
    assert moved[5] == [5, 6, 7, 8]
    assert moved[11] == [11]


@pytest.mark.parametrize("context_bars", [1, 8, 40])
@pytest.mark.parametrize("length", [1, 31, 64, 101])
def test_attention_in_blocks_is_attention_under_the_whole_mask(context_bars: int, length: int) -> None:
    """If it fails, attention in blocks differs from attention under the whole mask."""
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, length, 8), torch.randn(2, 2, length, 8), torch.randn(2, 2, length, 8)
    found, _ = band_attention(nn.Identity(), query, key, value, block_masks(length, context_bars, CPU), scaling=0.3)
    distance = torch.arange(length)[:, None] - torch.arange(length)
    whole = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=(distance >= 0) & (distance < context_bars), scale=0.3, enable_gqa=True
    )
    assert torch.allclose(found, whole.transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("last", [1, 20, 87])
def test_the_last_positions_need_no_more_than_they_look_back_at(nano: Checkpoint, last: int) -> None:
    """If it fails, skipping unneeded positions changes the logits of the last ones."""
    model, architecture = load_network(nano), architecture_of(nano)
    rows = torch.randn(2, 87 + architecture.receptive_bars, architecture.n_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(rows, last), model(rows)[:, -last:], atol=1e-6)
