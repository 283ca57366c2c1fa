"""Compute a sweep's rows from its settings, a block at a time, in memory that does not grow with their number.

A local process or another machine gets one ``SweepWorker`` and units to run, and returns bytes. The bytes depend on nothing
else, so any process may compute them, any number of times.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..data.bars import Bars
from ..data.labels import class_counts
from ..data.time_range import TimeRange
from ..engine.backtest import run_backtest
from ..engine.replay import ReplayBars, ReplayResult, Scratch, check_replay, position_rule, replay
from ..engine.simulation import Simulation
from ..errors import StrategyError
from ..models.signals import NO_SIGNAL, Signals
from ..models.statistics import confusion, matthews_correlation
from ..results.metric import MetricValue
from ..results.metrics import Metrics, daily_sharpe, metrics, replay_metrics, sweep_metrics
from ..results.run_view import RunView
from ..results.significance.backtest_overfitting import part_lengths
from ..strategies.base import Strategy
from .grid import Configuration, Grid
from .result_table import part_bytes

ROWS, CHECK = "rows", "check"
FEWEST_IN_BLOCK, MOST_IN_BLOCK, BLOCKS = 16, 2_048, 64


class Unit(NamedTuple):
    """One unit of a sweep: a block of settings to replay (ROWS), or a setting to check in Backtrader (CHECK)."""

    kind: str
    number: int


@dataclass(frozen=True, eq=False)
class Segment:
    """The bars of one range, with each model's logits and labels: ranked on, or the hold-out.

    Attributes
    ----------
    timerange : TimeRange
    bars : Bars
        The traded bars, none outside the range.
    logits : tuple of array, each of shape (n_bars, 3)
        One per model of the grid, NaN in its warm-up.
    labels : tuple of array of int8, each of shape (n_bars,)
        One per model; -1 where the label needs bars after the range.
    """

    timerange: TimeRange
    bars: Bars
    logits: tuple[FloatArray, ...]
    labels: tuple[IntArray, ...]

    @property
    def n_days(self) -> int:
        """The number of UTC days from the first bar to the last."""
        return len(ReplayBars.of(self.bars).last_of_day)


@dataclass(frozen=True, eq=False)
class SegmentSignals:
    """The signals of one calibration and decision on a segment, their shares, and their MCC against the labels."""

    signal: IntArray
    shares: tuple[float, float, float] | None
    mcc: float | None


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
    """

    grid: Grid
    segments: tuple[Segment, ...]
    parts: int

    @property
    def block_size(self) -> int:
        """Settings per block: it depends on the grid alone, so the table does not depend on the backend."""
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
        return part_bytes(self.rows(self.block(unit.number)), self.grid.axes)

    def rows(self, numbers: range) -> Iterator[dict[str, Any]]:
        """Yield a row for each setting and segment, with the columns of ``result_table.table_schema``."""
        prepared = [ReplayBars.of(segment.bars) for segment in self.segments]
        scratches = [Scratch(len(bars)) for bars in prepared]
        edges = part_edges(sum(len(bars.last_of_day) for bars in prepared), max(1, self.parts))
        last: dict[int, tuple[Any, SegmentSignals]] = {}
        swept = sweep_metrics()
        for number in numbers:
            setting = self.grid[number]
            rows, returns = [], []
            for at, (bars, scratch) in enumerate(zip(prepared, scratches, strict=True)):
                key = self._signal_key(setting)
                if at not in last or last[at][0] != key:
                    last[at] = key, self.segment_signals(setting, self.segments[at])
                signals = last[at][1]
                replayed = replay(
                    bars,
                    position_rule(signals.signal, short=setting.short),
                    costs=setting.costs,
                    cash=setting.cash,
                    short=setting.short,
                    rules=setting.rules,
                    scratch=scratch,
                )
                view = RunView.of_replay(replayed)
                returns.append(view.daily_returns)
                rows.append(
                    _row(self.grid, setting, self.segments[at], signals)
                    | {metric.name: metric.value(view) for metric in swept}
                    | {"ruined": view.ruined}
                )
            together = np.concatenate(returns)
            rows[0]["parts"] = part_sums(together, edges)
            for row in rows:
                row["sharpe_all"] = daily_sharpe(together)
            yield from rows

    def segment_signals(self, setting: Configuration, segment: Segment) -> SegmentSignals:
        """Return the signals of a setting on a segment. *Causality: row t uses bars <= t.*"""
        signals = self.signals(setting, segment)
        counts = class_counts(signals.signal)
        labels = segment.labels[setting.model]
        known = (labels >= 0) & (signals.signal != NO_SIGNAL)
        shares = counts / counts.sum() if counts.sum() else None
        mcc = matthews_correlation(confusion(signals.signal[known], labels[known])) if known.any() else None
        return SegmentSignals(signals.signal, None if shares is None else tuple(shares.tolist()), mcc)

    def signals(self, setting: Configuration, segment: Segment) -> Signals:
        """Return the signals of a setting on a segment, with their logits and probabilities."""
        logits = segment.logits[setting.model]
        probabilities = setting.point.calibration(logits)
        signal = setting.decision(
            probabilities, class_returns=self.grid.models[setting.model].class_returns, round_trip_cost=setting.round_trip_cost
        )
        return Signals(signal, signal, logits, probabilities)

    def check(self, number: int) -> dict[str, Any]:
        """Run a setting in Backtrader, and compare every order, fill, bar and metric with the replay.

        Raises
        ------
        StrategyError
            Naming the setting and the first difference.
        """
        started = time.perf_counter()
        found = {"setting": number, "bars": 0, "orders": 0}
        for segment in self.segments:
            run, replayed = self.backtest(number, segment), self.replay(number, segment)
            try:
                check_replay(run, replayed)
                _check_metrics(replay_metrics(replayed), metrics(run))
            except StrategyError as error:
                raise StrategyError(f"setting {number} over {segment.timerange}: {error}") from None
            found["bars"] += len(segment.bars)
            found["orders"] += len(run.orders)
        return {**found, "seconds": time.perf_counter() - started}

    def backtest(self, number: int, segment: Segment) -> Simulation:
        """Run a setting on a segment in Backtrader, as `flagbt run` does."""
        setting = self.grid[number]
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

    def replay(self, number: int, segment: Segment) -> ReplayResult:
        """Replay a setting on a segment."""
        setting = self.grid[number]
        targets = position_rule(self.signals(setting, segment).signal, short=setting.short)
        return replay(
            ReplayBars.of(segment.bars),
            targets,
            costs=setting.costs,
            cash=setting.cash,
            short=setting.short,
            rules=setting.rules,
        )

    @staticmethod
    def _signal_key(setting: Configuration) -> tuple[Any, ...]:
        cost = setting.round_trip_cost if setting.decision.method == "utility" else None
        return setting.places[:3], cost


def part_sums(returns: FloatArray, edges: npt.NDArray[np.int64]) -> list[float]:
    """Return the sums of the parts of the days, then their sums of squares: enough for the Sharpe ratio of any parts."""
    return [*np.add.reduceat(returns, edges).tolist(), *np.add.reduceat(returns**2, edges).tolist()]


def part_edges(n_days: int, parts: int) -> npt.NDArray[np.int64]:
    """Return the first day of each part: in order, with parts as equal as possible."""
    return np.concatenate([[0], np.cumsum(part_lengths(n_days, parts))[:-1]]).astype(np.int64)


def _row(grid: Grid, setting: Configuration, segment: Segment, signals: SegmentSignals) -> dict[str, Any]:
    offsets, shares = setting.point.offsets, signals.shares
    return {
        **setting.values,
        "setting": setting.number,
        "timerange": str(segment.timerange),
        "ckpt": grid.models[setting.model].name,
        "calibration": setting.point.text,
        "decision": str(setting.decision),
        "offset_sell": None if offsets is None else offsets[0],
        "offset_buy": None if offsets is None else offsets[1],
        "share_sell": shares and shares[0],
        "share_hold": shares and shares[1],
        "share_buy": shares and shares[2],
        "mcc": signals.mcc,
    }


def _check_metrics(replayed: dict[str, MetricValue], backtested: Metrics) -> None:
    for name, value in replayed.items():
        other = backtested[name]
        same = value == other or (
            isinstance(value, float) and isinstance(other, float) and math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-9)
        )
        if not same:
            raise StrategyError(f"{name} is {value!r} in the fast replay, and {other!r} in Backtrader's run.")
