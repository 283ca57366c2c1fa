"""Plain Backtrader strategies: how they are created, and the size of their orders without one."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path

import backtrader as bt

from ..errors import RangeError


class AllIn(float):
    """The size of an order that takes everything: an estimate that the broker replaces when the order fills.

    It is true even at 0 and keeps its type through ``abs`` and ``-``: so Backtrader places the order whatever the estimate,
    and passes the size on to the other orders of a bracket.
    """

    def __abs__(self) -> AllIn:
        return AllIn(super().__abs__())

    def __neg__(self) -> AllIn:
        return AllIn(super().__neg__())

    def __bool__(self) -> bool:
        return True


class AllInSizer(bt.sizers.FixedSize):  # type: ignore[misc]  # Backtrader has no types
    """Size ``buy()`` and ``sell()`` of a plain Backtrader strategy without a size and a sizer: everything.

    An order against a position closes it. Otherwise, a buy takes what the cash can pay at its fill, and a sale shorts the
    whole equity, where shorts are allowed. Backtrader's default is a ``FixedSize`` of 1 unit, more bitcoin than most cash can
    pay; a strategy that sets the stake of this default gets that stake.
    """

    params = (("stake", None),)

    def _getsizing(self, comminfo: bt.CommInfoBase, cash: float, data: bt.AbstractDataBase, isbuy: bool) -> float:
        if self.p.stake is not None:
            size: float = super()._getsizing(comminfo, cash, data, isbuy)
            return size
        return AllIn(self.broker.all_in(isbuy, data.close[0]))


def with_all_in_sizer(strategy: type[bt.Strategy]) -> Callable[..., bt.Strategy]:
    """Return a factory of the plain Backtrader strategy for Cerebro, with ``AllInSizer`` as its default sizer.

    The steps are those of Backtrader's metaclass. This default, like Backtrader's, is set before ``__init__`` runs: a sizer
    set in ``__init__``, in ``start`` or later replaces it. (``Cerebro.addsizer`` would replace the one set in ``__init__``.)
    The class attribute ``sizer``, an instance or a class, counts as well.
    """

    def make(*args: object, **kwargs: object) -> bt.Strategy:
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
    """Explain Backtrader's error for an indicator whose period is longer than the range; ignore any other error.

    Raises
    ------
    RangeError
        Naming the strategy and the number of bars.
    """
    place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if "assignment index" in str(error) and place.is_relative_to(Path(bt.__file__).parent):
        raise RangeError(
            f"strategy '{name}': one of its indicators needs more than the {n_bars:,} bars of the range, and Backtrader has "
            "no others. Choose a longer range, or a shorter period."
        ) from None
