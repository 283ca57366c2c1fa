"""Shared by the commands: option types, common options, JSON on stdout."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..data.time_range import TimeRange
from ..errors import UsageError
from .config_file import read_config
from .console import print_note, reserved_stdout

if TYPE_CHECKING:
    from ..models.checkpoint import Checkpoint
    from ..models.stored_base import StoredBase

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_RUNS = Path("runs")
FROM_FILE = "flagbt.cli.config_file"  # where a context stores the settings of --config
RESULT = "flagbt.result"  # where it stores the stream that --json has reserved
STAMP = "bold black on yellow"
LARGEST_SEED = 2**32 - 1  # numpy's


class Command(click.Command):
    """A command that refuses two values for an option that takes one; click would use the last one silently."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and check how often each option is given."""
        parser = self.make_parser(ctx)
        for option in (*parser._short_opt.values(), *parser._long_opt.values()):
            option.action = {"store": "append", "store_const": "append_const"}.get(option.action, option.action)
        given, _, order = parser.parse_args(list(args))
        for param in order:
            values = given.get(param.name or "")
            if not isinstance(param, click.Option) or param.multiple or not isinstance(values, list) or len(values) == 1:
                continue
            if not param.is_flag:
                each = " and ".join(f"'{value}'" if isinstance(value, str) else "without a value" for value in values)
                raise click.UsageError(
                    f"{max(param.opts, key=len)}: given {len(values)} times, {each}, but it takes one value. Keep one of them.",
                    ctx,
                )
            if len(set(values)) > 1:
                raise click.UsageError(f"{param.opts[0]} and {param.secondary_opts[0]} are both given. Keep one of them.", ctx)
        return super().parse_args(ctx, args)


class Group(Command, click.Group):
    """A group of ``Command``s."""

    command_class = Command


class Range(click.ParamType[TimeRange]):
    """A time range option."""

    name = "A-B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TimeRange:
        """Read A-B, A- or -B."""
        option = param.opts[0] if param is not None else "--timerange"
        try:
            return value if isinstance(value, TimeRange) else TimeRange.parse(str(value), option=option)
        except UsageError as error:
            self.fail(str(error).removeprefix(f"{option}: "), param, ctx)


class Number(click.ParamType[float]):
    """A finite number: NaN would slip through comparisons with limits."""

    name = "number"

    def __init__(self, *, above: float = -math.inf) -> None:
        self.above = above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a float."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number > self.above):
            what = "a number" if self.above == -math.inf else f"a number above {self.above:g}"
            self.fail(f"expected {what}, got '{value}'.", param, ctx)
        return number


class Place(click.ParamType[Path]):
    """A path of a file or folder that may not exist; an empty text, as from an unset shell variable, is refused."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read a path."""
        if not str(value) or "\0" in str(value):
            self.fail(f"expected a path, got {str(value)!r}.", param, ctx)
        return Path(value)


def _name_plugin(ctx: click.Context, param: click.Parameter, value: str | None) -> None:  # noqa: ARG001
    if value is not None and not ctx.resilient_parsing:
        from ..data.features import feature_set

        feature_set(value)  # imported because the user named it; code that only a file names is never imported


def features_option(command: F) -> F:
    """Add ``--features``: the user's permission to run a checkpoint's own feature code."""
    return click.option(
        "--features",
        callback=_name_plugin,
        expose_value=False,
        metavar="module:name",
        help="The checkpoint's own feature code, if any; it runs only if you name it.",
    )(command)


def print_resolved(what: str, found: Checkpoint | StoredBase) -> None:
    """Print the folder and digest of a resolved name on stderr: several folders may have that name."""
    print_note(f"{what} {found.name}: {found.folder}, digest {found.digest[:12]}")


def print_checkpoint(name: str | None) -> None:
    """Print the folder and digest of a checkpoint's name on stderr, if there is a name."""
    if name is not None:
        from ..models.checkpoint import find_checkpoint

        print_resolved("checkpoint", find_checkpoint(name))


def _reserve_stdout(ctx: click.Context, param: click.Parameter, value: bool) -> bool:  # noqa: ARG001 - click's signature
    if value and not ctx.resilient_parsing:
        # On the root context: the context of a command with wrong options is never closed.
        ctx.meta[RESULT] = ctx.find_root().with_resource(reserved_stdout())
    return value


def json_option(command: F) -> F:
    """Add ``--json``: one object on stdout; all other output goes to stderr, that of a user's code included."""
    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=_reserve_stdout, help="Print one JSON object on stdout."
    )(command)


def runs_option(command: F) -> F:
    """Add ``--out``: the folder of run folders."""
    return click.option("--out", type=Place(), default=DEFAULT_RUNS, help="Folder of run folders.")(command)


def _load_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:  # noqa: ARG001
    if value is not None:
        known = [str(option.name) for option in ctx.command.params if option.name not in ("config", "as_json")]
        many = [str(option.name) for option in ctx.command.params if option.multiple]
        settings = read_config(value, known, many)
        ctx.meta[FROM_FILE] = (value, settings)
        ctx.default_map = {name: setting.texts if name in many else setting.text for name, setting in settings.items()}
    return value


def config_option(command: F) -> F:
    """Add ``--config``: a YAML file of this command's options, overridden by the command line."""
    return click.option(
        "--config",
        type=Place(),
        is_eager=True,
        callback=_load_config,
        expose_value=False,
        help="YAML file of this command's options; the command line overrides it.",
    )(command)


def run_options(command: F) -> F:
    """Add the options of RunRequest, and the folder, name and notes of the run."""
    options = (
        click.option("--strategy", default="flagtrader", help="A name, or package.module:Class."),
        click.option(
            "--param", multiple=True, metavar="NAME=VALUE", help="A parameter of the strategy's own; may be repeated."
        ),
        click.option("--ckpt", help="A checkpoint's name or folder."),
        click.option("--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample."),
        click.option("--timerange", type=Range(), help="A-B, A- or -B; YYYYMMDD, UTC, end exclusive."),
        click.option("--calibration", default="stored", help="stored[:NAME], none, offset:a,b,c or FILE."),
        click.option("--decision", help="argmax, threshold:P or utility. Default: stored with the calibration, else argmax."),
        click.option("--fee-bps", type=Number(), default=10.0, help="Fee per side, in basis points."),
        click.option("--slippage-bps", type=Number(), default=2.0, help="Slippage per side, in basis points."),
        click.option("--borrow-bps-per-day", type=Number(), default=1.0, help="Borrow fee on a short's notional, per day."),
        click.option("--cash", type=Number(above=0), default=10_000.0, help="Starting cash."),
        click.option("--short", is_flag=True, help="A SELL while flat opens a short position."),
        click.option("--cooldown-bars", type=click.IntRange(0), default=0, help="No entry for this many bars after an exit."),
        click.option("--min-hold-bars", type=click.IntRange(0), default=0, help="No exit by signal before this many bars."),
        click.option("--exit", default="signal", help="signal, or horizon[:BARS]: exit this long after the last signal."),
        click.option("--stop-loss", type=Number(above=0), help="Exit at a close worse than the entry price by this fraction."),
        click.option(
            "--take-profit", type=Number(above=0), help="Exit at a close better than the entry price by this fraction."
        ),
        click.option(
            "--max-short-notional",
            type=Number(above=0),
            default=1.0,
            help="Largest short position at entry, as a share of equity.",
        ),
        click.option(
            "--close-short-above", type=Number(), help="Close a short whose notional exceeds the equity this many times."
        ),
        click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N."),
        click.option("--batch-size", type=click.IntRange(1), help="Chunks of bars per forward pass."),
        click.option("--cache/--no-cache", default=True, help="Read logits from the cache, and add new ones."),
        click.option("--allow-overlap", is_flag=True, help="Trade bars that it has seen; every output is stamped."),
        click.option("--seed", type=click.IntRange(0), default=0, help="For strategies that draw at random."),
        click.option("--out", type=Place(), default=DEFAULT_RUNS, help="Folder of run folders."),
        click.option("--name", help="Your name for the run."),
        click.option("--notes", help="Your notes, shown on the page."),
    )
    command = features_option(command)
    for option in reversed(options):
        command = option(command)
    return command


def source_of(ctx: click.Context, name: str) -> str:
    """Return the source of an option's value: default, file, command line or environment."""
    source = ctx.get_parameter_source(name)
    names = {"DEFAULT": "default", "DEFAULT_MAP": "file", "COMMANDLINE": "command line", "ENVIRONMENT": "environment"}
    return names.get(source.name, source.name.lower()) if source else "default"


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on the stdout that ``--json`` has reserved."""
    click.echo(json.dumps(values, indent=2, allow_nan=False), file=click.get_current_context().meta.get(RESULT))
