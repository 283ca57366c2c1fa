"""Every ratio of a run against an independent implementation: empyrical on random, degenerate and real curves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from flagbt import TimeRange, read_bars
from flagbt.data.bars import Bars
from flagbt.engine.backtest import run_backtest
from flagbt.engine.simulation import Simulation
from flagbt.results.metrics import metrics
from flagbt.results.run_view import daily_returns
from flagbt.results.significance.sharpe_ratio import Moments
from flagbt.strategies.baselines import BuyAndHold, RandomSignals, SmaCross

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # for its imports, not for its numbers
    import empyrical


def check(run: Simulation) -> None:
    """Compare the shared metrics; where ours is None, theirs must be undefined or meaningless."""
    found, daily = metrics(run), daily_returns(run)
    equity = run.equity["equity"]
    per_bar = pd.concat([pd.Series([run.cash]), equity.reset_index(drop=True)]).pct_change().iloc[1:]
    pairs = {
        "total_return": empyrical.cum_returns_final(daily),
        "sharpe_daily": empyrical.sharpe_ratio(daily, annualization=365),
        "sharpe_per_bar": empyrical.sharpe_ratio(per_bar, annualization=run.data.bars_per_year),
        "sortino_daily": empyrical.sortino_ratio(daily, annualization=365),
        "volatility_daily": empyrical.annual_volatility(daily, annualization=365),
        "max_drawdown": empyrical.max_drawdown(per_bar),
    }
    for name, theirs in pairs.items():
        if found[name] is None:
            assert not math.isfinite(theirs) or abs(theirs) > 1e6, name
        else:
            assert found[name] == pytest.approx(float(theirs), rel=1e-9, abs=1e-12), name
    # Theirs counts periods, ours the clock: the same for whole days.
    if found["days"] == len(daily) and found["cagr"] is not None:
        cagr = empyrical.cagr(daily, annualization=365)
        assert found["cagr"] == pytest.approx(cagr)
        if found["calmar"] is not None:
            assert found["calmar"] == pytest.approx(cagr / -empyrical.max_drawdown(per_bar))
    if found["sharpe_daily"] is not None and len(daily) > 3:
        z = scipy.stats.zscore(daily.to_numpy(), ddof=1)
        assert found["sharpe_daily"] == pytest.approx(math.sqrt(365) * (daily.mean() / daily.std()))
        moments = Moments.of(daily.to_numpy())
        assert moments.skewness == pytest.approx(scipy.stats.skew(daily))
        assert moments.kurtosis == pytest.approx(3 + scipy.stats.kurtosis(daily))
        assert np.isfinite(z).all()


@pytest.mark.parametrize("seed", range(6))
def test_random_curves(seed: int, walk: Callable[..., Bars]) -> None:
    """If it fails, a ratio of an ordinary run differs from the field's definition."""
    bars = walk(24 * 45, seed, start="2023-11-05")
    strategy = (RandomSignals(seed=seed), SmaCross(fast_bars=6, slow_bars=30), BuyAndHold())[seed % 3]
    check(run_backtest(bars, strategy, timerange=TimeRange(bars.time[24 * 3], None)))


@pytest.mark.parametrize("kind", ["one bar", "one day", "flat", "all losses", "all gains", "one loss", "two days"])
def test_degenerate_curves(kind: str, run_maker: Callable[..., Simulation]) -> None:
    """If it fails, a ratio is None where the field defines a number, or a number where it does not."""
    n = {"one bar": 1, "one day": 24, "two days": 48}.get(kind, 24 * 30)
    run = run_maker(n, kind="hold")
    steps = np.random.default_rng(0).uniform(0.0001, 0.002, n)
    growth = {
        "flat": np.zeros(n),
        "all losses": -steps,
        "all gains": steps,
        "one loss": np.where(np.arange(n) == n // 2, -0.3, 0),
    }.get(kind, np.random.default_rng(1).normal(0, 0.01, n))
    check(replace(run, equity=run.equity.assign(equity=run.cash * np.cumprod(1 + growth))))


@pytest.mark.parametrize("name", ["btc", "eth"])
def test_real_curves(name: str, shared_data: Path) -> None:
    """If it fails, real bars with gaps have ratios that differ from the field's."""
    file = sorted(shared_data.glob(f"{name}_usdt_1h_2020*.csv"))[0]
    bars = read_bars(file)
    for strategy in (BuyAndHold(), SmaCross()):
        check(run_backtest(bars, strategy, timerange=TimeRange.parse("20230101-20230701")))
