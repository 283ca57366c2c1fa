"""flagbt doctor: why a checkpoint collapses or scores too well."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..data.time_range import TimeRange
from ..errors import UsageError
from .console import ProgressBars, print_line
from .options import (
    STAMP,
    Command,
    Place,
    Range,
    features_option,
    grouped,
    json_option,
    print_json,
    print_resolved,
    reading_options,
    runs_option,
)

if TYPE_CHECKING:
    from ..data.reading import Reading
    from ..doctor.finding import Diagnosis

STYLES = {
    "broken": "bold red",
    "cannot be checked": "bold yellow",
    "suspect": "bold yellow",
    "warning": "yellow",
    "ok": "green",
    "skipped": "dim",
}
EXAMPLES = ("jan19",)


@click.command(
    "doctor", cls=Command, examples=("flagbt doctor --ckpt Jan19 --html doctor.html", "flagbt doctor --example jan19")
)
@click.option("--ckpt", help="A checkpoint's name or folder.")
@click.option("--run", "run", help="A run: its name, id or folder. With its calibration and decision, on the bars it traded.")
@runs_option
@grouped("Bars", "--data", type=Place(), help="A file of bars to test on. Default: the run's, or the SYNTHETIC sample.")
@grouped("Bars", "--train-data", type=Place(), help="The file it was trained on, if --data does not start early enough.")
@reading_options
@grouped(
    "Bars", "--timerange", type=Range(), help="Range to test: A-B, A- or -B. Default: the run's, or after all it has seen."
)
@click.option("--html", type=Place(), help="Write an offline page as well.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the sampled moments and resamples.")
@features_option
@click.option("--example", type=click.Choice(EXAMPLES), help="Reproduce a collapse on a random walk and diagnose it.")
@json_option
def doctor_command(
    ckpt: str | None,
    run: str | None,
    out: Path,
    data: Path | None,
    train_data: Path | None,
    reading: Reading,
    timerange: TimeRange | None,
    html: Path | None,
    seed: int,
    example: str | None,
    as_json: bool,
) -> None:
    """Find out why a checkpoint or a run collapses or scores too well: ranked causes, each a number against a limit.

    Exit 1 if the verdict is broken.
    """
    from ..results.store import find_run
    from ..workflows.inputs import check_has_file, check_out

    if html is not None:
        check_out(html.parent, option="--html")
        if html.is_dir():
            raise UsageError(f"--html: {html} is a folder. Give a file name, such as {html / 'doctor.html'}.")
    check_has_file(data, reading)
    if example is not None:
        diagnosis = _example(example, given=[ckpt, run, data, train_data, timerange], seed=seed, as_json=as_json)
    elif ckpt is not None or run is not None:
        folder = None if run is None else find_run(run, out)
        diagnosis = _examined(ckpt, folder, (data, train_data), reading, timerange, seed)
    else:
        raise UsageError(
            "--ckpt: not given. Name a checkpoint (flagbt ckpt list shows them), or a run (--run NAME), or add --example jan19."
        )
    if html is not None:
        diagnosis.to_html(html)
    if as_json:
        print_json(diagnosis.to_json())
    else:
        print_diagnosis(diagnosis)
        if html is not None:
            print_line(f"page: {html}")
    if diagnosis.verdict == "broken":
        sys.exit(1)


def _examined(
    ckpt: str | None,
    run: Path | None,
    files: tuple[Path | None, Path | None],
    reading: Reading,
    timerange: TimeRange | None,
    seed: int,
) -> Diagnosis:
    """Examine a checkpoint, or a run, whose checkpoint ``ckpt`` may name; ``files``: to test on, and of the training."""
    from ..data.readers import bars_of_file
    from ..doctor.checkpoint_subject import subject_of_checkpoint
    from ..doctor.examine import examine
    from ..models.checkpoint import find_checkpoint
    from ..results.run_reader import read_run
    from ..workflows.diagnose_run import subject_of_run
    from ..workflows.inputs import load_bars

    checkpoint = None if ckpt is None else find_checkpoint(ckpt)
    if checkpoint is not None:
        print_resolved("checkpoint", checkpoint)
    past = None if files[1] is None else bars_of_file(files[1], reading)
    if run is not None:
        given = None if files[0] is None else load_bars(files[0], reading)
        subject = subject_of_run(read_run(run), given, past=past, checkpoint=checkpoint, timerange=timerange, seed=seed)
    else:
        assert checkpoint is not None
        subject = subject_of_checkpoint(checkpoint, load_bars(files[0], reading), past=past, timerange=timerange, seed=seed)
    with ProgressBars({"checks": "Examining"}) as bars:
        return examine(subject, progress=lambda _check, done, total: bars.update("checks", done, total))


def _example(name: str, *, given: list[object], seed: int, as_json: bool) -> Diagnosis:
    if any(each is not None for each in given):
        raise UsageError(
            f"--example {name} generates its bars and model: omit --ckpt, --run, --data, --train-data and --timerange."
        )
    from ..doctor.example import run_example

    with ProgressBars({"train": "Training", "checks": "Examining"}) as bars:
        return run_example(write=(lambda _text: None) if as_json else print_line, seed=seed, progress=bars.update).diagnosis


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print the verdict, the findings and the number of items examined."""
    if diagnosis.synthetic:
        print_line("SYNTHETIC data: these numbers do not come from a market.", style=STAMP)
    for stamp in diagnosis.warnings:
        print_line(stamp, style=STAMP)
    print_line(f"{diagnosis.subject}: {diagnosis.verdict}", style="bold")
    for number, each in enumerate(diagnosis.findings, 1):
        value = (
            "" if each.value is None else f" {each.value:.4g}" + ("" if each.limit is None else f" (limit {each.limit:.4g})")
        )
        share = "" if each.explains is None else f", explains {100 * each.explains:.0f} % of the symptom"
        print_line(f"{number:2}. {each.severity:8} {each.check}{value}{share}", style=STYLES[each.severity])
        print_line(f"    {each.message}")
        if each.undone:
            print_line(f"    {each.undone}")
        if each.is_problem and each.otherwise:
            print_line(f"    {each.otherwise}")
        if each.remedy and each.severity != "ok":
            print_line(f"    Remedy: {each.remedy}")
    tried = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in diagnosis.coverage.items())
    print_line(f"examined: {tried}; {diagnosis.seconds:.0f} seconds")
