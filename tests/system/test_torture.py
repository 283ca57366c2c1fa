"""A slice of `make torture`: killed commands, full disks, read-only folders, jumping clocks, and many commands at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("torture.py")


def tortured(*options: str) -> str:
    """Run the driver in a separate process, and return its output; it must find no failure."""
    pytest.importorskip("ccxt")
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, errors="replace", check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    return done.stdout


def test_ten_kills_leave_nothing_that_only_looks_whole() -> None:
    """If this fails, a killed command leaves a torn run, loses a finished one, or gives another result the second time."""
    printed = tortured("--kills", "10", "--seed", "3")
    assert "seed 3: 10 kills, 0 failures" in printed


def test_full_disks_read_only_folders_sigterm_and_jumping_clocks() -> None:
    """If this fails, a fault ends in a traceback, in half a file, or in the loss of existing files."""
    printed = tortured("--kills", "0", "--faults")
    assert len(re.findall(r"(SIGTERM after \d+%|a clock that jumps): passed", printed)) == 4 * 4
    assert len(re.findall(r"SIGTERM (in|below|twenty) [^:]*: passed, exit 130", printed)) == 4 * 6
    assert len(re.findall(r"SIG\w+ to all processes: passed", printed)) == 4 * 2
    assert len(re.findall(r"SIGTERM at \d+% of the imports: passed, exit 130", printed)) == 3 * 3
    if "skipped" in printed:
        pytest.skip("SIGTERM and clocks passed; mounting a disk to fill needs root")
    assert len(re.findall(r"(a disk with room for \d+%|a folder that is read-only): passed", printed)) == 4 * 6


def test_eight_runs_and_two_trainings_at_once_are_all_right() -> None:
    """If this fails, two processes take one name, write into one folder, or lose lines of the trial log."""
    printed = tortured("--kills", "0", "--together")
    assert printed.count("at once: passed") == 4
