"""Base sources: a base still to be pre-trained, one made by ``flagbt pretrain``, or a language model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import torch

from ..arrays import FloatArray, JsonObject
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.features import FeatureSet, feature_set
from ..data.time_range import TimeRange
from ..errors import CheckpointError, RangeError, UsageError, nearest
from ..models.kinds.architecture import PRESETS, AnyArchitecture, Architecture, Lora
from ..models.kinds.language_model import PRESET as LANGUAGE_MODEL
from ..models.kinds.language_model import LanguageModel, load_language_model
from ..models.kinds.network import build_base, language_base
from .pretrain import Base
from .stored_base import StoredBase, find_base

DEFAULT_PRESET = "tiny"
DEFAULT_FEATURES = "default"


@dataclass(frozen=True, eq=False)
class BaseSource:
    """Where the base of a training comes from; independent of the training's bars.

    Attributes
    ----------
    preset : str
    architecture : Architecture or OriginalArchitecture
    features : FeatureSet
    stored : StoredBase, optional
        A base made by ``flagbt pretrain``, or a checkpoint.
    language : LanguageModel, optional
        A language model; without it and ``stored`` the training pre-trains the base first.
    """

    preset: str
    architecture: AnyArchitecture
    features: FeatureSet
    stored: StoredBase | None = None
    language: LanguageModel | None = None

    @property
    def digest(self) -> str | None:
        """SHA-256 (hex) of the base, or None where it is still to be made."""
        if self.stored is not None:
            return self.stored.digest
        return None if self.language is None else self.language.digest

    def text_until(self, stated: date | None) -> str | None:
        """Return the date of the newest text that the base has read: the stated one, or that of the base's checkpoint.

        Raises
        ------
        UsageError
            When a date is stated for a base that has read bars only.
        """
        checkpoint = None if self.stored is None else self.stored.checkpoint
        has_read = self.language is not None or (checkpoint is not None and checkpoint.text_read is not None)
        if stated is None:
            known = None if checkpoint is None else checkpoint.text_until
            return None if known is None else known.isoformat()
        if not has_read:
            raise UsageError(
                f"--text-until {stated}: the base of this training reads bars only, and the checkpoint holds their ranges. The "
                f"option is for a language model, --preset {LANGUAGE_MODEL}. Leave it out."
            )
        return stated.isoformat()

    def schema(self, rows: FloatArray) -> FeatureSchema:
        """Return the base's own schema with its scaler, or one fitted on the training ``rows`` where it has none."""
        return self.stored.schema if self.stored is not None else FeatureSchema.fit(self.features, rows)

    def check(self, bars: Bars, validation: TimeRange) -> None:
        """Check that the bars have the base's step, and that the base has not seen the validation.

        Raises
        ------
        CheckpointError
            When the bars' step differs from the base's.
        RangeError
            When the base's pre-training range does not end before ``validation`` starts.
        """
        if self.stored is None:
            return
        hours = self.stored.facts.data.step_hours
        if hours != bars.step_hours:
            raise CheckpointError(
                f"--base: '{self.stored.name}' was pre-trained on bars of {hours:g} hours, {bars.source} has bars of "
                f"{bars.step_hours:g}. Choose a base of such bars, or make one with flagbt pretrain."
            )
        seen = self.stored.range
        if seen.stop is None or validation.start is None or seen.stop > validation.start:
            raise RangeError(
                f"--base: '{self.stored.name}' was pre-trained on {seen}, which reaches into the validation {validation}: it "
                "would be validated on bars it has seen. Choose a later --validation, or make a base that ends before it."
            )

    def base(self, seed: int) -> Base | None:
        """Return the base's weights, or None where it is still to be made; ``seed`` is for a language model's embedding."""
        if self.stored is not None:
            weights, place = self.stored.weights(), str(self.stored.folder)
            build_base(self.architecture, weights, place=place)
            return Base(weights, list(self.stored.facts.losses))
        if self.language is not None:
            torch.manual_seed(seed)
            place = self.language.source["name"]
            assert isinstance(self.architecture, Architecture)
            return Base(language_base(self.architecture, self.language.tensors, place=place), [])
        return None

    def lora(self, lora: Lora) -> Lora:
        """Return the update to train; on a language model, the new embedding of rows is trained in full as well."""
        return replace(lora, trained=("embed", "head")) if self.language is not None else lora

    def describe(self, made: JsonObject) -> JsonObject:
        """Return a checkpoint's description of its base; ``made`` is the one of a base that the training made."""
        if self.language is not None:
            return self.language.to_json()
        if self.stored is None:
            return made
        kept: JsonObject = {key: self.stored.values[key] for key in ("preset", "schedule", "losses", "data")}
        if self.stored.checkpoint is not None:
            kept["was"] = {"kind": "checkpoint", "base": self.stored.checkpoint.values["base"]}
        return {**kept, "name": self.stored.name, "digest": self.stored.digest}

    def pretraining_range(self, training: TimeRange) -> TimeRange:
        """Return the range of the bars that the pre-training saw.

        A training pre-trains its own base on the training range. A language model's text has no range, but a checkpoint must
        name the bars it has seen for every purpose. The training range is used, since the model has seen no other bar.
        """
        return self.stored.range if self.stored is not None else training


def find_base_source(preset: str | None, base: str | None, base_layers: int | None, features: str | None) -> BaseSource:
    """Find the base of a training.

    Parameters
    ----------
    preset : str, optional
        By default the base's, or ``tiny``.
    base : str, optional
        A base's name or folder; with the preset ``smollm2`` a language model's folder or hub id.
    base_layers : int, optional
        How many of a language model's first layers to use; by default all.
    features : str, optional
        By default the base's, or ``default``.

    Raises
    ------
    CheckpointError
        When the base does not exist, is damaged, or has another preset or other features than requested.
    UsageError
        When the preset or the features are unknown, or ``base_layers`` is given for another base than a language model.
    """
    if preset == LANGUAGE_MODEL:
        chosen = feature_set(features or DEFAULT_FEATURES)
        language = load_language_model(base, base_layers)
        return BaseSource(preset, language.architecture(len(chosen.columns)), chosen, language=language)
    if base_layers is not None:
        raise UsageError(f"--base-layers: only a language model can be cut. Add --preset {LANGUAGE_MODEL}, or leave it out.")
    if base is None:
        chosen = feature_set(features or DEFAULT_FEATURES)
        return BaseSource(preset or DEFAULT_PRESET, preset_architecture(preset or DEFAULT_PRESET, len(chosen.columns)), chosen)
    stored = find_base(base)
    known, columns = stored.facts.preset or "", stored.schema.feature_set
    if preset is not None and preset != known:
        raise CheckpointError(
            f"--preset: the base '{stored.name}' is '{known}', not '{preset}'. Leave --preset out, or choose another --base."
        )
    if features is not None and features != columns:
        raise CheckpointError(
            f"--features: the base '{stored.name}' reads the feature set '{columns}', not '{features}'. Leave --features out, "
            "or make a base of those features with flagbt pretrain."
        )
    return BaseSource(known, stored.architecture, feature_set(columns, named=features is not None), stored=stored)


def preset_architecture(preset: str, n_features: int) -> Architecture:
    """Return the architecture of a preset.

    Raises
    ------
    UsageError
        When the preset is unknown, with the nearest name.
    """
    if preset not in PRESETS:
        raise UsageError(f"--preset: '{preset}' is unknown. {nearest(preset, [*PRESETS, LANGUAGE_MODEL])}")
    return Architecture(n_features=n_features, **PRESETS[preset])
