"""Hostile bytes for every reader, led by coverage: `python tests/system/fuzz_readers.py [ENDING ...]`, or `make fuzz`.

Each input is read and checked. Anything but bars or a `FlagbtError` of one paragraph is a failure, and so are an input that
takes five seconds and a process above one gigabyte. The first failure stops the ending; its input is kept in the folder that
is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

RUNS = 20_000
LONGEST_INPUT = 16_384  # bytes
SECONDS, MEGABYTES = 5, 1_000
LONGEST_MESSAGE = 3_000


def endings() -> list[str]:
    """Return the endings of all formats."""
    from flagbt.data.readers import FORMATS

    return list(FORMATS)


def read_hostile(path: Path) -> bool:
    """Read and check any file; return True if it contains bars. Any exception but a FlagbtError is a failure."""
    from flagbt.data.check import check_table
    from flagbt.data.readers import read_bars
    from flagbt.errors import FlagbtError

    bars, refused = None, ""
    try:
        bars = read_bars(path)
    except FlagbtError as error:
        check_message(str(error))
    try:
        examined = check_table(path)
    except FlagbtError as error:
        refused = str(error)
    if refused:
        assert bars is None, f"reading gives {bars!r}, checking: {refused}"
        check_message(refused)
    else:
        assert (examined.bars is None) == (bars is None), f"reading gives {bars!r}, checking {examined.problems}"
        assert bars is None or examined.bars is None or bars.digest == examined.bars.digest
        for problem in examined.problems:
            check_message(problem.message)
    return bars is not None


def check_message(message: str) -> None:
    """Refuse a message that is not a short paragraph, or has control characters."""
    message.encode("utf-8")
    assert len(message) < LONGEST_MESSAGE, message
    assert not re.search(r"[\x00-\x1f\x7f]", message), repr(message)


def fuzz(ending: str, arguments: list[str]) -> None:
    """Run libFuzzer in this process on files of one ending."""
    import atheris

    with atheris.instrument_imports(include=["flagbt.data"]):
        from flagbt.data import readers  # noqa: F401
    import pandas as pd  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    logging.disable(logging.CRITICAL)
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(dir=shared)) / f"input{ending}"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_hostile(path)
        except Exception:
            traceback.print_exc()
            raise

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def write_seeds(ending: str, folder: Path) -> None:
    """Write bars in the format, and the files of test_file_corpus.py, good and bad, as the initial corpus."""
    from flagbt.data.readers import file_of

    sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
    import test_file_corpus

    corpus = test_file_corpus.GOOD | test_file_corpus.BAD
    files = {name: data for name, (data, _) in corpus.items() if name.endswith(ending)}
    files[f"bars{ending}"] = file_of(test_file_corpus.BARS, ending)
    for name, data in files.items():
        encoded = data.encode() if isinstance(data, str) else data
        if len(encoded) <= LONGEST_INPUT:
            (folder / name).write_bytes(encoded)


def run(ending: str, runs: int, seed: int, keep: Path) -> tuple[int, float, str]:
    """Fuzz one ending in a separate process; return the number of inputs, the seconds, and the failures."""
    with tempfile.TemporaryDirectory() as scratch:
        seeds = Path(scratch)
        write_seeds(ending, seeds)
        options = [
            f"-runs={runs}",
            f"-timeout={SECONDS}",
            f"-rss_limit_mb={MEGABYTES}",
            f"-max_len={LONGEST_INPUT}",
            f"-seed={seed}",
            "-verbosity=1",
            "-close_fd_mask=0",
            f"-artifact_prefix={keep}{os.sep}",
            scratch,
        ]
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, __file__, "--inside", ending, "--", *options], capture_output=True, text=True, errors="replace"
        )
        seconds = time.monotonic() - started
    output = done.stdout + done.stderr
    counts = [int(number) for number in re.findall(r"^#(\d+)\s", output, flags=re.MULTILINE)]
    finished = re.search(r"Done (\d+) runs", output)
    lines = [line for line in output.splitlines() if not re.match(r"#\d+\s|INFO|WARNING", line)]
    failed = "" if finished and done.returncode == 0 else "\n".join(lines[-60:])
    return int(finished[1]) if finished else max(counts, default=0), seconds, failed


def main() -> int:
    """Fuzz the named endings, or all, and print the results."""
    if "--inside" in sys.argv:
        at = sys.argv.index("--")
        fuzz(sys.argv[at - 1], sys.argv[at + 1 :])
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endings", nargs="*", metavar="ENDING", help=f"of {', '.join(endings())}; all by default")
    parser.add_argument("--runs", type=int, default=RUNS, help="inputs for each ending")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other inputs")
    options = parser.parse_args()
    keep = Path(tempfile.mkdtemp(prefix="flagbt-fuzz-"))
    failures = 0
    for ending in options.endings or endings():
        runs, seconds, failed = run(ending, options.runs, options.seed, keep)
        print(f"{ending}: {runs:,} inputs in {seconds:.0f} s, {'FAILED' if failed else 'no failure'}", flush=True)
        if failed:
            print(failed)
        failures += bool(failed)
    if failures:
        print(f"inputs that failed: {keep}")
    else:
        with contextlib.suppress(OSError):
            keep.rmdir()
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
