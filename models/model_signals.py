"""ModelSignals: a checkpoint, a calibration and a decision rule as one function from bars to signals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray, JsonObject, Progress, TimeArray
from ..data.bars import Bars
from .calibration import Calibration
from .checkpoint import Checkpoint
from .decision import Decision
from .logit_cache import logits_of
from .signals import NO_SIGNAL, Signals


@dataclass(frozen=True, eq=False)
class ScoredBars:
    """Logits that were computed before, for bars of known times.

    Attributes
    ----------
    time : array of datetime64[ns], shape (n_bars,)
    logits : array of float64, shape (n_bars, 3)
    """

    time: TimeArray
    logits: FloatArray

    def logits_of(self, bars: Bars, warmup_bars: int) -> FloatArray | None:
        """Return the logits of bars as scoring them would, NaN in their warm-up; None where some are not among them."""
        first = int(np.searchsorted(self.time, bars.time[0]))
        part = slice(first, first + len(bars))
        if not np.array_equal(self.time[part], bars.time):
            return None
        found = self.logits[part].copy()
        found[:warmup_bars] = np.nan
        return found


@dataclass(frozen=True, kw_only=True)
class ModelSignals:
    """A function from bars to a checkpoint's signals. *Causality: row t uses bars <= t.*

    Parameters
    ----------
    checkpoint : Checkpoint
    calibration : Calibration
    decision : Decision
    round_trip_cost : float
        Fees and slippage of entry and exit, as a fraction; ``utility`` compares expected returns with it.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; resolved when bars are scored.
    batch_chunks : int, optional
        Chunks a forward pass; see ``scoring.ScoringOptions``.
    progress : callable, optional
        Called with (bars scored, bars in all).
    cache : bool
        Read the logits from the cache on disk and store them there; see ``logit_cache``.
    scored : ScoredBars, optional
        Logits to use for bars that they hold, in place of scoring.
    """

    checkpoint: Checkpoint
    calibration: Calibration = field(default_factory=Calibration)
    decision: Decision = field(default_factory=Decision)
    round_trip_cost: float = 0.0024
    device: str = "auto"
    batch_chunks: int | None = None
    progress: Progress | None = field(default=None, compare=False)
    cache: bool = field(default=True, compare=False)
    scored: ScoredBars | None = field(default=None, compare=False)

    @property
    def warmup_bars(self) -> int:
        """Bars of history before the first signal."""
        return self.checkpoint.model.warmup_bars

    def __call__(self, bars: Bars) -> Signals:
        """Score all bars in batches, calibrate, decide; the first ``warmup_bars`` carry no signal.

        Raises
        ------
        CheckpointError
            When the checkpoint is damaged, or its features are not computed as at training.
        DeviceError
            When the device does not exist.
        """
        known = None if self.scored is None else self.scored.logits_of(bars, self.warmup_bars)
        logits = self._computed(bars) if known is None else known
        probabilities = self.calibration(logits)
        signal = self.decision(probabilities, class_returns=self.checkpoint.class_returns, round_trip_cost=self.round_trip_cost)
        return Signals(signal, _raw(logits), logits, probabilities)

    def _computed(self, bars: Bars) -> FloatArray:
        return logits_of(
            self.checkpoint, bars, device=self.device, batch_chunks=self.batch_chunks, progress=self.progress, cache=self.cache
        )

    def describe(self) -> JsonObject:
        """Return what a record needs to repeat it, as JSON values, without the device."""
        return {"calibration": self.calibration.to_json(), "decision": str(self.decision)}


def _raw(logits: FloatArray) -> IntArray:
    scored: BoolArray = np.asarray(np.isfinite(logits).all(axis=1))
    highest = np.where(scored[:, None], logits, 0.0).argmax(axis=1)
    return np.where(scored, highest, NO_SIGNAL).astype(np.int8)
