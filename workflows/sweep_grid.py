"""The grid of a sweep: every value of every axis, and each checkpoint's calibrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..models.checkpoint import Checkpoint
from ..models.decision import Decision
from ..sweeps.axes import DECISION, STORED
from .inputs import calibration_of
from .sweep_request import SweepRequest, axes_of
from .swept_strategy import StrategyInputs

if TYPE_CHECKING:
    from ..sweeps.grid import Grid, Point


def grid_of(request: SweepRequest, checkpoints: Sequence[Checkpoint], strategy: StrategyInputs | None = None) -> Grid:
    """Return the grid of a request; equal calibrations with different names count once.

    Raises
    ------
    UsageError
        For a value out of range, or an axis without values.
    """
    from ..sweeps.grid import Grid, Points, SweptCheckpoint

    axes = axes_of({**request.axes, DECISION: request.decision})
    for text in request.decision:
        if text != STORED:
            decision = Decision.parse(text)
            for checkpoint in checkpoints:
                decision.check_returns(checkpoint.class_returns)
    every = [_named(request, checkpoint) for checkpoint in checkpoints]
    kept = _distinct(every)
    models = tuple(
        SweptCheckpoint(
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
    if strategy is None:
        grid = Grid(models=models, axes=axes)
    else:
        grid = Grid(models=models, axes=axes, combinations=strategy.combinations, strategy=strategy.swept.describe())
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
