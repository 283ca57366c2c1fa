"""Checks of the feature rows: look-ahead, schema, training against serving."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ...arrays import FloatArray
from ...data.bars import Bars
from ..finding import BROKEN, OK, SUSPECT, Finding, skipped
from ..perturbed_bars import Reach, perturb_future, reach_between
from ..subject import FeatureTable, Parity, Subject, first_complete_row

MOMENTS = 48
WHOLE_MOMENTS = 3
BARS_AFTER = 220
LONGEST_SECONDS = 20.0
ROUNDING = 1e-6
SAME = 1e-4
LONGEST_LAG = 24
COMPARED_BARS = 3_000
TRAINING_UNKNOWN = "The features of the training are not known."
Note = dict[str, int]


def lookahead_features(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Recompute the rows on truncated bars and on bars with another future: a row that changes uses the future.

    A row s <= t that changes with the bars after t looks at least t + 1 - s bars ahead. Most moments t use a window of bars
    around them; some use the whole series, since a column may depend on all of it.
    """
    name = "lookahead-features"
    del pictures
    tables = {"training": subject.trained, "served": subject.served}
    reaches: dict[str, int] = {}
    whole_series: set[str] = set()
    for which, table in tables.items():
        if table is None or (which == "served" and table is subject.trained):
            continue
        random = subject.random(3)
        if not _rows_repeat(table, subject.bars):
            return Finding(
                check=name,
                severity=SUSPECT,
                value=None,
                message=f"The {which} rows differ when computed twice from the same bars, so look-ahead is unknown.",
                remedy="Fix the seeds in the feature function, or remove its random part.",
                otherwise="A deterministic function gives the same rows for the same bars.",
            )
        reach = _look_ahead(table, subject.bars, random, coverage)
        for column, bars, to_start in zip(table.columns, reach.bars.tolist(), reach.to_start.tolist(), strict=True):
            if bars:
                reaches[column] = max(reaches.get(column, 0), bars)
                if to_start:
                    whole_series.add(column)
    coverage["columns"] = len(set(subject.training_table.columns) | set(subject.served.columns))
    tried = f"{coverage.get('moments', 0)} moments, {coverage['columns']} columns"
    if not reaches:
        message = f"No row changed with the bars after it ({tried})."
        return Finding(check=name, severity=OK, message=message, value=0.0, limit=0.0)
    leaking = [t for t in (subject.trained, subject.served) if t is not None and not reaches.keys().isdisjoint(t.columns)]
    columns = tuple(dict.fromkeys(c for table in leaking for c in table.columns if c in reaches))
    n = len(leaking[0].columns)
    owner = f"the training's {n}" if leaking[0] is subject.trained else f"the {n} served"
    named = ", ".join(f"{c} ({'the whole series' if c in whole_series else f'{reaches[c]} bars ahead'})" for c in columns[:30])
    return Finding(
        check=name,
        severity=BROKEN,
        value=float(len(columns)),
        limit=0.0,
        columns=columns,
        message=f"{len(columns)} of {owner} columns use{'s' * (len(columns) == 1)} the future: {named}. Tried: {tried}. Every "
        "score of this model, above all its validation accuracy, measures the leak.",
        remedy="Compute these columns from past bars only (no centred window, no mode='same', no negative shift, no scaler "
        "fitted on the whole series), then train again: no calibration fixes it.",
        otherwise="If the columns were causal, rows up to a bar would not change with the bars after it.",
    )


def _rows_repeat(table: FeatureTable, bars: Bars) -> bool:
    part = bars.take(slice(0, min(len(bars), 1_000)))
    return bool(np.array_equal(table(part), table(part), equal_nan=True))


def _look_ahead(table: FeatureTable, bars: Bars, random: np.random.Generator, coverage: Note) -> Reach:
    """Return the largest reach of every column over all moments."""
    whole = table(bars)
    spread = np.nan_to_num(np.nanstd(np.where(np.isfinite(whole), whole, np.nan), axis=0)) if len(whole) else np.zeros(0)
    scale = np.maximum(spread, 1e-12)
    warmup, n = first_complete_row(whole), len(bars)
    before = 2 * warmup + 300
    found = Reach(np.zeros(len(table.columns), np.int64), np.zeros(len(table.columns), bool))
    compared, failed = 0, list[Exception]()

    def compare(base: FloatArray, window: Bars, t: int) -> None:
        nonlocal found, compared
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
        coverage["moments"] = coverage.get("moments", 0) + 1

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
    return found


def schema(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Compare the served columns with the training's: names, order, count, scale, and columns constant in training."""
    name = "schema"
    if subject.refusal:
        return Finding(
            check=name,
            severity=BROKEN,
            value=1.0,
            limit=0.0,
            message=subject.refusal,
            remedy="Install the feature set's version of the training, or train again on the installed one.",
            otherwise="If the features were the same, the checkpoint's digest and probe would match.",
        )
    if subject.trained is None:
        return skipped(name, TRAINING_UNKNOWN, "Give training_features.")
    one, other = subject.trained, subject.served
    a, b = _paired_rows(subject)
    coverage["compared_rows"] = len(a)
    faults, different = _named_faults(one, other)
    more, columns = _value_faults(one, other, a, b, named=bool(different))
    faults += more
    different = tuple(dict.fromkeys((*different, *columns)))
    if not faults:
        message = f"The {len(one.columns)} served columns have the training's names, order and scale"
        digest = subject.checkpoint.schema.digest[:12] if subject.checkpoint else ""
        return Finding(
            check=name, severity=OK, message=f"{message}{f' (digest {digest})' * bool(digest)}.", value=0.0, limit=0.0
        )
    pictures["schema"] = faults
    return Finding(
        check=name,
        severity=BROKEN,
        value=float(len(different)),
        limit=0.0,
        columns=different,
        message=f"The served features differ from those in training: {'; '.join(faults)}.",
        remedy="Compute training and serving rows by one function, store its column names, order and scaler with the model, "
        "and refuse all others.",
        otherwise="If the features were the same, each column would have one name, position and scale on the same bars.",
    )


def _paired_rows(subject: Subject) -> tuple[FloatArray, FloatArray]:
    """Return the complete rows of training and serving on the same bars."""
    bars = subject.past if subject.past is not None else subject.bars
    stop = len(bars)
    if subject.past is not None and subject.training is not None and subject.training.any():
        stop = int(np.flatnonzero(subject.training)[-1]) + 1
    part = bars.take(slice(max(0, stop - COMPARED_BARS), stop))
    one, other = subject.training_table(part), subject.served(part)
    whole = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    return one[whole], other[whole]


def _named_faults(one: FeatureTable, other: FeatureTable) -> tuple[list[str], tuple[str, ...]]:
    faults: list[str] = []
    different: tuple[str, ...] = ()
    if len(one.columns) != len(other.columns):
        faults.append(f"{len(other.columns)} columns instead of {len(one.columns)}")
    if one.named and other.named and one.columns != other.columns:
        wrong = [(i, x, y) for i, (x, y) in enumerate(zip(one.columns, other.columns, strict=False)) if x != y]
        same = set(one.columns) == set(other.columns)
        different = tuple(y for _, _, y in wrong)
        at = f", the first at position {wrong[0][0]}: '{wrong[0][2]}' instead of '{wrong[0][1]}'" if wrong else ""
        faults.append(f"{len(wrong)} columns {'in another position' if same else 'with another name'}{at}")
    return faults, different


def _value_faults(
    one: FeatureTable, other: FeatureTable, a: FloatArray, b: FloatArray, *, named: bool
) -> tuple[list[str], list[str]]:
    """Find swapped columns, other scales and columns that were constant in training, by their values."""
    if len(a) < 20:
        return [], []
    n = min(a.shape[1], b.shape[1])
    spread_a, spread_b = a.std(axis=0), b.std(axis=0)
    off = np.abs(a[:, :n] - b[:, :n]).max(axis=0) > SAME * np.maximum(spread_a[:n], 1e-9)
    tiny = 1e-9 * (1 + np.abs(a).max(axis=0))
    if (spread_b[:n] <= 1e-12).all():
        return [], []  # constant input is reported by input-ignored
    if _lag(a[:, :n], b[:, :n]):
        return [], []  # the right features, late: reported by serving-parity
    dead = [k for k in range(n) if spread_a[k] <= tiny[k] and spread_b[k] > 1e-9 and off[k]]
    moved, scaled = [], []
    for k in np.flatnonzero(off).tolist():
        if k in dead or spread_a[k] <= tiny[k] or spread_b[k] <= 1e-12:
            continue
        twin = [j for j in range(a.shape[1]) if j != k and spread_a[j] > tiny[j] and _equal(a[:, j], b[:, k])]
        if twin:
            moved.append((k, twin[0]))
        elif abs(float(np.corrcoef(a[:, k], b[:, k])[0, 1])) > 0.95:
            scaled.append(k)
    faults = []
    if dead:
        faults.append(f"{len(dead)} columns that were constant in training vary in serving")
    if moved and not named:
        k, j = moved[0]
        faults.append(f"{len(moved)} columns have another column's values (position {k} has those of '{one.columns[j]}')")
    if scaled:
        k = scaled[0]
        faults.append(
            f"{len(scaled)} columns have another scale ('{other.columns[k]}' has mean {b[:, k].mean():.4g} and deviation "
            f"{spread_b[k]:.4g}, in training {a[:, k].mean():.4g} and {spread_a[k]:.4g})"
        )
    return faults, [other.columns[k] for k in sorted({*dead, *scaled, *(k for k, _ in moved)})]


def _lag(a: FloatArray, b: FloatArray) -> int:
    """Return by how many bars the rows of b lag behind those of a; 0 if they are not rows of a."""
    if a.shape != b.shape:
        return 0
    spread = np.maximum(a.std(axis=0), 1e-9)
    late = (k for k in range(1, LONGEST_LAG + 1) if len(a) > k + 20)
    return next((k for k in late if (np.abs(a[:-k] - b[k:]) <= SAME * spread).all(axis=1).mean() > 0.9), 0)


def _equal(x: FloatArray, y: FloatArray) -> bool:
    return bool(np.abs(x - y).max() <= SAME * max(float(x.std()), 1e-9))


def serving_parity(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Compare features and logits of the serving path with those of the training path on validation bars."""
    del pictures
    name = "serving-parity"
    found = _parity(subject)
    if isinstance(found, str):
        return skipped(name, found, "Give the training bars: --train-data FILE, or past=.")
    rows_off, logits_off, count, columns, limit = found
    coverage["parity_rows"] = count
    worst = max(rows_off, logits_off)
    late = _lag(*_paired_rows(subject)) if rows_off > limit and subject.trained is not None and subject.parity is None else 0
    if worst <= limit:
        message = f"On {count:,} rows both paths give the same features (within {rows_off:.2g}) and logits ({logits_off:.2g})."
        return Finding(check=name, severity=OK, message=message, value=worst, limit=limit)
    return Finding(
        check=name,
        severity=BROKEN,
        value=worst,
        limit=limit,
        columns=columns,
        message=f"On the same {count:,} bars, serving differs from training: features by up to {rows_off:.3g} standard "
        f"deviations in {len(columns)} columns, logits by up to {logits_off:.3g}"
        f"{f': it serves the rows of {late} bars earlier' if late else ''}.",
        remedy="Score the validation bars with the serving code, and fix it until features and logits agree.",
        otherwise="If the paths were the same, both would agree to rounding.",
    )


def _parity(subject: Subject) -> Parity | str:
    """Return the differences of rows (in deviations) and logits, the number of rows, the different columns and the limit."""
    if subject.parity is not None:
        return subject.parity(subject)
    if subject.trained is None:
        return TRAINING_UNKNOWN
    a, b = _paired_rows(subject)
    if a.shape != b.shape:
        return "The two tables have different widths, so no row can be compared."
    if len(a) < 20:
        return "There are too few rows to compare."
    a, b = a[-1_000:], b[-1_000:]
    spread = a.std(axis=0)
    off = np.abs(a - b).max(axis=0) / np.where(spread > 1e-9, spread, 1.0)
    columns = tuple(c for c, each in zip(subject.served.columns, off, strict=True) if each > 1e-3)
    if not columns:
        return float(off.max()), 0.0, len(a), (), 1e-3
    one, other = subject.predict_logits(a), subject.predict_logits(b)
    return float(off.max()), float(np.nanmax(np.abs(one - other))), len(a), columns, 1e-3
