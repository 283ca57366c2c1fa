"""Proofs on demand: signals that do not know the future, batches, a warm-up and a serving path that change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ...data.bars import Bars
from ...errors import RangeError
from ...models.checkpoint import Checkpoint
from ...models.model_signals import ModelSignals
from ...models.signals import NO_SIGNAL
from ...strategies.base import Strategy
from .examine import ALL
from .finding import BROKEN, OK, Finding
from .futures import other_future
from .of_checkpoint import subject_of_checkpoint

Progress = Callable[[int, int], None]
MOMENTS = 6
BARS_BEFORE, BARS_AFTER = 1_200, 120
BATCHED_BARS = 200
LARGEST_DIFFERENCE = 1e-4
AT_DECISION = ["order", "decided", "side", "target", "size", "decision_price"]


def _unwatched(done: int, total: int) -> None:
    """Tell nobody how far a proof is."""


def verify_lookahead(
    make: Callable[[], Any], bars: Bars, *, warmup_bars: int = 0, seed: int = 0, progress: Progress = _unwatched
) -> Finding:
    """Cut the bars after t, and give them another future: nothing that a run records up to t may change.

    Parameters
    ----------
    make : callable
        Returns a fresh strategy, flagbt's or a plain Backtrader class.
    warmup_bars : int
        History that the strategy needs before its first signal.
    progress : callable
        Called with (moments done, moments in all).

    Raises
    ------
    RangeError
        With too few bars.
    """
    before = max(BARS_BEFORE, warmup_bars + 200)
    if len(bars) < before + BARS_AFTER + 1:
        raise RangeError(f"verify lookahead: expected {before + BARS_AFTER + 1:,} bars or more, got {len(bars):,}. Give more.")
    random = np.random.Generator(np.random.Philox(key=[seed, 21]))
    moments = np.sort(random.integers(before, len(bars) - BARS_AFTER, MOMENTS)).tolist()
    changed: list[str] = []
    for number, t in enumerate(moments):
        progress(number, len(moments))
        stretch = bars.take(slice(t - before, t + BARS_AFTER))
        base = _record(make(), stretch)
        for other in (stretch.take(slice(0, before + 1)), other_future(stretch, before, random)):
            part = _first_change(base, _record(make(), other), before)
            changed += [part] if part else []
    tried = f"{len(moments)} moments, each with its future cut off and with another one"
    if not changed:
        return Finding(
            check="lookahead",
            severity=OK,
            value=0.0,
            limit=0.0,
            says=f"Nothing up to a bar changed with what came after it ({tried}).",
        )
    return Finding(
        check="lookahead", severity=BROKEN, value=float(len(changed)), limit=0.0,
        says=f"What it did up to a bar depends on later bars: in {len(changed)} of {2 * len(moments)} trials its "
        f"{changed[0]} changed ({tried}).",
        remedy="Let prepare and decide use bars up to t only: no centred window, no negative shift, no look at later lines.",
    )  # fmt: skip


def _record(strategy: Any, bars: Bars) -> Any:
    from ...data.timerange import TimeRange
    from ...engine.backtest import run_backtest

    return run_backtest(bars, strategy, timerange=TimeRange(bars.time[0]))


def _first_change(one: Any, other: Any, t: int) -> str:
    """Return which part of the record of the bars up to t differs; empty where none does."""
    for name in ("signals", "equity"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine is not None and not mine.iloc[: t + 1].equals(theirs.iloc[: t + 1]):
            return name
    mine, theirs = (_decided(run.orders, one.equity.index[t]) for run in (one, other))
    return "" if mine.equals(theirs) else "orders"


def _decided(orders: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Return what was known of the orders at the close of a bar: one for a target exposure gets its size at the next open."""
    known = orders.loc[orders["decided"] <= now, AT_DECISION].reset_index(drop=True)
    sized_at_fill = known["target"].notna()
    return known.assign(side=known["side"].mask(sized_at_fill, ""), size=known["size"].mask(sized_at_fill))


def verify_batch(checkpoint: Checkpoint, bars: Bars, *, progress: Progress = _unwatched) -> Finding:
    """Score the last bars in batches and one by one: the logits must agree."""
    from ...models.network import architecture_of, load_network
    from ...models.scoring import score

    part = _last_bars(checkpoint, bars, BATCHED_BARS, "batch")
    architecture, network = architecture_of(checkpoint), load_network(checkpoint)
    rows = checkpoint.schema.rows(part)
    first = len(part) - BATCHED_BARS
    settings: dict[str, Any] = {"architecture": architecture, "warmup_bars": checkpoint.schema.warmup_bars, "first": first}
    sizes = (1, 2, 5)
    progress(0, 1 + len(sizes))
    alone = score(network, rows, part, bar_by_bar=True, **settings)
    off = 0.0
    for done, n in enumerate(sizes, 1):
        progress(done, 1 + len(sizes))
        off = max(off, float(np.nanmax(np.abs(score(network, rows, part, batch_chunks=n, **settings) - alone))))
    return _compared("batch", off, f"{BATCHED_BARS} bars scored one by one and in batches of 1, 2 and 5 chunks")


def verify_warmup(
    make: Callable[[], Any], bars: Bars, *, model: ModelSignals | None = None, progress: Progress = _unwatched
) -> Finding:
    """Start the history later: past the warm-up, signals must not change.

    Raises
    ------
    RangeError
        With too few bars.
    """
    strategy = make()
    if not isinstance(strategy, Strategy):
        raise RangeError("verify warmup: a plain Backtrader strategy has no signals to compare. Give a flagbt strategy.")
    warmup = model.warmup_bars if model is not None else BARS_BEFORE
    kept = 300
    if len(bars) < warmup + kept + 60:
        raise RangeError(f"verify warmup: expected {warmup + kept + 60:,} bars or more, got {len(bars):,}. Give more.")
    whole = bars.take(slice(max(0, len(bars) - 3 * warmup - kept), len(bars)))
    progress(0, 3)
    long = strategy.prepare(whole)
    differ, off = 0, 0.0
    starts = [len(whole) - warmup - kept, len(whole) - warmup - kept - 37]
    for done, start in enumerate(starts, 1):
        progress(done, 1 + len(starts))
        short = make().prepare(whole.take(slice(max(0, start), len(whole))))
        one, other = long.signal[-kept:], short.signal[-kept:]
        differ += int((one != other).sum())
        if long.logits is not None and short.logits is not None:
            apart = np.abs(long.logits[-kept:] - short.logits[-kept:])
            off = max(off, float(np.nan_to_num(apart, nan=np.inf).max()))
        missing = int(((other == NO_SIGNAL) & (one != NO_SIGNAL)).sum())
        differ += missing
    says = (
        f"{len(starts) * kept} signals with {warmup:,} bars of history and with more: {differ} differ, logits by up to "
        f"{off:.2g}"
    )
    fine = differ == 0 and off <= LARGEST_DIFFERENCE
    return Finding(
        check="warmup", severity=OK if fine else BROKEN, value=float(differ) if differ else off, limit=LARGEST_DIFFERENCE,
        says=f"{says}.", remedy="" if fine else "Name the warm-up that the features need, and use no sum that runs from "
        "the start.",
    )  # fmt: skip


def verify_parity(checkpoint: Checkpoint, bars: Bars) -> Finding:
    """Send the validation bars down the serving path: its rows and logits must be those that the training left."""
    return ALL["serving-parity"](subject_of_checkpoint(checkpoint, bars), {}, {})


def _last_bars(checkpoint: Checkpoint, bars: Bars, kept: int, name: str) -> Bars:
    warmup = ModelSignals(checkpoint=checkpoint).warmup_bars
    if len(bars) < warmup + kept:
        raise RangeError(f"verify {name}: expected {warmup + kept:,} bars or more, got {len(bars):,}. Give more.")
    chunk = checkpoint.architecture.chunk_bars
    return bars.take(slice(max(0, len(bars) - warmup - kept - chunk), len(bars)))


def _compared(check: str, off: float, what: str) -> Finding:
    fine = off <= LARGEST_DIFFERENCE
    return Finding(
        check=check, severity=OK if fine else BROKEN, value=off, limit=LARGEST_DIFFERENCE,
        says=f"{what}: logits differ by up to {off:.2g}.",
        remedy="" if fine else "Something depends on what stands beside a bar: padding, positions, or a statistic of the "
        "batch.",
    )  # fmt: skip
