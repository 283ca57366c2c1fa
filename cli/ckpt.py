"""flagbt ckpt: list, show, import, combine and export checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import FlagbtError
from ..models.owner_options import NONE_SEEN, UNKNOWN_SEEN, OwnerOptions
from ..storage.untrusted_files import LARGEST_TEXT_BYTES, read_bytes
from .console import print_line, print_table
from .ensemble import ensemble
from .options import (
    Group,
    Place,
    grouped,
    json_option,
    named_code_options,
    options_of,
    print_json,
    print_resolved,
    reading_options,
)

if TYPE_CHECKING:
    from ..data.reading import Reading
    from ..models.checkpoint import Checkpoint


@click.group("ckpt", cls=Group)
def ckpt_group() -> None:
    """List, show, import, combine and export checkpoints."""


ckpt_group.add_command(ensemble)


@ckpt_group.command("list", examples=("flagbt ckpt list", "flagbt ckpt list --json"))
@json_option
def ckpt_list(as_json: bool) -> None:
    """List the available checkpoints."""
    from ..models.checkpoint import checkpoint_places, read_checkpoint

    rows, damaged = [], []
    for name, folder in checkpoint_places().items():
        try:
            each = read_checkpoint(folder)
        except FlagbtError as error:  # a damaged checkpoint must not hide the others
            damaged.append({"name": name, "error": str(error)})
            continue
        objective = each.described.objective or {}
        rows.append(
            {
                "name": name,
                "digest": each.digest[:12],
                "kind": each.kind,
                "preset": each.described.base.preset,
                "objective": objective.get("loss"),
                "weights": objective.get("weights"),
                "seen_until": _seen_until(each),
                "text_until": each.text_read,
                "folder": str(each.folder),
            }
        )
    if as_json:
        print_json({"checkpoints": rows, "damaged": damaged})
        return
    head = [name.replace("_", " ") for name in rows[0]] if rows else ["no checkpoints"]
    for row in rows:
        if row["preset"] == row["kind"]:  # only networks that were trained here have presets
            row["preset"] = None
    print_table(head, [list(row.values()) for row in rows])
    for bad in damaged:
        print_line(f"damaged: {bad['error']}", style="yellow")


@ckpt_group.command("kinds", examples=("flagbt ckpt kinds", "flagbt ckpt kinds --json"))
@json_option
def ckpt_kinds(as_json: bool) -> None:
    """List the kinds of models: what each is, its package, and which commands make a checkpoint of it."""
    from ..models.registry import defines, find_kind, kind_names, origin_of

    rows, broken = [], []
    for name, text in kind_names():
        try:
            kind = find_kind(name)
        except FlagbtError as error:  # a broken package must not hide the others
            broken.append({"name": name, "package": origin_of(name), "error": str(error)})
            continue
        about = {"name": name, "description": text, "package": origin_of(name)}
        rows.append({**about, "imported": defines(kind, "import_from"), "trained": defines(kind, "fit")})
    if as_json:
        print_json({"kinds": rows, "broken": broken})
        return
    head = ["name", "what it is", "package", "ckpt import", "train --model"]
    print_table(head, [["yes" if cell is True else cell or "no" for cell in row.values()] for row in rows])
    for bad in broken:
        print_line(f"broken: {bad['error']}", style="yellow")


def _seen_until(checkpoint: Checkpoint) -> str | None:
    """Return the date at which the bars that it has seen end; None where they have no end, or nothing is stated."""
    if "ranges" in checkpoint.unknown:
        return None
    if checkpoint.bars_seen is None:
        return UNKNOWN_SEEN
    stops = [seen.stop for seen in checkpoint.bars_seen]
    if not stops:
        return NONE_SEEN
    return None if None in stops else str(max(stop for stop in stops if stop is not None))[:10]


@ckpt_group.command("show", examples=("flagbt ckpt show Jan4", "flagbt ckpt show checkpoints/mine --json"))
@click.argument("name")
@json_option
def ckpt_show(name: str, as_json: bool) -> None:
    """Show a checkpoint's card."""
    from ..models.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(name)
    if as_json:
        print_json(
            {"folder": str(checkpoint.folder), "digest": checkpoint.digest, "unknown": checkpoint.unknown, **checkpoint.values}
        )
        return
    print_line(f"{checkpoint.folder}  digest {checkpoint.digest[:12]}")
    try:
        card = read_bytes(checkpoint.folder / "README.md", largest_bytes=LARGEST_TEXT_BYTES).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        card = json.dumps(checkpoint.values, indent=2)
    # A card may come from another author: its text must not move the cursor or colour the terminal.
    click.echo("".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in card))


@ckpt_group.command(
    "import",
    examples=(
        "flagbt ckpt import old.pt --name old --trained-on 20200101-20230101 --labels horizon:6,0.01",
        "flagbt ckpt import old.pt --name old --heads 4 --context 64 --causal --features default --scaler scaler.json",
    ),
)
@click.argument("file", type=Place(), required=False)
@click.option("--name", required=True, help="The checkpoint's name.")
@click.option("--output", type=Place(), default=Path("checkpoints"), help="Folder of checkpoints.")
@options_of(OwnerOptions, "owner")
@grouped("Bars", "--data", type=Place(), help="Bars that contain --trained-on, to measure their labels' shares and returns.")
@reading_options
@click.option("--overwrite", is_flag=True, help="Replace a checkpoint of that name.")
@json_option
def ckpt_import(
    file: Path | None,
    name: str,
    output: Path,
    owner: OwnerOptions,
    data: Path | None,
    reading: Reading,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Import a model that was made elsewhere; options state what its file does not contain."""
    from .training_options import checkpoint_folder

    target = checkpoint_folder(output, name, overwrite=overwrite)
    from ..data.readers import bars_of_file
    from ..models.importing import import_model
    from ..workflows.inputs import check_has_file

    check_has_file(data, reading)
    stated = owner.declaration(None if data is None else bars_of_file(data, reading))
    checkpoint = import_model(file, target, stated, kind=owner.kind, overwrite=overwrite)
    print_resolved("checkpoint", checkpoint)
    described = checkpoint.described
    if as_json:
        print_json(
            {
                "checkpoint": str(checkpoint.folder),
                "digest": checkpoint.digest,
                "kind": checkpoint.kind,
                "parameters": described.parameters.to_json(),
                "architecture": checkpoint.values["architecture"],
                "unknown": checkpoint.unknown,
            }
        )
        return
    print_line(f"{checkpoint.kind}: {described.parameters.all:,} parameters in {checkpoint.folder}", style="bold")
    if any(each is not None for option, each in vars(owner).items() if option != "base"):
        print_line(f"What you stated is in its card, and flagbt cannot check it: flagbt ckpt show {checkpoint.option}")
    print_line(_next_step(checkpoint))


def _next_step(checkpoint: Checkpoint) -> str:
    try:
        checkpoint.check_known()
    except FlagbtError as error:
        return str(error)
    named = named_code_options(checkpoint)
    return f"Run it on bars it has not seen: flagbt run --ckpt {checkpoint.option}{named} --data FILE --timerange A-B"


@ckpt_group.command(
    "export",
    examples=(
        "flagbt ckpt export Jan4 --output Jan4-peft",
        "flagbt ckpt export Jan4 --format merged --output Jan4.safetensors",
    ),
)
@click.argument("name")
@click.option(
    "--format", "format_", help="Of a network: peft, a folder, or merged, one file. Of other kinds: native, their own file."
)
@click.option("--output", type=Place(), required=True, help="The folder or file to write.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@json_option
def ckpt_export(name: str, format_: str | None, output: Path, overwrite: bool, as_json: bool) -> None:
    """Write a checkpoint's weights for other programs."""
    from ..models.checkpoint import find_checkpoint
    from ..models.export import export_checkpoint

    checkpoint = find_checkpoint(name)
    print_resolved("checkpoint", checkpoint)
    written = export_checkpoint(checkpoint, output, format_, overwrite=overwrite)
    format_ = format_ or next(iter(checkpoint.model.export_formats))
    if as_json:
        print_json(
            {"checkpoint": str(checkpoint.folder), "digest": checkpoint.digest, "format": format_, "output": str(written)}
        )
        return
    print_line(f"{format_}: {written}")
