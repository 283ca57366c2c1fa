"""Plain Backtrader strategies trade as in pure Backtrader, order by order, at equal costs."""

from __future__ import annotations

import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from flagbt.data.bars import Bars
from flagbt.engine.backtest import run_backtest
from flagbt.engine.costs import Costs

from flagbt.tests.plain_strategies import STRATEGIES

CASH, FEE = 10_000.0, 0.001
TOLERANCE = 1e-9


def gappy(n, seed, hours=1):
    """Return a random walk whose opens lie off the close before, so that stops and limits are crossed by gaps as well."""
    random = np.random.default_rng(seed)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 0.006, n)))
    open_ = np.concatenate([[30_000.0], close[:-1]]) * np.exp(random.normal(0, 0.002, n))
    reach = np.abs(random.normal(0, 0.003, (2, n)))
    high, low = np.maximum(open_, close) * (1 + reach[0]), np.minimum(open_, close) * (1 - reach[1])
    time = np.datetime64("2024-01-01", "ns") + np.arange(n) * np.timedelta64(hours * 3600, "s")
    return Bars(time, open_, high, low, close, random.lognormal(5, 1, n), source=f"gappy walk {seed}", synthetic=True)


class Fractional(bt.CommissionInfo):
    """A percentage fee, and sizes that need not be whole: all that differs from Backtrader's own."""

    params = (("commission", FEE),)

    def getsize(self, price, cash):
        return cash / price


class LimitsKeepTheirLimit(bt.brokers.BackBroker):
    """Backtrader's broker whose slippage leaves limit orders alone, and reaches orders at the close."""

    def _slip_up(self, pmax, price, doslip=True, lim=False):
        return price if lim else super()._slip_up(pmax, price, doslip)

    def _slip_down(self, pmin, price, doslip=True, lim=False):
        return price if lim else super()._slip_down(pmin, price, doslip)

    def _execute(self, order, ago=None, price=None, **kwargs):
        if ago is not None and price is not None and order.exectype == bt.Order.Close:
            price *= 1 + self.p.slip_perc * (1 if order.isbuy() else -1)
        return super()._execute(order, ago=ago, price=price, **kwargs)


def pure(bars, strategy, *, slippage=0.0, fee=FEE, cash=CASH):
    """Run a strategy in pure Backtrader and return its log."""
    cerebro = bt.Cerebro()
    broker = LimitsKeepTheirLimit() if slippage else bt.brokers.BackBroker()
    cerebro.setbroker(broker)
    broker.setcash(cash)
    broker.addcommissioninfo(Fractional(commission=fee))
    if slippage:
        broker.set_slippage_perc(slippage, slip_open=True, slip_match=True, slip_out=True)
    frame = bars.frame()
    frame.index = frame.index.tz_localize(None)
    minutes = round(bars.step_hours * 60)
    days = minutes % 1440 == 0
    cerebro.adddata(bt.feeds.PandasData(
        dataname=frame, name="bars", timeframe=bt.TimeFrame.Days if days else bt.TimeFrame.Minutes,
        compression=minutes // 1440 if days else minutes,
    ))  # fmt: skip
    cerebro.addstrategy(strategy)
    cerebro.run()
    return strategy.last


def ours(bars, strategy, *, slippage=0.0, fee=FEE, cash=CASH):
    """Run a strategy in flagbt and return its log and the record."""
    costs = Costs(fee_bps=fee * 10_000, slippage_bps=slippage * 10_000, borrow_bps_per_day=0.0)
    run = run_backtest(bars, strategy, costs=costs, cash=cash, short=strategy.short)
    return strategy.last, run


def assert_same_log(mine, theirs):
    """Compare two logs, call by call: words exactly, numbers to 1e-9."""
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        assert len(one) == len(other), (number, one, other)
        for left, right in zip(one, other, strict=True):
            if isinstance(left, float) and isinstance(right, int | float):
                same = (math.isnan(left) and math.isnan(right)) or left == pytest.approx(right, rel=TOLERANCE, abs=TOLERANCE)
            else:
                same = left == right
            assert same, f"call {number}: flagbt {one}, Backtrader {other}"
    assert len(mine) == len(theirs)


def assert_same_record(run, log):
    """Compare the record of a run with what Backtrader told its strategy."""
    equity = np.array([note[3] for note in log if note[0] == "cash"])
    np.testing.assert_allclose(run.equity["equity"].to_numpy(), equity, rtol=TOLERANCE)
    told = [
        (pd.Timestamp(bt.num2date(note[10]), tz="UTC").round("s"), note[14], note[15], note[17])
        for note in log if note[0] == "order" and not note[13] and note[14]  # no longer alive, and something filled
    ]  # fmt: skip
    filled = run.orders[run.orders["fill_price"].notna()]
    size = np.sign(filled["size"]) * filled["notional"] / filled["fill_price"]
    mine = list(zip(filled["decided"], size, filled["fill_price"], filled["fee"], strict=True))
    # Orders of one bar may fill in another order than they were given in.
    mine, told = (sorted(each, key=lambda row: (row[0], round(row[1], 9), row[2])) for each in (mine, told))
    assert [row[0] for row in mine] == [row[0] for row in told]
    np.testing.assert_allclose(np.array([row[1:] for row in mine]), np.array([row[1:] for row in told]), rtol=TOLERANCE)


@pytest.mark.parametrize("slippage", [0.0, 0.0005], ids=["no-slippage", "5-bps"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: each.__name__)
def test_a_plain_strategy_trades_as_in_pure_backtrader(strategy, slippage):
    """If it fails, flagbt gives other orders, fills, notifications or equity than Backtrader itself."""
    bars = gappy(500, 3)
    theirs = pure(bars, strategy, slippage=slippage)
    mine, run = ours(bars, strategy, slippage=slippage)
    assert_same_log(mine, theirs)
    assert_same_record(run, theirs)
