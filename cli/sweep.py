"""flagbt sweep: many settings on the same bars, and how much of the best result is luck."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import UsageError
from ..sweeps.axes import value_text
from .console import ProgressBars, print_line
from .options import (
    DEFAULT_RUNS,
    STAMP,
    Command,
    Number,
    Place,
    Range,
    config_option,
    features_option,
    json_option,
    print_checkpoint,
    print_json,
)

if TYPE_CHECKING:
    from ..workflows.sweep import SweepResult

T = TypeVar("T")
DEFAULT_SWEEPS = Path("sweeps")
_MOST_VALUES = 100_000
# The comma that separates values, not one inside offset:3,-2.5,1 or threshold:0.4,0.5.
_BETWEEN = r",(?=\s*[a-z])"


class Many(click.ParamType[tuple[Any, ...]]):
    """The values of an axis: one, several separated by commas, or ``grid:A..B:STEP`` for numbers."""

    def __init__(self, name: str, read: Callable[[str], Any], *, between: str = ",", grids: bool = False) -> None:
        self.name = name
        self._read = read
        self._between = between
        self._grids = grids

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Read the values."""
        if isinstance(value, tuple):
            return value
        text = str(value).strip()
        try:
            if self._grids and text.startswith("grid:"):
                return tuple(self._read(each) for each in _grid(text))
            return tuple(self._read(each.strip()) for each in re.split(self._between, text))
        except ValueError as error:
            self.fail(f"{error}, got '{text}'.", param, ctx)


def _grid(text: str) -> list[str]:
    """Return the numbers of ``grid:A..B:STEP``, both ends included, as exact decimal text: 3 * 0.1 is 0.3."""
    number = r"\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*"
    found = re.fullmatch(rf"grid:{number}\.\.{number}:{number}", text)
    if found is None:
        raise ValueError("expected grid:FROM..TO:STEP, such as grid:-4..4:0.5")
    start, stop, step = (Decimal(each) for each in found.groups())
    if step <= 0:
        raise ValueError("expected a step above 0")
    count = int((stop - start) / step) + 1 if stop >= start else 0
    if count < 1:
        raise ValueError("the grid is empty: it ends before it starts")
    if count > _MOST_VALUES:
        raise ValueError(f"the grid has {count:,} values, expected at most {_MOST_VALUES:,}")
    return [str(start + place * step) for place in range(count)]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("expected numbers, such as 0,5,10, or grid:0..20:5")
    return value + 0.0


def _whole(text: str) -> int:
    value = _number(text)
    if value != int(value):
        raise ValueError("expected whole numbers, such as 0,6,12, or grid:0..24:6")
    return int(value)


def _number_or_none(text: str) -> float | None:
    return None if text == "none" else _number(text)


def _yes_or_no(text: str) -> bool:
    values = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
    if text.lower() not in values:
        raise ValueError("expected yes, no, or both separated by a comma")
    return values[text.lower()]


def _name(text: str) -> str:
    if not text:
        raise ValueError("expected names, separated by commas")
    return text


NAMES = Many("names", _name)
RULES = Many("rules", _name, between=_BETWEEN)
FILES = Many("calibration", _name, between=r",(?=\s*(?:none|stored|offset:))")
NUMBERS = Many("numbers", _number, grids=True)
WHOLE = Many("numbers", _whole, grids=True)
OR_NONE = Many("numbers", _number_or_none, grids=True)


def _flat(_ctx: click.Context, _param: click.Parameter, values: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """Combine the values of a repeated option; a value given twice counts once."""
    return tuple(dict.fromkeys(each for group in values for each in group))


def _axis(*names: str, kind: Many, help: str, default: tuple[Any, ...] = (), **rest: Any) -> Callable[[Any], Any]:
    if default:
        rest["default"] = [default]
        help = f"{help}  [default: {','.join(value_text(each) for each in default)}]"
    return click.option(*names, type=kind, multiple=True, callback=_flat, help=help, show_default=False, **rest)


@click.command("sweep", cls=Command)
@_axis("--ckpt", kind=NAMES, help="Names or folders of checkpoints.")
@click.option("--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample.")
@click.option("--timerange", type=Range(), multiple=True, help="Bars to rank on: A-B, A- or -B. Several ranges count together.")
@click.option("--holdout", default="0.25", help="Bars that only the winner is tested on: a share of the last range, or A-B.")
@_axis("--calibration", kind=FILES, help="stored[:NAME], none, offset:a,b,c or FILE. Default without --offsets: stored.")
@_axis("--offsets", kind=NUMBERS, help="Offsets of SELL and BUY, every pair, with HOLD at 0: grid:-4..4:0.5.")
@_axis("--decision", "--decisions", "decision", kind=RULES, default=("stored",), help="stored, argmax, threshold:P or utility.")
@_axis("--fee-bps", "--fees", "fee_bps", kind=NUMBERS, default=(10.0,), help="Fee per side, in basis points.")
@_axis("--slippage-bps", kind=NUMBERS, default=(2.0,), help="Slippage per side, in basis points.")
@_axis("--borrow-bps-per-day", kind=NUMBERS, default=(1.0,), help="Borrow fee on a short's notional, per day.")
@_axis("--cash", kind=NUMBERS, default=(10_000.0,), help="Starting cash.")
@_axis(
    "--short",
    kind=Many("yes/no", _yes_or_no),
    default=(False,),
    is_flag=False,
    flag_value="yes",
    help="Whether a SELL while flat opens a short position: yes, no, or no,yes.",
)
@_axis("--cooldown-bars", kind=WHOLE, default=(0,), help="No entry for this many bars after an exit.")
@_axis("--min-hold-bars", kind=WHOLE, default=(0,), help="No exit by signal before this many bars.")
@_axis("--exit", kind=NAMES, default=("signal",), help="signal, horizon or horizon:BARS.")
@_axis("--stop-loss", kind=OR_NONE, default=(None,), help="Fractions of the entry price, or none.")
@_axis("--take-profit", kind=OR_NONE, default=(None,), help="Fractions of the entry price, or none.")
@_axis("--max-short-notional", kind=NUMBERS, default=(1.0,), help="Largest short position at entry, as a share of equity.")
@_axis(
    "--close-short-above",
    kind=OR_NONE,
    default=(None,),
    help="Close a short whose notional exceeds the equity this many times, or none.",
)
@click.option("--check-share", type=Number(), default=0.01, help="Share of settings, chosen at random, to check in Backtrader.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the random choice.")
@click.option("--backend", type=click.Choice(["local", "ray"]), default="local", help="Local processes, or a Ray cluster.")
@click.option("--workers", type=click.IntRange(1), default=2, help="Processes on this machine.")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--batch-size", type=click.IntRange(1), help="Chunks of bars per forward pass.")
@click.option("--cache/--no-cache", default=True, help="Read logits from the cache, and add new ones.")
@click.option("--allow-overlap", is_flag=True, help="Rank on bars that a checkpoint has seen; every output is stamped.")
@click.option("--yes", is_flag=True, help="Allow more than ten million replays.")
@click.option("--out", type=Place(), default=DEFAULT_SWEEPS, help="Folder of sweep folders.")
@click.option("--runs", type=Place(), default=DEFAULT_RUNS, help="Folder whose trial log counts the settings.")
@features_option
@config_option
@json_option
def sweep_command(out: Path, runs: Path, as_json: bool, **options: Any) -> None:
    """Replay every combination of settings, and report how much of the best result is luck.

    Options may be repeated, or given several values separated by commas.
    """
    from ..workflows.sweep import SweepRequest, sweep

    if not options["ckpt"]:
        raise UsageError("--ckpt: name one checkpoint or more. flagbt ckpt list shows them.")
    if not 0 <= options["check_share"] <= 1:
        raise UsageError(f"--check-share: expected a share from 0 to 1, got {options['check_share']:g}.")
    options["timerange"] = tuple(options["timerange"])
    request = SweepRequest(**{field.name: options[field.name] for field in fields(SweepRequest)})
    phases = {"score": "Scoring bars", "sweep": "Replaying settings", "check": "Checking in Backtrader"}
    with ProgressBars(phases) as bars:
        swept = sweep(request, out=out, runs=runs, command=["flagbt", *sys.argv[1:]], progress=bars.update)
    for name in options["ckpt"]:
        print_checkpoint(name)
    if as_json:
        print_json(
            {"sweep": str(swept.folder), "page": str(swept.folder / "sweep.html"), "resumed": swept.resumed, **swept.manifest}
        )
    else:
        print_sweep(swept)


def print_sweep(swept: SweepResult) -> None:
    """Print the results of a sweep."""
    values = swept.manifest
    if values["data"]["synthetic"]:
        print_line("SYNTHETIC data: these numbers do not come from a market.", style=STAMP)
    if values["allow_overlap"]:
        print_line("OVERLAP allowed: a checkpoint may have seen these bars. This is not a test.", style=STAMP)
    if swept.resumed:
        print_line("This sweep was finished before; nothing was recomputed.")
    from ..sweeps.sentences import sweep_sentences

    for line in sweep_sentences(values):
        print_line(line)
    print_line(f"page: {swept.folder / 'sweep.html'}")
