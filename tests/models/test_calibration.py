"""Calibrations, decisions and scores against independent answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax as scipy_softmax
from sklearn import metrics as sk

from flagbt.data.labels import BUY, HOLD, SELL
from flagbt.errors import CheckpointError, RangeError, UsageError
from flagbt.models.calibration import Calibration
from flagbt.models.calibration_fit import fit_calibration
from flagbt.models.checkpoint import Checkpoint
from flagbt.models.decision import Decision, thresholds_for_shares
from flagbt.models.statistics import expected_calibration_error, scores
from flagbt.workflows.inputs import calibration_of


def planted(
    n: int = 4000, seed: int = 0, temperature: float = 2.5, shift: tuple[float, ...] = (0, 0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels from softmax(true logits) and return logits that are overconfident and shifted."""
    random = np.random.default_rng(seed)
    true = random.normal(size=(n, 3)) * [0.5, 0.3, 0.6] + [-0.8, 0.7, -0.6]
    labels = (scipy_softmax(true, axis=1).cumsum(axis=1) < random.random((n, 1))).sum(axis=1).astype(np.int8)
    return true * temperature + np.asarray(shift), labels


def test_offsets_add_and_nan_rows_stay_nan() -> None:
    """If it fails, an offset does not add to the logits, or a warm-up row becomes a probability."""
    logits = np.array([[0.1, 0.2, 0.3], [np.nan] * 3])
    given = Calibration.of_offset("3.0,-2.5,1.0")(logits)
    assert given[0] == pytest.approx(scipy_softmax([3.1, -2.3, 1.3]))
    assert np.isnan(given[1]).all()


@pytest.mark.parametrize(("n", "drop"), [(150, None), (1000, BUY)])
def test_too_little_to_fit_on_is_refused(n: int, drop: int | None) -> None:
    """If it fails, a temperature is fitted to a handful of bars, which is a guess."""
    logits, labels = planted(n)
    if drop is not None:
        labels[labels == drop] = HOLD
    with pytest.raises(RangeError, match="expected 200 labelled bars or more with all of SELL, HOLD and BUY"):
        fit_calibration("temperature", logits, labels, fitted_on="-20230601")


def test_argmax_and_thresholds_by_hand() -> None:
    """If it fails, the rule that turns probabilities into signals changes trades."""
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4], [0.21, 0.55, 0.24], [np.nan] * 3])
    nothing = {"class_returns": np.zeros(3), "round_trip_cost": 0.0}
    assert Decision()(p, **nothing).tolist() == [SELL, HOLD, BUY, HOLD, -1]
    assert Decision.parse("threshold:0.25")(p, **nothing).tolist() == [SELL, HOLD, BUY, HOLD, -1]
    assert Decision.parse("threshold:0.20,0.23")(p, **nothing).tolist() == [SELL, SELL, BUY, SELL, -1]


def test_utility_trades_only_beyond_its_cost() -> None:
    """If it fails, the expected return, here of -2 %, 0 and +2 % a class, does not decide the signal."""
    p = np.array([[0.1, 0.7, 0.2], [0.1, 0.6, 0.3], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1]])
    returns = np.array([-0.02, 0.0, 0.02])  # expected: +0.2 %, +0.4 %, -0.4 %, -0.2 %
    assert Decision("utility")(p, class_returns=returns, round_trip_cost=0.0024).tolist() == [HOLD, BUY, SELL, HOLD]
    assert Decision("utility")(p, class_returns=returns, round_trip_cost=0.0).tolist() == [BUY, BUY, SELL, SELL]


def test_thresholds_reach_the_shares() -> None:
    """If it fails, the fitted thresholds do not give signals as diverse as the labels."""
    p = scipy_softmax(planted(6000)[0], axis=1)
    shares = np.array([0.16, 0.66, 0.18])
    pair = thresholds_for_shares(p, shares)
    signal = Decision("threshold", pair)(p, class_returns=np.zeros(3), round_trip_cost=0.0)
    assert (signal != HOLD).mean() == pytest.approx(0.34, abs=0.01)
    assert (signal == SELL).mean() == pytest.approx(0.16, abs=0.06)


@pytest.mark.parametrize("text", ["argmx", "threshold", "threshold:1.5", "threshold:a", "threshold:.1,.2,.3", "utility:3"])
def test_bad_decisions_are_refused(text: str) -> None:
    """If it fails, a typing error becomes a trading rule."""
    with pytest.raises(UsageError, match="--decision"):
        Decision.parse(text)


def test_both_survive_json() -> None:
    """If it fails, a stored calibration or decision is read back changed."""
    calibration = Calibration("vector", (1.0, 0.9, 0.8), (0.1, 0.0, -0.1), "20230101-20230201")
    decision = Decision.parse("threshold:0.123456789,0.2")
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json())), place="x") == calibration
    assert Decision.from_json(json.loads(json.dumps(decision.to_json())), place="x") == decision
    dirichlet = Calibration("dirichlet", ((1.0, 0.1, 0.0), (0.0, 0.9, 0.0), (0.0, 0.0, 1.1)), (0.1, 0.0, -0.1), "-20230201")
    assert Calibration.from_json(json.loads(json.dumps(dirichlet.to_json())), place="x") == dirichlet
    for damaged in ([[1, 0, 0], [0, 1, 0]], [1, 1, 1], [[1, 0, 0], [0, 1, 0], [0, 0, "a"]], 3, None):
        with pytest.raises(UsageError, match="x: scale.*three"):
            Calibration.from_json({"method": "dirichlet", "scale": damaged}, place="x")
    with pytest.raises(UsageError, match="x: unknown calibration method 'platt'"):
        Calibration.from_json({"method": "platt"}, place="x")
    with pytest.raises(UsageError, match="three finite numbers"):
        Calibration.of_offset("1,2")


def test_the_calibration_option(nano: Checkpoint, tmp_path: Path) -> None:
    """If it fails, a documented form of --calibration is not accepted."""
    assert calibration_of("none", nano) == (Calibration(), None)
    assert calibration_of("stored", nano)[0].method == "temperature"
    assert calibration_of("offset:1,2,3", nano)[0].offset == (1.0, 2.0, 3.0)
    file = tmp_path / "c.json"
    file.write_text('{"calibration": {"method": "offset", "offset": [0, 1, 0]}, "decision": {"method": "utility"}}')
    assert calibration_of(str(file), nano) == (Calibration("offset", offset=(0.0, 1.0, 0.0)), Decision("utility"))
    file.write_text('{"method": "temperature", "scale": [2, 2, 2]}')
    assert calibration_of(str(file), nano)[0].scale == (2.0, 2.0, 2.0)
    with pytest.raises(CheckpointError, match="stores no calibration 'defalt'. Did you mean 'default'"):
        calibration_of("stored:defalt", nano)
    with pytest.raises(UsageError, match="which is not a file"):
        calibration_of("stord", nano)
    file.write_text("[1]")
    with pytest.raises(UsageError, match="expected a JSON object"):
        calibration_of(str(file), nano)


def test_scores_agree_with_sklearn() -> None:
    """If it fails, a score that a training prints differs from an independent implementation."""
    logits, labels = planted(2000, seed=4)
    p, prior = scipy_softmax(logits, axis=1), np.array([0.2, 0.5, 0.3])
    mine, predicted = scores(p, labels, prior), p.argmax(axis=1)
    assert mine.nll == pytest.approx(sk.log_loss(labels, p))
    assert mine.nll_prior == pytest.approx(-np.log(prior[labels]).mean())
    assert mine.accuracy == pytest.approx(sk.accuracy_score(labels, predicted))
    assert mine.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert mine.mcc == pytest.approx(sk.matthews_corrcoef(labels, predicted))
    assert mine.mcc_prior == pytest.approx(sk.matthews_corrcoef(labels, (p / prior).argmax(axis=1)))
    either = labels != 1
    odds = np.log(p[either, 2] / p[either, 0])
    assert mine.auc_buy_sell == pytest.approx(sk.roc_auc_score(labels[either] == 2, odds))
    assert mine.macro_f1 == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert list(mine.recall.values()) == pytest.approx(sk.recall_score(labels, predicted, average=None))
    assert mine.majority_share == pytest.approx(np.bincount(labels).max() / len(labels))
    assert mine.mean_confidence["BUY"] == pytest.approx(p[predicted == BUY].max(axis=1).mean())


def test_calibration_error_by_hand() -> None:
    """If it fails, the ECE of two bins (80 % sure and right half the time, 60 % sure and always right) is wrong."""
    p = np.array([[0.8, 0.1, 0.1]] * 4 + [[0.2, 0.6, 0.2]] * 4)
    labels = np.array([0, 0, 1, 2, 1, 1, 1, 1], dtype=np.int8)
    assert expected_calibration_error(p, labels) == pytest.approx(0.5 * 0.3 + 0.5 * 0.4)


def test_a_class_that_never_occurs_is_none_not_nan() -> None:
    """If it fails, the recall of a class that never occurs becomes NaN, which JSON does not have."""
    mine = scores(np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]), np.array([0, 1], dtype=np.int8), np.array([0.3, 0.4, 0.3]))
    assert mine.recall["BUY"] is None
    assert mine.mean_confidence["BUY"] is None
    json.dumps(vars(mine), allow_nan=False)
