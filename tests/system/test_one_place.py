"""One place for each kind of extension: each is made in a copy of the tree, by the edits that CONTRIBUTING.md names.

The commands then run from that copy. What CONTRIBUTING.md lets a script write, such as the tables of the docs, does not count.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from flagbt.data.bars import Bars

ROOT = Path(__file__).resolve().parents[2]
JANUARY = ("--timerange", "20240101-20240201")
pytestmark = pytest.mark.slow


class Copy:
    """A copy of the tree that is importable as flagbt, and the files that were changed in it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.packages, self.desk = folder / "copy", folder / "packages", folder / "desk"
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file() and not name.startswith("tests/engine/bars"):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.root / name)
        self.packages.mkdir()
        (self.packages / "flagbt").symlink_to(self.root)
        self.desk.mkdir()
        self.before = self._digests()

    def _digests(self) -> dict[str, str]:
        files = (path for path in self.root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def touched(self) -> list[str]:
        """Return the files that are new or changed."""
        return sorted(name for name, digest in self._digests().items() if self.before.get(name) != digest)

    def write(self, name: str, text: str) -> None:
        """Write a new file."""
        assert not (self.root / name).exists()
        (self.root / name).write_text(text, encoding="utf-8")

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace texts, each of which occurs once."""
        text = (self.root / name).read_text(encoding="utf-8")
        for old, new in changes:
            assert text.count(old) == 1, f"{name}: {old!r} occurs {text.count(old)} times"
            text = text.replace(old, new)
        (self.root / name).write_text(text, encoding="utf-8")

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in an empty folder, where flagbt is the copy."""
        path = os.pathsep.join(filter(None, (str(self.packages), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "FLAGBT_HOME": str(self.desk / "home")}
        return subprocess.run([sys.executable, *arguments], cwd=self.desk, env=environment, capture_output=True, text=True)

    def flagbt(self, *arguments: str) -> str:
        """Run a command that succeeds, and return its output."""
        done = self.python("-m", "flagbt", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """Run a command that fails, and return its message."""
        done = self.python("-m", "flagbt", *arguments)
        assert done.returncode in (1, 2), done.stdout
        return done.stderr

    def run(self, *arguments: str) -> Path:
        """Run a backtest, and return its folder."""
        return self.desk / json.loads(self.flagbt("run", "--strategy", "sma-cross", *JANUARY, *arguments, "--json"))["run"]

    def compared(self, *arguments: str) -> str:
        """Compare all runs, and return the page."""
        names = sorted(path.name for path in (self.desk / "runs").iterdir() if path.is_dir())
        self.flagbt("compare", *names, "-o", "compare.html", *arguments)
        return (self.desk / "compare.html").read_text(encoding="utf-8")

    def made(self, script: str, *arguments: str) -> str:
        """Run a script of the copy, and return its output."""
        done = self.python(str(self.root / script), *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Return a copy of the tree, which is what its commands run."""
    made = Copy(tmp_path)
    found = made.python("-c", "import flagbt; print(flagbt.__file__)").stdout
    assert Path(found.strip()).resolve() == made.root / "__init__.py"
    return made


JSON_LINES = '''"""JSON lines: a row of epoch seconds, open, high, low, close, volume on each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..bars import COLUMNS, Bars
from ..reading import Reading
from .compressed_text import opened
from .file_format import FileFormat
from .table import Faults, Places, Table


def read_json_lines(path: Path, faults: Faults, reading: Reading) -> Table:
    """Read a file of such lines."""
    with opened(path) as content:
        try:
            rows = np.array([json.loads(line) for line in content.lines()], dtype=np.float64)
        except (ValueError, TypeError, RecursionError):
            rows = np.empty(0)
    if rows.ndim != 2 or rows.shape[1] != 6 or not np.isfinite(rows[:, 0]).all():
        raise DataError(f"{path.name}: expected six numbers on each line. Fetch the file again.")
    values = {name: rows[:, at] for at, name in enumerate(COLUMNS, 1)}
    places = Places(path.name, "line", range(1, len(rows) + 1))
    return Table(rows[:, 0].astype("datetime64[s]").astype("datetime64[ns]"), values, places, False, "JSON lines")


def bars_as_json_lines(bars: Bars) -> bytes:
    """Return the bars as such lines."""
    seconds = bars.time.astype("datetime64[s]").astype(np.int64).tolist()
    rows = zip(seconds, *(getattr(bars, name).tolist() for name in COLUMNS), strict=True)
    return "".join(f"{json.dumps(row)}\\n" for row in rows).encode()


FORMAT = FileFormat(
    endings={".jsonl": "a row of numbers on each line"}, read=read_json_lines, write=bars_as_json_lines
)
'''


def test_a_format_is_one_file(copy: Copy, walk: Callable[..., Bars]) -> None:
    """A new format would be missing from a command, a message, the docs or the fuzzer."""
    copy.write("data/formats/json_lines.py", JSON_LINES)
    assert copy.touched() == ["data/formats/json_lines.py"]

    bars = walk(200)
    seconds = bars.time.astype("datetime64[s]").astype(int).tolist()
    rows = zip(seconds, *(getattr(bars, name).tolist() for name in ("open", "high", "low", "close", "volume")), strict=True)
    (copy.desk / "bars.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert json.loads(copy.flagbt("data", "info", "--data", "bars.jsonl", "--json"))["digest"] == bars.digest
    assert json.loads(copy.flagbt("data", "check", "bars.jsonl", "--json"))["format"] == "JSON lines"
    done = json.loads(copy.flagbt("run", "--strategy", "always-hold", "--data", "bars.jsonl", "--json"))
    assert done["data"]["digest"] == bars.digest
    (copy.desk / "bars.xlsx").write_text("")
    assert ".jsonl" in copy.refused("data", "check", "bars.xlsx")

    copy.made("docs/make_tables.py")
    assert "| `.jsonl` | a row of numbers on each line |" in (copy.root / "docs" / "data.md").read_text(encoding="utf-8")
    assert ".jsonl" in copy.made("tests/system/fuzz_readers.py", "--help")


VENDOR = """    Vendor(
        name="Example Exchange",
        columns={
            "time": "bucket_end",
            "open": "first",
            "high": "top",
            "low": "bottom",
            "close": "last",
            "volume": "lots",
            "symbol": "product",
        },
        marks=("session",),
        time_format="%d %b %Y, %H.%M",
        time_zone="Asia/Tokyo",
        is_close_time=True,
        note="its times are those of Tokyo",
    ),
    Vendor(name="Example Exchange, archive", rows="time, volume, close, open, low, high, count, -, -, -, -"),
"""


def test_a_vendor_is_one_entry(copy: Copy, walk: Callable[..., Bars]) -> None:
    """A new source of bars would need code, or be missing from a command, a message or the docs."""
    assert len(VENDOR.splitlines()) <= 20
    before = '    Vendor(name="Databento"'
    copy.edit("data/formats/vendors.py", (before, VENDOR + before))
    assert copy.touched() == ["data/formats/vendors.py"]

    bars = walk(200)
    ends = pd.DatetimeIndex(bars.time + bars.step).tz_localize("UTC").tz_convert("Asia/Tokyo").strftime("%d %b %Y, %H.%M")
    prices = [getattr(bars, name).tolist() for name in ("open", "high", "low", "close", "volume")]
    rows = [("day", *row) for row in zip(ends, *prices, strict=True)]
    lines = ["Session;Bucket End;First;Top;Bottom;Last;Lots;Product"]
    for product in ("ONE", "TWO"):
        lines += [";".join(map(str, (*row, product))) for row in rows]
    (copy.desk / "example.csv").write_text("\n".join(lines))
    refused = copy.refused("data", "check", "example.csv")
    assert "'ONE', 'TWO'" in refused
    chosen = ("example.csv", "--symbol", "TWO", "--json")
    assert json.loads(copy.flagbt("data", "check", *chosen))["digest"] == bars.digest
    assert "its times are those of Tokyo" in copy.flagbt("data", "check", *chosen)
    done = json.loads(copy.flagbt("run", "--strategy", "always-hold", "--data", *chosen))
    assert done["data"]["digest"] == bars.digest

    seconds = bars.time.astype("datetime64[s]").astype(int).tolist()
    o, high, low, close, volume = prices
    cells = zip(seconds, volume, close, o, low, high, *([7] * 200, *[["x"] * 200] * 4), strict=True)
    (copy.desk / "archive.json").write_text(json.dumps({"answer": list(cells)[::-1]}))
    assert json.loads(copy.flagbt("data", "info", "--data", "archive.json", "--json"))["digest"] == bars.digest

    copy.made("docs/make_tables.py")
    listed = (copy.root / "docs" / "data.md").read_text(encoding="utf-8")
    assert "Example Exchange" in listed
    assert "Example Exchange, archive" in listed


COMMAND = '''"""flagbt span: the years that a file of bars covers."""

from __future__ import annotations

from pathlib import Path

import click

from .console import print_line
from .options import Command, Place, json_option, print_json


@click.command("span", cls=Command, examples=("flagbt span btc_1h.csv", "flagbt span btc_1h.csv --json"))
@click.argument("file", type=Place())
@json_option
def span_command(file: Path, as_json: bool) -> None:
    """Print the years that a file of bars covers."""
    from ..data.readers import read_bars

    bars = read_bars(file)
    years = float((bars.end - bars.time[0]) / (bars.step * 24 * 365)) * bars.step_hours
    print_json({"years": years}) if as_json else print_line(f"{years:.2f} years")
'''


def test_a_command_is_one_file_and_its_place_in_the_help(copy: Copy) -> None:
    """A new command would be missing from the help, a message or the page of the command line."""
    copy.write("cli/span.py", COMMAND)
    before = "from .strategies import strategies_group\n"
    copy.edit(
        "cli/main.py", (before, f"from .span import span_command\n{before}"), ("(data_group, ", "(data_group, span_command, ")
    )
    assert copy.touched() == ["cli/main.py", "cli/span.py"]

    heading = copy.flagbt("--help").partition("cache:\n")[2]
    assert "span" in heading
    assert "Print the years that a file of bars covers." in copy.flagbt("span", "--help")
    copy.flagbt("data", "sample", "-o", "sample.csv")
    assert json.loads(copy.flagbt("span", "sample.csv", "--json"))["years"] > 0
    assert "'span'" in copy.refused("spam")
    assert "## flagbt span\n" in copy.made("docs/make_command_line.py")


STRATEGY = '''"""Long on some days of the week."""

from __future__ import annotations

import numpy as np

from ..data.bars import Bars
from ..data.labels import BUY, SELL
from ..models.signals import Signals
from .base import Strategy


class OneWeekday(Strategy):
    """BUY on one day of the week, SELL on the others.

    Parameters
    ----------
    weekday : int
        0 for Monday.
    """

    name = "one-weekday"
    bars_seen = ()
    reads_bars = False

    def __init__(self, *, weekday: int = 0, short: bool = False) -> None:
        super().__init__(short=short)
        self.weekday = weekday

    def prepare(self, bars: Bars) -> Signals:
        """Return the signals. *Causality: row t uses bars <= t.*"""
        days = (bars.time.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
        return Signals.plain(np.where(days == self.weekday, BUY, SELL).astype(np.int8))

    def describe(self) -> dict[str, object]:
        """Return name, short and the weekday."""
        return super().describe() | {"weekday": self.weekday}
'''


def test_a_strategy_is_a_class_and_a_line(copy: Copy) -> None:
    """A new strategy would be missing from the list, a record, a page, the index or a comparison."""
    copy.write("strategies/one_weekday.py", STRATEGY)
    line = '    "one-weekday": ("flagbt.strategies.one_weekday:OneWeekday", "long on one day of the week"),'
    copy.edit("strategies/registry.py", ('    "random": (', f'{line}\n    "random": ('))
    assert copy.touched() == ["strategies/one_weekday.py", "strategies/registry.py"]

    listed = json.loads(copy.flagbt("strategies", "list", "--json"))["strategies"]
    assert {"name": "one-weekday", "description": "long on one day of the week"} in listed
    assert "Did you mean 'one-weekday'?" in copy.refused("run", "--strategy", "one-weekdy")
    assert json.loads(copy.flagbt("verify", "lookahead", "--strategy", "one-weekday", "--json"))["severity"] == "ok"
    (copy.desk / "run.yaml").write_text("strategy: one-weekday\ntimerange: 20240101-20240201\n")
    run = json.loads(copy.flagbt("run", "--config", "run.yaml", "--param", "weekday=2", "--json"))
    folder = copy.desk / run["run"]
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]["strategy"] == "one-weekday"
    assert "one-weekday" in (folder / "tearsheet.html").read_text(encoding="utf-8")
    assert "--param weekday=2" in (folder / "tearsheet.html").read_text(encoding="utf-8")
    sweep = ("sweep", "--strategy", "one-weekday", "--param", "weekday=0,2", *JANUARY, "--workers", "1", "--json")
    assert json.loads(copy.flagbt(*sweep))["varied"] == ["param.weekday"]
    copy.flagbt("run", "--strategy", "always-hold", *JANUARY)
    assert "one-weekday" in copy.compared()
    assert "one-weekday" in (copy.desk / "runs" / "index.html").read_text(encoding="utf-8")


METRIC = """    best_day: float | None = declared(
        lambda run: float(run.daily_returns.max()) if len(run.daily_returns) else None,
        label="Best day",
        unit="return",
        better=1,
        formula="highest return of a day",
        section="returns",
        headline=True,
        sweep="page",
    )
"""


def test_a_metric_is_one_field(copy: Copy) -> None:
    """A new metric would be missing from a table or an option, or make records from before it unreadable."""
    sweep = ("sweep", "--strategy", "sma-cross", "--param", "fast_bars=6,12", *JANUARY, "--workers", "1", "--json")
    old, swept = copy.run(), json.loads(copy.flagbt(*sweep))["sweep"]
    copy.edit("results/metrics.py", ("    cagr: float | None = declared(", f"{METRIC}    cagr: float | None = declared("))
    assert copy.touched() == ["results/metrics.py"]

    new = copy.run()
    assert json.loads((new / "metrics.json").read_text(encoding="utf-8"))["strategy"]["best_day"] > 0
    assert "Best day" in (new / "tearsheet.html").read_text(encoding="utf-8")
    read = "import flagbt, sys; print([flagbt.read_run(each).metrics.best_day for each in sys.argv[1:]])"
    assert copy.python("-c", read, str(old), str(new)).stdout.startswith("[None, 0.")
    assert "Best day" in copy.compared("--sort", "best_day")
    assert "best_day" in copy.refused("compare", old.name, new.name, "--fail-if", "best_day < 10")
    assert "Did you mean 'best_day'?" in copy.refused("compare", old.name, new.name, "--sort", "bestday")
    again = json.loads(copy.flagbt(*sweep))["sweep"]
    assert again != swept  # another folder: the finished table lacks the column
    assert "best day" in (copy.desk / again / "sweep.html").read_text(encoding="utf-8")
    copy.made("docs/make_tables.py")
    assert "highest return of a day" in (copy.root / "docs" / "reports.md").read_text(encoding="utf-8")


RUN_OPTION = """    skip_bars: int = option(
        0, help="Leave out the first bars of the range.", unit="bars", group="Bars", minimum=0
    )
"""
ALL_BARS = "        timerange=inputs.timerange,\n        costs=request.costs,\n"
SKIPPED = """        timerange=TimeRange(
            inputs.bars.time[inputs.bars.between(inputs.timerange).start + request.skip_bars], inputs.timerange.stop
        ),
        costs=request.costs,
"""


def test_a_run_option_is_a_field_and_its_effect(copy: Copy) -> None:
    """A new option would be missing from the help, a config file, the record, the page, the repeat command or a comparison."""
    before = json.loads((copy.run() / "run.json").read_text(encoding="utf-8"))["trial"]["configuration"]
    field = "    short: bool = option(\n"
    of_python = "    short: bool\n    cash: float\n"
    copy.edit("engine/run_request.py", (field, RUN_OPTION + field), (of_python, f"    skip_bars: int\n{of_python}"))
    copy.edit("workflows/backtest.py", (ALL_BARS, SKIPPED))
    assert copy.touched() == ["engine/run_request.py", "workflows/backtest.py"]

    for command in ("run", "show-config"):
        assert "Leave out the first bars of the range." in copy.flagbt(command, "--help")
    assert "--skip-bars: -1" in copy.refused("run", "--skip-bars", "-1")
    (copy.desk / "run.yaml").write_text("skip_bars: 48\n")
    assert "48" in copy.flagbt("show-config", "--config", "run.yaml")
    whole, part = copy.run(), copy.run("--config", "run.yaml")
    record = json.loads((part / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["skip_bars"] == 48
    assert record["data"]["first"].startswith("2024-01-03")
    assert "skip_bars" not in json.loads((whole / "run.json").read_text(encoding="utf-8"))["config"]
    page = (part / "tearsheet.html").read_text(encoding="utf-8")
    assert "Skip bars" in page
    command = re.search(r"flagbt (run [^<]*--skip-bars 48[^<]*)", page)
    assert command is not None
    repeated = copy.desk / json.loads(copy.flagbt(*shlex.split(command[1]), "--json"))["run"]
    cells = re.search(r"skip bars((?: 0| 48)+) ", re.sub(r"(<[^>]*>|\s)+", " ", copy.compared()))
    assert cells is not None
    assert sorted(cells[1].split()) == ["0", "0", "48", "48"]  # the default, not a dash, where it was not changed
    script = (
        "import flagbt; run = flagbt.backtest(None, 'sma-cross', timerange='20240101-20240201', skip_bars=48);"
        "print(run.settings['skip_bars'], run.info.trial.configuration)"
    )
    digests = [
        json.loads((each / "run.json").read_text(encoding="utf-8"))["trial"]["configuration"]
        for each in (whole, part, repeated)
    ]
    assert copy.python("-c", script).stdout.split() == ["48", digests[1]]
    assert (digests[0], digests[2]) == (before, digests[1])
    assert "--skip-bars" in copy.made("docs/make_command_line.py")


COST = """    funding_bps_per_day: float = option(
        0.0, help="Funding of what is bought, per day.", unit="bps", minimum=0, maximum=1_000, expected=_BPS, sweep=True
    )
"""


def test_a_cost_is_a_field_and_its_arithmetic(copy: Copy) -> None:
    """A new cost would be missing from a command, the record or the sweep, or differ between Backtrader and the fast replay."""
    field, rates = "    lot_size: float = 1e-6\n", "self.borrow_bps_per_day / 10_000, self.lot_size)"
    copy.edit(
        "engine/costs.py",
        (field, COST + field),
        (rates, rates.replace("self.lot_size", "self.lot_size, self.funding_bps_per_day / 10_000")),
    )
    copy.edit(
        "engine/kernel.py",
        ("    borrow: float\n    lot_size: float\n", "    borrow: float\n    lot_size: float\n    funding: float\n"),
        ("close if size < 0 else 0.0\n", "close if size < 0 else rates.funding * days * size * close\n"),
    )
    assert copy.touched() == ["engine/costs.py", "engine/kernel.py"]

    assert "Funding of what is bought, per day." in copy.flagbt("run", "--help")
    assert "expected 0 to 1,000 basis points" in copy.refused("run", "--funding-bps-per-day", "2000")
    free, dear = copy.run(), copy.run("--funding-bps-per-day", "50")
    earned = [
        json.loads((each / "metrics.json").read_text(encoding="utf-8"))["strategy"]["total_return"] for each in (free, dear)
    ]
    assert earned[1] < earned[0]
    assert json.loads((dear / "run.json").read_text(encoding="utf-8"))["config"]["funding_bps_per_day"] == 50
    assert "funding bps per day" in copy.compared().replace("_", " ")
    swept = copy.flagbt("sweep", "--ckpt", "Jan4", *JANUARY, "--funding-bps-per-day", "0,50", "--device", "cpu", "--json")
    assert json.loads(swept)["settings"] == 2
    page = next((copy.desk / "sweeps").glob("*/sweep.html")).read_text(encoding="utf-8")
    assert "funding bps per day" in page.replace("_", " ")


RULE = """    max_hold_bars: int | None = option(
        None, help="Exit once a position is this old.", unit="bars", minimum=1, expected="1 bar or more", sweep=True
    )
"""
EXIT = """    if 0 < limits.max_hold_bars <= held.bars_held:
        return 0.0, MAX_HOLD
"""


def test_a_rule_is_a_field_and_its_condition(copy: Copy) -> None:
    """A new rule would be missing from a command, the funnel or the sweep, or differ between Backtrader and the fast replay."""
    field, off = (
        "    stop_loss: float | None = option(\n",
        "            off if self.close_short_above is None else self.close_short_above,\n",
    )
    codes, limit = "MIN_HOLD, RUIN = 1, 2, 3, 4, 5, 6, 7", "    max_short: float\n    close_short_above: float\n"
    copy.edit(
        "engine/rules.py",
        (field, RULE + field),
        (off, f"{off}            self.max_hold_bars or 0,\n"),
        ("HORIZON, MIN_HOLD, RUIN,", "HORIZON, MAX_HOLD, MIN_HOLD, RUIN,"),
        ('RUIN: "ruin"}', 'RUIN: "ruin", MAX_HOLD: "max_hold"}'),
    )
    copy.edit(
        "engine/kernel.py",
        (codes, codes.replace("RUIN =", "RUIN, MAX_HOLD =") + ", 8"),
        (limit, f"{limit}    max_hold_bars: int\n"),
        ("        return 0.0, HORIZON\n", f"        return 0.0, HORIZON\n{EXIT}"),
    )
    assert copy.touched() == ["engine/kernel.py", "engine/rules.py"]

    assert "--max-hold-bars BARS" in copy.flagbt("run", "--help")
    assert "max_hold_bars is 0, expected 1 bar or more" in copy.refused(
        "sweep", "--strategy", "sma-cross", "--max-hold-bars", "0", *JANUARY
    )
    (copy.desk / "run.yaml").write_text("max_hold_bars: 5\n")
    free, short = copy.run(), copy.run("--config", "run.yaml")
    record = json.loads((short / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["max_hold_bars"] == 5
    assert record["funnel"]["exits"]["max_hold"] > 0
    assert "max_hold_bars" not in json.loads((free / "run.json").read_text(encoding="utf-8"))["config"]
    assert "--max-hold-bars 5" in (short / "tearsheet.html").read_text(encoding="utf-8")
    assert "max hold bars" in copy.compared()
    script = (
        "import flagbt; run = flagbt.backtest(None, 'sma-cross', timerange='20240101-20240201',"
        "rules=flagbt.Rules(max_hold_bars=5)); print(run.info.trial.configuration)"
    )
    assert copy.python("-c", script).stdout.split() == [record["trial"]["configuration"]]
    axes = ("--max-hold-bars", "none,5", "--check-share", "1", "--workers", "1")
    swept = json.loads(copy.flagbt("sweep", "--strategy", "sma-cross", *JANUARY, *axes, "--json"))
    assert (swept["varied"], swept["checked"]["settings"]) == (["max_hold_bars"], 2)
    assert "max hold bars" in (copy.desk / swept["page"]).read_text(encoding="utf-8")


CHECK = '''"""Few bars: whether there are enough."""

from __future__ import annotations

from dataclasses import dataclass

from ..check import Check
from ..finding import OK, WARNING, Evidence, Finding
from ..subject import Subject

FEWEST_BARS = 10_000_000


@dataclass(frozen=True)
class BarCount(Evidence):
    """How many bars are tested."""

    bars: int


def _run(subject: Subject) -> Finding:
    """Count the tested bars."""
    count = int(subject.tested.sum())
    few = count < FEWEST_BARS
    return Finding(
        severity=WARNING if few else OK,
        message=f"{count:,} bars are tested, below {FEWEST_BARS:,}." if few else f"{count:,} bars are tested.",
        remedy="Give more bars." if few else "",
        evidence=BarCount(count),
    )


CHECK = Check(name="few-bars", rank=5, method="counts the tested bars", run=_run, evidence=BarCount)
'''


def test_a_check_is_one_file(copy: Copy) -> None:
    """A new check would be missing from the doctor's report, its JSON, its page or the docs."""
    copy.write("doctor/checks/few_bars.py", CHECK)
    assert copy.touched() == ["doctor/checks/few_bars.py"]

    copy.flagbt("data", "sample", "-o", "sample.csv")
    found = copy.python("-m", "flagbt", "doctor", "--ckpt", "Jan4", "--data", "sample.csv", "--html", "doctor.html", "--json")
    findings = {each["check"]: each for each in json.loads(found.stdout)["findings"]}
    assert findings["few-bars"]["severity"] == "warning"
    assert "few-bars" in (copy.desk / "doctor.html").read_text(encoding="utf-8")
    copy.made("docs/make_tables.py")
    assert "| `few-bars` | counts the tested bars |" in (copy.root / "docs" / "doctor.md").read_text(encoding="utf-8")


MODEL = '''"""The kind ``nearest-mean``: the class whose mean row is the nearest."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ...arrays import Float32Array, FloatArray, Progress
from ..checkpoint_model import ModelParts, RowModel, TrainingTable

FILE = "means.safetensors"


class NearestMeanModel(RowModel):
    """The logit of a class is minus the mean squared distance to its mean training row."""

    files: ClassVar[tuple[str, ...]] = (FILE,)

    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `ReadsRows`."""
        del device, batch_size, progress
        means = self.arrays(FILE)["means"]
        return np.stack([-((rows - mean) ** 2).mean(axis=1) for mean in means], axis=1)

    @classmethod
    def fit(cls, table: TrainingTable, folder: Path, argument: str) -> ModelParts:
        """Average the training rows of each class."""
        from safetensors.numpy import save_file

        del argument
        means = np.stack([table.rows[table.training & (table.labels == code)].mean(axis=0) for code in range(3)])
        save_file({"means": means}, folder / FILE)
        return ModelParts(settings={"n_features": len(table.columns)}, parameters=means.size)
'''
BUILDER = '''def nearest_mean(folder: Path) -> Checkpoint:
    """Train it."""
    from flagbt.training.fit_recipe import FitRecipe
    from flagbt.workflows.train_model import train_model

    recipe = FitRecipe(model="nearest-mean", validation=TimeRange.parse("20230401-"))
    return train_model(training_bars(), folder / "tiny_nearest_mean", recipe)


'''


def test_a_kind_of_model_is_a_file_and_a_line(copy: Copy) -> None:
    """A new kind of model would be missing from a command, or from the tests that hold for every kind."""
    copy.write("models/kinds/nearest_mean_model.py", MODEL)
    path = "flagbt.models.kinds.nearest_mean_model:NearestMeanModel"
    line = f'    "nearest-mean": ("{path}", "the class whose mean row is the nearest"),'
    copy.edit("models/kinds/__init__.py", ('    "forecaster": (', f'{line}\n    "forecaster": ('))
    assert copy.touched() == ["models/kinds/__init__.py", "models/kinds/nearest_mean_model.py"]

    kinds = {each["name"]: each for each in json.loads(copy.flagbt("ckpt", "kinds", "--json"))["kinds"]}
    assert kinds["nearest-mean"]["description"] == "the class whose mean row is the nearest"
    assert (kinds["nearest-mean"]["trained"], kinds["nearest-mean"]["imported"]) == (True, False)
    copy.flagbt("data", "sample", "-o", "sample.csv")
    data = ("--data", "sample.csv")
    refused = copy.refused("train", "--model", "nearest-men", *data, "--name", "near")
    assert "Did you mean 'nearest-mean'?" in refused
    ranges = ("--timerange", "-20240601", "--validation", "20240601-20240801")
    copy.flagbt("train", "--model", "nearest-mean", *data, *ranges, "--name", "near")
    ckpt, august = ("--ckpt", "near", *data), ("--timerange", "20240801-20240901")
    assert json.loads(copy.flagbt("verify", "batch", *ckpt, *august, "--json"))["severity"] == "ok"
    run = json.loads(copy.flagbt("run", *ckpt, *august, "--json"))
    assert "near" in (copy.desk / run["run"] / "tearsheet.html").read_text(encoding="utf-8")
    found = copy.python("-m", "flagbt", "doctor", *ckpt, *august, "--json")
    skipped = {each["check"] for each in json.loads(found.stdout)["findings"] if each["severity"] == "skipped"}
    assert "adapter" in skipped
    assert "shares" not in skipped
    copy.flagbt("calibrate", *ckpt, "--timerange", "20240901-20241101", "--store", "warm", "--force")
    swept = copy.flagbt("sweep", *ckpt, "--calibration", "stored:warm,none", "--timerange", "20241101-20241201", "--json")
    assert json.loads(swept)["settings"] == 2

    copy.edit(
        "tests/support/kinds.py",
        ("# Name of the kind: ", f"{BUILDER}# Name of the kind: "),
        ('    "python": python,\n', '    "python": python,\n    "nearest-mean": nearest_mean,\n'),
    )
    tests = str(copy.root / "tests" / "models" / "test_every_kind.py")
    done = copy.python("-m", "pytest", "-q", "-p", "no:cacheprovider", tests, "-k", "nearest", "-m", "not slow")
    assert re.search(r"\d\d passed", done.stdout), done.stdout + done.stderr
