"""The work of a sweep: settings to rows, one block at a time, in memory that does not grow with their number.

Whatever runs it, a process here or a machine elsewhere, gets one ``Work`` and numbers of blocks, and gives bytes back. The
bytes depend on nothing else, so it does not matter who computed them, or how often.
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
from ..engine.run import Run
from ..errors import StrategyError
from ..models.signals import NO_SIGNAL, Signals
from ..models.statistics import confusion, matthews_correlation
from ..results.metrics import daily_sharpe, metrics, replay_daily_returns, replay_metrics
from ..results.significance.backtest_overfitting import part_lengths
from ..strategies.base import Strategy
from .grid import Configuration, Grid
from .result_table import part_bytes

ROWS, CHECK = "rows", "check"
FEWEST_IN_BLOCK, MOST_IN_BLOCK, BLOCKS = 16, 2_048, 64


class Unit(NamedTuple):
    """One piece of work: a block of settings to replay (ROWS), or a setting to run in Backtrader too (CHECK)."""

    kind: str
    number: int


@dataclass(frozen=True, eq=False)
class Stretch:
    """A range that settings are ranked on.

    Attributes
    ----------
    timerange : TimeRange
    bars : Bars
        Those traded, and no bar outside the range.
    logits : tuple of array, each of shape (n_bars, 3)
        For each model of the grid, NaN in its warm-up.
    labels : tuple of array of int8, each of shape (n_bars,)
        For each model; -1 where the answer lies beyond the range.
    """

    timerange: TimeRange
    bars: Bars
    logits: tuple[FloatArray, ...]
    labels: tuple[IntArray, ...]

    @property
    def n_days(self) -> int:
        """UTC days from the first bar's to the last one's."""
        return len(ReplayBars.of(self.bars).last_of_day)


@dataclass(frozen=True, eq=False)
class StretchSignals:
    """What one calibration and decision make of a stretch: the signals, their shares, and their MCC against the labels."""

    signal: IntArray
    shares: tuple[float, float, float] | None
    mcc: float | None


class PrecomputedSignals(Strategy):
    """Signals made beforehand, by the position rule."""

    name = "flagtrader"

    def prepare(self, bars: Bars) -> Signals:
        """Refuse: the signals are handed to ``run_backtest``."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class SweepWork:
    """All that a worker needs.

    Attributes
    ----------
    grid : Grid
    stretches : tuple of Stretch
    parts : int
        Into how many parts the days are cut for the probability of backtest overfitting.
    """

    grid: Grid
    stretches: tuple[Stretch, ...]
    parts: int

    @property
    def block_size(self) -> int:
        """Settings in a block: it depends on the grid alone, so that a table does not tell who made it."""
        return min(MOST_IN_BLOCK, max(FEWEST_IN_BLOCK, math.ceil(len(self.grid) / BLOCKS)))

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return math.ceil(len(self.grid) / self.block_size)

    def block(self, number: int) -> range:
        """Return the settings of a block."""
        return range(number * self.block_size, min(len(self.grid), (number + 1) * self.block_size))

    def do(self, unit: Unit) -> bytes:
        """Do one piece of work: a part of the table as Parquet, or what a check found as JSON.

        Raises
        ------
        StrategyError
            Where Backtrader disagrees.
        """
        if unit.kind == CHECK:
            return json.dumps(self.check(unit.number)).encode()
        return part_bytes(self.rows(self.block(unit.number)))

    def rows(self, numbers: range) -> Iterator[dict[str, Any]]:
        """Yield a row for each setting and stretch, as ``table.SCHEMA`` names its columns."""
        prepared = [ReplayBars.of(stretch.bars) for stretch in self.stretches]
        scratches = [Scratch(len(bars)) for bars in prepared]
        edges = part_edges(sum(len(bars.last_of_day) for bars in prepared), max(1, self.parts))
        last: dict[int, tuple[Any, StretchSignals]] = {}
        for number in numbers:
            setting = self.grid[number]
            rows, returns = [], []
            for at, (bars, scratch) in enumerate(zip(prepared, scratches, strict=True)):
                key = self._signal_key(setting)
                if at not in last or last[at][0] != key:
                    last[at] = key, self.decided(setting, self.stretches[at])
                decided = last[at][1]
                replayed = replay(
                    bars,
                    position_rule(decided.signal, short=setting.short),
                    costs=setting.costs,
                    cash=setting.cash,
                    short=setting.short,
                    rules=setting.rules,
                    scratch=scratch,
                )
                returns.append(replay_daily_returns(replayed))
                rows.append(
                    _row(self.grid, setting, self.stretches[at], decided)
                    | replay_metrics(replayed)
                    | {"ruined": replayed.ruined}
                )
            together = np.concatenate(returns)
            rows[0]["parts"] = part_sums(together, edges)
            for row in rows:
                row["sharpe_all"] = daily_sharpe(together)
            yield from rows

    def decided(self, setting: Configuration, stretch: Stretch) -> StretchSignals:
        """Return the signals of a setting over a stretch. *Causality: row t uses bars <= t.*"""
        signals = self.signals(setting, stretch)
        counts = class_counts(signals.signal)
        labels = stretch.labels[setting.model]
        known = (labels >= 0) & (signals.signal != NO_SIGNAL)
        shares = counts / counts.sum() if counts.sum() else None
        mcc = matthews_correlation(confusion(signals.signal[known], labels[known])) if known.any() else None
        return StretchSignals(signals.signal, None if shares is None else tuple(shares.tolist()), mcc)

    def signals(self, setting: Configuration, stretch: Stretch) -> Signals:
        """Return the signals of a setting with what is behind them."""
        logits = stretch.logits[setting.model]
        probabilities = setting.point.calibration(logits)
        signal = setting.decision(
            probabilities, class_returns=self.grid.models[setting.model].class_returns, round_trip_cost=setting.round_trip_cost
        )
        return Signals(signal, signal, logits, probabilities)

    def check(self, number: int) -> dict[str, Any]:
        """Run a setting in Backtrader and compare every order, fill, bar and metric with the replay's.

        Raises
        ------
        StrategyError
            Naming the setting and the first difference.
        """
        started = time.perf_counter()
        found = {"setting": number, "bars": 0, "orders": 0}
        for stretch in self.stretches:
            run, replayed = self.judged(number, stretch), self.replayed(number, stretch)
            try:
                check_replay(run, replayed)
                _check_metrics(replay_metrics(replayed), metrics(run))
            except StrategyError as error:
                raise StrategyError(f"setting {number} over {stretch.timerange}: {error}") from None
            found["bars"] += len(stretch.bars)
            found["orders"] += len(run.orders)
        return {**found, "seconds": time.perf_counter() - started}

    def judged(self, number: int, stretch: Stretch) -> Run:
        """Run a setting over a stretch in Backtrader, as `flagbt run` does."""
        setting = self.grid[number]
        return run_backtest(
            stretch.bars,
            PrecomputedSignals(short=setting.short),
            signals=self.signals(setting, stretch),
            costs=setting.costs,
            timerange=TimeRange(stretch.bars.time[0]),
            cash=setting.cash,
            rules=setting.rules,
            short=setting.short,
        )

    def replayed(self, number: int, stretch: Stretch) -> ReplayResult:
        """Replay a setting over a stretch."""
        setting = self.grid[number]
        targets = position_rule(self.signals(setting, stretch).signal, short=setting.short)
        return replay(
            ReplayBars.of(stretch.bars),
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
    """Return the sum of each part of the days, then the sum of squares of each: enough for a Sharpe ratio of any of them."""
    return [*np.add.reduceat(returns, edges).tolist(), *np.add.reduceat(returns**2, edges).tolist()]


def part_edges(n_days: int, parts: int) -> npt.NDArray[np.int64]:
    """Return where each part of the days begins: in order, as equal as they can be."""
    return np.concatenate([[0], np.cumsum(part_lengths(n_days, parts))[:-1]]).astype(np.int64)


def _row(grid: Grid, setting: Configuration, stretch: Stretch, decided: StretchSignals) -> dict[str, Any]:
    offsets, shares, rules = setting.point.offsets, decided.shares, setting.rules
    return {
        "setting": setting.number,
        "timerange": str(stretch.timerange),
        "ckpt": grid.models[setting.model].name,
        "calibration": setting.point.text,
        "decision": str(setting.decision),
        "offset_sell": None if offsets is None else offsets[0],
        "offset_buy": None if offsets is None else offsets[1],
        "short": setting.short,
        "cash": setting.cash,
        "fee_bps": setting.costs.fee_bps,
        "slippage_bps": setting.costs.slippage_bps,
        "borrow_bps_per_day": setting.costs.borrow_bps_per_day,
        "cooldown_bars": rules.cooldown_bars,
        "min_hold_bars": rules.min_hold_bars,
        "exit": setting.exit,
        "stop_loss": rules.stop_loss,
        "take_profit": rules.take_profit,
        "max_short_notional": rules.max_short_notional,
        "close_short_above": rules.close_short_above,
        "share_sell": shares and shares[0],
        "share_hold": shares and shares[1],
        "share_buy": shares and shares[2],
        "mcc": decided.mcc,
    }


def _check_metrics(mine: dict[str, Any], judged: dict[str, Any]) -> None:
    for name, value in mine.items():
        theirs = judged[name]
        same = value == theirs or (
            isinstance(value, float) and isinstance(theirs, float) and math.isclose(value, theirs, rel_tol=1e-9, abs_tol=1e-9)
        )
        if not same:
            raise StrategyError(f"the fast replay's {name} is {value!r}, that of Backtrader's run {theirs!r}.")
