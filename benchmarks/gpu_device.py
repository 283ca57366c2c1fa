"""The device of a GPU benchmark: its clock and memory, the bars, and what the machine can do at best."""

from __future__ import annotations

import gc
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BARS = 43_816  # hourly bars of 2020-2024, gaps left out
SEED = 0
MACHINE = "machine"
Row = tuple[str, str]  # what was measured, and the result as text
Part = tuple[dict[str, Any], list[Row]]  # the figures for the JSON file, and the rows for the table


@dataclass
class Setting:
    """The setting of every part: where it computes, on what, until when, and what the parts before it found.

    Attributes
    ----------
    device : str
        ``cuda`` or ``cpu``.
    quick : bool
        A dry run: fewer bars, fewer repetitions.
    bars_file : Path, optional
    deadline : float
        On ``time.monotonic``'s clock; a measurement that would run past it is extrapolated and marked as such.
    found : dict
        The figures of the finished parts, by the part's name.
    """

    device: str
    quick: bool
    bars_file: Path | None
    deadline: float
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def bars(self) -> Any:
        """Return the bars to score: the file's, or generated ones."""
        import numpy as np

        from flagbt.data.bundled_sample import generate_sample
        from flagbt.data.readers import read_bars

        wanted = 6_000 if self.quick else BARS
        if self.bars_file is None:
            return generate_sample(first_bar=np.datetime64("2020-01-01", "ns"), n_bars=wanted)
        bars = read_bars(self.bars_file)
        return bars.take(slice(max(0, len(bars) - wanted), len(bars)))

    def share(self, operations_a_second: float) -> tuple[float | None, str]:
        """Return the share of the measured rate of torch.mm, as a number (None where not measured) and as text."""
        rate = self.found.get(MACHINE, {}).get(f"mm_{self.dtype()}_flops")
        if rate is None:
            return None, f"{operations_a_second / 1e12:.3g} TFLOP/s"
        return operations_a_second / rate, f"{100 * operations_a_second / rate:.2g} % of torch.mm in {self.dtype()}"

    def dtype(self) -> str:
        """Return the type in which flagbt computes on this device."""
        return "bf16" if self.device == "cuda" else "fp32"

    def synchronise(self) -> None:
        """Wait for the device's work, so that a clock read afterwards includes it."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def start_of_memory(self) -> None:
        """Reset the peak so far; a process's own peak on the CPU cannot be reset."""
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
        """Return the seconds of one call, including the device's work."""
        self.synchronise()
        started = time.perf_counter()
        work()
        self.synchronise()
        return time.perf_counter() - started


def median(values: list[float]) -> float:
    """Return the median, the lower one of two."""
    return sorted(values)[(len(values) - 1) // 2]


def machine(setting: Setting) -> Part:
    """Measure what the device can do at best: the reference for every share."""
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
