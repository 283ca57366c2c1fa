"""flagbt train and flagbt pretrain."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..data.labels import CLASS_NAMES, label_spec
from ..data.time_range import TimeRange
from ..errors import TrainingError, UsageError
from ..storage.untrusted_files import load_json
from ..workflows.inputs import check_out
from .console import epoch_table, print_line, print_table, print_warning
from .options import LARGEST_SEED, STAMP, Command, Number, Place, Range, config_option, json_option, print_json, print_resolved

if TYPE_CHECKING:
    import torch

    from ..data.bars import Bars
    from ..models.checkpoint import Checkpoint
    from ..training.recipe import Recipe
    from ..training.trainer import Schedule


@click.command(
    "train",
    cls=Command,
    examples=(
        "flagbt train --data btc_1h.csv --timerange -20230101 --name mine",
        "flagbt train --data btc_1h.csv --base base --weight-strategy sqrt --on-collapse stop",
    ),
)
@click.option("--data", type=Place(), required=True, help="A file of bars.")
@click.option(
    "--more-data", type=Place(), multiple=True, help="Another file of bars to train on, not to validate on. Repeatable."
)
@click.option("--output", type=Place(), default=Path("checkpoints"), show_default=True, help="Folder of checkpoints.")
@click.option("--name", default="flagbt", show_default=True, help="The checkpoint's name.")
@click.option("--preset", help="tiny, small, 88m or smollm2. Default: the base's, or tiny.")
@click.option("--base", help="A base's name or folder, not pre-trained again; with smollm2 a model's folder or hub id.")
@click.option("--base-layers", type=click.IntRange(1), help="Use only the first N layers of a language model.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option("--pretrain-epochs", type=click.IntRange(1), help="Epochs of next-bar prediction; 3 without --base.")
@click.option("--timerange", type=Range(), help="Bars to train on. Default: all before the validation.")
@click.option("--validation", type=Range(), help="Bars to validate and calibrate on. Default: the last fifth.")
@click.option("--objective", default="ce", show_default=True, help="ce, focal, logit-adjusted or balanced-softmax.")
@click.option("--weight-strategy", default="none", show_default=True, help="none, inverse, sqrt or effective.")
@click.option("--sampler", default="natural", show_default=True, help="natural, or oversample SELL and BUY.")
@click.option("--label-smoothing", type=Number(), default=0.0, show_default=True, help="Share of the target spread evenly.")
@click.option("--gamma", type=Number(), default=2.0, show_default=True, help="Of the focal loss.")
@click.option("--tau", type=Number(), default=1.0, show_default=True, help="Of the logit adjustment.")
@click.option("--beta", type=Number(), default=0.9999, show_default=True, help="Of the effective-number weights.")
@click.option("--features", help="A feature set's name, or module:name. Default: the base's, or default.")
@click.option("--labels", default="horizon:6,0.01", show_default=True, help="Or triple-barrier:BARS,UP,DOWN: what to predict.")
@click.option(
    "--embargo-bars",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Bars after the training range that no validation sample uses.",
)
@click.option(
    "--walk-forward", type=click.IntRange(1), help="Train this many folds, each on its past; test each on the bars after it."
)
@click.option("--lora-rank", type=click.IntRange(1), default=16, show_default=True)
@click.option("--lora-layers", default="all", show_default=True, help="all, or top:N to adapt the last N layers only.")
@click.option("--learning-rate", type=Number(above=0), default=1e-3, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True, help="Sequences per step.")
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--best-by", default="nll", show_default=True, help="nll, mcc, macro_f1, balanced_accuracy or last: the epoch kept."
)
@click.option(
    "--on-collapse", default="warn", show_default=True, help="warn or stop, when an epoch collapses or is too good to be true."
)
@click.option("--control", help="shuffled-labels or random-walk: train on data without a signal, and write nothing.")
@click.option("--report-to", type=click.Choice(["tensorboard", "wandb", "trackio"]), help="Log there as well.")
@click.option("--resume", is_flag=True, help="Continue from the last save of an unfinished training.")
@click.option("--overwrite", is_flag=True, help="Replace a checkpoint of that name when the training is done.")
@config_option
@json_option
def train_command(data: Path, output: Path, name: str, as_json: bool, device: str, overwrite: bool, **options: Any) -> None:
    """Train a checkpoint: pre-train a base, fine-tune it with LoRA, calibrate it."""
    control, target = options["control"], output / name
    if control is not None:
        _check_control(control, {**options, "overwrite": overwrite})
    else:
        checkpoint_folder(output, name, overwrite=overwrite)
    from ..models.device import pick_device
    from ..training.progress import Monitor
    from ..training.trainer import is_main_process
    from ..workflows.train import train

    recipe = _recipe(options)
    picked = pick_device(device)
    if recipe.base is not None and recipe.preset != "smollm2" and is_main_process():
        from ..models.stored_base import find_base

        print_resolved("base", find_base(recipe.base))
    bars, *more = _series(data, options["more_data"], "checkpoint", as_json)
    if control is not None:
        _run_control(bars, more, recipe, control, picked, as_json)
        return
    common = {"more": more, "device": picked, "overwrite": overwrite, "resume": options["resume"]}
    if options["walk_forward"]:
        _walk_forward(bars, target, recipe, options["walk_forward"], options["on_collapse"], as_json, common)
        return
    with epoch_table(shown=is_main_process()) as (on_epoch, on_step):
        monitor = Monitor(_warn, on_epoch, on_step, options["report_to"], options["on_collapse"])
        checkpoint = train(bars, target, recipe, **common, monitor=monitor)
    if is_main_process():
        _print_checkpoint(checkpoint, as_json)


def _recipe(options: dict[str, Any]) -> Recipe:
    from ..models.network import Lora
    from ..training.objectives import Objective
    from ..training.recipe import Recipe

    if options["pretrain_epochs"] and (options["base"] or options["preset"] == "smollm2"):
        raise UsageError("--pretrain-epochs: a given base is not pre-trained again. Leave the option out.")
    return Recipe(
        **{key: options[key] for key in ("preset", "base", "base_layers", "validation", "features", "embargo_bars", "best_by")},
        training=options["timerange"] or TimeRange(),
        labels=label_spec(options["labels"]),
        objective=Objective(
            loss=options["objective"],
            weights=options["weight_strategy"],
            **{key: options[key] for key in ("gamma", "tau", "beta", "sampler", "label_smoothing")},
        ),
        lora=Lora(rank=options["lora_rank"], alpha=2 * options["lora_rank"], top_layers=_top_layers(options["lora_layers"])),
        pretraining=_schedule({**options, "epochs": options["pretrain_epochs"] or 3, "learning_rate": 2e-3}),
        schedule=_schedule(options),
    )


def _schedule(options: dict[str, Any]) -> Schedule:
    from ..training.trainer import Schedule

    return Schedule(
        epochs=options["epochs"],
        learning_rate=options["learning_rate"],
        batch_chunks=options["batch_size"],
        seed=options["seed"],
    )


def _series(data: Path, more: tuple[Path, ...], what: str, as_json: bool) -> list[Bars]:
    """Read the files of bars, and point out synthetic ones."""
    from ..data.readers import read_bars
    from ..training.trainer import is_main_process

    series = [read_bars(path) for path in (data, *more)]
    if series[0].synthetic and not as_json and is_main_process():
        print_line(f"SYNTHETIC data: this {what} will know nothing about any market.", style=STAMP)
    return series


def _print_checkpoint(checkpoint: Checkpoint, as_json: bool) -> None:
    values = checkpoint.values
    history = load_json(checkpoint.folder / "history.json")
    summary = {
        "checkpoint": str(checkpoint.folder),
        "digest": checkpoint.digest,
        "data": {key: values["data"][key] for key in ("source", "synthetic", "digest")},
        "samples": {"train": values["samples"]["training"], "validation": values["samples"]["validation"]},
        "labels": {label: values["labels_counted"][label] for label in CLASS_NAMES},
        "class_weights": values["objective"]["class_weights"],
        "epochs": history,
        "best": next(entry for entry in history if entry["epoch"] == values["best_epoch"]),
        "model_verdict": values["model_verdict"]["verdict"],
        "calibration": values["calibrations"].get("default"),
        "notes": values["notes"],
    }
    if as_json:
        print_json(summary)
        return
    fitted = values["metrics"]["validation_calibrated"]
    best = fitted or values["metrics"]["validation"]
    print_line(
        f"Best epoch {values['best_epoch']}: validation NLL {summary['best']['nll']:.4f}, "
        f"{'not calibrated' if fitted is None else 'calibrated {:.4f}'.format(fitted['nll'])}; "
        f"always predicting the training shares gives {best['nll_prior']:.4f}."
        + (
            ""
            if best["nll"] < best["nll_prior"]
            else " So the model is no better than those shares: it learned nothing lasting."
        )
    )
    for note in values["notes"]:
        print_line(note, style="yellow")
    print_line(f"model verdict: {values['model_verdict']['verdict']}. {values['model_verdict']['sentence']}")
    print_line(f"checkpoint: {checkpoint.folder}  (test it on bars after {values['ranges']['calibration'].split('-')[1]})")
    if fitted is None:
        print_line(f"It has no calibration: flagbt run --ckpt {checkpoint.option} --calibration none")


def _warn(note: str) -> None:
    """Print a note on stderr before the first epoch, when the training can still be changed."""
    from ..training.trainer import is_main_process

    if is_main_process():
        print_warning(note)


def _check_control(control: str, options: dict[str, Any]) -> None:
    """Refuse the options that a control, which writes nothing, cannot use."""
    for option in ("walk_forward", "resume", "overwrite", "report_to"):
        if options[option]:
            raise UsageError(
                f"--control: '{control}' cannot be combined with --{option.replace('_', '-')}: a control trains once and "
                "writes nothing. Leave one of them out."
            )


def _run_control(bars: Bars, more: list[Bars], recipe: Recipe, control: str, device: torch.device, as_json: bool) -> None:
    from ..training.negative_control import run_negative_control
    from ..training.progress import Monitor
    from ..training.trainer import is_main_process

    with epoch_table(shown=is_main_process()) as (on_epoch, on_step):
        monitor = Monitor(on_epoch=on_epoch, on_step=on_step)
        result = run_negative_control(bars, recipe, control, more=more, device=device, monitor=monitor)
    if is_main_process():
        if as_json:
            print_json(result.to_json())
        else:
            print_line(result.sentence)
    if result.found:
        click.get_current_context().exit(1)


def _walk_forward(
    bars: Bars, target: Path, recipe: Recipe, folds: int, on_collapse: str, as_json: bool, common: dict[str, Any]
) -> None:
    from ..training.progress import Monitor
    from ..training.trainer import is_main_process
    from ..workflows.walk_forward import WalkForwardRecipe, fold_name, walk_forward

    for number in range(1, folds + 1):
        checkpoint_folder(target.parent, fold_name(target.name, number), overwrite=common["overwrite"])
    with epoch_table(shown=is_main_process()) as (on_epoch, on_step):
        monitor = Monitor(_warn, on_epoch, on_step, on_collapse=on_collapse)
        walked = walk_forward(bars, target, WalkForwardRecipe(recipe, folds), **common, monitor=monitor)
    if not is_main_process():
        return
    values = walked.values
    if as_json:
        print_json({"walk_forward": str(walked.folder), **values})
        return
    shown = ("nll", "nll_prior", "mcc_prior", "ece")
    print_table(
        ["checkpoint", "tested on", *shown],
        [[e["checkpoint"], e["ranges"]["test"], *(e["scores"][key] for key in shown)] for e in values["folds"]],
    )
    print_line(
        f"On all test segments: NLL {values['scores']['nll']:.4f}; always predicting the training shares gives "
        f"{values['scores']['nll_prior']:.4f}."
    )
    for note in dict.fromkeys(note for each in values["folds"] for note in each["notes"]):
        print_line(note, style="yellow")
    print_line(f"stitched signals: {walked.folder / 'signals.parquet'}")


def _top_layers(text: str) -> int | None:
    if text == "all":
        return None
    if not re.fullmatch(r"top:[1-9]\d{0,3}", text):
        raise UsageError(f"--lora-layers: '{text}' is unknown. Write all, or top:N with a number of layers, such as top:8.")
    return int(text.removeprefix("top:"))


@click.command(
    "pretrain",
    cls=Command,
    examples=(
        "flagbt pretrain --data btc_1h.csv --timerange -20230101 --name base",
        "flagbt pretrain --data btc_1h.csv --more-data eth_1h.csv --preset small",
    ),
)
@click.option("--data", type=Place(), required=True, help="A file of bars.")
@click.option("--more-data", type=Place(), multiple=True, help="Another file of bars to train on. Repeatable.")
@click.option("--output", type=Place(), default=Path("bases"), show_default=True, help="Folder of bases.")
@click.option("--name", default="base", show_default=True, help="The base's name.")
@click.option("--preset", default="tiny", show_default=True, help="tiny, small or 88m.")
@click.option("--timerange", type=Range(), help="Bars to train on. Default: all.")
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--features", default="default", show_default=True, help="A feature set's name, or module:name.")
@click.option(
    "--horizon-bars",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Bars at the end that are not trained on; as many as the labels of trainings look ahead.",
)
@click.option("--learning-rate", type=Number(above=0), default=2e-3, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True, help="Sequences per step.")
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--resume", is_flag=True, help="Continue from the last save of an unfinished pre-training.")
@click.option("--overwrite", is_flag=True, help="Replace a base of that name when the pre-training is done.")
@config_option
@json_option
def pretrain_command(
    data: Path, output: Path, name: str, as_json: bool, device: str, resume: bool, overwrite: bool, **options: Any
) -> None:
    """Make a base by next-bar prediction, for flagbt train --base."""
    target = checkpoint_folder(output, name, overwrite=overwrite, description="base.json")
    from ..models.device import pick_device
    from ..training.pretrain import BINS
    from ..training.progress import Monitor
    from ..training.trainer import is_main_process
    from ..workflows.pretrain import BaseRecipe, make_base

    recipe = BaseRecipe(
        preset=options["preset"],
        timerange=options["timerange"] or TimeRange(),
        features=options["features"],
        horizon_bars=options["horizon_bars"],
        schedule=_schedule(options),
    )
    picked = pick_device(device)
    bars, *more = _series(data, options["more_data"], "base", as_json)
    with epoch_table(shown=is_main_process()) as (on_epoch, on_step):
        monitor = Monitor(on_epoch=on_epoch, on_step=on_step)
        base = make_base(bars, target, recipe, more=more, device=picked, overwrite=overwrite, resume=resume, monitor=monitor)
    if not is_main_process():
        return
    values = base.values
    if as_json:
        print_json(
            {
                "base": str(base.folder),
                "digest": base.digest,
                "preset": values["preset"],
                "timerange": values["range"],
                "samples": values["samples"],
                "losses": values["losses"],
                "data": {key: values["data"][key] for key in ("source", "synthetic", "digest")},
            }
        )
        return
    print_line(f"Last epoch: {values['losses'][-1]:.4f} nats per quantity; without any knowledge it is {math.log(BINS):.4f}.")
    print_line(f"base: {base.folder}  (train on it, and validate on bars after {values['range'].split('-')[1]})")


def checkpoint_folder(output: Path, name: str, *, overwrite: bool, description: str = "checkpoint.json") -> Path:
    """Return the folder that a training may write; refuse any other before hours of work."""
    what = description.removesuffix(".json")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name):
        raise UsageError(
            f"--name: '{name}' is not a name for a {what}. Use up to 100 letters, digits, '.', '_', '+' and '-', beginning "
            "with a letter or a digit; --output gives the folder."
        )
    check_out(output, option="--output")
    target = output / name
    if target.exists() and overwrite and not (target / description).is_file():
        raise TrainingError(
            f"--overwrite: {target} is there, but it is not a {what}, so it is not replaced. Choose another --name."
        )
    return target
