"""Faults of other kinds than the doctor was developed with, alone and in pairs, and healthy pipelines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from faulty_models import COLUMNS, SIZE, VALIDATED, Learner, Pipeline, ago, honest_rows, market, past_mean
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flagbt.data.bars import Bars
from flagbt.data.labels import LabelSpec
from flagbt.data.readers import read_bars
from flagbt.data.time_range import TimeRange

Column = Callable[[Bars], np.ndarray]
Fault = Callable[[Pipeline], Pipeline]


def column(name: str, compute: Column) -> Fault:
    """Replace one of the twenty columns."""
    at = COLUMNS.index(name)

    def plant(pipeline: Pipeline) -> Pipeline:
        def rows(bars: Bars) -> np.ndarray:
            found = pipeline.rows(bars)
            found[:, at] = compute(bars)
            return found

        return replace(pipeline, rows=rows)

    return plant


def more(name: str, compute: Column) -> Fault:
    """Add a column."""

    def plant(pipeline: Pipeline) -> Pipeline:
        return replace(
            pipeline, rows=lambda bars: np.column_stack([pipeline.rows(bars), compute(bars)]), columns=(*pipeline.columns, name)
        )

    return plant


def served(change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    """Change the served rows."""
    return lambda pipeline: replace(pipeline, serve=lambda rows: lambda bars: change(pipeline.serve(rows)(bars)))


def answered(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Fault:
    """Change the output: change(rows, logits)."""

    def plant(pipeline: Pipeline) -> Pipeline:
        def answer(predict: Any) -> Any:
            inner = pipeline.answer(predict)
            return lambda rows: change(rows, inner(rows))

        return replace(pipeline, answer=answer)

    return plant


def one_column(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a change of one served column."""
    at = COLUMNS.index(name)

    def changed(rows: np.ndarray) -> np.ndarray:
        found = rows.copy()
        found[:, at] = change(found[:, at])
        return found

    return changed


def swapped(one: str, other: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a change that swaps two columns."""
    order = list(range(len(COLUMNS)))
    i, j = COLUMNS.index(one), COLUMNS.index(other)
    order[i], order[j] = j, i
    return lambda rows: rows[:, [*order, *range(len(order), rows.shape[1])]]


def label_with_noise(bars: Bars) -> np.ndarray:
    """Return the label itself, blurred."""
    truth = LabelSpec().labels(bars).astype(float)
    return np.where(truth < 0, np.nan, truth) + np.sin(np.arange(len(bars)) * 12.9898) * 0.8


def label_of_before(bars: Bars) -> np.ndarray:
    """Return the label that has just become known, which is not a leak."""
    return ago(LabelSpec().labels(bars).astype(float), 6)


def day_close(bars: Bars) -> np.ndarray:
    """Return the distance to the close of the day that has not ended yet."""
    close = pd.Series(bars.close, index=pd.DatetimeIndex(bars.time))
    return 100 * np.log(close.resample("D").last().reindex(close.index, method="ffill").to_numpy() / bars.close)


def day_before(bars: Bars) -> np.ndarray:
    """Return the distance to the close of yesterday, which is not a leak."""
    close = pd.Series(bars.close, index=pd.DatetimeIndex(bars.time))
    return 100 * np.log(close.resample("D").last().shift(1).reindex(close.index, method="ffill").to_numpy() / bars.close)


def change(bars: Bars) -> np.ndarray:
    """Return hourly log returns, 0 at the first bar."""
    return np.diff(np.log(bars.close), prepend=np.log(bars.close[:1]))


def detrended(bars: Bars) -> np.ndarray:
    """Return the residuals of a straight line through all log closes."""
    t = np.arange(len(bars))
    return 100 * (np.log(bars.close) - np.polyval(np.polyfit(t, np.log(bars.close), 1), t))


def savitzky_golay(bars: Bars) -> np.ndarray:
    """Return the distance to a smooth curve through both sides."""
    from scipy.signal import savgol_filter

    return 100 * np.log(bars.close / savgol_filter(bars.close, 31, 2)) if len(bars) > 31 else np.zeros(len(bars))


def forth_and_back(bars: Bars) -> np.ndarray:
    """Return an exponential mean run forwards and backwards."""
    frame = pd.Series(np.log(bars.close))
    return 100 * (frame.to_numpy() - frame.ewm(span=9).mean()[::-1].ewm(span=9).mean()[::-1].to_numpy())


def scaled_by_future(bars: Bars) -> np.ndarray:
    """Return a return scaled by the largest move of the later half."""
    moves = 100 * change(bars)
    return moves / np.abs(moves[len(moves) // 2 :]).max()


def hour_means(bars: Bars) -> np.ndarray:
    """Return the hour's mean return over the whole series."""
    hour = bars.time.astype("datetime64[h]").astype(int) % 24
    moves = 1000 * change(bars)
    return np.array([moves[hour == h].mean() if (hour == h).any() else 0.0 for h in range(24)])[hour]


def quantile_bins(bars: Bars) -> np.ndarray:
    """Return a volatility's decile in the whole series."""
    return pd.qcut(pd.Series(past_mean(np.abs(change(bars)), 24)), 10, labels=False, duplicates="drop").to_numpy(float)


def principal_component(bars: Bars) -> np.ndarray:
    """Return the first component of returns, fitted on the whole series."""
    lags = np.column_stack([100 * np.nan_to_num(ago(change(bars), k)) for k in range(6)])
    vector = np.linalg.svd(lags - lags.mean(axis=0), full_matrices=False)[2][0]
    return lags @ (vector * np.sign(vector[0]))


def next_high(bars: Bars) -> np.ndarray:
    """Return how far the next three highs reach."""
    high = pd.Series(bars.high)[::-1].rolling(3).max()[::-1].shift(-1).to_numpy()
    return 100 * np.log(high / bars.close)


def hash_noise(rows: np.ndarray) -> np.ndarray:
    """Return noise that is new in every call."""
    return np.random.default_rng().normal(0, 0.3, (len(rows), 3))


def memory(bars: Bars) -> Fault:
    """The model has memorised the labels, whatever its rows are."""
    truth = LabelSpec().labels(bars)
    known = {row.tobytes(): int(y) for row, y in zip(np.nan_to_num(honest_rows(bars)).round(9), truth, strict=True)}

    def recalled(rows: np.ndarray, logits: np.ndarray) -> np.ndarray:
        found = np.array([known.get(row[: len(COLUMNS)].round(9).tobytes(), 1) for row in rows])
        return logits + 1.2 * np.eye(3)[np.clip(found, 0, 2)]

    return answered(recalled)


def shifted_labels(bars_ahead: int) -> Fault:
    """The samples were joined with the labels of other bars."""
    return lambda pipeline: replace(pipeline, relabel=lambda truth: np.roll(truth, -bars_ahead))


def other_volume(pipeline: Pipeline) -> Pipeline:
    """A column is the volume, which the exchange counts in other units from the test on."""
    at, bars = COLUMNS.index("volume_24"), pipeline.bars
    later = np.arange(len(bars)) >= VALIDATED + 100
    changed = Bars(
        bars.time,
        bars.open,
        bars.high,
        bars.low,
        bars.close,
        np.where(later, 20_000, 1) * bars.volume,
        source="market",
        synthetic=True,
    )
    planted = column(COLUMNS[at], lambda each: np.log(each.volume + 1))(pipeline)
    return replace(planted, bars=changed)


def other_units(bars: Bars) -> np.ndarray:
    """Return a return that its source gives in hundredths from the test on."""
    moves = np.log(bars.close) - ago(np.log(bars.close), 6)
    return np.where(bars.time >= np.datetime64("2022-01-01") + np.timedelta64(VALIDATED + 100, "h"), 10_000, 100) * moves


def trend(bars: Bars) -> np.ndarray:
    """Return how much time has passed."""
    return (bars.time - np.datetime64("2022-01-01")).astype("timedelta64[h]").astype(float) / 1000


def five_hours_off(rows: np.ndarray) -> np.ndarray:
    """Return the rows with the hour of another time zone."""
    angle, (sine, cosine) = 5 * 2 * np.pi / 24, rows[:, 18:20].T
    turned = sine * np.cos(angle) + cosine * np.sin(angle), cosine * np.cos(angle) - sine * np.sin(angle)
    return np.column_stack([rows[:, :18], *turned, rows[:, 20:]])


def lagged(rows: np.ndarray) -> np.ndarray:
    """Return the rows of the bar before."""
    return np.concatenate([np.full((1, rows.shape[1]), np.nan), rows[:-1]])


def batch_statistics(rows: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Normalise over all rows of a call."""
    del rows
    return (logits - logits.mean(axis=0)) / (logits.std(axis=0) + 1e-9)


def rounded_half(rows: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return float16."""
    del rows
    return logits.astype(np.float16)


def silent(rows: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return NaN on four rows of ten."""
    return np.where((np.abs(rows[:, :1] * 1e4) % 10) < 4, np.nan, logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "label with noise": (column("return_24", label_with_noise), ("lookahead-features",)),
    "the day's close": (column("average_24", day_close), ("lookahead-features",)),
    "detrended over all": (column("average_48", detrended), ("lookahead-features",)),
    "Savitzky-Golay": (column("average_12", savitzky_golay), ("lookahead-features",)),
    "forth and back": (more("smooth", forth_and_back), ("lookahead-features",)),
    "scaler of the future": (column("return_1", scaled_by_future), ("lookahead-features",)),
    "hour means over all": (column("hour_sin", hour_means), ("lookahead-features",)),
    "quantile bins over all": (column("volatility_24", quantile_bins), ("lookahead-features",)),
    "component over all": (more("component", principal_component), ("lookahead-features",)),
    "the next highs": (column("range_1", next_high), ("lookahead-features",)),
    "twins swapped": (served(swapped("hour_sin", "hour_cos")), ("schema",)),
    "averages swapped": (served(swapped("average_6", "average_12")), ("schema",)),
    "percent for fraction": (served(one_column("return_6", lambda x: x / 100)), ("schema",)),
    "sign turned": (served(one_column("return_3", np.negative)), ("schema",)),
    "a column gone dead": (
        served(one_column("volatility_24", lambda x: np.where(np.isfinite(x), 0.0, np.nan))),
        ("schema", "serving-parity"),
    ),
    "clipped at serving": (served(lambda rows: np.clip(rows, -0.7, 0.7)), ("schema", "serving-parity")),
    "a bar late": (served(lagged), ("serving-parity",)),
    "another time zone": (served(five_hours_off), ("schema", "serving-parity")),
    "dropout left on": (answered(lambda rows, z: z + hash_noise(rows)), ("invariance",)),
    "batch statistics": (answered(batch_statistics), ("lookahead-model",)),
    "sees the next row": (answered(lambda _rows, z: np.roll(z, -1, axis=0)), ("lookahead-model",)),
    "answers turned around": (answered(lambda _rows, z: z[::-1]), ("lookahead-model",)),
    "constant answer": (answered(lambda _rows, z: np.tile([2.0, 0.1, -1.0], (len(z), 1))), ("input-ignored",)),
    "almost constant answer": (answered(lambda _rows, z: 1e-3 * z + np.array([2.0, 0.1, -1.0])), ("input-ignored",)),
    "no answer on four of ten": (answered(silent), ("shares",)),
    "BUY and SELL swapped": (lambda p: replace(p, order=(2, 1, 0)), ("label-map",)),
    "labels of a day ago": (shifted_labels(-24), ("label-map",)),
    "labels of seven bars ago": (shifted_labels(-7), ("label-map",)),
    "knows the labels by heart": (lambda p: memory(p.bars)(p), ("too-good",)),
    "offsets of another model": (answered(lambda _rows, z: z + np.array([3.0, -2.5, 1.0])), ("shares", "calibration")),
    "logits times twenty": (answered(lambda _rows, z: 20 * z), ("calibration", "shares")),
    "split by days": (lambda p: replace(p, split="days"), ("leaky-split",)),
    "HOLD weighs fifty": (lambda p: replace(p, weights=(1.0, 50.0, 1.0)), ("class-weights",)),
    "volume in other units": (other_volume, ("drift",)),
    "a column in other units": (column("return_6", other_units), ("drift",)),
    "time itself": (column("hour_cos", trend), ("drift",)),
}
PAIRS = (
    ("the day's close", "averages swapped"),
    ("label with noise", "split by days"),
    ("a bar late", "dropout left on"),
    ("percent for fraction", "HOLD weighs fifty"),
    ("component over all", "sees the next row"),
    ("BUY and SELL swapped", "volume in other units"),
    ("twins swapped", "split by days"),
    ("detrended over all", "constant answer"),
    ("another time zone", "BUY and SELL swapped"),
    ("batch statistics", "sign turned"),
    ("time itself", "quantile bins over all"),
    ("labels of a day ago", "split by days"),
)


def trees(rows: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Train gradient-boosted trees."""
    return HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, learning_rate=0.06).fit(rows, labels).predict_proba


def forest(rows: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Train a forest that memorises its training samples."""
    return RandomForestClassifier(60, min_samples_leaf=5, random_state=0).fit(rows, labels).predict_proba


def sklearn_regression(rows: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Train sklearn's regression behind a scaler."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(rows, labels).predict_proba


def smooth_answers(_rows: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Average the last ten outputs, as a model with memory does."""
    return np.column_stack([np.convolve(np.pad(z, (9, 0), mode="edge"), np.ones(10) / 10, mode="valid") for z in logits.T])


def learnt_by(learner: Learner) -> Fault:
    """Train another model."""
    return lambda pipeline: replace(pipeline, learner=learner)


def cheap_coin(pipeline: Pipeline) -> Pipeline:
    """Divide all prices by a billion."""
    b = pipeline.bars
    return replace(pipeline, bars=Bars(b.time, *(x / 1e9 for x in (b.open, b.high, b.low, b.close)), 1e9 * b.volume))


def four_hours(pipeline: Pipeline) -> Pipeline:
    """Use bars of four hours."""
    b = pipeline.bars
    time = b.time[0] + np.arange(len(b)) * np.timedelta64(4 * 3600, "s")
    return replace(pipeline, bars=Bars(time, b.open, b.high, b.low, b.close, b.volume))


def expanding(bars: Bars) -> np.ndarray:
    """Return the return, scaled by all returns so far."""
    moves = pd.Series(100 * change(bars))
    return ((moves - moves.expanding(50).mean()) / moves.expanding(50).std()).to_numpy()


HEALTHY: dict[str, Fault] = {
    "gradient-boosted trees": learnt_by(trees),
    "a forest": learnt_by(forest),
    "sklearn's regression": learnt_by(sklearn_regression),
    "expanding statistics": more("expanding", expanding),
    "the day before": more("day_before", day_before),
    "the label that has become known": more("known_label", label_of_before),
    "a memory of ten rows": lambda p: replace(answered(smooth_answers)(p), context=9),
    "a memory of unknown length": lambda p: replace(answered(smooth_answers)(p), context=None),
    "answers in float16": answered(rounded_half),
    "a cheap coin": cheap_coin,
    "bars of four hours": four_hours,
    "another question": lambda p: replace(p, labels=LabelSpec(horizon_bars=24, threshold=0.02)),
}


@pytest.fixture(scope="module")
def healthy() -> Pipeline:
    """Give a pipeline without a fault."""
    return Pipeline(market(11))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_another_kind_is_the_first_problem(name: str, healthy: Pipeline) -> None:
    """If it fails, the doctor finds only the faults that it was developed with."""
    plant, checks = FAULTS[name]
    diagnosis = plant(healthy).diagnosis()
    assert diagnosis.problems, "nothing was found"
    assert diagnosis.problems[0].check in checks, [(e.check, e.severity, e.message) for e in diagnosis.problems]
    assert all(each.otherwise and each.remedy for each in diagnosis.problems)


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_two_faults_of_other_kinds_are_both_in_the_first_three(pair: tuple[str, str], healthy: Pipeline) -> None:
    """If it fails, one fault hides another."""
    (one, first), (other, second) = (FAULTS[name] for name in pair)
    found = [each.check for each in other(one(healthy)).diagnosis().problems[:3]]
    assert set(first) & set(found), found
    assert set(second) & set(found), found


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["synthetic", "real"])
@pytest.mark.parametrize("name", HEALTHY)
def test_no_false_alarm_on_another_kind_of_pipeline(name: str, real: bool, request: pytest.FixtureRequest) -> None:
    """If it fails, honest pipelines of a common kind are called suspect."""
    pipeline = Pipeline(market(12, skill=0.0008))
    if real:
        bars = read_bars(Path(request.getfixturevalue("shared_data")) / "btc_usdt_1h_2020_2024.csv")
        start = bars.between(TimeRange.parse("20210301-20220301")).start
        pipeline = Pipeline(bars.take(slice(start, start + SIZE)))
    diagnosis = HEALTHY[name](pipeline).diagnosis(3)
    assert diagnosis.problems == [], [(e.check, e.severity, e.message) for e in diagnosis.problems]
    assert diagnosis.verdict in ("healthy", "no skill")


MEASURED: dict[str, Fault] = {
    "columns turned around": served(lambda rows: 3 * rows[:, ::-1]),
    "HOLD weighs fifty": FAULTS["HOLD weighs fifty"][0],
    "the day's close": FAULTS["the day's close"][0],
    "a column in other units": FAULTS["a column in other units"][0],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURED)
def test_a_lone_cause_explains_most_of_its_symptom(name: str, healthy: Pipeline) -> None:
    """If it fails, the rank is a fixed order and not a measurement."""
    first = MEASURED[name](healthy).diagnosis().problems[0]
    assert first.explains is not None, first.message
    assert first.explains >= 0.6, first.undone
    assert "instead of" in first.undone
    assert first.undone in first.to_json()["message"]


@pytest.mark.slow
def test_the_greater_cause_comes_first(healthy: Pipeline) -> None:
    """If it fails, a harmless fault is fixed before the cause of the symptom."""
    harmless = served(one_column("hour_sin", lambda x: 1.02 * x))
    problems = FAULTS["HOLD weighs fifty"][0](harmless(healthy)).diagnosis().problems
    assert next(each.check for each in problems if each.check in ("schema", "class-weights")) == "class-weights"
