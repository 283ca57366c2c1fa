"""The probability of backtest overfitting: by hand, by brute force, on noise, and where one setting is truly better."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from flagbt.results.significance.backtest_overfitting import parts_for, probability_of_overfitting
from flagbt.sweeps.worker import part_edges, part_sums


def measured(returns: np.ndarray, parts: int, block: int = 100):
    """Measure daily returns, shape (settings, days), passed block by block."""
    edges = part_edges(returns.shape[1], parts)
    table = np.array([part_sums(each, edges) for each in returns])
    blocks = [table[start : start + block] for start in range(0, len(table), block)]
    return probability_of_overfitting(lambda: iter(blocks), returns.shape[1], parts)


def by_brute_force(returns: np.ndarray, parts: int) -> float:
    """Follow the paper's definition, split by split, on the returns themselves."""
    pieces = np.array_split(np.arange(returns.shape[1]), parts)
    below = []
    for half in combinations(range(parts), parts // 2):
        choosing = np.concatenate([pieces[part] for part in half])
        testing = np.concatenate([pieces[part] for part in range(parts) if part not in half])

        sharpe = [returns[:, days].mean(axis=1) / returns[:, days].std(axis=1, ddof=1) for days in (choosing, testing)]
        best = int(np.argmax(sharpe[0]))
        rank = 1 + (sharpe[1] < sharpe[1][best]).sum()
        logit = np.log(rank / (len(returns) + 1 - rank))
        below.append(0.5 if abs(logit) < 1e-12 else float(logit < 0))
    return float(np.mean(below))


def test_a_case_by_hand() -> None:
    """Four parts of two days, three settings: if it fails, halves, ranks or ties are counted differently than by hand.

    Each part gives a setting +a or -a a day, plus and minus 0.1 around it, so the ratio of a half is that of its mean. Means by
    part, A: 3 3 1 1, B: 1 1 3 3, C: 2 2 2 2. Half {0,1}: A (3) is chosen, and is last (1) on the other. {2,3}: B, the same.
    The other four halves hold one part of each pair: all have the mean 2, and A, with a wider spread than C, is behind C, as B
    is. So C is chosen, and is first there. Two of six splits are below the median.
    """
    means = np.array([[3, 3, 1, 1], [1, 1, 3, 3], [2, 2, 2, 2]], dtype=float)
    returns = (means[:, :, None] + np.array([0.1, -0.1])).reshape(3, 8)
    found = measured(returns, 4)
    assert found.probability == pytest.approx(2 / 6)
    assert (found.splits, found.parts, found.days, found.settings) == (6, 4, 8, 3)
    assert found.loss == 0


@pytest.mark.parametrize(("settings", "days", "parts"), [(2, 40, 4), (7, 61, 6), (30, 203, 8), (150, 90, 10)])
def test_it_equals_brute_force(settings: int, days: int, parts: int) -> None:
    """Sums of parts against the returns themselves: if it fails, the shortcut computes another quantity."""
    for seed in range(3):
        returns = np.random.default_rng(seed).normal(0.0003, 0.01, (settings, days))
        assert measured(returns, parts, block=64).probability == pytest.approx(by_brute_force(returns, parts))


def test_noise_is_a_coin_and_skill_is_not() -> None:
    """If it fails, luck would pass for skill, or skill for luck."""
    random = np.random.default_rng(0)
    noise = [measured(random.normal(0, 0.01, (60, 256)), 8) for _ in range(40)]
    assert np.mean([each.probability for each in noise]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([each.sharpe_after for each in noise]) == pytest.approx(0, abs=0.3)
    assert np.mean([each.sharpe_chosen for each in noise]) > 2
    skilled = random.normal(0, 0.01, (60, 256))
    skilled[23] += 0.005
    assert measured(skilled, 8).probability < 0.02


def test_equals_and_settings_that_do_nothing() -> None:
    """Ties and idle settings: if it fails, copies of one setting, or settings without trades, count as evidence."""
    random = np.random.default_rng(1)
    one = random.normal(0, 0.01, 64)
    assert measured(np.tile(one, (5, 1)), 8).probability == 0.5
    assert measured(np.zeros((5, 64)), 8) is None
    assert measured(one[None], 8) is None
    good = np.abs(one) + 0.001
    # The rest never trade: their Sharpe ratio counts as 0. One that lost everything ranks below them.
    returns = np.vstack([good, np.zeros((3, 64)), np.full(64, np.nan)])
    assert measured(returns, 8).probability == 0
    assert measured(-returns, 8).probability == 1


def test_fewer_parts_for_very_many_settings() -> None:
    """If it fails, ten million settings would take days, or a short range would have parts without a Sharpe ratio."""
    assert parts_for(100_000, 365) == 16
    assert [parts_for(1_000, days) for days in (365, 31, 8, 7)] == [16, 14, 4, 0]
    assert parts_for(10_000_000, 365) == 8
