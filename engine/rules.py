"""Rules applied on top of a strategy: when it may enter again, how long it must hold, and when it exits by rule.

Everything is checked at a bar's close and filled at the next bar's open, like any other decision. The path inside a bar
is not guessed: a close 9 % down triggers a stop of 5 %, which fills at the next open, 9 % down or more; a price that
touched the stop and recovered before the close has no effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import UsageError, nearest
from .kernel import COOLDOWN, HORIZON, MIN_HOLD, RUIN, SHORT_LIMIT, STOP_LOSS, TAKE_PROFIT, Limits

# Rules that end a position, and rules that block an order. Ruin does both, though it is not a rule of a strategy.
EXITS = {STOP_LOSS: "stop_loss", TAKE_PROFIT: "take_profit", SHORT_LIMIT: "short_limit", HORIZON: "horizon", RUIN: "ruin"}
WAITS = {COOLDOWN: "cooldown", MIN_HOLD: "min_hold", RUIN: "ruined"}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules that a run applies on top of its strategy; by default none.

    Parameters
    ----------
    cooldown_bars : int
        After an exit fills, no entry is decided at the closes of this many bars, the exit's bar included. A signal
        against the position then closes it and does not reverse it.
    min_hold_bars : int
        A signal closes or reverses a position only after this many bars. Stops and the short limit do not wait.
    horizon_bars : int, optional
        Exit this many bars after the last signal for the position's side.
    stop_loss, take_profit : float, optional
        Exit once the close is this fraction of the entry price worse or better than the entry price.
    max_short_notional : float
        The largest short that is opened, as a share of equity, above 0 and up to 1.
    close_short_above : float, optional
        Close a short once its notional at a close is more than this many times the equity; 1 or more. Without it, only an
        account that has lost everything is closed.

    Raises
    ------
    UsageError
        For a value out of its range.
    """

    cooldown_bars: int = 0
    min_hold_bars: int = 0
    horizon_bars: int | None = None
    stop_loss: float | None = None
    take_profit: float | None = None
    max_short_notional: float = 1.0
    close_short_above: float | None = None

    def __post_init__(self) -> None:
        for name in ("cooldown_bars", "min_hold_bars"):
            if getattr(self, name) < 0:
                raise UsageError(f"rules: {name} is {getattr(self, name)}, expected 0 bars or more.")
        if self.horizon_bars is not None and self.horizon_bars < 1:
            raise UsageError(f"rules: horizon_bars is {self.horizon_bars}, expected 1 bar or more, or None for no such exit.")
        if self.stop_loss is not None and not 0 < self.stop_loss < 1:
            raise UsageError(_fraction("stop_loss", self.stop_loss, "above 0 and below 1"))
        if self.take_profit is not None and not 0 < self.take_profit < math.inf:
            raise UsageError(_fraction("take_profit", self.take_profit, "above 0"))
        if not 0 < self.max_short_notional <= 1:
            raise UsageError(
                f"rules: max_short_notional is {self.max_short_notional:g}, expected a share of equity above 0 "
                "and up to 1: a short may be as large as the equity, never larger."
            )
        if self.close_short_above is not None and not 1 <= self.close_short_above < math.inf:
            raise UsageError(
                f"rules: close_short_above is {self.close_short_above:g}, expected times the equity, 1 or more: below that, a "
                "short of all the equity would be closed as soon as it is opened."
            )

    def limits(self) -> Limits:
        """Return the rules as numbers."""
        off = math.inf
        return Limits(
            self.cooldown_bars,
            self.min_hold_bars,
            self.horizon_bars or 0,
            off if self.stop_loss is None else self.stop_loss,
            off if self.take_profit is None else self.take_profit,
            self.max_short_notional,
            off if self.close_short_above is None else self.close_short_above,
        )

    def describe(self) -> dict[str, object]:
        """Return the active rules as JSON values, under the names of `flagbt run`'s options."""
        named = {
            "cooldown_bars": self.cooldown_bars or None,
            "min_hold_bars": self.min_hold_bars or None,
            "exit": None if self.horizon_bars is None else f"horizon:{self.horizon_bars}",
            "stop_loss": self.stop_loss,
            "take_profit": self.take_profit,
            "max_short_notional": None if self.max_short_notional == 1 else self.max_short_notional,
            "close_short_above": self.close_short_above,
        }
        return {name: value for name, value in named.items() if value is not None}


def _fraction(name: str, value: float, expected: str) -> str:
    return f"rules: {name} is {value:g}, expected a fraction of the entry price {expected}, such as 0.05 for 5 %."


def horizon_of(text: str, label_horizon_bars: int | None) -> int | None:
    """Read ``signal`` (None), ``horizon`` (the label's own) or ``horizon:BARS``.

    Raises
    ------
    UsageError
        For any other text, or a horizon without bars where no checkpoint gives them.
    """
    kind, colon, bars = text.partition(":")
    if kind not in ("signal", "horizon"):
        raise UsageError(f"--exit: unknown exit rule '{text}'. {nearest(kind, ('signal', 'horizon'))}")
    if kind == "signal" and not colon:
        return None
    if kind == "horizon" and not colon:
        if label_horizon_bars is None:
            raise UsageError(
                "--exit horizon takes the bars from a checkpoint's labels, and there is no checkpoint: write horizon:6 for "
                "6 bars, or add --ckpt NAME."
            )
        return label_horizon_bars
    if kind == "signal" or not bars.isdecimal() or int(bars) < 1:
        raise UsageError(f"--exit: expected signal, horizon or horizon:BARS with 1 bar or more, got '{text}'.")
    return int(bars)
