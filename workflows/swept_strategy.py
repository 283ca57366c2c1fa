"""The strategy of a sweep: its combinations of parameters, its warm-up, and the bars that it has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from ..arrays import JsonObject, PhaseProgress
from ..data.bars import Bars
from ..data.time_range import TimeRange
from ..errors import StrategyError, UsageError
from ..models.checkpoint import Checkpoint
from ..models.model_signals import ModelSignals
from .strategy import check_uses_model
from .sweep_request import SweepRequest

if TYPE_CHECKING:
    from ..strategies.parameters import ParameterValue
    from ..sweeps.swept_strategy import SweptStrategy

MOST_COMBINATIONS = 1_000_000
_CONSTRUCTED_BARS = 1_000  # of the data that a plain Backtrader strategy's constructor finds


@dataclass(frozen=True, eq=False)
class StrategyInputs:
    """The strategy of a sweep.

    Attributes
    ----------
    swept : SweptStrategy
    combinations : tuple of mapping
        The values of its parameters that its constructor accepts.
    refused : tuple of str
        For each other combination, the reason.
    warmup_bars : int
        The longest of all combinations.
    seen : tuple of TimeRange, optional
        The bars that any combination declares to have seen; None where one does not declare it.
    """

    swept: SweptStrategy
    combinations: tuple[Mapping[str, ParameterValue], ...]
    refused: tuple[str, ...]
    warmup_bars: int
    seen: tuple[TimeRange, ...] | None

    @property
    def refusal(self) -> str:
        """What was left out, and the first reason."""
        n = len(self.combinations) + len(self.refused)
        verb = "was" if len(self.refused) == 1 else "were"
        return f"{len(self.refused):,} of {n:,} combinations {verb} refused by the strategy: {self.refused[0]}"

    def describe(self) -> JsonObject:
        """Return what a sweep's record holds of it, as JSON values."""
        return {
            "strategy": self.swept.name,
            "combinations": len(self.combinations),
            "combinations_refused": len(self.refused),
            "refusal": self.refusal if self.refused else None,
            "bars_seen": None if self.seen is None else [str(each) for each in self.seen],
            "fast_replay": self.swept.has_replay,
        }


def strategy_inputs(
    request: SweepRequest, checkpoints: Sequence[Checkpoint], bars: Bars, progress: PhaseProgress
) -> StrategyInputs:
    """Make a request's strategy with each combination of its parameters.

    Raises
    ------
    UsageError
        For a wrong parameter, too many combinations, or a checkpoint that is missing or not used.
    StrategyError
        When the strategy cannot be loaded, or refuses every combination.
    """
    from ..strategies.base import Strategy
    from ..strategies.declarations import bars_seen
    from ..strategies.parameters import Parameters
    from ..strategies.registry import find_strategy
    from ..sweeps.swept_strategy import SweptStrategy

    kind = find_strategy(request.strategy)
    check_uses_model(kind, request.strategy, request.ckpt[0] if request.ckpt else None)
    axes = Parameters.of(kind).check_axes(request.params)
    n = math.prod(map(len, axes.values()))
    if n > MOST_COMBINATIONS:
        raise UsageError(f"--param: {n:,} combinations of values, expected at most {MOST_COMBINATIONS:,}. Remove values.")
    swept = SweptStrategy(
        name=request.strategy,
        seed=request.seed,
        has_replay=issubclass(kind, Strategy) and kind.decide is Strategy.decide,
        checkpoints=tuple(checkpoints),
        allow_overlap=request.allow_overlap,
    )
    accepted: list[Mapping[str, ParameterValue]] = []
    refused: list[str] = []
    declared: list[tuple[TimeRange, ...] | None] = []
    warmup_bars = 0
    for place, values in enumerate(product(*axes.values())):
        progress("prepare", place, n)
        params = dict(zip(axes, values, strict=True))
        try:
            made = _made(swept, params, request, bars)
        except (UsageError, StrategyError) as error:
            if n == 1:
                raise
            refused.append(str(error))
            continue
        accepted.append(params)
        warmup_bars = max(warmup_bars, _warmup(made, swept, bars))
        declared.append(bars_seen(made))  # it may have loaded its model in prepare
    progress("prepare", n, n)
    if not accepted:
        raise UsageError(
            f"--param: strategy '{request.strategy}' refused all {n:,} combinations, the first one with: {refused[0]}"
        )
    known = [each for ranges in declared if ranges is not None for each in ranges]
    seen = None if None in declared else tuple(dict.fromkeys(known))
    return StrategyInputs(swept, tuple(accepted), tuple(refused), warmup_bars, seen)


def _made(swept: SweptStrategy, params: Mapping[str, ParameterValue], request: SweepRequest, bars: Bars) -> object:
    """Return an instance of the strategy, made as for a setting."""
    from ..engine.construction import construct

    shorts = request.axes.get("short", (False,))
    made = swept.maker(params, short=any(shorts)).make(
        ModelSignals(checkpoint=swept.checkpoints[0]) if swept.checkpoints else None
    )
    return construct(made, params, bars.take(slice(0, _CONSTRUCTED_BARS))) if isinstance(made, type) else made


def _warmup(strategy: object, swept: SweptStrategy, bars: Bars) -> int:
    """Return the bars before the first signal: as declared, or else as measured; 0 for a plain Backtrader strategy."""
    from ..engine.backtest import Backtest
    from ..strategies.base import Strategy
    from ..strategies.declarations import warmup_bars

    models = [ModelSignals(checkpoint=checkpoint).warmup_bars for checkpoint in swept.checkpoints]
    if not isinstance(strategy, Strategy):
        return max(models, default=0)
    declared = warmup_bars(strategy)
    if declared is not None or models:
        return max([declared or 0, *models])
    signals = Backtest(bars=bars, strategy=strategy).score()
    assert signals is not None  # of a flagbt strategy
    return signals.warmup_bars
