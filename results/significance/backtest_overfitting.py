"""Probability of backtest overfitting: how often the best setting of one half of the days is below the median in the other.

Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado and Zhu 2017, "The probability of backtest
overfitting", Journal of Computational Finance 20(4)): the days are split into an even number of parts. Each half of the parts
selects a setting once, and the other half tests it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...arrays import FloatArray
from ...storage.json_records import JsonRecord

MOST_PARTS, FEWEST_PARTS, DAYS_A_PART = 16, 4, 2
_MOST_CELLS = 1.3e9  # settings times splits, half a minute on one core; above it, the days get fewer parts
_TILE = 32
_TIE = 1e-12
_FLAT = 1e-18  # variance of daily returns below which they do not vary, and a Sharpe ratio is meaningless


@dataclass(frozen=True)
class Overfitting(JsonRecord):
    """The result over all splits.

    Attributes
    ----------
    probability : float
        Share of the splits in which the best setting of one half is below the median of all on the other; one exactly at
        the median counts half. Choosing among equals gives 0.5, a truly better setting gives 0.
    splits, parts, days, settings : int
    sharpe_chosen, sharpe_after : float
        Mean Sharpe ratio (annual, of daily returns) of the chosen setting, on the half that chose it and on the other.
    loss : float
        Share of the splits in which the chosen setting lost on the other half.
    """

    probability: float
    splits: int
    parts: int
    days: int
    settings: int
    sharpe_chosen: float
    sharpe_after: float
    loss: float


def parts_for(n_settings: int, n_days: int) -> int:
    """Return the number of parts for the days: even, up to 16, fewer for very many settings; 0 where there are too few days.

    Examples
    --------
    >>> parts_for(1_000, 365), parts_for(1_000, 20), parts_for(10_000_000, 365), parts_for(1_000, 5)
    (16, 10, 8, 0)
    """
    parts = min(MOST_PARTS, n_days // DAYS_A_PART // 2 * 2)
    while parts > FEWEST_PARTS and n_settings * math.comb(parts, parts // 2) > _MOST_CELLS:
        parts -= 2
    return parts if parts >= FEWEST_PARTS else 0


def part_lengths(n_days: int, parts: int) -> FloatArray:
    """Return the number of days in each part, in order and as equal as possible."""
    return np.array([len(each) for each in np.array_split(np.arange(n_days), parts)], dtype=np.float64)


def probability_of_overfitting(tables: Callable[[], Iterable[FloatArray]], n_days: int, parts: int) -> Overfitting | None:
    """Measure the probability of backtest overfitting by the Sharpe ratio of daily returns, as the sweep ranks.

    Parameters
    ----------
    tables : callable
        Called twice; yields the settings in order, as arrays of shape (any number of settings, 2 * parts): the sum of the
        daily returns of each part, then the sum of their squares. NaN where the equity was lost. Read block by block:
        memory does not grow with the number of settings.
    n_days : int
    parts : int
        Even; the lengths are ``part_lengths``.

    Returns
    -------
    Overfitting or None
        None with fewer than two settings, or where no half of the days has a Sharpe ratio to choose by. A setting that does
        not trade in the choosing half cannot be chosen there. In the testing half it counts as a Sharpe ratio of 0, and a
        setting that lost everything as the worst.
    """
    halves = list(combinations(range(parts), parts // 2))
    chosen_parts = np.zeros((parts, len(halves)))
    for at, half in enumerate(halves):
        chosen_parts[list(half), at] = 1.0
    days = part_lengths(n_days, parts) @ chosen_parts

    # 1. Each split's best setting and its result on the other half. The complement of split k is split -1 - k.
    best, after, n_settings = np.full(len(halves), -np.inf), np.full(len(halves), np.nan), 0
    every = np.arange(len(halves))
    for sharpe in _sharpes(tables(), chosen_parts, days):
        n_settings += len(sharpe)
        choosing = np.where(np.isnan(sharpe), -np.inf, sharpe)
        first = choosing.argmax(axis=0)
        better = choosing[first, every] > best
        testing = _testing(sharpe)[:, ::-1]
        best = np.where(better, choosing[first, every], best)
        after = np.where(better, testing[first, every], after)
    known = np.isfinite(best)
    if n_settings < 2 or not known.any():
        return None

    # 2. How many settings are below it there, and how many equal it.
    below, level = np.zeros(len(halves)), np.zeros(len(halves))
    with np.errstate(invalid="ignore"):
        for sharpe in _sharpes(tables(), chosen_parts, days):
            testing = _testing(sharpe)[:, ::-1]
            equal = (np.abs(testing - after) <= _TIE) | (testing == after)
            below += ((testing < after) & ~equal).sum(axis=0)
            level += equal.sum(axis=0)
    rank = (below + (level + 1) / 2)[known]  # from 1 to the number of settings
    middle = (n_settings + 1) / 2
    year = math.sqrt(365)
    survived = known & np.isfinite(after)
    return Overfitting(
        float(np.mean(np.where(np.isclose(rank, middle), 0.5, rank < middle))),
        int(known.sum()),
        parts,
        n_days,
        n_settings,
        float(best[known].mean()) * year,
        float(after[survived].mean()) * year if survived.any() else -math.inf,
        float((after[known] < 0).mean()),
    )


def _sharpes(tables: Iterable[FloatArray], chosen_parts: FloatArray, days: FloatArray) -> Iterable[FloatArray]:
    """Yield Sharpe ratios a day, shape (settings, splits): NaN where returns do not vary, -inf where all was lost."""
    parts = len(chosen_parts)
    for table in tables:
        for start in range(0, len(table), _TILE):
            sums, squares = table[start : start + _TILE, :parts], table[start : start + _TILE, parts:]
            lost = np.isnan(sums).any(axis=1)
            mean = np.nan_to_num(sums) @ chosen_parts / days
            variance = (np.nan_to_num(squares) @ chosen_parts - days * mean**2) / (days - 1)
            varies = variance > _FLAT
            sharpe = np.divide(mean, np.sqrt(np.maximum(variance, 0)), out=np.full_like(mean, np.nan), where=varies)
            sharpe[lost] = -np.inf
            yield sharpe


def _testing(sharpe: FloatArray) -> FloatArray:
    return np.where(np.isnan(sharpe), 0.0, sharpe)
