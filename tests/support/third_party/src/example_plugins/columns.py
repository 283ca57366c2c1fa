"""A feature set of three columns."""

from __future__ import annotations

import numpy as np

from flagbt import Bars, FeatureSet

LAGS = (1, 6, 24)


def compute(bars: Bars) -> np.ndarray:
    """Return the log returns over 1, 6 and 24 bars, in percent. *Causality: row t uses bars <= t.*"""
    log_close = np.log(bars.close)
    rows = np.full((len(bars), len(LAGS)), np.nan)
    for column, lag in enumerate(LAGS):
        rows[lag:, column] = 100 * (log_close[lag:] - log_close[:-lag])
    return rows


FEATURES = FeatureSet("example-columns", columns=("return_1", "return_6", "return_24"), warmup_bars=max(LAGS), compute=compute)
