"""Planted faults: each must be the first finding that is broken or suspect, and two at once both in the first three."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_models import COLUMNS, SIZE, Pipeline, Rows, market

from flagbt.data.bars import Bars
from flagbt.data.readers import read_bars
from flagbt.data.time_range import TimeRange

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
        pipeline,
        rows=lambda bars: (pipeline.rows(bars) - 0.7) * 25.0,
        serve=lambda rows: lambda bars: pipeline.serve(rows)(bars) / 25.0 + 0.7,
    )


def dead_columns(pipeline: Pipeline) -> Pipeline:
    """Training padded its rows with zeros; in serving the padding has values."""
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
    """Training and validation samples are drawn at random from the same range."""
    return replace(pipeline, split="random")


def permuted_labels(pipeline: Pipeline) -> Pipeline:
    """The model was trained with another order of the classes."""
    return replace(pipeline, order=(1, 2, 0))


def constant_inputs(pipeline: Pipeline) -> Pipeline:
    """Serving repeats the same row."""

    def fed(rows: Rows) -> Rows:
        def constant(bars: Bars) -> np.ndarray:
            found = pipeline.serve(rows)(bars)
            return np.where(np.isfinite(found), 0.5, np.nan)

        return constant

    return replace(pipeline, serve=fed)


def left_padding(pipeline: Pipeline) -> Pipeline:
    """The model counts positions from the first row of a call."""

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


def overlapping_test_range(pipeline: Pipeline) -> Pipeline:
    """The test range is inside the training range."""
    return replace(pipeline, tested=slice(1_000, 4_000))


def sells_while_flat(pipeline: Pipeline) -> Pipeline:
    """The traded signal is SELL on every bar, long only."""
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
    "test inside training": (overlapping_test_range, "overlap"),
    "SELL-only while flat": (sells_while_flat, "funnel"),
}
PAIRS = (
    ("centred moving average", "columns permuted"),
    ("centred moving average", "random split"),
    ("one bar ahead", "permuted labels"),
    ("scaler missing", "permuted labels"),
    ("columns permuted", "random split"),
    ("dead columns alive", "test inside training"),
    ("random split", "class weights of 50"),
    ("raw price level", "SELL-only while flat"),
    ("left padding", "permuted labels"),
    ("constant inputs", "random split"),
    ("right padding", "test inside training"),
    ("whole-series scaler", "SELL-only while flat"),
    ("class weights of 50", "raw price level"),
)


@pytest.fixture(scope="module")
def healthy() -> Pipeline:
    """Give a pipeline without a fault."""
    return Pipeline(market())


def test_a_pipeline_without_a_fault_is_healthy(healthy: Pipeline) -> None:
    """If it fails, the findings of the tests below may come from the pipeline itself."""
    diagnosis = healthy.diagnosis()
    assert diagnosis.verdict == "healthy", [each.message for each in diagnosis.problems]
    assert diagnosis.problems == []


QUICK = ("centred moving average", "columns permuted")


@pytest.mark.parametrize("name", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in FAULTS])
def test_a_planted_fault_is_the_first_problem(name: str, healthy: Pipeline) -> None:
    """If it fails, the doctor ranks a symptom first, or misses this fault."""
    plant, check = FAULTS[name]
    diagnosis = plant(healthy).diagnosis()
    assert [each.check for each in diagnosis.problems][:1] == [check], [
        (e.check, e.severity, e.message) for e in diagnosis.findings
    ]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_two_planted_faults_are_both_in_the_first_three(pair: tuple[str, str], healthy: Pipeline) -> None:
    """If it fails, one fault hides another, and a retraining fixes only one."""
    (one, first), (other, second) = (FAULTS[name] for name in pair)
    diagnosis = other(one(healthy)).diagnosis()
    assert {first, second} <= {each.check for each in diagnosis.problems[:3]}, [
        (e.check, e.message) for e in diagnosis.problems
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_no_false_alarm_on_synthetic_bars(seed: int) -> None:
    """If it fails, sound pipelines are called suspect."""
    diagnosis = Pipeline(market(seed, skill=0.0008)).diagnosis(seed)
    assert diagnosis.verdict in ("healthy", "no skill")
    assert diagnosis.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_no_false_alarm_on_real_bars(number: int, shared_data: Path) -> None:
    """If it fails, sound pipelines on real bars are called suspect. (Ten windows of a year before 2024.)"""
    bars = read_bars(shared_data / "btc_usdt_1h_2020_2024.csv")
    bars = bars.take(bars.between(TimeRange.parse("-20240101")))
    start = number * (len(bars) - SIZE) // 9
    diagnosis = Pipeline(bars.take(slice(start, start + SIZE))).diagnosis(number)
    assert diagnosis.verdict in ("healthy", "no skill")
    assert diagnosis.problems == []
