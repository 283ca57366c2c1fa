"""Attention over a band: every position sees itself and a few positions before it.

The sequence is cut into blocks no shorter than the band. The positions of a block attend to it and to the block before it.
That costs 2 x block products a position; a mask over the whole sequence costs as many as the sequence is long.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SHORTEST_BLOCK = 32  # shorter blocks give matrices too small for fast products


def block_masks(length: int, context_bars: int, device: torch.device) -> Tensor:
    """Return the mask of each block, bool (N, 1, b, 2 b): which positions of the previous and the same block are visible.

    Position i of the sequence sees j where 0 <= i - j < ``context_bars``; before the first block there is nothing. With a
    context of one bar there are no blocks: bool (L, 1, 1, 1).
    """
    if context_bars == 1:
        return torch.ones((length, 1, 1, 1), dtype=torch.bool, device=device)
    block = max(context_bars, SHORTEST_BLOCK)
    distance = torch.arange(block, device=device)[:, None] - torch.arange(-block, block, device=device)
    masks = ((distance >= 0) & (distance < context_bars)).repeat(-(-length // block), 1, 1, 1)
    masks = masks.view(-1, 1, block, 2 * block)
    masks[0, :, :, :block] = False
    return masks


def band_attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_others: object,
) -> tuple[Tensor, None]:
    """Attend within the band: an attention function as transformers calls it. *Causality: position t sees <= t.*

    Notation: B sequences, L positions, H heads, D numbers a head, N blocks of b positions.

    Parameters
    ----------
    query, key, value : Tensor, shape (B, H, L, D)
        Keys and values may have fewer heads, each shared by a group of query heads.
    attention_mask : Tensor
        The result of ``block_masks``.
    dropout : float
        Share of the attention's weights that are dropped.
    scaling : float
        Factor of the products of queries and keys.

    Returns
    -------
    (Tensor, None)
        Shape (B, L, H, D); weights are not returned.
    """
    if attention_mask.shape[3] == 1:
        return _on_itself(query, key, value, dropout)
    sequences, length = len(query), query.shape[2]
    blocks, block = len(attention_mask), attention_mask.shape[2]
    behind = blocks * block - length
    own = functional.pad(query.transpose(1, 2), (0, 0, 0, 0, 0, behind)).reshape(-1, block, *_heads(query))

    def with_previous_block(tensor: Tensor) -> Tensor:
        padded = functional.pad(tensor.transpose(1, 2), (0, 0, 0, 0, block, behind))
        cut = padded.reshape(sequences, blocks + 1, block, *_heads(tensor))
        pairs = torch.cat([cut[:, :-1], cut[:, 1:]], dim=2).reshape(-1, 2 * block, *_heads(tensor))
        groups = query.shape[1] // tensor.shape[1]
        return pairs.transpose(1, 2) if groups == 1 else pairs.transpose(1, 2).repeat_interleave(groups, dim=1)

    output = functional.scaled_dot_product_attention(
        own.transpose(1, 2),
        with_previous_block(key),
        with_previous_block(value),
        attn_mask=attention_mask.repeat(sequences, 1, 1, 1),
        dropout_p=dropout,
        scale=scaling,
    )
    return output.transpose(1, 2).reshape(sequences, -1, *_heads(query))[:, :length], None


def _on_itself(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> tuple[Tensor, None]:
    """Attend to the position itself only: its weight is 1, whatever the product is."""
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    weight = torch.softmax((query * key).sum(dim=-1)[..., None], dim=-1)  # keeps queries and keys in the graph
    return (functional.dropout(weight, dropout, training=dropout > 0) * value).transpose(1, 2), None


def _heads(tensor: Tensor) -> tuple[int, int]:
    """Return (H, D) of a tensor (B, H, L, D)."""
    return tensor.shape[1], tensor.shape[3]
