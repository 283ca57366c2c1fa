"""Fine-tuning: LoRA on a pre-trained base, judged after every epoch by what the model would say."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import peft
import torch
from torch import Tensor, nn

from ..arrays import BoolArray, Float32Array, FloatArray
from ..data.bars import Bars
from ..data.labels import class_counts, class_shares
from ..errors import TrainingError
from ..models.architecture import AnyArchitecture
from ..models.network import Lora, adapter_state, build_base, read_tensors, with_lora, write_tensors
from ..models.scoring import ScoringOptions, score
from ..models.statistics import scores, softmax
from ..stopping import stop_if_requested
from ..storage.untrusted_files import load_json
from . import collapse_guard as guard
from .objectives import Objective
from .samples import Samples
from .sequence_chunks import IGNORED, ChunkDataset
from .trainer import DivergedError, Schedule, StepEnd, Workspace, fit

BEST_BY = ("nll", "mcc", "macro_f1", "balanced_accuracy", "last")
EpochReport = Callable[[dict[str, Any]], None]


class CollapsedError(TrainingError):
    """The guard found something, and was asked to stop the training."""


@dataclass(frozen=True, eq=False)
class FineTuneResult:
    """The best epoch's adapter, and every epoch's scores.

    Attributes
    ----------
    model : PeftModel
        On the CPU, in evaluation mode, with the best epoch's weights.
    history : list of dict
        ``epoch``, ``train_loss``, the scores of ``statistics.scores`` on the validation samples before calibration,
        ``nll_corrected`` and the guard's ``findings``, which are about the corrected probabilities.
    best : dict
        The entry of ``history`` that ``best_of`` chooses.
    class_weights : array, shape (3,)
    correction : array, shape (3,)
        ``Objective.correction``: what the objective is known to have taken off the logits.
    diverged : str, optional
        A sentence where an epoch's loss or logits were not finite: the training ended there.
    """

    model: peft.PeftModel
    history: list[dict[str, Any]]
    best: dict[str, Any]
    class_weights: FloatArray
    correction: FloatArray
    diverged: str | None = None


class _EndedError(Exception):
    """An epoch after which going on is pointless, while an earlier one is worth keeping."""


def finetune(
    bars: Bars,
    lessons: Samples,
    rows: Float32Array,
    judged: BoolArray,
    base: dict[str, Tensor],
    *,
    architecture: AnyArchitecture,
    lora: Lora,
    objective: Objective,
    schedule: Schedule,
    first_row: int,
    device: torch.device,
    on_epoch_end: EpochReport = lambda _entry: None,
    on_step: StepEnd = lambda _epoch, _done, _steps: None,
    folder: Path | None = None,
    report_to: str | None = None,
    best_by: str = "nll",
    on_collapse: str = "warn",
) -> FineTuneResult:
    """Train LoRA matrices and a head on ``base``, and keep the best epoch's.

    The best epoch has the lowest validation NLL of the corrected probabilities (``Objective.correction``), or the highest
    of another score; never the best accuracy.

    Parameters
    ----------
    bars : Bars
        The series that is judged: the first of the lessons.
    lessons : Lessons
        Only its training samples teach.
    rows : array of float32, shape (n, F)
        ``lessons.rows``.
    judged : array of bool, shape (n_bars,)
        The validation samples.
    base : dict of Tensor
        ``network.base_state`` of a pre-trained base.
    first_row : int
        The first finite row.
    on_epoch_end : callable
        Called with each new entry of the history.
    folder : Path, optional
        Where every epoch is saved; a finished save found there is gone on from.
    report_to : str, optional
        A logging integration of the Trainer's.
    best_by : str
        ``nll``, ``mcc``, ``macro_f1`` or ``balanced_accuracy``; or ``last``: a number of epochs that was chosen before.
    on_collapse : str
        ``warn``, or ``stop``: end the training where the guard finds something (see ``guard.findings``).

    Raises
    ------
    CollapsedError
        Where the guard finds something and ``on_collapse`` is ``stop``.
    DivergedError
        Where the first epoch's loss or logits are not finite. After a later one, the best epoch before it is kept.
    """
    labels, training = lessons.labels, lessons.training
    own_rows, own_labels = rows[: len(bars)], np.where(judged, labels[: len(bars)], np.int8(-1))
    counts = class_counts(labels[training]).astype(np.float64)
    prior = class_shares(labels[training])
    class_weights, correction = objective.class_weights(counts), objective.correction(counts)
    torch.manual_seed(schedule.seed)
    network = build_base(architecture, base, place="the base")
    if "head.bias" not in base:  # a head that has learnt something goes on from there
        with torch.no_grad():
            network.head.bias.copy_(torch.from_numpy(objective.first_logits(counts)))
    model = with_lora(network, lora)
    targets = np.where(training, labels.astype(np.int64), IGNORED)

    def draws(epoch: int) -> npt.NDArray[np.int64]:
        times = np.zeros(len(labels), dtype=np.int64)
        times[training] = objective.draws(labels[training], epoch, schedule.seed)
        return times

    dataset = ChunkDataset(
        rows,
        targets,
        chunk_bars=architecture.chunk_bars,
        receptive_bars=architecture.receptive_bars,
        first_row=first_row,
        multiple_of=schedule.batch_chunks,
        draws=None if objective.sampler == "natural" else draws,
    )
    loss = weighted_loss(objective, class_weights, prior)
    history: list[dict[str, Any]] = []
    kept: dict[str, Tensor] = {}
    # Processes that train together must all come back from here.
    pause = stop_if_requested if int(os.environ.get("WORLD_SIZE", "1")) == 1 else lambda: None

    def judge(epoch: int, train_loss: float) -> dict[str, float]:
        try:
            logits = validation_logits(model, bars, own_rows, judged, architecture, first_row, pause=pause)
        finally:
            model.train()
        if not (math.isfinite(train_loss) and np.isfinite(logits[judged]).all()):
            says = f"epoch {epoch}: the loss is {train_loss:g}: it diverged at a learning rate of {schedule.learning_rate:g}"
            if history:
                raise _EndedError(
                    f"{says}. The training ended there, and epoch {best_of(history, best_by)['epoch']} of the "
                    f"{len(history)} before is kept. A smaller --learning-rate would let it go on."
                )
            raise DivergedError(f"{says}, and nothing is written. Choose a smaller --learning-rate or a larger --batch-size.")
        entry = {"epoch": epoch, "train_loss": train_loss, **scores(softmax(logits), own_labels, prior)}
        corrected = scores(softmax(logits + correction), own_labels, prior)
        entry["nll_corrected"] = corrected["nll"]
        entry["findings"] = guard.collapse_findings(corrected, prior)
        history.append(entry)
        if best_of(history, best_by) is entry:
            kept.update(adapter_state(model))
        on_epoch_end(entry)
        if entry["findings"] and on_collapse == "stop":
            raise CollapsedError(
                f"epoch {epoch}: {' '.join(entry['findings'])} The training was stopped, as --on-collapse stop asks; "
                "nothing was written. --on-collapse warn goes on all the same."
            )
        return {f"eval_{name}": value for name, value in entry.items() if isinstance(value, float)}

    def keep(save: Path) -> None:
        (save / "history.json").write_text(json.dumps(history), encoding="utf-8")
        write_tensors(save / "best.safetensors", kept)

    def restore(save: Path) -> None:
        history.extend(load_json(save / "history.json", finite=False))
        kept.update(read_tensors(save / "best.safetensors") if history else {})

    diverged = None
    try:
        fit(
            model,
            loss,
            dataset,
            schedule,
            device=device,
            on_epoch_end=judge,
            on_step=on_step,
            workspace=Workspace(folder, keep, restore),
            report_to=report_to,
        )
    except _EndedError as ended:
        diverged = str(ended)
    peft.set_peft_model_state_dict(model, kept)
    model.cpu().eval()
    return FineTuneResult(model, history, best_of(history, best_by), class_weights, correction, diverged)


def best_of(history: list[dict[str, Any]], best_by: str) -> dict[str, Any]:
    """Return the best epoch's entry, the earliest where several are equally good; ``last`` chooses nothing."""
    if best_by == "last":
        return history[-1]
    if best_by == "nll":
        return min(history, key=lambda entry: float(entry["nll_corrected"]))
    return max(history, key=lambda entry: float(entry[best_by]))


def validation_logits(
    model: nn.Module,
    bars: Bars,
    rows: Float32Array,
    sample: npt.NDArray[np.bool_],
    architecture: AnyArchitecture,
    first_row: int,
    *,
    pause: Callable[[], None] = lambda: None,
) -> FloatArray:
    """Return logits (n_bars, 3) at least where ``sample``, through the path that serving takes; ``pause`` is called in it."""
    at = np.flatnonzero(sample)
    return score(
        model,
        rows,
        bars,
        architecture=architecture,
        warmup_bars=first_row,
        first=int(at[0]),
        stop=int(at[-1]) + 1,
        options=ScoringOptions(progress=lambda _done, _total: pause()),
    )


def weighted_loss(
    objective: Objective, class_weights: FloatArray, prior: FloatArray
) -> Callable[[nn.Module, dict[str, Tensor]], tuple[Tensor, Tensor]]:
    """Return the loss of a fine-tuning, as ``fit`` calls it; ``class_weights`` (3,), ``prior`` (3,) the labels' shares."""
    weights = torch.tensor(class_weights, dtype=torch.float32)
    shares = torch.tensor(prior, dtype=torch.float32)

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        counted = batch["targets"] != IGNORED
        logits, labels = model(batch["rows"], counted.shape[1])[counted].float(), batch["targets"][counted]
        weight = weights.to(logits.device)[labels]
        if "times" in batch:
            weight = weight * batch["times"][counted]
        return (weight * objective.losses(logits, labels, shares.to(logits.device))).sum(), weight.sum()

    return loss
