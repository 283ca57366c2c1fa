"""Metrics against hand calculations and independent implementations."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flagbt.engine.simulation import Simulation
from flagbt.errors import UsageError
from flagbt.results.metric import SECTIONS, SWEEP_PLACES, UNITS
from flagbt.results.metrics import RANKED_BY, Metrics, metrics, sweep_metrics
from flagbt.results.run_view import daily_returns, drawdowns

RunMaker = Callable[..., Simulation]
# Those that every record holds, whatever its version. A newer metric is not in this set: its type allows None.
ALWAYS_MEASURED = {
    *("max_drawdown", "max_drawdown_days", "trades", "closed_trades", "open_trades", "exposure"),
    *("fees_paid", "slippage_paid", "bars", "days"),
}


@pytest.fixture
def with_equity(run_maker: RunMaker) -> Callable[..., Simulation]:
    """Give the maker of a run with chosen equities at chosen hours after 2024-01-01, and 100 of starting cash."""

    def make(equity: Sequence[float], hours: Sequence[int] | None = None, cash: float = 100.0) -> Simulation:
        run = run_maker(len(equity), kind="hold")
        index = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(list(hours or range(len(equity))), unit="h")
        frame = run.equity.set_index(pd.DatetimeIndex(index, name="time")).assign(equity=np.array(equity, dtype=float))
        return replace(run, equity=frame, cash=cash)

    return make


def test_first_day_counts_from_the_starting_cash(with_equity: Callable[..., Simulation]) -> None:
    """If it fails, the first day's return is lost (a return of 443 % instead of 427 %)."""
    run = with_equity([110, 120, 60], [0, 23, 24])
    returns = daily_returns(run)
    assert returns.tolist() == pytest.approx([0.2, -0.5])
    assert returns.index.tolist() == [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02")]
    assert returns.index.tz is None  # type: ignore[attr-defined]


def test_days_without_bars_carry_the_equity_forward(with_equity: Callable[..., Simulation]) -> None:
    """If it fails, an exchange's outage shortens the year and raises every yearly metric."""
    returns = daily_returns(with_equity([110, 121], [5, 24 * 4]))
    assert returns.tolist() == pytest.approx([0.1, 0, 0, 0, 0.1])


def test_daily_returns_compound_to_the_total(run_maker: RunMaker) -> None:
    """If it fails, the daily returns that quantstats gets are not those of this run."""
    run = run_maker(24 * 45 + 7, start="2024-02-03T13:00")
    assert (1 + daily_returns(run)).prod() - 1 == pytest.approx(metrics(run)["total_return"])


def test_headline_ratios_by_hand(run_maker: RunMaker) -> None:
    """If it fails, a headline ratio is annualised by something other than 365 days, or deviates in another way."""
    run = run_maker(24 * 80)
    found = metrics(run)
    equity = run.equity["equity"]
    at_midnight = [run.cash, *equity.iloc[23::24]]
    daily = [b / a - 1 for a, b in itertools.pairwise(at_midnight)]
    spread = statistics.stdev(daily)
    assert found["sharpe_daily"] == pytest.approx(statistics.mean(daily) / spread * math.sqrt(365))
    assert found["volatility_daily"] == pytest.approx(spread * math.sqrt(365))
    downside = math.sqrt(sum(min(r, 0) ** 2 for r in daily) / len(daily))
    assert found["sortino_daily"] == pytest.approx(statistics.mean(daily) / downside * math.sqrt(365))
    per_bar = pd.concat([pd.Series([run.cash]), equity]).pct_change().dropna()
    assert found["sharpe_per_bar"] == pytest.approx(per_bar.mean() / per_bar.std() * math.sqrt(8760))
    assert found["cagr"] == pytest.approx((equity.iloc[-1] / run.cash) ** (365 / 80) - 1)
    assert found["calmar"] == pytest.approx(found["cagr"] / -found["max_drawdown"])
    assert found["days"] == 80
    assert found["bars"] == 1920


def test_four_hour_bars_have_fewer_of_them_in_a_year(with_equity: Callable[..., Simulation]) -> None:
    """If it fails, the per-bar Sharpe ratio treats every bar as an hour."""
    run = with_equity([101, 103, 102, 106], [0, 4, 8, 12])
    run = replace(run, data=replace(run.data, step_hours=4.0, bars_per_year=365 * 6))
    returns = np.array([101 / 100, 103 / 101, 102 / 103, 106 / 102]) - 1
    expected = returns.mean() / returns.std(ddof=1) * math.sqrt(365 * 6)
    assert metrics(run)["sharpe_per_bar"] == pytest.approx(expected)
    assert metrics(run)["days"] == pytest.approx(16 / 24)


@pytest.mark.parametrize(
    ("equity", "deepest", "longest_hours"),
    [
        ([90, 95, 99], -0.1, 3),  # below the starting cash from the first bar on
        ([110, 99, 105, 111, 100], -0.1, 3),  # from the close of bar 1 to the recovery at the close of bar 4
        ([110, 121, 130], 0.0, 0),
        ([110, 55, 60, 58, 57], -0.5, 4),  # never recovered: to the end
        ([100, 100, 100], 0.0, 0),
    ],
)
def test_drawdown(with_equity: Callable[..., Simulation], equity: list[float], deepest: float, longest_hours: int) -> None:
    """If it fails, a loss below the starting cash, or an unrecovered one, is not a drawdown."""
    found = metrics(with_equity(equity))
    assert found["max_drawdown"] == pytest.approx(deepest)
    assert found["max_drawdown_days"] == pytest.approx(longest_hours / 24)


def test_drawdowns_agree_with_a_plain_loop(run_maker: RunMaker) -> None:
    """If it fails, the drawdown curve and its deepest point disagree with the definition."""
    run = run_maker(24 * 20)
    peak, expected = run.cash, []
    for value in run.equity["equity"]:
        peak = max(peak, value)
        expected.append(value / peak - 1)
    assert drawdowns(run) == pytest.approx(expected)
    assert metrics(run)["max_drawdown"] == pytest.approx(min(expected))


def test_trade_and_cost_metrics_come_from_the_ledger(run_maker: RunMaker) -> None:
    """If it fails, open trades are counted as won, or fees are left out."""
    run = run_maker(24 * 30)
    trades = pd.DataFrame(
        {"status": ["closed", "closed", "closed", "open"], "pnl": [30.0, -10.0, 0.0, 500.0], "return": [0.3, -0.1, 0, 5]}
    )
    orders = pd.DataFrame(
        {
            "status": ["filled", "filled", "rejected", "unfilled"],
            "notional": [1000.0, 500.0, 200.0, 0.0],
            "fee": [1.0, 0.5, 0.2, 0.0],
            "slippage_cost": [0.1, 0.05, 0.0, np.nan],
        }
    )
    found = metrics(replace(run, trades=trades, orders=orders))
    assert (found["trades"], found["closed_trades"], found["open_trades"]) == (4, 3, 1)
    assert found["win_rate"] == pytest.approx(1 / 3)
    assert found["profit_factor"] == pytest.approx(3)
    assert found["avg_trade_return"] == pytest.approx(0.2 / 3)
    assert found["fees_paid"] == pytest.approx(1.7)  # a rejected order may have been partly filled before
    assert found["slippage_paid"] == pytest.approx(0.15)
    assert found["turnover"] == pytest.approx(1700 / run.equity["equity"].mean())
    assert found["exposure"] == pytest.approx((run.equity["position_size"] != 0).sum() / 720)


@pytest.mark.parametrize("equity", [[100], [100] * 72, [100, 0, 0], [100, -5, 3] * 24, [150] * 48, [1e-9, 1e9] * 12])
def test_undefined_is_null_and_never_warns(with_equity: Callable[..., Simulation], equity: list[float]) -> None:
    """If it fails, one bar, a flat line or a ruined account writes NaN or infinity, or warns."""
    found = metrics(with_equity(equity))
    json.dumps(found.to_json(), allow_nan=False)
    if len(set(equity)) == 1 and equity[0] == 100:
        assert found["sharpe_daily"] is None
        assert found["sortino_daily"] is None
        assert found["calmar"] is None
        assert found["win_rate"] is None
        assert found["profit_factor"] is None
        assert found["max_drawdown"] == 0
    if min(equity) <= 0:
        assert found["sharpe_daily"] is None
        assert found["volatility_daily"] is None


def test_a_steady_gain_has_no_sharpe_ratio(with_equity: Callable[..., Simulation]) -> None:
    """If it fails, float rounding of equal returns shows as a Sharpe ratio of billions."""
    found = metrics(with_equity([100 * 1.001 ** (t // 24 + 1) for t in range(24 * 30)]))
    assert found["sharpe_daily"] is None
    assert found["volatility_daily"] == 0


def test_less_than_30_days_have_no_yearly_growth(with_equity: Callable[..., Simulation]) -> None:
    """If it fails, a few hours' luck is compounded to a yearly rate (a CAGR of 645,440 for 30 hours)."""
    for hours in (1, 30, 24 * 30 - 1):
        found = metrics(with_equity([99, *[101] * (hours - 1)]))
        assert found["cagr"] is None
        assert found["calmar"] is None
    month = metrics(with_equity([99, *[101] * (24 * 30 - 1)]))
    assert month["cagr"] == pytest.approx(1.01 ** (365 / 30) - 1)
    assert month["calmar"] == pytest.approx(100 * month["cagr"])
    assert metrics(with_equity([1e30] * 24 * 30))["cagr"] is None  # too large for a float


def test_every_metric_is_declared_in_full() -> None:
    """If it fails, a metric has no name on a page, no formula in the docs, or a unit that cannot be written."""
    declared = Metrics.installed()
    assert len({metric.label for metric in declared}) == len(declared)
    assert all(metric.formula and metric.unit in UNITS and metric.better in (1, -1, None) for metric in declared)
    assert {metric.section for metric in declared} <= {*SECTIONS, None}
    assert {metric.sweep for metric in declared} <= {*SWEEP_PLACES, None}
    assert sweep_metrics()[0].name == RANKED_BY
    assert all(metric.text(1) != metric.text(None) for metric in declared)


def test_a_record_without_a_newer_metric_reads_it_as_none(run_maker: RunMaker) -> None:
    """If it fails, a metric that is added makes every earlier record unreadable, or its absence is a number."""
    values = metrics(run_maker(24 * 40)).to_json()
    for name in Metrics.installed():
        older = {key: value for key, value in values.items() if key != name.name}
        if name.name in ALWAYS_MEASURED:
            with pytest.raises(ValueError, match=f"it lacks {name.name}"):
                Metrics.from_json(older)
        else:
            assert Metrics.from_json(older).to_json() == values | {name.name: None}


def test_values_that_are_not_numbers_are_refused(run_maker: RunMaker) -> None:
    """If it fails, text in a damaged record reaches a page or a comparison."""
    values = metrics(run_maker(48)).to_json()
    for wrong in ("1.0", True, [1.0], {"value": 1.0}):
        with pytest.raises(ValueError, match=r"sharpe_daily is .*, not a number"):
            Metrics.from_json(values | {"sharpe_daily": wrong})


def test_an_unknown_metric_has_the_nearest_name(run_maker: RunMaker) -> None:
    """If it fails, a typing mistake in a notebook gives None, or an error without a suggestion."""
    found = metrics(run_maker(48))
    with pytest.raises(UsageError, match="there is no metric 'sharp_daily'. Did you mean 'sharpe_daily'"):
        found["sharp_daily"]
    with pytest.raises(AttributeError, match="Did you mean 'sharpe_daily'"):
        _ = found.sharp_daily  # type: ignore[attr-defined]
    assert found.get("sharp_daily") is None
    assert "sharp_daily" not in found
    assert "sharpe_daily" in found


def test_the_table_of_a_run(run_maker: RunMaker) -> None:
    """If it fails, the table in a notebook lacks a metric, or an undefined one is a number."""
    found = metrics(run_maker(48))
    table = found.to_frame()
    assert list(table.index) == list(found) == list(found.to_json())
    assert table["value"].dtype == np.float64
    assert table["value"].isna().sum() == sum(value is None for value in found.to_json().values()) > 0
    assert table.loc["cagr", "text"] == "–"
    assert dict(table["better"])["max_drawdown_days"] == "lower"
    assert len(repr(found).splitlines()) <= 12
