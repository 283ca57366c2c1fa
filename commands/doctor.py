"""flagbt doctor: why a checkpoint collapses or flatters itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console import Bars as ProgressBars
from ..console import say
from ..data.timerange import TimeRange
from ..errors import UsageError
from .options import STAMP, Place, Range, json_option, print_json

if TYPE_CHECKING:
    from ..results.doctor.finding import Diagnosis

STYLES = {"broken": "bold red", "suspect": "bold yellow", "warning": "yellow", "ok": "green", "skipped": "dim"}
EXAMPLES = ("jan19",)


@click.command("doctor")
@click.option("--ckpt", help="A checkpoint's name or folder.")
@click.option("--data", type=Place(), help="A file of bars to test on. Default: the SYNTHETIC sample.")
@click.option("--train-data", type=Place(), help="The file it was trained on, where --data does not reach back that far.")
@click.option("--timerange", type=Range(), help="Tested: A-B, A- or -B. Default: what follows everything it has seen.")
@click.option("--html", type=Place(), help="Write an offline page too.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the moments and resamples drawn.")
@click.option("--example", type=click.Choice(EXAMPLES), help="Replay a collapse on a random walk, and diagnose it.")
@json_option
def doctor_command(
    ckpt: str | None,
    data: Path | None,
    train_data: Path | None,
    timerange: TimeRange | None,
    html: Path | None,
    seed: int,
    example: str | None,
    as_json: bool,
) -> None:
    """Say why a checkpoint collapses or flatters itself: ranked causes, each a number against a limit.

    Exit 1 where the verdict is broken.
    """
    if example is not None:
        diagnosis = _example(example, given=[ckpt, data, train_data, timerange], seed=seed, as_json=as_json)
    elif ckpt is None:
        raise UsageError("--ckpt: name a checkpoint (flagbt ckpt list shows them), or add --example jan19.")
    else:
        from ..data.readers import read_bars
        from ..models.checkpoint import find_checkpoint
        from ..pipeline import load_bars
        from ..results.doctor.examine import examine
        from ..results.doctor.of_checkpoint import subject_of_checkpoint

        checkpoint = find_checkpoint(ckpt)
        past = None if train_data is None else read_bars(train_data)
        subject = subject_of_checkpoint(checkpoint, load_bars(data), past=past, timerange=timerange, seed=seed)
        with ProgressBars({"checks": "Examining"}) as bars:
            diagnosis = examine(subject, progress=lambda _check, done, total: bars.update("checks", done, total))
    if html is not None:
        from ..results.doctor.page import write_page

        write_page(diagnosis, html)
    if as_json:
        print_json(diagnosis.to_json())
    else:
        print_diagnosis(diagnosis)
        if html is not None:
            say(f"page: {html}")
    if diagnosis.verdict == "broken" and example is None:
        sys.exit(1)


def _example(name: str, *, given: list[object], seed: int, as_json: bool) -> Diagnosis:
    if any(each is not None for each in given):
        raise UsageError(
            f"--example {name} makes its own bars and model: leave --ckpt, --data, --train-data and --timerange out."
        )
    from ..results.doctor.story import tell

    with ProgressBars({"train": "Training", "checks": "Examining"}) as bars:
        return tell(say=(lambda _text: None) if as_json else lambda text: say(text), seed=seed, progress=bars.update)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print the verdict, what is wrong, and what was looked at."""
    if diagnosis.synthetic:
        say("SYNTHETIC data: no market was involved in these numbers.", style=STAMP)
    say(f"{diagnosis.subject}: {diagnosis.verdict}", style="bold")
    for number, each in enumerate(diagnosis.findings, 1):
        value = (
            "" if each.value is None else f" {each.value:.4g}" + ("" if each.limit is None else f" (limit {each.limit:.4g})")
        )
        say(f"{number:2}. {each.severity:8} {each.check}{value}", style=STYLES[each.severity])
        say(f"    {each.says}")
        if each.is_problem and each.otherwise:
            say(f"    If it were not the cause: {each.otherwise}")
        if each.remedy and each.severity != "ok":
            say(f"    Remedy: {each.remedy}")
    tried = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in diagnosis.coverage.items())
    say(f"looked at: {tried}; {diagnosis.seconds:.0f} seconds")
