"""The network: a causal transformer over one position per bar, with a SELL/HOLD/BUY head.

The backbone is transformers' Llama, fed with bar features instead of word embeddings, so that this project's own small
bases and a pre-trained language model are one kind of thing. Every position attends to itself and the ``context_bars - 1``
before it, so a logit depends on ``receptive_bars`` positions and nothing older; positions are relative (rotary).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, LlamaConfig, LlamaModel

from .band import band_attention, block_masks
from .dropout import Dropout

N_CLASSES = 3
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LANGUAGE_MODEL_KNOBS = ("key_value_heads", "rope_theta", "rms_norm_eps")
BAND = "flagbt-band"
AttentionInterface.register(BAND, band_attention)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Every knob of the network; stored in the checkpoint and never guessed.

    Parameters
    ----------
    n_features : int
        Columns of a feature row.
    layers, d_model, heads, d_feedforward : int
        Of the Llama backbone.
    context_bars : int
        How many bars, itself included, a position sees in one layer.
    chunk_bars : int
        Length of the sequences that scoring and training cut: part of the checkpoint, so that neither the range asked
        for nor the free memory moves a logit.
    dropout : float
        On the embedded rows and in the attention, while training.
    key_value_heads : int, optional
        Heads that keys and values have, shared among the ``heads`` of the queries; without it as many as those.
    rope_theta : float
        Base of the rotary positions' wavelengths.
    rms_norm_eps : float
        Added under the root of each normalisation.
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

    @property
    def receptive_bars(self) -> int:
        """How many earlier positions a logit depends on: layers x (context - 1)."""
        return self.layers * (self.context_bars - 1)

    def to_json(self) -> dict[str, Any]:
        """Return the knobs as JSON values; those of language models only where they differ from the defaults.

        So a checkpoint without them says, byte for byte, what it said before they existed.
        """
        plain = {name: Architecture.__dataclass_fields__[name].default for name in LANGUAGE_MODEL_KNOBS}
        knobs = {name: value for name, value in asdict(self).items() if name not in plain or value != plain[name]}
        return {"kind": "llama", **knobs}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Architecture:
        """Read what ``to_json`` wrote; a field that is missing or unknown is a TypeError."""
        return cls(**{key: value for key, value in values.items() if key != "kind"})


PRESETS: dict[str, dict[str, Any]] = {
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


class BarTransformer(nn.Module):
    """Rows of features in, one vector of hidden state and three logits a bar out.

    Notation: B sequences, L positions (bars), F features, D = d_model.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        a = architecture
        config = LlamaConfig(
            vocab_size=1, hidden_size=a.d_model, intermediate_size=a.d_feedforward, num_hidden_layers=a.layers,
            num_attention_heads=a.heads, num_key_value_heads=a.key_value_heads, attention_dropout=a.dropout,
            max_position_embeddings=a.chunk_bars, rms_norm_eps=a.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": a.rope_theta},
            pad_token_id=None, bos_token_id=None, eos_token_id=None, use_cache=False,
        )  # fmt: skip
        config._attn_implementation = BAND
        self.embed = nn.Linear(a.n_features, a.d_model)
        self.input_dropout = Dropout(a.dropout)
        self.backbone = LlamaModel(config)
        self.backbone.embed_tokens.requires_grad_(False)  # bars come in through `embed`: no gradient reaches it
        self.head = nn.Linear(a.d_model, N_CLASSES)

    def hidden(self, rows: Tensor, last: int | None = None) -> Tensor:
        """Return the hidden states (B, L, D) of feature rows (B, L, F), no NaN, or those of the ``last`` positions only.

        *Causality: position t sees <= t.* No layer computes more positions than the ``last`` ones look back at through the
        layers above it: of a chunk's memory, on the average, half.
        """
        a, length = self.architecture, rows.shape[1]
        wanted = length if last is None else last
        hidden = self.input_dropout(self.embed(rows))
        turns = self.backbone.rotary_emb(hidden, torch.arange(length, device=rows.device)[None])
        for layers_left, layer in zip(range(a.layers, 0, -1), self.backbone.layers, strict=True):
            n = min(length, wanted + layers_left * (a.context_bars - 1))
            hidden = layer(
                hidden[:, -n:], attention_mask=block_masks(n, a.context_bars, rows.device),
                position_embeddings=tuple(turn[:, -n:] for turn in turns),
            )  # fmt: skip
        normed: Tensor = self.backbone.norm(hidden[:, -wanted:])
        return normed

    def forward(self, rows: Tensor, last: int | None = None) -> Tensor:
        """Return logits (B, L, 3) in the order SELL, HOLD, BUY, or those of the ``last`` positions only."""
        logits: Tensor = self.head(self.hidden(rows, last))
        return logits
