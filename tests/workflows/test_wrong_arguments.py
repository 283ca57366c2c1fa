"""Wrong arguments of every type, for every argument of the public functions: a FlagbtError in one paragraph, nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal as DecimalNumber
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import flagbt
from flagbt.errors import FlagbtError
from flagbt.results.trial_log import read_trials


class Unreadable:
    """A value that has no text."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


WRONG: tuple[object, ...] = (
    *(object(), Unreadable(), float("nan"), float("-inf"), 10**400, DecimalNumber("NaN"), 1j, b"x", (), {1: 2}, {"a": 1}, {2}),
    *(np.array([1, 2]), np.array(["a", "b"]), np.ma.array([1.0], mask=[True]), pd.NA, pd.NaT, np.datetime64("NaT")),
    *(pd.Series([1.0, 2.0]), pd.DataFrame(), pd.Timedelta("1h"), slice(1), (each for each in (1,)), ..., int),
    *("a\0b", "a\nb", "a" * 5000, "\ud800", "<b>", "9" * 400),
)
FRAME = flagbt.load_sample().frame().iloc[-400:]
SIGNALS = pd.Series(np.arange(400) % 3, index=FRAME.index, name="signal")
RUN = flagbt.backtest(FRAME, "buy-and-hold")

BACKTEST = ("data", "strategy", "timerange", "params", "checkpoint", "costs", "rules", "cash", "short", "seed", "calibration")
BACKTEST += (
    "columns",
    "time_format",
    "time_zone",
    "symbol",
    "closed_hours",
    "decision",
    "allow_overlap",
    "device",
    "batch_size",
    "cache",
    "runs",
    "progress",
    "fee_bps",
    "nosuch",
)
CALLS: dict[str, tuple[Callable[..., object], dict[str, object], tuple[str, ...]]] = {
    "backtest": (flagbt.backtest, {"data": FRAME, "strategy": "sma-cross"}, BACKTEST),
    "backtest signals": (flagbt.backtest, {"data": FRAME, "signals": SIGNALS}, ("signals", "bars_seen", "short")),
    "compare": (flagbt.compare, {"runs": [RUN]}, ("runs", "sort", "out", "progress")),
    "costs": (flagbt.Costs, {}, ("fee_bps", "slippage_bps", "borrow_bps_per_day", "lot_size")),
    "rules": (flagbt.Rules, {}, ("cooldown_bars", "exit", "stop_loss", "take_profit", "max_short_notional")),
    "range": (flagbt.TimeRange, {}, ("start", "stop")),
    "read_run": (flagbt.read_run, {}, ("folder",)),
    "read_bars": (flagbt.read_bars, {"path": "nosuch.csv"}, ("path", "columns", "time_format", "time_zone", "symbol")),
    "find_checkpoint": (flagbt.find_checkpoint, {}, ("name",)),
    "tearsheet": (RUN.tearsheet, {}, ("page",)),
    "metric": (lambda name: RUN.metrics[name], {}, ("name",)),
}
# What is right after all: a class can be called, these are names of folders, and a name of any length is shown.
RIGHT = {
    ("backtest", "progress"): (int,),
    ("compare", "progress"): (int,),
    ("backtest", "params"): (),
    ("backtest", "runs"): ("<b>", "a\nb"),
    ("compare", "out"): ("<b>", "a\nb", "a" * 5000, "9" * 400),
    ("tearsheet", "page"): ("<b>", "a\nb"),
    ("backtest signals", "bars_seen"): ((),),
}


@pytest.mark.parametrize(("name", "argument"), [(name, each) for name, call in CALLS.items() for each in call[2]])
def test_a_wrong_argument_is_a_paragraph(name: str, argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of a wrong type shows the traceback of a library, or is taken for another."""
    monkeypatch.chdir(tmp_path)
    function, right, _ = CALLS[name]
    for value in WRONG:
        if any(value is each or (isinstance(value, str) and value == each) for each in RIGHT.get((name, argument), ())):
            continue
        with pytest.raises(FlagbtError) as caught:
            function(**{**right, argument: value})
        text = str(caught.value)
        assert "\n" not in text, text
        assert " at 0x" not in text, text
        assert len(text) < 1500, text


def test_a_whole_number_and_a_float_are_one_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5, 5.0 and NumPy's 5 basis points count as three trials, or a fraction cannot be read back."""
    monkeypatch.chdir(tmp_path)
    runs = [flagbt.backtest(FRAME, "buy-and-hold", costs=flagbt.Costs(fee_bps=each)) for each in (5, 5.0, np.int64(5))]
    assert len({run.info.trial for run in runs}) == 1
    third = flagbt.backtest(FRAME, "buy-and-hold", costs=flagbt.Costs(fee_bps=Fraction(1, 3)))  # type: ignore[arg-type]
    assert flagbt.read_run(third.save("runs")).settings == third.settings
    ours = {run.info.trial.configuration for run in (*runs, third) if run.info.trial is not None}
    assert ours <= {configuration for _, configuration in read_trials(Path("runs")).trials}
    assert len(ours) == 2


def test_sides_named_signal_are_refused() -> None:
    """-1, 0, 1 for short, flat, long are traded as no signal, SELL and HOLD."""
    with pytest.raises(FlagbtError, match="signal holds -1 and never 2.*name them exposure"):
        flagbt.backtest(FRAME, signals=SIGNALS - 1, bars_seen=())


@pytest.mark.parametrize(("zone", "start"), [("Asia/Tehran", "2021-03-18"), ("America/Havana", "2024-03-05")])
def test_local_times_of_zones_that_change_at_midnight_are_refused(zone: str, start: str) -> None:
    """Bars of a zone that changes its clocks at midnight are read as UTC, hours away from where they belong."""
    local = pd.date_range(start, periods=400, freq="h", tz="UTC").tz_convert(zone).tz_localize(None)
    with pytest.raises(FlagbtError, match="local time"):
        flagbt.backtest(FRAME.set_axis(local), "buy-and-hold")


def test_a_time_range_of_datetimes_is_in_utc() -> None:
    """A range made of datetimes fails in the middle of a backtest, or its zone is ignored."""
    tokyo = flagbt.TimeRange(pd.Timestamp("2024-12-20 09:00", tz="Asia/Tokyo"))  # type: ignore[arg-type]
    assert str(tokyo) == "20241220-"
    assert flagbt.backtest(FRAME, "buy-and-hold", timerange=tokyo).equity.index[0] == pd.Timestamp("2024-12-20", tz="UTC")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flagbt.Costs(fees=5), "Costs: there is no argument 'fees'. Did you mean fee_bps?"),
        (lambda: flagbt.Rules(stop_los=0.1), "Rules: there is no argument 'stop_los'. Did you mean stop_loss?"),
        (lambda: flagbt.compare([], sorted="cagr"), "compare: there is no argument 'sorted'."),
        (lambda: flagbt.train(None, "mine", overwrit=True), "train: there is no argument 'overwrit'. Did you mean overwrite?"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_nearest(call: Callable[[], object], message: str) -> None:
    """If it fails, a misspelt argument ends in Python's own TypeError, without the name that was meant."""
    with pytest.raises(FlagbtError, match=re.escape(message)):
        call()
