"""The straight line, in one function: bars, signals, Backtrader, record.

bars file -> Bars -> features -> model logits (batched) -> calibration -> decision -> target exposure
-> Backtrader, bar by bar -> Run -> metrics, tearsheet, run folder
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays import PhaseProgress, TimeArray
from ..data.bars import Bars
from ..data.plugins import blamed_on
from ..data.time_range import TimeRange
from ..errors import RangeError, RecordError, StrategyError, UsageError, nearest
from ..models.calibration import Calibration
from ..models.checkpoint import Checkpoint, find_checkpoint
from ..models.decision import Decision
from ..models.device import check_device_name, pick_device
from ..models.model_signals import ModelSignals
from ..models.overlap import check_overlap, check_seen, check_step, seen_ranges
from ..storage.atomic_files import check_writable, read_json, sha256_of

if TYPE_CHECKING:
    import numpy as np

    from ..engine.rules import Rules  # with all of the engine behind it, only where it is used

SAMPLE_RANGE = TimeRange.parse("20240101-20250101")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What `flagbt run` asks for; every field is an option of the command.

    Parameters
    ----------
    strategy : str
        A registered name, or ``package.module:Class``.
    ckpt : str, optional
        A checkpoint's name or folder.
    data : Path, optional
        A file of bars; without it the bundled SYNTHETIC sample is used.
    timerange : TimeRange, optional
        By default all bars past the warm-up (2024 on the bundled sample).
    calibration : str
        ``stored``, ``stored:NAME``, ``none``, ``offset:a,b,c``, or a JSON file.
    decision : str, optional
        ``argmax``, ``threshold:P`` or ``utility``; by default what is stored with the calibration, else ``argmax``.
    fee_bps, slippage_bps : float
        A side.
    borrow_bps_per_day : float
        On a short's notional.
    cash : float
        In quote currency.
    short : bool
    cooldown_bars, min_hold_bars, stop_loss, take_profit, max_short_notional, close_short_above
        The rules laid over a flagbt strategy, see ``engine.rules``.
    exit : str
        ``signal``, ``horizon`` (the checkpoint's label horizon) or ``horizon:BARS``.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    batch_size : int, optional
        Chunks of bars a forward pass.
    cache : bool
        Take logits from the cache on disk where they are there, and keep them.
    allow_overlap : bool
        Trade bars that the checkpoint or the strategy has seen, and say so on every output.
    seed : int
        For the strategy ``random``.
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
    """What a run left: its folder, its record as JSON values, and the seconds of each phase."""

    folder: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    seconds: dict[str, float]


def run(
    request: RunRequest,
    *,
    out: Path,
    name: str | None = None,
    notes: str | None = None,
    command: list[str] | None = None,
    progress: PhaseProgress = lambda _phase, _done, _total: None,
) -> RunResult:
    """Run a backtest from file to folder.

    Parameters
    ----------
    out : Path
        Where run folders are kept.
    name, notes : str, optional
        The user's own words.
    command : list of str, optional
        The command line, for the record.
    progress : callable
        Called with (phase, bars done, bars in all).

    Raises
    ------
    FlagbtError
        With one paragraph for the user; then no folder is left.
    """
    from ..engine.backtest import Backtest  # Backtrader, quantstats and matplotlib take seconds to import
    from ..engine.costs import Costs
    from ..reports.runs_index import write_index
    from ..reports.tearsheet import render_tearsheet
    from ..results.evidence import evidence
    from ..results.store import read_run, write_run
    from ..results.trial_log import add_trials, read_trials, trial_of
    from ..strategies.baselines import BuyAndHold

    # 1. What can be refused before any work; the bars, and the part of them to trade
    check_device_name(request.device)
    check_out(out)
    read_trials(out)  # a log that cannot be read is refused before the work
    bars = load_bars(request.data)
    timerange = request.timerange
    if request.data is None and timerange == TimeRange():
        timerange = SAMPLE_RANGE

    # 2. The model, if one is asked for, and the strategy; neither may have seen the bars
    costs = Costs(fee_bps=request.fee_bps, slippage_bps=request.slippage_bps, borrow_bps_per_day=request.borrow_bps_per_day)
    model = _model(request, 2 * (costs.fee + costs.slippage), progress)
    strategy, rules = _strategy(request, model), _rules(request, model)
    if model is not None:
        check_step(model.checkpoint, bars)
        # A plain Backtrader strategy may trade in the warm-up too, on bars without a signal.
        traded = _traded(bars, timerange, model.warmup_bars, everything=isinstance(strategy, type))
        if not request.allow_overlap:
            check_overlap(model.checkpoint, model.calibration, bars, traded)
    if timerange.start is not None or isinstance(strategy, type):  # then all bars of the range are traded
        part = bars.between(timerange)
        _check_seen(request, strategy, bars.time[part], bars.step)

    # 3. Backtrader, bar by bar: the strategy, then buy and hold on the same bars at the same costs
    seen = _seen(bars, timerange, None if model is None else model.warmup_bars)
    settings: dict[str, Any] = {"timerange": timerange, "costs": costs, "cash": request.cash}
    description = {**_description(bars), "source": bars.source}
    backtest = Backtest(
        bars=seen,
        strategy=strategy,
        short=request.short,
        rules=rules,
        data=description,
        checkpoint=_card(model),
        config=_config(request, timerange, model, strategy),
        signals=model(seen) if model is not None and isinstance(strategy, type) else None,
        progress=lambda done, total: progress("replay", done, total),
        **settings,
    ).run()
    first, last = backtest.bars.index[0], backtest.bars.index[-1]
    same = bars.take(slice(bars.position_of(first.to_datetime64()), bars.position_of(last.to_datetime64()) + 1))
    # A model may be read in prepare only, and a plain Backtrader strategy is made in the replay.
    _check_seen(request, backtest.strategy, same.time, bars.step)
    if model is not None and (stated := backtest.config["bars_seen"]) is not None:
        ranges = [*stated, *map(str, seen_ranges(model.checkpoint, model.calibration).values())]
        backtest = replace(backtest, config={**backtest.config, "bars_seen": list(dict.fromkeys(ranges))})
    benchmark = Backtest(bars=same, strategy=BuyAndHold(), costs=costs, cash=request.cash, data=description).run()

    # 4. How much of it could be luck, given all that was tried on these bars, this run among it
    started = time.perf_counter()
    trial = trial_of(backtest)
    measured = evidence(backtest, benchmark, read_trials(out).count(trial), seed=request.seed)
    backtest = replace(backtest, seconds={**backtest.seconds, "certainty": time.perf_counter() - started})

    # 5. The page and the folder; the trial first, as what was tried counts even where its record is lost
    provenance = {"command": command or [], "seeds": {"strategy": request.seed}, "device": _device(request, model)}
    add_trials(out, [trial])
    progress("report", 0, 1)
    folder = write_run(
        backtest, benchmark, out, report=render_tearsheet, name=name, notes=notes, provenance=provenance, evidence=measured
    )
    progress("report", 1, 1)
    write_index(out)
    stored = read_run(folder)
    return RunResult(folder, stored.manifest, stored.metrics, stored.manifest["seconds"])


def strategy_maker(request: RunRequest) -> tuple[Callable[[], Any], ModelSignals | None]:
    """Return what makes the strategy that a request names, afresh at each call, and the model behind it, if any."""
    from ..engine.costs import Costs

    costs = Costs(fee_bps=request.fee_bps, slippage_bps=request.slippage_bps)
    model = _model(request, 2 * (costs.fee + costs.slippage), lambda _phase, _done, _total: None)
    _strategy(request, model)
    return lambda: _strategy(request, model), model


def check_out(out: Path, *, option: str = "--out") -> None:
    """Refuse a folder that cannot hold runs (or what ``option`` keeps there), before the work.

    Raises
    ------
    RecordError
        Naming the folder and the system's reason.
    """
    try:
        check_writable(out)
    except OSError as error:
        raise RecordError(
            f"{option}: nothing can be written to {out}: {error.strerror or error}. "
            f"Mend the permissions there, or give another folder with {option}."
        ) from None


def load_bars(path: Path | None) -> Bars:
    """Read a file of bars, or the bundled SYNTHETIC sample where there is none."""
    from ..data.bundled_sample import load_sample
    from ..data.readers import read_bars

    return load_sample() if path is None else read_bars(path)


def calibration_of(text: str, checkpoint: Checkpoint) -> tuple[Calibration, Decision | None]:
    """Return the calibration that ``--calibration`` names, and the decision stored with it, if any.

    Raises
    ------
    UsageError
        When the text or the file is no calibration.
    CheckpointError
        When the checkpoint stores none of that name.
    """
    kind, _, rest = text.partition(":")
    if text == "none":
        return Calibration(), None
    if kind == "stored":
        stored = checkpoint.stored_calibration(rest or "default")
        return stored.calibration, stored.decision
    if kind == "offset":
        return Calibration.of_offset(rest), None
    path = Path(text)
    if not os.path.isfile(path):  # pathlib's raises for a name too long for a file
        raise UsageError(
            f"--calibration: expected stored, stored:NAME, none, offset:a,b,c or a JSON file, got '{text}', which is no file. "
            f"Stored in '{checkpoint.name}': {', '.join(checkpoint.calibration_names()) or 'nothing'}."
        )
    values = read_json(path, what="--calibration")
    decision = values.pop("decision", None)
    if "calibration" in values and len(values) > 1:
        unknown = next(key for key in values if key != "calibration")
        raise UsageError(f"{path}: '{unknown}' is no field here. {nearest(unknown, ('calibration', 'decision'))}")
    return (
        Calibration.from_json(values.get("calibration", values), place=str(path)),
        None if decision is None else Decision.from_json(decision, place=str(path)),
    )


def _model(request: RunRequest, round_trip_cost: float, progress: PhaseProgress) -> ModelSignals | None:
    if request.ckpt is None:
        for option, given in (("--calibration", request.calibration != "stored"), ("--decision", request.decision is not None)):
            if given:
                raise UsageError(
                    f"{option} is about a checkpoint's model, and there is none: add --ckpt NAME, or leave it out."
                )
        return None
    checkpoint = find_checkpoint(request.ckpt)
    checkpoint.check_known()
    calibration, stored = calibration_of(request.calibration, checkpoint)
    decision = Decision.parse(request.decision) if request.decision is not None else stored or Decision()
    return ModelSignals(
        checkpoint=checkpoint,
        calibration=calibration,
        decision=decision,
        round_trip_cost=round_trip_cost,
        device=request.device,
        batch_chunks=request.batch_size,
        cache=request.cache,
        progress=lambda done, total: progress("score", done, total),
    )


def _strategy(request: RunRequest, model: ModelSignals | None) -> Any:
    """Return an instance of a flagbt strategy, or the class of a plain Backtrader one."""
    from ..strategies.base import Strategy
    from ..strategies.registry import find_strategy

    found: Any = find_strategy(request.strategy)
    if not issubclass(found, Strategy):
        return found
    if found.uses_model and model is None:
        raise UsageError(f"--strategy {request.strategy} needs a checkpoint: add --ckpt NAME. flagbt ckpt list shows them.")
    if model is not None and not found.uses_model:
        raise UsageError(f"--strategy {request.strategy} uses no checkpoint: leave --ckpt {request.ckpt} out.")
    parameters = inspect.signature(found).parameters
    anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    taken: dict[str, Any] = {"short": request.short} if "short" in parameters or anything else {}
    if request.short and not taken:
        raise StrategyError(f"--short: {request.strategy} goes long only: its __init__ takes no short=.")
    if "seed" in parameters:
        taken["seed"] = request.seed
    with blamed_on(found, "__init__"):
        return found(*([model] if found.uses_model else []), **taken)


def _rules(request: RunRequest, model: ModelSignals | None) -> Rules:
    from ..engine.rules import Rules, horizon_of

    return Rules(
        cooldown_bars=request.cooldown_bars,
        min_hold_bars=request.min_hold_bars,
        stop_loss=request.stop_loss,
        take_profit=request.take_profit,
        max_short_notional=request.max_short_notional,
        close_short_above=request.close_short_above,
        horizon_bars=horizon_of(request.exit, None if model is None else model.checkpoint.labels.horizon_bars),
    )


def _device(request: RunRequest, model: ModelSignals | None) -> str | None:
    """Return the device that the bars were really scored on: ``auto`` says nothing to whoever reads the record."""
    if model is None:
        return None
    return str(pick_device(request.device))


def _traded(bars: Bars, timerange: TimeRange, warmup_bars: int, *, everything: bool) -> slice:
    part = bars.between(timerange)
    first = max(part.start, warmup_bars)
    if part.start >= part.stop or first >= part.stop:
        asked = "without --timerange" if timerange == TimeRange() else f"--timerange {timerange}"
        raise RangeError(
            f"{asked}: {part.stop - part.start:,} bars of {bars} lie in it, and the first {warmup_bars:,} bars of the file "
            "go to the warm-up, so none can be scored. Choose a later range, or give bars that start earlier."
        )
    return slice(part.start if everything else first, part.stop)


def _check_seen(request: RunRequest, strategy: Any, traded: TimeArray, step: np.timedelta64) -> None:
    """Refuse bars that the strategy states to have seen, and a declaration that makes no sense."""
    from ..strategies.declarations import bars_seen, name_of

    seen = bars_seen(strategy)
    if seen and len(traded) and not request.allow_overlap:
        check_seen(name_of(strategy), seen, TimeRange(traded[0], traded[-1] + step))


def _seen(bars: Bars, timerange: TimeRange, warmup_bars: int | None) -> Bars:
    """Keep bars after the range's end from everyone, and what a known warm-up does not need."""
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


def _config(request: RunRequest, timerange: TimeRange, model: ModelSignals | None, strategy: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "strategy": request.strategy,
        "data": None if request.data is None else request.data.name,
        "timerange": None if timerange == TimeRange() else str(timerange),
        "allow_overlap": request.allow_overlap,
    }
    from ..strategies.declarations import name_of

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
    """Return the digest of the file that a user's strategy lies in: edited code is another configuration. None for ours."""
    from ..strategies.declarations import is_built_in

    if is_built_in(strategy):
        return None
    try:
        return sha256_of(Path(inspect.getfile(strategy)))
    except (OSError, TypeError):  # made at run time: there is no file
        return None
