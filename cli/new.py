"""flagbt new: write a small package with a plug-in of your own."""

from __future__ import annotations

import click

from .console import print_line
from .options import Command, json_option, print_json

KINDS = ("strategy", "features", "check", "model", "metric")


@click.command("new", cls=Command, examples=("flagbt new strategy my_idea", "flagbt new model my_model"))
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@json_option
def new_command(kind: str, name: str, as_json: bool) -> None:
    """Write a small package: a strategy, features, a check, a kind of model or a metric.

    It is written to a new folder NAME, with a test that passes once it is installed with pip install -e; flagbt then finds it
    by its name. NAME is a Python module's name, such as my_idea.
    """
    from ..workflows.new_package import new_package

    written = new_package(kind, name)
    if as_json:
        print_json(written.to_json())
        return
    for file in written.files:
        print_line(str(file))
    print_line(f"Next: cd {written.folder} && pip install -e . pytest && pytest; flagbt then knows it as '{written.name}'.")
