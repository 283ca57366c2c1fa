"""flagbt runs and flagbt compare: look at what runs left behind."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import print_table, say
from ..errors import FlagbtError, UsageError
from ..pipeline import Recorded
from .options import STAMP, Place, json_option, print_json, runs_option
from .run import print_run, run_json


@click.command("compare")
@click.argument("runs", nargs=-1, required=True)
@click.option("-o", "--output", type=Place(), default=Path("compare.html"), show_default=True)
@runs_option
@json_option
def compare_command(runs: tuple[str, ...], output: Path, out: Path, as_json: bool) -> None:
    """Compare runs on one offline page."""
    from ..results.compare import comparison_table, inequalities, render_comparison
    from ..results.store import find_run, read_run, write_page

    folders = [find_run(each, out).resolve() for each in runs]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        raise UsageError(f"compare: the run {twice.name} is given twice. Name it once: a run cannot differ from itself.")
    stored = [read_run(find_run(each, out)) for each in runs]
    write_page(output, render_comparison(stored))
    if as_json:
        print_json({
            "page": str(output),
            "unequal": inequalities(stored),
            "runs": [
                {
                    "run": str(each.folder), "synthetic": each.manifest["data"]["synthetic"],
                    "overlap_allowed": bool(each.manifest["config"].get("allow_overlap")), **each.metrics["strategy"],
                }
                for each in stored
            ],
        })  # fmt: skip
        return
    if any(each.manifest["data"]["synthetic"] for each in stored):
        say("SYNTHETIC data in at least one run.", style=STAMP)
    if any(each.manifest["config"].get("allow_overlap") for each in stored):
        say("OVERLAP allowed in at least one run: its checkpoint may have seen these bars.", style=STAMP)
    for sentence in inequalities(stored):
        say(f"Not equal: {sentence}", style="yellow")
    head, *rows = comparison_table(stored)
    print_table(head, rows)
    say(f"comparison: {output}")


@click.group("runs")
def runs_group() -> None:
    """Look at the runs there are."""


@runs_group.command("list")
@runs_option
@json_option
def runs_list(out: Path, as_json: bool) -> None:
    """List the runs, newest first."""
    from ..results.store import list_runs, read_run

    rows, damaged = [], []
    for folder in reversed(list_runs(out)):
        try:
            stored = read_run(folder)
        except FlagbtError as error:  # one damaged run must not hide the others
            damaged.append({"run": folder.name, "error": str(error)})
            continue
        mine = stored.metrics["strategy"]
        rows.append({
            "run": folder.name, "name": stored.manifest["name"], "data": stored.manifest["data"]["source"],
            "synthetic": stored.manifest["data"]["synthetic"],
            "overlap": bool(stored.manifest["config"].get("allow_overlap")), "total_return": mine["total_return"],
            "sharpe_daily": mine["sharpe_daily"], "trades": mine["trades"],
        })  # fmt: skip
    if as_json:
        print_json({"runs": rows, "damaged": damaged})
        return
    if rows:
        head = ["run", "name", "data", "marks", "total return", "Sharpe, daily", "trades"]
        marks = [" ".join(mark.upper() for mark in ("synthetic", "overlap") if row[mark]) for row in rows]
        print_table(head, [
            [row["run"], row["name"], row["data"], mark, row["total_return"], row["sharpe_daily"], row["trades"]]
            for row, mark in zip(rows, marks, strict=True)
        ])  # fmt: skip
    elif not damaged:
        say(f"There are no runs in {out}. Make one: flagbt run --strategy flagtrader --ckpt Jan4")
    for each in damaged:
        say(f"damaged: {each['error']}", style="yellow")


@runs_group.command("show")
@click.argument("name", required=False)
@runs_option
@json_option
def runs_show(name: str | None, out: Path, as_json: bool) -> None:
    """Show a run; the last one by default."""
    from ..results.store import find_run, read_run

    stored = read_run(find_run(name, out))
    recorded = Recorded(stored.folder, stored.manifest, stored.metrics, stored.manifest["seconds"])
    values = run_json(recorded)
    if as_json:
        print_json(values)
    else:
        print_run(values, recorded)
