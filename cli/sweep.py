"""flagbt sweep: many settings on the same bars, and how much of the best result is luck."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..options import OptionEntry, OptionValue, option_table
from ..strategies.parameters import YES_OR_NO
from ..sweeps.axes import value_text
from ..workflows.strategy import read_param_axes
from ..workflows.sweep_request import SweepRequest, swept_options
from .console import ProgressBars, print_line, print_note
from .options import (
    DEFAULT_RUNS,
    STAMP,
    Command,
    F,
    Place,
    TableOption,
    config_option,
    features_option,
    json_option,
    param_option,
    print_checkpoint,
    print_json,
    table_option,
)

if TYPE_CHECKING:
    from ..workflows.finished_sweep import FinishedSweep

T = TypeVar("T")
DEFAULT_SWEEPS = Path("sweeps")
_MOST_VALUES = 100_000


class Many(click.ParamType[tuple[OptionValue, ...]]):
    """The values of an axis: one, several separated by commas, or ``grid:A..B:STEP`` for numbers."""

    def __init__(self, name: str, read: Callable[[str], OptionValue], *, between: str = ",", grids: bool = False) -> None:
        self.name = name
        self._read = read
        self._between = between
        self._grids = grids

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[OptionValue, ...]:
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


def _yes_or_no(text: str) -> bool:
    if text.lower() not in YES_OR_NO:
        raise ValueError("expected yes, no, or both separated by a comma")
    return YES_OR_NO[text.lower()]


def _name(text: str) -> str:
    if not text:
        raise ValueError("expected names, separated by commas")
    return text


def _flat(_ctx: click.Context, _param: click.Parameter, values: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """Combine the values of a repeated option; a value given twice counts once."""
    return tuple(dict.fromkeys(each for group in values for each in group))


_READ: dict[type, tuple[str, Callable[[str], OptionValue]]] = {
    bool: ("yes/no", _yes_or_no),
    int: ("numbers", _whole),
    float: ("numbers", _number),
    str: ("names", _name),
}


def _many_values(entry: OptionEntry) -> Callable[[F], F]:
    """Return a decorator that adds an option with several values."""
    about, (kind, read) = entry.option, _READ[entry.kind]
    default = entry.default if isinstance(entry.default, tuple) else (entry.default,)
    more = " yes, no, or no,yes." if entry.kind is bool else " none turns it off." if entry.is_optional else ""
    shown = ",".join(value_text(each) for each in default)
    return click.option(
        entry.flag,
        *about.also,
        entry.name,
        cls=TableOption,
        type=Many(
            about.unit if entry.is_many and about.unit else kind,
            (lambda text: None if text == "none" else read(text)) if entry.is_optional else read,
            between=about.separator,
            grids=entry.kind in (int, float),
        ),
        multiple=True,
        callback=_flat,
        default=[default] if default else None,
        help=f"{about.help}{more}",
        group=entry.group,
        bounds=about.range_text,
        show_default=False,
        default_text=shown,
        **({"is_flag": False, "flag_value": "yes"} if entry.kind is bool else {}),
    )


def _sweep_options(command: F) -> F:
    """Add the options of SweepRequest, and those of `flagbt run` that a sweep may vary."""
    command = features_option(command, "Model and scoring")
    entries = (*option_table(SweepRequest), *swept_options())
    strategy, *others = ((_many_values if entry.option.sweep else table_option)(entry) for entry in entries)
    for each in reversed((strategy, param_option("NAME=VALUES", "Values of a parameter of the strategy's own."), *others)):
        command = each(command)
    return command


def _split_values(text: str) -> list[str]:
    """Return the texts of the values of a parameter: one, several separated by commas, or those of a grid."""
    text = text.strip()
    return _grid(text) if text.startswith("grid:") else [each.strip() for each in text.split(",")]


@click.command(
    "sweep",
    cls=Command,
    examples=(
        "flagbt sweep --ckpt Jan19 --offsets grid:-4..4:1 --decision argmax --fees 0,10",
        "flagbt sweep --strategy sma-cross --param fast_bars=6,12,24 --param slow_bars=grid:48..192:48",
    ),
)
@_sweep_options
@click.option("--out", cls=TableOption, type=Place(), default=DEFAULT_SWEEPS, help="Folder of sweep folders.", group="Output")
@click.option(
    "--runs",
    cls=TableOption,
    type=Place(),
    default=DEFAULT_RUNS,
    help="Folder whose trial log counts the settings.",
    group="Output",
)
@config_option
@json_option
def sweep_command(out: Path, runs: Path, as_json: bool, **options: Any) -> None:
    """Replay every combination of settings, and report how much of the best result is luck.

    Options may be repeated, or given several values separated by commas.
    """
    from ..workflows.sweep import sweep_request

    params = read_param_axes(options["strategy"], options.pop("param"), _split_values)
    request = SweepRequest.of({**{name: value for name, value in options.items() if value is not None}, "params": params})
    phases = {
        "prepare": "Making the strategy",
        "score": "Scoring bars",
        "sweep": "Replaying settings",
        "check": "Checking in Backtrader",
    }
    with ProgressBars(phases) as bars:
        command = ["flagbt", *sys.argv[1:]]
        swept = sweep_request(request, out=out, runs=runs, command=command, progress=bars.update, notice=print_note)
    for name in request.ckpt:
        print_checkpoint(name)
    if as_json:
        print_json({"sweep": str(swept.folder), "page": str(swept.page), "resumed": swept.resumed, **swept.values})
    else:
        print_sweep(swept)


def print_sweep(swept: FinishedSweep) -> None:
    """Print the results of a sweep."""
    from ..results.caveats import UNSTATED
    from ..sweeps.sentences import sweep_sentences

    record = swept.record
    if record.data.synthetic:
        print_line("SYNTHETIC data: these numbers do not come from a market.", style=STAMP)
    if record.allow_overlap:
        print_line("OVERLAP allowed: a checkpoint may have seen these bars. This is not a test.", style=STAMP)
    if record.is_unstated:
        remedy = "bars_seen in its class; () for none" if not record.unstated else "--trained-on at the checkpoint's import"
        print_line(f"BARS SEEN not stated: {UNSTATED} ({remedy}).", style=STAMP)
    for stamp in record.text_stamps:
        print_line(stamp, style=STAMP)
    if swept.resumed:
        print_line("This sweep was finished before; nothing was recomputed.")
    for line in sweep_sentences(record):
        print_line(line)
    print_line(f"page: {swept.page}")
