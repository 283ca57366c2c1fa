"""Calibration: a pure function from logits to probabilities. It never re-runs the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.bars import FloatArray
from ..data.labels import IntArray
from ..data.timerange import TimeRange
from ..errors import RangeError, UsageError, nearest
from .statistics import softmax

METHODS = ("none", "offset", "temperature", "vector")
FEWEST_ROWS = 200


@dataclass(frozen=True)
class Calibration:
    """``softmax(scale * logits + offset)``; every method is a special case of it.

    Parameters
    ----------
    method : str
        ``none`` (scale 1, offset 0), ``offset`` (added logits, the "logit correction"), ``temperature`` (one scale 1/T,
        after known training weights are taken off), or ``vector`` (a scale and an offset a class); Guo et al. 2017.
    scale, offset : tuple of three float
        For SELL, HOLD, BUY.
    fitted_on : str, optional
        The time range of the fit, ``A-B``; later runs on it are refused.
    """

    method: str = "none"
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fitted_on: str | None = field(default=None)

    def __call__(self, logits: FloatArray) -> FloatArray:
        """Return probabilities (n, 3) of logits (n, 3); NaN rows stay NaN. *Causality: row by row.*"""
        return softmax(logits * np.asarray(self.scale) + np.asarray(self.offset))

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as JSON values."""
        values = {"method": self.method, "scale": list(self.scale), "offset": list(self.offset)}
        return values if self.fitted_on is None else {**values, "fitted_on": self.fitted_on}

    @classmethod
    def from_json(cls, values: dict[str, Any], *, place: str) -> Calibration:
        """Read what ``to_json`` wrote; ``place`` names the file in errors.

        Raises
        ------
        UsageError
            When a field or the method is unknown, or the numbers are not three finite floats.
        """
        known = ("method", "scale", "offset", "fitted_on")
        if not isinstance(values, dict):
            raise UsageError(f"{place}: expected a calibration with the fields {', '.join(known)}, got {values!r}.")
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UsageError(f"{place}: '{unknown[0]}' is no field of a calibration. {nearest(unknown[0], known)}")
        method = values.get("method")
        if method not in METHODS:
            raise UsageError(f"{place}: '{method}' is no calibration method. {nearest(str(method), METHODS)}")
        scale = _three(values.get("scale", (1.0, 1.0, 1.0)), f"{place}: scale")
        offset = _three(values.get("offset", (0.0, 0.0, 0.0)), f"{place}: offset")
        fitted_on = values.get("fitted_on")
        if fitted_on is not None:
            TimeRange.parse(str(fitted_on), option=f"{place}: fitted_on")
        if method == "none" and (scale, offset) != (cls.scale, cls.offset):
            raise UsageError(f"{place}: the method none has a scale or an offset. Call it vector, or leave the numbers out.")
        return cls(method, scale, offset, None if fitted_on is None else str(fitted_on))

    @classmethod
    def of_offset(cls, text: str) -> Calibration:
        """Read ``a,b,c``: what is added to the logits of SELL, HOLD and BUY."""
        return cls("offset", offset=_three(text.split(","), f"--calibration offset:{text}"))


def _three(values: Any, place: str) -> tuple[float, float, float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise UsageError(f"{place}: expected three finite numbers for SELL, HOLD, BUY, such as 3.0,-2.5,1.0, got {values}.")
    return (numbers[0], numbers[1], numbers[2])


def fit_calibration(
    method: str, logits: FloatArray, labels: IntArray, *, fitted_on: str, shift: FloatArray | None = None
) -> Calibration:
    """Fit ``temperature`` or ``vector`` scaling by maximum likelihood (Guo et al. 2017).

    What a training is known to have moved, ``shift``, is put back first, so that one temperature is enough again.

    Parameters
    ----------
    method : str
        ``temperature`` or ``vector``.
    logits : array, shape (n, 3)
        Rows with NaN are left out.
    labels : array of int8, shape (n,)
        Rows below 0 are left out.
    fitted_on : str
        The time range that the rows come from; it is stored.
    shift : array, shape (3,), optional
        Added to the logits first, for ``temperature`` (see ``Objective.correction``); ``vector`` finds it by itself.

    Raises
    ------
    RangeError
        With fewer than 200 labelled rows, or a class that never occurs.
    UsageError
        For a method that is not fitted.
    """
    from scipy.optimize import minimize  # only fitting needs it, and it is slow to import

    known = (labels >= 0) & np.isfinite(logits).all(axis=1)
    z, y = logits[known], labels[known]
    counts = np.bincount(y, minlength=3)
    if len(y) < FEWEST_ROWS or (counts == 0).any():
        raise RangeError(
            f"calibration on {fitted_on}: expected {FEWEST_ROWS} labelled bars or more with all of SELL, HOLD and BUY, "
            f"got {len(y)} ({counts[0]}/{counts[1]}/{counts[2]}). Fit on a longer range."
        )
    one_hot = np.eye(3)[y]

    def loss_and_gradient(theta: FloatArray) -> tuple[float, FloatArray]:
        scale, offset = theta[:3], theta[3:]
        p = softmax(z * scale + offset)
        error = p - one_hot
        nll = -np.log(np.maximum((p * one_hot).sum(axis=1), 1e-300)).mean()
        return float(nll), np.concatenate([(error * z).mean(axis=0), error.mean(axis=0)])

    shift = np.zeros(3) if shift is None else shift

    def temperature_loss(theta: FloatArray) -> tuple[float, FloatArray]:
        scale = np.exp(theta[0])
        nll, gradient = loss_and_gradient(np.concatenate([np.repeat(scale, 3), scale * shift]))
        return nll, np.array([(gradient[:3].sum() + gradient[3:] @ shift) * scale])

    options = {"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-10}
    if method == "temperature":
        best = minimize(temperature_loss, np.zeros(1), jac=True, method="L-BFGS-B", options=options).x
        scale = float(np.exp(best[0]))
        return Calibration("temperature", (scale, scale, scale), _tuple(scale * shift), fitted_on)
    if method == "vector":
        start = np.concatenate([np.ones(3), np.zeros(3)])
        best = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
        best[3:] -= best[3:].mean()  # only differences of offsets count
        return Calibration("vector", _tuple(best[:3]), _tuple(best[3:]), fitted_on)
    raise UsageError(f"calibration: '{method}' is not fitted. {nearest(method, ('temperature', 'vector'))}")


def _tuple(values: Sequence[float] | FloatArray) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))
