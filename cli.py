"""The command line: each command parses, calls one public function, and prints.

Nothing heavy is imported here: torch, transformers, Backtrader and quantstats only inside the commands that need them.
"""

from __future__ import annotations

import errno
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from . import __version__
from .config import Setting, read_config
from .console import Bars as ProgressBars
from .console import epoch_table, print_anywhere, print_table, say
from .data.labels import CLASS_NAMES, label_spec
from .data.timerange import TimeRange
from .errors import FlagbtError, TrainingError, UsageError
from .pipeline import Recorded, RunRequest, check_out, run

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_RUNS = Path("runs")
FROM_FILE = "flagbt.config"  # where a context keeps the settings of --config
STAMP = "bold black on yellow"
LARGEST_SEED = 2**32 - 1  # numpy's
SHOWN_METRICS = (
    "total_return", "cagr", "sharpe_daily", "sharpe_hourly", "max_drawdown", "trades", "win_rate", "exposure", "turnover",
    "fees_paid",
)  # fmt: skip


class Range(click.ParamType[TimeRange]):
    """A time range option."""

    name = "A-B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TimeRange:
        """Read A-B, A- or -B."""
        option = param.opts[0] if param is not None else "--timerange"
        try:
            return value if isinstance(value, TimeRange) else TimeRange.parse(str(value), option=option)
        except UsageError as error:
            self.fail(str(error).removeprefix(f"{option}: "), param, ctx)


class Number(click.ParamType[float]):
    """A finite number: NaN passes every comparison that a bug forgot."""

    name = "number"

    def __init__(self, *, above: float = -math.inf) -> None:
        self.above = above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a float."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number > self.above):
            what = "a number" if self.above == -math.inf else f"a number above {self.above:g}"
            self.fail(f"expected {what}, got '{value}'.", param, ctx)
        return number


class Place(click.ParamType[Path]):
    """A file or folder, which need not exist; the empty text that an unset shell variable leaves is none."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read a path."""
        if not str(value) or "\0" in str(value):
            self.fail(f"expected a path, got {str(value)!r}.", param, ctx)
        return Path(value)


def json_option(command: F) -> F:
    """Add ``--json``: one object on stdout, everything else on stderr."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(command)


def runs_option(command: F) -> F:
    """Add ``--out``: where run folders are kept."""
    return click.option("--out", type=Place(), default=DEFAULT_RUNS, show_default=True, help="Folder of run folders.")(command)


def _load_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:  # noqa: ARG001
    if value is not None:
        known = [str(option.name) for option in ctx.command.params if option.name not in ("config", "as_json")]
        settings = read_config(value, known)
        ctx.meta[FROM_FILE] = (value, settings)
        ctx.default_map = {name: setting.text for name, setting in settings.items()}
    return value


def config_option(command: F) -> F:
    """Add ``--config``: a YAML file of this command's options; what is given on the command line wins."""
    return click.option(
        "--config", type=Place(), is_eager=True, callback=_load_config, expose_value=False,
        help="YAML file of this command's options; the command line wins.",
    )(command)  # fmt: skip


def run_options(command: F) -> F:
    """Add every option that is a field of RunRequest, and where and under what name the run is kept."""
    options = (
        click.option("--strategy", default="flagtrader", show_default=True, help="A name, or package.module:Class."),
        click.option("--ckpt", help="A checkpoint's name or folder."),
        click.option("--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample."),
        click.option("--timerange", type=Range(), help="A-B, A- or -B; YYYYMMDD, UTC, end exclusive."),
        click.option("--calibration", default="stored", show_default=True, help="stored[:NAME], none, offset:a,b,c or FILE."),
        click.option("--decision", help="argmax, threshold:P or utility. Default: the one stored with the calibration."),
        click.option("--fee-bps", type=Number(), default=10.0, show_default=True, help="Fee a side, in basis points."),
        click.option("--slippage-bps", type=Number(), default=2.0, show_default=True, help="Slippage a side, in basis points."),
        click.option("--cash", type=Number(above=0), default=10_000.0, show_default=True, help="Starting cash."),
        click.option("--short", is_flag=True, help="A SELL while flat opens a short position."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
        click.option("--batch-size", type=click.IntRange(1), help="Chunks of bars a forward pass."),
        click.option("--allow-overlap", is_flag=True, help="Trade bars the checkpoint has seen; stamped on every output."),
        click.option(
            "--seed", type=click.IntRange(0), default=0, show_default=True, help="For strategies that draw at random."
        ),
        click.option("--out", type=Place(), default=DEFAULT_RUNS, show_default=True, help="Folder of run folders."),
        click.option("--name", help="Your name for the run."),
        click.option("--notes", help="Your notes, shown on the page."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={
    "token_normalize_func": lambda word: word.replace("_", "-"), "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
})  # fmt: skip
@click.version_option(__version__, prog_name="flagbt")
def cli() -> None:
    """Find out honestly whether a fine-tuned model trades, why not, and what it is worth."""


@cli.command("run")
@run_options
@config_option
@json_option
def run_command(out: Path, name: str | None, notes: str | None, as_json: bool, **options: Any) -> None:
    """Backtest a strategy, write a run folder with a tearsheet."""
    request = _request(options)
    with ProgressBars({"score": "Scoring bars", "replay": "Replaying in Backtrader"}) as bars:
        recorded = run(request, out=out, name=name, notes=notes, command=["flagbt", *sys.argv[1:]], progress=bars.update)
    values = _run_json(recorded)
    if as_json:
        _print_json(values)
        return
    _print_run(values, recorded)


def _request(options: Mapping[str, Any]) -> RunRequest:
    given = {field.name: options[field.name] for field in fields(RunRequest) if options.get(field.name) is not None}
    return RunRequest(**given)


def _run_json(recorded: Recorded) -> dict[str, Any]:
    manifest, final = recorded.manifest, (recorded.manifest["diversity"] or {}).get("final") or {}
    verdicts, checkpoint = manifest["verdicts"], manifest["checkpoint"]
    pick = {key: {name: values[name] for name in SHOWN_METRICS} for key, values in recorded.metrics.items()}
    return {
        "run": str(recorded.folder),
        "bars": manifest["funnel"]["bars"],
        "scored_bars": final.get("scored_bars"),
        "signals": {name: final["counts"][name] for name in CLASS_NAMES} if final else None,
        "diversity": final.get("diversity"),
        "effective_actions": final.get("effective_actions"),
        "signal_verdict": verdicts["signal"] and verdicts["signal"]["verdict"],
        "model_verdict": verdicts["model"] and verdicts["model"]["verdict"],
        "verdicts": verdicts,
        "sentence": manifest["sentence"],
        "funnel": manifest["funnel"],
        "metrics": pick["strategy"],
        "benchmark": pick["benchmark"],
        "tearsheet": str(recorded.folder / "tearsheet.html"),
        "overlap_allowed": bool(manifest["config"].get("allow_overlap")),
        "data": {key: manifest["data"][key] for key in ("source", "synthetic", "digest")},
        "checkpoint": checkpoint and {key: checkpoint[key] for key in ("name", "digest")},
        "seconds": recorded.seconds,
    }


def _print_run(values: dict[str, Any], recorded: Recorded) -> None:
    data, manifest = values["data"], recorded.manifest
    if data["synthetic"]:
        say("SYNTHETIC data: no market was involved in these numbers.", style=STAMP)
    if values["overlap_allowed"]:
        say("OVERLAP allowed: the checkpoint may have seen these bars. This is no test.", style=STAMP)
    say(manifest["sentence"], style="bold")
    checkpoint = (
        f", checkpoint {values['checkpoint']['name']} {values['checkpoint']['digest'][:12]}" if values["checkpoint"] else ""
    )
    say(
        f"{data['source']}, {manifest['data']['first']} .. {manifest['data']['last']}, {values['bars']:,} bars, "
        f"digest {data['digest'][:12]}{checkpoint}"
    )
    for key in ("signal", "model"):
        if manifest["verdicts"][key]:
            say(f"{key} verdict: {manifest['verdicts'][key]['verdict']}. {manifest['verdicts'][key]['sentence']}")
    rows = [[name.replace("_", " "), values["metrics"][name], values["benchmark"][name]] for name in SHOWN_METRICS]
    print_table(["", "strategy", "buy and hold"], rows)
    say(f"tearsheet: {values['tearsheet']}")


@cli.command("train")
@click.option("--data", type=Place(), required=True, help="A file of bars.")
@click.option("--output", type=Place(), default=Path("checkpoints"), show_default=True, help="Folder of checkpoints.")
@click.option("--name", default="flagbt", show_default=True, help="The checkpoint's name.")
@click.option("--preset", help="tiny, small, 88m or smollm2. Default: the base's, or tiny.")
@click.option("--base", help="A base's name or folder, not pre-trained again; with smollm2 a model's folder or hub id.")
@click.option("--base-layers", type=click.IntRange(1), help="Of a language model, only the first N layers.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option("--pretrain-epochs", type=click.IntRange(1), help="Next-bar prediction, before; 12 without --base.")
@click.option("--timerange", type=Range(), help="Bars to train on. Default: all before the validation.")
@click.option("--validation", type=Range(), help="Bars to judge and calibrate on. Default: the last fifth.")
@click.option("--objective", default="ce", show_default=True, help="ce, focal, logit-adjusted or balanced-softmax.")
@click.option("--weight-strategy", default="none", show_default=True, help="none, inverse, sqrt or effective.")
@click.option("--sampler", default="natural", show_default=True, help="natural, or oversample SELL and BUY.")
@click.option("--label-smoothing", type=Number(), default=0.0, show_default=True, help="Share of the target spread evenly.")
@click.option("--gamma", type=Number(), default=2.0, show_default=True, help="Of the focal loss.")
@click.option("--tau", type=Number(), default=1.0, show_default=True, help="Of the logit adjustment.")
@click.option("--beta", type=Number(), default=0.9999, show_default=True, help="Of the effective-number weights.")
@click.option("--features", help="A feature set's name, or module:name. Default: the base's, or default.")
@click.option(
    "--labels", default="horizon:6,0.01", show_default=True, help="Or triple-barrier:BARS,UP,DOWN: the question asked."
)
@click.option("--embargo-bars", type=click.IntRange(0), default=0, show_default=True, help="After the training: not judged on.")
@click.option(
    "--walk-forward", type=click.IntRange(1), help="Train this many folds, each on its past; test each on what follows."
)
@click.option("--lora-rank", type=click.IntRange(1), default=16, show_default=True)
@click.option("--lora-layers", default="all", show_default=True, help="all, or top:N to adapt the last N layers only.")
@click.option("--learning-rate", type=Number(above=0), default=1e-3, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True, help="Sequences a step.")
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--best-by", default="nll", show_default=True, help="nll, mcc, macro_f1 or balanced_accuracy: chooses the epoch.")
@click.option("--on-collapse", default="warn", show_default=True, help="warn or stop, when an epoch collapses or flatters.")
@click.option("--report-to", type=click.Choice(["tensorboard", "wandb", "trackio"]), help="Log there as well.")
@click.option("--resume", is_flag=True, help="Go on from the last save of an unfinished training.")
@click.option("--overwrite", is_flag=True, help="Replace a checkpoint of that name when the training is done.")
@config_option
@json_option
def train_command(data: Path, output: Path, name: str, as_json: bool, device: str, overwrite: bool, **options: Any) -> None:
    """Train a checkpoint: pre-train a base, fine-tune it with LoRA, calibrate it."""
    target = _checkpoint_folder(output, name, overwrite=overwrite)
    from .data.readers import read_bars
    from .models.network import Lora
    from .models.scoring import pick_device
    from .training.loop import Schedule, is_main_process
    from .training.objectives import Objective
    from .training.train import Recipe, train

    if options["pretrain_epochs"] and (options["base"] or options["preset"] == "smollm2"):
        raise UsageError("--pretrain-epochs: a base that is given is not pre-trained again. Leave the option out.")
    recipe = Recipe(
        preset=options["preset"], base=options["base"], base_layers=options["base_layers"],
        training=options["timerange"] or TimeRange(), validation=options["validation"],
        features=options["features"], labels=label_spec(options["labels"]), embargo_bars=options["embargo_bars"],
        objective=Objective(
            loss=options["objective"], weights=options["weight_strategy"], gamma=options["gamma"], tau=options["tau"],
            beta=options["beta"], sampler=options["sampler"], label_smoothing=options["label_smoothing"],
        ),
        lora=Lora(
            rank=options["lora_rank"], alpha=2 * options["lora_rank"], top_layers=_top_layers(options["lora_layers"])
        ),
        pretraining=Schedule(
            epochs=options["pretrain_epochs"] or 12, learning_rate=2e-3, batch_chunks=options["batch_size"],
            seed=options["seed"],
        ),
        schedule=Schedule(
            epochs=options["epochs"], learning_rate=options["learning_rate"], batch_chunks=options["batch_size"],
            seed=options["seed"],
        ),
        best_by=options["best_by"],
    )  # fmt: skip
    picked = pick_device(device)
    bars = read_bars(data)
    if bars.synthetic and not as_json:
        say("SYNTHETIC data: this checkpoint will know nothing of any market.", style=STAMP)
    if options["walk_forward"]:
        with_what = {"resume": options["resume"], "on_collapse": options["on_collapse"]}
        _walk_forward(bars, output, name, recipe, options["walk_forward"], picked, overwrite, as_json, with_what)
        return
    with epoch_table() as watch:
        checkpoint = train(
            bars, target, recipe, device=picked, overwrite=overwrite, resume=options["resume"],
            on_collapse=options["on_collapse"], report_to=options["report_to"], watch=watch,
        )  # fmt: skip
    if not is_main_process():
        return
    values = checkpoint.values
    history = json.loads((checkpoint.folder / "history.json").read_text(encoding="utf-8"))
    summary = {
        "checkpoint": str(checkpoint.folder),
        "digest": checkpoint.digest,
        "data": {key: values["data"][key] for key in ("source", "synthetic", "digest")},
        "samples": {"train": values["samples"]["training"], "validation": values["samples"]["validation"]},
        "labels": {label: values["labels_counted"][label] for label in CLASS_NAMES},
        "class_weights": values["objective"]["class_weights"],
        "epochs": history,
        "best": next(entry for entry in history if entry["epoch"] == values["best_epoch"]),
        "model_verdict": values["model_verdict"]["verdict"],
        "calibration": values["calibrations"]["default"],
    }
    if as_json:
        _print_json(summary)
        return
    fitted = values["metrics"]["validation_calibrated"]
    say(
        f"Best epoch {values['best_epoch']}: validation NLL {summary['best']['nll']:.4f}, calibrated {fitted['nll']:.4f}; "
        f"always predicting the training shares gives {fitted['nll_prior']:.4f}."
    )
    say(f"model verdict: {values['model_verdict']['verdict']}. {values['model_verdict']['sentence']}")
    say(f"checkpoint: {checkpoint.folder}  (test it on bars after {values['ranges']['calibration'].split('-')[1]})")


def _walk_forward(
    bars: Any,
    output: Path,
    name: str,
    recipe: Any,
    folds: int,
    device: Any,
    overwrite: bool,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    from .training.loop import is_main_process
    from .training.walk_forward import fold_name, walk_forward

    for each in (fold_name(name, number) for number in range(1, folds + 1)):
        _checkpoint_folder(output, each, overwrite=overwrite)
    with epoch_table() as watch:
        walked = walk_forward(
            bars, output, name, recipe, folds, device=device, overwrite=overwrite, **options,
            watch=lambda number, progress: watch(replace(progress, stage=f"{number}/{folds} {progress.stage}")),
        )  # fmt: skip
    if not is_main_process():
        return
    values = walked.values
    if as_json:
        _print_json({"walk_forward": str(walked.folder), **values})
        return
    shown = ("nll", "nll_prior", "mcc_prior", "ece")
    print_table(
        ["checkpoint", "tested on", *shown],
        [[e["checkpoint"], e["ranges"]["test"], *(e["scores"][key] for key in shown)] for e in values["folds"]],
    )
    say(
        f"On all test stretches: NLL {values['scores']['nll']:.4f}; always predicting the training shares gives "
        f"{values['scores']['nll_prior']:.4f}."
    )
    say(f"stitched signals: {walked.folder / 'signals.parquet'}")


def _top_layers(text: str) -> int | None:
    if text == "all":
        return None
    if not re.fullmatch(r"top:[1-9]\d{0,3}", text):
        raise UsageError(f"--lora-layers: '{text}' is unknown. Write all, or top:N with a number of layers, such as top:8.")
    return int(text.removeprefix("top:"))


@cli.command("pretrain")
@click.option("--data", type=Place(), required=True, help="A file of bars.")
@click.option("--output", type=Place(), default=Path("bases"), show_default=True, help="Folder of bases.")
@click.option("--name", default="base", show_default=True, help="The base's name.")
@click.option("--preset", default="tiny", show_default=True, help="tiny, small or 88m.")
@click.option("--timerange", type=Range(), help="Bars to learn from. Default: all.")
@click.option("--epochs", type=click.IntRange(1), default=12, show_default=True)
@click.option("--features", default="default", show_default=True, help="A feature set's name, or module:name.")
@click.option(
    "--horizon-bars", type=click.IntRange(1), default=6, show_default=True,
    help="Bars at the end not learned from; as many as the labels of trainings look ahead.",
)  # fmt: skip
@click.option("--learning-rate", type=Number(above=0), default=2e-3, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True, help="Sequences a step.")
@click.option("--seed", type=click.IntRange(0, LARGEST_SEED), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--resume", is_flag=True, help="Go on from the last save of an unfinished pre-training.")
@click.option("--overwrite", is_flag=True, help="Replace a base of that name when the pre-training is done.")
@config_option
@json_option
def pretrain_command(
    data: Path, output: Path, name: str, as_json: bool, device: str, resume: bool, overwrite: bool, **options: Any
) -> None:
    """Make a base by next-bar prediction, for flagbt train --base."""
    target = _checkpoint_folder(output, name, overwrite=overwrite, description="base.json")
    from .data.readers import read_bars
    from .models.scoring import pick_device
    from .training.loop import Schedule
    from .training.make_base import BaseRecipe, make_base
    from .training.pretrain import BINS

    recipe = BaseRecipe(
        preset=options["preset"], timerange=options["timerange"] or TimeRange(), features=options["features"],
        horizon_bars=options["horizon_bars"],
        schedule=Schedule(
            epochs=options["epochs"], learning_rate=options["learning_rate"], batch_chunks=options["batch_size"],
            seed=options["seed"],
        ),
    )  # fmt: skip
    picked = pick_device(device)
    bars = read_bars(data)
    if bars.synthetic and not as_json:
        say("SYNTHETIC data: this base will know nothing of any market.", style=STAMP)
    with epoch_table() as watch:
        base = make_base(bars, target, recipe, device=picked, overwrite=overwrite, resume=resume, watch=watch)
    values = base.values
    if as_json:
        _print_json({
            "base": str(base.folder), "digest": base.digest, "preset": values["preset"], "timerange": values["range"],
            "samples": values["samples"], "losses": values["losses"],
            "data": {key: values["data"][key] for key in ("source", "synthetic", "digest")},
        })  # fmt: skip
        return
    say(f"Last epoch: {values['losses'][-1]:.4f} nats a quantity; knowing nothing gives {math.log(BINS):.4f}.")
    say(f"base: {base.folder}  (train on it, and validate on bars after {values['range'].split('-')[1]})")


def _checkpoint_folder(output: Path, name: str, *, overwrite: bool, description: str = "checkpoint.json") -> Path:
    """Return the folder a training may write, and refuse before hours of work what it could not, or must not."""
    what = description.removesuffix(".json")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name):
        raise UsageError(
            f"--name: '{name}' is no name for a {what}. Use up to 100 letters, digits, '.', '_', '+' and '-', beginning "
            "with a letter or a digit; --output says where it goes."
        )
    check_out(output, option="--output")
    target = output / name
    if target.exists() and overwrite and not (target / description).is_file():
        raise TrainingError(
            f"--overwrite: {target} is there, but it is no {what}, so it is not replaced. Choose another --name."
        )
    return target


@cli.command("compare")
@click.argument("runs", nargs=-1, required=True)
@click.option("-o", "--output", type=Place(), default=Path("compare.html"), show_default=True)
@runs_option
@json_option
def compare_command(runs: tuple[str, ...], output: Path, out: Path, as_json: bool) -> None:
    """Compare runs on one offline page."""
    from .results.compare import comparison_table, inequalities, render_comparison
    from .results.store import find_run, read_run, write_page

    folders = [find_run(each, out).resolve() for each in runs]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        raise UsageError(f"compare: the run {twice.name} is given twice. Name it once: a run cannot differ from itself.")
    stored = [read_run(find_run(each, out)) for each in runs]
    write_page(output, render_comparison(stored))
    if as_json:
        _print_json({
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


@cli.group("runs")
def runs_group() -> None:
    """Look at the runs there are."""


@runs_group.command("list")
@runs_option
@json_option
def runs_list(out: Path, as_json: bool) -> None:
    """List the runs, newest first."""
    from .results.store import list_runs, read_run

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
        _print_json({"runs": rows, "damaged": damaged})
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
    from .results.store import find_run, read_run

    stored = read_run(find_run(name, out))
    recorded = Recorded(stored.folder, stored.manifest, stored.metrics, stored.manifest["seconds"])
    values = _run_json(recorded)
    if as_json:
        _print_json(values)
    else:
        _print_run(values, recorded)


@cli.group("ckpt")
def ckpt_group() -> None:
    """Look at the checkpoints there are."""


@ckpt_group.command("list")
@json_option
def ckpt_list(as_json: bool) -> None:
    """List the checkpoints that names find."""
    from .models.checkpoint import checkpoint_places, read_checkpoint

    rows, damaged = [], []
    for name, folder in checkpoint_places().items():
        try:
            each = read_checkpoint(folder)
        except FlagbtError as error:  # one damaged checkpoint must not hide the others
            damaged.append({"name": name, "error": str(error)})
            continue
        stops = [seen.stop for seen in each.ranges.values()]
        objective = each.values.get("objective") or {}
        rows.append({
            "name": name, "digest": each.digest[:12], "preset": each.values["base"].get("preset"),
            "objective": objective.get("loss"), "weights": objective.get("weights"),
            "seen until": None if None in stops else str(max(stop for stop in stops if stop is not None))[:10],
            "folder": str(each.folder),
        })  # fmt: skip
    if as_json:
        _print_json({"checkpoints": rows, "damaged": damaged})
        return
    print_table(list(rows[0]) if rows else ["no checkpoints"], [list(row.values()) for row in rows])
    for bad in damaged:
        say(f"damaged: {bad['error']}", style="yellow")


@ckpt_group.command("show")
@click.argument("name")
@json_option
def ckpt_show(name: str, as_json: bool) -> None:
    """Show a checkpoint's card."""
    from .models.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(name)
    if as_json:
        _print_json({"folder": str(checkpoint.folder), "digest": checkpoint.digest, **checkpoint.values})
        return
    say(f"{checkpoint.folder}  digest {checkpoint.digest[:12]}")
    card = checkpoint.folder / "README.md"
    click.echo(
        card.read_text(encoding="utf-8", errors="replace") if card.is_file() else json.dumps(checkpoint.values, indent=2)
    )


@cli.group("strategies")
def strategies_group() -> None:
    """Look at the strategies there are."""


@strategies_group.command("list")
@json_option
def strategies_list(as_json: bool) -> None:
    """List the registered strategies."""
    from .strategies.registry import strategy_names

    names = strategy_names()
    if as_json:
        _print_json({"strategies": [{"name": name, "description": text} for name, text in names]})
    else:
        print_table(["name", "what it does"], [list(row) for row in names])


@cli.group("data")
def data_group() -> None:
    """Look at bars."""


@data_group.command("info")
@click.option("--data", type=Place(), help="A file of bars. Default: the SYNTHETIC sample.")
@json_option
def data_info(data: Path | None, as_json: bool) -> None:
    """Describe a file of bars: range, step, gaps, digest."""
    from .data.bars import utc
    from .pipeline import load_bars

    bars = load_bars(data)
    gaps = [{"before": utc(g.before), "after": utc(g.after), "missing": g.missing} for g in bars.gaps]
    values = {
        "source": bars.source, "synthetic": bars.synthetic, "bars": len(bars), "first": utc(bars.time[0]),
        "last": utc(bars.time[-1]), "step_hours": bars.step_hours, "gaps": gaps, "digest": bars.digest,
    }  # fmt: skip
    if as_json:
        _print_json(values)
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
    from .data.readers import write_bars_csv
    from .pipeline import load_bars

    bars = load_bars(None)
    write_bars_csv(bars, output)
    if as_json:
        _print_json({"output": str(output), "bars": len(bars), "synthetic": True})
    else:
        say(f"SYNTHETIC: {len(bars):,} generated bars written to {output}")


@cli.command("show-config")
@run_options
@config_option
@json_option
@click.pass_context
def show_config(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Show what `flagbt run` would use: defaults, laid over by the file, laid over by the command line."""
    shown = {name: str(value) if isinstance(value, Path | TimeRange) else value for name, value in options.items()}
    if as_json:
        _print_json({"config": shown, "sources": {name: _source(ctx, name) for name in shown}})
    else:
        print_table(["option", "value", "from"], [[name, value, _source(ctx, name)] for name, value in shown.items()])


def _source(ctx: click.Context, name: str) -> str:
    source = ctx.get_parameter_source(name)
    names = {"DEFAULT": "default", "DEFAULT_MAP": "file", "COMMANDLINE": "command line", "ENVIRONMENT": "environment"}
    return names.get(source.name, source.name.lower()) if source else "default"


def _print_json(values: Mapping[str, Any]) -> None:
    click.echo(json.dumps(values, indent=2, allow_nan=False))


def main() -> None:
    """Run the command line; errors of the user's are one paragraph on stderr, exit 1 or 2."""
    print_anywhere()
    try:
        code = cli.main(prog_name="flagbt", standalone_mode=False) or 0
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
    except FlagbtError as error:
        _complain(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _complain(_said(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _complain("stopped.", 130)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _complain("the output could not be written: the disk is full. Make room, or write elsewhere.", 1)
    sys.exit(code)


def _said(error: click.ClickException) -> str:
    """Write what click has to say in one paragraph, with the file and line where an option came from there."""
    context = getattr(error, "ctx", None)
    said = error.format_message()
    param = getattr(error, "param", None)
    if isinstance(error, click.BadParameter) and error.message and param is not None and param.name is not None:
        said = f"{max(param.opts, key=len) if isinstance(param, click.Option) else param.name}: {error.message}"
        path, settings = context.meta.get(FROM_FILE, (None, {})) if context is not None else (None, {})
        setting: Setting | None = settings.get(param.name)
        if setting is not None and context is not None and _source(context, param.name) == "file":
            said = f"--config: {path}, line {setting.line}: {said}"
    said = said if said.endswith((".", "?", "?)")) else f"{said}."
    return f"{said} See {context.command_path} --help." if context is not None else said


def _complain(text: str, exit_code: int) -> NoReturn:
    # A plug-in's or a library's own words may have lines; the paragraph has none.
    click.echo(f"flagbt: {' '.join(text.split())}", err=True)
    sys.exit(exit_code)
