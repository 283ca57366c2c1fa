"""Random entries: what the same trades would have earned, had they been begun at random times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ...arrays import FloatArray, Int64Array
from ...engine.replay import Scratch, replay
from ...engine.run import Run
from ..cost_sensitivity import costs_of, replay_bars
from ..metrics import daily_sharpe, replay_daily_returns

MOST_DRAWS, FEWEST_DRAWS = 500, 99
MOST_REPLAYED_BARS = 25_000_000  # one second and a bit: fewer draws for very long runs


class Holdings(NamedTuple):
    """The trades of a run as what random entries keep of them, each array of shape (n_trades,), oldest first.

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
    def of(cls, run: Run) -> tuple[Holdings, Int64Array]:
        """Read them from a run's trades, with the bar at which each entry filled."""
        trades, index = run.trades, run.equity.index
        entry = index.get_indexer(pd.DatetimeIndex(trades["entry_time"]))
        leaving = np.where(trades["exit_time"].isna(), len(index), index.get_indexer(pd.DatetimeIndex(trades["exit_time"])))
        side = np.where(trades["side"] == "long", 1, -1)
        asked = run.orders.dropna(subset=["filled"]).groupby("filled")["target"].last()
        wanted = asked.reindex(trades["entry_time"]).abs().to_numpy(dtype=np.float64)
        # A plain Backtrader strategy names no target: what it held after the fill.
        held = np.abs(run.equity["exposure"].to_numpy(dtype=np.float64))[entry]
        exposure = np.clip(np.where(wanted > 0, wanted, np.nan_to_num(held, nan=1.0)), 0, 1)
        return cls(side.astype(np.int64), np.maximum(leaving - entry, 1).astype(np.int64), exposure), entry.astype(np.int64)

    def free_bars(self, n_bars: int) -> int:
        """Return how many bars are left to be spread before, between and after the trades; below 0 where they do not fit."""
        return int(n_bars - 1 - self.bars_held.sum() - self._least_gaps().sum())

    def targets(self, entry: Int64Array, n_bars: int) -> FloatArray:
        """Return the exposure to ask for at each bar's close so that the entries fill at ``entry``, NaN to keep."""
        result = np.full(n_bars, np.nan)
        leaving = entry + self.bars_held
        result[leaving[leaving < n_bars] - 1] = 0.0
        result[entry - 1] = self.side * self.exposure  # after the exits: a reversal is one order
        return result

    def shuffled(self, random: np.random.Generator, n_bars: int) -> tuple[Holdings, Int64Array]:
        """Draw the same trades at random times: holding times change places within a side, the gaps are drawn evenly.

        The order of long and short stays. All ways to spread the free bars are equally likely. Between two trades of one
        side lies a bar at least, as without it they would be one trade.
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
    """What random entries earned.

    Attributes
    ----------
    sharpe : array of float64, shape (draws,)
        Of daily returns, a year; minus infinity where there is none, as after a ruin.
    trades : int
        In each draw.
    """

    sharpe: FloatArray
    trades: int

    def p_value(self, sharpe: float) -> float:
        """Return the share of draws at least as good, the run itself counted among them (Davison and Hinkley 1997)."""
        return float((1 + (self.sharpe >= sharpe - 1e-12).sum()) / (1 + len(self.sharpe)))


def random_entries(run: Run, *, draws: int | None = None, seed: int = 0) -> Null | str:
    """Replay a run's trades at random times, at the run's own costs.

    Parameters
    ----------
    run : Run
    draws : int, optional
        By default 500, fewer for more than 50,000 bars.
    seed : int

    Returns
    -------
    Null or str
        Or why there is none, in words.
    """
    holdings, _ = Holdings.of(run)
    n_bars = len(run.equity)
    if not len(holdings.side):
        return "no trade was made"
    if holdings.free_bars(n_bars) < 0:
        return "the trades leave no bar between them, so they cannot be moved"
    draws = draws or int(np.clip(MOST_REPLAYED_BARS // n_bars, FEWEST_DRAWS, MOST_DRAWS))
    bars, costs, scratch = replay_bars(run), costs_of(run), Scratch(n_bars)
    random = np.random.default_rng(seed)
    short = bool((holdings.side < 0).any())
    found = np.empty(draws)
    for draw in range(draws):
        moved, entry = holdings.shuffled(random, n_bars)
        replayed = replay(bars, moved.targets(entry, n_bars), costs=costs, cash=run.cash, short=short, scratch=scratch)
        sharpe = daily_sharpe(replay_daily_returns(replayed))
        found[draw] = -np.inf if sharpe is None else sharpe
    return Null(found, len(holdings.side))
