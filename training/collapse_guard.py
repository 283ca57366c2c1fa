"""The collapse guard: after every epoch, what the model would do, and whether that can be true."""

from __future__ import annotations

from typing import Any

from ..arrays import FloatArray
from ..data.labels import CLASS_NAMES
from ..models.diversity import model_verdict

ACTIONS = ("warn", "stop")
LARGEST_ACCURACY_GAIN = 0.10
LARGEST_DIRECTION_AUC = 0.70


def collapse_findings(entry: dict[str, Any], label_shares: FloatArray) -> list[str]:
    """Return one sentence for each thing that is wrong with an epoch; none is the usual case.

    Parameters
    ----------
    entry : dict
        ``statistics.scores`` on the validation samples, before calibration, of the probabilities without what the objective
        is known to move (``Objective.correction``): class weights shift them on purpose, and that is no collapse.
    label_shares : array, shape (3,)
        The training labels' shares.

    Notes
    -----
    *Collapsed* is the model verdict: total variation between mean probabilities and label shares above 0.25. *Too good*
    is an accuracy more than 0.10 above the commonest class's share, or a BUY-against-SELL AUC above 0.70: on hourly
    bitcoin nothing honest comes near either, and a leak of the label into a feature gives both.
    """
    said = []
    mean = [entry["mean_probabilities"][name] for name in CLASS_NAMES]
    verdict = model_verdict(mean, label_shares)
    if verdict is not None and verdict["verdict"] == "collapsed":
        said.append(f"collapsed: {verdict['sentence']}")
    gain = entry["accuracy"] - entry["majority_share"]
    if gain > LARGEST_ACCURACY_GAIN:
        said.append(
            f"too good to be true: accuracy {entry['accuracy']:.3f} is {gain:.3f} above always saying the commonest class. "
            "Look for a feature that sees the future before believing it."
        )
    direction = entry["auc_buy_sell"]
    if direction is not None and direction > LARGEST_DIRECTION_AUC:
        said.append(
            f"too good to be true: BUY is told from SELL with an AUC of {direction:.3f}, where 0.5 is chance and honest models "
            "of hourly bars reach 0.55. Look for a feature that sees the future before believing it."
        )
    return said
