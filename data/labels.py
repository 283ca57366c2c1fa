"""Labels: what the market did next. SELL=0, HOLD=1, BUY=2, here and everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .bars import Bars, FloatArray

SELL, HOLD, BUY = 0, 1, 2
CLASS_NAMES = ("SELL", "HOLD", "BUY")
NO_LABEL = -1

IntArray = npt.NDArray[np.int8]


@dataclass(frozen=True)
class LabelSpec:
    """The question a model is trained on: is the close ``horizon_bars`` ahead beyond ±``threshold``?

    Parameters
    ----------
    horizon_bars : int
        Bars ahead (counted in bars, across gaps), 1 or more.
    threshold : float
        Fraction of the close; 0.01 is 1 %.
    """

    horizon_bars: int = 6
    threshold: float = 0.01

    def __post_init__(self) -> None:
        if self.horizon_bars < 1 or not 0 < self.threshold < 1:
            raise UsageError(
                f"labels: expected a horizon of 1 bar or more and a threshold between 0 and 1, "
                f"got {self.horizon_bars} and {self.threshold}."
            )

    def forward_return(self, bars: Bars) -> FloatArray:
        """Return ``close[t + horizon] / close[t] - 1``, shape (n_bars,), NaN for the last ``horizon_bars``.

        Not causal, by its nature: row t uses bar t + horizon. It must never enter a feature.
        """
        result = np.full(len(bars), np.nan)
        h = self.horizon_bars
        result[: max(0, len(bars) - h)] = bars.close[h:] / bars.close[: max(0, len(bars) - h)] - 1
        return result

    def labels(self, bars: Bars) -> IntArray:
        """Return SELL, HOLD or BUY for each bar, shape (n_bars,); NO_LABEL (-1) for the last ``horizon_bars``.

        BUY where the forward return is above the threshold, SELL where it is below its negative, else HOLD.
        """
        change = self.forward_return(bars)
        result = np.full(len(bars), HOLD, dtype=np.int8)
        result[change > self.threshold] = BUY
        result[change < -self.threshold] = SELL
        result[np.isnan(change)] = NO_LABEL
        return result

    def to_json(self) -> dict[str, object]:
        """Return the spec as JSON values."""
        return {"kind": "horizon", "horizon_bars": self.horizon_bars, "threshold": self.threshold}


def class_counts(labels: IntArray) -> npt.NDArray[np.int64]:
    """Count SELL, HOLD and BUY, shape (3,); rows without a label do not count."""
    return np.bincount(labels[labels >= 0], minlength=3).astype(np.int64)


def class_shares(labels: IntArray) -> FloatArray:
    """Return the shares of SELL, HOLD and BUY, shape (3,), summing to 1; zeros when no row has a label."""
    counts = class_counts(labels)
    shares: FloatArray = counts / max(1, counts.sum())
    return shares
