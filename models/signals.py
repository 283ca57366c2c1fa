"""Signals: what a strategy says at every bar, and, where a model speaks, the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..data.bars import FloatArray
from ..data.labels import BUY, IntArray
from ..errors import StrategyError

NO_SIGNAL = -1


@dataclass(frozen=True, eq=False)
class Signals:
    """One row a bar. *Causality: row t uses bars <= t.*

    Parameters
    ----------
    signal : array of int8, shape (n_bars,)
        SELL=0, HOLD=1, BUY=2 after calibration and decision; NO_SIGNAL (-1) in the warm-up.
    raw : array of int8, shape (n_bars,)
        The class of the highest uncalibrated logit; equal to ``signal`` for strategies without a model.
    logits : array of float64, shape (n_bars, 3), optional
        Uncalibrated, in the order SELL, HOLD, BUY; NaN in the warm-up. None for strategies without a model.
    probabilities : array of float64, shape (n_bars, 3), optional
        Calibrated; NaN in the warm-up. None for strategies without a model.
    """

    signal: IntArray
    raw: IntArray
    logits: FloatArray | None = None
    probabilities: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.signal)

    @classmethod
    def plain(cls, signal: npt.NDArray[np.integer]) -> Signals:
        """Wrap the signals of a strategy without a model.

        Raises
        ------
        StrategyError
            When one is not SELL=0, HOLD=1, BUY=2 or NO_SIGNAL=-1: cast to int8, a NaN would become a SELL.
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
        """How many bars at the start carry no signal."""
        has = self.signal != NO_SIGNAL
        return int(np.argmax(has)) if has.any() else len(has)

    def take(self, part: slice) -> Signals:
        """Return the rows at the positions ``part``."""
        cut = [None if rows is None else rows[part] for rows in (self.logits, self.probabilities)]
        return Signals(self.signal[part], self.raw[part], cut[0], cut[1])

    def frame(self, index: pd.DatetimeIndex) -> pd.DataFrame:
        """Return the columns logit_sell .. logit_buy, p_sell .. p_buy (where a model speaks), raw_signal, signal."""
        columns: dict[str, npt.NDArray[np.generic]] = {}
        for prefix, rows in (("logit", self.logits), ("p", self.probabilities)):
            if rows is not None:
                columns |= {f"{prefix}_{name}": rows[:, i] for i, name in enumerate(("sell", "hold", "buy"))}
        return pd.DataFrame(columns | {"raw_signal": self.raw, "signal": self.signal}, index=index)
