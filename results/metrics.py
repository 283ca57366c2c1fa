"""Metrics: return and risk of a run, from its own equity, orders and trades. An undefined value is None, never NaN or infinity.

A metric is one field of `Metrics`: pages, the terminal, JSON, the comparison, ``--sort``, ``--fail-if``, sweeps and the docs
read its declaration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray
from ..engine.replay import ReplayResult
from ..engine.simulation import Simulation
from .metric import Metric, MetricValue
from .metric_set import MetricSet, declared
from .run_view import DAYS_PER_YEAR, ROUNDING, RunView

FEWEST_DAYS_FOR_GROWTH = 30  # below, a yearly rate of growth compounds a few days' luck
RANKED_BY = "sharpe_daily"  # of a sweep's settings


def daily_sharpe(returns: FloatArray) -> float | None:
    """Return the headline Sharpe ratio of daily returns, shape (n_days,); None where it is undefined, as ``sharpe_daily``."""
    return _sharpe(returns, DAYS_PER_YEAR)


def _total_return(run: RunView) -> float | None:
    return _finite(run.equity[-1] / run.cash - 1)


def _cagr(run: RunView) -> float | None:
    if run.ruined:
        return -1.0
    growth = run.equity[-1] / run.cash
    if run.days < FEWEST_DAYS_FOR_GROWTH or not growth > 0:
        return None
    try:
        return _finite(float(growth) ** (DAYS_PER_YEAR / run.days) - 1)
    except OverflowError:  # too large for a float
        return None


def _volatility(run: RunView) -> float | None:
    returns = run.daily_returns
    if len(returns) < 2 or not np.isfinite(returns).all():
        return None
    return (_spread(returns) or 0.0) * math.sqrt(DAYS_PER_YEAR)


def _sortino(run: RunView) -> float | None:
    returns = run.daily_returns
    if len(returns) < 2 or not np.isfinite(returns).all():
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0) ** 2)))
    return _finite(float(returns.mean()) / downside * math.sqrt(DAYS_PER_YEAR)) if downside > ROUNDING else None


def _calmar(run: RunView) -> float | None:
    cagr, deepest = _cagr(run), _max_drawdown(run)
    return _finite(cagr / -deepest) if cagr is not None and deepest < 0 and not run.ruined else None


def _max_drawdown(run: RunView) -> float:
    return float(run.drawdown.min())


def _max_drawdown_days(run: RunView) -> float:
    open_hours = ((run.time - run.time[0]) / np.timedelta64(1, "h")).astype(np.float64)
    close_hours = np.concatenate([[0.0], open_hours + run.step_hours])  # the starting cash applies at the first bar's open
    at_peak = np.concatenate([[True], run.drawdown == 0])
    last_peak = close_hours[np.maximum.accumulate(np.where(at_peak, np.arange(len(at_peak)), 0))]
    # The drawdown includes the time up to the bar of the recovery.
    before = np.concatenate([[0.0], last_peak[:-1]])
    recovered = at_peak & ~np.concatenate([[True], at_peak[:-1]])
    lengths = np.where(at_peak, np.where(recovered, close_hours - before, 0.0), close_hours - last_peak)
    return float(lengths.max() / 24)


def _win_rate(run: RunView) -> float | None:
    pnl = _closed(run, "pnl")
    return float((pnl > 0).mean()) if len(pnl) else None


def _profit_factor(run: RunView) -> float | None:
    pnl = _closed(run, "pnl")
    losses = float(-pnl[pnl < 0].sum())
    return _finite(float(pnl[pnl > 0].sum()) / losses) if losses > 0 else None


def _avg_trade_return(run: RunView) -> float | None:
    returns = _closed(run, "return")
    return _finite(float(returns.mean())) if len(returns) else None


def _turnover(run: RunView) -> float | None:
    mean = float(run.equity.mean())
    return _total(run.notional) / mean if mean > 0 else None


@dataclass(frozen=True, kw_only=True, repr=False)
class Metrics(MetricSet):
    """The metrics of a run: an attribute each, also ``metrics["name"]``.

    Fractions, not percent; money in quote currency. None: undefined, or an older record lacks it. So the type of a new metric
    allows None.
    """

    total_return: float | None = declared(
        _total_return,
        label="Total return",
        unit="return",
        better=1,
        formula="final equity / starting cash - 1",
        section="returns",
        headline=True,
        sweep="page",
    )
    cagr: float | None = declared(
        _cagr,
        label="Annual growth (CAGR)",
        unit="return",
        better=1,
        formula="(final equity / starting cash) ** (365 / days) - 1; undefined below 30 days; -100 % for an account that "
        "has lost everything",
        section="returns",
        headline=True,
    )
    sharpe_daily: float | None = declared(
        lambda run: _sharpe(run.daily_returns, DAYS_PER_YEAR),
        label="Sharpe ratio, daily returns",
        unit="ratio",
        better=1,
        formula="mean / standard deviation (ddof 1) of daily returns * sqrt(365) (Sharpe 1994); undefined without variation",
        section="returns",
        headline=True,
        sweep="page",
    )
    sharpe_per_bar: float | None = declared(
        lambda run: _sharpe(run.bar_returns, run.bars_per_year),
        label="Sharpe ratio, per-bar returns",
        unit="ratio",
        better=1,
        formula="mean / standard deviation (ddof 1) of the bars' returns * sqrt(bars in a year of the whole series)",
        section="returns",
        headline=True,
    )
    sortino_daily: float | None = declared(
        _sortino,
        label="Sortino ratio, daily returns",
        unit="ratio",
        better=1,
        formula="mean of daily returns / root mean square of min(return, 0) * sqrt(365) (Sortino and Price 1994)",
        section="returns",
    )
    volatility_daily: float | None = declared(
        _volatility,
        label="Annual volatility",
        unit="share",
        better=-1,
        formula="standard deviation (ddof 1) of daily returns * sqrt(365)",
        section="returns",
    )
    max_drawdown: float = declared(
        _max_drawdown,
        label="Maximum drawdown",
        unit="share",
        better=1,
        formula="lowest equity / highest equity before - 1, at bars' closes, from the starting cash on; 0 or negative",
        section="returns",
        headline=True,
        sweep="page",
    )
    max_drawdown_days: float = declared(
        _max_drawdown_days,
        label="Longest drawdown, days",
        unit="days",
        better=-1,
        formula="longest time from a peak of the equity to its recovery, or to the end of the range",
        section="returns",
    )
    calmar: float | None = declared(
        _calmar,
        label="Calmar ratio",
        unit="ratio",
        better=1,
        formula="annual growth / -maximum drawdown; undefined where either is, or without a drawdown",
        section="returns",
    )
    trades: int = declared(
        lambda run: run.closed_trades + run.open_trades,
        label="All trades",
        unit="count",
        formula="round trips that were started: the rows of trades.csv",
        section="trades",
        headline=True,
        sweep="page",
    )
    closed_trades: int = declared(
        lambda run: run.closed_trades, label="Closed trades", unit="count", formula="round trips that ended"
    )
    open_trades: int = declared(
        lambda run: run.open_trades,
        label="Open trades",
        unit="count",
        formula="round trips still open at the last bar",
        section="trades",
    )
    win_rate: float | None = declared(
        _win_rate,
        label="Win rate, closed trades",
        unit="share",
        better=1,
        formula="share of closed trades with a profit after fees",
        section="trades",
        headline=True,
    )
    profit_factor: float | None = declared(
        _profit_factor,
        label="Profit factor",
        unit="ratio",
        better=1,
        formula="gross gains / gross losses of closed trades; undefined without losses",
        section="trades",
    )
    avg_trade_return: float | None = declared(
        _avg_trade_return,
        label="Mean return of a closed trade",
        unit="return of a trade",
        better=1,
        formula="mean of profit after fees / entry value, closed trades",
        section="trades",
    )
    exposure: float = declared(
        lambda run: float((run.position != 0).mean()),
        label="Bars with a position",
        unit="share",
        formula="share of bars with a position at the close",
        section="trades",
        headline=True,
        sweep="page",
    )
    turnover: float | None = declared(
        _turnover,
        label="Turnover, times mean equity",
        unit="ratio",
        formula="value traded / mean equity",
        section="trades",
        headline=True,
        sweep="page",
    )
    fees_paid: float = declared(
        lambda run: _total(run.fee),
        label="Fees paid",
        unit="money",
        better=-1,
        formula="fees of all orders",
        section="trades",
        headline=True,
        sweep="table",
    )
    slippage_paid: float = declared(
        lambda run: _total(run.slippage),
        label="Slippage paid",
        unit="money",
        better=-1,
        formula="slippage of all orders against the open of the bar that filled them",
        section="trades",
        sweep="table",
    )
    final_equity: float | None = declared(
        lambda run: _finite(run.equity[-1]),
        label="Final equity",
        unit="money",
        better=1,
        formula="equity at the last close, an open position marked there",
        section="trades",
        sweep="table",
    )
    bars: int = declared(lambda run: len(run.equity), label="Bars", unit="count", formula="traded bars")
    days: float = declared(
        lambda run: run.days, label="Days", unit="days", formula="time from the first bar's open to the last bar's close"
    )


def metrics(run: Simulation) -> Metrics:
    """Measure a run with at least one bar; see the fields of ``Metrics`` for the formulas.

    All ratios of returns, ``calmar`` included, are None once the equity has fallen to 0 or below: a return on nothing is
    undefined.

    Raises
    ------
    StrategyError
        When a plug-in's metric cannot be loaded or computed.
    """
    return Metrics.of(RunView.of_simulation(run))


def replay_metrics(replayed: ReplayResult) -> dict[str, MetricValue]:
    """Measure a replay: the metrics of a sweep's table, with the same formulas on the same floats as ``metrics``."""
    view = RunView.of_replay(replayed)
    return {metric.name: metric.value(view) for metric in sweep_metrics()}


def sweep_metrics() -> tuple[Metric, ...]:
    """Return the metrics of a sweep's table in the order of its columns: the one it ranks by first."""
    swept = [metric for metric in Metrics.installed() if metric.sweep]
    return tuple(sorted(swept, key=lambda metric: metric.name != RANKED_BY))


def _sharpe(returns: FloatArray, periods_per_year: float) -> float | None:
    spread = _spread(returns)
    return None if spread is None else _finite(float(returns.mean()) / spread * math.sqrt(periods_per_year))


def _spread(returns: FloatArray) -> float | None:
    """Return the standard deviation (ddof 1), or None where it is undefined or only rounding."""
    if len(returns) < 2 or not np.isfinite(returns).all():
        return None
    spread = float(returns.std(ddof=1))
    return spread if spread > ROUNDING * max(1e-6, abs(float(returns.mean()))) else None


def _closed(run: RunView, column: str) -> FloatArray:
    return run.trades.loc[run.trades["status"] == "closed", column].to_numpy(dtype=np.float64)


def _total(costs: FloatArray) -> float:
    # All orders: a partly rejected one has paid for its filled part; the others hold 0.
    return float(np.nansum(np.ascontiguousarray(costs)))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
