"""flagtrader: trades the signals of a fine-tuned checkpoint by the position rule."""

from __future__ import annotations

from functools import cached_property

from ..data.bars import Bars
from ..data.time_range import TimeRange
from ..models.model_signals import ModelSignals
from ..models.overlap import seen_ranges
from ..models.signals import Signals
from .base import Strategy


class FlagTrader(Strategy):
    """BUY -> long, SELL -> flat (short with ``short``), HOLD -> keep.

    Parameters
    ----------
    model : ModelSignals
        The checkpoint, its calibration and the decision rule.
    short : bool
        Whether a SELL may open a short position.
    """

    name = "flagtrader"
    uses_model = True

    def __init__(self, model: ModelSignals, *, short: bool = False) -> None:
        super().__init__(short=short)
        self.model = model

    @cached_property  # kept on the class, so that no subclass inherits it as its declaration; a subclass can still set it
    def bars_seen(self) -> tuple[TimeRange, ...] | None:  # type: ignore[override]
        """Ranges that the checkpoint and the calibration in use have seen; None where the checkpoint's are not known."""
        if self.model.checkpoint.bars_seen is None:
            return None
        return tuple(seen_ranges(self.model.checkpoint, self.model.calibration).values())

    @cached_property
    def warmup_bars(self) -> int:  # type: ignore[override]
        """Bars before the checkpoint's first signal."""
        return self.model.warmup_bars

    def prepare(self, bars: Bars) -> Signals:
        """Score all bars in batches before the simulation starts. *Causality: row t uses bars <= t.*"""
        return self.model(bars)

    def describe(self) -> dict[str, object]:
        """Return what a record needs to repeat this strategy, as JSON values."""
        return {**super().describe(), **self.model.describe()}
