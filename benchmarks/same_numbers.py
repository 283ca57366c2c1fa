"""Compare what two versions of flagbt compute: `python benchmarks/same_numbers.py capture` for each, then `compare`.

    python benchmarks/same_numbers.py capture OTHER/.venv/bin/flagbt old --data BARS
    python benchmarks/same_numbers.py capture .venv/bin/flagbt new --data BARS
    python benchmarks/same_numbers.py compare old new

`capture` runs about a hundred commands with --json in an empty folder: runs, sweeps, calibrations, trainings, diagnoses,
proofs, and refusals. `compare` lists every number, text, array value, file of weights and exit code that differs, and
exits with 1 if there is one. Real bars are used before 2024 only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

STRATEGIES = """
import backtrader as bt
import numpy as np

from flagbt import BUY, HOLD, SELL, Signals, Strategy


def moves(bars, least):
    change = np.diff(bars.close, prepend=bars.close[0])
    signal = np.full(len(bars), HOLD)
    signal[change > least], signal[change < -least] = BUY, SELL
    return Signals.plain(signal)


class OwnDecision(Strategy):
    name = "own-decision"
    bars_seen = ()

    def prepare(self, bars):
        return moves(bars, 0)

    def decide(self, t, position):
        return None if t % 7 else (0.5 if t % 2 else 0.0)


class NotStated(Strategy):
    name = "not-stated"

    def prepare(self, bars):
        return moves(bars, 50)


class Plain(bt.Strategy):
    params = (("fast", 12), ("slow", 48))
    bars_seen = ()

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow))

    def next(self):
        if self.cross[0] > 0:
            self.buy()
        elif self.cross[0] < 0:
            self.close()
"""
FILES = {
    "mine.py": STRATEGIES,
    "run.yaml": "strategy: sma-cross\nfee_bps: 3\nshort: true\ntimerange: 20240301-20240501\nstop_loss: 0.05\n",
    "offset.json": '{"calibration": {"method": "offset", "offset": [0.5, 0, 0.2]}, "decision": {"method": "argmax"}}',
}
MONTHS = "--timerange 20240201-20240401"  # of the bundled SYNTHETIC sample
ACCOUNTS = (
    "--short",
    "--fee-bps 0 --slippage-bps 0",
    "--cooldown-bars 5 --min-hold-bars 3",
    "--exit horizon:6",
    "--stop-loss 0.02 --take-profit 0.03",
    "--short --max-short-notional 0.5 --close-short-above 1.5",
    "--cash 123.45 --borrow-bps-per-day 20 --short",
    "--name hello --notes <b>x</b>",
)
MODELS = (
    "--calibration none",
    "--calibration stored:report",
    "--calibration offset:3.0,-2.5,1.0",
    "--calibration offset.json",
    "--decision argmax",
    "--decision threshold:0.25,0.25",
    "--decision utility --short",
    "--exit horizon --decision threshold:0.2,0.2",
    "--no-cache",
    "--batch-size 2",
)
REFUSED = (
    "run --strategy nope",
    "run --ckpt nope",
    "run --strategy sma-cross --fee-bps -1",
    "run --strategy sma-cross --ckpt Jan4",
    "run --strategy mine:Plain --stop-loss 0.1",
    "run --strategy sma-cross --stop-loss 2",
    "run --strategy sma-cross --exit horizon",
    "sweep --ckpt Jan4 --fee-bps x",
    "compare nope",
    "runs show nope",
    "doctor --ckpt nope",
)
# What may differ where nothing has changed: clocks, names made at random, paths, versions.
LEFT_OUT = {
    *("seconds", "started", "finished", "id", "folder", "page", "tearsheet", "run", "command", "git_revision", "versions"),
    *("path", "html", "sources", "output", "resumed", "last_used"),
}
BY_BYTES = {".safetensors", ".csv", ".npz", ".npy", ".md"}


def commands(data: str) -> Iterator[str]:
    """Yield the command lines; RUN3 is the fourth run of the folder, by the time it finished."""
    names = ("buy-and-hold", "always-hold", "sma-cross", "random", "mine:OwnDecision", "mine:NotStated", "mine:Plain")
    yield from (f"run --strategy {name} {MONTHS}" for name in names)
    yield from (f"run --strategy {name} {MONTHS} {more}" for name in ("sma-cross", "random") for more in ACCOUNTS)
    yield from (f"run --ckpt {name} {MONTHS}" for name in ("Jan4", "Jan19", "Jan19-sqrt", "focal"))
    yield from (f"run --ckpt Jan4 {MONTHS} {more}" for more in MODELS)
    yield from ("run --config run.yaml", "show-config --config run.yaml", "run --ckpt Jan4", "run --strategy random --seed 3")
    yield f"run --strategy sma-cross --data {data} --timerange 20230701-20231001"
    yield f"run --ckpt Jan4 --data {data} --timerange 20230701-20240101 --allow-overlap"
    yield f"run --ckpt Jan4 --data {data} --timerange 20230701-20240101"  # refused: the bars were seen
    yield "sweep --ckpt Jan4 --timerange 20240201-20240601 --decision argmax,utility --fee-bps 0,10 --short no,yes"
    yield "sweep --ckpt Jan4,Jan19 --timerange 20240201-20240401 --offsets grid:-2..2:1 --check-share 0.05"
    yield (
        "sweep --ckpt focal --timerange 20240201-20240501 --decision threshold:0.2,0.2,threshold:0.3,0.3 --workers 1 "
        "--exit signal,horizon,horizon:3 --stop-loss none,0.02 --cooldown-bars 0,6 --holdout 20240601-20240701"
    )
    yield (
        "sweep --ckpt Jan4 --timerange 20240201-20240301 --timerange 20240401-20240501 --calibration none,stored,offset:1,0,1 "
        "--take-profit none,0.05 --max-short-notional 1,0.5 --short yes --min-hold-bars 0,3 --cash 1000,10000"
    )
    yield from ("runs list", "runs show", "compare RUN0 RUN2 RUN7", "compare RUN25 RUN26 RUN27 --sort sharpe", "report RUN2")
    yield from ("ckpt list", "ckpt show Jan4", "ckpt show focal", "strategies list")
    yield from (f"data check {data}", f"data resample {data} --timeframe 4h -o four_hours.csv", "data check four_hours.csv")
    fit = "calibrate --ckpt Jan4 --timerange 20240101-20240401"
    yield from (f"{fit} --method temperature --output a.json", f"{fit} --method vector --decision utility --output b.json")
    yield f"{fit} --method prior --shares 0.16,0.66,0.18 --output c.json"
    yield from ("doctor --ckpt Jan4 --html doctor.html", "doctor --ckpt focal")
    yield f"doctor --ckpt Jan4 --data {data} --timerange 20230701-20231001"
    yield from (
        f"verify lookahead {what} {MONTHS}" for what in ("--strategy sma-cross", "--strategy mine:Plain", "--ckpt Jan4")
    )
    yield from (f"verify {proof} --ckpt Jan4 {MONTHS}" for proof in ("batch", "warmup", "parity"))
    train = f"train --data {data} --epochs 1"
    yield f"{train} --timerange 20220101-20221001 --validation 20221001-20230101 --pretrain-epochs 1 --name one"
    yield (
        f"{train} --timerange 20220101-20220701 --validation 20220701-20221001 --pretrain-epochs 1 --objective focal "
        "--weight-strategy sqrt --name two --lora-layers top:1"
    )
    yield f"{train} --timerange 20210101-20220701 --walk-forward 2 --pretrain-epochs 1 --name folds"
    yield f"pretrain --data {data} --timerange 20210101-20220101 --epochs 1 --name ground"
    yield f"{train} --base bases/ground --timerange 20220101-20220701 --validation 20220701-20221001 --name three"
    yield f"run --ckpt checkpoints/one --data {data} --timerange 20230201-20230401"
    yield f"doctor --ckpt checkpoints/one --data {data} --timerange 20230201-20230601"
    yield "ckpt show checkpoints/one"
    yield from REFUSED


def capture(program: str, out: Path, data: Path) -> None:
    """Run every command in ``out``, an empty folder, and keep what it prints in captured.json."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, text in FILES.items():
        (out / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "FLAGBT_HOME": str(out / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    lines, captured = list(commands(str(data))), []
    for number, line in enumerate(lines, 1):
        arguments = [runs(out)[int(each[3:])].name if re.fullmatch(r"RUN\d+", each) else each for each in line.split()]
        started = time.monotonic()
        done = subprocess.run(
            [program, *arguments, "--json"], cwd=out, env=environment, capture_output=True, text=True, check=False
        )
        try:
            printed = json.loads(done.stdout)
        except ValueError:
            printed = done.stdout
        error = done.stderr if done.returncode else ""
        captured.append(
            {"command": line.replace(str(data), "DATA"), "code": done.returncode, "printed": printed, "error": error}
        )
        (out / "captured.json").write_text(json.dumps(captured), encoding="utf-8")
        print(f"{number}/{len(lines)} {time.monotonic() - started:5.1f} s, exit {done.returncode}: {line[:90]}", flush=True)


def runs(out: Path) -> list[Path]:
    """Return the run folders, oldest first."""
    found = [path.parent for path in (out / "runs").glob("*/run.json")]
    return sorted(found, key=lambda folder: str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["finished"]))


class Differences:
    """Counts what is equal, and lists what differs between two captured folders."""

    def __init__(self, old: Path, new: Path) -> None:
        self.old, self.new = old, new
        self.found: list[str] = []
        self.counts = {"numbers": 0, "texts": 0, "array values": 0, "files": 0, "exit codes": 0}

    def all(self) -> None:
        """Compare everything."""
        for one, other in zip(
            *(json.loads((each / "captured.json").read_text()) for each in (self.old, self.new)), strict=True
        ):
            self.counts["exit codes"] += 1
            for key in ("code", "printed", "error"):
                self.values(one[key], other[key], f"{one['command']}: {key}")
        for one, other in zip(runs(self.old), runs(self.new), strict=True):
            for name in ("run.json", "metrics.json", "equity.parquet", "signals.parquet", "orders.csv", "trades.csv"):
                self.file(one / name, other / name)
        for kind in ("sweeps", "checkpoints", "bases"):
            for path in sorted((self.old / kind).rglob("*")):
                self.file(path, self.new / path.relative_to(self.old))
        for path in sorted(self.old.glob("*.csv")):
            self.file(path, self.new / path.name)

    def file(self, one: Path, other: Path) -> None:
        """Compare two files: JSON by its values, tables by theirs, weights and text by their bytes."""
        if one.suffix not in BY_BYTES | {".json", ".parquet"} or not (one.is_file() or other.is_file()):
            return
        place = str(one.relative_to(self.old))
        if one.is_file() != other.is_file():
            self.found.append(f"{place}: only one of the two has it")
            return
        self.counts["files"] += 1
        if one.suffix == ".json":
            self.values(json.loads(one.read_text(encoding="utf-8")), json.loads(other.read_text(encoding="utf-8")), place)
        elif one.suffix == ".parquet":
            first, second = pd.read_parquet(one), pd.read_parquet(other)
            self.counts["array values"] += first.size
            if not first.equals(second):
                self.found.append(f"{place}: the tables differ")
        elif one.read_bytes() != other.read_bytes():
            self.found.append(f"{place}: the bytes differ")

    def values(self, one: object, other: object, place: str) -> None:
        """Compare JSON values; a float differs by its last bit."""
        if isinstance(one, dict) and isinstance(other, dict):
            for key in sorted((one.keys() | other.keys()) - LEFT_OUT):
                if key in one and key in other:
                    self.values(one[key], other[key], f"{place}.{key}")
                else:
                    self.found.append(f"{place}.{key}: only in the {'old' if key in one else 'new'} one")
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            for number, pair in enumerate(zip(one, other, strict=True)):
                self.values(*pair, f"{place}[{number}]")
        elif isinstance(one, str) and isinstance(other, str):
            self.counts["texts"] += 1
            if self.plain(one) != self.plain(other):
                self.found.append(f"{place}: {one[:150]!r} was, {other[:150]!r} is")
        else:
            self.counts["numbers"] += 1
            if type(one) is not type(other) or one != other:
                self.found.append(f"{place}: {one!r:.150} was, {other!r:.150} is")

    def plain(self, text: str) -> str:
        """Return a text without the folder, and without the clock and the random part of a run's name."""
        text = re.sub(r"\d{8}T\d{6}Z-([\w.-]*?)-[0-9a-f]{6}\b", r"\1", text)
        return text.replace(str(self.new), "").replace(str(self.old), "")


def main() -> None:
    """Capture, or compare and exit with 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    capturing = actions.add_parser("capture")
    capturing.add_argument("program", help="The flagbt command of a version.")
    capturing.add_argument("out", type=Path, help="A folder, which is emptied.")
    capturing.add_argument("--data", type=Path, required=True, help="A file of real hourly bars from 2020 on.")
    comparing = actions.add_parser("compare")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    given = parser.parse_args()
    if given.action == "capture":
        capture(str(Path(given.program).resolve()), given.out.resolve(), given.data.resolve())
        return
    differences = Differences(given.old.resolve(), given.new.resolve())
    differences.all()
    print("\n".join(differences.found))
    print(
        ", ".join(f"{count:,} {what}" for what, count in differences.counts.items()),
        f"compared; {len(differences.found)} differ",
    )
    sys.exit(bool(differences.found))


if __name__ == "__main__":
    main()
