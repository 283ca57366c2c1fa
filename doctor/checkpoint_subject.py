"""Make a subject of a checkpoint: its features or its bars, its ranges as samples, its stored rows and logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..arrays import BoolArray, FloatArray
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.features import FeatureSet, feature_set
from ..data.scorable_range import scorable_range
from ..data.time_range import TimeRange
from ..errors import CheckpointError, UsageError
from ..models.checkpoint import DECLARATIONS, Checkpoint, StoredCalibration
from ..models.checkpoint_model import RowModel
from ..models.combining_model import CombiningModel
from ..models.decision import Decision
from ..models.fingerprint import FINGERPRINT_TOLERANCE
from ..models.logit_cache import logits_of
from ..models.model import HasAdapter, LenientNetwork, ReadsRows
from ..models.signals import Signals
from .feature_table import FeatureTable
from .model_output import Predict
from .subject import READS_BARS, PathDifference, ScoreBars, Subject, highest_class

ROUND_TRIP_COST = 0.0024
STAND_IN_ROWS = 1_000


@dataclass(frozen=True, kw_only=True)
class RunCalibration:
    """The calibration and the decision of a run, and the cost of a round trip there, as a fraction."""

    stored: StoredCalibration
    round_trip_cost: float


def subject_of_checkpoint(
    checkpoint: Checkpoint,
    bars: Bars,
    *,
    past: Bars | None = None,
    timerange: TimeRange | None = None,
    served: FeatureTable | None = None,
    loaded: LenientNetwork | None = None,
    run: RunCalibration | None = None,
    seed: int = 0,
) -> Subject:
    """Make a subject of a checkpoint and bars.

    Parameters
    ----------
    bars : Bars
        The bars to test on, with history.
    past : Bars, optional
        The bars of its training and validation; by default ``bars``, if they start early enough.
    timerange : TimeRange, optional
        The range to test; by default the bars after all that the checkpoint has seen, or all bars if there are none.
    served : FeatureTable, optional
        Features in place of the checkpoint's own.
    loaded : LenientNetwork, optional
        A network in place of the one in the folder.
    run : RunCalibration, optional
        Of the run that is examined, in place of what the checkpoint stores as ``default``.

    Raises
    ------
    RangeError
        When no bar of the range can be scored.
    CheckpointError
        When its files cannot be read.
    """
    model = checkpoint.model
    if loaded is None and isinstance(model, HasAdapter) and checkpoint.described.lora is not None:
        loaded = model.load_leniently()
    elif loaded is None:
        model.check_files()
    if checkpoint.unknown:
        return _model_alone(checkpoint, bars, seed, loaded)
    # 1. The tested bars, the features and the samples
    tested, cut = _tested(checkpoint, bars, timerange)
    past, bars = bars if past is None else past, bars.take(slice(0, cut))
    reads = _what_it_reads(checkpoint, bars, loaded)
    samples = _samples(checkpoint, past)
    # 2. What its training recorded
    stored = checkpoint.stored_calibration() if "default" in checkpoint.calibration_names() else None
    weights = (checkpoint.described.objective or {}).get("class_weights")
    claims = (checkpoint.described.metrics or {}).get("validation") or {}
    used = stored if run is None else run.stored
    found = Subject(
        name=checkpoint.name,
        bars=bars,
        tested=tested[:cut],
        served=served or reads.table,
        predict=reads.predict,
        trained=None if reads.refusal else reads.table,
        past=past if samples else None,
        training=samples[0] if samples else None,
        validation=samples[1] if samples else None,
        labelled=checkpoint.labels.labels,
        label_spec=checkpoint.labels,
        horizon_bars=checkpoint.labels.horizon_bars,
        context_bars=reads.context_bars,
        label_shares=checkpoint.label_shares,
        class_weights=None if weights is None else np.asarray(weights, dtype=np.float64),
        corrected=None if used is None else used.calibration,
        claims={name: value for name, value in claims.items() if isinstance(value, int | float)},
        signals=partial(_signals, checkpoint, used, ROUND_TRIP_COST if run is None else run.round_trip_cost),
        score=reads.score,
        may_skip_bars=model.may_skip_bars,
        checkpoint=checkpoint,
        loaded=loaded,
        bars_seen=_seen(checkpoint),
        refusal=reads.refusal,
        parity=_fingerprint_parity,
        seed=seed,
    )
    return found if run is None else replace(found, is_run=True, calibrated_by="the run's calibration")


@dataclass(frozen=True)
class _Reads:
    """What a model reads: a table of rows and a function of them, or bars; and why the rows are not those of its training."""

    table: FeatureTable
    predict: Predict
    context_bars: int
    score: ScoreBars | None = None
    refusal: str = ""


def _what_it_reads(checkpoint: Checkpoint, bars: Bars, loaded: LenientNetwork | None) -> _Reads:
    model = checkpoint.model
    if not isinstance(model, ReadsRows):
        return _Reads(*no_features(), model.warmup_bars, partial(_score, checkpoint))
    table, refusal = _table(checkpoint.schema)
    step = bars.step_hours if checkpoint.data is None else checkpoint.data.step_hours
    if bars.step_hours != step:
        refusal = (
            f"It was trained on bars of {step:g} h, but these have {bars.step_hours:g} h: every column has another meaning."
        )
    return _Reads(table, _predict(model, loaded), model.context_bars, refusal=refusal)


def _predict(model: ReadsRows, loaded: LenientNetwork | None) -> Predict:
    if loaded is not None:
        return loaded.logits_of_rows
    return lambda rows: model.logits_of_rows(np.asarray(rows, dtype=np.float32))


def _score(checkpoint: Checkpoint, bars: Bars, *, cache: bool = False) -> FloatArray:
    return logits_of(checkpoint, bars, cache=cache)


def no_features() -> tuple[FeatureTable, Predict]:
    """Return the table and the function of a model that reads bars: without columns, and an error."""
    return FeatureTable((), _no_rows), _no_predict


def _no_rows(bars: Bars) -> FloatArray:
    return np.zeros((len(bars), 0))


def _no_predict(rows: FloatArray) -> FloatArray:
    del rows
    raise UsageError(READS_BARS)


def _signals(checkpoint: Checkpoint, stored: StoredCalibration | None, round_trip_cost: float, logits: FloatArray) -> Signals:
    """Return the signals of a calibration and its decision, by default of argmax."""
    decision = Decision() if stored is None else stored.decision
    probabilities = logits if stored is None else stored.calibration(logits)
    signal = decision(probabilities, class_returns=checkpoint.class_returns, round_trip_cost=round_trip_cost)
    return Signals(signal, highest_class(logits))


def _seen(checkpoint: Checkpoint) -> Mapping[str, TimeRange] | None:
    """Return the ranges that it has seen, by purpose; None where they are not stated."""
    return None if checkpoint.bars_seen is None else checkpoint.ranges


def _model_alone(checkpoint: Checkpoint, bars: Bars, seed: int, loaded: LenientNetwork | None) -> Subject:
    """Make a subject of a checkpoint about which too little is known to run it: only the model itself is examined.

    Random rows take the place of unknown features.
    """
    model, width = checkpoint.model, checkpoint.settings.get("n_features")
    unknown = ", ".join(DECLARATIONS[key].partition(" (")[0] for key in checkpoint.unknown)
    if isinstance(model, RowModel):
        if not isinstance(width, int):
            checkpoint.check_known()
        columns = tuple(f"column {i}" for i in range(int(str(width))))
        reads = _Reads(
            FeatureTable(columns, partial(_random_rows, seed, len(columns)), named=False),
            _predict(model, loaded),
            model.context_bars,
        )
    else:
        reads = _Reads(*no_features(), model.warmup_bars, partial(_score, checkpoint))
    bars = bars.take(slice(max(0, len(bars) - STAND_IN_ROWS - reads.context_bars), len(bars)))
    return Subject(
        name=checkpoint.name,
        bars=bars,
        tested=np.ones(len(bars), bool),
        served=reads.table,
        predict=reads.predict,
        context_bars=reads.context_bars,
        score=reads.score,
        may_skip_bars=model.may_skip_bars,
        checkpoint=checkpoint,
        loaded=loaded,
        bars_seen={},
        seed=seed,
        unknown=f"The import did not state {unknown}.",
    )


def _random_rows(seed: int, width: int, bars: Bars) -> FloatArray:
    return np.random.Generator(np.random.Philox(key=[seed, 31])).standard_normal((len(bars), width))


def _tested(checkpoint: Checkpoint, bars: Bars, timerange: TimeRange | None) -> tuple[BoolArray, int]:
    """Return the mask of tested bars, and the position where they end."""
    warmup = checkpoint.model.warmup_bars
    if timerange is None:
        stops = [seen.stop for seen in checkpoint.bars_seen or ()]
        free = None if None in stops else max((stop for stop in stops if stop is not None), default=None)
        timerange = TimeRange(free) if free is not None and len(bars) - bars.position_of(free) > warmup else TimeRange()
    part = scorable_range(bars, timerange, warmup)
    tested = np.zeros(len(bars), dtype=bool)
    tested[part] = True
    return tested, part.stop


def _table(schema: FeatureSchema) -> tuple[FeatureTable, str]:
    """Return the schema's features, and its error message if it refuses the installed feature set."""
    try:
        schema.rows(_first_bars(schema))
    except CheckpointError as error:
        features: FeatureSet = feature_set(schema.feature_set, named=False)
        if len(features.columns) != len(schema.columns):
            raise
        mean, scale = np.asarray(schema.mean), np.asarray(schema.scale)
        return FeatureTable(
            features.columns, lambda bars: np.clip((features(bars) - mean) / scale, -schema.clip, schema.clip)
        ), str(error)
    return FeatureTable(schema.columns, lambda bars: schema.rows(bars).astype(np.float64)), ""


def _first_bars(schema: FeatureSchema) -> Bars:
    from .perturbed_bars import random_walk_like

    return random_walk_like(schema.warmup_bars + 8, np.random.default_rng(0), volatility=0.005)


def _samples(checkpoint: Checkpoint, past: Bars) -> tuple[BoolArray, BoolArray] | None:
    """Return the training and validation samples as masks over ``past``; None if it does not contain them."""
    ranges, h = _seen(checkpoint) or {}, checkpoint.labels.horizon_bars
    if not ranges.keys() >= {"training", "validation"}:
        return None
    train, valid = past.between(ranges["training"]), past.between(ranges["validation"])
    warmup = checkpoint.model.warmup_bars
    before = max(warmup, checkpoint.labels.history_bars)
    training, validation = np.zeros(len(past), bool), np.zeros(len(past), bool)
    training[max(train.start, before) : max(0, train.stop - h)] = True
    apart = train.stop + checkpoint.described.embargo_bars + before
    # The training purged consecutive ranges only.
    validation[max(valid.start, apart if train.stop <= valid.start else before) : max(0, valid.stop - h)] = True
    if valid.start < train.stop and train.start < valid.stop:
        if checkpoint.imported and valid != train:  # the bars seen hold those that only chose its epoch
            training[max(0, valid.start - h) : valid.stop + before] = False
        elif checkpoint.imported or isinstance(checkpoint.model, CombiningModel):
            validation[:] = False  # only the seen bars are known, or each member's purpose, not one purpose of all
    return (training, validation) if training.sum() > 200 else None


def _fingerprint_parity(subject: Subject) -> PathDifference | str:
    """Compare the stored fingerprint, rows and logits of the training, with the serving path on the same bars."""
    checkpoint, past = subject.checkpoint, subject.past
    if checkpoint is not None and checkpoint.imported:
        return "It was imported, so rows of its training are not available."
    if subject.loaded is None:
        return "Its training stored no rows with their logits."
    if checkpoint is None or past is None:
        return "The training bars were not given."
    rows, logits = subject.loaded.fingerprint()
    stop = past.between(checkpoint.ranges["validation"]).stop - checkpoint.labels.horizon_bars
    part = slice(stop - len(rows), stop)
    if part.start < 0 or not _has_training_bars(checkpoint, past):
        return "The training bars were not given (those given have a different digest)."
    served = subject.served(past.take(slice(max(0, part.start - 1_500), stop)))[-len(rows) :]
    if served.shape != rows.shape:
        return "The two tables have different widths, so no row can be compared."
    off = np.abs(served - rows).max(axis=0)
    columns = tuple(c for c, each in zip(subject.served.columns, off, strict=True) if each > 1e-3)
    output = subject.predict_logits(served)[-len(logits) :]
    fresh = subject.loaded.fingerprint_difference()
    apart = float(np.nanmax(np.abs(output - logits))) if np.isfinite(output).any() else 0.0
    # A network that is wrong on the stored rows is not a fault of the serving path.
    counts = off.max() > 1e-4 or fresh <= FINGERPRINT_TOLERANCE
    return PathDifference(float(off.max()), apart if counts else 0.0, len(logits), columns)


def _has_training_bars(checkpoint: Checkpoint, past: Bars) -> bool:
    """Return whether ``past`` contains the training's bars, by their digest."""
    data = checkpoint.data
    if data is None:
        return False
    n = data.bars
    starts = {0, len(past) - n, past.between(checkpoint.ranges["validation"]).stop - n}
    return any(0 <= at <= len(past) - n and past.take(slice(at, at + n)).digest == data.digest for at in starts)
