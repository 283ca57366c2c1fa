"""Decision: from probabilities to a signal. What a position then makes of the signal is the strategy's rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..data.labels import BUY, HOLD, SELL, class_shares
from ..errors import UsageError, nearest
from .signals import NO_SIGNAL

METHODS = ("argmax", "threshold", "utility")
FEWEST_BUYS_A_MONTH = 1.0
DEFAULT_ROUND_TRIP_COST = 0.0024  # 10 bps of fee and 2 bps of slippage, on both sides


@dataclass(frozen=True)
class Decision:
    """One of three rules.

    Parameters
    ----------
    method : str
        ``argmax``: the likeliest class. ``threshold``: BUY where p_buy reaches its threshold, SELL where p_sell reaches
        its own, HOLD otherwise; where both do, the one further above its threshold as a ratio. ``utility``: BUY where the
        expected return over the label's horizon exceeds the round trip's cost, SELL where it is below its negative.
    thresholds : tuple of two float
        (p_sell, p_buy), for ``threshold``.
    """

    method: str = "argmax"
    thresholds: tuple[float, float] | None = None

    @classmethod
    def parse(cls, text: str, *, option: str = "--decision") -> Decision:
        """Read ``argmax``, ``utility``, ``threshold:P`` or ``threshold:PSELL,PBUY``.

        Raises
        ------
        UsageError
            For any other text, or thresholds outside (0, 1).
        """
        method, colon, numbers = text.partition(":")
        if method not in METHODS:
            raise UsageError(f"{option}: '{text}' is no decision rule. {nearest(method, METHODS)}")
        if method != "threshold":
            if colon:
                raise UsageError(f"{option}: '{method}' takes no numbers, got '{text}'. Write {method}.")
            return cls(method)
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            values = []
        if len(values) not in (1, 2) or not all(0 < value < 1 for value in values):
            raise UsageError(
                f"{option}: expected threshold:P or threshold:PSELL,PBUY with probabilities between 0 and 1, got '{text}'."
            )
        return cls(method, (values[0], values[-1]))

    def __str__(self) -> str:
        # Every digit: `parse` must give the same rule back, or a command that repeats a run would not.
        return self.method if self.thresholds is None else f"{self.method}:{self.thresholds[0]!r},{self.thresholds[1]!r}"

    def __call__(self, probabilities: FloatArray, *, class_returns: FloatArray, round_trip_cost: float) -> IntArray:
        """Return one signal a row; NO_SIGNAL where the probabilities are NaN. *Causality: row by row.*

        Parameters
        ----------
        probabilities : array, shape (n, 3)
        class_returns : array, shape (3,)
            Mean forward return of the training bars labelled SELL, HOLD, BUY, as fractions (``utility`` only).
        round_trip_cost : float
            Fees and slippage of entering and leaving, as a fraction (``utility`` only).
        """
        scored: BoolArray = np.asarray(np.isfinite(probabilities).all(axis=1))
        p = np.where(scored[:, None], probabilities, 1 / 3)
        if self.method == "argmax":
            signal = p.argmax(axis=1).astype(np.int8)
        elif self.method == "utility":
            expected = p @ class_returns
            signal = np.where(expected > round_trip_cost, BUY, np.where(expected < -round_trip_cost, SELL, HOLD))
        else:
            assert self.thresholds is not None  # for mypy: parse and from_json give threshold its numbers
            sell, buy = p[:, SELL] / self.thresholds[0], p[:, BUY] / self.thresholds[1]
            signal = np.where((buy >= 1) & (buy > sell), BUY, np.where((sell >= 1) & (sell > buy), SELL, HOLD))
        return np.where(scored, signal, NO_SIGNAL).astype(np.int8)

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        if self.thresholds is None:
            return {"method": self.method}
        return {"method": self.method, "thresholds": list(self.thresholds)}

    @classmethod
    def from_json(cls, values: dict[str, Any], *, place: str) -> Decision:
        """Read what ``to_json`` wrote; ``place`` names the file in errors.

        Raises
        ------
        UsageError
            When it is no rule.
        """
        if not isinstance(values, dict) or not set(values) <= {"method", "thresholds"}:
            raise UsageError(f'{place}: expected a decision such as {{"method": "argmax"}}, got {values!r}.')
        given = values.get("thresholds")
        numbers = ",".join(map(str, given)) if isinstance(given, list) else str(given or "")
        method = str(values.get("method"))
        return cls.parse(f"{method}:{numbers}" if numbers else method, option=place)


def thresholds_for_shares(probabilities: FloatArray, shares: FloatArray) -> tuple[float, float]:
    """Return the (p_sell, p_buy) thresholds whose signals match given label shares on these rows.

    Found by bisection on one common factor of the two quantiles, so that BUY and SELL together reach their common
    share; where both classes pass their thresholds the stronger ratio wins.

    Parameters
    ----------
    probabilities : array, shape (n, 3), all finite
    shares : array, shape (3,)
        The shares that SELL, HOLD and BUY should have among the signals.
    """
    low, high = 1.0, 3.0  # how much more often than its share a class passes its own threshold
    nothing = np.zeros(3)
    for _ in range(40):
        factor = (low + high) / 2
        levels = [float(np.quantile(probabilities[:, c], max(0.0, 1 - factor * shares[c]))) for c in (SELL, BUY)]
        pair = (min(max(levels[0], 1e-6), 1 - 1e-6), min(max(levels[1], 1e-6), 1 - 1e-6))
        signal = Decision("threshold", pair)(probabilities, class_returns=nothing, round_trip_cost=0.0)
        if np.mean(signal != HOLD) < shares[SELL] + shares[BUY]:
            low = factor
        else:
            high = factor
    return pair


def choose_decision(
    probabilities: FloatArray,
    labels: IntArray,
    *,
    class_returns: FloatArray,
    step_hours: float,
    round_trip_cost: float = DEFAULT_ROUND_TRIP_COST,
) -> Decision:
    """Choose the rule that goes with a calibration, by a fixed order of preference.

    Expected utility after costs comes first. Where it would buy less than once a month on these bars, thresholds that give
    signals the labels' own shares take its place.

    Parameters
    ----------
    probabilities : array, shape (n, 3), all finite
    labels : array of int8, shape (n,)
    class_returns : array, shape (3,)
    step_hours : float
        Of a bar.
    """
    decision = Decision("utility")
    signals = decision(probabilities, class_returns=class_returns, round_trip_cost=round_trip_cost)
    months = len(probabilities) * step_hours / (24 * 30.4)
    if (signals == BUY).sum() < FEWEST_BUYS_A_MONTH * months:
        return Decision("threshold", thresholds_for_shares(probabilities, class_shares(labels)))
    return decision
