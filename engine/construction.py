"""Construct a plain Backtrader strategy without running it: what its constructor refuses is known before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import backtrader as bt

from ..data.bars import Bars
from ..data.plugins import blamed_on
from ..errors import StrategyError
from ..strategies.declarations import name_of
from .broker import RecordingBroker
from .costs import Costs
from .feed import BarsFeed
from .plain_backtrader import with_all_in_sizer


def construct(strategy: type[Any], params: Mapping[str, object], bars: Bars) -> object:
    """Return an instance of a plain Backtrader strategy with its data, broker and parameters; no bar is run.

    Raises
    ------
    StrategyError
        Where its constructor fails.
    """
    made: list[object] = []
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(RecordingBroker(costs=Costs(), starting_cash=10_000.0, short_allowed=True, n_bars=len(bars)))
    cerebro.adddata(BarsFeed(bars=bars, signals=None), name="bars")
    cerebro.addstrategy(_skipped(with_all_in_sizer(strategy), made), **params)
    with blamed_on(strategy, "__init__"):
        cerebro.run()
    if not made:
        raise StrategyError(f"strategy '{name_of(strategy)}' raised Backtrader's StrategySkipError in its constructor.")
    return made[0]


def _skipped(make: Callable[..., object], made: list[object]) -> Callable[..., object]:
    """Return a factory that keeps what it makes, and has Cerebro leave it out, so that nothing is run."""

    def factory(*args: object, **kwargs: object) -> object:
        made.append(make(*args, **kwargs))
        raise bt.errors.StrategySkipError

    return factory
