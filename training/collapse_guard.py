"""The collapse guard: check after every epoch whether the model's predictions are plausible."""

from __future__ import annotations

from ..arrays import FloatArray
from ..data.labels import CLASS_NAMES
from ..models.diversity import model_verdict
from ..models.statistics import ClassifierScores

ACTIONS = ("warn", "stop")
LARGEST_ACCURACY_GAIN = 0.10
LARGEST_DIRECTION_AUC = 0.70


def collapse_findings(scores: ClassifierScores, label_shares: FloatArray) -> list[str]:
    """Return one sentence for each problem of an epoch; usually there is none.

    Parameters
    ----------
    scores : ClassifierScores
        On the validation samples, before calibration, of the corrected probabilities
        (``Objective.correction``): class weights shift the others on purpose, and that shift must not count as a collapse.
    label_shares : array, shape (3,)
        The training labels' shares.

    Notes
    -----
    *Collapsed* is the model verdict: total variation between mean probabilities and label shares above 0.25. *Too good*
    is an accuracy more than 0.10 above the most frequent class's share, or a BUY-against-SELL AUC above 0.70: on hourly
    bitcoin no honest model comes near either, and a leak of the label into a feature gives both.
    """
    findings = []
    mean = [scores.mean_probabilities[name] for name in CLASS_NAMES]
    verdict = model_verdict(mean, label_shares)
    if verdict is not None and verdict.verdict == "collapsed":
        findings.append(f"collapsed: {verdict.sentence}")
    gain = scores.accuracy - scores.majority_share
    if gain > LARGEST_ACCURACY_GAIN:
        findings.append(
            f"too good to be true: accuracy {scores.accuracy:.3f} is {gain:.3f} above always predicting the most frequent "
            "class. Look for a feature that sees the future before believing it."
        )
    direction = scores.auc_buy_sell
    if direction is not None and direction > LARGEST_DIRECTION_AUC:
        findings.append(
            f"too good to be true: BUY is separated from SELL with an AUC of {direction:.3f}, where 0.5 is chance and honest "
            "models of hourly bars reach 0.55. Look for a feature that sees the future before believing it."
        )
    return findings
