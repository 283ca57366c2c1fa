"""The logits of a network, without the chunks of a run."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from flagbt.arrays import Float32Array, FloatArray


def network_logits(model: nn.Module, rows: Float32Array) -> FloatArray:
    """Return the logits (n, 3) of one short sequence of rows (n, F)."""
    with torch.no_grad():
        values: FloatArray = model(torch.from_numpy(np.ascontiguousarray(rows))[None])[0].double().numpy()
    return values
