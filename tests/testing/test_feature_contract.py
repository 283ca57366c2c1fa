"""flagbt.testing.check_features: every fault planted in a feature set is found, and named by the part of the contract."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.data.features import DEFAULT, FeatureSet
from flagbt.errors import ContractError, RangeError
from flagbt.testing import check_features

DAY = 24
NAME = "features_of_this_test:FEATURES"


def compute(bars: Bars) -> np.ndarray:
    """Return the day's return and the bar's range."""
    rows = np.full((len(bars), 2), np.nan)
    rows[DAY:, 0] = np.log(bars.close[DAY:] / bars.close[:-DAY])
    rows[:, 1] = np.log(bars.high / bars.low)
    return rows


SOUND = FeatureSet(NAME, columns=("return_day", "log_range"), warmup_bars=DAY, compute=compute)


@pytest.fixture
def offered() -> Iterator[Callable[[FeatureSet], FeatureSet]]:
    """Return a function that makes a feature set the one to which ``NAME`` leads."""
    module = ModuleType(NAME.partition(":")[0])
    sys.modules[module.__name__] = module

    def offer(features: FeatureSet) -> FeatureSet:
        module.FEATURES = features  # type: ignore[attr-defined]
        return features

    yield offer
    del sys.modules[module.__name__]


def changed(column: int, change: Callable[[Bars, np.ndarray], np.ndarray]) -> Callable[[Bars], np.ndarray]:
    """Return a function like ``compute`` whose column is changed."""

    def faulty(bars: Bars) -> np.ndarray:
        rows = compute(bars)
        rows[:, column] = change(bars, rows[:, column])
        return rows

    return faulty


def centred(bars: Bars, column: np.ndarray) -> np.ndarray:
    """Return a column's mean over the bars before and after."""
    return np.convolve(column, np.ones(3) / 3, mode="same")


def with_one_nan(bars: Bars, column: np.ndarray) -> np.ndarray:
    """Return a column with NaN at one bar after the warm-up."""
    column[500] = np.nan
    return column


def test_a_sound_feature_set_passes(offered: Callable[[FeatureSet], FeatureSet]) -> None:
    """If it fails, the tests of a right package fail."""
    check_features(offered(SOUND))
    check_features(DEFAULT)


@pytest.mark.parametrize(
    ("fault", "part", "text"),
    [
        ({"columns": ("a", "a")}, "names", "two columns are named 'a'"),
        ({"columns": ["a", "b"]}, "names", "expected a tuple"),
        ({"columns": ("a", "")}, "names", "expected a tuple with a name for each column"),
        ({"warmup_bars": -1}, "names", "warmup_bars is -1"),
        ({"warmup_bars": 2.5}, "names", "warmup_bars is 2.5"),
        ({"columns": ("a", "b", "c")}, "width", "shape (3000, 2) for 3,000 bars and 3 names"),
        ({"compute": lambda bars: compute(bars)[1:]}, "width", "shape (2999, 2)"),
        ({"compute": lambda bars: compute(bars).astype(np.float32)}, "width", "an array of float32"),
        ({"compute": lambda bars: compute(bars).tolist()}, "width", "a list"),
        ({"compute": lambda bars: 1 / 0}, "width", "ZeroDivisionError"),
        ({"warmup_bars": DAY - 1}, "warm-up", "'return_day' is nan"),
        ({"compute": changed(1, with_one_nan)}, "warm-up", "'log_range' is nan"),
        ({"compute": changed(1, lambda bars, row: row + np.random.default_rng().normal(size=len(row)))}, "determinism", "seed"),
        ({"compute": changed(1, lambda bars, row: np.append(row[2:], [0, 0]))}, "look-ahead", "log_range (2 bars ahead)"),
        ({"compute": changed(1, lambda bars, row: row - row.mean())}, "look-ahead", "log_range"),
        ({"compute": changed(1, centred)}, "look-ahead", "(1 bars ahead)"),
        ({"compute": changed(1, lambda bars, row: np.cumsum(row))}, "start", "log_range (by"),
        ({"name": "no_such_set"}, "name", "there is no feature set 'no_such_set'"),
        ({"name": "default"}, "name", "leads to another feature set"),
    ],
)
def test_a_planted_fault_is_found_and_named(
    offered: Callable[[FeatureSet], FeatureSet], fault: dict[str, Any], part: str, text: str
) -> None:
    """If it fails, a package's test passes on columns that break the contract, or names another part of it."""
    with pytest.raises(ContractError) as caught:
        check_features(offered(replace(SOUND, **fault)))
    assert caught.value.part == part, caught.value
    assert text in str(caught.value)
    assert isinstance(caught.value, AssertionError)


def test_something_else_is_refused() -> None:
    """If it fails, a function in place of a feature set gives a traceback."""
    with pytest.raises(ContractError, match="expected a flagbt.FeatureSet object, got a function"):
        check_features(compute)  # type: ignore[arg-type]


def test_too_few_bars_are_no_fault_of_the_columns(walk: Callable[..., Bars]) -> None:
    """If it fails, bars that are too few are reported as a broken contract."""
    with pytest.raises(RangeError, match="Give more bars"):
        check_features(SOUND, walk(100))
