"""What commands share: kinds of option values, options that several commands have, JSON on stdout."""

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
from .console import reserved_stdout, say_aside

if TYPE_CHECKING:
    from ..models.checkpoint import Checkpoint
    from ..models.stored_base import StoredBase

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_RUNS = Path("runs")
FROM_FILE = "flagbt.cli.config_file"  # where a context keeps the settings of --config
RESULT = "flagbt.result"  # where it keeps the stream that --json has reserved
STAMP = "bold black on yellow"
LARGEST_SEED = 2**32 - 1  # numpy's


class Command(click.Command):
    """A command that refuses an option given twice where it takes one value: the last one would win in silence."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, after a look at every value that an option was given."""
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
                says = (
                    f"{max(param.opts, key=len)}: given {len(values)} times, {each}, and it takes one value. Keep one of them."
                )
                raise click.UsageError(says, ctx)
            if len(set(values)) > 1:
                raise click.UsageError(f"{param.opts[0]} and {param.secondary_opts[0]} are both given. Keep one of them.", ctx)
        return super().parse_args(ctx, args)


class Group(Command, click.Group):
    """A group of such commands."""

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
    """A finite number: NaN passes every comparison that a bug forgot."""

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
    """A file or folder, which need not exist; the empty text that an unset shell variable leaves is none."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read a path."""
        if not str(value) or "\0" in str(value):
            self.fail(f"expected a path, got {str(value)!r}.", param, ctx)
        return Path(value)


def _name_plugin(ctx: click.Context, param: click.Parameter, value: str | None) -> None:  # noqa: ARG001
    if value is not None and not ctx.resilient_parsing:
        from ..data.features import feature_set

        feature_set(value)  # imported because the user named it; what only a file names is not


def features_option(command: F) -> F:
    """Add ``--features``: the user's word that a checkpoint's own feature code may run."""
    return click.option(
        "--features",
        callback=_name_plugin,
        expose_value=False,
        metavar="module:name",
        help="The checkpoint's own feature code, if it has any: it runs only when you name it.",
    )(command)


def tell_resolved(what: str, found: Checkpoint | StoredBase) -> None:
    """Say on stderr which folder a name resolved to, and its digest: names hide one another."""
    say_aside(f"{what} {found.name}: {found.folder}, digest {found.digest[:12]}")


def tell_checkpoint(name: str | None) -> None:
    """Say on stderr what a checkpoint's name resolves to; nothing where there is none."""
    if name is not None:
        from ..models.checkpoint import find_checkpoint

        tell_resolved("checkpoint", find_checkpoint(name))


def _reserve_stdout(ctx: click.Context, param: click.Parameter, value: bool) -> bool:  # noqa: ARG001 - click's signature
    if value and not ctx.resilient_parsing:
        # Of the root: the context of a command whose options are wrong is never closed.
        ctx.meta[RESULT] = ctx.find_root().with_resource(reserved_stdout())
    return value


def json_option(command: F) -> F:
    """Add ``--json``: one object on stdout, everything else on stderr, what a user's own code prints included."""
    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=_reserve_stdout, help="Print one JSON object on stdout."
    )(command)


def runs_option(command: F) -> F:
    """Add ``--out``: where run folders are kept."""
    return click.option("--out", type=Place(), default=DEFAULT_RUNS, show_default=True, help="Folder of run folders.")(command)


def _load_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:  # noqa: ARG001
    if value is not None:
        known = [str(option.name) for option in ctx.command.params if option.name not in ("config", "as_json")]
        many = [str(option.name) for option in ctx.command.params if option.multiple]
        settings = read_config(value, known, many)
        ctx.meta[FROM_FILE] = (value, settings)
        ctx.default_map = {name: setting.texts if name in many else setting.text for name, setting in settings.items()}
    return value


def config_option(command: F) -> F:
    """Add ``--config``: a YAML file of this command's options; what is given on the command line wins."""
    return click.option(
        "--config",
        type=Place(),
        is_eager=True,
        callback=_load_config,
        expose_value=False,
        help="YAML file of this command's options; the command line wins.",
    )(command)


def run_options(command: F) -> F:
    """Add every option that is a field of RunRequest, and where and under what name the run is kept."""
    options = (
        click.option("--strategy", default="flagtrader", show_default=True, help="A name, or package.module:Class."),
        click.option("--ckpt", help="A checkpoint's name or folder."),
        click.option("--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample."),
        click.option("--timerange", type=Range(), help="A-B, A- or -B; YYYYMMDD, UTC, end exclusive."),
        click.option("--calibration", default="stored", show_default=True, help="stored[:NAME], none, offset:a,b,c or FILE."),
        click.option("--decision", help="argmax, threshold:P or utility. Default: the one stored with the calibration."),
        click.option("--fee-bps", type=Number(), default=10.0, show_default=True, help="Fee a side, in basis points."),
        click.option("--slippage-bps", type=Number(), default=2.0, show_default=True, help="Slippage a side, in basis points."),
        click.option(
            "--borrow-bps-per-day", type=Number(), default=1.0, show_default=True, help="Borrow on a short's notional, a day."
        ),
        click.option("--cash", type=Number(above=0), default=10_000.0, show_default=True, help="Starting cash."),
        click.option("--short", is_flag=True, help="A SELL while flat opens a short position."),
        click.option(
            "--cooldown-bars", type=click.IntRange(0), default=0, show_default=True, help="No entry this long after an exit."
        ),
        click.option("--min-hold-bars", type=click.IntRange(0), default=0, show_default=True, help="No exit by signal before."),
        click.option(
            "--exit",
            default="signal",
            show_default=True,
            help="signal, or horizon[:BARS]: leave so long after the last signal.",
        ),
        click.option("--stop-loss", type=Number(above=0), help="Leave at a close this fraction worse than the entry price."),
        click.option("--take-profit", type=Number(above=0), help="Leave at a close this fraction better than the entry price."),
        click.option(
            "--max-short-notional",
            type=Number(above=0),
            default=1.0,
            show_default=True,
            help="Largest short opened, as a share of equity.",
        ),
        click.option("--close-short-above", type=Number(), help="Close a short above this many times the equity."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
        click.option("--batch-size", type=click.IntRange(1), help="Chunks of bars a forward pass."),
        click.option(
            "--cache/--no-cache", default=True, show_default=True, help="Take and keep scored logits; flagbt cache shows them."
        ),
        click.option("--allow-overlap", is_flag=True, help="Trade bars it has seen; stamped on every output."),
        click.option(
            "--seed", type=click.IntRange(0), default=0, show_default=True, help="For strategies that draw at random."
        ),
        click.option("--out", type=Place(), default=DEFAULT_RUNS, show_default=True, help="Folder of run folders."),
        click.option("--name", help="Your name for the run."),
        click.option("--notes", help="Your notes, shown on the page."),
    )
    command = features_option(command)
    for option in reversed(options):
        command = option(command)
    return command


def source_of(ctx: click.Context, name: str) -> str:
    """Return where an option's value came from: default, file, command line or environment."""
    source = ctx.get_parameter_source(name)
    names = {"DEFAULT": "default", "DEFAULT_MAP": "file", "COMMANDLINE": "command line", "ENVIRONMENT": "environment"}
    return names.get(source.name, source.name.lower()) if source else "default"


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout: on the stream that ``--json`` has reserved for it."""
    click.echo(json.dumps(values, indent=2, allow_nan=False), file=click.get_current_context().meta.get(RESULT))
