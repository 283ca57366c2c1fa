"""What is examined: bars, the table a model is fed, the table it was trained on, what it says, and what was true.

A checkpoint and anybody's predict function become the same Subject. What is not known is None, and the checks that need it
are skipped and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..arrays import BoolArray, FloatArray, IntArray
from ..data.bars import Bars
from ..data.features import FeatureSet
from ..data.labels import NO_LABEL, Labels, class_shares
from ..errors import UsageError
from ..models.checkpoint import Checkpoint
from ..models.signals import Signals
from ..models.statistics import softmax
from .lenient_load import LenientCheckpoint

Predict = Callable[[FloatArray], FloatArray]
Parity = tuple[float, float, int, tuple[str, ...], float]
UNKNOWN_CONTEXT_BARS = 256
TRIED_ROWS = 300


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The rows a model reads, as a function of bars.

    Parameters
    ----------
    columns : tuple of str
        Names in order.
    compute : callable
        Bars -> float array (n_bars, n_columns), as the model gets them; NaN in the warm-up.
    named : bool
        Whether the names were given; otherwise they are only numbers.
    """

    columns: tuple[str, ...]
    compute: Callable[[Bars], FloatArray]
    named: bool = True

    def __call__(self, bars: Bars) -> FloatArray:
        """Return the rows of every bar, float64; what is infinite counts as missing.

        Raises
        ------
        UsageError
            When the function gives another shape.
        """
        rows = np.array(self.compute(bars), dtype=np.float64)
        if rows.shape != (len(bars), len(self.columns)):
            raise UsageError(
                f"features: expected an array of shape {(len(bars), len(self.columns))}, one row a bar and one column a name, "
                f"got {rows.shape}. Return a row for every bar, NaN where there is not enough history."
            )
        rows[~np.isfinite(rows)] = np.nan
        return rows


def table_of(features: FeatureSet | Callable[[Bars], Any], bars: Bars, columns: Sequence[str] | None) -> FeatureTable:
    """Make a Table of a feature set, or of any function from Bars to an array or a DataFrame; tried on ``bars``."""
    if not callable(features):
        raise UsageError(
            f"features: expected a FeatureSet or a function from Bars to one row a bar, got a {type(features).__name__}: what "
            "is computed already cannot be computed again on other bars."
        )
    if isinstance(features, FeatureSet):
        return FeatureTable(features.columns, features)
    first = features(bars)
    names = columns if columns is not None else first.columns if isinstance(first, pd.DataFrame) else None
    n_columns = np.asarray(first).shape[-1]
    found = tuple(f"column {i}" for i in range(n_columns)) if names is None else tuple(map(str, names))
    table = FeatureTable(found, lambda each: np.asarray(features(each), dtype=np.float64), names is not None)
    table(bars)  # a wrong shape is better said here
    return table


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """What is examined.

    Parameters
    ----------
    name : str
    bars : Bars
        The bars to look at, with the history before them; nothing later.
    tested : array of bool, shape (n_bars,)
        Where the model is judged.
    served : Table
        What the model is fed.
    predict : callable
        Rows (n, F) without NaN, consecutive bars -> logits or probabilities (n, 3), SELL, HOLD, BUY. Row t uses rows <= t;
        its first ``context_bars`` answers may be worth less than the others, or NaN.
    trained : Table, optional
        What the model was fed in training; it is not served's where the two paths differ.
    past : Bars, optional
        The bars of training and validation; may be ``bars``.
    training, validation : array of bool, optional, shape (n_past,)
        Samples that taught, and those that judged.
    labelled : callable, optional
        Bars -> labels (n_bars,), SELL=0, HOLD=1, BUY=2, -1 for none.
    horizon_bars : int
        How far ahead a label looks.
    context_bars : int, optional
        How many earlier rows an answer may depend on.
    class_weights, correction : array (3,), optional
        Of the training's loss; and what a stored calibration is known to put back.
    claims : dict
        What the training itself says of its validation: ``accuracy``, ``majority_share``, ``auc_buy_sell``.
    signals : callable, optional
        Logits (n, 3) -> Signals, for the funnel.
    checkpoint, opened
        Where it is one of flagbt's.
    refusal : str
        Why the checkpoint itself refuses the table it is served; empty where it does not.
    unknown : str
        Why nothing but the model itself can be examined; empty where everything can.
    parity : callable, optional
        Subject -> what ``serving_parity`` compares, where the training left its own rows and logits.
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
    label_spec: Labels | None = None
    horizon_bars: int = 1
    context_bars: int | None = None
    label_shares: FloatArray | None = None
    class_weights: FloatArray | None = None
    corrected: Callable[[FloatArray], FloatArray] | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    signals: Callable[[FloatArray], Signals] | None = None
    checkpoint: Checkpoint | None = None
    opened: LenientCheckpoint | None = None
    refusal: str = ""
    unknown: str = ""
    parity: Callable[[Subject], Parity | str] | None = None
    seed: int = 0

    def random(self, purpose: int) -> np.random.Generator:
        """Return a generator of one check's own, so that no check's draws depend on another's."""
        return np.random.Generator(np.random.Philox(key=[self.seed, purpose]))

    @property
    def learnt(self) -> FeatureTable:
        """The table of the training where it is known, else the served one."""
        return self.trained or self.served

    @property
    def context(self) -> int:
        """Rows of history to give before an answer that counts."""
        return UNKNOWN_CONTEXT_BARS if self.context_bars is None else self.context_bars

    @cached_property
    def rows(self) -> FloatArray:
        """The served rows of ``bars``, (n_bars, F)."""
        return self.served(self.bars)

    @cached_property
    def first_row(self) -> int:
        """The first bar with a whole row."""
        return first_whole(self.rows)

    @cached_property
    def logits(self) -> FloatArray:
        """What the model says of the tested bars, (n_bars, 3); NaN elsewhere and where it says nothing."""
        at = np.flatnonzero(self.tested)
        result = np.full((len(self.bars), 3), np.nan)
        if len(at):
            start, stop = int(at[0]), int(at[-1]) + 1
            begin = self.first_row if self.context_bars is None else max(self.first_row, start - self.context_bars)
            if begin < stop:
                result[begin:stop] = self.ask(self.rows[begin:stop])
        result[~self.tested] = np.nan
        return result

    def ask(self, rows: FloatArray) -> FloatArray:
        """Return the model's logits of consecutive rows (n, F); probabilities become their logarithms.

        A row with a missing value is asked with the last known one in its place, for the sake of the rows after it; its own
        answer is NaN.

        Raises
        ------
        UsageError
            When the answer has another shape.
        """
        said = self._answer(rows)
        whole = said[np.isfinite(said).all(axis=1)]
        if len(whole) and (whole >= 0).all() and np.allclose(whole.sum(axis=1), 1, atol=1e-3):
            said = np.log(np.maximum(said, 1e-12))
        said[~np.isfinite(rows).all(axis=1)] = np.nan
        return said

    def try_out(self) -> None:
        """Ask the model once, on the last whole rows, so that what is not a model is refused and not examined.

        What its own code raises is left to the examination, which reports it.

        Raises
        ------
        UsageError
            When it answers with anything but logits or probabilities.
        """
        rows = self.rows[self.first_row :][-TRIED_ROWS:]
        if not len(rows):
            return
        try:
            said = self._answer(rows)
        except UsageError:
            raise
        except Exception:
            return
        if len(rows) > 1 and (np.sort(said, axis=1) == (0.0, 0.0, 1.0)).all() and len(np.unique(said.argmax(axis=1))) > 1:
            raise UsageError(
                f"predict: each of the {len(rows)} rows tried is one 1 and two 0: these are labels, one column a class, not "
                "probabilities. Give the function that returns probabilities, such as predict_proba."
            )

    def _answer(self, rows: FloatArray) -> FloatArray:
        given = self.predict(filled(rows))
        expected = f"predict: expected logits or probabilities of shape {(len(rows), 3)} for {len(rows)} rows"
        remedy = "Return one row a bar, in the order SELL, HOLD, BUY."
        try:
            said = np.array(given, dtype=np.float64)
        except (TypeError, ValueError):
            what = repr(given) if isinstance(given, str) else f"what is not an array of numbers ({type(given).__name__})"
            raise UsageError(f"{expected}, got {what:.80}. {remedy}") from None
        if said.shape != (len(rows), 3):
            flat = said.reshape(-1)
            if len(flat) == len(rows) > 1 and np.isin(flat, (-1, 0, 1, 2)).all():
                remedy = (
                    "These look like labels, one a row. Give the function that returns probabilities, such as predict_proba."
                )
            raise UsageError(f"{expected}, got {'None' if given is None else said.shape}. {remedy}")
        return said

    @cached_property
    def probabilities(self) -> FloatArray:
        """Softmax of the logits, (n_bars, 3)."""
        return softmax(self.logits)

    @cached_property
    def labels(self) -> IntArray | None:
        """Labels of the tested bars, (n_bars,), -1 elsewhere; None where nobody said what the labels are."""
        if self.labelled is None:
            return None
        labels = np.asarray(self.labelled(self.bars))
        return np.where(self.tested, labels, NO_LABEL).astype(np.int8)

    @cached_property
    def judged(self) -> BoolArray:
        """Tested bars with an answer and a label."""
        answered = np.isfinite(self.logits).all(axis=1)
        return np.asarray(answered if self.labels is None else answered & (self.labels >= 0))

    @cached_property
    def past_labels(self) -> IntArray | None:
        """Labels of the bars of training and validation, (n_past,)."""
        return None if self.labelled is None or self.past is None else np.asarray(self.labelled(self.past), dtype=np.int8)

    @cached_property
    def past_rows(self) -> FloatArray | None:
        """The training's own rows of the bars of training and validation, (n_past, F)."""
        return None if self.past is None else self.learnt(self.past)

    @cached_property
    def prior(self) -> FloatArray | None:
        """Shares of SELL, HOLD, BUY among the training labels, (3,)."""
        if self.label_shares is not None:
            return self.label_shares
        if self.training is None or self.past_labels is None:
            return None
        return class_shares(self.past_labels[self.training])


def highest_class(logits: FloatArray) -> IntArray:
    """Return the class of each row's highest logit, (n,); -1 where one is missing."""
    answered = np.asarray(np.isfinite(logits).all(axis=1))
    return np.where(answered, np.where(answered[:, None], logits, 0.0).argmax(axis=1), NO_LABEL).astype(np.int8)


def first_whole(rows: FloatArray) -> int:
    """Return the first row by which every column has had a value: the length of the warm-up; n where one never has."""
    known = np.isfinite(rows)
    if not known.any(axis=0).all():
        return len(rows)
    return int(known.argmax(axis=0).max()) if rows.size else len(rows)


def filled(rows: FloatArray) -> FloatArray:
    """Return rows whose missing values hold the column's last known one (0 before any). *Causality: row t uses rows <= t.*"""
    known = np.isfinite(rows)
    if known.all():
        return rows
    last = np.maximum.accumulate(np.where(known, np.arange(len(rows))[:, None], -1), axis=0)
    return np.asarray(np.where(last >= 0, rows[np.maximum(last, 0), np.arange(rows.shape[1])], 0.0))
