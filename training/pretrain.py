"""Pre-training: a base learns to predict the next bar, so that LoRA has something to adapt."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..arrays import Float32Array, FloatArray, Int64Array
from ..data.bars import Bars
from ..models.kinds.architecture import AnyArchitecture
from ..models.kinds.network import base_state, new_network
from ..storage.untrusted_files import load_json
from .progress import SILENT, EpochProgress, Monitor
from .samples import Samples
from .sequence_chunks import IGNORED, ChunkDataset
from .trainer import DivergedError, Schedule, Stage, fit

BINS = 16
QUANTITIES = ("return", "range", "volume")
VOLATILITY_BARS = 24
SCHEDULE = Schedule(epochs=3, learning_rate=2e-3)  # more epochs only memorise the training bars: docs/LOG.md


@dataclass(frozen=True, eq=False)
class Base:
    """A pre-trained base.

    Attributes
    ----------
    weights : dict of Tensor
        ``network.base_state``.
    losses : list of float
        Mean cross-entropy of each epoch, in nats; ln(16) = 2.773 without any knowledge.
    """

    weights: dict[str, Tensor]
    losses: list[float]


def next_bar_quantities(bars: Bars) -> FloatArray:
    """Return the next bar's return, range and volume relative to the last day's, shape (n_bars, 3); NaN where unknown.

    Row t contains bar t + 1's log return and log range in units of the last 24 bars' volatility, and its log volume relative
    to their mean. These are targets, not features: they look exactly one bar ahead.
    """
    n = len(bars)
    log_close = np.log(bars.close)
    change = np.diff(log_close, prepend=np.nan)
    result = np.full((n, 3), np.nan)
    if n <= VOLATILITY_BARS + 1:
        return result
    windows = np.lib.stride_tricks.sliding_window_view
    at = np.arange(VOLATILITY_BARS, n - 1)
    volatility = np.sqrt((windows(change, VOLATILITY_BARS)[at - VOLATILITY_BARS + 1] ** 2).mean(axis=1)) + 1e-5
    volume = windows(bars.volume, VOLATILITY_BARS)[at - VOLATILITY_BARS + 1].mean(axis=1)
    floor = 1e-3 * volume + 1e-12
    result[at, 0] = change[at + 1] / volatility
    result[at, 1] = np.log((np.log(bars.high[at + 1] / bars.low[at + 1]) + 1e-5) / volatility)
    result[at, 2] = np.log((bars.volume[at + 1] + floor) / (volume + floor))
    return result


class NextBar(nn.Module):
    """The network with a head for the next bar's three quantities."""

    def __init__(self, architecture: AnyArchitecture) -> None:
        super().__init__()
        self.network = new_network(architecture)
        self.network.head.requires_grad_(False)  # not part of a base; no gradient reaches it
        self.next_bar = nn.Linear(architecture.d_model, len(QUANTITIES) * BINS)

    def forward(self, rows: Tensor, last: int) -> Tensor:
        """Return logits (B, last, 3 x 16) of the ``last`` positions of rows (B, L, F)."""
        logits: Tensor = self.next_bar(self.network.hidden(rows, last))
        return logits


def pretrain(
    samples: Samples,
    rows: Float32Array,
    *,
    architecture: AnyArchitecture,
    first_row: int,
    schedule: Schedule,
    device: torch.device,
    folder: Path | None = None,
    monitor: Monitor = SILENT,
) -> Base:
    """Train a base by next-bar prediction on the training samples only.

    The next bar's three quantities are cut into 16 bins of equal frequency on the training samples; the loss is the mean
    cross-entropy.

    Parameters
    ----------
    samples : Samples
        The bar after each training sample must precede the validation, as it does for any label horizon.
    rows : array of float32, shape (n, F)
        ``samples.rows``.
    first_row : int
        The first finite row.
    folder : Path, optional
        Where every epoch is saved; the training continues from a complete save there.

    Raises
    ------
    DivergedError
        When an epoch's loss is not finite.
    """
    torch.manual_seed(schedule.seed)
    model = NextBar(architecture)
    dataset = ChunkDataset(
        rows,
        _binned_quantities(samples),
        chunk_bars=architecture.chunk_bars,
        receptive_bars=architecture.receptive_bars,
        first_row=first_row,
        multiple_of=schedule.batch_chunks,
    )
    losses: list[float] = []

    def record(epoch: int, value: float) -> None:
        if not np.isfinite(value):
            raise DivergedError(
                f"pre-training, epoch {epoch}: the loss is {value:g}: it diverged at a learning rate of "
                f"{schedule.learning_rate:g}, and nothing is written. Choose a smaller learning rate or a larger batch."
            )
        losses.append(value)
        monitor.on_epoch(EpochProgress(stage.name, schedule.epochs, epoch, value))

    def keep(folder: Path) -> None:
        (folder / "history.json").write_text(json.dumps(losses), encoding="utf-8")

    def restore(folder: Path) -> None:
        losses.extend(load_json(folder / "history.json", finite=False))

    stage = Stage("pretraining", _next_bar_loss, record, keep, restore)
    fit(stage, model, dataset, schedule, device=device, folder=folder, monitor=replace(monitor, report_to=None))
    return Base(base_state(model.network.cpu()), losses)


def _binned_quantities(samples: Samples) -> Int64Array:
    """Return the bins of the next bar's quantities, shape (n, 3); IGNORED where a bar is not a training sample."""
    quantities = samples.of_each(next_bar_quantities)
    bins = np.full(quantities.shape, IGNORED, dtype=np.int64)
    known = samples.training & np.isfinite(quantities).all(axis=1)
    for i in range(len(QUANTITIES)):
        edges = np.quantile(quantities[known, i], np.linspace(0, 1, BINS + 1)[1:-1])
        bins[known, i] = np.searchsorted(edges, quantities[known, i], side="right")
    return bins


def _next_bar_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    counted = batch["targets"][..., 0] != IGNORED
    logits = model(batch["rows"], counted.shape[1])[counted].float().reshape(-1, BINS)
    total = functional.cross_entropy(logits, batch["targets"][counted].flatten(), reduction="sum")
    return total, torch.tensor(float(len(logits)), device=total.device)
