"""flagbt pretrain."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from ..data.time_range import TimeRange
from .console import epoch_table, print_line
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
    reading_options,
)
from .training_options import checkpoint_folder, read_series

if TYPE_CHECKING:
    from ..data.reading import Reading


class _Options(TypedDict):
    """The options of ``BaseRecipe``, and how the training runs."""

    more_data: tuple[Path, ...]
    preset: str
    timerange: TimeRange | None
    epochs: int
    features: str
    horizon_bars: int
    learning_rate: float
    batch_size: int
    seed: int
    device: str
    resume: bool
    overwrite: bool


@click.command(
    "pretrain",
    cls=Command,
    examples=(
        "flagbt pretrain --data btc_1h.csv --timerange -20230101 --name base",
        "flagbt pretrain --data btc_1h.csv --more-data eth_1h.csv --preset small",
    ),
)
@grouped("Bars", "--data", type=Place(), required=True, help="A file of bars.")
@grouped("Bars", "--more-data", type=Place(), multiple=True, help="Another file of bars to train on. Repeatable.")
@reading_options
@grouped("Output", "--output", type=Place(), default=Path("bases"), help="Folder of bases.")
@grouped("Output", "--name", default="base", help="The base's name.")
@grouped("Base", "--preset", default="tiny", help="tiny, small or 88m.")
@grouped("Bars", "--timerange", type=Range(), help="Bars to train on. Default: all.")
@grouped("Schedule", "--epochs", type=click.IntRange(1), default=3)
@grouped("Bars", "--features", default="default", help="A feature set's name, or module:name.")
@grouped(
    "Bars",
    "--horizon-bars",
    type=click.IntRange(1),
    default=6,
    help="Bars at the end that are not trained on; as many as the labels of trainings look ahead.",
)
@grouped("Schedule", "--learning-rate", type=Number(above=0), default=2e-3)
@grouped("Schedule", "--batch-size", type=click.IntRange(1), default=4, help="Sequences per step.")
@grouped("Schedule", "--seed", type=click.IntRange(0, LARGEST_SEED), default=0)
@grouped("Schedule", "--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@grouped("Output", "--resume", is_flag=True, help="Continue from the last save of an unfinished pre-training.")
@grouped("Output", "--overwrite", is_flag=True, help="Replace a base of that name when the pre-training is done.")
@config_option
@json_option
def pretrain_command(data: Path, reading: Reading, output: Path, name: str, as_json: bool, **options: Unpack[_Options]) -> None:
    """Make a base by next-bar prediction, for flagbt train --base."""
    target = checkpoint_folder(output, name, overwrite=options["overwrite"], description="base.json")
    from ..models.device import pick_device
    from ..training.pretrain import BINS
    from ..training.progress import Monitor
    from ..training.trainer import Schedule, is_main_process
    from ..workflows.pretrain import BaseRecipe, make_base

    recipe = BaseRecipe(
        preset=options["preset"],
        timerange=options["timerange"] or TimeRange(),
        features=options["features"],
        horizon_bars=options["horizon_bars"],
        schedule=Schedule(
            epochs=options["epochs"],
            learning_rate=options["learning_rate"],
            batch_chunks=options["batch_size"],
            seed=options["seed"],
        ),
    )
    picked = pick_device(options["device"])
    bars, *more = read_series(data, options["more_data"], reading, "base", as_json=as_json)
    with epoch_table(shown=is_main_process()) as (on_epoch, on_step):
        base = make_base(
            bars,
            target,
            recipe,
            more=more,
            device=picked,
            overwrite=options["overwrite"],
            resume=options["resume"],
            monitor=Monitor(on_epoch=on_epoch, on_step=on_step),
        )
    if not is_main_process():
        return
    facts = base.facts
    if as_json:
        print_json(
            {
                "base": str(base.folder),
                "digest": base.digest,
                "preset": facts.preset,
                "timerange": facts.range,
                "samples": base.values["samples"],
                "losses": list(facts.losses),
                "data": {"source": facts.data.source, "synthetic": facts.data.synthetic, "digest": facts.data.digest},
            }
        )
        return
    print_line(f"Last epoch: {facts.losses[-1]:.4f} nats per quantity; without any knowledge it is {math.log(BINS):.4f}.")
    print_line(f"base: {base.folder}  (train on it, and validate on bars after {facts.range.split('-')[1]})")
