"""Trade diversity: which signals a run gives, how often they change, and whether the model has collapsed.

Pure statistics of signals and probabilities. Signals are not trades: the funnel shows what became of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..data.labels import BUY, CLASS_NAMES, SELL, class_counts

ONE_SIDED_SHARE = 0.95
SKEWED_DIVERSITY_FACTOR = 2.0
SKEWED_BALANCE_DISTANCE = 0.25
COLLAPSED_TOTAL_VARIATION = 0.25
CONFIDENCE_QUANTILES = (10, 50, 90)


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
) -> dict[str, Any]:
    """Describe the signals of a run over its scored bars.

    Parameters
    ----------
    signals : array of int8, shape (n,)
        SELL=0, HOLD=1, BUY=2; bars with -1 (no signal, as in the warm-up) do not count.
    probabilities : array of float64, shape (n, 3), optional
        The probabilities that the signals were decided on; NaN rows do not count.
    label_shares : array-like of float, shape (3,), optional
        The training labels' shares of SELL, HOLD, BUY.

    Returns
    -------
    dict
        JSON values; an undefined one is None, never NaN. ``scored_bars``; ``counts`` and ``shares`` by class name;
        ``diversity`` (share that is not HOLD); ``entropy`` (H / ln 3); ``effective_actions`` (exp H);
        ``total_variation`` and ``jensen_shannon`` to the label shares; ``label_shares``; ``buy_sell_balance``
        (BUY / (BUY + SELL)); ``longest_run`` (``bars`` and ``signal``, over neighbouring scored bars);
        ``flips_per_100_bars`` (changes per 100 pairs of neighbouring scored bars); ``confidence`` by class (``mean``,
        ``q10``, ``q50``, ``q90`` of the highest probability over the bars of that signal; None where there are none).
    """
    scored = signals >= 0
    n = int(scored.sum())
    counts = class_counts(signals)
    shares = counts / n if n else None
    entropy = None if shares is None else _entropy(shares)
    labels = None if label_shares is None else np.asarray(label_shares, dtype=np.float64)
    known = shares is not None and labels is not None
    sides = int(counts[BUY] + counts[SELL])
    return {
        "scored_bars": n,
        "counts": dict(zip(CLASS_NAMES, counts.tolist(), strict=True)),
        "shares": None if shares is None else dict(zip(CLASS_NAMES, shares.tolist(), strict=True)),
        "label_shares": None if labels is None else dict(zip(CLASS_NAMES, labels.tolist(), strict=True)),
        "diversity": sides / n if n else None,
        "entropy": None if entropy is None else entropy / float(np.log(3)),
        "effective_actions": None if entropy is None else float(np.exp(entropy)),
        "total_variation": total_variation(shares, labels) if known else None,  # type: ignore[arg-type]
        "jensen_shannon": jensen_shannon(shares, labels) if known else None,  # type: ignore[arg-type]
        "buy_sell_balance": int(counts[BUY]) / sides if sides else None,
        "longest_run": _longest_run(signals),
        "flips_per_100_bars": _flips_per_100_bars(signals),
        "confidence": None if probabilities is None else _confidence(signals, probabilities),
    }


def signal_verdict(summary: dict[str, Any]) -> dict[str, Any] | None:
    """Classify the signals alone: one-sided, skewed or diverse.

    - ``one-sided``: one signal takes more than 95 % of the scored bars;
    - ``skewed``: the share that is not HOLD is below half, or above twice, that of the training labels; or BUY's share
      of BUY + SELL differs by more than 0.25 from the labels' (from 0.5 where the labels are unknown);
    - ``diverse``: neither.

    Parameters
    ----------
    summary : dict
        The result of `diversity`.

    Returns
    -------
    dict or None
        ``verdict``, ``numbers`` (on which it is based) and ``sentence``; None where no bar was scored.
    """
    if not summary["scored_bars"]:
        return None
    shares, labels = summary["shares"], summary["label_shares"]
    name = max(CLASS_NAMES, key=lambda each: shares[each])
    top, active, balance = shares[name], summary["diversity"], summary["buy_sell_balance"]
    label_active = None if labels is None else labels["BUY"] + labels["SELL"]
    label_balance = labels["BUY"] / label_active if labels is not None and label_active else 0.5
    numbers = {
        "largest_share": top,
        "largest_signal": name,
        "diversity": active,
        "buy_sell_balance": balance,
        "label_diversity": label_active,
        "label_buy_sell_balance": label_balance if labels is not None else None,
    }
    if top > ONE_SIDED_SHARE:
        return _verdict("one-sided", numbers, f"{name} takes {_percent(top)} of the bars, over 95 %.")
    if label_active is not None:
        low, high = label_active / SKEWED_DIVERSITY_FACTOR, label_active * SKEWED_DIVERSITY_FACTOR
        if not low <= active <= high:
            side = "below half" if active < low else "above twice"
            sentence = f"{_percent(active)} of the bars are BUY or SELL, {side} the labels' {_percent(label_active)}."
            return _verdict("skewed", numbers, sentence)
    if balance is not None and abs(balance - label_balance) > SKEWED_BALANCE_DISTANCE:
        whose = "an even" if labels is None else "the training labels'"
        sentence = f"BUY is {_percent(balance)} of BUY and SELL, far from {whose} {_percent(label_balance)}."
        return _verdict("skewed", numbers, sentence)
    sentence = f"{_percent(active)} of the bars are BUY or SELL"
    sentence += "." if label_active is None else f", near the training labels' {_percent(label_active)}."
    return _verdict("diverse", numbers, sentence)


def model_verdict(
    mean_probabilities: npt.ArrayLike | None, label_shares: npt.ArrayLike | None, *, whose: str = "the training labels'"
) -> dict[str, Any] | None:
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
    dict or None
        ``verdict``: collapsed where the total variation between the two exceeds 0.25, else plausible; ``numbers`` and
        ``sentence``. None without a model (either argument None).
    """
    if mean_probabilities is None or label_shares is None:
        return None
    mean, labels = (np.asarray(each, dtype=np.float64) for each in (mean_probabilities, label_shares))
    distance = total_variation(mean, labels)
    numbers = {
        "total_variation": distance,
        "threshold": COLLAPSED_TOTAL_VARIATION,
        "mean_probabilities": dict(zip(CLASS_NAMES, mean.tolist(), strict=True)),
        "label_shares": dict(zip(CLASS_NAMES, labels.tolist(), strict=True)),
    }
    collapsed = distance > COLLAPSED_TOTAL_VARIATION
    compared = f"{_shares_text(mean)} against {whose} {_shares_text(labels)}"
    limit = f"{'over' if collapsed else 'within'} the limit of {COLLAPSED_TOTAL_VARIATION}"
    sentence = f"Mean probabilities {compared}: total variation {distance:.2f}, {limit}."
    return _verdict("collapsed" if collapsed else "plausible", numbers, sentence)


def _verdict(verdict: str, numbers: dict[str, Any], sentence: str) -> dict[str, Any]:
    return {"verdict": verdict, "numbers": numbers, "sentence": sentence}


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


def _longest_run(signals: IntArray) -> dict[str, Any] | None:
    if not (signals >= 0).any():
        return None
    edges = np.flatnonzero(np.diff(signals) != 0) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [len(signals)]]))
    lengths = np.where(signals[starts] >= 0, lengths, 0)
    longest = int(np.argmax(lengths))
    return {"bars": int(lengths[longest]), "signal": CLASS_NAMES[signals[starts[longest]]]}


def _flips_per_100_bars(signals: IntArray) -> float | None:
    before, after = signals[:-1], signals[1:]
    pairs = (before >= 0) & (after >= 0)
    return float(100 * (before != after)[pairs].mean()) if pairs.any() else None


def _confidence(signals: IntArray, probabilities: FloatArray) -> dict[str, dict[str, float] | None]:
    result: dict[str, dict[str, float] | None] = {}
    for number, name in enumerate(CLASS_NAMES):
        rows = probabilities[signals == number]
        highest = rows[~np.isnan(rows).any(axis=1)].max(axis=1) if len(rows) else np.empty(0)
        if not len(highest):
            result[name] = None
            continue
        quantiles = np.quantile(highest, np.array(CONFIDENCE_QUANTILES) / 100)
        named = {f"q{q}": float(value) for q, value in zip(CONFIDENCE_QUANTILES, quantiles, strict=True)}
        result[name] = {"mean": float(highest.mean()), **named}
    return result
