"""Checks of what the answers are worth: collapsed, without direction, mislabelled, miscalibrated."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from ...arrays import BoolArray, FloatArray, IntArray
from ...data.labels import CLASS_NAMES, class_shares
from ...models.diversity import (
    COLLAPSED_TOTAL_VARIATION,
    ONE_SIDED_SHARE,
    diversity,
    model_verdict,
    signal_verdict,
    total_variation,
)
from ...models.reliability import reliability
from ...models.statistics import constant_prior_nll, expected_calibration_error, negative_log_likelihood, softmax
from ..direction_auc import auc_intervals, blocks_of, offset_sweep
from ..finding import BROKEN, OK, SUSPECT, WARNING, Finding, skipped
from ..subject import Subject, first_whole
from .feature_rows import Note

FEWEST_JUDGED = 300
SMALLEST_LABEL_GAIN = 0.02
MOST_KNOWN_ROWS = 12_000
SMALLEST_RANK_GAIN = 0.08
FARTHEST_SHIFT, SMALLEST_SHIFT_GAIN = 48, 0.12
LARGEST_SILENT = 0.05
LARGEST_ECE, SUSPECT_ECE = 0.10, 0.30


def shares(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """What does it say, how surely, and is that a collapse? Two verdicts, kept apart."""
    name = "shares"
    silent = _silent(subject)
    if silent > LARGEST_SILENT:
        return _silence(silent)
    answered = np.isfinite(subject.logits).all(axis=1)
    if not answered.any():
        return skipped(name, "No tested bar has a whole row with the model's context before it.", "Give a longer range.")
    z, p = subject.logits[answered], subject.probabilities[answered]
    said = z.argmax(axis=1).astype(np.int8)
    coverage["scored_bars"] = len(z)
    predicted, mean = class_shares(said), p.mean(axis=0)
    confidence = [float(p[said == c].max(axis=1).mean()) if (said == c).any() else None for c in range(3)]
    quantiles = np.quantile(z, [0.05, 0.5, 0.95], axis=0)
    prior, reach = subject.prior, (float(z.min()), float(z.max()) + 1e-9)
    pictures |= {
        "predicted": predicted.tolist(),
        "mean": mean.tolist(),
        "confidence": confidence,
        "logit_quantiles": quantiles.tolist(),
        "prior": None if prior is None else prior.tolist(),
        "histograms": [np.histogram(z[:, c], bins=40, range=reach)[0].tolist() for c in range(3)],
        "logit_range": list(reach),
    }
    text = ", ".join(
        f"{c} {100 * share:.1f} %{'' if sure is None else f' ({100 * sure:.1f} % confident)'}"
        for c, share, sure in zip(CLASS_NAMES, predicted, confidence, strict=True)
    )
    logits = ", ".join(f"{c} {quantiles[0, k]:+.1f} .. {quantiles[2, k]:+.1f}" for k, c in enumerate(CLASS_NAMES))
    facts = f"Predicted on {len(z):,} bars: {text}. Logits (5 to 95 %): {logits}."
    top = int(np.argmax(predicted))
    model = None if prior is None else model_verdict(mean, prior)
    signal = signal_verdict(diversity(said, p, prior))
    verdicts = f" Signals: {signal['verdict'] if signal else 'none'}. Model: {model['verdict'] if model else 'not judged'}."
    facts += verdicts
    if model is None:
        sure = (confidence[top] or 0) > 0.9 and predicted[top] > ONE_SIDED_SHARE
        return Finding(
            check=name,
            severity=SUSPECT if sure else WARNING if predicted[top] > ONE_SIDED_SHARE else OK,
            value=float(predicted[top]),
            limit=ONE_SIDED_SHARE,
            says=f"{facts} The training labels' shares are not known.",
            remedy="Give labels= and training=, so that the shares can be judged."
            if not sure
            else "Find the cause among the other findings.",
            otherwise="A sound model is not sure of one class on nearly every bar.",
        )
    distance = float(model["numbers"]["total_variation"])
    here = None if subject.labels is None else class_shares(subject.labels[subject.judged])
    moved_with_market = here is not None and here.sum() > 0 and total_variation(mean, here) <= COLLAPSED_TOTAL_VARIATION
    if model["verdict"] == "collapsed" and not moved_with_market:
        worst = predicted[top] > ONE_SIDED_SHARE and (confidence[top] or 0) > 0.9
        return Finding(
            check=name,
            severity=BROKEN if worst else SUSPECT,
            value=distance,
            limit=COLLAPSED_TOTAL_VARIATION,
            says=f"Collapsed: {model['sentence']} {facts}",
            remedy="This is the symptom: mend the findings above it, where there are any; else compare the weights, offsets "
            "and calibration in use with those that the model was judged with. They move the bias; they do not mend a cause.",
            otherwise="An honest model of a weak signal may say HOLD on nearly every bar, but its mean probabilities match "
            "the labels'.",
        )
    if predicted[top] > ONE_SIDED_SHARE:
        return Finding(
            check=name,
            severity=WARNING,
            value=float(predicted[top]),
            limit=ONE_SIDED_SHARE,
            says=f"{facts} Its highest class is nearly always {CLASS_NAMES[top]}, while its mean probabilities are near "
            f"the labels': "
            "no collapse, it is what argmax does to a weak signal.",
            remedy="Act on probabilities instead: --decision utility.",
        )
    severity = WARNING if model["verdict"] == "collapsed" else OK
    return Finding(
        check=name, severity=severity, value=distance, limit=COLLAPSED_TOTAL_VARIATION, says=f"{model['sentence']} {facts}"
    )


def _silent(subject: Subject) -> float:
    """Return the share of tested bars without an answer, of those with a whole row and the model's context before it."""
    able = subject.tested & np.isfinite(subject.rows).all(axis=1)
    able[: subject.first_row + subject.context] = False
    silent = np.asarray(~np.isfinite(subject.logits[able]).all(axis=1))
    return float(silent.mean()) if len(silent) else 0.0


def _silence(share: float) -> Finding:
    return Finding(
        check="shares",
        severity=BROKEN if share == 1 else SUSPECT,
        value=share,
        limit=LARGEST_SILENT,
        says=f"On {100 * share:.1f} % of the tested bars that have a whole row it gives no finite answer; every other number "
        f"leaves these bars out.",
        remedy="Look for overflow (float16), a division by zero, or a length of input that the model does not take.",
        otherwise="A sound model answers every whole row.",
    )


def rank_skill(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Does it order bars rightly, whatever its offsets? Without direction no threshold or offset can give it one."""
    name = "rank-skill"
    if subject.labels is None:
        return skipped(name, "It needs labels.", "Give labels=.")
    z, y = subject.logits[subject.judged], subject.labels[subject.judged]
    if len(y) < FEWEST_JUDGED or len(np.unique(y)) < 3:
        return skipped(name, f"It needs {FEWEST_JUDGED} labelled bars of all three classes; there are {len(y):,}.")
    found = auc_intervals(z, y, subject.random(9))
    sweep = offset_sweep(z, y)
    best, sell, buy = sweep.best
    coverage["judged_bars"] = len(y)
    direction = found[3]
    pictures |= {"sweep": sweep, "aucs": found, "direction": direction.low > 0.5}
    rest = ", ".join(f"{c} {each}" for c, each in zip(CLASS_NAMES, found[:3], strict=True))
    facts = (
        f"One class against the rest: {rest}. The best pair of offsets, tuned on these very labels ({sell:+.2f}, 0, "
        f"{buy:+.2f}), "
        f"reaches an MCC of {best:.3f}, to which volatility alone contributes."
    )
    if direction.low <= 0.5 <= direction.high:
        return Finding(
            check=name,
            severity=WARNING,
            value=direction.value,
            limit=0.5,
            says=f"No skill in direction: the AUC of BUY against SELL is {direction}, which contains 0.5. No threshold and "
            f"no offset "
            f"can make it tell up from down. {facts}",
            remedy="Do not trade its direction; another threshold, weight or offset only moves the bias.",
            otherwise="With skill, the whole interval would lie above 0.5.",
        )
    if direction.high < 0.5:
        return Finding(
            check=name,
            severity=WARNING,
            value=direction.value,
            limit=0.5,
            says=f"BUY against SELL is ordered the wrong way round: AUC {direction}. {facts}",
            remedy="See label-map: the classes may be swapped; else it is the market that has turned.",
        )
    return Finding(
        check=name,
        severity=OK,
        value=direction.value,
        limit=0.5,
        says=f"BUY is told from SELL with an AUC of {direction}. {facts}",
    )


def label_map(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Would another order of SELL, HOLD and BUY explain the labels better, or the labels of other bars?"""
    name = "label-map"
    if subject.labels is None:
        return skipped(name, "It needs labels.", "Give labels=.")
    said, labels, known = _answers_to_known_labels(subject)
    z, y = said[known], labels[known]
    if len(y) < FEWEST_JUDGED:
        return skipped(name, f"It needs {FEWEST_JUDGED} labelled bars; there are {len(y):,}.")
    losses = {order: _row_losses(z[:, order], y) for order in permutations(range(3))}
    own = losses[(0, 1, 2)]
    order = min(losses, key=lambda each: float(losses[each].mean()))
    coverage["label_orders"] = len(losses)
    gain = own - losses[order]
    random = subject.random(14)
    low = float(np.quantile([gain[blocks_of(len(y), 168, random)].mean() for _ in range(200)], 0.005))
    names = ", ".join(f"{CLASS_NAMES[c]} for {CLASS_NAMES[i]}" for i, c in enumerate(order) if c != i)
    value = float(gain.mean())
    # A model that is off in its shares alone gains from another order too: it must also rank better.
    if order != (0, 1, 2) and value > SMALLEST_LABEL_GAIN and low > 0 and _ranks_better(z, y, order, random):
        pictures["label_order"] = order
        return Finding(
            check=name,
            severity=BROKEN,
            value=value,
            limit=SMALLEST_LABEL_GAIN,
            says=f"Another order of the classes fits the labels better by {value:.3f} nats a bar: read {names}.",
            remedy="Use one order of classes from the labels to the signals: SELL=0, HOLD=1, BUY=2.",
            otherwise="Were the order right, every other one would be worse.",
        )
    bars, gain_there = _other_bars(said, labels, known)
    coverage["label_shifts"] = 2 * FARTHEST_SHIFT
    if bars:
        return Finding(
            check=name,
            severity=BROKEN,
            value=gain_there,
            limit=SMALLEST_SHIFT_GAIN,
            says=f"The answers fit the labels of {abs(bars)} bars {'later' if bars > 0 else 'before'}: there they beat a "
            f"constant guess by {gain_there:.3f} nats a bar, and on their own bars they do not.",
            remedy="Join labels and rows by time, not by place, and look for a shift; then train again.",
            otherwise="Were rows and labels of the same bars, the fit would be best without a shift.",
        )
    says = (
        "No other order of the classes fits the labels better."
        if order == (0, 1, 2)
        else (
            f"Reading {names} would fit better by {value:.3f} nats a bar, which is chance or a shift of the shares, not a swap."
        )
    )
    return Finding(check=name, severity=OK, value=max(0.0, value), limit=SMALLEST_LABEL_GAIN, says=says)


def _other_bars(said: FloatArray, labels: IntArray, known: BoolArray) -> tuple[int, float]:
    """Return by how many bars the labels are off that the answers fit, and the fit there; 0 where they fit their own.

    The fit is the gain in nats over a constant guess. Any model of past prices fits past labels a little; one that was taught
    the labels of other bars fits those far better, and its own not at all.
    """
    nothing, at = (0, 0.0), np.flatnonzero(known)

    def fit(bars: int) -> float:
        there = at[(at + bars >= 0) & (at + bars < len(labels))]
        there = there[labels[there + bars] >= 0]
        y = labels[there + bars]
        if len(y) < FEWEST_JUDGED:
            return -np.inf
        return constant_prior_nll(class_shares(y), y) - float(_row_losses(said[there], y).mean())

    if fit(0) > SMALLEST_LABEL_GAIN:
        return nothing
    best = max((bars for bars in range(-FARTHEST_SHIFT, FARTHEST_SHIFT + 1) if bars), key=fit)
    return (best, fit(best)) if fit(best) > SMALLEST_SHIFT_GAIN else nothing


def _answers_to_known_labels(subject: Subject) -> tuple[FloatArray, IntArray, BoolArray]:
    """Return logits, labels and which of them count: of the last samples that taught or judged; else of the tested bars.

    Which logit means which class is the model's own matter: neither a fault of serving nor a weak test year may hide it.
    """
    assert subject.labels is not None
    past, labels, rows = subject.past, subject.past_labels, subject.past_rows
    if past is None or labels is None or rows is None or subject.training is None:
        return subject.logits, subject.labels, subject.judged
    known = subject.training if subject.validation is None else subject.training | subject.validation
    at = np.flatnonzero(known & (labels >= 0))
    stop = int(at[-1]) + 1
    start = max(first_whole(rows[:stop]), int(at[0]) - subject.context, stop - MOST_KNOWN_ROWS)
    said = np.full((len(labels), 3), np.nan)
    said[start:stop] = subject.ask(rows[start:stop])
    return said, labels, known & (labels >= 0) & np.isfinite(said).all(axis=1)


def _row_losses(z: FloatArray, y: IntArray) -> FloatArray:
    """Return -log p(label) of each row."""
    p = softmax(z)
    return np.asarray(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)))


def _ranks_better(z: FloatArray, y: IntArray, order: tuple[int, ...], random: np.random.Generator) -> bool:
    """Return whether the other order has the higher sum of AUCs, in 39 of 40 resamples of weeks."""
    from ..direction_auc import aucs

    gains = []
    for _ in range(80):
        at = blocks_of(len(y), 168, random)
        gains.append(np.nansum(aucs(z[at][:, order], y[at])) - np.nansum(aucs(z[at], y[at])))
    return bool(np.quantile(gains, 0.025) > SMALLEST_RANK_GAIN)


def calibration(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Are its probabilities frequencies? ECE of the top class (Guo et al. 2017) and reliability by class (Kull et al. 2019)."""
    name = "calibration"
    if subject.labels is None:
        return skipped(name, "It needs labels.", "Give labels=.")
    p, y = subject.probabilities[subject.judged], subject.labels[subject.judged]
    if len(y) < FEWEST_JUDGED:
        return skipped(name, f"It needs {FEWEST_JUDGED} labelled bars; there are {len(y):,}.")
    ece = expected_calibration_error(p, y)
    by_class = reliability(p, y).errors.tolist()
    pictures["ece"] = [ece, *by_class]
    coverage["calibration_bars"] = len(y)
    stored = ""
    if subject.corrected is not None:
        mended = subject.corrected(subject.logits[subject.judged])
        stored = f" With the stored calibration it is {expected_calibration_error(mended, y):.3f}."
    each = ", ".join(f"{c} {error:.3f}" for c, error in zip(CLASS_NAMES, by_class, strict=True))
    nll, constant = negative_log_likelihood(p, y), negative_log_likelihood(np.tile(class_shares(y), (len(y), 1)), y)
    severity = SUSPECT if ece > SUSPECT_ECE else WARNING if ece > LARGEST_ECE else OK
    return Finding(
        check=name,
        severity=severity,
        value=ece,
        limit=LARGEST_ECE,
        says=f"Confidence and accuracy differ by {ece:.3f} on average (by class: {each}); NLL {nll:.3f}, a constant guess "
        f"of these "
        f"labels' shares {constant:.3f}.{stored}",
        remedy="Mend the findings above, then fit a temperature: flagbt calibrate." if severity != OK else "",
        otherwise="Were its confidence right, of the bars said with 60 % about 60 % would come true.",
    )
