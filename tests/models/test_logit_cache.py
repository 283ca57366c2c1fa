"""The cache of logits on disk: the same bits as scored logits, and never those of another key."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.errors import CheckpointError, DeviceError
from flagbt.models import checkpoint_model, logit_cache
from flagbt.models.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from flagbt.models.kinds.network_model import NetworkModel
from flagbt.models.logit_cache import cache_folder, clear, entries, entry_of, logits_of, read_entry, write_entry
from flagbt.models.model_signals import ModelSignals
from flagbt.storage.atomic_files import TEMPORARY_PREFIX
from flagbt.storage.locks import try_lock

Walk = Callable[..., Bars]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give a list of the names of all checkpoints whose network is loaded; loading itself is not replaced."""
    from flagbt.models.kinds import network

    names: list[str] = []
    real = network.load_network
    monkeypatch.setattr(network, "load_network", lambda checkpoint: (names.append(checkpoint.name), real(checkpoint))[1])
    return names


def the_entry() -> Path:
    """Return the one file of the cache."""
    (only,) = cache_folder().glob("*.logits")
    return only


def test_a_hit_has_the_bits_of_scoring_and_loads_no_network(nano: Checkpoint, walk: Walk, scored: list[str]) -> None:
    """If it fails, a cached logit differs in a bit, and a run depends on earlier runs."""
    bars, seen = walk(700, seed=1), []
    fresh = logits_of(nano, bars, cache=False)
    first = logits_of(nano, bars)
    assert scored == ["nano", "nano"]
    second = logits_of(nano, bars, progress=lambda done, total: seen.append((done, total)))
    assert scored == ["nano", "nano"]
    assert seen == [(700, 700)]
    assert np.isfinite(fresh).any()
    assert fresh.tobytes() == first.tobytes() == second.tobytes()
    signals = ModelSignals(checkpoint=nano, device="cpu")(bars)
    assert len(scored) == 2
    assert signals.logits is not None
    assert signals.logits.tobytes() == fresh.tobytes()


def test_without_the_cache_nothing_is_read_or_written(nano: Checkpoint, walk: Walk, scored: list[str]) -> None:
    """If it fails, --no-cache still reads or writes the cache."""
    bars = walk(500, seed=1)
    logits_of(nano, bars, cache=False)
    assert not cache_folder().exists()
    logits_of(nano, bars)
    logits_of(nano, bars, cache=False)
    assert len(scored) == 3


def test_whatever_moves_a_logit_is_another_entry(nano: Checkpoint, walk: Walk, scored: list[str], tmp_path: Path) -> None:
    """If it fails, the key lacks something, and one model gets the logits of another."""
    bars = walk(500, seed=1)
    logits_of(nano, bars)
    columns = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close", "volume")}
    columns["volume"][-1] *= 1.001
    logits_of(nano, Bars(bars.time, **columns))  # one value of one bar
    logits_of(nano, Bars(bars.time + np.timedelta64(8760, "h"), **columns))  # the same rows at other times
    logits_of(nano, bars.take(slice(0, 499)))
    logits_of(nano, bars, batch_chunks=3)
    other = tmp_path / "other"
    shutil.copytree(nano.folder, other)
    values = json.loads((other / "checkpoint.json").read_text())
    values["ranges"]["training"] = "20220101-20220301"  # part of its identity, as the weights are
    (other / "checkpoint.json").write_text(json.dumps(values))
    logits_of(read_checkpoint(other), bars)
    assert len(scored) == 6
    assert len(list(cache_folder().iterdir())) == 6
    logits_of(nano, bars)
    assert len(scored) == 6


def test_changed_feature_code_is_not_answered_with_old_logits(
    nano: Checkpoint, walk: Walk, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, feature code that differs on these bars but not on the probe series gets old logits."""
    bars, schema = walk(500, seed=1), type(nano.schema)
    logits_of(nano, bars)
    real = schema.rows
    monkeypatch.setattr(schema, "rows", lambda self, given: real(self, given) * np.float32(1.0001))
    logits_of(nano, bars)
    assert len(scored) == 2


def test_changed_scoring_code_is_not_answered_with_old_logits(
    nano: Checkpoint, walk: Walk, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the logits of old network code survive a change of the code."""
    bars = walk(500, seed=1)
    logits_of(nano, bars)
    monkeypatch.setattr(checkpoint_model, "digest_of_code", lambda _kind: "another")
    logits_of(nano, bars)
    assert len(scored) == 2
    folder = Path(logit_cache.__file__).parent
    files = {f"{name.removeprefix('models.').replace('.', '/')}.py" for name in NetworkModel.modules}
    imported = {name for file in files for name in imported_models(folder / file, folder)}
    # What checkpoint.py and description.py read is in the checkpoint's digest; the class's own files are added by its bases.
    own = {"checkpoint.py", "description.py", "checkpoint_model.py", "device.py", "kinds/network_model.py"}
    assert imported - own | {"kinds/scoring.py", "kinds/network.py"} == files


def imported_models(file: Path, folder: Path) -> set[str]:
    """Return the paths below ``folder`` of the modules there that a file imports."""
    found = re.findall(r"^ *from (\.+)([\w.]+) import", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    paths = [file.parents[len(dots) - 1].joinpath(*name.split(".")).with_suffix(".py") for dots, name in found]
    return {path.relative_to(folder).as_posix() for path in paths if path.is_relative_to(folder)}


DAMAGES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "empty": lambda good, other: b"",
    "40 bytes": lambda good, other: good[:40],
    "half": lambda good, other: good[: len(good) // 2],
    "a byte short": lambda good, other: good[:-1],
    "a byte more": lambda good, other: good + b"\n",
    "a bit of a logit": lambda good, other: good[:-9] + bytes([good[-9] ^ 1]) + good[-8:],
    "key": lambda good, other: good.replace(b'"merged"', b'"parted"'),
    "digest": lambda good, other: bytes([good[0] ^ 1]) + good[1:],
    "another's": lambda good, other: other,
    "png": lambda good, other: b"\x89PNG\r\n\x1a\n" * 1000,
    "lines": lambda good, other: b"\n" * 3,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_scored_again(damage: str, nano: Checkpoint, walk: Walk, scored: list[str]) -> None:
    """If it fails, a backtest uses damaged bits as logits."""
    bars = walk(500, seed=1)
    logits_of(nano, bars, batch_chunks=2)
    other = the_entry().read_bytes()
    clear()
    fresh = logits_of(nano, bars)
    path, good = the_entry(), the_entry().read_bytes()
    path.write_bytes(DAMAGES[damage](good, other))
    assert path.read_bytes() != good
    again = logits_of(nano, bars)
    assert len(scored) == 3
    assert again.tobytes() == fresh.tobytes()
    assert path.read_bytes() == good
    logits_of(nano, bars)
    assert len(scored) == 3


def test_a_damaged_checkpoint_does_not_pass_because_of_a_hit(nano: Checkpoint, walk: Walk, tmp_path: Path) -> None:
    """If it fails, a damaged checkpoint is accepted because its logits are in the cache."""
    folder = tmp_path / "copy"
    shutil.copytree(nano.folder, folder)
    checkpoint, bars = read_checkpoint(folder), walk(500, seed=1)
    logits_of(checkpoint, bars)
    adapter = folder / "adapter.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="differs from what was saved"):
        logits_of(checkpoint, bars)
    adapter.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        logits_of(checkpoint, bars)


def test_a_missing_device_is_refused_with_a_hit_as_well(nano: Checkpoint, walk: Walk) -> None:
    """If it fails, a run that requests a missing GPU gets logits of the CPU."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    bars = walk(500, seed=1)
    logits_of(nano, bars)
    with pytest.raises(DeviceError):
        logits_of(nano, bars, device="cuda")


@pytest.mark.parametrize("obstacle", ["file for a folder", "full"])
def test_where_nothing_can_be_kept_scoring_continues_and_warns_once(
    obstacle: str, nano: Checkpoint, walk: Walk, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If it fails, a cache that cannot be written stops a run, or fails silently."""
    resource = pytest.importorskip("resource")
    bars = walk(500, seed=1)
    fresh = logits_of(nano, bars, cache=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if obstacle == "full":  # limits files to 1,000 bytes: another error than that of a full disk, with the same effect
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        else:
            home.write_text("no folder")
        twice = [logits_of(nano, bars), logits_of(nano, bars)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert all(each.tobytes() == fresh.tobytes() for each in twice)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "flagbt"]
    assert str(home) in warning
    assert "--no-cache" in warning
    assert "FLAGBT_HOME" in warning
    assert not home.is_dir() or [path for path in home.rglob("*") if path.is_file()] == []


def key_and_logits(number: int, n_bars: int = 2000) -> tuple[dict[str, Any], np.ndarray]:
    """Return a key and logits that belong together."""
    return {"checkpoint": f"{number:064d}", "n": number}, np.random.default_rng(number).normal(size=(n_bars, 3))


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from test_logit_cache import key_and_logits, write_entry
print("ready", flush=True)
while True:
    write_entry(*key_and_logits(7, 40_000))
"""


def test_two_writers_and_a_kill_leave_whole_entries_only(home: Path) -> None:
    """If it fails, a reader gets part of an entry while others write, or after kill -9."""
    key, logits = key_and_logits(7, 40_000)
    code = WRITER.format(tests=str(Path(__file__).parent))
    for _ in range(2):
        writers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
        try:
            assert all(writer.stdout is not None and writer.stdout.readline() == b"ready\n" for writer in writers)
            until, hits = time.monotonic() + 0.7, 0
            while time.monotonic() < until:
                found = read_entry(key, 40_000)
                if found is None:
                    assert not entry_of(key).exists() or hits == 0
                    continue
                hits += 1
                assert found.tobytes() == logits.tobytes()
            assert hits > 3
        finally:
            for writer in writers:
                writer.send_signal(signal.SIGKILL)
                writer.communicate()
        found = read_entry(key, 40_000)
        assert found is not None
        assert found.tobytes() == logits.tobytes()
    assert [each.path for each in entries()] == [entry_of(key)]


def test_the_longest_unused_go_first_and_killed_writers_leftovers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, the cache fills the disk, or removes entries that are in use."""
    for number in range(4):
        write_entry(*key_and_logits(number))
        os.utime(entry_of(key_and_logits(number)[0]), (1e9 + number, 1e9 + number))
    size = entries()[0].size
    assert read_entry(key_and_logits(0)[0], 2000) is not None  # now the latest used
    abandoned, being_written = (cache_folder() / f"{TEMPORARY_PREFIX}{n:08x}-entry" for n in range(2))
    for path in (abandoned, being_written):
        path.write_bytes(b"half")
    monkeypatch.setattr(logit_cache, "LARGEST_BYTES", 3 * size)
    with try_lock(being_written):
        write_entry(*key_and_logits(4))
    assert [n for n in range(5) if read_entry(key_and_logits(n)[0], 2000) is not None] == [0, 3, 4]
    assert (abandoned.exists(), being_written.exists()) == (False, True)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Return every file of a run folder, without the clock fields of run.json."""
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    manifest = json.loads(found["run.json"])
    for clock in ("started", "finished", "seconds", "id"):
        del manifest[clock]
    return {**found, "run.json": json.dumps(manifest).encode()}


def test_a_run_is_the_same_with_and_without_the_cache(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, scored: list[str]
) -> None:
    """If it fails, the cache changes more than how long a run takes."""
    line = [
        "run",
        "--ckpt",
        "focal",
        "--timerange",
        "20240101-20240201",
        "--device",
        "cpu",
        "--out",
        tmp_path / "runs",
        "--json",
    ]
    folders = []
    for more in (["--no-cache"], [], []):
        code, out, err = command(*line, *more)
        assert (code, err) == (0, "")
        folders.append(Path(json.loads(out)["run"]))
    assert scored == ["focal", "focal"]
    without, first, hit = map(folder_bytes, folders)
    assert first == hit
    assert {name for name in first if without[name] != first[name]} <= {"run.json"}  # it holds the command, --no-cache included
    a, b = json.loads(without["run.json"]), json.loads(hit["run.json"])
    assert a.pop("command") != b.pop("command")
    assert a == b


def test_cache_info_and_clear(command: Callable[..., tuple[int, str, str]], home: Path) -> None:
    """If it fails, the cache cannot be listed and cleared, or clearing removes a user's own file."""
    assert json.loads(command("cache", "info", "--json")[1])["entries"] == []
    checkpoint = find_checkpoint("focal")
    write_entry({"checkpoint": checkpoint.digest}, np.zeros((5, 3)))
    (cache_folder() / "damaged.logits").write_bytes(b"\n{{{\n")
    mine = cache_folder() / "notes.txt"
    mine.write_text("mine")
    info = json.loads(command("cache", "info", "--json")[1])
    assert info["folder"] == str(home / "cache" / "logits")
    assert sorted(each["checkpoint"] for each in info["entries"]) == sorted([checkpoint.digest[:12], "damaged"])
    assert info["bytes"] == sum(path.stat().st_size for path in cache_folder().glob("*.logits"))
    assert "2 entries" in command("cache", "info")[1]
    assert json.loads(command("cache", "clear", "--json")[1])["removed"] == 2
    assert [path.name for path in cache_folder().iterdir()] == ["notes.txt"]
    assert "0 entries" in command("cache", "clear")[1]
