"""The fast replay against Backtrader, the reference: order by order and bar by bar."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flagbt.data.bars import Bars
from flagbt.data.time_range import TimeRange
from flagbt.engine import kernel
from flagbt.engine.backtest import run_backtest
from flagbt.engine.broker import RUIN
from flagbt.engine.costs import Costs
from flagbt.engine.replay import REASONS, ReplayBars, ReplayResult, Scratch, check_replay, position_rule, replay
from flagbt.engine.rules import EXITS, WAITS, Rules
from flagbt.engine.simulation import Simulation
from flagbt.errors import StrategyError, UsageError
from flagbt.models.signals import NO_SIGNAL, Signals
from flagbt.results.metrics import Metrics, metrics, replay_metrics
from flagbt.results.run_view import RunView
from flagbt.strategies.base import Position, Strategy
from flagbt.strategies.baselines import RandomSignals

HOUR = np.timedelta64(3600, "s")


class Given(Strategy):
    """Follow given exposures, or given signals by the position rule."""

    name = "given"

    def __init__(self, signal: np.ndarray, exposures: np.ndarray | None, *, short: bool) -> None:
        super().__init__(short=short)
        self._signal = signal
        self._exposures = exposures

    def prepare(self, bars: Bars) -> Signals:
        """Return the given signals."""
        return Signals.plain(self._signal)

    def decide(self, t: int, position: Position) -> float | None:
        """Return the given exposure, or follow the rule."""
        if self._exposures is None:
            return super().decide(t, position)
        return None if math.isnan(self._exposures[t]) else float(self._exposures[t])


@dataclass(frozen=True)
class Case:
    """One generated backtest."""

    bars: Bars
    signal: np.ndarray
    exposures: np.ndarray | None
    short: bool
    costs: Costs
    cash: float
    rules: Rules

    def reference(self) -> Simulation:
        """Run it in Backtrader."""
        return run_backtest(
            self.bars,
            Given(self.signal, self.exposures, short=self.short),
            timerange=TimeRange(self.bars.time[0], None),
            costs=self.costs,
            cash=self.cash,
            short=self.short,
            rules=self.rules,
        )

    def replayed(self) -> ReplayResult:
        """Run it in the replay."""
        targets = position_rule(self.signal, short=self.short)
        if self.exposures is not None:
            targets = np.where(self.signal == NO_SIGNAL, np.nan, self.exposures)
        settings_ = {"costs": self.costs, "cash": self.cash, "short": self.short, "rules": self.rules}
        return replay(ReplayBars.of(self.bars), targets, **settings_)


def make_case_bars(
    n: int, seed: int, *, price: float, volatility: float, jump: float, gap_share: float, drift: float = 0.0
) -> Bars:
    """Return a random walk with jumps between a close and the next open, and with missing bars."""
    random = np.random.default_rng(seed)
    moves = random.normal(0, volatility, (2, n)).clip(-0.5, 0.5)
    moves[1] += drift
    moves[0] = jump * random.normal(size=n).clip(-3, 3) * (random.random(n) < 0.3)
    path = price * np.exp(np.cumsum(moves.T.ravel()))
    open_, close = path[::2], path[1::2]
    missing = (random.random(n) < gap_share) * random.integers(1, 200, n)
    time = np.datetime64("2024-01-01", "ns") + (np.arange(n) + np.cumsum(missing) - missing[0]) * HOUR
    return Bars(time, open_, np.maximum(open_, close), np.minimum(open_, close), close, np.ones(n), "generated", step=HOUR)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw bars, signals, costs, cash and rules; the random arrays come from a drawn seed."""
    seed, n = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 80))
    random = np.random.default_rng(seed)
    bars = make_case_bars(
        n,
        seed,
        price=10.0 ** draw(st.integers(-3, 5)),
        volatility=draw(st.sampled_from([0.0, 0.002, 0.02, 0.1])),
        jump=draw(st.sampled_from([0.0, 0.002, 0.03, 0.3])),
        gap_share=draw(st.sampled_from([0.0, 0.1])),
        drift=draw(st.sampled_from([0.0, 0.0, 0.03, -0.03])),
    )
    kind = draw(st.sampled_from(["mixed", "mixed", "busy", "hold", "missing", "buy", "sell"]))
    weights = {
        "mixed": [0, 0.16, 0.66, 0.18],
        "busy": [0, 0.45, 0.1, 0.45],
        "hold": [0, 0, 1, 0],
        "missing": [0.3, 0.2, 0.2, 0.3],
        "buy": [0, 0.02, 0.08, 0.9],
        "sell": [0.02, 0.9, 0.08, 0],
    }[kind]
    signal = random.choice([NO_SIGNAL, 0, 1, 2], n, p=weights)
    signal[-1] = max(signal[-1], 0)  # a range without a single signal is refused
    short = draw(st.booleans())
    exposures = None
    if draw(st.booleans()):
        levels = np.array([0.0, 0.3, 0.5, 1.0, np.nan, *([-1.0, -0.5, -0.2] if short else [])])
        exposures = random.choice(levels, n)
    maybe = st.none() | st.floats(0.001, 0.3)
    rules = (
        Rules(
            cooldown_bars=draw(st.sampled_from([0, 0, 1, 5])),
            min_hold_bars=draw(st.sampled_from([0, 0, 1, 6])),
            exit=draw(st.sampled_from(["signal", "signal", "horizon:1", "horizon:3", "horizon:8"])),
            stop_loss=draw(maybe),
            take_profit=draw(maybe),
            max_short_notional=draw(st.sampled_from([1.0, 1.0, 0.4])),
            close_short_above=draw(st.none() | st.floats(1, 1.1)),
        )
        if draw(st.booleans())
        else Rules()
    )
    costs = Costs(
        fee_bps=draw(st.just(0.0) | st.floats(0, 100)),
        slippage_bps=draw(st.just(0.0) | st.floats(0, 50)),
        borrow_bps_per_day=draw(st.floats(0, 1000)),
        lot_size=draw(st.sampled_from([1e-8, 1e-6, 3e-4, 1.0])),
    )
    # The second kind: half a millionth short of whole lots, which rounding still orders.
    whole_lots = st.integers(1, 9).map(lambda n_lots: (n_lots - 5e-7) * costs.lot_size * float(bars.close[0]))
    cash = draw(st.floats(-4, 15).map(lambda power: 10.0**power) | whole_lots)
    return Case(bars, signal, exposures, short, costs, cash, rules)


def check(case: Case) -> None:
    """Run a case both ways and compare everything."""
    run, replayed = case.reference(), case.replayed()
    check_replay(run, replayed)
    assert np.array_equal(replayed.table[:, kernel.CASH], run.equity["cash"])  # to the last bit
    assert np.array_equal(replayed.equity, run.equity["equity"])
    assert np.array_equal(replayed.table[:, kernel.AFTER], run.signals["target"])
    check_account(run)
    assert replayed.closed_trades == (run.trades["status"] == "closed").sum()
    assert sum(fill.size for fill in replayed.fills()) == pytest.approx(
        run.equity["position_size"].iloc[-1], rel=1e-6, abs=1e-6
    )
    run.funnel.check()
    assert Metrics.of(RunView.of_replay(replayed)) == metrics(run)  # every metric, those of the trades too


def check_account(run: Simulation) -> None:
    """Check every account: no rejected order, no debt except after a ruin, and no trade after a ruin."""
    orders, equity = run.orders, run.equity["equity"].to_numpy()
    assert not run.funnel.rejected
    lost = np.flatnonzero(equity <= 0)
    end = lost[0] if len(lost) else len(equity)
    cash = run.equity["cash"].to_numpy()
    assert (cash[:end] >= -1e-9 * equity[:end]).all()
    filled = orders[orders["filled"].notna()]
    at = run.equity.index.get_indexer(pd.DatetimeIndex(filled["filled"]))
    # Marked at the open of its fill, a position never exceeds the equity there, except for what a short's own fill cost.
    after = run.equity["position_size"].to_numpy()[at] * run.bars["open"].to_numpy()[at]
    left = cash[at] + after
    costs = filled["fee"].to_numpy() + filled["slippage_cost"].to_numpy()
    assert (np.abs(after) <= np.maximum(left, 0) * (1 + 1e-9) + costs).all()
    if not len(lost):
        return
    closing = orders[orders["reason"] == RUIN]
    assert len(closing) == int(run.equity["position_size"].iloc[end] != 0)
    assert (at <= end + 1).all()
    assert (run.equity["position_size"].iloc[end + 1 :] == 0).all()
    assert len(set(equity[end + 1 :])) <= 1
    assert (orders["decided"] <= run.equity.index[end]).all()


FAST = settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def by_hand(
    candles: list[tuple[float, float]], exposures: list[float], *, cash: float, step_hours: int = 1, **costs: float
) -> Case:
    """Return a case from candles (open, close) and exposures."""
    open_, close = np.array(candles, dtype=float).T
    time = np.datetime64("2024-01-01", "ns") + np.arange(len(close)) * step_hours * HOUR
    bars = Bars(time, open_, np.maximum(open_, close), np.minimum(open_, close), close, np.ones(len(close)), "by hand")
    return Case(bars, np.ones(len(close), dtype=int), np.array(exposures), True, Costs(**costs), cash, Rules())


# Cases that random draws hardly reach. A short that has lost more than the equity is closed, and the account with it; a gap
# takes all equity at the open, where the order to enlarge the short closes it; and cash half a millionth of a lot short of
# three lots, which rounds to three, pays for two.
LOST = by_hand([(98, 98), (98, 250), (250, 250), (98, 98)], [-1, -0.5, 1, 1], cash=10_000.0)
LOST_AT_THE_OPEN = by_hand([(98, 98), (98, 98), (350, 120), (98, 98)], [-0.5, -1, 1, 1], cash=10_000.0)
LOST_ON_THE_LAST_BAR = by_hand([(98, 98), (98, 250)], [-1, 1], cash=10_000.0)
# Borrow alone: 10 % a day at a constant price, charged for the 24 hours of each of these daily bars.
LOST_TO_BORROW = by_hand([(100, 100)] * 15, [-1] * 15, cash=10_000.0, step_hours=24, borrow_bps_per_day=1_000.0)
FREE = {"fee_bps": 0.0, "slippage_bps": 0.0, "lot_size": 1.0}
SHORT_OF_A_LOT = by_hand([(100, 100), (100, 100), (90, 90)], [1, np.nan, np.nan], cash=300.0 - 5e-5, **FREE)


def test_the_cases_by_hand_reach_their_outcomes() -> None:
    """The examples: if it fails, they no longer reach the outcomes they were written for."""
    lost = LOST.replayed()
    assert [(record.decided, record.status, record.target) for record in lost.records()] == [
        (0, "filled", -1.0),
        (1, "filled", 0.0),
    ]
    assert lost.equity[-1] == lost.equity[-2] < 0
    assert lost.records()[1].reason == REASONS[kernel.RUINED]
    at_open = LOST_AT_THE_OPEN.replayed()
    assert [(record.decided, record.filled_size > 0) for record in at_open.records()] == [(0, False), (1, True)]
    assert at_open.table[2, kernel.SIZE] == 0
    assert at_open.equity[2] == at_open.equity[3] < 0
    (first, last), equity = LOST_ON_THE_LAST_BAR.replayed().records(), LOST_ON_THE_LAST_BAR.replayed().equity
    assert (first.status, last.status, last.reason, math.isnan(last.size)) == ("filled", "unfilled", RUIN, True)
    assert equity[-1] < 0
    # 10,000 / (100 * 1.0002 * 1.001) = 99.880050 units. Selling them costs 11.98, which leaves 9,988.02, and each day from
    # bar 2 costs 10 % of 9,988.005. Ten days leave 0.01 at the close of bar 11; the next day costs more than that.
    borrowed = LOST_TO_BORROW.replayed()
    assert [record.decided for record in borrowed.records()] == [0, 12]
    assert 0.02 > borrowed.equity[11] > 0 > borrowed.equity[12]
    assert [record.size for record in SHORT_OF_A_LOT.replayed().records()] == [2.0]


@FAST
@example(LOST)
@example(LOST_AT_THE_OPEN)
@example(LOST_ON_THE_LAST_BAR)
@example(LOST_TO_BORROW)
@example(SHORT_OF_A_LOT)
@given(cases())
def test_replay_is_backtrader(case: Case) -> None:
    """Agreement: if it fails, a sweep ranks settings by numbers that `flagbt run` does not reproduce."""
    check(case)


@pytest.mark.slow
@settings(FAST, max_examples=2_500, derandomize=False)
@given(cases())
def test_replay_is_backtrader_in_thousands_of_cases(case: Case) -> None:
    """Agreement in rare cases: if it fails, some rare order differs from Backtrader."""
    check(case)


def test_the_generated_cases_reach_every_outcome() -> None:
    """The generator: if it fails, the tests above compare only trivial cases."""
    statuses: Counter[str] = Counter()
    exits: Counter[str] = Counter()

    @settings(FAST, max_examples=1_000)
    @given(cases())
    def count(case: Case) -> None:
        replayed = case.replayed()
        statuses.update(f"{record.status} {record.reason}".strip() for record in replayed.records())
        exits.update(int(why) for why in replayed.table[:, kernel.WHY])

    count()
    assert set(statuses) - {f"unfilled {RUIN}"} == {"filled", "unfilled", "zero-size less than one lot", f"filled {RUIN}"}
    assert all(exits[code] for code in (*EXITS, *WAITS)), exits


def test_a_replay_that_differs_is_refused(walk) -> None:
    """The comparison itself: if it fails, a wrong replay passes for Backtrader's numbers."""
    bars, strategy = walk(200, 3), RandomSignals(seed=2)
    run = run_backtest(bars, strategy)
    targets = position_rule(strategy.prepare(bars).signal, short=False)
    check_replay(run, replay(ReplayBars.of(bars), targets))
    with pytest.raises(StrategyError, match=r"differs from Backtrader at the bar 2024-01-01 .*: equity is"):
        check_replay(run, replay(ReplayBars.of(bars), targets, costs=Costs(fee_bps=10.001)))
    replayed = replay(ReplayBars.of(bars), targets)
    replayed.orders[3, kernel.STATUS] = kernel.ZERO_SIZE
    with pytest.raises(StrategyError, match="in order 4: status is 'zero-size', in Backtrader 'filled'"):
        check_replay(run, replayed)
    shorter = replace(replayed, orders=replayed.orders[:-1])
    with pytest.raises(StrategyError, match=r"it placed \d+ orders, Backtrader \d+"):
        check_replay(run, shorter)


def test_targets_that_no_strategy_may_give_are_refused(walk) -> None:
    """Wrong usage: if it fails, a sweep silently goes short or trades with leverage."""
    bars = ReplayBars.of(walk(20, 1))
    for targets in (np.full(19, 1.0), np.full(20, -1.0), np.full(20, 1.5)):
        with pytest.raises(
            UsageError, match="replay: expected a target exposure from 0 to 1, or NaN to keep, for each of the 20"
        ):
            replay(bars, targets)


def test_many_replays_in_the_memory_of_one(walk) -> None:
    """Sweeps: if it fails, a thousand settings take a thousand times the memory, or affect each other."""
    bars = walk(400, 5)
    signal = RandomSignals(seed=1).prepare(bars).signal
    every = [
        {"costs": Costs(fee_bps=fee), "short": short, "rules": Rules(cooldown_bars=cooldown)}
        for fee in (0.0, 10.0)
        for short in (False, True)
        for cooldown in (0, 12)
    ]
    prepared = ReplayBars.of(bars)
    targets, scratch = {short: position_rule(signal, short=short) for short in (False, True)}, Scratch(len(prepared))
    together = [replay_metrics(replay(prepared, targets[each["short"]], **each, scratch=scratch)) for each in every]
    apart = [replay_metrics(replay(prepared, targets[each["short"]], **each)) for each in every]
    assert together == apart
    assert len({values["final_equity"] for values in together}) == 8
    assert replay(prepared, targets[False], scratch=scratch).table is scratch.table


def test_the_compiled_loop_equals_its_source() -> None:
    """Compilation: if it fails, numba's results differ from the Python source's."""
    bars = make_case_bars(300, 4, price=100.0, volatility=0.02, jump=0.03, gap_share=0.1)
    targets = np.random.default_rng(1).choice([-1.0, -0.5, 0.0, 0.3, 1.0, np.nan], 300)
    rules = Rules(cooldown_bars=2, stop_loss=0.03, exit="horizon:4", close_short_above=1.1)
    prepared, scratch = ReplayBars.of(bars), Scratch(300)
    compiled = replay(prepared, targets, short=True, rules=rules)
    written = kernel.simulate(
        prepared.open,
        prepared.close,
        prepared.days,
        targets,
        Costs().rates(),
        rules.limits(),
        10_000.0,
        scratch.table,
        scratch.orders,
    )
    assert written == (len(compiled.orders), compiled.closed_trades)
    assert np.array_equal(scratch.table, compiled.table)
    assert np.array_equal(scratch.orders[: written[0]], compiled.orders, equal_nan=True)


def test_no_cache_folder_is_no_obstacle() -> None:
    """Read-only installs: if it fails, a sweep cannot start where the code's folder is read-only."""
    code = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"  # numba's state where no folder is writable
        "caching.CompileResultCacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from flagbt.data.bundled_sample import load_sample\n"
        "from flagbt.engine.replay import ReplayBars, replay\n"
        "bars = load_sample().take(slice(0, 50))\n"
        "print(replay(ReplayBars.of(bars), np.full(50, 1.0)).table.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "(50, 6)"), done.stderr
