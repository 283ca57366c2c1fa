"""Compare the speed of the fast replay with vectorbt, backtesting.py and Backtrader, on the same signals and fills.

    pip install 'vectorbt[rust]>=1.2,<2' 'backtesting>=0.6,<0.7'      # into an environment that has flagbt
    python benchmarks/replay.py

Every engine trades the same 43,800 hourly bars (a random walk) with the same orders: decided by random signals, filled at
the next open, a fee, no slippage (backtesting.py charges its spread on entries only). flagbt's two paths calculate
the sizes themselves; the others are given them, in base units, since each of them has its own sizing rule. That saves them
work, never flagbt. All must end with the same equity, or the benchmark stops.

Then a sweep's inner part: 1,000 settings over a year of hourly bars, from logits to metrics, on one core.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flagbt.arrays import FloatArray
from flagbt.data.bars import Bars
from flagbt.engine.backtest import run_backtest
from flagbt.engine.costs import Costs
from flagbt.engine.kernel import DECIDED, FILLED, REQUESTED
from flagbt.engine.replay import ReplayBars, Scratch, position_rule, replay
from flagbt.models.calibration import Calibration
from flagbt.models.decision import Decision
from flagbt.models.signals import Signals
from flagbt.results.metrics import replay_metrics
from flagbt.strategies.base import Position, Strategy

N_BARS, CASH = 43_800, 1e6
EXPOSURE = 0.998  # of a BUY: vectorbt drops the last billionth of an order's cash, which ten thousand orders add up
YEAR_BARS, N_SETTINGS = 8_760, 1_000


class Given(Strategy):
    """A strategy with given signals."""

    def __init__(self, signal: np.ndarray) -> None:
        super().__init__()
        self._signal = signal

    def prepare(self, bars: Bars) -> Signals:  # noqa: ARG002
        """Return them."""
        return Signals.plain(self._signal)

    def decide(self, t: int, position: Position) -> float | None:
        """Follow the rule, and keep a little cash."""
        target = super().decide(t, position)
        return EXPOSURE if target == 1.0 else target


def walk(n: int) -> Bars:
    """Return a random walk of hourly bars, its opens a little off the close before."""
    random = np.random.default_rng(0)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, 0.006, n)))
    open_ = np.concatenate([[30_000.0], close[:-1]]) * np.exp(random.normal(0, 0.0001, n))
    stamps = np.datetime64("2020-01-01", "ns") + np.arange(n) * np.timedelta64(3600, "s")
    return Bars(stamps, open_, np.maximum(open_, close), np.minimum(open_, close), close, np.ones(n), "random walk", True)


def best(work: Callable[[], float], times: int) -> tuple[float, float]:
    """Return the work's result, and the fewest seconds of a few repetitions; the first call compiles, and is not timed."""
    work()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        given = work()
        seconds.append(time.perf_counter() - started)
    return given, min(seconds)


@dataclass(frozen=True, eq=False)
class Orders:
    """The bars, and the same orders for every engine.

    Attributes
    ----------
    decided, filled : array of float, shape (n_bars,)
        Sizes of the orders in base units, at the bar that decided and at the bar that filled; NaN without an order.
    """

    bars: Bars
    signal: np.ndarray
    costs: Costs
    targets: np.ndarray
    decided: np.ndarray
    filled: np.ndarray

    @classmethod
    def of(cls, bars: Bars, signal: np.ndarray, costs: Costs) -> Orders:
        """Work out the sizes by the fast replay."""
        targets = EXPOSURE * position_rule(signal, short=False)
        orders = replay(ReplayBars.of(bars), targets, costs=costs, cash=CASH).orders
        orders = orders[orders[:, FILLED] >= 0]
        decided = np.full(len(bars), np.nan)
        decided[orders[:, DECIDED].astype(int)] = orders[:, REQUESTED]
        return cls(bars, signal, costs, targets, decided, np.concatenate([[np.nan], decided[:-1]]))


Engine = Callable[[], float]  # -> final equity


def fast_replay(orders: Orders) -> Engine:
    """Return flagbt's fast replay."""
    prepared, scratch = ReplayBars.of(orders.bars), Scratch(len(orders.bars))
    return lambda: float(replay(prepared, orders.targets, costs=orders.costs, cash=CASH, scratch=scratch).equity[-1])


def vectorbt_portfolio(orders: Orders, engine: str) -> Engine:
    """Return vectorbt's Portfolio.from_orders with one of its engines."""
    import vectorbt as vbt

    # Plain arrays: with a DatetimeIndex in UTC, vectorbt takes thirty times as long.
    given = {"size": orders.filled, "price": orders.bars.open, "fees": orders.costs.fee, "init_cash": CASH, "freq": "1h"}
    return lambda: float(vbt.Portfolio.from_orders(orders.bars.close, engine=engine, **given).value().iloc[-1])


def vectorbt_loop(orders: Orders) -> Engine:
    """Return vectorbt's numba loop alone, without its equity."""
    import vectorbt as vbt

    bars, n = orders.bars, len(orders.bars)
    column = {name: values[:, None] for name, values in (("close", bars.close), ("price", bars.open), ("size", orders.filled))}
    call_seq = np.zeros((n, 1), dtype=np.int64)

    def run() -> float:
        rows, _ = vbt.portfolio.nb.simulate_from_orders_nb(
            (n, 1), np.array([1]), np.array([CASH]), call_seq, fees=np.asarray(orders.costs.fee), **column
        )
        change = np.where(rows["side"] == 0, rows["size"], -rows["size"])
        return float(CASH - (change * rows["price"]).sum() - rows["fees"].sum() + change.sum() * bars.close[-1])

    return run


def backtesting_py(orders: Orders) -> Engine:
    """Return backtesting.py, whose sizes are whole lots."""
    import backtesting

    lot_size = orders.costs.lot_size
    lots = orders.bars.frame().tz_localize(None).rename(columns=str.capitalize)
    lots = lots.assign(**{name: lots[name] * lot_size for name in ("Open", "High", "Low", "Close")})

    class GivenSizes(backtesting.Strategy):  # type: ignore[misc]
        def init(self) -> None: ...

        def next(self) -> None:
            size = orders.decided[len(self.data) - 1]
            if size > 0:
                self.buy(size=round(size / lot_size))
            elif size < 0:
                self.position.close()

    def run() -> float:
        backtesting.backtesting._tqdm = lambda each, **_: each  # no progress bar
        test = backtesting.Backtest(lots, GivenSizes, cash=CASH, commission=orders.costs.fee)
        return float(test.run()["Equity Final [$]"])

    return run


def stock_backtrader(orders: Orders) -> Engine:
    """Return Backtrader without flagbt."""
    import backtrader as bt

    frame = orders.bars.frame().tz_localize(None)

    class GivenSizes(bt.Strategy):  # type: ignore[misc]
        def next(self) -> None:
            size = orders.decided[len(self) - 1]
            if size > 0:
                self.buy(size=size)
            elif size < 0:
                self.sell(size=-size)

    def run() -> float:
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(bt.feeds.PandasData(dataname=frame))
        cerebro.addstrategy(GivenSizes)
        cerebro.broker.setcash(CASH)
        cerebro.broker.setcommission(commission=orders.costs.fee)
        cerebro.broker.set_checksubmit(False)  # sized for the next open, which the check at this close does not know
        cerebro.run()
        return float(cerebro.broker.getvalue())

    return run


def backtrader_path(orders: Orders) -> Engine:
    """Return flagbt's run in Backtrader."""
    strategy = Given(orders.signal)
    return lambda: float(run_backtest(orders.bars, strategy, costs=orders.costs, cash=CASH).equity["equity"].iloc[-1])


def contenders(bars: Bars, signal: np.ndarray, costs: Costs) -> dict[str, tuple[Engine, int]]:
    """Return each engine, and how often to repeat it."""
    orders = Orders.of(bars, signal, costs)
    return {
        "flagbt, fast replay and its equity": (fast_replay(orders), 20),
        "vectorbt, Portfolio.from_orders and its equity": (vectorbt_portfolio(orders, "numba"), 20),
        "vectorbt, the same with its Rust engine": (vectorbt_portfolio(orders, "rust"), 20),
        "vectorbt, its numba loop alone, orders only": (vectorbt_loop(orders), 20),
        "backtesting.py": (backtesting_py(orders), 1),
        "Backtrader, stock": (stock_backtrader(orders), 1),
        "flagbt, Backtrader path": (backtrader_path(orders), 1),
    }


def engines() -> None:
    """Print the table of engines; stop where two disagree."""
    random = np.random.default_rng(1)
    regimes = (("the labels' own shares", [0.16, 0.66, 0.18], 10.0), ("BUY or SELL at every bar", [0.5, 0.0, 0.5], 1.0))
    for name, weights, fee_bps in regimes:
        costs = Costs(fee_bps=fee_bps, slippage_bps=0)
        bars, signal = walk(N_BARS), random.choice(3, N_BARS, p=weights)
        signal[0] = 1  # backtesting.py first calls its strategy at the second bar
        signal[-3:] = 1  # no order is to be open at the end
        n_orders = len(replay(ReplayBars.of(bars), position_rule(signal, short=False), costs=costs, cash=CASH).orders)
        print(f"\nSignals: {name}; {N_BARS:,} bars, {n_orders:,} orders, fee {fee_bps:g} bps\n")
        print("| engine | final equity | bars/s |\n| --- | --- | --- |")
        expected = None
        for engine, (work, times) in contenders(bars, signal, costs).items():
            equity, seconds = best(work, times)
            expected = equity if expected is None else expected
            print(f"| {engine} | {equity:.6f} | {N_BARS / seconds:,.0f} |", flush=True)
            if abs(equity - expected) > 1e-9 * CASH:
                raise SystemExit(f"{engine} ends with {equity!r}, the fast replay with {expected!r}")


def sweep() -> None:
    """Time the inner part of a sweep: logits, calibration, decision, replay, metrics."""
    random = np.random.default_rng(2)
    bars = walk(YEAR_BARS)
    logits = random.normal(size=(YEAR_BARS, 3)) + np.array([0.0, 1.2, 0.0])
    rule = Decision("argmax")

    def settings() -> Iterator[tuple[FloatArray, Costs]]:
        for sell in np.linspace(-4, 4, 10):
            for buy in np.linspace(-4, 4, 10):
                probabilities = Calibration("offset", offset=(float(sell), 0.0, float(buy)))(logits)
                signal = rule(probabilities, class_returns=np.zeros(3), round_trip_cost=0.0)
                targets = position_rule(signal, short=False)
                for fee in (0.0, 2.0, 5.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0, 50.0):
                    yield targets, Costs(fee_bps=fee)

    started = time.perf_counter()
    prepared, scratch = ReplayBars.of(bars), Scratch(len(bars))
    rows = [replay_metrics(replay(prepared, targets, costs=costs, scratch=scratch)) for targets, costs in settings()]
    seconds = time.perf_counter() - started
    assert len(rows) == N_SETTINGS
    what = f"{N_SETTINGS:,} settings (100 calibrations, 10 fees each) over {YEAR_BARS:,} bars"
    print(f"\n{what}, logits to metrics, one core: {seconds:.2f} s")


def main() -> None:
    """Run both measurements."""
    warnings.simplefilter("ignore")
    engines()
    sweep()


if __name__ == "__main__":
    main()
