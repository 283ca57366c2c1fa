"""flagbt strategies: list strategies."""

from __future__ import annotations

import click

from .console import print_table
from .options import Group, json_option, print_json


@click.group("strategies", cls=Group)
def strategies_group() -> None:
    """List strategies."""


@strategies_group.command("list", examples=("flagbt strategies list", "flagbt strategies list --json"))
@json_option
def strategies_list(as_json: bool) -> None:
    """List the registered strategies."""
    from ..strategies.registry import strategy_names

    names = strategy_names()
    if as_json:
        print_json({"strategies": [{"name": name, "description": text} for name, text in names]})
    else:
        print_table(["name", "what it does"], [list(row) for row in names])
