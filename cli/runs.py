"""flagbt runs, report and compare: list, show and compare finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ..arrays import JsonObject
from ..errors import FlagbtError
from .console import ProgressBars, print_line, print_table
from .options import STAMP, Command, Group, Place, json_option, print_json, runs_option
from .run import print_run, run_json

if TYPE_CHECKING:
    from ..results.run_record import RunRecord
    from ..results.significance.answer import Significance


@click.command(
    "compare",
    cls=Command,
    examples=(
        "flagbt compare careful bold -o compare.html",
        "flagbt compare careful bold --sort sharpe_daily --fail-if 'max_drawdown < -0.3'",
    ),
)
@click.argument("runs", nargs=-1, required=True)
@click.option("-o", "--output", type=Place(), default=Path("compare.html"), help="The page to write.")
@click.option("--sort", metavar="METRIC", help="Sort the runs by a metric, best first, such as sharpe_daily.")
@click.option(
    "--fail-if",
    "conditions",
    metavar="CONDITION",
    multiple=True,
    help="Exit 1 if a run meets it, such as 'sharpe_daily < 0.5'; may be given several times.",
)
@runs_option
@json_option
def compare_command(
    runs: tuple[str, ...], output: Path, sort: str | None, conditions: tuple[str, ...], out: Path, as_json: bool
) -> None:
    """Compare runs on one offline page."""
    from ..reports.comparison import comparison_table, render_comparison
    from ..results.ranking import Condition, metric_name, metric_names
    from ..results.store import write_page
    from ..workflows.compare import read_comparison

    with ProgressBars({"read": "Reading runs", "draw": "Drawing the page"}) as bars:
        comparison = read_comparison(runs, out, lambda done, total: bars.update("read", done, total))
        known = metric_names(comparison.runs)
        by = None if sort is None else metric_name(sort, option="--sort", known=known)
        limits = [Condition.parse(each, known=known) for each in conditions]
        comparison = comparison if by is None else comparison.ranked(by)
        stored, unequal = comparison.runs, list(comparison.unequal)
        bars.update("draw", 0, 1)
        write_page(output, render_comparison(stored))
        bars.update("draw", 1, 1)
    pairs = list(zip(stored, comparison.labels, strict=True))
    failures = [text for limit in limits for run, name in pairs if (text := limit.failure(run, name))]
    if as_json:
        print_json(
            {
                "page": str(output),
                "unequal": unequal,
                "sorted_by": None if unequal else by,
                "failures": failures,
                "runs": [_compared(each) for each in stored],
            }
        )
    else:
        _print_comparison(stored, unequal, comparison_table(stored), unsorted=by is not None and bool(unequal))
        print_line(f"comparison: {output}")
    if failures:
        click.echo(f"flagbt: --fail-if: {' '.join(failures)}", err=True)
        click.get_current_context().exit(1)


def _compared(stored: RunRecord) -> JsonObject:
    """Return a run's entry of a comparison, as JSON values."""
    from ..results.caveats import banners

    own: JsonObject = {
        "run": str(stored.folder),
        "synthetic": stored.data.synthetic,
        "overlap_allowed": stored.settings.allow_overlap,
        "bars_seen_stated": stored.settings.bars_seen_stated,
        "text_until": None if stored.checkpoint is None else stored.checkpoint.text_until,
        "warnings": banners([stored.info]),
    }
    # The own keys twice, first for their order: a plug-in's metric hides none of them.
    return {**own, **dict(sorted(stored.metrics.to_json().items())), **_deflated(stored.significance), **own}


def _deflated(known: Significance | None) -> JsonObject:
    """Return the deflated Sharpe ratio by the current trials, their number, and their number at the run."""
    if known is None:
        return {"deflated_sharpe": None, "trials": None, "trials_at_run": None}
    answer = known.deflated_sharpe
    return {"deflated_sharpe": answer.value, **{name: answer.inputs[name] for name in ("trials", "trials_at_run")}}


def _print_comparison(
    stored: Sequence[RunRecord], unequal: Sequence[str], rows: Sequence[Sequence[str]], *, unsorted: bool
) -> None:
    from ..reports.comparison import labels
    from ..results.caveats import UNSTATED, text_stamp, too_good_sentence

    if any(each.data.synthetic for each in stored):
        print_line("SYNTHETIC data in at least one run.", style=STAMP)
    if any(each.settings.allow_overlap for each in stored):
        print_line("OVERLAP allowed in at least one run: its checkpoint or strategy may have seen these bars.", style=STAMP)
    names = labels(stored)
    if unknown := [name for name, each in zip(names, stored, strict=True) if not each.settings.bars_seen_stated]:
        print_line(f"BARS SEEN not stated: {UNSTATED}: {', '.join(unknown)}.", style=STAMP)
    for stamp in dict.fromkeys(stamp for each in stored if (stamp := text_stamp(each.info)) is not None):
        print_line(stamp, style=STAMP)
    for name, each in zip(names, stored, strict=True):
        if (sentence := too_good_sentence(each.info)) is not None:
            print_line(f"{name}: {sentence}", style=STAMP)
    for sentence in unequal:
        print_line(f"Not comparable: {sentence}", style="yellow")
    if unsorted:
        print_line("Not sorted: the runs are different tests.", style="yellow")
    print_table(rows[0], rows[1:])


@click.command("report", cls=Command, examples=("flagbt report", "flagbt report careful --out runs"))
@click.argument("run", required=False)
@runs_option
@json_option
def report_command(run: str | None, out: Path, as_json: bool) -> None:
    """Write a run's page again, with the current trials; by default the last run's."""
    from ..reports.tearsheet import render_tearsheet
    from ..results.caveats import banners
    from ..results.store import find_run, rebuild_page

    folder = find_run(run, out)
    with ProgressBars({"report": "Drawing the page"}) as bars:
        bars.update("report", 0, 1)
        record = rebuild_page(folder, render_tearsheet)
        bars.update("report", 1, 1)
    warnings, page = banners([record.info]), folder / "tearsheet.html"
    if as_json:
        print_json({"run": str(folder), "tearsheet": str(page), "warnings": warnings})
    else:
        for each in warnings:
            print_line(each, style=STAMP)
        print_line(f"tearsheet: {page}")


@click.group("runs", cls=Group)
def runs_group() -> None:
    """List and show runs."""


class _Listing(NamedTuple):
    """A run in the list: its JSON values, marks, trials then and now, every number, and whether it can be the best."""

    row: JsonObject
    marks: Sequence[str]
    tried: str
    numbers: Mapping[str, float | None]
    ranked: bool


@runs_group.command("list", examples=("flagbt runs list", "flagbt runs list --sort sharpe_daily --json"))
@click.option("--sort", metavar="METRIC", help="Sort by a metric, best first, such as sharpe_daily. Default: newest first.")
@runs_option
@json_option
def runs_list(sort: str | None, out: Path, as_json: bool) -> None:
    """List the runs, each deflated by the current trials."""
    from ..results.caveats import legend
    from ..results.ranking import metric_name, metric_names, sort_key

    listings, damaged = _read_all(out)
    columns = ["run", "name", "data", "total_return", "sharpe_daily", "luck", "trades"]
    if sort is not None:
        known = dict.fromkeys([*metric_names(), *(name for each in listings for name in each.numbers)])
        by = metric_name(sort, option="--sort", known=known)
        listings.sort(key=lambda each: sort_key(each.numbers.get(by) if each.ranked else None, by))
        for each in listings:
            each.row.setdefault(by, each.numbers.get(by))
        columns = list(dict.fromkeys([*columns, by]))
    if as_json:
        print_json({"runs": [each.row for each in listings], "damaged": damaged})
        return
    if listings:
        markets = [f" ({each.row['symbol']})" if each.row["symbol"] else "" for each in listings]
        cells = [
            {**each.row, "data": f"{each.row['data']}{market}", "marks": " ".join(each.marks), "tried, then / now": each.tried}
            for each, market in zip(listings, markets, strict=True)
        ]
        columns = [*columns[:3], "marks", *columns[3:6], "tried, then / now", *columns[6:]]
        heads = ["Sharpe, daily" if each == "sharpe_daily" else each.replace("_", " ") for each in columns]
        print_table(heads, [[cell[name] for name in columns] for cell in cells])
        for line in legend(mark for each in listings for mark in each.marks if mark in ("UNSTATED", "TEXT", "TOO GOOD")):
            print_line(line)
    elif not damaged:
        print_line(f"There are no runs in {out}. Make one: flagbt run --strategy flagtrader --ckpt Jan4")
    for fault in damaged:
        print_line(f"damaged: {fault['error']}", style="yellow")


def _read_all(out: Path) -> tuple[list[_Listing], list[JsonObject]]:
    """Return every run, newest first, and the folders that cannot be read."""
    from ..reports.sections.significance import trials_then_now
    from ..results.caveats import marks
    from ..results.ranking import is_ranked, measured, metric_names
    from ..results.run_reader import read_run
    from ..results.significance.current_trials import CurrentTrials
    from ..results.store import list_runs

    listings: list[_Listing] = []
    damaged: list[JsonObject] = []
    trials = CurrentTrials()
    trials.log(out)  # an unreadable log must not count as a damaged run
    for folder in reversed(list_runs(out)):
        try:
            stored = trials.run(read_run(folder))
            shown, numbers = marks(stored.info), {name: measured(stored, name) for name in metric_names([stored])}
        except FlagbtError as error:  # a damaged run must not hide the others
            damaged.append({"run": folder.name, "error": str(error)})
            continue
        row = {"run": folder.name, **_listed(stored)}
        listings.append(_Listing(row, shown, trials_then_now(stored.significance), numbers, is_ranked(stored)))
    return listings, damaged


def _listed(stored: RunRecord) -> JsonObject:
    """Return a run's entry in the list, as JSON values."""
    from ..reports.sections.significance import luck_word
    from ..results.caveats import too_good_sentence

    return {
        "name": stored.info.name,
        "strategy": stored.settings.strategy_name,
        "data": stored.data.source,
        "symbol": stored.settings.get("symbol"),
        "synthetic": stored.data.synthetic,
        "overlap": stored.settings.allow_overlap,
        "bars_seen_stated": stored.settings.bars_seen_stated,
        "text_until": None if stored.checkpoint is None else stored.checkpoint.text_until,
        "too_good": too_good_sentence(stored.info) is not None,
        "total_return": stored.metrics["total_return"],
        "sharpe_daily": stored.metrics["sharpe_daily"],
        "luck": luck_word(stored.significance),
        **_deflated(stored.significance),
        "trades": stored.metrics["trades"],
    }


@runs_group.command("show", examples=("flagbt runs show", "flagbt runs show careful --json"))
@click.argument("name", required=False)
@runs_option
@json_option
def runs_show(name: str | None, out: Path, as_json: bool) -> None:
    """Show a run, deflated by the current trials; by default the last one."""
    from ..results.run_reader import read_run
    from ..results.significance.current_trials import CurrentTrials
    from ..results.store import find_run

    stored = CurrentTrials().run(read_run(find_run(name, out)))
    if as_json:
        print_json(run_json(stored))
    else:
        print_run(stored)
