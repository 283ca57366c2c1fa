"""Simulation: one backtest's complete record in memory. ``results/`` writes it to disk and measures it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

ORDER_COLUMNS = (
    *("order", "decided", "side", "target", "size", "decision_price", "status", "reason"),
    *("filled", "fill_price", "notional", "fee", "slippage_cost"),
)
TRADE_COLUMNS = (
    *("trade", "side", "status", "entry_time", "exit_time", "entry_price", "exit_price", "size"),
    *("bars_held", "fees", "pnl", "return"),
)


@dataclass(frozen=True, eq=False)
class Simulation:
    """Record one backtest over the bars of a range.

    Attributes
    ----------
    config : dict
        The settings: strategy, checkpoint, data, timerange, calibration, decision, costs, cash, short, seed.
        JSON values only; the same config on the same digests gives the same run.
    data : dict
        ``source``, ``synthetic``, ``digest``, ``step_hours``, ``bars_per_year`` (see `flagbt.data.bars.Bars`), ``first``,
        ``last`` (open times of the traded range, ISO UTC).
    checkpoint : dict or None
        ``name``, ``digest``, ``label_shares`` ([SELL, HOLD, BUY] of its training range), ``horizon_bars``, ``labels``
        (as ``--labels`` writes them).
    bars : DataFrame
        The traded bars: UTC index ``time`` (open times), float64 open, high, low, close, volume.
    equity : DataFrame
        Same index: ``close``, ``cash``, ``position_size`` (base units, signed), ``equity`` (marked at the bar's close),
        ``exposure`` (position value / equity, NaN where a position is held and the equity is 0 or less).
    signals : DataFrame or None
        Same index: ``Signals.frame`` plus ``target`` (the exposure in force after the bar's decision). None for a plain
        Backtrader strategy.
    orders : DataFrame
        One row an order, ORDER_COLUMNS; ``decided`` and ``filled`` are bar open times, ``status`` is filled, rejected,
        zero-size or unfilled; ``size`` is signed, and NaN for an order for a target exposure that never filled
        (then ``side`` is empty); ``slippage_cost`` is in quote currency, relative to the bar's open.
    trades : DataFrame
        One row a round trip (flat to flat, or to a reversal), TRADE_COLUMNS; ``status`` is closed or open (an open one is
        marked at the last close, its exit columns empty); ``pnl`` is after fees, ``return`` is pnl / entry value.
    funnel : dict
        Counts from bars to fills that add up exactly, see ``engine.funnel``.
    cash : float
        Starting cash in quote currency.
    seconds : dict
        Wall-clock seconds by phase (``score``, ``replay``).
    strategy : Strategy or backtrader.Strategy, optional
        The instance that traded. Not written to disk.
    sized_at_fill : frozenset of int
        Numbers of the orders whose size was set at their fill, not at their decision. Not written to disk.
    """

    config: dict[str, Any]
    data: dict[str, Any]
    checkpoint: dict[str, Any] | None
    bars: pd.DataFrame
    equity: pd.DataFrame
    signals: pd.DataFrame | None
    orders: pd.DataFrame
    trades: pd.DataFrame
    funnel: dict[str, Any]
    cash: float
    seconds: dict[str, float] = field(default_factory=dict)
    strategy: Any = None
    sized_at_fill: frozenset[int] = frozenset()
