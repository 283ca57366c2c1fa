"""The trial log: what counts as a trial, and that writers do not lose or break each other's lines."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flagbt.arrays import JsonObject
from flagbt.data.bars import Bars
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import Backtest, run_backtest
from flagbt.engine.costs import Costs
from flagbt.engine.simulation import CheckpointInfo
from flagbt.errors import RecordError
from flagbt.results import trial_log as trials_module
from flagbt.results.run_reader import read_run
from flagbt.results.significance.current_trials import CurrentTrials
from flagbt.results.significance.sharpe_ratio import Moments, deflated_sharpe
from flagbt.results.store import list_runs
from flagbt.results.trial_log import TRIALS_FILE, Trial, TrialLog, add_trials, configuration_digest, read_trials, trial_of
from flagbt.strategies.baselines import BuyAndHold, SmaCross

WRITERS, LINES = 8, 60
WRITE = f"""
import sys
from pathlib import Path
from flagbt.results.trial_log import Trial, add_trials

out, writer = Path(sys.argv[1]), sys.argv[2]
(out / writer).touch()
while len(list(out.glob("?"))) < {WRITERS}:  # all start at once
    pass
for line in range({LINES}):
    count = 3 if line % 10 == 0 else 1
    add_trials(out, [Trial("bars", f"{{writer}}-{{line}}-{{each}}", int(writer) / 7) for each in range(count)])
"""
OWN = '''
from flagbt import Signals, Strategy
import numpy as np


class Mine(Strategy):
    """Buys at a bar."""

    def prepare(self, bars):
        signal = np.ones(len(bars), dtype=np.int8)
        signal[BAR] = 2
        return Signals.plain(signal)
'''


def test_eight_processes_lose_nothing(tmp_path: Path) -> None:
    """If it fails, parallel runs hide trials from each other, and the best of many passes for the best of few."""
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), str(writer)]) for writer in range(WRITERS)]
    assert [each.wait() for each in writers] == [0] * WRITERS
    log = read_trials(tmp_path)
    assert log.damaged_lines == 0
    assert len(log.trials) == WRITERS * (LINES + 2 * LINES // 10)


def test_a_torn_line_is_skipped_and_swallows_nothing(tmp_path: Path) -> None:
    """If it fails, a run killed while writing makes the log unreadable, or swallows the next run's line."""
    first, second = Trial("bars", "a", 1.5), Trial("bars", "b", None)
    add_trials(tmp_path, [first])
    with (tmp_path / TRIALS_FILE).open("ab") as file:
        file.write(second.line().encode()[:25])
    assert read_trials(tmp_path) == TrialLog({("bars", "a"): 1.5}, damaged_lines=1)
    add_trials(tmp_path, [second])
    assert read_trials(tmp_path) == TrialLog({("bars", "a"): 1.5, ("bars", "b"): None}, damaged_lines=1)


@pytest.mark.parametrize(
    "line", ["[]", "3", "{}", '{"version": 1}', '{"version": 1, "bars": 3, "configuration": "a", "sharpe": 1}', "\xff{"]
)
def test_lines_that_are_no_trial_are_counted(tmp_path: Path, line: str) -> None:
    """If it fails, one malformed line stops every later run."""
    (tmp_path / TRIALS_FILE).write_bytes(line.encode("latin-1") + b"\n" + Trial("bars", "a", 1.0).line().encode())
    log = read_trials(tmp_path)
    assert (len(log.trials), log.damaged_lines) == (1, 1)


def test_a_newer_log_is_refused(tmp_path: Path) -> None:
    """If it fails, the count leaves out trials of a newer flagbt, which inflates the result."""
    line = json.dumps({**json.loads(Trial("bars", "a", 1.0).line()), "version": 2})
    (tmp_path / TRIALS_FILE).write_text(line + "\n")
    with pytest.raises(RecordError, match=r"trials.jsonl holds lines of the format version 2, and this flagbt reads 1"):
        read_trials(tmp_path)


def test_a_held_lock_does_not_block_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, one stopped process blocks every run of the folder forever."""
    monkeypatch.setattr(trials_module, "LOCK_SECONDS", 0.3)
    add_trials(tmp_path, [Trial("bars", "a", 1.0)])
    with (tmp_path / TRIALS_FILE).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        started = time.monotonic()
        add_trials(tmp_path, [Trial("bars", "b", 1.0)])
        assert time.monotonic() - started < 5
    assert len(read_trials(tmp_path).trials) == 2


def test_a_log_that_cannot_be_written_or_read_is_an_error(tmp_path: Path) -> None:
    """If it fails, trials are lost silently."""
    (tmp_path / TRIALS_FILE).mkdir()
    with pytest.raises(RecordError, match=r"trials.jsonl cannot be written: Is a directory"):
        add_trials(tmp_path, [Trial("bars", "a", 1.0)])
    with pytest.raises(RecordError, match=r"trials.jsonl cannot be read: Is a directory"):
        read_trials(tmp_path)
    assert read_trials(tmp_path / "nowhere") == TrialLog()


def test_many_are_added_in_one_write(tmp_path: Path) -> None:
    """If it fails, a sweep of thousands holds the lock for seconds."""
    add_trials(tmp_path, [])
    assert not (tmp_path / TRIALS_FILE).exists()
    started = time.process_time()
    add_trials(tmp_path, (Trial("bars", str(each), each / 1e4) for each in range(20_000)))
    assert len(read_trials(tmp_path).trials) == 20_000
    assert time.process_time() - started < 5


def test_the_own_trial_counts_once_logged_or_not() -> None:
    """If it fails, a page changes when its command is repeated, or the run itself is missing from the trials."""
    own = Trial("bars", "own", 1.0)
    others = {("bars", "a"): 0.0, ("bars", "b"): None, ("other bars", "c"): 9.0}
    fresh = TrialLog(others).count(own)
    again = TrialLog(others | {("bars", "own"): 1.0}).count(own)
    assert fresh == again
    assert (fresh.trials, fresh.sharpes) == (3, (0.0, 1.0))
    assert fresh.variance == pytest.approx(0.5)
    assert TrialLog().count(own).variance is None


def test_what_makes_another_trial(walk: Callable[..., Bars]) -> None:
    """If it fails, the same configuration counts twice, or different ones count as one."""
    bars = walk(24 * 40, 1)
    year = TimeRange(bars.time[100], None)

    def trial(strategy: object = None, **more: object) -> Trial:
        return trial_of(Backtest(bars=bars, strategy=strategy or SmaCross(), timerange=year, **more).run())  # type: ignore[arg-type]

    base = trial()
    assert base.sharpe is not None
    assert math.isfinite(base.sharpe)
    assert trial() == base
    named = {"data": "other name.csv", "allow_overlap": True, "timerange": "20240101-"}
    assert trial(config=named) == base
    card = CheckpointInfo(name="a", digest="2", label_shares=(0.2, 0.6, 0.2), horizon_bars=6, labels="horizon:6,0.01")
    whole = {**Costs().describe(), "fee_bps": 10}
    assert trial(config=whole) == base
    differing = [
        trial(SmaCross(fast_bars=5)),
        trial(BuyAndHold()),
        trial(costs=Costs(fee_bps=11)),
        trial(cash=20_000.0),
        trial(config={"seed": 1}),
        trial(config={"code": "abc"}),
        trial(checkpoint=replace(card, digest="1")),
        trial(checkpoint=card),
    ]
    assert len({base.configuration, *(each.configuration for each in differing)}) == 9
    assert {each.bars for each in differing} == {base.bars}
    # The same range of a longer file is the same test; another range is not.
    short = bars.take(slice(0, 24 * 30))
    cut = TimeRange(bars.time[100], bars.time[24 * 30])
    same = trial_of(run_backtest(short, SmaCross(), timerange=TimeRange(bars.time[100], None)))
    assert trial_of(run_backtest(bars, SmaCross(), timerange=cut)).bars == same.bars != base.bars


def test_names_of_calibrations_and_checkpoints_do_not_count() -> None:
    """If it fails, `stored` and `stored:default`, or a copied checkpoint, count as two trials."""
    config: JsonObject = {
        "strategy": "flagtrader",
        "parameters": {"calibration": {"scale": 1}},
        "calibration": "stored",
        "checkpoint": "a",
    }
    renamed = config | {"calibration": "stored:default", "checkpoint": "b"}
    assert configuration_digest(config, "1") == configuration_digest(renamed, "1")
    plain = {name: value for name, value in config.items() if name != "parameters"}
    assert configuration_digest(plain, "1") != configuration_digest(plain | {"calibration": "none"}, "1")


def test_ruin_has_no_sharpe_ratio(walk: Callable[..., Bars]) -> None:
    """If it fails, the variance of the trials holds a number that no metric shows."""
    run = run_backtest(walk(24 * 5, 1), BuyAndHold())
    ruined = replace(run, equity=run.equity.assign(equity=np.linspace(10_000, -1, len(run.equity))))
    assert trial_of(ruined).sharpe is None


def test_runs_from_the_command_line(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a run is not logged, changes when it is repeated, or an edited strategy passes for the same trial."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    few = ("--timerange", "20240101-20240215", "--json")

    def flagbt(*words: str) -> dict[str, object]:
        code, out, err = command("run", *words, *few)
        assert code == 0, err
        values = json.loads(out)
        return {
            **values,
            "bytes": {
                name: (Path(values["run"]) / name).read_bytes() for name in ("metrics.json", "tearsheet.html", "orders.csv")
            },
        }

    first = flagbt("--strategy", "sma-cross")
    again = flagbt("--strategy", "sma-cross", "--notes", "the same", "--name", "again")
    assert first["bytes"]["metrics.json"] == again["bytes"]["metrics.json"]  # type: ignore[index]
    repeated = flagbt("--strategy", "sma-cross")
    assert first["bytes"] == repeated["bytes"]
    assert first["certainty"]["deflated_sharpe"]["inputs"]["trials"] == 1  # type: ignore[index]

    (tmp_path / "my_own_trial.py").write_text(OWN.replace("BAR", "100"))
    mine = flagbt("--strategy", "my_own_trial:Mine")
    (tmp_path / "my_own_trial.py").write_text(OWN.replace("BAR", "200"))
    edited = flagbt("--strategy", "my_own_trial:Mine")
    assert [each["certainty"]["deflated_sharpe"]["inputs"]["trials"] for each in (mine, edited)] == [2, 3]  # type: ignore[index]
    assert len((tmp_path / "runs" / TRIALS_FILE).read_text().splitlines()) == 5

    code, shown, _ = command("run", "--strategy", "sma-cross", *few[:2])
    assert code == 0
    assert "sharpe daily, 90 %" in shown
    assert "Of 3 configurations tried on these bars only this one has a Sharpe ratio" in shown  # the others never traded

    os.truncate(tmp_path / "runs" / TRIALS_FILE, 0)
    (tmp_path / "runs" / TRIALS_FILE).write_text('{"version": 2}\n')
    code, _, err = command("run", "--strategy", "sma-cross", *few[:2])
    assert code == 1
    assert "Use the newer flagbt" in err


def test_stored_runs_are_deflated_by_the_trials_known_now(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, an old run still claims "the only configuration tried" next to its reruns, and gets the star."""
    monkeypatch.chdir(tmp_path)
    few = ("--timerange", "20240101-20240601")

    def flagbt(*words: str) -> dict[str, Any]:
        code, out, err = command(*words, "--json")
        assert code == 0, err
        return dict(json.loads(out))

    old = Path(flagbt("run", "--strategy", "sma-cross", "--name", "old", *few)["run"])
    record = {name: (old / name).read_bytes() for name in ("run.json", "metrics.json")}
    first_page = (old / "tearsheet.html").read_bytes()
    flagbt("report", "old")
    assert (old / "tearsheet.html").read_bytes() == first_page  # nothing was tried since
    for fee in (5, 20, 40):
        flagbt("run", "--strategy", "sma-cross", "--fee-bps", str(fee), *few)
    again = flagbt("run", "--strategy", "sma-cross", "--name", "again", *few)["certainty"]
    assert again["deflated_sharpe"]["inputs"]["trials"] == 4

    # By hand: four annualised ratios of the same days, their variance, the formula of the paper.
    shown = flagbt("runs", "show", "old")["certainty"]
    listed = {row["name"]: row for row in flagbt("runs", "list")["runs"]}
    sharpes = [json.loads((each / "metrics.json").read_text())["strategy"]["sharpe_daily"] for each in list_runs(Path("runs"))]
    inputs = shown["probabilistic_sharpe"]["inputs"]
    moments = Moments(inputs["days"], inputs["sharpe_daily"] / math.sqrt(365), inputs["skewness"], inputs["kurtosis"])
    expected = deflated_sharpe(moments, 4, float(np.var(sharpes[:4], ddof=1)) / 365)
    now = shown["deflated_sharpe"]
    assert now["value"] == pytest.approx(expected, rel=1e-12)
    assert now["value"] == again["deflated_sharpe"]["value"]
    assert shown["verdict"] == again["verdict"]
    assert (now["inputs"]["trials"], now["inputs"]["trials_at_run"]) == (4, 1)
    assert "4 configurations were tried on these bars (1 when this run was made)" in now["sentence"]
    for row in (listed["old"], flagbt("compare", "old", "again")["runs"][0]):
        assert (row["trials"], row["trials_at_run"]) == (4, 1)
        assert row["deflated_sharpe"] == now["value"]
    compared = command("compare", "old", "again")[1]
    deflated = next(line for line in compared.splitlines() if line.startswith("Deflated Sharpe ratio"))
    assert "*" not in deflated
    assert re.search(r"Tried on these bars, then / now +1 / 4 +4 / 4", compared)
    assert "1 / 4" in command("runs", "list")[1]
    assert "1 / 4" in (tmp_path / "runs" / "index.html").read_text()
    assert "4 configurations were tried on these bars (1 when" in command("runs", "show", "old")[1]

    # The record keeps its own count, and the same log gives the same bytes.
    pages = []
    for _ in range(2):
        flagbt("report", "old")
        pages.append((old / "tearsheet.html").read_bytes())
    assert pages[0] == pages[1] != first_page
    assert "4 configurations were tried on these bars (1 when this run was made)" in pages[0].decode()
    assert {name: (old / name).read_bytes() for name in record} == record

    # A log with fewer trials than the record changes nothing.
    (tmp_path / "runs" / TRIALS_FILE).unlink()
    assert flagbt("runs", "show", "again")["certainty"] == again
    # A log that cannot be counted is refused, not ignored.
    (tmp_path / "runs" / TRIALS_FILE).write_text('{"version": 2}\n')
    for words in (("runs", "list"), ("runs", "show", "old"), ("report", "old"), ("compare", "old", "again")):
        code, _, err = command(*words)
        assert code == 1
        assert "Use the newer flagbt" in err


def test_a_damaged_certainty_is_named_and_hides_no_other_run(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, one record edited by hand ends every list with a traceback."""
    monkeypatch.chdir(tmp_path)
    for name in ("whole", "broken"):
        assert command("run", "--strategy", "sma-cross", "--timerange", "20240101-20240108", "--name", name)[0] == 0
    broken = list_runs(Path("runs"))[-1]
    metrics = json.loads((broken / "metrics.json").read_text())
    del metrics["certainty"]["deflated_sharpe"]["inputs"]
    (broken / "metrics.json").write_text(json.dumps(metrics))
    listed = json.loads(command("runs", "list", "--json")[1])
    assert [row["name"] for row in listed["runs"]] == ["whole"]
    assert "the section certainty of metrics.json" in listed["damaged"][0]["error"]
    assert command("runs", "show", "broken")[0] == 1
    assert command("run", "--strategy", "buy-and-hold", "--timerange", "20240101-20240108")[0] == 0
    assert "the section certainty of metrics.json" in Path("runs/index.html").read_text()


def test_a_record_that_does_not_name_its_trial_is_found_in_the_log(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, runs from before the record named its trial are never deflated by later trials."""
    monkeypatch.chdir(tmp_path)
    for fee in (10, 5):
        assert command("run", "--strategy", "sma-cross", "--fee-bps", fee, "--timerange", "20240101-20240401")[0] == 0
    old = list_runs(Path("runs"))[0]
    metrics = json.loads((old / "metrics.json").read_text())
    for name in ("trials_at_run", "sharpe_per_day", "skewness", "kurtosis"):
        del metrics["certainty"]["deflated_sharpe"]["inputs"][name]
    manifest = json.loads((old / "run.json").read_text())
    del manifest["trial"]
    (old / "run.json").write_text(json.dumps(manifest))
    (old / "metrics.json").write_text(json.dumps(metrics))
    found = CurrentTrials().run(read_run(old)).significance.deflated_sharpe
    assert (found.inputs["trials"], found.inputs["trials_at_run"]) == (2, 1)
    assert found.value < metrics["certainty"]["deflated_sharpe"]["value"]
