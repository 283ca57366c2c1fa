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


@runtime_checkable
class ScoresSingly(Protocol):
    """A model that scores bars in chunks and can score each bar alone as well, as a live system does."""

    @property
    def chunk_bars(self) -> int:
        """Bars of a chunk."""

    def logits_bar_by_bar(self, bars: Bars, *, first: int) -> FloatArray:
        """Return the logits (n_bars, 3) of the bars from position ``first`` on, each scored alone; NaN before."""


@runtime_checkable
class HasAdapter(Protocol):
    """A network with a fine-tuned adapter, which can be loaded even where its files are damaged or incomplete."""

    def load_leniently(self) -> LenientNetwork:
        """Load what fits; raises CheckpointError where the base cannot be read."""


class LenientNetwork(Protocol):
    """A network that was loaded from damaged or incomplete files, on the CPU, with its adapter not merged.

    Its fingerprint is the rows that its training stored, with their logits.
    """

    @property
    def damaged(self) -> str:
        """Which weight file is missing or changed; empty if none."""

    @property
    def is_training(self) -> bool:
        """Whether it is in training mode, with dropout on."""

    @property
    def stored_tensors(self) -> int:
        """Number of tensors in the adapter's file."""

    def logits_of_rows(self, rows: FloatArray) -> FloatArray:
        """Return the logits (n, 3) of consecutive rows (n, F)."""

    def fingerprint(self) -> tuple[FloatArray, FloatArray]:
        """Return the stored rows (n, F), and the stored logits of the last of them (m, 3)."""

    def fingerprint_difference(self) -> float:
        """Return the largest difference between its logits and the stored ones."""

    def adapter_faults(self) -> list[str]:
        """Return what is missing, unexpected or different in the adapter, one text each, against its file."""

    def adapter_norms(self) -> tuple[float, ...]:
        """Return the norm of each low-rank update's second matrix, which is zero before any training."""

    def adapter_effect(self) -> float:
        """Return the mean change of the fingerprint's logits when the adapter is switched off."""

    def batch_difference(self, rows: FloatArray, last: int) -> float:
        """Return the largest change of the logits of the ``last`` rows when others are in the batch."""

    def half_precision(self, rows: FloatArray, last: int) -> tuple[float, float]:
        """Return the largest change of the logits of the ``last`` rows in bfloat16, and the share of classes that change."""

    def reloaded(self) -> LenientNetwork:
        """Load the network of the same files again."""

    def with_other_setting(self) -> tuple[str, LenientNetwork] | None:
        """Return the setting that reproduces the fingerprint, in words, and that network; None if none does."""
