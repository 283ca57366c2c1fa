"""Scoring: all bars' logits in batches, before any simulation starts.

The series is cut into chunks of ``chunk_bars`` positions. A chunk yields logits for its last ``chunk_bars -
receptive_bars`` positions; the earlier ones only give it memory. Where chunks begin is fixed by the clock, not by the
range asked for, so the same bar sits at the same place in the same chunk whatever is scored around it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..arrays import Float32Array, FloatArray, Progress
from ..data.bars import Bars
from ..errors import DeviceError
from .architecture import AnyArchitecture

CPU_BATCH_CHUNKS = 1
CUDA_BATCH_CHUNKS = 32


class Chunk(NamedTuple):
    """Outputs for the positions [start, end); the first one sits ``offset`` places after the chunk's memory."""

    start: int
    end: int
    offset: int


def chunks_of(stamps: npt.NDArray[np.int64], stride: int) -> list[Chunk]:
    """Cut positions into chunks, one for each multiple of ``stride`` on the clock.

    Parameters
    ----------
    stamps : array of int64, shape (n,)
        Each bar's number of steps since the epoch, increasing (gaps make jumps).

    Examples
    --------
    >>> chunks_of(np.array([2, 3, 4, 5, 8, 9]), 4)
    [Chunk(start=0, end=2, offset=2), Chunk(start=2, end=4, offset=0), Chunk(start=4, end=6, offset=0)]
    """
    edges = np.flatnonzero(np.diff(stamps // stride)) + 1
    bounds = [0, *edges.tolist(), len(stamps)]
    return [Chunk(start, end, int(stamps[start] % stride)) for start, end in pairwise(bounds) if end > start]


def score(
    model: nn.Module,
    rows: Float32Array,
    bars: Bars,
    *,
    architecture: AnyArchitecture,
    warmup_bars: int,
    device: torch.device | None = None,
    first: int = 0,
    stop: int | None = None,
    batch_chunks: int | None = None,
    bar_by_bar: bool = False,
    progress: Progress | None = None,
) -> FloatArray:
    """Return the logits of every bar in [first, stop). *Causality: row t uses bars <= t.*

    Parameters
    ----------
    model : Module
        ((B, L, F) rows, how many last positions) -> their logits; put in evaluation mode here, on ``device``.
    rows : array of float32, shape (n_bars, F)
        Scaled features of all bars; NaN in the first ``warmup_bars`` rows.
    bars : Bars
        The bars of the rows; only their stamps are used, to place the chunks.
    architecture : Architecture or OriginalArchitecture
        Gives the chunk length and the receptive field.
    warmup_bars : int
        Of the features. Logits start ``receptive_bars`` later: before, a model would see less than it was trained on.
    first, stop : int
        The positions whose logits are wanted; history before ``first`` is read for memory.
    batch_chunks : int, optional
        Chunks a forward pass; by default 1 on CPU and 32 on CUDA, halved where memory runs out.
    bar_by_bar : bool
        Re-read each bar's own window instead: slow, for verification.
    progress : callable, optional
        Called with (bars done, bars in all).

    Returns
    -------
    array of float64, shape (n_bars, 3)
        NaN outside [first, stop) and in the warm-up.
    """
    device = device or next(model.parameters()).device
    model.eval()
    receptive = architecture.receptive_bars
    first = max(first, warmup_bars + receptive)
    stop = len(rows) if stop is None else stop
    logits = np.full((len(rows), 3), np.nan)
    if first >= stop:
        return logits
    length = receptive + 1 if bar_by_bar else architecture.chunk_bars
    stamps = bars.time.astype("datetime64[ns]").astype(np.int64) // bars.step.astype(np.int64)
    chunks = [c for c in chunks_of(stamps, length - receptive) if c.end > first and c.start < stop]
    batch = batch_chunks or (CUDA_BATCH_CHUNKS if device.type == "cuda" else CPU_BATCH_CHUNKS)
    if bar_by_bar:
        batch = batch_chunks or 256
    done = 0
    while done < len(chunks):
        part = chunks[done : done + batch]
        try:
            outputs = _forward(model, rows, part, length, receptive, warmup_bars, device)
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise DeviceError(
                    f"the GPU has too little memory for one chunk of {length} bars of this checkpoint: use --device cpu."
                ) from None
            batch = max(1, batch // 2)
            continue
        for chunk, values in zip(part, outputs, strict=True):
            logits[chunk.start : chunk.end] = values
        done += len(part)
        if progress is not None:
            progress(chunks[done - 1].end - chunks[0].start, chunks[-1].end - chunks[0].start)
    logits[:first] = np.nan
    logits[stop:] = np.nan
    return logits


@torch.no_grad()
def _forward(
    model: nn.Module,
    rows: Float32Array,
    chunks: list[Chunk],
    length: int,
    receptive: int,
    warmup_bars: int,
    device: torch.device,
) -> list[Float32Array]:
    inputs = np.zeros((len(chunks), length, rows.shape[1]), dtype=np.float32)
    for i, (start, end, offset) in enumerate(chunks):
        begin = max(warmup_bars, start - receptive)
        if end > begin:
            place = receptive + offset - start  # of position 0, were it in the chunk
            from_ = max(begin, -place)
            inputs[i, place + from_ : place + end] = rows[from_:end]
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda"):
        outputs = model(torch.from_numpy(inputs).to(device), length - receptive).float().cpu().numpy()
    return [outputs[i, c.offset : c.offset + c.end - c.start] for i, c in enumerate(chunks)]
