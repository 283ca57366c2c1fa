"""The loop: transformers' Trainer over chunks, with one loss function and one call after every epoch."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from .chunks import ChunkDataset

Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]
EpochEnd = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a training runs.

    Parameters
    ----------
    epochs : int
    batch_chunks : int
        Sequences a step.
    learning_rate : float
        The peak: linear warm-up over 5 % of the steps, then a cosine to 0.
    weight_decay : float
    seed : int
        Of the shuffling, the dropout and the fresh weights.
    """

    epochs: int = 10
    batch_chunks: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


class _ChunkTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    loss_of: Loss

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        return self.loss_of(model, inputs)


class _Epochs(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Move the dataset's cuts before an epoch, report after it."""

    def __init__(self, dataset: ChunkDataset, on_end: EpochEnd) -> None:
        self.dataset, self.on_end = dataset, on_end
        self.losses: list[Tensor] = []

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.dataset.set_epoch(round(state.epoch))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        mean = float(torch.stack(self.losses).mean())
        self.losses.clear()
        self.on_end(round(state.epoch), mean)


def fit(
    model: nn.Module, loss: Loss, dataset: ChunkDataset, schedule: Schedule, *, device: torch.device, on_epoch_end: EpochEnd
) -> None:
    """Train ``model`` in place.

    Parameters
    ----------
    model : Module
        Its parameters with ``requires_grad`` are trained.
    loss : callable
        (model, batch of ``rows`` and ``targets``) -> scalar.
    on_epoch_end : callable
        Called with (epoch from 1, mean training loss).
    """
    epochs = _Epochs(dataset, on_epoch_end)

    def recorded(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        value = loss(network, batch)
        epochs.losses.append(value.detach())
        return value

    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        arguments = TrainingArguments(
            output_dir=scratch, num_train_epochs=schedule.epochs, per_device_train_batch_size=schedule.batch_chunks,
            learning_rate=schedule.learning_rate, weight_decay=schedule.weight_decay, lr_scheduler_type="cosine",
            warmup_steps=0.05, max_grad_norm=1.0, seed=schedule.seed, data_seed=schedule.seed,
            use_cpu=device.type == "cpu", bf16=device.type == "cuda", save_strategy="no", eval_strategy="no",
            logging_strategy="no", report_to=[], disable_tqdm=True, remove_unused_columns=False,
            dataloader_pin_memory=device.type == "cuda",
        )  # fmt: skip
        trainer = _ChunkTrainer(model=model, args=arguments, train_dataset=dataset, callbacks=[epochs])
        trainer.remove_callback(PrinterCallback)
        trainer.loss_of = recorded
        trainer.train()
