"""The kind ``ensemble``: the log-linear pool of other checkpoints, which lie whole in its folder; see `flagbt.models.pool`.

Their logits are pooled as the models give them, before any stored calibration. A calibration can make any model look balanced,
so a pool of calibrated members would hide a collapsed one from the model verdict, and each of their calibrations would decide a
logit. The price, measured on 2023 with pools that are calibrated themselves: none for members of like confidence, up to 0.009
nats with equal weights beside an overconfident member, up to 0.005 with fitted weights beside a class-weighted one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...arrays import FloatArray, JsonObject, JsonValue, Progress
from ...data.bars import Bars
from ...data.time_range import TimeRange
from ...errors import CheckpointError
from ...storage.json_records import OMIT_NONE, JsonRecord
from ..checkpoint_model import ModelParts
from ..combining_model import CombiningModel
from ..pool import check_weights, pooled
from .ensemble_members import (
    DEEPEST,
    FEWEST,
    MEMBER_NAME,
    MEMBERS,
    MOST,
    check_members,
    class_facts,
    copy_checkpoint,
    data_of,
    ranges_seen,
    text_read,
)

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Member(JsonRecord):
    """A member: the name of its folder, its digest, its weight in the pool."""

    name: str
    digest: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class EnsembleSettings(JsonRecord):
    """The members, and the range that their weights were fitted on, if they were."""

    members: tuple[Member, ...]
    fitted_on: str | None = field(default=None, metadata=OMIT_NONE)

    def check(self) -> None:
        """Raise ValueError where an ensemble cannot have these members."""
        names = [each.name for each in self.members]
        if not FEWEST <= len(names) <= MOST:
            raise ValueError(f"it has {len(names)} members, expected {FEWEST} to {MOST}.")
        if bad := [each for each in self.members if not (MEMBER_NAME.fullmatch(each.name) and _DIGEST.fullmatch(each.digest))]:
            raise ValueError(
                f"{bad[0].name!r} is not the name of a member with a digest."
            )  # a name could lead out of the folder
        if len(set(names)) < len(names):
            raise ValueError("two of its members have one name.")
        check_weights([each.weight for each in self.members])
        if self.fitted_on is not None:
            TimeRange.parse(self.fitted_on, option="fitted_on")


class EnsembleModel(CombiningModel):
    """The pool of its members. A row is NaN where any member has no answer. *Causality: that of its members.*

    Its logits are not kept on disk, since those of each member are.
    """

    needs: ClassVar[tuple[str, ...]] = ("labels", "ranges")
    modules: ClassVar[tuple[str, ...]] = ("models.pool", "models.statistics")
    is_cached: ClassVar[bool] = False

    depth = 1

    @cached_property
    def stated(self) -> EnsembleSettings:
        """Its settings."""
        return EnsembleSettings.from_json(self.settings, "architecture")

    def check_settings(self) -> None:
        """Raise ValueError where the settings name no members with weights."""
        self.stated.check()

    @cached_property
    def members(self) -> tuple[Checkpoint, ...]:
        """The members, read from its folder.

        Raises
        ------
        CheckpointError
            When one is missing, or is not the one that the ensemble was made of.
        """
        from ..checkpoint import read_checkpoint

        if self.depth > DEEPEST:
            raise CheckpointError(
                f"checkpoint '{self.checkpoint.name}': its ensembles of ensembles are more than {DEEPEST} levels deep."
            )
        found = []
        for each in self.stated.members:
            member = read_checkpoint(self.folder / MEMBERS / each.name)
            if member.digest != each.digest:
                raise CheckpointError(
                    f"checkpoint '{self.checkpoint.name}': its member {member.folder} is another checkpoint than the one it "
                    f"was made of (digest {member.digest[:12]}, expected {each.digest[:12]}). Copy the whole folder again."
                )
            if isinstance(member.model, EnsembleModel):
                member.model.depth = self.depth + 1
            found.append(member)
        self._check_facts(found)
        return tuple(found)

    def _check_facts(self, members: Sequence[Checkpoint]) -> None:
        """Refuse a description whose question or ranges are not those of its members."""
        derived = {"labels": members[0].values["labels"], **ranges_seen(members, self.stated.fitted_on)}
        for key, value in derived.items():
            if self.checkpoint.values.get(key) != value:
                raise CheckpointError(
                    f"checkpoint '{self.checkpoint.name}': {key} in its checkpoint.json do not follow from its members. It was "
                    "edited. Copy the whole folder again."
                )

    @property
    def has_foreign_base(self) -> bool:
        """Whether any of its members may have read text."""
        return any(each.text_read is not None for each in self.members)

    def combined(self, logits: Sequence[FloatArray]) -> FloatArray:
        """Return the pool (n, 3) of the members' logits, in their order."""
        return pooled(logits, [each.weight for each in self.stated.members])

    @property
    def warmup_bars(self) -> int:
        """The longest of its members."""
        return max(each.model.warmup_bars for each in self.members)

    def logits(
        self, bars: Bars, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `Model`; without the cache. `logits_of` scores each member through its own."""
        from ..logit_cache import logits_of

        return logits_of(self.checkpoint, bars, device=device, batch_chunks=batch_size, progress=progress, cache=False)

    def check_files(self) -> None:
        """Compare every member, and each of its files, with the recorded digests."""
        for each in self.members:
            each.model.check_files()

    def device_name(self, device: str) -> str:
        """Return the devices of its members."""
        return "+".join(sorted({each.model.device_name(device) for each in self.members}))

    def key(self, bars: Bars, *, device: str, batch_size: int | None) -> JsonObject:
        """See `CheckpointModel.key`; those of its members too."""
        members: list[JsonValue] = [each.model.key(bars, device=device, batch_size=batch_size) for each in self.members]
        return {**super().key(bars, device=device, batch_size=batch_size), "members": members}

    @classmethod
    def check_members(cls, members: Sequence[Checkpoint]) -> None:
        """See `CombiningModel.check_members`."""
        check_members(members)

    @classmethod
    def combine(
        cls, members: Sequence[Checkpoint], folder: Path, *, weights: Sequence[float], fitted_on: str | None = None
    ) -> ModelParts:
        """See `CombiningModel.combine`; every member is copied, so that the folder needs nothing else."""
        for each in members:
            copy_checkpoint(each, folder / MEMBERS / each.name)
        stated = tuple(
            Member(name=each.name, digest=each.digest, weight=weight) for each, weight in zip(members, weights, strict=True)
        )
        settings = EnsembleSettings(members=stated, fitted_on=fitted_on)
        settings.check()
        return ModelParts(
            settings=settings.to_json(),
            parameters=sum(each.described.parameters.all for each in members),
            trained=sum(each.described.parameters.trainable for each in members),
            more={
                "schema": None,
                "labels": members[0].values["labels"],
                **ranges_seen(members, fitted_on),
                **class_facts(members, weights),
                "data": data_of(members),
                **text_read(members),
            },
            note=_note(settings),
        )


def _note(settings: EnsembleSettings) -> str:
    shown = ", ".join(f"{each.name} {each.weight:.4g}" for each in settings.members)
    fitted = "" if settings.fitted_on is None else f", fitted on {settings.fitted_on}"
    return (
        "Its log-probabilities are the weighted mean of its members' log-probabilities before any calibration, renormalised "
        f"(log-linear pool, Genest and Zidek 1986). Weights: {shown}{fitted}."
    )
