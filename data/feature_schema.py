"""FeatureSchema: the columns that a model was trained on, their order and scale; checked exactly at serving."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Self

import numpy as np

from ..arrays import Float32Array, FloatArray, JsonObject
from ..errors import CheckpointError, UsageError, nearest
from ..storage.json_records import JsonRecord
from .bars import Bars
from .features import FeatureSet, feature_set

CLIP = 6.0
NO_CLIP = float(np.finfo(np.float32).max)
PROBE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class FeatureSchema(JsonRecord):
    """Fixed at training, stored in the checkpoint.

    Parameters
    ----------
    feature_set : str
        The feature set's name, by which it is loaded.
    columns : tuple of str
        Column names in order.
    warmup_bars : int
        Bars before the first finite row.
    mean, scale : tuple of float
        Of each column over the training rows; a constant column has scale 1.
    clip : float
        Scaled values are cut to ±clip (in standard deviations).
    probe : tuple of float
        The last row of the features of a fixed random walk, to detect a feature set whose code has changed.
    """

    feature_set: str
    columns: tuple[str, ...]
    warmup_bars: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    clip: float
    probe: tuple[float, ...]

    @classmethod
    def fit(cls, features: FeatureSet, rows: FloatArray) -> FeatureSchema:
        """Measure mean and scale on the training ``rows``, shape (n_rows, n_columns), all finite."""
        scale = rows.std(axis=0)
        scale[scale < 1e-12] = 1.0
        return cls._of(features, rows.mean(axis=0), scale, CLIP)

    @classmethod
    def _of(cls, features: FeatureSet, mean: FloatArray, scale: FloatArray, clip: float) -> FeatureSchema:
        numbers = tuple(mean.tolist()), tuple(scale.tolist()), clip, tuple(_probe(features).tolist())
        return cls(features.name, features.columns, features.warmup_bars, *numbers)

    @classmethod
    def stated(cls, features: FeatureSet, scaler: Mapping[str, object] | None) -> FeatureSchema:
        """Use the scaler of a training outside flagbt: ``mean``, ``scale`` and an optional ``clip``; None means no scaling.

        Raises
        ------
        UsageError
            When it has another field, or not one finite number per column (above 0 for ``scale`` and ``clip``).
        """
        n = len(features.columns)
        values = {"mean": [0.0] * n, "scale": [1.0] * n, "clip": NO_CLIP, **(scaler or {})}
        unknown = sorted(values.keys() - {"mean", "scale", "clip"})
        if unknown:
            raise UsageError(f"--scaler: unknown field '{unknown[0]}'. {nearest(unknown[0], ('mean', 'scale', 'clip'))}")
        try:
            mean, scale = (np.asarray(values[key], dtype=np.float64) for key in ("mean", "scale"))
            clip = float(np.asarray(values["clip"], dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise UsageError(f"--scaler: expected lists of numbers for mean and scale, and one for clip: {error}.") from None
        valid = mean.shape == scale.shape == (n,) and np.isfinite(mean).all() and np.isfinite(scale).all()
        if not valid or not (scale > 0).all() or not 0 < clip <= NO_CLIP:
            raise UsageError(
                f"--scaler: expected {n} finite numbers each for mean and scale (above 0), one for each column of "
                f"'{features.name}', got {mean.size} and {scale.size}; and a clip above 0, got {clip:g}."
            )
        return cls._of(features, mean, scale, clip)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of every field."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def rows(self, bars: Bars) -> Float32Array:
        """Return the scaled rows a model reads, float32, shape (n_bars, n_columns), NaN in the warm-up.

        Training and serving both use this method. *Causality: row t uses bars <= t.*

        Raises
        ------
        CheckpointError
            When the feature set gives other columns, a different warm-up or different values than at training.
        """
        features = self._checked_feature_set
        scaled = (features(bars) - np.asarray(self.mean)) / np.asarray(self.scale)
        rows: Float32Array = np.clip(scaled, -self.clip, self.clip).astype(np.float32)
        return rows

    @cached_property
    def _checked_feature_set(self) -> FeatureSet:
        features = feature_set(self.feature_set, named=False)
        served = features.columns
        if served != self.columns or features.warmup_bars != self.warmup_bars:
            at = next((i for i, (a, b) in enumerate(zip(self.columns, served, strict=False)) if a != b), None)
            where = (
                f"column {at} is '{served[at]}', not '{self.columns[at]}'"
                if at is not None
                else (
                    f"{len(served)} columns and {features.warmup_bars} warm-up bars, "
                    f"not {len(self.columns)} and {self.warmup_bars}"
                )
            )
            raise CheckpointError(
                f"the feature set '{self.feature_set}' is not the one this checkpoint was trained on: {where}. "
                "With other columns a model is confident and wrong: install the feature set's version of the training, or "
                "retrain."
            )
        off = np.abs(_probe(features) - np.asarray(self.probe))
        if not (off <= PROBE_TOLERANCE * (1 + np.abs(self.probe))).all():
            column = int(np.argmax(off))
            raise CheckpointError(
                f"the feature set '{self.feature_set}' computes different values than at training: on the fixed probe series, "
                f"'{self.columns[column]}' is {_probe(features)[column]:.9g} instead of {self.probe[column]:.9g}. "
                "Its code has changed: install the version of the training, or retrain."
            )
        return features

    def to_json(self) -> JsonObject:
        """Return the schema as JSON values, its digest included."""
        return {**super().to_json(), "digest": self.digest}

    @classmethod
    def from_json(cls, value: object, place: str = "the feature schema") -> Self:
        """Read what ``to_json`` wrote.

        Raises
        ------
        CheckpointError
            When a field is missing or of another type, or the digest does not match.
        """
        try:
            schema = super().from_json(value, place)
        except ValueError as error:
            raise CheckpointError(
                f"the feature schema is damaged: {error}. Copy the checkpoint again from its source."
            ) from None
        digest = value.get("digest") if isinstance(value, Mapping) else None
        if schema.digest != digest:
            raise CheckpointError(
                f"the feature schema's digest is {schema.digest[:12]}, expected {str(digest)[:12]}: it was edited or "
                "damaged after training. Copy the checkpoint again from its source."
            )
        return schema


def _probe(features: FeatureSet) -> FloatArray:
    """Return the last row of the features over a fixed random walk just longer than their warm-up."""
    n = features.warmup_bars + 24
    random = np.random.Generator(np.random.Philox(key=20240101))
    # Only sums, products and raw uniform draws: their bits do not depend on numpy's distributions.
    draws = random.random((4, n))
    close = 20_000 * np.cumprod(1 + (draws[0] - 0.5) / 50)
    open_ = np.concatenate([[20_000.0], close[:-1]])
    high = np.maximum(open_, close) * (1 + draws[1] / 200)
    low = np.minimum(open_, close) * (1 - draws[2] / 200)
    time = np.datetime64("2020-01-01", "ns") + np.arange(n) * np.timedelta64(3600, "s")
    row: FloatArray = features(Bars(time, open_, high, low, close, 100 * draws[3], source="probe"))[-1]
    return row
