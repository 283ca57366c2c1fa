"""Measure the time and memory of importing an original checkpoint of full size: `python benchmarks/importing.py`.

The weights are random and written to a temporary folder; the import runs in a separate process, as a user's does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


def original() -> torch.nn.Module:
    """Return the tests' plain implementation of the original architecture, at full size."""
    source = importlib.util.spec_from_file_location("original", ROOT / "tests" / "support" / "original_checkpoint.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    model: torch.nn.Module = module.Original(12, False)
    return model


def timed(folder: Path, *arguments: str) -> tuple[float, float, float]:
    """Return a command's wall-clock and CPU seconds, and its peak memory (GB); it must succeed."""
    command = [sys.executable, "-m", "flagbt", *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with {status}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    """Print the size of the file, the seconds and the peak memory, as JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(original().state_dict(), folder / "Jan4.pt")
        size = (folder / "Jan4.pt").stat().st_size
        command = ["ckpt", "import", "Jan4.pt", "--name", "Jan4", "--heads", "12", "--context", "64", "--no-causal"]
        seconds, processor, gigabytes = timed(folder, *command)
        again, _, _ = timed(folder, "ckpt", "export", "Jan4", "--format", "merged", "--output", "merged.safetensors")
    result = {
        "file_mb": size / 1e6,
        "import_seconds": seconds,
        "import_processor_seconds": processor,
        "import_peak_gb": gigabytes,
        "export_seconds": again,
    }
    print(json.dumps({key: round(value, 2) for key, value in result.items()}))


if __name__ == "__main__":
    main()
