"""Random entries: the result of the same trades at random times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ...arrays import FloatArray, Int64Array
from ...engine.replay import Scratch, replay
from ...engine.simulation import Simulation
from ..cost_sensitivity import replay_bars
from ..metrics import daily_sharpe
from ..run_view import RunView

MOST_DRAWS, FEWEST_DRAWS = 500, 99
MOST_REPLAYED_BARS = 25_000_000  # about a second: fewer draws for very long runs


class Holdings(NamedTuple):
    """The features of a run's trades that random entries keep, each of shape (n_trades,), oldest first.

    Attributes
    ----------
    side : array of int64
        +1 long, -1 short.
    bars_held : array of int64
        From the fill of the entry to that of the exit, or to the end.
    exposure : array of float64
        The target exposure of the entry, above 0.
    """

    side: Int64Array
    bars_held: Int64Array
    exposure: FloatArray

    @classmethod
    def of(cls, run: Simulation) -> tuple[Holdings, Int64Array]:
        """Return the holdings of a run and the bar at which each entry filled."""
        trades, index = run.trades, run.equity.index
        entry = index.get_indexer(pd.DatetimeIndex(trades["entry_time"]))
        leaving = np.where(trades["exit_time"].isna(), len(index), index.get_indexer(pd.DatetimeIndex(trades["exit_time"])))
        side = np.where(trades["side"] == "long", 1, -1)
        targets = run.orders.dropna(subset=["filled"]).groupby("filled")["target"].last()
        wanted = targets.reindex(trades["entry_time"]).abs().to_numpy(dtype=np.float64)
        # A plain Backtrader strategy has no target: use its position after the fill.
        held = np.abs(run.equity["exposure"].to_numpy(dtype=np.float64))[entry]
        exposure = np.clip(np.where(wanted > 0, wanted, np.nan_to_num(held, nan=1.0)), 0, 1)
        return cls(side.astype(np.int64), np.maximum(leaving - entry, 1).astype(np.int64), exposure), entry.astype(np.int64)

    def free_bars(self, n_bars: int) -> int:
        """Return the bars left to spread before, between and after the trades; below 0 where the trades do not fit."""
        return int(n_bars - 1 - self.bars_held.sum() - self._least_gaps().sum())

    def targets(self, entry: Int64Array, n_bars: int) -> FloatArray:
        """Return the target exposure at each bar's close that makes the entries fill at ``entry``, NaN to keep."""
        result = np.full(n_bars, np.nan)
        leaving = entry + self.bars_held
        result[leaving[leaving < n_bars] - 1] = 0.0
        result[entry - 1] = self.side * self.exposure  # after the exits: a reversal is one order
        return result

    def shuffled(self, random: np.random.Generator, n_bars: int) -> tuple[Holdings, Int64Array]:
        """Draw the same trades at random times: permute holding times within a side, and draw the gaps uniformly.

        The sequence of long and short stays. All ways to spread the free bars are equally likely. There is at least one bar
        between two trades of one side, as without it they would be one trade.
        """
        order = np.arange(len(self.side))
        for side in (1, -1):
            mine = np.flatnonzero(self.side == side)
            order[mine] = random.permutation(mine)
        drawn = Holdings(self.side, self.bars_held[order], self.exposure[order])
        count, free = len(order), self.free_bars(n_bars)
        bounds = np.sort(random.choice(free + count, count, replace=False))
        gaps = np.diff(bounds, prepend=-1) - 1
        gaps[1:] += drawn._least_gaps()
        before = np.concatenate([[0], np.cumsum(drawn.bars_held)[:-1]])
        return drawn, 1 + np.cumsum(gaps) + before

    def _least_gaps(self) -> Int64Array:
        result: Int64Array = (self.side[1:] == self.side[:-1]).astype(np.int64)
        return result


class Null(NamedTuple):
    """The results of random entries.

    Attributes
    ----------
    sharpe : array of float64, shape (draws,)
        Of daily returns, a year; minus infinity where it is undefined, as after a ruin.
    trades : int
        In each draw.
    """

    sharpe: FloatArray
    trades: int

    def p_value(self, sharpe: float) -> float:
        """Return the share of draws at least as good, the run itself included (Davison and Hinkley 1997)."""
        return float((1 + (self.sharpe >= sharpe - 1e-12).sum()) / (1 + len(self.sharpe)))


def random_entries(run: Simulation, *, draws: int | None = None, seed: int = 0) -> Null | str:
    """Replay a run's trades at random times, at the run's own costs.

    Parameters
    ----------
    run : Simulation
    draws : int, optional
        By default 500, fewer for more than 50,000 bars.
    seed : int

    Returns
    -------
    Null or str
        A str with the reason where they cannot be drawn.
    """
    holdings, _ = Holdings.of(run)
    n_bars = len(run.equity)
    if not len(holdings.side):
        return "no trade was made"
    if holdings.free_bars(n_bars) < 0:
        return "the trades leave no bar between them, so they cannot be moved"
    draws = draws or int(np.clip(MOST_REPLAYED_BARS // n_bars, FEWEST_DRAWS, MOST_DRAWS))
    bars, costs, scratch = replay_bars(run), run.config.costs, Scratch(n_bars)
    random = np.random.default_rng(seed)
    short = bool((holdings.side < 0).any())
    found = np.empty(draws)
    for draw in range(draws):
        moved, entry = holdings.shuffled(random, n_bars)
        replayed = replay(bars, moved.targets(entry, n_bars), costs=costs, cash=run.cash, short=short, scratch=scratch)
        sharpe = daily_sharpe(RunView.of_replay(replayed).daily_returns)
        found[draw] = -np.inf if sharpe is None else sharpe
    return Null(found, len(holdings.side))
