"""flagtrader: trades what a fine-tuned checkpoint says, by the position rule."""

from __future__ import annotations

from ..data.bars import Bars
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
        self.bars_seen = tuple(seen_ranges(model.checkpoint, model.calibration).values())
        self.warmup_bars = model.warmup_bars

    def prepare(self, bars: Bars) -> Signals:
        """Score all bars in batches before the simulation starts. *Causality: row t uses bars <= t.*"""
        return self.model(bars)

    def describe(self) -> dict[str, object]:
        """Return what a record needs to repeat this strategy, as JSON values."""
        return {**super().describe(), **self.model.describe()}
