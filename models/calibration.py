"""Calibration: a pure function from logits to probabilities. It never runs the model; ``calibration_fit.py`` fits it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..arrays import FloatArray, JsonObject
from ..data.time_range import TimeRange
from ..errors import UsageError, nearest
from .statistics import log_softmax, softmax

FITTED_METHODS = ("temperature", "offset", "vector", "prior", "dirichlet")
METHODS = ("none", *FITTED_METHODS)
Three = tuple[float, float, float]


@dataclass(frozen=True)
class Calibration:
    """``softmax(scale x + offset)``, where x are the logits, or the log-probabilities for ``dirichlet``.

    Parameters
    ----------
    method : str
        ``none`` (scale 1, offset 0); ``offset`` (added to the logits, the "logit correction"); ``prior`` (the offset that
        gives the requested shares, Saerens et al. 2002); ``temperature`` (one scale 1/T, after known training weights are
        removed) and ``vector`` (a scale and an offset per class), Guo et al. 2017; ``dirichlet`` (a scale for every pair of
        classes, on log-probabilities), Kull et al. 2019.
    scale : tuple of three float, or three of them
        For SELL, HOLD, BUY. For ``dirichlet``, row i holds the weights of the log-probabilities of SELL, HOLD and BUY in
        class i.
    offset : tuple of three float
        For SELL, HOLD, BUY.
    fitted_on : str, optional
        The time range of the fit, ``A-B``; later runs on it are refused.
    """

    method: str = "none"
    scale: Three | tuple[Three, Three, Three] = (1.0, 1.0, 1.0)
    offset: Three = (0.0, 0.0, 0.0)
    fitted_on: str | None = field(default=None)

    def __call__(self, logits: FloatArray) -> FloatArray:
        """Return probabilities (n, 3) of logits (n, 3); NaN rows stay NaN. *Causality: row by row.*"""
        x = log_softmax(logits) if self.method == "dirichlet" else logits
        scale = np.asarray(self.scale)
        matrix = np.diag(scale) if scale.ndim == 1 else scale
        # Not a matrix product: its bits depend on the number of rows.
        return softmax((x[:, None, :] * matrix).sum(axis=2) + np.asarray(self.offset))

    def to_json(self) -> JsonObject:
        """Return the calibration as JSON values."""
        values: JsonObject = {"method": self.method, "scale": np.asarray(self.scale).tolist(), "offset": list(self.offset)}
        return values if self.fitted_on is None else {**values, "fitted_on": self.fitted_on}

    @classmethod
    def from_json(cls, values: object, *, place: str) -> Calibration:
        """Read the result of ``to_json``; ``place`` names the file in errors.

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
            raise UsageError(f"{place}: unknown field '{unknown[0]}' of a calibration. {nearest(unknown[0], known)}")
        method = values.get("method")
        if method not in METHODS:
            raise UsageError(f"{place}: unknown calibration method '{method}'. {nearest(str(method), METHODS)}")
        given = values.get("scale", (1.0, 1.0, 1.0))
        scale: Three | tuple[Three, Three, Three]
        if method == "dirichlet":
            rows = given if isinstance(given, list) and len(given) == 3 else [given]
            each = [_three(row, f"{place}: scale, row {i} of 3") for i, row in enumerate(rows, 1)]
            if len(each) != 3:
                raise UsageError(f"{place}: scale: expected three rows of three numbers for dirichlet, got {given}.")
            scale = (each[0], each[1], each[2])
        else:
            scale = _three(given, f"{place}: scale")
        offset = _three(values.get("offset", (0.0, 0.0, 0.0)), f"{place}: offset")
        fitted_on = values.get("fitted_on")
        if fitted_on is not None:
            TimeRange.parse(str(fitted_on), option=f"{place}: fitted_on")
        if method == "none" and (scale, offset) != (cls.scale, cls.offset):
            raise UsageError(f"{place}: the method none has a scale or an offset. Name it vector, or remove the numbers.")
        return cls(method, scale, offset, None if fitted_on is None else str(fitted_on))

    @classmethod
    def of_offset(cls, text: str) -> Calibration:
        """Read ``a,b,c``: the numbers added to the logits of SELL, HOLD and BUY."""
        return cls("offset", offset=_three(text.split(","), f"--calibration offset:{text}"))


def recorded_text(text: str) -> str:
    """Return the text of ``--calibration`` as records and trial digests hold it: of a file only its name."""
    return text if text == "none" or text.partition(":")[0] in ("stored", "offset") else Path(text).name


def _three(values: object, place: str) -> Three:
    try:
        numbers = [float(value) for value in values] if isinstance(values, Iterable) else []
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise UsageError(f"{place}: expected three finite numbers for SELL, HOLD, BUY, such as 3.0,-2.5,1.0, got {values}.")
    return (numbers[0], numbers[1], numbers[2])
