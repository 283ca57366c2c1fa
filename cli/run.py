"""flagbt run, and flagbt show-config: the options that it would use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..arrays import JsonObject
from ..data.labels import CLASS_NAMES
from ..data.time_range import TimeRange
from ..engine.run_request import SIGNALS, RunRequest
from ..workflows.strategy import read_params
from .console import ProgressBars, print_line, print_table
from .options import STAMP, Command, config_option, json_option, print_checkpoint, print_json, run_options, source_of

if TYPE_CHECKING:
    from ..engine.run_settings import RunSettings
    from ..results.run_record import RunRecord
    from ..results.significance.answer import Answer, Significance


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
@click.pass_context
def run_command(ctx: click.Context, /, out: Path, name: str | None, notes: str | None, as_json: bool, **options: Any) -> None:
    """Backtest a strategy, and write a run folder with a tearsheet."""
    from ..workflows.backtest import backtest_request
    from ..workflows.run import save_run

    given = {option: value for option, value in options.items() if value is not None}
    if "signals" not in given:
        params = read_params(given["strategy"], given["param"])
    else:
        params = dict.fromkeys(given["param"])  # which a request with signals refuses
        given["strategy"] = SIGNALS if source_of(ctx, "strategy") == "default" else given["strategy"]
    request = RunRequest.of({**given, "params": params})
    with ProgressBars({"score": "Scoring bars", "replay": "Replaying in Backtrader", "report": "Drawing the page"}) as bars:
        made = backtest_request(request, runs=out, progress=bars.update)
        record = save_run(made, out, name=name, notes=notes, command=["flagbt", *sys.argv[1:]], progress=bars.update)
    if as_json:
        print_json(run_json(record))
        return
    print_checkpoint(request.ckpt)
    print_run(record)


def run_json(record: RunRecord) -> JsonObject:
    """Return the results of a saved run as JSON values."""
    from ..results.caveats import banners
    from ..results.metric_set import declarations
    from ..storage.json_records import json_value

    info, data, verdicts = record.info, record.data, record.verdicts
    final = None if info.diversity is None else info.diversity.final
    headlines = [metric.name for metric in declarations([record.metrics]) if metric.headline]
    folder, trained = record.folder or Path(), record.checkpoint
    checkpoint = None if trained is None else {"name": trained.name, "digest": trained.digest}
    return {
        "run": str(folder),
        "strategy": record.settings.strategy_name,
        "bars": record.funnel.bars,
        "signals_file": record.settings.get("signals"),
        "signals_digest": record.settings.signals_digest,
        "scored_bars": None if final is None else final.scored_bars,
        "signals": None if final is None else {name: final.counts[name] for name in CLASS_NAMES},
        "diversity": None if final is None else final.diversity,
        "effective_actions": None if final is None else final.effective_actions,
        "signal_verdict": None if verdicts.signal is None else verdicts.signal.verdict,
        "model_verdict": None if verdicts.model is None else verdicts.model.verdict,
        "verdicts": verdicts.to_json(),
        "sentence": record.sentence,
        "ruined": info.ruined,
        "funnel": record.funnel.to_json(),
        "metrics": {name: record.metrics[name] for name in headlines},
        "benchmark": {name: record.benchmark_metrics.get(name) for name in headlines},
        "certainty": json_value(record.significance),
        "tearsheet": str(folder / "tearsheet.html"),
        "overlap_allowed": record.settings.allow_overlap,
        "bars_seen": record.settings.get("bars_seen"),
        "bars_seen_stated": record.settings.bars_seen_stated,
        "text_until": None if trained is None else trained.text_until,
        "text_bars": info.text_bars,
        "before_after": json_value(record.before_after),
        "warnings": banners([info]),
        "data": {"source": data.source, "synthetic": data.synthetic, "digest": data.digest},
        "checkpoint": checkpoint,
        "seconds": info.seconds,
    }


def print_run(record: RunRecord) -> None:
    """Print the results of a saved run."""
    from ..results.caveats import UNSTATED, text_stamp, too_good_sentence
    from ..results.metric_set import declarations
    from ..results.summary import given_signals_text, order_counts

    info, data, checkpoint, funnel = record.info, record.data, record.checkpoint, record.funnel
    given = given_signals_text(record)
    if data.synthetic:
        print_line("SYNTHETIC data: these numbers do not come from a market.", style=STAMP)
    if record.settings.allow_overlap:
        print_line("OVERLAP allowed: the checkpoint or the strategy may have seen these bars. This is not a test.", style=STAMP)
    if not record.settings.bars_seen_stated:
        remedy = "bars_seen in its class; () for none" if given is None else "--bars-seen; none if it has seen none"
        if checkpoint is not None and "code" not in record.settings:  # the strategy is built in
            remedy = "--trained-on at the checkpoint's import; none if it has seen none"
        print_line(f"BARS SEEN not stated: {UNSTATED} ({remedy}).", style=STAMP)
    if (stamp := text_stamp(info)) is not None:
        print_line(stamp, style=STAMP)
    if (sentence := too_good_sentence(info)) is not None:
        print_line(sentence, style=STAMP)
    print_line(record.sentence, style="bold")
    trained = "" if checkpoint is None else f", checkpoint {checkpoint.name} {checkpoint.digest[:12]}"
    market = f" ({record.settings['symbol']})" if "symbol" in record.settings else ""
    print_line(f"{data.source}{market}, {data.first} .. {data.last}, {funnel.bars:,} bars, digest {data.digest[:12]}{trained}")
    if given is not None:
        print_line(given)
    print_line(f"orders: {order_counts(funnel)}", style="yellow" if funnel.rejected else None)
    for key, verdict in (("signal", record.verdicts.signal), ("model", record.verdicts.model)):
        if verdict is not None:
            print_line(f"{key} verdict: {verdict.verdict}. {verdict.sentence}")
    known = record.significance
    rows: list[list[object]] = []
    for name in (metric.name for metric in declarations([record.metrics]) if metric.headline):
        rows.append([name.replace("_", " "), record.metrics[name], record.benchmark_metrics.get(name)])
        if name == "sharpe_daily" and known is not None:
            rows.append(["sharpe daily, 90 %", _interval(known.sharpe_interval), None])
    print_table(["", "strategy", "buy and hold"], rows)
    if known is not None:
        print_line(_luck(known, record.settings))
    if record.before_after is not None:
        print_line(f"before and after: {record.before_after.sentence}")
    print_line(f"tearsheet: {(record.folder or Path()) / 'tearsheet.html'}")


def _luck(known: Significance, settings: RunSettings) -> str:
    from ..results.caveats import with_stamp

    deflated = known.deflated_sharpe
    tried_since = deflated.inputs["trials"] != deflated.inputs["trials_at_run"]
    more = f" {deflated.sentence}" if tried_since or deflated.value is not None else ""
    return f"luck: {with_stamp(known.verdict, settings).sentence}{more}"


def _interval(answer: Answer) -> str | None:
    return None if answer.low is None else f"{answer.low:.2f} .. {answer.high:.2f}"


@click.command(
    "show-config",
    cls=Command,
    examples=("flagbt show-config --config run.yaml", "flagbt show-config --config run.yaml --fee-bps 5 --json"),
)
@run_options
@config_option
@json_option
@click.pass_context
def show_config(ctx: click.Context, /, as_json: bool, **options: object) -> None:
    """Show the options that `flagbt run` would use: defaults, overridden by the file, then by the command line."""
    shown = {name: str(value) if isinstance(value, Path | TimeRange) else value for name, value in options.items()}
    if as_json:
        print_json({"config": shown, "sources": {name: source_of(ctx, name) for name in shown}})
    else:
        print_table(["option", "value", "from"], [[name, value, source_of(ctx, name)] for name, value in shown.items()])
