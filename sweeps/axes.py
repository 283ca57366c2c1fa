"""What a sweep can vary besides checkpoint and calibration: the axes, in their order, and what is taken unasked."""

from __future__ import annotations

from dataclasses import dataclass, fields

STORED = "stored"


@dataclass(frozen=True, eq=False, kw_only=True)
class Axes:
    """The values of every axis, under the names of `flagbt run`'s options, outermost first.

    Parameters
    ----------
    decision : tuple of str
        As `flagbt run` reads them, or ``stored``: the one stored with each calibration, else argmax.
    short, cash, ... : tuple
        As ``run_backtest``'s, its ``Costs``' and its ``Rules``'; None turns a rule off.
    """

    decision: tuple[str, ...] = (STORED,)
    short: tuple[bool, ...] = (False,)
    cash: tuple[float, ...] = (10_000.0,)
    slippage_bps: tuple[float, ...] = (2.0,)
    fee_bps: tuple[float, ...] = (10.0,)
    borrow_bps_per_day: tuple[float, ...] = (1.0,)
    cooldown_bars: tuple[int, ...] = (0,)
    min_hold_bars: tuple[int, ...] = (0,)
    exit: tuple[str, ...] = ("signal",)
    stop_loss: tuple[float | None, ...] = (None,)
    take_profit: tuple[float | None, ...] = (None,)
    max_short_notional: tuple[float, ...] = (1.0,)
    close_short_above: tuple[float | None, ...] = (None,)


# What the signals need comes first, so that settings that are neighbours share them: the next one differs in the last axis.
SETTINGS = tuple(each.name for each in fields(Axes))
AXES = ("ckpt", "calibration", *SETTINGS)
