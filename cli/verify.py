"""flagbt verify: proofs of single properties of a strategy or checkpoint."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..arrays import Progress
from ..data.time_range import TimeRange
from ..errors import RangeError, UsageError
from .console import ProgressBars, print_line
from .doctor import STYLES
from .options import (
    STAMP,
    Group,
    Place,
    Range,
    features_option,
    grouped,
    json_option,
    print_checkpoint,
    print_json,
    reading_options,
)

if TYPE_CHECKING:
    from ..data.bars import Bars
    from ..data.reading import Reading
    from ..doctor.finding import Finding
    from ..models.checkpoint import Checkpoint
    from ..models.model_signals import ModelSignals


class ProofSubject(NamedTuple):
    """What a proof is about: a strategy, its model if it has one, and the bars up to the range's end.

    ``first`` is the position of the range's first bar, ``seed`` that of the sampled moments.
    """

    make: Callable[[], Any]
    model: ModelSignals | None
    bars: Bars
    first: int
    seed: int

    def checkpoint(self, proof: str) -> Checkpoint:
        """Return the model's checkpoint, which the proof needs."""
        if self.model is None:
            raise UsageError(f"verify {proof}: it needs a checkpoint. Add --ckpt NAME.")
        return self.model.checkpoint


Prove = Callable[[ProofSubject, Progress], "Finding"]
Run = Callable[..., None]


@click.group("verify", cls=Group)
def verify_group() -> None:
    """Prove properties of a strategy or checkpoint on your bars; exit 1 if one does not hold."""


def proof(name: str, examples: tuple[str, str], *more: Callable[[Run], Run]) -> Callable[[Prove], Prove]:
    """Return a decorator that makes a function a command of `flagbt verify`, its docstring the help."""
    options: tuple[Callable[[Run], Run], ...] = (
        click.option("--strategy", default="flagtrader", show_default=True, help="A name, or package.module:Class."),
        click.option("--ckpt", help="A checkpoint's name or folder."),
        grouped("Bars", "--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample."),
        reading_options,
        grouped("Bars", "--timerange", type=Range(), help="A-B, A- or -B; YYYYMMDD, UTC, end exclusive."),
        features_option,
        *more,
        json_option,
    )

    def add(prove: Prove) -> Prove:
        def command(*, as_json: bool, **given: Any) -> None:
            subject = _subject(**given)
            with ProgressBars({"proof": "Proving"}) as shown:
                found = prove(subject, partial(shown.update, "proof"))
            _print_proof(found, subject.bars, as_json=as_json)

        made: Run = command
        for option in reversed(options):
            made = option(made)
        verify_group.command(name, help=inspect.getdoc(prove), examples=examples)(made)
        return prove

    return add


@proof(
    "lookahead",
    ("flagbt verify lookahead --strategy sma-cross", "flagbt verify lookahead --ckpt Jan4 --timerange 20240101-20240201"),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the sampled moments."),
)
def prove_lookahead(subject: ProofSubject, progress: Progress) -> Finding:
    """Signals and orders up to a bar do not change with later bars, but do change with earlier ones.

    History before the range is used. Answers that hardly change with the past cannot be checked: exit 1.
    """
    from ..doctor.verify_lookahead import verify_lookahead
    from ..strategies.declarations import warmup_bars

    warmup = (warmup_bars(subject.make()) or 0) if subject.model is None else subject.model.warmup_bars
    return verify_lookahead(
        subject.make, subject.bars, first=subject.first, warmup_bars=warmup, seed=subject.seed, progress=progress
    )


@proof(
    "batch",
    ("flagbt verify batch --ckpt Jan4", "flagbt verify batch --ckpt mine --data btc_1h.csv --timerange 20240101-20240201"),
)
def prove_batch(subject: ProofSubject, progress: Progress) -> Finding:
    """Bars scored in batches have the same logits as bars scored one by one."""
    from ..doctor.verify import verify_batch

    return verify_batch(subject.checkpoint("batch"), subject.bars, progress=progress)


@proof(
    "warmup", ("flagbt verify warmup --strategy sma-cross", "flagbt verify warmup --ckpt Jan4 --timerange 20240101-20240201")
)
def prove_warmup(subject: ProofSubject, progress: Progress) -> Finding:
    """Signals do not depend on the history before the warm-up."""
    from ..doctor.verify import verify_warmup

    return verify_warmup(subject.make, subject.bars, model=subject.model, progress=progress)


@proof(
    "parity",
    ("flagbt verify parity --ckpt mine --data btc_1h.csv", "flagbt verify parity --ckpt mine --data btc_1h.csv --json"),
)
def prove_parity(subject: ProofSubject, _progress: Progress) -> Finding:
    """Serving gives the rows and logits that the training stored; --data must be the training's file."""
    from ..doctor.verify import verify_parity

    return verify_parity(subject.checkpoint("parity"), subject.bars)


def _subject(
    *, strategy: str, ckpt: str | None, data: Path | None, reading: Reading, timerange: TimeRange | None, seed: int = 0
) -> ProofSubject:
    """Return the subject that the options name."""
    from ..engine.run_request import RunRequest
    from ..workflows.inputs import load_bars
    from ..workflows.strategy import strategy_maker

    print_checkpoint(ckpt)
    make, model = strategy_maker(RunRequest(strategy=strategy, ckpt=ckpt))
    bars = load_bars(data, reading)
    part = bars.between(timerange or TimeRange())
    if part.stop <= part.start:
        raise RangeError(f"--timerange {timerange}: no bar of {bars} is in it. Choose another range.")
    return ProofSubject(make, model, bars.take(slice(0, part.stop)), part.start, seed)


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
