"""The progress of a training: the time left is measured, and shown only in a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flagbt.cli.console import StepClock
from flagbt.data.bars import Bars
from flagbt.data.readers import write_bars_csv
from flagbt.training.progress import StepProgress


def test_the_time_left_follows_from_the_steps_of_the_stage() -> None:
    """If it fails, the estimate counts steps before a resume or of another stage, and is too short."""
    times = iter([100.0, 100.0, 100.0, 106.0, 106.0, 106.0, 106.1, 500.0, 500.0, 500.0])
    clock = StepClock(lambda: next(times))
    resumed = StepProgress("training", 3, 1, 10, 31)
    assert clock.due(resumed)
    assert clock.line(resumed) == "training: epoch 1/3, step 10/31"  # no step is measured yet
    later = StepProgress("training", 3, 1, 13, 31)
    assert clock.due(later)
    assert clock.line(later) == "training: epoch 1/3, step 13/31, 2:40 left"  # 80 steps of 2 seconds
    assert not clock.due(StepProgress("training", 3, 1, 14, 31))  # a tenth of a second later
    other = StepProgress("walk", 1000, 1, 1, 31)
    assert clock.due(other)
    assert "left" not in clock.line(other)


@pytest.mark.slow
def test_the_time_left_is_shown_in_a_terminal_only(walk: Callable[..., Bars], tmp_path: Path) -> None:
    """If it fails, a repeated line fills a log file, or the terminal shows no progress."""
    write_bars_csv(walk(3000, start="2023-01-01"), tmp_path / "bars.csv")
    command = [sys.executable, "-m", "flagbt", "train", "--data", tmp_path / "bars.csv", "--output", tmp_path]
    command += ["--epochs", "1", "--pretrain-epochs", "1", "--batch-size", "1"]
    main_end, child_end = pty.openpty()
    with subprocess.Popen([*command, "--name", "seen"], stdout=subprocess.DEVNULL, stderr=child_end) as process:
        os.close(child_end)
        shown = b""
        try:
            while part := os.read(main_end, 65536):
                shown += part
        except OSError:  # Linux raises it when the other end is closed
            pass
    os.close(main_end)
    assert process.returncode == 0
    assert b"pretraining: epoch 1/1, step " in shown
    assert b" left" in shown
    logged = subprocess.run([*command, "--name", "logged"], capture_output=True, text=True, check=True)
    assert "step" not in logged.stderr
    assert [line.split()[0] for line in logged.stderr.splitlines()] == ["stage", "pretraining", "training"]
