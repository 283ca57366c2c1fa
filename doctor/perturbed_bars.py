"""Perturbed bars, to detect look-ahead: equal bars up to a bar, different bars after it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import FloatArray
from ..data.bars import COLUMNS, Bars

VOLATILITIES = (0.002, 0.006, 0.02, 0.05)


def perturb_future(bars: Bars, t: int, random: np.random.Generator) -> Bars:
    """Return bars that equal ``bars`` up to and including bar t, with other moves, wicks and volumes after it."""
    n = len(bars) - t - 1
    if n <= 0:
        return bars
    volatility = float(random.choice(VOLATILITIES))
    moves = random.normal(random.choice([-0.2, 0.0, 0.2]) * volatility, volatility, n)
    close = bars.close[t] * np.exp(np.clip(np.cumsum(moves), -3.0, 3.0))
    open_ = np.concatenate([bars.close[t : t + 1], close[:-1]])
    level = float(np.median(bars.volume[max(0, t - 200) : t + 1])) or 1.0
    later = {
        "open": open_,
        "high": np.maximum(open_, close) * (1 + random.exponential(volatility / 2, n)),
        "low": np.minimum(open_, close) * (1 - np.minimum(random.exponential(volatility / 2, n), 0.5)),
        "close": close,
        "volume": level * random.lognormal(random.choice([-1.0, 1.0]), 1.0, n),
    }
    values: dict[str, Any] = {name: np.concatenate([getattr(bars, name)[: t + 1], later[name]]) for name in COLUMNS}
    return Bars(bars.time, **values, source=bars.source, synthetic=bars.synthetic, step=bars.step)


def perturb_past(bars: Bars, random: np.random.Generator) -> Bars:
    """Return other bars with the same timestamps: the same moves, wicks and volumes in another order, at another level.

    Half of the draws also reverse the sign of the moves, so that a rising market falls.
    """
    n = len(bars)
    order = random.permutation(n)
    before = np.concatenate([bars.open[:1], bars.close[:-1]])
    moves = {name: np.log(getattr(bars, name) / before)[order] for name in ("open", "high", "low", "close")}
    if random.random() < 0.5:
        moves = {"open": -moves["open"], "high": -moves["low"], "low": -moves["high"], "close": -moves["close"]}
    level = bars.open[0] * float(random.choice([0.2, 0.5, 2.0, 5.0]))
    start = np.concatenate([[0.0], np.cumsum(moves["close"])[:-1]])
    prices = {name: level * np.exp(np.clip(start + move, -50.0, 50.0)) for name, move in moves.items()}
    prices["high"] = np.maximum.reduce([prices["high"], prices["open"], prices["close"]])
    prices["low"] = np.minimum.reduce([prices["low"], prices["open"], prices["close"]])
    return Bars(bars.time, **prices, volume=bars.volume[order], source=bars.source, synthetic=bars.synthetic, step=bars.step)


def random_walk_like(n: int, random: np.random.Generator, *, volatility: float, start: str = "2023-01-01") -> Bars:
    """Return hourly bars of a driftless geometric random walk, whose next move is unpredictable.

    Parameters
    ----------
    volatility : float
        Standard deviation of a bar's log return.
    """
    steps = random.normal(0.0, volatility, (n, 4)) / 2.0  # four moves per bar, which determine high and low
    path = np.cumsum(steps, axis=1) + np.concatenate([[0.0], np.cumsum(steps.sum(axis=1))[:-1]])[:, None]
    close = 30_000.0 * np.exp(path[:, -1])
    open_ = np.concatenate([[30_000.0], close[:-1]])
    inside = 30_000.0 * np.exp(path)
    time = np.datetime64(start, "ns") + np.arange(n) * np.timedelta64(3600, "s")
    return Bars(
        time,
        open_,
        np.maximum(inside.max(axis=1), open_),
        np.minimum(inside.min(axis=1), open_),
        close,
        random.lognormal(5.0, 0.8, n),
        source="random walk",
        synthetic=True,
    )


class Reach(NamedTuple):
    """Bars that each column looks ahead, (n_columns,); 0 for none. ``to_start`` marks columns whose first rows changed: they
    use a statistic of the whole series.
    """

    bars: np.typing.NDArray[np.int64]
    to_start: np.typing.NDArray[np.bool_]


def reach_between(one: FloatArray, other: FloatArray, t: int, scale: FloatArray, tolerance: float) -> Reach:
    """Find the first different row in two arrays of rows whose bars are equal up to bar t.

    A different row s <= t uses bar t + 1 or later, so it looks at least t + 1 - s bars ahead.

    Parameters
    ----------
    one, other : array, shape (n, F) and (m, F)
        Both have at least the rows up to t.
    scale : array, shape (F,)
        The unit of differences in each column.
    tolerance : float
        Differences up to ``tolerance * scale`` count as rounding. A number always differs from NaN.
    """
    a, b = one[: t + 1], other[: t + 1]
    with np.errstate(invalid="ignore"):
        differs = (np.abs(a - b) > tolerance * scale) | (np.isnan(a) != np.isnan(b))
    any_ = differs.any(axis=0)
    first = np.where(any_, differs.argmax(axis=0), t + 1)
    known = ~(np.isnan(a) & np.isnan(b))
    begins = np.where(known.any(axis=0), known.argmax(axis=0), 0)
    return Reach(np.asarray(t + 1 - first), np.asarray(any_ & (first <= begins + 1)))
