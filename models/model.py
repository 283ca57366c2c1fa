"""Model: the contract that scoring, calibration, backtests, sweeps and the doctor are written against.

A model turns bars into logits. What more it can show is a separate protocol; a check that needs one is skipped with that
reason where a model lacks it.
"""

from __future__ import annotations

from datetime import date
from typing import Protocol, runtime_checkable

from ..arrays import Float32Array, FloatArray, Progress
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.labels import Labels
from ..data.time_range import TimeRange


@runtime_checkable
class Model(Protocol):
    """Bars in, logits out. *Causality: row t uses bars <= t.*"""

    @property
    def labels(self) -> Labels:
        """The question that its classes answer."""

    @property
    def warmup_bars(self) -> int:
        """Bars of history before its first answer."""

    @property
    def bars_seen(self) -> tuple[TimeRange, ...] | None:
        """Ranges of bars that anything in it was trained, validated or calibrated on.

        None where they are not stated, which is stamped on every page. A test on one of them is refused.
        """

    @property
    def text_until(self) -> date | None:
        """Date of the newest text or foreign series that its base has read; None where it is not known.

        It is stamped and never refused.
        """

    def logits(
        self, bars: Bars, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """Return one row per bar, float64 (n_bars, 3), in the order SELL, HOLD, BUY.

        Parameters
        ----------
        bars : Bars
            Consecutive bars, the history for the warm-up included.
        device : str
            ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size : int, optional
            Rows, windows or chunks a call; it changes no logit beyond rounding.
        progress : callable, optional
            Called with (bars done, bars in all).

        Returns
        -------
        array of float64, shape (n_bars, 3)
            NaN in the first ``warmup_bars`` rows and where there is no answer.
        """


@runtime_checkable
class ReadsRows(Protocol):
    """A model that reads rows of features: the doctor changes them and looks at what becomes of the logits."""

    @property
    def schema(self) -> FeatureSchema:
        """Its columns, in order, and their scale."""

    @property
    def context_bars(self) -> int:
        """Number of earlier rows that an output depends on; 0 where it reads one row."""

    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """Return the logits of consecutive rows (n, F), float64 (n, 3), NaN in the first ``context_bars``.

        *Causality: row t uses rows t - context_bars .. t.*
        """
