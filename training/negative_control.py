"""Negative controls: the same training on data without a signal. A pipeline that finds one there leaks.

- ``shuffled-labels``: the labels are permuted over the samples, training and validation separately. A result that still beats
  the constant prior got the labels from somewhere other than the rows: from the loop, or from the split.
- ``random-walk``: the bars are replaced by a driftless Gaussian random walk, and everything is recomputed from them. A feature
  that sees the future predicts even that; shuffled labels cannot show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from ..arrays import FloatArray, JsonObject
from ..data.bars import Bars
from ..data.labels import class_shares
from ..errors import check_choice
from ..models.statistics import SMALLEST_PROBABILITY, direction_auc, softmax
from .chronological_split import Split
from .finetune import learn
from .preparation import TrainingSetup, prepare
from .progress import SILENT, Monitor
from .recipe import Recipe
from .samples import Samples

CONTROLS = ("shuffled-labels", "random-walk")
SMALLEST_GAIN = 0.01  # nats: choosing the best of some epochs on the validation gains less than this on noise
CONFIDENCE = 0.99
RESAMPLES = 1000
WICK = 0.5  # in units of a bar's volatility, beyond its open and close


@dataclass(frozen=True)
class NegativeControlResult:
    """The result of a training on data without a signal.

    Attributes
    ----------
    control : str
    nll, nll_prior : float
        On the validation samples, in nats: of the best epoch's corrected probabilities, and of always predicting the
        control's own training shares.
    gain, gain_interval : float, (float, float)
        ``nll_prior - nll``, with its interval of 99 % from resampled weeks.
    auc_buy_sell, auc_interval : float, (float, float), or None
        How well BUY is separated from SELL; None where one of them does not occur.
    found : bool
        Whether the gain is beyond noise: more than 0.01, and its whole interval above 0.
    """

    control: str
    nll: float
    nll_prior: float
    gain: float
    gain_interval: tuple[float, float]
    auc_buy_sell: float | None
    auc_interval: tuple[float, float] | None
    found: bool

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        where = "shuffled labels" if self.control == "shuffled-labels" else "a random walk"
        low, high = self.gain_interval
        text = (
            f"On {where}: validation NLL {self.nll:.4f} against {self.nll_prior:.4f} for the constant prior, a gain of "
            f"{self.gain:.4f} [{low:.4f}, {high:.4f}]"
        )
        if self.auc_buy_sell is not None and self.auc_interval is not None:
            text += f"; BUY-against-SELL AUC {self.auc_buy_sell:.3f} [{self.auc_interval[0]:.3f}, {self.auc_interval[1]:.3f}]"
        if not self.found:
            return f"{text}: no signal, as expected."
        return f"{text}: the pipeline leaks. {_ADVICE[self.control]}"

    def to_json(self) -> JsonObject:
        """Return the fields and the sentence as JSON values."""
        return {**asdict(self), "sentence": self.sentence}


_ADVICE = {
    "random-walk": "Look for a feature that sees the future: rows up to bar t must not change with later bars.",
    "shuffled-labels": "No feature can cause that: check the loop and the split, which see the labels.",
}


def run_negative_control(
    bars: Bars,
    recipe: Recipe,
    control: str,
    *,
    more: Sequence[Bars] = (),
    device: torch.device | None = None,
    monitor: Monitor = SILENT,
) -> NegativeControlResult:
    """Train by ``recipe`` on a negative control made of ``bars``, and write nothing.

    Parameters
    ----------
    control : str
        ``shuffled-labels`` or ``random-walk``; drawn with the schedule's seed.
    more : sequence of Bars
        Other series to train on, each replaced by a control as well.

    Raises
    ------
    UsageError
        When the control is unknown; otherwise as ``train``.
    """
    check_choice("--control", control, CONTROLS)
    random = np.random.default_rng(recipe.schedule.seed)
    if control == "random-walk":
        bars, *more = (random_walk(each, random) for each in (bars, *more))
    setup = prepare(bars, more, recipe)
    if control == "shuffled-labels":
        setup = replace(setup, samples=shuffle_labels(setup.samples, setup.split, random))
    _, tuned = learn(setup, recipe, device=device or torch.device("cpu"), monitor=monitor)
    probabilities = softmax(setup.validation_logits(tuned.model) + tuned.correction)
    return _evaluate(control, setup, probabilities, random)


def random_walk(bars: Bars, random: np.random.Generator) -> Bars:
    """Return a driftless Gaussian random walk with the timestamps, volatility and shuffled volumes of ``bars``."""
    n, sigma = len(bars), float(np.diff(np.log(bars.close)).std())
    close = bars.close[0] * np.exp(np.cumsum(random.normal(0, sigma, n)))
    open_ = np.concatenate([bars.close[:1], close[:-1]])
    above, below = np.exp(WICK * sigma * np.abs(random.normal(size=(2, n))))
    high, low = np.maximum(open_, close) * above, np.minimum(open_, close) / below
    source = f"a random walk in place of {bars.source}"
    return Bars(bars.time, open_, high, low, close, random.permutation(bars.volume), source=source, synthetic=True)


def shuffle_labels(samples: Samples, split: Split, random: np.random.Generator) -> Samples:
    """Return samples with permuted labels, those of the training and those of the validation separately."""
    labels = samples.labels.copy()
    for at in (np.flatnonzero(samples.training), np.flatnonzero(split.validation)):
        labels[at] = random.permutation(samples.labels[at])
    return replace(samples, labels=labels)


def _evaluate(
    control: str, setup: TrainingSetup, probabilities: FloatArray, random: np.random.Generator
) -> NegativeControlResult:
    sample = setup.split.validation
    p, labels = np.maximum(probabilities[sample], SMALLEST_PROBABILITY), setup.validation_labels[sample]
    prior = class_shares(setup.training_labels)
    nll, nll_prior = -np.log(p[np.arange(len(p)), labels]), -np.log(prior[labels])

    # Labels overlap and volatility clusters, so whole weeks are resampled, not bars
    weeks = np.unique(setup.bars.time[sample].astype("datetime64[W]"), return_inverse=True)[1]
    rows = [np.flatnonzero(weeks == week) for week in range(weeks.max() + 1)]
    gains, directions = [], []
    for _ in range(RESAMPLES):
        at = np.concatenate([rows[week] for week in random.integers(0, len(rows), len(rows))])
        gains.append(float((nll_prior - nll)[at].mean()))
        directions.append(direction_auc(p[at], labels[at]))
    gain, interval = float((nll_prior - nll).mean()), _interval(gains)
    known = [direction for direction in directions if direction is not None]
    return NegativeControlResult(
        control=control,
        nll=float(nll.mean()),
        nll_prior=float(nll_prior.mean()),
        gain=gain,
        gain_interval=interval,
        auc_buy_sell=direction_auc(p, labels),
        auc_interval=_interval(known) if known else None,
        found=gain > SMALLEST_GAIN and interval[0] > 0,
    )


def _interval(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
