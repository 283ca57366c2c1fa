"""Signals: made of any of their parts, and refused if they have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flagbt.data.labels import BUY, HOLD, SELL
from flagbt.errors import StrategyError
from flagbt.models.signals import NO_SIGNAL, Signals


@pytest.mark.parametrize("given", [None, np.ones(5), np.ones((5, 2)), [[0.2, 0.3, 0.5]], np.array(["BUY"] * 5)])
def test_signals_of_nothing_are_refused(given: Any) -> None:
    """If it fails, wrong arrays become signals."""
    with pytest.raises(StrategyError, match=r"Signals: give signal=.* or probabilities="):
        Signals(probabilities=given)


def test_signals_of_probabilities_alone() -> None:
    """If it fails, the likeliest class is not the signal, or the warm-up gets one."""
    made = Signals(probabilities=np.array([[np.nan] * 3, [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]))
    assert made.signal.tolist() == made.raw.tolist() == [NO_SIGNAL, SELL, BUY]
    made = Signals(logits=np.array([[0.0, 1.0, 0.0]]), probabilities=np.array([[0.1, 0.2, 0.7]]))
    assert (made.signal.tolist(), made.raw.tolist()) == ([BUY], [HOLD])
    made = Signals(np.array([NO_SIGNAL, BUY], dtype=np.int8), probabilities=np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]))
    assert (made.signal.tolist(), made.raw.tolist()) == ([NO_SIGNAL, BUY], [NO_SIGNAL, SELL])
