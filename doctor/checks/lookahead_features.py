"""Look-ahead of the features: recompute rows with the later bars truncated or replaced."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...arrays import FloatArray
from ...data.bars import Bars
from ..check import KNOWN_INPUT, ROWS, Check, Symptom
from ..counterfactual import with_live_bars
from ..feature_table import FeatureTable, first_complete_row
from ..finding import BROKEN, OK, SUSPECT, Evidence, Finding
from ..perturbed_bars import Reach, perturb_future, reach_between
from ..subject import Subject

MOMENTS = 48
WHOLE_MOMENTS = 3
BARS_AFTER = 220
LONGEST_SECONDS = 20.0
ROUNDING = 1e-6


@dataclass(frozen=True)
class FeatureReach(Evidence):
    """How far each column that uses later bars looks ahead, in bars, and the moments tried.

    ``whole_series`` are the columns that use a statistic of the whole series. ``repeats`` is whether the rows are the same
    when computed twice; otherwise nothing else was measured.
    """

    repeats: bool = True
    bars_ahead: Mapping[str, int] | None = None
    whole_series: frozenset[str] = frozenset()
    moments: int = 0


def _run(subject: Subject) -> Finding:
    """Recompute the rows on truncated bars and on bars with another future: a row that changes uses the future.

    A row s <= t that changes with the bars after t looks at least t + 1 - s bars ahead. Most moments t use a window of bars
    around them; some use the whole series, since a column may depend on all of it.
    """
    tables = {"training": subject.trained, "served": subject.served}
    reaches: dict[str, int] = {}
    whole_series: set[str] = set()
    moments = 0
    for which, table in tables.items():
        if table is None or (which == "served" and table is subject.trained):
            continue
        if not rows_repeat(table, subject.bars):
            return Finding(
                severity=SUSPECT,
                message=f"The {which} rows differ when computed twice from the same bars, so look-ahead is unknown.",
                remedy="Fix the seeds in the feature function, or remove its random part.",
                otherwise="A deterministic function gives the same rows for the same bars.",
                evidence=FeatureReach(repeats=False),
            )
        reach, tried = reach_ahead(table, subject.bars, subject.random(3))
        moments += tried
        for column, bars, to_start in zip(table.columns, reach.bars.tolist(), reach.to_start.tolist(), strict=True):
            if bars:
                reaches[column] = max(reaches.get(column, 0), bars)
                if to_start:
                    whole_series.add(column)
    return _verdict(subject, FeatureReach(True, reaches, frozenset(whole_series), moments))


def _verdict(subject: Subject, found: FeatureReach) -> Finding:
    """Return the finding of columns that use later bars, if any."""
    reaches = found.bars_ahead or {}
    examined = {"moments": found.moments, "columns": len(set(subject.training_table.columns) | set(subject.served.columns))}
    tried = f"{found.moments} moments, {examined['columns']} columns"
    if not reaches:
        return Finding(
            severity=OK,
            message=f"No row changed with the bars after it ({tried}).",
            value=0.0,
            limit=0.0,
            evidence=found,
            examined=examined,
        )
    leaking = [t for t in (subject.trained, subject.served) if t is not None and not reaches.keys().isdisjoint(t.columns)]
    columns = tuple(dict.fromkeys(c for table in leaking for c in table.columns if c in reaches))
    n = len(leaking[0].columns)
    owner = f"the training's {n}" if leaking[0] is subject.trained else f"the {n} served"
    named = ", ".join(
        f"{c} ({'the whole series' if c in found.whole_series else f'{reaches[c]} bars ahead'})" for c in columns[:30]
    )
    return Finding(
        severity=BROKEN,
        value=float(len(columns)),
        limit=0.0,
        columns=columns,
        message=f"{len(columns)} of {owner} columns use{'s' * (len(columns) == 1)} the future: {named}. Tried: {tried}. Every "
        "score of this model, above all its validation accuracy, measures the leak.",
        remedy="Compute these columns from past bars only (no centred window, no mode='same', no negative shift, no scaler "
        "fitted on the whole series), then train again: no calibration fixes it.",
        otherwise="If the columns were causal, rows up to a bar would not change with the bars after it.",
        evidence=found,
        examined=examined,
    )


def rows_repeat(table: FeatureTable, bars: Bars) -> bool:
    """Return whether the rows are the same when they are computed twice from the same bars."""
    part = bars.take(slice(0, min(len(bars), 1_000)))
    return bool(np.array_equal(table(part), table(part), equal_nan=True))


def reach_ahead(table: FeatureTable, bars: Bars, random: np.random.Generator) -> tuple[Reach, int]:
    """Return the largest reach of every column over all moments, and the number of moments."""
    whole = table(bars)
    spread = np.nan_to_num(np.nanstd(np.where(np.isfinite(whole), whole, np.nan), axis=0)) if len(whole) else np.zeros(0)
    scale = np.maximum(spread, 1e-12)
    warmup, n = first_complete_row(whole), len(bars)
    before = 2 * warmup + 300
    found = Reach(np.zeros(len(table.columns), np.int64), np.zeros(len(table.columns), bool))
    moments, compared, failed = 0, 0, list[Exception]()

    def compare(base: FloatArray, window: Bars, t: int) -> None:
        nonlocal found, compared, moments
        others = [window.take(slice(0, t + 1)), *([perturb_future(window, t, random)] if t + 1 < len(window) else [])]
        for other in others:
            try:
                rows = table(other)
            except Exception as error:  # your own function may refuse other bars
                failed.append(error)
                continue
            now = reach_between(base, rows, t, scale, ROUNDING)
            compared += 1
            found = Reach(np.maximum(found.bars, now.bars), found.to_start | now.to_start)
        moments += 1

    # 1. The whole series, for columns that depend on all of it
    for t in random.integers(max(1, min(warmup + 1, n - 2)), max(2, n - 1), WHOLE_MOMENTS).tolist():
        compare(whole, bars, t)
    # 2. Windows around many moments, at every hour of the day: a column may look ahead only at midnight
    started = time.monotonic()
    if n > before + BARS_AFTER + 24:
        at = random.integers(before, n - BARS_AFTER - 24, MOMENTS)
        for t in (at - at % 24 + random.permutation(MOMENTS) % 24).clip(before).tolist():
            if time.monotonic() - started > LONGEST_SECONDS:
                break
            window = bars.take(slice(t - before, t + BARS_AFTER))
            try:
                compare(table(window), window, before)
            except Exception:  # your own function may refuse a short series: use the whole one
                compare(whole, bars, t)
    if not compared and failed:
        raise failed[0]
    return found, moments


CHECK = Check(
    name="lookahead-features",
    rank=10,
    method="recompute rows from bars truncated or perturbed after random moments; name the columns and the bars they look "
    "ahead",
    run=_run,
    evidence=FeatureReach,
    needs=(ROWS, KNOWN_INPUT),
    causes=(Symptom.HIGH_SCORE,),
    undo=lambda subject, _found: with_live_bars(subject),
)
