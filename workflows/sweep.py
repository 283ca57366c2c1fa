"""The straight line of a sweep, in one function: bars, logits once a checkpoint, every setting, the winner, a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import FloatArray, PhaseProgress
from ..data.bars import Bars
from ..data.time_range import TimeRange
from ..errors import RangeError, UsageError
from ..models.checkpoint import Checkpoint, find_checkpoint
from ..models.decision import Decision
from ..models.device import check_device_name
from ..models.logit_cache import logits_of
from ..models.model_signals import ModelSignals
from ..models.overlap import check_overlap, check_step
from ..sweeps.axes import SETTINGS, STORED, Axes
from .run import SAMPLE_RANGE, calibration_of, check_out, load_bars

if TYPE_CHECKING:
    from ..sweeps.folder import SweepFolder
    from ..sweeps.grid import Configuration, Grid, Point
    from ..sweeps.worker import Stretch

BACKENDS = ("local", "ray")
DEFAULT_HOLDOUT = "0.25"
_RUNS = Path("runs")  # where `flagbt run` keeps its runs unasked
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True, kw_only=True)
class SweepRequest(Axes):
    """What `flagbt sweep` asks for: the values of every axis, and how the work is done.

    Parameters
    ----------
    ckpt : tuple of str
        One or more.
    data : Path, optional
        A file of bars; without it the bundled SYNTHETIC sample is used.
    timerange : tuple of TimeRange
        That settings are ranked on, together; they may not overlap. By default all bars past the warm-up.
    holdout : str
        What no setting is ranked on: a share of the last range, cut off its end, or a range of its own.
    calibration : tuple of str
        By default ``stored``, where there are no ``offsets``.
    offsets : tuple of float
        Added to the logits of SELL and of BUY, every pair of them, HOLD's being 0.
    check_share : float
        Of all settings, drawn at random and run in Backtrader too, besides the best ones.
    seed : int
        Of that draw.
    backend : str
        ``local`` or ``ray``.
    workers : int
        Processes on this machine.
    device, batch_size, cache, allow_overlap
        As `flagbt run`'s.
    yes : bool
        Do more than ten million replays without asking.
    """

    ckpt: tuple[str, ...]
    data: Path | None = None
    timerange: tuple[TimeRange, ...] = ()
    holdout: str = DEFAULT_HOLDOUT
    calibration: tuple[str, ...] = ()
    offsets: tuple[float, ...] = ()
    check_share: float = 0.01
    seed: int = 0
    backend: str = "local"
    workers: int = 2
    device: str = "auto"
    batch_size: int | None = None
    cache: bool = True
    allow_overlap: bool = False
    yes: bool = False


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left: its folder, and its record as JSON values; ``resumed`` where it had been finished before."""

    folder: Path
    manifest: dict[str, Any]
    resumed: bool = False


def sweep(
    request: SweepRequest,
    *,
    out: Path,
    runs: Path,
    command: list[str] | None = None,
    progress: PhaseProgress = lambda _phase, _done, _total: None,
) -> SweepResult:
    """Sweep a grid, from file to folder; a sweep that was interrupted goes on.

    Parameters
    ----------
    out : Path
        Where sweep folders are kept.
    runs : Path
        The folder of run folders, whose trial log counts every setting.
    command : list of str, optional
        The command line, for the record.
    progress : callable
        Called with (phase, done, in all).

    Raises
    ------
    FlagbtError
        With one paragraph for the user; what is done is kept.
    """
    # 1. What can be refused before any work
    check_device_name(request.device)
    if request.backend == "ray":
        from ..sweeps.ray_backend import check_ray

        check_ray()
    elif request.workers > 1:
        from ..sweeps.process_backend import warm_up

        warm_up()
    check_out(out)
    check_out(runs, option="--runs")
    bars = load_bars(request.data)
    checkpoints = [find_checkpoint(name) for name in request.ckpt]
    for checkpoint in checkpoints:
        check_step(checkpoint, bars)
    warmups = [ModelSignals(checkpoint=checkpoint).warmup_bars for checkpoint in checkpoints]
    grid = grid_of(request, checkpoints)
    parts, holdout = ranges_of(request, bars, max(warmups))
    _check_size(request, len(grid), len(parts))
    if not request.allow_overlap:
        for part in (*parts, holdout):
            _check_overlap(grid, checkpoints, bars, part)

    # 2. What every setting needs: each checkpoint's logits once, from the cache where they are there
    first, stop = min(part.start for part in (*parts, holdout)), max(part.stop for part in (*parts, holdout))
    logits = []
    for place, (checkpoint, warmup) in enumerate(zip(checkpoints, warmups, strict=True)):
        begin = max(0, first - warmup)
        scored = logits_of(
            checkpoint,
            bars.take(slice(begin, stop)),
            device=request.device,
            batch_chunks=request.batch_size,
            cache=request.cache,
            progress=_nth(progress, place, len(checkpoints)),
        )
        logits.append((begin, scored))
    stretches = [_stretch(bars, part, checkpoints, logits) for part in (*parts, holdout)]

    # 3. Every setting, the winner, the page
    return _course(request, checkpoints, grid, stretches, bars, out=out, runs=runs, command=command or [], progress=progress)


def _course(
    request: SweepRequest,
    checkpoints: Sequence[Checkpoint],
    grid: Grid,
    stretches: list[Stretch],
    bars: Bars,
    *,
    out: Path,
    runs: Path,
    command: list[str],
    progress: PhaseProgress,
) -> SweepResult:
    from ..results.significance.backtest_overfitting import parts_for
    from ..sweeps.record import identity_of, manifest_of, repeat_command
    from ..sweeps.runner import run_course
    from ..sweeps.worker import SweepWork

    *ranked, holdout = stretches
    work = SweepWork(grid, tuple(ranked), parts_for(len(grid), sum(stretch.n_days for stretch in ranked)))
    identity = identity_of(
        work, holdout, bars, seed=request.seed, check_share=request.check_share, overlap_allowed=request.allow_overlap
    )

    def repeat(setting: Configuration, timerange: str) -> str:
        others = _other_options(request, checkpoints[setting.model], runs)
        return repeat_command(grid, setting, timerange, ckpt=request.ckpt[setting.model], others=others)

    folder = _folder(out, grid, identity)
    if folder.is_finished:
        folder.tidy()
        return SweepResult(folder.path, _repeatable(folder.manifest(), grid, repeat), resumed=True)
    with folder.opened():
        if folder.is_finished:  # by another process, which held it until now
            return SweepResult(folder.path, _repeatable(folder.manifest(), grid, repeat), resumed=True)
        result = run_course(
            work,
            holdout,
            folder,
            backend=request.backend,
            workers=request.workers,
            check_share=request.check_share,
            seed=request.seed,
            runs=runs,
            progress=progress,
        )
        from ..sweeps.page import render_sweep

        manifest = manifest_of(
            identity, work, result, command=command, backend=request.backend, workers=request.workers, repeat=repeat
        )
        folder.finish(render_sweep(manifest, result), manifest)
        _update_index(runs)
    return SweepResult(folder.path, manifest)


def _other_options(request: SweepRequest, checkpoint: Checkpoint, runs: Path) -> dict[str, str | bool | None]:
    """Return the options of `flagbt run` that no setting holds: the bars first, as the user named them."""
    features = checkpoint.schema.feature_set
    return {
        "data": None if request.data is None else str(request.data),
        "out": None if runs == _RUNS else str(runs),  # whose trial log has counted the settings
        "features": features if ":" in features else None,  # code that runs only where the user names it
        "device": None if request.device == "auto" else request.device,
        "batch_size": None if request.batch_size is None else str(request.batch_size),
        "allow_overlap": request.allow_overlap,
    }


def _repeatable(manifest: dict[str, Any], grid: Grid, repeat: Callable[[Configuration, str], str]) -> dict[str, Any]:
    """Return a finished sweep's manifest with the command that repeats its winner from here, by today's names of files."""
    winner = manifest["winner"]
    if winner is None:
        return manifest
    return {**manifest, "winner": {**winner, "run": repeat(grid[winner["setting"]], winner["holdout"]["timerange"])}}


def _update_index(runs: Path) -> None:
    """Judge the runs on their list by the settings that were just tried as well."""
    from ..reports.runs_index import INDEX_FILE, write_index

    if (runs / INDEX_FILE).is_file():
        write_index(runs)


def _folder(out: Path, grid: Grid, identity: dict[str, Any]) -> SweepFolder:
    from ..sweeps.folder import SweepFolder

    return SweepFolder(out, "+".join(model.name for model in grid.models), identity)


def grid_of(request: SweepRequest, checkpoints: Sequence[Checkpoint]) -> Grid:
    """Return the grid that a request spans; calibrations that are the same under another name count once.

    Raises
    ------
    UsageError
        For a value that is out of its range, or no value at all.
    """
    from ..sweeps.grid import Grid, Model, Points

    axes = {name: getattr(request, name) for name in SETTINGS}
    empty = next((name for name, values in {"ckpt": request.ckpt, **axes}.items() if not values), None)
    if empty is not None:
        raise UsageError(f"--{empty.replace('_', '-')}: no value is given, so the grid is empty. Give one or more.")
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
        # One of them is a pair of the grid for some checkpoints only: then it stays a point of its own for all.
        models = tuple(
            replace(model, points=Points(tuple(named[place] for place in kept), request.offsets))
            for model, named in zip(models, every, strict=True)
        )
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--ckpt: two checkpoints are called '{twice}', and a table could not tell them apart. Rename one.")
    grid = Grid(models=models, **axes)
    grid.check()
    return grid


def _named(request: SweepRequest, checkpoint: Checkpoint) -> list[Point]:
    from ..sweeps.grid import Point

    texts = request.calibration or (() if request.offsets else (STORED,))
    return [Point(text, *calibration_of(text, checkpoint)) for text in texts]


def _distinct(every: list[list[Point]]) -> list[int]:
    """Return the places of the calibrations to keep: the first of those that are the same for every checkpoint."""
    from ..storage.atomic_files import json_text
    from ..sweeps.grid import canonical

    seen: dict[str, int] = {}
    for place, points in enumerate(zip(*every, strict=True)):
        said = [[canonical(point.calibration), point.decision and str(point.decision)] for point in points]
        seen.setdefault(json_text(said), place)
    return list(seen.values())


def ranges_of(request: SweepRequest, bars: Bars, warmup_bars: int) -> tuple[list[slice], slice]:
    """Return the positions of the ranked ranges, and those of the hold-out.

    Raises
    ------
    RangeError
        When a range holds no bars, ranges overlap, or too little is left.
    """
    asked = request.timerange or ((SAMPLE_RANGE if request.data is None else TimeRange()),)
    parts = [_part(bars, each, warmup_bars) for each in asked]
    for one, other in ((a, b) for i, a in enumerate(parts) for b in parts[:i]):
        if one.start < other.stop and other.start < one.stop:
            raise RangeError(
                f"--timerange: {_range(bars, other)} and {_range(bars, one)} overlap, so their common bars would count twice. "
                "Give ranges that do not."
            )
    if "-" in request.holdout.lstrip("-"):
        holdout = _part(bars, TimeRange.parse(request.holdout, option="--holdout"), warmup_bars, option="--holdout")
        hit = next((part for part in parts if part.start < holdout.stop and holdout.start < part.stop), None)
        if hit is not None:
            raise RangeError(
                f"--holdout {request.holdout}: settings are ranked on {_range(bars, hit)}, which overlaps it, so it would "
                "be no test. Give a range that no --timerange touches."
            )
        return parts, holdout
    try:
        share = float(request.holdout)
    except ValueError:
        share = np.nan
    if not 0 < share < 1:
        raise UsageError(
            f"--holdout: expected a share of the last range above 0 and below 1, such as {DEFAULT_HOLDOUT}, or a range such as "
            f"20241001-20250101, got '{request.holdout}'."
        )
    last = max(range(len(parts)), key=lambda place: parts[place].stop)
    cut = _midnight(bars, parts[last], share)
    holdout = slice(cut, parts[last].stop)
    parts[last] = slice(parts[last].start, cut)
    return parts, holdout


def _midnight(bars: Bars, part: slice, share: float) -> int:
    """Return where the hold-out begins: at a UTC midnight, so that no day belongs to both."""
    wanted = bars.time[part.stop - 1 - int((part.stop - part.start - 1) * share)]
    cut = bars.position_of(wanted.astype("datetime64[D]").astype("datetime64[ns]"))
    days = (bars.time[part.stop - 1] - bars.time[part.start]) / _DAY
    if cut - part.start < 2 or part.stop - cut < 2 or days < 4:
        raise RangeError(
            f"--timerange: {_range(bars, part)} holds {part.stop - part.start:,} bars, too few to rank settings on one "
            "part and test the winner on the rest. Give a longer range, or a --holdout range of its own."
        )
    return cut


def _part(bars: Bars, timerange: TimeRange, warmup_bars: int, *, option: str = "--timerange") -> slice:
    part = bars.between(timerange)
    first = max(part.start, warmup_bars)
    if first + 2 > part.stop:
        raise RangeError(
            f"{option} {timerange}: {max(0, part.stop - part.start):,} bars of {bars} lie in it, and the first "
            f"{warmup_bars:,} "
            "bars of the file go to the warm-up, so too few are left. Choose a later range, or give bars that start earlier."
        )
    return slice(first, part.stop)


def _range(bars: Bars, part: slice) -> TimeRange:
    end = bars.time[part.stop - 1] + bars.step
    return TimeRange(bars.time[part.start], np.datetime64(end))


def _check_size(request: SweepRequest, n_settings: int, n_ranges: int) -> None:
    from ..sweeps.grid import LARGEST_UNASKED

    if n_settings * n_ranges > LARGEST_UNASKED and not request.yes:
        raise UsageError(
            f"sweep: the grid has {n_settings:,} settings over {n_ranges} range(s), {n_settings * n_ranges:,} replays, more "
            "than "
            f"{LARGEST_UNASKED:,}. Add --yes if you mean it, or take values out of it: each one more is also a trial more that "
            "the winner's Sharpe ratio is deflated by."
        )


def _check_overlap(grid: Grid, checkpoints: Sequence[Checkpoint], bars: Bars, part: slice) -> None:
    for checkpoint, model in zip(checkpoints, grid.models, strict=True):
        fits = {point.calibration.fitted_on: point.calibration for point in (*model.points.named, model.points[0])}
        for calibration in fits.values():
            check_overlap(checkpoint, calibration, bars, part)


def _stretch(bars: Bars, part: slice, checkpoints: Sequence[Checkpoint], logits: Sequence[tuple[int, FloatArray]]) -> Stretch:
    from ..sweeps.worker import Stretch

    # Labels of bars that end with the range: none of them looks at what comes after it.
    seen = bars.take(slice(0, part.stop))
    return Stretch(
        _range(bars, part),
        bars.take(part),
        tuple(scored[part.start - begin : part.stop - begin] for begin, scored in logits),
        tuple(checkpoint.labels.labels(seen)[part] for checkpoint in checkpoints),
    )


def _nth(progress: PhaseProgress, place: int, n: int) -> Callable[[int, int], None]:
    """Count the bars of all checkpoints together."""
    return lambda done, total: progress("score", place * total + done, n * total)
