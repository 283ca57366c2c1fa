"""Predicted shares: a collapse, a one-sided argmax, missing output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from markupsafe import Markup

from ...arrays import FloatArray
from ...data.labels import CLASS_NAMES, class_shares
from ...errors import FlagbtError
from ...models.diversity import (
    COLLAPSED_TOTAL_VARIATION,
    ONE_SIDED_SHARE,
    diversity,
    model_verdict,
    signal_verdict,
    total_variation,
)
from ...reports.page import render
from ...results.number_text import percent, ratio
from ..check import Check, Symptom, error_text
from ..finding import BROKEN, OK, SUSPECT, WARNING, Evidence, Finding, skipped
from ..subject import Subject

LARGEST_MISSING_SHARE = 0.05
SURE = 0.9
HISTOGRAM_BINS = 40
QUANTILES = (0.05, 0.5, 0.95)
COLOURS = ("sell", "hold", "buy")
Three = tuple[float, float, float]


@dataclass(frozen=True)
class OutputShares(Evidence):
    """The model's output on the tested bars; SELL, HOLD, BUY in this order.

    ``predicted`` are the shares of the most probable class, ``mean`` the mean probabilities, ``prior`` the training labels'
    shares, ``confidence`` the mean probability of each class where it is the most probable, None where it never is.
    ``logit_quantiles`` are the logits at 5, 50 and 95 %, ``histograms`` their counts in 40 bins over ``logit_range``.
    """

    bars: int
    predicted: Three
    mean: Three
    prior: Three | None
    confidence: tuple[float | None, ...]
    logit_quantiles: tuple[Three, ...]
    histograms: tuple[tuple[int, ...], ...]
    logit_range: tuple[float, float]

    @property
    def top(self) -> int:
        """The class that is most often the most probable."""
        return int(np.argmax(self.predicted))

    @property
    def is_one_sided(self) -> bool:
        """Whether that class is nearly always the most probable."""
        return self.predicted[self.top] > ONE_SIDED_SHARE

    @property
    def is_sure(self) -> bool:
        """Whether the model is also sure of it."""
        return self.is_one_sided and (self.confidence[self.top] or 0) > SURE

    def __str__(self) -> str:
        low, _, high = self.logit_quantiles
        text = ", ".join(
            f"{c} {100 * share:.1f} %{'' if sure is None else f' ({100 * sure:.1f} % confident)'}"
            for c, share, sure in zip(CLASS_NAMES, self.predicted, self.confidence, strict=True)
        )
        logits = ", ".join(f"{c} {low[k]:+.1f} .. {high[k]:+.1f}" for k, c in enumerate(CLASS_NAMES))
        return f"Predicted on {self.bars:,} bars: {text}. Logits (5 to 95 %): {logits}."


def _run(subject: Subject) -> Finding:
    """Measure predicted shares, confidence and logits; a model that cannot be run is not healthy."""
    try:
        missing = _missing_output_share(subject)
        if missing > LARGEST_MISSING_SHARE and not subject.may_skip_bars:
            return _missing_output(missing, "" if subject.reads_bars else " with a complete row")
        found = _output(subject)
        if found is None:
            why = "No tested bar has a complete row with the model's context before it."
            if subject.reads_bars:
                why = "The model has no answer on any tested bar."
            return skipped(why, "Give a longer range.")
        return replace(_verdict(subject, found), evidence=found, examined={"scored_bars": found.bars})
    except FlagbtError:
        raise
    except Exception as error:  # your own predict or feature function may raise anything
        return Finding(
            severity=SUSPECT,
            message=f"The model could not be run on the tested bars: {error_text(error)}",
            remedy="Fix the predict function, or give it bars and columns that it accepts.",
            otherwise="A sound model has an output for every complete row.",
        )


def _output(subject: Subject) -> OutputShares | None:
    """Return the model's output on the tested bars; None if it has none."""
    scored = np.isfinite(subject.logits).all(axis=1)
    if not scored.any():
        return None
    z, p = subject.logits[scored], subject.probabilities[scored]
    highest = z.argmax(axis=1)
    limits = (float(z.min()), float(z.max()) + 1e-9)
    return OutputShares(
        bars=len(z),
        predicted=_three(class_shares(highest.astype(np.int8))),
        mean=_three(p.mean(axis=0)),
        prior=None if subject.prior is None else _three(subject.prior),
        confidence=tuple(float(p[highest == c].max(axis=1).mean()) if (highest == c).any() else None for c in range(3)),
        logit_quantiles=tuple(_three(each) for each in np.quantile(z, QUANTILES, axis=0)),
        histograms=tuple(tuple(np.histogram(z[:, c], bins=HISTOGRAM_BINS, range=limits)[0].tolist()) for c in range(3)),
        logit_range=limits,
    )


def _three(values: FloatArray) -> Three:
    sell, hold, buy = values.tolist()
    return sell, hold, buy


def _verdict(subject: Subject, found: OutputShares) -> Finding:
    """Return one verdict on the model and one on its signals."""
    # 1. The verdicts
    scored = np.isfinite(subject.logits).all(axis=1)
    z, p, prior = subject.logits[scored], subject.probabilities[scored], subject.prior
    mean = p.mean(axis=0)
    model = None if prior is None else model_verdict(mean, prior)
    signal = signal_verdict(diversity(z.argmax(axis=1).astype(np.int8), p, prior))
    facts = f"{found} Signals: {signal.verdict if signal else 'none'}.{_calibrated(subject, z)}"
    if missing := int((subject.able & ~scored).sum()) if subject.may_skip_bars else 0:
        facts += f" It has no answer on {missing:,} of the tested bars, and gives no signal there."
    if model is None:
        return _without_prior(facts, found, is_checkpoint=subject.checkpoint is not None)
    facts = f"{facts} Model: {model.verdict}."
    distance = float(cast("float", model.numbers["total_variation"]))
    # 2. A collapse is a distance that the market does not explain
    here = None if subject.labels is None else class_shares(subject.labels[subject.evaluated])
    moved_with_market = here is not None and here.sum() > 0 and total_variation(mean, here) <= COLLAPSED_TOTAL_VARIATION
    if model.verdict == "collapsed" and not moved_with_market:
        return Finding(
            severity=BROKEN if found.is_sure else SUSPECT,
            value=distance,
            limit=COLLAPSED_TOTAL_VARIATION,
            message=f"Collapsed: {model.sentence} {facts}",
            remedy="This is the symptom: fix the findings above it, if any; else compare the weights, offsets and calibration "
            "in use with those of the model's validation. They shift the bias; they do not fix a cause.",
            otherwise="A sound model of a weak signal may predict HOLD on nearly every bar, but its mean probabilities match "
            "the labels'.",
        )
    if found.is_one_sided:
        return Finding(
            severity=WARNING,
            value=found.predicted[found.top],
            limit=ONE_SIDED_SHARE,
            message=f"{facts} Its most probable class is nearly always {CLASS_NAMES[found.top]}, while its mean probabilities "
            "are near the labels': this is not a collapse but the effect of argmax on a weak signal.",
            remedy="" if subject.is_run else f"Act on probabilities instead: --decision {subject.usable_decision}.",
        )
    severity = WARNING if model.verdict == "collapsed" else OK
    text = f"{model.sentence} {facts}"
    return Finding(severity=severity, value=distance, limit=COLLAPSED_TOTAL_VARIATION, message=text)


def _calibrated(subject: Subject, logits: FloatArray) -> str:
    """Return what a run's calibration and decision make of the logits; empty where the checkpoint's own are examined."""
    if not subject.is_run or subject.corrected is None or subject.signals is None:
        return ""
    mean = ", ".join(f"{c} {100 * p:.1f} %" for c, p in zip(CLASS_NAMES, subject.corrected(logits).mean(axis=0), strict=True))
    signal = ", ".join(
        f"{c} {100 * p:.1f} %" for c, p in zip(CLASS_NAMES, class_shares(subject.signals(logits).signal), strict=True)
    )
    return f" With {subject.calibrated_by} the mean probabilities are {mean}, and the signals {signal}."


def _without_prior(facts: str, found: OutputShares, *, is_checkpoint: bool) -> Finding:
    """Return the finding where the training labels' shares are unknown."""
    return Finding(
        severity=SUSPECT if found.is_sure else WARNING if found.is_one_sided else OK,
        value=found.predicted[found.top],
        limit=ONE_SIDED_SHARE,
        message=f"{facts} Model: not evaluated. The training labels' shares are not known.",
        remedy="Find the cause among the other findings."
        if found.is_sure
        else "To have them evaluated, import it with --labels, --data and a range as --trained-on."
        if is_checkpoint
        else "Give labels= and training=, so that the shares can be evaluated.",
        otherwise="A sound model is not sure of one class on nearly every bar.",
    )


def _missing_output_share(subject: Subject) -> float:
    """Return the share of bars without output, of the tested bars with the model's input before them."""
    missing = np.asarray(~np.isfinite(subject.logits[subject.able]).all(axis=1))
    return float(missing.mean()) if len(missing) else 0.0


def _missing_output(share: float, where: str) -> Finding:
    return Finding(
        severity=BROKEN if share == 1 else SUSPECT,
        value=share,
        limit=LARGEST_MISSING_SHARE,
        message=f"The model has no finite output on {100 * share:.1f} % of the tested bars{where}; all other "
        "numbers exclude these bars.",
        remedy="Look for overflow (float16), a division by zero, or an input length that the model does not accept.",
        otherwise="A sound model has an output for every complete row.",
    )


def _draw(found: OutputShares) -> Markup:
    return _predictions(found) + _logits(found)


def _predictions(found: OutputShares) -> Markup:
    shares = [("most probable class", found.predicted), ("mean probability", found.mean)]
    if found.prior is not None:
        shares.append(("training labels", found.prior))
    rows = [
        (c, percent(found.predicted[k]), percent(found.confidence[k]), *(ratio(found.logit_quantiles[q][k]) for q in (0, 2)))
        for k, c in enumerate(CLASS_NAMES)
    ]
    named = [(name, dict(zip(CLASS_NAMES, values, strict=True))) for name, values in shares]
    return render("doctor/predictions", shares=named, rows=rows)


def _logits(found: OutputShares) -> Markup:
    from ...reports.static_charts import histogram_chart  # imports matplotlib

    counts = dict(zip(CLASS_NAMES, (np.asarray(each) for each in found.histograms), strict=True))
    edges = np.linspace(*found.logit_range, HISTOGRAM_BINS + 1)
    return render("doctor/logits", chart=histogram_chart(counts, edges, COLOURS, "logits", unit="logit"))


CHECK = Check(
    name="shares",
    rank=140,
    method="measure predicted shares, confidence and logits; detect a collapse or missing output",
    run=_run,
    evidence=OutputShares,
    follows=(Symptom.WRONG_OUTPUT,),
    draw=_draw,
)
