"""The record of a sweep, as JSON values: its identity, and its results."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence

from ..arrays import JsonObject
from ..data.bars import Bars
from ..engine.costs import SIZING, Costs
from ..engine.rules import Rules
from ..options import option_table, recorded
from ..results.metric import MetricValue
from ..results.metrics import Metrics, sweep_metrics
from ..results.repeat_command import run_command_text
from ..strategies.parameters import parameter_text
from .axes import DECISION
from .grid import Configuration, Grid
from .runner import SweepOutcome, WinnerRuns
from .segment import Segment
from .sweep_record import CheckedInBacktrader, HoldoutResult, SweepWinner
from .worker import SweepWorker

FORMAT_VERSION = 2
# The metrics of the first tables of this format. Other ones, now or later, are part of a sweep's identity, and of its digest.
_FIRST_COLUMNS = [
    *("sharpe_daily", "total_return", "max_drawdown", "trades", "exposure", "turnover", "fees_paid", "slippage_paid"),
    "final_equity",
]
# Libraries whose version can change a bit of the table.
_DECIDING = ("flagbt", "numpy", "numba", "pyarrow", "backtrader")


def identity_of(
    worker: SweepWorker, holdout: Segment, bars: Bars, *, seed: int, check_share: float, overlap_allowed: bool
) -> JsonObject:
    """Return everything that decides a sweep's results; its digest names the folder."""
    plugins = {metric.name: metric.provider for metric in sweep_metrics() if metric.provider}
    own = [metric.name for metric in sweep_metrics() if not metric.provider]
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
        **({"columns": own} if own != _FIRST_COLUMNS else {}),
    }


def _digest(segment: Segment) -> str:
    content = [*(each.tobytes() for each in segment.logits), *(each.tobytes() for each in segment.labels)]
    return hashlib.sha256(b"".join(content)).hexdigest()


def manifest_of(
    identity: JsonObject,
    worker: SweepWorker,
    result: SweepOutcome,
    *,
    command: Sequence[str],
    backend: str,
    workers: int,
    repeat: Callable[[Configuration, str], str],
    extra: JsonObject,
) -> JsonObject:
    """Return the manifest of a finished sweep; ``extra`` is the part of a strategy other than flagtrader.

    Only ``estimate``, ``seconds``, ``command``, ``backend``, ``workers``, and the winner's ``run`` (names of files) may differ
    between two sweeps of the same settings on the same bars. ``repeat`` returns the winner's ``run`` for a setting and a range.
    """
    checks, winner, summary = result.checks, result.winner, result.summary
    return {
        **identity,
        "settings": len(worker.grid),
        "settings_with_sharpe": summary.traded,
        "settings_ruined": summary.ruined,
        "replays": len(worker.grid) * len(worker.segments),
        "varied": worker.grid.varied,
        "winner": None if winner is None else _winner(worker, winner, str(identity["holdout"]), repeat).to_json(),
        "best_mcc": summary.best_mcc,
        "overfitting": None if result.overfitting is None else result.overfitting.to_json(),
        "checked": CheckedInBacktrader(
            settings=len(checks),
            bars=sum(int(each["bars"]) for each in checks),
            orders=sum(int(each["orders"]) for each in checks),
        ).to_json(),
        "seconds": {**result.seconds, "check_in_backtrader": sum(each["seconds"] for each in checks)},
        "command": list(command),
        "backend": backend,
        "workers": workers,
        **extra,
    }


def _winner(worker: SweepWorker, winner: WinnerRuns, holdout: str, repeat: Callable[[Configuration, str], str]) -> SweepWinner:
    setting = worker.grid[winner.setting]
    return SweepWinner(
        setting=setting.number,
        rows=tuple(winner.rows),
        deflated_sharpe=winner.deflated,
        buy_and_hold=tuple(_swept(each) for each in winner.buy_and_hold),
        holdout=HoldoutResult(
            timerange=holdout,
            strategy=_swept(winner.holdout),
            buy_and_hold=_swept(winner.holdout_buy_and_hold),
            ruined=winner.ruined,
        ),
        run=repeat(setting, holdout),
    )


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
    own = {DECISION, "short", *(each.name for kind in (Costs, Rules) for each in option_table(kind))}
    model = {"calibration": setting.point.text, "decision": str(setting.decision)} if grid.models else {}
    return run_command_text(
        {
            "strategy": grid.strategy.get("strategy"),
            "param": [f"{name}={parameter_text(value)}" for name, value in setting.params.items()],
            "seed": grid.strategy.get("seed") or None,
            "checkpoint": (ckpt or grid.models[setting.model].name) if grid.models else None,
            **(others or {}),
            "timerange": timerange,
            **model,
            **recorded(setting.costs),
            **{name: value for name, value in setting.values.items() if name not in own},
            **recorded(setting.rules),
            "short": setting.short,
        }
    )
