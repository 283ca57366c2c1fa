"""Fitted calibrations against an independent optimiser, and where a fit is hard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax
from scipy.stats import chi2

from flagbt.errors import RangeError, UsageError
from flagbt.models.calibration import Calibration
from flagbt.models.calibration_fit import choose_penalty, dirichlet_penalty, fit_calibration, held_out
from flagbt.models.statistics import expected_calibration_error
from flagbt.results.reliability import reliability

DAYS = "20230101-20230601"
METHODS = ("temperature", "offset", "vector", "dirichlet", "prior")


def planted(
    n: int = 4000, seed: int = 0, temperature: float = 2.5, shift: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels from softmax(true logits) and return logits that are overconfident and shifted."""
    random = np.random.default_rng(seed)
    true = random.normal(size=(n, 3)) * [0.5, 0.3, 0.6] + [-0.8, 0.7, -0.6]
    labels = (scipy_softmax(true, axis=1).cumsum(axis=1) < random.random((n, 1))).sum(axis=1).astype(np.int8)
    return true * temperature + np.asarray(shift), labels


def huge() -> tuple[np.ndarray, np.ndarray]:
    """Return logits of tens of thousands, as an untrained head over unscaled rows gives them."""
    logits, labels = planted(1000, seed=1)
    return logits * 2e4, labels


def lopsided() -> tuple[np.ndarray, np.ndarray]:
    """Return logits that favour SELL by 10 and more at every bar, as Jan19's did."""
    logits, labels = planted(seed=2)
    return logits + np.array([12.0, 0.0, -9.0]), labels


def rare() -> tuple[np.ndarray, np.ndarray]:
    """Return labels with one BUY in two thousand."""
    logits, labels = planted(seed=3)
    labels[labels == 2] = 1
    labels[[17, 3000]] = 2
    return logits, labels


def level() -> tuple[np.ndarray, np.ndarray]:
    """Return logits that hardly differ between bars: a model that ignores its input."""
    _, labels = planted(1000, seed=4)
    return np.random.default_rng(4).normal((0.3, 0.9, 0.1), 1e-6, (len(labels), 3)), labels


def backwards() -> tuple[np.ndarray, np.ndarray]:
    """Return logits of the wrong sign: no temperature above 0 helps them."""
    logits, labels = planted(seed=5)
    return -logits, labels


CASES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "plain": planted,
    "huge": huge,
    "lopsided": lopsided,
    "rare": rare,
    "level": level,
    "backwards": backwards,
}


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Compute the negative log-likelihood by scipy."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def loss_of(calibration: Calibration, logits: np.ndarray, labels: np.ndarray) -> float:
    """Compute a calibration's NLL from its written form, not by calling it."""
    scale, offset = np.asarray(calibration.scale), np.asarray(calibration.offset)
    if calibration.method == "dirichlet":
        return nll(log_softmax(logits, axis=1) @ scale.T + offset, labels)
    return nll(logits * scale + offset, labels)


def lowest(loss: Callable[[np.ndarray], float], starts: list[np.ndarray]) -> float:
    """Minimise with two algorithms without analytic derivatives, from several starts, each continuing from the other."""
    best = np.inf
    for start in starts:
        x = start
        for _ in range(4):
            x = minimize(loss, x, method="BFGS", options={"gtol": 1e-9, "maxiter": 400}).x
            x = minimize(loss, x, method="Powell", options={"ftol": 1e-13, "xtol": 1e-10, "maxiter": 4000}).x
        best = min(best, float(loss(x)))
    return best


@pytest.mark.parametrize("case", CASES)
def test_temperature_reaches_the_optimum_of_a_bounded_search(case: str) -> None:
    """If it fails, the fit of a temperature stops early and leaves confidence wrong."""
    logits, labels = CASES[case]()
    fitted = fit_calibration("temperature", logits, labels, fitted_on=DAYS)
    grid = np.linspace(-20, 12, 400)  # of log scale: a search, bounded where flagbt is, then refined
    losses = [nll(logits * np.exp(each), labels) for each in grid]
    at = int(np.argmin(losses))
    around = (grid[max(0, at - 1)], grid[min(399, at + 1)])
    best = minimize_scalar(lambda s: nll(logits * np.exp(s), labels), bounds=around, method="bounded", options={"xatol": 1e-12})
    assert loss_of(fitted, logits, labels) <= min(best.fun, losses[at]) + (1e-6 if case != "backwards" else 1e-4)
    assert np.ptp(fitted.scale) == 0
    assert fitted.scale[0] > 0


@pytest.mark.parametrize("case", CASES)
def test_offset_reaches_the_optimum_of_another_algorithm(case: str) -> None:
    """If it fails, the fit misses the offsets at which the mean probabilities are the labels' shares."""
    logits, labels = CASES[case]()
    fitted = fit_calibration("offset", logits, labels, fitted_on=DAYS)
    shares = np.bincount(labels, minlength=3) / len(labels)
    b = np.zeros(3)
    for _ in range(20_000):  # each round moves every offset by log(share / mean probability): slow, but not Newton's method
        step = np.log(shares) - np.log(np.maximum(scipy_softmax(logits + b, axis=1).mean(axis=0), 1e-300))
        b = b + step
        if np.abs(step).max() < 1e-9:
            break
    assert loss_of(fitted, logits, labels) <= nll(logits + b, labels) + 1e-6
    assert fitted(logits).mean(axis=0) == pytest.approx(shares, abs=1e-6)
    assert sum(fitted.offset) == pytest.approx(0, abs=1e-6 * (1 + np.abs(fitted.offset).max()))


@pytest.mark.parametrize("case", CASES)
def test_vector_scaling_reaches_the_optimum_of_another_algorithm(case: str) -> None:
    """If it fails, vector scaling misses the maximum likelihood of a scale and an offset per class."""
    logits, labels = CASES[case]()
    fitted = fit_calibration("vector", logits, labels, fitted_on=DAYS)
    size = np.abs(logits - logits.mean(axis=1, keepdims=True)).mean()

    def loss(v: np.ndarray) -> float:
        return nll(logits * v[:3] / size + np.array([v[3], 0.0, v[4]]), labels)

    best = lowest(loss, [np.array([0.3, 0.3, 0.3, 0.0, 0.0]), np.zeros(5)])
    assert loss_of(fitted, logits, labels) <= best + 1e-6


@pytest.mark.parametrize("penalty", [1e-3, 0.1])
@pytest.mark.parametrize("case", ["plain", "lopsided", "rare", "backwards"])
def test_dirichlet_reaches_the_optimum_of_another_algorithm(case: str, penalty: float) -> None:
    """If it fails, the fit misses the optimum of the loss with the ODIR penalty of Kull et al. 2019, computed again here."""
    logits, labels = CASES[case]()
    shift = np.array([0.4, -0.6, 0.2])
    fitted = fit_calibration("dirichlet", logits, labels, fitted_on=DAYS, penalty=penalty, shift=shift)
    log_p = log_softmax(logits, axis=1)
    off_diagonal = ~np.eye(3, dtype=bool)

    def loss(v: np.ndarray) -> float:
        matrix, offset = v[:9].reshape(3, 3), v[9:]
        odir = (matrix[off_diagonal] ** 2).sum() / 6 + ((offset - shift) ** 2).sum() / 3
        return nll(log_p @ matrix.T + offset, labels) + penalty * odir

    best = minimize(loss, np.array([*np.eye(3).ravel(), *shift]), method="BFGS", options={"gtol": 1e-8, "maxiter": 3000})
    best = minimize(loss, best.x, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000, "maxfun": 200_000})
    mine = np.array([*np.asarray(fitted.scale).ravel(), *fitted.offset])
    assert loss(mine) <= best.fun + 1e-6
    assert loss(mine) == pytest.approx(loss_of(fitted, logits, labels) + penalty * dirichlet_penalty(fitted, shift))
    assert fitted(logits) == pytest.approx(scipy_softmax(log_p @ mine[:9].reshape(3, 3).T + mine[9:], axis=1))


@pytest.mark.parametrize("method", ["temperature", "vector", "offset", "dirichlet"])
def test_a_faultless_model_gives_finite_numbers(method: str) -> None:
    """If it fails, the fit diverges where classes are perfectly separated and the likelihood has no maximum."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 600).astype(np.int8)
    logits = np.eye(3)[labels] + random.normal(0, 0.05, (600, 3))
    fitted = fit_calibration(method, logits, labels, fitted_on=DAYS, penalty=1e-3)
    numbers = np.array([*np.asarray(fitted.scale).ravel(), *fitted.offset])
    assert np.isfinite(numbers).all()
    assert np.isfinite(fitted(logits)).all()
    if method in ("temperature", "vector"):  # an offset cannot sharpen, and the penalty limits dirichlet
        assert loss_of(fitted, logits, labels) <= 1e-6
    assert (fitted(logits).argmax(axis=1) == labels).all()


@pytest.mark.parametrize("case", ["plain", "lopsided", "huge", "rare"])
@pytest.mark.parametrize("shares", [(0.16, 0.66, 0.18), (0.01, 0.01, 0.98), (1 / 3, 1 / 3, 1 / 3)])
def test_prior_matching_hits_the_shares(case: str, shares: tuple[float, float, float]) -> None:
    """If it fails, the mean probabilities differ from the requested shares."""
    logits, labels = CASES[case]()
    fitted = fit_calibration("prior", logits, labels, fitted_on=DAYS, shares=np.array(shares))
    assert np.abs(fitted(logits).mean(axis=0) - shares).max() < (1e-6 if case != "huge" else 0.005)
    assert fitted.scale == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(5))
def test_calibrating_what_is_calibrated_changes_nothing_beyond_noise(method: str, seed: int) -> None:
    """If it fails, a fit changes calibrated logits: those the labels were drawn from, or a calibration's output."""
    logits, labels = planted(6000, seed=seed, temperature=1.0)
    shares = np.bincount(labels, minlength=3) / len(labels)
    options = {"fitted_on": DAYS, "shares": shares if method == "prior" else None}
    fitted = fit_calibration(method, logits, labels, **options)  # type: ignore[arg-type]
    # Twice the log-likelihood gained by k superfluous parameters is chi-squared with k degrees of freedom (Wilks 1938).
    free = {"temperature": 1, "offset": 2, "prior": 2, "vector": 5, "dirichlet": 8}[method]
    gained = nll(logits, labels) - loss_of(fitted, logits, labels)
    assert -1e-9 <= gained <= chi2.ppf(1 - 1e-4, free) / (2 * len(labels))
    assert np.abs(fitted(logits) - scipy_softmax(logits, axis=1)).mean() < 0.02
    if method != "dirichlet":  # its penalty applies again in a second fit
        calibrated = logits * np.asarray(fitted.scale) + np.asarray(fitted.offset)
        again = fit_calibration(method, calibrated, labels, **options)  # type: ignore[arg-type]
        assert np.abs(again(calibrated) - fitted(logits)).max() < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_removes_a_planted_error(method: str) -> None:
    """If it fails, a fit on the first half does not remove the planted error on the second."""
    plant = {"temperature": {"temperature": 3.0}, "vector": {"temperature": 3.0, "shift": (2.0, -1.0, -1.0)}}
    logits, labels = planted(12_000, seed=9, **plant.get(method, {"temperature": 1.0, "shift": (2.0, -1.0, -1.0)}))  # type: ignore[arg-type]
    shares = np.bincount(labels, minlength=3) / len(labels)
    half = slice(0, 6000)
    fitted = fit_calibration(method, logits[half], labels[half], fitted_on=DAYS, shares=shares if method == "prior" else None)
    truth = planted(12_000, seed=9, temperature=1.0)[0][6000:]
    assert loss_of(fitted, logits[6000:], labels[6000:]) == pytest.approx(nll(truth, labels[6000:]), abs=0.002)
    assert expected_calibration_error(fitted(logits[6000:]), labels[6000:]) < 0.025


@pytest.mark.parametrize("method", METHODS)
def test_known_weights_are_taken_off(method: str) -> None:
    """If it fails, the shift log w of a weighted loss, known exactly, is left for the fit to find."""
    logits, labels = planted(temperature=1.0, seed=6)
    weights = np.array([2.05, 0.51, 1.84])
    options = {"fitted_on": DAYS, "shares": np.array([0.2, 0.6, 0.2]) if method == "prior" else None, "penalty": 10.0}
    plain = fit_calibration(method, logits, labels, **options)  # type: ignore[arg-type]
    moved = fit_calibration(method, logits + np.log(weights), labels, shift=-np.log(weights), **options)  # type: ignore[arg-type]
    # With so large a penalty, dirichlet cannot return by itself.
    tolerance = 1e-5 if method != "dirichlet" else 0.03
    assert np.abs(moved(logits + np.log(weights)) - plain(logits)).max() < tolerance
    if method in ("temperature", "dirichlet"):
        without = fit_calibration(method, logits + np.log(weights), labels, **options)  # type: ignore[arg-type]
        assert np.abs(without(logits + np.log(weights)) - plain(logits)).max() > 0.05


def test_the_penalty_is_chosen_on_rows_left_out() -> None:
    """If it fails, the penalty is chosen on the fitted rows, where the smallest one is always the best."""
    random = np.random.default_rng(3)
    logits, labels = planted(250, seed=3, temperature=1.0)
    noise = logits + random.normal(0, 1, logits.shape)
    assert choose_penalty(noise, labels, np.zeros(3), 6) > 1e-4


def test_held_out_rows_do_not_see_themselves() -> None:
    """If it fails, held-out numbers use calibrations that were fitted on the same rows, and are too good."""
    logits, labels = planted(1000)
    seen: list[np.ndarray] = []

    def fit(z: np.ndarray, y: np.ndarray) -> Calibration:
        seen.append(z)
        assert len(z) == len(y)
        return Calibration()

    assert held_out(fit, logits, labels, 6) == pytest.approx(scipy_softmax(logits, axis=1))
    for k, rows in enumerate(seen):
        left = {tuple(row) for row in rows}
        fold = range(max(0, 200 * k - 6), min(1000, 200 * (k + 1) + 6))
        assert len(left) == 1000 - len(fold)
        assert not any(tuple(logits[i]) in left for i in fold)
    ordered = np.sort(labels)  # a fold then holds all rows of a class
    ordered[:] = np.where(np.arange(1000) < 150, 0, np.where(np.arange(1000) < 800, 1, 2))
    assert held_out(fit, logits, ordered, 6) is None


def test_a_calibration_is_row_by_row() -> None:
    """If it fails, a probability depends on other rows, so that the start of a range changes a signal."""
    logits, labels = planted()
    for method in METHODS:
        fitted = fit_calibration(
            method, logits, labels, fitted_on=DAYS, shares=np.array([0.2, 0.6, 0.2]) if method == "prior" else None
        )
        whole = fitted(logits)
        assert all(np.array_equal(fitted(logits[i : i + n])[0], whole[i]) for i, n in ((0, 1), (7, 2), (133, 1000)))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.5, 0.5), "three shares"),
        ((0.5, 0.5, 0.0), "above 0"),
        ((0.5, 0.5, 0.5), "sum to 1"),
        ((float("nan"), 0.5, 0.5), "above 0"),
        (None, "three shares"),
        ("abc", "three shares"),
    ],
)
def test_invalid_shares_are_refused(shares: object, message: str) -> None:
    """If it fails, a share of 0, which needs an offset of minus infinity, is fitted."""
    with pytest.raises(UsageError, match=message):
        fit_calibration("prior", *planted(), fitted_on=DAYS, shares=shares)  # type: ignore[arg-type]


def test_an_unknown_method_names_the_nearest() -> None:
    """If it fails, a typing error in --method does not name the nearest method."""
    with pytest.raises(UsageError, match=r"--method: 'temprature' is unknown\. Did you mean 'temperature'"):
        fit_calibration("temprature", *planted(), fitted_on=DAYS)


def test_rows_without_finite_logits_are_not_fitted_on() -> None:
    """If it fails, warm-up rows, which have no logits, enter the fit."""
    logits, labels = planted()
    part = fit_calibration("vector", logits[100:], labels[100:], fitted_on=DAYS)
    logits[:100] = np.nan
    assert fit_calibration("vector", logits, labels, fitted_on=DAYS) == part
    with pytest.raises(RangeError, match=r"got 0 \(0/0/0\)"):
        fit_calibration("vector", np.full((500, 3), np.nan), labels[:500], fitted_on=DAYS)


def test_reliability_by_hand_and_in_the_long_run() -> None:
    """If it fails, a reliability diagram puts rows into the wrong bins."""
    p = np.array([[0.05, 0.15, 0.8], [0.05, 0.95, 0.0], [0.15, 0.85, 0.0], [np.nan] * 3, [0.0, 0.0, 1.0]])
    found = reliability(p, np.array([0, 1, 0, 1, -1], dtype=np.int8), bins=10)
    assert found.counts.tolist() == [
        [2, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 0, 1, 1],
        [2, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    ]
    assert found.predicted[0, :2] == pytest.approx([0.05, 0.15])
    assert found.observed[0, :2].tolist() == [0.5, 1.0]
    assert np.isnan(found.observed[0, 2:]).all()
    assert found.errors[0] == pytest.approx((2 * 0.45 + 0.85) / 3)
    assert len(found.edges) == 11
    logits, labels = planted(60_000, temperature=1.0)
    true = reliability(scipy_softmax(logits, axis=1), labels)
    assert true.errors.max() < 0.012
    assert reliability(scipy_softmax(2.5 * logits, axis=1), labels).errors.min() > 0.02
