"""Run folders: complete or absent, the same bytes twice, and read back unchanged."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flagbt.engine.run_settings import RunSettings
from flagbt.engine.simulation import Simulation
from flagbt.errors import RecordError, UsageError
from flagbt.results.evidence import RunEvidence, evidence
from flagbt.results.metrics import metrics
from flagbt.results.recording import record_of
from flagbt.results.run_reader import read_run
from flagbt.results.run_record import RunRecord
from flagbt.results.store import find_run, list_runs, write_page, write_run
from flagbt.results.trial_log import TrialCount
from flagbt.storage import atomic_files

RunMaker = Callable[..., Simulation]
CLOCKS = {"started", "finished", "seconds", "id"}
FILES = {"run.json", "metrics.json", "equity.parquet", "signals.parquet", "orders.csv", "trades.csv", "tearsheet.html"}


@pytest.fixture
def pair(run_maker: RunMaker) -> tuple[Simulation, Simulation]:
    """Give a run of ten days and its benchmark."""
    return run_maker(240), run_maker(240, kind="buy-and-hold")


def save(
    pair: tuple[Simulation, Simulation],
    out: Path,
    page: Callable[[RunRecord], str] = lambda _: "page\n",
    measured: RunEvidence | None = None,
    **provenance: Any,
) -> Path:
    """Write the pair with a one-line page."""
    record = record_of(*pair, measured)
    folder = write_run(replace(record, info=replace(record.info, **provenance)), out, page=page).folder
    assert folder is not None
    return folder


def test_a_run_is_read_back_as_it_was(pair: tuple[Simulation, Simulation], tmp_path: Path) -> None:
    """If it fails, a number, a time or a type changes on its way to disk."""
    run, benchmark = pair
    stored = read_run(save(pair, tmp_path, name="first", notes="why"))
    assert {each.name for each in stored.folder.iterdir()} == FILES
    pd.testing.assert_frame_equal(
        stored.equity, run.equity.assign(benchmark_equity=benchmark.equity["equity"]), check_freq=False
    )
    pd.testing.assert_frame_equal(stored.signals, run.signals, check_freq=False)
    pd.testing.assert_frame_equal(stored.orders, run.orders, check_dtype=False, check_exact=True)
    pd.testing.assert_frame_equal(stored.trades, run.trades, check_dtype=False, check_exact=True)
    assert (stored.metrics, stored.benchmark_metrics) == (metrics(run), metrics(benchmark))
    assert stored.significance is stored.cost_sensitivity is stored.label_scores is None
    assert stored.settings == run.config
    assert stored.info.funnel == run.funnel
    assert stored.info.checkpoint == run.checkpoint
    assert (stored.info.name, stored.info.notes) == ("first", "why")
    assert stored.info.versions["pandas"] == pd.__version__
    assert stored.verdicts.signal.verdict == "skewed"


def test_the_evidence_is_read_back(pair: tuple[Simulation, Simulation], tmp_path: Path) -> None:
    """If it fails, a page shows another significance than the run measured."""
    run, benchmark = pair
    assert run.checkpoint is not None
    read = replace(run, checkpoint=replace(run.checkpoint, text_until=str(run.equity.index[100].date())))
    measured = evidence(read, benchmark, TrialCount(1, (0.5,)))
    stored = read_run(save((read, benchmark), tmp_path, measured=measured))
    assert {name: getattr(stored, name) for name in measured.__dict__} == measured.__dict__
    assert all(measured.__dict__.values())


def test_a_run_of_the_first_format_is_read(pair: tuple[Simulation, Simulation], tmp_path: Path) -> None:
    """If it fails, runs from before significance was measured are lost."""
    folder = save(pair, tmp_path, measured=evidence(*pair, TrialCount(1, (0.5,))))
    for name, change in (("run.json", {"format_version": 1}), ("metrics.json", {})):
        values = json.loads((folder / name).read_text()) | change
        for section in ("certainty", "costs", "labels"):
            values.pop(section, None)
        (folder / name).write_text(json.dumps(values))
    stored = read_run(folder)
    assert stored.significance is stored.cost_sensitivity is stored.label_scores is None
    manifest = json.loads((folder / "run.json").read_text()) | {"format_version": 2}
    (folder / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(RecordError, match=r"metrics.json .*it lacks certainty, costs, labels"):
        read_run(folder)


def test_empty_tables_keep_their_types(run_maker: RunMaker, tmp_path: Path) -> None:
    """If it fails, a run that never traded cannot be read back."""
    stored = read_run(save((run_maker(48, kind="hold"), run_maker(48, kind="buy-and-hold")), tmp_path))
    assert stored.orders.empty
    assert stored.trades.empty
    assert str(stored.trades["entry_time"].dtype) == "datetime64[ns, UTC]"
    assert stored.trades["pnl"].dtype == float


def test_a_run_without_signals_has_no_signals_file(run_maker: RunMaker, tmp_path: Path) -> None:
    """If it fails, a plain Backtrader strategy cannot be recorded."""
    benchmark = run_maker(48, kind="buy-and-hold")
    stored = read_run(save((benchmark, benchmark), tmp_path))
    assert stored.signals is None
    assert not (stored.folder / "signals.parquet").exists()
    assert stored.info.diversity is None
    assert re.fullmatch(r"\d{8}T\d{6}Z-buy-and-hold-[0-9a-f]{6}", stored.folder.name)


def test_two_writes_differ_only_in_clocks_and_id(pair: tuple[Simulation, Simulation], tmp_path: Path) -> None:
    """If it fails, a file holds a clock, a timing, an id or a path, and runs cannot be compared by bytes."""
    first = save(pair, tmp_path / "a")
    slower = replace(pair[0], seconds={"score": 9.9, "replay": 8.8})
    second = save((slower, pair[1]), tmp_path / "elsewhere" / "b")
    for name in FILES - {"run.json"}:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    manifests = [json.loads((folder / "run.json").read_text()) for folder in (first, second)]
    assert {key for key in manifests[0] if manifests[0][key] != manifests[1][key]} <= CLOCKS
    assert manifests[0].keys() == manifests[1].keys()
    for folder in (first, second):
        for name in FILES:
            assert str(tmp_path).encode() not in (folder / name).read_bytes(), name


def test_the_folders_name_is_safe_and_names_the_strategy(pair: tuple[Simulation, Simulation], tmp_path: Path) -> None:
    """If it fails, a strategy's or a checkpoint's name can leave the folder or break a shell."""
    checkpoint = pair[0].checkpoint
    assert checkpoint is not None
    run = replace(
        pair[0],
        config=RunSettings({**pair[0].config, "strategy": "my.module:Class"}),
        checkpoint=replace(checkpoint, name="../../etc/J 4<b>"),
    )
    folder = save((run, pair[1]), tmp_path, started="2026-01-02T03:04:05.678+01:00")
    assert re.fullmatch(r"20260102T020405Z-my\.module-Class-etc-J-4-b-[0-9a-f]{6}", folder.name)
    assert folder.parent == tmp_path


def test_undefined_numbers_are_null_and_the_json_is_sorted(run_maker: RunMaker, tmp_path: Path) -> None:
    """If it fails, metrics.json holds NaN, which no strict reader accepts, or its order depends on the run."""
    folder = save((run_maker(1), run_maker(1, kind="buy-and-hold")), tmp_path)
    for name in ("metrics.json", "run.json"):
        text = (folder / name).read_text()
        assert not re.search(r"\b(NaN|Infinity)\b", text)
        assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert json.loads((folder / "metrics.json").read_text())["strategy"]["sharpe_daily"] is None


def test_the_command_is_kept_as_given_and_only_in_the_manifest(pair: tuple[Simulation, Simulation], tmp_path: Path) -> None:
    """If it fails, the typed command is lost, or an absolute path leaks into another file."""
    command = ("flagbt", "run", "--data", "/home/me/bars.csv", "--name", "bad \udcff byte")
    folder = save(pair, tmp_path, command=command, seeds={"torch": 7})
    info = read_run(folder).info
    assert info.command == command
    assert info.seeds == {"torch": 7}
    assert not any(b"/home/me" in (folder / name).read_bytes() for name in FILES - {"run.json"})


def test_a_failing_report_leaves_nothing(pair: tuple[Simulation, Simulation], tmp_path: Path) -> None:
    """If it fails, an error while rendering leaves a half-written run behind."""

    def report(_: RunRecord) -> str:
        raise RuntimeError("no page today")

    with pytest.raises(RuntimeError, match="no page today"):
        save(pair, tmp_path / "runs", page=report)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_nothing(
    pair: tuple[Simulation, Simulation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """If it fails, a full disk leaves a folder that looks like a run, or a traceback."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(RecordError, match=r"No space left on device.*No partial run was left behind"):
        save(pair, tmp_path / "deep" / "runs")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_between_two_files_leaves_nothing(
    pair: tuple[Simulation, Simulation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, Ctrl-C while writing leaves half a run."""
    real, calls = os.fsync, []

    def interrupted(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(descriptor)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(pair, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["a_file", "a_file/below", "/proc/flagbt-runs"])
def test_an_unusable_out_folder_is_an_error_for_the_user(
    pair: tuple[Simulation, Simulation], tmp_path: Path, place: str
) -> None:
    """If it fails, --out with a file or a read-only place gives a traceback."""
    (tmp_path / "a_file").write_text("here first")
    with pytest.raises(RecordError, match=r"could not be written to .*(a_file|proc).*--out"):
        save(pair, tmp_path / place)
    assert (tmp_path / "a_file").read_text() == "here first"


def test_concurrent_writers_never_share_a_folder(
    pair: tuple[Simulation, Simulation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, two runs of the same second with the same id overwrite each other."""
    ids = iter(["aaaaaa"] * 6 + ["bbbbbb", "cccccc", "dddddd", "eeeeee", "ffffff", "000000"] * 3)
    lock, real = threading.Lock(), secrets.token_hex

    def token(size: int) -> str:
        with lock:  # an id has three bytes; the names of temporary folders have more and stay random
            return next(ids) if size == 3 else real(size)

    monkeypatch.setattr("secrets.token_hex", token)
    found: list[Path] = []
    started = "2026-01-01T00:00:00+00:00"
    threads = [threading.Thread(target=lambda: found.append(save(pair, tmp_path, started=started))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4
    assert sorted(found) == sorted(tmp_path.iterdir())
    assert all(read_run(folder).info.id == folder.name[-6:] for folder in found)


def test_a_page_replaces_the_old_one_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a comparison that cannot be written destroys the existing one."""
    page = write_page(tmp_path / "new" / "compare.html", "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match=r"compare.html: No space left on device.*Choose another file"):
        write_page(page, "new")
    assert page.read_text() == "old"
    assert list(page.parent.iterdir()) == [page]


@pytest.mark.parametrize("name", ["metrics.json", "equity.parquet", "signals.parquet", "orders.csv", "trades.csv"])
def test_missing_and_damaged_files_are_named(pair: tuple[Simulation, Simulation], tmp_path: Path, name: str) -> None:
    """If it fails, a damaged run gives a traceback, or an error without the file's name."""
    folder = save(pair, tmp_path)
    (folder / name).write_bytes(b"\x00{damaged")
    with pytest.raises(RecordError, match=rf"run {folder.name}: {name}.*cannot be read"):
        read_run(folder)
    (folder / name).unlink()
    with pytest.raises(RecordError, match=rf"run {folder.name}: {name} is missing"):
        read_run(folder)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('{"format_version": 4}', "format version 4, and this flagbt reads 1 to 3"),
        ("{}", "format_version is missing"),
        ("[1]", "cannot be read"),
        ("{half", "cannot be read"),
    ],
)
def test_a_newer_or_broken_manifest_is_refused(tmp_path: Path, manifest: str, message: str) -> None:
    """If it fails, a run of a newer flagbt is misread instead of refused."""
    (tmp_path / "run.json").write_text(manifest)
    with pytest.raises(RecordError, match=message):
        read_run(tmp_path)


def test_find_run_by_prefix_id_name_path_and_none(pair: tuple[Simulation, Simulation], tmp_path: Path) -> None:
    """If it fails, a run cannot be named in the usual ways."""
    first = save(pair, tmp_path, name="baseline", started="2026-03-01T00:00:00+00:00")
    second = save(pair, tmp_path, started="2025-01-01T00:00:00+00:00")
    (tmp_path / ".20990101T000000Z-x.partial").mkdir()
    (tmp_path / "notes").mkdir()
    assert list_runs(tmp_path) == [first, second]
    assert find_run(None, tmp_path) == second  # the last one finished, regardless of the folder's name
    assert find_run("20260301", tmp_path) == first
    assert find_run(first.name[-6:], tmp_path) == first
    assert find_run("baseline", tmp_path) == first
    assert find_run(second, tmp_path / "nowhere") == second


def test_find_run_lists_the_candidates(pair: tuple[Simulation, Simulation], tmp_path: Path) -> None:
    """If it fails, a mistyped name gives no help, or an ambiguous one picks a run by chance."""
    with pytest.raises(RecordError, match=r"there are no runs in .*flagbt run --strategy"):
        find_run(None, tmp_path / "none")
    save(pair, tmp_path, name="baseline")
    save(pair, tmp_path)
    with pytest.raises(UsageError, match=r"2 runs .* match"):
        find_run("20", tmp_path)
    with pytest.raises(UsageError, match="Did you mean 'baseline'"):
        find_run("baselin", tmp_path)
    with pytest.raises(RecordError, match="does not exist"):
        find_run(tmp_path / "gone", tmp_path)
    with pytest.raises(RecordError, match="not a run folder"):
        find_run(tmp_path, tmp_path)


def test_checking_a_folder_creates_no_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a killed process leaves a file that no later write removes."""
    if not atomic_files._nameless_file(tmp_path):
        pytest.skip("this file system does not support unnamed files")
    monkeypatch.setattr(atomic_files, "_temporary", lambda *_: pytest.fail("a named file was created"))
    atomic_files.check_writable(tmp_path / "new" / "newer")
    assert list(tmp_path.iterdir()) == []
