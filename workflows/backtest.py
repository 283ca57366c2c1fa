"""A backtest as a request describes it: from bars to signals and orders, and buy and hold on the same bars.

bars file -> Bars -> features -> model logits (batched) -> calibration -> decision -> target exposure
-> Backtrader, bar by bar -> Simulation
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays import JsonObject, PhaseProgress, TimeArray
from ..data.bars import Bars
from ..data.scorable_range import scorable_range
from ..data.time_range import TimeRange
from ..engine.rules import Rules
from ..models.device import pick_device
from ..models.model_signals import ModelSignals
from ..models.overlap import check_overlap, check_seen, check_step, seen_ranges
from ..options import recorded
from ..storage.atomic_files import sha256_of
from .inputs import SAMPLE_RANGE, load_bars
from .request import RunRequest
from .strategy import model_of, params_of, rules_of, strategy_of

if TYPE_CHECKING:
    import numpy as np

    from ..engine.simulation import CheckpointInfo, Simulation


@dataclass(frozen=True, eq=False)
class BacktestInputs:
    """What a backtest takes: checked, and not seen before by the model or the strategy."""

    bars: Bars
    timerange: TimeRange
    model: ModelSignals | None
    strategy: Any
    rules: Rules


def backtest_inputs(request: RunRequest, progress: PhaseProgress) -> BacktestInputs:
    """Load the bars, the model and the strategy, and refuse bars that the model or the strategy has seen."""
    bars = load_bars(request.data)
    timerange = SAMPLE_RANGE if request.data is None and request.timerange == TimeRange() else request.timerange
    model = model_of(request, progress)
    strategy = strategy_of(request, model)
    inputs = BacktestInputs(bars, timerange, model, strategy, rules_of(request, model))
    is_plain = isinstance(strategy, type)
    if model is not None:
        check_step(model.checkpoint, bars)
        scored = scorable_range(bars, timerange, model.warmup_bars)
        # A plain Backtrader strategy may trade in the warm-up too, on bars without a signal.
        traded = bars.between(timerange) if is_plain else scored
        if not request.allow_overlap:
            check_overlap(model.checkpoint, model.calibration, bars, traded)
    if timerange.start is not None or is_plain:  # then all bars of the range are traded
        _check_seen(request, strategy, bars.time[bars.between(timerange)], bars.step)
    return inputs


def simulate_request(request: RunRequest, inputs: BacktestInputs, progress: PhaseProgress) -> tuple[Simulation, Simulation]:
    """Replay the strategy, then buy and hold on the same bars at the same costs."""
    from ..engine.backtest import Backtest
    from ..engine.run_settings import RunSettings
    from ..strategies.baselines import BuyAndHold

    model, strategy = inputs.model, inputs.strategy
    bars = _with_history(inputs.bars, inputs.timerange, None if model is None else model.warmup_bars)
    backtest = Backtest(
        bars=bars,
        strategy=strategy,
        params=params_of(request) if isinstance(strategy, type) else {},
        short=request.short,
        rules=inputs.rules,
        file=inputs.bars,
        checkpoint=_checkpoint_info(model),
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
        settings = RunSettings({**backtest.config, "bars_seen": list(dict.fromkeys(ranges))})
        backtest = replace(backtest, config=settings)
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


def _checkpoint_info(model: ModelSignals | None) -> CheckpointInfo | None:
    from ..engine.simulation import CheckpointInfo

    if model is None:
        return None
    checkpoint = model.checkpoint
    return CheckpointInfo(
        name=checkpoint.name,
        digest=checkpoint.digest,
        label_shares=tuple(checkpoint.label_shares.tolist()),
        horizon_bars=checkpoint.labels.horizon_bars,
        labels=str(checkpoint.labels),
    )


def _config(request: RunRequest, inputs: BacktestInputs) -> JsonObject:
    from ..strategies.declarations import name_of

    model, strategy = inputs.model, inputs.strategy
    config: JsonObject = {
        "strategy": request.strategy,
        "data": None if request.data is None else request.data.name,
        "timerange": None if inputs.timerange == TimeRange() else str(inputs.timerange),
        "allow_overlap": request.allow_overlap,
        **recorded(request),
    }
    if (name := name_of(strategy)) != request.strategy:
        config["strategy_name"] = name
    kind = strategy if isinstance(strategy, type) else type(strategy)
    if (code := _code_digest(kind)) is not None:
        config["code"] = code
    if "seed" in inspect.signature(kind).parameters:
        config["seed"] = request.seed
    if params := params_of(request):
        config["params"] = params
    if model is not None:
        named = request.calibration == "none" or request.calibration.partition(":")[0] in ("stored", "offset")
        text = request.calibration if named else Path(request.calibration).name
        config |= {"checkpoint": model.checkpoint.name, "calibration": text, "decision": str(model.decision)}
    return config


def _code_digest(strategy: type[Any]) -> str | None:
    """Return the digest of a user strategy's source file, or None for a built-in: edited code is another configuration."""
    from ..strategies.declarations import is_built_in

    if is_built_in(strategy):
        return None
    try:
        return sha256_of(Path(inspect.getfile(strategy)))
    except (OSError, TypeError):  # made at run time, without a file
        return None


def scoring_device(request: RunRequest, model: ModelSignals | None) -> str | None:
    """Return the device that scored the bars; ``auto`` would not identify it."""
    return None if model is None else str(pick_device(request.scoring.device))
