"""Rank skill: AUCs with block-bootstrap intervals, and the best score of any pair of offsets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..data.labels import BUY, SELL
from ..models.statistics import matthews_correlation
from .cheap_learners import area_under_curve

BLOCK_BARS = 168
RESAMPLES = 300
SWEEP_POINTS = 21


class AucInterval(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} .. {self.high:.3f})"


def aucs(logits: FloatArray, labels: IntArray) -> FloatArray:
    """Return the AUCs of SELL, HOLD and BUY against the rest, and of BUY against SELL, (4,); NaN if a side is empty.

    Log-odds rank a class against the rest; the difference of logits ranks BUY against SELL.
    """
    result = np.full(4, np.nan)
    for c in range(3):
        others = np.delete(logits, c, axis=1)
        top = others.max(axis=1)
        odds = logits[:, c] - (top + np.log(np.exp(others - top[:, None]).sum(axis=1)))
        if 0 < (labels == c).sum() < len(labels):
            result[c] = area_under_curve(odds[labels == c], odds[labels != c])
    ratio = logits[:, BUY] - logits[:, SELL]
    if (labels == BUY).any() and (labels == SELL).any():
        result[3] = area_under_curve(ratio[labels == BUY], ratio[labels == SELL])
    return result


def blocks_of(n: int, length: int, random: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return the rows of one block-bootstrap resample: overlapping blocks drawn with replacement (Kuensch 1989)."""
    length = min(length, max(1, n // 2))
    starts = random.integers(0, n - length + 1, -(-n // length))
    return (starts[:, None] + np.arange(length)).ravel()[:n]


def auc_intervals(
    logits: FloatArray, labels: IntArray, random: np.random.Generator, block_bars: int = BLOCK_BARS
) -> list[AucInterval]:
    """Return the four AUCs of ``aucs`` with 95 % intervals from a block bootstrap, by default in blocks of a week.

    The label windows of neighbouring bars overlap, so single rows are not independent.
    """
    drawn = np.array(
        [aucs(logits[at], labels[at]) for at in (blocks_of(len(labels), block_bars, random) for _ in range(RESAMPLES))]
    )
    value = aucs(logits, labels)
    low, high = np.nanquantile(np.where(np.isfinite(drawn), drawn, 0.5), [0.025, 0.975], axis=0)
    return [AucInterval(float(v), float(a), float(b)) for v, a, b in zip(value, low, high, strict=True)]


class Sweep(NamedTuple):
    """The MCC of argmax on a grid of offsets: ``mcc`` (n, n), rows by ``sell`` (n,), columns by ``buy`` (n,)."""

    sell: FloatArray
    buy: FloatArray
    mcc: FloatArray

    @property
    def best(self) -> tuple[float, float, float]:
        """The highest MCC and its offsets for SELL and BUY (HOLD has 0)."""
        i, j = np.unravel_index(int(np.argmax(self.mcc)), self.mcc.shape)
        return float(self.mcc[i, j]), float(self.sell[i]), float(self.buy[j])


def offset_sweep(logits: FloatArray, labels: IntArray, points: int = SWEEP_POINTS) -> Sweep:
    """Score pairs of offsets for SELL and BUY, at quantiles of their log-odds against HOLD, by MCC.

    The offsets are tuned on the labels that score them, so the best MCC is an upper bound.
    """
    sell, buy = logits[:, 0] - logits[:, 1], logits[:, 2] - logits[:, 1]
    share = np.linspace(0.002, 0.998, points)
    at_sell, at_buy = -np.quantile(sell, share)[::-1], -np.quantile(buy, share)[::-1]
    mcc = np.zeros((points, points))
    for i, a in enumerate(at_sell):
        for j, b in enumerate(at_buy):
            s, u = sell + a, buy + b
            predicted = np.where((s > 0) & (s > u), 0, np.where(u > 0, 2, 1))
            table = np.bincount(3 * labels.astype(np.intp) + predicted, minlength=9).reshape(3, 3).astype(np.float64)
            mcc[i, j] = matthews_correlation(table)
    return Sweep(at_sell, at_buy, mcc)
