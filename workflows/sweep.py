"""Run a sweep: bars, each checkpoint's logits once, every setting, the winner, a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays import FloatArray, PhaseProgress, Progress
from ..data.bars import Bars
from ..data.time_range import TimeRange
from ..errors import UsageError
from ..models.checkpoint import Checkpoint, find_checkpoint
from ..models.decision import Decision
from ..models.device import check_device_name
from ..models.logit_cache import logits_of
from ..models.model_signals import ModelSignals
from ..models.overlap import check_overlap, check_step
from ..options import option_table
from ..sweeps.axes import DECISION, STORED
from ..sweeps.ranges import range_of, sweep_ranges
from .inputs import SAMPLE_RANGE, calibration_of, check_out, load_bars
from .request import Scoring
from .sweep_request import SweepRequest, axes_of

if TYPE_CHECKING:
    from ..sweeps.grid import Configuration, Grid, Point
    from ..sweeps.worker import Segment

_FILE = Path("FILE")  # in the winner's command, for bars in memory
_RUNS = Path("runs")  # the default of `flagbt run --out`


@dataclass(frozen=True)
class SweepResult:
    """A sweep's folder, and its record as JSON values; ``resumed`` if an earlier command had finished it."""

    folder: Path
    manifest: dict[str, Any]
    resumed: bool = False


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a sweep takes; ``ranges`` are the positions of the ranked ranges, then of the hold-out."""

    bars: Bars
    checkpoints: list[Checkpoint]
    grid: Grid
    ranges: list[slice]


def sweep_request(
    request: SweepRequest,
    *,
    out: Path,
    runs: Path,
    bars: Bars | None = None,
    command: list[str] | None = None,
    progress: PhaseProgress = lambda _phase, _done, _total: None,
) -> SweepResult:
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
    inputs = _inputs(request, bars)

    # 2. The segments, with each checkpoint's logits; the folder that their digests name
    from ..results.significance.backtest_overfitting import parts_for
    from ..sweeps.folder import SweepFolder
    from ..sweeps.record import identity_of, manifest_of
    from ..sweeps.runner import SweepRunner
    from ..sweeps.worker import SweepWorker

    *ranked, holdout = _segments(request, inputs, progress)
    grid, backend, workers = inputs.grid, request.backend, request.workers
    worker = SweepWorker(grid, tuple(ranked), parts_for(len(grid), sum(segment.n_days for segment in ranked)))
    share, seed = request.check_share, request.seed
    identity = identity_of(worker, holdout, inputs.bars, seed=seed, check_share=share, overlap_allowed=request.allow_overlap)
    folder = SweepFolder(out, "+".join(model.name for model in grid.models), identity)
    repeat = _repeater(request if bars is None else replace(request, data=_FILE), inputs, runs)
    if folder.is_finished:
        folder.tidy()
        return SweepResult(folder.path, _repeatable(folder.manifest(), grid, repeat), resumed=True)

    # 3. Every setting, the winner, the page
    with folder.lock():
        if folder.is_finished:  # by another process that had the lock until now
            return SweepResult(folder.path, _repeatable(folder.manifest(), grid, repeat), resumed=True)
        runner = SweepRunner(
            worker=worker,
            holdout=holdout,
            folder=folder,
            runs=runs,
            backend=backend,
            workers=workers,
            check_share=share,
            seed=seed,
        )
        result = runner.run(progress)
        from ..sweeps.page import render_sweep

        manifest = manifest_of(identity, worker, result, command=command or [], backend=backend, workers=workers, repeat=repeat)
        folder.finish(render_sweep(manifest, result), manifest)
        _update_index(runs)
    return SweepResult(folder.path, manifest)


def _prepare_backend(request: SweepRequest) -> None:
    """Check that Ray is installed, or start the process that workers are forked from."""
    if request.backend == "ray":
        from ..sweeps.ray_backend import check_ray

        check_ray()
    elif request.workers > 1:
        from ..sweeps.process_backend import warm_up

        warm_up()


def _inputs(request: SweepRequest, given: Bars | None) -> _Inputs:
    """Load the bars and checkpoints, and refuse too many replays and bars that a checkpoint has seen."""
    bars = load_bars(request.data) if given is None else given
    checkpoints = [find_checkpoint(name) for name in request.ckpt]
    for checkpoint in checkpoints:
        check_step(checkpoint, bars)
    warmup_bars = max(ModelSignals(checkpoint=checkpoint).warmup_bars for checkpoint in checkpoints)
    grid = grid_of(request, checkpoints)
    timeranges = request.timerange or ((SAMPLE_RANGE if request.data is None and given is None else TimeRange()),)
    parts, holdout = sweep_ranges(bars, timeranges, request.holdout, warmup_bars)
    _check_size(request, len(grid), len(parts))
    if not request.allow_overlap:
        for part in (*parts, holdout):
            _check_overlap(grid, checkpoints, bars, part)
    return _Inputs(bars, checkpoints, grid, [*parts, holdout])


def _segments(request: SweepRequest, inputs: _Inputs, progress: PhaseProgress) -> list[Segment]:
    """Score all ranges once with each checkpoint, or read the logits from the cache; return the ranges' segments."""
    from ..sweeps.worker import Segment

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
    segments = []
    for part in ranges:
        until = bars.take(slice(0, part.stop))  # the bars end with the range, so no label uses a bar after it
        segments.append(
            Segment(
                range_of(bars, part),
                bars.take(part),
                tuple(scored[part.start - begin : part.stop - begin] for begin, scored in logits),
                tuple(checkpoint.labels.labels(until)[part] for checkpoint in inputs.checkpoints),
            )
        )
    return segments


def _repeater(request: SweepRequest, inputs: _Inputs, runs: Path) -> Callable[[Configuration, str], str]:
    """Return a function from a setting and a range to the `flagbt run` command that repeats it."""
    from ..sweeps.record import repeat_command

    def repeat(setting: Configuration, timerange: str) -> str:
        others = _other_options(request, inputs.checkpoints[setting.model], runs)
        return repeat_command(inputs.grid, setting, timerange, ckpt=request.ckpt[setting.model], others=others)

    return repeat


def _other_options(request: SweepRequest, checkpoint: Checkpoint, runs: Path) -> dict[str, object]:
    """Return the options of `flagbt run` that no setting holds: the bars first, as the user named them."""
    features = checkpoint.schema.feature_set
    return {
        "data": None if request.data is None else str(request.data),
        "out": None if runs == _RUNS else str(runs),  # whose trial log has counted the settings
        "features": features if ":" in features else None,  # code that runs only where the user names it
        **{
            each.name: value for each in option_table(Scoring) if (value := getattr(request.scoring, each.name)) != each.default
        },
        "allow_overlap": request.allow_overlap,
    }


def _repeatable(manifest: dict[str, Any], grid: Grid, repeat: Callable[[Configuration, str], str]) -> dict[str, Any]:
    """Return a finished sweep's manifest with the winner's command for the current folder and file names."""
    winner = manifest["winner"]
    if winner is None:
        return manifest
    return {**manifest, "winner": {**winner, "run": repeat(grid[winner["setting"]], winner["holdout"]["timerange"])}}


def _update_index(runs: Path) -> None:
    """Update the list of runs, if there is one: the new trials count for them too."""
    from ..reports.runs_index import INDEX_FILE, write_index

    if (runs / INDEX_FILE).is_file():
        write_index(runs)


def grid_of(request: SweepRequest, checkpoints: Sequence[Checkpoint]) -> Grid:
    """Return the grid of a request; equal calibrations with different names count once.

    Raises
    ------
    UsageError
        For a value out of range, or an axis without values.
    """
    from ..sweeps.grid import Grid, Model, Points

    axes = axes_of({**request.axes, DECISION: request.decision})
    for text in request.decision:
        if text != STORED:
            Decision.parse(text)
    every = [_named(request, checkpoint) for checkpoint in checkpoints]
    kept = _distinct(every)
    models = tuple(
        Model(
            checkpoint.name,
            checkpoint.digest,
            checkpoint.class_returns,
            checkpoint.labels.horizon_bars,
            Points.of((named[place] for place in kept), request.offsets),
        )
        for checkpoint, named in zip(checkpoints, every, strict=True)
    )
    if len({len(model.points) for model in models}) > 1:
        # A calibration equals a pair of the grid for some checkpoints only: then it stays a separate point for all.
        models = tuple(
            replace(model, points=Points(tuple(named[place] for place in kept), request.offsets))
            for model, named in zip(models, every, strict=True)
        )
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--ckpt: two checkpoints are named '{twice}', so the table could not distinguish them. Rename one.")
    grid = Grid(models=models, axes=axes)
    grid.check()
    return grid


def _named(request: SweepRequest, checkpoint: Checkpoint) -> list[Point]:
    from ..sweeps.grid import Point

    texts = request.calibration or (() if request.offsets else (STORED,))
    return [Point(text, *calibration_of(text, checkpoint)) for text in texts]


def _distinct(every: list[list[Point]]) -> list[int]:
    """Return the indices of the calibrations to keep: the first of those that are equal for every checkpoint."""
    from ..storage.atomic_files import json_text
    from ..sweeps.grid import canonical

    seen: dict[str, int] = {}
    for place, points in enumerate(zip(*every, strict=True)):
        values = [[canonical(point.calibration), point.decision and str(point.decision)] for point in points]
        seen.setdefault(json_text(values), place)
    return list(seen.values())


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
