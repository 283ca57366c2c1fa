"""The plug-in base: a strategy prepares all its signals at once, then decides bar by bar."""

from __future__ import annotations

from typing import NamedTuple

from ..data.bars import Bars
from ..data.labels import BUY, SELL, Labels
from ..data.time_range import TimeRange
from ..models.signals import Signals


class Position(NamedTuple):
    """The position at the close of a bar.

    Attributes
    ----------
    exposure : float
        The current target as a signed fraction of equity: +1 long, 0 flat, -1 short.
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
    """Base class of flagbt strategies: override ``prepare`` (signals), ``decide`` (exposures), or both.

    Parameters
    ----------
    short : bool
        Whether a SELL may open a short position; otherwise it only closes a long one.

    Attributes
    ----------
    name : str
        Name in records and tables; by default the name of the class.
    uses_model : bool
        Whether the class takes a checkpoint's ``ModelSignals`` as its first argument (``--ckpt``).
    bars_seen : tuple of TimeRange or of text such as ``20200101-20230701``, optional
        Every range of bars on which any part of the strategy was trained, tuned or chosen, including the bars that its labels
        look at; ``()`` where it has seen none. Trading them is refused. None: not declared, which every output reports.
    reads_bars : bool
        False where no signal depends on prices or volumes, as in a strategy that always holds or draws at random.
    warmup_bars : int, optional
        Bars of history before the first signal, where declared; messages then name it.
    label_spec : LabelSpec, TripleBarrier or their text, optional
        The labels that its probabilities predict, where it returns any; by default ``LabelSpec()``.
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
        """Name a class without ``name`` after the class, since an inherited name would mean its parent."""
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def prepare(self, bars: Bars) -> Signals:
        """Do all batched work and return one signal per bar. *Causality: row t uses bars <= t.*

        ``bars`` includes the history before the traded range, for the warm-up. The engine stores the result in
        ``self.signals``, at the same positions.
        """
        raise NotImplementedError(f"{type(self).__name__} must define prepare(bars) -> Signals")

    def decide(self, t: int, position: Position) -> float | None:
        """Return the target exposure at the close of bar ``t`` in [-1, 1], or None to keep the position.

        The default is the position rule: BUY -> +1, SELL -> 0 (-1 with ``short``), HOLD -> keep.
        An order is made only where the target differs from ``position.exposure``; it fills at the next bar's open.
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
