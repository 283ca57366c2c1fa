"""The effect of costs on a run: its own decisions, replayed at different costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..arrays import FloatArray
from ..data.bars import Bars
from ..engine.costs import Costs
from ..engine.replay import ReplayBars, ReplayResult, Scratch, check_replay, replay
from ..engine.simulation import Simulation
from ..errors import StrategyError, UsageError
from ..storage.json_records import JsonRecord
from .metrics import replay_metrics

COST_FACTORS = (0.0, 1.0, 2.0)
HIGHEST_FEE_BPS = 1_000.0
_FEE_PRECISION_BPS = 0.001
_NOT_REPLAYED = "a plain Backtrader strategy places its own orders, so its orders at different costs are not known"


@dataclass(frozen=True, kw_only=True)
class AtCosts(JsonRecord):
    """The result at ``factor`` times the run's fee, slippage and borrow; None where it is not known, for a ``reason``."""

    factor: float
    sharpe_daily: float | None = None
    total_return: float | None = None
    fees_paid: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class CostSensitivity(JsonRecord):
    """The effect of costs on a run.

    Attributes
    ----------
    break_even_fee_bps : float or None
        The fee per side at which the total return is 0, slippage and borrow as in the run, by bisection to 0.001 bps; None
        where there is none from 0 to 1,000, with ``break_even_reason`` as text.
    break_even_sentence : str
    by_factor : tuple of AtCosts
        At 0, 1 and 2 times the costs.
    reason : str or None
        Why none of this is known, as for a plain Backtrader strategy.
    """

    break_even_fee_bps: float | None
    break_even_reason: str | None
    break_even_sentence: str
    by_factor: tuple[AtCosts, ...]
    reason: str | None


def replay_bars(run: Simulation) -> ReplayBars:
    """Return a run's bars in the form of the fast replay."""
    return ReplayBars.of(bars_of_run(run))


def bars_of_run(run: Simulation) -> Bars:
    """Return the traded bars of a run."""
    step = np.timedelta64(round(run.data.step_hours * 3_600), "s")
    return Bars.from_frame(run.bars, source=run.data.source, step=step)


def decided_targets(run: Simulation) -> FloatArray:
    """Return the target exposure of each bar's order, NaN without an order, shape (n_bars,).

    These are the decisions of the strategy and its rules, independent of the costs of the fills.
    """
    targets = np.full(len(run.equity), np.nan)
    targets[run.equity.index.get_indexer(pd.DatetimeIndex(run.orders["decided"]))] = run.orders["target"].to_numpy(
        dtype=np.float64
    )
    return targets


def cost_sensitivity(run: Simulation) -> CostSensitivity:
    """Replay a run's decisions at different costs.

    Each bar's target exposure stays the same; sizes follow the equity. A stop relative to the entry price would move with
    the slippage; here it does not.
    """
    reason = None if run.signals is not None else _NOT_REPLAYED
    replayed: Callable[[Costs], ReplayResult] | None = None
    if reason is None:
        replayed = _replayer(run)
        try:
            check_replay(run, replayed(run.config.costs))
        except StrategyError as error:
            reason = str(error)
    if reason is not None or replayed is None:
        return CostSensitivity(
            break_even_fee_bps=None,
            break_even_reason=reason,
            break_even_sentence=f"The break-even fee is not known: {reason}.",
            by_factor=tuple(AtCosts(factor=factor, reason=reason) for factor in COST_FACTORS),
            reason=reason,
        )
    fee, why = _break_even(run, replayed)
    return CostSensitivity(
        break_even_fee_bps=fee,
        break_even_reason=why,
        break_even_sentence=_break_even_sentence(run, fee, why),
        by_factor=tuple(_at_factor(run, replayed, factor) for factor in COST_FACTORS),
        reason=None,
    )


def _replayer(run: Simulation) -> Callable[[Costs], ReplayResult]:
    bars, targets, scratch = replay_bars(run), decided_targets(run), Scratch(len(run.equity))
    short = run.config.short
    return lambda costs: replay(bars, targets, costs=costs, cash=run.cash, short=short, scratch=scratch)


def _break_even(run: Simulation, replayed: Callable[[Costs], ReplayResult]) -> tuple[float | None, str | None]:
    costs = run.config.costs

    def gain(fee_bps: float) -> float:
        return float(replayed(replace(costs, fee_bps=fee_bps)).equity[-1] - run.cash)

    if run.trades.empty:
        return None, "no trade was made"
    low, high = 0.0, HIGHEST_FEE_BPS
    if gain(low) <= 0:
        return None, "the run loses even without a fee"
    if gain(high) > 0:
        return None, f"the run still gains at a fee of {HIGHEST_FEE_BPS:,.0f} bps"
    while high - low > _FEE_PRECISION_BPS:
        middle = (low + high) / 2
        low, high = (middle, high) if gain(middle) > 0 else (low, middle)
    return round((low + high) / 2, 3), None


def _break_even_sentence(run: Simulation, fee: float | None, why: str | None) -> str:
    if fee is None:
        return f"There is no fee at which this run breaks even: {why}."
    paid = run.config.costs.fee_bps
    return f"The run breaks even at a fee of {fee:.1f} bps per side; it paid {paid:g}."


def _at_factor(run: Simulation, replayed: Callable[[Costs], ReplayResult], factor: float) -> AtCosts:
    try:
        costs = run.config.costs.times(factor)
    except UsageError as error:
        return AtCosts(factor=factor, reason=str(error))
    measured = replay_metrics(replayed(costs))
    return AtCosts(
        factor=factor,
        sharpe_daily=measured["sharpe_daily"],
        total_return=measured["total_return"],
        fees_paid=measured["fees_paid"],
    )
