"""Checks of the rows a model reads: look-ahead, the schema, training against serving."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ...arrays import FloatArray
from ...data.bars import Bars
from ..finding import BROKEN, OK, SUSPECT, Finding, skipped
from ..perturbed_bars import Reach, other_future, reach_between
from ..subject import FeatureTable, Parity, Subject, first_whole

MOMENTS = 48
WHOLE_MOMENTS = 3
BARS_AFTER = 220
LONGEST_SECONDS = 20.0
ROUNDING = 1e-6
SAME = 1e-4
LONGEST_LAG = 24
COMPARED_BARS = 3_000
Note = dict[str, int]


def lookahead_features(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Recompute the rows on truncated bars and on bars with another future: a row that moves has seen the future.

    Every moment t tells how far ahead each column looks: a row s <= t that changes with the bars after t looks at least
    t + 1 - s bars ahead. Most moments are tried on a stretch of bars around them, some on the whole series, since a column
    may depend on anything.
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
        if not _repeats(table, subject.bars):
            return Finding(
                check=name,
                severity=SUSPECT,
                value=None,
                says=f"The {which} rows differ when they are computed twice from the same bars, so nothing else can be told.",
                remedy="Fix the seeds inside the feature function, or take its random part out.",
                otherwise="The same bars would give the same rows every time.",
            )
        reach = _look_ahead(table, subject.bars, random, coverage)
        for column, bars, to_start in zip(table.columns, reach.bars.tolist(), reach.to_start.tolist(), strict=True):
            if bars:
                reaches[column] = max(reaches.get(column, 0), bars)
                if to_start:
                    whole_series.add(column)
    coverage["columns"] = len(set(subject.learnt.columns) | set(subject.served.columns))
    tried = f"{coverage.get('moments', 0)} moments, {coverage['columns']} columns"
    if not reaches:
        says = f"No row changed with what came after it ({tried})."
        return Finding(check=name, severity=OK, says=says, value=0.0, limit=0.0)
    guilty = [t for t in (subject.trained, subject.served) if t is not None and not reaches.keys().isdisjoint(t.columns)]
    columns = tuple(dict.fromkeys(c for table in guilty for c in table.columns if c in reaches))
    owner = (
        f"the training's {len(guilty[0].columns)}" if guilty[0] is subject.trained else f"the {len(guilty[0].columns)} served"
    )
    named = ", ".join(f"{c} ({'the whole series' if c in whole_series else f'{reaches[c]} bars ahead'})" for c in columns[:30])
    return Finding(
        check=name,
        severity=BROKEN,
        value=float(len(columns)),
        limit=0.0,
        columns=columns,
        says=f"{len(columns)} of {owner} columns {'see' if len(columns) > 1 else 'sees'} the future: {named}. Tried: {tried}. "
        "Any score of such a model, its validation accuracy first of all, measures the leak.",
        remedy="Compute these columns from past bars only (no centred window, no mode='same', no negative shift, no scaler "
        "fitted on the whole series), then train again: no calibration mends it.",
        otherwise="Were the columns causal, rows up to a bar would stay as they are whatever comes after it.",
    )


def _repeats(table: FeatureTable, bars: Bars) -> bool:
    part = bars.take(slice(0, min(len(bars), 1_000)))
    return bool(np.array_equal(table(part), table(part), equal_nan=True))


def _look_ahead(table: FeatureTable, bars: Bars, random: np.random.Generator, coverage: Note) -> Reach:
    """Return the farthest reach of every column over all moments."""
    whole = table(bars)
    spread = np.nan_to_num(np.nanstd(np.where(np.isfinite(whole), whole, np.nan), axis=0)) if len(whole) else np.zeros(0)
    scale = np.maximum(spread, 1e-12)
    warmup, n = first_whole(whole), len(bars)
    before = 2 * warmup + 300
    found = Reach(np.zeros(len(table.columns), np.int64), np.zeros(len(table.columns), bool))

    compared, failed = 0, list[Exception]()

    def see(base: FloatArray, stretch: Bars, t: int) -> None:
        nonlocal found, compared
        others = [stretch.take(slice(0, t + 1)), *([other_future(stretch, t, random)] if t + 1 < len(stretch) else [])]
        for other in others:
            try:
                rows = table(other)
            except Exception as error:  # somebody's function, on a market that it has never met
                failed.append(error)
                continue
            now = reach_between(base, rows, t, scale, ROUNDING)
            compared += 1
            found = Reach(np.maximum(found.bars, now.bars), found.to_start | now.to_start)
        coverage["moments"] = coverage.get("moments", 0) + 1

    # 1. The whole series: what depends on all of it shows here
    for t in random.integers(max(1, min(warmup + 1, n - 2)), max(2, n - 1), WHOLE_MOMENTS).tolist():
        see(whole, bars, t)
    # 2. Stretches around many moments, at every hour of the day: a column may look ahead at midnight only
    started = time.monotonic()
    if n > before + BARS_AFTER + 24:
        at = random.integers(before, n - BARS_AFTER - 24, MOMENTS)
        for t in (at - at % 24 + random.permutation(MOMENTS) % 24).clip(before).tolist():
            if time.monotonic() - started > LONGEST_SECONDS:
                break
            stretch = bars.take(slice(t - before, t + BARS_AFTER))
            try:
                see(table(stretch), stretch, before)
            except Exception:  # somebody's function that cannot take a short series: the whole one then
                see(whole, bars, t)
    if not compared and failed:
        raise failed[0]
    return found


def schema(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Compare the served columns with the training's: names, order, count, scale, and columns that were dead in training."""
    name = "schema"
    if subject.refusal:
        return Finding(
            check=name,
            severity=BROKEN,
            value=1.0,
            limit=0.0,
            says=subject.refusal,
            remedy="Install the feature set's version of the training, or train again on the one there is.",
            otherwise="Were the table the same, the checkpoint's digest and probe would fit.",
        )
    if subject.trained is None:
        return skipped(name, "What the model was fed in training is not known.", "Give training_features.")
    one, other = subject.trained, subject.served
    a, b = _same_bars(subject)
    coverage["compared_rows"] = len(a)
    faults, guilty = _named_faults(one, other)
    more, columns = _value_faults(one, other, a, b, named=bool(guilty))
    faults += more
    guilty = tuple(dict.fromkeys((*guilty, *columns)))
    if not faults:
        says = f"The {len(one.columns)} served columns have the training's names, order and scale"
        digest = subject.checkpoint.schema.digest[:12] if subject.checkpoint else ""
        return Finding(check=name, severity=OK, says=f"{says}{f' (digest {digest})' * bool(digest)}.", value=0.0, limit=0.0)
    pictures["schema"] = faults
    return Finding(
        check=name,
        severity=BROKEN,
        value=float(len(guilty)),
        limit=0.0,
        columns=guilty,
        says=f"The model is served another table than it was trained on: {'; '.join(faults)}.",
        remedy="Compute training and serving rows by one function, store its column names, order and scaler with the "
        "model, and "
        "refuse anything else.",
        otherwise="Were the tables the same, each column would have one name, one place and one scale on the same bars.",
    )


def _same_bars(subject: Subject) -> tuple[FloatArray, FloatArray]:
    """Return both tables' rows of the same bars, whole rows only."""
    bars = subject.past if subject.past is not None else subject.bars
    stop = len(bars)
    if subject.past is not None and subject.training is not None and subject.training.any():
        stop = int(np.flatnonzero(subject.training)[-1]) + 1
    part = bars.take(slice(max(0, stop - COMPARED_BARS), stop))
    one, other = subject.learnt(part), subject.served(part)
    whole = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    return one[whole], other[whole]


def _named_faults(one: FeatureTable, other: FeatureTable) -> tuple[list[str], tuple[str, ...]]:
    faults: list[str] = []
    guilty: tuple[str, ...] = ()
    if len(one.columns) != len(other.columns):
        faults.append(f"{len(other.columns)} columns instead of {len(one.columns)}")
    if one.named and other.named and one.columns != other.columns:
        wrong = [(i, x, y) for i, (x, y) in enumerate(zip(one.columns, other.columns, strict=False)) if x != y]
        same = set(one.columns) == set(other.columns)
        guilty = tuple(y for _, _, y in wrong)
        at = f", the first at place {wrong[0][0]}: '{wrong[0][2]}' instead of '{wrong[0][1]}'" if wrong else ""
        faults.append(f"{len(wrong)} columns {'in another place' if same else 'with another name'}{at}")
    return faults, guilty


def _value_faults(
    one: FeatureTable, other: FeatureTable, a: FloatArray, b: FloatArray, *, named: bool
) -> tuple[list[str], list[str]]:
    """Name what the values tell: columns swapped, another scale, dead columns alive."""
    if len(a) < 20:
        return [], []
    n = min(a.shape[1], b.shape[1])
    spread_a, spread_b = a.std(axis=0), b.std(axis=0)
    off = np.abs(a[:, :n] - b[:, :n]).max(axis=0) > SAME * np.maximum(spread_a[:n], 1e-9)
    tiny = 1e-9 * (1 + np.abs(a).max(axis=0))
    if (spread_b[:n] <= 1e-12).all():
        return [], []  # nothing at all is served: that is the input's fault, not the table's
    if _lag(a[:, :n], b[:, :n]):
        return [], []  # the right table, late: that is the path's fault
    dead = [k for k in range(n) if spread_a[k] <= tiny[k] and spread_b[k] > 1e-9 and off[k]]
    moved, scaled = [], []
    for k in np.flatnonzero(off).tolist():
        if k in dead or spread_a[k] <= tiny[k] or spread_b[k] <= 1e-12:
            continue
        twin = [j for j in range(a.shape[1]) if j != k and spread_a[j] > tiny[j] and _alike(a[:, j], b[:, k])]
        if twin:
            moved.append((k, twin[0]))
        elif abs(float(np.corrcoef(a[:, k], b[:, k])[0, 1])) > 0.95:
            scaled.append(k)
    faults = []
    if dead:
        faults.append(f"{len(dead)} columns that were constant in training are alive at serving")
    if moved and not named:
        k, j = moved[0]
        faults.append(f"{len(moved)} columns hold another column's values (place {k} holds what '{one.columns[j]}' held)")
    if scaled:
        k = scaled[0]
        faults.append(
            f"{len(scaled)} columns have another scale ('{other.columns[k]}' has mean {b[:, k].mean():.4g} and deviation "
            f"{spread_b[k]:.4g}, in training {a[:, k].mean():.4g} and {spread_a[k]:.4g})"
        )
    return faults, [other.columns[k] for k in sorted({*dead, *scaled, *(k for k, _ in moved)})]


def _lag(a: FloatArray, b: FloatArray) -> int:
    """Return by how many bars the rows of b are late against a's; 0 where they are not a's rows of earlier bars."""
    if a.shape != b.shape:
        return 0
    spread = np.maximum(a.std(axis=0), 1e-9)
    late = (k for k in range(1, LONGEST_LAG + 1) if len(a) > k + 20)
    return next((k for k in late if (np.abs(a[:-k] - b[k:]) <= SAME * spread).all(axis=1).mean() > 0.9), 0)


def _alike(x: FloatArray, y: FloatArray) -> bool:
    return bool(np.abs(x - y).max() <= SAME * max(float(x.std()), 1e-9))


def serving_parity(subject: Subject, coverage: Note, pictures: dict[str, Any]) -> Finding:
    """Send validation bars down the serving path: features and logits must be those of the training path."""
    del pictures
    name = "serving-parity"
    found = _parity(subject)
    if isinstance(found, str):
        return skipped(name, found, "Give the bars of the training: --train-data FILE, or past=.")
    rows_off, logits_off, count, columns, limit = found
    coverage["parity_rows"] = count
    worst = max(rows_off, logits_off)
    late = _lag(*_same_bars(subject)) if rows_off > limit and subject.trained is not None and subject.parity is None else 0
    if worst <= limit:
        says = f"On {count:,} rows both paths give the same features (within {rows_off:.2g}) and logits ({logits_off:.2g})."
        return Finding(check=name, severity=OK, says=says, value=worst, limit=limit)
    return Finding(
        check=name,
        severity=BROKEN,
        value=worst,
        limit=limit,
        columns=columns,
        says=f"On the same {count:,} bars, serving differs from training: features by up to {rows_off:.3g} standard "
        f"deviations in "
        f"{len(columns)} columns, logits by up to {logits_off:.3g}"
        f"{f': it serves the rows of {late} bars before' if late else ''}.",
        remedy="Score the validation bars through the code that serves, and mend it until features and logits agree.",
        otherwise="Were the paths one, both would agree to rounding.",
    )


def _parity(subject: Subject) -> Parity | str:
    """Return differences of rows (in deviations) and logits, the rows compared, the guilty columns and the limit."""
    if subject.parity is not None:
        return subject.parity(subject)
    if subject.trained is None:
        return "What the model was fed in training is not known."
    a, b = _same_bars(subject)
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
    one, other = subject.ask(a), subject.ask(b)
    return float(off.max()), float(np.nanmax(np.abs(one - other))), len(a), columns, 1e-3
