"""flagbt data: look at bars."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import print_table, say
from .options import STAMP, Place, json_option, print_json


@click.group("data")
def data_group() -> None:
    """Look at bars."""


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
