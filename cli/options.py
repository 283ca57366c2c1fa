"""Shared by the commands: option types, common options, JSON on stdout."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ..data.reading import Reading
from ..data.time_range import TimeRange
from ..engine.run_request import RunRequest
from ..errors import UsageError
from ..options import OptionEntry, option_table
from .config_file import read_config
from .console import print_note, reserved_stdout

if TYPE_CHECKING:
    from ..models.checkpoint import Checkpoint
    from ..training.stored_base import StoredBase

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_RUNS = Path("runs")
FROM_FILE = "flagbt.cli.config_file"  # where a context stores the settings of --config
RESULT = "flagbt.result"  # where it stores the stream that --json has reserved
STAMP = "bold black on yellow"
# The headings of a command's options, in their order.
GROUPS = ("Strategy", "Bars", "Model and scoring", "Account", "Costs", "Rules", "Sweep", "Output", "Options")
LARGEST_SEED = 2**32 - 1  # numpy's


class TableOption(click.Option):
    """An option of a command under one of the headings of ``GROUPS``, with its range in words.

    Parameters
    ----------
    group : str
    bounds, default_text : str
        The range of its values and its default in words, where click's own would not do.
    """

    def __init__(
        self, names: Sequence[str], *, group: str = "", bounds: str = "", default_text: str = "", **about: Any
    ) -> None:
        super().__init__(names, **about)
        self.group = group
        self.bounds = bounds
        self.default_text = default_text

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        """Return what stands in brackets after the help: the default and the range."""
        extra = super().get_help_extra(ctx)
        if self.bounds:
            extra["range"] = self.bounds
        if self.default_text:
            extra["default"] = self.default_text
        return extra


def grouped(group: str, *names: str, **about: Any) -> Callable[[F], F]:
    """Add an option under a heading; ``about`` is click's."""
    return click.option(*names, cls=TableOption, group=group, **about)


class Command(click.Command):
    """A command with two examples in its help, and its options under headings.

    It refuses two values for an option that takes one; click would use the last one silently.

    Parameters
    ----------
    examples : tuple of str
        Two command lines.
    """

    def __init__(self, name: str | None, *, examples: tuple[str, ...] = (), **about: Any) -> None:
        super().__init__(name, **about)
        self.examples = examples

    def shown_examples(self, ctx: click.Context) -> tuple[str, ...]:  # noqa: ARG002 - a group's are those of its commands
        """Return the examples that the help shows."""
        return self.examples

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description, then the examples."""
        super().format_help_text(ctx, formatter)
        if examples := self.shown_examples(ctx):
            with formatter.section("Examples"):
                for example in examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        found: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and not isinstance(param, click.Argument):
                found.setdefault(getattr(param, "group", "") or GROUPS[-1], []).append(record)
        places = {title: float(place) for place, title in enumerate(GROUPS)}
        for title in sorted(found, key=lambda title: places.get(title, places["Output"] - 0.5)):
            with formatter.section(title):
                formatter.write_dl(found[title])

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
    """A group of ``Command``s; its examples are theirs."""

    command_class = Command

    def shown_examples(self, ctx: click.Context) -> tuple[str, ...]:
        """Return an example of the first two commands, or both of the only one."""
        commands = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        each = [command.examples for command in commands if isinstance(command, Command) and command.examples]
        return tuple(example for examples in zip(*each, strict=True) for example in examples)[:2]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


class Range(click.ParamType[TimeRange]):
    """A time range option."""

    name = "A-B"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> TimeRange:
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

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a float."""
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > self.above):
            what = "a number" if self.above == -math.inf else f"a number above {self.above:g}"
            self.fail(f"expected {what}, got '{value}'.", param, ctx)
        return number


class Place(click.ParamType[Path]):
    """A path of a file or folder that may not exist; an empty text, as from an unset shell variable, is refused."""

    name = "path"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read a path."""
        if not str(value) or "\0" in str(value):
            self.fail(f"expected a path, got {str(value)!r}.", param, ctx)
        return Path(str(value))


def _name_features(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> None:  # noqa: ARG001
    if not ctx.resilient_parsing:
        from ..data.features import feature_set

        for each in values:
            feature_set(each)  # imported because the user named it; code that only a file names is never imported


def _name_model_code(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> None:  # noqa: ARG001
    if not ctx.resilient_parsing:
        from ..data.plugins import load_object

        for each in values:
            load_object(each, what="--model-code")


def features_option(command: F, group: str = "") -> F:
    """Add ``--features`` and ``--model-code``: the user's permission to run code that a checkpoint names."""
    command = grouped(
        group,
        "--model-code",
        callback=_name_model_code,
        expose_value=False,
        multiple=True,
        metavar="module:Class",
        help="The checkpoint's own class, if any; it runs only if you name it.",
    )(command)
    return grouped(
        group,
        "--features",
        callback=_name_features,
        expose_value=False,
        multiple=True,
        metavar="module:name",
        help="The checkpoint's own feature code, if any; it runs only if you name it.",
    )(command)


def named_code_options(checkpoint: Checkpoint) -> str:
    """Return the options that name the user's own code which a checkpoint runs, as text with a space before each."""
    code = checkpoint.model.named_code
    return "".join(f" --{name.replace('_', '-')} {each}" for name, values in code.items() for each in values)


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


def table_option(entry: OptionEntry) -> Callable[[F], F]:
    """Return a decorator that adds an option that takes one value, or a range several times."""
    about, default = entry.option, entry.default
    types: dict[type, click.ParamType[Any]] = {
        float: Number(above=-math.inf if about.above is None else about.above),
        int: click.IntRange(None if about.minimum is None else int(about.minimum)),
        str: click.Choice(about.choices) if about.choices else click.STRING,
        Path: Place(),
        TimeRange: Range(),
    }
    has_no = entry.kind is bool and (default is True or entry.is_optional)
    return click.option(
        f"{entry.flag}/--no-{entry.flag[2:]}" if has_no else entry.flag,
        entry.name,
        cls=TableOption,
        type=types.get(entry.kind),
        is_flag=entry.kind is bool,
        multiple=entry.is_many,
        default=default if isinstance(default, bool | int | float | str) else None,
        help=about.help,
        metavar=about.unit.upper() or None,
        group=entry.group,
        bounds=about.range_text,
    )


def options_of(kind: type, argument: str) -> Callable[[F], F]:
    """Return a decorator that adds the options of a dataclass, which the command takes as one ``argument``."""

    def add(command: F) -> F:
        @wraps(command)
        def with_object(*args: Any, **given: Any) -> Any:
            values = {entry.name: given.pop(entry.name) for entry in option_table(kind)}
            return command(*args, **{argument: kind(**values)}, **given)

        made: Any = with_object
        for entry in reversed(option_table(kind)):
            made = table_option(entry)(made)
        return cast(F, made)

    return add


reading_options = options_of(Reading, "reading")


def param_option(metavar: str, help: str) -> Callable[[F], F]:
    """Return a decorator that adds ``--param``, which may be repeated."""
    return click.option("--param", cls=TableOption, multiple=True, metavar=metavar, help=help, group="Strategy")


def run_options(command: F) -> F:
    """Add the options of RunRequest, and the folder, name and notes of the run."""
    output = (
        click.option(
            "--out", cls=TableOption, type=Place(), default=DEFAULT_RUNS, help="Folder of run folders.", group="Output"
        ),
        click.option("--name", cls=TableOption, help="Your name for the run.", group="Output"),
        click.option("--notes", cls=TableOption, help="Your notes, shown on the page.", group="Output"),
    )
    parameter = param_option("NAME=VALUE", "A parameter of the strategy's own; may be repeated.")
    command = features_option(command, "Model and scoring")
    strategy, *others = map(table_option, option_table(RunRequest))
    for each in reversed((strategy, parameter, *others, *output)):
        command = each(command)
    return command


def source_of(ctx: click.Context, name: str) -> str:
    """Return the source of an option's value: default, file, command line or environment."""
    source = ctx.get_parameter_source(name)
    names = {"DEFAULT": "default", "DEFAULT_MAP": "file", "COMMANDLINE": "command line", "ENVIRONMENT": "environment"}
    return names.get(source.name, source.name.lower()) if source else "default"


def print_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on the stdout that ``--json`` has reserved."""
    click.echo(json.dumps(values, indent=2, allow_nan=False), file=click.get_current_context().meta.get(RESULT))
