"""The network of imported checkpoints: post-norm blocks over a window of bars with learned, absolute positions.

It was trained on windows, so it also scores windows: each bar's logits come from the last position of the window that ends
with it. Without a causal mask the positions of a window see one another, but no bar after the window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .architecture import N_CLASSES, OriginalArchitecture
from .fast_dropout import Dropout


class OriginalTransformer(nn.Module):
    """Transformer from feature rows to three logits per bar, each from a separate window.

    Notation: B sequences, L positions (bars), F features, W = context_bars, D = d_model.
    """

    def __init__(self, architecture: OriginalArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        a = architecture
        self.embed = nn.Linear(a.n_features, a.d_model)
        self.positions = nn.Parameter(torch.zeros(1, a.positions, a.d_model))
        self.layers = nn.ModuleList(_Block(a) for _ in range(a.layers))
        self.norm = nn.LayerNorm(a.d_model)
        self.head = nn.Linear(a.d_model, N_CLASSES)

    def read(self, windows: Tensor, last: int | None = None) -> Tensor:
        """Return the hidden states (B, L, D) of windows (B, L, F), no NaN, or those of the ``last`` positions only.

        TRAP: use only the last position: without a causal mask the earlier ones see the bars after them.
        """
        length = windows.shape[1]
        hidden = self.embed(windows) + self.positions[:, :length]
        for layer in self.layers[:-1]:
            hidden = layer(hidden, length)
        normed: Tensor = self.norm(self.layers[-1](hidden, length if last is None else last))
        return normed

    def hidden(self, rows: Tensor, last: int | None = None) -> Tensor:
        """Return the hidden states (B, L, D) of feature rows (B, L, F), no NaN, or those of the ``last`` positions only.

        Each is the last position of a separate window. The first ``context_bars - 1`` of a sequence are padded with rows of
        zeros and are meaningless. *Causality: position t sees <= t.*
        """
        sequences, length, features = rows.shape
        context, wanted = self.architecture.context_bars, length if last is None else last
        part = rows[:, -(wanted + context - 1) :]
        part = functional.pad(part, (0, 0, wanted + context - 1 - part.shape[1], 0))
        windows = part.unfold(1, context, 1).transpose(2, 3).reshape(-1, context, features)
        return self.read(windows, 1).reshape(sequences, wanted, -1)

    def forward(self, rows: Tensor, last: int | None = None) -> Tensor:
        """Return logits (B, L, 3) in the order SELL, HOLD, BUY, or those of the ``last`` positions only."""
        logits: Tensor = self.head(self.hidden(rows, last))
        return logits


class _Block(nn.Module):
    """Attention, then two linear layers, each added to its input and normalised after (Vaswani et al. 2017)."""

    def __init__(self, a: OriginalArchitecture) -> None:
        super().__init__()
        self.attention = _Attention(a)
        self.norm1 = nn.LayerNorm(a.d_model)
        self.up_proj = nn.Linear(a.d_model, a.d_feedforward)
        self.down_proj = nn.Linear(a.d_feedforward, a.d_model)
        self.norm2 = nn.LayerNorm(a.d_model)
        self.dropout = Dropout(a.dropout)

    def forward(self, hidden: Tensor, last: int) -> Tensor:
        """Return the hidden states of the ``last`` positions from hidden states (B, L, D)."""
        hidden = self.norm1(hidden[:, -last:] + self.attention(hidden, last))
        inner = self.dropout(functional.gelu(self.up_proj(hidden)))
        result: Tensor = self.norm2(hidden + self.dropout(self.down_proj(inner)))
        return result


class _Attention(nn.Module):
    def __init__(self, a: OriginalArchitecture) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = a.heads, a.causal, a.dropout
        self.q_proj = nn.Linear(a.d_model, a.d_model)
        self.k_proj = nn.Linear(a.d_model, a.d_model)
        self.v_proj = nn.Linear(a.d_model, a.d_model)
        self.o_proj = nn.Linear(a.d_model, a.d_model)

    def forward(self, hidden: Tensor, last: int) -> Tensor:
        length = hidden.shape[1]

        def split(tensor: Tensor) -> Tensor:
            return tensor.view(len(tensor), -1, self.heads, tensor.shape[-1] // self.heads).transpose(1, 2)

        mask = None
        if self.causal and last > 1:
            place = torch.arange(length, device=hidden.device)
            mask = place[None, :] <= place[-last:, None]
        output = functional.scaled_dot_product_attention(
            split(self.q_proj(hidden[:, -last:])),
            split(self.k_proj(hidden)),
            split(self.v_proj(hidden)),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        projected: Tensor = self.o_proj(output.transpose(1, 2).flatten(2))
        return projected
