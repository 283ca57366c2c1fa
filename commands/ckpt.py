"""flagbt ckpt: look at checkpoints."""

from __future__ import annotations

import json

import click

from ..console import print_table, say
from ..errors import FlagbtError
from .options import json_option, print_json


@click.group("ckpt")
def ckpt_group() -> None:
    """Look at the checkpoints there are."""


@ckpt_group.command("list")
@json_option
def ckpt_list(as_json: bool) -> None:
    """List the checkpoints that names find."""
    from ..models.checkpoint import checkpoint_places, read_checkpoint

    rows, damaged = [], []
    for name, folder in checkpoint_places().items():
        try:
            each = read_checkpoint(folder)
        except FlagbtError as error:  # one damaged checkpoint must not hide the others
            damaged.append({"name": name, "error": str(error)})
            continue
        stops = [seen.stop for seen in each.ranges.values()]
        objective = each.values.get("objective") or {}
        rows.append({
            "name": name, "digest": each.digest[:12], "preset": each.values["base"].get("preset"),
            "objective": objective.get("loss"), "weights": objective.get("weights"),
            "seen until": None if None in stops else str(max(stop for stop in stops if stop is not None))[:10],
            "folder": str(each.folder),
        })  # fmt: skip
    if as_json:
        print_json({"checkpoints": rows, "damaged": damaged})
        return
    print_table(list(rows[0]) if rows else ["no checkpoints"], [list(row.values()) for row in rows])
    for bad in damaged:
        say(f"damaged: {bad['error']}", style="yellow")


@ckpt_group.command("show")
@click.argument("name")
@json_option
def ckpt_show(name: str, as_json: bool) -> None:
    """Show a checkpoint's card."""
    from ..models.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(name)
    if as_json:
        print_json({"folder": str(checkpoint.folder), "digest": checkpoint.digest, **checkpoint.values})
        return
    say(f"{checkpoint.folder}  digest {checkpoint.digest[:12]}")
    card = checkpoint.folder / "README.md"
    click.echo(
        card.read_text(encoding="utf-8", errors="replace") if card.is_file() else json.dumps(checkpoint.values, indent=2)
    )
