"""Measure the basic pipeline, as ratios within one run: `python benchmarks/pipeline.py`.

Times vary on shared machines; ratios within one run vary less. Results are recorded in docs/benchmarks.md.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from flagbt import __version__
from flagbt.data.bundled_sample import load_sample
from flagbt.engine.backtest import run_backtest
from flagbt.engine.run_request import RunRequest
from flagbt.models.checkpoint import find_checkpoint
from flagbt.models.kinds.architecture import PRESETS, Architecture
from flagbt.models.kinds.llama import BarTransformer
from flagbt.models.kinds.network import architecture_of, load_network
from flagbt.models.kinds.scoring import ScoringOptions, score
from flagbt.strategies.baselines import SmaCross
from flagbt.workflows.backtest import backtest_request
from flagbt.workflows.run import save_run

READ_LOGITS = """
import time
started = time.perf_counter()
from flagbt.data.bundled_sample import load_sample
from flagbt.models.checkpoint import find_checkpoint
from flagbt.models.logit_cache import logits_of
logits_of(find_checkpoint("Jan4"), load_sample())
print(time.perf_counter() - started)
"""


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the median wall-clock seconds of ``repeats`` calls, after one that does not count."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def main() -> None:
    """Measure scoring, replay and the whole run on the bundled sample."""
    bars = load_sample()
    threads = f"{torch.get_num_threads()} threads"
    print(f"flagbt {__version__}, torch {torch.__version__}, {threads}, Python {platform.python_version()}")

    # 1. Scoring: all bars in chunks against one window per bar (the receptive field is read again for each)
    checkpoint = find_checkpoint("Jan4")
    networks = {"tiny (Jan4)": (load_network(checkpoint), architecture_of(checkpoint), 400)}
    large = Architecture(n_features=len(checkpoint.schema.columns), **PRESETS["88m"])
    torch.manual_seed(0)
    networks["88m (random weights)"] = (BarTransformer(large).eval(), large, 3)
    rows = checkpoint.schema.rows(bars)
    for name, (network, architecture, slow_bars) in networks.items():
        common = {"architecture": architecture, "warmup_bars": checkpoint.schema.warmup_bars}
        n = len(bars) if architecture.layers < 12 else 4096
        first = len(bars) - n
        batched = seconds(lambda: score(network, rows, bars, first=first, **common), 1) / n  # noqa: B023
        start = len(bars) - slow_bars
        one = ScoringOptions(bar_by_bar=True, batch_chunks=1)
        one_by_one = seconds(lambda: score(network, rows, bars, first=start, options=one, **common), 1)  # noqa: B023
        ratio = one_by_one / slow_bars / batched
        print(f"scoring {name}: {1 / batched:,.0f} bars/s in chunks, {ratio:,.0f} times one window per bar")

    # 2. Replay in Backtrader
    strategy = SmaCross()
    taken = seconds(lambda: run_backtest(bars, strategy))
    print(f"replay, sma-cross: {len(bars) / taken:,.0f} bars/s")

    # 3. What the cache of logits saves: in a new process, with its imports, as in a command
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "FLAGBT_HOME": home}
        times = [
            float(subprocess.check_output([sys.executable, "-c", READ_LOGITS], env=environment, text=True)) for _ in range(7)
        ]
    fresh, hit = times[0], float(np.median(times[1:]))
    print(f"logits of {len(bars):,} bars, tiny (Jan4), in a new process: {fresh:.1f} s scored, {hit:.1f} s from the cache")

    # 4. The whole run, including the page
    with tempfile.TemporaryDirectory() as scratch:
        taken = seconds(lambda: save_run(backtest_request(RunRequest(ckpt="Jan4"), runs=Path(scratch)), Path(scratch)), 1)
    print(f"flagbt run --ckpt Jan4, imports already done: {taken:.1f} s")


if __name__ == "__main__":
    main()
