"""Trade diversity: which signals a run gives, how often they change, and whether the model has collapsed.

Pure statistics of signals and probabilities. Signals are not trades: the funnel shows what became of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray, JsonValue
from ..data.labels import BUY, CLASS_NAMES, SELL, ClassCounts, ClassShares, class_counts
from ..storage.json_records import JsonRecord, RequiredKeys

ONE_SIDED_SHARE = 0.95
SKEWED_DIVERSITY_FACTOR = 2.0
SKEWED_BALANCE_DISTANCE = 0.25
COLLAPSED_TOTAL_VARIATION = 0.25
CONFIDENCE_QUANTILES = (10, 50, 90)


@dataclass(frozen=True)
class LongestRun(JsonRecord):
    """The longest run of one signal over neighbouring scored bars."""

    bars: int
    signal: str


@dataclass(frozen=True)
class Confidence(JsonRecord):
    """Mean and quantiles (10, 50 and 90 %) of the highest probability over the bars of one signal."""

    mean: float
    q10: float
    q50: float
    q90: float


@dataclass(frozen=True, kw_only=True)
class Diversity(JsonRecord):
    """The signals of a run over its scored bars; an undefined value is None, never NaN.

    Attributes
    ----------
    scored_bars : int
    counts, shares, label_shares : mapping
        By class name; ``label_shares`` are those of the training labels.
    diversity : float or None
        Share of the signals that is not HOLD.
    entropy, effective_actions : float or None
        H / ln 3, and exp H.
    total_variation, jensen_shannon : float or None
        Distances to the label shares.
    buy_sell_balance : float or None
        BUY / (BUY + SELL).
    longest_run : LongestRun or None
    flips_per_100_bars : float or None
        Changes per 100 pairs of neighbouring scored bars.
    confidence : mapping or None
        By class name, None for a class without a bar; None without probabilities.
    """

    scored_bars: int
    counts: ClassCounts
    shares: ClassShares | None
    label_shares: ClassShares | None
    diversity: float | None
    entropy: float | None
    effective_actions: float | None
    total_variation: float | None
    jensen_shannon: float | None
    buy_sell_balance: float | None
    longest_run: LongestRun | None
    flips_per_100_bars: float | None
    confidence: Annotated[Mapping[str, Confidence | None], RequiredKeys(CLASS_NAMES)] | None


@dataclass(frozen=True)
class Verdict(JsonRecord):
    """A word, the numbers on which it is based, and a sentence with both."""

    verdict: str
    numbers: Mapping[str, JsonValue]
    sentence: str


def total_variation(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Return half the sum of ``|p - q|``, between 0 (equal) and 1 (disjoint); both of shape (3,), summing to 1."""
    return float(np.abs(np.asarray(p, dtype=np.float64) - np.asarray(q, dtype=np.float64)).sum() / 2)


def jensen_shannon(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Return the Jensen-Shannon distance: the root of the divergence in base 2, between 0 and 1 (Lin 1991).

    Parameters
    ----------
    p, q : array-like of float, shape (3,)
        Shares that sum to 1; zeros are allowed.
    """
    a, b = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    middle = (a + b) / 2
    divergence = (_relative_entropy(a, middle) + _relative_entropy(b, middle)) / 2
    return float(np.sqrt(max(0.0, divergence / np.log(2))))


def mean_probabilities(probabilities: FloatArray | None) -> FloatArray | None:
    """Return the mean of each class over the rows without NaN, shape (3,); None without such a row."""
    if probabilities is None:
        return None
    complete = probabilities[~np.isnan(probabilities).any(axis=1)]
    return complete.mean(axis=0) if len(complete) else None


def diversity(
    signals: IntArray, probabilities: FloatArray | None = None, label_shares: npt.ArrayLike | None = None
) -> Diversity:
    """Describe the signals of a run over its scored bars.

    Parameters
    ----------
    signals : array of int8, shape (n,)
        SELL=0, HOLD=1, BUY=2; bars with -1 (no signal, as in the warm-up) do not count.
    probabilities : array of float64, shape (n, 3), optional
        The probabilities that the signals were decided on; NaN rows do not count.
    label_shares : array-like of float, shape (3,), optional
        The training labels' shares of SELL, HOLD, BUY.
    """
    scored = signals >= 0
    n = int(scored.sum())
    counts = class_counts(signals)
    shares = counts / n if n else None
    entropy = None if shares is None else _entropy(shares)
    labels = None if label_shares is None else np.asarray(label_shares, dtype=np.float64)
    sides = int(counts[BUY] + counts[SELL])
    return Diversity(
        scored_bars=n,
        counts=dict(zip(CLASS_NAMES, counts.tolist(), strict=True)),
        shares=None if shares is None else _by_class(shares),
        label_shares=None if labels is None else _by_class(labels),
        diversity=sides / n if n else None,
        entropy=None if entropy is None else entropy / float(np.log(3)),
        effective_actions=None if entropy is None else float(np.exp(entropy)),
        total_variation=None if shares is None or labels is None else total_variation(shares, labels),
        jensen_shannon=None if shares is None or labels is None else jensen_shannon(shares, labels),
        buy_sell_balance=int(counts[BUY]) / sides if sides else None,
        longest_run=_longest_run(signals),
        flips_per_100_bars=_flips_per_100_bars(signals),
        confidence=None if probabilities is None else _confidence(signals, probabilities),
    )


def signal_verdict(summary: Diversity) -> Verdict | None:
    """Classify the signals alone: one-sided, skewed or diverse.

    - ``one-sided``: one signal takes more than 95 % of the scored bars;
    - ``skewed``: the share that is not HOLD is below half, or above twice, that of the training labels; or BUY's share
      of BUY + SELL differs by more than 0.25 from the labels' (from 0.5 where the labels are unknown);
    - ``diverse``: neither.

    Parameters
    ----------
    summary : Diversity

    Returns
    -------
    Verdict or None
        None where no bar was scored.
    """
    shares, labels, active, balance = summary.shares, summary.label_shares, summary.diversity, summary.buy_sell_balance
    if shares is None or active is None:
        return None
    name = max(CLASS_NAMES, key=lambda each: shares[each])
    top = shares[name]
    label_active = None if labels is None else labels["BUY"] + labels["SELL"]
    label_balance = labels["BUY"] / label_active if labels is not None and label_active else 0.5
    numbers: dict[str, JsonValue] = {
        "largest_share": top,
        "largest_signal": name,
        "diversity": active,
        "buy_sell_balance": balance,
        "label_diversity": label_active,
        "label_buy_sell_balance": label_balance if labels is not None else None,
    }
    if top > ONE_SIDED_SHARE:
        return Verdict("one-sided", numbers, f"{name} takes {_percent(top)} of the bars, over 95 %.")
    if label_active is not None:
        low, high = label_active / SKEWED_DIVERSITY_FACTOR, label_active * SKEWED_DIVERSITY_FACTOR
        if not low <= active <= high:
            side = "below half" if active < low else "above twice"
            sentence = f"{_percent(active)} of the bars are BUY or SELL, {side} the labels' {_percent(label_active)}."
            return Verdict("skewed", numbers, sentence)
    if balance is not None and abs(balance - label_balance) > SKEWED_BALANCE_DISTANCE:
        whose = "an even" if labels is None else "the training labels'"
        sentence = f"BUY is {_percent(balance)} of BUY and SELL, far from {whose} {_percent(label_balance)}."
        return Verdict("skewed", numbers, sentence)
    sentence = f"{_percent(active)} of the bars are BUY or SELL"
    sentence += "." if label_active is None else f", near the training labels' {_percent(label_active)}."
    return Verdict("diverse", numbers, sentence)


def model_verdict(
    mean_probabilities: npt.ArrayLike | None, label_shares: npt.ArrayLike | None, *, whose: str = "the training labels'"
) -> Verdict | None:
    """Classify the model by its mean probabilities, whatever its most probable class is: collapsed or plausible.

    An honest model of a weak signal gives HOLD as its most probable class on nearly every bar, while its mean probabilities
    match the label shares. That is not a collapse.

    Parameters
    ----------
    mean_probabilities : array-like of float, shape (3,), optional
        Mean probability of SELL, HOLD, BUY over the scored bars.
    label_shares : array-like of float, shape (3,), optional
        Shares of the training labels; where they are unknown, those of other labels to compare with.
    whose : str
        Name of the shares in the sentence.

    Returns
    -------
    Verdict or None
        Collapsed where the total variation between the two exceeds 0.25, else plausible. None without a model (either
        argument None).
    """
    if mean_probabilities is None or label_shares is None:
        return None
    mean, labels = (np.asarray(each, dtype=np.float64) for each in (mean_probabilities, label_shares))
    distance = total_variation(mean, labels)
    numbers: dict[str, JsonValue] = {
        "total_variation": distance,
        "threshold": COLLAPSED_TOTAL_VARIATION,
        "mean_probabilities": _by_class(mean),
        "label_shares": _by_class(labels),
    }
    collapsed = distance > COLLAPSED_TOTAL_VARIATION
    compared = f"{_shares_text(mean)} against {whose} {_shares_text(labels)}"
    limit = f"{'over' if collapsed else 'within'} the limit of {COLLAPSED_TOTAL_VARIATION}"
    sentence = f"Mean probabilities {compared}: total variation {distance:.2f}, {limit}."
    return Verdict("collapsed" if collapsed else "plausible", numbers, sentence)


def _by_class(values: FloatArray) -> dict[str, float]:
    return dict(zip(CLASS_NAMES, values.tolist(), strict=True))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _shares_text(shares: FloatArray) -> str:
    return " / ".join(f"{name} {_percent(shares[number])}" for number, name in enumerate(CLASS_NAMES))


def _entropy(shares: FloatArray) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum()) + 0.0  # -0.0 would read as a negative entropy


def _relative_entropy(p: FloatArray, q: FloatArray) -> float:
    present = p > 0
    return float((p[present] * np.log(p[present] / q[present])).sum())


def _longest_run(signals: IntArray) -> LongestRun | None:
    if not (signals >= 0).any():
        return None
    edges = np.flatnonzero(np.diff(signals) != 0) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [len(signals)]]))
    lengths = np.where(signals[starts] >= 0, lengths, 0)
    longest = int(np.argmax(lengths))
    return LongestRun(int(lengths[longest]), CLASS_NAMES[signals[starts[longest]]])


def _flips_per_100_bars(signals: IntArray) -> float | None:
    before, after = signals[:-1], signals[1:]
    pairs = (before >= 0) & (after >= 0)
    return float(100 * (before != after)[pairs].mean()) if pairs.any() else None


def _confidence(signals: IntArray, probabilities: FloatArray) -> dict[str, Confidence | None]:
    result: dict[str, Confidence | None] = {}
    for number, name in enumerate(CLASS_NAMES):
        rows = probabilities[signals == number]
        highest = rows[~np.isnan(rows).any(axis=1)].max(axis=1) if len(rows) else np.empty(0)
        if not len(highest):
            result[name] = None
            continue
        quantiles = np.quantile(highest, np.array(CONFIDENCE_QUANTILES) / 100)
        result[name] = Confidence(float(highest.mean()), *quantiles.tolist())
    return result
