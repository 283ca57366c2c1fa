"""diagnose: the doctor for anybody's predict function and anybody's feature function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import BoolArray, FloatArray, IntArray, PhaseProgress
from ..data.bars import Bars
from ..data.features import FeatureSet
from ..data.labels import Labels, LabelSpec
from ..data.time_range import TimeRange
from ..errors import RangeError, UsageError
from ..models.signals import Signals
from .examine import examine
from .finding import Diagnosis
from .subject import Predict, Subject, table_of

Part = TimeRange | str | npt.ArrayLike


def diagnose(
    predict: Predict,
    features: FeatureSet | Callable[[Bars], Any],
    bars: Bars,
    *,
    labels: Labels | npt.ArrayLike | None = None,
    columns: Sequence[str] | None = None,
    training_features: FeatureSet | Callable[[Bars], Any] | None = None,
    training_columns: Sequence[str] | None = None,
    past: Bars | None = None,
    training: Part | None = None,
    validation: Part | None = None,
    tested: Part | None = None,
    horizon_bars: int | None = None,
    context_bars: int | None = None,
    class_weights: npt.ArrayLike | None = None,
    label_shares: npt.ArrayLike | None = None,
    signals: npt.ArrayLike | None = None,
    name: str = "model",
    seed: int = 0,
    progress: PhaseProgress = lambda _check, _done, _total: None,
) -> Diagnosis:
    """Examine any model: why it collapses, or flatters itself.

    The more is given, the more can be checked; a check that lacks what it needs is skipped and says what that is.

    Parameters
    ----------
    predict : callable, or a model with ``predict_proba`` or ``predict``
        Rows (n, F) of consecutive bars, no NaN -> logits or probabilities (n, 3), in the order SELL, HOLD, BUY.
    features : FeatureSet or callable
        What the model is served: Bars -> one row a bar, as an array or a DataFrame, NaN where there is too little history.
    bars : Bars
        To test on, with history.
    labels : LabelSpec, TripleBarrier or array of int, shape (n_bars,), optional
        What was true: SELL=0, HOLD=1, BUY=2, -1 for none. With a spec, a random walk can be labelled as well.
    columns, training_columns : sequence of str, optional
        Names of the columns, where the function gives an array.
    training_features : FeatureSet or callable, optional
        What the model was trained on; by default ``features``.
    past : Bars, optional
        The bars of training and validation; by default ``bars``.
    training, validation, tested : TimeRange, str such as ``20230101-20240101``, or array of bool, optional
        Samples that taught and that judged (of ``past``), and those to test on (of ``bars``; by default what follows them).
    horizon_bars : int, optional
        How far ahead a label looks; by default the spec's, or 6.
    context_bars : int, optional
        How many earlier rows an answer may depend on; 0 for a model that sees one row.
    class_weights, label_shares : array-like (3,), optional
        Of the training's loss and labels.
    signals : array-like of int, shape (n_bars,), optional
        What is traded, where it is not the highest class; -1 for none.
    name : str
        For the report.
    seed : int
        Of the moments and resamples drawn.
    progress : callable
        Called with (check, checks done, checks in all).

    Raises
    ------
    UsageError
        When something has the wrong shape, or ``predict`` is not a model: it cannot be called, or answers with labels.
    RangeError
        When a range holds no bars.
    """
    asked = _callable(predict)
    for argument, value in (("bars", bars), ("past", bars if past is None else past)):
        if not isinstance(value, Bars):
            raise UsageError(f"{argument}: expected Bars, such as read_bars gives, got a {type(value).__name__}.")
    past_bars = bars if past is None else past
    spec = None if labels is None or not hasattr(labels, "labels") else labels
    horizon = horizon_bars or (spec.horizon_bars if spec is not None else LabelSpec().horizon_bars)  # type: ignore[union-attr]
    taught = _mask(training, past_bars, "training", -horizon)
    judged = _mask(validation, past_bars, "validation", -horizon)
    served = table_of(features, bars, columns)
    trained = None if training_features is None else table_of(training_features, bars, training_columns)
    if trained is None and taught is not None:
        trained = served
    weights = None if class_weights is None else _three(class_weights, "class_weights")
    shares = None if label_shares is None else _three(label_shares, "label_shares")
    subject = Subject(
        name=name,
        bars=bars,
        tested=_tested(tested, bars, past_bars, taught, judged, horizon),
        served=served,
        predict=asked,
        trained=trained,
        past=past_bars if taught is not None else None,
        training=taught,
        validation=judged,
        labelled=_labelled(labels, bars),
        label_spec=spec,  # type: ignore[arg-type]
        horizon_bars=horizon,
        context_bars=context_bars,
        class_weights=weights,
        label_shares=None if shares is None else shares / shares.sum(),
        signals=None if signals is None else _given_signals(signals, bars),
        seed=seed,
    )
    known: BoolArray = np.asarray(np.isfinite(subject.rows).any(axis=0))
    empty = [column for column, any_ in zip(served.columns, known, strict=True) if not any_]
    if empty:
        raise RangeError(
            f"features: the columns {', '.join(empty[:5])} hold no finite value in {len(bars):,} rows. Mend them, or "
            "give more bars."
        )
    subject.try_out()
    return examine(subject, progress=progress)


def _callable(predict: Any) -> Predict:
    """Return the function to ask: ``predict`` itself, or a model's method.

    Raises
    ------
    UsageError
        Where there is none.
    """
    if not isinstance(predict, type):
        for asked in (getattr(predict, "predict_proba", None), predict, getattr(predict, "predict", None)):
            if callable(asked):
                return asked  # type: ignore[no-any-return]
    if isinstance(predict, type):
        raise UsageError(f"predict: the class {predict.__name__} is not a model yet. Give an instance of it, fitted.")
    shown = (
        f"{predict!r:.60}" if isinstance(predict, str | int | float | None) else f"an object of type {type(predict).__name__}"
    )
    raise UsageError(
        f"predict: {shown} is not a model: it cannot be called, and has no predict_proba and no predict. Give a function from "
        "rows (n, F) to logits or probabilities (n, 3), in the order SELL, HOLD, BUY, or an object with such a method."
    )


def _mask(part: Part | None, bars: Bars, name: str, shorter: int = 0) -> BoolArray | None:
    if part is None:
        return None
    if isinstance(part, str | TimeRange):
        given = part if isinstance(part, TimeRange) else TimeRange.parse(part, option=name)
        found, mask = bars.between(given), np.zeros(len(bars), dtype=bool)
        mask[found.start : max(found.start, found.stop + shorter)] = True
        if not mask.any():
            raise RangeError(f"{name}: no bar of {bars} lies in {given}. Choose another range.")
        return mask
    array = np.asarray(part)
    if array.shape != (len(bars),) or array.dtype != np.bool_:
        raise UsageError(
            f"{name}: expected a range or an array of {len(bars):,} booleans, one a bar, got shape {array.shape} of "
            f"{array.dtype}."
        )
    return np.asarray(array, dtype=bool)


def _tested(
    part: Part | None, bars: Bars, past: Bars, taught: BoolArray | None, judged: BoolArray | None, horizon: int
) -> BoolArray:
    mask = _mask(part, bars, "tested")
    if mask is not None:
        return mask
    everything = np.ones(len(bars), dtype=bool)
    known = [each for each in (taught, judged) if each is not None and each.any()]
    if not known:
        return everything
    last = min(max(int(np.flatnonzero(each)[-1]) for each in known) + horizon, len(past) - 1)
    after = np.asarray(bars.time > past.time[last])
    return after if after.sum() > 2 * horizon else everything


def _labelled(labels: Any, bars: Bars) -> Callable[[Bars], IntArray] | None:
    if labels is None:
        return None
    if hasattr(labels, "labels"):
        return lambda each: np.asarray(labels.labels(each), dtype=np.int8)
    array = np.asarray(labels)
    if array.shape != (len(bars),) or not np.isin(array, (-1, 0, 1, 2)).all():
        raise UsageError(
            f"labels: expected {len(bars):,} integers, one a bar, SELL=0, HOLD=1, BUY=2 or -1 for none, got shape "
            f"{array.shape}."
        )
    given = array.astype(np.int8)

    def labelled(each: Bars) -> IntArray:
        if len(each) != len(bars) or each.time[0] != bars.time[0] or each.close[0] != bars.close[0]:
            raise UsageError("labels: an array labels the bars it was given for alone. Give a LabelSpec to label others.")
        return given

    return labelled


def _three(values: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (3,) or not (np.isfinite(array) & (array > 0)).all():
        raise UsageError(f"{name}: expected three numbers above 0 for SELL, HOLD and BUY, got {values!r}.")
    return array


def _given_signals(values: npt.ArrayLike, bars: Bars) -> Callable[[FloatArray], Signals]:
    array = np.asarray(values)
    if array.shape != (len(bars),):
        raise UsageError(f"signals: expected {len(bars):,} integers, one a bar, got shape {array.shape}.")
    given = Signals.plain(array)
    return lambda _logits: given
