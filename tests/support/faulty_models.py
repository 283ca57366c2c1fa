"""Small model pipelines for the doctor's tests, healthy or with planted faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flagbt.data.bars import Bars
from flagbt.data.labels import LabelSpec
from flagbt.doctor.cheap_learners import fit_logistic, standardised
from flagbt.doctor.diagnose import DiagnosisRequest, diagnose_request
from flagbt.doctor.finding import Diagnosis

SIZE, TRAINED, VALIDATED = 9_000, 4_500, 5_800
COLUMNS = (
    *(f"return_{n}" for n in (1, 2, 3, 6, 12, 24, 48)),
    *(f"average_{n}" for n in (6, 12, 24, 48)),
    *(f"volatility_{n}" for n in (6, 24, 72)),
    *(f"range_{n}" for n in (1, 6, 24)),
    "volume_24",
    "hour_sin",
    "hour_cos",
)
Rows = Callable[[Bars], np.ndarray]
Learner = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def market(seed: int = 0, *, rise: float = 0.0, skill: float = 0.0016) -> Bars:
    """Return hourly bars with a slightly predictable drift, in calm and volatile periods."""
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
    return np.column_stack(
        [
            *(100 * (log_close - ago(log_close, n)) for n in (1, 2, 3, 6, 12, 24, 48)),
            *(100 * (log_close - np.log(past_mean(bars.close, n))) for n in (6, 12, 24, 48)),
            *(np.log(past_mean(np.abs(change), n) + 1e-6) for n in (6, 24, 72)),
            *(100 * past_mean(reach, n) for n in (1, 6, 24)),
            np.log((bars.volume + 1) / (past_mean(bars.volume, 24) + 1)),
            np.sin(hour),
            np.cos(hour),
        ]
    )


def same(rows: Rows) -> Rows:
    """Return the argument: serving equals training."""
    return rows


def regression(rows: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Train a multinomial logistic regression; return rows -> logits."""
    weights = fit_logistic(standardised(rows, rows), labels)
    return lambda given: np.column_stack([standardised(given, rows), np.ones(len(given))]) @ weights


@dataclass(frozen=True)
class Pipeline:
    """A small model with its bars, rows, labels, split, learner and serving."""

    bars: Bars
    rows: Rows = honest_rows
    columns: tuple[str, ...] = COLUMNS
    serve: Callable[[Rows], Rows] = same
    answer: Callable[[Any], Any] = same
    learner: Learner = regression
    labels: Any = field(default_factory=LabelSpec)
    relabel: Callable[[np.ndarray], np.ndarray] = same
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    order: tuple[int, int, int] = (0, 1, 2)
    split: str = "time"
    tested: slice = field(default_factory=lambda: slice(VALIDATED + 200, SIZE))
    context: int | None = 0
    signals: np.ndarray | None = None

    def diagnosis(self, seed: int = 0) -> Diagnosis:
        """Train, serve and diagnose the model."""
        labels, place, h = self.labels, np.arange(len(self.bars)), self.labels.horizon_bars
        truth, rows = labels.labels(self.bars), self.rows(self.bars)
        whole = np.isfinite(rows).all(axis=1) & (truth >= 0)
        training, validation = whole & (place < TRAINED - h), whole & (place >= TRAINED + 100) & (place < VALIDATED - h)
        if self.split != "time":
            both, random = whole & (place < VALIDATED - h), np.random.default_rng(seed)
            mixed = random.random(len(place)) < 0.75
            if self.split == "days":
                mixed = mixed[place // 24 * 24]
            training, validation = both & mixed, both & ~mixed
        samples = np.array(self.order)[self.relabel(truth)[training]]
        repeats = np.asarray(self.weights)[truth[training]].astype(int)
        order = np.repeat(np.arange(len(samples)), repeats)
        predict = self.learner(rows[training][order], samples[order])
        tested = np.zeros(len(place), dtype=bool)
        tested[self.tested] = True
        request = DiagnosisRequest(
            predict=self.answer(predict),
            features=self.serve(self.rows),
            bars=self.bars,
            labels=labels,
            columns=self.columns,
            training_features=self.rows,
            training_columns=self.columns,
            training=training,
            validation=validation,
            tested=tested,
            class_weights=self.weights,
            context_bars=self.context,
            signals=self.signals,
            seed=seed,
        )
        return diagnose_request(request)
