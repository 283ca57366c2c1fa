"""flagbt calibrate: fit a calibration, say what it changes, keep it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..data.time_range import TimeRange
from ..errors import RecordError, UsageError
from .console import ProgressBars, print_table, say
from .options import STAMP, Command, Place, Range, features_option, json_option, print_json, tell_resolved

if TYPE_CHECKING:
    from ..arrays import FloatArray
    from ..results.calibration_result import CalibrationResult


@click.command("calibrate", cls=Command)
@click.option("--ckpt", required=True, help="A checkpoint's name or folder.")
@click.option("--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample.")
@click.option("--timerange", type=Range(), required=True, help="The range of the fit, A-B; none that taught the checkpoint.")
@click.option("--method", default="temperature", show_default=True, help="temperature, offset, vector, prior or dirichlet.")
@click.option("--shares", help="For prior: SELL,HOLD,BUY, such as 0.16,0.66,0.18. Default: the training labels'.")
@click.option("--decision", help="argmax, threshold:P or utility, kept with it. Default: chosen on the range.")
@click.option(
    "--store",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Keep it in the checkpoint, under NAME or the method's name.",
)
@click.option("--output", type=Place(), help="Write it to a JSON file, for --calibration FILE.")
@click.option("--overwrite", is_flag=True, help="Replace a stored calibration, or a file, of that name.")
@click.option("--force", is_flag=True, help="Fit even where the doctor calls the checkpoint broken.")
@click.option("--html", type=Place(), help="Write an offline page too.")
@click.option("--png", type=Place(), help="Write the reliability diagram as a picture too.")
@features_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--cache/--no-cache", default=True, show_default=True, help="Take and keep scored logits.")
@json_option
def calibrate_command(
    ckpt: str,
    data: Path | None,
    timerange: TimeRange,
    method: str,
    shares: str | None,
    decision: str | None,
    store: str | None,
    output: Path | None,
    overwrite: bool,
    force: bool,
    html: Path | None,
    png: Path | None,
    device: str,
    cache: bool,
    as_json: bool,
) -> None:
    """Fit a calibration on bars that did not teach the checkpoint; later runs on those bars are refused with it."""
    from ..models.checkpoint import find_checkpoint
    from ..models.decision import Decision
    from ..storage.atomic_files import json_text, write_text
    from ..workflows.calibrate import calibrate
    from ..workflows.inputs import check_out, load_bars

    # 1. What could stand in the way of keeping the result, before the work
    rule = None if decision is None else Decision.parse(decision)
    checkpoint = find_checkpoint(ckpt)
    name = None if store is None else store or method
    if name is not None:
        checkpoint.check_storable(name, overwrite=overwrite)
    for option, path in (("--output", output), ("--html", html), ("--png", png)):
        if path is not None:
            check_out(path.parent, option=option)
    if output is not None and output.exists() and not overwrite:
        raise RecordError(f"--output: {output} exists. Choose another file, or replace it with --overwrite.")

    # 2. The work
    with ProgressBars({"checks": "Examining", "score": "Scoring bars"}) as bars:
        done = calibrate(
            checkpoint,
            load_bars(data),
            timerange,
            method,
            shares=_shares(shares),
            decision=rule,
            device=device,
            cache=cache,
            force=force,
            progress=bars.update,
        )

    # 3. Keep it, then say it
    tell_resolved("checkpoint", checkpoint)
    if name is not None:
        checkpoint.store_calibration(name, done.stored, overwrite=overwrite)
    if output is not None:
        try:
            kept = {"calibration": done.stored.calibration.to_json(), "decision": done.stored.decision.to_json()}
            write_text(output, json_text(kept))
        except OSError as error:
            raise RecordError(f"--output: {output} cannot be written: {error.strerror or error}.") from None
    if html is not None or png is not None:
        from ..reports.calibration_page import write_pages

        write_pages(done, html=html, png=png)
    places = {key: str(path) for key, path in (("output", output), ("html", html), ("png", png)) if path is not None}
    if as_json:
        print_json({**done.to_json(), "stored": name, **places})
    else:
        _print(done, name, places)


def _shares(text: str | None) -> FloatArray | None:
    from ..models.calibration_fit import checked_shares

    if text is None:
        return None
    try:
        return checked_shares([float(each) for each in text.split(",")], "--shares")
    except ValueError:
        raise UsageError(f"--shares: expected SELL,HOLD,BUY such as 0.16,0.66,0.18, got '{text}'.") from None


def _print(done: CalibrationResult, name: str | None, places: dict[str, Any]) -> None:
    from ..reports.calibration_page import HELD_OUT, calibration_columns, calibration_rows

    calibration = done.stored.calibration
    if done.synthetic:
        say("SYNTHETIC data: no market was involved in these numbers.", style=STAMP)
    say(f"{done.checkpoint.name}: {calibration.method} fitted on {calibration.fitted_on}, {done.source}", style="bold")
    print_table(["", *calibration_columns(done)], calibration_rows(done))
    say(HELD_OUT)
    for note in done.notes:
        say(note, style="yellow")
    say(f"scale {calibration.scale}, offset {calibration.offset}; decision {done.stored.decision}")
    if name is not None:
        say(f"stored: flagbt run --ckpt {done.checkpoint.option} --calibration {shlex.quote('stored:' + name)}")
    for key, path in places.items():
        say(f"{key}: {path}")
    if name is None and "output" not in places:
        say("Nothing was kept: add --store, or --output FILE.")
