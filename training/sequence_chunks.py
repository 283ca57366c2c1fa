"""Training sequences, cut from the series on the fly: every position after the warm-up is a labelled sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ..arrays import Float32Array

IGNORED = -100
Draws = Callable[[int], npt.NDArray[np.int64]]


class ChunkDataset(Dataset[dict[str, torch.Tensor]]):
    """Sequences of ``chunk_bars`` rows, and the targets of their last ``chunk_bars - receptive_bars`` positions.

    Parameters
    ----------
    rows : array of float32, shape (n, F)
        Feature rows; NaN rows (warm-up) never enter a counted position's receptive field.
    targets : array of int64, shape (n,) or (n, K)
        IGNORED (-100) where a bar is not a sample.
    chunk_bars, receptive_bars : int
        Of the architecture.
    first_row : int
        The first finite row: nothing before it is read.
    multiple_of : int
        Empty sequences fill the number of sequences up to a multiple of this. Otherwise several processes would fill a smaller
        last batch with repeated sequences.
    draws : callable, optional
        epoch -> how often each bar counts, int64 (n,); by default once.

    Each epoch cuts at another offset (``set_epoch``), so that a bar is not always at the same position.
    """

    def __init__(
        self,
        rows: Float32Array,
        targets: npt.NDArray[np.int64],
        *,
        chunk_bars: int,
        receptive_bars: int,
        first_row: int,
        draws: Draws | None = None,
        multiple_of: int = 1,
    ) -> None:
        self.rows, self.targets, self.draws, self.multiple_of = rows, targets, draws, multiple_of
        self.length, self.memory, self.first_row = chunk_bars, receptive_bars, first_row
        sample = targets != IGNORED
        wanted = np.flatnonzero(sample if sample.ndim == 1 else sample.any(axis=1))
        self.first, self.stop = int(wanted[0]), int(wanted[-1]) + 1
        self.stride = chunk_bars - receptive_bars
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose where this epoch's chunks begin: a golden-ratio walk over the stride, the same in every run."""
        self.counted = None if self.draws is None else self.draws(epoch)
        shift = int(self.stride * ((epoch * 0.6180339887) % 1.0))
        count = -(-(self.stop - self.first) // self.stride) + 1  # the same for every shift, so all epochs have the same length
        count = -(-count // self.multiple_of) * self.multiple_of
        self.starts = [self.first - shift + self.stride * i for i in range(count)]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        start = self.starts[index]
        begin, end = max(self.first_row, start - self.memory), min(start + self.stride, self.stop)
        place = self.memory - start  # of row 0 relative to the chunk
        rows = np.zeros((self.length, self.rows.shape[1]), dtype=np.float32)
        if end > begin:
            rows[place + begin : place + end] = self.rows[begin:end]
        shape: tuple[int, ...] = (self.stride, *self.targets.shape[1:])
        targets = np.full(shape, IGNORED, dtype=np.int64)
        counted = max(start, self.first)
        if end > counted:
            targets[counted - start : end - start] = self.targets[counted:end]
        item = {"rows": torch.from_numpy(rows), "targets": torch.from_numpy(targets)}
        if self.counted is not None:
            times = np.zeros(self.stride, dtype=np.float32)
            if end > counted:
                times[counted - start : end - start] = self.counted[counted:end]
            item["times"] = torch.from_numpy(times)
        return item
