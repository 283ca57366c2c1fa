"""Rank skill: the order of the bars, which no offset or threshold can change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ...data.labels import CLASS_NAMES
from ...reports.page import render
from ..check import FEWEST_LABELLED_BARS, KNOWN_INPUT, LABELS, Check, Symptom
from ..direction_auc import AucInterval, Sweep, auc_intervals, offset_sweep
from ..finding import OK, WARNING, Evidence, Finding, skipped
from ..subject import Subject

CHANCE = 0.5
AREAS = ("SELL against the rest", "HOLD against the rest", "BUY against the rest", "BUY against SELL")


@dataclass(frozen=True)
class RankSkill(Evidence):
    """AUCs with their intervals: SELL, HOLD and BUY against the rest, and BUY against SELL; the MCC by offsets."""

    one_against_rest: tuple[AucInterval, AucInterval, AucInterval]
    direction: AucInterval
    sweep: Sweep

    @property
    def has_direction(self) -> bool:
        """Whether BUY is separated from SELL: the whole interval is above chance."""
        return self.direction.low > CHANCE


def _run(subject: Subject) -> Finding:
    """Measure the order of the bars by AUC, which no offset or threshold can change."""
    assert subject.labels is not None
    z, y = subject.logits[subject.evaluated], subject.labels[subject.evaluated]
    if len(y) < FEWEST_LABELLED_BARS or len(np.unique(y)) < 3:
        return skipped(f"It needs {FEWEST_LABELLED_BARS} labelled bars of all three classes; there are {len(y):,}.")
    sell, hold, buy, direction = auc_intervals(z, y, subject.random(9))
    found = RankSkill((sell, hold, buy), direction, offset_sweep(z, y))
    best, at_sell, at_buy = found.sweep.best
    rest = ", ".join(f"{c} {each}" for c, each in zip(CLASS_NAMES, found.one_against_rest, strict=True))
    facts = (
        f"One class against the rest: {rest}. The best pair of offsets, tuned on these labels ({at_sell:+.2f}, 0, "
        f"{at_buy:+.2f}), reaches an MCC of {best:.3f}, to which volatility alone contributes."
    )
    severity, remedy, otherwise = OK, "", ""
    message = f"The model separates BUY from SELL with an AUC of {direction}. {facts}"
    if direction.low <= CHANCE <= direction.high:
        severity = WARNING
        message = (
            f"No skill in direction: the AUC of BUY against SELL is {direction}; its interval contains 0.5. No threshold or "
            f"offset can separate up from down. {facts}"
        )
        remedy = "Do not trade its direction; another threshold, weight or offset only shifts the bias."
        otherwise = "With skill, the whole interval would be above 0.5."
    elif direction.high < CHANCE:
        severity = WARNING
        message = f"BUY and SELL are in reverse order: AUC {direction}. {facts}"
        remedy = "See label-map: the classes may be swapped; else the market has reversed."
    return Finding(
        severity=severity,
        value=direction.value,
        limit=CHANCE,
        message=message,
        remedy=remedy,
        otherwise=otherwise,
        evidence=found,
        examined={"evaluated_bars": len(y)},
    )


def _draw(found: RankSkill) -> Markup:
    from ...reports.static_charts import grid_chart  # imports matplotlib

    sweep, labels = found.sweep, ("offset of BUY", "offset of SELL", "MCC")
    return render(
        "doctor/offsets",
        chart=grid_chart(sweep.mcc, sweep.buy, sweep.sell, "sweep", labels=labels),
        best=sweep.best,
        areas=list(zip(AREAS, (*found.one_against_rest, found.direction), strict=True)),
    )


CHECK = Check(
    name="rank-skill",
    rank=170,
    method="AUCs with intervals from a bootstrap of weeks; the best MCC of any pair of offsets",
    run=_run,
    evidence=RankSkill,
    needs=(KNOWN_INPUT, LABELS),
    follows=(Symptom.WRONG_OUTPUT, Symptom.HIGH_SCORE),
    draw=_draw,
)
