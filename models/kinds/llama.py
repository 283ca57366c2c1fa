"""The network: a causal transformer over one position per bar, with a SELL/HOLD/BUY head.

The backbone is transformers' Llama, with bar features as input instead of word embeddings, so that this project's own small
bases and pre-trained language models share one network. Every position attends to itself and the ``context_bars - 1`` before
it, so a logit depends on ``receptive_bars`` positions and nothing older; positions are relative (rotary).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, LlamaConfig, LlamaModel

from .architecture import N_CLASSES, Architecture
from .fast_dropout import Dropout
from .llama_attention import band_attention, block_masks

BAND = "flagbt-band"
AttentionInterface.register(BAND, band_attention)


class BarTransformer(nn.Module):
    """Transformer from feature rows to a hidden state and three logits per bar.

    Notation: B sequences, L positions (bars), F features, D = d_model.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        a = architecture
        config = LlamaConfig(
            vocab_size=1,
            hidden_size=a.d_model,
            intermediate_size=a.d_feedforward,
            num_hidden_layers=a.layers,
            num_attention_heads=a.heads,
            num_key_value_heads=a.key_value_heads,
            attention_dropout=a.dropout,
            max_position_embeddings=a.chunk_bars,
            rms_norm_eps=a.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": a.rope_theta},
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
        )
        config._attn_implementation = BAND
        self.embed = nn.Linear(a.n_features, a.d_model)
        self.input_dropout = Dropout(a.dropout)
        self.backbone = LlamaModel(config)
        self.backbone.embed_tokens.requires_grad_(False)  # bars enter through `embed`: no gradient reaches it
        self.head = nn.Linear(a.d_model, N_CLASSES)

    def hidden(self, rows: Tensor, last: int | None = None) -> Tensor:
        """Return the hidden states (B, L, D) of feature rows (B, L, F), no NaN, or those of the ``last`` positions only.

        *Causality: position t sees <= t.* Each layer computes only the positions that the ``last`` ones depend on through the
        layers above it: on average half of a chunk's memory.
        """
        a, length = self.architecture, rows.shape[1]
        wanted = length if last is None else last
        hidden = self.input_dropout(self.embed(rows))
        turns = self.backbone.rotary_emb(hidden, torch.arange(length, device=rows.device)[None])
        for layers_left, layer in zip(range(a.layers, 0, -1), self.backbone.layers, strict=True):
            n = min(length, wanted + layers_left * (a.context_bars - 1))
            hidden = layer(
                hidden[:, -n:],
                attention_mask=block_masks(n, a.context_bars, rows.device),
                position_embeddings=tuple(turn[:, -n:] for turn in turns),
            )
        normed: Tensor = self.backbone.norm(hidden[:, -wanted:])
        return normed

    def forward(self, rows: Tensor, last: int | None = None) -> Tensor:
        """Return logits (B, L, 3) in the order SELL, HOLD, BUY, or those of the ``last`` positions only."""
        logits: Tensor = self.head(self.hidden(rows, last))
        return logits
