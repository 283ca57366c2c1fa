"""Two cheap learners in place of a whole training: multinomial logistic regression and nearest neighbour."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import BoolArray, FloatArray, IntArray
from ..models.statistics import direction_auc, softmax

PENALTY = 1e-3
WIDEST = 8.0


def fit_logistic(rows: FloatArray, labels: npt.NDArray[np.integer], n_classes: int = 3) -> FloatArray:
    """Fit a multinomial logistic regression with an L2 penalty by L-BFGS; return its weights (F + 1, classes).

    Parameters
    ----------
    rows : array, shape (n, F)
        Standardised.
    labels : array of int, shape (n,)
        0 .. ``n_classes`` - 1.
    """
    from scipy.optimize import minimize

    x = np.column_stack([rows, np.ones(len(rows))])
    one_hot = np.eye(n_classes)[labels]

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        w = flat.reshape(x.shape[1], n_classes)
        p = softmax(x @ w)
        nll = -np.log(np.maximum((p * one_hot).sum(axis=1), 1e-300)).mean() + PENALTY * (w[:-1] ** 2).sum() / 2
        gradient = x.T @ (p - one_hot) / len(x)
        gradient[:-1] += PENALTY * w[:-1]
        return float(nll), gradient.ravel()

    start = np.zeros((x.shape[1], n_classes))
    best = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return np.asarray(best.reshape(start.shape))


def logistic_probabilities(weights: FloatArray, rows: FloatArray) -> FloatArray:
    """Return the probabilities (n, classes) of standardised rows."""
    return softmax(np.column_stack([rows, np.ones(len(rows))]) @ weights)


def standardised(rows: FloatArray, like: FloatArray) -> FloatArray:
    """Return the rows scaled by the mean and deviation of ``like``, clipped at 8; constant columns are 0."""
    mean, spread = like.mean(axis=0), like.std(axis=0)
    alive = spread > 1e-12
    return np.asarray(np.clip(np.where(alive, (rows - mean) / np.where(alive, spread, 1.0), 0.0), -WIDEST, WIDEST))


def fit_and_score(rows: FloatArray, labels: IntArray, train: BoolArray, test: BoolArray) -> tuple[float, float | None]:
    """Return accuracy and BUY-against-SELL AUC on ``test`` of a regression trained on ``train`` (masks)."""
    x = standardised(rows, rows[train])
    weights = fit_logistic(x[train], labels[train])
    p = logistic_probabilities(weights, x[test])
    return float((p.argmax(axis=1) == labels[test]).mean()), direction_auc(p, labels[test])


def neighbour_accuracy(rows: FloatArray, labels: IntArray, train: npt.NDArray[np.intp], test: npt.NDArray[np.intp]) -> float:
    """Return the accuracy of the nearest training row (Euclidean, standardised) on the test rows.

    This learner memorises: its gain from a random split shows what a large model would gain.
    """
    x = standardised(rows, rows[train])
    known, tested = x[train], x[test]
    norms = (known**2).sum(axis=1)
    nearest = np.concatenate(
        [(norms - 2 * part @ known.T).argmin(axis=1) for part in np.array_split(tested, 1 + len(tested) // 500)]
    )
    return float((labels[train][nearest] == labels[test]).mean())


def domain_auc(old: FloatArray, new: FloatArray, random: np.random.Generator, most: int = 4_000) -> float:
    """Return the AUC of a logistic regression that separates new rows from old ones; 0.5 for one population.

    It is trained on half of the blocks of 100 rows and tested on the other half.
    """
    sides = []
    for each in (old, new):
        block = np.arange(len(each)) // 100
        half = random.permutation(block.max() + 1)[block] % 2 == 0
        sides.append((each[half][:: max(1, int(half.sum()) // most)], each[~half][:: max(1, int((~half).sum()) // most)]))
    train, test = (np.concatenate([sides[0][i], sides[1][i]]) for i in (0, 1))
    y_train, y_test = (np.repeat([0, 1], [len(sides[0][i]), len(sides[1][i])]) for i in (0, 1))
    weights = fit_logistic(standardised(train, train), y_train, 2)
    p = logistic_probabilities(weights, standardised(test, train))[:, 1]
    return area_under_curve(p[y_test == 1], p[y_test == 0])


def area_under_curve(positive: FloatArray, negative: FloatArray) -> float:
    """Return the share of (positive, negative) pairs in the right order, ties half (Mann and Whitney 1947); 0.5 for no pair."""
    if not len(positive) or not len(negative):
        return 0.5
    negative = np.sort(negative)
    below, to = (np.searchsorted(negative, positive, side=side) for side in ("left", "right"))
    return float((below + to).mean() / (2 * len(negative)))
