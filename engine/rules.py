"""Rules applied on top of a strategy: when it may enter again, how long it must hold, and when it exits by rule.

Everything is checked at a bar's close and filled at the next bar's open, like any other decision. The path inside a bar
is not guessed: a close 9 % down triggers a stop of 5 %, which fills at the next open, 9 % down or more; a price that
touched the stop and recovered before the close has no effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..arrays import JsonObject
from ..errors import UsageError, nearest
from ..options import check_options, from_options, known_fields, option, recorded
from .kernel import COOLDOWN, HORIZON, MIN_HOLD, RUIN, SHORT_LIMIT, STOP_LOSS, TAKE_PROFIT, Limits

# Rules that end a position, and rules that block an order. Ruin does both, though it is not a rule of a strategy.
EXITS = {STOP_LOSS: "stop_loss", TAKE_PROFIT: "take_profit", SHORT_LIMIT: "short_limit", HORIZON: "horizon", RUIN: "ruin"}
WAITS = {COOLDOWN: "cooldown", MIN_HOLD: "min_hold", RUIN: "ruined"}
LABEL_HORIZON = "horizon"  # the exit at the horizon of a checkpoint's labels


@known_fields
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
    exit : str
        ``signal``, ``horizon:BARS``: exit this many bars after the last signal for the position's side, or ``horizon``:
        the horizon of the checkpoint's labels, see ``with_horizon``.
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

    cooldown_bars: int = option(
        0, help="No entry for this many bars after an exit.", unit="bars", minimum=0, expected="0 bars or more", sweep=True
    )
    min_hold_bars: int = option(
        0, help="No exit by signal before this many bars.", unit="bars", minimum=0, expected="0 bars or more", sweep=True
    )
    exit: str = option(
        "signal", help="signal, or horizon[:BARS]: exit this long after the last signal.", unit="rule", sweep=True
    )
    stop_loss: float | None = option(
        None,
        help="Exit at a close worse than the entry price by this fraction.",
        unit="fraction",
        above=0,
        below=1,
        expected="a fraction of the entry price above 0 and below 1, such as 0.05 for 5 %",
        sweep=True,
    )
    take_profit: float | None = option(
        None,
        help="Exit at a close better than the entry price by this fraction.",
        unit="fraction",
        above=0,
        expected="a fraction of the entry price above 0, such as 0.05 for 5 %",
        sweep=True,
    )
    max_short_notional: float = option(
        1.0,
        help="Largest short position at entry, as a share of equity.",
        unit="share",
        above=0,
        maximum=1,
        expected="a share of equity above 0 and up to 1: a short may be as large as the equity, never larger",
        sweep=True,
    )
    close_short_above: float | None = option(
        None,
        help="Close a short whose notional exceeds the equity this many times.",
        unit="times",
        minimum=1,
        expected="times the equity, 1 or more: below that, a short of all the equity would be closed as soon as it is opened",
        sweep=True,
    )

    def __post_init__(self) -> None:
        check_options(self, "rules")
        if self.exit != LABEL_HORIZON:
            object.__setattr__(self, "exit", _exit_text(horizon_of(self.exit, None)))

    @classmethod
    def from_json(cls, settings: Mapping[str, object]) -> Rules:
        """Return the rules in a run's recorded settings; one that they do not hold is off."""
        return from_options(cls, settings)

    def with_horizon(self, label_horizon_bars: int | None) -> Rules:
        """Return the rules with the bars of a checkpoint's labels in place of the text ``horizon``.

        Raises
        ------
        UsageError
            For ``horizon`` without a checkpoint.
        """
        return replace(self, exit=_exit_text(horizon_of(self.exit, label_horizon_bars)))

    def limits(self) -> Limits:
        """Return the rules as numbers.

        Raises
        ------
        UsageError
            For an exit at a horizon whose bars are not known.
        """
        off = math.inf
        return Limits(
            self.cooldown_bars,
            self.min_hold_bars,
            horizon_of(self.exit, None) or 0,
            off if self.stop_loss is None else self.stop_loss,
            off if self.take_profit is None else self.take_profit,
            self.max_short_notional,
            off if self.close_short_above is None else self.close_short_above,
        )

    def describe(self) -> JsonObject:
        """Return the active rules as JSON values, under the names of `flagbt run`'s options."""
        return recorded(self)


def _exit_text(horizon_bars: int | None) -> str:
    return "signal" if horizon_bars is None else f"{LABEL_HORIZON}:{horizon_bars}"


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
