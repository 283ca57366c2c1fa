"""Hostile bytes for every reader, led by coverage: `python tests/system/fuzz_readers.py [ENDING ...]`, or `make fuzz`.

Each input is read and checked, half of them with options, which are drawn by the input's checksum. Anything but bars or a
`FlagbtError` of one paragraph is a failure, and so are an input that takes five seconds and a process above one gigabyte. The
first failure stops the ending; its input is kept in the folder that is printed.

The corpus starts with the files of test_file_corpus.py and with every vendor's of vendor_files.py, in each ending that can have
them.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flagbt.data.reading import Reading

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("data", "support")]

RUNS = 20_000
LONGEST_INPUT = 16_384  # bytes
SECONDS, MEGABYTES = 5, 1_000
LONGEST_MESSAGE = 3_000
LINES, ROWS = 16, 8  # of a seed of text and of JSON, so that many inputs are tried in a second
ENDS = ("", "x", "0", "time", "=", ",", "+", ";", "%", "\0", "\u00e9", "9" * 400, "-1", "\n")
OPTIONS = {
    "columns": (
        "time=0,open=1,high=2,low=3,close=4,volume=5",
        "time=0+1,open=2,high=3,low=4,close=5,volume=6",
        "time=Date,open=Open,high=High,low=Low,close=Close,volume=Volume",
        "close_time=0",
        "symbol=0",
        "time=99",
        "open=close,close=open",
        *ENDS,
    ),
    "time_format": ("%Y-%m-%d %H:%M:%S", "%d/%m/%Y %H:%M", "%Y%m%d %H%M%S", "%s", "%Q", "%Y%Y", "%z", "%j %U %w", *ENDS),
    "time_zone": ("America/New_York", "Etc/GMT+5", "UTC", "../../etc/passwd", "/etc/localtime", "Europe", *ENDS),
    "symbol": ("AAPL", "BTCUSDT", "btcusdt", "XXBTZUSD", *ENDS),
    "closed_hours": ("Sat-Sun", "Fri 22:00-Sun 22:00", "Mon-Sun", "Sun 24:00-Mon 00:00", "Sat 99:99-Sun", *ENDS),
}


def endings() -> list[str]:
    """Return the endings of all formats."""
    from flagbt.data.readers import FORMATS

    return list(FORMATS)


def drawn_options(data: bytes) -> dict[str, str]:
    """Return the options to read an input with, or none for every second input; the same for the same bytes."""
    source = random.Random(zlib.crc32(data))
    names = source.sample(sorted(OPTIONS), source.choice((0, 0, 0, 1, 1, 2)))
    return {name: source.choice(OPTIONS[name]) for name in names}


def reading_of(options: dict[str, str]) -> Reading:
    """Return options as a `Reading`, or the default one if they are refused."""
    from flagbt.data.reading import AS_WRITTEN, Reading
    from flagbt.errors import FlagbtError

    try:
        return Reading(**options)
    except FlagbtError as refused:
        check_message(str(refused))
        return AS_WRITTEN


def read_hostile(path: Path, options: dict[str, str] | None = None) -> bool:
    """Read and check any file; return True if it contains bars. Any exception but a FlagbtError is a failure."""
    from flagbt.data.check import check_table
    from flagbt.data.readers import bars_of_file
    from flagbt.errors import FlagbtError

    bars, refused, reading = None, "", reading_of(options or {})
    try:
        bars = bars_of_file(path, reading)
    except FlagbtError as error:
        check_message(str(error))
    try:
        examined = check_table(path, reading)
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
            read_hostile(path, drawn_options(data))
        except Exception:
            print(drawn_options(data), file=sys.stderr)
            traceback.print_exc()
            raise

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def write_seeds(ending: str, folder: Path) -> None:
    """Write bars in the format, the files of test_file_corpus.py, good and bad, and the vendors', as the initial corpus."""
    import test_file_corpus

    from flagbt.data.readers import file_of

    corpus = test_file_corpus.GOOD | test_file_corpus.BAD
    files = {name: data for name, (data, _) in corpus.items() if name.endswith(ending)}
    files[f"bars{ending}"] = file_of(test_file_corpus.BARS, ending)
    files |= vendor_seeds(ending)
    for name, data in files.items():
        encoded = data.encode() if isinstance(data, str) else data
        if len(encoded) <= LONGEST_INPUT:
            (folder / name).write_bytes(encoded)


def vendor_seeds(ending: str) -> dict[str, bytes]:
    """Return the vendors' files, shortened, in one ending: packed, or as a table of text for the columnar formats."""
    import vendor_files

    made: dict[str, bytes] = {}
    for name, each in (vendor_files.FILES | vendor_files.OTHER_FILES).items():
        kind = Path(name).suffix
        text = (
            json.dumps(shortened(json.loads(each.content)))
            if kind == ".json"
            else "".join(each.content.splitlines(True)[:LINES])
        )
        if ending == ".tsv" and kind == ".csv":
            made[f"vendor-{name}"] = text.replace(",", "\t").encode()
        elif ending in (kind, f"{kind}.gz"):
            made[f"vendor-{name}"] = gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode()
        elif ending == ".zip":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(name, text)
            made[f"vendor-{name}"] = packed.getvalue()
        elif ending in (".parquet", ".feather") and kind == ".csv":
            made[f"vendor-{name}"] = columnar(text, ending)
    return made


def shortened(value: object) -> object:
    """Return JSON with at most ``ROWS`` rows in each array of rows."""
    if isinstance(value, dict):
        return {name: shortened(each) for name, each in value.items()}
    if isinstance(value, list):
        return value[:ROWS] if value and isinstance(value[0], list | dict) else value
    return value


def columnar(text: str, ending: str) -> bytes:
    """Return text as a table of a columnar format, as pandas would write what it reads of it."""
    import pandas as pd

    frame = pd.read_csv(io.StringIO(text), sep=None, engine="python").rename(columns=str)
    packed = io.BytesIO()
    frame.to_parquet(packed) if ending == ".parquet" else frame.to_feather(packed)
    return packed.getvalue()


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
