"""The strategy of a sweep other than flagtrader: it makes the backtest of any setting, on any machine, as `flagbt run` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import JsonObject
from ..data.bars import Bars
from ..engine.backtest import Backtest
from ..engine.simulation import CheckpointInfo
from ..models.calibration import recorded_text
from ..models.checkpoint import Checkpoint
from ..models.model_signals import ModelSignals, ScoredBars
from ..models.overlap import check_seen
from ..models.signals import Signals
from ..results.trial_log import configuration_digest
from ..strategies.base import Strategy
from ..strategies.construction import StrategyMaker
from ..strategies.declarations import bars_seen, name_of
from ..strategies.parameters import ParameterValue
from ..strategies.registry import find_strategy
from .grid import Configuration
from .segment import Segment


@dataclass(frozen=True, eq=False)
class PreparedStrategy:
    """A strategy with its signals on a segment, for all settings that share them.

    Attributes
    ----------
    strategy : Strategy
    signals : Signals
        Of the segment's bars.
    backtest : Backtest
        Of one of these settings.
    """

    strategy: Strategy
    signals: Signals
    backtest: Backtest

    def configuration(self, setting: Configuration) -> str:
        """Return the digest of a setting in the trial log: that of its `flagbt run`."""
        backtest = replace(self.backtest, costs=setting.costs, cash=setting.cash, rules=setting.rules)
        checkpoint = backtest.checkpoint
        settings = backtest.settings(self.strategy, self.strategy.signals)
        return configuration_digest(settings, None if checkpoint is None else checkpoint.digest)


@dataclass(frozen=True, eq=False, kw_only=True)
class SweptStrategy:
    """Makes the strategy of each setting. It holds the strategy's name, so that it can be sent to another machine.

    Attributes
    ----------
    name : str
        As on the command line.
    seed : int
        Of a strategy that draws at random.
    has_replay : bool
        Whether the fast replay applies: a flagbt strategy that follows the position rule.
    checkpoints : tuple of Checkpoint
        The grid's models, in their order.
    allow_overlap : bool
        Trade bars that the strategy has seen.
    """

    name: str
    seed: int
    has_replay: bool
    checkpoints: tuple[Checkpoint, ...] = ()
    allow_overlap: bool = False

    def maker(self, params: Mapping[str, ParameterValue], *, short: bool) -> StrategyMaker:
        """Return the class with the arguments of its constructor."""
        return StrategyMaker(name=self.name, kind=find_strategy(self.name), params=params, short=short, seed=self.seed)

    def describe(self) -> JsonObject:
        """Return what decides its signals besides its parameters, as JSON values."""
        return self.maker({}, short=False).describe()

    def backtest(self, setting: Configuration, segment: Segment) -> Backtest:
        """Return the backtest of a setting on a segment, of a new strategy, with the settings that `flagbt run` records."""
        maker, model = self.maker(setting.params, short=setting.short), self._model(setting, segment)
        made = maker.make(model)
        bars = segment.history if model is None else _with_warmup(segment, model.warmup_bars)
        is_plain = isinstance(made, type)
        return Backtest(
            bars=bars,
            strategy=made,
            timerange=segment.timerange,
            costs=setting.costs,
            cash=setting.cash,
            short=setting.short,
            rules=setting.rules,
            signals=model(bars) if model is not None and is_plain else None,
            params=setting.params if is_plain else {},
            checkpoint=None if model is None else CheckpointInfo.of(model.checkpoint),
            config=maker.describe()
            | ({} if model is None else {"calibration": recorded_text(setting.point.text), "decision": str(setting.decision)}),
        )

    def prepared(self, setting: Configuration, segment: Segment) -> PreparedStrategy:
        """Return a new strategy of a setting, which has a fast replay, and its signals on a segment.

        *Causality: row t uses bars <= t.*
        """
        backtest = self.backtest(setting, segment)
        strategy, signals = backtest.strategy, backtest.score()
        assert isinstance(strategy, Strategy)
        assert signals is not None
        self.check_seen(strategy, segment)
        return PreparedStrategy(strategy, signals.take(slice(len(signals) - len(segment.bars), len(signals))), backtest)

    def check_seen(self, strategy: object, segment: Segment) -> None:
        """Refuse a segment with bars that the strategy declares to have seen.

        Raises
        ------
        RangeError
            Naming the overlapping ranges, unless overlap is allowed.
        StrategyError
            For an invalid declaration.
        """
        seen = bars_seen(strategy)
        if seen and not self.allow_overlap:
            check_seen(name_of(strategy), seen, segment.timerange)

    def _model(self, setting: Configuration, segment: Segment) -> ModelSignals | None:
        """Return the setting's model with the logits of the segment; None for a strategy without a checkpoint."""
        if not self.checkpoints:
            return None
        logits = segment.logits[setting.model]
        history = segment.history.time
        missing = np.full((len(history) - len(logits), 3), np.nan)
        return ModelSignals(
            checkpoint=self.checkpoints[setting.model],
            calibration=setting.point.calibration,
            decision=setting.decision,
            round_trip_cost=setting.round_trip_cost,
            scored=ScoredBars(history, np.concatenate([missing, logits])),
        )


def _with_warmup(segment: Segment, warmup_bars: int) -> Bars:
    """Return the bars of a segment with as many bars before it."""
    history = segment.history
    return history.take(slice(max(0, len(history) - len(segment.bars) - warmup_bars), len(history)))
