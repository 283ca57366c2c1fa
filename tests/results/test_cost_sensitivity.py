"""A run at different costs: the fast replay of its decisions against Backtrader at those costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import backtrader as bt
import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import run_backtest
from flagbt.engine.costs import Costs
from flagbt.engine.rules import Rules
from flagbt.engine.simulation import Simulation
from flagbt.results.cost_sensitivity import cost_sensitivity
from flagbt.results.metrics import metrics
from flagbt.strategies.base import Position, Strategy
from flagbt.strategies.baselines import AlwaysHold, BuyAndHold, RandomSignals, SmaCross


class Crossing(bt.Strategy):
    """A plain Backtrader strategy."""

    def next(self) -> None:
        """Buy at the fifth bar."""
        if len(self) == 5:
            self.buy()


class Scaling(RandomSignals):
    """Decide by the current position: the signals alone do not determine the orders."""

    def decide(self, t: int, position: Position) -> float | None:
        """Enter by halves, exit after ten bars."""
        if position.bars_held >= 10:
            return 0.0
        return min(1.0, position.exposure + 0.5) if self.signals.signal[t] == 2 else None


def made(
    bars: Bars, strategy: Any, *, factor: float = 1.0, fee_bps: float | None = None, rules: Rules | None = None
) -> Simulation:
    """Return a Backtrader run at a multiple of the costs, or at another fee."""
    costs = Costs(fee_bps=10 * factor if fee_bps is None else fee_bps, slippage_bps=2 * factor, borrow_bps_per_day=factor)
    short = getattr(strategy, "short", False)
    return run_backtest(bars, strategy, timerange=TimeRange(bars.time[60], None), costs=costs, short=short, rules=rules)


def drifting(bars: Bars, drift: float) -> Bars:
    """Return the bars with a drift a bar, each opening at the close before."""
    close = bars.close * np.exp(drift * np.arange(len(bars)))
    open_ = np.concatenate([close[:1], close[:-1]])
    return replace(bars, open=open_, high=np.maximum(open_, close), low=np.minimum(open_, close), close=close)


@pytest.mark.parametrize(
    "strategy",
    [
        SmaCross(fast_bars=5, slow_bars=20),
        RandomSignals(seed=1),
        RandomSignals(seed=2, short=True),
        BuyAndHold(),
        Scaling(seed=3),
    ],
    ids=lambda each: f"{each.name}{each.short}",
)
def test_other_costs_are_backtraders_numbers(strategy: Strategy, walk: Callable[..., Bars]) -> None:
    """If it fails, the Sharpe ratio at 0 or 2 times the costs differs from a run at those costs."""
    bars = walk(24 * 50, 5)
    found = cost_sensitivity(made(bars, strategy))
    assert found.reason is None
    assert [row.factor for row in found.by_factor] == [0, 1, 2]
    for row in found.by_factor:
        expected = metrics(made(bars, strategy, factor=row.factor))
        assert row.reason is None
        for name in ("sharpe_daily", "total_return", "fees_paid"):
            assert getattr(row, name) == pytest.approx(expected[name], rel=1e-9), name


def test_break_even_fee_breaks_even_in_backtrader(walk: Callable[..., Bars]) -> None:
    """If it fails, the return at the break-even fee is not 0."""
    bars = walk(24 * 50, 8)
    strategy = SmaCross(fast_bars=5, slow_bars=20)
    run = made(bars, strategy)
    found = cost_sensitivity(run)
    fee = found.break_even_fee_bps
    assert fee is not None
    assert metrics(made(bars, strategy, fee_bps=fee))["total_return"] == pytest.approx(0, abs=2e-5)
    assert metrics(made(bars, strategy, fee_bps=fee + 1))["total_return"] < 0
    assert metrics(made(bars, strategy, fee_bps=max(0, fee - 1)))["total_return"] > 0
    assert f"breaks even at a fee of {fee:.1f} bps per side; it paid 10." in found.break_even_sentence


def test_no_break_even_fee_has_a_reason(walk: Callable[..., Bars]) -> None:
    """If it fails, a run that loses even without costs, or never traded, shows a meaningless fee."""
    bars = walk(24 * 20, 1)
    falling, rising = drifting(bars, -0.005), drifting(bars, 0.005)
    reasons = [
        cost_sensitivity(made(*each)).break_even_reason
        for each in ((bars, AlwaysHold()), (falling, BuyAndHold()), (rising, BuyAndHold()))
    ]
    assert reasons == ["no trade was made", "the run loses even without a fee", "the run still gains at a fee of 1,000 bps"]


def test_the_decisions_of_rules_are_kept(walk: Callable[..., Bars]) -> None:
    """If it fails, a run with stops is replayed without them."""
    run = made(walk(24 * 40, 3), RandomSignals(seed=4), rules=Rules(stop_loss=0.01, cooldown_bars=3))
    found = cost_sensitivity(run)
    assert found.by_factor[1].total_return == pytest.approx(metrics(run)["total_return"])


def test_a_plain_backtrader_strategy_is_not_known(walk: Callable[..., Bars]) -> None:
    """If it fails, a strategy that sizes its own orders gets numbers that its orders would not produce."""
    found = cost_sensitivity(made(walk(200, 1), Crossing))
    assert found.break_even_fee_bps is None
    assert found.reason.startswith("a plain Backtrader strategy places its own orders")
    assert {row.sharpe_daily for row in found.by_factor} == {None}


def test_a_replay_that_differs_is_not_used(walk: Callable[..., Bars]) -> None:
    """If it fails, a run shows numbers of a replay that differs from it."""
    run = made(walk(300, 1), SmaCross(fast_bars=5, slow_bars=20))
    found = cost_sensitivity(replace(run, equity=run.equity.assign(equity=run.equity["equity"] * 1.01)))
    assert found.by_factor[1].sharpe_daily is None
    assert "the fast replay differs from Backtrader at the bar" in found.reason


def test_costs_beyond_the_limit_have_a_reason(walk: Callable[..., Bars]) -> None:
    """If it fails, twice a large fee ends the run with an error."""
    row = cost_sensitivity(made(walk(300, 1), SmaCross(fast_bars=5, slow_bars=20), fee_bps=600)).by_factor[2]
    assert row.sharpe_daily is None
    assert "fee_bps is 1200" in row.reason.replace(",", "")
