"""Significance of a Sharpe ratio: the papers' examples, independent implementations, and undefined cases."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from arch.bootstrap import StationaryBootstrap

from flagbt.data.bars import Bars
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import run_backtest
from flagbt.engine.replay import replay
from flagbt.engine.simulation import Simulation
from flagbt.models.signals import Signals
from flagbt.results.cost_sensitivity import replay_bars
from flagbt.results.metrics import metrics
from flagbt.results.significance.answer import LuckVerdict
from flagbt.results.significance.bootstrap import sharpe_interval
from flagbt.results.significance.measure import significance
from flagbt.results.significance.random_entries import Holdings, random_entries
from flagbt.results.significance.sharpe_ratio import (
    Moments,
    deflated_sharpe,
    expected_best,
    minimum_track_record,
    probabilistic_sharpe,
)
from flagbt.results.trial_log import TrialCount
from flagbt.strategies.base import Strategy
from flagbt.strategies.baselines import AlwaysHold, BuyAndHold, RandomSignals, SmaCross

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = (
    "probabilistic_sharpe",
    "minimum_track_record",
    "deflated_sharpe",
    "sharpe_interval",
    "difference_interval",
    "random_entries",
)
ALONE = TrialCount(1, (1.0,))
HEDGE_FUND = Moments(24, 0.458, -2.448, 10.164)  # 24 months


class Given(Strategy):
    """Follow given signals."""

    name = "given"

    def __init__(self, signal: np.ndarray, *, short: bool = False) -> None:
        super().__init__(short=short)
        self._signal = signal

    def prepare(self, bars: Bars) -> Signals:
        """Return the given signals."""
        return Signals.plain(self._signal)


def made(bars: Bars, strategy: Strategy) -> Simulation:
    """Backtest over all of the bars."""
    return run_backtest(bars, strategy, timerange=TimeRange(bars.time[0], None), short=strategy.short)


def test_probabilistic_sharpe_of_the_papers_hedge_fund() -> None:
    """Bailey and Lopez de Prado (2012), section 5: if it fails, skewness and fat tails have other weights than published."""
    assert probabilistic_sharpe(Moments(24, 0.458)) == pytest.approx(0.982, abs=5e-4)
    assert probabilistic_sharpe(HEDGE_FUND) == pytest.approx(0.913, abs=5e-4)
    assert probabilistic_sharpe(HEDGE_FUND._replace(n_returns=36)) == pytest.approx(0.953, abs=6e-4)


@pytest.mark.parametrize(("per_year", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_track_record_of_the_papers_example(per_year: int, years: float) -> None:
    """Bailey and Lopez de Prado (2012), section 6: if it fails, a ratio of 2 a year is above 1 at 95 % after another time."""
    found = minimum_track_record(Moments(2, 2 / math.sqrt(per_year)), 1 / math.sqrt(per_year))
    assert found is not None
    assert found / per_year == pytest.approx(years, abs=5e-3)


def test_track_record_of_the_papers_hedge_funds() -> None:
    """The same paper: if it fails, monthly returns with skewness -0.72 and kurtosis 5.78 do not take 4.99 years."""
    found = minimum_track_record(Moments(2, 2 / math.sqrt(12), -0.72, 5.78), 1 / math.sqrt(12))
    assert found is not None
    assert found / 12 == pytest.approx(4.99, abs=5e-3)


def test_deflated_sharpe_of_the_papers_example() -> None:
    """Bailey and Lopez de Prado (2014), "A numerical example": if it fails, the deflation differs from the paper's."""
    variance, example = 0.5 / 250, Moments(1250, 2.5 / math.sqrt(250), -3, 10)
    assert expected_best(100, variance) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(example, 100, variance) == pytest.approx(0.9004, abs=5e-5)
    assert deflated_sharpe(example, 46, variance) == pytest.approx(0.9505, abs=5e-5)
    assert deflated_sharpe(Moments(1250, example.sharpe), 88, variance) == pytest.approx(0.9505, abs=5e-5)


def test_expected_best_agrees_with_simulation() -> None:
    """If it fails, the threshold for luck differs from the best of so many trials without skill."""
    random = np.random.default_rng(0)
    for trials in (10, 100, 1000):
        simulated = random.normal(0, 0.3, (4_000, trials)).max(axis=1).mean()
        assert expected_best(trials, 0.09) == pytest.approx(simulated, rel=0.03)


def test_moments_and_probabilities_agree_with_scipy() -> None:
    """If it fails, skewness is not scipy's, or kurtosis is the excess one, and every probability is off."""
    random = np.random.default_rng(1)
    for returns in (random.normal(0.001, 0.02, 400), random.gamma(0.5, 0.02, 365) - 0.008, random.standard_t(4, 60) / 50):
        moments = Moments.of(returns)
        sharpe = returns.mean() / returns.std(ddof=1)
        skewness, kurtosis = scipy.stats.skew(returns), scipy.stats.kurtosis(returns, fisher=False)
        assert moments == pytest.approx((len(returns), sharpe, skewness, kurtosis))
        error = np.sqrt((1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2) / (len(returns) - 1))
        assert probabilistic_sharpe(moments, 0.01) == pytest.approx(scipy.stats.norm.cdf((sharpe - 0.01) / error))


def test_track_record_is_where_the_probability_reaches_95_percent() -> None:
    """If it fails, the two adjacent numbers contradict each other."""
    for sharpe in (0.01, 0.1, 0.5):
        moments = Moments(100, sharpe, -1.0, 8.0)
        needed = minimum_track_record(moments)
        assert needed is not None
        at = moments._replace(n_returns=needed)  # type: ignore[arg-type]
        assert probabilistic_sharpe(at) == pytest.approx(0.95)
    assert minimum_track_record(Moments(100, -0.1)) is None


def plain_sharpe(returns: np.ndarray) -> float:
    """Return a Sharpe ratio, implemented independently."""
    return float(np.mean(returns) / np.std(returns, ddof=1))


def newey_west(series: list[np.ndarray], lags: int) -> float:
    """Return the HAC error of a Sharpe ratio, or of a difference, by the delta method on means and mean squares."""
    moments = np.column_stack([each**power for each in series for power in (1, 2)])
    centred = moments - moments.mean(axis=0)
    n = len(moments)
    covariance = centred.T @ centred / n
    for lag in range(1, lags + 1):
        gamma = centred[lag:].T @ centred[:-lag] / n
        covariance += (1 - lag / (lags + 1)) * (gamma + gamma.T)
    slope = []
    for sign, (mean, square) in zip((1, -1), moments.mean(axis=0).reshape(-1, 2), strict=False):
        variance = square - mean**2
        slope += [sign * square / variance**1.5, -sign * mean / (2 * variance**1.5)]
    return float(np.sqrt(slope @ covariance @ slope / n))


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_interval_has_archs_studentised_quantiles(seed: int, paired: bool) -> None:
    """If it fails, the interval differs from arch's implementation of the published method with an independent error.

    Arch studentises, and then multiplies by the spread of the resamples instead of the error: the test reverses that.
    """
    random = np.random.default_rng(seed)
    noise = random.standard_t(5, 366)
    series = [0.001 + 0.02 * (noise[1:] + 0.3 * noise[:-1])]
    if paired:
        series.append(0.5 * series[0] + random.normal(0, 0.02, 365))
    found = sharpe_interval(*series, resamples=300, seed=seed)
    assert found is not None
    lags = max(1, round(found.block))

    def estimate(*drawn: np.ndarray) -> float:
        return plain_sharpe(drawn[0]) - (plain_sharpe(drawn[1]) if paired else 0)

    theirs = StationaryBootstrap(found.block, *series, seed=seed).conf_int(
        estimate, 300, method="studentized", size=0.9, std_err_func=lambda _value, *drawn: newey_west(list(drawn), lags)
    )
    spread = math.sqrt(float(StationaryBootstrap(found.block, *series, seed=seed).cov(estimate, 300)[0, 0]))
    value, error = estimate(*series), newey_west(series, lags)
    expected = value + (theirs.ravel() - value) / spread * error
    assert list(found[:3]) == pytest.approx([value, *expected], rel=1e-4)


def test_difference_draws_both_series_together() -> None:
    """If it fails, a strategy that moves with its market gets an interval as wide as an unrelated one."""
    random = np.random.default_rng(2)
    market = random.normal(0.001, 0.02, 500)
    own = market + random.normal(0, 0.002, 500)
    paired = sharpe_interval(own, market)
    unrelated = sharpe_interval(own, random.permutation(market))
    assert paired is not None
    assert unrelated is not None
    assert paired.value == pytest.approx(plain_sharpe(own) - plain_sharpe(market))
    assert paired.low <= paired.value <= paired.high
    assert paired.high - paired.low < 0.3 * (unrelated.high - unrelated.low)


def test_autocorrelation_widens_the_interval() -> None:
    """If it fails, dependent days count as independent."""
    random = np.random.default_rng(3)
    noise = random.normal(0, 0.02, 1_000)
    trending = pd.Series(noise).ewm(alpha=0.5).mean().to_numpy()
    loose, tight = sharpe_interval(trending), sharpe_interval(random.permutation(trending))
    assert loose is not None
    assert tight is not None
    assert loose.high - loose.low > 1.3 * (tight.high - tight.low)
    assert loose.block > 2 * tight.block


def coverage_of(kind: str, days: int, series: int, **more: Any) -> float:
    """Run the committed benchmark."""
    spec = importlib.util.spec_from_file_location("intervals", ROOT / "benchmarks" / "intervals.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return float(module.covered(kind, days, series, **more))


def test_interval_holds_the_truth_about_as_often_as_its_level() -> None:
    """If it fails, the interval is grossly too narrow or too wide; the slow test below measures it."""
    assert 0.8 <= coverage_of("AR(1) 0.2", 200, 100, paired=False, resamples=200) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("kind", ["iid normal", "AR(1) 0.2"])
def test_coverage(kind: str, paired: bool) -> None:
    """If it fails, "90 % confidence" is wrong: over 1,000 series of 1,460 days it must be 87 to 93 %."""
    assert 0.87 <= coverage_of(kind, 1_460, 1_000, paired=paired, resamples=400) <= 0.93


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("kind", ["sma", "random", "exposures"])
def test_unmoved_trades_replay_to_the_runs_own_equity(walk: Callable[..., Bars], kind: str, short: bool) -> None:
    """If it fails, random entries are not the run's own trades: their lengths, sizes or costs differ."""
    bars = walk(900, 3)
    strategy = SmaCross(fast_bars=5, slow_bars=20, short=short) if kind == "sma" else RandomSignals(seed=2, short=short)
    if kind == "exposures":
        strategy.decide = lambda t, _position: (
            None if t % 40 else ((t // 40) % 3 - 1) * 0.5 * (1 if short else t // 40 % 3 // 2)
        )
    run = made(bars, strategy)
    holdings, entry = Holdings.of(run)
    assert len(holdings.side) == len(run.trades) > 5
    targets = holdings.targets(entry, len(bars))
    replayed = replay(replay_bars(run), targets, costs=run.config.costs, cash=run.cash, short=short)
    assert replayed.equity == pytest.approx(run.equity["equity"].to_numpy())


@pytest.mark.parametrize("short", [False, True])
def test_moved_trades_keep_number_lengths_and_sides(walk: Callable[..., Bars], short: bool) -> None:
    """If it fails, random entries hold longer or trade more often than the run, and the comparison is meaningless."""
    run = made(walk(700, 4), RandomSignals(seed=5, short=short))
    holdings, entry = Holdings.of(run)
    random = np.random.default_rng(0)
    starts = []
    for _ in range(200):
        moved, at = holdings.shuffled(random, 700)
        assert Counter(zip(moved.side, moved.bars_held, strict=True)) == Counter(
            zip(holdings.side, holdings.bars_held, strict=True)
        )
        leaving = at + moved.bars_held
        assert at[0] >= 1
        assert leaving[-1] <= 700
        gaps = at[1:] - leaving[:-1]
        assert (gaps >= (moved.side[1:] == moved.side[:-1])).all()
        starts.append(at)
    assert len({tuple(each) for each in starts}) > 150 or holdings.free_bars(700) == 0
    # Every place between the first and the last is equally likely: the middle trade is in the middle, on average.
    if not short:
        assert np.mean([at.mean() for at in starts]) == pytest.approx(350, abs=25)
    assert len(entry) == len(run.trades)


def test_one_trade_is_moved_over_the_whole_range() -> None:
    """If it fails, some entries are never tried: all free places must be equally likely."""
    holdings = Holdings(np.array([1]), np.array([3]), np.array([1.0]))
    random = np.random.default_rng(0)
    places = Counter(int(holdings.shuffled(random, 10)[1][0]) for _ in range(7_000))
    assert sorted(places) == [1, 2, 3, 4, 5, 6, 7]
    assert scipy.stats.chisquare(list(places.values())).pvalue > 0.001


def test_p_values_of_luck_are_uniform_and_foresight_is_seen(walk: Callable[..., Bars]) -> None:
    """If it fails, a strategy without skill is reported as better than chance too often, or real foresight is missed."""
    found = []
    for seed in range(60):
        bars = walk(24 * 15, seed)
        signal = np.full(len(bars), 1)
        changes = np.sort(np.random.default_rng([7, seed]).choice(np.arange(1, 350), 12, replace=False))
        signal[changes[::2]], signal[changes[1::2]] = 2, 0
        run = made(bars, Given(signal))
        null = random_entries(run, draws=99, seed=seed)
        assert not isinstance(null, str)
        found.append(null.p_value(metrics(run)["sharpe_daily"]))
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01

    bars = walk(24 * 15, 99)
    ahead = np.sign(np.diff(bars.close[::12], append=bars.close[-1]))
    run = made(bars, Given(np.repeat(np.where(ahead > 0, 2, 0), 12)[: len(bars)]))
    null = random_entries(run, draws=199)
    assert not isinstance(null, str)
    assert null.p_value(metrics(run)["sharpe_daily"]) == pytest.approx(1 / 200)


def with_equity(run: Simulation, equity: np.ndarray) -> Simulation:
    """Return a run with another equity curve."""
    return replace(run, equity=run.equity.assign(equity=equity))


def degenerate(kind: str, run_maker: Callable[..., Simulation]) -> tuple[Simulation, str]:
    """Return a run whose significance is undefined, and the reason."""
    whole = run_maker(24 * 60, kind="buy-and-hold")
    n = len(whole.equity)
    if kind == "no trade":
        return run_maker(24 * 60, kind="hold"), "no trade was made"
    if kind == "one bar":
        return run_maker(1, kind="buy-and-hold"), "no trade was made"
    if kind == "one day":
        return run_maker(20, kind="buy-and-hold"), "the range is a single day"
    if kind == "few days":
        return run_maker(24 * 5, kind="buy-and-hold"), "5 days are too few; a test needs 30"
    if kind == "constant":
        return with_equity(whole, np.full(n, whole.cash)), "the daily returns do not vary"
    if kind == "constant loss":
        daily = whole.cash * 0.99 ** (1 + np.arange(n) // 24)
        return with_equity(whole, daily), "the daily returns do not vary"
    return with_equity(whole, np.linspace(whole.cash, -5.0, n)), "the equity fell to 0 or below"


@pytest.mark.parametrize("kind", ["no trade", "one bar", "one day", "few days", "constant", "constant loss", "ruin"])
def test_undefined_answers_have_a_reason(kind: str, run_maker: Callable[..., Simulation]) -> None:
    """If it fails, a run with undefined significance breaks its page, or shows a meaningless number."""
    run, reason = degenerate(kind, run_maker)
    benchmark = run_maker(len(run.equity), kind="buy-and-hold")
    found = significance(run, benchmark, ALONE)
    json.dumps(found.to_json(), allow_nan=False)
    for name in ANSWERS[:-1]:
        assert (getattr(found, name).value, getattr(found, name).reason) == (None, reason)
        assert reason in getattr(found, name).sentence
    assert found.verdict == LuckVerdict(None, f"It is not known whether this is luck: {reason}.")


def test_all_losses_are_a_number(walk: Callable[..., Bars], run_maker: Callable[..., Simulation]) -> None:
    """If it fails, a run that loses every day has no verdict, although it is clear."""
    run = run_maker(24 * 90, kind="buy-and-hold")
    falling = run.cash * np.exp(-np.cumsum(np.random.default_rng(0).uniform(0.0001, 0.0004, len(run.equity))))
    found = significance(with_equity(run, falling), run, ALONE)
    assert found.probabilistic_sharpe.value == pytest.approx(0, abs=1e-6)
    assert "less than 0.1 %" in found.probabilistic_sharpe.sentence
    assert found.minimum_track_record.reason.startswith("the Sharpe ratio is not above 0")
    assert found.sharpe_interval.high < 0
    assert found.verdict.beyond_luck is False


def test_a_rising_market_is_not_the_strategys_doing(walk: Callable[..., Bars]) -> None:
    """If it fails, holding while prices rise is reported as skill."""
    flat = walk(24 * 200, 8)
    rise = np.exp(0.0012 * np.arange(len(flat)))
    prices = {name: getattr(flat, name) * rise for name in ("open", "high", "low", "close")}
    bars = Bars(flat.time, **prices, volume=flat.volume)
    held = made(bars, BuyAndHold())
    found = significance(held, held, ALONE)
    assert found.deflated_sharpe.value > 0.95
    assert found.sharpe_interval.low > 0
    assert found.verdict.beyond_luck is False
    assert "it comes from the market, not from the timing" in found.verdict.sentence


def test_more_trials_deflate_more(walk: Callable[..., Bars]) -> None:
    """If it fails, trying more configurations until one works has no cost."""
    bars = walk(24 * 60, 6)
    run, benchmark = made(bars, SmaCross(fast_bars=12, slow_bars=48)), made(bars, BuyAndHold())
    alone = significance(run, benchmark, ALONE)
    few = significance(run, benchmark, TrialCount(3, (-1.0, 0.5, 1.0)))
    many = significance(run, benchmark, TrialCount(50, (-1.0, 0.5, 1.0)))
    assert alone.deflated_sharpe.value == alone.probabilistic_sharpe.value
    assert alone.deflated_sharpe.value > few.deflated_sharpe.value > many.deflated_sharpe.value
    assert "50 configurations" in many.deflated_sharpe.sentence
    idle = significance(run, benchmark, TrialCount(2, (1.0,), damaged_lines=3)).deflated_sharpe
    assert idle.value == alone.probabilistic_sharpe.value
    assert "Of 2 configurations tried on these bars only this one has a Sharpe ratio" in idle.sentence
    assert "3 damaged lines were not counted" in idle.sentence


def test_same_seed_same_numbers(walk: Callable[..., Bars]) -> None:
    """If it fails, a page changes from one rendering to the next."""
    bars = walk(24 * 60, 7)
    run, benchmark = made(bars, RandomSignals(seed=3)), made(bars, BuyAndHold())
    first, again, other = (significance(run, benchmark, ALONE, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.sharpe_interval.low != other.sharpe_interval.low
    assert first.random_entries.inputs["median"] != other.random_entries.inputs["median"]
    assert set(first.to_json()) == {*ANSWERS, "verdict"}
    for name in ANSWERS:
        assert getattr(first, name).formula
        assert getattr(first, name).paper
        assert getattr(first, name).sentence.endswith(".")


def test_no_trade_leaves_nothing_to_move(walk: Callable[..., Bars]) -> None:
    """If it fails, a run without trades is compared with random entries that do not exist."""
    assert random_entries(made(walk(100, 1), AlwaysHold())) == "no trade was made"


@pytest.mark.slow
def test_a_year_takes_less_than_three_seconds(walk: Callable[..., Bars]) -> None:
    """If it fails, every run of a year of hourly bars waits noticeably for its significance."""
    bars = walk(8_760, 8)
    run, benchmark = made(bars, RandomSignals(seed=3)), made(bars, BuyAndHold())
    significance(run, benchmark, ALONE)  # compiles, once a machine
    started = time.process_time()
    significance(run, benchmark, ALONE)
    assert time.process_time() - started < 3
