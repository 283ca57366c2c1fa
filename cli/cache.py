"""flagbt cache: the cached logits."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from ..errors import RecordError
from .console import print_line, print_table
from .options import Group, json_option, print_json


@click.group("cache", cls=Group)
def cache_group() -> None:
    """Show or remove the cached logits."""


@cache_group.command("info", examples=("flagbt cache info", "flagbt cache info --json"))
@json_option
def cache_info(as_json: bool) -> None:
    """Show the cache folder, its size, and the size limit."""
    from ..models.logit_cache import LARGEST_BYTES, cache_folder, entries

    kept = entries()
    rows = [
        {
            "checkpoint": (each.checkpoint or "damaged")[:12],
            "bytes": each.size,
            "last_used": datetime.fromtimestamp(each.used, UTC).strftime("%Y-%m-%d %H:%M"),
        }
        for each in reversed(kept)
    ]
    total = sum(each.size for each in kept)
    if as_json:
        print_json({"folder": str(cache_folder()), "bytes": total, "largest_bytes": LARGEST_BYTES, "entries": rows})
        return
    print_line(f"{cache_folder()}: {len(kept):,} entries, {total:,} of {LARGEST_BYTES:,} bytes; the oldest are removed first.")
    if rows:
        print_table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows])


@cache_group.command("clear", examples=("flagbt cache clear", "flagbt cache clear --json"))
@json_option
def cache_clear(as_json: bool) -> None:
    """Remove all cached logits; the next run scores its bars again."""
    from ..models.logit_cache import cache_folder, clear

    try:
        count, size = clear()
    except OSError as error:
        raise RecordError(
            f"the cache in {cache_folder()} cannot be cleared: {error.strerror or error}. Fix the permissions there."
        ) from None
    if as_json:
        print_json({"folder": str(cache_folder()), "removed": count, "bytes": size})
        return
    print_line(f"Removed {count:,} entries, {size:,} bytes, from {cache_folder()}.")
