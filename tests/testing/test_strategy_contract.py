"""flagbt.testing.check_strategy: every fault planted in a strategy is found, and named by the part of the contract."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import backtrader as bt
import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.data.labels import BUY, HOLD, SELL
from flagbt.errors import ContractError, RangeError, UsageError
from flagbt.models.signals import Signals
from flagbt.strategies.base import Position, Strategy
from flagbt.strategies.baselines import AlwaysHold, RandomSignals, SmaCross
from flagbt.strategies.flagtrader import FlagTrader
from flagbt.testing import check_strategy


class Sound(Strategy):
    """Keeps the contract: long after a rise over ``days`` bars."""

    name = "sound"
    bars_seen: Any = ()

    def __init__(self, *, days: int = 5, short: bool = False) -> None:
        super().__init__(short=short)
        self.days = days

    def signal(self, bars: Bars) -> Any:
        """Return the signals, which a faulty subclass changes."""
        change = np.zeros(len(bars))
        change[self.days :] = bars.close[self.days :] - bars.close[: -self.days]
        return np.select([change > 0, change < 0], [BUY, SELL], HOLD)

    def prepare(self, bars: Bars) -> Signals:
        """Wrap the signals."""
        return Signals(self.signal(bars))

    def describe(self) -> dict[str, object]:
        """Return name, short and days."""
        return super().describe() | {"days": self.days}


class OneBarAhead(Sound):
    """Its rule reads the next bar."""

    bars_seen = ()

    def signal(self, bars: Bars) -> Any:
        """Move the signals to one bar earlier."""
        return np.append(super().signal(bars)[1:], HOLD)


class WholeSeries(Sound):
    """Compares with a mean of all bars, the later ones included."""

    bars_seen = ()

    def signal(self, bars: Bars) -> Any:
        """Compare with the mean of the series."""
        return np.where(bars.close > bars.close.mean(), BUY, SELL)


class LateDecision(Sound):
    """Its signals are causal, and its decisions read a later bar."""

    bars_seen = ()

    def prepare(self, bars: Bars) -> Signals:
        """Keep the bars."""
        self.close = bars.close
        return super().prepare(bars)

    def decide(self, t: int, position: Position) -> float | None:
        """Hold before a rise."""
        return float(self.close[min(t + 1, len(self.close) - 1)] > self.close[t])


class NotRandomEnough(Sound):
    """Draws from a generator without a seed."""

    bars_seen = ()

    def signal(self, bars: Bars) -> Any:
        """Draw."""
        return np.random.default_rng().integers(0, 3, len(bars))


class Remembering(Sound):
    """A second call of prepare gives other signals."""

    bars_seen = ()
    calls = 0

    def signal(self, bars: Bars) -> Any:
        """Count the calls."""
        self.calls += 1
        return super().signal(bars) if self.calls == 1 else np.full(len(bars), HOLD)


class Whimsical(Sound):
    """Its decisions are drawn without a seed."""

    bars_seen = ()

    def decide(self, t: int, position: Position) -> float | None:
        """Draw."""
        return float(np.random.default_rng().integers(0, 2))


class ShortRows(Sound):
    """One row is missing."""

    bars_seen = ()

    def signal(self, bars: Bars) -> Any:
        """Drop the last row."""
        return super().signal(bars)[:-1]


class Fractions(Sound):
    """Signals are of a floating type."""

    bars_seen = ()

    def signal(self, bars: Bars) -> Any:
        """Return float64."""
        return super().signal(bars).astype(float)


class AnotherValue(Sound):
    """A signal of 3."""

    bars_seen = ()

    def signal(self, bars: Bars) -> Any:
        """Return 3 once."""
        return np.append(super().signal(bars)[:-1], 3)


class Silent(Sound):
    """No bar has a signal."""

    bars_seen = ()

    def signal(self, bars: Bars) -> Any:
        """Return -1."""
        return np.full(len(bars), -1)


class Failing(Sound):
    """Raises."""

    bars_seen = ()

    def signal(self, bars: Bars) -> Any:
        """Divide by zero."""
        return 1 / 0


class NoSignals(Sound):
    """Returns an array in place of Signals."""

    bars_seen = ()

    def prepare(self, bars: Bars) -> Any:
        """Return the array."""
        return self.signal(bars)


class TooMuch(Sound):
    """Decides on an exposure of 2."""

    bars_seen = ()

    def decide(self, t: int, position: Position) -> float | None:
        """Return 2."""
        return 2.0


class Unstated(Sound):
    """Does not state the bars that it has seen."""

    bars_seen = None


class WronglyStated(Sound):
    """States the bars that it has seen as text."""

    bars_seen = "20200101-20210101"


class NotDescribed(Sound):
    """Its record lacks its parameter."""

    bars_seen = ()

    def describe(self) -> dict[str, object]:
        """Return name and short alone."""
        return Strategy.describe(self)


class Deaf(Sound):
    """Ignores the value that it gets."""

    bars_seen = ()

    def __init__(self, *, days: int = 5) -> None:
        super().__init__(days=5)


class NotItsType(Sound):
    """The default is not of the annotated type."""

    bars_seen = ()

    def __init__(self, *, days: int = 5.5) -> None:  # type: ignore[assignment]
        super().__init__(days=5)
        self.days = days

    def signal(self, bars: Bars) -> Any:
        """Return HOLD."""
        return np.full(len(bars), HOLD)


class Needy(Sound):
    """Cannot be made without an argument."""

    bars_seen = ()

    def __init__(self, days: int) -> None:
        super().__init__(days=days)


class NotCopied(Sound):
    """Holds what cannot be copied."""

    bars_seen = ()

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Constant(Sound):
    """Buys on every bar, and does not state that it does not read bars."""

    bars_seen = ()

    def signal(self, bars: Bars) -> Any:
        """Return the same for any bars."""
        return np.where(np.arange(len(bars)) % 7 < 3, BUY, SELL)


class LongMemory(Sound):
    """States a warm-up of 5 bars, but compares with the first bar of all."""

    bars_seen = ()
    warmup_bars = 5

    def signal(self, bars: Bars) -> Any:
        """Compare with the first close."""
        return np.where(bars.close > bars.close[0], BUY, SELL)


class Plain(bt.Strategy):  # type: ignore[misc]  # Backtrader has no types
    """A plain Backtrader strategy that keeps the contract."""

    bars_seen = ()
    params = (("days", 5),)

    def next(self) -> None:
        """Buy after a rise."""
        if len(self) > self.p.days and self.data.close[0] > self.data.close[-self.p.days]:
            self.buy()
        else:
            self.close()


class PlainPeeking(bt.Strategy):  # type: ignore[misc]
    """A plain Backtrader strategy that reads ahead, which Backtrader lets it do."""

    bars_seen = ()

    def next(self) -> None:
        """Buy before a rise."""
        if len(self) < len(self.data.close.array) and self.data.close[1] > self.data.close[0]:
            self.buy()
        else:
            self.close()


@pytest.mark.parametrize(
    "strategy", [Sound, Sound(days=9), SmaCross, SmaCross(fast_bars=2, slow_bars=3), RandomSignals, AlwaysHold, Plain]
)
def test_a_sound_strategy_passes(strategy: Any) -> None:
    """If it fails, the tests of a right package fail."""
    check_strategy(strategy)


@pytest.mark.parametrize(
    ("strategy", "part", "text"),
    [
        (OneBarAhead, "look-ahead", "signals changed"),
        (WholeSeries, "look-ahead", "signals changed"),
        (LateDecision, "look-ahead", "depend on later bars"),
        (PlainPeeking, "look-ahead", "depend on later bars"),
        (Constant, "look-ahead", "declare reads_bars = False"),
        (NotRandomEnough, "determinism", "by a second call of prepare"),
        (Remembering, "determinism", "by a second call of prepare"),
        (Whimsical, "determinism", "two runs on the same bars differ"),
        (ShortRows, "signals", "shape (2999,)"),
        (Fractions, "signals", "type float64"),
        (AnotherValue, "signals", "signal is 3 at the bar"),
        (Silent, "signals", "none of 3,000 bars has a signal"),
        (Failing, "signals", "ZeroDivisionError"),
        (NoSignals, "signals", "prepare must return Signals"),
        (TooMuch, "decide", "2"),
        (Unstated, "bars_seen", "does not state which bars it has seen"),
        (WronglyStated, "bars_seen", "expected a tuple of time ranges"),
        (NotDescribed, "parameters", "does not name the parameter 'days'"),
        (Deaf, "parameters", "made with days=6, it describes days as 5"),
        (NotItsType, "parameters", "expected a whole number, got 5.5"),
        (Needy, "class", "missing a required argument: 'days'"),
        (NotCopied(), "class", "it cannot be copied"),
        (FlagTrader, "class", "it uses a model"),
        (int, "class", "expected a subclass of"),
        (3, "class", "expected a subclass of"),
        (LongMemory, "warm-up", "it states warmup_bars = 5"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_a_planted_fault_is_found_and_named(strategy: Any, part: str, text: str) -> None:
    """If it fails, a package's test passes on a strategy that breaks the contract, or names another part of it."""
    with pytest.raises(ContractError) as caught:
        check_strategy(strategy)
    assert caught.value.part == part, caught.value
    assert text in str(caught.value)
    assert f"breaks its contract ({part}): " in str(caught.value)
    assert isinstance(caught.value, AssertionError)


def test_not_stating_what_it_has_seen_can_be_allowed() -> None:
    """If it fails, the rest of a strategy cannot be tested where it is not known what it has seen."""
    check_strategy(Unstated, seen_may_be_unstated=True)


def test_given_bars_are_used(walk: Callable[..., Bars]) -> None:
    """If it fails, a strategy that trades only in some hours cannot be tried on bars of these hours."""
    check_strategy(Sound, walk(2000, seed=3))
    with pytest.raises(RangeError, match="Give more bars"):
        check_strategy(Sound, walk(200))


def test_a_value_that_the_strategy_refuses_is_no_fault() -> None:
    """If it fails, a strategy that checks its parameters is taken for a faulty one."""

    class Even(Sound):
        """Takes even numbers."""

        bars_seen = ()

        def __init__(self, *, days: int = 4) -> None:
            if days % 2:
                raise UsageError("days must be even")
            super().__init__(days=days)

    check_strategy(Even)
