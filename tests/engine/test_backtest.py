"""Properties that every backtest must have, on any bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from flagbt import train
from flagbt.data.bars import COLUMNS, Bars
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import Backtest, run_backtest
from flagbt.engine.costs import Costs
from flagbt.engine.feed import days_of
from flagbt.engine.funnel import FunnelError
from flagbt.engine.simulation import ORDER_COLUMNS, TRADE_COLUMNS, CheckpointInfo
from flagbt.errors import RangeError, StrategyError, UsageError
from flagbt.models.signals import NO_SIGNAL, Signals
from flagbt.strategies.base import Position, Strategy
from flagbt.strategies.baselines import AlwaysHold, BuyAndHold, RandomSignals, SmaCross
from flagbt.training.recipe import Recipe

FREE = Costs(fee_bps=0.0, slippage_bps=0.0, borrow_bps_per_day=0.0)
BASELINES = [
    BuyAndHold(),
    AlwaysHold(),
    SmaCross(fast_bars=5, slow_bars=20),
    RandomSignals(seed=3),
    SmaCross(fast_bars=5, slow_bars=20, short=True),
    RandomSignals(seed=3, short=True),
]
baselines = pytest.mark.parametrize("strategy", BASELINES, ids=lambda s: f"{s.name}{'-short' if s.short else ''}")


class Peeking(Strategy):
    """Buy where the next bar will rise: a planted look-ahead."""

    name = "peeking"

    def prepare(self, bars):
        """Look one bar ahead."""
        rises = np.append(bars.close[1:] > bars.close[:-1], False)
        return Signals.plain(np.where(rises, 2, 0))


class Returns(Strategy):
    """Return the constructor's arguments, to break the contract."""

    name = "returns"

    def __init__(self, signals=None, target=None):
        super().__init__()
        self._given = signals
        self._target = target

    def prepare(self, bars):
        """Return the given signals, or HOLD."""
        return Signals.plain(np.ones(len(bars))) if self._given is None else self._given

    def decide(self, t, position):
        """Return the given target."""
        return self._target


def changed_after(bars: Bars, t: int) -> Bars:
    """Return the same bars up to position t, and different ones after it."""
    columns = {name: getattr(bars, name).copy() for name in COLUMNS}
    for name in COLUMNS:
        columns[name][t + 1 :] *= np.linspace(1.5, 0.7, len(bars) - t - 1)
    top = np.maximum(columns["open"], columns["close"])
    columns["high"] = np.maximum(columns["high"], top)
    columns["low"] = np.minimum(columns["low"], np.minimum(columns["open"], columns["close"]))
    return Bars(bars.time, **columns, source="changed")


def looks_ahead(strategy: Strategy, bars: Bars, t: int) -> bool:
    """Return whether anything recorded up to bar t changes, in any bit, with the bars after t."""
    runs = [run_backtest(which, strategy) for which in (bars, changed_after(bars, t))]
    stamp = pd.Timestamp(bars.time[t], tz="UTC")
    past = [
        (
            run.equity.loc[:stamp].to_numpy().tobytes(),
            run.signals.loc[:stamp].to_numpy().tobytes(),
            # The size is not known at the decision, but at the open of the next bar.
            run.orders.loc[run.orders["decided"] <= stamp, ["decided", "target", "decision_price"]].to_csv(),
            run.orders.loc[run.orders["filled"] <= stamp].to_csv(),
        )
        for run in runs
    ]
    return past[0] != past[1]


@baselines
@pytest.mark.parametrize("seed", [0, 1])
def test_everything_adds_up(strategy, seed, walk):
    """Accounting: if it fails, cash, position, trades, orders and funnel disagree."""
    bars = walk(600, seed)
    run = run_backtest(bars, strategy, cash=5_000.0)
    equity, orders, trades = run.equity, run.orders, run.trades
    assert np.array_equal(equity["equity"], equity["cash"] + equity["position_size"] * equity["close"])
    assert run.cash + trades["pnl"].sum() == pytest.approx(equity["equity"].iloc[-1], rel=1e-9)
    filled = orders[orders["status"] == "filled"]
    assert filled["size"].sum() == pytest.approx(equity["position_size"].iloc[-1], abs=1e-9)
    assert (filled["filled"] > filled["decided"]).all()
    spent = (filled["size"] * filled["fill_price"]).sum() + filled["fee"].sum()
    borrow = trades["fees"].sum() - orders["fee"].sum()
    assert borrow == pytest.approx(0, abs=1e-9) if not strategy.short else borrow > 0
    assert run.cash - spent - borrow == pytest.approx(equity["cash"].iloc[-1], abs=1e-9 * run.cash)
    assert filled["slippage_cost"].to_numpy() == pytest.approx((filled["notional"] * 0.0002).to_numpy(), rel=1e-3)
    run.funnel.check()
    assert run.funnel.filled == len(filled)
    assert run.funnel.scored == (run.signals["signal"] >= 0).sum() == len(run.bars)
    assert equity.index.equals(run.bars.index)
    assert equity.index.equals(run.signals.index)
    assert (list(orders), list(trades)) == (list(ORDER_COLUMNS), list(TRADE_COLUMNS))
    if not strategy.short:
        assert equity["position_size"].min() >= 0
    assert equity["exposure"].abs().max() < 1.1


class RandomTargets(Strategy):
    """Hold any exposure at any time: partial entries and exits, reversals."""

    name = "random-targets"

    def prepare(self, bars):
        """Draw the targets; the signals have no effect."""
        random = np.random.default_rng(len(bars))
        self.targets = random.choice([-1.0, -0.5, 0.0, 0.3, 1.0, np.nan, np.nan], len(bars))
        return Signals.plain(np.ones(len(bars)))

    def decide(self, t, position):
        """Return the drawn target."""
        return None if np.isnan(self.targets[t]) else self.targets[t]


@pytest.mark.parametrize("seed", range(6))
def test_any_targets_add_up(seed, walk):
    """Accounting under stress: if it fails, partial closes, reversals or gaps create or lose money, or orders are rejected."""
    bars = walk(300 + seed, seed, hourly_volatility=0.02)
    gaps = 1 + 0.01 * np.random.default_rng(seed).normal(size=len(bars)).clip(-3, 3)
    open_ = bars.open * gaps
    bars = Bars(bars.time, open_, np.maximum(bars.high, open_), np.minimum(bars.low, open_), bars.close, bars.volume, "gaps")
    run = run_backtest(bars, RandomTargets(short=True))
    equity, orders, trades = run.equity, run.orders, run.trades
    assert run.funnel.rejected == {}
    assert (equity["cash"] >= -1e-9 * equity["equity"]).all()
    assert len(trades) > 20
    assert run.cash + trades["pnl"].sum() == pytest.approx(equity["equity"].iloc[-1], rel=1e-9)
    done = orders[orders["fill_price"].notna()]
    change = np.sign(done["size"]) * done["notional"] / done["fill_price"]
    assert change.sum() == pytest.approx(equity["position_size"].iloc[-1], abs=1e-9)
    borrow = trades["fees"].sum() - orders["fee"].sum()
    assert borrow > 0
    spent = (change * done["fill_price"]).sum() + done["fee"].sum() + borrow
    assert run.cash - spent == pytest.approx(equity["cash"].iloc[-1], abs=1e-9 * run.cash)
    assert (
        np.sign(done["fill_price"].to_numpy() - open_[equity.index.get_indexer(done["filled"])]) == np.sign(done["size"])
    ).all()
    run.funnel.check()


@baselines
def test_the_same_run_twice_is_the_same(strategy, walk):
    """Reproducibility: if it fails, state leaks from one run into the next."""
    first, second = (run_backtest(walk(300, 4), strategy) for _ in range(2))
    for name in ("equity", "signals", "orders", "trades"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name), check_exact=True)
    assert (first.funnel, first.config, first.data) == (second.funnel, second.config, second.data)


@baselines
@pytest.mark.parametrize("t", [60, 151])
def test_no_look_ahead(strategy, t, walk):
    """Causality: if it fails, a decision or an equity depends on later bars."""
    assert not looks_ahead(strategy, walk(200, 2), t)


def test_a_planted_look_ahead_is_caught(walk):
    """The check itself: if it fails, the test above proves nothing."""
    bars = walk(200, 2)
    assert any(looks_ahead(Peeking(), bars, t) for t in range(100, 104))


@baselines
def test_history_before_the_range_changes_no_signal(strategy, walk):
    """Warm-up: if it fails, a signal depends on where the file starts, or history is not used for warming up."""
    bars = walk(400, 5)
    timerange = TimeRange(bars.time[100], bars.time[300])
    long_history = run_backtest(bars, strategy, timerange=timerange)
    short_history = run_backtest(bars.take(slice(60, 400)), strategy, timerange=timerange)
    assert len(long_history.bars) == 200
    assert long_history.funnel.no_signal == 0
    assert long_history.data.first == "2024-01-05T04:00:00Z"
    for name in ("equity", "signals", "orders", "trades"):
        pd.testing.assert_frame_equal(getattr(long_history, name), getattr(short_history, name), check_exact=True)


def test_warm_up_is_skipped_without_a_start_and_counted_with_one(walk):
    """The funnel's first step: if it fails, bars without a signal are lost, or dilute the result."""
    bars, strategy = walk(100, 6), SmaCross(fast_bars=5, slow_bars=20)
    assert run_backtest(bars, strategy).funnel.bars == 81
    run = run_backtest(bars, strategy, timerange=TimeRange(bars.time[10], None))
    assert (run.funnel.bars, run.funnel.no_signal, run.funnel.scored) == (90, 9, 81)
    assert (run.signals["signal"].iloc[:9] == NO_SIGNAL).all()


def test_buy_and_hold_without_costs_is_the_market(walk):
    """The simplest benchmark: if it fails, fills or marks are off by a bar or a price."""
    bars = walk(500, 7)
    run = run_backtest(bars, BuyAndHold(), costs=FREE, cash=1e6)
    assert run.equity["equity"].iloc[-1] / 1e6 == pytest.approx(bars.close[-1] / bars.open[1], rel=1e-6)


def test_costs_are_charged_at_their_rates(walk):
    """Fees and slippage: if it fails, they are charged twice, or not at all (Backtrader's percabs trap)."""
    bars, strategy = walk(500, 8), RandomSignals(seed=1)
    free, dear = run_backtest(bars, strategy, costs=FREE), run_backtest(bars, strategy)
    assert free.orders["fee"].sum() == free.orders["slippage_cost"].sum() == 0
    filled = dear.orders[dear.orders["status"] == "filled"]
    assert len(filled) > 50
    assert filled["fee"].to_numpy() == pytest.approx((filled["notional"] * 0.001).to_numpy())
    opens = pd.Series(bars.open, index=pd.DatetimeIndex(bars.time, tz="UTC"))
    slipped = filled["fill_price"].to_numpy() / opens.loc[filled["filled"]].to_numpy() - 1
    assert slipped == pytest.approx(np.sign(filled["size"].to_numpy()) * 0.0002)
    assert dear.equity["equity"].iloc[-1] < free.equity["equity"].iloc[-1]


def test_decide_gets_the_true_position(walk):
    """The argument of decide(): if it fails, an exit after a horizon comes a bar early or late."""
    seen = []

    class ThreeBars(Returns):
        def decide(self, t, position: Position):
            seen.append(position)
            return 0.0 if position.bars_held == 3 else 1.0 if not position.size else None

    class Growing(Returns):
        def decide(self, t, position: Position):
            held.append(position.bars_held)
            return 0.2 * (t + 1) if t < 5 else None

    held: list[int] = []
    run_backtest(walk(30, 9), Growing())
    assert held == list(range(30))  # adding to a position does not restart the count

    run = run_backtest(walk(30, 9), ThreeBars())
    closed = run.trades[run.trades["status"] == "closed"]
    assert len(closed) > 5
    assert (closed["bars_held"] == 3).all()
    assert [position.exposure for position in seen[:5]] == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert seen[1].entry_price == pytest.approx(run.orders["fill_price"].iloc[0])
    assert np.isnan(seen[0].entry_price)
    assert run.funnel.kept["hold"] + run.funnel.ordered == 30


def test_an_order_before_a_gap_fills_at_the_next_bar(walk):
    """Exchange outages: if it fails, an order decided before a gap is lost or filled inside it."""
    bars = walk(60, 10)
    frame = bars.frame().drop(index=bars.frame().index[21:30])
    signal = np.ones(51)
    signal[20] = 2
    run = run_backtest(Bars.from_frame(frame), Returns(), signals=Signals.plain(signal))
    assert run.orders.empty  # Returns decides by its target alone
    run = run_backtest(Bars.from_frame(frame), BuyAndHold(), signals=Signals.plain(signal))
    assert run.orders["decided"].iloc[0] == frame.index[20]
    assert run.orders["filled"].iloc[0] == frame.index[21] == frame.index[20] + pd.Timedelta(hours=10)


class FromLines(bt.Strategy):
    """A plain Backtrader strategy that trades the signal lines, with an indicator that needs 10 bars."""

    def __init__(self):
        self.mean = bt.indicators.SMA(self.data.close, period=10)
        self.seen = []

    def next(self):
        """Follow the signal; record the lines' values."""
        stamp = np.datetime64(self.data.datetime.datetime(0), "ns")
        self.seen.append((stamp, self.data.signal[0], self.data.p_buy[0], self.data.logit_sell[0]))
        if self.data.signal[0] == 2 and not self.position:
            self.buy()
        elif self.data.signal[0] == 0 and self.position:
            self.close()

    def stop(self):
        """Keep the recorded values on the class."""
        type(self).last_seen = self.seen


def test_a_plain_backtrader_strategy_reads_the_signals(walk):
    """Interoperability: if it fails, plain strategies get wrong signals, wrong costs, or no record."""
    bars = walk(300, 11)
    plain = RandomSignals(seed=5).prepare(bars)
    probabilities = np.full((300, 3), [0.2, 0.3, 0.5])
    signals = Signals(plain.signal, plain.raw, None, probabilities)
    run = run_backtest(bars, FromLines, signals=signals)
    assert run.signals is None
    stamps, signal, p_buy, logit = zip(*FromLines.last_seen, strict=True)
    assert np.array_equal(np.array(stamps), bars.time[9:])
    assert np.array_equal(signal, plain.signal[9:])
    assert set(p_buy) == {0.5}
    assert np.isnan(logit).all()
    assert (run.orders["status"] == "filled").sum() > 20
    assert len(run.equity) == 300
    assert run.cash + run.trades["pnl"].sum() == pytest.approx(run.equity["equity"].iloc[-1], rel=1e-9)
    assert run.funnel.scored is None
    assert run.funnel.submitted == len(run.orders)


def test_a_plain_strategy_that_follows_the_rule_equals_the_adapter(walk):
    """One engine, two entries: if it fails, the adapter trades differently from Backtrader."""

    class Follow(FromLines):
        def __init__(self):
            self.seen = []

    bars = walk(300, 12)
    strategy = RandomSignals(seed=6)
    plain, adapted = run_backtest(bars, Follow, signals=strategy.prepare(bars)), run_backtest(bars, strategy)
    pd.testing.assert_frame_equal(plain.equity, adapted.equity, check_exact=True)
    pd.testing.assert_frame_equal(plain.trades, adapted.trades, check_exact=True)


def test_shorts_are_decided_before_the_strategy_runs(walk):
    """If it fails, a strategy can allow itself shorts in prepare, which the run did not ask for."""

    class Switching(Strategy):
        name = "switching"

        def prepare(self, bars):
            self.short = True
            return Signals.plain(np.zeros(len(bars)))

    with pytest.raises(StrategyError, match="Shorts need short=True"):
        run_backtest(walk(30, 13), Switching(), costs=FREE)


def test_a_plain_strategy_cannot_short_or_borrow_silently(walk):
    """Leverage: if it fails, Backtrader's silent 3x shorts return."""

    class Shorts(bt.Strategy):
        def next(self):
            if len(self) in (2, 6):
                self.sell(size=3 * self.broker.getvalue() / self.data.close[0])
            if len(self) == 4:
                self.sell(size=0.5 * self.broker.getvalue() / self.data.close[0])
            if len(self) == 10:
                self.buy(exectype=bt.Order.Limit, price=1.0, valid=self.data.datetime.datetime(0), size=1)

    bars = walk(30, 13)
    refused = run_backtest(bars, Shorts)
    assert refused.funnel.rejected == {"short not allowed": 3}
    assert refused.equity["position_size"].eq(0).all()
    allowed = run_backtest(bars, Shorts, short=True)
    assert allowed.funnel.rejected == {"short above equity": 2}
    assert allowed.trades["side"].tolist() == ["short"]
    assert allowed.orders["reason"].iloc[-1] == "Expired"
    assert allowed.orders["status"].iloc[-1] == "unfilled"


def test_backtrader_dates_are_the_bars_own():
    """Time stamps: if it fails, a plain strategy sees hours with rounding errors."""
    time = np.datetime64("2019-12-31T23:00", "ns") + np.arange(30_000) * np.timedelta64(3600, "s")
    days = days_of(time)
    for at in (0, 1, 7, 12_345, 29_999):
        moment = pd.Timestamp(time[at]).to_pydatetime()
        assert days[at] == bt.date2num(moment)
        assert bt.num2date(days[at]) == moment


def test_progress_is_reported(walk):
    """Long runs: if it fails, a progress bar does not move."""
    steps = []
    Backtest(bars=walk(2_100, 14), strategy=AlwaysHold(), progress=lambda done, total: steps.append((done, total))).run()
    assert steps == [(1_000, 2_100), (2_000, 2_100)]


def bad(values) -> Returns:
    """Return a strategy whose signals are these values."""
    return Returns(Signals(np.array(values), np.array(values)))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (bad([1] * 49), "one row for each of the 50 bars: signal has shape \\(49,\\)"),
        (bad([1.0] * 50), "type float64"),
        (bad([1] * 40 + [3] + [1] * 9), "signal is 3 at the bar 2024-01-02T16:00:00Z, expected SELL=0"),
        (Returns(signals=np.ones(50)), "must return Signals, one row .* got an ndarray"),
        (Returns(Signals(np.ones(50, int), np.full(50, -1))), "one of signal and raw is missing \\(50 such bars\\)"),
        (
            Returns(Signals(np.ones(50, int), np.ones(50, int), None, np.full((50, 3), np.nan))),
            "there is a signal, but probabilities are not finite",
        ),
        (Returns(Signals(np.ones(50, int), np.ones(50, int), np.ones((50, 2)))), "logits has shape \\(50, 2\\)"),
        (Returns(target=2.0), "decide returned 2.0 at the bar 2024-01-01T00:00:00Z, expected None or an exposure"),
        (Returns(target=-1.0), "Shorts need short=True"),
        (Returns(target="all"), "decide returned 'all'"),
        (Returns(target=float("nan")), "decide returned nan"),
        (Strategy(), "Strategy defines no prepare"),
        (SmaCross, "got the class SmaCross. Pass an instance: SmaCross\\(\\)"),
        ("sma-cross", "got a str"),
    ],
)
def test_a_broken_contract_is_named(strategy, message, walk):
    """Plug-in authors: if it fails, a broken strategy runs, or fails without naming the place."""
    with pytest.raises(StrategyError, match=message):
        run_backtest(walk(50, 15), strategy)


def test_ranges_without_bars_or_signals_are_refused(walk):
    """Wrong ranges: if it fails, an empty run passes for a run."""
    bars = walk(50, 16)
    with pytest.raises(RangeError, match=r"20250101-: no bar opens in it\. random walk 16 holds 50 bars, 2024"):
        run_backtest(bars, BuyAndHold(), timerange=TimeRange.parse("20250101-"))
    with pytest.raises(RangeError, match="the warm-up takes 19 bars, so the first signal is at 2024-01-01T19:00:00Z"):
        run_backtest(bars, SmaCross(fast_bars=5, slow_bars=20), timerange=TimeRange.parse("-20240101T10"))
    with pytest.raises(RangeError, match="the warm-up takes 167 bars, and there are 50"):
        run_backtest(bars, SmaCross())


def test_invalid_arguments_are_refused(walk):
    """Wrong usage: if it fails, a typing error costs or earns money."""
    bars = walk(50, 17)
    with pytest.raises(UsageError, match=r"cash: expected an amount .* got 0"):
        run_backtest(bars, BuyAndHold(), cash=0)
    with pytest.raises(UsageError, match="Create it with SmaCross\\(short=True\\)"):
        run_backtest(bars, SmaCross(), short=True)
    with pytest.raises(UsageError, match="fee_bps is -1, expected 0 to 1,000"):
        Costs(fee_bps=-1)
    with pytest.raises(UsageError, match="slippage_bps is nan"):
        Costs(slippage_bps=float("nan"))
    with pytest.raises(UsageError, match="lot_size is 0"):
        Costs(lot_size=0)
    with pytest.raises(UsageError, match="reserve_bps is 20, and there is no such cost any more: an order is sized"):
        Costs(reserve_bps=20)


def test_a_leaking_funnel_is_a_defect(walk):
    """The funnel's own check: if it fails, counts that do not add up pass unnoticed."""
    run = run_backtest(walk(50, 18), RandomSignals())
    run.funnel.check()
    with pytest.raises(FunnelError, match=r"submitted is .* but zero_size \+ rejected \+ unfilled \+ filled is"):
        replace(run.funnel, zero_size=1).check()
    with pytest.raises(FunnelError, match=r"scored is .* but kept \+ ordered - unprompted is"):
        replace(run.funnel, ordered=run.funnel.ordered + 1).check()


def test_the_record_holds_the_settings(walk):
    """The record: if it fails, a run cannot be repeated from it."""
    bars = walk(200, 19)
    strategy = SmaCross(fast_bars=5, slow_bars=20)
    card = {"name": "J", "digest": "ab", "label_shares": (0.2, 0.5, 0.3), "horizon_bars": 6, "labels": "horizon:6,0.01"}
    record = {"config": {"seed": 4}, "checkpoint": CheckpointInfo(**card)}
    run = Backtest(bars=bars, strategy=strategy, cash=500, **record).run()
    assert dict(run.config) == {
        "strategy": "sma-cross",
        "parameters": {"fast_bars": 5, "slow_bars": 20},
        "timerange": None,
        "cash": 500.0,
        "short": False,
        "fee_bps": 10.0,
        "slippage_bps": 2.0,
        "borrow_bps_per_day": 1.0,
        "lot_size": 1e-6,
        "sizing": "at fill",
        "seed": 4,
        "bars_seen": [],
    }
    assert run.data.to_json() == {
        "source": bars.source,
        "synthetic": True,
        "digest": bars.digest,
        "step_hours": 1.0,
        "bars_per_year": 8760.0,
        "first": "2024-01-01T19:00:00Z",
        "last": "2024-01-09T07:00:00Z",
    }
    assert run.checkpoint == CheckpointInfo(**card)
    assert set(run.seconds) == {"score", "replay"}


def test_arguments_of_an_earlier_version_are_refused_with_their_new_place(walk: Callable[..., Bars]) -> None:
    """If it fails, a script of 0.1 gets a bare TypeError."""
    old: Any = run_backtest
    with pytest.raises(UsageError, match=r"run_backtest no longer takes data=, config=\. Give them to .*Backtest"):
        old(walk(50), BuyAndHold(), config={}, data={})
    old = train
    with pytest.raises(UsageError, match=r"train no longer takes watch=\. Give monitor=flagbt.Monitor.*on_epoch"):
        old(walk(50), Path("x"), Recipe(), watch=print)
