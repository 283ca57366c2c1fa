"""RunRequest: the options of `flagbt run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..data.time_range import TimeRange


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The options of `flagbt run`, one field per option.

    Parameters
    ----------
    strategy : str
        A registered name, or ``package.module:Class``.
    params : mapping
        Values of the strategy's own parameters by name, see ``strategies.parameters``.
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
    params: Mapping[str, object] = field(default_factory=dict)
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
