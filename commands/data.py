"""flagbt data: look at bars, mend a file, join bars into longer ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..console import print_table, say
from ..errors import DataError, UsageError
from ..files import write_text
from .options import STAMP, Place, json_option, print_json

if TYPE_CHECKING:
    from ..data.check import Examined

SHOWN_CHANGES = 20
SHOWN_DROPPED = 10


@click.group("data")
def data_group() -> None:
    """Look at bars, mend a file of them, join them into longer ones."""


@data_group.command("info")
@click.option("--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample.")
@json_option
def data_info(data: Path | None, as_json: bool) -> None:
    """Describe a file of bars: range, step, gaps, digest."""
    from ..data.bars import utc
    from ..pipeline import load_bars

    bars = load_bars(data)
    gaps = [{"before": utc(g.before), "after": utc(g.after), "missing": g.missing} for g in bars.gaps]
    values = {
        "source": bars.source, "synthetic": bars.synthetic, "bars": len(bars), "first": utc(bars.time[0]),
        "last": utc(bars.time[-1]), "step_hours": bars.step_hours, "gaps": gaps, "digest": bars.digest,
    }  # fmt: skip
    if as_json:
        print_json(values)
        return
    if bars.synthetic:
        say("SYNTHETIC data: these prices were generated.", style=STAMP)
    print_table(["", ""], [[key, value] for key, value in values.items() if key != "gaps"])
    if gaps:
        print_table(["last bar before a gap", "first bar after", "missing"], [list(gap.values()) for gap in gaps])


@data_group.command("sample")
@click.option("-o", "--output", type=Place(), required=True, help="A .csv or .csv.gz file to write.")
@json_option
def data_sample(output: Path, as_json: bool) -> None:
    """Write the bundled SYNTHETIC sample into a file."""
    from ..data.readers import write_bars_csv
    from ..pipeline import load_bars

    bars = load_bars(None)
    write_bars_csv(bars, output)
    if as_json:
        print_json({"output": str(output), "bars": len(bars), "synthetic": True})
    else:
        say(f"SYNTHETIC: {len(bars):,} generated bars written to {output}")


@data_group.command("check")
@click.argument("file", type=Place())
@click.option("--fix", help="Fixes to apply, separated by commas; the check names them.")
@click.option("-o", "--output", type=Place(), help="With --fix: a new .csv or .csv.gz file for the mended bars.")
@json_option
@click.pass_context
def data_check(ctx: click.Context, file: Path, fix: str | None, output: Path | None, as_json: bool) -> None:
    """Say what is in a file of bars and what is wrong; mend it, into a new file, only as asked.

    Exits with 1 if the file would be refused as it is. With --fix, the mended bars and a list of every change
    (OUTPUT.changes.txt) are written as new files, or nothing is.
    """
    from ..data.check import examine

    if (fix is None) != (output is None):
        raise UsageError("--fix and --output go together: the mended bars become a new file, and the old one stays as it is.")
    if fix is None or output is None:
        examined = examine(file)
        print_json(examined.to_json()) if as_json else _show(examined)
        if examined.bars is None:
            ctx.exit(1)
        return
    examined, values = _mend(file, fix, output)
    if as_json:
        print_json({**examined.to_json(), **values})
        return
    changes = values["changes"]
    for line in changes[:SHOWN_CHANGES]:
        say(line)
    if len(changes) > SHOWN_CHANGES:
        say(f"... and {len(changes) - SHOWN_CHANGES:,} more")
    say(f"{len(changes):,} changes, listed in {values['changes_file']}; {values['bars']:,} bars written to {output}")


@data_group.command("resample")
@click.argument("file", type=Place())
@click.option("--timeframe", required=True, help="15m, 4h, 1d, ...: what divides a day, 1d or 1w.")
@click.option("-o", "--output", type=Place(), required=True, help="A new .csv or .csv.gz file.")
@json_option
def data_resample(file: Path, timeframe: str, output: Path, as_json: bool) -> None:
    """Join bars into longer ones on UTC boundaries; a bucket with a bar missing is left out, and named."""
    from ..data import resample
    from ..data.bars import utc
    from ..data.readers import read_bars, write_bars_csv

    step = resample.timeframe(timeframe)
    _check_new(output)
    bars, dropped = resample.resample(read_bars(file), step)
    write_bars_csv(bars, output)
    if as_json:
        print_json({
            "output": str(output), "bars": len(bars), "step_hours": bars.step_hours, "digest": bars.digest,
            "dropped": [{"time": utc(each.time), "there": each.there, "of": each.of} for each in dropped],
        })  # fmt: skip
        return
    for each in dropped[:SHOWN_DROPPED]:
        say(f"left out: the bucket of {utc(each.time)}, with {each.there} of its {each.of} bars")
    if len(dropped) > SHOWN_DROPPED:
        say(f"... and {len(dropped) - SHOWN_DROPPED:,} more; --json names them all")
    _stamp(bars)
    say(f"{len(bars):,} bars of {timeframe} written to {output}; {len(dropped):,} incomplete buckets left out")


def _show(examined: Examined) -> None:
    values = examined.to_json()
    _stamp(examined.table)
    shown = ("source", "format", "rows", "first", "last", "step_hours", "digest")
    print_table(["", ""], [[key, values[key]] for key in shown])
    if examined.table.ignored:
        say(f"columns that are not read: {', '.join(examined.table.ignored)}")
    for note in examined.table.notes:
        say(f"note: {note}")
    for problem in examined.problems:
        where = f" ({', '.join(problem.where)}{', ...' if problem.count > len(problem.where) else ''})" if problem.where else ""
        say(f"{problem.kind}, {problem.count:,}{where}: {problem.says}", style="bold" if problem.remedy.refused else None)
        say(f"    {problem.remedy.says}")
    fixes = [fix for problem in examined.problems for fix in problem.remedy.fixes]
    if examined.bars is None:
        say("flagbt refuses this file as it is.", style="bold red")
    else:
        say("flagbt reads this file as it is.")
    if fixes:
        say(f"fixes, written into a new file: --fix {','.join(fix for fix in fixes if fix != 'keep-last')} --output NEW.csv")


def _mend(file: Path, fix: str, output: Path) -> tuple[Examined, dict[str, Any]]:
    from ..data.check import examine
    from ..data.mend import mend
    from ..data.readers import write_bars_csv

    changes_file = output.with_name(f"{output.name}.changes.txt")
    _check_new(output)
    _check_new(changes_file)
    examined = examine(file)
    bars, changes = mend(examined, [name.strip() for name in fix.split(",")])
    head = [
        f"{file.name}, {examined.table.format}: --fix {fix}",
        *(f"note: {note}" for note in examined.table.notes),
        *([f"columns left out: {', '.join(examined.table.ignored)}"] if examined.table.ignored else []),
        f"{len(changes):,} changes, {len(bars):,} bars kept",
    ]
    write_bars_csv(bars, output)
    try:
        write_text(changes_file, "\n".join([*head, *changes]) + "\n")
    except OSError as error:
        output.unlink()
        raise DataError(f"{changes_file}: cannot be written ({error.strerror or error}), so neither was {output}.") from None
    return examined, {
        "output": str(output), "changes_file": str(changes_file), "bars": len(bars), "mended_digest": bars.digest,
        "changes": changes,
    }  # fmt: skip


def _check_new(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise DataError(f"{path}: this exists already, and is not replaced. Give another name, or remove it first.")


def _stamp(bars: Any) -> None:
    if bars.synthetic:
        say("SYNTHETIC data: these prices were generated.", style=STAMP)
