"""The subject of an examination: bars, feature tables of serving and training, the model's output and the labels.

A checkpoint and your own predict function become the same Subject. Unknown fields are None, and the checks that need them are
skipped with that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..arrays import BoolArray, FloatArray, IntArray
from ..data.bars import Bars
from ..data.features import FeatureSet
from ..data.labels import NO_LABEL, class_shares
from ..errors import UsageError, kind_of, quoted_value
from ..models.checkpoint import Checkpoint
from ..models.signals import Signals
from ..models.statistics import softmax
from .lenient_load import (
    FINGERPRINT_TOLERANCE,
    LenientCheckpoint,
    MatchingNetwork,
    find_matching_network,
    fingerprint_difference,
)

Predict = Callable[[FloatArray], FloatArray]
ComputeRows = Callable[[Bars], "npt.ArrayLike | pd.DataFrame"]
UNKNOWN_CONTEXT_BARS = 256
TRIED_ROWS = 300


@runtime_checkable
class Labeller(Protocol):
    """A question that labels answer, such as a LabelSpec."""

    @property
    def horizon_bars(self) -> int:
        """Bars that a label looks ahead."""

    def labels(self, bars: Bars) -> IntArray:
        """Return the labels (n_bars,): SELL=0, HOLD=1, BUY=2, -1 for none."""


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The model's input rows as a function of bars.

    Parameters
    ----------
    columns : tuple of str
        Names in order.
    compute : callable
        Bars -> float array (n_bars, n_columns), as the model reads them; NaN in the warm-up.
    named : bool
        Whether the columns have real names; otherwise only numbers.
    """

    columns: tuple[str, ...]
    compute: Callable[[Bars], FloatArray]
    named: bool = True

    def __call__(self, bars: Bars) -> FloatArray:
        """Return the rows of all bars, float64; infinite values become NaN.

        Raises
        ------
        UsageError
            When the function returns a different shape.
        """
        rows = np.array(self.compute(bars), dtype=np.float64)
        if rows.shape != (len(bars), len(self.columns)):
            raise UsageError(
                f"features: expected an array of shape {(len(bars), len(self.columns))}, one row per bar, one column per name, "
                f"got {rows.shape}. Return a row for every bar, NaN without enough history."
            )
        rows[~np.isfinite(rows)] = np.nan
        return rows


def table_of(features: FeatureSet | ComputeRows, bars: Bars, columns: Sequence[str] | None) -> FeatureTable:
    """Make a FeatureTable of a feature set or of a function from Bars to an array or a DataFrame; call it once on ``bars``."""
    if not callable(features):
        raise UsageError(
            f"features: expected a FeatureSet or a function from Bars to one row per bar, got {kind_of(features)}. "
            "Give the function that computes the rows: the checks call it on other bars."
        )
    if isinstance(features, FeatureSet):
        return FeatureTable(features.columns, features)
    first = features(bars)
    names = columns if columns is not None else first.columns if isinstance(first, pd.DataFrame) else None
    if np.ndim(first) != 2:
        raise UsageError(
            f"features: the function returned {quoted_value(first)}, expected an array or a DataFrame of shape (bars, "
            "columns), one row per bar."
        )
    if columns is not None and (isinstance(columns, str) or not isinstance(columns, Iterable)):
        raise UsageError(f"columns: expected the names of the features' columns, got {quoted_value(columns)}.")
    n_columns = np.shape(first)[-1]
    found = tuple(f"column {i}" for i in range(n_columns)) if names is None else tuple(map(str, names))
    table = FeatureTable(found, lambda each: np.asarray(features(each), dtype=np.float64), names is not None)
    table(bars)  # to report a wrong shape here
    return table


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
    checkpoint, loaded
        The flagbt checkpoint, if it is one, and its leniently loaded network.
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
    checkpoint: Checkpoint | None = None
    loaded: LenientCheckpoint | None = None
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
            begin = self.first_row if self.context_bars is None else max(self.first_row, start - self.context_bars)
            if begin < stop:
                result[begin:stop] = self.predict_logits(self.rows[begin:stop])
        result[~self.tested] = np.nan
        return result

    def predict_logits(self, rows: FloatArray) -> FloatArray:
        """Return the model's logits of consecutive rows (n, F); probabilities become their logarithms.

        A missing value is replaced by the last known one, since later rows may depend on it. The logits of
        such a row are NaN.

        Raises
        ------
        UsageError
            When the output has a different shape.
        """
        output = self._checked_output(rows)
        finite = output[np.isfinite(output).all(axis=1)]
        if len(finite) and (finite >= 0).all() and np.allclose(finite.sum(axis=1), 1, atol=1e-3):
            output = np.log(np.maximum(output, 1e-12))
        output[~np.isfinite(rows).all(axis=1)] = np.nan
        return output

    def check_predict(self) -> None:
        """Call the model once, on the last complete rows, to refuse a function that is not a model.

        Errors that the function itself raises are ignored here; the checks report them.

        Raises
        ------
        UsageError
            When it returns anything but logits or probabilities.
        """
        rows = self.rows[self.first_row :][-TRIED_ROWS:]
        if not len(rows):
            return
        try:
            output = self._checked_output(rows)
        except UsageError:
            raise
        except Exception:
            return
        if len(rows) > 1 and (np.sort(output, axis=1) == (0.0, 0.0, 1.0)).all() and len(np.unique(output.argmax(axis=1))) > 1:
            raise UsageError(
                f"predict: each of the {len(rows)} rows tried is one 1 and two 0: these are one-hot labels, not probabilities. "
                "Give the function that returns probabilities, such as predict_proba."
            )

    def _checked_output(self, rows: FloatArray) -> FloatArray:
        given = self.predict(filled(rows))
        expected = f"predict: expected logits or probabilities of shape {(len(rows), 3)} for {len(rows)} rows"
        remedy = "Return one row per bar, in the order SELL, HOLD, BUY."
        try:
            output = np.array(given, dtype=np.float64)
        except (TypeError, ValueError):
            what = repr(given) if isinstance(given, str) else f"{kind_of(given)} that is not an array of numbers"
            raise UsageError(f"{expected}, got {what:.80}. {remedy}") from None
        if output.shape != (len(rows), 3):
            flat = output.reshape(-1)
            if len(flat) == len(rows) > 1 and np.isin(flat, (-1, 0, 1, 2)).all():
                remedy = (
                    "These look like labels, one per row. Give the function that returns probabilities, such as predict_proba."
                )
            raise UsageError(f"{expected}, got {'None' if given is None else output.shape}. {remedy}")
        return output

    @cached_property
    def matching_network(self) -> MatchingNetwork | None:
        """The network of another setting that reproduces the fingerprint, where the loaded one does not."""
        if self.loaded is None or self.checkpoint is None or self.loaded.network.training:
            return None
        if fingerprint_difference(self.loaded.network, self.checkpoint) <= FINGERPRINT_TOLERANCE:
            return None
        return find_matching_network(self.checkpoint)

    def windows(self, random: np.random.Generator, extra: int, count: int) -> tuple[list[FloatArray], int]:
        """Return random windows of consecutive served rows, each of the context and ``extra`` rows, and that length."""
        rows = filled(self.rows[self.first_row :])
        length = self.context + extra
        if len(rows) < length:
            return [], length
        starts = random.integers(0, len(rows) - length + 1, count).tolist()
        return [rows[start : start + length].copy() for start in starts], length

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


def first_complete_row(rows: FloatArray) -> int:
    """Return the length of the warm-up: the first row by which every column has had a value, else n."""
    known = np.isfinite(rows)
    if not known.any(axis=0).all():
        return len(rows)
    return int(known.argmax(axis=0).max()) if rows.size else len(rows)


def filled(rows: FloatArray) -> FloatArray:
    """Replace missing values by the column's last known value, 0 before the first. *Causality: row t uses rows <= t.*"""
    known = np.isfinite(rows)
    if known.all():
        return rows
    last = np.maximum.accumulate(np.where(known, np.arange(len(rows))[:, None], -1), axis=0)
    return np.asarray(np.where(last >= 0, rows[np.maximum(last, 0), np.arange(rows.shape[1])], 0.0))
