"""Make a subject of a checkpoint: load it leniently, turn its ranges into samples, compare its stored rows and logits."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..arrays import BoolArray, FloatArray
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.features import FeatureSet, feature_set
from ..data.scorable_range import scorable_range
from ..data.time_range import TimeRange
from ..errors import CheckpointError
from ..models.checkpoint import DECLARATIONS, Checkpoint, StoredCalibration
from ..models.decision import Decision
from ..models.kinds.network_model import network_of
from ..models.model_signals import ModelSignals
from ..models.signals import Signals
from .lenient_load import FINGERPRINT_TOLERANCE, LenientCheckpoint, fingerprint_difference, load_leniently, predict_with
from .subject import FeatureTable, PathDifference, Subject, highest_class

ROUND_TRIP_COST = 0.0024
STAND_IN_ROWS = 1_000


def subject_of_checkpoint(
    checkpoint: Checkpoint,
    bars: Bars,
    *,
    past: Bars | None = None,
    timerange: TimeRange | None = None,
    served: FeatureTable | None = None,
    loaded: LenientCheckpoint | None = None,
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
    loaded : LenientCheckpoint, optional
        A network in place of the one in the folder.

    Raises
    ------
    RangeError
        When no bar of the range can be scored.
    CheckpointError
        When the base cannot be read.
    """
    if checkpoint.unknown:
        return _model_alone(checkpoint, bars, seed, loaded)
    # 1. The tested bars, the features and the samples
    tested, cut = _tested(checkpoint, bars, timerange)
    past, bars = bars if past is None else past, bars.take(slice(0, cut))
    network = load_leniently(checkpoint) if loaded is None else loaded
    table, refusal = _table(checkpoint.schema)
    step = bars.step_hours if checkpoint.data is None else checkpoint.data.step_hours
    if bars.step_hours != step:
        refusal = (
            f"It was trained on bars of {step:g} h, but these have {bars.step_hours:g} h: every column has another meaning."
        )
    samples = _samples(checkpoint, past)
    # 2. What its training recorded
    architecture = network_of(checkpoint).architecture
    stored = checkpoint.stored_calibration() if "default" in checkpoint.calibration_names() else None
    weights = (checkpoint.described.objective or {}).get("class_weights")
    claims = (checkpoint.described.metrics or {}).get("validation") or {}
    return Subject(
        name=checkpoint.name,
        bars=bars,
        tested=tested[:cut],
        served=served or table,
        predict=predict_with(network.network, architecture),
        trained=None if refusal else table,
        past=past if samples else None,
        training=samples[0] if samples else None,
        validation=samples[1] if samples else None,
        labelled=checkpoint.labels.labels,
        label_spec=checkpoint.labels,
        horizon_bars=checkpoint.labels.horizon_bars,
        context_bars=architecture.receptive_bars,
        label_shares=checkpoint.label_shares,
        class_weights=None if weights is None else np.asarray(weights, dtype=np.float64),
        corrected=None if stored is None else stored.calibration,
        claims={name: value for name, value in claims.items() if isinstance(value, int | float)},
        signals=partial(_signals, checkpoint, stored),
        checkpoint=checkpoint,
        loaded=network,
        refusal=refusal,
        parity=_fingerprint_parity,
        seed=seed,
    )


def _signals(checkpoint: Checkpoint, stored: StoredCalibration | None, logits: FloatArray) -> Signals:
    """Return the signals of the checkpoint's stored calibration and decision, by default of argmax."""
    decision = Decision() if stored is None else stored.decision
    probabilities = logits if stored is None else stored.calibration(logits)
    signal = decision(probabilities, class_returns=checkpoint.class_returns, round_trip_cost=ROUND_TRIP_COST)
    return Signals(signal, highest_class(logits))


def _model_alone(checkpoint: Checkpoint, bars: Bars, seed: int, loaded: LenientCheckpoint | None) -> Subject:
    """Make a subject of a checkpoint with unknown features: random rows take their place."""
    network, architecture = load_leniently(checkpoint) if loaded is None else loaded, network_of(checkpoint).architecture
    bars = bars.take(slice(max(0, len(bars) - STAND_IN_ROWS - architecture.receptive_bars), len(bars)))
    columns = tuple(f"column {i}" for i in range(architecture.n_features))

    def rows(given: Bars) -> FloatArray:
        return np.random.Generator(np.random.Philox(key=[seed, 31])).standard_normal((len(given), len(columns)))

    return Subject(
        name=checkpoint.name,
        bars=bars,
        tested=np.ones(len(bars), bool),
        served=FeatureTable(columns, rows, named=False),
        predict=predict_with(network.network, architecture),
        context_bars=architecture.receptive_bars,
        checkpoint=checkpoint,
        loaded=network,
        seed=seed,
        unknown=f"The import did not state {', '.join(DECLARATIONS[key].partition(' (')[0] for key in checkpoint.unknown)}.",
    )


def _tested(checkpoint: Checkpoint, bars: Bars, timerange: TimeRange | None) -> tuple[BoolArray, int]:
    """Return the mask of tested bars, and the position where they end."""
    warmup = ModelSignals(checkpoint=checkpoint).warmup_bars
    if timerange is None:
        stops = [seen.stop for seen in checkpoint.ranges.values()]
        free = None if None in stops else max(stop for stop in stops if stop is not None)
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
    ranges, h = checkpoint.ranges, checkpoint.labels.horizon_bars
    train, valid = past.between(ranges["training"]), past.between(ranges["validation"])
    warmup = ModelSignals(checkpoint=checkpoint).warmup_bars
    before = max(warmup, checkpoint.labels.history_bars)
    training, validation = np.zeros(len(past), bool), np.zeros(len(past), bool)
    training[max(train.start, before) : max(0, train.stop - h)] = True
    apart = train.stop + checkpoint.described.embargo_bars + before
    # The training purged consecutive ranges only.
    validation[max(valid.start, apart if train.stop <= valid.start else before) : max(0, valid.stop - h)] = True
    if checkpoint.imported and ranges["validation"] == ranges["training"]:
        validation[:] = False  # only the seen bars are known, not their purpose
    return (training, validation) if training.sum() > 200 else None


def _fingerprint_parity(subject: Subject) -> PathDifference | str:
    """Compare the stored fingerprint, rows and logits of the training, with the serving path on the same bars."""
    from ..models.kinds.network import read_tensors

    checkpoint, past = subject.checkpoint, subject.past
    if checkpoint is None or past is None or subject.loaded is None:
        return "The training bars were not given."
    if checkpoint.imported:
        return "It was imported, so rows of its training are not available."
    stored = read_tensors(checkpoint.folder / "fingerprint.safetensors")
    rows, logits = stored["rows"].double().numpy(), stored["logits"].double().numpy()
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
    fresh = fingerprint_difference(subject.loaded.network, checkpoint)
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
