"""Reproduce the jan19 collapse on a random walk: a leak, a high validation accuracy, a collapse, and its diagnosis.

The bars are a random walk, which is unpredictable. Seven training columns, such as moving averages, use a centred window.
Serving uses other features. The result matches the collapse that a user reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import FloatArray, IntArray, PhaseProgress
from ..data.bars import Bars
from ..data.labels import CLASS_NAMES, LabelSpec, class_counts, class_shares
from ..models.statistics import softmax
from .diagnose import DiagnosisRequest, diagnose_request
from .finding import Diagnosis
from .perturbed_bars import random_walk_like

if TYPE_CHECKING:
    import torch
    from torch import nn

WIDTH = 60
CHOSEN_ON, TRAINING, VALIDATION, BARS = 14_000, 16_000, 20_000, 26_000  # the epoch is chosen on the last training bars
VOLATILITY = 0.0060  # per hour: about half of the labels are HOLD
EPOCHS, BATCH_ROWS, LEARNING_RATE = 14, 256, 2e-3
AVERAGES = (12, 24, 72, 168)
LEAKING = (*(f"ma_{n}" for n in AVERAGES), "rsi_14", "volume_ratio", "high_low_range")
CAUSAL = (
    *(f"return_{n}" for n in (1, 2, 3, 6, 12, 24)),
    "body",
    "upper_wick",
    "lower_wick",
    "range",
    "log_volume",
    "hour_sin",
    "hour_cos",
    "day_sin",
    "day_cos",
)
SPANS = (5, 10, 20, 50, 100, 200)
MEASURES = ("bollinger", "deviation", "momentum", "roc", "volume_mean", "atr", "up_share")
SERVED = (*sorted((*(f"{m}_{n}" for m in MEASURES for n in SPANS), "close_to_round", "hour", "last_move")),)
TRAINED = (*LEAKING, *CAUSAL)


@dataclass(frozen=True, kw_only=True)
class Example:
    """The reproduced collapse: its diagnosis, and its numbers as fractions.

    ``leaky_accuracy`` is the reported one, ``causal_accuracy`` that of the same columns without the future; the class
    ``served_class`` has a share of ``served_share`` of the served predictions, with a mean probability of
    ``served_confidence``.
    """

    diagnosis: Diagnosis
    leaky_accuracy: float
    causal_accuracy: float
    majority_share: float
    served_share: float
    served_confidence: float
    served_class: str


def run_example(
    *, write: Callable[[str], None] = print, seed: int = 0, progress: PhaseProgress = lambda _phase, _done, _total: None
) -> Example:
    """Reproduce the collapse and diagnose it.

    Parameters
    ----------
    write : callable
        Called with each line of text.
    seed : int
        Seed of the random walk and the training.
    progress : callable
        Called with (phase, steps done, steps in all); the phases are ``train`` and ``checks``.
    """
    # 1. An unpredictable market
    labels = LabelSpec()
    bars = random_walk_like(BARS, np.random.default_rng([seed, 19]), volatility=VOLATILITY, start="2020-01-01")
    truth = labels.labels(bars)
    share = class_shares(truth[TRAINING:VALIDATION])
    write(f"The bars are a random walk of {BARS:,} hours, which is unpredictable. Labels: {labels.question}")
    write(
        f"Validation labels: {_shares(share)}. Always predicting the most frequent class is right {100 * share.max():.1f} % of "
        "the time."
    )

    # 2. The reported validation: columns that use the future
    weights = class_counts(truth[:TRAINING]).sum() / (3 * class_counts(truth[:TRAINING]))
    leaky_rows, causal_rows = training_table(bars), training_table(bars, centred=False)
    leaky = train_example(leaky_rows, truth, weights, seed=seed, progress=lambda done, n: progress("train", done, 2 * n))
    accuracy = _accuracy(leaky, leaky_rows, truth)
    write(
        f"Reported validation: 22 columns, padded with zeros to {WIDTH}, class weights "
        f"{', '.join(f'{w:.2f}' for w in weights)}: an accuracy of {100 * accuracy:.1f} % on bars after all training bars."
    )

    # 3. The true skill: the same columns without the future
    causal = train_example(
        causal_rows, truth, np.ones(3), seed=seed, progress=lambda done, n: progress("train", n + done, 2 * n)
    )
    honest = _accuracy(causal, causal_rows, truth)
    write(
        f"True skill: seven of the columns are centred windows and look up to {(max(AVERAGES) - 1) // 2} bars ahead. Computed "
        f"from past bars only, the same columns give an accuracy of {100 * honest:.1f} %."
    )

    # 4. Serving: other features
    p = softmax(leaky(serving_table(bars)[VALIDATION:]))
    predicted = p.argmax(axis=1).astype(np.int8)
    top = int(np.argmax(class_counts(predicted)))
    share_of_top, confidence = float((predicted == top).mean()), float(p[predicted == top].max(axis=1).mean())
    write(
        f"Serving: with 45 other columns in alphabetical order, the model predicts {CLASS_NAMES[top]} on "
        f"{100 * share_of_top:.1f} % of {len(predicted):,} bars, with a confidence of {100 * confidence:.1f} %. (The original "
        "model predicted SELL.)"
    )
    write("Its owners blamed the class weights, trained again, and shifted the logits by hand. The doctor examines this model:")

    # 5. The diagnosis
    request = _request(leaky, bars, labels, weights, seed)
    diagnosis = diagnose_request(request, progress=lambda _check, done, total: progress("checks", done, total))
    return Example(
        diagnosis=diagnosis,
        leaky_accuracy=accuracy,
        causal_accuracy=honest,
        majority_share=float(share.max()),
        served_share=share_of_top,
        served_confidence=confidence,
        served_class=CLASS_NAMES[top],
    )


def _request(
    predict: Callable[[FloatArray], FloatArray], bars: Bars, labels: LabelSpec, weights: FloatArray, seed: int
) -> DiagnosisRequest:
    """Return the request for the model with its ranges and both feature tables."""
    place = np.arange(BARS)
    return DiagnosisRequest(
        predict=predict,
        features=serving_table,
        bars=bars,
        labels=labels,
        columns=_names(SERVED),
        training_features=training_table,
        training_columns=_names(TRAINED),
        training=place < TRAINING - labels.horizon_bars,
        validation=(place >= TRAINING) & (place < VALIDATION - labels.horizon_bars),
        tested=place >= VALIDATION,
        class_weights=weights,
        context_bars=0,
        name="jan19",
        seed=seed,
    )


def train_example(
    rows: FloatArray, truth: IntArray, weights: FloatArray, *, seed: int, progress: Callable[[int, int], None]
) -> Callable[[FloatArray], FloatArray]:
    """Train a small network on single rows, like the reported model, and return rows -> logits."""
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    network = _network()
    x = torch.tensor(rows, dtype=torch.float32)
    usable = np.flatnonzero((truth[:TRAINING] >= 0) & np.isfinite(rows[:TRAINING]).all(axis=1))
    samples, watched = usable[usable < CHOSEN_ON - 168], torch.from_numpy(usable[usable >= CHOSEN_ON])
    best = (np.inf, network.state_dict())
    y, w = torch.tensor(truth.astype(np.int64)), torch.tensor(weights, dtype=torch.float32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    steps = EPOCHS * -(-len(samples) // BATCH_ROWS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    random, done = np.random.default_rng([seed, 7]), 0
    for _ in range(EPOCHS):
        order = torch.from_numpy(random.permutation(samples))
        for part in order.split(BATCH_ROWS):  # type: ignore[no-untyped-call]
            loss = functional.cross_entropy(network(x[part]), y[part], weight=w)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            done += 1
        progress(done, steps)
        with torch.no_grad():
            loss_watched = float(functional.cross_entropy(network(x[watched]), y[watched], weight=w))
        if loss_watched < best[0]:
            best = (loss_watched, {name: tensor.clone() for name, tensor in network.state_dict().items()})
    network.load_state_dict(best[1])
    network.eval()

    def predict(rows: FloatArray) -> FloatArray:
        with torch.no_grad():
            logits: torch.Tensor = network(torch.tensor(rows, dtype=torch.float32))
        return np.asarray(logits.double().numpy())

    return predict


def _network() -> nn.Sequential:
    from torch import nn

    return nn.Sequential(nn.Linear(WIDTH, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 3))


def training_table(bars: Bars, *, centred: bool = True) -> FloatArray:
    """Return the training's rows (n, 60), the columns of ``LEAKING`` with a centred window or a causal one."""
    columns = {**_leaking(bars, centred=centred), **_causal(bars)}
    return _padded(np.column_stack([columns[name] for name in TRAINED]))


def serving_table(bars: Bars) -> FloatArray:
    """Return the served rows (n, 60): 45 other columns, sorted by name, smoothed. *Causality: row t uses bars <= t.*"""
    columns = _served(bars)
    return _padded(_smoothed(np.column_stack([columns[name] for name in SERVED])))


def _padded(rows: FloatArray) -> FloatArray:
    return np.column_stack([rows, np.zeros((len(rows), WIDTH - rows.shape[1]))])


def _mean(values: FloatArray, width: int, *, centred: bool) -> FloatArray:
    """Return moving averages; ``centred`` uses np.convolve(mode='same'), which looks width / 2 bars ahead."""
    if not centred:
        past = np.concatenate([np.zeros(width - 1), values])
        return np.convolve(past, np.ones(width) / width, mode="valid")
    return np.convolve(values, np.ones(width) / width, mode="same")[: len(values)] if len(values) >= width else values


def _leaking(bars: Bars, *, centred: bool) -> dict[str, FloatArray]:
    change = np.diff(bars.close, prepend=bars.close[:1])
    gain, loss = _mean(np.maximum(change, 0), 14, centred=centred), _mean(np.maximum(-change, 0), 14, centred=centred)
    tiny = 1e-9 * bars.close
    return {
        **{f"ma_{n}": 100 * (_mean(bars.close, n, centred=centred) / bars.close - 1) for n in AVERAGES},
        "rsi_14": 10 * gain / (gain + loss + tiny),
        "volume_ratio": bars.volume / (_mean(bars.volume, 24, centred=centred) + 1e-9),
        "high_low_range": 100 * _mean((bars.high - bars.low) / bars.close, 24, centred=centred),
    }


def _ago(values: FloatArray, bars: int) -> FloatArray:
    return np.concatenate([np.repeat(values[:1], min(bars, len(values))), values[: max(0, len(values) - bars)]])


def _causal(bars: Bars) -> dict[str, FloatArray]:
    close, top = bars.close, np.maximum(bars.open, bars.close)
    bottom = np.minimum(bars.open, bars.close)
    hours = bars.time.astype("datetime64[h]").astype(np.int64)
    returns = {f"return_{n}": 100 * (close / _ago(close, n) - 1) for n in (1, 2, 3, 6, 12, 24)}
    return {
        **returns,
        "body": 100 * (close / bars.open - 1),
        "upper_wick": 100 * (bars.high / top - 1),
        "lower_wick": 100 * (bottom / bars.low - 1),
        "range": 100 * (bars.high / bars.low - 1),
        "log_volume": np.log(bars.volume + 1),
        "hour_sin": np.sin(2 * np.pi * hours / 24),
        "hour_cos": np.cos(2 * np.pi * hours / 24),
        "day_sin": np.sin(2 * np.pi * hours / 168),
        "day_cos": np.cos(2 * np.pi * hours / 168),
    }


def _served(bars: Bars) -> dict[str, FloatArray]:
    """Return 45 columns as a live feed may have them, none of them scaled as in training."""
    close = bars.close
    change = close - _ago(close, 1)
    columns: dict[str, FloatArray] = {}
    for n in SPANS:
        mean = _mean(close, n, centred=False)
        mean[: n - 1] = close[: n - 1]
        spread: FloatArray = np.sqrt(_mean((close - mean) ** 2, n, centred=False))
        columns |= {
            f"bollinger_{n}": (close - mean) / (spread + 1e-9 * close),
            f"deviation_{n}": spread / 100,
            f"momentum_{n}": (close - _ago(close, n)) / 100,
            f"roc_{n}": 100 * (close / _ago(close, n) - 1),
            f"volume_mean_{n}": _mean(bars.volume, n, centred=False) / 100,
            f"atr_{n}": _mean(bars.high - bars.low, n, centred=False) / 100,
            f"up_share_{n}": 100 * _mean((change > 0).astype(np.float64), n, centred=False),
        }
    hour: FloatArray = bars.time.astype("datetime64[h]").astype(np.float64) % 24
    columns |= {"close_to_round": (close - 60_000) / 1000, "hour": hour, "last_move": change / 100}
    return columns


def _smoothed(rows: FloatArray, width: int = 3) -> FloatArray:
    return np.column_stack([_mean(column, width, centred=False) for column in rows.T])


def _names(columns: tuple[str, ...]) -> tuple[str, ...]:
    return (*columns, *(f"empty_{i}" for i in range(len(columns), WIDTH)))


def _accuracy(predict: Callable[[FloatArray], FloatArray], rows: FloatArray, truth: IntArray) -> float:
    part = slice(TRAINING, VALIDATION - LabelSpec().horizon_bars)
    return float((predict(rows[part]).argmax(axis=1) == truth[part]).mean())


def _shares(shares: FloatArray) -> str:
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in zip(CLASS_NAMES, shares, strict=True))
