"""Fetching that is killed, stopped, run twice at once, or has no room: nothing lost, nothing half, the same file in the end."""

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

from flagbt.data.readers import read_bars
from flagbt.errors import DataError
from flagbt.storage.atomic_files import sha256_of
from flagbt.tests.support.exchange_server import ExchangeServer, assert_equals, fetched, leftovers, make_truth

Serve = Callable[..., ExchangeServer]
LOOPBACK = Path(__file__).parents[1] / "support" / "loopback.py"


def command(server: ExchangeServer, output: Path, *more: str) -> list[str]:
    """Return the words of a fetch as a user types them, in a process that reaches this machine alone."""
    words = ["data", "fetch", "--symbol", "BTC/USDT", "--since", "2020-01-01", "-o", str(output), "--source", "api"]
    return [sys.executable, str(LOOPBACK), *words, "--base-url", server.url, "--patience", "10", *more]


def ran(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def wait_for_pages(server: ExchangeServer, pages: int) -> None:
    """Wait until the exchange was asked for so many pages."""
    until = time.monotonic() + 60
    while server.count("klines") < pages:
        assert time.monotonic() < until
        time.sleep(0.01)


def check_kills(server: ExchangeServer, folder: Path, kills: int, seed: int) -> None:
    """Kill fetches at random moments; assert that each page is asked for once or twice, and the file is an undisturbed one."""
    draw = random.Random(seed)
    server.delay_s = 0.02
    whole, output = folder / "whole.csv", folder / "a.csv"
    began = time.monotonic()
    assert ran(command(server, whole)).returncode == 0
    seconds = time.monotonic() - began
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
    """A laptop that dies in the middle of an hour's fetch would lose the hour, or leave a file that looks whole."""
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
    assert server.count("klines") - pages <= 31 - (pages - 2) + 6  # the rest, one page again, and the gap thrice
    assert_equals(read_bars(output), server.truth["BTCUSDT"])
    assert leftovers(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(serve: Serve, tmp_path: Path, seed: int) -> None:
    """Some moment in between, such as the renaming or the clearing up, would leave a half."""
    check_kills(serve(make_truth("2020-01-01", 20_000, gaps=((2000, 2010),))), tmp_path, kills=15, seed=seed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_says_what_is_kept(serve: Serve, tmp_path: Path, number: signal.Signals) -> None:
    """Who presses Ctrl-C would not know whether to begin again from nothing."""
    server, output = serve(make_truth("2020-01-01", 30_000)), tmp_path / "a.csv"
    server.delay_s = 0.05
    process = subprocess.Popen(command(server, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_pages(server, 5)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "new bars are kept; the same command goes on from there." in said
    assert "flagbt: stopped." in said
    assert "Traceback" not in said
    assert not output.exists()
    server.delay_s = 0.0
    fetched(server, output)
    assert_equals(read_bars(output), server.truth["BTCUSDT"])


def test_two_at_once_do_not_mix(serve: Serve, tmp_path: Path) -> None:
    """Two processes would write into one another's pages."""
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
    """The moment at which one tidies up and the next begins would break either."""
    server, output = serve(make_truth("2020-01-01", 3_000)), tmp_path / "a.csv"
    for _ in range(3):
        all_ = [subprocess.Popen(command(server, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]
        ends = [(process.communicate(timeout=120)[1].decode(), process.returncode) for process in all_]
        assert any(code == 0 for _, code in ends)
        assert all(code == 0 or "is fetching into this file" in said for said, code in ends), ends
        assert_equals(read_bars(output), server.truth["BTCUSDT"])
        assert leftovers(tmp_path) == []
        output.unlink()


def in_small_disk(folder: Path, kilobytes: int, words: list[str], then: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a disk of this size mounted at ``folder``, then a shell line there."""
    mount = f"mount -t tmpfs -o size={kilobytes}k none {folder} && cd {folder}"
    quoted = '"$@"'
    return ran(["unshare", "-m", "sh", "-c", f"{mount} && {{ {quoted}; echo code $?; {then}; }}", "sh", *words])


needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="mounting a small disk needs root",
)


@needs_mount
def test_a_full_disk_loses_nothing(serve: Serve, tmp_path: Path) -> None:
    """Pages that no longer fit would end in a traceback, or in a file that is cut off."""
    server = serve(make_truth("2020-01-01", 9_000))
    output = tmp_path / "disk" / "a.csv"
    output.parent.mkdir()
    words = command(server, output)
    again = f"ls -A; mount -o remount,size=9000k .; {shlex.join(words)}; sha256sum a.csv; ls -A"
    done = in_small_disk(output.parent, 320, words, again)  # room for six pages of 48 kB, then for all
    assert "a.csv: cannot be written (No space left on device)" in done.stderr
    assert "new bars are kept; the same command goes on from there." in done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.split()
    assert lines[:3] == ["code", "1", ".a.csv.fetch"]
    assert lines[-1] == "a.csv"
    fetched(server, tmp_path / "whole.csv")
    assert sha256_of(tmp_path / "whole.csv") in lines


@needs_mount
def test_a_disk_too_full_for_the_file_leaves_the_old_one(serve: Serve, tmp_path: Path) -> None:
    """The last step of a long fetch would leave half a file in the place of the old one."""
    server = serve(make_truth("2020-01-01", 4_000))
    output = tmp_path / "disk" / "a.csv"
    output.parent.mkdir()
    fetched(server, tmp_path / "old.csv", until="2020-02-01")
    words = ["sh", "-c", f'cp {tmp_path}/old.csv a.csv && "$@"', "sh", *command(server, output)]
    done = in_small_disk(output.parent, 300, words, f"cmp a.csv {tmp_path}/old.csv && echo same")
    assert "cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.split()[-1] == "same"


@needs_mount
def test_a_read_only_folder_is_said_before_anything_is_asked(serve: Serve, tmp_path: Path) -> None:
    """An hour of fetching would end in a place that cannot be written."""
    server = serve(make_truth("2020-01-01", 4_000))
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["sh", "-c", 'mount -o remount,ro . && "$@"', "sh", *command(server, folder / "a.csv")]
    done = in_small_disk(folder, 300, words, "ls -A")
    assert "a.csv: cannot be written (Read-only file system)" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.split() == ["code", "1"]
    assert server.requests == []


def test_a_folder_that_cannot_be_written_to(serve: Serve) -> None:
    """A name in a place such as /proc would be a traceback."""
    server = serve(make_truth("2020-01-01", 10))
    with pytest.raises(DataError, match="/proc/a.csv: cannot be written"):
        fetched(server, Path("/proc/a.csv"))


def test_the_command_says_what_it_did(serve: Serve, tmp_path: Path) -> None:
    """Gaps and ends that the exchange has would be in the file unsaid."""
    server, output = serve(make_truth("2020-01-01T05:00", 500, gaps=((100, 103),))), tmp_path / "a.csv"
    done = ran(command(server, output))
    assert done.returncode == 0
    assert "binance has no bar before 2020-01-01T05:00:00Z" in done.stdout
    assert "2020-01-05T08:00:00Z   2020-01-05T12:00:00Z" in done.stdout
    assert "1 gap that the source has" in done.stdout
    assert "497 new bars;" in done.stdout
    values = json.loads(ran(command(server, output, "--json")).stdout)
    assert values["added"] == 0
    assert values["gaps"] == [{"before": "2020-01-05T08:00:00Z", "after": "2020-01-05T12:00:00Z", "missing": 3}]
    assert values["digest"] == read_bars(output).digest
    bad = ran(["yesterday" if word == "2020-01-01" else word for word in command(server, output)])
    assert bad.returncode == 2
    assert "--since: 'yesterday' is no date. Write YYYY-MM-DD" in bad.stderr
