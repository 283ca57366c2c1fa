"""Signals that were computed elsewhere: which kind they are, how they meet the bars, and plain refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flagbt import FlagbtError, load_sample
from flagbt.engine.backtest import run_backtest
from flagbt.workflows.signals_input import GivenSignals, seen_from, signals_from

BARS = load_sample().take(slice(0, 200))
INDEX = BARS.frame().index
RANDOM = np.random.default_rng(3)
PROBABILITIES = pd.DataFrame(RANDOM.dirichlet([1, 1, 1], 200), INDEX, ["p_sell", "p_hold", "p_buy"])


def series(values: object, name: str | None = None, start: int = 0) -> pd.Series:
    """Return values at consecutive bars."""
    return pd.Series(values, INDEX[start : start + len(values)], name=name)  # type: ignore[arg-type]


KINDS = {
    "whole numbers": (series([0, 1, 2]), "signal"),
    "floats with gaps": (series([2.0, np.nan, 0.0]), "signal"),
    "none as -1": (series([-1, 2, 0]), "signal"),
    "names": (series(["buy", " Hold", None, "SELL"]), "signal"),
    "categories": (series(["BUY", "SELL"]).astype("category"), "signal"),
    "0 and 1 named signal": (series([0, 1], "signal"), "signal"),
    "0 and 1 named exposure": (series([0, 1], "exposure"), "exposure"),
    "true and false named exposure": (series([True, False], "exposure"), "exposure"),
    "fractions": (series([0.5, 1.0, 0.0]), "exposure"),
    "long and short": (series([-1, 0, 1]), "exposure"),
    "probabilities": (PROBABILITIES, "probabilities"),
    "probabilities and signals": (PROBABILITIES.assign(signal=1), "probabilities"),
    "a table of bars": (BARS.frame().assign(Signal=2), "signal"),
    "a table with times": (series([0, 1, 2], "signal").reset_index(), "signal"),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_is_recognised(name: str) -> None:
    """If it fails, exposures are traded as signals, or the reverse."""
    given, kind = KINDS[name]
    assert signals_from(given, BARS).kind == kind


def test_signals_are_aligned_by_time() -> None:
    """If it fails, a signal is traded at another bar, such as one that came before it was known."""
    shuffled = series([2, 0, 1, 2], start=50).sample(frac=1, random_state=1).tz_convert("Asia/Tokyo")
    made = GivenSignals(signals_from(shuffled, BARS))
    assert made.prepare(BARS).signal.tolist() == [-1] * 50 + [2, 0, 1, 2] + [-1] * 146
    part = BARS.take(slice(51, 60))
    assert made.prepare(part).signal.tolist() == [0, 1, 2] + [-1] * 6


def test_files_hold_the_same_signals(tmp_path: Path) -> None:
    """If it fails, the same signals from a file are another trial."""
    PROBABILITIES.to_csv(tmp_path / "p.csv")
    PROBABILITIES.to_parquet(tmp_path / "p.parquet")
    digests = {signals_from(each, BARS).digest for each in (PROBABILITIES, tmp_path / "p.csv", str(tmp_path / "p.parquet"))}
    assert len(digests) == 1
    assert signals_from(PROBABILITIES.iloc[1:], BARS).digest not in digests


def test_an_exposure_is_the_target() -> None:
    """If it fails, Backtrader holds another share of the equity than the exposure that was given."""
    wanted = series([0.5, 0.5, -0.25, np.nan, 0.0, 1.0], start=10)
    run = run_backtest(BARS, GivenSignals(signals_from(wanted, BARS), bars_seen=(), short=True), short=True)
    assert run.signals is not None
    assert run.signals["target"].iloc[:7].tolist() == [0.5, 0.5, -0.25, -0.25, 0.0, 1.0, 1.0]
    assert run.signals["signal"].iloc[:7].tolist() == [2, 2, 0, -1, 1, 2, -1]
    assert run.orders["target"].tolist() == [0.5, -0.25, 0.0, 1.0]
    np.testing.assert_allclose(run.equity["exposure"].iloc[1:3], 0.5, atol=0.02)
    assert run.funnel.no_signal == 1 + len(run.bars) - 6


def test_signals_and_probabilities_follow_the_position_rule() -> None:
    """If it fails, BUY does not go long, or a missing probability is traded."""
    run = run_backtest(BARS, GivenSignals(signals_from(series([2, 1, 0, 2]), BARS), bars_seen=()))
    assert run.orders["target"].tolist() == [1.0, 0.0, 1.0]
    holes = PROBABILITIES.copy()
    holes.iloc[7, 1] = np.nan
    made = GivenSignals(signals_from(holes, BARS)).prepare(BARS)
    likeliest = PROBABILITIES.to_numpy().argmax(axis=1)
    likeliest[7] = -1
    assert made.signal.tolist() == likeliest.tolist()
    own = GivenSignals(signals_from(holes.assign(signal=1), BARS)).prepare(BARS)
    assert own.signal.tolist() == [1] * 7 + [-1] + [1] * 192


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a list": (lambda: [0, 1, 2], r"signals: expected a Series or a DataFrame .* got a list.*pandas\.Series\(values"),
    "an array": (lambda: np.zeros(200), "got an ndarray"),
    "a number": (lambda: 1, "got an int"),
    "no rows": (lambda: series([2.5][:0]).astype(float), "may be signals or exposures|there are no rows"),
    "no times": (lambda: pd.Series([0, 1, 2]), "expected a DatetimeIndex"),
    "0 and 1": (lambda: series([0.0, 1.0]), r"0 and 1 alone may be signals or exposures.*rename\(\"signal\"\)"),
    "true and false": (lambda: series([True, False]), "may be signals or exposures"),
    "true and false as signals": (lambda: series([True, False], "signal"), "True and False"),
    "dates": (lambda: series(INDEX[:3]), "holds datetime64"),
    "another word": (lambda: series(["BUY", "LONG"]), "row 2, column 'signal': 'LONG' is not a signal, .* BUY or 0, 1, 2"),
    "a signal of 3": (lambda: series([0, 3], "signal"), "row 2, column 'signal': 3 is outside -1 to 2"),
    "half a signal": (lambda: series([0, 0.5], "signal"), "row 2, column 'signal': 0.5 is not SELL=0"),
    "an exposure of 1.5": (lambda: series([0.5, 1.5]), "row 2, column 'exposure': 1.5 is outside -1 to 1"),
    "an infinite exposure": (lambda: series([0.5, np.inf]), "row 2, column 'exposure': inf is outside"),
    "text as exposure": (lambda: series(["a", "b"], "exposure"), "'exposure' holds str, expected numbers"),
    "between bars": (lambda: PROBABILITIES.shift(freq="30min"), "200 of 200 times match no bar, the first .*OPEN time"),
    "after the bars": (lambda: series([2, 0], start=198).shift(1, freq="h"), "1 of 2 times match no bar"),
    "a time twice": (lambda: pd.concat([series([2]), series([0])]), "occurs twice"),
    "sums to 2": (lambda: PROBABILITIES.assign(p_sell=1.0, p_hold=1.0, p_buy=0.0), "probabilities sum to 2, expected 1"),
    "below 0": (lambda: -PROBABILITIES, "row 1, column 'p_sell': -0.* is outside 0 to 1"),
    "two probabilities": (lambda: PROBABILITIES[["p_sell", "p_buy"]], "of the probabilities, p_hold is missing"),
    "two kinds": (lambda: PROBABILITIES.assign(exposure=0.5), "only one can be traded"),
    "a column twice": (lambda: PROBABILITIES.assign(signal=1, Signal=2), "'signal' is there twice"),
    "no signals": (lambda: BARS.frame(), "no column holds signals; its columns are open, high"),
    "no file": (lambda: "signals.csv", "signals.csv: there is no such file"),
    "another format": (lambda: "signals.xlsx", r"'.xlsx', expected .csv, .csv.gz, .parquet, .feather"),
    "shorts": (lambda: series([-1, 0, 1]), "1 exposures are below 0, .* Add --short"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_signals_are_refused_in_plain_words(name: str) -> None:
    """If it fails, a user sees a library's traceback, or signals that are not those that were meant."""
    make, expected = WRONG[name]
    with pytest.raises(FlagbtError, match=expected):
        GivenSignals(signals_from(make(), BARS))  # type: ignore[arg-type]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """If it fails, a broken file ends in a traceback of pyarrow or pandas."""
    for name in ("broken.parquet", "broken.csv", "broken.csv.gz"):
        (tmp_path / name).write_bytes(b"\x00\xff\x00")
        with pytest.raises(FlagbtError):
            signals_from(tmp_path / name, BARS)


def test_the_bars_seen_are_checked() -> None:
    """If it fails, a range that was meant to be refused is not."""
    assert seen_from(None) is None
    assert seen_from([]) == ()
    assert [str(each) for each in seen_from(["20200101-20230701"]) or ()] == ["20200101-20230701"]
    for given in ("20200101-20230701", 3, [3], ["2020-"], {"a": 1}):
        with pytest.raises(FlagbtError, match="bars_seen: "):
            seen_from(given)  # type: ignore[arg-type]
