"""NetworkModel: a torch network that reads rows of features, with LoRA matrices through peft; `llama` and `original`.

This module is light: torch, transformers and peft are imported when the weights are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...arrays import Float32Array, FloatArray, JsonObject, Progress
from ...data.bars import Bars
from ...errors import CheckpointError
from ..checkpoint_model import RowModel
from ..device import hardware_of, pick_device
from ..fingerprint import FINGERPRINT
from .architecture import AnyArchitecture, read_architecture

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint
    from ..model import LenientNetwork

BASE, ADAPTER = "base.safetensors", "adapter.safetensors"
WEIGHT_FILES = (BASE, ADAPTER, FINGERPRINT)
LARGEST_SIZE = 1_000_000  # a wider layer would fill the memory before any tensor is compared
LONGEST_CHUNK = 65_536  # even a few bars are scored in a whole chunk
LARGEST_RANK = 4_096


class NetworkModel(RowModel):
    """A network with a frozen base and an adapter.

    Its files are ``base.safetensors`` (a language model is referred to, not copied), ``adapter.safetensors`` (LoRA matrices and
    the fine-tuned head, under PEFT's names) and ``fingerprint.safetensors`` (rows with their logits, compared whenever the
    weights are loaded).
    """

    files: ClassVar[tuple[str, ...]] = WEIGHT_FILES
    libraries: ClassVar[tuple[str, ...]] = ("torch", "numpy", "transformers", "peft")
    modules: ClassVar[tuple[str, ...]] = (
        "models.fingerprint",
        *(
            f"models.kinds.{name}"
            for name in (
                "scoring",
                "architecture",
                "llama_attention",
                "fast_dropout",
                "network",
                "language_model",
                "llama",
                "original",
            )
        ),
    )

    @cached_property
    def architecture(self) -> AnyArchitecture:
        """The network's parameters."""
        return read_architecture(self.settings)

    @property
    def context_bars(self) -> int:
        """The receptive field: earlier rows that a logit depends on."""
        return self.architecture.receptive_bars

    @property
    def has_foreign_base(self) -> bool:
        """Whether its layers are a language model's: all that another network has read are bars."""
        return self.checkpoint.described.base.has_read_text

    def check_settings(self) -> None:
        """Raise ValueError or TypeError where the architecture cannot be built."""
        a, lora = self.architecture, self.checkpoint.described.lora
        sizes = [value for value in asdict(a).values() if isinstance(value, int) and not isinstance(value, bool)]
        if min(sizes) < 1:
            raise ValueError("its architecture has a length below 1.")
        if a.receptive_bars >= a.chunk_bars:
            raise ValueError(f"a logit depends on {a.receptive_bars:,} earlier bars, and its sequences have {a.chunk_bars:,}.")
        if lora is None and ADAPTER in self.checkpoint.described.files:
            raise ValueError("it has no LoRA settings.")
        if (
            max(sizes) > LARGEST_SIZE
            or a.chunk_bars > LONGEST_CHUNK
            or (lora is not None and not 1 <= lora.rank <= LARGEST_RANK)
        ):
            raise ValueError("its architecture is larger than any network.")

    def logits(
        self, bars: Bars, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """Score all bars in chunks that start at fixed times of the clock; see `scoring`."""
        from .network import load_network  # transformers and peft take seconds to import
        from .scoring import ScoringOptions, score

        where = pick_device(device)
        rows = self.rows(bars)
        return score(
            load_network(self.checkpoint).to(where),
            rows,
            bars,
            architecture=self.architecture,
            warmup_bars=self.schema.warmup_bars,
            options=ScoringOptions(device=where, batch_chunks=batch_size, progress=progress),
        )

    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `ReadsRows`; on the CPU."""
        from .network import load_network
        from .scoring import logits_in_chunks

        del device, batch_size, progress
        a = self.architecture
        return logits_in_chunks(
            load_network(self.checkpoint),
            np.asarray(rows, dtype=np.float64),
            receptive_bars=a.receptive_bars,
            chunk_bars=a.chunk_bars,
        )

    @property
    def chunk_bars(self) -> int:
        """See `ScoresSingly`."""
        return self.architecture.chunk_bars

    def logits_bar_by_bar(self, bars: Bars, *, first: int) -> FloatArray:
        """See `ScoresSingly`; on the CPU."""
        from .network import load_network
        from .scoring import ScoringOptions, score

        return score(
            load_network(self.checkpoint),
            self.rows(bars),
            bars,
            architecture=self.architecture,
            warmup_bars=self.schema.warmup_bars,
            first=first,
            options=ScoringOptions(bar_by_bar=True),
        )

    def load_leniently(self) -> LenientNetwork:
        """See `HasAdapter`."""
        from .lenient_network import load_leniently

        return load_leniently(self.checkpoint)

    def key(self, bars: Bars, *, device: str, batch_size: int | None) -> JsonObject:
        """See `CheckpointModel.key`; the hardware and the number of threads too: a sum in another order can differ."""
        import torch

        where = pick_device(device)
        return {
            **super().key(bars, device=device, batch_size=batch_size),
            "lora": "merged",
            "dtype": "bfloat16" if where.type == "cuda" else "float32",
            "device": [where.type, hardware_of(where), torch.get_num_threads()],
        }

    def device_name(self, device: str) -> str:
        """Return the device that scores."""
        return str(pick_device(device))

    @property
    def export_formats(self) -> Mapping[str, bool]:
        """See `CheckpointModel`; one without an adapter can only be merged."""
        return {"merged": False} if self.checkpoint.described.lora is None else {"peft": True, "merged": False}

    def export(self, format_: str, output: Path) -> None:
        """See `CheckpointModel.export`: an adapter as PEFT reads it, or the whole network with LoRA merged in."""
        from .network_export import export_adapter, export_merged

        (export_adapter if self.export_formats[format_] else export_merged)(self.checkpoint, output)

    @classmethod
    def restore(cls, path: Path, folder: Path, description: JsonObject, base: str | None) -> JsonObject:
        """See `CheckpointModel.restore`; an adapter needs its base."""
        from .network_export import restore_network

        return restore_network(path, folder, description, base)


def network_of(checkpoint: Checkpoint) -> NetworkModel:
    """Return a checkpoint's model where it is a network with an adapter.

    Raises
    ------
    CheckpointError
        For a checkpoint of another kind.
    """
    model = checkpoint.model
    if isinstance(model, NetworkModel):
        return model
    raise CheckpointError(
        f"checkpoint '{checkpoint.name}' is of the kind '{checkpoint.kind}', and this needs a network with LoRA, such as "
        "flagbt train makes from a preset."
    )
