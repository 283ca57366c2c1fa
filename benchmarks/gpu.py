"""What a GPU gives: matrix rates, scoring, training and equal signals, in one command: `python benchmarks/gpu.py`.

    python benchmarks/gpu.py                          # at most 8 minutes on a CUDA device
    python benchmarks/gpu.py --device cpu --quick     # a dry run of every part, under two minutes

After every part it writes a JSON file and, beside it, the table for docs/benchmarks.md: a run that is cut off leaves what it
measured. A part that fails (a package is missing, memory runs out) leaves one line, and the others run.

flagbt runs from the checkout, whatever its folder is called, without being installed. What a machine with nothing but Python
3.12, torch and CUDA needs beside it are these wheels, 58 MiB in all (numpy, pandas, regex, pyyaml and pydantic_core are those
for cp312 on x86-64 Linux; the rest fit every Python)::

    accelerate-1.15.0 annotated_doc-0.0.7 annotated_types-0.8.0 anyio-4.16.0 click-8.5.1 filelock-4.3.1 fsspec-2026.9.0
    h11-0.16.0 hf_xet-1.8.0 httpcore2-2.16.2 httpx2-2.16.2 huggingface_hub-2.4.0 idna-3.20 markdown_it_py-4.3.0 mdurl-0.1.2
    numpy-2.4.6 packaging-26.4 pandas-3.1.1 peft-0.21.2 psutil-7.2.2 pydantic-2.14.4 pydantic_core-2.50.5 pygments-2.21.0
    python_dateutil-4.0.0 pyyaml-6.0.4 regex-2026.11.19 rich-15.0.0 safetensors-0.8.0 shellingham-1.5.4 tokenizers-0.23.3
    tqdm-4.70.1 transformers-5.23.0 truststore-0.10.5 typer-0.29.2 typing_extensions-4.16.0 typing_inspection-0.4.5

``pip download --only-binary=:all: --python-version 3.12`` with ``--platform manylinux_2_28_x86_64`` and ``--platform
manylinux2014_x86_64`` fetches them on another machine, ``accelerate`` and ``peft`` with ``--no-deps``, which leaves torch out.
pyarrow (52 MiB) is needed only where ``--bars`` is a Parquet or Feather file. Without
``--bars``, ``flagbt.data.bundled_sample`` makes the bars.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BARS = 43_816  # hourly bars of 2020-2024, gaps left out
EPOCHS = 10
QUICK_STEPS = 3
SEED = 0
CHECKPOINTS = ("Jan4", "Jan19", "Jan19-sqrt", "focal")
OTHER_BATCH_CHUNKS = 7
MACHINE, SCORING, TRAINING, EQUALITY = "machine", "scoring", "training", "equality"
Row = tuple[str, str]  # what was measured, and the result as text


@dataclass
class Setting:
    """What every part is given: where it computes, on what, until when, and what the parts before it found.

    Attributes
    ----------
    device : str
        ``cuda`` or ``cpu``.
    quick : bool
        A dry run: fewer bars, fewer repetitions.
    bars_file : Path, optional
    deadline : float
        On ``time.monotonic``'s clock; what would run past it is measured in part and marked as extrapolated.
    found : dict
        The figures of the parts that are done, by the part's name.
    """

    device: str
    quick: bool
    bars_file: Path | None
    deadline: float
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def bars(self) -> Any:
        """Return the bars to score: the file's, or made ones."""
        import numpy as np

        from flagbt.data.bundled_sample import generate_sample
        from flagbt.data.readers import read_bars

        wanted = 6_000 if self.quick else BARS
        if self.bars_file is None:
            return generate_sample(first_bar=np.datetime64("2020-01-01", "ns"), n_bars=wanted)
        bars = read_bars(self.bars_file)
        return bars.take(slice(max(0, len(bars) - wanted), len(bars)))

    def share(self, operations_a_second: float) -> tuple[float | None, str]:
        """Return the share of the measured rate of torch.mm, and the same as text; None where that was not measured."""
        rate = self.found.get(MACHINE, {}).get(f"mm_{self.dtype()}_flops")
        if rate is None:
            return None, f"{operations_a_second / 1e12:.3g} TFLOP/s"
        return operations_a_second / rate, f"{100 * operations_a_second / rate:.2g} % of torch.mm in {self.dtype()}"

    def dtype(self) -> str:
        """Return the type that flagbt computes in on this device."""
        return "bf16" if self.device == "cuda" else "fp32"

    def synchronise(self) -> None:
        """Wait for the device's work, so that a clock read afterwards counts it."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def start_of_memory(self) -> None:
        """Forget the peak so far; a process's own peak on the CPU cannot be forgotten."""
        if self.device == "cuda":
            import torch

            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_memory_mib(self) -> float:
        """Return the peak of the device's allocated memory since ``start_of_memory``; of the process on the CPU."""
        if self.device == "cuda":
            import torch

            return float(torch.cuda.max_memory_allocated() / 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def timed(self, work: Callable[[], Any]) -> float:
        """Return the seconds of one call, the device's work included."""
        self.synchronise()
        started = time.perf_counter()
        work()
        self.synchronise()
        return time.perf_counter() - started


def median(values: list[float]) -> float:
    """Return the median, the lower one of two."""
    return sorted(values)[(len(values) - 1) // 2]


# 1. The machine


def machine(setting: Setting) -> tuple[dict[str, Any], list[Row]]:
    """Measure what the device can do at best: the reference for every share below."""
    import torch

    size = 8_192 if setting.device == "cuda" else 1_024
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if setting.device == "cuda" else _processor(),
        "device_memory_mib": torch.cuda.get_device_properties(0).total_memory // 2**20 if setting.device == "cuda" else None,
        "cpu": _processor(),
        "cpu_cores": os.cpu_count(),
        "cpu_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if setting.device == "cuda" else None,
        "clocks_idle": _clocks(setting),
        "mm_size": size,
    }
    found["packages"] = {name: _version(name) for name in ("transformers", "peft", "accelerate", "numpy", "pandas")}
    for dtype, kind in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        found[f"mm_{dtype}_flops"] = _multiplied(setting, kind, size)
    found["clocks_busy"] = _clocks(setting)
    rows = [
        ("device", str(found["device"])),
        ("driver, clocks (SM, memory) after the products, power limit", found["clocks_busy"] or "not an NVIDIA device"),
        ("processor", f"{found['cpu']}, {found['cpu_cores']} cores, torch uses {found['cpu_threads']} threads"),
        ("software", f"Python {found['python']}, torch {found['torch']}, CUDA {found['cuda'] or 'none'}"),
        *(
            (f"torch.mm, {size:,} x {size:,}, {dtype}", f"{found[f'mm_{dtype}_flops'] / 1e12:,.2f} TFLOP/s")
            for dtype in ("bf16", "fp32")
        ),
    ]
    return found, rows


def _multiplied(setting: Setting, dtype: Any, size: int) -> float:
    import torch

    random = torch.Generator(setting.device).manual_seed(SEED)
    left, right = (torch.randn(size, size, device=setting.device, generator=random).to(dtype) for _ in range(2))
    for _ in range(3):
        torch.mm(left, right)
    repeats = 20 if setting.device == "cuda" else 3
    seconds = [setting.timed(lambda: torch.mm(left, right)) for _ in range(repeats)]
    return 2 * size**3 / median(seconds)


def _clocks(setting: Setting) -> str | None:
    if setting.device != "cuda":
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.mem,power.limit", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.strip().split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


# 2. Scoring


def scoring(setting: Setting) -> tuple[dict[str, Any], list[Row]]:
    """Score all bars with a bundled checkpoint and with 88m, and a few bars one window at a time on the CPU."""
    import torch

    from flagbt.models.architecture import PRESETS, Architecture
    from flagbt.models.checkpoint import find_checkpoint
    from flagbt.models.kinds.llama import BarTransformer
    from flagbt.models.network import load_network

    bars, checkpoint = setting.bars(), find_checkpoint(CHECKPOINTS[0])
    rows_in = checkpoint.schema.rows(bars)
    large = Architecture(n_features=rows_in.shape[1], **PRESETS["88m"])
    torch.manual_seed(SEED)
    networks: dict[str, tuple[Any, Any, int, int]] = {  # network, architecture, bars scored, bars one by one
        "tiny": (load_network(checkpoint), checkpoint.architecture, len(bars), 50 if setting.quick else 400),
        "88m": (BarTransformer(large), large, large.chunk_bars if setting.quick else len(bars), 2 if setting.quick else 16),
    }
    found: dict[str, Any] = {"bars": len(bars), "bars_from": bars.source, "bars_digest": bars.digest}
    table: list[Row] = []
    for name, (network, architecture, n_bars, one_by_one) in networks.items():
        each = _scored(setting, network, architecture, rows_in, bars, n_bars, one_by_one)
        each["share_of_mm"], share = setting.share(each["warm_bars_per_second"] * each["flop_a_bar"])
        found[name] = each
        table += [
            (f"scoring, {name}, {each['bars_scored']:,} bars, warm", f"{each['warm_bars_per_second']:,.0f} bars/s, {share}"),
            (f"scoring, {name}, the first time", f"{each['cold_bars_per_second']:,.0f} bars/s"),
            (f"scoring, {name}, peak memory", f"{each['peak_memory_mib']:,.0f} MiB"),
            (
                f"{name}, one window a bar on this machine's CPU, {each['one_by_one_bars']} bars",
                f"{each['one_by_one_bars_per_second']:,.1f} bars/s; in chunks {each['times_one_by_one']:,.0f} times as many",
            ),
        ]
    return found, table


def _scored(
    setting: Setting, network: Any, architecture: Any, rows: Any, bars: Any, n_bars: int, one_by_one: int
) -> dict[str, Any]:
    import torch

    from flagbt.models.scoring import ScoringOptions, score

    first, last = len(bars) - n_bars, len(bars)
    common = {"architecture": architecture, "warmup_bars": _warmup_bars(rows)}
    scored = last - max(first, common["warmup_bars"] + architecture.receptive_bars)
    setting.start_of_memory()
    network = network.to(setting.device)
    here, one = ScoringOptions(device=torch.device(setting.device)), ScoringOptions(bar_by_bar=True, batch_chunks=1)
    cold = setting.timed(lambda: score(network, rows, bars, options=here, first=first, **common))
    warm: list[float] = []
    while not warm or (len(warm) < (1 if setting.quick else 5) and time.monotonic() + 2 * max(warm) < setting.deadline):
        warm.append(setting.timed(lambda: score(network, rows, bars, options=here, first=first, **common)))
    memory = setting.peak_memory_mib()
    network = network.cpu()
    score(network, rows, bars, first=last - 1, options=one, **common)
    started = time.perf_counter()
    score(network, rows, bars, first=last - one_by_one, options=one, **common)
    slow = one_by_one / (time.perf_counter() - started)
    fast = scored / median(warm)
    return {
        "bars_scored": scored,
        "cold_seconds": cold,
        "warm_seconds": warm,
        "cold_bars_per_second": scored / cold,
        "warm_bars_per_second": fast,
        "flop_a_bar": forward_operations(architecture),
        "peak_memory_mib": memory,
        "one_by_one_bars": one_by_one,
        "one_by_one_bars_per_second": slow,
        "times_one_by_one": fast / slow,
    }


def _warmup_bars(rows: Any) -> int:
    import numpy as np

    return int(np.isnan(rows).any(axis=1).sum())


def forward_operations(architecture: Any) -> float:
    """Return the floating-point operations of one position's matrix products, each layer computed at it once.

    Queries, keys, values and output (4 d x d), the feed-forward layers (3 d x wide), products with a band of keys and of
    values, the embedding and the head. A chunk's memory, which is computed again for each chunk, is not in it, nor are masked
    products: they are not useful work.
    """
    a = architecture
    layer = 4 * a.d_model**2 + 3 * a.d_model * a.d_feedforward + 2 * a.context_bars * a.d_model
    return 2.0 * (a.layers * layer + a.n_features * a.d_model + 3 * a.d_model)


# 3. Training


class _EnoughError(Exception):
    """The steps that were to be measured are done."""


def training(setting: Setting) -> tuple[dict[str, Any], list[Row]]:
    """Train LoRA on 88m through flagbt's own loop: 10 epochs, or as many whole steps as the time allows."""
    import torch

    from flagbt.models.kinds.llama import BarTransformer
    from flagbt.models.network import Lora, with_lora
    from training import BARS as SAMPLES
    from training import LARGE, operations, stride
    from training import training as trainer

    batch_chunks = 1 if setting.quick else 4
    torch.manual_seed(SEED)
    setting.start_of_memory()
    train, samples = trainer(
        with_lora(BarTransformer(LARGE), Lora()), LARGE, batch_chunks, samples=SAMPLES, device=setting.device
    )
    seen: list[int] = []

    def on_step(progress: Any) -> None:
        seen.append(progress.steps)
        if (setting.quick and len(seen) >= QUICK_STEPS) or time.monotonic() > setting.deadline:
            raise _EnoughError

    def steps_of(epochs: int) -> tuple[float, int]:
        seen.clear()
        setting.synchronise()
        started = time.perf_counter()
        with suppress(_EnoughError):
            train(epochs, on_step)
        setting.synchronise()
        return time.perf_counter() - started, len(seen)

    cold_seconds, cold_steps = steps_of(1)
    seconds, steps = steps_of(EPOCHS)
    wanted = EPOCHS * seen[-1]
    whole = seconds * wanted / steps
    per_second = EPOCHS * samples / whole
    needed = operations(LARGE, Lora().rank) / stride(LARGE)
    share, share_text = setting.share(per_second * needed)
    found = {
        "samples": samples,
        "epochs": EPOCHS,
        "batch_chunks": batch_chunks,
        "context_bars": LARGE.context_bars,
        "first_epoch_seconds": cold_seconds,
        "first_epoch_steps": cold_steps,
        "steps_measured": steps,
        "steps_wanted": wanted,
        "extrapolated": steps < wanted,
        "seconds_measured": seconds,
        "ten_epochs_seconds": whole,
        "samples_per_second": per_second,
        "flop_a_sample": needed,
        "share_of_mm": share,
        "peak_memory_mib": setting.peak_memory_mib(),
    }
    marked = f", extrapolated from {steps} of {wanted} steps" if found["extrapolated"] else ""
    return found, [
        (
            f"training, 88m, LoRA, context {LARGE.context_bars}, {batch_chunks} chunks a step",
            f"{per_second:,.0f} samples/s, {share_text}",
        ),
        (f"{EPOCHS} epochs over {samples:,} samples, validation left out", f"{whole:,.1f} s{marked}"),
        ("training, peak memory", f"{found['peak_memory_mib']:,.0f} MiB"),
    ]


# 4. Equality


def equality(setting: Setting) -> tuple[dict[str, Any], list[Row]]:
    """Compare the bundled checkpoints' logits and signals: this device and the CPU, and two batch sizes on this device."""
    import torch

    from flagbt.models.checkpoint import find_checkpoint
    from flagbt.models.network import load_network
    from flagbt.models.scoring import CPU_BATCH_CHUNKS, CUDA_BATCH_CHUNKS, ScoringOptions, score

    bars = setting.bars()
    usual = CUDA_BATCH_CHUNKS if setting.device == "cuda" else CPU_BATCH_CHUNKS
    found: dict[str, Any] = {"bars": len(bars), "bars_digest": bars.digest, "checkpoints": {}}
    table: list[Row] = []
    for name in CHECKPOINTS:
        checkpoint = find_checkpoint(name)
        rows = checkpoint.schema.rows(bars)
        network = load_network(checkpoint)
        common = {"architecture": checkpoint.architecture, "warmup_bars": checkpoint.schema.warmup_bars}
        on_cpu = score(network, rows, bars, options=ScoringOptions(device=torch.device("cpu")), **common)
        network, device = network.to(setting.device), torch.device(setting.device)
        here = score(network, rows, bars, options=ScoringOptions(device=device), **common)
        other = ScoringOptions(device=device, batch_chunks=OTHER_BATCH_CHUNKS)
        otherwise = score(network, rows, bars, options=other, **common)
        found["checkpoints"][name] = {
            "cpu_fp32": _compared(checkpoint, here, on_cpu),
            "other_batch": {"batch_chunks": [usual, OTHER_BATCH_CHUNKS], **_compared(checkpoint, here, otherwise)},
        }
        pairs = (
            ("cpu_fp32", f"{setting.device} in {setting.dtype()} and CPU in fp32"),
            ("other_batch", f"batches of {usual} and of {OTHER_BATCH_CHUNKS} chunks"),
        )
        for key, pair in pairs:
            each = found["checkpoints"][name][key]
            signals = f"signals equal at {100 * each['equal_signals']:.3f} % of {each['bars_scored']:,} bars"
            table.append((f"{name}, {pair}", f"{signals}, logits within {each['largest_logit_difference']:.2g}"))
    return found, table


def _compared(checkpoint: Any, ours: Any, theirs: Any) -> dict[str, Any]:
    import numpy as np

    from flagbt.models.decision import DEFAULT_ROUND_TRIP_COST

    scored = np.isfinite(theirs).all(axis=1)
    stored = checkpoint.stored_calibration()
    one, other = (
        stored.decision(
            stored.calibration(logits), class_returns=checkpoint.class_returns, round_trip_cost=DEFAULT_ROUND_TRIP_COST
        )[scored]
        for logits in (ours, theirs)
    )
    difference = np.abs(ours[scored] - theirs[scored])
    return {
        "bars_scored": int(scored.sum()),
        "equal_signals": float((one == other).mean()),
        "equal_argmax": float((ours[scored].argmax(axis=1) == theirs[scored].argmax(axis=1)).mean()),
        "largest_logit_difference": float(difference.max()),
        "median_logit_difference": float(np.median(difference)),
    }


# 5. All parts, in order. A later part (a language model, say) is one more function here.
PARTS: dict[str, Callable[[Setting], tuple[dict[str, Any], list[Row]]]] = {
    MACHINE: machine,
    SCORING: scoring,
    TRAINING: training,
    EQUALITY: equality,
}


def import_flagbt_from_checkout() -> None:
    """Make ``import flagbt`` find this checkout, whatever its folder is called and whatever is installed."""
    spec = importlib.util.spec_from_file_location("flagbt", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    if spec is None or spec.loader is None:
        raise SystemExit(f"{ROOT} is not a checkout of flagbt: its __init__.py cannot be loaded.")
    sys.modules["flagbt"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def table_of(parts: dict[str, list[Row]]) -> str:
    """Return all rows as a Markdown table."""
    lines = [f"| {what} | {result} |" for rows in parts.values() for what, result in rows]
    return "\n".join(["| what | result |", "| --- | --- |", *lines]) + "\n"


def write(output: Path, record: dict[str, Any], rows: dict[str, list[Row]]) -> None:
    """Write the figures, and the table beside them; each file whole or not at all."""
    for path, text in ((output, json.dumps(record, indent=2) + "\n"), (output.with_suffix(".md"), table_of(rows))):
        new = path.with_name(path.name + ".new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)


def measure(setting: Setting, names: list[str], output: Path, record: dict[str, Any]) -> bool:
    """Run the parts and write after each; tell whether all of them ran."""
    rows: dict[str, list[Row]] = {}
    for name in names:
        started = time.monotonic()
        try:
            setting.found[name], rows[name] = PARTS[name](setting)
        except ImportError as error:
            setting.found[name] = {"error": f"{error}. Install the wheels that this script's docstring lists."}
        except (MemoryError, RuntimeError, sys.modules["flagbt"].FlagbtError) as error:  # torch's are RuntimeErrors
            setting.found[name] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        setting.found[name]["part_seconds"] = time.monotonic() - started
        failed = setting.found[name].get("error")
        if failed:
            rows[name] = [(name, f"not measured: {failed}")]
            print(f"{name}: not measured: {failed}", file=sys.stderr)
        for what, result in rows[name] if not failed else ():
            print(f"{what}: {result}", flush=True)
        record["parts"] = setting.found
        write(output, record, rows)
    return not any("error" in found for found in setting.found.values())


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="Measure flagbt on a GPU, or dry-run the same on the CPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="A dry run: fewer bars, few steps.")
    parser.add_argument("--bars", type=Path, help="A file of hourly bars; without it they are made.")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="The table lies beside it, as .md.")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"Some of {', '.join(PARTS)}, with commas between.")
    parser.add_argument("--minutes", type=float, default=7.0, help="What would run longer is extrapolated.")
    options = parser.parse_args()
    names = options.parts.split(",")
    for name in names:
        if name not in PARTS:
            parser.error(f"--parts: '{name}' is unknown, expected {', '.join(PARTS)}")
    try:
        import torch
    except ImportError as error:
        raise SystemExit(f"{error}. This benchmark needs torch: install the build for this machine's CUDA.") from None
    import_flagbt_from_checkout()
    available = options.device == "cpu" or torch.cuda.is_available()
    if not available:
        print(
            f"--device cuda: torch {torch.__version__} finds no CUDA device here. A dry run on the CPU follows instead; "
            "install a CUDA build of torch, or see nvidia-smi.",
            file=sys.stderr,
        )
    setting = Setting(
        device=options.device if available else "cpu",
        quick=options.quick or not available,
        bars_file=options.bars,
        deadline=time.monotonic() + 60 * options.minutes,
    )
    record = {
        "command": ["python", "benchmarks/gpu.py", *sys.argv[1:]],
        "flagbt": sys.modules["flagbt"].__version__,
        "device_wanted": options.device,
        "device_used": setting.device,
        "quick": setting.quick,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    complete = measure(setting, names, options.output, record)
    print(f"written: {options.output} and {options.output.with_suffix('.md')}")
    sys.exit(0 if complete and available else 1)


if __name__ == "__main__":
    main()
