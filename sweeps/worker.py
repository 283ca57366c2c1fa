"""Compute a sweep's rows from its settings, a block at a time, in memory that does not grow with their number.

A local process or another machine gets one ``SweepWorker`` and units to run, and returns bytes. The bytes depend on nothing
else, so any process may compute them, any number of times.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, Int64Array, IntArray
from ..data.bars import Bars
from ..data.labels import class_counts
from ..data.time_range import TimeRange
from ..engine.backtest import run_backtest
from ..engine.replay import ReplayBars, ReplayResult, Scratch, check_replay, position_rule, replay
from ..engine.simulation import Simulation
from ..errors import StrategyError
from ..models.signals import NO_SIGNAL, Signals
from ..models.statistics import confusion, matthews_correlation
from ..results.metric import Metric, MetricValue
from ..results.metrics import Metrics, daily_sharpe, metrics, replay_metrics, sweep_metrics
from ..results.run_view import RunView
from ..results.significance.backtest_overfitting import part_lengths
from ..results.trial_log import trial_configuration
from ..strategies.base import Strategy
from .grid import Configuration, Grid, parameter_columns
from .result_table import CONFIGURATION, PARTS, part_bytes
from .segment import Segment
from .sweep_record import NewRow
from .swept_strategy import PreparedStrategy, SweptStrategy

ROWS, CHECK = "rows", "check"
FEWEST_IN_BLOCK, MOST_IN_BLOCK, BLOCKS = 16, 2_048, 64


class Unit(NamedTuple):
    """One unit of a sweep: a block of settings to replay (ROWS), or a setting to check in Backtrader (CHECK)."""

    kind: str
    number: int


@dataclass(frozen=True, eq=False)
class SegmentSignals:
    """The signals of a setting on a segment, their shares, and their MCC against the labels.

    Attributes
    ----------
    signal : array of int8, shape (n_bars,)
    shares : tuple of float, optional
        Of SELL, HOLD and BUY among the bars with a signal; None without any.
    mcc : float, optional
        None without a model, whose labels they would predict.
    made_by : PreparedStrategy, optional
        The strategy that made them, other than flagtrader.
    """

    signal: IntArray
    shares: tuple[float, float, float] | None
    mcc: float | None
    made_by: PreparedStrategy | None = None


class PrecomputedSignals(Strategy):
    """A strategy whose signals are given to ``run_backtest``; it follows the position rule."""

    name = "flagtrader"

    def prepare(self, bars: Bars) -> Signals:
        """Refuse: the signals are given to ``run_backtest``."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class SweepWorker:
    """Runs the units of a sweep; it holds everything that they need.

    Attributes
    ----------
    grid : Grid
    segments : tuple of Segment
        Those that settings are ranked on.
    parts : int
        The number of parts that the days are split into for the probability of backtest overfitting.
    swept : SweptStrategy, optional
        The strategy, other than flagtrader.
    """

    grid: Grid
    segments: tuple[Segment, ...]
    parts: int
    swept: SweptStrategy | None = None

    @property
    def has_replay(self) -> bool:
        """Whether the fast replay applies to the strategy; otherwise every setting is run in Backtrader."""
        return self.swept is None or self.swept.has_replay

    @property
    def block_size(self) -> int:
        """Settings per block: it depends on the grid alone, so the table does not depend on the backend."""
        if not self.has_replay:
            return 1
        return min(MOST_IN_BLOCK, max(FEWEST_IN_BLOCK, math.ceil(len(self.grid) / BLOCKS)))

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return math.ceil(len(self.grid) / self.block_size)

    def block(self, number: int) -> range:
        """Return the settings of a block."""
        return range(number * self.block_size, min(len(self.grid), (number + 1) * self.block_size))

    def run(self, unit: Unit) -> bytes:
        """Run one unit: return a part of the table as Parquet, or the result of a check as JSON.

        Raises
        ------
        StrategyError
            When Backtrader disagrees with the replay.
        """
        if unit.kind == CHECK:
            return json.dumps(self.check(unit.number)).encode()
        return part_bytes(self.rows(self.block(unit.number)), self.grid.columns)

    def rows(self, numbers: range) -> Iterator[NewRow]:
        """Yield a row for each setting and segment, with the columns of ``result_table.table_schema``."""
        play = _Replays(self) if self.has_replay else self._played_in_backtrader
        edges = part_edges(sum(segment.n_days for segment in self.segments), max(1, self.parts))
        for number in numbers:
            setting = self.grid[number]
            pairs = [play(setting, at) for at in range(len(self.segments))]
            together = np.concatenate([returns for _, returns in pairs])
            for row, _ in pairs:
                row["sharpe_all"] = daily_sharpe(together)
            pairs[0][0][PARTS] = part_sums(together, edges)
            yield from (row for row, _ in pairs)

    def _played_in_backtrader(self, setting: Configuration, at: int) -> tuple[NewRow, FloatArray]:
        """Return a setting's row on a segment, and its daily returns, from Backtrader."""
        segment = self.segments[at]
        run = self.backtest(setting.number, segment)
        counts = None if run.signals is None else class_counts(run.signals["signal"].to_numpy())
        row = _row(self.grid, setting, segment, _shares(counts), None)
        return _measured(row, RunView.of_simulation(run), sweep_metrics(), trial_configuration(run))

    def segment_signals(self, setting: Configuration, segment: Segment) -> SegmentSignals:
        """Return the signals of a setting on a segment. *Causality: row t uses bars <= t.*"""
        made_by = None if self.swept is None else self.swept.prepared(setting, segment)
        signals = self.signals(setting, segment) if made_by is None else made_by.signals
        mcc = None
        if segment.labels:
            labels = segment.labels[setting.model]
            known = (labels >= 0) & (signals.signal != NO_SIGNAL)
            mcc = matthews_correlation(confusion(signals.signal[known], labels[known])) if known.any() else None
        return SegmentSignals(signals.signal, _shares(class_counts(signals.signal)), mcc, made_by)

    def signals(self, setting: Configuration, segment: Segment) -> Signals:
        """Return the signals of a checkpoint's setting on a segment, with their logits and probabilities."""
        logits = segment.logits[setting.model]
        probabilities = setting.point.calibration(logits)
        signal = setting.decision(
            probabilities, class_returns=self.grid.models[setting.model].class_returns, round_trip_cost=setting.round_trip_cost
        )
        return Signals(signal, signal, logits, probabilities)

    def check(self, number: int) -> dict[str, float]:
        """Run a setting in Backtrader, and compare every order, fill, bar and metric with the replay.

        Raises
        ------
        StrategyError
            Naming the setting and the first difference.
        """
        started = time.perf_counter()
        found: dict[str, float] = {"setting": number, "bars": 0, "orders": 0}
        for segment in self.segments:
            run, (replayed, configuration) = self.backtest(number, segment), self.replay(number, segment)
            try:
                check_replay(run, replayed)
                _check_configuration(run, configuration)
                _check_metrics(replay_metrics(replayed), metrics(run))
            except StrategyError as error:
                raise StrategyError(f"setting {number} over {segment.timerange}: {error}") from None
            found["bars"] += len(segment.bars)
            found["orders"] += len(run.orders)
        return {**found, "seconds": time.perf_counter() - started}

    def backtest(self, number: int, segment: Segment) -> Simulation:
        """Run a setting on a segment in Backtrader, as `flagbt run` does."""
        setting = self.grid[number]
        if self.swept is not None:
            run = self.swept.backtest(setting, segment).run()
            self.swept.check_seen(run.strategy, segment)
            return run
        return run_backtest(
            segment.bars,
            PrecomputedSignals(short=setting.short),
            signals=self.signals(setting, segment),
            costs=setting.costs,
            timerange=TimeRange(segment.bars.time[0]),
            cash=setting.cash,
            rules=setting.rules,
            short=setting.short,
        )

    def replay(self, number: int, segment: Segment) -> tuple[ReplayResult, str | None]:
        """Replay a setting on a segment; return the result, and the setting's digest where the grid does not know it."""
        setting = self.grid[number]
        signals = self.segment_signals(setting, segment)
        replayed = _replay(setting, signals, ReplayBars.of(segment.bars), None)
        return replayed, None if signals.made_by is None else signals.made_by.configuration(setting)

    def signal_key(self, setting: Configuration) -> tuple[object, ...]:
        """Return what decides a setting's signals: settings with equal keys share them."""
        cost = setting.round_trip_cost if setting.decision.method == "utility" else None
        return setting.places[:4], cost, None if self.swept is None else setting.short


class _Replays:
    """Replays settings on a worker's segments, into the same memory, with the signals of the setting before where it can."""

    def __init__(self, worker: SweepWorker) -> None:
        self._worker = worker
        self._bars = [ReplayBars.of(segment.bars) for segment in worker.segments]
        self._scratches = [Scratch(len(bars)) for bars in self._bars]
        self._metrics = sweep_metrics()
        self._last: dict[int, tuple[object, SegmentSignals]] = {}

    def __call__(self, setting: Configuration, at: int) -> tuple[NewRow, FloatArray]:
        """Return a setting's row on a segment, and its daily returns."""
        worker, segment, key = self._worker, self._worker.segments[at], self._worker.signal_key(setting)
        if at not in self._last or self._last[at][0] != key:
            self._last[at] = key, worker.segment_signals(setting, segment)
        signals = self._last[at][1]
        view = RunView.of_replay(_replay(setting, signals, self._bars[at], self._scratches[at]))
        row = _row(worker.grid, setting, segment, signals.shares, signals.mcc)
        configuration = None if signals.made_by is None else signals.made_by.configuration(setting)
        return _measured(row, view, self._metrics, configuration)


def _replay(setting: Configuration, signals: SegmentSignals, bars: ReplayBars, scratch: Scratch | None) -> ReplayResult:
    short = setting.short or (signals.made_by is not None and signals.made_by.strategy.short)
    return replay(
        bars,
        position_rule(signals.signal, short=short),
        costs=setting.costs,
        cash=setting.cash,
        short=short,
        rules=setting.rules,
        scratch=scratch,
    )


def _measured(row: NewRow, view: RunView, swept: Sequence[Metric], configuration: str | None) -> tuple[NewRow, FloatArray]:
    """Return a row with its metrics, and the daily returns, before the view's memory is used again."""
    found = {metric.name: metric.value(view) for metric in swept}
    return row | found | {"ruined": view.ruined, CONFIGURATION: configuration}, view.daily_returns


def _shares(counts: Int64Array | None) -> tuple[float, float, float] | None:
    """Return the shares of SELL, HOLD and BUY; None without a signal."""
    return None if counts is None or not counts.sum() else tuple((counts / counts.sum()).tolist())


def part_sums(returns: FloatArray, edges: npt.NDArray[np.int64]) -> list[float]:
    """Return the sums of the parts of the days, then their sums of squares: enough for the Sharpe ratio of any parts."""
    return [*np.add.reduceat(returns, edges).tolist(), *np.add.reduceat(returns**2, edges).tolist()]


def part_edges(n_days: int, parts: int) -> npt.NDArray[np.int64]:
    """Return the first day of each part: in order, with parts as equal as possible."""
    return np.concatenate([[0], np.cumsum(part_lengths(n_days, parts))[:-1]]).astype(np.int64)


def _row(
    grid: Grid, setting: Configuration, segment: Segment, shares: tuple[float, float, float] | None, mcc: float | None
) -> NewRow:
    has_model, offsets = bool(grid.models), setting.point.offsets if grid.models else None
    return {
        **setting.values,
        **parameter_columns(setting.params, grid.columns),
        "setting": setting.number,
        "timerange": str(segment.timerange),
        "ckpt": grid.model(setting.model).name if has_model else None,
        "calibration": setting.point.text if has_model else None,
        "decision": str(setting.decision) if has_model else None,
        "offset_sell": None if offsets is None else offsets[0],
        "offset_buy": None if offsets is None else offsets[1],
        "share_sell": shares and shares[0],
        "share_hold": shares and shares[1],
        "share_buy": shares and shares[2],
        "mcc": mcc,
    }


def _check_configuration(run: Simulation, configuration: str | None) -> None:
    if configuration is not None and configuration != trial_configuration(run):
        raise StrategyError("the trial log would count it as another configuration than Backtrader's run.")


def _check_metrics(replayed: dict[str, MetricValue], backtested: Metrics) -> None:
    for name, value in replayed.items():
        other = backtested[name]
        same = value == other or (
            isinstance(value, float) and isinstance(other, float) and math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-9)
        )
        if not same:
            raise StrategyError(f"{name} is {value!r} in the fast replay, and {other!r} in Backtrader's run.")
