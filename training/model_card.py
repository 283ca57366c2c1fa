"""The card and the picture of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.labels import CLASS_NAMES, labels_from_json
from ..data.reading import reading_text
from ..models.description import (
    TEXT,
    BarsDescription,
    BaseOrigin,
    EpochScores,
    FittedDescription,
    TrainedDescription,
    TrainingDescription,
)
from ..models.kinds.architecture import read_architecture

SELL_COLOUR, HOLD_COLOUR, BUY_COLOUR = "#D55E00", "#666666", "#0072B2"


def card(name: str, described: TrainingDescription) -> str:
    """Return the README of a network's checkpoint, from its description alone."""
    d, a, objective = described, described.architecture, described.objective
    origin, default = BaseOrigin.from_json(d.base), d.calibrations.get("default")
    opening = f"""A {d.parameters.all:,}-parameter transformer ({a["layers"]} layers, width {a["d_model"]}, {a["heads"]} heads,
{a["context_bars"]} bars of context{read_architecture(a).context_is}), {_origin(origin, d.text_until)}, then fine-tuned with LoRA of rank
{d.lora["rank"]} ({d.parameters.trainable:,} trained parameters). It answers one question per bar:"""
    how = f"""- Objective: {objective.loss}, class weights {objective.weights} ({", ".join(f"{w:.2f}" for w in objective.class_weights)})
- Epoch kept: {d.best_epoch} of {d.schedule["epochs"]}, {_chosen(d.best_by)}; seed {d.schedule["seed"]}"""
    chosen = (
        f"the epoch{'' if default is None else ' and the calibration'} {'was' if default is None else 'were'} chosen on them"
    )
    return _card(name, d, opening, f"{_seen(origin, d.ranges)}: {d.ranges['training']}", how, chosen)


def fitted_card(name: str, described: FittedDescription, note: str) -> str:
    """Return the README of a checkpoint of another kind; ``note`` is its kind's sentence."""
    d, default = described, described.calibrations.get("default")
    opening = f"""A model of the kind `{d.architecture["kind"]}`, {d.parameters.all:,} parameters, fitted here. {note}
It answers one question per bar:"""
    chosen = "nothing was chosen on them" if default is None else "the calibration was chosen on them"
    return _card(name, d, opening, f"Training: {d.ranges['training']}", f"- Seed: {d.seed}", chosen)


def _card(name: str, described: TrainedDescription, opening: str, seen: str, how: str, chosen: str) -> str:
    d, samples = described, described.samples
    raw, fitted, default = d.metrics.validation, d.metrics.validation_calibrated, d.calibrations.get("default")
    calibrated = "none" if default is None else f"{default.calibration['method']}, decision {default.decision['method']}"
    shares = ", ".join(f"{c} {100 * s:.1f} %" for c, s in zip(CLASS_NAMES, d.label_shares, strict=True))
    rows = "\n".join(
        f"| {label} | {getattr(raw, key):.4f} | {'–' if fitted is None else format(getattr(fitted, key), '.4f')} |"
        for label, key in (
            ("negative log-likelihood (nats)", "nll"),
            ("... of always predicting the training shares", "nll_prior"),
            ("accuracy of argmax", "accuracy"),
            ("... of always predicting the most frequent class", "majority_share"),
            ("Matthews correlation of argmax(p / training share)", "mcc_prior"),
            ("expected calibration error, 15 bins", "ece"),
        )
    )
    return f"""# {name}

{opening}
{labels_from_json(d.labels).question}

- Data: {_described(d.data)}{_more(d.more_data or ())}
- {seen} ({samples.training:,} samples); validation and calibration:
  {d.ranges["validation"]} ({samples.validation:,} samples). flagbt refuses to test it on any of these.
- Training labels: {shares}
{how}
- Calibration `default`: {calibrated}
{"".join(f"- {note}{chr(10)}" for note in d.notes)}
| on the validation range | as trained | calibrated |
| --- | --- | --- |
{rows}

On the validation range, before calibration: {d.model_verdict.sentence}
These are validation figures: {chosen}. Run it on later bars to test it.
"""


def _origin(base: BaseOrigin, text_until: str | None) -> str:
    digest = (base.digest or "")[:16]
    if base.was is not None:
        return f"starting from the checkpoint {base.name} (`{digest}`), its LoRA merged in"
    if base.corpus != TEXT:
        return "pre-trained here by next-bar prediction"
    name = (base.source or {}).get("name")
    return (
        f"the first {base.layers} of {base.all_layers} layers of the language model {name} (not copied: digest `{digest}`), "
        + (f"whose newest text is of {text_until}" if text_until else "whose text may cover any year up to its making")
    )


def _chosen(best_by: str) -> str:
    return "the last" if best_by == "last" else f"by validation {'NLL' if best_by == 'nll' else best_by}"


def _more(others: Sequence[BarsDescription]) -> str:
    return "".join(f"\n- Also trained on, but not validated on: {_described(other)}" for other in others)


def _described(bars: BarsDescription) -> str:
    stamp = " (SYNTHETIC)" if bars.synthetic else ""
    return f"{bars.source}{reading_text(bars.reading)}{stamp}, {bars.bars:,} bars, digest `{bars.digest[:16]}`"


def _seen(base: BaseOrigin, ranges: Mapping[str, str]) -> str:
    if base.corpus == TEXT:
        return "Pre-training: text without known dates; training"
    if base.digest is not None:
        made_up = " (SYNTHETIC)" if base.data is not None and base.data.synthetic else ""
        made = "All that the checkpoint" if base.was is not None else "Pre-training of the base"
        return f"{made} {base.name} (`{base.digest[:16]}`): {ranges['pretraining']}{made_up}; training"
    return "Pre-training and training"


def curves_picture(history: Sequence[EpochScores], path: Path) -> None:
    """Draw the losses and the predicted shares by epoch into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [entry.epoch for entry in history]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [entry.nll for entry in history], color=BUY_COLOUR, marker="o", label="validation NLL")
    left.axhline(history[0].nll_prior, color=HOLD_COLOUR, linestyle="--", label="constant prior")
    left.set(xlabel="epoch", ylabel="nats per bar", title="Negative log-likelihood")
    left.legend(frameon=False)
    for name, colour in zip(CLASS_NAMES, (SELL_COLOUR, HOLD_COLOUR, BUY_COLOUR), strict=True):
        right.plot(epochs, [entry.mean_probabilities[name] for entry in history], color=colour, marker="o", label=name)
    right.set(xlabel="epoch", ylim=(0, 1), title="Mean predicted probability on the validation")
    right.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
