"""Metrics: return and risk of a run, from its own equity, orders and trades.

Conventions, the same everywhere: 365-day years, daily returns by UTC day, every return counted from the starting cash,
days without bars carry the last equity forward, no risk-free rate. An undefined value is None, never NaN or infinity.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ..arrays import FloatArray
from ..engine import kernel
from ..engine.replay import ReplayResult
from ..engine.simulation import Simulation

DAYS_PER_YEAR = 365
FEWEST_DAYS_FOR_GROWTH = 30  # below, a yearly rate of growth compounds a few days' luck
# Relative: below it, a spread of returns or a loss from a peak is only the rounding of float64.
ROUNDING = 1e-12
_COSTS = ("fee", "slippage_cost", "notional")  # columns of the orders table
# The keys of `metrics`: a stored file without one is damaged.
METRICS = (
    "total_return",
    "cagr",
    "sharpe_daily",
    "sharpe_per_bar",
    "sortino_daily",
    "volatility_daily",
    "max_drawdown",
    "max_drawdown_days",
    "calmar",
    "trades",
    "closed_trades",
    "open_trades",
    "win_rate",
    "profit_factor",
    "avg_trade_return",
    "exposure",
    "turnover",
    "fees_paid",
    "slippage_paid",
    "final_equity",
    "bars",
    "days",
)


class EquityRecord(Protocol):
    """Anything with an equity, such as a `Simulation`, a stored run, or its benchmark."""

    @property
    def equity(self) -> pd.DataFrame:
        """Per bar, UTC index, with the column ``equity``."""

    @property
    def cash(self) -> float:
        """The equity before the first bar."""


def metrics(run: Simulation) -> dict[str, Any]:
    """Measure a run.

    Parameters
    ----------
    run : Simulation
        With at least one bar.

    Returns
    -------
    dict
        JSON values. Fractions, not percent; money in quote currency.

        - ``total_return``: final equity / starting cash - 1; ``final_equity``; ``bars``; ``days`` (elapsed clock time).
        - ``cagr``: ``(final / cash) ** (365 / days) - 1``; None below 30 days; -1 for an account that has lost everything
          (an equity of 0 or less at any close), for any number of days and any remainder.
        - ``sharpe_daily``: mean / standard deviation (ddof 1) of daily returns * sqrt(365) (Sharpe 1994), the headline;
          ``sharpe_per_bar``: the same of per-bar returns * sqrt(``bars_per_year`` of the run's data: the number of bars
          in a year of the whole series, or of the traded bars where the data do not state it). None for fewer than two
          returns or returns that do not vary.
        - ``sortino_daily``: mean / root mean square of ``min(return, 0)`` * sqrt(365) (Sortino and Price 1994).
        - ``volatility_daily``: standard deviation (ddof 1) of daily returns * sqrt(365).
        - ``max_drawdown``: lowest equity / highest before - 1, of bars' closes with the starting cash, 0 or negative;
          ``max_drawdown_days``: longest clock time from a peak to its recovery, or to the end of the range.
        - ``calmar``: cagr / -max_drawdown; None without a drawdown or a cagr.
        - ``trades``: round trips started, the rows of trades.csv: ``closed_trades`` and ``open_trades``. ``win_rate`` (share
          of closed trades with a pnl above 0), ``profit_factor`` (gross gains / gross losses of closed trades; None
          without losses), ``avg_trade_return`` (of closed trades).
        - ``exposure``: share of bars with a position at the close; ``turnover``: traded notional / mean equity.
        - ``fees_paid``, ``slippage_paid``.

        All ratios of returns, ``calmar`` included, are None once the equity has fallen to 0 or below: a return on nothing is
        undefined.
    """
    equity = run.equity["equity"].to_numpy(dtype=np.float64)
    days = elapsed_days(run)
    bars_per_year = float(run.data.bars_per_year or len(equity) * DAYS_PER_YEAR / days)
    drawdown = drawdowns(run)
    deepest = float(drawdown.min())
    broken = bool((equity <= 0).any())
    cagr = -1.0 if broken else _cagr(equity[-1] / run.cash, days)
    daily: FloatArray | None = None if broken else np.asarray(daily_returns(run), dtype=np.float64)
    per_bar = None if broken else _returns(np.concatenate([[run.cash], equity]))
    return {
        "total_return": _finite(equity[-1] / run.cash - 1),
        "cagr": cagr,
        "sharpe_daily": _sharpe(daily, DAYS_PER_YEAR),
        "sharpe_per_bar": _sharpe(per_bar, bars_per_year),
        "sortino_daily": _sortino(daily, DAYS_PER_YEAR),
        "volatility_daily": _volatility(daily, DAYS_PER_YEAR),
        "max_drawdown": deepest,
        "max_drawdown_days": _longest_drawdown_days(run, drawdown),
        "calmar": _finite(cagr / -deepest) if cagr is not None and deepest < 0 and not broken else None,
        **_trade_metrics(run.trades),
        "exposure": float((run.equity["position_size"] != 0).mean()),
        **_cost_metrics(run.orders[list(_COSTS)].to_numpy(dtype=np.float64), float(equity.mean())),
        "final_equity": _finite(float(equity[-1])),
        "bars": len(equity),
        "days": days,
    }


def replay_metrics(replayed: ReplayResult) -> dict[str, Any]:
    """Measure a replay: the numbers of ``metrics`` that a sweep ranks by, with the same formulas on the same floats.

    Returns
    -------
    dict
        ``total_return``, ``sharpe_daily``, ``max_drawdown``, ``trades``, ``exposure``, ``turnover``, ``fees_paid``,
        ``slippage_paid``, ``final_equity``, as ``metrics`` defines them.
    """
    equity, orders = replayed.equity, replayed.orders
    return {
        "total_return": _finite(equity[-1] / replayed.cash - 1),
        "sharpe_daily": daily_sharpe(replay_daily_returns(replayed)),
        "max_drawdown": float(_falls(equity, replayed.cash).min()),
        "trades": replayed.closed_trades + int(replayed.table[-1, kernel.SIZE] != 0),
        "exposure": float((replayed.table[:, kernel.SIZE] != 0).mean()),
        **_cost_metrics(orders[:, [kernel.FEE, kernel.SLIPPAGE, kernel.NOTIONAL]], float(equity.mean())),
        "final_equity": _finite(float(equity[-1])),
    }


def replay_daily_returns(replayed: ReplayResult) -> FloatArray:
    """Return one return a UTC day, shape (n_days,), as ``daily_returns``; all NaN once the equity has fallen to 0 or below."""
    if replayed.ruined:
        return np.full(len(replayed.bars.last_of_day), np.nan)
    return _returns(np.concatenate([[replayed.cash], replayed.daily_equity]))


def daily_sharpe(returns: FloatArray) -> float | None:
    """Return the headline Sharpe ratio of daily returns, shape (n_days,); None where it is undefined, as ``metrics``."""
    return _sharpe(returns, DAYS_PER_YEAR)


def daily_returns(run: EquityRecord) -> pd.Series[float]:
    """Return one return a UTC day, from the first traded day to the last.

    Returns
    -------
    Series of float64
        Naive UTC index at midnight, one row a calendar day. The first day's return counts from the starting cash; a day
        without bars has a return of 0. Values are not finite where the equity of the day before is 0.
    """
    by_day = run.equity["equity"].groupby(run.equity.index.tz_convert("UTC").tz_localize(None).normalize()).last()  # type: ignore[attr-defined]
    every_day = pd.date_range(by_day.index[0], by_day.index[-1], freq="D")
    at_close = by_day.reindex(every_day).ffill().to_numpy(dtype=np.float64)
    # Start one day earlier: a plain pct_change would lose the first day's return.
    returns = _returns(np.concatenate([[run.cash], at_close]))
    return pd.Series(returns, index=every_day, name="return")


def ruined_at(run: EquityRecord) -> pd.Timestamp | None:
    """Return the open time of the first bar at whose close the account had lost everything; None without one."""
    lost = run.equity["equity"].to_numpy() <= 0
    return pd.DatetimeIndex(run.equity.index)[int(lost.argmax())] if lost.any() else None


def drawdowns(run: EquityRecord) -> FloatArray:
    """Return equity / highest so far - 1 at every bar's close, shape (n_bars,); the starting cash counts as a peak."""
    return _falls(run.equity["equity"].to_numpy(dtype=np.float64), run.cash)


def elapsed_days(run: Simulation) -> float:
    """Return the clock time from the first bar's open to the last bar's close, in days."""
    span = (run.equity.index[-1] - run.equity.index[0]) / pd.Timedelta(hours=1)
    return float((span + run.data.step_hours) / 24)


def _falls(equity: FloatArray, cash: float) -> FloatArray:
    fall = equity / np.maximum(np.maximum.accumulate(equity), cash) - 1
    return np.where(fall > -ROUNDING, 0.0, fall)


def _returns(values: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        result: FloatArray = values[1:] / values[:-1] - 1
    return result


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cagr(growth: float, days: float) -> float | None:
    if days < FEWEST_DAYS_FOR_GROWTH or not growth > 0:
        return None
    try:
        return _finite(float(growth) ** (DAYS_PER_YEAR / days) - 1)
    except OverflowError:  # too large for a float
        return None


def _spread(returns: FloatArray | None) -> float | None:
    """Return the standard deviation (ddof 1), or None where it is undefined or only rounding."""
    if returns is None or len(returns) < 2 or not np.isfinite(returns).all():
        return None
    spread = float(returns.std(ddof=1))
    return spread if spread > ROUNDING * max(1e-6, abs(float(returns.mean()))) else None


def _sharpe(returns: FloatArray | None, periods_per_year: float) -> float | None:
    spread = _spread(returns)
    if returns is None or spread is None:
        return None
    return _finite(float(returns.mean()) / spread * math.sqrt(periods_per_year))


def _volatility(returns: FloatArray | None, periods_per_year: float) -> float | None:
    if returns is None or len(returns) < 2 or not np.isfinite(returns).all():
        return None
    return (_spread(returns) or 0.0) * math.sqrt(periods_per_year)


def _sortino(returns: FloatArray | None, periods_per_year: float) -> float | None:
    if returns is None or len(returns) < 2 or not np.isfinite(returns).all():
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0) ** 2)))
    return _finite(float(returns.mean()) / downside * math.sqrt(periods_per_year)) if downside > ROUNDING else None


def _longest_drawdown_days(run: Simulation, drawdown: FloatArray) -> float:
    step = run.data.step_hours
    open_hours = ((run.equity.index - run.equity.index[0]) / pd.Timedelta(hours=1)).to_numpy(dtype=np.float64)
    close_hours = np.concatenate([[0.0], open_hours + step])  # the starting cash applies at the first bar's open
    at_peak = np.concatenate([[True], drawdown == 0])
    last_peak = close_hours[np.maximum.accumulate(np.where(at_peak, np.arange(len(at_peak)), 0))]
    # The drawdown includes the time up to the bar of the recovery.
    before = np.concatenate([[0.0], last_peak[:-1]])
    recovered = at_peak & ~np.concatenate([[True], at_peak[:-1]])
    lengths = np.where(at_peak, np.where(recovered, close_hours - before, 0.0), close_hours - last_peak)
    return float(lengths.max() / 24)


def _trade_metrics(trades: pd.DataFrame) -> dict[str, Any]:
    closed = trades[trades["status"] == "closed"]
    pnl = closed["pnl"].to_numpy(dtype=np.float64)
    losses = float(-pnl[pnl < 0].sum())
    return {
        "trades": len(trades),
        "closed_trades": len(closed),
        "open_trades": int((trades["status"] == "open").sum()),
        "win_rate": float((pnl > 0).mean()) if len(pnl) else None,
        "profit_factor": _finite(float(pnl[pnl > 0].sum()) / losses) if losses > 0 else None,
        "avg_trade_return": _finite(float(closed["return"].astype(float).mean())) if len(pnl) else None,
    }


def _cost_metrics(costs: FloatArray, mean_equity: float) -> dict[str, Any]:
    """Sum the columns of _COSTS, shape (n_orders, 3)."""
    # All orders: a partly rejected one has paid for its filled part; the others hold 0.
    fee, slippage, notional = (float(np.nansum(np.ascontiguousarray(column))) for column in costs.T)
    return {"turnover": notional / mean_equity if mean_equity > 0 else None, "fees_paid": fee, "slippage_paid": slippage}
