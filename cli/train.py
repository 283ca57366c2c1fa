"""flagbt train."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from ..data.labels import label_spec
from ..data.time_range import TimeRange
from ..errors import UsageError
from .console import epoch_table, print_line, print_table, print_warning
from .options import (
    LARGEST_SEED,
    Command,
    Number,
    Place,
    Range,
    config_option,
    grouped,
    json_option,
    print_json,
    print_resolved,
    reading_options,
    source_of,
)
from .trained_checkpoint import print_fitted, print_network
from .training_options import checkpoint_folder, read_series

if TYPE_CHECKING:
    import torch

    from ..data.bars import Bars
    from ..data.reading import Reading
    from ..training.recipe import Recipe


class _Options(TypedDict):
    """The options of ``Recipe``, and how the training runs."""

    more_data: tuple[Path, ...]
    model: str | None
    preset: str | None
    base: str | None
    base_layers: int | None
    text_until: str | None
    epochs: int
    pretrain_epochs: int | None
    timerange: TimeRange | None
    validation: TimeRange | None
    objective: str
    weight_strategy: str
    sampler: str
    label_smoothing: float
    gamma: float
    tau: float
    beta: float
    features: str | None
    labels: str
    embargo_bars: int
    walk_forward: int | None
    lora_rank: int
    lora_layers: str
    learning_rate: float
    batch_size: int
    seed: int
    device: str
    best_by: str
    on_collapse: str
    control: str | None
    report_to: str | None
    resume: bool
    overwrite: bool


_OF_NETWORKS = (
    "preset",
    "base",
    "base_layers",
    "text_until",
    "epochs",
    "pretrain_epochs",
    "objective",
    "weight_strategy",
    "sampler",
    "label_smoothing",
    "gamma",
    "tau",
    "beta",
    "walk_forward",
    "lora_rank",
    "lora_layers",
    "learning_rate",
    "batch_size",
    "device",
    "best_by",
    "on_collapse",
    "control",
    "report_to",
    "resume",
)


@click.command(
    "train",
    cls=Command,
    examples=(
        "flagbt train --data btc_1h.csv --timerange -20230101 --name mine",
        "flagbt train --data btc_1h.csv --model lightgbm --name trees --timerange -20230701 --validation 20230701-20240101",
    ),
)
@grouped("Bars", "--data", type=Place(), required=True, help="A file of bars.")
@grouped(
    "Bars", "--more-data", type=Place(), multiple=True, help="Another file of bars to train on, not to validate on. Repeatable."
)
@reading_options
@grouped("Output", "--output", type=Place(), default=Path("checkpoints"), help="Folder of checkpoints.")
@grouped("Output", "--name", default="flagbt", help="The checkpoint's name.")
@grouped("Model", "--model", help="KIND or KIND:ARGUMENT: another model than a network, such as lightgbm.")
@grouped("Base", "--preset", help="tiny, small, 88m or smollm2. Default: the base's, or tiny.")
@grouped("Base", "--base", help="A base's name or folder, not pre-trained again; with smollm2 a model's folder or hub id.")
@grouped("Base", "--base-layers", type=click.IntRange(1), help="Use only the first N layers of a language model.")
@grouped("Base", "--text-until", metavar="YYYY-MM-DD", help="Date of the newest text that a language model has read, if known.")
@grouped("Schedule", "--epochs", type=click.IntRange(1), default=10)
@grouped("Base", "--pretrain-epochs", type=click.IntRange(1), help="Epochs of next-bar prediction; 3 without --base.")
@grouped("Bars", "--timerange", type=Range(), help="Bars to train on. Default: all before the validation.")
@grouped("Bars", "--validation", type=Range(), help="Bars to validate and calibrate on. Default: the last fifth.")
@grouped("Objective", "--objective", default="ce", help="ce, focal, logit-adjusted or balanced-softmax.")
@grouped("Objective", "--weight-strategy", default="none", help="none, inverse, sqrt or effective.")
@grouped("Objective", "--sampler", default="natural", help="natural, or oversample SELL and BUY.")
@grouped("Objective", "--label-smoothing", type=Number(), default=0.0, help="Share of the target spread evenly.")
@grouped("Objective", "--gamma", type=Number(), default=2.0, help="Of the focal loss.")
@grouped("Objective", "--tau", type=Number(), default=1.0, help="Of the logit adjustment.")
@grouped("Objective", "--beta", type=Number(), default=0.9999, help="Of the effective-number weights.")
@grouped("Bars", "--features", help="A feature set's name, or module:name. Default: the base's, or default.")
@grouped("Bars", "--labels", default="horizon:6,0.01", help="Or triple-barrier:BARS,UP,DOWN: what to predict.")
@grouped(
    "Bars",
    "--embargo-bars",
    type=click.IntRange(0),
    default=0,
    help="Bars after the training range that no validation sample uses.",
)
@grouped(
    "Bars",
    "--walk-forward",
    type=click.IntRange(1),
    help="Train this many folds, each on its past; test each on the bars after it.",
)
@grouped("Schedule", "--lora-rank", type=click.IntRange(1), default=16)
@grouped("Schedule", "--lora-layers", default="all", help="all, or top:N to adapt the last N layers only.")
@grouped("Schedule", "--learning-rate", type=Number(above=0), default=1e-3)
@grouped("Schedule", "--batch-size", type=click.IntRange(1), default=4, help="Sequences per step.")
@grouped("Schedule", "--seed", type=click.IntRange(0, LARGEST_SEED), default=0)
@grouped("Schedule", "--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@grouped("Schedule", "--best-by", default="nll", help="nll, mcc, macro_f1, balanced_accuracy or last: the epoch kept.")
@grouped("Schedule", "--on-collapse", default="warn", help="warn or stop, when an epoch collapses or is too good to be true.")
@grouped("Output", "--control", help="shuffled-labels or random-walk: train on data without a signal, and write nothing.")
@grouped("Output", "--report-to", type=click.Choice(["tensorboard", "wandb", "trackio"]), help="Log there as well.")
@grouped("Output", "--resume", is_flag=True, help="Continue from the last save of an unfinished training.")
@grouped("Output", "--overwrite", is_flag=True, help="Replace a checkpoint of that name when the training is done.")
@config_option
@json_option
def train_command(data: Path, reading: Reading, output: Path, name: str, as_json: bool, **options: Unpack[_Options]) -> None:
    """Train a checkpoint: pre-train a base, fine-tune it with LoRA, calibrate it; or fit another kind of model."""
    if options["model"] is not None:
        _refuse_options_of_networks(click.get_current_context())
    if options["control"] is not None:
        _check_control(options["control"], options)
    else:
        checkpoint_folder(output, name, overwrite=options["overwrite"])
    if options["model"] is not None:
        _fit(data, reading, output / name, options, as_json)
        return
    from ..models.device import pick_device
    from ..training.trainer import is_main_process

    recipe = _recipe(options)
    device = pick_device(options["device"])
    if recipe.base is not None and recipe.preset != "smollm2" and is_main_process():
        from ..training.stored_base import find_base

        print_resolved("base", find_base(recipe.base))
    series = read_series(data, options["more_data"], reading, "checkpoint", as_json=as_json)
    if options["control"] is not None:
        _run_control(series, recipe, options["control"], device, as_json)
    elif options["walk_forward"]:
        _walk_forward(series, output / name, recipe, device, options, as_json)
    else:
        _train(series, output / name, recipe, device, options, as_json)


def _refuse_options_of_networks(ctx: click.Context) -> None:
    """Refuse with ``--model`` the options that only the training of a network reads."""
    given = [name for name in _OF_NETWORKS if source_of(ctx, name) != "default"]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(
            f"--model: {names} {'belongs' if len(given) == 1 else 'belong'} to the training of a network, which --model "
            f"replaces. Leave {'it' if len(given) == 1 else 'them'} out, or leave --model out."
        )


def _fit(data: Path, reading: Reading, target: Path, options: _Options, as_json: bool) -> None:
    from ..training.fit_recipe import FitRecipe
    from ..training.progress import Monitor
    from ..workflows.train_model import train_model, trainable_kind

    recipe = FitRecipe(
        model=options["model"] or "",
        training=options["timerange"] or TimeRange(),
        validation=options["validation"],
        features=options["features"] or "default",
        labels=label_spec(options["labels"]),
        embargo_bars=options["embargo_bars"],
        seed=options["seed"],
    )
    trainable_kind(recipe.kind)
    series = read_series(data, options["more_data"], reading, "checkpoint", as_json=as_json)
    monitor = Monitor(print_warning)
    checkpoint = train_model(series[0], target, recipe, more=series[1:], overwrite=options["overwrite"], monitor=monitor)
    print_fitted(checkpoint, as_json)


def _recipe(options: _Options) -> Recipe:
    from ..models.kinds.architecture import Lora
    from ..models.text_read import text_date
    from ..training.objectives import Objective
    from ..training.recipe import Recipe
    from ..training.trainer import Schedule

    if options["pretrain_epochs"] and (options["base"] or options["preset"] == "smollm2"):
        raise UsageError("--pretrain-epochs: a given base is not pre-trained again. Leave the option out.")
    batch, seed = options["batch_size"], options["seed"]
    return Recipe(
        preset=options["preset"],
        base=options["base"],
        base_layers=options["base_layers"],
        training=options["timerange"] or TimeRange(),
        validation=options["validation"],
        features=options["features"],
        labels=label_spec(options["labels"]),
        embargo_bars=options["embargo_bars"],
        objective=Objective(
            loss=options["objective"],
            weights=options["weight_strategy"],
            sampler=options["sampler"],
            label_smoothing=options["label_smoothing"],
            gamma=options["gamma"],
            tau=options["tau"],
            beta=options["beta"],
        ),
        lora=Lora(rank=options["lora_rank"], alpha=2 * options["lora_rank"], top_layers=_top_layers(options["lora_layers"])),
        pretraining=Schedule(epochs=options["pretrain_epochs"] or 3, learning_rate=2e-3, batch_chunks=batch, seed=seed),
        schedule=Schedule(epochs=options["epochs"], learning_rate=options["learning_rate"], batch_chunks=batch, seed=seed),
        best_by=options["best_by"],
        text_until=None if options["text_until"] is None else text_date(options["text_until"]),
    )


def _top_layers(text: str) -> int | None:
    if text == "all":
        return None
    if not re.fullmatch(r"top:[1-9]\d{0,3}", text):
        raise UsageError(f"--lora-layers: '{text}' is unknown. Write all, or top:N with a number of layers, such as top:8.")
    return int(text.removeprefix("top:"))


def _train(series: list[Bars], target: Path, recipe: Recipe, device: torch.device, options: _Options, as_json: bool) -> None:
    from ..training.progress import Monitor
    from ..training.trainer import is_main_process
    from ..workflows.train import train_on

    with epoch_table(shown=is_main_process()) as (on_epoch, on_step):
        checkpoint = train_on(
            series[0],
            target,
            recipe,
            more=series[1:],
            device=device,
            overwrite=options["overwrite"],
            resume=options["resume"],
            monitor=Monitor(_warn, on_epoch, on_step, options["report_to"], options["on_collapse"]),
        )
    if is_main_process():
        print_network(checkpoint, as_json)


def _warn(note: str) -> None:
    """Print a note on stderr before the first epoch, when the training can still be changed."""
    from ..training.trainer import is_main_process

    if is_main_process():
        print_warning(note)


def _check_control(control: str, options: _Options) -> None:
    """Refuse the options that a control, which writes nothing, cannot use."""
    for option, given in (
        ("--walk-forward", options["walk_forward"]),
        ("--resume", options["resume"]),
        ("--overwrite", options["overwrite"]),
        ("--report-to", options["report_to"]),
    ):
        if given:
            raise UsageError(
                f"--control: '{control}' cannot be combined with {option}: a control trains once and "
                "writes nothing. Leave one of them out."
            )


def _run_control(series: list[Bars], recipe: Recipe, control: str, device: torch.device, as_json: bool) -> None:
    from ..training.negative_control import run_negative_control
    from ..training.progress import Monitor
    from ..training.trainer import is_main_process

    with epoch_table(shown=is_main_process()) as (on_epoch, on_step):
        monitor = Monitor(on_epoch=on_epoch, on_step=on_step)
        result = run_negative_control(series[0], recipe, control, more=series[1:], device=device, monitor=monitor)
    if is_main_process():
        if as_json:
            print_json(result.to_json())
        else:
            print_line(result.sentence)
    if result.found:
        click.get_current_context().exit(1)


def _walk_forward(
    series: list[Bars], target: Path, recipe: Recipe, device: torch.device, options: _Options, as_json: bool
) -> None:
    from ..training.progress import Monitor
    from ..training.trainer import is_main_process
    from ..workflows.walk_forward import WalkForwardRecipe, fold_name, walk_forward

    folds = options["walk_forward"] or 0
    for number in range(1, folds + 1):
        checkpoint_folder(target.parent, fold_name(target.name, number), overwrite=options["overwrite"])
    with epoch_table(shown=is_main_process()) as (on_epoch, on_step):
        walked = walk_forward(
            series[0],
            target,
            WalkForwardRecipe(recipe, folds),
            more=series[1:],
            device=device,
            overwrite=options["overwrite"],
            resume=options["resume"],
            monitor=Monitor(_warn, on_epoch, on_step, on_collapse=options["on_collapse"]),
        )
    if not is_main_process():
        return
    described = walked.description
    if as_json:
        print_json({"walk_forward": str(walked.folder), **described.to_json()})
        return
    shown = ("nll", "nll_prior", "mcc_prior", "ece")
    print_table(
        ["checkpoint", "tested on", *shown],
        [[fold.checkpoint, fold.ranges["test"], *(getattr(fold.scores, key) for key in shown)] for fold in described.folds],
    )
    print_line(
        f"On all test segments: NLL {described.scores.nll:.4f}; always predicting the training shares gives "
        f"{described.scores.nll_prior:.4f}."
    )
    for note in dict.fromkeys(note for fold in described.folds for note in fold.notes):
        print_line(note, style="yellow")
    print_line(f"stitched signals: {walked.folder / 'signals.parquet'}")
