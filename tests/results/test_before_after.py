"""A run before and after the newest text of its base: the two parts, the differences' intervals, and why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flagbt.data.labels import LabelSpec
from flagbt.engine.simulation import Simulation
from flagbt.results.before_after import BeforeAfter, before_after
from flagbt.results.cost_sensitivity import bars_of_run
from flagbt.results.metrics import daily_sharpe
from flagbt.results.run_view import daily_returns
from flagbt.results.significance.bootstrap import change_interval, mean_and_influence, sharpe_and_influence

RunMaker = Callable[..., Simulation]
DAYS = 120


@pytest.fixture
def split(run_maker: RunMaker) -> Callable[[int], BeforeAfter | None]:
    """Return a function from a day of a run of 120 days, from 1, to its parts: the base has read text up to that day."""
    return lambda day: before_after(run_until(run_maker(24 * DAYS), day))


def run_until(run: Simulation, day: int) -> Simulation:
    """Return the run as one of a checkpoint whose base has read text up to one of the run's days, counted from 1."""
    assert run.checkpoint is not None
    until = str((run.equity.index[0] + pd.Timedelta(days=day - 1)).date())
    return replace(run, checkpoint=replace(run.checkpoint, text_until=until))


def test_the_parts_are_the_run_on_either_side_of_the_date(run_maker: RunMaker) -> None:
    """If it fails, a bar, a day or a label counts on the wrong side of the date, or a part has another formula than a run."""
    run = run_until(run_maker(24 * DAYS), 50)
    found = before_after(run)
    assert found is not None
    assert (found.before.days, found.after.days, found.before.bars, found.after.bars) == (50, 70, 1200, 1680)
    returns = daily_returns(run).to_numpy()
    assert (found.before.sharpe_daily, found.after.sharpe_daily) == (daily_sharpe(returns[:50]), daily_sharpe(returns[50:]))
    equity = run.equity["equity"].to_numpy()
    assert found.before.total_return == pytest.approx(equity[1199] / run.cash - 1)
    assert found.after.total_return == pytest.approx(equity[-1] / equity[1199] - 1)

    label = LabelSpec().labels(bars_of_run(run))
    chances = run.signals[["p_sell", "p_hold", "p_buy"]].to_numpy()
    loss = pd.Series(
        [
            -math.log(row[each]) if each >= 0 and np.isfinite(row).all() else math.nan
            for row, each in zip(chances, label, strict=True)
        ]
    )
    assert found.before.nll == pytest.approx(loss[:1200].mean())
    assert found.after.nll == pytest.approx(loss[1200:].mean())
    assert (found.before.labelled_bars, found.after.labelled_bars) == (loss[:1200].count(), loss[1200:].count())

    assert found.sharpe.value == pytest.approx(found.after.sharpe_daily - found.before.sharpe_daily)
    assert found.nll.value == pytest.approx(found.after.nll - found.before.nll)
    for each in (found.sharpe, found.nll):
        assert each.low < each.value < each.high
        assert f"{each.low:.2f}"[:4] in each.sentence
    assert BeforeAfter.from_json(found.to_json()) == found


@pytest.mark.parametrize("until", [None, "unknown", "2019-12-31", "2030-01-01"])
def test_a_run_on_one_side_of_the_date_has_no_parts(run_maker: RunMaker, until: str | None) -> None:
    """If it fails, a run is split although all its bars are before or after the date, or no date is known."""
    run = run_maker(24 * 40)
    assert run.checkpoint is not None
    assert before_after(replace(run, checkpoint=replace(run.checkpoint, text_until=until))) is None
    assert before_after(replace(run, checkpoint=None)) is None


@pytest.mark.parametrize(
    ("day", "reason"),
    [(29, "29 days up to 2024-01-29 are too few; a test needs 30"), (91, "29 days after 2024-03-31 are too few")],
)
def test_a_short_part_gets_its_reason(split: Callable[[int], Any], day: int, reason: str) -> None:
    """If it fails, a difference of two parts is tested on a handful of days, or its absence is not explained."""
    found = split(day)
    for each in (found.sharpe, found.nll):
        assert each.value is None
        assert reason in each.sentence
    assert found.before.sharpe_daily is not None  # it is shown all the same


def test_a_part_without_trades_and_a_lost_account_get_their_reasons(run_maker: RunMaker) -> None:
    """If it fails, a part that never traded counts as one with a Sharpe ratio of 0, or a ruined account has a difference."""
    run = run_until(run_maker(24 * DAYS), 50)
    flat = run.equity.assign(equity=np.where(np.arange(len(run.equity)) < 1200, run.cash, run.equity["equity"]))
    found = before_after(replace(run, equity=flat))
    assert found.sharpe.value is None
    assert "the daily returns do not vary up to" in found.sharpe.sentence
    assert found.nll.value is not None  # its probabilities were there
    ruined = run.equity.assign(equity=np.where(np.arange(len(run.equity)) < 2000, run.equity["equity"], -1.0))
    lost = before_after(replace(run, equity=ruined))
    assert "the equity fell to 0 or below" in lost.sharpe.sentence
    assert (lost.after.total_return, lost.after.sharpe_daily) == (None, None)
    silent = run.signals.drop(columns=[name for name in run.signals if name.startswith(("p_", "logit_"))])
    assert before_after(replace(run, signals=silent)).nll is None


def test_the_interval_of_a_change_is_that_of_the_closed_form() -> None:
    """If it fails, the errors of two independent periods are combined wrongly, or a seed changes more than the draws."""
    random = np.random.default_rng(3)
    before, after = random.normal(0.05, 1, 2_000), random.normal(0.10, 2, 900)
    found = change_interval(before, after, sharpe_and_influence, level=0.9, seed=1)
    sharpes = [each.mean() / each.std(ddof=1) for each in (before, after)]
    error = math.sqrt(sum((1 + s**2 / 2) / len(each) for s, each in zip(sharpes, (before, after), strict=True)))
    assert found.value == pytest.approx(sharpes[1] - sharpes[0])
    assert found.high - found.low == pytest.approx(2 * 1.645 * error, rel=0.1)
    assert change_interval(before, after, sharpe_and_influence, level=0.9, seed=1) == found

    sums = [np.column_stack([random.normal(0.8 * n, 3, len(n)), n]) for n in (random.integers(1, 25, 500), np.full(700, 24))]
    mean = change_interval(*sums, mean_and_influence, level=0.9)
    plain = [each[:, 0].sum() / each[:, 1].sum() for each in sums]
    assert mean.value == pytest.approx(plain[1] - plain[0])
    spread = math.sqrt(sum(9 / len(each) / each[:, 1].mean() ** 2 for each in sums))
    assert mean.high - mean.low == pytest.approx(2 * 1.645 * spread, rel=0.1)


@pytest.mark.slow
def test_the_interval_of_a_change_covers_as_stated() -> None:
    """If it fails, autocorrelated returns make the 90 % interval of a change cover much less than 90 %."""
    covered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        parts = []
        for n in (250, 150):
            noise = random.normal(0, 1, n + 50)
            returns = np.zeros(n + 50)
            for t in range(1, n + 50):
                returns[t] = 0.3 * returns[t - 1] + noise[t]
            parts.append(returns[50:])
        found = change_interval(parts[0], parts[1], sharpe_and_influence, level=0.9, resamples=300, seed=seed)
        covered += found.low <= 0 <= found.high
    assert 0.82 <= covered / 200 <= 0.97
