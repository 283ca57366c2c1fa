"""flagbt data check and data resample: which problems are found, what a fix changes, and what resampling gives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flagbt.data.bars import COLUMNS, HOUR, Bars
from flagbt.data.check import REMEDIES, CheckResult, check_table
from flagbt.data.formats.table import Faults
from flagbt.data.readers import read_bars, write_bars_csv
from flagbt.data.repair import FIX_OF_FAULT, FIXES, repair
from flagbt.data.resample import resample, timeframe
from flagbt.errors import DataError, FlagbtError, UsageError

Walk = Callable[..., Bars]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lines(tmp_path: Path, walk: Walk) -> list[str]:
    """Return the lines of a valid file of 60 bars; line 2 is the first bar."""
    write_bars_csv(walk(60), tmp_path / "good.csv")
    return (tmp_path / "good.csv").read_text().replace(",synthetic", "").replace(",1\n", "\n").splitlines()


def put(folder: Path, lines: list[str], name: str = "bars.csv") -> Path:
    """Write lines as a file."""
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def changed(line: str, column: int, value: str) -> str:
    """Return a row with one cell changed."""
    cells = line.split(",")
    cells[column] = value
    return ",".join(cells)


def kinds(examined: CheckResult) -> dict[str, int]:
    """Return the problems found, with their counts."""
    return {problem.kind: problem.count for problem in examined.problems}


def epochs(lines: list[str], factor: int) -> list[str]:
    """Return the rows with their times as epochs."""
    return [changed(line, 0, str(int(pd.Timestamp(line.split(",")[0]).timestamp()) * factor)) for line in lines]


# Each plants one kind of problem: what it does to the lines, the count found, the fix, and the lines of the rows that go.
Plant = Callable[[list[str]], list[str]]
PLANTED: dict[str, tuple[Plant, int, str, list[int]]] = {
    "damaged": (lambda f: [*f[:9], changed(f[9], 3, "NULL"), *f[10:]], 1, "drop-damaged", [10]),
    "damaged, no last time": (lambda f: [*f[:-1], changed(f[-1], 0, "")], 1, "drop-damaged", [61]),
    "damaged, ragged": (lambda f: [*f[:9], f[9] + ",1", f[10] + ",,", *f[11:]], 2, "drop-damaged", [10, 11]),
    "mixed-units": (lambda f: [f[0], *epochs(f[1:31], 1000), *epochs(f[31:], 1)], 30, "convert-units", []),
    "out-of-order": (lambda f: [*f[:9], f[20], *f[9:20], *f[21:]], 1, "sort", []),
    "duplicates": (lambda f: [*f[:9], f[8], f[8], *f[9:]], 2, "drop-duplicates", [10, 11]),
    "disagreeing": (lambda f: [*f[:9], changed(f[8], 5, "1.5"), *f[9:]], 1, "keep-first", [10]),
    "disagreeing, last": (lambda f: [*f[:8], changed(f[8], 5, "1.5"), *f[8:]], 1, "keep-last", [9]),
    "impossible": (
        lambda f: [*f[:9], changed(f[9], 2, "0"), changed(f[10], 5, "nan"), *f[11:]],
        2,
        "drop-impossible",
        [10, 11],
    ),
    "off-grid": (lambda f: [*f[:9], f[9].replace(":00:00", ":28:14"), *f[10:]], 1, "drop-off-grid", [10]),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_problem_is_found_and_fixed(tmp_path: Path, lines: list[str], name: str) -> None:
    """A problem would be missed, or its fix would touch different rows than the ones it names."""
    plant, count, fix, gone = PLANTED[name]
    path = put(tmp_path, plant(list(lines)))
    before = path.read_bytes()
    examined = check_table(path)
    kind = name.partition(",")[0]
    assert kinds(examined)[kind] == count
    assert fix in REMEDIES[kind].fixes
    assert set(kinds(examined)) <= {kind, "gaps"}
    assert examined.bars is None
    with pytest.raises(DataError):
        read_bars(path)

    fixed = repair(examined, [fix])
    good = read_bars(put(tmp_path, lines, "right.csv"))
    if kind == "damaged" or kind in ("impossible", "off-grid"):
        keep = np.setdiff1d(np.arange(60), np.array(gone) - 2)
    else:
        keep = np.arange(60)
    for column in ("time", *COLUMNS):
        assert np.array_equal(getattr(fixed.bars, column), getattr(good, column)[keep]), column
    if gone:
        assert [change.partition(":")[0] for change in fixed.changes] == [f"line {number}" for number in gone]
    assert len(fixed.changes) >= count
    assert path.read_bytes() == before


def test_other_fixes_change_nothing(tmp_path: Path, lines: list[str]) -> None:
    """A fix would change a file that has no such problem."""
    good = read_bars(put(tmp_path, lines))
    fixed = repair(check_table(tmp_path / "bars.csv"), [fix for fix in FIXES if fix != "keep-last"])
    assert fixed.changes == []
    assert fixed.bars.digest == good.digest


def test_every_kind_has_a_remedy() -> None:
    """A problem would be reported without a remedy, or with a fix that does not exist."""
    for kind, remedy in REMEDIES.items():
        assert len(remedy.message) > 20, kind
        assert set(remedy.fixes) <= set(FIXES)
    assert {fix for remedy in REMEDIES.values() for fix in remedy.fixes} == set(FIXES)
    assert set(FIX_OF_FAULT.values()) <= set(FIXES)


def test_all_at_once(tmp_path: Path, lines: list[str]) -> None:
    """Several faults in one file would hide each other."""
    rows = [lines[0], *epochs(lines[1:31], 1000), *epochs(lines[31:], 1)]
    rows = [rows[0], *rows[:0:-1], changed(rows[1], 5, "7"), changed(rows[2], 4, "")]
    examined = check_table(put(tmp_path, rows))
    assert kinds(examined) == {"damaged": 1, "mixed-units": 31, "disagreeing": 1}
    with pytest.raises(DataError, match=r"add convert-units to --fix \(31 such rows\)"):
        repair(examined, ["drop-damaged", "keep-first"])
    with pytest.raises(DataError, match="occurs twice"):
        repair(examined, ["drop-damaged", "convert-units"])
    fixed = repair(examined, ["keep-first", "convert-units", "drop-damaged"])
    assert fixed.bars.digest == read_bars(put(tmp_path, lines, "right.csv")).digest
    with pytest.raises(UsageError, match="contradict"):
        repair(examined, ["keep-first", "keep-last"])


def test_gaps_and_bars_without_volume_are_reported_and_left(tmp_path: Path, lines: list[str]) -> None:
    """An outage would be reported as a fault, or filled."""
    quiet = changed(lines[30], 5, "0")
    examined = check_table(put(tmp_path, [*lines[:10], *lines[14:30], quiet, *lines[31:]]))
    assert kinds(examined) == {"gaps": 1, "zero-volume": 1}
    assert "4 bars are missing" in examined.problems[0].message
    assert examined.bars is not None
    assert len(examined.bars) == 56


def test_an_unfinished_bar_by_the_clock(tmp_path: Path, lines: list[str]) -> None:
    """A bar that was not finished when the file was written would count as a complete one."""
    path = put(tmp_path, lines)
    end = datetime.fromisoformat(lines[-1].split(",")[0]) + timedelta(hours=1)
    assert "unfinished" in kinds(check_table(path, now=end - timedelta(minutes=1)))
    assert "unfinished" not in kinds(check_table(path, now=end))
    os.utime(path, times=(0, end.timestamp() - 60))
    examined = check_table(path, now=datetime.now(UTC))
    assert "ends at" in examined.problems[0].message
    assert examined.bars is not None  # it is a suspicion, not a refusal
    fixed = repair(examined, ["drop-unfinished"])
    assert len(fixed.bars) == 59
    assert fixed.changes[0].startswith("line 61: left out, suspected unfinished")


def test_an_unfinished_bar_by_its_volume(tmp_path: Path, lines: list[str]) -> None:
    """A file fetched in the middle of a bar and copied later would show no sign."""
    volume = [float(line.split(",")[5]) for line in lines[1:]]
    examined = check_table(put(tmp_path, [*lines[:-1], changed(lines[-1], 5, repr(min(volume) / 100))]))
    assert "of their median" in examined.problems[0].message
    assert kinds(check_table(put(tmp_path, lines))) == {}


def test_signs_of_a_perpetual(tmp_path: Path, lines: list[str]) -> None:
    """Bars of a perpetual future would count as those of the spot market."""
    for name in ("BTC_USDT_USDT-1h-futures.csv", "BTCUSDTPERP.csv", "BTC-USDT-SWAP.csv", "btc_um_1h.csv", "BTCUSD_PERP.csv"):
        assert kinds(check_table(put(tmp_path, lines, name))) == {"perpetual": 1}, name
    swap = [line + (",symbol" if i == 0 else ",BTC-USDT-SWAP") for i, line in enumerate(lines)]
    assert "the market's name contains 'SWAP'" in check_table(put(tmp_path, swap)).problems[0].message
    funding = [line + (",fundingRate" if i == 0 else ",0.0001") for i, line in enumerate(lines)]
    assert "'fundingRate'" in check_table(put(tmp_path, funding)).problems[0].message


@pytest.mark.parametrize("digits", [0, 1, 2, 3])
def test_rounded_volumes_are_not_those_of_a_perpetual(tmp_path: Path, lines: list[str], digits: int) -> None:
    """Shares, forex and spot exchanges that round their volumes would be called perpetual futures."""
    rounded = [lines[0], *(changed(line, 5, f"{max(1, float(line.split(',')[5])):.{digits}f}") for line in lines[1:])]
    assert kinds(check_table(put(tmp_path, rounded))) == {}
    constant = [line + (",OpenInterest" if i == 0 else ",0") for i, line in enumerate(rounded)]
    for name in ("gemini_spot_called_perpetual.csv", "superperforming.csv", "BTCUSDT_umbrella.csv"):
        assert kinds(check_table(put(tmp_path, constant, name))) == {}, name


def test_a_jump_is_reported(tmp_path: Path, lines: list[str]) -> None:
    """A bar with a price of another market, as in some downloads, would go unnoticed."""
    cells = lines[1].split(",")
    cells[1] = cells[2] = repr(4 * float(cells[2]))
    examined = check_table(put(tmp_path, [lines[0], ",".join(cells), *lines[2:]]))
    assert kinds(examined) == {"jumps": 1}
    assert examined.problems[0].where == ("line 2",)


def test_more_faults_than_bars(tmp_path: Path, lines: list[str]) -> None:
    """A file of garbage would fill the memory with messages."""
    path = put(tmp_path, [lines[0], *[changed(lines[1], 1, "x")] * 10_002])
    with pytest.raises(DataError, match="more than 10,000 rows cannot be read"):
        check_table(path)
    faults = Faults(strict=False)
    faults.add("mixed-units", 3, DataError("a"))
    faults.add("damaged", 3, DataError("b"))
    faults.add("mixed-units", 3, DataError("c"))
    assert [(fault.kind, fault.message) for fault in faults.found.values()] == [("damaged", "b")]


# --- the commands ----------------------------------------------------------------------------------------------------


def test_check_command(tmp_path: Path, lines: list[str], command: Command) -> None:
    """A script could not distinguish a bad file from a good one, or see what is wrong."""
    path = put(tmp_path, [*lines[:9], lines[8], *lines[9:]])
    code, out, err = command("data", "check", path)
    assert (code, err) == (1, "")
    assert "duplicates, 1 (line 10)" in out
    assert "--fix drop-duplicates --output" in out
    code, out, err = command("data", "check", path, "--json")
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert (found["readable"], found["rows"], found["problems"][0]["fixes"]) == (False, 61, ["drop-duplicates"])
    code, out, _ = command("data", "check", put(tmp_path, lines), "--json")
    found = json.loads(out)
    assert (code, found["readable"], found["problems"], found["step_hours"]) == (0, True, [], 1.0)
    assert found["digest"] == read_bars(path).digest


def test_fix_command(tmp_path: Path, lines: list[str], command: Command) -> None:
    """A fix would change the old file, leave no list of changes, or replace another file."""
    path = put(tmp_path, [*lines[:9], *[lines[8]] * 30, *lines[9:]])
    before, new = path.read_bytes(), tmp_path / "new.csv"
    code, out, err = command("data", "check", path, "--fix", "drop-duplicates", "--output", new)
    assert (code, err) == (0, "")
    assert "... and 10 more" in out
    changes = (tmp_path / "new.csv.changes.txt").read_text().splitlines()
    assert changes[0] == "bars.csv, CSV: --fix drop-duplicates"
    assert len([line for line in changes if ": left out, equal to line 9 (" in line]) == 30
    assert read_bars(new).digest == read_bars(put(tmp_path, lines, "right.csv")).digest
    assert path.read_bytes() == before
    written = new.read_bytes()
    code, _, err = command("data", "check", path, "--fix", "drop-duplicates", "--output", new)
    assert (code, new.read_bytes()) == (1, written)
    assert "is not replaced" in err
    code, _, err = command("data", "check", path, "--fix", "drop-damaged", "--output", tmp_path / "other.csv")
    assert code == 1
    assert "occurs twice" in err
    assert not list(tmp_path.glob("other*"))


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--fix", "drop-duplicates"], 2, "go together with --output"),
        (["--output", "x.csv"], 2, "go together with --output"),
        (["--fix", "drop-double", "--output", "x.csv"], 2, "Did you mean 'drop-"),
        (["--fix", "sort", "--output", "x.parquet"], 1, "ends in .csv or .csv.gz"),
        (["--fix", "sort", "--output", "nowhere/x.csv"], 1, "Check that its folder exists"),
    ],
)
def test_wrong_use(
    tmp_path: Path,
    lines: list[str],
    command: Command,
    arguments: list[str],
    code: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong option would end in a traceback, or with half of the files."""
    monkeypatch.chdir(tmp_path)
    path = put(tmp_path, lines)
    before = sorted(tmp_path.iterdir())
    got, out, err = command("data", "check", path, *arguments)
    assert (got, out) == (code, "")
    assert expected in err
    assert sorted(tmp_path.iterdir()) == before


# --- resampling ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.integers(0, 200),
    n=st.integers(60, 400),
    holes=st.sets(st.integers(0, 399), max_size=12),
    text=st.sampled_from(["2h", "3h", "4h", "6h", "8h", "12h", "1d", "1w"]),
    seed=st.integers(0, 50),
)
def test_resample_agrees_with_pandas(walk: Walk, first: int, n: int, holes: set[int], text: str, seed: int) -> None:
    """A longer bar would contain the wrong bars, or a bucket with a missing bar would count as complete."""
    start = np.datetime64("2024-01-03T00", "ns") + first * HOUR
    all_bars = walk(n, seed)
    kept = np.array(sorted(set(range(n)) - holes))
    columns = {name: getattr(all_bars, name)[kept] for name in COLUMNS}
    bars = Bars(start + kept * HOUR, **columns, step=HOUR, synthetic=True)
    step = timeframe(text)

    rule = {"1w": "W-MON", "1d": "D"}.get(text, text)
    buckets = bars.frame().resample(rule, label="left", closed="left")
    expected = buckets.agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
    counts = buckets["open"].count()
    whole = expected[counts == int(step / HOUR)]
    partial = counts[(counts > 0) & (counts < int(step / HOUR))]
    if len(whole) < 2:
        with pytest.raises(DataError, match="fewer than two buckets"):
            resample(bars, step)
        return
    joined, dropped, _ = resample(bars, step)
    assert joined.synthetic
    assert np.array_equal(joined.time, whole.index.tz_localize(None).to_numpy())
    for name in ("open", "high", "low", "close"):
        assert np.array_equal(getattr(joined, name), whole[name]), name
    assert np.allclose(joined.volume, whole["volume"], rtol=1e-12)
    assert [(each.time, each.there) for each in dropped] == [
        (time.tz_localize(None).to_datetime64(), count) for time, count in partial.items()
    ]


def test_resample_in_two_steps(walk: Walk) -> None:
    """Resampling to 2 h and then to 8 h would give different bars than resampling to 8 h."""
    bars = walk(24 * 7)
    twice, once = resample(resample(bars, timeframe("2h")).bars, timeframe("8h")).bars, resample(bars, timeframe("8h")).bars
    assert np.array_equal(twice.time, once.time)
    assert all(np.array_equal(getattr(twice, name), getattr(once, name)) for name in ("open", "high", "low", "close"))
    assert np.allclose(twice.volume, once.volume)


@pytest.mark.parametrize("text", ["5h", "0h", "7m", "2d", "2w", "1M", "4", "h", "-4h", "4H", "1.5h", "99999w", ""])
def test_invalid_timeframes(text: str) -> None:
    """Buckets would start at another time every day."""
    with pytest.raises(UsageError, match="--timeframe"):
        timeframe(text)


def test_resample_refuses(tmp_path: Path, walk: Walk) -> None:
    """Bars that do not fit into the buckets would be joined."""
    bars = walk(100)
    for step in ("1h", "30m"):
        with pytest.raises(DataError, match="whole multiple"):
            resample(bars, timeframe(step))
    shifted = Bars(bars.time + np.timedelta64(28, "m"), *(getattr(bars, name) for name in COLUMNS))
    with pytest.raises(DataError, match="off the UTC boundaries"):
        resample(shifted, timeframe("4h"))


def test_resample_command(tmp_path: Path, walk: Walk, command: Command) -> None:
    """The new file would replace another, lose its SYNTHETIC mark, or omit buckets without a message."""
    write_bars_csv(walk(50), tmp_path / "a.csv")
    new = tmp_path / "4h.csv.gz"
    code, out, err = command("data", "resample", tmp_path / "a.csv", "--timeframe", "4h", "--output", new)
    assert (code, err) == (0, "")
    assert "SYNTHETIC" in out
    assert "with 2 of its 4 bars" in out
    bars = read_bars(new)
    assert (len(bars), bars.step_hours, bars.synthetic) == (12, 4.0, True)
    code, _, err = command("data", "resample", tmp_path / "a.csv", "--timeframe", "4h", "--output", new)
    assert code == 1
    assert "is not replaced" in err
    code, out, _ = command(
        "data", "resample", tmp_path / "a.csv", "--timeframe", "12h", "--output", tmp_path / "x.csv", "--json"
    )
    assert code == 0
    assert json.loads(out)["dropped"] == [{"time": "2024-01-03T00:00:00Z", "there": 2, "of": 12}]
    assert issubclass(DataError, FlagbtError)
