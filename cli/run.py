"""flagbt run, and flagbt show-config: the options that it would use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..data.labels import CLASS_NAMES
from ..data.time_range import TimeRange
from ..workflows.request import RunRequest
from ..workflows.run import RunResult, run
from ..workflows.strategy import read_params
from .console import ProgressBars, print_line, print_table
from .options import STAMP, Command, config_option, json_option, print_checkpoint, print_json, run_options, source_of


@click.command(
    "run",
    cls=Command,
    examples=(
        "flagbt run --strategy sma-cross --timerange 20240101-20240701 --fee-bps 5",
        "flagbt run --ckpt Jan4 --short --stop-loss 0.05 --name careful",
    ),
)
@run_options
@config_option
@json_option
def run_command(out: Path, name: str | None, notes: str | None, as_json: bool, **options: Any) -> None:
    """Backtest a strategy, and write a run folder with a tearsheet."""
    given = {option: value for option, value in options.items() if value is not None}
    request = RunRequest.of({**given, "params": read_params(given["strategy"], given["param"])})
    with ProgressBars({"score": "Scoring bars", "replay": "Replaying in Backtrader", "report": "Drawing the page"}) as bars:
        recorded = run(request, out=out, name=name, notes=notes, command=["flagbt", *sys.argv[1:]], progress=bars.update)
    values = run_json(recorded)
    if as_json:
        print_json(values)
        return
    print_checkpoint(request.ckpt)
    print_run(values, recorded)


def run_json(recorded: RunResult) -> dict[str, Any]:
    """Return the results of a run as JSON values."""
    from ..results.caveats import banners, overlaps, strategy_name, unstated  # imports bokeh
    from ..results.metric_set import declarations
    from ..results.metrics import Metrics

    manifest, final = recorded.manifest, (recorded.manifest["diversity"] or {}).get("final") or {}
    verdicts, checkpoint = manifest["verdicts"], manifest["checkpoint"]
    mine, theirs = (Metrics.from_json(recorded.metrics[side]) for side in ("strategy", "benchmark"))
    headlines = [metric.name for metric in declarations([mine]) if metric.headline]
    return {
        "run": str(recorded.folder),
        "strategy": strategy_name(manifest["config"]),
        "bars": manifest["funnel"]["bars"],
        "scored_bars": final.get("scored_bars"),
        "signals": {name: final["counts"][name] for name in CLASS_NAMES} if final else None,
        "diversity": final.get("diversity"),
        "effective_actions": final.get("effective_actions"),
        "signal_verdict": verdicts["signal"] and verdicts["signal"]["verdict"],
        "model_verdict": verdicts["model"] and verdicts["model"]["verdict"],
        "verdicts": verdicts,
        "sentence": manifest["sentence"],
        "ruined": manifest.get("ruined"),
        "funnel": manifest["funnel"],
        "metrics": {name: mine[name] for name in headlines},
        "benchmark": {name: theirs.get(name) for name in headlines},
        "certainty": recorded.metrics["certainty"],
        "tearsheet": str(recorded.folder / "tearsheet.html"),
        "overlap_allowed": overlaps(manifest),
        "bars_seen": manifest["config"].get("bars_seen"),
        "bars_seen_stated": not unstated(manifest["config"]),
        "warnings": banners([manifest]),
        "data": {key: manifest["data"][key] for key in ("source", "synthetic", "digest")},
        "checkpoint": checkpoint and {key: checkpoint[key] for key in ("name", "digest")},
        "seconds": recorded.seconds,
    }


def print_run(values: dict[str, Any], recorded: RunResult) -> None:
    """Print the results of a run; ``values`` are those of ``run_json``."""
    from ..results.caveats import UNSTATED, too_good_sentence, with_stamp

    data, manifest = values["data"], recorded.manifest
    if data["synthetic"]:
        print_line("SYNTHETIC data: these numbers do not come from a market.", style=STAMP)
    if values["overlap_allowed"]:
        print_line("OVERLAP allowed: the checkpoint or the strategy may have seen these bars. This is not a test.", style=STAMP)
    if not values["bars_seen_stated"]:
        print_line(f"BARS SEEN not stated: {UNSTATED} (bars_seen in its class; () for none).", style=STAMP)
    if (sentence := too_good_sentence(manifest)) is not None:
        print_line(sentence, style=STAMP)
    print_line(manifest["sentence"], style="bold")
    checkpoint = (
        f", checkpoint {values['checkpoint']['name']} {values['checkpoint']['digest'][:12]}" if values["checkpoint"] else ""
    )
    print_line(
        f"{data['source']}, {manifest['data']['first']} .. {manifest['data']['last']}, {values['bars']:,} bars, "
        f"digest {data['digest'][:12]}{checkpoint}"
    )
    from ..results.summary import order_counts

    print_line(f"orders: {order_counts(values['funnel'])}", style="yellow" if values["funnel"]["rejected"] else None)
    for key in ("signal", "model"):
        if manifest["verdicts"][key]:
            print_line(f"{key} verdict: {manifest['verdicts'][key]['verdict']}. {manifest['verdicts'][key]['sentence']}")
    certainty, rows = values["certainty"], []
    for name, value in values["metrics"].items():
        rows.append([name.replace("_", " "), value, values["benchmark"][name]])
        if name == "sharpe_daily" and certainty is not None:
            rows.append(["sharpe daily, 90 %", _interval(certainty["sharpe_interval"]), None])
    print_table(["", "strategy", "buy and hold"], rows)
    if certainty is not None:
        deflated = certainty["deflated_sharpe"]
        tried_since = deflated["inputs"]["trials"] != deflated["inputs"]["trials_at_run"]
        more = f" {deflated['sentence']}" if tried_since or deflated["value"] is not None else ""
        print_line(f"luck: {with_stamp(certainty['verdict'], manifest['config'])['sentence']}{more}")
    print_line(f"tearsheet: {values['tearsheet']}")


def _interval(figure: dict[str, Any]) -> str | None:
    return None if figure["low"] is None else f"{figure['low']:.2f} .. {figure['high']:.2f}"


@click.command(
    "show-config",
    cls=Command,
    examples=("flagbt show-config --config run.yaml", "flagbt show-config --config run.yaml --fee-bps 5 --json"),
)
@run_options
@config_option
@json_option
@click.pass_context
def show_config(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Show the options that `flagbt run` would use: defaults, overridden by the file, then by the command line."""
    shown = {name: str(value) if isinstance(value, Path | TimeRange) else value for name, value in options.items()}
    if as_json:
        print_json({"config": shown, "sources": {name: source_of(ctx, name) for name in shown}})
    else:
        print_table(["option", "value", "from"], [[name, value, source_of(ctx, name)] for name, value in shown.items()])
