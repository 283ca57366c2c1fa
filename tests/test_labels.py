"""Labels: what the market did next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flagbt.data.bars import HOUR, Bars
from flagbt.data.labels import BUY, HOLD, NO_LABEL, SELL, LabelSpec, class_counts, class_shares
from flagbt.data.readers import read_bars
from flagbt.errors import UsageError


def bars_of(*close: float) -> Bars:
    """Return flat hourly bars with these closes."""
    price = np.array(close, dtype=np.float64)
    time = np.datetime64("2024-01-01", "ns") + np.arange(len(close)) * HOUR
    return Bars(time, price, price, price, price, np.ones(len(close)))


def test_by_hand() -> None:
    """A label would be the wrong way round, a bar off, or would count a move of just the threshold."""
    # A quarter, since binary floats hold it exactly: over 2 bars +30 %, 0, -5/13, exactly +25 %, exactly -25 %.
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
    """A short series would raise, or would be labelled out of nothing."""
    labels = LabelSpec().labels(bars_of(*[100.0] * n))
    assert labels.tolist() == [HOLD] * (n - 6) + [NO_LABEL] * min(n, 6)


def test_only_the_bar_at_the_horizon_matters(walk: Callable[..., Bars]) -> None:
    """A label would depend on bars on the way, or beyond the horizon."""
    bars, spec = walk(60), LabelSpec(5, 0.004)
    for at in range(55):
        assert spec.labels(bars)[at] == spec.labels(bars_of(*bars.close[[at, at, at, at, at, at + 5]]))[0]


@pytest.mark.parametrize(("horizon", "threshold"), [(0, 0.01), (-1, 0.01), (6, 0.0), (6, 1.0), (6, float("nan"))])
def test_senseless_specs(horizon: int, threshold: float) -> None:
    """A label that means nothing would be trained on."""
    with pytest.raises(UsageError, match=r"labels: expected a horizon of 1 bar or more"):
        LabelSpec(horizon, threshold)


def test_the_development_series(shared_data: Path) -> None:
    """The class shares on which the design's numbers rest would no longer be those of the original training."""
    bars = read_bars(shared_data / "btc_usdt_1h_2020_2024.csv")
    labels = LabelSpec().labels(bars)
    assert (labels[-6:] == NO_LABEL).all()
    labels[-6:] = HOLD  # as the original training counted them
    assert len(labels[23:]) == 43_793
    assert class_counts(labels[23:]).tolist() == [7_136, 28_707, 7_950]
