"""Random walks as bars."""

from __future__ import annotations

import numpy as np

from flagbt.data.bars import Bars


def make_bars(n: int, seed: int = 0, *, start: str = "2024-01-01", hourly_volatility: float = 0.006) -> Bars:
    """Return a random walk of ``n`` hourly bars with consistent highs, lows and volumes."""
    random = np.random.default_rng(seed)
    close = 30_000 * np.exp(np.cumsum(random.normal(0, hourly_volatility, n)))
    open_ = np.concatenate([[30_000.0], close[:-1]])
    reach = np.abs(random.normal(0, hourly_volatility / 2, (2, n)))
    high, low = np.maximum(open_, close) * (1 + reach[0]), np.minimum(open_, close) * (1 - reach[1])
    time = np.datetime64(start, "ns") + np.arange(n) * np.timedelta64(3600, "s")
    return Bars(time, open_, high, low, close, random.lognormal(5, 1, n), source=f"random walk {seed}", synthetic=True)
