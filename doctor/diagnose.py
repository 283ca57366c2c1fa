"""Diagnose any predict function with any feature function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

from ..arrays import BoolArray, FloatArray, IntArray, PhaseProgress
from ..data.bars import Bars
from ..data.features import FeatureSet
from ..data.labels import LabelSpec
from ..data.time_range import TimeRange
from ..errors import RangeError, UsageError, kind_of, quoted_value
from ..models.signals import Signals
from .examine import examine
from .feature_table import ComputeRows, table_of
from .finding import Diagnosis
from .model_output import Predict
from .subject import Labeller, Subject

Part = TimeRange | str | npt.ArrayLike


@dataclass(frozen=True, kw_only=True, eq=False)
class DiagnosisRequest:
    """What `diagnose` examines.

    Every optional field enables more checks. A check without its input is skipped and names that input.

    Parameters
    ----------
    predict : callable, or a model with ``predict_proba`` or ``predict``
        Rows (n, F) of consecutive bars without NaN -> logits or probabilities (n, 3), in the order SELL, HOLD, BUY.
    features : FeatureSet or callable
        The features used in serving: Bars -> one row per bar, as an array or a DataFrame. A row without enough history is NaN.
    bars : Bars
        The bars to test on, with the history before them.
    labels : LabelSpec, TripleBarrier or array of int, shape (n_bars,), optional
        The true labels: SELL=0, HOLD=1, BUY=2, -1 for none. With a spec, a random walk can be labelled as well.
    columns, training_columns : sequence of str, optional
        Column names, where the function returns an array.
    training_features : FeatureSet or callable, optional
        The features used in training; by default ``features``.
    past : Bars, optional
        The bars of training and validation; by default ``bars``.
    training, validation, tested : TimeRange, str such as ``20230101-20240101``, or array of bool, optional
        Training and validation samples (of ``past``), and bars to test on (of ``bars``; by default those after the samples).
    horizon_bars : int, optional
        Bars that a label looks ahead; by default the spec's, or 6.
    context_bars : int, optional
        Earlier rows that an output may depend on; 0 for a model that reads one row.
    class_weights, label_shares : array-like (3,), optional
        Class weights of the training loss; shares of the training labels.
    signals : array-like of int, shape (n_bars,), optional
        Traded signals, where they are not the most probable class; -1 for none.
    name : str
        Name in the report.
    seed : int
        Seed of the sampled moments and resamples.
    """

    predict: Predict
    features: FeatureSet | ComputeRows
    bars: Bars
    labels: Labeller | npt.ArrayLike | None = None
    columns: Sequence[str] | None = None
    training_features: FeatureSet | ComputeRows | None = None
    training_columns: Sequence[str] | None = None
    past: Bars | None = None
    training: Part | None = None
    validation: Part | None = None
    tested: Part | None = None
    horizon_bars: int | None = None
    context_bars: int | None = None
    class_weights: npt.ArrayLike | None = None
    label_shares: npt.ArrayLike | None = None
    signals: npt.ArrayLike | None = None
    name: str = "model"
    seed: int = 0


def diagnose_request(request: DiagnosisRequest, *, progress: PhaseProgress = lambda _check, _done, _total: None) -> Diagnosis:
    """Examine any model for causes of a collapse or of scores that are too good.

    Parameters
    ----------
    request : DiagnosisRequest
    progress : callable
        Called with (check, checks done, checks in all).

    Raises
    ------
    UsageError
        When a field has the wrong shape, or ``predict`` is not a model: it cannot be called, or returns labels.
    RangeError
        When a range holds no bars.
    """
    subject = _subject_of(request)
    is_known: BoolArray = np.asarray(np.isfinite(subject.rows).any(axis=0))
    empty = [column for column, known in zip(subject.served.columns, is_known, strict=True) if not known]
    if empty:
        raise RangeError(
            f"features: the columns {', '.join(empty[:5])} have no finite value in {len(subject.bars):,} rows. Fix them, or "
            "give more bars."
        )
    subject.check_predict()
    return examine(subject, progress=progress)


def _subject_of(request: DiagnosisRequest) -> Subject:
    """Check the request's fields and return them as a Subject."""
    # 1. The model, the bars and the samples
    predict = _callable(request.predict)
    bars, past = request.bars, request.bars if request.past is None else request.past
    for field, value in (("bars", bars), ("past", past)):
        if not isinstance(value, Bars):
            raise UsageError(f"{field}: expected Bars, such as read_bars returns, got {kind_of(value)}.")
    spec = request.labels if isinstance(request.labels, Labeller) else None
    for field, fewest in (("horizon_bars", 1), ("context_bars", 0)):
        count = getattr(request, field)
        is_whole = isinstance(count, Integral) and not isinstance(count, bool)
        if count is not None and not (is_whole and fewest <= int(count) < 10**9):
            raise UsageError(f"{field}: expected a whole number of bars, {fewest} or more, got {quoted_value(count)}.")
    horizon = request.horizon_bars or (LabelSpec() if spec is None else spec).horizon_bars
    training = _mask(request.training, past, "training", -horizon)
    validation = _mask(request.validation, past, "validation", -horizon)
    # 2. The two feature tables
    served = table_of(request.features, bars, request.columns)
    trained = None if training is None else served
    if request.training_features is not None:
        trained = table_of(request.training_features, bars, request.training_columns)
    elif request.training_columns is not None:
        raise UsageError("training_columns: they name the columns of training_features, which is not given. Leave them out.")
    # 3. The rest
    weights = None if request.class_weights is None else _three(request.class_weights, "class_weights")
    shares = None if request.label_shares is None else _three(request.label_shares, "label_shares")
    return Subject(
        name=request.name,
        bars=bars,
        tested=_tested(request.tested, bars, past, [each for each in (training, validation) if each is not None], horizon),
        served=served,
        predict=predict,
        trained=trained,
        past=past if training is not None else None,
        training=training,
        validation=validation,
        labelled=_labelled(request.labels, bars),
        label_spec=spec,
        horizon_bars=horizon,
        context_bars=request.context_bars,
        class_weights=weights,
        label_shares=None if shares is None else shares / shares.sum(),
        signals=None if request.signals is None else _fixed_signals(request.signals, bars),
        seed=request.seed,
    )


def _callable(predict: object) -> Predict:
    """Return ``predict`` itself, or the model's ``predict_proba`` or ``predict``.

    Raises
    ------
    UsageError
        When none of them can be called.
    """
    if not isinstance(predict, type):
        for function in (getattr(predict, "predict_proba", None), predict, getattr(predict, "predict", None)):
            if callable(function):
                return function  # type: ignore[no-any-return]
    if isinstance(predict, type):
        raise UsageError(f"predict: the class {predict.__name__} is not a model yet. Give a fitted instance of it.")
    shown = (
        f"{predict!r:.60}" if isinstance(predict, str | int | float | None) else f"an object of type {type(predict).__name__}"
    )
    raise UsageError(
        f"predict: {shown} is not a model: it cannot be called, and has no predict_proba and no predict. Give a function from "
        "rows (n, F) to logits or probabilities (n, 3) in the order SELL, HOLD, BUY, or an object with such a method."
    )


def _mask(part: Part | None, bars: Bars, name: str, shorter: int = 0) -> BoolArray | None:
    if part is None:
        return None
    if isinstance(part, str | TimeRange):
        given = part if isinstance(part, TimeRange) else TimeRange.parse(part, option=name)
        found, mask = bars.between(given), np.zeros(len(bars), dtype=bool)
        mask[found.start : max(found.start, found.stop + shorter)] = True
        if not mask.any():
            raise RangeError(f"{name}: no bar of {bars} is in {given}. Choose another range.")
        return mask
    array = np.asarray(part)
    if array.shape != (len(bars),) or array.dtype != np.bool_:
        raise UsageError(
            f"{name}: expected a range or an array of {len(bars):,} booleans, one per bar, got shape {array.shape} of "
            f"{array.dtype}."
        )
    return np.asarray(array, dtype=bool)


def _tested(part: Part | None, bars: Bars, past: Bars, samples: list[BoolArray], horizon: int) -> BoolArray:
    """Return the bars to test: ``part``, else the bars after all samples, else all bars."""
    mask = _mask(part, bars, "tested")
    if mask is not None:
        return mask
    last = [int(np.flatnonzero(each)[-1]) for each in samples if each.any()]
    after = np.asarray(bars.time > past.time[min(max(last) + horizon, len(past) - 1)]) if last else np.zeros(0, dtype=bool)
    return after if after.sum() > 2 * horizon else np.ones(len(bars), dtype=bool)


def _labelled(labels: Labeller | npt.ArrayLike | None, bars: Bars) -> Callable[[Bars], IntArray] | None:
    if labels is None:
        return None
    if isinstance(labels, Labeller):
        return lambda each: np.asarray(labels.labels(each), dtype=np.int8)
    array = np.asarray(labels)
    if array.shape != (len(bars),) or not np.isin(array, (-1, 0, 1, 2)).all():
        raise UsageError(
            f"labels: expected {len(bars):,} integers, one per bar, SELL=0, HOLD=1, BUY=2 or -1 for none, got shape "
            f"{array.shape}."
        )
    given = array.astype(np.int8)

    def labelled(each: Bars) -> IntArray:
        if len(each) != len(bars) or each.time[0] != bars.time[0] or each.close[0] != bars.close[0]:
            raise UsageError("labels: an array labels only the bars it was given for. Give a LabelSpec to label other bars.")
        return given

    return labelled


def _three(values: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=object)
    are_numbers = array.shape == (3,) and all(isinstance(each, Real) and 0 < float(each) < np.inf for each in array)
    if not are_numbers:
        raise UsageError(f"{name}: expected three numbers above 0 for SELL, HOLD and BUY, got {quoted_value(values)}.")
    return np.asarray(array, dtype=np.float64)


def _fixed_signals(values: npt.ArrayLike, bars: Bars) -> Callable[[FloatArray], Signals]:
    array = np.asarray(values)
    if array.shape != (len(bars),):
        raise UsageError(f"signals: expected {len(bars):,} integers, one per bar, got shape {array.shape}.")
    given = Signals.plain(array)
    return lambda _logits: given
