"""flagbt calibrate: fit a calibration, print what it changes, store it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from ..errors import RecordError, UsageError
from .console import ProgressBars, print_line, print_table
from .options import (
    STAMP,
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
    from ..arrays import FloatArray
    from ..data.reading import Reading
    from ..data.time_range import TimeRange
    from ..results.calibration_result import CalibrationResult


class _Options(TypedDict):
    """The options that are fields of ``CalibrateRequest``."""

    timerange: TimeRange
    device: str
    cache: bool
    force: bool


@click.command(
    "calibrate",
    cls=Command,
    examples=(
        "flagbt calibrate --ckpt mine --data btc_1h.csv --timerange 20240101-20240401 --store",
        "flagbt calibrate --ckpt Jan19 --timerange 20240101-20240401 --method prior --output prior.json",
    ),
)
@click.option("--ckpt", required=True, help="A checkpoint's name or folder.")
@grouped("Bars", "--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample.")
@reading_options
@grouped(
    "Bars",
    "--timerange",
    type=Range(),
    required=True,
    help="The range of the fit, A-B; the checkpoint must not be trained on it.",
)
@click.option("--method", default="temperature", help="temperature, offset, vector, prior or dirichlet.")
@click.option("--shares", help="For prior: SELL,HOLD,BUY, such as 0.16,0.66,0.18. Default: the training labels'.")
@click.option("--decision", help="argmax, threshold:P or utility, stored with it. Default: chosen on the range.")
@click.option(
    "--store",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Store it in the checkpoint, as NAME or under the method's name.",
)
@click.option("--output", type=Place(), help="Write it to a JSON file, for --calibration FILE.")
@click.option("--overwrite", is_flag=True, help="Replace a stored calibration, or a file, of that name.")
@click.option("--force", is_flag=True, help="Fit even if the doctor finds the checkpoint broken.")
@click.option("--html", type=Place(), help="Also write an offline page.")
@click.option("--png", type=Place(), help="Also write the reliability diagram as a picture.")
@features_option
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--cache/--no-cache", default=True, help="Read logits from the cache, and add new ones.")
@json_option
def calibrate_command(
    ckpt: str,
    data: Path | None,
    reading: Reading,
    method: str,
    shares: str | None,
    decision: str | None,
    store: str | None,
    output: Path | None,
    overwrite: bool,
    html: Path | None,
    png: Path | None,
    as_json: bool,
    **options: Unpack[_Options],
) -> None:
    """Fit a calibration on bars that the checkpoint was not trained on; later runs with it refuse those bars."""
    from ..models.checkpoint import find_checkpoint
    from ..models.decision import Decision
    from ..workflows.calibrate import CalibrateRequest, calibrate_request
    from ..workflows.inputs import load_bars

    # 1. Every check on what is written, before the work
    rule = None if decision is None else Decision.parse(decision)
    checkpoint = find_checkpoint(ckpt)
    name = None if store is None else store or method
    if name is not None:
        checkpoint.check_storable(name, overwrite=overwrite)
    places = {key: path for key, path in (("output", output), ("html", html), ("png", png)) if path is not None}
    _check_places(places, overwrite=overwrite)

    # 2. The fit
    request = CalibrateRequest(
        checkpoint=checkpoint, bars=load_bars(data, reading), method=method, shares=_shares(shares), decision=rule, **options
    )
    with ProgressBars({"checks": "Examining", "score": "Scoring bars"}) as bars:
        done = calibrate_request(request, progress=bars.update)

    # 3. Write it, then print it
    print_resolved("checkpoint", checkpoint)
    if name is not None:
        checkpoint.store_calibration(name, done.stored, overwrite=overwrite)
    if output is not None:
        _write(done, output)
    if html is not None or png is not None:
        from ..reports.calibration_page import write_pages

        write_pages(done, html=html, png=png)
    if as_json:
        print_json({**done.to_json(), "stored": name, **{key: str(path) for key, path in places.items()}})
    else:
        _print(done, name, places)


def _check_places(places: Mapping[str, Path], *, overwrite: bool) -> None:
    """Check that every file can be written."""
    from ..workflows.inputs import check_out

    for option, path in places.items():
        check_out(path.parent, option=f"--{option}")
    if (output := places.get("output")) is not None and output.exists() and not overwrite:
        raise RecordError(f"--output: {output} exists. Choose another file, or replace it with --overwrite.")


def _write(done: CalibrationResult, output: Path) -> None:
    """Write the calibration and its decision as a JSON file."""
    from ..storage.atomic_files import json_text, write_text

    values = {"calibration": done.stored.calibration.to_json(), "decision": done.stored.decision.to_json()}
    try:
        write_text(output, json_text(values))
    except OSError as error:
        raise RecordError(f"--output: {output} cannot be written: {error.strerror or error}.") from None


def _shares(text: str | None) -> FloatArray | None:
    from ..models.calibration_fit import checked_shares

    if text is None:
        return None
    try:
        return checked_shares([float(each) for each in text.split(",")], "--shares")
    except ValueError:
        raise UsageError(f"--shares: expected SELL,HOLD,BUY such as 0.16,0.66,0.18, got '{text}'.") from None


def _print(done: CalibrationResult, name: str | None, places: Mapping[str, Path]) -> None:
    from ..reports.calibration_page import HELD_OUT, calibration_columns, calibration_rows

    calibration = done.stored.calibration
    if done.synthetic:
        print_line("SYNTHETIC data: these numbers do not come from a market.", style=STAMP)
    for each in done.warnings:
        print_line(each, style=STAMP)
    print_line(f"{done.checkpoint.name}: {calibration.method} fitted on {calibration.fitted_on}, {done.source}", style="bold")
    print_table(["", *calibration_columns(done)], calibration_rows(done))
    print_line(HELD_OUT)
    for note in done.notes:
        print_line(note, style="yellow")
    print_line(f"scale {calibration.scale}, offset {calibration.offset}; decision {done.stored.decision}")
    if name is not None:
        named = f"{done.checkpoint.option}{named_code_options(done.checkpoint)}"
        print_line(f"stored: flagbt run --ckpt {named} --calibration {shlex.quote('stored:' + name)}")
    for key, path in places.items():
        print_line(f"{key}: {path}")
    if name is None and "output" not in places:
        print_line("Nothing was stored: add --store, or --output FILE.")
