"""Signals: a strategy's signal at every bar, with the logits and probabilities of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..data.labels import BUY
from ..errors import StrategyError, kind_of

if TYPE_CHECKING:
    import pandas as pd

NO_SIGNAL = -1


@dataclass(frozen=True, eq=False)
class Signals:
    """Signals of a strategy, one row per bar. *Causality: row t uses bars <= t.*

    Parameters
    ----------
    signal : array of int8, shape (n_bars,), optional
        SELL=0, HOLD=1, BUY=2 after calibration and decision; NO_SIGNAL (-1) in the warm-up. By default the likeliest class.
    raw : array of int8, shape (n_bars,), optional
        The class of the highest uncalibrated logit; equal to ``signal`` for strategies without a model. By default the
        likeliest class before calibration, or ``signal``.
    logits : array of float64, shape (n_bars, 3), optional
        Uncalibrated, in the order SELL, HOLD, BUY; NaN in the warm-up. None for strategies without a model.
    probabilities : array of float64, shape (n_bars, 3), optional
        Calibrated; NaN in the warm-up. None for strategies without a model. ``Signals(probabilities=p)`` is enough.

    Raises
    ------
    StrategyError
        Where neither signals nor numbers to derive them from are given.
    """

    signal: IntArray = None  # type: ignore[assignment]  # set by __post_init__, as is raw
    raw: IntArray = None  # type: ignore[assignment]
    logits: FloatArray | None = None
    probabilities: FloatArray | None = None

    def __post_init__(self) -> None:
        """Derive the signals and raw classes that were not given."""
        if self.signal is None:
            rows = self.logits if self.probabilities is None else self.probabilities
            object.__setattr__(self, "signal", _likeliest(rows))
        if self.raw is None:
            rows = self.probabilities if self.logits is None else self.logits
            raw = self.signal if rows is None else _likeliest(rows)
            if raw.shape == np.shape(self.signal):  # a bar without a signal has no raw class, and the reverse
                raw = np.where((raw == NO_SIGNAL) | (self.signal == NO_SIGNAL), self.signal, raw).astype(np.int8)
            object.__setattr__(self, "raw", raw)

    def __len__(self) -> int:
        return len(self.signal)

    @classmethod
    def plain(cls, signal: npt.NDArray[np.integer]) -> Signals:
        """Wrap the signals of a strategy without a model.

        Raises
        ------
        StrategyError
            When one is not SELL=0, HOLD=1, BUY=2 or NO_SIGNAL=-1; a NaN cast to int8 would become SELL.
        """
        given = np.asarray(signal)
        bad = ~np.isin(given, (*range(BUY + 1), NO_SIGNAL))
        if bad.any():
            raise StrategyError(
                f"Signals.plain: row {int(np.argmax(bad))} is {given.ravel()[int(np.argmax(bad))]}, expected SELL=0, HOLD=1, "
                f"BUY=2, or -1 for none ({int(bad.sum()):,} such rows)."
            )
        values = given.astype(np.int8)
        return cls(signal=values, raw=values)

    @property
    def warmup_bars(self) -> int:
        """Number of bars without a signal at the start."""
        has = self.signal != NO_SIGNAL
        return int(np.argmax(has)) if has.any() else len(has)

    def take(self, part: slice) -> Signals:
        """Return the rows at the positions ``part``."""
        cut = [None if rows is None else rows[part] for rows in (self.logits, self.probabilities)]
        return Signals(self.signal[part], self.raw[part], cut[0], cut[1])

    def frame(self, index: pd.DatetimeIndex) -> pd.DataFrame:
        """Return the columns logit_sell .. logit_buy, p_sell .. p_buy (with a model), raw_signal, signal."""
        import pandas as pd

        columns: dict[str, npt.NDArray[np.generic]] = {}
        for prefix, rows in (("logit", self.logits), ("p", self.probabilities)):
            if rows is not None:
                columns |= {f"{prefix}_{name}": rows[:, i] for i, name in enumerate(("sell", "hold", "buy"))}
        return pd.DataFrame(columns | {"raw_signal": self.raw, "signal": self.signal}, index=index)


def _likeliest(rows: FloatArray | None) -> IntArray:
    """Return the class of each row's largest number; NO_SIGNAL where one is not finite."""
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind not in "iuf":
        got = f"shape {rows.shape} of {rows.dtype}" if isinstance(rows, np.ndarray) else kind_of(rows)
        raise StrategyError(
            "Signals: give signal=, one of SELL=0, HOLD=1, BUY=2 per bar, or probabilities= as a numpy array of shape "
            f"(n_bars, 3) in the order SELL, HOLD, BUY; got {got}."
        )
    known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    return np.where(known, np.where(known[:, None], rows, 0.0).argmax(axis=1), NO_SIGNAL).astype(np.int8)
