"""Scores of a model's probabilities against the labels of the traded bars: confusion, reliability, ECE."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import FloatArray, IntArray
from ..data.labels import CLASS_NAMES, class_counts, label_spec
from ..engine.simulation import Simulation
from ..models.reliability import bin_rows
from ..models.statistics import by_class, confusion, expected_calibration_error, matthews_correlation, softmax
from .cost_sensitivity import bars_of_run


def label_scores(run: Simulation) -> dict[str, Any] | None:
    """Score a run's signals and probabilities against the labels of its traded bars.

    The labels are those of the checkpoint's training, or those that a strategy with its own probabilities states
    (``label_spec``). The last bars have none, since their future is outside the run; bars without a signal do not count.

    Returns
    -------
    dict or None
        None for a run without probabilities, or without a bar that has both a label and a signal. JSON values:

        - ``labels`` (as ``--labels`` writes them), ``rows``, ``shares`` (of the labels, by class);
        - ``confusion``: counts, a row a label, a column a final signal, SELL HOLD BUY; its ``accuracy`` and ``mcc``;
        - ``raw`` and ``calibrated``: probabilities before and after calibration (equal where only one is known), each
          with ``ece`` (15 bins) and ``reliability`` (of the most probable class) and ``reliability_by_class`` (of each
          class), lists of bins: see `flagbt.models.reliability.bin_rows`.
    """
    text, given = labels_text(run), probabilities_of(run)
    if text is None or given is None or run.signals is None:
        return None
    signal: IntArray = run.signals["signal"].to_numpy(dtype=np.int8)
    labels = label_spec(str(text)).labels(bars_of_run(run))
    raw, calibrated = given
    known = (labels >= 0) & (signal >= 0) & np.isfinite(raw).all(axis=1) & np.isfinite(calibrated).all(axis=1)
    if not known.any():
        return None
    table = confusion(signal[known], labels[known])
    counts = class_counts(labels[known])
    return {
        "labels": str(text),
        "rows": int(known.sum()),
        "shares": by_class((counts / counts.sum()).tolist()),
        "confusion": table.astype(int).tolist(),
        "accuracy": float(np.trace(table) / table.sum()),
        "mcc": matthews_correlation(table),
        "raw": _calibration(raw[known], labels[known]),
        "calibrated": _calibration(calibrated[known], labels[known]),
    }


def labels_text(run: Simulation) -> str | None:
    """Return the labels that a run's probabilities are scored against, as ``--labels`` writes them; None without any."""
    text = (run.checkpoint or {}).get("labels") or run.config.get("labels")
    return None if text is None else str(text)


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


def _calibration(probabilities: FloatArray, labels: IntArray) -> dict[str, Any]:
    right = probabilities.argmax(axis=1) == labels
    by_name = [bin_rows(probabilities[:, each], labels == each) for each in range(len(CLASS_NAMES))]
    return {
        "ece": expected_calibration_error(probabilities, labels),
        "reliability": bin_rows(probabilities.max(axis=1), right),
        "reliability_by_class": by_class(by_name),
    }
