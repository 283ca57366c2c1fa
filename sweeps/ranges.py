"""The ranges of a sweep: the bars that settings are ranked on, and the hold-out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.bars import Bars
from ..data.scorable_range import scorable_range
from ..data.time_range import TimeRange
from ..errors import RangeError, UsageError

DEFAULT_HOLDOUT = "0.25"
_DAY = np.timedelta64(1, "D")


def sweep_ranges(bars: Bars, timeranges: Sequence[TimeRange], holdout: str, warmup_bars: int) -> tuple[list[slice], slice]:
    """Return the positions of the ranked ranges, and of the hold-out.

    Parameters
    ----------
    holdout : str
        A share of the last range, cut off its end, or a range.

    Raises
    ------
    RangeError
        When a range has too few bars, or ranges overlap.
    UsageError
        When ``holdout`` is neither a share nor a range.
    """
    parts = [scorable_range(bars, each, warmup_bars, at_least=2) for each in timeranges]
    for one, other in ((a, b) for i, a in enumerate(parts) for b in parts[:i]):
        if one.start < other.stop and other.start < one.stop:
            raise RangeError(
                f"--timerange: {range_of(bars, other)} and {range_of(bars, one)} overlap, so their common bars would count "
                "twice. Give ranges that do not overlap."
            )
    if "-" in holdout.lstrip("-"):
        option = "--holdout"
        after = scorable_range(bars, TimeRange.parse(holdout, option=option), warmup_bars, at_least=2, option=option)
        hit = next((part for part in parts if part.start < after.stop and after.start < part.stop), None)
        if hit is not None:
            raise RangeError(
                f"--holdout {holdout}: settings are ranked on {range_of(bars, hit)}, which overlaps it, so it would not be a "
                "test. Give a range that overlaps no --timerange."
            )
        return parts, after
    try:
        share = float(holdout)
    except ValueError:
        share = np.nan
    if not 0 < share < 1:
        raise UsageError(
            f"--holdout: expected a share of the last range above 0 and below 1, such as {DEFAULT_HOLDOUT}, or a range such as "
            f"20241001-20250101, got '{holdout}'."
        )
    last = max(range(len(parts)), key=lambda place: parts[place].stop)
    cut = _midnight(bars, parts[last], share)
    after = slice(cut, parts[last].stop)
    parts[last] = slice(parts[last].start, cut)
    return parts, after


def range_of(bars: Bars, part: slice) -> TimeRange:
    """Return the time range of the bars at some positions."""
    return TimeRange(bars.time[part.start], np.datetime64(bars.time[part.stop - 1] + bars.step))


def _midnight(bars: Bars, part: slice, share: float) -> int:
    """Return the first bar of the hold-out: at a UTC midnight, so that no day is in both."""
    wanted = bars.time[part.stop - 1 - int((part.stop - part.start - 1) * share)]
    cut = bars.position_of(wanted.astype("datetime64[D]").astype("datetime64[ns]"))
    days = (bars.time[part.stop - 1] - bars.time[part.start]) / _DAY
    if cut - part.start < 2 or part.stop - cut < 2 or days < 4:
        raise RangeError(
            f"--timerange: {range_of(bars, part)} holds {part.stop - part.start:,} bars, too few to rank settings on one part "
            "and test the winner on the rest. Give a longer range, or a separate range with --holdout."
        )
    return cut
