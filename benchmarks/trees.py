"""Time LightGBM from bars to a checkpoint, and the scoring of a year: `python benchmarks/trees.py --data F --data F2`.

The files of one market are put end to end, and the bars before ``--until`` are used: trained and calibrated before the last
calendar year, which is then scored. Limits on a 2-core machine: 60 s for the training, 2 s for the year.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np

from flagbt.data.bars import COLUMNS, Bars
from flagbt.data.readers import read_bars
from flagbt.data.time_range import TimeRange
from flagbt.models.statistics import constant_prior_nll, negative_log_likelihood, softmax
from flagbt.training.fit_recipe import FitRecipe
from flagbt.workflows.train_model import train_model

LONGEST_TRAINING_S, LONGEST_SCORING_S = 60.0, 2.0


def joined(parts: list[Bars], until: np.datetime64) -> Bars:
    """Return series of one market end to end, up to a time."""
    columns = {name: np.concatenate([getattr(each, name) for each in parts]) for name in COLUMNS}
    whole = Bars(np.concatenate([each.time for each in parts]), **columns, step=parts[0].step, source=parts[0].source)
    return whole.take(whole.between(TimeRange(None, until)))


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), multiple=True, required=True)
@click.option("--until", default="20240101", show_default=True, help="No bar from here on is read.")
def main(data: tuple[Path, ...], until: str) -> None:
    """Train on all but the last year, and score that year."""
    stop = TimeRange.parse(f"-{until}").stop
    assert stop is not None
    bars = joined([read_bars(path) for path in data], stop)
    year = stop - np.timedelta64(365, "D")
    recipe = FitRecipe(
        model="lightgbm",
        training=TimeRange(None, year - np.timedelta64(182, "D")),
        validation=TimeRange(year - np.timedelta64(182, "D"), year),
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        made = train_model(bars, Path(folder) / "trees", recipe)
        trained_s = time.perf_counter() - started
        rows = bars.between(TimeRange(year, stop))
        history = bars.take(slice(rows.start - made.model.warmup_bars, rows.stop))
        started = time.perf_counter()
        logits = made.model.logits(history)[-(rows.stop - rows.start) :]
        scored_s = time.perf_counter() - started
    labels = made.labels.labels(bars)[rows][: -made.labels.horizon_bars]
    known = labels >= 0
    p = softmax(logits[: len(labels)])[known]
    samples = made.values["samples"]
    shares = made.label_shares
    assert shares is not None
    print(f"{len(bars):,} bars of {bars.source}; samples {samples}")
    print(f"training, calibration and checkpoint: {trained_s:.1f} s (limit {LONGEST_TRAINING_S:g} s)")
    print(f"a year of {rows.stop - rows.start:,} bars scored: {scored_s:.2f} s (limit {LONGEST_SCORING_S:g} s)")
    prior = constant_prior_nll(shares, labels[known])
    print(f"NLL of that year: {negative_log_likelihood(p, labels[known]):.4f}; of the training shares: {prior:.4f}")
    raise SystemExit(int(trained_s > LONGEST_TRAINING_S or scored_s > LONGEST_SCORING_S))


if __name__ == "__main__":
    main()
