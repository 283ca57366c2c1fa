"""The log-linear pool: its formula, and weights that no member alone beats where they were fitted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from flagbt.models.pool import check_weights, fit_weights, pooled


def members_of(seed: int, n: int = 400, members: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    """Return logits of models of different skill and confidence, and labels."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 1, (n, 3))
    labels = (truth + random.gumbel(size=(n, 3))).argmax(axis=1).astype(np.int8)
    scales, noises = random.uniform(0.2, 4, members), random.uniform(0.1, 3, members)
    return [s * (truth + random.normal(0, e, (n, 3))) for s, e in zip(scales, noises, strict=True)], labels


def nll(logits: list[np.ndarray], weights: tuple[float, ...], labels: np.ndarray) -> float:
    """Return the negative log-likelihood of a pool."""
    return float(-pooled(logits, weights)[np.arange(len(labels)), labels].mean())


def test_the_pool_is_the_geometric_mean_renormalised() -> None:
    """If it fails, the pool is another formula than the one that the card names."""
    logits, _ = members_of(1, n=50)
    weights = (0.2, 0.5, 0.3)
    mean = sum(w * (x - logsumexp(x, axis=1, keepdims=True)) for w, x in zip(weights, logits, strict=True))
    wanted = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    assert np.allclose(np.exp(pooled(logits, weights)), wanted, atol=1e-14)


def test_a_row_without_an_answer_of_one_member_has_none() -> None:
    """If it fails, bars in one member's warm-up are scored by the other alone, which is another model."""
    logits, _ = members_of(2, n=5, members=2)
    logits[0][3] = np.nan
    found = pooled(logits, (0.0, 1.0))
    assert np.isnan(found).any(axis=1).tolist() == [False, False, False, True, False]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_fitted_weights_are_never_worse_than_a_member(seed: int, members: int) -> None:
    """If it fails, fitting makes an ensemble worse than one of its members on the very bars of the fit."""
    logits, labels = members_of(seed, members=members)
    weights = fit_weights(logits, labels)
    check_weights(weights)
    fitted = nll(logits, weights, labels)
    for i in range(members):
        alone = tuple(float(i == j) for j in range(members))
        assert fitted <= nll(logits, alone, labels) + 1e-12
    assert fitted <= nll(logits, (1 / members,) * members, labels) + 1e-12


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_fitted_weights_are_the_best_of_a_grid(seed: int) -> None:
    """If it fails, the solver stops before the optimum of a convex problem."""
    logits, labels = members_of(seed, members=2)
    fitted = nll(logits, fit_weights(logits, labels), labels)
    grid = [nll(logits, (w, 1 - w), labels) for w in np.linspace(0, 1, 201)]
    assert fitted <= min(grid) + 5e-6


def test_equal_members_have_the_same_loss_with_any_weights() -> None:
    """If it fails, a member counts twice, or the pool is not renormalised."""
    (logits, *_), labels = members_of(3)
    losses = [nll([logits, logits + 7.0], (w, 1 - w), labels) for w in (0.0, 0.3, 1.0)]
    assert np.allclose(losses, losses[0], atol=1e-12)


def test_the_order_of_the_members_changes_nothing_but_the_order() -> None:
    """If it fails, naming the members in another order gives another model."""
    logits, labels = members_of(4)
    forward, backward = fit_weights(logits, labels), fit_weights(logits[::-1], labels)
    assert np.allclose(forward, backward[::-1], atol=2e-4)
    assert np.allclose(pooled(logits, forward), pooled(logits[::-1], forward[::-1]), atol=1e-12)


@pytest.mark.parametrize("weights", [(0.5, 0.6), (-0.1, 1.1), (float("nan"), 1.0), (2.0, -1.0)])
def test_weights_that_are_no_shares_are_refused(weights: tuple[float, ...]) -> None:
    """If it fails, weights below 0 or of another sum make another model than a mean."""
    with pytest.raises(ValueError, match="not 0 or more with the sum 1"):
        check_weights(weights)
