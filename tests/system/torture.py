"""Kill -9 at random moments, over run, train, sweep and fetch: `python tests/system/torture.py --kills 200`, or `make torture`.

Each command runs in a process forked from this one, which has imported everything already, so that the kills hit its work.
Half of them are at random times of its life, half at steps of its writing: it is killed just before the n-th file is opened for
writing, renamed, made or removed. After every kill, whatever looks whole must be whole, and existing files must be unchanged;
after one to three kills the command is repeated, and must end with the result of an undisturbed one. A kill does not lose what
the system has accepted for writing: this does not test a power cut, against which files are synced.

With --faults, SIGTERM is also aimed at the moments where Python loses the exception that it raises (``AIMS``), at imports, and
at all processes of a command together: it must end with 130 within five seconds, silently, and leave as little as a kill.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "support")]  # conftest, exchange_server

CLOCKS = ("started", "finished", "seconds", "id", "git_revision")  # the last: a commit may be made meanwhile
WRITES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
TEMPORARY = ".flagbt-tmp-"
TIMEOUT_S = 300
NUMBERS = count()
MOST_SECONDS_TO_STOP = 5.0
ROOM = (0.0, 0.1, 0.3, 0.6, 0.9)  # on a full disk, as a share of what the command writes


class FailedError(Exception):
    """Something was lost or torn, or the result differs."""


def must(holds: bool, message: str) -> None:
    """Raise FailedError where a condition does not hold."""
    if not holds:
        raise FailedError(message)


def _request_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class _RequestsStop:
    def __del__(self) -> None:
        _request_stop()


def _in_a_destructor() -> None:
    _RequestsStop()


def _in_a_weak_reference() -> None:
    there = Victim(Path(), random.Random())
    kept = weakref.ref(there, lambda _: _request_stop())
    del there
    must(kept() is None, "the object is still there")


def _in_the_garbage_collector() -> None:
    def callback(*_: Any) -> None:
        gc.callbacks.remove(callback)
        _request_stop()

    gc.callbacks.append(callback)
    gc.collect(0)


def _in_a_callback_from_c() -> None:
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: _request_stop() or 0)
    ctypes.CDLL(None).qsort((ctypes.c_int * 2)(2, 1), 2, 4, compare)


def _below_a_bare_except() -> None:
    with suppress(BaseException):
        _request_stop()
        time.sleep(0.1)


def _twenty_times() -> None:
    threading.Thread(target=lambda: [(_request_stop(), time.sleep(0.01)) for _ in range(20)], daemon=True).start()


# Where a request to stop arrives, at a step of the command's writing
AIMS: dict[str, Callable[[], None]] = {
    "in a destructor": _in_a_destructor,
    "in a weak reference's callback": _in_a_weak_reference,
    "in the garbage collector's": _in_the_garbage_collector,
    "in a callback from C": _in_a_callback_from_c,
    "below a bare except": _below_a_bare_except,
    "twenty times": _twenty_times,
}
# A new process, which sends itself SIGTERM at the n-th import after the command has started.
IMPORTING = """
import os, signal, sys
left, sys.argv = int(sys.argv[1]), ["flagbt", *sys.argv[2:]]

def hook(event, arguments):
    global left
    if event == "import" and callable(signal.getsignal(signal.SIGTERM)):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(hook)
from flagbt.__main__ import main
try:
    main()
finally:
    print("imports", -left, file=sys.stderr)
"""


class Ended:
    """A process that has ended: its exit code (None where it was killed), its seconds, its steps of writing, its output."""

    def __init__(self, code: int | None, seconds: float, steps: int, output: str) -> None:
        self.code, self.seconds, self.steps, self.output = code, seconds, steps, output
        self.seconds_to_stop = 0.0  # from the last signal

    @property
    def summary(self) -> str:
        """The exit code, and the paragraph that explains it."""
        return " ".join(
            [str(self.code), *[line[:160] for line in self.output.splitlines() if line.startswith("flagbt: ")][-1:]]
        )


class Started:
    """A flagbt command in a forked process, in a folder; its output is kept next to the folder."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        *,
        at_step: int | None = None,
        aim: str | None = None,
        jumping_clock: bool = False,
    ) -> None:
        number = next(NUMBERS)
        self.log, self.tally = folder.parent / f"output-{number}.txt", folder.parent / f"steps-{number}.txt"
        self.started = self.signalled = time.monotonic()
        self.child = os.fork()
        if self.child == 0:
            _run_flagbt(arguments, folder, self.log, self.tally, at_step, aim, jumping_clock)

    def wait_for_its_first_line(self) -> None:
        """Wait until the command starts, and count its time from there: on a busy machine the fork comes long before."""
        while not self.tally.exists() and time.monotonic() < self.started + TIMEOUT_S:
            time.sleep(0.002)
        self.started = time.monotonic()

    def end(self, after_s: float = TIMEOUT_S, number: int = signal.SIGKILL, *, group: bool = False) -> Ended:
        """Wait for its end; after some seconds since its start, send it, or it and its children, a signal."""
        sent = False
        while True:
            ended, status = os.waitpid(self.child, os.WNOHANG)
            if ended:
                break
            if not sent and time.monotonic() >= self.started + after_s:
                (os.killpg if group else os.kill)(self.child, number)
                sent, self.signalled = True, time.monotonic()
            time.sleep(0.002)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        steps = 0
        if self.tally.exists():
            counted, _, signalled = self.tally.read_text().partition(" ")
            steps, self.signalled = int(counted or 0), float(signalled or self.signalled)
        output = self.log.read_text(errors="replace") if self.log.exists() else ""  # killed before it had started
        ended = Ended(code, time.monotonic() - self.started, steps, output)
        ended.seconds_to_stop = time.monotonic() - self.signalled
        return ended


def run(arguments: list[str], folder: Path, *, after_s: float = TIMEOUT_S, at_step: int | None = None) -> Ended:
    """Run a flagbt command in a folder; kill it after some seconds, or just before a step of its writing."""
    return Started(arguments, folder, at_step=at_step).end(after_s)


def _run_flagbt(
    arguments: list[str], folder: Path, log: Path, tally: Path, at_step: int | None, aim: str | None, jumping_clock: bool
) -> None:
    """Run the command, in a forked child; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the calling process may ignore it
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        os.environ["FLAGBT_HOME"] = str(folder / "home")
        steps, inside = 0, f"{folder}{os.sep}"

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal steps
            if event == "open":
                writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            else:
                writes = event in WRITES
            if not writes or not isinstance(arguments[0], str | bytes | os.PathLike):
                return
            if not os.path.abspath(os.fsdecode(arguments[0])).startswith(inside):
                return
            steps += 1
            if steps == at_step and aim is None:
                os.kill(os.getpid(), signal.SIGKILL)
            elif steps == at_step:
                tally.write_text(f"{steps} {time.monotonic()}")
                AIMS[aim]()

        sys.addaudithook(hook)
        if jumping_clock:
            _distort_clock()
        sys.argv = ["flagbt", *arguments]
        from flagbt.__main__ import main

        tally.write_text("0")
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        sys.stdout.flush()
        tally.write_text(str(steps))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _distort_clock() -> None:
    """Shift every reading of the clock by up to two days, forward or back."""
    import flagbt.results.store

    draw, true, now = random.Random(3), time.time, flagbt.results.store._now
    time.time = lambda: true() + draw.uniform(-172_800, 172_800)
    flagbt.results.store._now = lambda: now() + timedelta(seconds=draw.uniform(-172_800, 172_800))


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file under a folder by its path there; of JSON objects, without the fields that a clock decides."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".json":
                values = json.loads(content)
                if isinstance(values, dict):
                    content = json.dumps({key: each for key, each in values.items() if key not in CLOCKS}).encode()
            found[str(path.relative_to(folder))] = content
    return found


def leftovers(folder: Path) -> list[str]:
    """Return the files with a temporary name."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.startswith(TEMPORARY)]


class Victim:
    """A command to be killed: its initial files, and the checks after a kill and after it has completed."""

    name = ""

    def __init__(self, bench: Path, draw: random.Random) -> None:
        self.bench, self.draw = bench, draw

    def begin(self, folder: Path) -> None:
        """Put the initial files into a new folder."""

    def arguments(self, folder: Path) -> list[str]:
        """Return the command, first or repeated."""
        raise NotImplementedError

    def look(self, folder: Path, whole: Path) -> None:
        """Check what a kill left against an undisturbed result."""
        raise NotImplementedError

    def compare(self, folder: Path, whole: Path) -> None:
        """Check a completed result against an undisturbed one."""
        raise NotImplementedError


class RunVictim(Victim):
    """flagbt run, with a checkpoint and its cache, into a folder that holds a run."""

    name = "run"

    def begin(self, folder: Path) -> None:
        """Put the initial files into a new folder."""
        shutil.copytree(self.bench / "runs", folder / "runs")

    def arguments(self, folder: Path) -> list[str]:
        """Return the command."""
        ckpt = str(self.bench / "checkpoints" / "nano")
        return ["run", "--ckpt", ckpt, "--data", str(self.bench / "bars.csv"), "--timerange", "20230625-20230710", "--json"]

    def look(self, folder: Path, whole: Path) -> None:
        """Check what a kill left against an undisturbed result."""
        kept = {path.name for path in (self.bench / "runs").iterdir() if path.is_dir()}
        self._look(folder, whole, kept)

    def _look(self, folder: Path, whole: Path, kept: set[str]) -> int:
        expected = next(files_of(path) for path in (whole / "runs").iterdir() if path.is_dir() and path.name not in kept)
        made = 0
        for path in (folder / "runs").iterdir():
            if not path.is_dir() or path.name.startswith("."):
                continue
            if path.name in kept:
                must(files_of(path) == files_of(self.bench / "runs" / path.name), f"the earlier run {path.name} has changed")
            else:
                made += 1
                found = files_of(path)
                differ = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
                must(not differ, f"the run {path.name} looks whole, but differs from an undisturbed one in {differ}")
        must(kept <= {path.name for path in (folder / "runs").iterdir()}, "an earlier run is gone")
        page = folder / "runs" / "index.html"
        must(not page.exists() or page.read_text().rstrip().endswith("</html>"), "index.html is torn")
        return made

    def compare(self, folder: Path, whole: Path) -> None:
        """Check a completed result against an undisturbed one."""
        kept = {path.name for path in (self.bench / "runs").iterdir() if path.is_dir()}
        must(self._look(folder, whole, kept) >= 1, "the repeated command left no run")
        page = (folder / "runs" / "index.html").read_text()
        for path in (folder / "runs").iterdir():
            must(not path.is_dir() or f"{path.name}/tearsheet.html" in page, f"index.html does not list {path.name}")
        must(_trials(folder) == _trials(whole), "the trial log holds other trials")


class TrainVictim(Victim):
    """flagbt train of a new name, or over a finished checkpoint of that name."""

    name = "train"

    def begin(self, folder: Path) -> None:
        """Put the initial files into a new folder."""
        self.over = self.draw.random() < 0.5
        if self.over:
            shutil.copytree(self.bench / "checkpoints" / "nano", folder / "checkpoints" / "mine")

    def arguments(self, folder: Path) -> list[str]:
        """Return the command."""
        arguments = training(self.bench, "mine", seed=7)
        resumes = (folder / "checkpoints" / ".mine.training").is_dir()
        return [*arguments, *(["--overwrite"] if self.over else []), *(["--resume"] if resumes else [])]

    def look(self, folder: Path, whole: Path) -> None:
        """Check what a kill left against an undisturbed result."""
        target = folder / "checkpoints" / "mine"
        if self.over:
            must(target.exists(), "the finished checkpoint is gone")
        if target.exists():
            wholes = [whole / "checkpoints" / "mine", *([self.bench / "checkpoints" / "nano"] if self.over else [])]
            must(weights(target) in [weights(each) for each in wholes], "the checkpoint looks whole, and is another one")

    def done(self, folder: Path, whole: Path) -> bool:
        """Return whether it was killed when all was done: a repetition would be refused, or start again."""
        target = folder / "checkpoints" / "mine"
        return target.exists() and weights(target) == weights(whole / "checkpoints" / "mine")

    def compare(self, folder: Path, whole: Path) -> None:
        """Check a completed result against an undisturbed one."""
        must(weights(folder / "checkpoints" / "mine") == weights(whole / "checkpoints" / "mine"), "other weights")


class SweepVictim(Victim):
    """flagbt sweep, block by block, in a separate folder."""

    name = "sweep"

    def arguments(self, folder: Path) -> list[str]:
        """Return the command."""
        ckpt, data = str(self.bench / "checkpoints" / "nano"), str(self.bench / "bars.csv")
        return [
            "sweep",
            "--ckpt",
            ckpt,
            "--data",
            data,
            "--timerange",
            "20230601-20230710",
            "--offsets",
            "grid:-4..4:1",
            "--fees",
            "0,10",
            "--workers",
            "1",
            "--check-share",
            "0.02",
            "--json",
        ]

    def look(self, folder: Path, whole: Path) -> None:
        """Check what a kill left against an undisturbed result."""
        made = next((folder / "sweeps").glob("*/sweep.json"), None) if (folder / "sweeps").exists() else None
        if made is not None:
            self.compare(folder, whole)
        for table in (folder / "sweeps").glob("*/table.parquet"):
            expected = next((whole / "sweeps").glob("*/table.parquet"))
            must(table.read_bytes() == expected.read_bytes(), "table.parquet looks whole, and is another one")

    def compare(self, folder: Path, whole: Path) -> None:
        """Check a completed result against an undisturbed one."""
        found, expected = (files_of(next((each / "sweeps").iterdir())) for each in (folder, whole))
        must(found["table.parquet"] == expected["table.parquet"], "another table")
        records = [json.loads(each["sweep.json"]) for each in (found, expected)]
        must(records[0] == records[1], f"another record: {[k for k in records[0] if records[0][k] != records[1].get(k)]}")
        must(_trials(folder) == _trials(whole), "the trial log holds other trials")


class FetchVictim(Victim):
    """flagbt data fetch into a new file, or one that holds its first weeks."""

    name = "fetch"

    def __init__(self, bench: Path, draw: random.Random) -> None:
        super().__init__(bench, draw)
        self.url = (bench / "exchange.txt").read_text()

    def begin(self, folder: Path) -> None:
        """Put the initial files into a new folder."""
        if self.draw.random() < 0.5:
            lines = (self.bench / "fetched" / "bars.csv").read_bytes().splitlines(keepends=True)
            (folder / "bars.csv").write_bytes(b"".join(lines[:1500]))
        self.before = (folder / "bars.csv").read_bytes() if (folder / "bars.csv").exists() else None

    def arguments(self, folder: Path) -> list[str]:
        """Return the command."""
        arguments = ["data", "fetch", "--symbol", "BTC/USDT", "--since", "2020-01-01", "-o", "bars.csv", "--source", "api"]
        return [*arguments, "--base-url", self.url, "--patience", "20", "--json"]

    def look(self, folder: Path, whole: Path) -> None:
        """Check what a kill left against an undisturbed result."""
        file = folder / "bars.csv"
        now = file.read_bytes() if file.exists() else None
        must(now in (self.before, (whole / "bars.csv").read_bytes()), "the file is neither the old nor the new one")

    def compare(self, folder: Path, whole: Path) -> None:
        """Check a completed result against an undisturbed one."""
        must((folder / "bars.csv").read_bytes() == (whole / "bars.csv").read_bytes(), "another file")
        must([path.name for path in folder.iterdir() if "fetch" in path.name] == [], "pages are left")


VICTIMS: dict[str, Callable[[Path, random.Random], Victim]] = {
    each.name: each for each in (RunVictim, TrainVictim, SweepVictim, FetchVictim)
}


def training(bench: Path, name: str, *, seed: int) -> list[str]:
    """Return the command of a training that takes about a second."""
    return [
        "train",
        "--data",
        str(bench / "bars.csv"),
        "--name",
        name,
        "--preset",
        "nano",
        "--epochs",
        "2",
        "--pretrain-epochs",
        "2",
        "--validation",
        "20230501-20230601",
        "--timerange",
        "-20230501",
        "--seed",
        str(seed),
        "--device",
        "cpu",
        "--json",
    ]


def weights(checkpoint: Path) -> tuple[str, ...]:
    """Return a checkpoint's digests, after checking its files against those it names."""
    from flagbt.models.checkpoint import read_checkpoint

    found = read_checkpoint(checkpoint)
    found.check_files()
    return found.digest, *sorted(files_of(checkpoint))


def _trials(folder: Path) -> list[str]:
    """Return the distinct whole lines of a trial log."""
    from flagbt.results.trial_log import read_trials

    return sorted(map(str, read_trials(folder / "runs").trials.items()))


def prepare(bench: Path) -> int:
    """Make the bars, a checkpoint, a run and an exchange; return the exchange's process."""
    from conftest import make_bars

    from flagbt.data.readers import write_bars_csv

    exchange = os.fork()
    if exchange == 0:
        _serve_exchange(bench)
    write_bars_csv(make_bars(4600, seed=5, start="2023-01-01"), bench / "bars.csv")
    import_all()
    for arguments in (training(bench, "nano", seed=1), RunVictim(bench, random.Random(0)).arguments(bench)):
        ended = run(arguments, bench)
        must(ended.code == 0, f"the initial files could not be made, {arguments}: {ended.output}")
    while not (bench / "exchange.txt").exists():
        time.sleep(0.05)
    (bench / "fetched").mkdir()
    ended = run(FetchVictim(bench, random.Random(0)).arguments(bench), bench / "fetched")
    must(ended.code == 0, f"nothing could be fetched: {ended.output}")
    return exchange


def _serve_exchange(bench: Path) -> None:
    """Serve the exchange, in a forked child, until the parent ends it."""
    from exchange_server import ExchangeServer, make_truth

    server = ExchangeServer(make_truth("2020-01-01", 6_000, gaps=((2000, 2010),)))
    server.delay_s = 0.02
    (bench / "exchange.tmp").write_text(server.url)
    (bench / "exchange.tmp").rename(bench / "exchange.txt")
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


def import_all() -> None:
    """Import what the commands import, once, before forking."""
    import backtrader  # noqa: F401
    import ccxt  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import numba  # noqa: F401
    import peft  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from conftest import NANO

    import flagbt.engine.backtest
    import flagbt.fetching.exchange
    import flagbt.reports.runs_index
    import flagbt.reports.tearsheet
    import flagbt.results.evidence
    import flagbt.sweeps.page
    import flagbt.sweeps.runner
    import flagbt.workflows.sweep
    import flagbt.workflows.train  # noqa: F401
    from flagbt.models.kinds.architecture import PRESETS

    PRESETS["nano"] = dict(NANO)
    torch.set_num_threads(1)


class KillTest:
    """Kills of one victim's command: the undisturbed result first, then cycles of kills and a repeated command."""

    def __init__(self, kind: str, bench: Path, keep: Path, seed: int) -> None:
        self.kind, self.bench, self.keep, self.seed = kind, bench, keep, seed
        self.wholes: dict[bool, Path] = {}
        self.seconds, self.steps = 0.0, 1
        self.imports: int | None = None  # of a fresh process, when it was counted
        self.kills = self.cycles = self.too_late = 0

    def cycle(self, most: int) -> int:
        """Kill one to three times, at most ``most``, and complete; return how many kills there were.

        Raises
        ------
        FailedError
        """
        draw = random.Random(f"{self.kind} {self.seed} {self.cycles}")
        folder = self.keep / f"{self.kind}-{self.cycles}" / "work"
        self.cycles += 1
        folder.mkdir(parents=True)
        whole = self.whole()
        victim = VICTIMS[self.kind](self.bench, draw)
        victim.begin(folder)
        kills, finished = 0, False
        for _ in range(min(most, draw.randint(1, 3))):
            if draw.random() < 0.5:
                ended = run(victim.arguments(folder), folder, at_step=draw.randint(1, self.steps))
            else:
                late = draw.random() < 0.5
                ended = run(victim.arguments(folder), folder, after_s=self.seconds * draw.uniform(0.7 if late else 0.0, 1.05))
            must(ended.code in (None, 0), f"the command ended by itself, with {ended.code}: {ended.output}")
            kills += ended.code is None
            self.too_late += ended.code == 0
            victim.look(folder, whole)
            finished = ended.code == 0 or (isinstance(victim, TrainVictim) and victim.done(folder, whole))
            if finished:
                break
        if not finished:
            ended = run(victim.arguments(folder), folder)
            must(ended.code == 0, f"the repeated command ended with {ended.code}: {ended.output}")
            must(not leftovers(folder), f"temporary files are left: {leftovers(folder)}")
        victim.compare(folder, whole)
        shutil.rmtree(folder.parent)
        self.kills += kills
        return kills

    def whole(self) -> Path:
        """Return the folder of an undisturbed command, which runs at the first call."""
        folder = self.keep / f"{self.kind}-undisturbed" / "work"
        if not folder.exists():
            folder.mkdir(parents=True)
            victim = VICTIMS[self.kind](self.bench, random.Random(2))
            if self.kind != "fetch":
                victim.begin(folder)
            ended = run(victim.arguments(folder), folder)
            must(ended.code == 0, f"the undisturbed command ended with {ended.code}: {ended.output}")
            self.seconds, self.steps = ended.seconds, ended.steps
        return folder


def check_end(ended: Ended, *codes: int) -> None:
    """Check the exit code, and that an error is one paragraph without a traceback."""
    must(ended.code in codes, f"it ended with {ended.code}, not with one of {codes}: {ended.output}")
    must("Traceback" not in ended.output and "Exception ignored" not in ended.output, f"a traceback: {ended.output}")
    paragraphs = [line for line in ended.output.splitlines() if line.startswith("flagbt: ")]
    must(ended.code == 0 or len(paragraphs) >= 1, f"no paragraph explains it: {ended.output}")


class Fault:
    """A fault around a command other than a kill; then the command is repeated, and must complete."""

    def __init__(self, kill_test: KillTest, number: int) -> None:
        self.kill_test = kill_test
        self.whole = kill_test.whole()
        self.victim = VICTIMS[kill_test.kind](kill_test.bench, random.Random(f"{kill_test.kind} {number}"))
        self.folder = kill_test.keep / f"{kill_test.kind}-fault-{number}" / "work"
        self.folder.mkdir(parents=True)

    def complete(self) -> None:
        """Check the files against an undisturbed result, repeat the command, and check again."""
        self.victim.look(self.folder, self.whole)
        if not (isinstance(self.victim, TrainVictim) and self.victim.done(self.folder, self.whole)):
            check_end(run(self.victim.arguments(self.folder), self.folder), 0)
            must(not leftovers(self.folder), f"temporary files are left: {leftovers(self.folder)}")
        self.victim.compare(self.folder, self.whole)

    def full_disk(self, room: float) -> str:
        """Run it on a disk with room for a part of its output, then on one that is large enough."""
        mounted("-t", "tmpfs", "-o", "size=512m", "none", self.folder)
        try:
            self.victim.begin(self.folder)
            there, written = (sum(path.stat().st_size for path in each.rglob("*")) for each in (self.folder, self.whole))
            size = there // 1024 + 64 + int(room * written / 1024)
            mounted("-o", f"remount,size={size}k", self.folder)
            ended = run(self.victim.arguments(self.folder), self.folder)
            check_end(ended, *([1] if room == 0 else [0, 1]))
            mounted("-o", "remount,size=512m", self.folder)
            self.complete()
            return ended.summary
        finally:
            subprocess.run(["umount", "-l", self.folder], check=True)

    def read_only(self) -> str:
        """Run it in a folder that cannot be written."""
        mounted("-t", "tmpfs", "-o", "size=512m", "none", self.folder)
        try:
            self.victim.begin(self.folder)
            before = files_of(self.folder)
            mounted("-o", "remount,ro", self.folder)
            ended = run(self.victim.arguments(self.folder), self.folder)
            check_end(ended, 1)
            must(files_of(self.folder) == before, "a folder that cannot be written has changed")
            mounted("-o", "remount,rw", self.folder)
            self.complete()
            return ended.summary
        finally:
            subprocess.run(["umount", "-l", self.folder], check=True)

    def terminated(self, share: float) -> str:
        """Send it SIGTERM after a share of its time."""
        self.victim.begin(self.folder)
        started = Started(self.victim.arguments(self.folder), self.folder)
        started.wait_for_its_first_line()
        ended = started.end(0.2 + share * self.kill_test.seconds, signal.SIGTERM)
        check_end(ended, 0, 130)
        must(ended.seconds_to_stop < MOST_SECONDS_TO_STOP, f"it took {ended.seconds_to_stop:.1f} s to stop")
        self.complete()
        return ended.summary

    def aimed(self, aim: str) -> str:
        """Let SIGTERM arrive where the exception that it raises is lost, at a random step of its writing."""
        self.victim.begin(self.folder)
        draw = random.Random(f"{self.kill_test.kind} {aim} {self.kill_test.seed}")
        arguments = self.victim.arguments(self.folder)
        # A fetch that continues a file has fewer steps than the undisturbed one.
        most = self.kill_test.steps * (2 if self.kill_test.kind == "fetch" else 3) // 3
        ended = Started(arguments, self.folder, at_step=draw.randint(1, max(1, most - 1)), aim=aim).end()
        check_end(ended, 130)
        must(ended.seconds_to_stop < MOST_SECONDS_TO_STOP, f"it took {ended.seconds_to_stop:.1f} s to stop")
        self.complete()
        return ended.summary

    def all_at_once(self, number: signal.Signals) -> str:
        """Send a signal to all its processes, as a terminal and a service manager do, in the middle of a sweep over two."""
        self.victim.begin(self.folder)
        arguments = [
            "2" if before == "--workers" else word for before, word in pairwise(["", *self.victim.arguments(self.folder)])
        ]
        started = Started(arguments, self.folder)
        started.wait_for_its_first_line()
        ended = started.end(0.2 + 0.5 * self.kill_test.seconds, number, group=True)
        check_end(ended, 0, 130)
        must(ended.seconds_to_stop < MOST_SECONDS_TO_STOP, f"it took {ended.seconds_to_stop:.1f} s to stop")
        if ended.code == 130:  # else its record states two workers, and the undisturbed one's states one
            self.complete()
        return ended.summary

    def importing(self, share: float) -> str:
        """Send SIGTERM in the middle of an import, in a process that has imported nothing."""
        self.victim.begin(self.folder)
        environment = {**os.environ, "FLAGBT_HOME": str(self.folder / "home")}

        def fresh(at: int) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-c", IMPORTING, str(at), *self.victim.arguments(self.folder)],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )

        if self.kill_test.imports is None:
            whole = fresh(0)
            must(whole.returncode == 0, f"it ended with {whole.returncode}: {whole.stderr}")
            self.kill_test.imports = int(whole.stderr.split()[-1])
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            self.victim.begin(self.folder)
        done = fresh(max(1, int(share * self.kill_test.imports)))
        ended = Ended(done.returncode, 0.0, 0, done.stdout + done.stderr)
        check_end(ended, 130)
        self.complete()
        return ended.summary

    def jumping_clock(self) -> str:
        """Run it with a clock that jumps back and forth."""
        self.victim.begin(self.folder)
        check_end(Started(self.victim.arguments(self.folder), self.folder, jumping_clock=True).end(), 0)
        self.victim.compare(self.folder, self.whole)
        return ""


def mounted(*arguments: object) -> None:
    """Mount."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def can_mount(folder: Path) -> bool:
    """Return whether this process may mount a disk."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    done = subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=False, capture_output=True)
    return done.returncode == 0 and subprocess.run(["umount", folder], check=False).returncode == 0


def all_faults(kill_tests: list[KillTest], scratch: Path) -> int:
    """Try every fault on every command; print the results, and return how many failed."""
    tries: list[tuple[str, Callable[[Fault], str]]] = []
    if can_mount(scratch):
        tries += [(f"a disk with room for {room:.0%}", partial(Fault.full_disk, room=room)) for room in ROOM]
        tries += [("a folder that is read-only", Fault.read_only)]
    else:
        print("a full disk, a folder that is read-only: skipped, mounting needs root")
    tries += [(f"SIGTERM after {share:.0%}", partial(Fault.terminated, share=share)) for share in (0.1, 0.5, 0.9)]
    tries += [(f"SIGTERM {aim}", partial(Fault.aimed, aim=aim)) for aim in AIMS]
    tries += [
        (f"{each.name} to all processes", partial(Fault.all_at_once, number=each)) for each in (signal.SIGTERM, signal.SIGINT)
    ]
    imports = [(f"SIGTERM at {share:.0%} of the imports", partial(Fault.importing, share=share)) for share in (0.1, 0.5, 0.9)]
    tries += [("a clock that jumps", Fault.jumping_clock)]
    return sum(
        attempted(f"{each.kind}, {name}", lambda: attempt(Fault(each, number)))  # noqa: B023  # called at once
        for each in kill_tests
        # Only this process knows the smallest architecture, with which it trains
        for number, (name, attempt) in enumerate([*tries, *(imports if each.kind != "train" else [])])
    )


def attempted(name: str, attempt: Callable[[], str | None]) -> int:
    """Try; print the result, and return 1 where it failed."""
    try:
        summary = attempt()
    except Exception as error:
        print(f"{name}: FAILED: {error!r}", flush=True)
        return 1
    print(f"{name}: passed{f', exit {summary}' if summary else ''}", flush=True)
    return 0


def together(kill_tests: dict[str, KillTest], keep: Path) -> int:
    """Run commands at the same time in one folder; print the results, and return how many tries failed."""

    def runs_and_trainings() -> None:
        folder = keep / "together-1" / "work"
        folder.mkdir(parents=True)
        runs, trainings = kill_tests["run"], kill_tests["train"]
        victim = VICTIMS["run"](runs.bench, random.Random(1))
        victim.begin(folder)
        before = {path.name for path in (folder / "runs").iterdir()}
        started = [Started(victim.arguments(folder), folder) for _ in range(8)]
        started += [Started(training(runs.bench, name, seed=7), folder) for name in ("one", "two")]
        for each in started:
            check_end(each.end(), 0)
        victim.compare(folder, runs.whole())
        made = {path.name for path in (folder / "runs").iterdir() if path.is_dir()} - before
        must(len(made) == 8, f"eight runs left {len(made)} folders: {sorted(made)}")
        expected = weights(trainings.whole() / "checkpoints" / "mine")[0]
        found = [weights(folder / "checkpoints" / name)[0] for name in ("one", "two")]
        must(found == [expected] * 2, f"other weights: {found}")
        must(not leftovers(folder), f"temporary files are left: {leftovers(folder)}")

    def twice(kind: str, refusal: str) -> None:
        kill_test = kill_tests[kind]
        folder = keep / f"together-{kind}" / "work"
        folder.mkdir(parents=True)
        victim = VICTIMS[kind](kill_test.bench, random.Random(2))
        victim.begin(folder)
        arguments = victim.arguments(folder)
        ends = [each.end() for each in [Started(arguments, folder) for _ in range(2)]]
        must(any(each.code == 0 for each in ends), f"none of two succeeded: {[each.output for each in ends]}")
        for each in ends:
            check_end(each, 0, 1)
            must(
                each.code == 0 or re.search(refusal, each.output) is not None,
                f"the second prints another message: {each.output}",
            )
        victim.compare(folder, kill_test.whole())
        must(not leftovers(folder), f"temporary files are left: {leftovers(folder)}")

    return (
        attempted("eight runs and two trainings at once", runs_and_trainings)
        + attempted("two trainings of one name at once", lambda: twice("train", "another process is training|exists"))
        + attempted("two sweeps at once", lambda: twice("sweep", "another sweep with the same settings is running"))
        + attempted("two fetches at once", lambda: twice("fetch", "is fetching into this file"))
    )


def torture(kill_tests: list[KillTest], kills: int, seed: int) -> int:
    """Kill that many commands, the kinds in turn; print the results, and return how many cycles failed."""
    failures, left, started = 0, kills, time.monotonic()
    while left > 0:
        for each in kill_tests:
            if left <= 0:
                break
            try:
                left -= each.cycle(left)
            except FailedError as failure:
                failures += 1
                left -= 1
                print(f"{each.kind}, cycle {each.cycles - 1}, seed {seed}: FAILED: {failure}", flush=True)
            if each.cycles % 10 == 0:
                print(f"{kills - left} of {kills} kills, {time.monotonic() - started:.0f} s", flush=True)
    for each in kill_tests:
        print(
            f"{each.kind}: {each.kills} kills in {each.cycles} cycles; undisturbed {each.seconds:.1f} s, {each.steps} steps "
            f"of writing; {each.too_late} moments came too late"
        )
    print(f"seed {seed}: {sum(each.kills for each in kill_tests)} kills, {failures} failures", flush=True)
    return failures


def main() -> int:
    """Run the tests that the options select, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="over all kinds together")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other moments")
    parser.add_argument("--only", action="append", choices=list(VICTIMS), help="may be repeated; all by default")
    parser.add_argument("--faults", action="store_true", help="full disk, read-only folder, SIGTERM, jumping clock")
    parser.add_argument("--together", action="store_true", help="several commands at once in one folder")
    options = parser.parse_args()
    keep = Path(tempfile.mkdtemp(prefix="flagbt-torture-"))
    bench = keep / "bench" / "work"
    bench.mkdir(parents=True)
    exchange = prepare(bench)
    kill_tests = {kind: KillTest(kind, bench, keep, options.seed) for kind in options.only or VICTIMS}
    try:
        failures = torture(list(kill_tests.values()), options.kills, options.seed)
        failures += all_faults(list(kill_tests.values()), bench.parent) if options.faults else 0
        failures += together(kill_tests, keep) if options.together and not options.only else 0
    finally:
        os.kill(exchange, signal.SIGTERM)
        os.waitpid(exchange, 0)
    print(f"the failures are kept in {keep}" if failures else "no failure")
    if not failures:
        shutil.rmtree(keep)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
