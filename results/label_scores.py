"""Scores of a model's probabilities against the labels of the traded bars: confusion, reliability, ECE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..arrays import FloatArray, IntArray
from ..data.labels import CLASS_NAMES, ClassShares, class_counts, label_spec
from ..engine.simulation import Simulation
from ..models.statistics import by_class, confusion, expected_calibration_error, matthews_correlation, softmax
from ..storage.json_records import JsonRecord, RequiredKeys
from .cost_sensitivity import bars_of_run
from .reliability import ReliabilityBin, reliability_bins


@dataclass(frozen=True, kw_only=True)
class ProbabilityScores(JsonRecord):
    """How often probabilities come true: see `flagbt.results.reliability.reliability_bins`.

    Attributes
    ----------
    ece : float
        Expected calibration error, 15 bins.
    reliability : tuple of ReliabilityBin
        Of the most probable class.
    reliability_by_class : mapping
        Of each class, by its name.
    """

    ece: float
    reliability: tuple[ReliabilityBin, ...]
    reliability_by_class: Annotated[Mapping[str, tuple[ReliabilityBin, ...]], RequiredKeys(CLASS_NAMES)]


@dataclass(frozen=True, kw_only=True)
class LabelScores(JsonRecord):
    """Scores of a run's signals and probabilities against labels.

    Attributes
    ----------
    labels : str
        As ``--labels`` writes them.
    rows : int
        Bars with a label and a signal.
    shares : mapping
        Of the labels, by class name.
    confusion : tuple of tuple of int
        Counts: a row a label, a column a final signal, SELL HOLD BUY.
    accuracy, mcc : float
        Of the final signals.
    raw, calibrated : ProbabilityScores
        Of the probabilities before and after calibration; equal where only one is known.
    """

    labels: str
    rows: int
    shares: ClassShares
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float
    mcc: float
    raw: ProbabilityScores
    calibrated: ProbabilityScores


def label_scores(run: Simulation) -> LabelScores | None:
    """Score a run's signals and probabilities against the labels of its traded bars.

    The labels are those of the checkpoint's training, or those that a strategy with its own probabilities states
    (``label_spec``). The last bars have none, since their future is outside the run; bars without a signal do not count.

    Returns
    -------
    LabelScores or None
        None for a run without probabilities, or without a bar that has both a label and a signal.
    """
    text, given = labels_text(run), probabilities_of(run)
    if text is None or given is None or run.signals is None:
        return None
    signal: IntArray = run.signals["signal"].to_numpy(dtype=np.int8)
    labels = label_spec(text).labels(bars_of_run(run))
    raw, calibrated = given
    known = (labels >= 0) & (signal >= 0) & np.isfinite(raw).all(axis=1) & np.isfinite(calibrated).all(axis=1)
    if not known.any():
        return None
    table = confusion(signal[known], labels[known])
    counts = class_counts(labels[known])
    return LabelScores(
        labels=text,
        rows=int(known.sum()),
        shares=by_class((counts / counts.sum()).tolist()),
        confusion=tuple(tuple(row) for row in table.astype(int).tolist()),
        accuracy=float(np.trace(table) / table.sum()),
        mcc=matthews_correlation(table),
        raw=_probability_scores(raw[known], labels[known]),
        calibrated=_probability_scores(calibrated[known], labels[known]),
    )


def labels_text(run: Simulation) -> str | None:
    """Return the labels that a run's probabilities are scored against, as ``--labels`` writes them; None without any."""
    return (None if run.checkpoint is None else run.checkpoint.labels) or run.config.labels


def probabilities_of(run: Simulation) -> tuple[FloatArray, FloatArray] | None:
    """Return the probabilities before and after calibration, each (n_bars, 3); the same twice where only one is known."""
    found = [_columns(run, prefix) for prefix in ("logit", "p")]
    raw = None if found[0] is None else softmax(found[0])
    calibrated = raw if found[1] is None else found[1]
    if calibrated is None:
        return None
    return (calibrated if raw is None else raw), calibrated


def _columns(run: Simulation, prefix: str) -> FloatArray | None:
    names = [f"{prefix}_{name.lower()}" for name in CLASS_NAMES]
    if run.signals is None or not set(names) <= set(run.signals.columns):
        return None
    return run.signals[names].to_numpy(dtype=np.float64)


def _probability_scores(probabilities: FloatArray, labels: IntArray) -> ProbabilityScores:
    right = probabilities.argmax(axis=1) == labels
    by_name = [reliability_bins(probabilities[:, each], labels == each) for each in range(len(CLASS_NAMES))]
    return ProbabilityScores(
        ece=expected_calibration_error(probabilities, labels),
        reliability=reliability_bins(probabilities.max(axis=1), right),
        reliability_by_class=by_class(by_name),
    )
