"""Fine-tuning: train LoRA on a base, evaluate every epoch on the validation, and keep the best."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import peft
import torch
from torch import Tensor, nn

from ..arrays import FloatArray, Int64Array
from ..data.labels import class_counts, class_shares
from ..errors import TrainingError
from ..models.description import EpochScores, best_of
from ..models.kinds.network import adapter_state, build_base, read_tensors, with_lora, write_tensors
from ..models.statistics import scores, softmax
from ..stopping import stop_if_requested
from ..storage.untrusted_files import load_json
from .collapse_guard import collapse_findings
from .objectives import Objective
from .preparation import TrainingSetup
from .pretrain import Base, pretrain
from .progress import SILENT, EpochProgress, Monitor
from .recipe import Recipe
from .sequence_chunks import IGNORED, ChunkDataset
from .trainer import DivergedError, Stage, fit


class CollapsedError(TrainingError):
    """The guard found a problem, and ``on_collapse`` is ``stop``."""


@dataclass(frozen=True, eq=False)
class FineTuneResult:
    """The best epoch's adapter, and every epoch's scores.

    Attributes
    ----------
    model : PeftModel
        On the CPU, in evaluation mode, with the best epoch's weights.
    history : list of EpochScores
    best : EpochScores
        The entry of ``history`` that ``best_of`` returns.
    class_weights : array, shape (3,)
    correction : array, shape (3,)
        ``Objective.correction``.
    diverged : str, optional
        A sentence where an epoch's loss or logits were not finite and ended the training.
    """

    model: peft.PeftModel
    history: list[EpochScores]
    best: EpochScores
    class_weights: FloatArray
    correction: FloatArray
    diverged: str | None = None


def learn(
    setup: TrainingSetup, recipe: Recipe, *, device: torch.device, folder: Path | None = None, monitor: Monitor = SILENT
) -> tuple[Base, FineTuneResult]:
    """Return the base, pre-trained here unless it exists, and the result of fine-tuning it.

    Every epoch is saved in ``folder``, if given.
    """
    base = setup.base_source.base(recipe.pretraining.seed) or pretrain(
        setup.samples,
        setup.rows,
        architecture=setup.base_source.architecture,
        first_row=setup.schema.warmup_bars,
        schedule=recipe.pretraining,
        device=device,
        folder=folder and folder / "pretraining",
        monitor=monitor,
    )
    return base, finetune(setup, recipe, base.weights, device=device, folder=folder and folder / "training", monitor=monitor)


def finetune(
    setup: TrainingSetup,
    recipe: Recipe,
    base: dict[str, Tensor],
    *,
    device: torch.device,
    folder: Path | None = None,
    monitor: Monitor = SILENT,
) -> FineTuneResult:
    """Train LoRA matrices and a head on ``base``, and keep the best epoch's.

    The best epoch has the lowest validation NLL of the corrected probabilities (``Objective.correction``), or the highest
    value of another score (``Recipe.best_by``); never the best accuracy.

    Parameters
    ----------
    base : dict of Tensor
        ``network.base_state`` of a pre-trained base.
    folder : Path, optional
        Where every epoch is saved; the training continues from a complete save there.
    monitor : Monitor
        With ``on_collapse`` ``stop``, a finding of the guard ends the training (see ``collapse_findings``).

    Raises
    ------
    CollapsedError
        When the guard has a finding and ``on_collapse`` is ``stop``.
    DivergedError
        When the first epoch's loss or logits are not finite. After a later epoch, the best earlier one is kept.
    """
    objective, schedule = recipe.objective, recipe.schedule
    counts = class_counts(setup.training_labels).astype(np.float64)
    prior, class_weights = class_shares(setup.training_labels), objective.class_weights(counts)
    torch.manual_seed(schedule.seed)
    network = build_base(setup.base_source.architecture, base, place="the base")
    if "head.bias" not in base:  # a trained head keeps its bias
        with torch.no_grad():
            network.head.bias.copy_(torch.from_numpy(objective.first_logits(counts)))
    model = with_lora(network, setup.base_source.lora(recipe.lora))
    evaluation = _Evaluation(model, setup, recipe, monitor, prior, objective.correction(counts))
    stage = Stage(
        "training", weighted_loss(objective, class_weights, prior), evaluation.on_epoch_end, evaluation.keep, evaluation.restore
    )
    diverged = None
    try:
        fit(stage, model, _dataset(setup, recipe), schedule, device=device, folder=folder, monitor=monitor)
    except _EndedError as ended:
        diverged = str(ended)
    peft.set_peft_model_state_dict(model, evaluation.best_weights)
    model.cpu().eval()
    best = best_of(evaluation.history, recipe.best_by)
    return FineTuneResult(model, evaluation.history, best, class_weights, evaluation.correction, diverged)


class _EndedError(Exception):
    """The training cannot continue after an epoch, but an earlier one is worth keeping."""


@dataclass(eq=False)
class _Evaluation:
    """Evaluate the model after every epoch, and keep the best epoch's weights."""

    model: peft.PeftModel
    setup: TrainingSetup
    recipe: Recipe
    monitor: Monitor
    prior: FloatArray
    correction: FloatArray
    history: list[EpochScores] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def on_epoch_end(self, epoch: int, train_loss: float) -> dict[str, float]:
        """Score the epoch, add it to the history, and return its scores for the log."""
        # Processes that train together must all return from here
        pause = stop_if_requested if int(os.environ.get("WORLD_SIZE", "1")) == 1 else lambda: None
        try:
            logits = self.setup.validation_logits(self.model, pause=pause)
        finally:
            self.model.train()
        if not (math.isfinite(train_loss) and np.isfinite(logits[self.setup.split.validation]).all()):
            raise self._divergence(epoch, train_loss)
        labels = self.setup.validation_labels
        corrected = scores(softmax(logits + self.correction), labels, self.prior)
        entry = EpochScores(
            epoch=epoch,
            train_loss=train_loss,
            nll_corrected=corrected.nll,
            findings=tuple(collapse_findings(corrected, self.prior)),
            **vars(scores(softmax(logits), labels, self.prior)),
        )
        self.history.append(entry)
        if best_of(self.history, self.recipe.best_by) is entry:
            self.best_weights.update(adapter_state(self.model))
        self.monitor.on_epoch(EpochProgress("training", self.recipe.schedule.epochs, epoch, train_loss, entry))
        if entry.findings and self.monitor.on_collapse == "stop":
            raise CollapsedError(
                f"epoch {epoch}: {' '.join(entry.findings)} The training was stopped because of --on-collapse stop; nothing "
                "was written. Use --on-collapse warn to continue in such a case."
            )
        return {f"eval_{name}": value for name, value in vars(entry).items() if isinstance(value, float)}

    def _divergence(self, epoch: int, train_loss: float) -> Exception:
        rate, past = self.recipe.schedule.learning_rate, self.history
        message = f"epoch {epoch}: the loss is {train_loss:g}: it diverged at a learning rate of {rate:g}"
        if not past:
            return DivergedError(
                f"{message}, and nothing is written. Choose a smaller --learning-rate or a larger --batch-size."
            )
        return _EndedError(
            f"{message}. The training ended there, and epoch {best_of(past, self.recipe.best_by).epoch} of the {len(past)} "
            "before is kept. Choose a smaller --learning-rate to train longer."
        )

    def keep(self, save: Path) -> None:
        """Write the history and the best weights to a save's folder."""
        (save / "history.json").write_text(json.dumps([epoch.to_json() for epoch in self.history]), encoding="utf-8")
        write_tensors(save / "best.safetensors", self.best_weights)

    def restore(self, save: Path) -> None:
        """Read them from there."""
        self.history.extend(map(EpochScores.from_json, load_json(save / "history.json", finite=False)))
        self.best_weights.update(read_tensors(save / "best.safetensors") if self.history else {})


def _dataset(setup: TrainingSetup, recipe: Recipe) -> ChunkDataset:
    labels, training, objective = setup.samples.labels, setup.samples.training, recipe.objective

    def draws(epoch: int) -> Int64Array:
        times = np.zeros(len(labels), dtype=np.int64)
        times[training] = objective.draws(labels[training], epoch, recipe.schedule.seed)
        return times

    return ChunkDataset(
        setup.rows,
        np.where(training, labels.astype(np.int64), IGNORED),
        chunk_bars=setup.base_source.architecture.chunk_bars,
        receptive_bars=setup.base_source.architecture.receptive_bars,
        first_row=setup.schema.warmup_bars,
        multiple_of=recipe.schedule.batch_chunks,
        draws=None if objective.sampler == "natural" else draws,
    )


def weighted_loss(
    objective: Objective, class_weights: FloatArray, prior: FloatArray
) -> Callable[[nn.Module, dict[str, Tensor]], tuple[Tensor, Tensor]]:
    """Return the loss of a fine-tuning for a ``Stage``; ``class_weights`` (3,), ``prior`` (3,) the labels' shares."""
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
