"""Print what flagbt train has made: the same summary for every kind of model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.labels import CLASS_NAMES
from ..storage.untrusted_files import load_json
from .console import print_line
from .options import print_json

if TYPE_CHECKING:
    from ..arrays import JsonObject
    from ..models.checkpoint import Checkpoint
    from ..models.description import TrainedDescription


def print_network(checkpoint: Checkpoint, as_json: bool) -> None:
    """Print the summary of a network's training, with its epochs."""
    from ..models.description import EpochScores, TrainingDescription

    described = TrainingDescription.from_json(checkpoint.values)
    history = [EpochScores.from_json(each) for each in load_json(checkpoint.folder / "history.json")]
    best = next(epoch for epoch in history if epoch.epoch == described.best_epoch)
    if as_json:
        own: JsonObject = {
            "class_weights": list(described.objective.class_weights),
            "epochs": [epoch.to_json() for epoch in history],
            "best": best.to_json(),
        }
        _print_json(checkpoint, described, own)
    else:
        _print_lines(checkpoint, described, f"Best epoch {described.best_epoch}: validation NLL {best.nll:.4f}")


def print_fitted(checkpoint: Checkpoint, as_json: bool) -> None:
    """Print the summary of another model's fit."""
    from ..models.description import FittedDescription

    described = FittedDescription.from_json(checkpoint.values)
    if as_json:
        own: JsonObject = {
            "kind": checkpoint.kind,
            "parameters": described.parameters.to_json(),
            **described.metrics.to_json(),
            "findings": list(described.findings),
        }
        _print_json(checkpoint, described, own)
    else:
        _print_lines(checkpoint, described, f"{checkpoint.kind}: validation NLL {described.metrics.validation.nll:.4f}")


def _print_json(checkpoint: Checkpoint, described: TrainedDescription, own: JsonObject) -> None:
    data, samples, default = described.data, described.samples, described.calibrations.get("default")
    print_json(
        {
            "checkpoint": str(checkpoint.folder),
            "digest": checkpoint.digest,
            "data": {"source": data.source, "synthetic": data.synthetic, "digest": data.digest},
            "samples": {"train": samples.training, "validation": samples.validation},
            "labels": {label: described.labels_counted[label] for label in CLASS_NAMES},
            **own,
            "model_verdict": described.model_verdict.verdict,
            "calibration": None if default is None else default.to_json(),
            "notes": list(described.notes),
        }
    )


def _print_lines(checkpoint: Checkpoint, described: TrainedDescription, opening: str) -> None:
    fitted = described.metrics.validation_calibrated
    kept = fitted or described.metrics.validation
    print_line(
        f"{opening}, {'not calibrated' if fitted is None else f'calibrated {fitted.nll:.4f}'}; "
        f"always predicting the training shares gives {kept.nll_prior:.4f}."
        + ("" if kept.nll < kept.nll_prior else " So the model is no better than those shares: it learned nothing lasting.")
    )
    for note in described.notes:
        print_line(note, style="yellow")
    print_line(f"model verdict: {described.model_verdict.verdict}. {described.model_verdict.sentence}")
    print_line(f"checkpoint: {checkpoint.folder}  (test it on bars after {described.ranges['calibration'].split('-')[1]})")
    if fitted is None:
        print_line(f"It has no calibration: flagbt run --ckpt {checkpoint.option} --calibration none")
