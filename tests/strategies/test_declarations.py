"""Declarations of a strategy: read as they are made, and refused if they make no sense."""

from __future__ import annotations

import re
from collections.abc import Callable

import backtrader as bt
import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.data.time_range import TimeRange
from flagbt.engine.backtest import run_backtest
from flagbt.errors import StrategyError
from flagbt.models.signals import Signals
from flagbt.strategies.base import Strategy
from flagbt.strategies.baselines import AlwaysHold, BuyAndHold, RandomSignals, SmaCross
from flagbt.strategies.declarations import bars_seen, labels_of, reads_bars, warmup_bars


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("20200101-20230701", "is the text '20200101-20230701', expected a tuple"),
        (["20200101-20230701"], "is a list, expected a tuple"),
        (TimeRange.parse("20200101-"), "is a TimeRange, expected a tuple"),
        (True, "is a bool, expected a tuple"),
        ((2020, 2021), "holds 2020, expected time ranges"),
        (("20230701-20200101",), "bars_seen: '20230701-20200101' ends before it starts"),
        (("2020 to 2023",), "bars_seen: '2020 to 2023' is not a time range"),
        ((TimeRange(np.datetime64("2023-07-01"), np.datetime64("2020-01-01")),), "20230701-20200101, which ends before"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(given: object, message: str, walk: Callable[..., Bars]) -> None:
    """If it fails, an invalid range counts as none, and the training bars are traded."""
    kind = type("Mine", (Strategy,), {"bars_seen": given, "prepare": lambda _self, bars: Signals.plain(np.full(len(bars), 2))})
    with pytest.raises(StrategyError, match=re.escape(message)):
        run_backtest(walk(50), kind())


def test_declarations_are_read_as_they_are_made() -> None:
    """If it fails, text and TimeRange mean different bars, or your own class inherits a built-in's declaration."""
    days = TimeRange.parse("20200101-20230701")
    assert bars_seen(type("A", (Strategy,), {"bars_seen": ("20200101-20230701", days)})()) == (days, days)
    assert bars_seen(type("B", (bt.Strategy,), {"bars_seen": ("20200101-20230701",)})) == (days,)
    assert bars_seen(type("C", (bt.Strategy,), {})) is None
    for kind in (BuyAndHold, AlwaysHold, SmaCross, RandomSignals):
        assert bars_seen(kind()) == ()
        users = type("Users", (kind,), {"__module__": "users"})
        assert bars_seen(users()) is None
        assert reads_bars(users()) is True
        assert users.name == "Users"
    assert [reads_bars(kind()) for kind in (BuyAndHold, AlwaysHold, SmaCross, RandomSignals)] == [False, False, True, False]
    assert warmup_bars(SmaCross(slow_bars=50)) == 49


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("reads_bars", "no", "reads_bars is 'no', expected True or False"),
        ("warmup_bars", -1, "warmup_bars is -1, expected a whole number"),
        ("label_spec", 6, "label_spec is an int, expected labels"),
        ("label_spec", "sixhours", "label_spec: unknown kind of label 'sixhours'"),
    ],
)
def test_other_declarations_are_checked_too(name: str, value: object, message: str) -> None:
    """If it fails, a wrong declaration counts as its default."""
    strategy = type("Mine", (Strategy,), {name: value})()
    read = {"reads_bars": reads_bars, "warmup_bars": warmup_bars, "label_spec": labels_of}[name]
    with pytest.raises(StrategyError, match=re.escape(message)):
        read(strategy)
