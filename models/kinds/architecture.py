"""Describe a network by its parameters, without building it: reading a checkpoint's description needs no torch.

There are two kinds. ``llama`` is this project's own (``kinds/llama.py``); ``original`` is the architecture of imported
checkpoints (``kinds/original.py``). Both have the same interface: how many earlier bars a logit depends on
(``receptive_bars``), how long the sequences are (``chunk_bars``), which layers LoRA adapts (``lora_targets``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import Any, ClassVar, NotRequired, TypedDict, get_type_hints

from ...arrays import JsonObject
from ...storage.json_records import OMIT_NONE, JsonRecord, read_value

N_CLASSES = 3
LANGUAGE_MODEL_FIELDS = ("key_value_heads", "rope_theta", "rms_norm_eps")
KNOWN_HEADS = (1, 2, 3, 4, 6, 8, 9, 12, 16, 24, 32)
KNOWN_CONTEXTS = (8, 16, 24, 32, 48, 64, 128)
FINGERPRINT_ROWS = 256
FEWEST_WINDOWS = 8
WINDOW_ROWS = 2_048  # rows in the windows of one sequence: large enough for fast matrices, small enough for memory


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Parameters of this project's own network; stored in the checkpoint and never guessed.

    Parameters
    ----------
    n_features : int
        Columns of a feature row.
    layers, d_model, heads, d_feedforward : int
        Sizes of the Llama backbone.
    context_bars : int
        How many bars a position sees in one layer, itself included.
    chunk_bars : int
        Length of the sequences for scoring and training. It is part of the checkpoint, so that neither the scored range
        nor the free memory changes a logit.
    dropout : float
        Dropout on the embedded rows and in the attention during training.
    key_value_heads : int, optional
        Heads of keys and values, shared among the ``heads`` of the queries; by default as many as ``heads``.
    rope_theta : float
        Base of the wavelengths of the rotary positions.
    rms_norm_eps : float
        Number added under the root of each normalisation.
    """

    n_features: int
    layers: int
    d_model: int
    heads: int
    d_feedforward: int
    context_bars: int
    chunk_bars: int
    dropout: float = 0.1
    key_value_heads: int | None = None
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    kind: ClassVar[str] = "llama"
    context_is: ClassVar[str] = " per layer"
    lora_targets: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    fingerprint_rows: ClassVar[int] = FINGERPRINT_ROWS

    def __post_init__(self) -> None:
        shared = self.heads if self.key_value_heads is None else self.key_value_heads
        if min(self.heads, shared) < 1 or self.heads % shared or self.d_model % (2 * self.heads):
            raise ValueError(f"{self.heads} heads, {shared} of them with keys, of width {self.d_model} make no network")
        if not (0 <= self.dropout < 1 and 0 < self.rope_theta < inf and 0 < self.rms_norm_eps < inf):
            raise ValueError("its dropout, rope_theta or rms_norm_eps makes no network")

    @property
    def receptive_bars(self) -> int:
        """Number of earlier positions that a logit depends on: layers x (context - 1)."""
        return self.layers * (self.context_bars - 1)

    def to_json(self) -> JsonObject:
        """Return the parameters as JSON values; those of language models only where they differ from the defaults.

        So a checkpoint without them keeps the bytes it had before they existed.
        """
        plain = {name: Architecture.__dataclass_fields__[name].default for name in LANGUAGE_MODEL_FIELDS}
        values = {name: value for name, value in asdict(self).items() if name not in plain or value != plain[name]}
        return {"kind": self.kind, **values}

    def mistakable(self) -> Iterator[tuple[str, Architecture]]:
        """Yield other values of the parameters that no tensor shape reveals, each with the parameter's name."""
        for heads in KNOWN_HEADS:
            fits = self.d_model % heads == 0 and self.d_model // heads % 2 == 0 and heads % (self.key_value_heads or 1) == 0
            if fits and heads != self.heads:
                yield "heads", replace(self, heads=heads)
        for context_bars in KNOWN_CONTEXTS:
            if context_bars < self.chunk_bars and context_bars != self.context_bars:
                yield "context_bars", replace(self, context_bars=context_bars)


@dataclass(frozen=True, kw_only=True)
class OriginalArchitecture:
    """Parameters of an imported checkpoint's network; no tensor shape reveals heads, context and mask.

    Its positions are learned and absolute, so each bar is scored on its own window: the ``context_bars`` that end with it.

    Parameters
    ----------
    n_features : int
        Columns of a feature row.
    layers, d_model, heads, d_feedforward : int
    positions : int
        Number of learned positions; a window uses the first ``context_bars``.
    context_bars : int
        Bars of a window.
    causal : bool
        Whether a position of a window sees only those before it; otherwise each sees the whole window, up to its last bar.
    chunk_bars : int
        Length of the sequences for scoring and training, from which the windows are taken.
    dropout : float
        Dropout in the attention and the feed-forward layers during training.
    """

    n_features: int
    layers: int
    d_model: int
    heads: int
    d_feedforward: int
    positions: int
    context_bars: int
    causal: bool
    chunk_bars: int
    dropout: float = 0.1
    kind: ClassVar[str] = "original"
    context_is: ClassVar[str] = ""
    lora_targets: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")

    def __post_init__(self) -> None:
        fits = self.heads > 0 and self.d_model % self.heads == 0 and 0 <= self.dropout < 1
        if not fits or not 1 <= self.context_bars <= min(self.positions, self.chunk_bars):
            raise ValueError(
                f"{self.heads} heads of width {self.d_model}, or {self.context_bars} bars at {self.positions} positions in "
                f"sequences of {self.chunk_bars}, make no network"
            )

    @property
    def receptive_bars(self) -> int:
        """Number of earlier bars that a logit depends on: the rest of the window, however many layers there are."""
        return self.context_bars - 1

    @property
    def fingerprint_rows(self) -> int:
        """Number of windows compared at each load: fewer where they are long."""
        return min(FINGERPRINT_ROWS, max(FEWEST_WINDOWS, 2 * FINGERPRINT_ROWS // self.context_bars))

    def to_json(self) -> JsonObject:
        """Return the parameters as JSON values."""
        return {"kind": self.kind, **asdict(self)}

    def mistakable(self) -> Iterator[tuple[str, OriginalArchitecture]]:
        """Yield other values of the parameters that no tensor shape reveals, each with the parameter's name."""
        for heads in KNOWN_HEADS:
            if self.d_model % heads == 0 and heads != self.heads:
                yield "heads", replace(self, heads=heads)
        yield "causal", replace(self, causal=not self.causal)
        for context_bars in KNOWN_CONTEXTS:
            if context_bars <= min(self.positions, self.chunk_bars) and context_bars != self.context_bars:
                yield "context_bars", replace(self, context_bars=context_bars)


AnyArchitecture = Architecture | OriginalArchitecture
KINDS: dict[str, type[AnyArchitecture]] = {kind.kind: kind for kind in (Architecture, OriginalArchitecture)}


def read_architecture(values: object) -> AnyArchitecture:
    """Read what ``to_json`` wrote.

    Raises
    ------
    TypeError
        For another value than an object, or a field that is missing or unknown.
    ValueError
        For an unknown kind, or parameters that do not make a network.
    """
    if not isinstance(values, Mapping):
        raise TypeError("architecture is not an object")
    kind = values.get("kind")
    if kind not in KINDS:
        raise ValueError(f"its architecture is of the kind {kind!r}, expected {' or '.join(KINDS)}")
    hints = get_type_hints(KINDS[kind])
    fields: dict[str, Any] = {
        key: read_value(hints.get(key, object), value, key) for key, value in values.items() if key != "kind"
    }
    return KINDS[kind](**fields)


def original_chunk_bars(context_bars: int) -> int:
    """Return the sequence length for windows of ``context_bars``."""
    return context_bars - 1 + max(1, WINDOW_ROWS // context_bars)


@dataclass(frozen=True, kw_only=True)
class Lora(JsonRecord):
    """Parameters of the low-rank update, as in peft; ``top_layers`` is written only where it is set.

    Parameters
    ----------
    rank, alpha : int
        The update is ``alpha / rank * B @ A`` (Hu et al. 2021).
    dropout : float
        Dropout on the update's input during training.
    trained : tuple of str
        Modules trained in full and saved with the update.
    top_layers : int, optional
        Number of last layers to adapt; by default all.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.1
    trained: tuple[str, ...] = ("head",)
    top_layers: int | None = field(default=None, metadata=OMIT_NONE)


class PresetSizes(TypedDict):
    """The parameters of an architecture that a preset gives."""

    layers: int
    d_model: int
    heads: int
    d_feedforward: int
    context_bars: int
    chunk_bars: int
    dropout: NotRequired[float]


PRESETS: dict[str, PresetSizes] = {
    "tiny": {
        "layers": 4,
        "d_model": 128,
        "heads": 4,
        "d_feedforward": 256,
        "context_bars": 32,
        "chunk_bars": 512,
        "dropout": 0.3,
    },
    "small": {
        "layers": 6,
        "d_model": 256,
        "heads": 8,
        "d_feedforward": 704,
        "context_bars": 32,
        "chunk_bars": 768,
        "dropout": 0.3,
    },
    "88m": {"layers": 12, "d_model": 768, "heads": 12, "d_feedforward": 2048, "context_bars": 64, "chunk_bars": 2304},
}
