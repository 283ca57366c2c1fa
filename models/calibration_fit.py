"""Fit a calibration: one convex problem for every method, solved by Newton's method in a trust region (scipy).

All methods are linear in their parameters: the calibrated logits are u = X theta with a design X, and the loss, mean of
logsumexp(u) - t . u, is convex (t is the label's indicator, or the requested shares). So there is one optimum, and the start
does not matter. A known shift that the training put into the logits is removed first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import FloatArray, IntArray
from ..errors import RangeError, UsageError, check_choice
from .calibration import FITTED_METHODS, Calibration, Three
from .statistics import log_softmax, negative_log_likelihood, softmax

FEWEST_ROWS = 200
LARGEST_SCALE = 1e4  # relative to the logits' spread: where a model separates the classes perfectly, no scale is the best
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 5
# Two directions of offsets; the third, the same number for all classes, changes no probability.
CONTRASTS = np.array([[1.0, 0.0], [-1.0, -1.0], [0.0, 1.0]])


def fit_calibration(
    method: str,
    logits: FloatArray,
    labels: IntArray,
    *,
    fitted_on: str,
    shift: FloatArray | None = None,
    shares: FloatArray | None = None,
    penalty: float | None = None,
    horizon_bars: int = 0,
) -> Calibration:
    """Fit a calibration by maximum likelihood (``prior``: so that the mean probabilities are ``shares``).

    Parameters
    ----------
    method : str
        ``temperature``, ``offset``, ``vector`` (Guo et al. 2017), ``dirichlet`` (Kull et al. 2019) or ``prior``.
    logits : array, shape (n, 3)
        In order of time; rows with NaN are ignored.
    labels : array of int8, shape (n,)
        Rows below 0 are ignored.
    fitted_on : str
        The time range of the rows; it is stored.
    shift : array, shape (3,), optional
        Correction of known training weights (see ``Objective.correction``), added to the logits first. The offset of
        ``offset``, ``vector`` and ``prior`` contains it; ``dirichlet`` is penalised for leaving it.
    shares : array, shape (3,), optional
        Required by ``prior``: mean probabilities of SELL, HOLD and BUY, each above 0, summing to 1.
    penalty : float, optional
        For ``dirichlet``: the weight of its penalty (see ``dirichlet_penalty``); by default the best of ``PENALTIES`` in
        cross-validation.
    horizon_bars : int
        How far ahead a label looks. In cross-validation, so many rows next to a fold are left out with it.

    Raises
    ------
    RangeError
        With fewer than 200 labelled rows, or a class that never occurs.
    UsageError
        For a method that is not fitted, or invalid shares.
    """
    check_choice("--method", method, FITTED_METHODS)
    known = (labels >= 0) & np.isfinite(logits).all(axis=1)
    z, y = logits[known], labels[known]
    check_rows(y, fitted_on)
    put_back = np.zeros(3) if shift is None else np.asarray(shift, dtype=np.float64)
    if method == "prior":
        wanted = checked_shares(shares, "shares")
        return _as_offset("prior", z, put_back, np.broadcast_to(wanted, z.shape), fitted_on)
    one_hot = np.eye(3)[y]
    if method == "offset":
        return _as_offset("offset", z, put_back, one_hot, fitted_on)
    if method == "temperature":
        return _temperature(z, put_back, one_hot, fitted_on)
    if method == "vector":
        return _vector(z, one_hot, fitted_on)
    if penalty is None:
        penalty = choose_penalty(z, y, put_back, horizon_bars)
    return _dirichlet(z, put_back, one_hot, penalty, fitted_on)


def check_rows(labels: IntArray, fitted_on: str) -> None:
    """Raise an error where labels (n,), none below 0, are too few or lack a class."""
    why_not = why_not_fitted(labels)
    if why_not is not None:
        raise RangeError(f"calibration on {fitted_on}: {why_not}. Fit on a longer range.")


def why_not_fitted(labels: IntArray) -> str | None:
    """Return why no calibration can be fitted to labels (n,), none below 0; None where one can."""
    counts = np.bincount(labels, minlength=3)
    if len(labels) >= FEWEST_ROWS and (counts > 0).all():
        return None
    return (
        f"expected {FEWEST_ROWS} labelled bars or more with all of SELL, HOLD and BUY, got {len(labels)} "
        f"({counts[0]}/{counts[1]}/{counts[2]})"
    )


def checked_shares(shares: object, place: str) -> FloatArray:
    """Return three shares that sum to 1 exactly.

    Raises
    ------
    UsageError
        When they are not three numbers above 0 whose sum is 1 within 1 %.
    """
    try:
        wanted = np.asarray(shares, dtype=np.float64)
    except (TypeError, ValueError):
        wanted = np.empty(0)
    if wanted.shape != (3,) or not (np.isfinite(wanted).all() and (wanted > 0).all() and abs(wanted.sum() - 1) <= 0.01):
        raise UsageError(
            f"{place}: expected three shares above 0 for SELL, HOLD, BUY that sum to 1, such as 0.16,0.66,0.18, got {shares}."
        )
    return np.asarray(wanted / wanted.sum())


def _as_offset(method: str, z: FloatArray, shift: FloatArray, targets: FloatArray, fitted_on: str) -> Calibration:
    theta = minimise(np.broadcast_to(CONTRASTS, (len(z), 3, 2)), z + shift, targets)
    offset = CONTRASTS @ theta + shift
    return Calibration(method, offset=_tuple(offset - offset.mean()), fitted_on=fitted_on)


def _temperature(z: FloatArray, shift: FloatArray, targets: FloatArray, fitted_on: str) -> Calibration:
    x = z + shift
    spread = _spread(x)
    theta = minimise(x[:, :, None] / spread, np.zeros_like(x), targets)
    # In one convex dimension the bound is the best where the optimum is beyond it: a temperature is above 0.
    scale = float(np.clip(theta[0], 1 / LARGEST_SCALE, LARGEST_SCALE)) / spread
    return Calibration("temperature", (scale, scale, scale), _tuple(scale * shift), fitted_on)


def _vector(z: FloatArray, targets: FloatArray, fitted_on: str) -> Calibration:
    spread = _spread(z)
    scales = np.eye(3) * (z / spread)[:, :, None]
    theta = minimise(np.concatenate([scales, np.broadcast_to(CONTRASTS, (len(z), 3, 2))], axis=2), np.zeros_like(z), targets)
    offset = CONTRASTS @ theta[3:]
    return Calibration("vector", _tuple(theta[:3] / spread), _tuple(offset - offset.mean()), fitted_on)


def _dirichlet(z: FloatArray, shift: FloatArray, targets: FloatArray, penalty: float, fitted_on: str) -> Calibration:
    x, shift = log_softmax(z), shift - shift.mean()
    spread = _spread(x)
    design = np.zeros((len(x), 3, 12))
    for i in range(3):
        design[:, i, 3 * i : 3 * i + 3] = x / spread  # row i of the matrix
        design[:, i, 9 + i] = 1.0
    weights = penalty * np.array([*(np.ones((3, 3)) - np.eye(3)).ravel() / (6 * spread**2), *np.ones(3) / 3])
    theta = minimise(design, np.zeros_like(x), targets, weights, np.array([*np.zeros(9), *shift]))
    rows = theta[:9].reshape(3, 3) / spread
    return Calibration("dirichlet", (_tuple(rows[0]), _tuple(rows[1]), _tuple(rows[2])), _tuple(theta[9:]), fitted_on)


def dirichlet_penalty(calibration: Calibration, shift: FloatArray) -> float:
    """Return the unweighted penalty: ODIR, the mean square off the diagonal plus that of the offset (Kull et al. 2019).

    The offset is measured from ``shift`` (3,), centred: a known shift of the logits by the training is not penalised.
    """
    matrix, offset = np.asarray(calibration.scale), np.asarray(calibration.offset)
    off = matrix[~np.eye(3, dtype=bool)]
    return float((off**2).mean() + ((offset - (shift - shift.mean())) ** 2).mean())


def choose_penalty(z: FloatArray, y: IntArray, shift: FloatArray, horizon_bars: int) -> float:
    """Return the penalty with the lowest NLL in cross-validation; the largest where no fold can be fitted."""

    def fit(penalty: float) -> Callable[[FloatArray, IntArray], Calibration]:
        return lambda a, b: _dirichlet(a, shift, np.eye(3)[b], penalty, "")

    found = {penalty: held_out(fit(penalty), z, y, horizon_bars) for penalty in PENALTIES}
    losses = {penalty: negative_log_likelihood(p, y) for penalty, p in found.items() if p is not None}
    return min(losses, key=lambda each: losses[each]) if losses else PENALTIES[-1]


def held_out(
    fit: Callable[[FloatArray, IntArray], Calibration], z: FloatArray, y: IntArray, horizon_bars: int
) -> FloatArray | None:
    """Return held-out probabilities (n, 3): five contiguous folds, each scored by a calibration of the four others.

    Rows whose labels look into a fold, or out of it, are not fitted on either. Return None where a fold leaves no row of a
    class.
    """
    result = np.empty_like(z)
    bounds = np.linspace(0, len(z), FOLDS + 1).astype(int)
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        others = np.ones(len(z), dtype=bool)
        others[max(0, start - horizon_bars) : stop + horizon_bars] = False
        if (np.bincount(y[others], minlength=3) == 0).any():
            return None
        result[start:stop] = fit(z[others], y[others])(z[start:stop])
    return result


def minimise(
    design: FloatArray,
    fixed: FloatArray,
    targets: FloatArray,
    penalty: FloatArray | None = None,
    centre: FloatArray | None = None,
) -> FloatArray:
    """Return the theta (k,) with the lowest mean of logsumexp(u) - t . u, u = fixed + X theta, plus its penalty.

    Parameters
    ----------
    design : array, shape (n, 3, k)
        X.
    fixed, targets : array, shape (n, 3)
        The rows of ``targets``, t, sum to 1.
    penalty, centre : array, shape (k,), optional
        Adds the sum of penalty (theta - centre)^2.
    """
    from scipy.optimize import minimize  # slow to import, and only fitting needs it

    n, _, k = design.shape
    flat = np.ascontiguousarray(design).reshape(3 * n, k)
    weight = np.zeros(k) if penalty is None else penalty
    middle = np.zeros(k) if centre is None else centre

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        u = fixed + (flat @ theta).reshape(n, 3)
        log_p = log_softmax(u)
        off = theta - middle
        gradient = flat.T @ (np.exp(log_p) - targets).ravel() / n
        return float(-(targets * log_p).sum() / n + weight @ off**2), gradient + 2 * weight * off

    def curvature(theta: FloatArray) -> FloatArray:
        p = softmax(fixed + (flat @ theta).reshape(n, 3))
        mean = np.einsum("nc,nck->nk", p, design)
        return np.asarray(flat.T @ (flat * p.ravel()[:, None]) / n - mean.T @ mean / n + np.diag(2 * weight))

    options = {"gtol": 1e-9, "maxiter": 1000, "initial_trust_radius": 1.0, "max_trust_radius": 1e9}
    return np.asarray(minimize(loss, np.zeros(k), jac=True, hess=curvature, method="trust-exact", options=options).x)


def _spread(x: FloatArray) -> float:
    """Return the size of the differences between classes, 1 where there are none; it normalises the scale of the problem."""
    size = float(np.abs(x - x.mean(axis=1, keepdims=True)).mean())
    return size if size > 0 else 1.0


def _tuple(values: FloatArray) -> Three:
    return (float(values[0]) + 0.0, float(values[1]) + 0.0, float(values[2]) + 0.0)  # no -0.0
