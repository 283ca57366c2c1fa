"""Fetching bars from an exchange that responds correctly: what is fetched, what is kept, what is refused."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exchange_server import HOUR_MS, ExchangeServer, OutsideError, assert_equals, fetched, leftovers, make_truth, ms

from flagbt.data.bars import Bars
from flagbt.data.readers import read_bars, write_bars_csv
from flagbt.errors import DataError, FetchError, FlagbtError, UsageError
from flagbt.fetching.fetch import FetchRequest, fetch_request

Serve = Callable[..., ExchangeServer]
pytestmark = pytest.mark.usefixtures("loopback_only")


def test_the_guard_stops_a_connection_to_another_machine() -> None:
    """A guard that stops nothing would let a test connect to a real exchange unnoticed."""
    with pytest.raises(OutsideError):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)
    with pytest.raises(OutsideError):
        socket.getaddrinfo("api.binance.com", 443)


def test_without_a_base_url_the_exchanges_address_is_used(tmp_path: Path) -> None:
    """A fetch would only work with the option that changes the address."""
    request = FetchRequest(
        exchange="binance", symbol="BTC/USDT", timeframe="1h", since=np.datetime64("2020-01-01"), output=tmp_path / "a.csv"
    )
    with pytest.raises(OutsideError, match=r"api\.binance\.com"):
        fetch_request(request)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_every_finished_bar_is_in_the_file_and_no_unfinished_one(serve: Serve, tmp_path: Path, name: str) -> None:
    """A page would be lost, doubled or cut at its edge, or a bar stored before it was finished."""
    truth = make_truth("2020-01-01", 2504, gaps=((100, 103), (1500, 1701)))
    server = serve(truth, now=truth[-1][0] + 1_800_000)  # the last bar is half done
    done = fetched(server, tmp_path / name)
    bars = read_bars(tmp_path / name)
    assert_equals(bars, truth[:-1])
    assert done.added == len(truth) - 1
    assert [gap.missing for gap in bars.gaps] == [3, 201]
    assert leftovers(tmp_path) == []


def test_a_bar_is_taken_when_it_is_over_and_settled(serve: Serve, tmp_path: Path) -> None:
    """The default end would lag behind, or include a bar that the exchange is still updating."""
    truth = make_truth("2020-01-01", 30)
    for after_ms, bars in ((-1, 29), (1000, 29), (2000, 30)):
        server = serve(truth, now=truth[-1][0] + HOUR_MS + after_ms)
        fetched(server, tmp_path / f"{after_ms}.csv")
        assert len(read_bars(tmp_path / f"{after_ms}.csv")) == bars


@pytest.mark.parametrize("hours", [-30 * 24, 30 * 24])
def test_only_the_exchanges_clock_decides_what_is_finished(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """On a machine whose clock is wrong, unfinished bars would be stored, or finished ones not."""
    truth = make_truth("2020-01-01", 100)
    real = time.time
    shift = truth[-1][0] / 1000 - real() + 3600 * hours
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    done = fetched(serve(truth, now=truth[-1][0] + 1_800_000), tmp_path / "a.csv")
    assert_equals(done.bars, truth[:-1])
    assert "clock" in done.notes[0]


def test_a_clock_that_jumps_between_two_answers_is_read_again(serve: Serve, tmp_path: Path) -> None:
    """One wrong response of the exchange's clock would make unfinished bars look finished."""
    truth = make_truth("2020-01-01", 100)
    server = serve(truth, now=truth[-1][0] + 1_800_000)
    server.clocks = [server.now + 10 * HOUR_MS, server.now, server.now - 99 * HOUR_MS, server.now]
    assert_equals(fetched(server, tmp_path / "a.csv").bars, truth[:-1])
    server.clocks = [server.now + at * HOUR_MS for at in range(20)]
    with pytest.raises(
        FetchError, match=r"binance, its clock: its clock jumps by 3,6\d\d s between two responses \(tried 4 times"
    ):
        fetched(server, tmp_path / "b.csv")


def test_a_wall_clock_that_is_set_back_stops_nothing(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ccxt's rate limit sleeps for as long as the clock was set back."""
    truth, real = make_truth("2020-01-01", 3000), time.time
    now = [0.0]

    def earlier() -> float:
        now[0] -= 3600
        return real() + now[0]

    monkeypatch.setattr(time, "time", earlier)
    started = time.monotonic()
    assert_equals(fetched(serve(truth), tmp_path / "a.csv").bars, truth)
    assert time.monotonic() - started < 20


def test_until_is_the_first_bar_not_taken(serve: Serve, tmp_path: Path) -> None:
    """A range would be one bar short or long."""
    server = serve(make_truth("2020-01-01", 100))
    done = fetched(server, tmp_path / "a.csv", since="2020-01-02", until="2020-01-03T05:00")
    assert_equals(done.bars, server.truth["BTCUSDT"][24:53])
    ahead = fetched(server, tmp_path / "b.csv", until="2030-01-01")
    assert_equals(ahead.bars, server.truth["BTCUSDT"])
    assert any("--until is in the future" in note for note in ahead.notes)


def test_only_what_is_missing_is_fetched_at_both_ends_and_inside(serve: Serve, tmp_path: Path) -> None:
    """Every run would fetch years again, or leave a hole that the exchange could fill."""
    truth = make_truth("2020-01-01", 5000)
    server, output = serve(truth), tmp_path / "a.csv"
    fetched(server, output, since="2020-03-01", until="2020-05-01")
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:500] + lines[520:]))  # 20 bars taken out
    server.requests.clear()
    done = fetched(server, output, since="2020-02-20", until="2020-05-11")
    assert_equals(read_bars(output), truth[50 * 24 : 131 * 24])
    assert done.added == 20 + 240 + 240
    assert server.count("klines") <= 4
    server.requests.clear()
    before = output.stat()
    assert fetched(server, output, since="2020-02-20", until="2020-05-11").added == 0
    assert server.count("klines") == 0
    assert output.stat().st_mtime_ns == before.st_mtime_ns
    fetched(server, output)
    assert_equals(read_bars(output), truth)


def test_a_range_next_to_the_file_is_joined_to_it(serve: Serve, tmp_path: Path) -> None:
    """Bars that were never requested would look like a gap of the exchange."""
    server, output = serve(make_truth("2020-01-01", 1500)), tmp_path / "a.csv"
    fetched(server, output, since="2020-01-10", until="2020-01-12")
    fetched(server, output, since="2020-02-01", until="2020-02-02")
    assert_equals(read_bars(output), server.truth["BTCUSDT"][9 * 24 : 32 * 24])
    fetched(server, output, since="2020-01-01", until="2020-01-03")
    assert_equals(read_bars(output), server.truth["BTCUSDT"][: 32 * 24])


def test_since_before_the_listing_is_reported(serve: Serve, tmp_path: Path) -> None:
    """A user would expect bars that never existed."""
    server = serve(make_truth("2020-03-05T04:00", 1200))
    done = fetched(server, tmp_path / "a.csv", since="2017-01-01")
    assert_equals(done.bars, server.truth["BTCUSDT"])
    assert "binance has no bar before 2020-03-05T04:00:00Z" in done.notes


def test_a_market_that_stopped_trading_ends_where_it_ended(serve: Serve, tmp_path: Path) -> None:
    """The wait for bars that do not exist would not end."""
    truth = make_truth("2020-01-01", 1200)
    server = serve(truth, now=ms("2023-01-01"))
    done = fetched(server, tmp_path / "a.csv")
    assert_equals(done.bars, truth)
    assert "binance has no bar after 2020-02-19T23:00:00Z yet" in done.notes
    assert server.count("klines") < 12


@pytest.mark.parametrize("line", [-1, -3, 1])
def test_a_stored_bar_that_disagrees_is_named_and_nothing_changes(serve: Serve, tmp_path: Path, line: int) -> None:
    """Two markets, or a bar that was stored unfinished, would be joined into one series."""
    server, output = serve(make_truth("2020-01-01", 1500)), tmp_path / "a.csv"
    fetched(server, output, since="2020-01-10", until="2020-01-20")
    lines = output.read_text().splitlines()
    cells = lines[line].split(",")
    lines[line] = ",".join([*cells[:5], "7.25"])
    output.write_text("\n".join(lines) + "\n")
    before = output.read_bytes()
    with pytest.raises(
        DataError, match=rf"the bar {cells[0]} does not agree: the file a.csv has .*7\.25; .* now gives .*{cells[5]}"
    ):
        fetched(server, output)
    assert output.read_bytes() == before


def test_a_file_of_another_market_is_refused(serve: Serve, tmp_path: Path) -> None:
    """Ether would continue bitcoin."""
    server, output = serve(make_truth("2020-01-01", 1500)), tmp_path / "a.csv"
    fetched(server, output, until="2020-01-20")
    before = output.read_bytes()
    with pytest.raises(DataError, match="does not agree"):
        fetched(server, output, symbol="ETH/USDT")
    assert output.read_bytes() == before


def test_a_stored_bar_that_the_exchange_lacks_is_named(serve: Serve, tmp_path: Path) -> None:
    """A file from another source would be extended without one bar in common."""
    truth = make_truth("2020-01-01", 1500)
    server, output = serve(truth), tmp_path / "a.csv"
    fetched(server, output, until="2020-01-20")
    del truth[19 * 24 - 2]
    with pytest.raises(
        DataError, match=r"the bar 2020-01-19T22:00:00Z does not agree: the file a.csv has it, the exchange does not give it"
    ):
        fetched(server, output)


def test_a_stored_bar_that_is_not_finished_is_refused(serve: Serve, tmp_path: Path) -> None:
    """The file would keep half a bar forever."""
    truth = make_truth("2020-01-01", 100)
    server, output = serve(truth), tmp_path / "a.csv"
    fetched(server, output)
    server.now = truth[-1][0] + 60_000
    with pytest.raises(DataError, match="its last bar 2020-01-05T03:00:00Z is not finished"):
        fetched(server, output)


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        ({"exchange": "binanse"}, UsageError, r"--exchange: 'binanse' is unknown. Did you mean 'binance'\?"),
        ({"exchange": "zzzzzz"}, UsageError, r"ccxt knows \d+ exchanges"),
        ({"symbol": "BTC/USDD"}, UsageError, r"--symbol: 'BTC/USDD' is unknown to binance, .* Did you mean 'BTC/USDT'\?"),
        ({"symbol": "ETHUSDT"}, UsageError, r"Did you mean 'ETH/USDT'\?"),
        ({"symbol": "qqq"}, UsageError, r"has 3 symbols. None is similar; symbols are written as BTC/USDT"),
        ({"timeframe": "7h"}, UsageError, r"--timeframe: '7h' is unknown. binance offers .*1h, 2h.*1w\."),
        ({"timeframe": "1M"}, UsageError, r"'1M' has no fixed length"),
        ({"source": "web"}, UsageError, r"--source: 'web' is unknown. Known: api, archive, auto"),
        ({"source": "archive", "exchange": "kraken"}, UsageError, "public archives of binance only, not of kraken"),
        ({"source": "archive", "symbol": "BTC-USDT"}, UsageError, "written as BTC/USDT, got 'BTC-USDT'"),
        ({"source": "archive", "timeframe": "7h"}, UsageError, "The archives offer 1s, 1m"),
        ({"until": "2019-01-01"}, UsageError, "--until: it must be after --since"),
        ({"since": "2031-01-01"}, FetchError, "no finished bar from 2031-01-01"),
    ],
)
def test_names_that_are_unknown(
    serve: Serve, tmp_path: Path, given: dict[str, str], kind: type[FlagbtError], expected: str
) -> None:
    """A typing error would end in a library's traceback, or in a file."""
    with pytest.raises(kind, match=expected):
        fetched(serve(make_truth("2020-01-01", 100)), tmp_path / "a.csv", **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.txt", "ends in .csv, .csv.gz, .parquet"), ("no/a.csv", "no does not exist"), ("folder.csv", "this is a folder")],
)
def test_outputs_that_cannot_be(serve: Serve, tmp_path: Path, name: str, expected: str) -> None:
    """An hour of fetching would end in a name that cannot be written."""
    (tmp_path / "folder.csv").mkdir()
    server = serve(make_truth("2020-01-01", 10))
    with pytest.raises(DataError, match=expected):
        fetched(server, tmp_path / name)
    assert server.requests == []


def test_files_that_would_lose_something_are_refused(serve: Serve, tmp_path: Path, walk: Callable[..., Bars]) -> None:
    """Other columns would be lost; generated prices would be mixed with real ones, or bars of two steps."""
    server = serve(make_truth("2020-01-01", 1500))
    write_bars_csv(walk(50, start="2020-01-03"), tmp_path / "synthetic.csv")
    fetched(server, tmp_path / "a.csv", until="2020-01-05")
    rows = (tmp_path / "a.csv").read_text().splitlines()
    (tmp_path / "wide.csv").write_text("\n".join([f"{rows[0]},trades", *(f"{row},5" for row in rows[1:])]) + "\n")
    (tmp_path / "step.csv").write_text("\n".join([rows[0], *rows[1::4]]) + "\n")
    (tmp_path / "broken.csv").write_text("\n".join([*rows[:5], "2020-01-01T04:00:00Z,1,2"]) + "\n")
    for name, expected in {
        "synthetic.csv": "SYNTHETIC",
        "wide.csv": r"\(trades\); they would be lost",
        "step.csv": "4 h apart",
        "broken.csv": "line 6",
    }.items():
        before = (tmp_path / name).read_bytes()
        with pytest.raises(DataError, match=expected):
            fetched(server, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    assert leftovers(tmp_path) == []


def test_a_link_and_its_permissions_are_kept(serve: Serve, tmp_path: Path) -> None:
    """The file that a link points to would stay old, or become readable for others."""
    server, real = serve(make_truth("2020-01-01", 100)), tmp_path / "real.csv"
    fetched(server, real, until="2020-01-03")
    real.chmod(0o600)
    (tmp_path / "link.csv").symlink_to(real)
    fetched(server, tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert_equals(read_bars(real), server.truth["BTCUSDT"])


def test_a_file_that_another_program_changes_meanwhile_is_not_replaced(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another program wrote during a long fetch would be lost."""
    server, output = serve(make_truth("2020-01-01", 1500)), tmp_path / "a.csv"
    fetched(server, output, until="2020-01-05")
    real = ExchangeServer.klines

    def meddle(self: ExchangeServer, query: dict[str, str]) -> object:
        output.write_text("other")
        return real(self, query)

    monkeypatch.setattr(ExchangeServer, "klines", meddle)
    with pytest.raises(DataError, match="another program has changed this file"):
        fetched(server, output)
    assert output.read_text() == "other"


def test_without_ccxt_the_extra_is_named(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback would not name the package to install."""
    monkeypatch.setitem(__import__("sys").modules, "ccxt", None)
    for source in ("api", "archive", "auto"):
        with pytest.raises(UsageError, match=r"ccxt, which is not installed.*flagbt\[fetch\]"):
            fetched(serve(make_truth("2020-01-01", 10)), tmp_path / "a.csv", source=source)
