"""The training loop: transformers' Trainer over chunks, with one loss function and one call after every epoch.

The Trainer provides precision, schedules, several processes, logging integrations and the state to resume from. This module
adds the rest: a complete save is marked as such, so a killed save is never resumed from; the loss of several processes is
divided by their common sum of weights; Ctrl-C saves before it stops.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, distributed, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from ..arrays import JsonObject
from ..errors import DeviceError, TrainingError, UsageError
from ..stopping import StopFlag, StopRequest, defer_stop, stop_if_requested
from ..storage.atomic_files import check_writable, discard_tree, sync_tree
from ..storage.untrusted_files import load_json
from .memory_allocator import keep_freed_memory
from .progress import SILENT, Monitor, StepProgress
from .sequence_chunks import ChunkDataset

# (model, batch) -> the sum of weighted losses and the sum of weights
Loss = Callable[[nn.Module, dict[str, Tensor]], tuple[Tensor, Tensor]]
COMPLETE = "COMPLETE"
LOSSES = "losses.json"
SMALLEST_WEIGHT = 1e-9
_TENSORBOARD_FOLDER = "TENSORBOARD_LOGGING_DIR"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a training runs.

    Parameters
    ----------
    epochs : int
    batch_chunks : int
        Sequences per step, over all processes.
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

    def __post_init__(self) -> None:
        for option, value, smallest in (
            ("--epochs", self.epochs, 1),
            ("--batch-size", self.batch_chunks, 1),
            ("--seed", self.seed, 0),
        ):
            if not value >= smallest:
                raise UsageError(f"{option}: expected {smallest} or more, got {value}.")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"--learning-rate: expected a finite number above 0, got {self.learning_rate}.")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"schedule: expected a finite weight_decay of 0 or more, got {self.weight_decay}.")

    def to_json(self) -> JsonObject:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Stage:
    """One stage of a training: what ``fit`` minimises, and what it calls.

    Parameters
    ----------
    name : str
        As in ``EpochProgress.stage``.
    loss : callable
        (model, batch of ``rows`` and ``targets``) -> (sum of weighted losses, sum of weights).
    on_epoch_end : callable
        Called with (epoch from 1, mean training loss); what it returns is logged too. It may raise ``StopRequest`` before it
        has changed anything; it is then called again when the training resumes.
    keep, restore : callable
        Write the caller's state to a save's folder, and read it from there.
    """

    name: str
    loss: Loss
    on_epoch_end: Callable[[int, float], Mapping[str, float] | None] = lambda _epoch, _loss: None
    keep: Callable[[Path], None] = lambda _folder: None
    restore: Callable[[Path], None] = lambda _folder: None


class TrainingStoppedError(TrainingError):
    """The training was stopped by Ctrl-C or SIGTERM."""

    exit_code = 130


class DivergedError(TrainingError):
    """The loss is not finite, and no earlier epoch can be kept."""


def check_reporter(name: str | None) -> None:
    """Check that a logging integration is installed and can write.

    Raises
    ------
    UsageError
        Otherwise, with what to install or where to write.
    """
    if name is not None and name not in get_available_reporting_integrations():
        raise UsageError(f"--report-to {name}: the package {name} is not installed here. Install it with: pip install {name}")
    if name == "tensorboard":
        folder = Path(os.environ.get(_TENSORBOARD_FOLDER, "tensorboard"))
        try:
            check_writable(folder)
        except OSError as error:
            raise UsageError(
                f"--report-to {name}: {folder} cannot be written: {error.strerror or error}. Work in another folder, or "
                f"name one in the environment variable {_TENSORBOARD_FOLDER}."
            ) from None


def check_batch_size(schedule: Schedule) -> int:
    """Check that the processes can share a batch, and return their number.

    Raises
    ------
    UsageError
        When the number of processes does not divide the batch size.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if schedule.batch_chunks % processes:
        raise UsageError(f"--batch-size: {schedule.batch_chunks} sequences cannot be shared by {processes} processes.")
    return processes


@contextmanager
def tensorboard_folder(name: str | None, title: str) -> Iterator[None]:
    """Write TensorBoard's files to ``tensorboard/TITLE``, not to the workspace, which is removed after the training."""
    if name != "tensorboard" or _TENSORBOARD_FOLDER in os.environ:
        yield
        return
    os.environ[_TENSORBOARD_FOLDER] = os.path.join("tensorboard", title)
    try:
        yield
    finally:
        del os.environ[_TENSORBOARD_FOLDER]


def is_main_process() -> bool:
    """Return whether this process prints and writes: always, except under torchrun or accelerate."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Wait until every process of a distributed training arrives here."""
    if _distributed():
        distributed.barrier()


def _distributed() -> bool:
    """Return whether several processes train together."""
    return distributed.is_available() and bool(distributed.is_initialized())


class _ChunkTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    def __init__(self, loss: Loss, losses: list[Tensor], **options: object) -> None:
        super().__init__(**options)
        self.loss_of, self.losses = loss, losses

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        total, weight = self.loss_of(model, inputs)
        weight = weight.detach().clone()
        processes = 1
        if _distributed():
            # DDP averages the gradients: times the number of processes, over the common weight, they are one sum again
            distributed.all_reduce(weight)
            processes = distributed.get_world_size()
        loss = total * processes / weight.clamp(min=SMALLEST_WEIGHT)
        self.losses.append(loss.detach())
        return loss


@dataclass
class _Callbacks(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Move the dataset's cuts before an epoch, report after it, mark saves complete, and stop on request."""

    stage: Stage
    dataset: ChunkDataset
    folder: Path | None
    monitor: Monitor
    log: Callable[[dict[str, float]], None] = lambda _scores: None
    losses: list[Tensor] = field(default_factory=list)
    request: StopFlag = field(default_factory=StopFlag)
    saved: int = -1  # the step of the last save

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self._stop_if_single()  # nothing is lost yet
        epoch, step = divmod(state.global_step, state.max_steps // int(state.num_train_epochs))
        if self.losses and step == 0:  # stopped after this epoch's last step, before its report
            self._report(epoch)

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self.dataset.set_epoch(int(state.epoch + 1e-6))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        steps = state.max_steps // int(state.num_train_epochs)
        epoch, done = divmod(state.global_step - 1, steps)
        self.monitor.on_step(StepProgress(self.stage.name, int(state.num_train_epochs), epoch + 1, done + 1, steps))
        if self.request.stop:
            control.should_training_stop = True
            control.should_save = self.folder is not None

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        if abs(state.epoch - round(state.epoch)) > 1e-6:
            return  # stopped in the middle
        try:
            self._report(round(state.epoch))
        except StopRequest:  # the epoch is saved now, and reported when the training resumes
            control.should_training_stop = True
            control.should_save = self.folder is not None and self.saved != state.global_step

    def _report(self, epoch: int) -> None:
        """Report the epoch; its losses are dropped only afterwards."""
        self._stop_if_single()
        mean = torch.stack(self.losses).mean()
        if _distributed():
            distributed.all_reduce(mean)
            mean /= distributed.get_world_size()
        scores = self.stage.on_epoch_end(epoch, float(mean))
        self.losses.clear()
        if scores:
            self.log(dict(scores))

    def _stop_if_single(self) -> None:
        """Stop here on request, unless other processes would then wait for this one."""
        if not _distributed():
            stop_if_requested()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        wait_for_all()
        if self.folder is None or not is_main_process():
            return
        self.saved = state.global_step
        save = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (save / LOSSES).write_text(json.dumps([float(loss) for loss in self.losses]), encoding="utf-8")
        self.stage.keep(save)
        sync_tree(save)
        (save / COMPLETE).write_text("", encoding="utf-8")
        sync_tree(save)
        for other in save.parent.glob("checkpoint-*"):
            if other != save:
                discard_tree(other)


def fit(
    stage: Stage,
    model: nn.Module,
    dataset: ChunkDataset,
    schedule: Schedule,
    *,
    device: torch.device,
    folder: Path | None = None,
    monitor: Monitor = SILENT,
) -> None:
    """Train ``model`` in place, from the newest complete save in ``folder``, if there is one.

    Parameters
    ----------
    model : Module
        Its parameters with ``requires_grad`` are trained.
    folder : Path, optional
        Where every epoch is saved.
    monitor : Monitor
        Its ``on_step`` and ``report_to`` are used here.

    Raises
    ------
    TrainingStoppedError
        After Ctrl-C or SIGTERM, when everything is saved.
    DeviceError
        When memory runs out, with the batch size to try.
    TrainingError
        When an epoch cannot be saved.
    """
    callbacks = _Callbacks(stage, dataset, folder, monitor)
    processes = check_batch_size(schedule)
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch, _quiet(), _explain_errors(schedule, folder):
        arguments = TrainingArguments(
            output_dir=str(folder or scratch),
            num_train_epochs=schedule.epochs,
            per_device_train_batch_size=schedule.batch_chunks // processes,
            learning_rate=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            max_grad_norm=1.0,
            seed=schedule.seed,
            data_seed=schedule.seed,
            use_cpu=device.type == "cpu",
            bf16=device.type == "cuda",
            save_strategy="no" if folder is None else "epoch",
            eval_strategy="no",
            logging_strategy="epoch" if monitor.report_to else "no",
            report_to=[monitor.report_to] if monitor.report_to else [],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=device.type == "cuda",
            ddp_find_unused_parameters=False,
        )
        wait_for_all()  # the arguments have joined the processes; the main one made the workspace before it arrived here
        newest = _newest_save(folder)
        if newest is not None:
            callbacks.losses += [torch.tensor(value) for value in load_json(newest / LOSSES, finite=False)]
            stage.restore(newest)
        trainer = _ChunkTrainer(
            stage.loss, callbacks.losses, model=model, args=arguments, train_dataset=dataset, callbacks=[callbacks]
        )
        trainer.remove_callback(PrinterCallback)
        if monitor.report_to:
            callbacks.log = trainer.log
        with keep_freed_memory() if device.type == "cpu" else nullcontext(), defer_stop() as callbacks.request:
            trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    if callbacks.request.stop and folder is None:
        raise TrainingStoppedError("stopped; nothing is saved by this training.")
    if callbacks.request.stop:
        raise TrainingStoppedError(
            "stopped; everything up to here is saved. Repeat the command with --resume to continue exactly from here."
        )


def _newest_save(folder: Path | None) -> Path | None:
    """Return the newest complete save, if any."""
    saves = [path for path in folder.glob("checkpoint-*") if (path / COMPLETE).is_file()] if folder is not None else []
    return max(saves, key=lambda path: int(path.name.split("-")[1]), default=None)


@contextmanager
def _explain_errors(schedule: Schedule, folder: Path | None) -> Iterator[None]:
    """Translate a failed allocation or a failed save into an error with a remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _save_error(folder, getattr(error, "strerror", None) or str(error)) from None
    except (MemoryError, RuntimeError) as error:
        if "PytorchStreamWriter" in str(error) or "unexpected pos" in str(error):  # torch's messages for a full disk
            raise _save_error(folder, "the disk is full, or writing failed otherwise") from None
        on_cpu = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)  # torch has no class for it
        if not on_cpu and not isinstance(error, torch.OutOfMemoryError):
            raise
        size = schedule.batch_chunks
        remedy = "Choose a smaller --preset" if size == 1 else f"Repeat the command with --batch-size {size // 2}"
        raise DeviceError(
            f"training ran out of the {'machine' if on_cpu else 'GPU'}'s memory with --batch-size {size}. {remedy}, and with "
            "--overwrite: the saves of this training are kept, but only the same options can continue them, with --resume."
        ) from None


def _save_error(folder: Path | None, reason: str) -> TrainingError:
    return TrainingError(
        f"an epoch could not be saved in {folder}: {reason}. Every earlier save is kept there: free some space or fix the "
        "permissions, and repeat the command with --resume."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        warnings.filterwarnings("ignore", message=".*Could not find a config file.*")
        yield
