"""The rules on top of a strategy, computed by hand for Backtrader's path; test_replay compares the replay with that path."""

from __future__ import annotations

import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import run_backtest
from flagbt.engine.costs import Costs
from flagbt.engine.rules import Rules, horizon_of
from flagbt.engine.simulation import Simulation
from flagbt.errors import UsageError
from flagbt.models.signals import Signals
from flagbt.strategies.base import Strategy

FREE = Costs(fee_bps=0, slippage_bps=0, borrow_bps_per_day=0)
CODES = {"S": 0, "H": 1, "B": 2, "-": -1}


class Letters(Strategy):
    """Return signals given as letters."""

    name = "letters"

    def __init__(self, signals: str, *, short: bool = False) -> None:
        super().__init__(short=short)
        self._signals = signals

    def prepare(self, bars: Bars) -> Signals:
        """Return the letters' signals."""
        return Signals.plain(np.array([CODES[letter] for letter in self._signals]))


def run_letters(signals: str, closes: list[float] | None = None, *, short: bool = False, **rules: float) -> Simulation:
    """Run letters over closes (all 100 by default), each bar opening at the close before."""
    close = np.array(closes or [100.0] * len(signals), dtype=float)
    open_ = np.concatenate([close[:1], close[:-1]])
    time = np.datetime64("2024-01-01", "ns") + np.arange(len(close)) * np.timedelta64(3600, "s")
    bars = Bars(time, open_, np.maximum(open_, close), np.minimum(open_, close), close, np.ones(len(close)))
    timerange = TimeRange(time[0], None)
    return run_backtest(bars, Letters(signals, short=short), timerange=timerange, costs=FREE, short=short, rules=Rules(**rules))


def sides(run: Simulation) -> str:
    """Return the position at each bar's close as letters: L long, S short, a dot flat."""
    return "".join({1: "L", -1: "S", 0: "."}[int(side)] for side in np.sign(run.equity["position_size"]))


@pytest.mark.parametrize(
    ("signals", "rules", "held", "kept"),
    [
        # The SELL at bar 1 fills at bar 2; the closes of bars 2, 3 and 4 decide no entry; the BUY of bar 5 fills at 6.
        ("BSBBBBH", {"cooldown_bars": 3}, ".L....L", {"cooldown": 3}),
        ("BSBBBBH", {}, ".L.LLLL", {}),
        # Bought at the open of bar 1: it is 1, 2 and 3 bars old at the closes of bars 1, 2 and 3.
        ("BSSSHHH", {"min_hold_bars": 3}, ".LLL...", {"min_hold": 2}),
        # The BUY of bar 0 is 3 bars old at the close of bar 3, so the exit fills at the open of bar 4.
        ("BHHHHHH", {"exit": "horizon:3"}, ".LLL...", {}),
        # The second BUY renews it.
        ("BHBHHHH", {"exit": "horizon:3"}, ".LLLLL.", {}),
        ("BHHHHHH", {"exit": "horizon:1", "min_hold_bars": 3}, ".LLL...", {}),
        # The rules also apply at a bar without a signal.
        ("BH--HHH", {"exit": "horizon:3"}, ".LLL...", {}),
    ],
)
def test_waits_and_exits(signals, rules, held, kept):
    """Bar counts: if it fails, a cooldown, a holding time or a horizon is a bar too long or too short."""
    run = run_letters(signals, **rules)
    assert sides(run) == held
    assert {name: run.funnel.kept[name] for name in ("cooldown", "min_hold") if run.funnel.kept[name]} == kept


def test_a_rule_at_a_bar_without_a_signal_is_counted():
    """The funnel: if it fails, an exit without a signal makes the counts leak."""
    run = run_letters("BHH--HH", exit="horizon:3")
    assert sides(run) == ".LLL..."
    assert (run.funnel.unprompted, run.funnel.exits, run.funnel.ordered) == (1, {"horizon": 1}, 2)
    assert run.funnel.scored + 1 == sum(run.funnel.kept.values()) + run.funnel.ordered


def test_a_cooldown_turns_a_reversal_into_a_close():
    """Cooldown with shorts: if it fails, a position reverses without a pause."""
    assert sides(run_letters("BSSSSSH", short=True)) == ".LSSSSS"
    assert (
        sides(run_letters("BSSSSSH", short=True, cooldown_bars=2)) == ".L...SS"
    )  # closed at bar 2; bars 2 and 3 decide nothing


def test_stops_trigger_at_closes_and_fill_at_the_next_open():
    """Stops: if it fails, a stop fills before a bar's close has triggered it, or never."""
    # Bought at bar 1's open of 100. Bar 2 closes 4 % down: not yet. Bar 3 closes 9 % down: out at bar 4's open of 91.
    closes = [100, 100, 96, 91, 80, 80]
    run = run_letters("BHHHHH", closes, stop_loss=0.05)
    assert sides(run) == ".LLL.."
    assert run.trades["exit_price"].tolist() == [91.0]
    assert run.funnel.exits == {"stop_loss": 1}
    # A BUY at the same close does not save it; one at the next close buys again.
    assert sides(run_letters("BHHBHH", closes, stop_loss=0.05)) == ".LLL.."
    assert sides(run_letters("BHHHBH", closes, stop_loss=0.05)) == ".LLL.L"
    # It does not wait for the minimum holding time.
    assert sides(run_letters("BHHHHH", closes, stop_loss=0.05, min_hold_bars=9)) == ".LLL.."


def test_take_profit_and_stops_of_shorts():
    """Both sides: if it fails, a short's gain counts as a loss."""
    rising, falling = [100, 100, 104, 111, 120, 120], [100, 100, 96, 91, 80, 80]
    assert run_letters("BHHHHH", rising, take_profit=0.10).funnel.exits == {"take_profit": 1}
    assert run_letters("SHHHHH", falling, short=True, take_profit=0.05).funnel.exits == {"take_profit": 1}
    stopped = run_letters("SHHHHH", rising, short=True, stop_loss=0.10)
    assert (sides(stopped), stopped.funnel.exits) == (".SSS..", {"stop_loss": 1})


def test_shorts_are_limited_when_opened_and_closed_when_they_grow():
    """Short limits: if it fails, a short grows past any broker's limit."""
    run = run_letters("SSH", short=True, max_short_notional=0.4)
    assert run.equity["exposure"].iloc[1] == pytest.approx(-0.4, rel=0.01)
    assert len(run.orders) == 1  # at the second SELL, the short is at its limit
    # Short of nearly all equity at 100; at 130 the notional is 1.86 times the remaining equity.
    closes = [100, 100, 120, 130, 130, 130]
    run = run_letters("SHHHHH", closes, short=True, close_short_above=1.8)
    assert (sides(run), run.funnel.exits) == (".SSS..", {"short_limit": 1})
    assert sides(run_letters("SHHHHH", closes, short=True)) == ".SSSSS"


def test_invalid_rules_are_refused():
    """Wrong usage: if it fails, a typing error becomes a stop that never or always acts."""
    for rules, message in (
        ({"cooldown_bars": -1}, "cooldown_bars is -1, expected 0 bars or more"),
        ({"exit": "horizon:0"}, "--exit: expected signal, horizon or horizon:BARS with 1 bar or more, got 'horizon:0'"),
        ({"stop_loss": 5.0}, "stop_loss is 5, expected a fraction of the entry price above 0 and below 1, such as 0.05"),
        ({"take_profit": float("nan")}, "take_profit is nan, expected a fraction"),
        ({"max_short_notional": 1.5}, "max_short_notional is 1.5, expected a share of equity above 0 and up to 1"),
        ({"close_short_above": 0.9}, "close_short_above is 0.9, expected times the equity, 1 or more"),
    ):
        with pytest.raises(UsageError, match=message):
            Rules(**rules)
    assert (horizon_of("signal", 6), horizon_of("horizon", 6), horizon_of("horizon:3", None)) == (None, 6, 3)
    with pytest.raises(UsageError, match="unknown exit rule 'horizn'. Did you mean 'horizon'"):
        horizon_of("horizn", 6)
    with pytest.raises(UsageError, match="there is no checkpoint: write horizon:6 for 6 bars, or add --ckpt"):
        horizon_of("horizon", None)
    for text in ("horizon:0", "horizon:x", "horizon:", "signal:3"):
        with pytest.raises(UsageError, match="expected signal, horizon or horizon:BARS"):
            horizon_of(text, 6)


def test_rules_are_recorded_and_refused_over_a_plain_strategy(walk):
    """The record: if it fails, a run cannot be repeated, or a rule seems to apply where it does not."""
    import backtrader as bt

    class Plain(bt.Strategy):
        """Do nothing."""

    run = run_letters("BHH", stop_loss=0.05, exit="horizon:6")
    assert {key: run.config[key] for key in ("stop_loss", "exit")} == {"stop_loss": 0.05, "exit": "horizon:6"}
    assert "cooldown_bars" not in run.config
    with pytest.raises(UsageError, match=r"stop_loss: these rules .* Plain is a plain Backtrader strategy"):
        run_backtest(walk(20, 1), Plain, rules=Rules(stop_loss=0.05))
