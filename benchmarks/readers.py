"""Measure how fast files of bars are read: `python benchmarks/readers.py [FILE]`; without a file, on generated bars.

CPU seconds, the minimum of several readings, since the machine is shared. Recorded in docs/benchmarks.md.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from flagbt.data.bars import HOUR, Bars
from flagbt.data.check import check_table
from flagbt.data.readers import read_bars, write_bars_csv

BARS = 43_816  # five years of hours
READINGS = 7


def generated(n: int) -> Bars:
    """Return a random walk with as many digits as real prices have."""
    random = np.random.default_rng(0)
    close = np.round(30_000 * np.exp(np.cumsum(random.normal(0, 0.005, n))), 2)
    high, low = np.round(close * 1.004, 2), np.round(close * 0.996, 2)
    volume = np.round(random.uniform(1, 5_000, n), 6)
    return Bars(np.datetime64("2020-01-01", "ns") + np.arange(n) * HOUR, close, high, low, close, volume, step=HOUR)


def seconds(path: Path, work: object = read_bars) -> float:
    """Return the fewest CPU seconds of several readings, after one that does not count."""
    taken = []
    for _ in range(READINGS + 1):
        started = time.process_time()
        work(path)  # type: ignore[operator]
        taken.append(time.process_time() - started)
    return min(taken[1:])


def main() -> None:
    """Read the same bars in every format."""
    bars = read_bars(sys.argv[1]) if len(sys.argv) > 1 else generated(BARS)
    frame = bars.frame().reset_index()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_bars_csv(bars, folder / "bars.csv")
        write_bars_csv(bars, folder / "bars.csv.gz")
        frame.to_parquet(folder / "bars.parquet")
        frame.to_feather(folder / "bars.feather")
        milliseconds = bars.time.astype("datetime64[ms]").astype(np.int64)
        frame.assign(time=milliseconds).to_csv(folder / "epochs.csv", index=False)
        frame.assign(time=milliseconds).to_csv(folder / "commas.csv", index=False, sep=";", decimal=",")
        (folder / "rows.json").write_text(frame.assign(time=milliseconds).to_json(orient="values", double_precision=15))
        for path in sorted(folder.iterdir()):
            print(f"{path.name}: {len(bars):,} bars in {seconds(path):.3f} s")
        print(f"flagbt data check, bars.csv: {seconds(folder / 'bars.csv', check_table):.3f} s")


if __name__ == "__main__":
    main()
