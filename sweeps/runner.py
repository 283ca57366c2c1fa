"""Run a sweep: replay every setting, pick the winner, check it in Backtrader, and test it on the hold-out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from ..arrays import FloatArray, PhaseProgress
from ..data.bars import utc
from ..engine.backtest import run_backtest
from ..engine.simulation import Simulation
from ..results.metrics import Metrics, metrics
from ..results.run_view import DAYS_PER_YEAR, daily_returns, ruined_at
from ..results.significance.backtest_overfitting import Overfitting, probability_of_overfitting
from ..results.significance.measure import FEWEST_DAYS
from ..results.significance.sharpe_ratio import Moments, deflated_sharpe, expected_best
from ..results.trial_log import Trial, add_trials, read_trials
from ..strategies.baselines import BuyAndHold
from .folder import TABLE, SweepFolder
from .grid import random_share
from .process_backend import in_this_process, over_processes
from .result_table import CONFIGURATION, PARTS, batches, read_part, write_table
from .segment import Segment
from .summary import MOST_SAMPLED, Summary, TableLayout
from .sweep_record import TableRow, WinnerDeflated
from .worker import CHECK, ROWS, SweepWorker, Unit

Backend = Callable[..., Iterator[tuple[Unit, bytes]]]
WINNERS_CHECKED = 3
_LOGGED_AT_ONCE = 2_000


class WinnerCurve(NamedTuple):
    """The daily returns of the winner and of buy and hold on a range."""

    timerange: str
    strategy: pd.Series[float]
    buy_and_hold: pd.Series[float]


@dataclass(frozen=True, eq=False, kw_only=True)
class WinnerRuns:
    """The best setting, run in Backtrader on every range beside buy and hold.

    Attributes
    ----------
    setting : int
    rows : list of TableRow
        Its rows, one a ranked range.
    deflated : WinnerDeflated
    buy_and_hold : list of Metrics
        On the ranked ranges.
    holdout, holdout_buy_and_hold : Metrics
    ruined : str or None
        The bar of the hold-out at which it lost everything, ISO UTC.
    curves : list of WinnerCurve
        The hold-out's is the last.
    """

    setting: int
    rows: list[TableRow]
    deflated: WinnerDeflated
    buy_and_hold: list[Metrics]
    holdout: Metrics
    holdout_buy_and_hold: Metrics
    ruined: str | None
    curves: list[WinnerCurve]


@dataclass(frozen=True, eq=False)
class SweepOutcome:
    """The results of a sweep.

    Attributes
    ----------
    summary : Summary
    checks : list of mapping
        What each check in Backtrader compared: ``setting``, ``bars``, ``orders`` and ``seconds``.
    overfitting : Overfitting or None
    winner : WinnerRuns or None
        None if no setting has a Sharpe ratio.
    seconds : dict
        By phase.
    """

    summary: Summary
    checks: list[Mapping[str, float]]
    overfitting: Overfitting | None
    winner: WinnerRuns | None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class SweepRunner:
    """Runs a sweep in its folder: every setting, the table, the checks in Backtrader, and the winner.

    Attributes
    ----------
    worker : SweepWorker
        Holds the grid and the segments that settings are ranked on.
    holdout : Segment
        Only the winner is run on it.
    folder : SweepFolder
    runs : Path
        The folder of run folders, whose trial log counts every setting.
    backend : str
        ``local`` or ``ray``.
    workers : int
        Processes on this machine.
    check_share : float
        The share of all settings to check in Backtrader, besides the best ones.
    seed : int
        Of the random choice of these settings.
    """

    worker: SweepWorker
    holdout: Segment
    folder: SweepFolder
    runs: Path
    backend: str
    workers: int
    check_share: float
    seed: int

    def run(self, progress: PhaseProgress) -> SweepOutcome:
        """Run the unfinished part of the sweep.

        Raises
        ------
        StrategyError
            When an order, fill, equity or metric differs between Backtrader and the replay; then there is no result.
        """
        worker, seconds = self.worker, _Clock()
        grid = worker.grid

        # 1. Every setting, block by block; each block is kept at once
        blocks = [Unit(ROWS, number) for number in range(worker.n_blocks)]
        self._run_units(blocks, lambda done: progress("sweep", done, len(grid)))
        seconds.note("replay")

        # 2. The table, and its summary
        table = self.folder.path / TABLE
        write_table((self.folder.piece(unit) for unit in blocks), table, grid.columns)
        chosen = frozenset(random_share(len(grid), min(1.0, MOST_SAMPLED / len(grid)), self.seed + 1).tolist())
        summary = Summary(grid, TableLayout.of(grid), chosen)
        for batch in batches(table):
            summary.take(batch)
        seconds.note("table")

        # 3. The probability of backtest overfitting
        overfitting = None
        if worker.parts:
            n_days = sum(segment.n_days for segment in worker.segments)
            overfitting = probability_of_overfitting(lambda: self._part_sums(blocks), n_days, worker.parts)
        seconds.note("overfitting")

        # 4. The best settings and a random share, checked in Backtrader
        best = [rows[0]["setting"] for rows in summary.best[:WINNERS_CHECKED]]
        at_random = random_share(len(grid), self.check_share, self.seed).tolist()
        checked = [Unit(CHECK, number) for number in dict.fromkeys([*best, *at_random])] if worker.has_replay else []
        self._run_units(checked, lambda done: progress("check", done, len(checked)))
        checks = [json.loads(self.folder.piece(unit).read_text(encoding="utf-8")) for unit in checked]
        seconds.note("check")

        # 5. Every setting is a trial: the winner is deflated by all of them, and run on the hold-out
        prior = self._log_trials()
        winner = self._winner(summary, prior) if summary.best else None
        seconds.note("winner")
        return SweepOutcome(summary, checks, overfitting, winner, seconds.noted)

    def _run_units(self, units: list[Unit], report: Callable[[int], None]) -> None:
        """Run the units that have no piece yet; report how many settings are done."""

        def size(unit: Unit) -> int:
            return len(self.worker.block(unit.number)) if unit.kind == ROWS else 1

        missing = [unit for unit in units if not self.folder.piece(unit).is_file()]
        done = sum(map(size, units)) - sum(map(size, missing))
        report(done)
        if not missing:
            return
        for unit, content in _backend(self.backend, self.workers)(self.worker, missing, workers=self.workers):
            self.folder.keep(unit, content)
            done += size(unit)
            report(done)

    def _part_sums(self, blocks: list[Unit]) -> Iterator[FloatArray]:
        for unit in blocks:
            column = read_part(self.folder.piece(unit), [PARTS]).column(PARTS).drop_null()
            yield np.stack(column.to_numpy())

    def _log_trials(self) -> _Prior:
        """Add every setting to the trial log of the runs folder; return the other trials on the same bars."""
        worker = self.worker
        bars = {str(segment.timerange): segment.bars.digest for segment in worker.segments}
        logged = read_trials(self.runs).trials
        others = {configuration: sharpe for (tried, configuration), sharpe in logged.items() if tried in bars.values()}
        trials: list[Trial] = []
        for number in range(worker.n_blocks):
            piece = self.folder.piece(Unit(ROWS, number))
            table = read_part(piece, ["setting", "timerange", "sharpe_daily"]).to_pylist()
            if worker.swept is None:
                known = dict(zip(worker.block(number), worker.grid.digests(worker.block(number)), strict=True))
                digests = [known[row["setting"]] for row in table]
            else:
                digests = read_part(piece, [CONFIGURATION]).column(CONFIGURATION).to_pylist()
            trials += [
                Trial(bars[row["timerange"]], digest, row["sharpe_daily"]) for row, digest in zip(table, digests, strict=True)
            ]
            if len(trials) >= _LOGGED_AT_ONCE or number == worker.n_blocks - 1:
                add_trials(self.runs, trials)
                trials = []
            for digest in digests:
                others.pop(digest, None)
        sharpes = [sharpe for sharpe in others.values() if sharpe is not None]
        return _Prior(len(others), len(sharpes), sum(sharpes), sum(sharpe**2 for sharpe in sharpes))

    def _winner(self, summary: Summary, prior: _Prior) -> WinnerRuns:
        worker, holdout, number = self.worker, self.holdout, cast("int", summary.best[0][0]["setting"])
        pairs = {
            segment: (worker.backtest(number, segment), _buy_and_hold(worker, number, segment))
            for segment in (*worker.segments, holdout)
        }
        after, benchmark = pairs[holdout]
        lost = ruined_at(after)
        returns = np.concatenate([daily_returns(pairs[segment][0]).to_numpy() for segment in worker.segments])
        return WinnerRuns(
            setting=number,
            rows=summary.best[0],
            deflated=_deflated(returns, summary, prior),
            buy_and_hold=[metrics(pairs[segment][1]) for segment in worker.segments],
            holdout=metrics(after),
            holdout_buy_and_hold=metrics(benchmark),
            ruined=None if lost is None else utc(lost.to_datetime64()),
            curves=[
                WinnerCurve(str(segment.timerange), daily_returns(run), daily_returns(other))
                for segment, (run, other) in pairs.items()
            ],
        )


def _backend(name: str, workers: int) -> Backend:
    if name == "ray":
        from .ray_backend import over_ray

        return over_ray
    return over_processes if workers > 1 else in_this_process


@dataclass(frozen=True)
class _Prior:
    """Other trials on the same bars: their number, the number with a Sharpe ratio, and the ratios' sum and sum of squares."""

    trials: int = 0
    known: int = 0
    total: float = 0.0
    squares: float = 0.0


def _buy_and_hold(worker: SweepWorker, number: int, segment: Segment) -> Simulation:
    """Run buy and hold on a segment, at a setting's costs."""
    setting = worker.grid[number]
    return run_backtest(segment.bars, BuyAndHold(), costs=setting.costs, cash=setting.cash)


def _deflated(returns: FloatArray, summary: Summary, prior: _Prior) -> WinnerDeflated:
    """Return the winner's Sharpe ratio, deflated by all trials: the sweep's settings and earlier trials on these bars."""
    trials, known = summary.settings + prior.trials, summary.traded + prior.known
    total, squares = summary.sums[0] + prior.total, summary.sums[1] + prior.squares
    variance = max(0.0, (squares - total**2 / known) / (known - 1)) if known > 1 else None
    value, luck, reason = None, None, None
    if len(returns) < FEWEST_DAYS:
        reason = f"{len(returns)} days are too few; it needs {FEWEST_DAYS}"
    elif trials > 1 and variance is None:
        reason = "no other setting has a Sharpe ratio"
    else:
        daily = (variance or 0.0) / DAYS_PER_YEAR
        value = deflated_sharpe(Moments.of(returns), trials, daily)
        luck = expected_best(trials, daily) * float(np.sqrt(DAYS_PER_YEAR))
        reason = None if value is not None else "the returns take only two values"
    return WinnerDeflated(
        trials=trials,
        of_this_sweep=summary.settings,
        variance=variance,
        days=len(returns),
        value=value,
        luck=luck,
        reason=reason,
    )


class _Clock:
    def __init__(self) -> None:
        self.noted: dict[str, float] = {}
        self._last = time.perf_counter()

    def note(self, phase: str) -> None:
        now = time.perf_counter()
        self.noted[phase] = now - self._last
        self._last = now
