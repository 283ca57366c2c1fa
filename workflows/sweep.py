"""Run a sweep: bars, each checkpoint's logits once, every setting, the winner, a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import FloatArray, JsonObject, JsonValue, PhaseProgress, Progress
from ..data.bars import Bars
from ..data.time_range import TimeRange
from ..engine.run_request import Scoring
from ..errors import UsageError
from ..models.checkpoint import Checkpoint, find_checkpoint
from ..models.device import check_device_name
from ..models.logit_cache import logits_of
from ..models.model_signals import ModelSignals
from ..models.overlap import check_overlap, check_seen, check_step
from ..models.text_read import TextRead
from ..options import option_table, recorded
from ..sweeps.ranges import range_of, sweep_ranges
from .finished_sweep import FinishedSweep
from .inputs import SAMPLE_RANGE, check_out, load_bars
from .sweep_grid import grid_of
from .sweep_request import FLAGTRADER, SweepRequest, check_no_model_options
from .swept_strategy import StrategyInputs, strategy_inputs

if TYPE_CHECKING:
    from ..sweeps.estimate import Estimate
    from ..sweeps.folder import SweepFolder
    from ..sweeps.grid import Configuration, Grid
    from ..sweeps.segment import Segment
    from ..sweeps.worker import SweepWorker, Unit

_FILE = Path("FILE")  # in the winner's command, for bars in memory
_RUNS = Path("runs")  # the default of `flagbt run --out`


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a sweep takes.

    Attributes
    ----------
    ranges : list of slice
        The positions of the ranked ranges, then of the hold-out.
    strategy : StrategyInputs, optional
        A strategy other than flagtrader.
    """

    bars: Bars
    checkpoints: list[Checkpoint]
    grid: Grid
    ranges: list[slice]
    strategy: StrategyInputs | None = None


def sweep_request(
    request: SweepRequest,
    *,
    out: Path,
    runs: Path,
    bars: Bars | None = None,
    command: list[str] | None = None,
    progress: PhaseProgress = lambda _phase, _done, _total: None,
    notice: Callable[[str], None] = lambda _text: None,
) -> FinishedSweep:
    """Run a sweep and write its folder; an interrupted sweep is resumed.

    Parameters
    ----------
    out : Path
        The folder of sweep folders.
    runs : Path
        The folder of run folders, whose trial log counts every setting.
    bars : Bars, optional
        In place of the request's file.
    command : list of str, optional
        The command line, for the record.
    progress : callable
        Called with (phase, done, in all).
    notice : callable
        Called before the work with sentences about it: combinations that are left out, and the time of a sweep in Backtrader.

    Raises
    ------
    FlagbtError
        With one paragraph for the user; finished pieces are kept.
    """
    # 1. The inputs, and every check that needs no work
    check_device_name(request.scoring.device)
    _prepare_backend(request)
    check_out(out)
    check_out(runs, option="--runs")
    inputs = _inputs(request, bars, progress)

    # 2. The segments, with each checkpoint's logits; the folder that their digests name
    *ranked, holdout = _segments(request, inputs, progress)
    worker = _worker(inputs, ranked)
    identity, folder = _folder(request, inputs, worker, holdout, out)
    repeat = _repeater(request if bars is None else replace(request, data=_FILE), inputs, runs)
    finished = _finished(folder, inputs.grid, repeat)
    if finished is not None:
        folder.tidy()
        return finished

    # 3. Every setting, the winner, the page
    extra = {**({} if inputs.strategy is None else inputs.strategy.describe()), **_seen_by(inputs)}
    measured = _measured(request, inputs, worker, folder, notice)
    with folder.lock():
        finished = _finished(folder, inputs.grid, repeat)
        if finished is not None:  # by another process that had the lock until now
            return finished
        from ..sweeps.page import render_sweep
        from ..sweeps.record import manifest_of
        from ..sweeps.runner import SweepRunner

        if measured is not None:
            extra["estimate"] = measured[0].to_json()
            for unit, piece in measured[1].items():
                folder.keep(unit, piece)
        backend, workers = request.backend, request.workers
        result = SweepRunner(
            worker=worker,
            holdout=holdout,
            folder=folder,
            runs=runs,
            backend=backend,
            workers=workers,
            check_share=request.check_share,
            seed=request.seed,
        ).run(progress)
        values = manifest_of(
            identity, worker, result, command=command or [], backend=backend, workers=workers, repeat=repeat, extra=extra
        )
        finished = FinishedSweep(folder.path, values)
        folder.finish(render_sweep(finished.record, result), values)
        _update_index(runs)
    return finished


def _seen_by(inputs: _Inputs) -> JsonObject:
    """Return what the record holds of checkpoints that have, or may have, seen bars or read text; most have nothing."""
    time = np.concatenate([inputs.bars.time[part] for part in inputs.ranges])
    unstated: list[JsonValue] = [each.name for each in inputs.checkpoints if each.bars_seen is None]
    read = (TextRead.next_to(time, each.name, each.text_read) for each in inputs.checkpoints)
    text: list[JsonValue] = [each.to_json() for each in read if each is not None]
    return {**({"unstated": unstated} if unstated else {}), **({"text": text} if text else {})}


def _worker(inputs: _Inputs, ranked: list[Segment]) -> SweepWorker:
    from ..results.significance.backtest_overfitting import parts_for
    from ..sweeps.worker import SweepWorker

    parts = parts_for(len(inputs.grid), sum(segment.n_days for segment in ranked))
    return SweepWorker(inputs.grid, tuple(ranked), parts, None if inputs.strategy is None else inputs.strategy.swept)


def _folder(
    request: SweepRequest, inputs: _Inputs, worker: SweepWorker, holdout: Segment, out: Path
) -> tuple[JsonObject, SweepFolder]:
    """Return what decides the result, and the folder that its digest names."""
    from ..sweeps.folder import SweepFolder
    from ..sweeps.record import identity_of

    share, overlap = request.check_share, request.allow_overlap
    identity = identity_of(worker, holdout, inputs.bars, seed=request.seed, check_share=share, overlap_allowed=overlap)
    names = [model.name for model in inputs.grid.models]
    strategy = [] if inputs.strategy is None else [inputs.strategy.swept.name]
    return identity, SweepFolder(out, "+".join([*strategy, *names]), identity)


def _finished(folder: SweepFolder, grid: Grid, repeat: Callable[[Configuration, str], str]) -> FinishedSweep | None:
    """Return the result of a finished sweep, with the winner's command for the current folder and file names."""
    if not folder.is_finished:
        return None
    finished = FinishedSweep(folder.path, folder.manifest(), resumed=True)
    if (winner := finished.record.winner) is None:
        return finished
    line = repeat(grid[winner.setting], winner.holdout.timerange)
    return replace(finished, values={**finished.values, "winner": replace(winner, run=line).to_json()})


def _measured(
    request: SweepRequest, inputs: _Inputs, worker: SweepWorker, folder: SweepFolder, notice: Callable[[str], None]
) -> tuple[Estimate, dict[Unit, bytes]] | None:
    """Report what is left out and the estimated time, before the work.

    Raises
    ------
    UsageError
        For a sweep in Backtrader that takes more than an hour, unless it is confirmed.
    """
    from ..sweeps import estimate

    if inputs.strategy is not None and inputs.strategy.refused:
        notice(inputs.strategy.refusal)
    measured = estimate.measure(worker, folder, request.workers)
    if measured is None:
        return None
    if measured[0].seconds > estimate.LONGEST_WITHOUT_YES and not request.yes:
        raise UsageError(
            f"sweep: {measured[0].sentence} That is more than an hour. Add --yes to run it, or remove values: each setting is "
            "also a trial that deflates the winner's Sharpe ratio."
        )
    notice(measured[0].sentence)
    return measured


def _prepare_backend(request: SweepRequest) -> None:
    """Check that Ray is installed, or start the process that workers are forked from."""
    if request.backend == "ray":
        from ..sweeps.ray_backend import check_ray

        check_ray()
    elif request.workers > 1:
        from ..sweeps.process_backend import warm_up

        warm_up()


def _inputs(request: SweepRequest, given: Bars | None, progress: PhaseProgress) -> _Inputs:
    """Load the bars, checkpoints and strategy, and refuse too many replays and bars that one of them has seen."""
    bars = load_bars(request.data, request.reading) if given is None else given
    checkpoints = [find_checkpoint(name) for name in request.ckpt]
    for checkpoint in checkpoints:
        check_step(checkpoint, bars)
    strategy = _strategy(request, checkpoints, bars, progress)
    warmup_bars = max((ModelSignals(checkpoint=checkpoint).warmup_bars for checkpoint in checkpoints), default=0)
    grid = grid_of(request, checkpoints, strategy)
    timeranges = request.timerange or ((SAMPLE_RANGE if request.data is None and given is None else TimeRange()),)
    longest = max(warmup_bars, 0 if strategy is None else strategy.warmup_bars)
    parts, holdout = sweep_ranges(bars, timeranges, request.holdout, longest)
    for checkpoint, part in product(checkpoints, (*parts, holdout)):
        checkpoint.model.check_covers(bars.take(part))
    if strategy is None or strategy.swept.has_replay:
        _check_size(request, len(grid), len(parts))
    if not request.allow_overlap:
        for part in (*parts, holdout):
            _check_overlap(grid, checkpoints, bars, part)
            if strategy is not None and strategy.seen:
                check_seen(strategy.swept.name, strategy.seen, range_of(bars, part))
    return _Inputs(bars, checkpoints, grid, [*parts, holdout], strategy)


def _strategy(
    request: SweepRequest, checkpoints: Sequence[Checkpoint], bars: Bars, progress: PhaseProgress
) -> StrategyInputs | None:
    """Return a strategy other than flagtrader with its parameters' combinations; None for flagtrader.

    Raises
    ------
    UsageError
        For parameters of flagtrader, or options of a model without one.
    """
    if request.strategy != FLAGTRADER:
        if not checkpoints:
            check_no_model_options(request)
        return strategy_inputs(request, checkpoints, bars, progress)
    if request.params != {}:
        from ..strategies.flagtrader import FlagTrader
        from ..strategies.parameters import Parameters

        Parameters.of(FlagTrader).check_axes(request.params)
    return None


def _segments(request: SweepRequest, inputs: _Inputs, progress: PhaseProgress) -> list[Segment]:
    """Score all ranges once with each checkpoint, or read the logits from the cache; return the ranges' segments."""
    from ..sweeps.segment import Segment

    bars, ranges, n = inputs.bars, inputs.ranges, len(inputs.checkpoints)
    first, stop = min(part.start for part in ranges), max(part.stop for part in ranges)
    logits: list[tuple[int, FloatArray]] = []
    for place, checkpoint in enumerate(inputs.checkpoints):
        begin = max(0, first - ModelSignals(checkpoint=checkpoint).warmup_bars)
        scored = logits_of(
            checkpoint,
            bars.take(slice(begin, stop)),
            device=request.scoring.device,
            batch_chunks=request.scoring.batch_size,
            cache=request.scoring.cache,
            progress=_nth(progress, place, n),
        )
        logits.append((begin, scored))
    segments, warmup_bars = [], [ModelSignals(checkpoint=checkpoint).warmup_bars for checkpoint in inputs.checkpoints]
    for part in ranges:
        until = bars.take(slice(0, part.stop))  # the bars end with the range, so no label uses a bar after it
        segments.append(
            Segment(
                range_of(bars, part),
                bars.take(part),
                tuple(scored[part.start - begin : part.stop - begin] for begin, scored in logits),
                tuple(checkpoint.labels.labels(until)[part] for checkpoint in inputs.checkpoints),
                # As in `flagbt run`: all bars before the range, or those that the model's warm-up takes.
                None if inputs.strategy is None else until.take(slice(_history(part, warmup_bars), part.stop)),
            )
        )
    return segments


def _history(part: slice, warmup_bars: list[int]) -> int:
    return max(0, part.start - max(warmup_bars)) if warmup_bars else 0


def _repeater(request: SweepRequest, inputs: _Inputs, runs: Path) -> Callable[[Configuration, str], str]:
    """Return a function from a setting and a range to the `flagbt run` command that repeats it."""
    from ..sweeps.record import repeat_command

    def repeat(setting: Configuration, timerange: str) -> str:
        checkpoint = inputs.checkpoints[setting.model] if inputs.checkpoints else None
        others = _other_options(request, inputs.bars, checkpoint, runs)
        ckpt = None if checkpoint is None else request.ckpt[setting.model]
        return repeat_command(inputs.grid, setting, timerange, ckpt=ckpt, others=others)

    return repeat


def _other_options(request: SweepRequest, bars: Bars, checkpoint: Checkpoint | None, runs: Path) -> dict[str, object]:
    """Return the options of `flagbt run` that no setting holds: the bars first, as the user named them."""
    return {
        "data": None if request.data is None else str(request.data),
        **recorded(bars.reading),
        "out": None if runs == _RUNS else str(runs),  # whose trial log has counted the settings
        **({} if checkpoint is None else checkpoint.model.named_code),
        **{
            each.name: value for each in option_table(Scoring) if (value := getattr(request.scoring, each.name)) != each.default
        },
        "allow_overlap": request.allow_overlap,
    }


def _update_index(runs: Path) -> None:
    """Update the list of runs, if there is one: the new trials count for them too."""
    from ..reports.runs_index import INDEX_FILE, write_index

    if (runs / INDEX_FILE).is_file():
        write_index(runs)


def _check_size(request: SweepRequest, n_settings: int, n_ranges: int) -> None:
    from ..sweeps.grid import LARGEST_WITHOUT_YES

    if n_settings * n_ranges > LARGEST_WITHOUT_YES and not request.yes:
        raise UsageError(
            f"sweep: the grid has {n_settings:,} settings over {n_ranges} range(s), {n_settings * n_ranges:,} replays, more "
            f"than {LARGEST_WITHOUT_YES:,}. Add --yes to run it, or remove values: each setting is also a trial that deflates "
            "the winner's Sharpe ratio."
        )


def _check_overlap(grid: Grid, checkpoints: Sequence[Checkpoint], bars: Bars, part: slice) -> None:
    for checkpoint, model in zip(checkpoints, grid.models, strict=True):
        fits = {point.calibration.fitted_on: point.calibration for point in (*model.points.named, model.points[0])}
        for calibration in fits.values():
            check_overlap(checkpoint, calibration, bars, part)


def _nth(progress: PhaseProgress, place: int, n: int) -> Progress:
    """Return a progress callback that counts the bars of all checkpoints together."""
    return lambda done, total: progress("score", place * total + done, n * total)
