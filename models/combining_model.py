"""CombiningModel: the base of a kind of model that is made of other checkpoints, which lie whole in its folder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..arrays import FloatArray
from .checkpoint_model import CheckpointModel, ModelParts

if TYPE_CHECKING:
    from .checkpoint import Checkpoint


class CombiningModel(CheckpointModel):
    """A model whose logits follow from those of its members, bar by bar; `logits_of` scores each member through its cache."""

    @property
    @abstractmethod
    def members(self) -> tuple[Checkpoint, ...]:
        """The checkpoints in its folder whose logits it combines; raises CheckpointError where one is damaged."""

    @property
    def named_code(self) -> dict[str, list[str]]:
        """See `CheckpointModel.named_code`: that of all members."""
        named: dict[str, list[str]] = {}
        for member in self.members:
            for option, values in member.model.named_code.items():
                named[option] = list(dict.fromkeys((*named.get(option, ()), *values)))
        return named

    @abstractmethod
    def combined(self, logits: Sequence[FloatArray]) -> FloatArray:
        """Return its logits (n, 3) from those of its members, in their order. *Causality: row by row.*"""

    @classmethod
    @abstractmethod
    def check_members(cls, members: Sequence[Checkpoint]) -> None:
        """Refuse checkpoints that cannot be combined, before any work; raises UsageError or CheckpointError."""

    @classmethod
    @abstractmethod
    def combine(
        cls, members: Sequence[Checkpoint], folder: Path, *, weights: Sequence[float], fitted_on: str | None = None
    ) -> ModelParts:
        """Write a model that combines checkpoints, which `check_members` has accepted, into ``folder``.

        Parameters
        ----------
        weights : sequence of float
            One for each member.
        fitted_on : str, optional
            The time range whose labels chose the weights.
        """


def members_of(checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
    """Return the members of a checkpoint whose kind combines others; empty for any other kind."""
    model = checkpoint.model
    return model.members if isinstance(model, CombiningModel) else ()
