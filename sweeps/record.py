"""The record of a sweep: what makes it the sweep it is, and what it found, as JSON values."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..data.bars import Bars
from ..engine.costs import SIZING
from ..results.repeat_command import run_command_text
from .grid import Configuration, Grid, plain
from .runner import SweepOutcome
from .worker import Stretch, SweepWork

FORMAT_VERSION = 2
# Whose version can move a bit of the table.
_DECIDING = ("flagbt", "numpy", "numba", "pyarrow", "backtrader")
SHOWN = ("total_return", "sharpe_daily", "max_drawdown", "trades", "exposure", "turnover", "fees_paid", "final_equity")


def identity_of(
    work: SweepWork, holdout: Stretch, bars: Bars, *, seed: int, check_share: float, overlap_allowed: bool
) -> dict[str, Any]:
    """Return all that decides a sweep's results: its digest names the folder."""
    return {
        "format": FORMAT_VERSION,
        "grid": work.grid.describe(),
        "sizing": SIZING,
        "ranges": [str(stretch.timerange) for stretch in work.stretches],
        "holdout": str(holdout.timerange),
        "bars": [stretch.bars.digest for stretch in (*work.stretches, holdout)],
        "logits": [_digest(stretch) for stretch in (*work.stretches, holdout)],
        "data": {"source": bars.source, "synthetic": bars.synthetic, "digest": bars.digest, "step_hours": bars.step_hours},
        "parts": work.parts,
        "seed": seed,
        "check_share": check_share,
        "allow_overlap": overlap_allowed,
        "versions": {name: importlib.metadata.version(name) for name in _DECIDING},
    }


def _digest(stretch: Stretch) -> str:
    content = [*(each.tobytes() for each in stretch.logits), *(each.tobytes() for each in stretch.labels)]
    return hashlib.sha256(b"".join(content)).hexdigest()


def manifest_of(
    identity: dict[str, Any],
    work: SweepWork,
    result: SweepOutcome,
    *,
    command: Sequence[str],
    backend: str,
    workers: int,
    repeat: Callable[[Configuration, str], str],
) -> dict[str, Any]:
    """Return what a finished sweep says of itself.

    Only ``seconds``, ``command``, ``backend``, ``workers``, and the winner's ``run`` (names of files) may differ between two
    sweeps of the same settings over the same bars. ``repeat`` makes the latter of the winner and a range.
    """
    checks, winner, summary = result.checks, result.winner, result.summary
    return {
        **identity,
        "settings": len(work.grid),
        "settings_with_sharpe": summary.traded,
        "settings_ruined": summary.ruined,
        "replays": len(work.grid) * len(work.stretches),
        "varied": work.grid.varied,
        "winner": None if winner is None else _winner(work, winner, repeat),
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


def _winner(work: SweepWork, winner: dict[str, Any], repeat: Callable[[Configuration, str], str]) -> dict[str, Any]:
    setting, holdout = work.grid[winner["setting"]], winner["holdout"]
    return {
        "setting": setting.number,
        "rows": winner["rows"],
        "deflated_sharpe": winner["deflated"],
        "buy_and_hold": [_shown(each) for each in winner["buy_and_hold"]],
        "holdout": {
            "timerange": holdout["timerange"],
            "strategy": _shown(holdout["strategy"]),
            "buy_and_hold": _shown(holdout["buy_and_hold"]),
            "ruined": holdout["ruined"],
        },
        "run": repeat(setting, holdout["timerange"]),
    }


def _shown(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in SHOWN}


def repeat_command(
    grid: Grid,
    setting: Configuration,
    timerange: str,
    *,
    ckpt: str | None = None,
    others: Mapping[str, str | bool | None] | None = None,
) -> str:
    """Return the `flagbt run` command that repeats a setting over a range.

    Parameters
    ----------
    ckpt : str, optional
        The setting's model as the user named it, a name or a folder; by default its name.
    others : mapping, optional
        Options that no setting holds, such as ``data`` and its file.
    """
    costs = setting.costs
    numbers = {"fee_bps": costs.fee_bps, "slippage_bps": costs.slippage_bps, "borrow_bps_per_day": costs.borrow_bps_per_day}
    return run_command_text(
        {
            "checkpoint": ckpt or grid.models[setting.model].name,
            **(others or {}),
            "timerange": timerange,
            "calibration": setting.point.text,
            "decision": str(setting.decision),
            **{name: plain(number) for name, number in (numbers | {"cash": setting.cash}).items()},
            **{rule: str(value) for rule, value in setting.rules.describe().items()},
            "short": setting.short,
        }
    )
