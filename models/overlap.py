"""Trained on it? Then it is no test: the bars a checkpoint has seen are refused as test bars."""

from __future__ import annotations

import numpy as np

from ..data.bars import Bars
from ..data.timerange import TimeRange
from ..errors import RangeError
from .calibration import Calibration
from .checkpoint import Checkpoint


def seen_ranges(checkpoint: Checkpoint, calibration: Calibration) -> dict[str, TimeRange]:
    """Return every range that went into the checkpoint or the calibration, by purpose."""
    ranges = dict(checkpoint.ranges)
    if calibration.fitted_on is not None:
        ranges["fit of the calibration in use"] = TimeRange.parse(calibration.fitted_on)
    return ranges


def check_overlap(checkpoint: Checkpoint, calibration: Calibration, bars: Bars, traded: slice) -> None:
    """Refuse to test on bars that the checkpoint has seen, whatever the asset: markets move together.

    The traded bars, each with its label's horizon, must not touch the ranges of pre-training, training, validation and
    calibration.

    Raises
    ------
    RangeError
        When they do, naming the range and the first time that is free.
    """
    horizon = checkpoint.labels.horizon_bars
    # The bar that the last label looks at: further away in time where bars are missing after the range.
    looked_at = bars.time[min(traded.stop - 1 + horizon, len(bars) - 1)]
    end = max(looked_at, bars.time[traded.stop - 1] + horizon * bars.step) + bars.step
    tested = TimeRange(bars.time[traded.start], np.datetime64(end))
    ranges = seen_ranges(checkpoint, calibration)
    hit = {purpose: seen for purpose, seen in ranges.items() if seen.overlaps(tested)}
    if hit:
        ends = [seen.stop for seen in ranges.values()]
        free = (
            "" if any(end is None for end in ends) else f" Test it from --timerange {TimeRange(max(e for e in ends if e))} on,"
        )
        raise RangeError(
            f"checkpoint '{checkpoint.name}' has seen bars of the range asked for, {tested}: "
            f"{'; '.join(f'{purpose} {seen}' for purpose, seen in hit.items())}. A result there would flatter it."
            f"{free or ' Choose another range,'} or add --allow-overlap, which is stamped on every output."
        )
