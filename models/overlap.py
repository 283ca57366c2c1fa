"""Refuse to test a model on bars that it has seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.bars import Bars
from ..data.time_range import TimeRange
from ..errors import CheckpointError, RangeError
from .calibration import Calibration
from .checkpoint import Checkpoint


def seen_ranges(checkpoint: Checkpoint, calibration: Calibration) -> dict[str, TimeRange]:
    """Return every range that the checkpoint or the calibration has seen, by purpose."""
    ranges = dict(checkpoint.ranges)
    if calibration.fitted_on is not None:
        ranges["fit of the calibration in use"] = TimeRange.parse(calibration.fitted_on)
    return ranges


def check_overlap(checkpoint: Checkpoint, calibration: Calibration, bars: Bars, traded: slice) -> None:
    """Refuse to test on bars that the checkpoint has seen, whatever the asset, since markets move together.

    The traded bars, each with its label's horizon, must not overlap the ranges of pre-training, training, validation and
    calibration.

    Raises
    ------
    RangeError
        When they do, naming the ranges and the first unseen time.
    """
    horizon = checkpoint.labels.horizon_bars
    # The last bar that a label looks at is later where bars are missing after the range.
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
            f"checkpoint '{checkpoint.name}' has seen bars of the requested range, {tested}: "
            f"{'; '.join(f'{purpose} {seen}' for purpose, seen in hit.items())}. A result there would be too optimistic."
            f"{free or ' Choose another range,'} or add --allow-overlap, which is stamped on every output."
        )


def check_seen(name: str, seen: Sequence[TimeRange], tested: TimeRange) -> None:
    """Refuse to test a strategy on bars that it declares to have seen.

    Raises
    ------
    RangeError
        Naming the overlapping ranges and the first unseen time.
    """
    hit = [each for each in seen if each.overlaps(tested)]
    if hit:
        stops = [each.stop for each in seen]
        last = None if None in stops else max(stop for stop in stops if stop is not None)
        free = "Choose another range" if last is None else f"Test it from --timerange {TimeRange(last)} on"
        raise RangeError(
            f"strategy '{name}' has seen bars of the range to be traded, {tested}: its bars_seen holds "
            f"{', '.join(map(str, hit))}. A result there would be too optimistic. {free}, or add --allow-overlap, which is "
            "stamped on every output."
        )


def check_fit(checkpoint: Checkpoint, fitted_on: TimeRange) -> list[str]:
    """Refuse to fit a calibration on the checkpoint's training bars; return the other overlapping purposes.

    A model is overconfident on bars that it was pre-trained or trained on, and a calibration fitted there would keep that
    error. The validation range only chose among a few epochs, so it may be used. No label of a fit looks beyond its range:
    the last ones are left out, by the label's horizon.

    Raises
    ------
    RangeError
        Naming the overlapping ranges and the first unseen time.
    """
    hit = {purpose: seen for purpose, seen in checkpoint.ranges.items() if seen.overlaps(fitted_on)}
    trained = {purpose: seen for purpose, seen in hit.items() if purpose in ("pretraining", "training")}
    if trained:
        stops = [seen.stop for purpose, seen in checkpoint.ranges.items() if purpose in ("pretraining", "training")]
        last = None if None in stops else max(stop for stop in stops if stop is not None)
        free = "on bars that no training has seen" if last is None else f"from --timerange {TimeRange(last)} on"
        raise RangeError(
            f"--timerange {fitted_on}: checkpoint '{checkpoint.name}' was trained on bars of this range: "
            f"{'; '.join(f'{purpose} {seen}' for purpose, seen in trained.items())}. It is overconfident there, and a "
            f"calibration would learn that. Fit it {free}."
        )
    return sorted(hit)


def check_step(checkpoint: Checkpoint, bars: Bars) -> None:
    """Refuse bars of a different length than in the checkpoint's training.

    Raises
    ------
    CheckpointError
        Naming both lengths.
    """
    if checkpoint.data is None:  # its kind reads bars of any length
        return
    expected = checkpoint.data.step_hours
    if bars.step_hours != expected:
        raise CheckpointError(
            f"checkpoint '{checkpoint.name}' was trained on bars of {expected:g} h, and those of {bars.source} are of "
            f"{bars.step_hours:g} h, to which it does not apply. Resample the bars, or train on bars of that length."
        )
