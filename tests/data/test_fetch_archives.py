"""Fetching from Binance's public archives: zip files with checksums, complete or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from exchange_server import ExchangeServer, assert_equals, fetched, leftovers, make_truth, ms

from flagbt.data.readers import read_bars
from flagbt.errors import DataError, FetchError

Serve = Callable[..., ExchangeServer]
MONTHS = 24 * (31 + 29 + 31 + 30)  # hours of January to April 2020


@pytest.mark.parametrize("header", [False, True])
def test_months_and_days_are_put_together(serve: Serve, tmp_path: Path, header: bool) -> None:
    """A month's edge would lose or double a bar; the current month, which has daily files only, would be missing."""
    truth = make_truth("2020-01-01", MONTHS + 24 * 10, gaps=((50, 60), (1500, 1510)))
    server = serve(truth, now=ms("2020-05-10T12:00"))
    server.header = header
    done = fetched(server, tmp_path / "a.csv", source="archive")
    assert_equals(read_bars(tmp_path / "a.csv"), [bar for bar in truth if bar[0] < ms("2020-05-10")])
    assert [gap.missing for gap in done.bars.gaps] == [10, 10]
    assert server.count("/api/") == 0
    assert leftovers(tmp_path) == []


def test_stamps_change_from_milliseconds_to_microseconds(serve: Serve, tmp_path: Path) -> None:
    """From 2025 on, bars would get the year 56,000, or be refused."""
    truth = make_truth("2024-12-01", 24 * 70)
    done = fetched(serve(truth, now=ms("2025-02-20")), tmp_path / "a.csv", source="archive", since="2024-12-05")
    assert_equals(done.bars, [bar for bar in truth if bar[0] >= ms("2024-12-05")])


def test_a_late_month_is_taken_by_its_days(serve: Serve, tmp_path: Path) -> None:
    """In the first days of a month, the previous month would be missing, since it has no file yet."""
    truth = make_truth("2020-01-01", 24 * 62)
    server = serve(truth, now=ms("2020-03-02T08:00"))  # February's comes on the 4th
    done = fetched(server, tmp_path / "a.csv", source="archive")
    assert_equals(done.bars, [bar for bar in truth if bar[0] < ms("2020-03-02")])
    assert server.count("daily") > 2 * 28


def test_listing_later_than_since(serve: Serve, tmp_path: Path) -> None:
    """Months before the listing would be refused, or requested day by day."""
    truth = make_truth("2020-02-11T04:00", 24 * 60)
    server = serve(truth, now=ms("2020-05-10"))
    done = fetched(server, tmp_path / "a.csv", source="archive", since="2015-01-01")
    assert_equals(done.bars, truth)
    assert "the archive has no bar before 2020-02-11T04:00:00Z" in done.notes
    assert len(server.requests) < 150


@pytest.mark.parametrize(
    "faults",
    [
        {"-2020-02.zip.CHECKSUM": ["wrong"]},
        {"-2020-02.zip.CHECKSUM": ["html", "404"]},
        {"-2020-02.zip": ["", "truncated", "", "cut"]},
        {"-2020-02.zip": ["", "html"]},
        {"-2020-02.zip": ["", "404"]},
        {"-2020-02.zip": ["503"]},
    ],
)
def test_faults_that_pass(serve: Serve, tmp_path: Path, faults: dict[str, list[str]]) -> None:
    """A download that was cut off would be read as a month, or end the fetch."""
    truth = make_truth("2020-01-01", MONTHS)
    server = serve(truth, now=ms("2020-05-10"))
    server.archive_faults = faults
    assert_equals(fetched(server, tmp_path / "a.csv", source="archive").bars, truth)


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"-2020-02.zip.CHECKSUM": ["wrong"] * 50}, r"BTCUSDT-1h-2020-02.zip: the file is damaged: its SHA-256 is \w+.*0000"),
        ({"-2020-02.zip.CHECKSUM": ["html"] * 50}, "its .CHECKSUM file does not contain its checksum"),
        ({"-2020-02.zip.CHECKSUM": ["404"] * 50}, "there is a file, but no checksum"),
        ({"-2020-02.zip": ["", "truncated"] * 50}, "the file is damaged"),
        ({"-2020-02": ["404"] * 500}, r"no file for 2020-02, but has files .* Use --source auto"),
        ({"spot": ["503"] * 500}, "HTTP 503"),
    ],
)
def test_faults_that_stay(serve: Serve, tmp_path: Path, faults: dict[str, list[str]], expected: str) -> None:
    """A hole in the archive would pass for a gap in the market, or damaged bytes for bars."""
    truth, output = make_truth("2020-01-01", MONTHS), tmp_path / "a.csv"
    server = serve(truth, now=ms("2020-05-10"))
    fetched(server, output, source="archive", until="2020-01-11")
    before = output.read_bytes()
    server.archive_faults = {part: list(each) for part, each in faults.items()}
    with pytest.raises(FetchError, match=expected):
        fetched(server, output, source="archive", patience_s=1.5)
    assert output.read_bytes() == before
    server.archive_faults = {}
    assert_equals(fetched(server, output, source="archive").bars, truth)
    assert_equals(read_bars(output), truth)


def test_a_missing_month_is_taken_by_its_days(serve: Serve, tmp_path: Path) -> None:
    """One missing monthly file would end the fetch, although its daily files exist."""
    truth = make_truth("2020-01-01", MONTHS)
    server = serve(truth, now=ms("2020-05-10"))
    server.archive_faults = {"monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2020-03": ["404"] * 50}
    assert_equals(fetched(server, tmp_path / "a.csv", source="archive").bars, truth)


def test_damaged_bytes_whose_checksum_agrees(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A truncated zip, with a checksum of the truncated bytes, would end in a traceback."""
    server = serve(make_truth("2020-01-01", MONTHS), now=ms("2020-05-10"))
    whole = ExchangeServer.archive
    monkeypatch.setattr(ExchangeServer, "archive", lambda *request: (whole(*request) or b"")[:500] or None)
    with pytest.raises(FetchError, match="not a complete zip archive.*checksum agrees: use --source api"):
        fetched(server, tmp_path / "a.csv", source="archive")
    assert list(tmp_path.iterdir()) == []


def test_another_months_bars_under_this_name(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """February would be stored twice, and March not at all."""
    server = serve(make_truth("2020-01-01", MONTHS), now=ms("2020-05-10"))
    whole = ExchangeServer.archive
    monkeypatch.setattr(ExchangeServer, "archive", lambda self, *request: whole(self, *request[:3], "2020-02"))
    with pytest.raises(FetchError, match="BTCUSDT-1h-2020-01.zip contains bars outside 2020-01"):
        fetched(server, tmp_path / "a.csv", source="archive")


def test_the_archive_must_agree_with_the_file(serve: Serve, tmp_path: Path) -> None:
    """A file of another market, or one that ends at a month's edge, would be extended unchecked."""
    truth, output = make_truth("2020-01-01", MONTHS), tmp_path / "a.csv"
    server = serve(truth, now=ms("2020-05-10"))
    fetched(server, output, until="2020-02-01")
    text = output.read_text()
    output.write_text(text.replace(truth[743][5], "7.25"))  # January's last bar
    with pytest.raises(DataError, match=r"the bar 2020-01-31T23:00:00Z does not agree.*7\.25.*the archive of 2020-01 has"):
        fetched(server, output, source="archive")
    output.write_text(text)
    fetched(server, output, source="archive")
    assert_equals(read_bars(output), truth)


def test_an_unknown_symbol_is_an_error_and_not_an_empty_file(serve: Serve, tmp_path: Path) -> None:
    """A mistyped symbol, for which the archive has no files, would give an empty file."""
    server = serve(make_truth("2020-01-01", MONTHS), now=ms("2020-05-10"))
    with pytest.raises(FetchError, match="the archive has no file for BTCUSDX in this range"):
        fetched(server, tmp_path / "a.csv", source="archive", symbol="BTC/USDX", since="2020-01-01")


def minutes(bars: int, gaps: tuple[tuple[int, int], ...] = ()) -> list[tuple[int, str, str, str, str, str]]:
    """Return one-minute bars."""
    return make_truth("2020-01-25", bars, step_ms=60_000, gaps=gaps)


def test_auto_takes_months_from_the_archive_and_the_rest_from_the_exchange(serve: Serve, tmp_path: Path) -> None:
    """A year of minutes would take hundreds of responses instead of two, or bars that the archive lacks would stay missing."""
    truth = minutes(1440 * 40, gaps=((2000, 2100), (30_000, 30_010)))
    server = serve(truth, step="1m")
    done = fetched(server, tmp_path / "a.csv", source="auto", timeframe="1m")
    assert_equals(read_bars(tmp_path / "a.csv"), truth)
    assert len({path for path in server.requests if "monthly" in path}) == 4  # January and February, each with its checksum
    assert server.count("klines?") < 20
    assert [gap.missing for gap in done.bars.gaps] == [100, 10]


def test_auto_fetches_from_the_exchange_what_the_archive_lacks(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hole in a month's file, or a month without a file, would become a gap."""
    truth = minutes(1440 * 40)
    server = serve(truth, step="1m")
    whole = ExchangeServer.archive

    def incomplete(self: ExchangeServer, kind: str, symbol: str, step: str, stamp: str) -> bytes | None:
        if stamp == "2020-02":
            return None
        kept = self.truth
        self.truth = {"BTCUSDT": [bar for at, bar in enumerate(truth) if not 3000 <= at < 3300]}
        try:
            return whole(self, kind, symbol, step, stamp)
        finally:
            self.truth = kept

    monkeypatch.setattr(ExchangeServer, "archive", incomplete)
    assert_equals(fetched(server, tmp_path / "a.parquet", source="auto", timeframe="1m").bars, truth)
    assert_equals(read_bars(tmp_path / "a.parquet"), truth)


def test_auto_compares_the_archive_with_the_exchange(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources that do not agree would be joined."""
    truth = minutes(1440 * 40)
    server = serve(truth, step="1m")
    whole = ExchangeServer.archive

    def other(self: ExchangeServer, *request: str) -> bytes | None:
        kept = self.truth
        self.truth = {"BTCUSDT": [(*bar[:5], "7.25") for bar in truth]}
        try:
            return whole(self, *request)
        finally:
            self.truth = kept

    monkeypatch.setattr(ExchangeServer, "archive", other)
    with pytest.raises(FetchError, match=r"does not agree: an earlier response has .*7\.25; the exchange now gives"):
        fetched(server, tmp_path / "a.csv", source="auto", timeframe="1m", until="2020-02-20")
    assert list(tmp_path.iterdir()) == []


def test_auto_leaves_hours_to_the_exchange(serve: Serve, tmp_path: Path) -> None:
    """Hourly bars would take longer: a month is two downloads instead of one response."""
    server = serve(make_truth("2020-01-01", MONTHS), now=ms("2020-05-10"))
    fetched(server, tmp_path / "a.csv", source="auto")
    assert server.count("monthly") == 0
