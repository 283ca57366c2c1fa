"""Causality of whole runs: later bars change nothing at or before a bar, for every strategy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from flagbt.data.bars import Bars
from flagbt.data.bundled_sample import load_sample
from flagbt.data.labels import BUY, SELL
from flagbt.data.readers import write_bars_csv
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import run_backtest
from flagbt.models.checkpoint import find_checkpoint
from flagbt.models.decision import Decision
from flagbt.models.model_signals import ModelSignals
from flagbt.models.signals import Signals
from flagbt.strategies.base import Strategy
from flagbt.strategies.registry import find_strategy, strategy_names

Command = Callable[..., tuple[int, str, str]]
Future = Callable[[Bars, int], Bars]

AT_DECISION = ["order", "decided", "side", "target", "size", "decision_price"]
NAMES = [name for name, _ in strategy_names()]


class Tomorrow(Strategy):
    """Knows the next bar's close."""

    def prepare(self, bars: Bars) -> Signals:
        """Buy before a rise, sell before a fall."""
        after = np.append(bars.close[1:], bars.close[-1])
        return Signals.plain(np.where(after > bars.close, BUY, SELL))


class Peeking(bt.Strategy):  # type: ignore[misc]  # Backtrader has no types
    """A plain Backtrader strategy that reads ahead, which Backtrader lets it do."""

    def next(self) -> None:
        """Buy before a rise, sell before a fall."""
        if len(self) < len(self.data.close.array) and self.data.close[1] > self.data.close[0]:
            self.buy()
        else:
            self.close()


def made(name: str) -> Strategy:
    """Return a strategy as `flagbt run` would make it; flagtrader with the bundled Jan4 and a rule that trades often."""
    found = find_strategy(name)
    if not found.uses_model:
        return found()
    return found(ModelSignals(checkpoint=find_checkpoint("Jan4"), decision=Decision("threshold", (0.1, 0.1)), device="cpu"))


def first_change(strategy: Any, bars: Bars, future: Future, t: int) -> str | None:
    """Return the part of the record of bars <= t that depends on a later bar, or None, bit by bit."""
    one, other = (run_backtest(each, strategy, timerange=TimeRange(bars.time[0])) for each in (bars, future(bars, t)))
    assert one.equity.index.equals(other.equity.index)
    for name in ("signals", "equity"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine is not None and not mine.iloc[: t + 1].equals(theirs.iloc[: t + 1]):
            return name
    now = one.equity.index[t]
    decided = [run.orders.loc[run.orders["decided"] <= now, AT_DECISION].reset_index(drop=True) for run in (one, other)]
    filled = [run.orders[run.orders["filled"] <= now].reset_index(drop=True) for run in (one, other)]
    if not decided[0].equals(decided[1]) or not filled[0].equals(filled[1]):
        return "orders"
    closed = [run.trades[run.trades["exit_time"] <= now].reset_index(drop=True) for run in (one, other)]
    return None if closed[0].equals(closed[1]) else "trades"


@pytest.fixture(scope="module")
def bars() -> Bars:
    """Return the first month of the bundled sample."""
    return load_sample().take(slice(0, 720))


@pytest.mark.parametrize("name", NAMES)
def test_the_past_does_not_know_the_future(name: str, bars: Bars, other_future: Future) -> None:
    """If it fails, a strategy trades on the future, and every number of its runs flatters."""
    strategy = made(name)
    # At the warm-up's end, and in the middle of a chunk of the model's.
    for t in (291, 450):
        assert first_change(strategy, bars, other_future, t) is None, t
    if name != "always-hold":
        assert len(run_backtest(bars, strategy).orders) > 0  # otherwise the test has examined nothing


@pytest.mark.parametrize("strategy", [Tomorrow(), Peeking], ids=["plug-in", "plain"])
def test_a_planted_look_ahead_is_caught(strategy: Any, bars: Bars, other_future: Future) -> None:
    """If it fails, the test above proves nothing."""
    assert any(first_change(strategy, bars, other_future, t) for t in range(400, 404))


def signals_of(command: Command, *arguments: object) -> pd.DataFrame:
    """Return the model's signals at every bar of a run through the command line."""
    code, out, err = command("run", "--ckpt", "Jan4", "--device", "cpu", "--json", *arguments)
    assert code == 0, err
    frame = pd.read_parquet(Path(json.loads(out)["run"]) / "signals.parquet")
    return frame.drop(columns="target")


def test_a_signal_does_not_depend_on_the_range(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, the same bar gets another signal when a run starts or ends elsewhere: results cannot be compared."""
    monkeypatch.chdir(tmp_path)
    whole = signals_of(command, "--timerange", "20240110-20240120")
    assert whole["signal"].isin([0, 1, 2]).all()
    shorter = signals_of(command, "--timerange", "20240110-20240113T0500")
    pd.testing.assert_frame_equal(shorter, whole.loc[: shorter.index[-1]], check_exact=True)
    later = signals_of(command, "--timerange", "20240114T0700-20240120")
    pd.testing.assert_frame_equal(later, whole.loc[later.index[0] :], check_exact=True)

    sample = load_sample()
    write_bars_csv(sample.take(sample.between(TimeRange.parse("20240101T0300-20240201"))), "january.csv")
    cut = signals_of(command, "--timerange", "-20240120", "--data", "january.csv")
    assert whole.index[0] < cut.index[0] < whole.index[-1]  # its warm-up ends inside
    pd.testing.assert_frame_equal(cut.loc[: whole.index[-1]], whole.loc[cut.index[0] :], check_exact=True)
