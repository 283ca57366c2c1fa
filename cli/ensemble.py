"""flagbt ckpt ensemble: make one checkpoint of several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .console import ProgressBars, print_line, print_table
from .options import (
    Command,
    Place,
    Range,
    features_option,
    grouped,
    json_option,
    named_code_options,
    print_json,
    print_resolved,
    reading_options,
)

if TYPE_CHECKING:
    from ..data.reading import Reading
    from ..data.time_range import TimeRange
    from ..workflows.combine import Combination


@click.command(  # it is named as the kind of model that it makes
    cls=Command,
    examples=(
        "flagbt ckpt ensemble --name both mine trees",
        "flagbt ckpt ensemble --name both mine trees --weights fitted --data btc_1h.csv --timerange 20230701-20240101",
    ),
)
@click.argument("members", nargs=-1, required=True)
@click.option("--name", required=True, help="The new checkpoint's name.")
@click.option("--output", type=Place(), default=Path("checkpoints"), help="Folder of checkpoints.")
@click.option("--weights", help="One for each member, of the sum 1, or fitted. Default: equal.")
@grouped("Bars", "--data", type=Place(), help="For --weights fitted: a file of bars.")
@reading_options
@grouped("Bars", "--timerange", type=Range(), help="The range of the fit, A-B; no member may be trained on it.")
@features_option
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--cache/--no-cache", default=True, help="Read logits from the cache, and add new ones.")
@click.option("--overwrite", is_flag=True, help="Replace a checkpoint of that name.")
@json_option
@click.pass_context
def ensemble(
    ctx: click.Context,
    members: tuple[str, ...],
    name: str,
    output: Path,
    weights: str | None,
    data: Path | None,
    reading: Reading,
    timerange: TimeRange | None,
    device: str,
    cache: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a checkpoint whose log-probabilities are the weighted mean of other checkpoints'; they are copied into it."""
    from .training_options import checkpoint_folder

    target = checkpoint_folder(output, name, overwrite=overwrite)
    from ..data.readers import bars_of_file
    from ..models.checkpoint import find_checkpoint
    from ..workflows.combine import CombineRequest, combination_json, combine_request, weights_of
    from ..workflows.inputs import check_has_file

    check_has_file(data, reading)
    request = CombineRequest(
        members=tuple(map(find_checkpoint, members)),
        kind=str(ctx.command.name),
        weights=weights_of(weights),
        bars=None if data is None else bars_of_file(data, reading),
        timerange=timerange,
        device=device,
        cache=cache,
    )
    for each in request.members:
        print_resolved("member", each)
    with ProgressBars({each.name: f"Scoring {each.name}" for each in request.members}) as shown:
        made = combine_request(request, target, overwrite=overwrite, progress=shown.update)
    print_resolved("checkpoint", made.checkpoint)
    if as_json:
        print_json(combination_json(made))
    else:
        _print(made)


def _print(made: Combination) -> None:
    from ..models.combining_model import members_of

    checkpoint, fit = made.checkpoint, made.fit
    members = members_of(checkpoint)
    alone = ["" for _ in members] if fit is None else [f"{each:.4f}" for each in fit.nll_members]
    rows = [
        [each.name, each.kind, f"{weight:.4g}", nll] for each, weight, nll in zip(members, made.weights, alone, strict=True)
    ]
    columns = ["member", "kind", "weight", "NLL alone"]
    print_line(f"{checkpoint.kind}: {len(members)} checkpoints in {checkpoint.folder}", style="bold")
    print_table(columns if fit else columns[:-1], rows if fit else [row[:-1] for row in rows])
    if fit is not None:
        print_line(
            f"NLL on {fit.fitted_on}, where the weights were fitted: {fit.nll:.4f}, with equal weights {fit.nll_equal:.4f}, in "
            "nats per bar."
        )
        for note in fit.notes:
            print_line(note, style="yellow")
    named = f"--ckpt {checkpoint.option}{named_code_options(checkpoint)} --data FILE --timerange A-B"
    print_line(f"It is not calibrated: flagbt calibrate {named} --method vector --store default --overwrite")
    print_line(f"Run it on bars it has not seen: flagbt run {named}")
