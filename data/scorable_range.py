"""The bars of a time range that can be scored: those after the warm-up."""

from __future__ import annotations

from ..errors import RangeError
from .bars import Bars
from .time_range import TimeRange


def scorable_range(
    bars: Bars, timerange: TimeRange, warmup_bars: int, *, at_least: int = 1, option: str = "--timerange"
) -> slice:
    """Return the positions of the bars in a time range, without the first ``warmup_bars`` bars of all.

    Raises
    ------
    RangeError
        When fewer than ``at_least`` bars are left, naming ``option``.
    """
    part = bars.between(timerange)
    first = max(part.start, warmup_bars)
    if first + at_least > part.stop:
        given = f"without {option}" if timerange == TimeRange() else f"{option} {timerange}"
        raise RangeError(
            f"{given}: the range holds {part.stop - part.start:,} bars of {bars}. The first {warmup_bars:,} bars of the file "
            f"are the warm-up, so {'none' if at_least == 1 else 'too few'} can be scored. Choose a later range "
            "inside the file, or give bars that start earlier."
        )
    return slice(first, part.stop)
