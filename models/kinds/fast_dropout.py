"""Dropout with a cheap mask on the CPU: four random numbers from one draw."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """``torch.nn.Dropout`` with a faster mask on the CPU, the same distribution and the same generator.

    torch draws the CPU's mask one number at a time on one thread. Here each 64-bit draw of the same generator gives the masks
    of four numbers. The probability is rounded to a multiple of 2**-16; the numbers that remain are scaled by the rounded
    probability, which keeps the mean.
    """

    def forward(self, tensor: Tensor) -> Tensor:
        """Return the tensor with a share ``p`` of its numbers set to 0 and the others scaled up; unchanged in evaluation."""
        dropped = round(self.p * _LEVELS)
        if not self.training or tensor.device.type != "cpu" or not 0 < dropped < _LEVELS:
            return functional.dropout(tensor, self.p, self.training)
        draws = torch.empty(-(-tensor.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        levels = draws.view(torch.int16)[: tensor.numel()].view(tensor.shape)
        # A product, because torch's masked_fill and where are not vectorised and cost as much as the draws saved here.
        return tensor * (levels >= dropped - _LEVELS // 2).to(tensor.dtype).mul_(_LEVELS / (_LEVELS - dropped))
