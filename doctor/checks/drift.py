"""Drift: has the market, or the scale of a column, moved away from what the model was trained on?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import BoolArray, FloatArray
from ...data.bars import Bars
from ..cheap_learners import domain_auc
from ..counterfactual import Ablation, has_collapsed, what_it_says, without_drift
from ..finding import OK, SUSPECT, WARNING, Finding, skipped
from ..subject import FeatureTable, Subject
from .feature_rows import Note

LARGEST_OUTSIDE = 0.10
LARGEST_PSI = 0.25
NEARLY_ALL = 0.90
SMALLEST_SHARE_EXPLAINED = 0.5
FEWEST_ROWS = 200


def drift(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Compare each column's distribution on the tested bars with the training's.

    PSI over the training's deciles (Siddiqi 2006: above 0.25 the population has moved), the two-sample KS distance
    (Kolmogorov 1933, Smirnov 1948), the share of rows outside the training's range, and how well a classifier tells the
    two periods apart. Calm and wild years differ by themselves, so this is a warning. It is suspect in a column that follows
    the level of the price, or has left the training's range for good, and where it explains most of a collapse.
    """
    name = "drift"
    if subject.past is None or subject.training is None or subject.past_rows is None:
        return skipped(name, "The bars of the training are not given.", "Add --train-data FILE, or past= and training=.")
    old = subject.past_rows[subject.training]
    new = (subject.rows if subject.trained is None else subject.learnt(subject.bars))[subject.tested]
    old, new = old[np.isfinite(old).all(axis=1)], new[np.isfinite(new).all(axis=1)]
    if min(len(old), len(new)) < FEWEST_ROWS:
        return skipped(name, f"It needs {FEWEST_ROWS} rows on either side; there are {len(old):,} and {len(new):,}.")
    columns = subject.learnt.columns
    psi = np.array([population_stability(old[:, k], new[:, k]) for k in range(len(columns))])
    ks = np.array([kolmogorov_smirnov(old[:, k], new[:, k]) for k in range(len(columns))])
    slack = 1e-9 * (1 + np.abs(old).max(axis=0))
    outside = ((new < old.min(axis=0) - slack) | (new > old.max(axis=0) + slack)).mean(axis=0)
    level = _follows_price(subject.learnt, subject.bars)
    told = domain_auc(old, new, subject.random(7))
    coverage["drift_rows"] = len(old) + len(new)
    worst = np.argsort(-psi)[:12]
    pictures["drift"] = [(columns[k], float(psi[k]), float(ks[k]), float(outside[k])) for k in worst]
    guilty = level & ((outside > LARGEST_OUTSIDE) | (psi > LARGEST_PSI))
    k = int(np.argmax(psi))
    facts = (
        f"PSI is highest for {columns[k]} ({psi[k]:.2f}, KS {ks[k]:.2f}); {int((psi > LARGEST_PSI).sum())} of "
        f"{len(columns)} columns "
        f"are above {LARGEST_PSI}; at most {100 * outside.max():.1f} % of the rows lie outside the training's range "
        f"({columns[int(np.argmax(outside))]}); training and tested rows are told apart with an AUC of {told:.2f}."
    )
    gone = ~level & (outside > NEARLY_ALL)
    if guilty.any() or gone.any():
        names = tuple(c for c, bad in zip(columns, guilty | gone, strict=True) if bad)
        g = int(np.argmax(np.where(guilty | gone, outside, -1)))
        one = len(names) == 1
        what = f"follow{'s' * one} the level of the price, which has moved on" if guilty.any() else "moved on"
        return Finding(
            check=name,
            severity=SUSPECT,
            value=float(outside[g]),
            limit=LARGEST_OUTSIDE if guilty.any() else NEARLY_ALL,
            columns=names,
            says=f"{', '.join(names[:8])} {what}: {100 * outside[g]:.1f} % of the rows of {columns[g]} lie "
            f"outside the training's range. {facts}",
            remedy="Feed ratios, returns or ranks in place of levels (of prices, volumes or time), and train again.",
            otherwise="Were it not the cause, multiplying all prices by ten would leave the columns alone."
            if guilty.any()
            else "Were it not the cause, most rows would lie where the training's did.",
        )
    undone = _of_a_collapse(subject, psi > LARGEST_PSI)
    if undone is not None and undone.share >= SMALLEST_SHARE_EXPLAINED:
        return Finding(
            check=name,
            severity=SUSPECT,
            value=float(psi[k]),
            limit=LARGEST_PSI,
            says=f"The columns have moved on: {facts}",
            columns=tuple(c for c, bad in zip(columns, psi > LARGEST_PSI, strict=True) if bad),
            remedy="Find out what these columns measure now that they did not in training; then train on newer bars.",
            otherwise="Were it not the cause, the shares would not come back with the columns spread as in training.",
        )
    severity = WARNING if psi[k] > LARGEST_PSI else OK
    return Finding(
        check=name,
        severity=severity,
        value=float(psi[k]),
        limit=LARGEST_PSI,
        says=facts,
        columns=tuple(c for c, bad in zip(columns, psi > LARGEST_PSI, strict=True) if bad),
        remedy="Another market than the training's: expect less, and retrain on newer bars." if severity == WARNING else "",
    )


def _of_a_collapse(subject: Subject, moved: BoolArray) -> Ablation | None:
    """Return how much of a collapse goes when the moved columns are spread as in training; None without a collapse."""
    if not moved.any() or not has_collapsed(subject):
        return None
    return what_it_says(subject, without_drift(subject, moved), "")


def population_stability(old: FloatArray, new: FloatArray, bins: int = 10) -> float:
    """Return the PSI, the sum of (q - p) ln(q / p) over the old values' deciles (Siddiqi 2006); empty bins count as 1e-4."""
    edges = np.unique(np.quantile(old, np.linspace(0, 1, bins + 1)[1:-1]))
    shares = [np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) / len(each) for each in (old, new)]
    p, q = (np.maximum(share, 1e-4) for share in shares)
    return float(((q - p) * np.log(q / p)).sum())


def kolmogorov_smirnov(old: FloatArray, new: FloatArray) -> float:
    """Return the largest distance between the two empirical distribution functions, 0 to 1."""
    both = np.sort(np.concatenate([old, new]))
    one, other = (np.searchsorted(np.sort(each), both, side="right") / len(each) for each in (old, new))
    return float(np.abs(one - other).max())


def _follows_price(table: FeatureTable, bars: Bars) -> BoolArray:
    """Return which columns change when all prices are multiplied by ten."""
    part = bars.take(slice(max(0, len(bars) - 1_500), len(bars)))
    prices = {name: 10.0 * getattr(part, name) for name in ("open", "high", "low", "close")}
    other = Bars(part.time, **prices, volume=part.volume, source=part.source, synthetic=part.synthetic, step=part.step)
    base = table(part)
    change = np.abs(np.nan_to_num(table(other)) - np.nan_to_num(base)).max(axis=0)
    return np.asarray(change > 0.05 * np.maximum(np.nan_to_num(np.nanstd(base, axis=0)), 1e-12))
