"""Scoring: all bars' logits in batches, before any simulation starts.

The series is cut into chunks of ``chunk_bars`` positions. A chunk yields logits for its last ``chunk_bars -
receptive_bars`` positions; the earlier ones only give it memory. Chunks start at fixed times of the clock, whatever range is
scored. So a bar always has the same position in the same chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...arrays import Float32Array, FloatArray, Progress
from ...data.bars import Bars
from ...errors import DeviceError
from .architecture import AnyArchitecture

CPU_BATCH_CHUNKS = 1
CUDA_BATCH_CHUNKS = 32
BAR_BY_BAR_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """Where and how fast to score; the logits stay equal within rounding.

    Parameters
    ----------
    device : torch.device, optional
        By default the model's own.
    batch_chunks : int, optional
        Chunks a forward pass; by default 1 on CPU and 32 on CUDA, halved where memory runs out.
    bar_by_bar : bool
        Read each bar's own window instead: slow, for verification.
    progress : callable, optional
        Called with (bars done, bars in all).
    """

    device: torch.device | None = None
    batch_chunks: int | None = None
    bar_by_bar: bool = False
    progress: Progress | None = None


class Chunk(NamedTuple):
    """Outputs for the positions [start, end); the first one is ``offset`` places after the chunk's memory."""

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
    first: int = 0,
    stop: int | None = None,
    options: ScoringOptions | None = None,
) -> FloatArray:
    """Return the logits of every bar in [first, stop). *Causality: row t uses bars <= t.*

    Parameters
    ----------
    model : Module
        Maps ((B, L, F) rows, number of last positions) to their logits. It must be on the device of ``options``; it is put in
        evaluation mode.
    rows : array of float32, shape (n_bars, F)
        Scaled features of all bars; NaN in the first ``warmup_bars`` rows.
    bars : Bars
        The bars of the rows. Only their timestamps are used, to place the chunks.
    architecture : Architecture or OriginalArchitecture
        Gives the chunk length and the receptive field.
    warmup_bars : int
        Warm-up of the features. Logits start ``receptive_bars`` later: before, a model would see less than it was trained on.
    first, stop : int
        The positions to score; history before ``first`` is read for memory.
    options : ScoringOptions, optional
        Device, batch size, progress.

    Returns
    -------
    array of float64, shape (n_bars, 3)
        NaN outside [first, stop) and in the warm-up.
    """
    options = options or ScoringOptions()
    device = options.device or next(model.parameters()).device
    model.eval()
    receptive = architecture.receptive_bars
    first = max(first, warmup_bars + receptive)
    stop = len(rows) if stop is None else stop
    logits = np.full((len(rows), 3), np.nan)
    if first >= stop:
        return logits
    length = receptive + 1 if options.bar_by_bar else architecture.chunk_bars
    stamps = bars.time.astype("datetime64[ns]").astype(np.int64) // bars.step.astype(np.int64)
    chunks = [c for c in chunks_of(stamps, length - receptive) if c.end > first and c.start < stop]
    usual = CUDA_BATCH_CHUNKS if device.type == "cuda" else CPU_BATCH_CHUNKS
    batch = options.batch_chunks or (BAR_BY_BAR_BATCH if options.bar_by_bar else usual)
    done = 0
    while done < len(chunks):
        part = chunks[done : done + batch]
        try:
            outputs = _forward(model, rows, part, length, receptive, warmup_bars, device)
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise DeviceError(
                    f"the GPU has too little memory for one chunk of {length} bars of this checkpoint. Use --device cpu."
                ) from None
            batch = max(1, batch // 2)
            continue
        for chunk, values in zip(part, outputs, strict=True):
            logits[chunk.start : chunk.end] = values
        done += len(part)
        if options.progress is not None:
            options.progress(chunks[done - 1].end - chunks[0].start, chunks[-1].end - chunks[0].start)
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
            place = receptive + offset - start  # where position 0 would be in the chunk
            from_ = max(begin, -place)
            inputs[i, place + from_ : place + end] = rows[from_:end]
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda"):
        outputs = model(torch.from_numpy(inputs).to(device), length - receptive).float().cpu().numpy()
    return [outputs[i, c.offset : c.offset + c.end - c.start] for i, c in enumerate(chunks)]


@torch.no_grad()
def logits_in_chunks(network: nn.Module, rows: FloatArray, *, receptive_bars: int, chunk_bars: int) -> FloatArray:
    """Return logits (n, 3) of consecutive rows (n, F); NaN in the first ``receptive_bars``. Row t uses rows <= t."""
    result = np.full((len(rows), 3), np.nan)
    inputs = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
    stride = max(1, chunk_bars - receptive_bars)
    for start in range(receptive_bars, len(rows), stride):
        stop, begin = min(start + stride, len(rows)), start - receptive_bars
        result[start:stop] = network(inputs[None, begin:stop], stop - start)[0].double().numpy()
    return result
