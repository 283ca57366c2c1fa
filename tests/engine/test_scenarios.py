"""A few candles and their expected results, computed by hand to the cent.

The costs are round numbers for easy arithmetic: fee 1 %, slippage 1 %. From flat, with 9,996.98 of cash, a BUY that fills at
an open of 98 buys 9,996.98 / (98 * 1.01 * 1.01) = 100 base units exactly. They cost 100 * 98 * 1.01 = 9,898.00 plus a fee of
98.98, which leaves nothing. Sold short at the same open, 100 units bring 100 * 98 * 0.99 = 9,702.00 less a fee of 97.02, so
that the cash becomes 19,601.96. (The start has a thousandth of a cent more: floats hold few of these sums exactly, and a lot
that the cash misses by the last bit is not bought.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.engine.backtest import run_backtest
from flagbt.engine.costs import Costs
from flagbt.engine.replay import ReplayBars, check_replay, position_rule
from flagbt.engine.replay import replay as fast_replay
from flagbt.engine.simulation import Simulation
from flagbt.models.signals import Signals
from flagbt.strategies.base import Position, Strategy

ROUND = {"fee_bps": 100.0, "slippage_bps": 100.0, "borrow_bps_per_day": 0.0}
CASH = 9_996.980_01
CODES = {"S": 0, "H": 1, "B": 2, "-": -1}
KEEP = None
UNKNOWN = math.nan  # the size of an order that never filled
LOST = "the account had lost everything"


class Script(Strategy):
    """Follow a script: signals as letters, or targets bar by bar."""

    name = "scripted"

    def __init__(self, signals: str, targets: list[float | None] | None, *, short: bool) -> None:
        super().__init__(short=short)
        self._script = signals
        self._targets = targets

    def prepare(self, bars: Bars) -> Signals:
        """Return the script."""
        return Signals.plain(np.array([CODES[code] for code in self._script]))

    def decide(self, t: int, position: Position) -> float | None:
        """Return the scripted target, or follow the position rule."""
        return super().decide(t, position) if self._targets is None else self._targets[t]


@dataclass(frozen=True)
class Order:
    """One order's expected outcome; ``fill`` is (bar, price, fee)."""

    decided: int
    size: float
    status: str = "filled"
    reason: str = ""
    fill: tuple[int, float, float] | None = None


@dataclass(frozen=True)
class Scenario:
    """Candles (open, close), signals, and the expected results."""

    name: str
    candles: list[tuple[float, float]]
    signals: str
    orders: list[Order]
    cash: list[float]
    equity: list[float]
    trades: list[tuple[str, str, float, float]] = field(default_factory=list)  # side, status, size, pnl
    kept: dict[str, int] = field(default_factory=dict)
    targets: list[float | None] | None = None
    short: bool = False
    start_cash: float = CASH
    costs: dict[str, float] = field(default_factory=dict)


FLAT = (98.0, 98.0)

SCENARIOS = [
    Scenario(
        "entry and exit",
        # The exit: 100 * 110 * 0.99 = 10,890.00, less a fee of 108.90.
        [FLAT, (98, 100), (100, 110), (110, 115)],
        "BHSH",
        [Order(0, 100, fill=(1, 98.98, 98.98)), Order(2, -100, fill=(3, 108.90, 108.90))],
        cash=[CASH, 0, 0, 10_781.10],
        equity=[CASH, 10_000, 11_000, 10_781.10],
        trades=[("long", "closed", 100, 784.12)],
        kept={"hold": 2},
    ),
    Scenario(
        "a SELL while flat does nothing",
        [FLAT, FLAT, FLAT],
        "SSH",
        [],
        cash=[CASH] * 3,
        equity=[CASH] * 3,
        kept={"sell_while_flat": 2, "hold": 1},
    ),
    Scenario(
        "a second BUY does nothing",
        # The entry leaves the position open, marked at the last close.
        [FLAT, (98, 98), (98, 120)],
        "BBB",
        [Order(0, 100, fill=(1, 98.98, 98.98))],
        cash=[CASH, 0, 0],
        equity=[CASH, 9_800, 12_000],
        trades=[("long", "open", 100, 2_003.02)],
        kept={"buy_while_long": 2},
    ),
    Scenario(
        "a gap of 28 % up after the BUY: the same money buys less, and nothing is refused",
        # 9,996.98 / (125 * 1.0201) = 78.4 units; 78.4 * 126.25 = 9,898.00, fee 98.98.
        [FLAT, (125, 125), FLAT],
        "BHH",
        [Order(0, 78.4, fill=(1, 126.25, 98.98))],
        cash=[CASH, 0, 0],
        equity=[CASH, 9_800, 7_683.20],
        trades=[("long", "open", 78.4, -2_313.78)],
        kept={"hold": 2},
    ),
    Scenario(
        "a gap down after the BUY: the same money buys more",
        [FLAT, (49, 49)],
        "BH",
        [Order(0, 200, fill=(1, 49.49, 98.98))],
        cash=[CASH, 0],
        equity=[CASH, 9_800],
        trades=[("long", "open", 200, -196.98)],
        kept={"hold": 1},
    ),
    Scenario(
        "a gap up turns a purchase into a sale: the side is decided at the fill",
        # Half: 50 units for 4,949.00 and 49.49, which leaves 4,998.49. At the close of 98, 60 % are 59.4 units, more than held.
        # At the open of 196 they are 0.6 * (4,998.49 + 50 * 196) / (196 * 1.0201) = 44.408881: 5.591119 are sold, at 194.04:
        # 1,084.900731 less a fee of 10.849007 makes 6,072.541714 of cash.
        [FLAT, FLAT, (196, 196)],
        "HHH",
        [Order(0, 50, fill=(1, 98.98, 49.49)), Order(1, -5.591119, fill=(2, 194.04, 10.849007))],
        cash=[CASH, 4_998.49, 6_072.541723],
        equity=[CASH, 9_898.49, 14_776.682399],
        trades=[("long", "open", 50, 4_779.702399)],
        kept={"hold": 1},
        targets=[0.5, 0.6, KEEP],
    ),
    Scenario(
        "a gap down turns a sale into a purchase",
        # At the close of 98, 40 % are 39.6 units, less than the 50 held. At the open of 49 they are
        # 0.4 * (4,998.49001 + 50 * 49) / (49 * 1.0201) = 59.605921: 9.605921 more at 49.49, 475.397030 and a fee of 4.753970.
        [FLAT, FLAT, (49, 49)],
        "HHH",
        [Order(0, 50, fill=(1, 98.98, 49.49)), Order(1, 9.605921, fill=(2, 49.49, 4.753970))],
        cash=[CASH, 4_998.49, 4_518.339009],
        equity=[CASH, 9_898.49, 7_439.029138],
        trades=[("long", "open", 59.605921, -2_557.950872)],
        kept={"hold": 1},
        targets=[0.5, 0.4, KEEP],
    ),
    Scenario(
        "an order on the last bar stays unfilled, and has no size",
        [FLAT, FLAT],
        "HB",
        [Order(1, UNKNOWN, "unfilled")],
        cash=[CASH, CASH],
        equity=[CASH, CASH],
        kept={"hold": 1},
    ),
    Scenario(
        "too little cash for one lot: counted, and tried again",
        # 0.00005 / (98 * 1.0201) = 0.0000005 base units, less than the lot of 0.000001.
        [FLAT, FLAT, FLAT],
        "BBH",
        [Order(0, 0, "zero-size", "less than one lot"), Order(1, 0, "zero-size", "less than one lot")],
        cash=[0.00005] * 3,
        equity=[0.00005] * 3,
        kept={"hold": 1},
        start_cash=0.00005,
    ),
    Scenario(
        "the fill decides whether it makes a lot: too little at the close, enough at the next open",
        # 0.00011 / 99.9698 is one lot at the close, and none at the open of 196; and 0.00011 / 49.9849 are two at that of 49.
        [FLAT, (196, 98), (49, 49)],
        "BBH",
        [Order(0, 0, "zero-size", "less than one lot"), Order(1, 0.000002, fill=(2, 49.49, 0.0000009898))],
        cash=[0.00011, 0.00011, 0.0000100302],
        equity=[0.00011, 0.00011, 0.0001080302],
        trades=[("long", "open", 0.000002, -0.0000019698)],
        kept={"hold": 1},
        start_cash=0.00011,
    ),
    Scenario(
        "short entry and exit",
        # Bought back at 90 * 1.01: 9,090.00, fee 90.90.
        [FLAT, (98, 96), (96, 92), (90, 90)],
        "SHHH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(2, 100, fill=(3, 90.90, 90.90))],
        cash=[CASH, 19_601.96, 19_601.96, 10_421.06],
        equity=[CASH, 10_001.96, 10_401.96, 10_421.06],
        trades=[("short", "closed", 100, 424.08)],
        kept={"hold": 2},
        targets=[-1.0, KEEP, 0.0, KEEP],
        short=True,
    ),
    Scenario(
        "a SELL while short does nothing",
        [FLAT, FLAT, FLAT],
        "SSH",
        [Order(0, -100, fill=(1, 97.02, 97.02))],
        cash=[CASH, 19_601.96, 19_601.96],
        equity=[CASH, 9_801.96, 9_801.96],
        trades=[("short", "open", 100, -195.02)],
        kept={"sell_while_short": 1, "hold": 1},
        short=True,
    ),
    Scenario(
        "a gap up before a short: half as many units, never more than the equity",
        # 9,996.98 / (196 * 1.0201) = 50 units at 194.04: 9,702.00, less a fee of 97.02.
        [FLAT, (196, 98), FLAT],
        "SHH",
        [Order(0, -50, fill=(1, 194.04, 97.02))],
        cash=[CASH, 19_601.96, 19_601.96],
        equity=[CASH, 14_701.96, 14_701.96],
        trades=[("short", "open", 50, 4_704.98)],
        kept={"hold": 2},
        short=True,
    ),
    Scenario(
        "reversal from short to long in one order",
        # At the open of 90, closing takes 9,090.00 and 90.90 of the 19,601.96: 10,421.06 are left, which is
        # 10,421.06 / (90 * 1.0201) = 113.508043 units. The order is 213.508043 at 90.90: 19,407.881109 and a fee of 194.078811.
        # At 95: 0.000080 + 113.508043 * 95 = 10,783.264165. The short made 424.08, the long 10,783.264165 - 10,421.06.
        [FLAT, (98, 90), (90, 95)],
        "SBH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(1, 213.508043, fill=(2, 90.90, 194.078811))],
        cash=[CASH, 19_601.96, 0.000080],
        equity=[CASH, 10_601.96, 10_783.264165],
        trades=[("short", "closed", 100, 424.08), ("long", "open", 113.508043, 362.204165)],
        kept={"hold": 1},
        short=True,
    ),
    Scenario(
        "reversal from long to short in one order",
        # At the open of 110, closing brings 10,890.00 less 108.90: 10,781.10, which is 10,781.10 / (110 * 1.0201) = 96.078815
        # units. So -196.078815 at 108.90: 21,352.982954 less a fee of 213.529830. At 100: less 9,607.8815.
        # The long made 784.12, the short 11,531.571624 - 10,781.10.
        [FLAT, (98, 110), (110, 100)],
        "BSH",
        [Order(0, 100, fill=(1, 98.98, 98.98)), Order(1, -196.078815, fill=(2, 108.90, 213.529830))],
        cash=[CASH, 0, 21_139.453124],
        equity=[CASH, 11_000, 11_531.571624],
        trades=[("long", "closed", 100, 784.12), ("short", "open", 96.078815, 750.471624)],
        kept={"hold": 1},
        short=True,
    ),
    Scenario(
        "reversal into a gap: both halves fill, the long with what closing at that open leaves",
        # At 105 * 1.01 = 106.05, closing takes 10,605 and 106.05: 8,890.91 are left, or 8,890.91 / (105 * 1.0201) = 83.006894.
        [FLAT, FLAT, (105, 105)],
        "SBH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(1, 183.006894, fill=(2, 106.05, 194.078811))],
        cash=[CASH, 19_601.96, 0.000080],
        equity=[CASH, 9_801.96, 8_715.723950],
        trades=[("short", "closed", 100, -1_106.07), ("long", "open", 83.006894, -175.186050)],
        kept={"hold": 1},
        short=True,
    ),
    Scenario(
        "reversal into a gap that takes everything: it only closes, and the account is closed with a debt",
        # At 195 * 1.01 = 196.95, closing takes 19,695.00 and 196.95: 289.99 more than there is.
        [FLAT, (98, 190), (195, 195), FLAT],
        "SBBB",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(1, 100, fill=(2, 196.95, 196.95))],
        cash=[CASH, 19_601.96, -289.99, -289.99],
        equity=[CASH, 601.96, -289.99, -289.99],
        trades=[("short", "closed", 100, -10_286.97)],
        kept={"ruined": 2},
        short=True,
    ),
    Scenario(
        "a short that has lost everything at a close is closed at the next open, and nothing follows",
        # 19,601.96 - 100 * 250 = -5,398.04 at the close; bought back at 252.50: 25,250 and 252.50. A price that falls again
        # brings nothing back, and no signal is followed.
        [FLAT, (98, 250), (250, 250), FLAT],
        "SSBS",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(1, 100, reason=LOST, fill=(2, 252.50, 252.50))],
        cash=[CASH, 19_601.96, -5_900.54, -5_900.54],
        equity=[CASH, -5_398.04, -5_900.54, -5_900.54],
        trades=[("short", "closed", 100, -15_897.52)],
        kept={"ruined": 2},
        short=True,
    ),
    Scenario(
        "a recovery of the price before the closing fill stays in the account",
        # Bought back at 150 * 1.01 = 151.50: 15,150 and 151.50 of the 19,601.96.
        [FLAT, (98, 250), (150, 150), FLAT],
        "SHBB",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(1, 100, reason=LOST, fill=(2, 151.50, 151.50))],
        cash=[CASH, 19_601.96, 4_300.46, 4_300.46],
        equity=[CASH, -5_398.04, 4_300.46, 4_300.46],
        trades=[("short", "closed", 100, -5_696.52)],
        kept={"ruined": 2},
        short=True,
    ),
    Scenario(
        "a ruin at the last close: the closing order has no open to fill at",
        [FLAT, (98, 250)],
        "SB",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(1, UNKNOWN, "unfilled", LOST)],
        cash=[CASH, 19_601.96],
        equity=[CASH, -5_398.04],
        trades=[("short", "open", 100, -15_395.02)],
        short=True,
    ),
    Scenario(
        "an open without equity is not a ruin: the close counts",
        # 19,601.96 - 100 * 250 at the open, but 19,601.96 - 100 * 100 at the close. Bought back at 101.00 later.
        [FLAT, FLAT, (250, 100), (100, 100)],
        "SHHH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(2, 100, fill=(3, 101.00, 101.00))],
        cash=[CASH, 19_601.96, 19_601.96, 9_400.96],
        equity=[CASH, 9_801.96, 9_601.96, 9_400.96],
        trades=[("short", "closed", 100, -596.02)],
        kept={"hold": 2},
        targets=[-1.0, KEEP, 0.0, KEEP],
        short=True,
    ),
    Scenario(
        "but an order that fills at such an open can only close",
        # Half of nothing: all 100 are bought back at 252.50, although the bar closes at 100 and the order should halve them.
        [FLAT, FLAT, (250, 100), (100, 100)],
        "SHHH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(1, 100, fill=(2, 252.50, 252.50))],
        cash=[CASH, 19_601.96, -5_900.54, -5_900.54],
        equity=[CASH, 9_801.96, -5_900.54, -5_900.54],
        trades=[("short", "closed", 100, -15_897.52)],
        kept={"ruined": 2},
        targets=[-1.0, -0.5, -1.0, -1.0],
        short=True,
    ),
    Scenario(
        "a short pays borrow while it is open",
        # 240 bps a day are 10 bps an hour: 100 * 100 * 0.001 = 10.00 as bar 2 opens, 100 * 90 * 0.001 = 9.00 as bar 3
        # opens, where it is bought back for 9,090.00 and 90.90. No borrow for the bar in which it was sold.
        [FLAT, (98, 100), (100, 90), (90, 90)],
        "SHSH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(2, 100, fill=(3, 90.90, 90.90))],
        cash=[CASH, 19_601.96, 19_591.96, 10_402.06],
        equity=[CASH, 9_601.96, 10_591.96, 10_402.06],
        trades=[("short", "closed", 100, 405.08)],
        kept={"hold": 2},
        targets=[-1.0, KEEP, 0.0, KEEP],
        short=True,
        costs={"borrow_bps_per_day": 240.0},
    ),
    Scenario(
        "half, then all, then out",
        # Half: 50 units, 4,949 + 49.49, cash 4,998.49. At the open of 98 the equity is 9,898.49: all of it means
        # 9,898.49 / 99.9698 = 99.014802 units, so 49.014802 more: 4,851.485102 + 48.514851, cash 98.490047.
        # Out at 97.02: 9,606.416090 - 96.064161 + 98.490047 = 9,608.841976.
        [FLAT, FLAT, FLAT, FLAT],
        "HHHH",
        [
            Order(0, 50, fill=(1, 98.98, 49.49)),
            Order(1, 49.014802, fill=(2, 98.98, 48.514851)),
            Order(2, -99.014802, fill=(3, 97.02, 96.064161)),
        ],
        cash=[CASH, 4_998.49, 98.490047, 9_608.841976],
        equity=[CASH, 9_898.49, 9_801.940643, 9_608.841976],
        trades=[("long", "closed", 99.014802, -388.138024)],
        kept={"hold": 1},
        targets=[0.5, 1.0, 0.0, KEEP],
    ),
]


def replay(scenario: Scenario) -> tuple[Bars, object]:
    """Run a scenario; high and low are the candle's body, so that every slippage is outside it."""
    open_, close = np.array(scenario.candles, dtype=float).T
    time = np.datetime64("2024-03-01", "ns") + np.arange(len(open_)) * np.timedelta64(3600, "s")
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    bars = Bars(time, open_, high, low, close, np.ones(len(open_)), source=scenario.name)
    strategy = Script(scenario.signals, scenario.targets, short=scenario.short)
    costs = Costs(**(ROUND | scenario.costs))
    run = run_backtest(bars, strategy, costs=costs, cash=scenario.start_cash, short=scenario.short)
    return bars, run


def run_targets(run: Simulation) -> list[float]:
    """Return the position rule's target at each bar, NaN to keep."""
    return position_rule(run.signals["signal"].to_numpy(), short=run.config["short"]).tolist()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(scenario):
    """Money: if it fails, an order, a fee, a slippage or a bar's equity differs from the rules, in either engine."""
    bars, run = replay(scenario)
    assert run.equity["cash"].tolist() == pytest.approx(scenario.cash, abs=0.000_02)
    assert run.equity["equity"].tolist() == pytest.approx(scenario.equity, abs=0.000_05)
    assert len(run.orders) == len(scenario.orders)
    for (_, row), order in zip(run.orders.iterrows(), scenario.orders, strict=True):
        assert (row["status"], row["reason"]) == (order.status, order.reason)
        assert row["decided"].to_datetime64() == bars.time[order.decided]
        assert row["decision_price"] == bars.close[order.decided]
        assert row["size"] == pytest.approx(order.size, abs=1e-9, nan_ok=True)
        assert row["side"] == ("buy" if order.size > 0 else "sell" if order.size < 0 else "")
        if order.fill is None:
            assert math.isnan(row["fill_price"])
            assert row["fee"] == row["notional"] == 0
        else:
            bar, price, fee = order.fill
            assert row["filled"].to_datetime64() == bars.time[bar]
            assert row["fill_price"] == pytest.approx(price)
            assert row["fee"] == pytest.approx(fee, abs=0.000_001)
            assert row["slippage_cost"] == pytest.approx(row["notional"] / price * abs(price - bars.open[bar]))
    targets = [math.nan if target is None else target for target in scenario.targets or run_targets(run)]
    settings = {"costs": Costs(**(ROUND | scenario.costs)), "cash": scenario.start_cash, "short": scenario.short}
    replayed = fast_replay(ReplayBars.of(bars), np.array(targets), **settings)
    check_replay(run, replayed)
    assert np.array_equal(replayed.equity, run.equity["equity"])
    trades = run.trades[["side", "status", "size", "pnl"]].itertuples(index=False)
    for trade, (side, status, size, pnl) in zip(trades, scenario.trades, strict=True):
        assert (trade.side, trade.status) == (side, status)
        assert trade.size == pytest.approx(size, abs=1e-9)
        assert trade.pnl == pytest.approx(pnl, abs=0.000_05)
    assert {reason: count for reason, count in run.funnel.kept.items() if count} == scenario.kept
