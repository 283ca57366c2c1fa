"""One year for every annualised metric: 365 days, and as many bars as the series' own calendar has in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flagbt import TimeRange, read_bars
from flagbt.data.bars import HOUR, Bars
from flagbt.data.resample import resample
from flagbt.engine.backtest import run_backtest
from flagbt.engine.simulation import Simulation
from flagbt.results.metrics import metrics
from flagbt.results.run_reader import read_run
from flagbt.results.run_record import RunRecord
from flagbt.strategies.baselines import BuyAndHold, SmaCross

Command = Callable[..., tuple[int, str, str]]
YEAR = pd.Timedelta(days=365)


def frame_of(index: pd.DatetimeIndex, seed: int = 3) -> pd.DataFrame:
    """Return a random walk of prices around 1.1 on these stamps."""
    close = 1.1 * np.exp(np.random.default_rng(seed).normal(0.00002, 0.001, len(index)).cumsum())
    open_ = np.concatenate([[1.1], close[:-1]])
    return pd.DataFrame(
        {"open": open_, "high": np.maximum(open_, close), "low": np.minimum(open_, close), "close": close, "volume": 1.0}, index
    )


def forex() -> pd.DataFrame:
    """Return 40 weeks of hours from Sunday 22:00 to Friday 22:00 UTC, as currencies are traded."""
    hours = pd.date_range("2017-04-16T22:00", periods=40 * 168, freq="h")
    since = (hours - hours[0]) / pd.Timedelta(hours=1) % 168
    return frame_of(hours[since < 120])


def shares() -> pd.DataFrame:
    """Return three years of working days, as shares are traded."""
    return frame_of(pd.bdate_range("2004-08-19", periods=3 * 261))


def sharpe(cash: float, equity: pd.Series[float], file: pd.DataFrame, step: str) -> float:
    """Return the Sharpe ratio of per-bar returns, with pandas, in the calendar of the whole file."""
    returns = pd.concat([pd.Series([cash]), equity.reset_index(drop=True)]).pct_change().iloc[1:]
    per_year = len(file) * (YEAR / (file.index[-1] - file.index[0] + pd.Timedelta(step)))
    return float(returns.mean() / returns.std() * np.sqrt(per_year))


@pytest.mark.parametrize(("make", "step", "bars"), [(forex, "1h", 6_302), (shares, "1D", 261)])
def test_the_year_is_the_files_own(
    make: Callable[[], pd.DataFrame], step: str, bars: int, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, hours or days when the market is closed count as bars, which inflates the ratio by a fifth."""
    monkeypatch.chdir(tmp_path)
    file = make()
    file.rename_axis("time").to_csv("bars.csv")
    middle = f"{file.index[len(file) // 3]:%Y%m%d}-{file.index[2 * len(file) // 3]:%Y%m%d}"
    for arguments in ((), ("--timerange", middle)):  # a part of the file keeps the whole file's year
        code, out, err = command("run", "--strategy", "buy-and-hold", "--data", "bars.csv", *arguments, "--json")
        assert code == 0, err
        values = json.loads(out)
        stored = read_run(Path(values["run"]))
        expected = sharpe(stored.cash, stored.equity["equity"], file, step)
        assert values["metrics"]["sharpe_per_bar"] == pytest.approx(expected, rel=1e-12)
        assert stored.benchmark_metrics["sharpe_per_bar"] == pytest.approx(expected, rel=1e-12)
        assert stored.info.data.bars_per_year == pytest.approx(bars, rel=0.005)
        page = (stored.folder / "tearsheet.html").read_text()
        assert f"365 days and {round(stored.data.bars_per_year):,} bars a year" in page
    for shown in ((), ("--json",)):
        assert "hourly" not in command("runs", "show", *shown)[1]


def test_a_market_that_never_closes_has_every_bar_of_the_year(walk: Callable[..., Bars]) -> None:
    """If it fails, a series without gaps has another year than 8,760 hours."""
    assert walk(1).bars_per_year == walk(5_000).bars_per_year == 8_760
    assert resample(walk(4_800), np.timedelta64(4 * 3_600, "s")).bars.bars_per_year == 2_190
    assert Bars.from_frame(shares()).bars_per_year == pytest.approx(260.9, abs=0.5)


def test_a_part_keeps_the_year_of_the_whole() -> None:
    """If it fails, a sweep's range or a walk's fold is annualised by its own few days."""
    bars = Bars.from_frame(forex())
    part = bars.take(slice(10, 130)).take(slice(0, 50))
    assert part.bars_per_year == bars.bars_per_year
    assert Bars(part.time, part.open, part.high, part.low, part.close, part.volume, step=HOUR).bars_per_year == 8_760
    run = run_backtest(bars.take(slice(0, 3_000)), SmaCross(fast_bars=5, slow_bars=20))
    assert metrics(run)["sharpe_per_bar"] == pytest.approx(sharpe(run.cash, run.equity["equity"], forex(), "1h"), rel=1e-12)


def test_hours_of_a_real_market_with_two_gaps(shared_data: Path) -> None:
    """If it fails, a real file's per-bar ratio differs from pandas'."""
    path = sorted(shared_data.glob("btc_usdt_1h_2020*.csv"))[0]
    bars = read_bars(path)
    run = run_backtest(bars, BuyAndHold(), timerange=TimeRange.parse("20230101-20230701"))
    found = sharpe(run.cash, run.equity["equity"], bars.frame(), "1h")
    assert metrics(run)["sharpe_per_bar"] == pytest.approx(found, rel=1e-12)


def test_thirty_hours_have_no_yearly_growth(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, 30 hours show a yearly growth of 645,440, in the terminal, on the page or in JSON."""
    monkeypatch.chdir(tmp_path)
    code, out, err = command("run", "--strategy", "buy-and-hold", "--timerange", "20240301-20240302", "--json")
    assert code == 0, err
    values = json.loads(out)
    stored = read_run(Path(values["run"]))
    assert values["metrics"]["cagr"] is values["benchmark"]["cagr"] is stored.metrics["calmar"] is None
    page = (stored.folder / "tearsheet.html").read_text()
    assert '<th scope="row">Annual growth (CAGR)</th><td>–</td><td>–</td>' in page.replace("\n", "")
    assert "Left out: 1 daily returns are too few" in page


def test_quantstats_has_no_yearly_growth_where_metrics_have_none(run_maker: Callable[..., Simulation]) -> None:
    """If it fails, 28 days and two hours, which touch 30 dates, have a CAGR in one section and none in the other."""
    from flagbt.reports.sections.quantstats import why_not
    from flagbt.results.run_view import daily_returns

    run = run_maker(24 * 28 + 2, start="2024-01-01T23:00")
    returns = daily_returns(run)
    assert len(returns) == 30
    assert metrics(run)["cagr"] is None
    assert why_not(returns, returns, metrics(run)["days"]) == "28.08 days are too few for yearly metrics; they need 30 days"


def test_a_record_of_the_second_format_is_read_under_the_current_names(
    run_maker: Callable[..., Simulation], keep_run: Callable[..., RunRecord], tmp_path: Path
) -> None:
    """If it fails, older runs cannot be compared with new ones, or keep inflated numbers."""
    run = run_maker(24 * 10)
    run = replace(run, data=replace(run.data, file_bars=750, missing_bars=250))
    new = keep_run(run, run, tmp_path)
    assert new.metrics["open_trades"] == 1
    path = new.folder / "metrics.json"
    old = json.loads(path.read_text())
    for side in ("strategy", "benchmark"):
        values = old[side]
        values |= {"sharpe_hourly": 2.0, "cagr": 645_440.0, "calmar": 1e6, "trades": values.pop("closed_trades")}
        del values["sharpe_per_bar"]
    path.write_text(json.dumps(old))
    manifest = json.loads((new.folder / "run.json").read_text())
    del manifest["data"]["bars_per_year"]
    (new.folder / "run.json").write_text(json.dumps(manifest | {"format_version": 2}))
    read = read_run(new.folder).metrics.to_json()
    # 750 of 1,000 bars exist, so a year holds three quarters of those of a market that never closes.
    assert read.pop("sharpe_per_bar") == pytest.approx(2.0 * np.sqrt(0.75))
    assert (read["cagr"], read["calmar"]) == (None, None)
    assert read == {name: value for name, value in new.metrics.to_json().items() if name != "sharpe_per_bar"}
    old["strategy"]["sharpe_hourly"] = None
    path.write_text(json.dumps(old))
    assert read_run(new.folder).metrics["sharpe_per_bar"] is None
    old["strategy"]["max_drawdown"] = -1.2
    path.write_text(json.dumps(old))
    read = read_run(new.folder)
    assert (read.metrics["cagr"], read.metrics["calmar"]) == (-1.0, None)
    assert read.info.sentence.startswith("Lost everything on the way, and still traded, as old versions allowed. Traded ")
