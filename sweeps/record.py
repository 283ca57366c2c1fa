"""The record of a sweep, as JSON values: its identity, and its results."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..data.bars import Bars
from ..engine.costs import SIZING, Costs
from ..engine.rules import Rules
from ..options import option_table, recorded
from ..results.metric import MetricValue
from ..results.metrics import Metrics, sweep_metrics
from ..results.repeat_command import as_flags, run_command_text
from .grid import Configuration, Grid
from .runner import SweepOutcome
from .worker import Segment, SweepWorker

FORMAT_VERSION = 2
# Libraries whose version can change a bit of the table.
_DECIDING = ("flagbt", "numpy", "numba", "pyarrow", "backtrader")


def identity_of(
    worker: SweepWorker, holdout: Segment, bars: Bars, *, seed: int, check_share: float, overlap_allowed: bool
) -> dict[str, Any]:
    """Return everything that decides a sweep's results; its digest names the folder."""
    plugins = {metric.name: metric.provider for metric in sweep_metrics() if metric.provider}
    return {
        "format": FORMAT_VERSION,
        "grid": worker.grid.describe(),
        "sizing": SIZING,
        "ranges": [str(segment.timerange) for segment in worker.segments],
        "holdout": str(holdout.timerange),
        "bars": [segment.bars.digest for segment in (*worker.segments, holdout)],
        "logits": [_digest(segment) for segment in (*worker.segments, holdout)],
        "data": bars.describe(),
        "parts": worker.parts,
        "seed": seed,
        "check_share": check_share,
        "allow_overlap": overlap_allowed,
        "versions": {name: importlib.metadata.version(name) for name in _DECIDING},
        **({"metrics": plugins} if plugins else {}),
    }


def _digest(segment: Segment) -> str:
    content = [*(each.tobytes() for each in segment.logits), *(each.tobytes() for each in segment.labels)]
    return hashlib.sha256(b"".join(content)).hexdigest()


def manifest_of(
    identity: dict[str, Any],
    worker: SweepWorker,
    result: SweepOutcome,
    *,
    command: Sequence[str],
    backend: str,
    workers: int,
    repeat: Callable[[Configuration, str], str],
) -> dict[str, Any]:
    """Return the manifest of a finished sweep.

    Only ``seconds``, ``command``, ``backend``, ``workers``, and the winner's ``run`` (names of files) may differ between two
    sweeps of the same settings on the same bars. ``repeat`` returns the winner's ``run`` for a setting and a range.
    """
    checks, winner, summary = result.checks, result.winner, result.summary
    return {
        **identity,
        "settings": len(worker.grid),
        "settings_with_sharpe": summary.traded,
        "settings_ruined": summary.ruined,
        "replays": len(worker.grid) * len(worker.segments),
        "varied": worker.grid.varied,
        "winner": None if winner is None else _winner(worker, winner, repeat),
        "best_mcc": summary.best_mcc,
        "overfitting": None if result.overfitting is None else result.overfitting.to_json(),
        "checked": {
            "settings": len(checks),
            "bars": sum(each["bars"] for each in checks),
            "orders": sum(each["orders"] for each in checks),
            "differences": 0,
        },
        "seconds": {**result.seconds, "check_in_backtrader": sum(each["seconds"] for each in checks)},
        "command": list(command),
        "backend": backend,
        "workers": workers,
    }


def _winner(worker: SweepWorker, winner: dict[str, Any], repeat: Callable[[Configuration, str], str]) -> dict[str, Any]:
    setting, holdout = worker.grid[winner["setting"]], winner["holdout"]
    return {
        "setting": setting.number,
        "rows": winner["rows"],
        "deflated_sharpe": winner["deflated"],
        "buy_and_hold": [_swept(each) for each in winner["buy_and_hold"]],
        "holdout": {
            "timerange": holdout["timerange"],
            "strategy": _swept(holdout["strategy"]),
            "buy_and_hold": _swept(holdout["buy_and_hold"]),
            "ruined": holdout["ruined"],
        },
        "run": repeat(setting, holdout["timerange"]),
    }


def _swept(measured: Metrics) -> dict[str, MetricValue]:
    return {metric.name: measured[metric.name] for metric in Metrics.installed() if metric.sweep}


def repeat_command(
    grid: Grid, setting: Configuration, timerange: str, *, ckpt: str | None = None, others: Mapping[str, object] | None = None
) -> str:
    """Return the `flagbt run` command that repeats a setting on a range.

    Parameters
    ----------
    ckpt : str, optional
        The setting's model as the user named it, a name or a folder; by default its name.
    others : mapping, optional
        Options that no setting holds, such as ``data`` and its file.
    """
    own = {each.name for kind in (Costs, Rules) for each in option_table(kind)}
    return run_command_text(
        {
            "checkpoint": ckpt or grid.models[setting.model].name,
            **(others or {}),
            "timerange": timerange,
            "calibration": setting.point.text,
            **as_flags(recorded(setting.costs)),
            **{name: value for name, value in setting.values.items() if name not in own},
            "decision": str(setting.decision),
            **as_flags(recorded(setting.rules)),
        }
    )
