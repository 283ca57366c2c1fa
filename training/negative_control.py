"""Controls: the same training where there is nothing to find. A pipeline that finds something there leaks.

- ``shuffled-labels``: the labels are permuted over the samples, training and validation each among themselves. Whatever
  still beats the constant prior reads the answer from somewhere else than the rows: from the loop, or from the split.
- ``random-walk``: the bars are replaced by a driftless Gaussian random walk, and everything is computed anew from them. A
  feature that sees the future foretells even that; shuffled labels cannot show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from ..arrays import FloatArray
from ..data.bars import Bars
from ..data.labels import class_shares
from ..errors import check_choice
from ..models.statistics import SMALLEST_PROBABILITY, direction_auc, softmax
from .chronological_split import Split
from .preparation import TrainingSetup, learn, prepare
from .recipe import EpochProgress, Recipe, StepProgress
from .samples import Samples

CONTROLS = ("shuffled-labels", "random-walk")
SMALLEST_FIND = 0.01  # nats: less is what choosing the best of some epochs on the validation finds in noise
CONFIDENCE = 0.99
RESAMPLES = 1000
WICK = 0.5  # of a bar's volatility, beyond its open and close


@dataclass(frozen=True)
class ControlResult:
    """What a training found where there is nothing.

    Attributes
    ----------
    control : str
    nll, nll_prior : float
        On the validation samples, in nats: of the best epoch's corrected probabilities, and of always predicting the
        control's own training shares.
    gain, gain_interval : float, (float, float)
        ``nll_prior - nll``, with its interval of 99 % from resampled weeks.
    auc_buy_sell, auc_interval : float, (float, float), or None
        How well BUY is told from SELL; None where one of them does not occur.
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
        """Say what was found."""
        where = "shuffled labels" if self.control == "shuffled-labels" else "a random walk"
        low, high = self.gain_interval
        said = (
            f"On {where}: validation NLL {self.nll:.4f} against {self.nll_prior:.4f} for the constant prior, a gain of "
            f"{self.gain:.4f} [{low:.4f}, {high:.4f}]"
        )
        if self.auc_buy_sell is not None and self.auc_interval is not None:
            said += f"; BUY-against-SELL AUC {self.auc_buy_sell:.3f} [{self.auc_interval[0]:.3f}, {self.auc_interval[1]:.3f}]"
        if not self.found:
            return f"{said}: nothing, as it must be."
        return f"{said}: the pipeline leaks. {_ADVICE[self.control]}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the sentence as JSON values."""
        return {**asdict(self), "sentence": self.sentence}


_ADVICE = {
    "random-walk": "Look for a feature that sees the future: rows up to bar t may not move when later bars do.",
    "shuffled-labels": "No feature can do that: look at the loop and the split, which see the labels.",
}


def run_control(
    bars: Bars,
    recipe: Recipe,
    control: str,
    *,
    more: Sequence[Bars] = (),
    device: torch.device | None = None,
    watch: Callable[[EpochProgress], None] = lambda _progress: None,
    on_step: Callable[[StepProgress], None] = lambda _step: None,
) -> ControlResult:
    """Train by ``recipe`` on a control made of ``bars``; nothing is written.

    Parameters
    ----------
    control : str
        ``shuffled-labels`` or ``random-walk``; the schedule's seed makes it.
    more : sequence of Bars
        Other series to learn from, each made a control as well.
    watch, on_step : callable
        Called after every epoch, and after every step.

    Raises
    ------
    UsageError
        When the control is unknown; the rest as ``train``.
    """
    check_choice("--control", control, CONTROLS)
    random = np.random.default_rng(recipe.schedule.seed)
    if control == "random-walk":
        bars, *more = (random_walk(each, random) for each in (bars, *more))
        ready = prepare(bars, more, recipe)
    else:
        ready = prepare(bars, more, recipe)
        ready = replace(ready, lessons=shuffled(ready.lessons, ready.split, random))
    _, tuned = learn(recipe, ready, device=device or torch.device("cpu"), watch=watch, on_step=on_step)
    probabilities = softmax(ready.validation_logits(tuned) + tuned.correction)
    return _judge(control, ready, probabilities, random)


def random_walk(bars: Bars, random: np.random.Generator) -> Bars:
    """Return a driftless Gaussian random walk with the stamps, the volatility of a bar and the volumes, shuffled, of bars."""
    n, sigma = len(bars), float(np.diff(np.log(bars.close)).std())
    close = bars.close[0] * np.exp(np.cumsum(random.normal(0, sigma, n)))
    open_ = np.concatenate([bars.close[:1], close[:-1]])
    above, below = np.exp(WICK * sigma * np.abs(random.normal(size=(2, n))))
    high, low = np.maximum(open_, close) * above, np.minimum(open_, close) / below
    source = f"a random walk in place of {bars.source}"
    return Bars(bars.time, open_, high, low, close, random.permutation(bars.volume), source=source, synthetic=True)


def shuffled(lessons: Samples, split: Split, random: np.random.Generator) -> Samples:
    """Return lessons whose labels are permuted over the samples, training and validation each among themselves."""
    labels = lessons.labels.copy()
    for sample in (np.flatnonzero(lessons.training), np.flatnonzero(split.validation)):
        labels[sample] = random.permutation(lessons.labels[sample])
    return replace(lessons, labels=labels)


def _judge(control: str, ready: TrainingSetup, probabilities: FloatArray, random: np.random.Generator) -> ControlResult:
    sample = ready.split.validation
    p, labels = np.maximum(probabilities[sample], SMALLEST_PROBABILITY), ready.judged_labels[sample]
    prior = class_shares(ready.lessons.labels[ready.lessons.training])
    nll, nll_prior = -np.log(p[np.arange(len(p)), labels]), -np.log(prior[labels])

    # Labels overlap and volatility comes in spells: whole weeks are drawn again, not bars
    weeks = np.unique(ready.bars.time[sample].astype("datetime64[W]"), return_inverse=True)[1]
    rows = [np.flatnonzero(weeks == week) for week in range(weeks.max() + 1)]
    gains, directions = [], []
    for _ in range(RESAMPLES):
        at = np.concatenate([rows[week] for week in random.integers(0, len(rows), len(rows))])
        gains.append(float((nll_prior - nll)[at].mean()))
        directions.append(direction_auc(p[at], labels[at]))
    gain, interval = float((nll_prior - nll).mean()), _interval(gains)
    known = [direction for direction in directions if direction is not None]
    return ControlResult(
        control=control,
        nll=float(nll.mean()),
        nll_prior=float(nll_prior.mean()),
        gain=gain,
        gain_interval=interval,
        auc_buy_sell=direction_auc(p, labels),
        auc_interval=_interval(known) if known else None,
        found=gain > SMALLEST_FIND and interval[0] > 0,
    )


def _interval(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
