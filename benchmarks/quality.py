"""Compare flagbt's models with others on the same features: `python benchmarks/quality.py --data F --more-data F2`.

It needs `pip install lightgbm scikit-learn`.

Everything is fitted before ``--year`` and evaluated on that year. Every number below that decides anything (epochs, trees,
penalties, further training series) was chosen with ``--year 2023``; with 2024 nothing may be changed any more. Each run on
2024 is a look at the test year, and belongs in docs/LOG.md.

Two fits for each model and seed, both on bars before the year:

- *refit*: trained on everything before the year, nothing held back; its negative log-likelihood, Matthews correlation and
  area under the curve are those of its uncalibrated probabilities;
- *calibrated*: trained until the last half-year before the year, one temperature fitted on that half-year; its expected
  calibration error is that of the calibrated probabilities.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import lightgbm
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flagbt.arrays import FloatArray, IntArray
from flagbt.data.bars import Bars
from flagbt.data.feature_schema import FeatureSchema
from flagbt.data.features import DEFAULT
from flagbt.data.labels import LabelSpec, class_shares
from flagbt.data.readers import read_bars
from flagbt.data.time_range import TimeRange
from flagbt.models.calibration_fit import fit_calibration
from flagbt.models.kinds.architecture import Lora
from flagbt.models.kinds.lightgbm_model import TREES
from flagbt.models.kinds.scoring import score
from flagbt.models.statistics import direction_auc, scores, softmax
from flagbt.training.base_source import BaseSource, preset_architecture
from flagbt.training.chronological_split import Split
from flagbt.training.finetune import finetune
from flagbt.training.preparation import TrainingSetup
from flagbt.training.pretrain import SCHEDULE, Base, pretrain
from flagbt.training.recipe import Recipe
from flagbt.training.samples import Samples, gather_samples
from flagbt.training.trainer import Schedule

LABELS = LabelSpec()
WEEK_BARS = 168
DRAWS = 1000

# Chosen with --year 2023, as was TREES
PENALTY = 0.01  # C of the logistic regression
PRETRAINING = SCHEDULE
FINE_TUNING = Schedule(epochs=4, learning_rate=2e-3)
LORA = Lora()


@dataclass(frozen=True, eq=False)
class Task:
    """The bars of one market, when training ends, and which bars are scored.

    Attributes
    ----------
    bars : Bars
        Up to the end of the evaluated year: no later bar is read.
    more : list of Bars
        Further series to train on.
    until : datetime64
        Training ends here.
    scored : array of bool, shape (n_bars,)
        The bars whose logits are needed.
    """

    bars: Bars
    more: list[Bars]
    until: np.datetime64
    scored: np.ndarray

    def training_samples(self, more: Sequence[Bars], warmup_bars: int) -> Samples:
        """Return every labelled bar whose label's window ends before the training does."""
        within = TimeRange(None, self.until)
        mark = np.zeros(len(self.bars), dtype=bool)
        mark[warmup_bars : self.bars.between(within).stop - LABELS.horizon_bars] = True
        return gather_samples(self.bars, more, labels=LABELS, training=mark, within=within, warmup_bars=warmup_bars)


Model = Callable[[Task, int], FloatArray]  # (task, seed) -> logits (n_bars, 3), NaN where not scored


def constant_prior(task: Task, seed: int) -> FloatArray:  # noqa: ARG001  # nothing is drawn
    """Predict the training labels' shares at every bar."""
    samples = task.training_samples((), DEFAULT.warmup_bars)
    logits = np.full((len(task.bars), 3), np.nan)
    logits[task.scored] = np.log(class_shares(samples.labels[samples.training]))
    return logits


def tabular(make: Callable[[int], object], *, together: bool = False) -> Model:
    """Return a scikit-learn model of the unscaled feature rows, one bar at a time."""

    def fit_and_predict(task: Task, seed: int) -> FloatArray:
        samples = task.training_samples(task.more if together else (), DEFAULT.warmup_bars)
        fitted = make(seed).fit(samples.training_features(DEFAULT), samples.labels[samples.training])  # type: ignore[attr-defined]
        logits = np.full((len(task.bars), 3), np.nan)
        logits[task.scored] = np.log(fitted.predict_proba(DEFAULT(task.bars)[task.scored]))
        return logits

    return fit_and_predict


def logistic(seed: int) -> object:
    """Return a multinomial logistic regression on standardised features."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500, random_state=seed))


def trees(seed: int) -> object:
    """Return gradient-boosted trees."""
    return lightgbm.LGBMClassifier(objective="multiclass", random_state=seed, n_jobs=1, verbose=-1, **TREES)


class Preset:
    """A flagbt preset: pre-training and fine-tuning by the functions behind `flagbt train`.

    The base of the *calibrated* fit, which saw less, is used for the *refit* too: it is made once a seed.
    """

    def __init__(self, name: str, *, together: bool) -> None:
        self.name, self.together = name, together
        self.bases: dict[int, tuple[FeatureSchema, Base]] = {}

    def __call__(self, task: Task, seed: int) -> FloatArray:
        """Return the logits of the bars to score."""
        architecture = preset_architecture(self.name, len(DEFAULT.columns))
        device = torch.device("cpu")
        samples = task.training_samples(task.more if self.together else (), DEFAULT.warmup_bars + architecture.receptive_bars)
        if seed not in self.bases:
            schema = FeatureSchema.fit(DEFAULT, samples.training_features(DEFAULT))
            self.bases[seed] = (
                schema,
                pretrain(
                    samples,
                    samples.rows(schema),
                    architecture=architecture,
                    first_row=schema.warmup_bars,
                    schedule=replace(PRETRAINING, seed=seed),
                    device=device,
                ),
            )
        schema, base = self.bases[seed]
        rows = samples.rows(schema)
        own = samples.training[: len(task.bars)]
        validation = own & (np.arange(len(task.bars)) % 100 == 0)  # every hundredth training sample; it decides nothing
        split = Split(own, validation, samples.seen, samples.seen)
        setup = TrainingSetup(
            base_source=BaseSource(self.name, architecture, DEFAULT), split=split, samples=samples, schema=schema, rows=rows
        )
        recipe = Recipe(lora=LORA, schedule=replace(FINE_TUNING, seed=seed), best_by="last")
        tuned = finetune(setup, recipe, base.weights, device=device)
        at = np.flatnonzero(task.scored)
        logits = score(
            tuned.model,
            rows[: len(task.bars)],
            task.bars,
            architecture=architecture,
            warmup_bars=schema.warmup_bars,
            first=int(at[0]),
            stop=int(at[-1]) + 1,
        )
        return np.where(task.scored[:, None], logits, np.nan)


def interval(statistic: Callable[[np.ndarray], float], n: int, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic of row numbers, resampled by whole weeks (Kuensch 1989)."""
    random = np.random.default_rng(seed)
    weeks = np.array_split(np.arange(n), n // WEEK_BARS)
    drawn = (np.concatenate([weeks[i] for i in random.integers(0, len(weeks), len(weeks))]) for _ in range(DRAWS))
    low, high = np.quantile([statistic(rows) for rows in drawn], [0.025, 0.975])
    return float(low), float(high)


def losses(logits: FloatArray, labels: IntArray) -> FloatArray:
    """Return each row's negative log-likelihood."""
    result: FloatArray = -np.log(softmax(logits)[np.arange(len(labels)), labels])
    return result


@dataclass(frozen=True, eq=False)
class Market:
    """One market's bars and labels, and which of them are scored, evaluated and calibrated on.

    Attributes
    ----------
    bars, more : Bars, list of Bars
        The market up to the end of the evaluated year; further training series up to its start.
    half, start : datetime64
        The start of the half-year before the evaluated year, and of that year.
    labels, scored, evaluated, fitted_on : array, shape (n_bars,)
    """

    bars: Bars
    more: list[Bars]
    half: np.datetime64
    start: np.datetime64
    labels: IntArray
    scored: np.ndarray
    evaluated: np.ndarray
    fitted_on: np.ndarray

    @classmethod
    def read(cls, data: Path, more_data: Sequence[Path], year: int) -> Market:
        """Read the files."""
        half, start, end = (np.datetime64(text, "ns") for text in (f"{year - 1}-07-01", f"{year}-01-01", f"{year + 1}-01-01"))
        bars, *more = (read_bars(path) for path in (data, *more_data))
        bars = bars.take(bars.between(TimeRange(None, end)))
        more = [each.take(each.between(TimeRange(None, start))) for each in more]
        labels = LABELS.labels(bars)
        evaluated = (bars.time >= start) & (labels >= 0)
        evaluated[-LABELS.horizon_bars :] = False  # their labels would be guesses
        fitted_on = (bars.time >= half) & (bars.time < start)
        fitted_on[np.flatnonzero(fitted_on)[-LABELS.horizon_bars :]] = False
        return cls(bars, more, half, start, labels, bars.time >= half, evaluated, fitted_on)

    def task(self, until: np.datetime64) -> Task:
        """Return the task whose training ends at a time."""
        return Task(self.bars, self.more, until, self.scored)


Fits = dict[str, list[FloatArray]]  # by model: the logits of the evaluated bars, one array per seed
RIVAL = "LightGBM"
MODELS: dict[str, Model] = {
    "constant prior": constant_prior,
    "logistic regression": tabular(logistic),
    RIVAL: tabular(trees),
    "LightGBM, more data": tabular(trees, together=True),
    "flagbt tiny": Preset("tiny", together=True),
}
ENSEMBLES = {"flagbt tiny, the seeds' mean": ["flagbt tiny"], "flagbt tiny and LightGBM, mean": ["flagbt tiny", RIVAL]}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--more-data", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--year", type=click.Choice(["2023", "2024"]), default="2023", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), default=Path("results-of-quality"), show_default=True)
@click.option("--only", multiple=True, help="Names of models.")
def main(data: Path, more_data: tuple[Path, ...], year: str, seeds: int, keep: Path, only: tuple[str, ...]) -> None:
    """Fit every model for every seed, and print one table."""
    market = Market.read(data, more_data, int(year))
    keep.mkdir(parents=True, exist_ok=True)
    refit: Fits = {}
    calibrated: Fits = {}
    for name in [each for each in MODELS if not only or each in only]:
        for seed in range(seeds if name.startswith(("flagbt", "LightGBM")) else 1):
            late, early = fitted(market, name, seed, keep / f"{year}-{name.replace(' ', '-').replace(',', '')}-{seed}.npz")
            refit.setdefault(name, []).append(late)
            calibrated.setdefault(name, []).append(early)
    for name, parts in ENSEMBLES.items():
        if all(part in refit for part in parts):
            for kept in (refit, calibrated):
                kept[name] = [np.log(np.mean([np.mean([softmax(z) for z in kept[part]], axis=0) for part in parts], axis=0))]
    y = market.labels[market.evaluated]
    size = f"{len(y):,} labelled bars, {len(y) // WEEK_BARS} weeks; {len(market.more)} more series"
    print(f"\n{data.name}, evaluated on {year}: {size}")
    print_table(market, refit, calibrated)
    print_differences(refit, y)


def fitted(market: Market, name: str, seed: int, file: Path) -> tuple[FloatArray, FloatArray]:
    """Return the refit's and the calibrated logits of the evaluated bars; a finished fit is read from its file."""
    if not file.is_file():
        started = time.perf_counter()
        early, late = (MODELS[name](market.task(until), seed) for until in (market.half, market.start))
        np.savez(file, calibrated=early, refit=late)
        print(f"{name}, seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    stored = np.load(file)
    known = np.where(market.fitted_on, market.labels, np.int8(-1))
    temperature = fit_calibration("temperature", stored["calibrated"], known, fitted_on="", shift=np.zeros(3))
    return stored["refit"][market.evaluated], np.log(temperature(stored["calibrated"][market.evaluated]))


def print_table(market: Market, refit: Fits, calibrated: Fits) -> None:
    """Print a row of scores for each model."""
    y = market.labels[market.evaluated]
    prior = softmax(constant_prior(market.task(market.start), 0)[market.evaluated][:1])[0]
    print("| model | seeds | NLL | MCC of argmax(p / prior) | ECE, calibrated | AUC, BUY against SELL | its 95 % interval |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in refit:
        late = [scores(softmax(z), y, prior) for z in refit[name]]
        early = [scores(softmax(z), y, prior) for z in calibrated[name]]
        p = np.mean([softmax(z) for z in refit[name]], axis=0)
        low, high = interval(lambda rows: direction_auc(p[rows], y[rows]) or 0.5, len(y))  # noqa: B023
        cells = [
            _spread([getattr(each, key) for each in kept])
            for kept, key in ((late, "nll"), (late, "mcc_prior"), (early, "ece"), (late, "auc_buy_sell"))
        ]
        print(f"| {name} | {len(late)} | {' | '.join(cells)} | {low:.3f} .. {high:.3f} |")


def print_differences(refit: Fits, y: IntArray) -> None:
    """Print the difference of each flagbt model to LightGBM in NLL, with its interval."""
    for name in refit:
        if name.startswith("flagbt") and RIVAL in refit:
            gap = np.mean([losses(z, y) for z in refit[name]], axis=0) - np.mean([losses(z, y) for z in refit[RIVAL]], axis=0)
            low, high = interval(lambda rows: float(gap[rows].mean()), len(y))  # noqa: B023
            print(f"\n{name} less {RIVAL}, NLL: {gap.mean():+.4f}, 95 % interval of whole weeks {low:+.4f} .. {high:+.4f}")


def _spread(values: list[float]) -> str:
    mean = float(np.mean(values))
    return f"{mean:.4f}" if len(values) == 1 else f"{mean:.4f} ± {np.std(values, ddof=1):.4f}"


if __name__ == "__main__":
    main()
