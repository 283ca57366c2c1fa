"""Reference implementation of the original architecture, to compare imported checkpoints with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """A frozen linear layer plus an update x @ A @ B."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.lora = nn.Module()
        self.lora.lora_A = nn.Parameter(torch.randn(inputs, rank) * 0.05)
        self.lora.lora_B = nn.Parameter(torch.randn(rank, outputs) * 0.05)

    def forward(self, x: Tensor) -> Tensor:
        """Return base(x) + x @ A @ B: alpha / rank is 1."""
        return self.base(x) + x @ self.lora.lora_A @ self.lora.lora_B


class Attention(nn.Module):
    """Softmax of q k' / sqrt(head dimension), head by head."""

    def __init__(self, width: int, heads: int, rank: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (LoraLinear(width, width, rank) for _ in range(4))

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """Return the attended values (B, L, D)."""
        b, length, width = x.shape
        size = width // self.heads
        q, k, v = (
            p(x).reshape(b, length, self.heads, size).permute(0, 2, 1, 3) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(size)
        if causal:
            scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), float("-inf"))
        mixed = torch.softmax(scores, dim=-1) @ v
        return self.out_proj(mixed.permute(0, 2, 1, 3).reshape(b, length, width))


class Block(nn.Module):
    """Post-norm: norm1(x + attention(x)), then norm2(x + ffn(x))."""

    def __init__(self, width: int, heads: int, inner: int, rank: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, rank)
        self.ffn = nn.Sequential(
            LoraLinear(width, inner, rank), nn.GELU(), nn.Dropout(0.1), LoraLinear(inner, width, rank), nn.Dropout(0.1)
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """Return the block's output (B, L, D)."""
        x = self.norm1(x + self.attention(x, causal))
        return self.norm2(x + self.ffn(x))


class Original(nn.Module):
    """Transformer from rows (B, L, F) to logits (B, L, 3) at every position."""

    def __init__(
        self,
        heads: int = 12,
        causal: bool = True,
        *,
        features: int = 60,
        width: int = 768,
        layers: int = 12,
        inner: int = 3072,
        rank: int = 16,
        positions: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.causal = causal
        self.state_embedding = nn.Linear(features, width)
        self.pos_embedding = nn.Parameter(torch.randn(1, positions, width) * 0.3)
        self.transformer_blocks = nn.ModuleList(Block(width, heads, inner, rank) for _ in range(layers))
        self.output_norm = nn.LayerNorm(width)
        self.action_head = nn.Linear(width, 3)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):  # a new one is the identity: losing it would have no effect
                nn.init.normal_(module.weight, 1.0, 0.2)
                nn.init.normal_(module.bias, 0.0, 0.2)
        self.eval()

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits of one window, at every position."""
        x = self.state_embedding(rows) + self.pos_embedding[:, : rows.shape[1]]
        for block in self.transformer_blocks:
            x = block(x, self.causal)
        return self.action_head(self.output_norm(x))


SMALL = {"width": 96, "layers": 3, "inner": 160, "rank": 4}
