"""Pre-training: a base learns to foresee the next bar, so that LoRA has something to adapt."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..arrays import Float32Array, FloatArray
from ..data.bars import Bars
from ..models.architecture import AnyArchitecture
from ..models.network import base_state, new_network
from ..storage.untrusted_files import load_json
from .samples import Samples
from .sequence_chunks import IGNORED, ChunkDataset
from .trainer import DivergedError, Schedule, StepEnd, Workspace, fit

BINS = 16
QUANTITIES = ("return", "range", "volume")
VOLATILITY_BARS = 24
SCHEDULE = Schedule(epochs=3, learning_rate=2e-3)  # more epochs only learn the training bars by heart: docs/LOG.md


@dataclass(frozen=True, eq=False)
class Base:
    """A pre-trained base.

    Attributes
    ----------
    weights : dict of Tensor
        ``network.base_state``.
    losses : list of float
        Mean cross-entropy of each epoch, in nats; ln(16) = 2.773 is what knowing nothing gives.
    """

    weights: dict[str, Tensor]
    losses: list[float]


def next_bar_quantities(bars: Bars) -> FloatArray:
    """Return what the next bar did, shape (n_bars, 3): return, range and volume against the last day's; NaN where unknown.

    Row t holds bar t + 1's log return and log range in units of the last 24 bars' volatility, and its log volume against
    their mean. Targets, not features: they look one bar ahead, and no further.
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
        self.network.head.requires_grad_(False)  # not part of a base, and no gradient reaches it
        self.next_bar = nn.Linear(architecture.d_model, len(QUANTITIES) * BINS)

    def forward(self, rows: Tensor, last: int) -> Tensor:
        """Return logits (B, last, 3 x 16) of the ``last`` positions of rows (B, L, F)."""
        logits: Tensor = self.next_bar(self.network.hidden(rows, last))
        return logits


def pretrain(
    lessons: Samples,
    rows: Float32Array,
    *,
    architecture: AnyArchitecture,
    first_row: int,
    schedule: Schedule,
    device: torch.device,
    on_epoch_end: Callable[[int, float], None] = lambda _epoch, _loss: None,
    on_step: StepEnd = lambda _epoch, _done, _steps: None,
    folder: Path | None = None,
) -> Base:
    """Train a base by next-bar prediction on the training samples only.

    The three quantities of the next bar are cut into 16 bins of equal frequency on the training samples; the loss is
    the mean cross-entropy.

    Parameters
    ----------
    lessons : Lessons
        The bar after each training sample must lie before the validation starts, as it does for any label horizon.
    rows : array of float32, shape (n, F)
        ``lessons.rows``.
    first_row : int
        The first finite row.
    folder : Path, optional
        Where every epoch is saved; a finished save found there is gone on from.

    Raises
    ------
    DivergedError
        When an epoch's loss is not finite.
    """
    torch.manual_seed(schedule.seed)
    model = NextBar(architecture)
    quantities = lessons.of_each(next_bar_quantities)
    targets = np.full(quantities.shape, IGNORED, dtype=np.int64)
    known = lessons.training & np.isfinite(quantities).all(axis=1)
    for i in range(len(QUANTITIES)):
        edges = np.quantile(quantities[known, i], np.linspace(0, 1, BINS + 1)[1:-1])
        targets[known, i] = np.searchsorted(edges, quantities[known, i], side="right")
    dataset = ChunkDataset(
        rows,
        targets,
        chunk_bars=architecture.chunk_bars,
        receptive_bars=architecture.receptive_bars,
        first_row=first_row,
        multiple_of=schedule.batch_chunks,
    )

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        counted = batch["targets"][..., 0] != IGNORED
        logits = model(batch["rows"], counted.shape[1])[counted].float().reshape(-1, BINS)
        total = functional.cross_entropy(logits, batch["targets"][counted].flatten(), reduction="sum")
        return total, torch.tensor(float(len(logits)), device=total.device)

    losses: list[float] = []

    def record(epoch: int, value: float) -> None:
        if not np.isfinite(value):
            raise DivergedError(
                f"pre-training, epoch {epoch}: the loss is {value:g}: it diverged at a learning rate of "
                f"{schedule.learning_rate:g}, and nothing is written. Choose a smaller learning rate or a larger batch."
            )
        losses.append(value)
        on_epoch_end(epoch, value)

    def keep(folder: Path) -> None:
        (folder / "history.json").write_text(json.dumps(losses), encoding="utf-8")

    def restore(folder: Path) -> None:
        losses.extend(load_json(folder / "history.json", finite=False))

    fit(
        model,
        loss,
        dataset,
        schedule,
        device=device,
        on_epoch_end=record,
        on_step=on_step,
        workspace=Workspace(folder, keep, restore),
    )
    return Base(base_state(model.network.cpu()), losses)
