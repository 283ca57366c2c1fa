"""Planted faults: each must be the first finding that is broken or suspect, and two at once both in the first three."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flagbt import diagnose
from flagbt.data.bars import Bars
from flagbt.data.labels import LabelSpec
from flagbt.data.readers import read_bars
from flagbt.data.timerange import TimeRange
from flagbt.results.doctor.finding import Diagnosis
from flagbt.results.doctor.learner import fit_logistic, standardised

SIZE, TRAINED, JUDGED = 9_000, 4_500, 5_800
COLUMNS = (
    *(f"return_{n}" for n in (1, 2, 3, 6, 12, 24, 48)), *(f"average_{n}" for n in (6, 12, 24, 48)),
    *(f"volatility_{n}" for n in (6, 24, 72)), *(f"range_{n}" for n in (1, 6, 24)), "volume_24", "hour_sin", "hour_cos",
)  # fmt: skip
Rows = Callable[[Bars], np.ndarray]


def market(seed: int = 0, *, rise: float = 0.0, skill: float = 0.0016) -> Bars:
    """Return hourly bars whose drift can be foreseen a little, in calm and wild stretches."""
    random = np.random.default_rng([seed, 4])
    drift, wild, change = 0.0, 0.0, np.empty(SIZE)
    for t in range(SIZE):
        drift = 0.9 * drift + random.normal(0, skill * 0.436)
        wild = 0.99 * wild + random.normal(0, 0.05)
        change[t] = drift + rise + random.normal(0, 0.0045 * np.exp(wild))
    close = 20_000 * np.exp(np.cumsum(change))
    open_ = np.concatenate([[20_000.0], close[:-1]])
    reach = np.abs(random.normal(0, 0.002, (2, SIZE)))
    time = np.datetime64("2022-01-01", "ns") + np.arange(SIZE) * np.timedelta64(3600, "s")
    high, low = np.maximum(open_, close) * (1 + reach[0]), np.minimum(open_, close) * (1 - reach[1])
    return Bars(time, open_, high, low, close, random.lognormal(5, 0.5, SIZE), source="market", synthetic=True)


def past_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Return the mean of the last ``width`` values; NaN before."""
    result = np.full(len(values), np.nan)
    if len(values) >= width:
        result[width - 1 :] = np.lib.stride_tricks.sliding_window_view(values, width).mean(axis=1)
    return result


def ago(values: np.ndarray, bars: int) -> np.ndarray:
    """Return the values of some bars before; NaN where there are none."""
    return np.concatenate([np.full(min(bars, len(values)), np.nan), values[: max(0, len(values) - bars)]])


def honest_rows(bars: Bars) -> np.ndarray:
    """Return twenty causal columns."""
    log_close = np.log(bars.close)
    change = log_close - ago(log_close, 1)
    hour = bars.time.astype("datetime64[h]").astype(np.int64) * 2 * np.pi / 24
    reach = np.log(bars.high / bars.low)
    return np.column_stack([
        *(100 * (log_close - ago(log_close, n)) for n in (1, 2, 3, 6, 12, 24, 48)),
        *(100 * (log_close - np.log(past_mean(bars.close, n))) for n in (6, 12, 24, 48)),
        *(np.log(past_mean(np.abs(change), n) + 1e-6) for n in (6, 24, 72)), *(100 * past_mean(reach, n) for n in (1, 6, 24)),
        np.log((bars.volume + 1) / (past_mean(bars.volume, 24) + 1)), np.sin(hour), np.cos(hour),
    ])  # fmt: skip


def same(rows: Rows) -> Rows:
    """Serve what was trained on."""
    return rows


@dataclass(frozen=True)
class Pipeline:
    """A small model's whole life: bars, rows, labels, a split, a regression, and how it is served."""

    bars: Bars
    rows: Rows = honest_rows
    columns: tuple[str, ...] = COLUMNS
    serve: Callable[[Rows], Rows] = same
    answer: Callable[[Any], Any] = same
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    order: tuple[int, int, int] = (0, 1, 2)
    split: str = "time"
    tested: slice = field(default_factory=lambda: slice(JUDGED + 200, SIZE))
    context: int = 0
    signals: np.ndarray | None = None

    def diagnosis(self, seed: int = 0) -> Diagnosis:
        """Train, serve, and ask the doctor."""
        labels, place = LabelSpec(), np.arange(SIZE)
        truth, rows = labels.labels(self.bars), self.rows(self.bars)
        whole = np.isfinite(rows).all(axis=1) & (truth >= 0)
        training, validation = whole & (place < TRAINED - 6), whole & (place >= TRAINED + 100) & (place < JUDGED - 6)
        if self.split == "random":
            both, mixed = whole & (place < JUDGED - 6), np.random.default_rng(seed).random(SIZE) < 0.75
            training, validation = both & mixed, both & ~mixed
        x = standardised(rows[training], rows[training])
        taught = np.array(self.order)[truth[training]]
        repeats = np.asarray(self.weights)[truth[training]]
        order = np.repeat(np.arange(len(x)), repeats.astype(int))
        learnt = fit_logistic(x[order], taught[order])

        def predict(given: np.ndarray) -> np.ndarray:
            return np.column_stack([standardised(given, rows[training]), np.ones(len(given))]) @ learnt

        tested = np.zeros(SIZE, dtype=bool)
        tested[self.tested] = True
        return diagnose(
            self.answer(predict), self.serve(self.rows), self.bars, labels=labels, columns=self.columns,
            training_features=self.rows, training_columns=self.columns, training=training, validation=validation,
            tested=tested, class_weights=self.weights, context_bars=self.context, signals=self.signals, seed=seed,
        )  # fmt: skip


Fault = Callable[[Pipeline], Pipeline]


def centred_average(pipeline: Pipeline) -> Pipeline:
    """One of twenty columns is a centred moving average."""
    at = COLUMNS.index("average_24")

    def rows(bars: Bars) -> np.ndarray:
        found = pipeline.rows(bars)
        centred = np.convolve(bars.close, np.ones(24) / 24, mode="same")[: len(bars)] if len(bars) >= 24 else bars.close
        found[:, at] = 100 * np.log(bars.close / centred)
        return found

    return replace(pipeline, rows=rows)


def one_bar_ahead(pipeline: Pipeline) -> Pipeline:
    """One column is a return shifted the wrong way by one bar."""
    at = COLUMNS.index("return_1")

    def rows(bars: Bars) -> np.ndarray:
        found = pipeline.rows(bars)
        found[:-1, at] = found[1:, at].copy()
        return found

    return replace(pipeline, rows=rows)


def whole_series_scaler(pipeline: Pipeline) -> Pipeline:
    """A column is scaled by the mean and deviation of the whole series."""

    def rows(bars: Bars) -> np.ndarray:
        found = pipeline.rows(bars)
        found[:, 12] = (found[:, 12] - np.nanmean(found[:, 12])) / np.nanstd(found[:, 12])
        return found

    return replace(pipeline, rows=rows)


def columns_permuted(pipeline: Pipeline) -> Pipeline:
    """Serving stacks the columns in another order, under the same names."""
    order = np.random.default_rng(3).permutation(len(pipeline.columns))
    return replace(pipeline, serve=lambda rows: lambda bars: pipeline.serve(rows)(bars)[:, order])


def scaler_missing(pipeline: Pipeline) -> Pipeline:
    """Training scaled its rows, serving does not."""
    return replace(
        pipeline, rows=lambda bars: (pipeline.rows(bars) - 0.7) * 25.0,
        serve=lambda rows: lambda bars: pipeline.serve(rows)(bars) / 25.0 + 0.7,
    )  # fmt: skip


def dead_columns(pipeline: Pipeline) -> Pipeline:
    """Training padded its rows with zeros; at serving the padding holds something."""
    width = len(pipeline.columns)

    def padded(bars: Bars) -> np.ndarray:
        return np.column_stack([pipeline.rows(bars), np.zeros((len(bars), 12))])

    def alive(rows: Rows) -> Rows:
        def served(bars: Bars) -> np.ndarray:
            found = pipeline.serve(rows)(bars)
            found[:, width:] = 3 * np.nan_to_num(found[:, :12])
            return found

        return served

    return replace(pipeline, rows=padded, serve=alive, columns=(*pipeline.columns, *(f"pad_{i}" for i in range(12))))


def random_split(pipeline: Pipeline) -> Pipeline:
    """Training and validation samples are drawn at random from the same stretch."""
    return replace(pipeline, split="random")


def permuted_labels(pipeline: Pipeline) -> Pipeline:
    """The model was taught another order of the classes."""
    return replace(pipeline, order=(1, 2, 0))


def constant_inputs(pipeline: Pipeline) -> Pipeline:
    """Serving feeds the same row again and again."""

    def fed(rows: Rows) -> Rows:
        def constant(bars: Bars) -> np.ndarray:
            found = pipeline.serve(rows)(bars)
            return np.where(np.isfinite(found), 0.5, np.nan)

        return constant

    return replace(pipeline, serve=fed)


def left_padding(pipeline: Pipeline) -> Pipeline:
    """The model counts places from the start of what it is given."""

    def answer(predict: Any) -> Any:
        inner = pipeline.answer(predict)
        return lambda rows: inner(rows) + 0.4 * np.sin(np.arange(len(rows)) / 7)[:, None] * np.array([1, 0, -1])

    return replace(pipeline, answer=answer)


def right_padding(pipeline: Pipeline) -> Pipeline:
    """The model takes empty rows at the end into account."""

    def answer(predict: Any) -> Any:
        inner = pipeline.answer(predict)
        return lambda rows: inner(rows) + (np.abs(rows).sum(axis=1) == 0).mean() * np.array([2.0, 0.0, -2.0])

    return replace(pipeline, answer=answer)


def raw_price(pipeline: Pipeline) -> Pipeline:
    """A column is the price itself, in a market that rises."""
    at = COLUMNS.index("average_48")

    def rows(bars: Bars) -> np.ndarray:
        found = pipeline.rows(bars)
        found[:, at] = bars.close / 1000
        return found

    return replace(pipeline, rows=rows, bars=market(rise=0.0003))


def heavy_weights(pipeline: Pipeline) -> Pipeline:
    """SELL weighs fifty times as much as the others."""
    return replace(pipeline, weights=(50.0, 1.0, 1.0))


def judged_on_training(pipeline: Pipeline) -> Pipeline:
    """The test range lies inside the training range."""
    return replace(pipeline, tested=slice(1_000, 4_000))


def sells_while_flat(pipeline: Pipeline) -> Pipeline:
    """What is traded is SELL on every bar, long only."""
    return replace(pipeline, signals=np.zeros(SIZE, dtype=int))


FAULTS: dict[str, tuple[Fault, str]] = {
    "centred moving average": (centred_average, "lookahead-features"),
    "one bar ahead": (one_bar_ahead, "lookahead-features"),
    "whole-series scaler": (whole_series_scaler, "lookahead-features"),
    "columns permuted": (columns_permuted, "schema"),
    "scaler missing": (scaler_missing, "schema"),
    "dead columns alive": (dead_columns, "schema"),
    "random split": (random_split, "leaky-split"),
    "permuted labels": (permuted_labels, "label-map"),
    "constant inputs": (constant_inputs, "input-ignored"),
    "left padding": (left_padding, "invariance"),
    "right padding": (right_padding, "invariance"),
    "raw price level": (raw_price, "drift"),
    "class weights of 50": (heavy_weights, "class-weights"),
    "test inside training": (judged_on_training, "overlap"),
    "SELL-only while flat": (sells_while_flat, "funnel"),
}
PAIRS = (
    ("centred moving average", "columns permuted"), ("centred moving average", "random split"),
    ("one bar ahead", "permuted labels"), ("scaler missing", "permuted labels"), ("columns permuted", "random split"),
    ("dead columns alive", "test inside training"), ("random split", "class weights of 50"),
    ("raw price level", "SELL-only while flat"), ("left padding", "permuted labels"), ("constant inputs", "random split"),
    ("right padding", "test inside training"), ("whole-series scaler", "SELL-only while flat"),
    ("class weights of 50", "raw price level"),
)  # fmt: skip


@pytest.fixture(scope="module")
def healthy() -> Pipeline:
    """Give a pipeline without a fault."""
    return Pipeline(market())


def test_a_pipeline_without_a_fault_is_healthy(healthy: Pipeline) -> None:
    """If it fails, every finding of the tests below may come from the pipeline itself."""
    diagnosis = healthy.diagnosis()
    assert diagnosis.verdict == "healthy", [each.says for each in diagnosis.problems]
    assert diagnosis.problems == []


QUICK = ("centred moving average", "columns permuted")


@pytest.mark.parametrize("name", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in FAULTS])
def test_a_planted_fault_is_the_first_problem(name: str, healthy: Pipeline) -> None:
    """If it fails, the doctor blames a symptom, or sees nothing, where this fault is the cause."""
    plant, check = FAULTS[name]
    diagnosis = plant(healthy).diagnosis()
    assert [each.check for each in diagnosis.problems][:1] == [check], [
        (e.check, e.severity, e.says) for e in diagnosis.findings
    ]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_two_planted_faults_are_both_in_the_first_three(pair: tuple[str, str], healthy: Pipeline) -> None:
    """If it fails, one fault hides another, and a retraining is spent on half of the truth."""
    (one, first), (other, second) = (FAULTS[name] for name in pair)
    diagnosis = other(one(healthy)).diagnosis()
    assert {first, second} <= {each.check for each in diagnosis.problems[:3]}, [(e.check, e.says) for e in diagnosis.problems]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_no_false_alarm_on_synthetic_bars(seed: int) -> None:
    """If it fails, honest pipelines are called suspect, and nobody believes the doctor when it matters."""
    diagnosis = Pipeline(market(seed, skill=0.0008)).diagnosis(seed)
    assert diagnosis.verdict in ("healthy", "no skill")
    assert diagnosis.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_no_false_alarm_on_real_bars(number: int, shared_data: Path) -> None:
    """If it fails, honest pipelines on real bars are called suspect. (Ten stretches of a year before 2024.)"""
    bars = read_bars(shared_data / "btc_usdt_1h_2020_2024.csv")
    bars = bars.take(bars.between(TimeRange.parse("-20240101")))
    start = number * (len(bars) - SIZE) // 9
    diagnosis = Pipeline(bars.take(slice(start, start + SIZE))).diagnosis(number)
    assert diagnosis.verdict in ("healthy", "no skill")
    assert diagnosis.problems == []
