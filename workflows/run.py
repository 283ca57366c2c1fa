"""Run a backtest: from bars to signals, orders, and a record.

bars file -> Bars -> features -> model logits (batched) -> calibration -> decision -> target exposure
-> Backtrader, bar by bar -> Run -> metrics, tearsheet, run folder
"""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays import PhaseProgress, TimeArray
from ..data.bars import Bars
from ..data.scorable_range import scorable_range
from ..data.time_range import TimeRange
from ..models.device import check_device_name, pick_device
from ..models.model_signals import ModelSignals
from ..models.overlap import check_overlap, check_seen, check_step, seen_ranges
from ..storage.atomic_files import sha256_of
from .inputs import SAMPLE_RANGE, check_out, load_bars
from .strategy import costs_for, model_of, rules_of, strategy_of

if TYPE_CHECKING:
    import numpy as np

    from ..engine.costs import Costs
    from ..engine.rules import Rules  # imports the whole engine
    from ..engine.run import Run


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The options of `flagbt run`, one field per option.

    Parameters
    ----------
    strategy : str
        A registered name, or ``package.module:Class``.
    ckpt : str, optional
        A checkpoint's name or folder.
    data : Path, optional
        A file of bars. Default: the bundled SYNTHETIC sample.
    timerange : TimeRange, optional
        Default: all bars after the warm-up; on the bundled sample, 2024.
    calibration : str
        ``stored``, ``stored:NAME``, ``none``, ``offset:a,b,c``, or a JSON file.
    decision : str, optional
        ``argmax``, ``threshold:P`` or ``utility``. Default: the decision stored with the calibration, else ``argmax``.
    fee_bps, slippage_bps : float
        In basis points per side.
    borrow_bps_per_day : float
        On the notional of a short position.
    cash : float
        In quote currency.
    short : bool
    cooldown_bars, min_hold_bars, stop_loss, take_profit, max_short_notional, close_short_above
        The rules that limit a flagbt strategy; see ``engine.rules``.
    exit : str
        ``signal``, ``horizon`` (the checkpoint's label horizon) or ``horizon:BARS``.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    batch_size : int, optional
        Chunks of bars per forward pass.
    cache : bool
        Read logits from the cache on disk, and keep new ones there.
    allow_overlap : bool
        Trade bars that the checkpoint or the strategy has seen; every output is stamped.
    seed : int
        Of strategies that draw at random.
    """

    strategy: str = "flagtrader"
    ckpt: str | None = None
    data: Path | None = None
    timerange: TimeRange = field(default_factory=TimeRange)
    calibration: str = "stored"
    decision: str | None = None
    fee_bps: float = 10.0
    slippage_bps: float = 2.0
    borrow_bps_per_day: float = 1.0
    cash: float = 10_000.0
    short: bool = False
    cooldown_bars: int = 0
    min_hold_bars: int = 0
    exit: str = "signal"
    stop_loss: float | None = None
    take_profit: float | None = None
    max_short_notional: float = 1.0
    close_short_above: float | None = None
    device: str = "auto"
    batch_size: int | None = None
    cache: bool = True
    allow_overlap: bool = False
    seed: int = 0


@dataclass(frozen=True)
class RunResult:
    """The folder of a run, its record as JSON values, and the seconds of each phase."""

    folder: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a backtest takes: checked, and not seen before by the model or the strategy."""

    bars: Bars
    timerange: TimeRange
    costs: Costs
    model: ModelSignals | None
    strategy: Any
    rules: Rules


def run(
    request: RunRequest,
    *,
    out: Path,
    name: str | None = None,
    notes: str | None = None,
    command: list[str] | None = None,
    progress: PhaseProgress = lambda _phase, _done, _total: None,
) -> RunResult:
    """Run a backtest and write its run folder.

    Parameters
    ----------
    out : Path
        The folder of run folders.
    name, notes : str, optional
        The user's own text.
    command : list of str, optional
        The command line, for the record.
    progress : callable
        Called with (phase, bars done, bars in all).

    Raises
    ------
    FlagbtError
        With one paragraph for the user; no folder is left then.
    """
    from ..reports.runs_index import write_index
    from ..reports.tearsheet import render_tearsheet
    from ..results.evidence import evidence
    from ..results.store import read_run, write_run
    from ..results.trial_log import add_trials, read_trials, trial_of

    # 1. The inputs, and every check that needs no work
    check_device_name(request.device)
    check_out(out)
    read_trials(out)  # an unreadable log is refused before the work
    inputs = _inputs(request, progress)

    # 2. Backtrader, bar by bar: the strategy, then buy and hold
    backtest, benchmark = _backtests(request, inputs, progress)

    # 3. How much of the result could be luck, given all trials on these bars, this run included
    started = time.perf_counter()
    trial = trial_of(backtest)
    measured = evidence(backtest, benchmark, read_trials(out).count(trial), seed=request.seed)
    backtest = replace(backtest, seconds={**backtest.seconds, "certainty": time.perf_counter() - started})

    # 4. The page and the folder. The trial is logged first: it counts even if its record is lost
    provenance = {"command": command or [], "seeds": {"strategy": request.seed}, "device": _device(request, inputs.model)}
    add_trials(out, [trial])
    progress("report", 0, 1)
    folder = write_run(
        backtest, benchmark, out, report=render_tearsheet, name=name, notes=notes, provenance=provenance, evidence=measured
    )
    progress("report", 1, 1)
    write_index(out)
    stored = read_run(folder)
    return RunResult(folder, stored.manifest, stored.metrics, stored.manifest["seconds"])


def _inputs(request: RunRequest, progress: PhaseProgress) -> _Inputs:
    """Load the bars, the model and the strategy, and refuse bars that the model or the strategy has seen."""
    bars = load_bars(request.data)
    timerange = SAMPLE_RANGE if request.data is None and request.timerange == TimeRange() else request.timerange
    costs, model = costs_for(request), model_of(request, progress)
    strategy = strategy_of(request, model)
    inputs = _Inputs(bars, timerange, costs, model, strategy, rules_of(request, model))
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


def _backtests(request: RunRequest, inputs: _Inputs, progress: PhaseProgress) -> tuple[Run, Run]:
    """Replay the strategy, then buy and hold on the same bars at the same costs."""
    from ..engine.backtest import Backtest
    from ..strategies.baselines import BuyAndHold

    model, strategy = inputs.model, inputs.strategy
    bars = _with_history(inputs.bars, inputs.timerange, None if model is None else model.warmup_bars)
    description = _description(inputs.bars)
    backtest = Backtest(
        bars=bars,
        strategy=strategy,
        short=request.short,
        rules=inputs.rules,
        data=description,
        checkpoint=_card(model),
        config=_config(request, inputs),
        signals=model(bars) if model is not None and isinstance(strategy, type) else None,
        progress=lambda done, total: progress("replay", done, total),
        timerange=inputs.timerange,
        costs=inputs.costs,
        cash=request.cash,
    ).run()
    first, last = (inputs.bars.position_of(stamp.to_datetime64()) for stamp in backtest.bars.index[[0, -1]])
    same = inputs.bars.take(slice(first, last + 1))
    # A strategy may load its model in prepare, and a plain Backtrader strategy exists only in the replay: check again.
    _check_seen(request, backtest.strategy, same.time, same.step)
    if model is not None and (stated := backtest.config["bars_seen"]) is not None:
        ranges = [*stated, *map(str, seen_ranges(model.checkpoint, model.calibration).values())]
        backtest = replace(backtest, config={**backtest.config, "bars_seen": list(dict.fromkeys(ranges))})
    benchmark = Backtest(bars=same, strategy=BuyAndHold(), costs=inputs.costs, cash=request.cash, data=description)
    return backtest, benchmark.run()


def _device(request: RunRequest, model: ModelSignals | None) -> str | None:
    """Return the device that scored the bars; ``auto`` would not identify it."""
    return None if model is None else str(pick_device(request.device))


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


def _description(bars: Bars) -> dict[str, Any]:
    return {
        **bars.describe(),
        "bars_per_year": bars.bars_per_year,
        "file_bars": len(bars),
        "gaps": len(bars.gaps),
        "missing_bars": sum(gap.missing for gap in bars.gaps),
    }


def _card(model: ModelSignals | None) -> dict[str, Any] | None:
    if model is None:
        return None
    checkpoint = model.checkpoint
    return {
        "name": checkpoint.name,
        "digest": checkpoint.digest,
        "label_shares": checkpoint.label_shares.tolist(),
        "horizon_bars": checkpoint.labels.horizon_bars,
        "labels": str(checkpoint.labels),
    }


def _config(request: RunRequest, inputs: _Inputs) -> dict[str, Any]:
    from ..strategies.declarations import name_of

    model, strategy = inputs.model, inputs.strategy
    config: dict[str, Any] = {
        "strategy": request.strategy,
        "data": None if request.data is None else request.data.name,
        "timerange": None if inputs.timerange == TimeRange() else str(inputs.timerange),
        "allow_overlap": request.allow_overlap,
    }
    if (name := name_of(strategy)) != request.strategy:
        config["strategy_name"] = name
    kind = strategy if isinstance(strategy, type) else type(strategy)
    if (code := _code_digest(kind)) is not None:
        config["code"] = code
    if "seed" in inspect.signature(kind).parameters:
        config["seed"] = request.seed
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
