"""flagbt data: fetch bars, show and check a file, fix it, resample it."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ..arrays import JsonObject
from ..errors import DataError, UsageError
from ..storage.atomic_files import write_text
from .console import ProgressBars, print_line, print_table
from .options import STAMP, Group, Number, Place, grouped, json_option, print_json, reading_options

if TYPE_CHECKING:
    from ..data.bars import Bars
    from ..data.check import CheckResult
    from ..data.fill import FillResult
    from ..data.formats.table import Table
    from ..data.reading import Reading
    from ..fetching.fetch import FetchRequest, FetchResult

SHOWN_CHANGES = 20
SHOWN_DROPPED = 10
SHOWN_GAPS = 20


@click.group("data", cls=Group)
def data_group() -> None:
    """Fetch bars; show, check, fix and resample files of bars."""


@data_group.command("info", examples=("flagbt data info --data btc_1h.csv", "flagbt data info --json"))
@grouped("Bars", "--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample.")
@reading_options
@json_option
def data_info(data: Path | None, reading: Reading, as_json: bool) -> None:
    """Describe a file of bars: range, step, gaps, digest."""
    from ..data.bars import utc
    from ..workflows.inputs import load_bars

    bars = load_bars(data, reading)
    gaps = [gap.to_json() for gap in bars.gaps]
    values = {
        "source": bars.source,
        "synthetic": bars.synthetic,
        "bars": len(bars),
        "first": utc(bars.time[0]),
        "last": utc(bars.time[-1]),
        "step_hours": bars.step_hours,
        "gaps": gaps,
        **bars.hours_json(),
        "digest": bars.digest,
    }
    if as_json:
        print_json(values)
        return
    if bars.synthetic:
        print_line("SYNTHETIC data: these prices were generated.", style=STAMP)
    print_table(["", ""], [[key, value] for key, value in values.items() if key not in ("gaps", "days_without_bars")])
    if bars.missing.days_text:
        print_line(bars.missing.days_text)
    if gaps:
        print_table(["last bar before a gap", "first bar after", "missing"], [list(gap.values()) for gap in gaps])


@data_group.command("sample", examples=("flagbt data sample -o sample.csv", "flagbt data sample -o sample.csv.gz --json"))
@click.option("-o", "--output", type=Place(), required=True, help="A .csv or .csv.gz file to write.")
@json_option
def data_sample(output: Path, as_json: bool) -> None:
    """Write the bundled SYNTHETIC sample to a file."""
    from ..data.readers import write_bars_csv
    from ..workflows.inputs import load_bars

    bars = load_bars(None)
    write_bars_csv(bars, output)
    if as_json:
        print_json({"output": str(output), "bars": len(bars), "synthetic": True})
    else:
        print_line(f"SYNTHETIC: {len(bars):,} generated bars written to {output}")


@data_group.command(
    "check",
    examples=(
        "flagbt data check btc_1h.csv --fix sort,drop-duplicates -o fixed.csv",
        "flagbt data check kraken_1h.csv --fill-no-trade -o filled.csv",
    ),
)
@click.argument("file", type=Place())
@reading_options
@click.option("--fix", help="Fixes to apply, separated by commas; the check lists them.")
@click.option("--fill-no-trade", is_flag=True, help="Fill missing bars: flat at the previous close, volume 0.")
@click.option("-o", "--output", type=Place(), help="With --fix or --fill-no-trade: a new .csv or .csv.gz file.")
@json_option
@click.pass_context
def data_check(
    ctx: click.Context, file: Path, reading: Reading, fix: str | None, fill_no_trade: bool, output: Path | None, as_json: bool
) -> None:
    """Check a file of bars and list its problems; with --fix or --fill-no-trade, write a changed copy.

    Exits with 1 if flagbt would refuse the file as it is. With --fix or --fill-no-trade, the bars and a list of every
    change (OUTPUT.changes.txt) are written as new files, or nothing is written. --fill-no-trade is for exchanges that leave
    out times without trades; it comes after --fix, and does not fill the hours in which a market is closed.
    """
    from ..data.check import check_table

    if (fix is not None or fill_no_trade) != (output is not None):
        raise UsageError(
            "--fix or --fill-no-trade go together with --output: the bars go to a new file, and the old one stays as it is."
        )
    if output is None:
        examined = check_table(file, reading)
        print_json(examined.to_json()) if as_json else _show(examined)
        if examined.bars is None:
            ctx.exit(1)
        return
    fixed = _fix(check_table(file, reading), fix, fill_no_trade, output)
    if as_json:
        print_json(fixed.to_json())
        return
    changes = fixed.changes
    if fixed.fill is not None:
        print_line(fixed.fill.summary)
        changes = [*changes, *islice(fixed.fill.lines(), SHOWN_CHANGES)]
    for line in changes[:SHOWN_CHANGES]:
        print_line(line)
    if fixed.number > SHOWN_CHANGES:
        print_line(f"... and {fixed.number - SHOWN_CHANGES:,} more")
    print_line(f"{fixed.number:,} changes, listed in {fixed.changes_file}; {len(fixed.bars):,} bars written to {output}")


@data_group.command(
    "resample",
    examples=(
        "flagbt data resample btc_1h.csv --timeframe 4h -o btc_4h.csv",
        "flagbt data resample goog_1d.csv --timeframe 1w -o goog_1w.csv.gz",
    ),
)
@click.argument("file", type=Place())
@reading_options
@click.option("--timeframe", required=True, help="15m, 4h, ...: a divisor of a day; or 1d, 1w.")
@click.option("-o", "--output", type=Place(), required=True, help="A new .csv or .csv.gz file.")
@json_option
def data_resample(file: Path, reading: Reading, timeframe: str, output: Path, as_json: bool) -> None:
    """Join bars into longer ones on UTC boundaries; incomplete buckets are left out and listed."""
    from ..data import resample
    from ..data.bars import utc
    from ..data.readers import bars_of_file, write_bars_csv

    step = resample.timeframe(timeframe)
    _check_new(output)
    whole = bars_of_file(file, reading)
    joined = resample.resample(whole, step)
    bars = joined.bars
    write_bars_csv(bars, output)
    if as_json:
        print_json(
            {
                "output": str(output),
                "bars": len(bars),
                "buckets": joined.buckets,
                "step_hours": bars.step_hours,
                "digest": bars.digest,
                "dropped": [each.to_json() for each in joined.dropped],
                "without_days": [each.to_json() for each in joined.without_days],
                **({"closed_hours": whole.market_hours.text} if whole.market_hours.text else {}),
            }
        )
        return
    for what, buckets in (("left out", joined.dropped), ("kept without whole days", joined.without_days)):
        for each in buckets[:SHOWN_DROPPED]:
            print_line(f"{what}: the bucket of {utc(each.time)}, with {each.there} of its {each.of} bars")
        if len(buckets) > SHOWN_DROPPED:
            print_line(f"... and {len(buckets) - SHOWN_DROPPED:,} more; --json lists all")
    if whole.market_hours.text:
        print_line(f"closed each week (UTC), so not missing: {whole.market_hours.text}")
    _stamp(bars)
    print_line(
        f"{len(bars):,} of {joined.buckets:,} buckets of {timeframe} written to {output}; "
        f"{len(joined.dropped):,} incomplete, left out"
    )


@data_group.command(
    "fetch",
    examples=(
        "flagbt data fetch --symbol BTC/USDT --since 2020-01-01 -o btc_1h.csv.gz",
        "flagbt data fetch --exchange kraken --symbol ETH/EUR --timeframe 1d --since 2022-01-01 -o eth_1d.parquet",
    ),
)
@click.option("--exchange", default="binance", help="An exchange that ccxt supports.")
@click.option("--symbol", required=True, help="A market, such as BTC/USDT.")
@click.option("--timeframe", default="1h", help="1m, 15m, 1h, 1d, ..., as the exchange offers.")
@click.option("--since", required=True, help="First open time, UTC: 2020-01-01 or 2020-01-01T06:00.")
@click.option("--until", help="End, exclusive. Default: after the last finished bar.")
@click.option("-o", "--output", type=Place(), required=True, help="A .csv, .csv.gz or .parquet file; bars in it are kept.")
@click.option("--source", default="auto", help="api, archive (Binance's public files), or auto.")
@click.option("--base-url", help="Scheme and host of a mirror or gateway, instead of the exchange's.")
@click.option("--patience", type=Number(above=0), default=300.0, help="Seconds to retry a failed request.")
@json_option
def data_fetch(
    exchange: str,
    symbol: str,
    timeframe: str,
    since: str,
    until: str | None,
    output: Path,
    source: str,
    base_url: str | None,
    patience: float,
    as_json: bool,
) -> None:
    """Fetch the finished bars that a file lacks from an exchange: before, after and inside its range.

    The file's bars next to the missing ones are fetched again and must agree. An interrupted fetch loses at most a
    page: the same command resumes it. Needs the extra: pip install 'flagbt[fetch]'.
    """
    from ..data.time_range import parse_moment
    from ..fetching.fetch import FetchRequest, fetch_request

    request = FetchRequest(
        exchange=exchange,
        symbol=symbol,
        timeframe=timeframe,
        since=parse_moment(since, option="--since"),
        until=None if until is None else parse_moment(until, option="--until"),
        output=output,
        source=source,
        base_url=base_url,
        patience_s=patience,
    )
    phases = {"fetch": f"{symbol} {timeframe}", "check": "checking the gaps again", "archive": "monthly files"}
    with ProgressBars(phases) as progress:
        done = fetch_request(request, report=progress.update, notify=progress.print_line)
    _show_fetched(done, request, as_json)


def _show_fetched(done: FetchResult, request: FetchRequest, as_json: bool) -> None:
    from ..data.bars import utc

    bars = done.bars
    gaps = [gap.to_json() for gap in bars.gaps]
    if as_json:
        print_json(
            {
                "output": str(request.output),
                "exchange": request.exchange,
                "symbol": request.symbol,
                "timeframe": request.timeframe,
                "bars": len(bars),
                "added": done.added,
                "first": utc(bars.time[0]),
                "last": utc(bars.time[-1]),
                "step_hours": bars.step_hours,
                "digest": bars.digest,
                "gaps": gaps,
                **bars.hours_json(),
                "notes": list(done.notes),
                "requests": done.requests,
            }
        )
        return
    for note in done.notes:
        print_line(f"note: {note}")
    if gaps:
        print_table(["last bar before a gap", "first bar after", "missing"], [list(gap.values()) for gap in gaps[:SHOWN_GAPS]])
        more = f" ({len(gaps) - SHOWN_GAPS:,} more; --json lists all)" if len(gaps) > SHOWN_GAPS else ""
        print_line(f"{len(gaps):,} gap{'s' if len(gaps) > 1 else ''} at the source, left as is{more}")
    what = f"{done.added:,} new bars" if done.added else "nothing was missing"
    print_line(f"{what}; {request.output} holds {len(bars):,} bars, {utc(bars.time[0])} to {utc(bars.time[-1])}")


def _show(examined: CheckResult) -> None:
    values = examined.to_json()
    _stamp(examined.table)
    shown = ("source", "format", "rows", "first", "last", "step_hours", "digest")
    print_table(["", ""], [[key, values[key]] for key in shown])
    if examined.table.ignored:
        print_line(f"columns not read: {', '.join(examined.table.ignored)}")
    for note in examined.table.notes:
        print_line(f"note: {note}")
    if examined.bars is not None and examined.bars.market_hours.text:
        days = examined.bars.missing.days_text
        print_line(f"closed each week (UTC): {examined.bars.market_hours.text}{'; ' if days else ''}{days}")
    seen: set[str] = set()
    for problem in examined.problems:
        where = f" ({', '.join(problem.where)}{', ...' if problem.count > len(problem.where) else ''})" if problem.where else ""
        print_line(
            f"{problem.kind}, {problem.count:,}{where}: {problem.message}", style="bold" if problem.remedy.refused else None
        )
        print_line("    As above." if problem.advice in seen else f"    {problem.advice}")
        seen.add(problem.advice)
    if examined.bars is None:
        print_line("flagbt refuses this file as it is.", style="bold red")
    else:
        print_line("flagbt reads this file as it is.")
    if offer := examined.offer:
        total = offer.total
        left_out = f", without {total.left_out:,} of {total.of:,} rows" if total.is_large else ""
        choice = "; or keep-last instead of keep-first" if "keep-first" in offer.fixes else ""
        print_line(f"to write a fixed copy{left_out}: --fix {total.fix} --output NEW.csv{choice}")


class FixedFile(NamedTuple):
    """A file with problems, the bars that were fixed or filled, where they are, and every change."""

    examined: CheckResult
    bars: Bars
    output: Path
    changes_file: Path
    changes: list[str]
    fill: FillResult | None

    @property
    def number(self) -> int:
        """The number of all changes."""
        return len(self.changes) + (0 if self.fill is None else self.fill.filled)

    def to_json(self) -> JsonObject:
        """Return everything as JSON values."""
        return {
            **self.examined.to_json(),
            "output": str(self.output),
            "changes_file": str(self.changes_file),
            "bars": len(self.bars),
            "fixed_digest": self.bars.digest,
            "changes": self.changes,
            **({} if self.fill is None else {"filled": self.fill.filled, "longest_filled_run": self.fill.longest}),
        }


def _fix(examined: CheckResult, fix: str | None, is_filled: bool, output: Path) -> FixedFile:
    from ..data.fill import fill_no_trade
    from ..data.readers import write_bars_csv
    from ..data.repair import repair

    changes_file = output.with_name(f"{output.name}.changes.txt")
    _check_new(output)
    _check_new(changes_file)
    bars, changes = repair(examined, [] if fix is None else [name.strip() for name in fix.split(",")])
    fill = fill_no_trade(bars) if is_filled else None
    done = FixedFile(examined, bars if fill is None else fill.bars, output, changes_file, changes, fill)
    options = [*([] if fix is None else [f"--fix {fix}"]), *(["--fill-no-trade"] if is_filled else [])]
    table = examined.table
    head = [
        f"{examined.path.name}, {table.format}: {' '.join(options)}",
        *(f"note: {note}" for note in table.notes),
        *([f"columns left out: {', '.join(table.ignored)}"] if table.ignored else []),
        *([] if fill is None else [fill.summary]),
        f"{done.number:,} changes, {len(bars):,} bars kept",
    ]
    lines = () if fill is None else fill.lines()
    write_bars_csv(done.bars, output)
    try:
        write_text(changes_file, "".join(f"{line}\n" for line in chain(head, changes, lines)))
    except OSError as error:
        output.unlink()
        raise DataError(f"{changes_file}: cannot be written ({error.strerror or error}); nor was {output}.") from None
    return done


def _check_new(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise DataError(f"{path} exists already, and is not replaced. Give another name, or remove it first.")


def _stamp(bars: Bars | Table) -> None:
    if bars.synthetic:
        print_line("SYNTHETIC data: these prices were generated.", style=STAMP)
