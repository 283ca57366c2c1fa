"""Plain Backtrader strategies: how they are made, and what they order where they set no size."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrader as bt

from ..errors import RangeError


class AllIn(float):
    """The size of an order that takes everything: an estimate until the order fills, when the broker sets it anew.

    It stays true at 0 and keeps its type through ``abs`` and ``-``: so Backtrader gives the order whatever the estimate, and
    hands the size on to the other orders of a bracket.
    """

    def __abs__(self) -> AllIn:
        return AllIn(super().__abs__())

    def __neg__(self) -> AllIn:
        return AllIn(super().__neg__())

    def __bool__(self) -> bool:
        return True


class AllInSizer(bt.sizers.FixedSize):  # type: ignore[misc]  # Backtrader has no types
    """Size of a plain Backtrader strategy's ``buy()`` and ``sell()`` without a size, where it sets no sizer: everything.

    An order against a position closes it. Otherwise, a buy takes what the cash can pay at its fill, and a sale the whole
    equity short, where shorts are allowed. Backtrader's default is a ``FixedSize`` of 1 unit, which is more bitcoin than most
    cash can pay; a strategy that sets the stake of this default gets that stake.
    """

    params = (("stake", None),)

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> Any:
        if self.p.stake is not None:
            return super()._getsizing(comminfo, cash, data, isbuy)
        return AllIn(self.broker.all_in(isbuy, data.close[0]))


def with_all_in_sizer(strategy: type[Any]) -> Callable[..., Any]:
    """Return what makes the plain Backtrader strategy for Cerebro, with ``AllInSizer`` where it sets no sizer of its own.

    The steps are those of Backtrader's metaclass. Its own default stands before ``__init__`` runs, and so does this one:
    whatever the strategy sets in ``__init__``, in ``start`` or later takes its place. (``Cerebro.addsizer`` would replace
    what ``__init__`` has set.) A sizer or a class of one as the class attribute ``sizer`` counts as well.
    """

    def make(*args: Any, **kwargs: Any) -> Any:
        cls, args, kwargs = strategy.doprenew(*args, **kwargs)
        made, args, kwargs = cls.donew(*args, **kwargs)
        made, args, kwargs = cls.dopreinit(made, *args, **kwargs)
        own = inspect.getattr_static(cls, "sizer")
        own = own() if inspect.isclass(own) and issubclass(own, bt.Sizer) else own
        made._sizer = own if isinstance(own, bt.Sizer) else AllInSizer()
        made._sizer.set(made, made.broker)
        made, args, kwargs = cls.doinit(made, *args, **kwargs)
        made, args, kwargs = cls.dopostinit(made, *args, **kwargs)
        return made

    return make


def explain_short_range(error: IndexError, name: str, n_bars: int) -> None:
    """Name the cause of an error of Backtrader's own, where it is an indicator whose period is longer than the range.

    Raises
    ------
    RangeError
        Then; else nothing.
    """
    place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if "assignment index" in str(error) and place.is_relative_to(Path(bt.__file__).parent):
        raise RangeError(
            f"strategy '{name}': one of its indicators needs more than the {n_bars:,} bars of the range, and Backtrader knows "
            "no others. Choose a longer range, or a shorter period."
        ) from None
