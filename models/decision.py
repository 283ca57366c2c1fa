"""Decision: from probabilities to a signal. The strategy's rule turns signals into positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray, JsonObject
from ..data.labels import BUY, HOLD, SELL, class_shares
from ..errors import UsageError, nearest, quoted_value
from .signals import NO_SIGNAL

METHODS = ("argmax", "threshold", "utility")
FEWEST_BUYS_A_MONTH = 1.0
DEFAULT_ROUND_TRIP_COST = 0.0024  # 10 bps of fee and 2 bps of slippage, on both sides


@dataclass(frozen=True)
class Decision:
    """A rule that turns probabilities into signals.

    Parameters
    ----------
    method : str
        ``argmax``: the likeliest class. ``threshold``: BUY where p_buy reaches its threshold, SELL where p_sell reaches
        its threshold, HOLD otherwise; where both do, the one with the larger ratio to its threshold. ``utility``: BUY where
        the expected return over the label's horizon exceeds the round-trip cost, SELL where it is below minus that cost.
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
        if not isinstance(text, str):
            raise UsageError(f"{option}: expected text such as 'argmax', got {quoted_value(text)}.")
        method, colon, numbers = text.partition(":")
        if method not in METHODS:
            raise UsageError(f"{option}: unknown decision rule '{text}'. {nearest(method, METHODS)}")
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
        # Every digit: `parse` must return the same rule, so that a recorded command repeats a run.
        return self.method if self.thresholds is None else f"{self.method}:{self.thresholds[0]!r},{self.thresholds[1]!r}"

    def check_returns(self, class_returns: FloatArray | None) -> None:
        """Raise UsageError for ``utility`` where the classes' mean returns are not known, before any bar is scored."""
        if self.method == "utility" and class_returns is None:
            raise UsageError(
                "--decision utility: it weighs the mean returns of the classes, and no bars of this model's training are "
                "known. Choose argmax or threshold:P, or import the model with --data and a range as --trained-on."
            )

    def __call__(self, probabilities: FloatArray, *, class_returns: FloatArray | None, round_trip_cost: float) -> IntArray:
        """Return one signal per row; NO_SIGNAL where the probabilities are NaN. *Causality: row by row.*

        Parameters
        ----------
        probabilities : array, shape (n, 3)
        class_returns : array, shape (3,)
            Mean forward return of the training bars labelled SELL, HOLD, BUY, as fractions (``utility`` only).
        round_trip_cost : float
            Fees and slippage of entry and exit, as a fraction (``utility`` only).

        Raises
        ------
        UsageError
            For ``utility`` where ``class_returns`` are not known.
        """
        scored: BoolArray = np.asarray(np.isfinite(probabilities).all(axis=1))
        p = np.where(scored[:, None], probabilities, 1 / 3)
        if self.method == "argmax":
            signal = p.argmax(axis=1).astype(np.int8)
        elif self.method == "utility":
            self.check_returns(class_returns)
            assert class_returns is not None  # for mypy
            expected = p @ class_returns
            signal = np.where(expected > round_trip_cost, BUY, np.where(expected < -round_trip_cost, SELL, HOLD))
        else:
            assert self.thresholds is not None  # for mypy: parse and from_json give threshold its numbers
            sell, buy = p[:, SELL] / self.thresholds[0], p[:, BUY] / self.thresholds[1]
            signal = np.where((buy >= 1) & (buy > sell), BUY, np.where((sell >= 1) & (sell > buy), SELL, HOLD))
        return np.where(scored, signal, NO_SIGNAL).astype(np.int8)

    def to_json(self) -> JsonObject:
        """Return the rule as JSON values."""
        if self.thresholds is None:
            return {"method": self.method}
        return {"method": self.method, "thresholds": list(self.thresholds)}

    @classmethod
    def from_json(cls, values: object, *, place: str) -> Decision:
        """Read the result of ``to_json``; ``place`` names the file in errors.

        Raises
        ------
        UsageError
            When it is not a rule.
        """
        if not isinstance(values, dict) or not set(values) <= {"method", "thresholds"}:
            raise UsageError(f'{place}: expected a decision such as {{"method": "argmax"}}, got {values!r}.')
        given = values.get("thresholds")
        numbers = ",".join(map(str, given)) if isinstance(given, list) else str(given or "")
        method = str(values.get("method"))
        return cls.parse(f"{method}:{numbers}" if numbers else method, option=place)


def thresholds_for_shares(probabilities: FloatArray, shares: FloatArray) -> tuple[float, float]:
    """Return the (p_sell, p_buy) thresholds whose signals match given label shares on these rows.

    A bisection on a common factor of the two quantiles makes BUY and SELL together reach their joint share. Where both
    classes pass their thresholds, the larger ratio wins.

    Parameters
    ----------
    probabilities : array, shape (n, 3), all finite
    shares : array, shape (3,)
        Target shares of SELL, HOLD and BUY among the signals.
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
    probabilities: FloatArray, labels: IntArray, *, class_returns: FloatArray | None, step_hours: float
) -> Decision:
    """Choose the decision rule of a calibration, by a fixed order of preference.

    Expected utility after costs comes first. Where it would buy less than once a month on these bars, thresholds that match
    the labels' shares replace it.

    Parameters
    ----------
    probabilities : array, shape (n, 3), all finite
    labels : array of int8, shape (n,)
    class_returns : array, shape (3,), optional
        Where they are not known, the thresholds are chosen.
    step_hours : float
        Length of a bar.
    """
    if class_returns is not None:
        decision = Decision("utility")
        signals = decision(probabilities, class_returns=class_returns, round_trip_cost=DEFAULT_ROUND_TRIP_COST)
        months = len(probabilities) * step_hours / (24 * 30.4)
        if (signals == BUY).sum() >= FEWEST_BUYS_A_MONTH * months:
            return decision
    return Decision("threshold", thresholds_for_shares(probabilities, class_shares(labels)))
