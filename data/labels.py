"""Labels: what the market did next. SELL=0, HOLD=1, BUY=2, here and everywhere.

There are two kinds of label, both written as text: ``horizon:6,0.01`` (``LabelSpec``) and ``triple-barrier:24,1.5,1.5``
(``TripleBarrier``). ``label_spec`` reads the text, ``labels_from_json`` the values in a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray, JsonObject
from ..errors import UsageError, nearest
from ..storage.json_records import RequiredKeys
from .bars import Bars

SELL, HOLD, BUY = 0, 1, 2
CLASS_NAMES = ("SELL", "HOLD", "BUY")
# By class name.
ClassCounts = Annotated[Mapping[str, int], RequiredKeys(CLASS_NAMES)]
ClassShares = Annotated[Mapping[str, float], RequiredKeys(CLASS_NAMES)]
NO_LABEL = -1
VOLATILITY_BARS = 168  # a week of hours: one whole cycle of quiet and busy hours


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

    def __str__(self) -> str:
        return f"horizon:{self.horizon_bars},{self.threshold!r}"

    @property
    def history_bars(self) -> int:
        """Number of bars before bar t that its label uses: none."""
        return 0

    @property
    def question(self) -> str:
        """The question that the labels answer, as text."""
        move = f"more than {100 * self.threshold:g} % up (BUY), down (SELL)"
        return f"is the close {self.horizon_bars} bars ahead {move}, or neither (HOLD)?"

    def forward_return(self, bars: Bars) -> FloatArray:
        """Return ``close[t + horizon] / close[t] - 1``, shape (n_bars,), NaN for the last ``horizon_bars``.

        Not causal by definition: row t uses bar t + horizon. It must never enter a feature.
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

    def to_json(self) -> JsonObject:
        """Return the spec as JSON values."""
        return {"kind": "horizon", "horizon_bars": self.horizon_bars, "threshold": self.threshold}


@dataclass(frozen=True)
class TripleBarrier:
    """The question a model is trained on: which of two prices do the next ``horizon_bars`` bars touch first?

    From the close of bar t, with sigma_t the standard deviation of the last 168 log returns of the closes (the latest one
    ends at bar t), the barriers are

        upper = close_t * (1 + up * sigma_t * sqrt(horizon_bars)),  lower = close_t * (1 - down * sigma_t * sqrt(horizon_bars))

    BUY where the high of one of the next ``horizon_bars`` bars reaches the upper barrier first, SELL where a low reaches
    the lower one first, HOLD where neither happens before the third barrier, time. A bar that touches both counts as SELL:
    its prices do not show which came first, and SELL is the pessimistic answer.

    From Lopez de Prado (2018), Advances in Financial Machine Learning, chapter 3: barriers in multiples of a trailing
    volatility. The book uses that of one day for every horizon; here it is scaled to the horizon by the square root of time,
    which for 24 hourly bars is the same unit. The book uses closes; here highs and lows count, as for a resting order.

    Parameters
    ----------
    horizon_bars : int
        Bars ahead (counted in bars, across gaps), 1 or more.
    up, down : float
        Distances of the barriers, in standard deviations of the move over ``horizon_bars``; above 0.
    """

    horizon_bars: int = 24
    up: float = 1.5
    down: float = 1.5

    def __post_init__(self) -> None:
        if self.horizon_bars < 1 or not 0 < self.up < math.inf or not 0 < self.down < math.inf:
            raise UsageError(
                f"labels: expected a horizon of 1 bar or more and two barriers at distances above 0, "
                f"got {self.horizon_bars}, {self.up} and {self.down}."
            )

    def __str__(self) -> str:
        return f"triple-barrier:{self.horizon_bars},{self.up!r},{self.down!r}"

    @property
    def history_bars(self) -> int:
        """Number of bars before bar t that its label uses: those of the volatility."""
        return VOLATILITY_BARS

    @property
    def question(self) -> str:
        """The question that the labels answer, as text."""
        return (
            f"within {self.horizon_bars} bars, is {self.up:g} standard deviations up touched first (BUY), "
            f"{self.down:g} down (SELL), or neither (HOLD)?"
        )

    def forward_return(self, bars: Bars) -> FloatArray:
        """Return the close of the first bar that touches a barrier (else of the last of the horizon) over close[t] - 1.

        Shape (n_bars,), NaN where there is no label. Not causal by definition: it must never enter a feature.
        """
        return self._outcome(bars)[1]

    def labels(self, bars: Bars) -> IntArray:
        """Return SELL, HOLD or BUY for each bar, shape (n_bars,).

        NO_LABEL (-1) for the last ``horizon_bars``, and where the volatility is not known: the first 168 bars, and any
        whose last 168 returns are all equal. Not causal by definition: it must never enter a feature.
        """
        return self._outcome(bars)[0]

    def _outcome(self, bars: Bars) -> tuple[IntArray, FloatArray]:
        n, h = len(bars), self.horizon_bars
        label, change = np.full(n, NO_LABEL, dtype=np.int8), np.full(n, np.nan)
        start, stop = VOLATILITY_BARS, n - h
        if start >= stop:
            return label, change
        close = bars.close[start:stop]
        reach = trailing_volatility(bars)[start:stop] * math.sqrt(h)
        upper, lower = close * (1 + self.up * reach), close * (1 - self.down * reach)
        found, after = np.full(len(close), HOLD, dtype=np.int8), np.full(len(close), h)
        open_ = np.ones(len(close), dtype=bool)
        for ahead in range(1, h + 1):
            rose, fell = (bars.high[start + ahead : stop + ahead] >= upper), (bars.low[start + ahead : stop + ahead] <= lower)
            touched = open_ & (rose | fell)
            found[touched] = np.where(fell[touched], SELL, BUY)
            after[touched] = ahead
            open_ &= ~touched
        known = reach > 0
        label[start:stop] = np.where(known, found, NO_LABEL)
        change[start:stop] = np.where(known, bars.close[np.arange(start, stop) + after] / close - 1, np.nan)
        return label, change

    def to_json(self) -> JsonObject:
        """Return the spec as JSON values."""
        return {"kind": "triple-barrier", "horizon_bars": self.horizon_bars, "up": self.up, "down": self.down}


Labels = LabelSpec | TripleBarrier
KINDS: dict[str, tuple[Callable[..., Labels], tuple[str, ...]]] = {
    "horizon": (LabelSpec, ("horizon_bars", "threshold")),
    "triple-barrier": (TripleBarrier, ("horizon_bars", "up", "down")),
}


def trailing_volatility(bars: Bars) -> FloatArray:
    """Return the sample standard deviation of the last 168 log returns of the closes, shape (n_bars,), per bar.

    NaN in the first 168 rows. *Causality: row t uses bars <= t.*
    """
    result = np.full(len(bars), np.nan)
    if len(bars) > VOLATILITY_BARS:
        returns = np.diff(np.log(bars.close))
        result[VOLATILITY_BARS:] = np.lib.stride_tricks.sliding_window_view(returns, VOLATILITY_BARS).std(axis=1, ddof=1)
    return result


def label_spec(text: str, *, option: str = "--labels") -> Labels:
    """Read ``horizon:BARS,THRESHOLD`` or ``triple-barrier:BARS,UP,DOWN``; the kind alone means its default numbers.

    Raises
    ------
    UsageError
        For any other text, naming ``option``.

    Examples
    --------
    >>> label_spec("horizon:6,0.01")
    LabelSpec(horizon_bars=6, threshold=0.01)
    >>> str(label_spec("triple-barrier"))
    'triple-barrier:24,1.5,1.5'
    """
    kind, colon, rest = text.strip().partition(":")
    if kind not in KINDS:
        raise UsageError(
            f"{option}: unknown kind of label '{kind}'. {nearest(kind, KINDS)} "
            "Write horizon:BARS,THRESHOLD or triple-barrier:BARS,UP,DOWN, such as horizon:6,0.01 or triple-barrier:24,1.5,1.5."
        )
    spec_class, names = KINDS[kind]
    if not colon:
        return spec_class()
    try:
        bars, *numbers = rest.split(",")
        if len(numbers) != len(names) - 1:
            raise ValueError
        values = (int(bars), *(float(number) for number in numbers))
    except ValueError:
        raise UsageError(
            f"{option}: expected {kind}:{','.join(('BARS', *names[1:])).upper()} with a whole number of bars, got '{text}'. "
            f"The default is {spec_class()}."
        ) from None
    try:
        return spec_class(*values)
    except UsageError as error:
        raise UsageError(f"{option}: {str(error).removeprefix('labels: ')} The default is {spec_class()}.") from None


def labels_from_json(values: object) -> Labels:
    """Return the spec that ``to_json`` wrote.

    Raises
    ------
    UsageError
        When the kind is unknown or a number is out of range.
    KeyError
        When a field is missing.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"labels: expected an object with a kind, got {values!r}.")
    kind = values.get("kind", "horizon")
    if kind not in KINDS:
        raise UsageError(f"labels: the kind '{kind}' is unknown. {nearest(str(kind), KINDS)}")
    spec_class, names = KINDS[kind]
    return spec_class(*(values[name] for name in names))


def class_counts(labels: IntArray) -> npt.NDArray[np.int64]:
    """Count SELL, HOLD and BUY, shape (3,); rows without a label do not count."""
    return np.bincount(labels[labels >= 0], minlength=3).astype(np.int64)


def class_shares(labels: IntArray) -> FloatArray:
    """Return the shares of SELL, HOLD and BUY, shape (3,), summing to 1; zeros when no row has a label."""
    counts = class_counts(labels)
    shares: FloatArray = counts / max(1, counts.sum())
    return shares
