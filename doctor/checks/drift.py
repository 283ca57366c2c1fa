"""Drift: compare the distribution of each column with that in training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from ...arrays import BoolArray, FloatArray
from ...data.bars import Bars
from ...reports.page import render
from ..cheap_learners import domain_auc
from ..check import KNOWN_INPUT, ROWS, TRAINING_FILE, Check, Need, Symptom
from ..counterfactual import Ablation, compare_outputs, has_collapsed, logits_for_rows
from ..feature_table import FeatureTable
from ..finding import OK, SUSPECT, WARNING, Evidence, Finding, skipped
from ..subject import Subject

LARGEST_OUTSIDE = 0.10
LARGEST_PSI = 0.25
NEARLY_ALL = 0.90
SMALLEST_SHARE_EXPLAINED = 0.5
FEWEST_ROWS = 200
DRAWN_COLUMNS = 12
TRAINING_BARS = Need(
    lambda subject: "The training bars were not given." if subject.past is None or subject.training is None else "",
    "Give past= and training=.",
    TRAINING_FILE,
)


@dataclass(frozen=True, eq=False)
class ColumnDrift(Evidence):
    """Distances between the training rows and the tested rows, one value per column.

    ``follows_price`` marks columns that change when all prices are multiplied by ten; ``outside`` is the share of tested rows
    outside the training's range; ``domain_auc`` is that of a classifier of the two periods.
    """

    columns: tuple[str, ...]
    psi: FloatArray
    ks: FloatArray
    outside: FloatArray
    follows_price: BoolArray
    domain_auc: float

    @property
    def level(self) -> BoolArray:
        """Columns that follow the price level, and have moved with it."""
        return np.asarray(self.follows_price & ((self.outside > LARGEST_OUTSIDE) | self.moved))

    @property
    def gone(self) -> BoolArray:
        """Other columns that have left the training's range for good."""
        return np.asarray(~self.follows_price & (self.outside > NEARLY_ALL))

    @property
    def at_fault(self) -> BoolArray:
        """The columns that the finding names: level and gone if there are any, else all that have moved."""
        fault = self.level | self.gone
        return fault if fault.any() else self.moved

    @property
    def moved(self) -> BoolArray:
        """Columns with a PSI above its limit."""
        return np.asarray(self.psi > LARGEST_PSI)

    def names(self, mask: BoolArray) -> tuple[str, ...]:
        """Return the names of the columns in a mask."""
        return tuple(column for column, chosen in zip(self.columns, mask, strict=True) if chosen)

    def __str__(self) -> str:
        k = int(np.argmax(self.psi))
        return (
            f"PSI is highest for {self.columns[k]} ({self.psi[k]:.2f}, KS {self.ks[k]:.2f}); {int(self.moved.sum())} of "
            f"{len(self.columns)} columns are above {LARGEST_PSI}; at most {100 * self.outside.max():.1f} % of the rows are "
            f"outside the training's range ({self.columns[int(np.argmax(self.outside))]}); a classifier separates training and "
            f"tested rows with an AUC of {self.domain_auc:.2f}."
        )


def _run(subject: Subject) -> Finding:
    """Compare each column's distribution on the tested bars with the training's.

    The measures are PSI on the training's deciles (Siddiqi 2006: above 0.25 the population has moved), the two-sample KS
    distance (Kolmogorov 1933, Smirnov 1948), the share of rows outside the training's range, and the AUC of a classifier of
    the two periods. Calm and volatile years differ, so drift is a warning. It is suspect in a column that follows the price
    level or has left the training's range for good, and if it explains most of a collapse.
    """
    # 1. Measure
    assert subject.past_rows is not None
    old = subject.past_rows[subject.training]
    new = (subject.rows if subject.trained is None else subject.training_table(subject.bars))[subject.tested]
    old, new = old[np.isfinite(old).all(axis=1)], new[np.isfinite(new).all(axis=1)]
    if min(len(old), len(new)) < FEWEST_ROWS:
        return skipped(f"It needs {FEWEST_ROWS} rows on either side; there are {len(old):,} and {len(new):,}.")
    found, examined = _column_drift(subject, old, new), {"drift_rows": len(old) + len(new)}
    # 2. Columns at fault
    if found.level.any() or found.gone.any():
        return replace(_column_fault(found), examined=examined)
    # 3. A collapse, else a warning
    ablation = _undo(subject, found) if found.moved.any() and has_collapsed(subject) else None
    explains = ablation is not None and ablation.share >= SMALLEST_SHARE_EXPLAINED
    highest = float(found.psi.max())
    severity = SUSPECT if explains else WARNING if highest > LARGEST_PSI else OK
    remedies = {
        SUSPECT: "Find out what these columns measure now that they did not in training; then train on newer bars.",
        WARNING: "The market differs from the training's: expect less, and train on newer bars.",
    }
    return Finding(
        severity=severity,
        value=highest,
        limit=LARGEST_PSI,
        message=f"The columns have drifted: {found}" if explains else str(found),
        columns=found.names(found.moved),
        remedy=remedies.get(severity, ""),
        otherwise="If drift were not the cause, columns spread as in training would not restore the shares."
        if explains
        else "",
        evidence=found,
        examined=examined,
    )


def _column_drift(subject: Subject, old: FloatArray, new: FloatArray) -> ColumnDrift:
    """Measure the drift between training rows and tested rows, both without NaN."""
    columns = subject.training_table.columns
    slack = 1e-9 * (1 + np.abs(old).max(axis=0))
    return ColumnDrift(
        columns=columns,
        psi=np.array([population_stability(old[:, k], new[:, k]) for k in range(len(columns))]),
        ks=np.array([kolmogorov_smirnov(old[:, k], new[:, k]) for k in range(len(columns))]),
        outside=((new < old.min(axis=0) - slack) | (new > old.max(axis=0) + slack)).mean(axis=0),
        follows_price=_follows_price(subject.training_table, subject.bars),
        domain_auc=domain_auc(old, new, subject.random(7)),
    )


def _column_fault(found: ColumnDrift) -> Finding:
    """Return the finding of columns that follow the price level, or have left the training's range."""
    names, level = found.names(found.at_fault), found.level
    worst = int(np.argmax(np.where(found.at_fault, found.outside, -1)))
    what = f"follow{'s' * (len(names) == 1)} the price level, which has moved" if level.any() else "moved"
    return Finding(
        severity=SUSPECT,
        value=float(found.outside[worst]),
        limit=LARGEST_OUTSIDE if level.any() else NEARLY_ALL,
        columns=names,
        message=f"{', '.join(names[:8])} {what}: {100 * found.outside[worst]:.1f} % of the rows of {found.columns[worst]} are "
        f"outside the training's range. {found}",
        remedy="Use ratios, returns or ranks in place of levels (of prices, volumes or time), and train again.",
        otherwise="If they did not follow it, multiplying all prices by ten would not change them."
        if level.any()
        else "Without drift, most rows would be in the training's range.",
        evidence=found,
    )


def population_stability(old: FloatArray, new: FloatArray, bins: int = 10) -> float:
    """Return the PSI, the sum of (q - p) ln(q / p) over the old values' deciles (Siddiqi 2006); empty bins have 1e-4."""
    edges = np.unique(np.quantile(old, np.linspace(0, 1, bins + 1)[1:-1]))
    shares = [np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) / len(each) for each in (old, new)]
    p, q = (np.maximum(share, 1e-4) for share in shares)
    return float(((q - p) * np.log(q / p)).sum())


def kolmogorov_smirnov(old: FloatArray, new: FloatArray) -> float:
    """Return the largest distance between the empirical distribution functions, 0 to 1."""
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


def _undo(subject: Subject, found: ColumnDrift) -> Ablation | None:
    """Score rows with the columns at fault spread as in training: each value becomes the training's value of its rank."""
    table, past, training = subject.training_table, subject.past_rows, subject.training
    if table.columns != subject.served.columns or past is None or training is None:
        return None
    rows = subject.rows.copy()
    for k in np.flatnonzero(found.at_fault).tolist():
        old = past[training, k]
        at = np.flatnonzero(subject.tested & np.isfinite(rows[:, k]))
        rank = (rows[at, k].argsort().argsort() + 0.5) / max(1, len(at))
        rows[at, k] = np.quantile(old[np.isfinite(old)], rank)
    return compare_outputs(subject, logits_for_rows(subject, rows), "With these columns spread as in training")


def _draw(found: ColumnDrift) -> Markup:
    worst = np.argsort(-found.psi)[:DRAWN_COLUMNS].tolist()
    rows = [(found.columns[k], float(found.psi[k]), float(found.ks[k]), float(found.outside[k])) for k in worst]
    return render("doctor/drift", rows=rows, longest=max(1.0, *(psi for _, psi, _, _ in rows)))


CHECK = Check(
    name="drift",
    rank=110,
    method="PSI, KS, rows outside the training's range, a classifier of the two periods; find columns that follow the price "
    "level or left that range for good",
    run=_run,
    evidence=ColumnDrift,
    needs=(ROWS, KNOWN_INPUT, TRAINING_BARS),
    causes=(Symptom.WRONG_OUTPUT,),
    undo=_undo,
    draw=_draw,
)
