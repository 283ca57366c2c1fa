"""Fetching from an exchange with faulty responses: the file equals the true bars, or is unchanged with an error message."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from exchange_server import ExchangeServer, assert_equals, fetched, make_truth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flagbt.data.readers import read_bars
from flagbt.errors import FetchError, FlagbtError

Serve = Callable[..., ExchangeServer]
# Faults that an exchange may have occasionally; the next response is correct.
PASSING = (
    "429",
    "418",
    "500",
    "503",
    "html",
    "timeout",
    "reset",
    "cut",
    "half-json",
    "empty",
    "duplicate",
    "shuffled",
    "overlap",
    "stale",
    "skip",
    "holes",
    "short",
    "null",
    "zero",
    "nan",
    "conflict",
    "off-grid",
    "microseconds",
)
# Faults that, repeated often enough, look like the truth: that a bar does not exist.
OMITTING = ("empty", "skip", "holes")
GAPS = ((700, 712), (1500, 1503))


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_leaves_no_trace(serve: Serve, tmp_path: Path, fault: str) -> None:
    """One faulty response, on the first page or another, would end the fetch or corrupt the file."""
    truth = make_truth("2020-01-01", 2600, gaps=GAPS)
    server, output = serve(truth), tmp_path / "a.csv"
    server.faults = [fault, "", fault]
    fetched(server, output, patience_s=20)
    assert server.faults == []
    assert_equals(read_bars(output), truth)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("429", r"too many requests \(HTTP 429\) \(tried \w+.*The server requests a wait of 1 s\."),
        ("banned", r"\(HTTP 418\) \(tried once\)\. The server requests a wait of 259,200 s\. Repeat the command later"),
        ("500", r"HTTP 500 \(.*unknown error"),
        ("503", r"HTTP 503 \(.*Attention Required"),
        ("html", r"the response \(HTTP 200\) is not in the exchange's format"),
        ("timeout", "no response in time|no response"),
        ("reset", "no response"),
        ("half-json", "not in the exchange's format"),
        ("null", "not a list of bars|open is nan"),
        ("zero", "open is 0.0, expected a finite number above 0"),
        ("conflict", "the response contradicts itself: the bar .* occurs twice"),
        ("off-grid", "bars open off the grid of 1h, the first at 2020-0.-..T..:01:00Z"),
    ],
)
def test_a_lasting_fault_is_reported_and_the_file_is_unchanged(serve: Serve, tmp_path: Path, fault: str, expected: str) -> None:
    """A fetch that cannot continue would hang, show a traceback, or write a part."""
    server, output = serve(make_truth("2020-01-01", 2600)), tmp_path / "a.csv"
    fetched(server, output, since="2020-01-10", until="2020-01-20")
    before = output.read_bytes()
    server.faults = ["", "", *[fault] * 500]
    with pytest.raises(FlagbtError, match=expected) as error:
        fetched(server, output, patience_s=1.2)
    assert "Traceback" not in str(error.value)
    assert "\n" not in str(error.value)
    assert output.read_bytes() == before
    server.faults = []
    fetched(server, output)
    assert_equals(read_bars(output), server.truth["BTCUSDT"])


def test_after_a_failure_only_the_rest_is_fetched(serve: Serve, tmp_path: Path) -> None:
    """A failure near the end of a long fetch would cost all of it."""
    server, output = serve(make_truth("2020-01-01", 6000)), tmp_path / "a.csv"
    server.faults = ["", "", "", *["banned"] * 50]
    with pytest.raises(FetchError, match="The pages so far are kept"):
        fetched(server, output)
    assert not output.exists()
    server.faults, server.requests = [], []
    fetched(server, output)
    assert_equals(read_bars(output), server.truth["BTCUSDT"])
    assert server.count("klines") == 4  # three pages of bars before, three and a rest now


def test_pages_of_another_market_are_not_mixed_in(serve: Serve, tmp_path: Path) -> None:
    """An interrupted fetch of one market would leave its bars in another one's file."""
    server, output = serve(make_truth("2020-01-01", 3000)), tmp_path / "a.csv"
    server.faults = ["", *["banned"] * 50]
    with pytest.raises(FetchError):
        fetched(server, output)
    server.faults = []
    done = fetched(server, output, symbol="ETH/USDT")
    assert_equals(read_bars(output), server.truth["ETHUSDT"])
    assert any("were removed" in note for note in done.notes)


def test_a_damaged_page_is_fetched_again(serve: Serve, tmp_path: Path) -> None:
    """Half a page, left by a power failure, would become part of the file."""
    server, output = serve(make_truth("2020-01-01", 3000)), tmp_path / "a.csv"
    server.faults = ["", "", *["banned"] * 50]
    with pytest.raises(FetchError):
        fetched(server, output)
    pages = sorted((tmp_path / ".a.csv.fetch").glob("*.npy"))
    assert len(pages) == 2
    pages[0].write_bytes(pages[0].read_bytes()[:-100])
    server.faults = []
    fetched(server, output)
    assert_equals(read_bars(output), server.truth["BTCUSDT"])


@pytest.mark.parametrize(
    ("fault", "expected"), [("451", "does not serve this country.*binanceus.*--source archive"), ("html", "list of symbols")]
)
def test_an_exchange_that_lists_no_symbols(serve: Serve, tmp_path: Path, fault: str, expected: str) -> None:
    """A user in a country that is not served would wait for five minutes, and not learn why."""
    server = serve(make_truth("2020-01-01", 100))
    server.info_fault = fault
    with pytest.raises(FetchError, match=expected):
        fetched(server, tmp_path / "a.csv", patience_s=1.0)


def test_a_server_that_is_down(tmp_path: Path, serve: Serve) -> None:
    """A missing network would end in a traceback."""
    server = serve(make_truth("2020-01-01", 10))
    server.close()
    cases = (("api", "binance, its list of symbols: no response .*refused"), ("archive", "its clock: no response"))
    for source, expected in cases:
        with pytest.raises(FetchError, match=expected):
            fetched(server, tmp_path / "a.csv", patience_s=0.1, source=source)


def believable(faults: list[str]) -> bool:
    """Return whether no three responses in a row omit bars: those bars would count as missing."""
    omits = [fault in OMITTING for fault in faults]
    return not any(all(omits[at : at + 2]) for at in range(len(omits) - 1))


def check_any_faults(server: ExchangeServer, faults: list[str], step: str = "1h") -> None:
    """Fetch through these faults, twice; assert that the bars are the true ones, or an error and an unchanged file."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "a.csv"
        fetched(server, output, since="2020-01-10", until="2020-01-12", timeframe=step)
        before = output.read_bytes()
        server.faults, refused = list(faults), ""
        try:
            fetched(server, output, timeframe=step, patience_s=4)
        except FlagbtError as error:
            refused, server.faults = str(error), []
        if refused:
            assert len(refused) > 40
            assert output.read_bytes() == before
            fetched(server, output, timeframe=step)
        server.faults = []
        assert_equals(read_bars(output), server.truth["BTCUSDT"])
        assert [path.name for path in Path(folder).iterdir()] == ["a.csv"]


QUICK = [fault for fault in PASSING if fault not in ("429", "418", "timeout")]
FAULTS = st.lists(st.sampled_from(["", "", *QUICK]), max_size=12).filter(believable)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(FAULTS)
def test_any_sequence_of_faults(serve: Serve, faults: list[str]) -> None:
    """Faults that are harmless one by one would together corrupt the file."""
    check_any_faults(serve(make_truth("2020-01-01", 2300, gaps=GAPS)), faults)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FAULTS)
def test_many_sequences_of_faults(serve: Serve, faults: list[str]) -> None:
    """Faults that are harmless one by one would together corrupt the file."""
    check_any_faults(serve(make_truth("2020-01-01", 2300, gaps=GAPS)), faults)


def test_a_bar_counts_as_missing_after_three_answers(serve: Serve, tmp_path: Path) -> None:
    """A truncated page would look like a gap in the market."""
    truth = make_truth("2020-01-01", 900)
    server = serve(truth)
    server.faults = ["holes", "holes"]
    assert_equals(fetched(server, tmp_path / "a.csv").bars, truth)


@pytest.mark.parametrize("fault", ["microseconds", "off-grid", "skip", "empty"])
def test_the_same_wrong_answer_before_the_file_is_not_accepted(serve: Serve, tmp_path: Path, fault: str) -> None:
    """A response that omits bars which the file has would count as proof that there are none before it."""
    server, output = serve(make_truth("2020-01-01", 2300)), tmp_path / "a.csv"
    fetched(server, output, since="2020-01-10", until="2020-01-12")
    before = output.read_bytes()
    server.faults = [fault] * 3
    try:
        fetched(server, output)
    except FlagbtError:
        assert output.read_bytes() == before
    else:
        assert_equals(read_bars(output), server.truth["BTCUSDT"])
