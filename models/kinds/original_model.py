"""The kind ``original``: a transformer of the original architecture, imported from a file that ``torch.save`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..checkpoint_model import ModelParts
from ..import_checks import given_file
from .network_model import NetworkModel

if TYPE_CHECKING:
    from ..importing import OwnerDeclaration

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")


class OriginalModel(NetworkModel):
    """A post-norm transformer with learned positions; see `original.OriginalTransformer`."""

    reads_options: ClassVar[tuple[str, ...]] = ("context", "heads", "causal")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a path is a file that ``torch.save`` may have written."""
        return path.is_file() and path.suffix.lower() in SUFFIXES

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """See `CheckpointModel.import_from`; heads, context and mask must be stated."""
        from .original_import import import_original

        return import_original(given_file(path, "the file that torch.save wrote"), folder, declaration)
