"""The loop: transformers' Trainer over chunks, with one loss function, one call after every epoch, and a way back.

Precision, schedules, several processes, logging integrations and the state to resume from are the Trainer's. What it
lacks is added here: a save is marked complete when it is (a killed save is never resumed from), the loss of several
processes is divided by their common sum of weights, and Ctrl-C saves before it stops.
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
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, distributed, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from ..errors import DeviceError, TrainingError, UsageError
from ..stopping import StopFlag, StopRequest, defer_stop, stop_if_requested
from ..storage.atomic_files import check_writable, discard_tree, sync_tree
from ..storage.untrusted_files import load_json
from .memory_allocator import freed_memory_kept
from .sequence_chunks import ChunkDataset

# (model, batch) -> the sum of weighted losses and the sum of weights
Loss = Callable[[nn.Module, dict[str, Tensor]], tuple[Tensor, Tensor]]
EpochEnd = Callable[[int, float], Mapping[str, float] | None]
StepEnd = Callable[[int, int, int], None]  # epoch from 1, steps done in it, steps an epoch
COMPLETE = "COMPLETE"
LOSSES = "losses.json"
SMALLEST_WEIGHT = 1e-9
_LOGGING_FOLDER = "TENSORBOARD_LOGGING_DIR"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a training runs.

    Parameters
    ----------
    epochs : int
    batch_chunks : int
        Sequences a step, over all processes.
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

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Workspace:
    """Where an unfinished training keeps what it needs to go on.

    Parameters
    ----------
    folder : Path, optional
        None keeps nothing.
    keep, restore : callable
        Write and read, into and from a save's folder, what the caller holds beside the model.
    """

    folder: Path | None = None
    keep: Callable[[Path], None] = lambda _folder: None
    restore: Callable[[Path], None] = lambda _folder: None

    def newest(self) -> Path | None:
        """Return the newest save that was finished, if any."""
        if self.folder is None or not self.folder.is_dir():
            return None
        saves = [path for path in self.folder.glob("checkpoint-*") if (path / COMPLETE).is_file()]
        return max(saves, key=lambda path: int(path.name.split("-")[1]), default=None)


class TrainingStoppedError(TrainingError):
    """Ctrl-C: what was learned is saved."""

    exit_code = 130


class DivergedError(TrainingError):
    """The loss is not finite any more, and there was no epoch before that could be kept."""


def check_reporter(name: str | None) -> None:
    """Refuse a logging integration whose package is not installed, or cannot write, before any work.

    Raises
    ------
    UsageError
        Saying what to install, or where to write.
    """
    if name is not None and name not in get_available_reporting_integrations():
        raise UsageError(f"--report-to {name}: the package {name} is not installed here. Install it with: pip install {name}")
    if name == "tensorboard":
        folder = Path(os.environ.get(_LOGGING_FOLDER, "tensorboard"))
        try:
            check_writable(folder)
        except OSError as error:
            raise UsageError(
                f"--report-to {name}: {folder} cannot be written: {error.strerror or error}. Work in another folder, or "
                f"name one in the environment variable {_LOGGING_FOLDER}."
            ) from None


def check_shared(schedule: Schedule) -> int:
    """Return the number of processes, after refusing a batch that they cannot share.

    Raises
    ------
    UsageError
        Saying both numbers.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if schedule.batch_chunks % processes:
        raise UsageError(f"--batch-size: {schedule.batch_chunks} sequences cannot be shared by {processes} processes.")
    return processes


@contextmanager
def reporting(name: str | None, title: str) -> Iterator[None]:
    """Let TensorBoard's files lie in ``tensorboard/TITLE``, not in the workspace, which goes when the training is done."""
    if name != "tensorboard" or _LOGGING_FOLDER in os.environ:
        yield
        return
    os.environ[_LOGGING_FOLDER] = os.path.join("tensorboard", title)
    try:
        yield
    finally:
        del os.environ[_LOGGING_FOLDER]


def is_main_process() -> bool:
    """Tell whether this process is the one that prints and writes (under torchrun or accelerate; else always)."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Return when every process of a distributed training has come here."""
    if _together():
        distributed.barrier()


def _together() -> bool:
    """Tell whether several processes train together."""
    return distributed.is_available() and bool(distributed.is_initialized())


class _ChunkTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    def __init__(self, loss: Loss, losses: list[Tensor], **options: Any) -> None:
        super().__init__(**options)
        self.loss_of, self.losses = loss, losses

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        total, weight = self.loss_of(model, inputs)
        weight = weight.detach().clone()
        processes = 1
        if _together():
            # DDP averages the processes' gradients: times their number, over the common weight, it is one sum again.
            distributed.all_reduce(weight)
            processes = distributed.get_world_size()
        loss = total * processes / weight.clamp(min=SMALLEST_WEIGHT)
        self.losses.append(loss.detach())
        return loss


@dataclass
class _Epochs(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Move the dataset's cuts before an epoch, report after it, mark saves complete, stop when asked."""

    dataset: ChunkDataset
    on_end: EpochEnd
    workspace: Workspace
    on_step: StepEnd
    log: Callable[[dict[str, float]], None] = lambda _scores: None
    losses: list[Tensor] = field(default_factory=list)
    asked: StopFlag = field(default_factory=StopFlag)
    saved: int = -1  # the step of the last save

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stop_alone()  # nothing is lost yet
        epoch, step = divmod(state.global_step, state.max_steps // int(state.num_train_epochs))
        if self.losses and step == 0:  # stopped after this epoch's last step, and before it was reported
            self._report(epoch)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.dataset.set_epoch(int(state.epoch + 1e-6))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        steps = state.max_steps // int(state.num_train_epochs)
        epoch, done = divmod(state.global_step - 1, steps)
        self.on_step(epoch + 1, done + 1, steps)
        if self.asked.stop:
            control.should_training_stop = True
            control.should_save = self.workspace.folder is not None

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if abs(state.epoch - round(state.epoch)) > 1e-6:
            return  # stopped in the middle
        try:
            self._report(round(state.epoch))
        except StopRequest:  # what is saved now is reported when it is gone on from
            control.should_training_stop = True
            control.should_save = self.workspace.folder is not None and self.saved != state.global_step

    def _report(self, epoch: int) -> None:
        """Report the epoch, whose losses are gone only when that is done."""
        self._stop_alone()
        mean = torch.stack(self.losses).mean()
        if _together():
            distributed.all_reduce(mean)
            mean /= distributed.get_world_size()
        scores = self.on_end(epoch, float(mean))
        self.losses.clear()
        if scores:
            self.log(dict(scores))

    def _stop_alone(self) -> None:
        """Stop here where asked to, unless other processes would then wait for this one."""
        if not _together():
            stop_if_requested()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        wait_for_all()
        if self.workspace.folder is None or not is_main_process():
            return
        self.saved = state.global_step
        save = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (save / LOSSES).write_text(json.dumps([float(loss) for loss in self.losses]), encoding="utf-8")
        self.workspace.keep(save)
        sync_tree(save)
        (save / COMPLETE).write_text("", encoding="utf-8")
        sync_tree(save)
        for other in save.parent.glob("checkpoint-*"):
            if other != save:
                discard_tree(other)


def fit(
    model: nn.Module,
    loss: Loss,
    dataset: ChunkDataset,
    schedule: Schedule,
    *,
    device: torch.device,
    on_epoch_end: EpochEnd,
    on_step: StepEnd = lambda _epoch, _done, _steps: None,
    workspace: Workspace | None = None,
    report_to: str | None = None,
) -> None:
    """Train ``model`` in place, from the newest finished save in the workspace, if there is one.

    Parameters
    ----------
    model : Module
        Its parameters with ``requires_grad`` are trained.
    loss : callable
        (model, batch of ``rows`` and ``targets``) -> (sum of weighted losses, sum of weights).
    on_epoch_end : callable
        Called with (epoch from 1, mean training loss); what it returns goes to ``report_to`` too. It may raise ``Stopped``
        before it has changed anything, and is then called again when the training goes on.
    on_step : callable
        Called with (epoch from 1, steps done in it, steps an epoch).
    workspace : Workspace, optional
        With a folder, every epoch is saved there.
    report_to : str, optional
        ``tensorboard``, ``wandb`` or ``trackio``, as the Trainer knows them.

    Raises
    ------
    TrainingStoppedError
        After Ctrl-C, when all is saved.
    DeviceError
        When memory runs out, with the batch size to try.
    """
    workspace = workspace or Workspace()
    epochs = _Epochs(dataset, on_epoch_end, workspace, on_step)
    processes = check_shared(schedule)
    logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch, _quiet(), _in_words(schedule, workspace):
        arguments = TrainingArguments(
            output_dir=str(workspace.folder or scratch),
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
            save_strategy="no" if workspace.folder is None else "epoch",
            eval_strategy="no",
            logging_strategy="epoch" if report_to else "no",
            report_to=[report_to] if report_to else [],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=device.type == "cuda",
            ddp_find_unused_parameters=False,
        )
        wait_for_all()  # the arguments have joined the processes; the main one has made the workspace before it came here
        newest = workspace.newest()
        if newest is not None:
            epochs.losses += [torch.tensor(value) for value in load_json(newest / LOSSES, finite=False)]
            workspace.restore(newest)
        trainer = _ChunkTrainer(loss, epochs.losses, model=model, args=arguments, train_dataset=dataset, callbacks=[epochs])
        trainer.remove_callback(PrinterCallback)
        if report_to:
            epochs.log = trainer.log
        with freed_memory_kept() if device.type == "cpu" else nullcontext(), defer_stop() as epochs.asked:
            trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    if epochs.asked.stop and workspace.folder is None:
        raise TrainingStoppedError("stopped; nothing was to be saved.")
    if epochs.asked.stop:
        raise TrainingStoppedError(
            "stopped; everything up to here is saved. Repeat the command with --resume to go on exactly from here."
        )


@contextmanager
def _in_words(schedule: Schedule, workspace: Workspace) -> Iterator[None]:
    """Turn a failed allocation, on the GPU or the CPU, or a save that could not be written, into what to do about it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _unsaved(workspace, getattr(error, "strerror", None) or str(error)) from None
    except (MemoryError, RuntimeError) as error:
        if "PytorchStreamWriter" in str(error) or "unexpected pos" in str(error):  # how torch says that a disk is full
            raise _unsaved(workspace, "the disk is full, or writing failed otherwise") from None
        on_cpu = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)  # torch has no class for it
        if not on_cpu and not isinstance(error, torch.OutOfMemoryError):
            raise
        size = schedule.batch_chunks
        remedy = "Choose a smaller --preset" if size == 1 else f"Repeat the command with --batch-size {size // 2}"
        raise DeviceError(
            f"training ran out of the {'machine' if on_cpu else 'GPU'}'s memory with --batch-size {size}. {remedy}, and with "
            "--overwrite: the saves of this training are kept, but only the same options, with --resume, can go on from them."
        ) from None


def _unsaved(workspace: Workspace, reason: str) -> TrainingError:
    return TrainingError(
        f"an epoch could not be saved in {workspace.folder}: {reason}. Every earlier save is kept there: make room or mend the "
        "permissions, and repeat the command with --resume."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        warnings.filterwarnings("ignore", message=".*Could not find a config file.*")
        yield
