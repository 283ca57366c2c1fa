"""How a model's probabilities fare against the labels of the bars it traded: confusion, reliability, ECE."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.bars import FloatArray
from ..data.labels import CLASS_NAMES, IntArray, class_counts, label_spec
from ..engine.run import Run
from ..models.reliability import bin_rows
from ..models.statistics import by_class, confusion, expected_calibration_error, matthews_correlation, softmax
from .costs import bars_of


def label_scores(run: Run) -> dict[str, Any] | None:
    """Score a run's signals and probabilities against the labels of its own bars.

    The labels are those the checkpoint was trained on. The last bars have none, since their future lies outside the run;
    bars without a signal do not count.

    Returns
    -------
    dict or None
        None for a run without a model, or without a bar that has both a label and a signal. JSON values:

        - ``labels`` (as ``--labels`` writes them), ``rows``, ``shares`` (of the labels, by class);
        - ``confusion``: counts, a row a label, a column a final signal, SELL HOLD BUY; ``accuracy`` and ``mcc`` of it;
        - ``raw`` and ``calibrated``: probabilities before and after calibration, each with ``ece`` (15 bins) and
          ``reliability`` (of the most probable class) and ``reliability_by_class`` (of each class), lists of bins: see
          `flagbt.models.reliability.bin_rows`.
    """
    columns = {prefix: [f"{prefix}_{name.lower()}" for name in CLASS_NAMES] for prefix in ("logit", "p")}
    text = (run.checkpoint or {}).get("labels")
    if text is None or run.signals is None or not {*columns["logit"], *columns["p"]} <= set(run.signals.columns):
        return None
    signal: IntArray = run.signals["signal"].to_numpy(dtype=np.int8)
    labels = label_spec(str(text)).labels(bars_of(run))
    known = (labels >= 0) & (signal >= 0)
    if not known.any():
        return None
    logits, calibrated = (run.signals[columns[each]].to_numpy(dtype=np.float64)[known] for each in ("logit", "p"))
    table = confusion(signal[known], labels[known])
    counts = class_counts(labels[known])
    return {
        "labels": str(text),
        "rows": int(known.sum()),
        "shares": by_class((counts / counts.sum()).tolist()),
        "confusion": table.astype(int).tolist(),
        "accuracy": float(np.trace(table) / table.sum()),
        "mcc": matthews_correlation(table),
        "raw": _calibration(softmax(logits), labels[known]),
        "calibrated": _calibration(calibrated, labels[known]),
    }


def _calibration(probabilities: FloatArray, labels: IntArray) -> dict[str, Any]:
    right = probabilities.argmax(axis=1) == labels
    by_name = [bin_rows(probabilities[:, each], labels == each) for each in range(len(CLASS_NAMES))]
    return {
        "ece": expected_calibration_error(probabilities, labels),
        "reliability": bin_rows(probabilities.max(axis=1), right),
        "reliability_by_class": by_class(by_name),
    }
