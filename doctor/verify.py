"""Proofs of a checkpoint or strategy: the same logits for any batch, warm-up or serving path. See also verify_lookahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..arrays import FloatArray, Progress
from ..data.bars import Bars
from ..errors import RangeError
from ..models.checkpoint import Checkpoint
from ..models.model import ScoresSingly
from ..models.model_signals import ModelSignals
from ..models.signals import NO_SIGNAL
from ..strategies.base import Strategy
from ..strategies.declarations import warmup_bars as stated_warmup
from .checkpoint_subject import subject_of_checkpoint
from .checks.serving_parity import CHECK as SERVING_PARITY
from .finding import BROKEN, OK, UNCHECKED, Finding

BATCHED_BARS = 200
FEW_BATCHED_BARS = 60  # where each bar needs a separate call
LONGEST_WARMUP = 1_200  # assumed where a strategy states none
LARGEST_DIFFERENCE = 1e-4


def _no_progress(done: int, total: int) -> None:
    """Ignore the progress of a proof."""


def verify_batch(checkpoint: Checkpoint, bars: Bars, *, progress: Progress = _no_progress) -> Finding:
    """Score the last bars in batches and one by one; the logits must agree."""
    model = checkpoint.model
    singly = model if isinstance(model, ScoresSingly) else None
    count, sizes = (BATCHED_BARS, (1, 2, 5)) if singly else (FEW_BATCHED_BARS, (1, 7, 64))
    part = _last_bars(checkpoint, bars, count, singly.chunk_bars if singly else 0)
    first = len(part) - count
    progress(0, 1 + len(sizes))
    alone = singly.logits_bar_by_bar(part, first=first) if singly else _each_alone(checkpoint, part, first)
    if not np.isfinite(alone[first:]).any():
        return Finding(
            check="batch",
            severity=UNCHECKED,
            message=f"None of the {count} bars has finite logits, so there is nothing to compare.",
            remedy="Examine the checkpoint with flagbt doctor: its weights may have diverged.",
        )
    off = 0.0
    for done, n in enumerate(sizes, 1):
        progress(done, 1 + len(sizes))
        batched = model.logits(part, device="cpu", batch_size=n)
        off = max(off, _largest_difference(batched[first:], alone[first:]))
    what = f"{count} bars scored one by one and in batches of {sizes[0]}, {sizes[1]} and {sizes[2]}"
    return _compared("batch", off, f"{what} chunks" if singly else what)


def _each_alone(checkpoint: Checkpoint, bars: Bars, first: int) -> FloatArray:
    """Return the logits (n_bars, 3) of the bars from ``first`` on, each computed as the last bar after its warm-up only."""
    model, found = checkpoint.model, np.full((len(bars), 3), np.nan)
    for t in range(first, len(bars)):
        found[t] = model.logits(bars.take(slice(t - model.warmup_bars, t + 1)), device="cpu")[-1]
    return found


def _largest_difference(one: FloatArray, other: FloatArray) -> float:
    """Return the largest difference; infinite where only one has an answer."""
    has = np.isfinite(one), np.isfinite(other)
    return float(np.where(has[0] == has[1], np.where(has[0], np.abs(one - other), 0.0), np.inf).max())


def verify_warmup(
    make: Callable[[], Strategy | type[object]],
    bars: Bars,
    *,
    model: ModelSignals | None = None,
    progress: Progress = _no_progress,
) -> Finding:
    """Start the history later; past the warm-up, signals must not change.

    Parameters
    ----------
    make, bars, progress
        As in ``verify_lookahead``.
    model : ModelSignals, optional
        The strategy's model; without one, the warm-up is the strategy's ``warmup_bars``, or 1,200 bars.

    Raises
    ------
    RangeError
        With too few bars.
    """
    strategy = _with_signals(make())
    stated = stated_warmup(strategy)
    warmup = max(1, model.warmup_bars if model is not None else LONGEST_WARMUP if stated is None else stated)
    kept = 300
    if len(bars) < warmup + kept + 60:
        raise RangeError(f"verify warmup: expected {warmup + kept + 60:,} bars or more, got {len(bars):,}. Give more bars.")
    whole = bars.take(slice(max(0, len(bars) - 3 * warmup - kept), len(bars)))
    progress(0, 3)
    long = strategy.prepare(whole)
    differ, off = 0, 0.0
    starts = [len(whole) - warmup - kept, len(whole) - warmup - kept - 37]
    for done, start in enumerate(starts, 1):
        progress(done, 1 + len(starts))
        short = _with_signals(make()).prepare(whole.take(slice(max(0, start), len(whole))))
        one, other = long.signal[-kept:], short.signal[-kept:]
        differ += int((one != other).sum())
        if long.logits is not None and short.logits is not None:
            off = max(off, _largest_difference(long.logits[-kept:], short.logits[-kept:]))
        missing = int(((other == NO_SIGNAL) & (one != NO_SIGNAL)).sum())
        differ += missing
    if (long.signal[-kept:] == NO_SIGNAL).all() and not differ:
        return Finding(
            check="warmup",
            severity=UNCHECKED,
            value=0.0,
            limit=LARGEST_DIFFERENCE,
            message=f"There is no signal on the last {kept} bars, with {warmup:,} bars of history or more, so there is nothing "
            "to compare.",
            remedy="Give a range in which the strategy has signals.",
        )
    message = (
        f"{len(starts) * kept} signals with {warmup:,} bars of history and more: {differ} differ, logits by up to {off:.2g}"
    )
    fine = differ == 0 and off <= LARGEST_DIFFERENCE
    return Finding(
        check="warmup",
        severity=OK if fine else BROKEN,
        value=float(differ) if differ else off,
        limit=LARGEST_DIFFERENCE,
        message=f"{message}.",
        remedy="" if fine else "State the warm-up that the features need, and use no cumulative sum from the first bar.",
    )


def _with_signals(strategy: Strategy | type[object]) -> Strategy:
    if not isinstance(strategy, Strategy):
        raise RangeError("verify warmup: a plain Backtrader strategy has no signals to compare. Give a flagbt strategy.")
    return strategy


def verify_parity(checkpoint: Checkpoint, bars: Bars) -> Finding:
    """Score the validation bars with the serving path; rows and logits must match those that the training stored."""
    return replace(SERVING_PARITY.run(subject_of_checkpoint(checkpoint, bars)), check=SERVING_PARITY.name)


def _last_bars(checkpoint: Checkpoint, bars: Bars, kept: int, more: int) -> Bars:
    warmup = checkpoint.model.warmup_bars
    if len(bars) < warmup + kept:
        raise RangeError(f"verify batch: expected {warmup + kept:,} bars or more, got {len(bars):,}. Give more bars.")
    return bars.take(slice(max(0, len(bars) - warmup - kept - more), len(bars)))


def _compared(check: str, off: float, what: str) -> Finding:
    fine = off <= LARGEST_DIFFERENCE
    return Finding(
        check=check,
        severity=OK if fine else BROKEN,
        value=off,
        limit=LARGEST_DIFFERENCE,
        message=f"{what}: logits differ by up to {off:.2g}.",
        remedy="" if fine else "The logits depend on other bars of the batch: padding, positions, or a batch statistic.",
    )
