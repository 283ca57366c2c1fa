"""Measure the time of a sweep from cached logits, and that its memory does not grow with the settings.

    python benchmarks/sweep.py                # 1,000 settings over a year of hourly bars
    python benchmarks/sweep.py --memory       # 1,000 against 100,000 settings, over a month

The bars are a random walk, dated 2030, and the model is the bundled Jan19; its logits are scored once beforehand. The time
is that of the whole command in a separate process, from the start of Python to the written page.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

START, YEAR_BARS, HISTORY_BARS, HOLDOUT_BARS = "2030-01-01", 8_760, 400, 24 * 90
WORKERS = 2
MEASURED = """
import resource, sys
from flagbt.cli.main import run_command_line
sys.argv[0] = "flagbt"
try:
    run_command_line()
except SystemExit as stopped:
    assert not stopped.code, stopped.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr)
"""


def write_bars(path: Path) -> None:
    """Write a random walk: some history for the warm-up, a year, and three months for the winner."""
    n = HISTORY_BARS + YEAR_BARS + HOLDOUT_BARS
    random = np.random.default_rng(0)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 0.006, n)))
    open_ = np.concatenate([[30_000.0], close[:-1]])
    high, low = np.maximum(open_, close) * 1.002, np.minimum(open_, close) * 0.998
    index = pd.date_range(
        pd.Timestamp(START) - HISTORY_BARS * pd.Timedelta(hours=1), periods=n, freq="h", tz="UTC", name="time"
    )
    columns = {"open": open_, "high": high, "low": low, "close": close, "volume": random.lognormal(5, 1, n)}
    pd.DataFrame(columns, index=index).to_csv(path)


def swept(folder: Path, *options: str) -> tuple[dict, float, float]:
    """Run a sweep; return its output, its seconds, and the command's peak MiB."""
    command = [sys.executable, "-c", MEASURED, "sweep", "--ckpt", "Jan19", "--data", "bars.csv", "--json", *options]
    started = time.perf_counter()
    done = subprocess.run([*command, "--workers", str(WORKERS)], cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout), seconds, float(done.stderr.split()[-1])


def speed(folder: Path) -> None:
    """Time 1,000 settings over a year."""
    ranges = ["--timerange", "20300101-20310101", "--holdout", "20310101-20310401"]
    swept(folder, *ranges, "--out", "warm", "--check-share", "0")  # scores, and compiles the replay
    # 100 calibrations at 5 fees by 2 decisions.
    grid = ["--offsets", "grid:-4.5..4.5:1", "--fees", "grid:0..20:5", "--decisions", "argmax,utility"]
    found, seconds, _ = swept(folder, *ranges, *grid)
    phases, checked = found["seconds"], found["checked"]
    assert found["settings"] == 1_000
    who = f"{WORKERS} processes on {os.cpu_count()} cores"
    print(f"{found['settings']:,} settings over {YEAR_BARS:,} bars, {who}: {seconds:.1f} s in all")
    print(f"  without the check in Backtrader: {seconds - phases['check']:.1f} s")
    print(f"  the check: {phases['check']:.1f} s for {checked['settings']} settings, {checked['bars']:,} bars")
    for name in ("replay", "table", "overfitting", "winner"):
        print(f"  {name}: {phases[name]:.1f} s")


def memory(folder: Path) -> None:
    """Compare the peak memory of 1,000 settings with that of 100,000."""
    ranges = ["--timerange", "20300101-20300131", "--holdout", "20310101-20310131", "--check-share", "0"]
    swept(folder, *ranges, "--out", "warm")
    for values, step in ((10, 1), (100, 0.1)):
        grid = ["--offsets", f"grid:0..{(values - 1) * step:g}:{step:g}", "--fees", "grid:0..18:2"]
        found, seconds, peak = swept(folder, *ranges, *grid, "--out", f"memory-{values}", "--runs", f"runs-{values}")
        page = (folder / found["page"]).stat().st_size
        print(
            f"{found['settings']:,} settings: {peak:.0f} MiB in the command, page {page / 1e6:.2f} MB, {seconds:.0f} s",
            flush=True,
        )


def main() -> None:
    """Run the selected measurement, in a folder that is removed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["FLAGBT_HOME"] = f"{name}/home"
        write_bars(Path(name) / "bars.csv")
        (memory if options.memory else speed)(Path(name))


if __name__ == "__main__":
    main()
