"""Scores of a model against the labels of its traded bars, compared with scikit-learn's."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, confusion_matrix, matthews_corrcoef

from flagbt.engine.simulation import Simulation
from flagbt.models.statistics import expected_calibration_error
from flagbt.results.label_scores import label_scores
from flagbt.results.reliability import reliability_bins

NAMES = ["p_sell", "p_hold", "p_buy"]


def labels_by_hand(run: Simulation) -> np.ndarray:
    """Return the labels of ``horizon:6,0.01`` from the closes."""
    close = run.bars["close"]
    change = close.shift(-6) / close - 1
    return np.select([change.isna(), change > 0.01, change < -0.01], [-1, 2, 0], 1)


def test_scores_agree_with_scikit_learn(run_maker: Callable[..., Simulation]) -> None:
    """If it fails, the confusion matrix or the reliability diagram of the page is not the run's."""
    run = run_maker(24 * 60)
    found = label_scores(run)
    assert found is not None
    json.dumps(found.to_json(), allow_nan=False)
    labels, signal = labels_by_hand(run), run.signals["signal"].to_numpy()
    known = (labels >= 0) & (signal >= 0)
    assert found.rows == known.sum() < len(labels)
    labels, signal = labels[known], signal[known]
    assert np.array_equal(found.confusion, confusion_matrix(labels, signal, labels=[0, 1, 2]))
    assert found.accuracy == pytest.approx(accuracy_score(labels, signal))
    assert found.mcc == pytest.approx(matthews_corrcoef(labels, signal))
    p = run.signals[NAMES].to_numpy()[known]
    for each, name in enumerate(("SELL", "HOLD", "BUY")):
        happened, given = calibration_curve(labels == each, p[:, each], n_bins=15)
        bins = found.calibrated.reliability_by_class[name]
        assert [row.share_happened for row in bins] == pytest.approx(happened)
        assert [row.mean_probability for row in bins] == pytest.approx(given)
        assert sum(row.rows for row in bins) == len(labels)


def test_ece_is_the_gap_of_the_reliability_bins(run_maker: Callable[..., Simulation]) -> None:
    """If it fails, the diagram and the number next to it use different bins."""
    found = label_scores(run_maker(24 * 60, seed=3))
    assert found is not None
    for key in ("raw", "calibrated"):
        rows = getattr(found, key).reliability
        gap = sum(row.rows * abs(row.share_happened - row.mean_probability) for row in rows) / found.rows
        assert getattr(found, key).ece == pytest.approx(gap)


def test_reliability_at_the_edges() -> None:
    """If it fails, a probability of 1 falls out of the last bin, or empty bins are drawn."""
    rows = reliability_bins(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]), bins=10)
    assert [(row.low, row.high, row.rows, row.share_happened) for row in rows] == [(0, 0.1, 1, 0), (0.9, 1, 2, 0.5)]
    p = np.array([[0.2, 0.3, 0.5]])
    assert expected_calibration_error(p, np.array([2])) == pytest.approx(0.5)


def test_no_model_no_scores(run_maker: Callable[..., Simulation]) -> None:
    """If it fails, a strategy without probabilities breaks the page."""
    assert label_scores(run_maker(240, kind="buy-and-hold")) is None
    assert label_scores(run_maker(5)) is None  # no label: its future is outside the range
