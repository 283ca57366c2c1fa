"""A few candles and what must come of them, worked by hand to the cent.

The costs are round so that a pencil is enough: fee 1 %, slippage 1 %, reserve 2 %. From flat, with 10,201 of cash and a
close of 98, a BUY asks for 10,201 * 0.98 / (98 * 1.01 * 1.01) = 100 base units exactly. At an open of 98 they cost
100 * 98 * 1.01 = 9,898.00 plus a fee of 98.98, which leaves 204.02.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.engine.backtest import run_backtest
from flagbt.engine.costs import Costs
from flagbt.models.signals import Signals
from flagbt.strategies.base import Position, Strategy

ROUND = {"fee_bps": 100.0, "slippage_bps": 100.0, "reserve_bps": 200.0, "borrow_bps_per_day": 0.0}
CODES = {"S": 0, "H": 1, "B": 2, "-": -1}
KEEP = None


class Scripted(Strategy):
    """Says what it is told: signals as letters, or targets bar by bar."""

    name = "scripted"

    def __init__(self, signals: str, targets: list[float | None] | None, *, short: bool) -> None:
        super().__init__(short=short)
        self._script = signals
        self._targets = targets

    def prepare(self, bars: Bars) -> Signals:
        """Return the script."""
        return Signals.plain(np.array([CODES[code] for code in self._script]))

    def decide(self, t: int, position: Position) -> float | None:
        """Return the target told, or follow the position rule."""
        return super().decide(t, position) if self._targets is None else self._targets[t]


@dataclass(frozen=True)
class Order:
    """What one order must come to; ``fill`` is (bar, price, fee)."""

    decided: int
    size: float
    status: str = "filled"
    reason: str = ""
    fill: tuple[int, float, float] | None = None


@dataclass(frozen=True)
class Scenario:
    """Candles (open, close), signals, and what must come of them."""

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
    start_cash: float = 10_201.0
    costs: dict[str, float] = field(default_factory=dict)


FLAT = (98.0, 98.0)

SCENARIOS = [
    Scenario(
        "entry and exit",
        # The exit: 100 * 110 * 0.99 = 10,890.00, fee 108.90, so 204.02 + 10,890 - 108.90 = 10,985.12.
        [FLAT, (98, 100), (100, 110), (110, 115)],
        "BHSH",
        [Order(0, 100, fill=(1, 98.98, 98.98)), Order(2, -100, fill=(3, 108.90, 108.90))],
        cash=[10_201, 204.02, 204.02, 10_985.12],
        equity=[10_201, 10_204.02, 11_204.02, 10_985.12],
        trades=[("long", "closed", 100, 784.12)],
        kept={"hold": 2},
    ),
    Scenario(
        "a SELL while flat does nothing",
        [FLAT, FLAT, FLAT],
        "SSH",
        [],
        cash=[10_201] * 3,
        equity=[10_201] * 3,
        kept={"sell_while_flat": 2, "hold": 1},
    ),
    Scenario(
        "a second BUY does nothing",
        # The entry leaves the position open, marked at the last close: 204.02 + 100 * 120 = 12,204.02.
        [FLAT, (98, 98), (98, 120)],
        "BBB",
        [Order(0, 100, fill=(1, 98.98, 98.98))],
        cash=[10_201, 204.02, 204.02],
        equity=[10_201, 10_004.02, 12_204.02],
        trades=[("long", "open", 100, 2_003.02)],
        kept={"buy_while_long": 2},
    ),
    Scenario(
        "a gap of 1 % after the BUY fits into the reserve of 2 %",
        # 100 * 98.98 * 1.01 = 9,996.98, fee 99.9698: 10,201 - 10,096.9498 = 104.0502.
        [FLAT, (98.98, 98.98)],
        "BH",
        [Order(0, 100, fill=(1, 99.9698, 99.9698))],
        cash=[10_201, 104.0502],
        equity=[10_201, 10_002.0502],
        trades=[("long", "open", 100, -198.9498)],
        kept={"hold": 1},
    ),
    Scenario(
        "a gap of 3 % does not: margin, nothing held, and the next BUY orders again",
        # 100 * 100.94 * 1.01 * 1.01 = 10,296.89 is more than 10,201.
        [FLAT, (100.94, 98), FLAT],
        "BBH",
        [Order(0, 100, "rejected", "Margin"), Order(1, 100, fill=(2, 98.98, 98.98))],
        cash=[10_201, 10_201, 204.02],
        equity=[10_201, 10_201, 10_004.02],
        trades=[("long", "open", 100, -196.98)],
        kept={"hold": 1},
    ),
    Scenario(
        "an order on the last bar stays unfilled",
        [FLAT, FLAT],
        "HB",
        [Order(1, 100, "unfilled")],
        cash=[10_201, 10_201],
        equity=[10_201, 10_201],
        kept={"hold": 1},
    ),
    Scenario(
        "too little cash for one lot: counted, and tried again",
        # 0.00005 * 0.98 / (98 * 1.0201) = 0.00000049 base units, less than the lot of 0.000001.
        [FLAT, FLAT, FLAT],
        "BBH",
        [Order(0, 0, "zero-size", "less than one lot"), Order(1, 0, "zero-size", "less than one lot")],
        cash=[0.00005] * 3,
        equity=[0.00005] * 3,
        kept={"hold": 1},
        start_cash=0.00005,
    ),
    Scenario(
        "short entry and exit",
        # Sold: 100 * 98 * 0.99 = 9,702.00, fee 97.02, cash 19,805.98. Bought back at 90 * 1.01: 9,090.00, fee 90.90.
        [FLAT, (98, 96), (96, 92), (90, 90)],
        "SHHH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(2, 100, fill=(3, 90.90, 90.90))],
        cash=[10_201, 19_805.98, 19_805.98, 10_625.08],
        equity=[10_201, 10_205.98, 10_605.98, 10_625.08],
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
        cash=[10_201, 19_805.98, 19_805.98],
        equity=[10_201, 10_005.98, 10_005.98],
        trades=[("short", "open", 100, -195.02)],
        kept={"sell_while_short": 1, "hold": 1},
        short=True,
    ),
    Scenario(
        "reversal from short to long in one order",
        # At the close of 90: equity 19,805.98 - 9,000 = 10,805.98, less 2 % of 9,000 to close: 10,625.98.
        # 10,625.98 * 0.98 / (90 * 1.0201) = 113.425267..., so the order is 213.425267, filled at 90.90:
        # 19,400.356770 and a fee of 194.003568 leave 211.619662. At 95: 211.619662 + 113.425267 * 95 = 10,987.020027.
        # The short made 9,702 - 9,090 - 97.02 - 90.90 = 424.08, the long 10,987.02 - 10,625.08 = 361.94.
        [FLAT, (98, 90), (90, 95)],
        "SBH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(1, 213.425267, fill=(2, 90.90, 194.003568))],
        cash=[10_201, 19_805.98, 211.619662],
        equity=[10_201, 10_805.98, 10_987.020027],
        trades=[("short", "closed", 100, 424.08), ("long", "open", 113.425267, 361.940027)],
        kept={"hold": 1},
        short=True,
    ),
    Scenario(
        "reversal from long to short in one order",
        # At the close of 110: equity 204.02 + 11,000 = 11,204.02, less 2 % of 11,000: 10,984.02.
        # 10,984.02 * 0.98 / (110 * 1.0201) = 95.929450..., so -195.929450 at 110 * 0.99 = 108.90:
        # 21,336.717105 less a fee of 213.367171 makes 21,327.369934. At 100: less 9,592.9450 = 11,734.424934.
        # The long made 10,985.12 - 10,201 = 784.12, the short 11,734.424934 - 10,985.12 = 749.304934.
        [FLAT, (98, 110), (110, 100)],
        "BSH",
        [Order(0, 100, fill=(1, 98.98, 98.98)), Order(1, -195.929450, fill=(2, 108.90, 213.367171))],
        cash=[10_201, 204.02, 21_327.369934],
        equity=[10_201, 11_204.02, 11_734.424934],
        trades=[("long", "closed", 100, 784.12), ("short", "open", 95.929450, 749.304934)],
        kept={"hold": 1},
        short=True,
    ),
    Scenario(
        "reversal into a gap: the short is closed, the long is refused, nothing is held",
        # At the close of 98: equity 10,005.98, less 196: 9,809.98 * 0.98 / (98 * 1.0201) = 96.166846.
        # At 105 * 1.01 = 106.05, closing costs 10,605 + 106.05 and leaves 9,094.93; the long would need 10,300.
        [FLAT, FLAT, (105, 105), (105, 105)],
        "SBHH",
        [
            Order(0, -100, fill=(1, 97.02, 97.02)),
            Order(1, 196.166846, "rejected", "Margin", fill=(2, 106.05, 106.05)),
        ],
        cash=[10_201, 19_805.98, 9_094.93, 9_094.93],
        equity=[10_201, 10_005.98, 9_094.93, 9_094.93],
        trades=[("short", "closed", 100, -1_106.07)],
        kept={"hold": 2},
        short=True,
    ),
    Scenario(
        "a short larger than the equity at its fill is refused",
        # 100 * 107.80 * 0.99 = 10,672.20 is more than 10,201: Backtrader alone would accept it.
        [FLAT, (107.80, 98), FLAT],
        "SHH",
        [Order(0, -100, "rejected", "short above equity")],
        cash=[10_201] * 3,
        equity=[10_201] * 3,
        kept={"hold": 2},
        short=True,
    ),
    Scenario(
        "a short that has lost everything can still be closed",
        # 19,805.98 - 100 * 250 = -5,194.02 at the close; bought back at 252.50: 25,250 + 252.50.
        [FLAT, (98, 250), (250, 250)],
        "SHH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(1, 100, fill=(2, 252.50, 252.50))],
        cash=[10_201, 19_805.98, -5_696.52],
        equity=[10_201, -5_194.02, -5_696.52],
        trades=[("short", "closed", 100, -15_897.52)],
        kept={"hold": 1},
        targets=[-1.0, 0.0, KEEP],
        short=True,
    ),
    Scenario(
        "a short that has lost everything cannot turn around: it is closed, and nothing is held",
        [FLAT, (98, 250), (250, 250)],
        "SBB",
        [
            Order(0, -100, fill=(1, 97.02, 97.02)),
            Order(1, 100, fill=(2, 252.50, 252.50)),
            Order(2, 0, "zero-size", "less than one lot"),
        ],
        cash=[10_201, 19_805.98, -5_696.52],
        equity=[10_201, -5_194.02, -5_696.52],
        trades=[("short", "closed", 100, -15_897.52)],
        short=True,
    ),
    Scenario(
        "a short pays borrow for the time it is held",
        # 240 bps a day are 10 bps an hour: 100 * 100 * 0.001 = 10.00 as bar 2 opens, 100 * 90 * 0.001 = 9.00 as bar 3
        # opens, at which it is bought back for 9,090.00 and 90.90. None for the bar in which it was sold.
        [FLAT, (98, 100), (100, 90), (90, 90)],
        "SHSH",
        [Order(0, -100, fill=(1, 97.02, 97.02)), Order(2, 100, fill=(3, 90.90, 90.90))],
        cash=[10_201, 19_805.98, 19_795.98, 10_606.08],
        equity=[10_201, 9_805.98, 10_795.98, 10_606.08],
        trades=[("short", "closed", 100, 405.08)],
        kept={"hold": 2},
        targets=[-1.0, KEEP, 0.0, KEEP],
        short=True,
        costs={"borrow_bps_per_day": 240.0},
    ),
    Scenario(
        "half, then all, then out",
        # Half: 50 units, 4,949 + 49.49, cash 5,202.51. At the close of 98 equity is 10,102.51: all of it means
        # 10,102.51 * 0.98 / 99.9698 = 99.034506 units, so 49.034506 more: 4,853.435404 + 48.534354, cash 300.540242.
        # Out at 97.02: 9,608.327772 - 96.083278 + 300.540242 = 9,812.784736.
        [FLAT, FLAT, FLAT, FLAT],
        "HHHH",
        [
            Order(0, 50, fill=(1, 98.98, 49.49)),
            Order(1, 49.034506, fill=(2, 98.98, 48.534354)),
            Order(2, -99.034506, fill=(3, 97.02, 96.083278)),
        ],
        cash=[10_201, 5_202.51, 300.540242, 9_812.784736],
        equity=[10_201, 10_102.51, 10_005.921830, 9_812.784736],
        trades=[("long", "closed", 99.034506, -388.215264)],
        kept={"hold": 1},
        targets=[0.5, 1.0, 0.0, KEEP],
    ),
]


def replay(scenario: Scenario) -> tuple[Bars, object]:
    """Run a scenario; highs and lows are the candle's own body, so that every slippage lies outside it."""
    open_, close = np.array(scenario.candles, dtype=float).T
    time = np.datetime64("2024-03-01", "ns") + np.arange(len(open_)) * np.timedelta64(3600, "s")
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    bars = Bars(time, open_, high, low, close, np.ones(len(open_)), source=scenario.name)
    strategy = Scripted(scenario.signals, scenario.targets, short=scenario.short)
    costs = Costs(**(ROUND | scenario.costs))
    run = run_backtest(bars, strategy, costs=costs, cash=scenario.start_cash, short=scenario.short)
    return bars, run


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(scenario):
    """Money: if it fails, an order, a fee, a slippage or a bar's equity is not what the documented rules give."""
    bars, run = replay(scenario)
    assert run.equity["cash"].tolist() == pytest.approx(scenario.cash, abs=0.000_005)
    assert run.equity["equity"].tolist() == pytest.approx(scenario.equity, abs=0.000_05)
    assert len(run.orders) == len(scenario.orders)
    for (_, row), order in zip(run.orders.iterrows(), scenario.orders, strict=True):
        assert (row["status"], row["reason"]) == (order.status, order.reason)
        assert row["decided"].to_datetime64() == bars.time[order.decided]
        assert row["decision_price"] == bars.close[order.decided]
        assert row["size"] == pytest.approx(order.size, abs=1e-9)
        if order.fill is None:
            assert math.isnan(row["fill_price"])
            assert row["fee"] == row["notional"] == 0
        else:
            bar, price, fee = order.fill
            assert row["filled"].to_datetime64() == bars.time[bar]
            assert row["fill_price"] == pytest.approx(price)
            assert row["fee"] == pytest.approx(fee, abs=0.000_001)
            assert row["slippage_cost"] == pytest.approx(row["notional"] / price * abs(price - bars.open[bar]))
    trades = run.trades[["side", "status", "size", "pnl"]].itertuples(index=False)
    for trade, (side, status, size, pnl) in zip(trades, scenario.trades, strict=True):
        assert (trade.side, trade.status) == (side, status)
        assert trade.size == pytest.approx(size, abs=1e-9)
        assert trade.pnl == pytest.approx(pnl, abs=0.000_05)
    assert {reason: count for reason, count in run.funnel["kept"].items() if count} == scenario.kept
