"""The command line: combines the commands, and reports a user's mistake in one paragraph.

Only the commands that need them import torch, transformers, Backtrader and quantstats.
"""

from __future__ import annotations

import errno
import sys
from typing import NoReturn

import click

from .. import __version__
from ..errors import FlagbtError, option_alike, same_option
from ..stopping import EXIT_CODE as STOPPED
from ..stopping import requested, stoppable
from .cache import cache_group
from .calibrate import calibrate_command
from .ckpt import ckpt_group
from .config_file import ConfigSetting
from .console import print_anywhere
from .data import data_group
from .doctor import doctor_command
from .new import new_command
from .options import FROM_FILE, Group, source_of
from .pretrain import pretrain_command
from .run import run_command, show_config
from .runs import compare_command, report_command, runs_group
from .strategies import strategies_group
from .sweep import sweep_command
from .train import train_command
from .verify import verify_group

# A new command is a new file of this folder, and its name here, where `flagbt --help` shows it.
COMMANDS: dict[str, tuple[click.Command, ...]] = {
    "Backtest": (run_command, sweep_command, show_config),
    "Results": (runs_group, report_command, compare_command),
    "Models": (train_command, pretrain_command, calibrate_command, ckpt_group),
    "Diagnosis": (doctor_command, verify_group),
    "Data, strategies, cache": (data_group, strategies_group, new_command, cache_group),
}

# What to do in a command that lacks an option of another one, for want of a checkpoint.
_AS_A_CHECKPOINT = {
    "--signals": " For the other commands, import the probabilities: flagbt ckpt import FILE --name NAME --model signals."
}


class Program(Group):
    """The group of all commands, which its help lists under headings, in reading order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands in reading order."""
        return [str(command.name) for commands in COMMANDS.values() for command in commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands of each heading, with the first sentence of each."""
        longest = max(map(len, self.list_commands(ctx)))
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                limit = formatter.width - 6 - longest
                rows = [(str(each.name).ljust(longest), each.get_short_help_str(limit)) for each in commands]
                formatter.write_dl(rows)


@click.group(
    cls=Program,
    commands=[command for commands in COMMANDS.values() for command in commands],
    context_settings={
        "token_normalize_func": lambda name: name.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "show_default": True,
    },
)
@click.version_option(__version__, prog_name="flagbt")
def cli() -> None:
    """Find out honestly whether a fine-tuned model trades, why not, and what it is worth."""


def run_command_line() -> NoReturn:
    """Run the command line; a user's error is one paragraph on stderr, with exit code 1 or 2."""
    with stoppable():
        _run()


def _run() -> NoReturn:
    try:
        print_anywhere()
        code = cli.main(prog_name="flagbt", standalone_mode=False) or 0
        if sys.stdout is not None:  # the caller has closed it
            sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        _complain("stopped.", STOPPED)
    except BaseException as error:
        if requested() and getattr(error, "exit_code", None) != STOPPED:  # code in between may have replaced the exception
            _complain("stopped.", STOPPED)
        _explain(error)
    if requested():
        _complain("stopped.", STOPPED)
    sys.exit(code)


def _explain(error: BaseException) -> NoReturn:
    """Report an error that the user can fix in one paragraph; raise any other."""
    if isinstance(error, FlagbtError):
        _complain(str(error), error.exit_code)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        sys.exit(error.exit_code)
    if isinstance(error, click.ClickException):
        _complain(_message(error), error.exit_code)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _complain("the output could not be written: the disk is full. Make room, or write to another disk.", 1)
    raise error


def _message(error: click.ClickException) -> str:
    """Return click's message in one paragraph, with the file and line of an option that came from a config file."""
    context = getattr(error, "ctx", None)
    text = _unknown_option(error) if isinstance(error, click.NoSuchOption) else error.format_message()
    param = getattr(error, "param", None)
    if isinstance(error, click.BadParameter) and error.message and param is not None and param.name is not None:
        text = f"{max(param.opts, key=len) if isinstance(param, click.Option) else param.name}: {error.message}"
        path, settings = context.meta.get(FROM_FILE, (None, {})) if context is not None else (None, {})
        setting: ConfigSetting | None = settings.get(param.name)
        if setting is not None and context is not None and source_of(context, param.name) == "file":
            text = f"--config: {path}, line {setting.line}: {text}"
    text = text if text.endswith((".", "?", "?)")) else f"{text}."
    return f"{text} See {context.command_path} --help." if context is not None else text


def _unknown_option(error: click.NoSuchOption) -> str:
    """Return the message for an unknown option, with the nearest option or the commands that have it."""
    message = f"No such option '{error.option_name}'."
    if error.ctx is None:
        return message
    name, own = error.option_name, _options(error.ctx.command)
    if (same := same_option(name, own)) is None:
        found = [(each, match) for each, command in cli.commands.items() if (match := same_option(name, _options(command)))]
        if found:
            where = " and ".join(f"flagbt {each}" for each, option in found[:2] if option == found[0][1])
            return f"{message} '{found[0][1]}' is an option of {where}.{_AS_A_CHECKPOINT.get(found[0][1], '')}"
    guess = same or option_alike(name, own)
    return message if guess is None else f"{message} Did you mean '{guess}'?"


def _options(command: click.Command) -> list[str]:
    """Return the long options of a command, ``--no-`` forms included."""
    return [
        name
        for option in command.params
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    ]


def _complain(text: str, exit_code: int) -> NoReturn:
    # The message of a plug-in or library may have several lines; the paragraph has one.
    message = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in " ".join(text.split()))
    click.echo(f"flagbt: {message}", err=True)
    sys.exit(exit_code)
