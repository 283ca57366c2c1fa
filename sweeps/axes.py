"""The axes of a sweep, besides checkpoint and calibration: their order, their default values, and values as text."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

STORED = "stored"


@dataclass(frozen=True, eq=False, kw_only=True)
class Axes:
    """The values of every axis, named as the options of `flagbt run`, outermost first.

    Parameters
    ----------
    decision : tuple of str
        As in `flagbt run`, or ``stored``: the decision stored with each calibration, else argmax.
    short, cash, ... : tuple
        As in ``run_backtest``, ``Costs`` and ``Rules``; None turns a rule off.
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


# The axes that decide signals come first: neighbouring settings differ in the last axis, and so share their signals.
SETTINGS = tuple(each.name for each in fields(Axes))
AXES = ("ckpt", "calibration", *SETTINGS)


def value_text(value: Any) -> str:
    """Return a value of an axis as text: ``none``, ``yes``, ``no``, a short number, or the text itself."""
    if value is None or isinstance(value, bool):
        return "none" if value is None else "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
