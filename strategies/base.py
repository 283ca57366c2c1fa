"""The plug-in base: a strategy prepares all its signals at once, then decides bar by bar."""

from __future__ import annotations

from typing import NamedTuple

from ..data.bars import Bars
from ..data.labels import BUY, SELL, Labels
from ..data.time_range import TimeRange
from ..models.signals import Signals


class Position(NamedTuple):
    """What is held when a bar closes.

    Attributes
    ----------
    exposure : float
        The target in force as a signed fraction of equity: +1 long, 0 flat, -1 short.
    size : float
        Base units held, signed.
    bars_held : int
        Bars since the entry was filled, 0 while flat.
    entry_price : float
        Average entry price, NaN while flat.
    """

    exposure: float
    size: float
    bars_held: int
    entry_price: float


class Strategy:
    """Base of every flagbt strategy: override ``prepare`` (signals), or ``decide`` (exposures), or both.

    Parameters
    ----------
    short : bool
        Whether a SELL may open a short position; otherwise it only closes a long one.

    Attributes
    ----------
    name : str
        What records and tables call it; the class's own name where it gives none.
    uses_model : bool
        Whether the class is made with a checkpoint's ``ModelSignals`` as its first argument (``--ckpt``).
    bars_seen : tuple of TimeRange or of text such as ``20200101-20230701``, optional
        Every stretch of bars that anything in the strategy was trained, tuned or chosen on, the bars that its labels look at
        included; ``()`` where it has seen none. Trading them is refused. None: it is not stated, and every output says so.
    reads_bars : bool
        False where no answer depends on prices or volumes, as of a strategy that always holds, or one that draws at random.
    warmup_bars : int, optional
        Bars of history before the first signal, where the strategy states it; messages then name it.
    label_spec : LabelSpec, TripleBarrier or their text, optional
        The question that its probabilities answer, where it returns any; by default the labels of ``LabelSpec()``.
    """

    name = "strategy"
    uses_model = False
    short = False
    bars_seen: tuple[TimeRange | str, ...] | None = None
    reads_bars: bool = True
    warmup_bars: int | None = None
    label_spec: Labels | str | None = None
    signals: Signals

    def __init__(self, *, short: bool = False) -> None:
        self.short = short

    def __init_subclass__(cls) -> None:
        """Call a class that gives no name by the class's own: an inherited name would pass for its parent."""
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def prepare(self, bars: Bars) -> Signals:
        """Do all batched work and return one signal a bar. *Causality: row t uses bars <= t.*

        ``bars`` includes the history before the traded range, for warming up. The engine keeps the result in
        ``self.signals``, at the same positions.
        """
        raise NotImplementedError(f"{type(self).__name__} must define prepare(bars) -> Signals")

    def decide(self, t: int, position: Position) -> float | None:
        """Return the target exposure at the close of bar ``t`` in [-1, 1], or None to keep what is held.

        The default is the position rule: BUY -> +1, SELL -> 0 (-1 with ``short``), HOLD -> keep.
        An order follows only where the target differs from ``position.exposure``; it fills at the next bar's open.
        """
        signal = self.signals.signal[t]
        if signal == BUY:
            return 1.0
        if signal == SELL:
            return -1.0 if self.short else min(position.exposure, 0.0)
        return None

    def describe(self) -> dict[str, object]:
        """Return what a record needs to repeat this strategy, as JSON values."""
        return {"name": self.name, "short": self.short}
