"""Plain Backtrader strategies trade as in pure Backtrader, order by order, at equal costs."""

from __future__ import annotations

import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from plain_strategies import STRATEGIES, AtClose, RandomOrders, Timers, ValidUntil, WithAnalyzers, WithObservers

from flagbt.data.bars import Bars
from flagbt.engine.backtest import run_backtest
from flagbt.engine.costs import Costs
from flagbt.errors import RangeError, StrategyError
from flagbt.results.recording import record_of
from flagbt.strategies.baselines import BuyAndHold

CASH, FEE = 10_000.0, 0.001
TOLERANCE = 1e-9


def gappy(n, seed, *, hours=1, price=30_000.0):
    """Return a random walk whose opens differ from the close before, so that gaps cross stops and limits as well."""
    random = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(random.normal(0, 0.006, n)))
    open_ = np.concatenate([[price], close[:-1]]) * np.exp(random.normal(0, 0.002, n))
    reach = np.abs(random.normal(0, 0.003, (2, n)))
    high, low = np.maximum(open_, close) * (1 + reach[0]), np.minimum(open_, close) * (1 - reach[1])
    time = np.datetime64("2024-01-01", "ns") + np.arange(n) * np.timedelta64(hours * 3600, "s")
    return Bars(time, open_, high, low, close, random.lognormal(5, 1, n), source=f"gappy walk {seed}", synthetic=True)


class Fractional(bt.CommissionInfo):
    """A percentage fee and fractional sizes: the only differences from Backtrader's default."""

    params = (("commission", FEE),)

    def getsize(self, price, cash):
        """Return the units that the cash pays for."""
        return cash / price


class LimitsKeepTheirLimit(bt.brokers.BackBroker):
    """Backtrader's broker whose slippage skips limit orders and includes orders at the close."""

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
    cerebro.adddata(
        bt.feeds.PandasData(
            dataname=frame,
            name="bars",
            timeframe=bt.TimeFrame.Days if days else bt.TimeFrame.Minutes,
            compression=minutes // 1440 if days else minutes,
        )
    )
    cerebro.addstrategy(strategy)
    cerebro.run()
    return strategy.last


def ours(bars, strategy, *, slippage=0.0, fee=FEE, cash=CASH):
    """Run a strategy in flagbt and return its log and the record."""
    costs = Costs(fee_bps=fee * 10_000, slippage_bps=slippage * 10_000, borrow_bps_per_day=0.0)
    run = run_backtest(bars, strategy, costs=costs, cash=cash, short=strategy.short)
    return strategy.last, run


def assert_same_log(mine, theirs):
    """Compare two logs, call by call: text exactly, numbers to 1e-9."""
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
    """Compare the record of a run with Backtrader's notifications to its strategy."""
    equity = np.array([note[3] for note in log if note[0] == "cash"])
    np.testing.assert_allclose(run.equity["equity"].to_numpy(), equity, rtol=TOLERANCE)
    notified = [
        (pd.Timestamp(bt.num2date(note[10]), tz="UTC").round("s"), note[14], note[15], note[17])
        for note in log
        if note[0] == "order" and not note[13] and note[14]  # no longer alive, and something filled
    ]
    filled = run.orders[run.orders["fill_price"].notna()]
    size = np.sign(filled["size"]) * filled["notional"] / filled["fill_price"]
    mine = list(zip(filled["decided"], size, filled["fill_price"], filled["fee"], strict=True))
    # Orders of one bar may fill in a different sequence from the one in which they were placed.
    mine, notified = (sorted(each, key=lambda row: (row[0], round(row[1], 9), row[2])) for each in (mine, notified))
    assert [row[0] for row in mine] == [row[0] for row in notified]
    np.testing.assert_allclose(np.array([row[1:] for row in mine]), np.array([row[1:] for row in notified]), rtol=TOLERANCE)


@pytest.mark.parametrize("slippage", [0.0, pytest.param(0.0005, marks=pytest.mark.slow)], ids=["no-slippage", "5-bps"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: each.__name__)
def test_a_plain_strategy_trades_as_in_pure_backtrader(strategy, slippage):
    """If it fails, flagbt gives other orders, fills, notifications or equity than Backtrader itself."""
    bars = gappy(500, 3, price=strategy.price)
    theirs = pure(bars, strategy, slippage=slippage)
    mine, run = ours(bars, strategy, slippage=slippage)
    assert_same_log(mine, theirs)
    assert_same_record(run, theirs)
    assert run.orders["fill_price"].notna().sum() >= strategy.fewest


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 60))])
def test_random_orders_are_those_of_pure_backtrader(seed):
    """If it fails, an order of some type fills, expires, cancels or notifies differently from Backtrader itself."""

    class Seeded(RandomOrders):
        pass

    Seeded.seed, Seeded.price = seed, (30_000.0, 3e-5, 3e6)[seed % 3]
    bars = gappy(250, 100 + seed, price=Seeded.price)
    slippage = 0.0005 * (seed % 2)
    theirs = pure(bars, Seeded, slippage=slippage)
    mine, run = ours(bars, Seeded, slippage=slippage)
    assert_same_log(mine, theirs)
    assert_same_record(run, theirs)
    assert run.orders["fill_price"].notna().sum() > 50


@pytest.mark.parametrize(
    "strategy", [WithAnalyzers, WithObservers, Timers, ValidUntil, AtClose], ids=lambda each: each.__name__
)
def test_daily_bars_are_days_to_backtrader_too(strategy):
    """If it fails, analyzers, timers and sessions of a plain strategy treat a day as 1,440 minutes."""
    bars = gappy(200, 4, hours=24)
    theirs = pure(bars, strategy)
    mine, run = ours(bars, strategy)
    assert_same_log(mine, theirs)
    assert_same_record(run, theirs)


# --- sizes ------------------------------------------------------------------------------------------------------------


def by_hand(open_, close):
    """Return daily bars with these opens and closes, and a wick of 1 % on both sides."""
    open_, close = np.array(open_, float), np.array(close, float)
    time = np.datetime64("2024-01-01", "ns") + np.arange(len(open_)) * np.timedelta64(24, "h")
    high, low = np.maximum(open_, close) * 1.01, np.minimum(open_, close) * 0.99
    return Bars(time, open_, high, low, close, np.ones(len(open_)), source="by hand", synthetic=True)


class Once(bt.Strategy):
    """Base: acts once, at the first bar."""

    def next(self):
        """Act at the first bar."""
        if len(self) == 1:
            self.act()


def test_all_in_is_sized_at_its_fill():
    """If it fails, a buy() of everything is refused wherever the next open is higher, or leaves cash behind."""

    class Buy(Once):
        def act(self):
            self.buy()

    run = run_backtest(by_hand([100, 110, 120], [100, 115, 125]), Buy)
    size = math.floor(10_000 / (110 * 1.0002 * 1.001) * 1e6) / 1e6  # 10 bps of fee, 2 of slippage, at the open of 110
    assert run.orders["size"].tolist() == [size]
    assert run.orders["fill_price"].tolist() == [pytest.approx(110 * 1.0002, rel=1e-12)]
    assert 0 <= run.equity["cash"].iloc[-1] < 1e-6 * 110 * 1.0012
    assert run.equity["equity"].iloc[-1] == pytest.approx(run.equity["cash"].iloc[-1] + size * 125, rel=1e-12)


def test_no_all_in_purchase_is_ever_refused_for_a_gap():
    """If it fails, rounding or a gap leaves an all-in order above the cash."""

    class InAndOut(bt.Strategy):
        def next(self):
            if self.position:
                self.close()
            else:
                self.buy()

    for seed in range(5):
        run = run_backtest(gappy(300, seed, price=(30_000.0, 1e-5, 3e6)[seed % 3]), InAndOut)
        assert run.funnel.rejected == {}
        assert len(run.orders) == 299 + 1  # the last bar's order is unfilled
        assert (run.equity["cash"] >= 0).all()


def test_all_in_uses_the_cash_that_earlier_orders_have_freed():
    """If it fails, close() and buy() at one bar leave a plain strategy flat."""

    class Again(bt.Strategy):
        def next(self):
            if len(self) == 1:
                self.buy()
            if len(self) == 3:
                self.close()
                self.buy()
            if len(self) == 5:
                self.buy()  # no cash is left

    run = run_backtest(by_hand([100, 101, 102, 103, 104, 105], [100, 101, 102, 103, 104, 105]), Again)
    assert run.orders["status"].tolist() == ["filled", "filled", "filled", "rejected"]
    first, out, second, _ = run.orders["size"]
    cash = 10_000 - first * 101 * 1.0002 * 1.001 + first * 103 * 0.9998 * 0.999
    assert out == -first
    assert second == math.floor(cash / (103 * 1.0002 * 1.001) * 1e6) / 1e6
    assert run.funnel.rejected == {"less than one lot": 1}


@pytest.mark.parametrize("short", [False, True])
def test_the_orders_of_an_all_in_bracket_close_its_position(short):
    """If it fails, the stop and the target of an all-in bracket keep the size estimated at the close."""

    class Bracket(Once):
        def act(self):
            if short:
                self.sell_bracket(exectype=bt.Order.Market, limitprice=90, stopprice=130)
            else:
                self.buy_bracket(exectype=bt.Order.Market, limitprice=130, stopprice=90)

    run = run_backtest(by_hand([100, 110, 120, 140, 140], [100, 115, 125, 140, 140]), Bracket, short=short)
    entry, *exits = run.orders.itertuples()
    side = -1 if short else 1
    price = 110 * (1 + side * 0.0002)
    assert entry.size == side * math.floor(10_000 / (price * 1.001) * 1e6) / 1e6
    filled = [order for order in exits if order.status == "filled"]
    assert [order.size for order in filled] == [-entry.size]
    assert filled[0].fill_price == pytest.approx(140 * 1.0002 if short else 140)  # a stop slips, a target does not
    assert run.equity["position_size"].iloc[-1] == 0


def test_a_sizer_of_the_class_counts():
    """If it fails, the all-in sizer replaces the class's own sizer."""

    class Buy(Once):
        sizer = bt.sizers.PercentSizer(percents=30)

        def act(self):
            self.buy()

    class BuyToo(Buy):
        sizer = bt.sizers.PercentSizer

    bars = by_hand([100, 110, 120], [100, 115, 125])
    assert run_backtest(bars, Buy).orders["size"].tolist() == [30.0]  # 30 % of 10,000 at the close of 100
    assert run_backtest(bars, BuyToo).orders["size"].tolist() == [20.0]


def test_a_target_value_buys_its_value():
    """If it fails, order_target_value(5000) buys less than 5,000."""

    class Target(Once):
        def act(self):
            self.order_target_value(target=5_000)

    run = run_backtest(by_hand([100, 110, 120], [100, 115, 125]), Target)
    assert run.orders["size"].tolist() == [50.0]
    assert run.orders["size"].iloc[0] * run.orders["decision_price"].iloc[0] == 5_000


# --- prices -----------------------------------------------------------------------------------------------------------


def test_limits_are_kept_and_slippage_is_recorded():
    """If it fails, a limit order fills worse than its limit, or the recorded slippage differs from the slippage paid."""
    paid = dict.fromkeys(("Market", "Stop", "StopTrail", "Close"), 0)
    for strategy in STRATEGIES:
        mine, run = ours(gappy(400, 5, price=strategy.price), strategy, slippage=0.0005)
        completed = [note for note in mine if note[0] == "order" and note[2] == "Completed"]
        costs = {}
        for order in run.orders[run.orders["status"] == "filled"].itertuples():
            costs.setdefault((f"{order.size:.9g}", f"{order.fill_price:.9g}"), []).append(order.slippage_cost)
        for note in completed:
            kind, side, price, limit, size, filled = (note[i] for i in (3, 4, 7, 8, 14, 15))
            cost = costs[f"{size:.9g}", f"{filled:.9g}"].pop()
            if kind in ("Limit", "StopLimit", "StopTrailLimit"):
                limit = price if kind == "Limit" else limit
                worse = (filled / limit - 1) * (1 if side == "Buy" else -1)
                assert worse <= 1e-12, (strategy, kind)
                assert cost == 0
            else:
                before = filled / (1.0005 if size > 0 else 0.9995)
                assert cost == pytest.approx(abs(size) * before * 0.0005, rel=1e-6), (strategy, kind)
                paid[kind] += 1
    assert min(paid.values()) > 3, paid


def test_a_limit_that_the_open_crosses_fills_at_the_open():
    """If it fails, a limit order pays slippage, or misses its better price."""

    class Limits(bt.Strategy):
        def next(self):
            if len(self) == 1:
                self.buy(exectype=bt.Order.Limit, price=100.0, size=1)  # the next open is 99
            if len(self) == 2:
                self.sell(exectype=bt.Order.Limit, price=98.5, size=1)  # the next open is 98, its high 100.99

    run = run_backtest(by_hand([100, 99, 98], [100, 99, 99.99]), Limits)
    assert run.orders["fill_price"].tolist() == [99.0, 98.5]
    assert run.orders["slippage_cost"].tolist() == [0.0, 0.0]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_sale_without_shorts_is_reported_as_rejected():
    """If it fails, the summary of a short-only strategy reports no orders and does not mention --short."""

    class Sells(bt.Strategy):
        def next(self):
            self.sell()

    bars = gappy(20, 6)
    run = run_backtest(bars, Sells)
    assert run.funnel.rejected == {"short not allowed": 19}
    sentence = record_of(run, run_backtest(bars, BuyAndHold())).info.sentence
    assert "19 orders rejected" in sentence
    assert "--short" in sentence
    allowed = run_backtest(bars, Sells, short=True)
    assert allowed.orders["status"].iloc[0] == "filled"


class Open(bt.Strategy):
    """Order with knowledge of the bar."""

    def __init__(self):
        self.cerebro.p.cheat_on_open = True

    def next_open(self):
        """Buy at the low of the bar that is about to trade."""
        self.buy(exectype=bt.Order.Limit, price=self.data.low[0], size=0.01)


class Timer(bt.Strategy):
    """Do the same by a timer."""

    def __init__(self):
        self.add_timer(bt.timer.SESSION_START, cheat=True)


class History(Once):
    """Fill at any price that the order names."""

    def act(self):
        """Buy almost for free."""
        self.buy(exectype=bt.Order.Historical, price=1.0, size=1)


@pytest.mark.parametrize(("strategy", "message"), [(Open, "cheat_on_open"), (Timer, "cheat=True"), (History, "Historical")])
def test_a_strategy_that_sees_or_chooses_its_price_is_refused(strategy, message):
    """If it fails, a plain strategy trades at prices that it could not have known or got."""
    with pytest.raises(StrategyError, match=message):
        run_backtest(gappy(50, 7), strategy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda broker: broker.set_cash(1e9), "set_cash"),
        (lambda broker: broker.set_coc(True), "set_coc"),
        (lambda broker: setattr(broker.p, "coc", True), r"broker\.p\.coc"),
        (lambda broker: setattr(broker.p, "slip_perc", 0.0), r"broker\.p\.slip_perc"),
        (lambda broker: setattr(broker, "cash", 1e9), "broker.cash"),
        (lambda broker: setattr(broker.getposition(broker.cerebro.datas[0]), "size", 5.0), "position's size"),
    ],
)
def test_the_account_is_out_of_a_strategys_reach(change, message):
    """If it fails, a plain strategy gives itself money or better prices, and its record does not show it."""

    class Reaches(Once):
        def act(self):
            change(self.broker)

    with pytest.raises(StrategyError, match=message):
        run_backtest(gappy(50, 7), Reaches)


def test_a_strategy_that_skips_itself_is_named():
    """If it fails, Backtrader's StrategySkipError ends in a traceback."""

    class Skips(bt.Strategy):
        def __init__(self):
            raise bt.errors.StrategySkipError

    with pytest.raises(StrategyError, match="'Skips' raised Backtrader's StrategySkipError"):
        run_backtest(gappy(50, 7), Skips)


def test_a_range_shorter_than_an_indicator_is_named():
    """If it fails, a period of 200 over 48 bars ends in an IndexError of Backtrader's."""

    class Long(bt.Strategy):
        def __init__(self):
            self.mean = bt.ind.SMA(period=200)

    with pytest.raises(RangeError, match="'Long': one of its indicators needs more than the 48 bars"):
        run_backtest(gappy(48, 8), Long)

    class Wrong(bt.Strategy):
        def next(self):
            [][1]

    with pytest.raises(StrategyError, match="IndexError"):
        run_backtest(gappy(48, 8), Wrong)
