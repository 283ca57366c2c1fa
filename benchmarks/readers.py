"""Measure how fast files of bars are read: `python benchmarks/readers.py [FILE] [--against PYTHON]`.

Without a file, the bars are generated. CPU seconds, the minimum of several readings, since the machine is shared. With the
Python of another version's environment, both read the same files by turns, each in its own process, and a ratio above 1.10 is a
failure. Recorded in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flagbt.data.bars import HOUR, Bars
from flagbt.data.check import check_table
from flagbt.data.readers import read_bars, write_bars_csv

BARS = 43_816  # five years of hours
READINGS, ROUNDS = 7, 5
HIGHEST_RATIO = 1.10


def generated(n: int) -> Bars:
    """Return a random walk with as many digits as real prices have."""
    random = np.random.default_rng(0)
    close = np.round(30_000 * np.exp(np.cumsum(random.normal(0, 0.005, n))), 2)
    high, low = np.round(close * 1.004, 2), np.round(close * 0.996, 2)
    volume = np.round(random.uniform(1, 5_000, n), 6)
    return Bars(np.datetime64("2020-01-01", "ns") + np.arange(n) * HOUR, close, high, low, close, volume, step=HOUR)


def seconds(path: Path, work: Callable[[Path], object] = read_bars) -> float:
    """Return the fewest CPU seconds of several readings, after one that does not count."""
    taken = []
    for _ in range(READINGS + 1):
        started = time.process_time()
        work(path)
        taken.append(time.process_time() - started)
    return min(taken[1:])


def write_files(bars: Bars, folder: Path) -> None:
    """Write the same bars in every format."""
    frame = bars.frame().reset_index()
    write_bars_csv(bars, folder / "bars.csv")
    write_bars_csv(bars, folder / "bars.csv.gz")
    frame.to_parquet(folder / "bars.parquet")
    frame.to_feather(folder / "bars.feather")
    milliseconds = bars.time.astype("datetime64[ms]").astype(np.int64)
    epochs = frame.assign(time=milliseconds)
    epochs.to_csv(folder / "epochs.csv", index=False)
    epochs.to_csv(folder / "commas.csv", index=False, sep=";", decimal=",")
    epochs[::-1].to_csv(folder / "newest_first.csv", index=False)
    frame.assign(time=frame["time"].dt.strftime("%Y-%m-%d %H:%M:%S")).to_csv(folder / "naive.csv", index=False)
    rest = {"end": milliseconds + 3_599_999, "quote": frame["close"] * frame["volume"], "trades": 9, "a": 1.5, "b": 2.5, "c": 0}
    epochs.assign(**rest).to_csv(folder / "klines.csv", index=False, header=False)
    (folder / "rows.json").write_text(epochs.to_json(orient="values", double_precision=15))
    (folder / "objects.json").write_text(epochs.to_json(orient="records", double_precision=15))


def measured(folder: Path) -> dict[str, float]:
    """Return the seconds of each file, and of a check."""
    taken = {path.name: seconds(path) for path in sorted(folder.iterdir())}
    return taken | {"flagbt data check, bars.csv": seconds(folder / "bars.csv", check_table)}


def compare(folder: Path, other: str) -> int:
    """Measure two versions by turns, print the ratios, and return 1 if one is too high."""
    fewest: dict[str, dict[str, float]] = {other: {}, sys.executable: {}}
    for _ in range(ROUNDS):
        for python, taken in fewest.items():
            command = [python, __file__, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            for name, value in json.loads(done.stdout).items():
                taken[name] = min(value, taken.get(name, value))
    highest = 0.0
    for name, before in fewest[other].items():
        after = fewest[sys.executable][name]
        highest = max(highest, after / before)
        print(f"{name}: {before:.4f} s before, {after:.4f} s after, ratio {after / before:.2f}")
    return int(highest > HIGHEST_RATIO)


def main() -> int:
    """Read the same bars in every format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", help="bars to measure with, instead of generated ones")
    parser.add_argument("--against", metavar="PYTHON", help="the Python of another version's environment")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measured(Path(options.folder))))
        return 0
    bars = read_bars(options.file) if options.file else generated(BARS)
    with tempfile.TemporaryDirectory() as scratch:
        write_files(bars, Path(scratch))
        if options.against:
            return compare(Path(scratch), options.against)
        for name, taken in measured(Path(scratch)).items():
            print(f"{name}: {len(bars):,} bars in {taken:.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
