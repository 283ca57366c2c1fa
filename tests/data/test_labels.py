"""Labels: what the market did next."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import pairwise
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest

from flagbt.data.bars import HOUR, Bars
from flagbt.data.labels import (
    BUY,
    HOLD,
    NO_LABEL,
    SELL,
    VOLATILITY_BARS,
    LabelSpec,
    TripleBarrier,
    class_counts,
    class_shares,
    label_spec,
    labels_from_json,
)
from flagbt.data.readers import read_bars
from flagbt.errors import UsageError


def bars_of(*close: float) -> Bars:
    """Return flat hourly bars with these closes."""
    price = np.array(close, dtype=np.float64)
    time = np.datetime64("2024-01-01", "ns") + np.arange(len(close)) * HOUR
    return Bars(time, price, price, price, price, np.ones(len(close)))


def test_by_hand() -> None:
    """A label would have the wrong sign, be one bar off, or count a move of exactly the threshold."""
    # A quarter is exact in binary floats: over 2 bars +30 %, 0, -5/13, exactly +25 %, exactly -25 %.
    bars = bars_of(100, 100, 130, 100, 80, 125, 60)
    spec = LabelSpec(horizon_bars=2, threshold=0.25)
    np.testing.assert_allclose(spec.forward_return(bars), [0.3, 0, -5 / 13, 0.25, -0.25, np.nan, np.nan])
    assert spec.labels(bars).tolist() == [BUY, HOLD, SELL, HOLD, HOLD, NO_LABEL, NO_LABEL]
    assert (SELL, HOLD, BUY) == (0, 1, 2)


def test_counts_and_shares() -> None:
    """Rows without a label would count as a class."""
    labels = np.array([BUY, BUY, SELL, NO_LABEL, HOLD], dtype=np.int8)
    assert class_counts(labels).tolist() == [1, 1, 2]
    assert class_shares(labels).tolist() == [0.25, 0.25, 0.5]
    assert class_shares(labels[3:4]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("n", [1, 5, 6, 7])
def test_fewer_bars_than_the_horizon(n: int) -> None:
    """A short series would raise, or get labels without data."""
    labels = LabelSpec().labels(bars_of(*[100.0] * n))
    assert labels.tolist() == [HOLD] * (n - 6) + [NO_LABEL] * min(n, 6)


def test_only_the_bar_at_the_horizon_matters(walk: Callable[..., Bars]) -> None:
    """A label would depend on bars before or after the horizon."""
    bars, spec = walk(60), LabelSpec(5, 0.004)
    for at in range(55):
        assert spec.labels(bars)[at] == spec.labels(bars_of(*bars.close[[at, at, at, at, at, at + 5]]))[0]


@pytest.mark.parametrize(("horizon", "threshold"), [(0, 0.01), (-1, 0.01), (6, 0.0), (6, 1.0), (6, float("nan"))])
def test_senseless_specs(horizon: int, threshold: float) -> None:
    """A model would be trained on a meaningless label."""
    with pytest.raises(UsageError, match=r"labels: expected a horizon of 1 bar or more"):
        LabelSpec(horizon, threshold)


def test_the_development_series(shared_data: Path) -> None:
    """The class shares behind the design's numbers would differ from those of the original training."""
    bars = read_bars(shared_data / "btc_usdt_1h_2020_2024.csv")
    labels = LabelSpec().labels(bars)
    assert (labels[-6:] == NO_LABEL).all()
    labels[-6:] = HOLD  # as the original training counted them
    assert len(labels[23:]) == 43_793
    assert class_counts(labels[23:]).tolist() == [7_136, 28_707, 7_950]


def first_touch(bars: Bars, t: int, spec: TripleBarrier) -> tuple[int, float]:
    """Return the label of bar t and its return, computed independently: bar by bar, with the standard library."""
    week = bars.close[t - VOLATILITY_BARS : t + 1].tolist()
    sigma = statistics.stdev(log(b / a) for a, b in pairwise(week))
    upper = bars.close[t] * (1 + spec.up * sigma * sqrt(spec.horizon_bars))
    lower = bars.close[t] * (1 - spec.down * sigma * sqrt(spec.horizon_bars))
    for later in range(t + 1, t + spec.horizon_bars + 1):
        if bars.low[later] <= lower:  # checked first: a bar with both is a SELL
            return SELL, bars.close[later] / bars.close[t] - 1
        if bars.high[later] >= upper:
            return BUY, bars.close[later] / bars.close[t] - 1
    return HOLD, bars.close[t + spec.horizon_bars] / bars.close[t] - 1


@pytest.mark.parametrize("spec", [TripleBarrier(), TripleBarrier(5, 0.6, 1.1), TripleBarrier(1, 0.3, 0.3)], ids=str)
def test_triple_barrier_bar_by_bar(walk: Callable[..., Bars], spec: TripleBarrier) -> None:
    """A barrier would differ from the documented formula, or a later touch would win over an earlier one."""
    bars = walk(500)
    labels, returns = spec.labels(bars), spec.forward_return(bars)
    known = range(VOLATILITY_BARS, len(bars) - spec.horizon_bars)
    by_hand = [first_touch(bars, t, spec) for t in known]
    assert labels[known].tolist() == [label for label, _ in by_hand]
    np.testing.assert_allclose(returns[known], [change for _, change in by_hand])
    assert {SELL, HOLD, BUY} == set(labels[known].tolist())
    unknown = np.r_[: known.start, known.stop : len(bars)]
    assert (labels[unknown] == NO_LABEL).all()
    assert np.isnan(returns[unknown]).all()


def test_triple_barrier_candles() -> None:
    """A wick would not count, a bar that touches both would count as BUY, or the horizon would not end the label."""
    n = VOLATILITY_BARS + 4
    close = 100 * 1.01 ** (np.arange(n) % 2)  # 1 % up, 1 % down: a volatility of 1 %, and a barrier 2 % away over 4 bars
    close[-4:] = close[-5]
    time = np.datetime64("2024-01-01", "ns") + np.arange(n + 1) * HOUR

    def label_of(*candles: tuple[float, float]) -> int:
        price = np.append(close, close[-5])
        high, low = price.copy(), price.copy()
        for at, (up, down) in enumerate(candles):
            high[n - 3 + at], low[n - 3 + at] = price[-1] * (1 + up), price[-1] * (1 - down)
        bars = Bars(time, price, np.maximum(high, price), np.minimum(low, price), price, np.ones(n + 1))
        return int(TripleBarrier(4, 1.0, 1.0).labels(bars)[n - 4])

    assert label_of((0.0, 0.0), (0.021, 0.0)) == BUY
    assert label_of((0.0, 0.021), (0.021, 0.0)) == SELL
    assert label_of((0.021, 0.0), (0.0, 0.021)) == BUY
    assert label_of((0.021, 0.021)) == SELL
    assert label_of((0.018, 0.018), (0.018, 0.018)) == HOLD


def test_triple_barrier_without_a_volatility() -> None:
    """Constant prices would touch barriers of zero width, and get labels."""
    assert set(TripleBarrier().labels(bars_of(*[100.0] * 400)).tolist()) == {NO_LABEL}
    assert set(TripleBarrier().labels(bars_of(*[100.0] * 20)).tolist()) == {NO_LABEL}


def test_triple_barrier_looks_no_further_than_its_horizon(
    walk: Callable[..., Bars], other_future: Callable[[Bars, int], Bars]
) -> None:
    """A label would use bars after its horizon, and purging by the horizon would leave a leak."""
    bars, spec, t = walk(600), TripleBarrier(12), 400
    here, there = spec.labels(bars), spec.labels(other_future(bars, t))
    assert np.array_equal(here[: t - 11], there[: t - 11])
    assert not np.array_equal(here, there)
    wild = Bars(
        bars.time[:240],
        *(np.r_[row[:40] * 3, row[40:240]] for row in (bars.open, bars.high, bars.low, bars.close)),
        bars.volume[:240],
    )
    assert np.array_equal(
        spec.labels(wild)[40 + VOLATILITY_BARS :], spec.labels(bars.take(slice(0, 240)))[40 + VOLATILITY_BARS :]
    )


@pytest.mark.parametrize(
    "spec", [LabelSpec(), LabelSpec(3, 0.0123456789), TripleBarrier(), TripleBarrier(7, 0.1, 2.25)], ids=str
)
def test_specs_are_written_and_read_back(spec: LabelSpec | TripleBarrier) -> None:
    """A checkpoint, or a record, would name different labels than the model was trained on."""
    assert label_spec(str(spec)) == spec == labels_from_json(spec.to_json())
    assert labels_from_json({"horizon_bars": 6, "threshold": 0.01}) == LabelSpec()
    assert spec.question.endswith("neither (HOLD)?")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("horizn:6,0.01", "unknown kind of label 'horizn'. Did you mean 'horizon'?"),
        ("tripple-barrier", "Did you mean 'triple-barrier'?"),
        ("", "unknown kind of label"),
        ("horizon:6", "expected horizon:BARS,THRESHOLD with a whole number of bars, got 'horizon:6'"),
        ("horizon:6.5,0.01", "with a whole number of bars"),
        ("triple-barrier:24,1.5", "expected triple-barrier:BARS,UP,DOWN"),
        ("triple-barrier:24,1.5,0", "two barriers at distances above 0, got 24, 1.5 and 0.0"),
        ("triple-barrier:0,1,1", "a horizon of 1 bar or more"),
        ("triple-barrier:24,nan,1", "at distances above 0"),
        ("triple-barrier:24,1,inf", "at distances above 0"),
        ("horizon:6,nan", "--labels: expected a horizon of 1 bar or more and a threshold between 0 and 1"),
    ],
)
def test_invalid_label_texts(text: str, expected: str) -> None:
    """A misspelt kind of label would be read as another one."""
    with pytest.raises(UsageError) as refused:
        label_spec(text)
    assert str(refused.value).startswith("--labels: ")
    assert expected in str(refused.value)


def test_an_unknown_kind_in_a_checkpoint() -> None:
    """A checkpoint of a newer flagbt would be read as something else."""
    with pytest.raises(UsageError, match="the kind 'horizn' is unknown. Did you mean 'horizon'"):
        labels_from_json({"kind": "horizn", "horizon_bars": 6, "threshold": 0.01})
