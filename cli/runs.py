"""flagbt runs, report and compare: look at what runs left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import FlagbtError, UsageError
from ..workflows.run import RunResult
from .console import ProgressBars, print_table, say
from .options import STAMP, Command, Group, Place, json_option, print_json, runs_option
from .run import print_run, run_json

if TYPE_CHECKING:
    from ..results.stored_run import StoredRun


@click.command("compare", cls=Command)
@click.argument("runs", nargs=-1, required=True)
@click.option("-o", "--output", type=Place(), default=Path("compare.html"), show_default=True)
@click.option("--sort", metavar="METRIC", help="Order the runs by a metric, the best first, such as sharpe_daily.")
@click.option(
    "--fail-if",
    "conditions",
    metavar="CONDITION",
    multiple=True,
    help="Exit 1 where a run meets it, such as 'sharpe_daily < 0.5'; may be given several times.",
)
@runs_option
@json_option
def compare_command(
    runs: tuple[str, ...], output: Path, sort: str | None, conditions: tuple[str, ...], out: Path, as_json: bool
) -> None:
    """Compare runs on one offline page."""
    from ..reports.comparison import comparison_table, inequalities, labels, render_comparison
    from ..results.caveats import banners, overlaps, unstated
    from ..results.ranking import Condition, metric_name, ordered
    from ..results.significance.current_trials import CurrentTrials
    from ..results.store import find_run, read_run, write_page

    by = None if sort is None else metric_name(sort, option="--sort")
    limits = [Condition.parse(each) for each in conditions]
    folders = [find_run(each, out).resolve() for each in runs]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        raise UsageError(f"compare: the run {twice.name} is given twice. Name it once: a run cannot differ from itself.")
    with ProgressBars({"read": "Reading runs", "draw": "Drawing the page"}) as bars:
        stored, trials = [], CurrentTrials()
        for number, each in enumerate(runs):
            bars.update("read", number, len(runs))
            stored.append(trials.run(read_run(find_run(each, out))))
        bars.update("read", len(runs), len(runs))
        unequal = inequalities(stored)
        if by is not None and not unequal:
            stored = ordered(stored, by)
        bars.update("draw", 0, 1)
        write_page(output, render_comparison(stored))
        bars.update("draw", 1, 1)
    names = labels(stored)
    failures = [said for limit in limits for run, name in zip(stored, names, strict=True) if (said := limit.failure(run, name))]
    if as_json:
        print_json(
            {
                "page": str(output),
                "unequal": unequal,
                "sorted_by": None if unequal else by,
                "failures": failures,
                "runs": [
                    {
                        "run": str(each.folder),
                        "synthetic": each.manifest["data"]["synthetic"],
                        "overlap_allowed": overlaps(each.manifest),
                        "bars_seen_stated": not unstated(each.manifest["config"]),
                        "warnings": banners([each.manifest]),
                        **each.metrics["strategy"],
                        **_deflated(each.metrics["certainty"]),
                    }
                    for each in stored
                ],
            }
        )
    else:
        _print_comparison(stored, unequal, comparison_table(stored), unsorted=by is not None and bool(unequal))
        say(f"comparison: {output}")
    if failures:
        click.echo(f"flagbt: --fail-if: {' '.join(failures)}", err=True)
        click.get_current_context().exit(1)


def _deflated(certainty: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the deflated Sharpe ratio by the trials known now, how many these are, and how many the run knew."""
    if certainty is None:
        return {"deflated_sharpe": None, "trials": None, "trials_at_run": None}
    figure = certainty["deflated_sharpe"]
    return {"deflated_sharpe": figure["value"], **{name: figure["inputs"][name] for name in ("trials", "trials_at_run")}}


def _print_comparison(
    stored: Sequence[StoredRun], unequal: Sequence[str], rows: Sequence[Sequence[str]], *, unsorted: bool
) -> None:
    from ..reports.comparison import labels
    from ..results.caveats import UNSTATED, overlaps, too_good_sentence, unstated

    if any(each.manifest["data"]["synthetic"] for each in stored):
        say("SYNTHETIC data in at least one run.", style=STAMP)
    if any(overlaps(each.manifest) for each in stored):
        say("OVERLAP allowed in at least one run: its checkpoint or strategy may have seen these bars.", style=STAMP)
    names = labels(stored)
    if unknown := [name for name, each in zip(names, stored, strict=True) if unstated(each.manifest["config"])]:
        say(f"BARS SEEN not stated: {UNSTATED}: {', '.join(unknown)}.", style=STAMP)
    for name, each in zip(names, stored, strict=True):
        if (said := too_good_sentence(each.manifest)) is not None:
            say(f"{name}: {said}", style=STAMP)
    for sentence in unequal:
        say(f"Not equal: {sentence}", style="yellow")
    if unsorted:
        say("Not sorted: runs that are not the same test have no order.", style="yellow")
    print_table(rows[0], rows[1:])


@click.command("report", cls=Command)
@click.argument("run", required=False)
@runs_option
@json_option
def report_command(run: str | None, out: Path, as_json: bool) -> None:
    """Make a run's page again, by the trials known now; the last run by default."""
    from ..reports.tearsheet import render_tearsheet
    from ..results.caveats import banners
    from ..results.store import find_run, read_run, rebuild_page

    with ProgressBars({"report": "Drawing the page"}) as bars:
        bars.update("report", 0, 1)
        page = rebuild_page(find_run(run, out), render_tearsheet)
        bars.update("report", 1, 1)
    warnings = banners([read_run(page.parent).manifest])
    if as_json:
        print_json({"run": str(page.parent), "tearsheet": str(page), "warnings": warnings})
    else:
        for each in warnings:
            say(each, style=STAMP)
        say(f"tearsheet: {page}")


@click.group("runs", cls=Group)
def runs_group() -> None:
    """Look at the runs there are."""


@runs_group.command("list")
@runs_option
@json_option
def runs_list(out: Path, as_json: bool) -> None:
    """List the runs, newest first, each judged by the trials known now."""
    from ..reports.sections.significance import luck_word, trials_then_now
    from ..results.caveats import legend, marks, overlaps, strategy_name, too_good_sentence, unstated
    from ..results.significance.current_trials import CurrentTrials
    from ..results.store import list_runs, read_run

    rows, tried, damaged, words, trials = [], [], [], [], CurrentTrials()
    trials.log(out)  # one that cannot be read is no damaged run's fault
    for folder in reversed(list_runs(out)):
        try:
            stored = trials.run(read_run(folder))
            words.append(marks(stored.manifest))
        except FlagbtError as error:  # one damaged run must not hide the others
            damaged.append({"run": folder.name, "error": str(error)})
            continue
        mine, certainty = stored.metrics["strategy"], stored.metrics["certainty"]
        tried.append(trials_then_now(certainty))
        rows.append(
            {
                "run": folder.name,
                "name": stored.manifest["name"],
                "strategy": strategy_name(stored.manifest["config"]),
                "data": stored.manifest["data"]["source"],
                "synthetic": stored.manifest["data"]["synthetic"],
                "overlap": overlaps(stored.manifest),
                "bars_seen_stated": not unstated(stored.manifest["config"]),
                "too_good": too_good_sentence(stored.manifest) is not None,
                "total_return": mine["total_return"],
                "sharpe_daily": mine["sharpe_daily"],
                "luck": luck_word(certainty),
                **_deflated(certainty),
                "trades": mine["trades"],
            }
        )
    if as_json:
        print_json({"runs": rows, "damaged": damaged})
        return
    if rows:
        head = ["run", "name", "data", "marks", "total return", "Sharpe, daily", "luck", "tried, then / now", "trades"]
        print_table(
            head,
            [
                [
                    row["run"],
                    row["name"],
                    row["data"],
                    mark,
                    row["total_return"],
                    row["sharpe_daily"],
                    row["luck"],
                    count,
                    row["trades"],
                ]
                for row, mark, count in zip(rows, map(" ".join, words), tried, strict=True)
            ],
        )
        for line in legend(word for each in words for word in each if word in ("UNSTATED", "TOO GOOD")):
            say(line)
    elif not damaged:
        say(f"There are no runs in {out}. Make one: flagbt run --strategy flagtrader --ckpt Jan4")
    for each in damaged:
        say(f"damaged: {each['error']}", style="yellow")


@runs_group.command("show")
@click.argument("name", required=False)
@runs_option
@json_option
def runs_show(name: str | None, out: Path, as_json: bool) -> None:
    """Show a run, judged by the trials known now; the last one by default."""
    from ..results.significance.current_trials import CurrentTrials
    from ..results.store import find_run, read_run

    stored = CurrentTrials().run(read_run(find_run(name, out)))
    recorded = RunResult(stored.folder, stored.manifest, stored.metrics, stored.manifest["seconds"])
    values = run_json(recorded)
    if as_json:
        print_json(values)
    else:
        print_run(values, recorded)
