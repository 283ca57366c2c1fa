"""What is learned, against what others learn from the same features: `python benchmarks/quality.py --data F --more-data F2`.

It needs `pip install lightgbm scikit-learn`.

Everything is fitted before ``--year`` and judged on that year. Every number below that decides anything (epochs, trees,
penalties, which series teach) was chosen with ``--year 2023``; with 2024 nothing may be changed any more. Each run on 2024
is a look at the test year, and belongs in docs/LOG.md.

Two fits for each model and seed, both on bars before the year:

- *refit*: taught by everything before the year, nothing held back; its negative log-likelihood, Matthews correlation and
  area under the curve are those of its probabilities as they come;
- *calibrated*: taught until the last half-year before the year, one temperature fitted on that half-year; its expected
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
from flagbt.models.network import Lora
from flagbt.models.scoring import score
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

# Chosen with --year 2023
PENALTY = 0.01  # C of the logistic regression
TREES = {
    "n_estimators": 275,
    "learning_rate": 0.03,
    "num_leaves": 7,
    "min_child_samples": 400,
    "subsample": 0.7,
    "subsample_freq": 1,
    "colsample_bytree": 0.6,
    "reg_lambda": 10.0,
}
PRETRAINING = SCHEDULE
FINE_TUNING = Schedule(epochs=4, learning_rate=2e-3)
LORA = Lora()


@dataclass(frozen=True, eq=False)
class Exam:
    """The bars of one market, when teaching ends, and what is judged.

    Attributes
    ----------
    bars : Bars
        Up to the end of the judged year: no later bar is read.
    more : list of Bars
        Other series to learn from.
    until : datetime64
        Teaching ends here.
    asked : array of bool, shape (n_bars,)
        Whose logits are wanted.
    """

    bars: Bars
    more: list[Bars]
    until: np.datetime64
    asked: np.ndarray

    def lessons(self, more: Sequence[Bars], warmup_bars: int) -> Samples:
        """Return what teaches: every labelled bar whose label's window ends in time."""
        within = TimeRange(None, self.until)
        mark = np.zeros(len(self.bars), dtype=bool)
        mark[warmup_bars : self.bars.between(within).stop - LABELS.horizon_bars] = True
        return gather_samples(self.bars, more, labels=LABELS, training=mark, within=within, warmup_bars=warmup_bars)


Model = Callable[[Exam, int], FloatArray]  # (exam, seed) -> logits (n_bars, 3), NaN where not asked


def constant_prior(exam: Exam, seed: int) -> FloatArray:  # noqa: ARG001  # nothing is drawn
    """Predict the training labels' shares, always."""
    lessons = exam.lessons((), DEFAULT.warmup_bars)
    logits = np.full((len(exam.bars), 3), np.nan)
    logits[exam.asked] = np.log(class_shares(lessons.labels[lessons.training]))
    return logits


def tabular(make: Callable[[int], object], *, together: bool = False) -> Model:
    """Return a model of scikit-learn's manner on the unscaled feature rows, one bar at a time."""

    def fit_and_predict(exam: Exam, seed: int) -> FloatArray:
        lessons = exam.lessons(exam.more if together else (), DEFAULT.warmup_bars)
        fitted = make(seed).fit(lessons.training_features(DEFAULT), lessons.labels[lessons.training])  # type: ignore[attr-defined]
        logits = np.full((len(exam.bars), 3), np.nan)
        logits[exam.asked] = np.log(fitted.predict_proba(DEFAULT(exam.bars)[exam.asked]))
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

    The base of the *calibrated* fit, which saw less, serves the *refit* too: it is made once a seed.
    """

    def __init__(self, name: str, *, together: bool) -> None:
        self.name, self.together = name, together
        self.bases: dict[int, tuple[FeatureSchema, Base]] = {}

    def __call__(self, exam: Exam, seed: int) -> FloatArray:
        """Return logits where asked."""
        architecture = preset_architecture(self.name, len(DEFAULT.columns))
        device = torch.device("cpu")
        lessons = exam.lessons(exam.more if self.together else (), DEFAULT.warmup_bars + architecture.receptive_bars)
        if seed not in self.bases:
            schema = FeatureSchema.fit(DEFAULT, lessons.training_features(DEFAULT))
            self.bases[seed] = (
                schema,
                pretrain(
                    lessons,
                    lessons.rows(schema),
                    architecture=architecture,
                    first_row=schema.warmup_bars,
                    schedule=replace(PRETRAINING, seed=seed),
                    device=device,
                ),
            )
        schema, base = self.bases[seed]
        rows = lessons.rows(schema)
        own = lessons.training[: len(exam.bars)]
        validation = own & (np.arange(len(exam.bars)) % 100 == 0)  # every hundredth training sample; it decides nothing
        split = Split(own, validation, lessons.seen, lessons.seen)
        setup = TrainingSetup(BaseSource(self.name, architecture, DEFAULT), split, lessons, schema, rows)
        recipe = Recipe(lora=LORA, schedule=replace(FINE_TUNING, seed=seed), best_by="last")
        tuned = finetune(setup, recipe, base.weights, device=device)
        at = np.flatnonzero(exam.asked)
        logits = score(
            tuned.model,
            rows[: len(exam.bars)],
            exam.bars,
            architecture=architecture,
            warmup_bars=schema.warmup_bars,
            first=int(at[0]),
            stop=int(at[-1]) + 1,
        )
        return np.where(exam.asked[:, None], logits, np.nan)


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


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--more-data", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--year", type=click.Choice(["2023", "2024"]), default="2023", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), default=Path("results-of-quality"), show_default=True)
@click.option("--only", multiple=True, help="Names of models.")
def main(data: Path, more_data: tuple[Path, ...], year: str, seeds: int, keep: Path, only: tuple[str, ...]) -> None:
    """Fit every model for every seed, and print one table."""
    start = np.datetime64(f"{year}-01-01", "ns")
    end = np.datetime64(f"{int(year) + 1}-01-01", "ns")
    half = np.datetime64(f"{int(year) - 1}-07-01", "ns")
    bars, *more = (read_bars(path) for path in (data, *more_data))
    bars = bars.take(bars.between(TimeRange(None, end)))
    more = [each.take(each.between(TimeRange(None, start))) for each in more]
    labels, asked = LABELS.labels(bars), bars.time >= half
    judged = (bars.time >= start) & (labels >= 0)
    judged[-LABELS.horizon_bars :] = False  # their labels would be guesses
    fitted_on = (bars.time >= half) & (bars.time < start)
    fitted_on[np.flatnonzero(fitted_on)[-LABELS.horizon_bars :]] = False
    models: dict[str, Model] = {
        "constant prior": constant_prior,
        "logistic regression": tabular(logistic),
        "LightGBM": tabular(trees),
        "LightGBM, more data": tabular(trees, together=True),
        "flagbt tiny": Preset("tiny", together=True),
    }
    keep.mkdir(parents=True, exist_ok=True)

    # 1. Every fit; one that was finished before is read again
    refit: dict[str, list[FloatArray]] = {}
    calibrated: dict[str, list[FloatArray]] = {}
    for name, model in models.items():
        if only and name not in only:
            continue
        for seed in range(seeds if name.startswith(("flagbt", "LightGBM")) else 1):
            file = keep / f"{year}-{name.replace(' ', '-').replace(',', '')}-{seed}.npz"
            if not file.is_file():
                began = time.perf_counter()
                early, late = (model(Exam(bars, more, until, asked), seed) for until in (half, start))
                np.savez(file, calibrated=early, refit=late)
                print(f"{name}, seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
            stored = np.load(file)
            temperature = fit_calibration(
                "temperature", stored["calibrated"], np.where(fitted_on, labels, np.int8(-1)), fitted_on="", shift=np.zeros(3)
            )
            refit.setdefault(name, []).append(stored["refit"][judged])
            calibrated.setdefault(name, []).append(np.log(temperature(stored["calibrated"][judged])))
    ensembles = {"flagbt tiny, the seeds' mean": ["flagbt tiny"], "flagbt tiny and LightGBM, mean": ["flagbt tiny", "LightGBM"]}
    for name, parts in ensembles.items():
        if all(part in refit for part in parts):
            for kept in (refit, calibrated):
                kept[name] = [np.log(np.mean([np.mean([softmax(z) for z in kept[part]], axis=0) for part in parts], axis=0))]

    # 2. One table
    y, prior = labels[judged], softmax(constant_prior(Exam(bars, more, start, asked), 0)[judged][:1])[0]
    print(f"\n{data.name}, judged on {year}: {len(y):,} labelled bars, {len(y) // WEEK_BARS} weeks; {len(more)} more series")
    print("| model | seeds | NLL | MCC of argmax(p / prior) | ECE, calibrated | AUC, BUY against SELL | its 95 % interval |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in refit:
        late = [scores(softmax(z), y, prior) for z in refit[name]]
        early = [scores(softmax(z), y, prior) for z in calibrated[name]]
        p = np.mean([softmax(z) for z in refit[name]], axis=0)
        low, high = interval(lambda rows: direction_auc(p[rows], y[rows]) or 0.5, len(y))  # noqa: B023
        cells = [
            _spread([each[key] for each in kept])
            for kept, key in ((late, "nll"), (late, "mcc_prior"), (early, "ece"), (late, "auc_buy_sell"))
        ]
        print(f"| {name} | {len(late)} | {' | '.join(cells)} | {low:.3f} .. {high:.3f} |")

    # 3. Is the difference to LightGBM more than luck?
    rival = "LightGBM"
    for name in refit:
        if name.startswith("flagbt") and rival in refit:
            gap = np.mean([losses(z, y) for z in refit[name]], axis=0) - np.mean([losses(z, y) for z in refit[rival]], axis=0)
            low, high = interval(lambda rows: float(gap[rows].mean()), len(y))  # noqa: B023
            print(f"\n{name} less {rival}, NLL: {gap.mean():+.4f}, 95 % interval of whole weeks {low:+.4f} .. {high:+.4f}")


def _spread(values: list[float]) -> str:
    mean = float(np.mean(values))
    return f"{mean:.4f}" if len(values) == 1 else f"{mean:.4f} ± {np.std(values, ddof=1):.4f}"


if __name__ == "__main__":
    main()
