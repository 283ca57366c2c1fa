"""The subject of an examination: bars, feature tables of serving and training, the model's output and the labels.

A checkpoint and your own predict function become the same Subject. Unknown fields are None, and the checks that need them are
skipped with that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..data.bars import Bars
from ..data.labels import NO_LABEL, class_shares
from ..data.time_range import TimeRange
from ..errors import UsageError
from ..models.checkpoint import Checkpoint
from ..models.fingerprint import FINGERPRINT_TOLERANCE
from ..models.model import LenientNetwork
from ..models.signals import Signals
from ..models.statistics import softmax
from .feature_table import FeatureTable, filled, first_complete_row
from .model_output import Predict, as_logits, check_output, checked_output

UNKNOWN_CONTEXT_BARS = 256
TRIED_ROWS = 300
READS_BARS = "It reads bars, not rows of features."


@runtime_checkable
class Labeller(Protocol):
    """A question that labels answer, such as a LabelSpec."""

    @property
    def horizon_bars(self) -> int:
        """Bars that a label looks ahead."""

    def labels(self, bars: Bars) -> IntArray:
        """Return the labels (n_bars,): SELL=0, HOLD=1, BUY=2, -1 for none."""


class ScoreBars(Protocol):
    """A model that reads bars."""

    def __call__(self, bars: Bars, *, cache: bool = False) -> FloatArray:
        """Return the logits (n_bars, 3); with ``cache`` those on disk are used."""


@dataclass(frozen=True)
class PathDifference:
    """Largest differences between the serving path and the training path on the same bars.

    ``rows`` in standard deviations, ``logits`` in logits; ``columns`` are those that differ.
    """

    rows: float
    logits: float
    count: int
    columns: tuple[str, ...] = ()
    limit: float = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """The model, its data and what is known of its training.

    Parameters
    ----------
    name : str
    bars : Bars
        The bars to examine, with the history before them; nothing later.
    tested : array of bool, shape (n_bars,)
        The bars that the model is evaluated on.
    served : FeatureTable
        The model's features in serving.
    predict : callable
        Rows (n, F) of consecutive bars without NaN -> logits or probabilities (n, 3), SELL, HOLD, BUY. Row t uses rows <= t.
        The first ``context_bars`` outputs may be inaccurate or NaN.
    trained : FeatureTable, optional
        The model's features in training.
    past : Bars, optional
        The bars of training and validation; may be ``bars``.
    training, validation : array of bool, optional, shape (n_past,)
        Training and validation samples.
    labelled : callable, optional
        Bars -> labels (n_bars,), SELL=0, HOLD=1, BUY=2, -1 for none.
    horizon_bars : int
        Bars that a label looks ahead.
    context_bars : int, optional
        Earlier rows that an output may depend on.
    label_shares, class_weights : array (3,), optional
        Shares of the training labels; class weights of the training loss.
    corrected : callable, optional
        Logits -> probabilities of the stored calibration.
    claims : mapping
        The training's own validation scores: ``accuracy``, ``majority_share``, ``auc_buy_sell``.
    signals : callable, optional
        Logits (n, 3) -> Signals, for the funnel.
    calibrated_by : str
        What ``corrected`` is, for messages.
    is_run : bool
        Whether ``corrected`` and ``signals`` are those of a run, not those that a checkpoint stores.
    score : callable, optional
        For a model that reads bars: bars -> logits (n, 3), NaN in the first ``context_bars``; with ``cache`` those on disk are
        used. Its tables of features have no columns, and it has no ``predict``.
    may_skip_bars : bool
        Whether it may have no answer at a bar, which is then no fault.
    checkpoint, loaded
        The flagbt checkpoint, if it is one, and its leniently loaded network, if it has an adapter.
    bars_seen : mapping or None
        The ranges that the checkpoint has seen, by purpose; None where they are not stated.
    refusal : str
        Why the checkpoint refuses the served features; empty if it does not.
    unknown : str
        Why only the model itself can be examined; empty otherwise.
    parity : callable, optional
        Subject -> the differences between serving and training, or why they are unknown, if the training stored rows and
        logits.
    """

    name: str
    bars: Bars
    tested: BoolArray
    served: FeatureTable
    predict: Predict
    trained: FeatureTable | None = None
    past: Bars | None = None
    training: BoolArray | None = None
    validation: BoolArray | None = None
    labelled: Callable[[Bars], IntArray] | None = None
    label_spec: Labeller | None = None
    horizon_bars: int = 1
    context_bars: int | None = None
    label_shares: FloatArray | None = None
    class_weights: FloatArray | None = None
    corrected: Callable[[FloatArray], FloatArray] | None = None
    claims: Mapping[str, float] = field(default_factory=dict)
    signals: Callable[[FloatArray], Signals] | None = None
    calibrated_by: str = "the stored calibration"
    is_run: bool = False
    score: ScoreBars | None = None
    may_skip_bars: bool = False
    checkpoint: Checkpoint | None = None
    loaded: LenientNetwork | None = None
    bars_seen: Mapping[str, TimeRange] | None = None
    refusal: str = ""
    unknown: str = ""
    parity: Callable[[Subject], PathDifference | str] | None = None
    seed: int = 0

    def random(self, purpose: int) -> np.random.Generator:
        """Return a separate generator for one check, so that its draws do not depend on the other checks."""
        return np.random.Generator(np.random.Philox(key=[self.seed, purpose]))

    @property
    def training_table(self) -> FeatureTable:
        """The features of the training if they are known, else those of serving."""
        return self.trained or self.served

    @property
    def context(self) -> int:
        """Rows of history to give before an output that counts."""
        return UNKNOWN_CONTEXT_BARS if self.context_bars is None else self.context_bars

    @cached_property
    def rows(self) -> FloatArray:
        """The served rows of ``bars``, (n_bars, F)."""
        return self.served(self.bars)

    @cached_property
    def first_row(self) -> int:
        """The first bar with a complete row."""
        return first_complete_row(self.rows)

    @cached_property
    def logits(self) -> FloatArray:
        """The model's logits on the tested bars, (n_bars, 3); NaN elsewhere and where it has no output."""
        at = np.flatnonzero(self.tested)
        result = np.full((len(self.bars), 3), np.nan)
        if len(at):
            start, stop = int(at[0]), int(at[-1]) + 1
            earliest = 0 if self.reads_bars else self.first_row
            begin = earliest if self.context_bars is None else max(earliest, start - self.context_bars)
            if begin < stop and self.score is not None:
                result[begin:stop] = self.score(self.bars.take(slice(begin, stop)), cache=True)
            elif begin < stop:
                result[begin:stop] = self.predict_logits(self.rows[begin:stop])
        result[~self.tested] = np.nan
        return result

    def remedy(self, function: str, checkpoint: str = "") -> str:
        """Return how to give what is missing: to a function of the user's own by its arguments, or to a checkpoint or a run."""
        return function if self.checkpoint is None and not self.reads_bars else checkpoint

    @property
    def usable_decision(self) -> str:
        """A decision by probabilities that it can use: ``utility`` where the classes' mean returns are known."""
        return "threshold:P" if self.checkpoint is not None and self.checkpoint.class_returns is None else "utility"

    @property
    def reads_bars(self) -> bool:
        """Whether the model reads bars, so that it has no rows of features."""
        return self.score is not None

    def logits_on(self, bars: Bars) -> FloatArray:
        """Return the model's logits (n_bars, 3) on other bars, NaN in its warm-up."""
        if self.score is not None:
            return self.score(bars)
        rows, found = self.served(bars), np.full((len(bars), 3), np.nan)
        first = first_complete_row(rows)
        if first < len(rows):
            found[first:] = self.predict_logits(rows[first:])
            found[: first + (self.context_bars or 0)] = np.nan
        return found

    def predict_logits(self, rows: FloatArray) -> FloatArray:
        """Return the model's logits of consecutive rows (n, F); probabilities become their logarithms.

        A missing value is replaced by the last known one, since later rows may depend on it. The logits of
        such a row are NaN.

        Raises
        ------
        UsageError
            When the output has a different shape, or the model reads bars.
        """
        if self.reads_bars:
            raise UsageError(READS_BARS)
        output = as_logits(checked_output(self.predict, rows))
        output[~np.isfinite(rows).all(axis=1)] = np.nan
        return output

    def past_logits(self, known: BoolArray, most: int | None = None) -> FloatArray | None:
        """Return the logits (n_past, 3) of the bars of training and validation, on the training's rows.

        Parameters
        ----------
        known : array of bool, shape (n_past,)
            The bars to score; those between them are scored too, and NaN is at all others.
        most : int, optional
            Score this many bars at most, the last ones.
        """
        rows = self.past_rows
        if rows is None or self.past is None or not known.any():
            return None
        at = np.flatnonzero(known)
        stop = int(at[-1]) + 1
        earliest = 0 if self.reads_bars else first_complete_row(rows[:stop])
        start = max(earliest, int(at[0]) - self.context, 0 if most is None else stop - most)
        found = np.full((len(rows), 3), np.nan)
        if start < stop and self.score is not None:
            found[start:stop] = self.score(self.past.take(slice(start, stop)))
        elif start < stop:
            found[start:stop] = self.predict_logits(rows[start:stop])
        return found

    @property
    def able(self) -> BoolArray:
        """The tested bars at which the model should have an output, (n_bars,)."""
        if self.reads_bars:
            able, first = self.tested.copy(), 0
        else:
            able, first = self.tested & np.isfinite(self.rows).all(axis=1), self.first_row
        able[: first + self.context] = False
        return able

    def check_predict(self) -> None:
        """Call the model once, on the last complete rows, to refuse a function that is not a model; raises UsageError."""
        rows = self.rows[self.first_row :][-TRIED_ROWS:]
        if len(rows):
            check_output(self.predict, rows)

    @cached_property
    def matching_network(self) -> tuple[str, LenientNetwork] | None:
        """The setting that reproduces the fingerprint, and the network with it, where the loaded one does not."""
        if self.loaded is None or self.loaded.is_training or self.loaded.fingerprint_difference() <= FINGERPRINT_TOLERANCE:
            return None
        return self.loaded.with_other_setting()

    def windows(self, random: np.random.Generator, extra: int, count: int) -> tuple[list[FloatArray], int]:
        """Return random windows of consecutive served rows, each of the context and ``extra`` rows, and that length."""
        rows = filled(self.rows[self.first_row :])
        length = self.context + extra
        if len(rows) < length:
            return [], length
        starts = random.integers(0, len(rows) - length + 1, count).tolist()
        return [rows[start : start + length].copy() for start in starts], length

    def bar_windows(self, random: np.random.Generator, extra: int, count: int) -> tuple[list[Bars], int]:
        """Return random windows of consecutive bars, each of the context and ``extra`` bars, and that length."""
        length = self.context + extra
        if len(self.bars) < length:
            return [], length
        starts = random.integers(0, len(self.bars) - length + 1, count).tolist()
        return [self.bars.take(slice(start, start + length)) for start in starts], length

    @cached_property
    def probabilities(self) -> FloatArray:
        """Softmax of the logits, (n_bars, 3)."""
        return softmax(self.logits)

    @cached_property
    def labels(self) -> IntArray | None:
        """Labels of the tested bars, (n_bars,), -1 elsewhere; None without labels."""
        if self.labelled is None:
            return None
        labels = np.asarray(self.labelled(self.bars))
        return np.where(self.tested, labels, NO_LABEL).astype(np.int8)

    @cached_property
    def evaluated(self) -> BoolArray:
        """Tested bars with an output and a label."""
        scored = np.isfinite(self.logits).all(axis=1)
        return np.asarray(scored if self.labels is None else scored & (self.labels >= 0))

    @cached_property
    def past_labels(self) -> IntArray | None:
        """Labels of the bars of training and validation, (n_past,)."""
        return None if self.labelled is None or self.past is None else np.asarray(self.labelled(self.past), dtype=np.int8)

    @cached_property
    def past_rows(self) -> FloatArray | None:
        """The training's rows of the bars of training and validation, (n_past, F)."""
        return None if self.past is None else self.training_table(self.past)

    @cached_property
    def prior(self) -> FloatArray | None:
        """Shares of SELL, HOLD, BUY among the training labels, (3,)."""
        if self.label_shares is not None:
            return self.label_shares
        if self.training is None or self.past_labels is None:
            return None
        return class_shares(self.past_labels[self.training])


def highest_class(logits: FloatArray) -> IntArray:
    """Return the class of each row's highest logit, (n,); -1 if a logit is missing."""
    scored = np.asarray(np.isfinite(logits).all(axis=1))
    return np.where(scored, np.where(scored[:, None], logits, 0.0).argmax(axis=1), NO_LABEL).astype(np.int8)
