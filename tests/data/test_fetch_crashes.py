"""Fetching that is killed, stopped, run twice at once, or without disk space: nothing is lost, and the file is the same."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from exchange_server import ExchangeServer, assert_equals, fetched, leftovers, make_truth

from flagbt.data.readers import read_bars
from flagbt.errors import DataError
from flagbt.storage.atomic_files import sha256_of

Serve = Callable[..., ExchangeServer]
LOOPBACK = Path(__file__).parents[1] / "support" / "loopback.py"


def command(server: ExchangeServer, output: Path, *more: str) -> list[str]:
    """Return the command line of a fetch, in a process that can connect to this machine only."""
    arguments = ["data", "fetch", "--symbol", "BTC/USDT", "--since", "2020-01-01", "-o", str(output), "--source", "api"]
    return [sys.executable, str(LOOPBACK), *arguments, "--base-url", server.url, "--patience", "10", *more]


def ran(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)


def wait_for_pages(server: ExchangeServer, pages: int) -> None:
    """Wait until the exchange has received this many requests for pages."""
    until = time.monotonic() + 60
    while server.count("klines") < pages:
        assert time.monotonic() < until
        time.sleep(0.01)


def check_kills(server: ExchangeServer, folder: Path, kills: int, seed: int) -> None:
    """Kill fetches at random moments; assert that the file equals that of an undisturbed fetch."""
    draw = random.Random(seed)
    server.delay_s = 0.02
    whole, output = folder / "whole.csv", folder / "a.csv"
    started = time.monotonic()
    assert ran(command(server, whole)).returncode == 0
    seconds = time.monotonic() - started
    for _ in range(kills):
        process = subprocess.Popen(command(server, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.3, 1.1) * seconds)
        process.kill()
        process.wait()
        assert not output.exists() or output.read_bytes() == whole.read_bytes()
        if output.exists():
            output.unlink()
    assert ran(command(server, output)).returncode == 0
    assert output.read_bytes() == whole.read_bytes()
    assert leftovers(folder) == []


def test_a_kill_at_any_moment_loses_at_most_a_page(serve: Serve, tmp_path: Path) -> None:
    """A crash in the middle of an hour's fetch would lose the hour, or leave a part that looks complete."""
    server = serve(make_truth("2020-01-01", 30_000, gaps=((2000, 2010),)))
    server.delay_s = 0.02
    output = tmp_path / "a.csv"
    process = subprocess.Popen(command(server, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_pages(server, 12)
    process.kill()
    process.wait()
    assert not output.exists()
    pages = server.count("klines")
    done = ran(command(server, output, "--json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bars"] == 29_990
    assert server.count("klines") - pages <= 31 - (pages - 2) + 6  # the rest, one page again, and the gap three times
    assert_equals(read_bars(output), server.truth["BTCUSDT"])
    assert leftovers(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(serve: Serve, tmp_path: Path, seed: int) -> None:
    """A kill at some moment, such as during the renaming or the cleanup, would leave an incomplete file."""
    check_kills(serve(make_truth("2020-01-01", 20_000, gaps=((2000, 2010),))), tmp_path, kills=15, seed=seed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_reports_what_is_kept(serve: Serve, tmp_path: Path, number: signal.Signals) -> None:
    """After Ctrl-C a user would not know whether the next fetch starts from nothing."""
    server, output = serve(make_truth("2020-01-01", 30_000)), tmp_path / "a.csv"
    server.delay_s = 0.05
    process = subprocess.Popen(command(server, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_pages(server, 5)
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "new bars are kept; the same command resumes there." in err
    assert "flagbt: stopped." in err
    assert "Traceback" not in err
    assert not output.exists()
    server.delay_s = 0.0
    fetched(server, output)
    assert_equals(read_bars(output), server.truth["BTCUSDT"])


def test_two_at_once_do_not_mix(serve: Serve, tmp_path: Path) -> None:
    """Two processes would write into each other's pages."""
    server, output = serve(make_truth("2020-01-01", 9_000)), tmp_path / "a.csv"
    server.delay_s = 1.0
    first = subprocess.Popen(command(server, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_pages(server, 1)
    second = ran(command(server, output))
    server.delay_s = 0.0
    assert second.returncode == 1
    assert f"another flagbt (process {first.pid}) is fetching into this file" in second.stderr
    assert first.wait(timeout=60) == 0
    assert_equals(read_bars(output), server.truth["BTCUSDT"])
    assert ran(command(server, output)).returncode == 0
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_eight_at_once(serve: Serve, tmp_path: Path) -> None:
    """One process's cleanup would break the next one's start."""
    server, output = serve(make_truth("2020-01-01", 3_000)), tmp_path / "a.csv"
    for _ in range(3):
        all_ = [subprocess.Popen(command(server, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]
        ends = [(process.communicate(timeout=120)[1].decode(), process.returncode) for process in all_]
        assert any(code == 0 for _, code in ends)
        assert all(code == 0 or "is fetching into this file" in err for err, code in ends), ends
        assert_equals(read_bars(output), server.truth["BTCUSDT"])
        assert leftovers(tmp_path) == []
        output.unlink()


def in_small_disk(folder: Path, kilobytes: int, arguments: list[str], then: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a disk of this size mounted at ``folder``, then a shell line there."""
    mount = f"mount -t tmpfs -o size={kilobytes}k none {folder} && cd {folder}"
    quoted = '"$@"'
    return ran(["unshare", "-m", "sh", "-c", f"{mount} && {{ {quoted}; echo code $?; {then}; }}", "sh", *arguments])


needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="mounting a small disk needs root",
)


@needs_mount
def test_a_full_disk_loses_nothing(serve: Serve, tmp_path: Path) -> None:
    """Pages that no longer fit would end in a traceback, or in a truncated file."""
    server = serve(make_truth("2020-01-01", 9_000))
    output = tmp_path / "disk" / "a.csv"
    output.parent.mkdir()
    arguments = command(server, output)
    again = f"ls -A; mount -o remount,size=9000k .; {shlex.join(arguments)}; sha256sum a.csv; ls -A"
    done = in_small_disk(output.parent, 320, arguments, again)  # space for six pages of 48 kB, then for all
    assert "a.csv: cannot be written (No space left on device)" in done.stderr
    assert "new bars are kept; the same command resumes there." in done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.split()
    assert lines[:3] == ["code", "1", ".a.csv.fetch"]
    assert lines[-1] == "a.csv"
    fetched(server, tmp_path / "whole.csv")
    assert sha256_of(tmp_path / "whole.csv") in lines


@needs_mount
def test_a_disk_too_full_for_the_file_leaves_the_old_one(serve: Serve, tmp_path: Path) -> None:
    """The last step of a long fetch would replace the old file by half a file."""
    server = serve(make_truth("2020-01-01", 4_000))
    output = tmp_path / "disk" / "a.csv"
    output.parent.mkdir()
    fetched(server, tmp_path / "old.csv", until="2020-02-01")
    arguments = ["sh", "-c", f'cp {tmp_path}/old.csv a.csv && "$@"', "sh", *command(server, output)]
    done = in_small_disk(output.parent, 300, arguments, f"cmp a.csv {tmp_path}/old.csv && echo same")
    assert "cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.split()[-1] == "same"


@needs_mount
def test_a_read_only_folder_is_reported_before_the_first_request(serve: Serve, tmp_path: Path) -> None:
    """An hour of fetching would end in a folder that cannot be written."""
    server = serve(make_truth("2020-01-01", 4_000))
    folder = tmp_path / "disk"
    folder.mkdir()
    arguments = ["sh", "-c", 'mount -o remount,ro . && "$@"', "sh", *command(server, folder / "a.csv")]
    done = in_small_disk(folder, 300, arguments, "ls -A")
    assert "a.csv: cannot be written (Read-only file system)" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.split() == ["code", "1"]
    assert server.requests == []


def test_a_folder_that_cannot_be_written_to(serve: Serve) -> None:
    """A name in a folder such as /proc would end in a traceback."""
    server = serve(make_truth("2020-01-01", 10))
    with pytest.raises(DataError, match="/proc/a.csv: cannot be written"):
        fetched(server, Path("/proc/a.csv"))


def test_the_command_reports_what_it_did(serve: Serve, tmp_path: Path) -> None:
    """Gaps and ends of the exchange's data would not be reported."""
    server, output = serve(make_truth("2020-01-01T05:00", 500, gaps=((100, 103),))), tmp_path / "a.csv"
    done = ran(command(server, output))
    assert done.returncode == 0
    assert "binance has no bar before 2020-01-01T05:00:00Z" in done.stdout
    assert "2020-01-05T08:00:00Z   2020-01-05T12:00:00Z" in done.stdout
    assert "1 gap at the source, left as is" in done.stdout
    assert "497 new bars;" in done.stdout
    values = json.loads(ran(command(server, output, "--json")).stdout)
    assert values["added"] == 0
    assert values["gaps"] == [{"before": "2020-01-05T08:00:00Z", "after": "2020-01-05T12:00:00Z", "missing": 3}]
    assert values["digest"] == read_bars(output).digest
    bad = ran(["yesterday" if each == "2020-01-01" else each for each in command(server, output)])
    assert bad.returncode == 2
    assert "--since: 'yesterday' is not a date. Write YYYY-MM-DD" in bad.stderr
