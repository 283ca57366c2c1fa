"""Recognise from bars alone when their market is closed each week: weekends, nights, half days.

The rule. A week is cut into slots of one step. A slot without a bar is closed if other weeks show it: of the 13 weeks
around it, before it or after it (of weeks that have bars at all; fewer at the ends of a file), the same slot has no bar in at
least three, this week's included, and has one in at most one of six. So it is in the weeks before and after for as long as it
has no bar there. Nothing is recognised unless, over the whole file,

- at least a quarter of the missing bars are explained (else hours without trades make a pattern by chance), and
- a bar is at least 10 times as likely in the slots that the other weeks show open as in those that they show closed.

So an outage in a market that never closes is a gap: it is not repeated in the same slots week after week. Three windows are
compared because summer time moves the hours in UTC twice a year. At its edges, and at those of the file, up to an hour of
missing bars right after closing or before opening is closed too if it is missing a week or a day earlier or later as well; so
would be an outage of that hour on two such days, or in the three weeks around a change of the clocks. Closed hours of less than
15 minutes are not recognised. A slot with a bar is never closed, whatever the other weeks show.

This describes a file as a whole. Nothing that trades or learns reads it, so it need not be causal.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import BoolArray, Int64Array, TimeArray
from .market_hours import DAY, MINUTE, MONDAY, WEEK, MarketHours, weekly_text

WEEKS = 13  # a quarter of a year is shorter than either summer time or winter time
FEWEST_WEEKS = 3
WEEKS_PER_EXCEPTION = 6
EXPLAINED = 0.25  # of the missing bars, in weeks with bars
CONTRAST = 10.0
EDGE = np.timedelta64(3600, "s")
SHORTEST = np.timedelta64(900, "s")
MOST_SLOTS = 32_000_000  # sixty years of minutes
SPARSEST = 200  # slots per bar
BLOCK = 2_000_000  # slots at once
OTHER_SHARE = 0.1  # of the weeks, for a second pattern in the text


class _Weeks(NamedTuple):
    """The grid of a file, week by week: which slots have a bar, and which lie between the first and the last bar."""

    first: int
    has_bar: BoolArray
    known: BoolArray
    seen: BoolArray  # weeks with a bar


class _Evidence(NamedTuple):
    """What the other weeks show, and how well that fits the week itself."""

    closed: BoolArray
    missing: int
    explained: int
    slots: Int64Array  # that the others show open, closed
    bars: Int64Array  # in them


def recognised_hours(time: TimeArray, step: np.timedelta64) -> MarketHours:
    """Return the closed hours that bars show; none for a market that never closes, or fewer than three weeks of bars.

    Parameters
    ----------
    time : array of datetime64[ns], shape (n,)
        Open times on the grid, strictly increasing.
    step : timedelta64
    """
    step = step.astype("timedelta64[ns]")
    nothing = MarketHours(time[:0], time[:0], step)
    weeks = _weeks(time, step)
    if weeks is None:
        return nothing
    found = _evidence(weeks)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = found.bars / found.slots
    if found.explained < max(EXPLAINED * found.missing, 1) or not share[0] > CONTRAST * share[1]:
        return nothing
    closed = _with_edges(found.closed & ~weeks.has_bar, weeks, int(EDGE // step), int(DAY // step))
    closed = _through_the_weeks(closed, weeks).ravel()
    starts, ends = _bounds(closed)
    long = (ends - starts) * step >= SHORTEST
    for start, end in zip(starts[~long].tolist(), ends[~long].tolist(), strict=True):
        closed[start:end] = False
    phase = (time[0] - MONDAY) % step
    origin = MONDAY + weeks.first * WEEK + phase
    text = _text(closed.reshape(weeks.known.shape), weeks.seen, int(phase // MINUTE))
    return MarketHours(origin + starts[long] * step, origin + ends[long] * step, step, text) if text else nothing


def _weeks(time: TimeArray, step: np.timedelta64) -> _Weeks | None:
    """Return the bars week by week, or None where there cannot be a pattern."""
    per_week = int(WEEK // step)
    if per_week < 2 or per_week * step != WEEK or time[-1] - time[0] == (len(time) - 1) * step:  # the last: without gaps
        return None
    at = ((time - MONDAY) // step).astype(np.int64)
    first, last = int(at[0] // per_week), int(at[-1] // per_week)
    n_weeks = last - first + 1
    # Each week with closed hours has a run of missing bars: a market that never closes is seen here, without a search.
    runs = int(np.count_nonzero(np.diff(at) > 1))
    with_bars = n_weeks - int(((np.diff(at) - 1) // per_week).sum())
    if n_weeks < FEWEST_WEEKS or runs < max(FEWEST_WEEKS - 1, with_bars / 5):
        return None
    if n_weeks * per_week > min(MOST_SLOTS, SPARSEST * len(at)):
        return None
    has_bar = np.zeros(n_weeks * per_week, dtype=bool)
    has_bar[at - first * per_week] = True
    known = np.zeros_like(has_bar)
    known[at[0] - first * per_week : at[-1] - first * per_week + 1] = True
    shape = (n_weeks, per_week)
    seen: BoolArray = np.logical_or.reduce(has_bar.reshape(shape), axis=1)
    return _Weeks(first, has_bar.reshape(shape), known.reshape(shape), seen)


def _evidence(weeks: _Weeks) -> _Evidence:
    closed = np.zeros_like(weeks.has_bar)
    missing = explained = 0
    slots, bars = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    width = max(1, BLOCK // len(closed))
    for left in range(0, closed.shape[1], width):
        part = np.s_[:, left : left + width]
        has_bar, known = weeks.has_bar[part], weeks.known[part] & weeks.seen[:, None]
        shown, enough = _shown_closed(has_bar, known, weeks.seen)
        closed[part] = shown & enough
        missing += int((known & ~has_bar).sum())
        explained += int((known & ~has_bar & shown & enough).sum())
        for which, slot in enumerate((known & ~shown, known & shown)):
            slots[which] += int(slot.sum())
            bars[which] += int((slot & has_bar).sum())
    return _Evidence(closed, missing, explained, slots, bars)


def _shown_closed(has_bar: BoolArray, known: BoolArray, seen: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Return for each slot whether the other weeks show it closed, and whether three weeks do so with its own."""
    here: Int64Array = np.cumsum(seen, dtype=np.int64) - seen  # the number of weeks with bars before each
    total = int(seen.sum())
    sums = []
    for values in (known & ~has_bar, known):
        padded = np.zeros((total + 1, values.shape[1]), dtype=np.int16)
        np.cumsum(values[seen], axis=0, out=padded[1:])
        sums.append(padded)
    own_missing, own_known = (known & ~has_bar).astype(np.int16), known.astype(np.int16)
    shown, enough = np.zeros_like(has_bar), np.zeros_like(has_bar)
    for back in (WEEKS - 1, WEEKS // 2, 0):
        low, high = np.maximum(here - back, 0), np.minimum(here - back + WEEKS, total)
        lacking, of = (each[high] - each[low] for each in sums)
        others, other_weeks = lacking - own_missing, of - own_known
        fits = (others >= FEWEST_WEEKS - 1) & (other_weeks - others <= other_weeks // WEEKS_PER_EXCEPTION)
        shown |= fits
        enough |= fits & (lacking >= FEWEST_WEEKS)
    return shown, enough


def _with_edges(closed: BoolArray, weeks: _Weeks, most: int, day: int) -> BoolArray:
    """Add each run of up to ``most`` missing bars next to closed hours that is missing a week or a day earlier or later too."""
    seen = np.flatnonzero(weeks.seen)
    lacking = weeks.known & ~weeks.has_bar
    both = lacking[seen[1:]] & lacking[seen[:-1]]
    twice = np.zeros_like(closed)
    twice[seen[1:]] |= both
    twice[seen[:-1]] |= both
    twice, wide, alone = twice.ravel(), closed.ravel().copy(), (lacking & ~closed).ravel()
    if 0 < most < day:
        both = alone[day:] & alone[:-day]
        twice[day:] |= both
        twice[:-day] |= both
    starts, ends = _bounds(alone)
    counted = np.zeros(len(twice) + 1, dtype=np.int32)
    np.cumsum(twice, out=counted[1:])
    beside = wide[np.maximum(starts - 1, 0)] | wide[np.minimum(ends, len(wide) - 1)]
    added = beside & (ends - starts <= most) & (counted[ends] - counted[starts] == ends - starts)
    for start, end in zip(starts[added].tolist(), ends[added].tolist(), strict=True):
        wide[start:end] = True
    return wide.reshape(closed.shape)


def _through_the_weeks(closed: BoolArray, weeks: _Weeks) -> BoolArray:
    """Close a slot in the weeks before and after a closed one as long as it has no bar, or is not known."""
    seen = np.flatnonzero(weeks.seen).tolist()
    for order in (seen, seen[::-1]):
        for one, next_ in pairwise(order):
            closed[next_] |= closed[one] & ~weeks.has_bar[next_]
    return closed


def _bounds(values: BoolArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where the runs of True start and end."""
    padded = np.concatenate([[False], values, [False]])
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    return changes[::2], changes[1::2]


def _text(closed: BoolArray, seen: BoolArray, phase: int) -> str:
    """Return the pattern of most weeks, and a second one that is as frequent as that of a season."""
    rows = closed[1:-1][seen[1:-1]]
    frequent = [
        np.frombuffer(row, dtype=bool)
        for row, count in Counter(row.tobytes() for row in rows).most_common(2)
        if count >= OTHER_SHARE * len(rows)
    ]
    texts = [weekly_text(row, phase) for row in frequent or [rows.mean(axis=0) >= 0.5]]
    return "; in other weeks ".join(text for text in texts if text)
