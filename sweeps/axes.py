"""The axes of a sweep, besides checkpoint and calibration: their order, and values as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..options import OptionValue

STORED = "stored"
DECISION = "decision"
PARAMETER = "param."  # before the name of a strategy's own parameter, in the table and on the page
# The outermost axes first, the others follow. Neighbouring settings differ in the last axis, and so share their signals: axes
# that decide signals come first. The numbers of settings and the digests of sweeps depend on this order.
_OUTERMOST = (DECISION, "short", "cash", "slippage_bps", "fee_bps")


@dataclass(frozen=True)
class Axis:
    """The values that a sweep gives an option of `flagbt run`.

    Parameters
    ----------
    name : str
        The option's.
    kind : type
        Of its values and of its column in the table: bool, int, float or str. None turns a rule off.
    values : tuple
        As given: ``decision`` may be ``stored``, the decision stored with each calibration, else argmax.
    """

    name: str
    kind: type
    values: tuple[OptionValue, ...]


def outermost_first(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """Return axes in the order in which a grid varies them; those of unknown names stay in theirs."""
    return tuple(sorted(axes, key=lambda axis: _OUTERMOST.index(axis.name) if axis.name in _OUTERMOST else len(_OUTERMOST)))


def axis_title(name: str) -> str:
    """Return an axis's name in words; a strategy's own parameter keeps its name."""
    return name.removeprefix(PARAMETER) if name.startswith(PARAMETER) else name.replace("_", " ")


def value_text(value: object) -> str:
    """Return a value of an axis as text: ``none``, ``yes``, ``no``, a short number, or the text itself."""
    if value is None or isinstance(value, bool):
        return "none" if value is None else "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
