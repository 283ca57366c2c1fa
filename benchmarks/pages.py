"""Measure the pages: seconds and bytes of a year's tearsheet, and of a comparison of ten runs.

    python benchmarks/pages.py

Runs on the bundled SYNTHETIC sample. Each page is made in a separate process, as by `flagbt report` and `flagbt compare`: the
measurement covers the whole command, including the start of Python.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flagbt.engine.costs import Costs
from flagbt.engine.run_request import RunRequest
from flagbt.results.store import list_runs
from flagbt.workflows.backtest import backtest_request
from flagbt.workflows.run import save_run

REPEATS = 3


def seconds_of(*arguments: str) -> tuple[float, float]:
    """Return the fastest of several runs of a command, and the least CPU time: the others waited for other processes."""
    elapsed, worked = [], []
    for _ in range(REPEATS):
        started, before = time.perf_counter(), _cpu_seconds()
        subprocess.run([sys.executable, "-m", "flagbt", *arguments], check=True, capture_output=True)
        elapsed.append(time.perf_counter() - started)
        worked.append(_cpu_seconds() - before)
    return min(elapsed), min(worked)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    print(f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}, the fastest of {REPEATS}")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "runs"
        folder = save_run(backtest_request(RunRequest(ckpt="Jan4"), runs=out), out).folder
        for fee_bps in range(1, 10):
            request = RunRequest(strategy="sma-cross", costs=Costs(fee_bps=float(fee_bps)))
            save_run(backtest_request(request, runs=out), out)
        page = Path(scratch) / "compare.html"
        rows = {
            "tearsheet of 8,784 hourly bars": (seconds_of("report", folder.name, "--out", str(out)), folder / "tearsheet.html"),
            "comparison of 10 runs": (
                seconds_of("compare", *(each.name for each in list_runs(out)), "--out", str(out), "-o", str(page)),
                page,
            ),
        }
        for name, ((seconds, worked), path) in rows.items():
            print(f"{name}: {seconds:.1f} s ({worked:.1f} s of CPU), {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
