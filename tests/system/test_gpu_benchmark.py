"""The GPU benchmark, dry-run on the CPU: it must be ready when a GPU is available."""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from flagbt.data.bundled_sample import generate_sample, load_sample
from flagbt.models.kinds.architecture import Architecture
from flagbt.models.kinds.llama import BarTransformer

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
MACHINE = {
    "device",
    "device_memory_mib",
    "cpu",
    "cpu_cores",
    "cpu_threads",
    "python",
    "torch",
    "cuda",
    "cudnn",
    "clocks_idle",
    "clocks_busy",
    "mm_size",
    "packages",
    "mm_bf16_flops",
    "mm_fp32_flops",
    "part_seconds",
}
SCORED = {
    "bars_scored",
    "cold_seconds",
    "warm_seconds",
    "cold_bars_per_second",
    "warm_bars_per_second",
    "flop_a_bar",
    "share_of_mm",
    "peak_memory_mib",
    "one_by_one_bars",
    "one_by_one_bars_per_second",
    "times_one_by_one",
}
TRAINED = {
    "samples",
    "epochs",
    "batch_chunks",
    "context_bars",
    "first_epoch_seconds",
    "first_epoch_steps",
    "steps_measured",
    "steps_wanted",
    "extrapolated",
    "seconds_measured",
    "ten_epochs_seconds",
    "samples_per_second",
    "flop_a_sample",
    "share_of_mm",
    "peak_memory_mib",
    "part_seconds",
}
COMPARED = {"bars_scored", "equal_signals", "equal_argmax", "largest_logit_difference", "median_logit_difference"}


def benchmark(
    folder: Path, *options: str, blocked: str | None = None
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the script as its user would, optionally with one package blocked; return the process and its JSON."""
    start = [sys.executable, str(SCRIPT)]
    if blocked is not None:
        code = f"import sys, runpy; sys.modules[{blocked!r}] = None; sys.argv = sys.argv[1:]; "
        code += f"sys.path.insert(0, {str(SCRIPT.parent)!r}); runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        start = [sys.executable, "-c", code, str(SCRIPT)]
    done = subprocess.run([*start, *options], cwd=folder, capture_output=True, text=True, check=False)
    output = folder / "gpu.json"
    return done, json.loads(output.read_text()) if output.exists() else {}


@pytest.mark.slow
def test_the_dry_run_fills_every_field(tmp_path: Path) -> None:
    """If this fails, minutes on a GPU end without a figure that the docs need."""
    done, record = benchmark(tmp_path, "--device", "cpu", "--quick")
    assert done.returncode == 0, done.stderr
    parts = record["parts"]
    assert list(parts) == ["machine", "scoring", "training", "equality"]
    assert set(parts["machine"]) == MACHINE
    assert set(parts["scoring"]) == {"bars", "bars_from", "bars_digest", "tiny", "88m", "part_seconds"}
    assert set(parts["scoring"]["tiny"]) == set(parts["scoring"]["88m"]) == SCORED
    assert set(parts["training"]) == TRAINED
    assert parts["training"]["extrapolated"]
    assert parts["training"]["steps_measured"] == 3
    assert parts["training"]["samples"] == 43_793
    assert parts["training"]["epochs"] == 10
    for each in parts["equality"]["checkpoints"].values():
        assert set(each["cpu_fp32"]) == COMPARED
        assert set(each["other_batch"]) == COMPARED | {"batch_chunks"}
        assert each["cpu_fp32"]["equal_signals"] == 1.0  # the CPU against itself
    for share in (parts["scoring"]["tiny"], parts["scoring"]["88m"], parts["training"]):
        assert 0 < share["share_of_mm"] < 1.5
        assert math.isfinite(share["peak_memory_mib"])
    table = (tmp_path / "gpu.md").read_text()
    assert "extrapolated from 3 of 300 steps" in table
    assert "not measured" not in table
    assert table.count("\n| ") == table.count(" |\n") - 1  # every row is whole


def test_a_missing_package_costs_its_parts_only(tmp_path: Path) -> None:
    """If this fails, one forgotten wheel costs every other figure."""
    done, record = benchmark(tmp_path, "--device", "cpu", "--quick", "--parts", "training,machine", blocked="peft")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "training: not measured: " in done.stderr
    assert "peft" in done.stderr
    assert "error" in record["parts"]["training"]
    assert record["parts"]["machine"]["mm_fp32_flops"] > 0


@pytest.mark.slow
def test_memory_that_runs_out_costs_its_part_only(tmp_path: Path) -> None:
    """If this fails, a card too small for the training leaves no figure of anything else."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (7 * 2**29, 7 * 2**29))

    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--quick", "--parts", "training,machine"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "training: not measured: " in done.stderr
    assert "memory" in done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert "error" in parts["training"]
    assert parts["machine"]["mm_fp32_flops"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_one_line_and_a_dry_run(tmp_path: Path) -> None:
    """If this fails, a machine whose driver is broken gives CPU figures under a GPU's name, or nothing."""
    done, record = benchmark(tmp_path, "--device", "cuda", "--parts", "machine")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "finds no CUDA device here" in done.stderr
    assert (record["device_wanted"], record["device_used"], record["quick"]) == ("cuda", "cpu", True)
    assert record["parts"]["machine"]["mm_bf16_flops"] > 0


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    """If this fails, a typing error is found only when a GPU is available and waits."""
    done, record = benchmark(tmp_path, "--parts", "scorign")
    assert done.returncode == 2
    assert "'scorign' is unknown, expected machine, scoring, training, equality" in done.stderr
    assert not record


def test_useful_operations_are_those_that_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, every share of the matrix rate is wrong: torch counts the products of one whole chunk."""
    from torch.utils.flop_counter import FlopCounterMode

    a = Architecture(n_features=5, layers=3, d_model=64, heads=2, d_feedforward=96, context_bars=32, chunk_bars=256)
    rows = torch.zeros(1, a.chunk_bars, a.n_features)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        BarTransformer(a)(rows)
    done = {str(name): sum(counts.values()) for name, counts in counter.get_flop_counts().items()}["Global"]
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    found = importlib.import_module("gpu_parts").forward_operations(a)
    # Blocks of attention hold twice the band: masked products are computed, and are not useful.
    masked = a.layers * 2 * 2 * a.context_bars * a.d_model * a.chunk_bars
    assert found * a.chunk_bars == pytest.approx(done - masked, rel=1e-9)


def test_generated_bars_are_those_of_the_sample_and_of_any_length() -> None:
    """If this fails, the bundled sample cannot be generated again, or a benchmark's bars are not the hours it names."""
    assert generate_sample().digest == load_sample().digest
    bars = generate_sample(first_bar=load_sample().time[13], n_bars=50)
    assert len(bars) == 50
    assert bars.time[0] == load_sample().time[13]
