"""Quantiles to class probabilities: against closed forms, and properties of any forecast."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from flagbt.models.kinds.quantiles import class_probabilities
from flagbt.models.statistics import SMALLEST_PROBABILITY

NINE = np.arange(1, 10) / 10
THIRTEEN = np.array([0.01, 0.05, *NINE, 0.95, 0.99])


def rows(*values: float) -> np.ndarray:
    """Return thresholds of shape (n,)."""
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize("levels", [NINE, THIRTEEN, np.array([0.25, 0.75]), np.array([0.1, 0.5, 0.6])])
@pytest.mark.parametrize("horizon", [1, 6, 24])
@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.01, 0.1])
def test_a_normal_forecast_gives_the_closed_form(levels: np.ndarray, horizon: int, threshold: float) -> None:
    """If it fails, the probabilities of a forecaster are not those that its quantiles mean."""
    for hourly, drift in ((0.0003, 0.0), (0.006, 0.002), (0.02, -0.03)):
        sigma = hourly * np.sqrt(horizon)
        quantiles = norm.ppf(levels, drift, sigma)[None]
        found = class_probabilities(quantiles, levels, rows(-threshold), rows(threshold))[0]
        expected = [norm.cdf(-threshold, drift, sigma), 0.0, norm.sf(threshold, drift, sigma)]
        expected[1] = 1 - expected[0] - expected[2]
        assert np.abs(found - expected).max() < 1e-9


def test_a_fat_tailed_forecast_is_close_to_its_distribution() -> None:
    """If it fails, interpolation between quantiles or the tails distort a forecast that is not normal."""
    thresholds = np.linspace(0, 3, 31)
    quantiles = np.tile(t(4).ppf(NINE), (len(thresholds), 1))
    found = class_probabilities(quantiles, NINE, -thresholds, thresholds)
    assert np.abs(found[:, 0] - t(4).cdf(-thresholds)).max() < 0.012
    assert np.abs(found[:, 2] - t(4).sf(thresholds)).max() < 0.012


moves = st.floats(-1, 1, allow_subnormal=True)
forecasts = st.lists(moves, min_size=9, max_size=9).map(lambda values: np.array([values]))


@given(forecasts, moves, moves)
def test_they_are_probabilities(quantiles: np.ndarray, one: float, other: float) -> None:
    """If it fails, some forecast gives a probability of 0, or a sum that is not 1."""
    found = class_probabilities(quantiles, NINE, rows(min(one, other)), rows(max(one, other)))
    assert np.isclose(found.sum(), 1, rtol=0, atol=1e-12)
    assert found.min() >= SMALLEST_PROBABILITY / 2
    assert np.isfinite(found).all()


@given(forecasts, moves, moves)
def test_a_higher_threshold_is_crossed_less_often(quantiles: np.ndarray, one: float, other: float) -> None:
    """If it fails, a rarer event is given a higher probability."""
    low, high = min(one, other), max(one, other)
    pair = np.repeat(quantiles, 2, axis=0)
    buy = class_probabilities(pair, NINE, rows(-2, -2), rows(low, high))[:, 2]
    sell = class_probabilities(pair, NINE, rows(low, high), rows(2, 2))[:, 0]
    assert buy[1] <= buy[0] + 1e-12
    assert sell[0] <= sell[1] + 1e-12


@given(st.lists(moves, min_size=9, max_size=9, unique=True), st.integers(0, 8), st.randoms())
def test_at_a_quantile_the_probability_is_its_level(values: list[float], at: int, random: object) -> None:
    """If it fails, the order of crossed quantiles matters, or the curve does not run through them."""
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    place = sorted(values)[at]
    found = class_probabilities(np.array([shuffled]), NINE, rows(place), rows(place))[0]
    assert found[0] == pytest.approx(NINE[at], abs=1e-9)
    assert found[2] == pytest.approx(1 - NINE[at], abs=1e-9)


def test_it_is_not_the_mean_path() -> None:
    """If it fails, a few large gains in the mean outweigh a probable loss."""
    quantiles = np.array([[-0.03, -0.025, -0.02, -0.018, -0.015, -0.012, -0.005, 0.1, 0.5]])
    sell, _, buy = class_probabilities(quantiles, NINE, rows(-0.01), rows(0.01))[0]
    assert quantiles.mean() > 0.01
    assert sell > 0.6 > 0.3 > buy


def test_equal_quantiles_are_an_atom() -> None:
    """If it fails, a forecast of no move at all, or two equal outermost quantiles, gives NaN or a tail of no weight."""
    flat = class_probabilities(np.zeros((1, 9)), NINE, rows(-0.01), rows(0.01))[0]
    assert flat[1] == pytest.approx(1)
    pair = np.array([[-0.04, -0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03, 0.03]])
    assert 0.01 < class_probabilities(pair, NINE, rows(-0.02), rows(0.04))[0, 2] < 0.1
    inside = np.array([[-0.04, -0.03, -0.02, 0.0, 0.0, 0.0, 0.02, 0.03, 0.04]])
    assert class_probabilities(inside, NINE, rows(0.0), rows(0.0))[0].tolist() == pytest.approx([0.4, 0.2, 0.4])


def test_what_is_not_finite_has_no_answer() -> None:
    """If it fails, a forecast with a NaN becomes a confident class."""
    quantiles = np.tile(np.linspace(-0.02, 0.02, 9), (3, 1))
    quantiles[0, 4], quantiles[1, 8] = np.nan, np.inf
    found = class_probabilities(quantiles, NINE, np.full(3, -0.01), np.full(3, 0.01))
    assert np.isnan(found[:2]).all()
    assert np.isfinite(found[2]).all()
