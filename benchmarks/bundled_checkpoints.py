"""Make the four bundled checkpoints: `make checkpoints DATA=btc_usdt_1h_2020_2024.csv`.

Everything is chosen on bars before 2024: training to 2023-06-30, epoch and calibration on 2023-07 .. 2023-12. The year
2024 is looked at only afterwards, once for each checkpoint, for its card.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from flagbt.cli.console import epoch_table, print_line
from flagbt.data.readers import read_bars
from flagbt.data.time_range import TimeRange
from flagbt.doctor.checkpoint_subject import subject_of_checkpoint
from flagbt.doctor.examine import examine
from flagbt.engine.run_request import RunRequest
from flagbt.models.calibration import Calibration
from flagbt.models.checkpoint import BUNDLED, Checkpoint, StoredCalibration, read_checkpoint
from flagbt.models.decision import Decision
from flagbt.models.description import TrainingDescription
from flagbt.models.model_signals import ModelSignals
from flagbt.models.statistics import scores
from flagbt.training.model_card import card
from flagbt.training.objectives import Objective
from flagbt.training.progress import Monitor
from flagbt.training.recipe import Recipe
from flagbt.workflows.backtest import backtest_request
from flagbt.workflows.train import train_on

TEST_YEAR = TimeRange.parse("20240101-20250101")
OBJECTIVES = {
    "Jan4": Objective(),
    "Jan19": Objective(weights="inverse"),
    "Jan19-sqrt": Objective(weights="sqrt"),
    "focal": Objective(loss="focal"),
}
REPORT_OFFSET = (3.0, -2.5, 1.0)  # the report's logit correction for its own Jan4


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--output", type=click.Path(path_type=Path), default=BUNDLED)
@click.option("--only", multiple=True, type=click.Choice(list(OBJECTIVES)))
@click.option("--cards-only", is_flag=True, help="Rewrite the cards of existing checkpoints only.")
def main(data: Path, output: Path, only: tuple[str, ...], cards_only: bool) -> None:
    """Train, calibrate and describe the bundled checkpoints."""
    if cards_only:
        for name in only or OBJECTIVES:
            checkpoint = read_checkpoint(output / name)
            (checkpoint.folder / "README.md").write_text(
                card(name, TrainingDescription.from_json(checkpoint.values)), encoding="utf-8"
            )
            describe_test_year(checkpoint, data)
        return
    whole = read_bars(data)
    before_2024 = whole.take(whole.between(TimeRange(None, TEST_YEAR.start)))
    for name in only or OBJECTIVES:
        recipe = Recipe(
            training=TimeRange.parse("-20230701"), validation=TimeRange.parse("20230701-20240101"), objective=OBJECTIVES[name]
        )
        with epoch_table() as (on_epoch, on_step):
            monitor = Monitor(on_epoch=on_epoch, on_step=on_step)
            checkpoint = train_on(before_2024, output / name, recipe, overwrite=True, monitor=monitor)
        if name == "Jan4":
            offset = StoredCalibration(Calibration("offset", offset=REPORT_OFFSET), Decision("argmax"))
            checkpoint = checkpoint.store_calibration("report", offset)
        describe_test_year(checkpoint, data)
        print_line(f"{name}: {checkpoint.folder}")


def describe_test_year(checkpoint: Checkpoint, data: Path) -> None:
    """Run the checkpoint on 2024 and append its scores to its card."""
    bars = read_bars(data)
    part = bars.between(TEST_YEAR)
    stored = checkpoint.stored_calibration()
    signals = ModelSignals(checkpoint=checkpoint, calibration=stored.calibration, decision=stored.decision)(bars)
    labels = np.full(len(bars), -1, dtype=np.int8)
    labels[part] = checkpoint.labels.labels(bars)[part]
    assert signals.probabilities is not None
    score = scores(signals.probabilities, labels, checkpoint.label_shares)
    with tempfile.TemporaryDirectory() as scratch:
        request = RunRequest(ckpt=str(checkpoint.folder), data=data, timerange=TEST_YEAR)
        recorded = backtest_request(request, runs=Path(scratch))
    doctor = examine(subject_of_checkpoint(checkpoint, bars, timerange=TEST_YEAR))
    rank = doctor.finding("rank-skill")
    mine, market = recorded.metrics, recorded.benchmark_metrics
    verdicts, final, certainty = recorded.verdicts, recorded.info.diversity.final, recorded.significance
    report = ""
    if "report" in checkpoint.calibration_names():
        report = " and `report` (the original report's logit correction)"
    sharpe = "undefined" if mine.sharpe_daily is None else f"{mine.sharpe_daily:.2f}"
    text = f"""
## What it is

This is this project's own small re-training under the name that the original report used, not the report's file: another
architecture, another training, no look-ahead, the same table at training and at serving. Made by
`make checkpoints DATA=<bars>`, where the bars are Binance spot BTC/USDT, 1 hour, 2020-01-01 .. 2024-12-31 (43,816 bars;
digest of the whole file `{bars.digest[:16]}`), as `flagbt data info --data FILE` prints it. It stores the calibrations
`default`{report}.

## On 2024, which it was not chosen on

| 2024, calibration `default` | |
| --- | --- |
| labelled bars | {score.rows:,} |
| negative log-likelihood | {score.nll:.4f} (always predicting the training shares: {score.nll_prior:.4f}) |
| accuracy of argmax | {score.accuracy:.4f} (always HOLD: {score.majority_share:.4f}) |
| Matthews correlation of argmax(p / training share) | {score.mcc_prior:.4f} |
| expected calibration error | {score.ece:.4f} |
| decision | {stored.decision} |
| signals that are not HOLD | {100 * final.diversity:.1f} % |
| closed trades | {mine.closed_trades:,} |
| total return | {100 * mine.total_return:.1f} % (buy and hold: {100 * market.total_return:.1f} %) |
| Sharpe ratio, daily | {sharpe} (buy and hold: {market.sharpe_daily:.2f}) |
| its 90 % interval | {_between(certainty.sharpe_interval)} |
| 90 % interval of the difference to buy and hold | {_between(certainty.difference_interval)} |
| random entries that do as well | {_share(certainty.random_entries)} |
| model verdict, uncalibrated | {verdicts.model.verdict} |
| model verdict, calibrated | {verdicts.calibrated.verdict} |

The doctor's verdict on 2024: **{doctor.verdict}** (`flagbt doctor --ckpt {checkpoint.name} --data FILE --timerange
{TEST_YEAR}`).
{rank.message.partition(" One class")[0]}

Volatility is predictable, direction hardly: nothing here is a reason to trade it.
"""
    card = checkpoint.folder / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + text, encoding="utf-8")


def _between(figure: dict[str, Any]) -> str:
    return "unknown" if figure["low"] is None else f"{figure['low']:.2f} .. {figure['high']:.2f}"


def _share(figure: dict[str, Any]) -> str:
    return "unknown" if figure["value"] is None else f"{100 * figure['value']:.1f} %"


if __name__ == "__main__":
    main()
