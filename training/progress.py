"""Progress: what a training reports while it runs, and the functions it reports to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..models.description import EpochScores


@dataclass(frozen=True)
class EpochProgress:
    """One finished epoch.

    Attributes
    ----------
    stage : str
        ``pretraining`` or ``training``; in a walk-forward after the fold's number, such as ``1/6 training``.
    epochs : int
        How many the stage has.
    epoch : int
        From 1.
    train_loss : float
    scores : EpochScores, optional
        Of a fine-tuning's epoch; a pre-training has none.
    """

    stage: str
    epochs: int
    epoch: int
    train_loss: float
    scores: EpochScores | None = None


@dataclass(frozen=True)
class StepProgress:
    """One finished step: ``done`` of ``steps`` in the epoch ``epoch``, which counts from 1."""

    stage: str
    epochs: int
    epoch: int
    done: int
    steps: int


@dataclass(frozen=True)
class Monitor:
    """What a training reports to, and how it reacts to a suspicious epoch.

    Parameters
    ----------
    notify : callable
        Called with a sentence for everything that the checkpoint will lack or that its owner should know.
    on_epoch, on_step : callable
        Called after every epoch and after every step.
    report_to : str, optional
        ``tensorboard``, ``wandb`` or ``trackio``; of the fine-tuning only.
    on_collapse : str
        ``warn`` or ``stop``: what to do when the guard finds a collapse, or a score too good to be true.
    """

    notify: Callable[[str], None] = lambda _note: None
    on_epoch: Callable[[EpochProgress], None] = lambda _progress: None
    on_step: Callable[[StepProgress], None] = lambda _progress: None
    report_to: str | None = None
    on_collapse: str = "warn"

    def of_fold(self, label: str) -> Monitor:
        """Return a monitor for one fold: ``label`` precedes every stage; notes and logs are left out."""
        return Monitor(
            on_epoch=lambda progress: self.on_epoch(replace(progress, stage=f"{label} {progress.stage}")),
            on_step=lambda progress: self.on_step(replace(progress, stage=f"{label} {progress.stage}")),
            on_collapse=self.on_collapse,
        )


SILENT = Monitor()
