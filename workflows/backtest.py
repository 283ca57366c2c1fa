"""A backtest as a request describes it: from bars to signals and orders, and buy and hold on the same bars.

bars file -> Bars -> features -> model logits (batched) -> calibration -> decision -> target exposure
-> Backtrader, bar by bar -> Simulation
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays import JsonObject, PhaseProgress, TimeArray
from ..data.bars import Bars
from ..data.scorable_range import scorable_range
from ..data.time_range import TimeRange
from ..engine.rules import Rules
from ..engine.run_request import RunRequest
from ..models.calibration import recorded_text
from ..models.device import check_device_name
from ..models.model_signals import ModelSignals
from ..models.overlap import check_overlap, check_seen, check_step, seen_ranges
from ..options import recorded
from .inputs import SAMPLE_RANGE, check_out, load_bars
from .signals_input import GivenSignals, given_signals
from .strategy import maker_of, model_of, params_of, rules_of, strategy_of

if TYPE_CHECKING:
    import numpy as np

    from ..engine.simulation import Simulation
    from ..strategies.base import Strategy
    from .run import Run
    from .unsaved_trials import UnsavedTrials


@dataclass(frozen=True, eq=False, kw_only=True)
class GivenObjects:
    """What a caller in Python gives in place of a request's names.

    Parameters
    ----------
    bars : Bars, optional
        In place of a file.
    kind : type, optional
        The strategy's class, in place of its name.
    instance : Strategy, optional
        A strategy that was made already.
    has_name : bool
        Whether the request's name finds the same strategy again.
    """

    bars: Bars | None = None
    kind: type[Any] | None = None
    instance: Strategy | None = None
    has_name: bool = True

    @property
    def without_name(self) -> list[str]:
        """What no command can name: ``data``, ``strategy``, both or neither."""
        return ["data"] * (self.bars is not None) + ["strategy"] * (not self.has_name)


NOTHING_GIVEN = GivenObjects()


def backtest_request(
    request: RunRequest,
    *,
    runs: Path,
    given: GivenObjects = NOTHING_GIVEN,
    unsaved: UnsavedTrials | None = None,
    progress: PhaseProgress = lambda _phase, _done, _total: None,
) -> Run:
    """Run a backtest, measure it, and return its record, which is not saved.

    Parameters
    ----------
    runs : Path
        The folder of runs whose trial log counts the trials on these bars.
    given : GivenObjects
        Bars and a strategy from Python.
    unsaved : UnsavedTrials, optional
        The trials of this process that no log holds: they count too, and this one is added to them. By default this one is
        added to the log at once, before anything is written: it counts even if its record is lost.
    progress : callable
        Called with (phase, bars done, bars in all).

    Raises
    ------
    FlagbtError
        With one paragraph for the user.
    """
    from ..results.evidence import evidence
    from ..results.metrics import Metrics
    from ..results.recording import record_of
    from ..results.trial_log import add_trials, read_trials, trial_of
    from .run import Run

    # 1. The inputs, and every check that needs no work
    check_device_name(request.scoring.device)
    if unsaved is None:
        check_out(runs)
    read_trials(runs)  # an unreadable log is refused before the work,
    Metrics.installed()  # and so is a package's metric that cannot be loaded
    inputs = backtest_inputs(request, given, progress)

    # 2. Backtrader, bar by bar: the strategy, then buy and hold
    backtest, benchmark = simulate_request(request, inputs, progress)

    # 3. How much of the result could be luck, given all trials on these bars, this run included
    started = time.perf_counter()
    trial = trial_of(backtest)
    log = read_trials(runs).with_trials(() if unsaved is None else unsaved.on(trial.bars))
    measured = evidence(backtest, benchmark, log.count(trial), seed=request.seed)
    backtest = replace(backtest, seconds={**backtest.seconds, "certainty": time.perf_counter() - started})
    device = scoring_device(request, inputs.model)
    record = record_of(backtest, benchmark, measured, seeds={"strategy": request.seed}, device=device)
    if unsaved is None:
        add_trials(runs, [trial])
    else:
        unsaved.add(trial)
    return Run.of(record)


@dataclass(frozen=True, eq=False)
class BacktestInputs:
    """What a backtest takes: checked, and not seen before by the model or the strategy."""

    bars: Bars
    timerange: TimeRange
    model: ModelSignals | None
    strategy: Any
    rules: Rules
    given: GivenObjects


def backtest_inputs(request: RunRequest, given: GivenObjects, progress: PhaseProgress) -> BacktestInputs:
    """Load the bars, the model and the strategy, and refuse bars that the model or the strategy has seen."""
    bars = load_bars(request.data, request.reading) if given.bars is None else given.bars
    is_sample = given.bars is None and request.data is None
    timerange = SAMPLE_RANGE if is_sample and request.timerange == TimeRange() else request.timerange
    model = model_of(request, progress)
    if request.signals is not None:
        given = replace(given, instance=given_signals(request, bars))
    if given.instance is None:
        strategy = strategy_of(request, model, given.kind)
    else:
        strategy, own = given.instance, getattr(given.instance, "model", None)
        model = own if isinstance(own, ModelSignals) else model
    if isinstance(strategy, GivenSignals):
        strategy.check_covers(bars, timerange)
    inputs = BacktestInputs(bars, timerange, model, strategy, rules_of(request, model), given)
    is_plain = isinstance(strategy, type)
    if model is not None:
        check_step(model.checkpoint, bars)
        scored = scorable_range(bars, timerange, model.warmup_bars)
        # A plain Backtrader strategy may trade in the warm-up too, on bars without a signal.
        traded = bars.between(timerange) if is_plain else scored
        model.checkpoint.model.check_covers(bars.take(traded))
        if not request.allow_overlap:
            check_overlap(model.checkpoint, model.calibration, bars, traded)
    if timerange.start is not None or is_plain:  # then all bars of the range are traded
        _check_seen(request, strategy, bars.time[bars.between(timerange)], bars.step)
    return inputs


def simulate_request(request: RunRequest, inputs: BacktestInputs, progress: PhaseProgress) -> tuple[Simulation, Simulation]:
    """Replay the strategy, then buy and hold on the same bars at the same costs."""
    from ..engine.backtest import Backtest
    from ..engine.run_settings import RunSettings
    from ..engine.simulation import CheckpointInfo
    from ..strategies.baselines import BuyAndHold

    model, strategy = inputs.model, inputs.strategy
    bars = _with_history(inputs.bars, inputs.timerange, None if model is None else model.warmup_bars)
    backtest = Backtest(
        bars=bars,
        strategy=strategy,
        params=params_of(request, strategy) if isinstance(strategy, type) else {},
        short=request.short,
        rules=inputs.rules,
        file=inputs.bars,
        checkpoint=None if model is None else CheckpointInfo.of(model.checkpoint),
        config=_config(request, inputs),
        signals=model(bars) if model is not None and isinstance(strategy, type) else None,
        progress=lambda done, total: progress("replay", done, total),
        timerange=inputs.timerange,
        costs=request.costs,
        cash=request.cash,
    ).run()
    first, last = (inputs.bars.position_of(stamp.to_datetime64()) for stamp in backtest.bars.index[[0, -1]])
    same = inputs.bars.take(slice(first, last + 1))
    # A strategy may load its model in prepare, and a plain Backtrader strategy exists only in the replay: check again.
    _check_seen(request, backtest.strategy, same.time, same.step)
    if model is not None and (stated := backtest.config.bars_seen) is not None:
        ranges = [*stated, *map(str, seen_ranges(model.checkpoint, model.calibration).values())]
        seen = None if model.checkpoint.bars_seen is None else list(dict.fromkeys(ranges))
        backtest = replace(backtest, config=RunSettings({**backtest.config, "bars_seen": seen}))
    benchmark = Backtest(bars=same, strategy=BuyAndHold(), costs=request.costs, cash=request.cash, file=inputs.bars)
    return backtest, benchmark.run()


def _check_seen(request: RunRequest, strategy: Any, traded: TimeArray, step: np.timedelta64) -> None:
    """Refuse bars that the strategy declares to have seen, and an invalid declaration."""
    from ..strategies.declarations import bars_seen, name_of

    seen = bars_seen(strategy)
    if seen and len(traded) and not request.allow_overlap:
        check_seen(name_of(strategy), seen, TimeRange(traded[0], traded[-1] + step))


def _with_history(bars: Bars, timerange: TimeRange, warmup_bars: int | None) -> Bars:
    """Return the bars of the range with the history that the warm-up needs (all of it where that is unknown)."""
    part = bars.between(timerange)
    start = 0 if warmup_bars is None else max(0, part.start - warmup_bars)
    return bars.take(slice(start, part.stop)) if part.stop > part.start else bars


def _config(request: RunRequest, inputs: BacktestInputs) -> JsonObject:
    from ..strategies.declarations import name_of

    model, strategy = inputs.model, inputs.strategy
    config: JsonObject = {
        **maker_of(request, strategy if isinstance(strategy, type) else type(strategy)).describe(),
        **({} if request.signals is None else {"signals": request.signals.name}),
        "data": None if request.data is None else request.data.name,
        "timerange": None if inputs.timerange == TimeRange() else str(inputs.timerange),
        "allow_overlap": request.allow_overlap,
        **recorded(inputs.bars.reading),
        **recorded(request),
    }
    if (name := name_of(strategy)) != request.strategy:
        config["strategy_name"] = name
    if inputs.given.bars is not None:
        config["data"] = inputs.bars.source
    if inputs.given.without_name:
        config["from_python"] = inputs.given.without_name
    if inputs.given.instance is not None:
        config.pop("seed", None)
    if model is not None:
        config |= {
            "checkpoint": model.checkpoint.name,
            "calibration": recorded_text(request.calibration),
            "decision": str(model.decision),
            **model.checkpoint.model.named_code,
        }
    return config


def scoring_device(request: RunRequest, model: ModelSignals | None) -> str | None:
    """Return the device that scored the bars; ``auto`` would not identify it."""
    return None if model is None else model.checkpoint.model.device_name(request.scoring.device)
