"""Diversity and both verdicts, against scipy and against hand counts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

from flagbt.data.labels import BUY, HOLD, SELL
from flagbt.models.diversity import (
    Confidence,
    LongestRun,
    diversity,
    mean_probabilities,
    model_verdict,
    signal_verdict,
    total_variation,
)

LABELS = [0.163, 0.656, 0.181]


def signals(*parts: tuple[int, int]) -> np.ndarray:
    """Return signals from pairs of a signal and how many bars it lasts."""
    return np.concatenate([np.full(bars, signal, dtype=np.int8) for signal, bars in parts])


def test_counts_shares_and_diversity_leave_the_warmup_out() -> None:
    """If it fails, bars without a signal dilute every share."""
    found = diversity(signals((-1, 50), (SELL, 1), (HOLD, 6), (BUY, 3)))
    assert found.scored_bars == 10
    assert found.counts == {"SELL": 1, "HOLD": 6, "BUY": 3}
    assert found.shares == {"SELL": 0.1, "HOLD": 0.6, "BUY": 0.3}
    assert found.diversity == pytest.approx(0.4)
    assert found.buy_sell_balance == pytest.approx(0.75)


def test_entropy_and_distances_agree_with_scipy() -> None:
    """If it fails, entropy or a distance has another base or normalisation than documented."""
    found = diversity(signals((SELL, 20), (HOLD, 50), (BUY, 30)), label_shares=LABELS)
    shares = [0.2, 0.5, 0.3]
    assert found.entropy == pytest.approx(scipy.stats.entropy(shares, base=3))
    assert found.effective_actions == pytest.approx(np.exp(scipy.stats.entropy(shares)))
    assert found.jensen_shannon == pytest.approx(scipy.spatial.distance.jensenshannon(shares, LABELS, base=2))
    assert found.total_variation == pytest.approx(max(0, 0.2 - 0.163) + max(0, 0.3 - 0.181))


@pytest.mark.parametrize(("p", "q", "expected"), [([1, 0, 0], [0, 0, 1], 1), ([1, 0, 0], [1, 0, 0], 0)])
def test_distances_reach_their_ends(p: list[float], q: list[float], expected: float) -> None:
    """If it fails, shares of exactly 0 or 1 make NaN or leave the range."""
    assert total_variation(p, q) == expected
    one_class = signals((SELL, 5)) if p[0] else signals((BUY, 5))
    assert diversity(one_class, label_shares=q).jensen_shannon == pytest.approx(expected)


def test_longest_run_and_flips_do_not_cross_bars_without_a_signal() -> None:
    """If it fails, a gap in the signals joins two runs or counts as a change."""
    found = diversity(signals((-1, 9), (HOLD, 3), (-1, 1), (HOLD, 2), (BUY, 4), (SELL, 1)))
    assert found.longest_run == LongestRun(4, "BUY")
    # Pairs of scored neighbours: 2 + (2 - 1 + 4 + 1) = 8, of which 2 change.
    assert found.flips_per_100_bars == pytest.approx(100 * 2 / 8)


def test_confidence_is_the_highest_probability_by_signal() -> None:
    """If it fails, confidence is of the wrong rows, or a class without bars is not null."""
    rows = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [np.nan] * 3])
    found = diversity(np.array([SELL, SELL, HOLD, -1], dtype=np.int8), rows).confidence
    assert found is not None
    sell = found["SELL"]
    assert sell is not None
    assert sell.mean == pytest.approx(0.6)
    assert sell.q10 == pytest.approx(np.quantile([0.5, 0.7], 0.1))
    assert sell.q90 == pytest.approx(np.quantile([0.5, 0.7], 0.9))
    assert found["HOLD"] == Confidence(0.8, 0.8, 0.8, 0.8)
    assert found["BUY"] is None


@pytest.mark.parametrize("given", [np.empty(0, np.int8), signals((-1, 3)), signals((BUY, 1))])
def test_nothing_scored_gives_nulls_that_json_can_hold(given: np.ndarray) -> None:
    """If it fails, a run that is all warm-up writes NaN, or warns."""
    found = diversity(given, np.full((len(given), 3), np.nan), LABELS)
    assert "NaN" not in json.dumps(found.to_json(), allow_nan=False)
    if not (given >= 0).any():
        assert found.diversity is None
        assert signal_verdict(found) is None


@pytest.mark.parametrize(
    ("parts", "labels", "verdict", "sentence"),
    [
        (((HOLD, 96), (BUY, 4)), LABELS, "one-sided", "HOLD takes 96.0 % of the bars"),
        (((HOLD, 95), (BUY, 3), (SELL, 2)), LABELS, "skewed", "5.0 % of the bars are BUY or SELL, below half"),
        (((HOLD, 10), (BUY, 45), (SELL, 45)), LABELS, "skewed", "above twice"),
        (((HOLD, 66), (BUY, 30), (SELL, 4)), LABELS, "skewed", "BUY is 88.2 % of BUY and SELL"),
        (((HOLD, 66), (BUY, 18), (SELL, 16)), LABELS, "diverse", "34.0 % of the bars"),
        (((HOLD, 90), (BUY, 5), (SELL, 5)), None, "diverse", "10.0 % of the bars"),
        (((HOLD, 60), (BUY, 40)), None, "skewed", "an even 50.0 %"),
    ],
)
def test_signal_verdict(parts: tuple[tuple[int, int], ...], labels: list[float] | None, verdict: str, sentence: str) -> None:
    """If it fails, the band around the labels' share, or the order of the three verdicts, has changed."""
    found = signal_verdict(diversity(signals(*parts), label_shares=labels))
    assert found is not None
    assert found.verdict == verdict
    assert sentence in found.sentence


def test_hold_everywhere_is_plausible_when_the_mean_probabilities_match() -> None:
    """If it fails, an honest model of a weak signal is called collapsed because argmax is HOLD."""
    rows = np.tile([0.17, 0.65, 0.18], (100, 1))
    assert signal_verdict(diversity(signals((HOLD, 100)), rows, LABELS)).verdict == "one-sided"  # type: ignore[index]
    found = model_verdict(mean_probabilities(rows), LABELS)
    assert found is not None
    assert found.verdict == "plausible"
    assert found.numbers["total_variation"] == pytest.approx(0.007, abs=1e-9)


def test_a_sure_seller_is_collapsed() -> None:
    """If it fails, Jan19 (all SELL at 99 %) passes as healthy."""
    rows = np.tile([0.99, 0.006, 0.004], (10, 1))
    rows[:3] = np.nan
    found = model_verdict(mean_probabilities(rows), LABELS)
    assert found is not None
    assert found.verdict == "collapsed"
    assert "total variation 0.83, over the limit of 0.25" in found.sentence


def test_no_model_no_verdict() -> None:
    """If it fails, a strategy without a model gets a verdict on its model."""
    assert model_verdict(None, LABELS) is None
    assert model_verdict([0.2, 0.6, 0.2], None) is None
    assert mean_probabilities(np.full((4, 3), np.nan)) is None
