"""flagbt doctor: why a checkpoint collapses or scores too well; flagbt verify: proofs of single properties."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..data.time_range import TimeRange
from ..errors import RangeError, UsageError
from .console import ProgressBars, print_line
from .options import (
    STAMP,
    Command,
    F,
    Group,
    Place,
    Range,
    features_option,
    json_option,
    print_checkpoint,
    print_json,
    print_resolved,
)

if TYPE_CHECKING:
    from ..data.bars import Bars
    from ..doctor.finding import Diagnosis, Finding
    from ..models.checkpoint import Checkpoint
    from ..models.model_signals import ModelSignals

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
@click.option("--data", type=Place(), help="A file of bars to test on. Default: the SYNTHETIC sample.")
@click.option("--train-data", type=Place(), help="The file it was trained on, if --data does not start early enough.")
@click.option("--timerange", type=Range(), help="Range to test: A-B, A- or -B. Default: bars after all that it has seen.")
@click.option("--html", type=Place(), help="Write an offline page as well.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the sampled moments and resamples.")
@features_option
@click.option("--example", type=click.Choice(EXAMPLES), help="Reproduce a collapse on a random walk and diagnose it.")
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
    """Find out why a checkpoint collapses or scores too well: ranked causes, each a number against a limit.

    Exit 1 if the verdict is broken.
    """
    if html is not None:
        from ..workflows.inputs import check_out

        check_out(html.parent, option="--html")
        if html.is_dir():
            raise UsageError(f"--html: {html} is a folder. Give a file name, such as {html / 'doctor.html'}.")
    if example is not None:
        diagnosis = _example(example, given=[ckpt, data, train_data, timerange], seed=seed, as_json=as_json)
    elif ckpt is None:
        raise UsageError("--ckpt: not given. Name a checkpoint (flagbt ckpt list shows them), or add --example jan19.")
    else:
        from ..data.readers import read_bars
        from ..doctor.checkpoint_subject import subject_of_checkpoint
        from ..doctor.examine import examine
        from ..models.checkpoint import find_checkpoint
        from ..workflows.inputs import load_bars

        checkpoint = find_checkpoint(ckpt)
        print_resolved("checkpoint", checkpoint)
        past = None if train_data is None else read_bars(train_data)
        subject = subject_of_checkpoint(checkpoint, load_bars(data), past=past, timerange=timerange, seed=seed)
        with ProgressBars({"checks": "Examining"}) as bars:
            diagnosis = examine(subject, progress=lambda _check, done, total: bars.update("checks", done, total))
    if html is not None:
        from ..doctor.page import write_diagnosis

        write_diagnosis(diagnosis, html)
    if as_json:
        print_json(diagnosis.to_json())
    else:
        print_diagnosis(diagnosis)
        if html is not None:
            print_line(f"page: {html}")
    if diagnosis.verdict == "broken":
        sys.exit(1)


def _example(name: str, *, given: list[object], seed: int, as_json: bool) -> Diagnosis:
    if any(each is not None for each in given):
        raise UsageError(f"--example {name} generates its bars and model: omit --ckpt, --data, --train-data and --timerange.")
    from ..doctor.example import run_example

    with ProgressBars({"train": "Training", "checks": "Examining"}) as bars:
        return run_example(write=(lambda _text: None) if as_json else print_line, seed=seed, progress=bars.update)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print the verdict, the findings and the number of items examined."""
    if diagnosis.synthetic:
        print_line("SYNTHETIC data: these numbers do not come from a market.", style=STAMP)
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


@click.group("verify", cls=Group)
def verify_group() -> None:
    """Prove properties of a strategy or checkpoint on your bars; exit 1 if one does not hold."""


def _verify_options(command: F) -> F:
    """Add the options of every proof."""
    options = (
        click.option("--strategy", default="flagtrader", show_default=True, help="A name, or package.module:Class."),
        click.option("--ckpt", help="A checkpoint's name or folder."),
        click.option("--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample."),
        click.option("--timerange", type=Range(), help="A-B, A- or -B; YYYYMMDD, UTC, end exclusive."),
    )
    command = features_option(command)
    for option in reversed(options):
        command = option(command)
    return command


@verify_group.command(
    "lookahead",
    examples=(
        "flagbt verify lookahead --strategy sma-cross",
        "flagbt verify lookahead --ckpt Jan4 --timerange 20240101-20240201",
    ),
)
@_verify_options
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the sampled moments.")
@json_option
def verify_lookahead_command(
    strategy: str, ckpt: str | None, data: Path | None, timerange: TimeRange | None, seed: int, as_json: bool
) -> None:
    """Signals and orders up to a bar do not change with later bars, but do change with earlier ones.

    History before the range is used. Answers that hardly change with the past cannot be checked: exit 1.
    """
    from ..doctor.verify import verify_lookahead
    from ..strategies.declarations import warmup_bars

    make, model, bars, first = _verification_inputs(strategy, ckpt, data, timerange)
    warmup = (warmup_bars(make()) or 0) if model is None else model.warmup_bars
    with ProgressBars({"proof": "Proving"}) as shown:
        found = verify_lookahead(
            make, bars, first=first, warmup_bars=warmup, seed=seed, progress=partial(shown.update, "proof")
        )
    _print_proof(found, bars, as_json=as_json)


@verify_group.command(
    "batch",
    examples=(
        "flagbt verify batch --ckpt Jan4",
        "flagbt verify batch --ckpt mine --data btc_1h.csv --timerange 20240101-20240201",
    ),
)
@_verify_options
@json_option
def verify_batch_command(
    strategy: str, ckpt: str | None, data: Path | None, timerange: TimeRange | None, as_json: bool
) -> None:
    """Bars scored in batches have the same logits as bars scored one by one."""
    from ..doctor.verify import verify_batch

    _, model, bars, _ = _verification_inputs(strategy, ckpt, data, timerange)
    checkpoint = _checkpoint(model, "batch")
    with ProgressBars({"proof": "Proving"}) as shown:
        found = verify_batch(checkpoint, bars, progress=partial(shown.update, "proof"))
    _print_proof(found, bars, as_json=as_json)


@verify_group.command(
    "warmup",
    examples=("flagbt verify warmup --strategy sma-cross", "flagbt verify warmup --ckpt Jan4 --timerange 20240101-20240201"),
)
@_verify_options
@json_option
def verify_warmup_command(
    strategy: str, ckpt: str | None, data: Path | None, timerange: TimeRange | None, as_json: bool
) -> None:
    """Signals do not depend on the history before the warm-up."""
    from ..doctor.verify import verify_warmup

    make, model, bars, _ = _verification_inputs(strategy, ckpt, data, timerange)
    with ProgressBars({"proof": "Proving"}) as shown:
        found = verify_warmup(make, bars, model=model, progress=partial(shown.update, "proof"))
    _print_proof(found, bars, as_json=as_json)


@verify_group.command(
    "parity",
    examples=(
        "flagbt verify parity --ckpt mine --data btc_1h.csv",
        "flagbt verify parity --ckpt mine --data btc_1h.csv --json",
    ),
)
@_verify_options
@json_option
def verify_parity_command(
    strategy: str, ckpt: str | None, data: Path | None, timerange: TimeRange | None, as_json: bool
) -> None:
    """Serving gives the rows and logits that the training stored; --data must be the training's file."""
    from ..doctor.verify import verify_parity

    _, model, bars, _ = _verification_inputs(strategy, ckpt, data, timerange)
    _print_proof(verify_parity(_checkpoint(model, "parity"), bars), bars, as_json=as_json)


def _verification_inputs(
    strategy: str, ckpt: str | None, data: Path | None, timerange: TimeRange | None
) -> tuple[Callable[[], Any], ModelSignals | None, Bars, int]:
    """Return what makes the strategy, its model, the bars up to the range's end, and the position of the range's first."""
    from ..workflows.inputs import load_bars
    from ..workflows.request import RunRequest
    from ..workflows.strategy import strategy_maker

    print_checkpoint(ckpt)
    make, model = strategy_maker(RunRequest(strategy=strategy, ckpt=ckpt))
    bars = load_bars(data)
    part = bars.between(timerange or TimeRange())
    if part.stop <= part.start:
        raise RangeError(f"--timerange {timerange}: no bar of {bars} is in it. Choose another range.")
    return make, model, bars.take(slice(0, part.stop)), part.start


def _checkpoint(model: ModelSignals | None, what: str) -> Checkpoint:
    if model is None:
        raise UsageError(f"verify {what}: it needs a checkpoint. Add --ckpt NAME.")
    return model.checkpoint


def _print_proof(finding: Finding, bars: Bars, *, as_json: bool) -> None:
    if as_json:
        print_json(finding.to_json())
    else:
        if bars.synthetic:
            print_line("SYNTHETIC data: not from a market.", style=STAMP)
        print_line(f"{finding.check}: {finding.severity}", style=STYLES[finding.severity])
        print_line(finding.message)
        if finding.remedy:
            print_line(f"Remedy: {finding.remedy}")
    if finding.severity != "ok":  # cannot be checked is not a proof
        sys.exit(1)
