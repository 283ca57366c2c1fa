"""What may explain the gaps of a file: closed weekends or nights, or times without trades that its source leaves out."""

from __future__ import annotations

import numpy as np

from ..arrays import Int64Array, TimeArray
from .explanation import Explanation
from .fill import MOST_FILLED, UNCERTAIN
from .market_hours import DAY, MINUTE, MINUTES, MONDAY, WEEK, MissingRuns, weekly_text

SHORTEST_NIGHT = np.timedelta64(4 * 3600, "s")
FEW_ZEROS = 0.01  # of the bars with a volume of 0; a source that has bars for times without trades has more
FEWEST_GAPS = 20
LEAST_SHARE = 0.005  # of gaps per bar; outages are rarer
LONGEST_SHARE = 0.25  # of the missing bars in one gap; else it is an outage
PARTS, FEWEST_PARTS = 10, 8  # of the file, with a gap


def perhaps_weekends(time: TimeArray, step: np.timedelta64, gaps: MissingRuns) -> Explanation | None:
    """Return the closed hours to state for a file too short to show them: each of its gaps spans the same part of a weekend."""
    saturday = MONDAY + 5 * DAY
    start, stop = time[gaps.at] + step, time[gaps.at + 1]
    first, last = (start - MONDAY) % WEEK, (stop - MONDAY) % WEEK
    length = np.where(last > first, last - first, last + WEEK - first)
    is_weekend = (first >= 4 * DAY) & (first <= saturday - MONDAY) & (first + length >= 6 * DAY) & (stop - start < 4 * DAY)
    first, end = first.max(), (first + length).min()
    if not is_weekend.all() or step > DAY:
        return None
    minutes = np.arange(MINUTES) * MINUTE
    text = weekly_text((minutes >= first) & (minutes < end) | (minutes + WEEK < end))
    many = "the gap spans a weekend" if len(gaps.at) == 1 else f"all {len(gaps.at)} gaps span weekends"
    return Explanation(
        "the market may be closed on weekends",
        f"{many}, in fewer weeks than show that",
        f"If it is, state it: --closed-hours '{text}'. Otherwise fetch what the exchange has; an outage stays a gap.",
        ("gaps",),
    )


def perhaps_nights(time: TimeArray, step: np.timedelta64, gaps: MissingRuns) -> Explanation | None:
    """Return the closed hours to state for a file too short to show them: its gaps are the same hours of each day."""
    start, stop = time[gaps.at] + step, time[gaps.at + 1]
    first, last, days = (start - MONDAY) % DAY, (stop - MONDAY) % DAY, (stop - start) // DAY
    over_weekend = ((start - MONDAY) % WEEK >= 4 * DAY) & ((start - MONDAY) % WEEK < 5 * DAY) & (days == 2)
    is_same = (first == first[0]) & (last == last[0]) & ((days == 0) | over_weekend)
    night = (last[0] - first[0]) % DAY
    if len(gaps.at) < 2 or not is_same.all() or night < SHORTEST_NIGHT:
        return None
    minutes = np.arange(MINUTES) * MINUTE
    closed = (minutes - first[0]) % DAY < night
    text = weekly_text(closed | (minutes >= 5 * DAY) if over_weekend.any() else closed)
    return Explanation(
        "the market may be closed at night",
        f"all {len(gaps.at):,} gaps are the same hours of the day, in fewer weeks than show that",
        f"If it is, state it: --closed-hours '{text}'. Otherwise fetch what the exchange has; an outage stays a gap.",
        ("gaps",),
    )


def times_without_trades(time: TimeArray, gaps: MissingRuns, share_of_zeros: float) -> Explanation | None:
    """Return why the gaps of a market that never closes seem to be times without trades, or None.

    They are many, spread over the file, none holds most of the missing bars, and hardly a bar has a volume of 0: a source with
    bars for times without trades gives them that volume.
    """
    missing: Int64Array = gaps.missing
    total, count = int(missing.sum()), len(missing)
    if share_of_zeros > FEW_ZEROS or count < max(FEWEST_GAPS, LEAST_SHARE * len(time)) or total > MOST_FILLED * len(time):
        return None
    parts = np.unique(PARTS * gaps.at // len(time))
    if len(parts) < FEWEST_PARTS or int(missing.max()) > LONGEST_SHARE * total:
        return None
    few = "few bars" if share_of_zeros else "no bar"
    return Explanation(
        "times without trades are probably left out, as in the files of some exchanges",
        f"{count:,} gaps all over the file, the longest of {int(missing.max()):,} bars, and {few} with a volume of 0",
        f"--fill-no-trade --output NEW.csv writes a new file with {total:,} flat bars of volume 0 in them, and lists these; "
        f"{UNCERTAIN}.",
        ("gaps",),
    )
