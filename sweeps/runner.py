"""The course of a sweep: replay every setting, pick the winner, have Backtrader check it, and test it on bars it never saw."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import FloatArray, PhaseProgress
from ..data.bars import utc
from ..engine.backtest import run_backtest
from ..engine.run import Run
from ..results.metrics import DAYS_PER_YEAR, daily_returns, metrics, ruined_at
from ..results.significance.backtest_overfitting import Overfitting, probability_of_overfitting
from ..results.significance.measure import FEWEST_DAYS
from ..results.significance.sharpe_ratio import Moments, deflated_sharpe, expected_best
from ..results.trial_log import Trial, add_trials, read_trials
from ..strategies.baselines import BuyAndHold
from .folder import TABLE, SweepFolder
from .grid import random_share
from .process_backend import in_this_process, over_processes
from .result_table import PARTS, batches, read_part, write_table
from .summary import MOST_SAMPLED, Summary, TableLayout
from .worker import CHECK, ROWS, Stretch, SweepWork, Unit

Backend = Callable[..., Iterator[tuple[Unit, bytes]]]
WINNERS_CHECKED = 3
_LOGGED_AT_ONCE = 2_000


@dataclass(frozen=True, eq=False)
class SweepOutcome:
    """What a sweep found.

    Attributes
    ----------
    summary : Summary
    checks : list of dict
        What each run in Backtrader compared.
    overfitting : Overfitting or None
    winner : dict or None
        The best setting's ``setting`` (number), ``rows``, ``deflated``, ``buy_and_hold`` (metrics by range), ``holdout``
        (metrics of both) and ``curves`` (range, daily returns of both); None where no setting has a Sharpe ratio.
    seconds : dict
        Of each phase.
    """

    summary: Summary
    checks: list[dict[str, Any]]
    overfitting: Overfitting | None
    winner: dict[str, Any] | None
    seconds: dict[str, float] = field(default_factory=dict)


def run_course(
    work: SweepWork,
    holdout: Stretch,
    folder: SweepFolder,
    *,
    backend: str,
    workers: int,
    check_share: float,
    seed: int,
    runs: Path,
    progress: PhaseProgress,
) -> SweepOutcome:
    """Do what is not yet done of a sweep, in its folder.

    Raises
    ------
    StrategyError
        Where Backtrader gives another order, fill, equity or metric than the replay: then there is no result.
    """
    run_units, seconds = _backend(backend, workers), _Clock()

    # 1. Every setting, block by block; each is kept at once.
    blocks = [Unit(ROWS, number) for number in range(work.n_blocks)]
    _do(work, blocks, folder, run_units, workers, lambda done: progress("sweep", done, len(work.grid)))
    seconds.note("replay")

    # 2. The table, and what it says as a whole.
    table = folder.path / TABLE
    write_table((folder.piece(unit) for unit in blocks), table)
    chosen = frozenset(random_share(len(work.grid), min(1.0, MOST_SAMPLED / len(work.grid)), seed + 1).tolist())
    summary = Summary(work.grid, TableLayout.of(work.grid), chosen)
    for batch in batches(table):
        summary.take(batch)
    seconds.note("table")

    # 3. The probability that the best of them is only the luckiest.
    overfitting = None
    if work.parts:
        overfitting = probability_of_overfitting(lambda: _part_sums(folder, blocks), _days(work.stretches), work.parts)
    seconds.note("overfitting")

    # 4. Backtrader's word on the best and on a random share.
    best = [rows[0]["setting"] for rows in summary.best[:WINNERS_CHECKED]]
    at_random = random_share(len(work.grid), check_share, seed).tolist()
    checked = [Unit(CHECK, number) for number in dict.fromkeys([*best, *at_random])]
    _do(work, checked, folder, run_units, workers, lambda done: progress("check", done, len(checked)))
    checks = [json.loads(folder.piece(unit).read_text(encoding="utf-8")) for unit in checked]
    seconds.note("check")

    # 5. Every setting is a trial. The winner, deflated by all of them, and on bars that the sweep never saw.
    prior = _log_trials(work, folder, runs)
    winner = _winner(work, holdout, summary, prior) if summary.best else None
    seconds.note("winner")
    return SweepOutcome(summary, checks, overfitting, winner, seconds.noted)


def _backend(name: str, workers: int) -> Backend:
    if name == "ray":
        from .ray_backend import over_ray

        return over_ray
    return over_processes if workers > 1 else in_this_process


def _do(
    work: SweepWork, units: list[Unit], folder: SweepFolder, run_units: Backend, workers: int, tell: Callable[[int], None]
) -> None:
    """Do those units whose piece is not there yet; tell how many settings are done."""

    def size(unit: Unit) -> int:
        return len(work.block(unit.number)) if unit.kind == ROWS else 1

    missing = [unit for unit in units if not folder.piece(unit).is_file()]
    done = sum(map(size, units)) - sum(map(size, missing))
    tell(done)
    if not missing:
        return
    for unit, content in run_units(work, missing, workers=workers):
        folder.keep(unit, content)
        done += size(unit)
        tell(done)


def _part_sums(folder: SweepFolder, blocks: list[Unit]) -> Iterator[FloatArray]:
    for unit in blocks:
        column = read_part(folder.piece(unit), [PARTS]).column(PARTS).drop_null()
        yield np.stack(column.to_numpy())


def _days(stretches: Iterable[Stretch]) -> int:
    return sum(stretch.n_days for stretch in stretches)


@dataclass(frozen=True)
class _Prior:
    """Other trials on the same bars: how many, how many of them with a Sharpe ratio, and these ratios' sum and squares."""

    trials: int = 0
    known: int = 0
    total: float = 0.0
    squares: float = 0.0


def _log_trials(work: SweepWork, folder: SweepFolder, runs: Path) -> _Prior:
    """Add every setting to the trial log of the runs folder; return what others had tried on these bars before."""
    bars = {str(stretch.timerange): stretch.bars.digest for stretch in work.stretches}
    others = {
        configuration: sharpe for (tried, configuration), sharpe in read_trials(runs).trials.items() if tried in bars.values()
    }
    trials: list[Trial] = []
    for number in range(work.n_blocks):
        digests = dict(zip(work.block(number), work.grid.digests(work.block(number)), strict=True))
        table = read_part(folder.piece(Unit(ROWS, number)), ["setting", "timerange", "sharpe_daily"]).to_pylist()
        trials += [Trial(bars[row["timerange"]], digests[row["setting"]], row["sharpe_daily"]) for row in table]
        if len(trials) >= _LOGGED_AT_ONCE or number == work.n_blocks - 1:
            add_trials(runs, trials)
            trials = []
        for digest in digests.values():
            others.pop(digest, None)
    known = [sharpe for sharpe in others.values() if sharpe is not None]
    return _Prior(len(others), len(known), sum(known), sum(sharpe**2 for sharpe in known))


def _winner(work: SweepWork, holdout: Stretch, summary: Summary, prior: _Prior) -> dict[str, Any]:
    number = summary.best[0][0]["setting"]
    pairs = {
        stretch: (work.judged(number, stretch), winner_backtest(work, number, stretch))
        for stretch in (*work.stretches, holdout)
    }
    after, kept = pairs[holdout]
    lost = ruined_at(after)
    returns = np.concatenate([daily_returns(pairs[stretch][0]).to_numpy() for stretch in work.stretches])
    return {
        "setting": number,
        "rows": summary.best[0],
        "deflated": deflated(returns, summary, prior),
        "buy_and_hold": [metrics(pairs[stretch][1]) for stretch in work.stretches],
        "holdout": {
            "timerange": str(holdout.timerange),
            "strategy": metrics(after),
            "buy_and_hold": metrics(kept),
            "ruined": None if lost is None else utc(lost.to_datetime64()),
        },
        "curves": [
            (str(stretch.timerange), daily_returns(run), daily_returns(other)) for stretch, (run, other) in pairs.items()
        ],
    }


def winner_backtest(work: SweepWork, number: int, stretch: Stretch) -> Run:
    """Return buy and hold over a stretch, at a setting's costs."""
    setting = work.grid[number]
    return run_backtest(stretch.bars, BuyAndHold(), costs=setting.costs, cash=setting.cash)


def deflated(returns: FloatArray, summary: Summary, prior: _Prior) -> dict[str, Any]:
    """Return the winner's Sharpe ratio deflated by all trials: the sweep's settings and what was tried on these bars before.

    ``value`` is None where it is undefined, and ``reason`` says why.
    """
    trials, known = summary.settings + prior.trials, summary.traded + prior.known
    total, squares = summary.sums[0] + prior.total, summary.sums[1] + prior.squares
    variance = max(0.0, (squares - total**2 / known) / (known - 1)) if known > 1 else None
    found = {"trials": trials, "of_this_sweep": summary.settings, "variance": variance, "days": len(returns)}
    if len(returns) < FEWEST_DAYS:
        return {**found, "value": None, "luck": None, "reason": f"{len(returns)} days are too few, it takes {FEWEST_DAYS}"}
    if trials > 1 and variance is None:
        return {**found, "value": None, "luck": None, "reason": "no other setting has a Sharpe ratio"}
    daily = (variance or 0.0) / DAYS_PER_YEAR
    value = deflated_sharpe(Moments.of(returns), trials, daily)
    luck = expected_best(trials, daily) * float(np.sqrt(DAYS_PER_YEAR))
    return {**found, "value": value, "luck": luck, "reason": None if value is not None else "the returns take two values only"}


class _Clock:
    def __init__(self) -> None:
        self.noted: dict[str, float] = {}
        self._last = time.perf_counter()

    def note(self, phase: str) -> None:
        now = time.perf_counter()
        self.noted[phase] = now - self._last
        self._last = now
