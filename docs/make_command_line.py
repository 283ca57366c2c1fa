"""Write docs/command-line.md from the commands' help: `python docs/make_command_line.py > docs/command-line.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from flagbt.cli.main import cli

WIDTH = 100
HEAD = """# The command line

The `--help` of every command. `python docs/make_command_line.py > docs/command-line.md` generates this page, and a test
compares the two. Do not edit this page: edit the help texts in `cli/`, and those of the fields of `Reading`, `Costs`, `Rules`,
`RunRequest` and `SweepRequest`. Every help has two examples.

Exit codes: 0 for success, 1 when a check fails or the work cannot be done, 2 for wrong usage, 130 when interrupted. An
error is one paragraph on stderr with the value, its place and a remedy (see `errors.py`). Options may also be written with
underscores, such as `--weight_strategy`. Progress and epoch tables go to stderr.
"""


def commands(command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Yield (path, help text) of a command and its subcommands, in the order of its help, at a fixed width."""
    settings = {**command.context_settings, "max_content_width": WIDTH}
    context = click.Context(
        command, info_name=command.name if parent else "flagbt", parent=parent, terminal_width=WIDTH, **settings
    )
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from commands(subcommand, context)


def page() -> str:
    """Return the page."""
    sections = [f"## {path}\n\n```text\n{text}\n```\n" for path, text in commands(cli)]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    click.echo(page(), nl=False)
