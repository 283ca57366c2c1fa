"""The command line: gathers the commands, and turns a user's mistake into one paragraph.

Nothing heavy is imported here: torch, transformers, Backtrader and quantstats only inside the commands that need them.
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
from .doctor import doctor_command, verify_group
from .options import FROM_FILE, Group, source_of
from .run import run_command, show_config
from .runs import compare_command, report_command, runs_group
from .strategies import strategies_group
from .sweep import sweep_command
from .train import pretrain_command, train_command


@click.group(
    cls=Group,
    context_settings={
        "token_normalize_func": lambda word: word.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
@click.version_option(__version__, prog_name="flagbt")
def cli() -> None:
    """Find out honestly whether a fine-tuned model trades, why not, and what it is worth."""


for _command in (
    run_command,
    train_command,
    pretrain_command,
    compare_command,
    report_command,
    runs_group,
    ckpt_group,
    strategies_group,
    data_group,
    doctor_command,
    verify_group,
    calibrate_command,
    cache_group,
    sweep_command,
    show_config,
):
    cli.add_command(_command)


def run_command_line() -> NoReturn:
    """Run the command line; errors of the user's are one paragraph on stderr, exit 1 or 2."""
    with stoppable():
        _run()


def _run() -> NoReturn:
    try:
        print_anywhere()
        code = cli.main(prog_name="flagbt", standalone_mode=False) or 0
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        _complain("stopped.", STOPPED)
    except BaseException as error:
        if requested() and getattr(error, "exit_code", None) != STOPPED:  # whatever somebody made of the request on the way
            _complain("stopped.", STOPPED)
        _explain(error)
    if requested():
        _complain("stopped.", STOPPED)
    sys.exit(code)


def _explain(error: BaseException) -> NoReturn:
    """Turn what a user can do something about into a paragraph, and raise everything else."""
    if isinstance(error, FlagbtError):
        _complain(str(error), error.exit_code)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        sys.exit(error.exit_code)
    if isinstance(error, click.ClickException):
        _complain(_said(error), error.exit_code)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _complain("the output could not be written: the disk is full. Make room, or write elsewhere.", 1)
    raise error


def _said(error: click.ClickException) -> str:
    """Write what click has to say in one paragraph, with the file and line where an option came from there."""
    context = getattr(error, "ctx", None)
    said = _unknown_option(error) if isinstance(error, click.NoSuchOption) else error.format_message()
    param = getattr(error, "param", None)
    if isinstance(error, click.BadParameter) and error.message and param is not None and param.name is not None:
        said = f"{max(param.opts, key=len) if isinstance(param, click.Option) else param.name}: {error.message}"
        path, settings = context.meta.get(FROM_FILE, (None, {})) if context is not None else (None, {})
        setting: ConfigSetting | None = settings.get(param.name)
        if setting is not None and context is not None and source_of(context, param.name) == "file":
            said = f"--config: {path}, line {setting.line}: {said}"
    said = said if said.endswith((".", "?", "?)")) else f"{said}."
    return f"{said} See {context.command_path} --help." if context is not None else said


def _unknown_option(error: click.NoSuchOption) -> str:
    """Name the option that was meant, or else the commands that have one of that name."""
    said = f"No such option '{error.option_name}'."
    if error.ctx is None:
        return said
    word, own = error.option_name, _options(error.ctx.command)
    if (same := same_option(word, own)) is None:
        found = [(name, there) for name, command in cli.commands.items() if (there := same_option(word, _options(command)))]
        if found:
            where = " and ".join(f"flagbt {name}" for name, there in found[:2] if there == found[0][1])
            return f"{said} '{found[0][1]}' is an option of {where}."
    alike = same or option_alike(word, own)
    return said if alike is None else f"{said} Did you mean '{alike}'?"


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
    # A plug-in's or a library's own words may have lines; the paragraph has none.
    said = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in " ".join(text.split()))
    click.echo(f"flagbt: {said}", err=True)
    sys.exit(exit_code)
