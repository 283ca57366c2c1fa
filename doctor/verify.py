"""Proofs of single properties: no look-ahead, and the same logits for any batch, warm-up or serving path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..arrays import Progress
from ..data.bars import Bars
from ..data.labels import HOLD
from ..errors import RangeError
from ..models.checkpoint import Checkpoint
from ..models.model_signals import ModelSignals
from ..models.signals import NO_SIGNAL
from ..strategies.base import Strategy
from ..strategies.declarations import reads_bars
from ..strategies.declarations import warmup_bars as stated_warmup
from .checkpoint_subject import subject_of_checkpoint
from .checks.serving_parity import CHECK as SERVING_PARITY
from .finding import BROKEN, OK, UNCHECKED, Finding
from .perturbed_bars import perturb_future, perturb_past

if TYPE_CHECKING:
    from ..engine.simulation import Simulation  # to import Backtrader only when it is used

MOMENTS = 6
BARS_BEFORE, BARS_AFTER = 1_200, 120
BATCHED_BARS = 200
LARGEST_DIFFERENCE = 1e-4
SMALLEST_DIFFERENCE = 1e-9  # of a changed probability or logit
SMALLEST_MOVED = 0.05
FEWEST_ORDERS = 20
AT_DECISION = ["order", "decided", "side", "target", "size", "decision_price"]


def _no_progress(done: int, total: int) -> None:
    """Ignore the progress of a proof."""


def verify_lookahead(
    make: Callable[[], Any],
    bars: Bars,
    *,
    first: int = 0,
    warmup_bars: int = 0,
    seed: int = 0,
    progress: Progress = _no_progress,
) -> Finding:
    """Truncate or perturb the bars after t: nothing that a run records up to t may change.

    This proves something only about numbers computed from the bars. So the past is perturbed as well: if fewer than 5 % of the
    answers change with it, they come from another source, such as a file, and nothing shows when that was known.

    Parameters
    ----------
    make : callable
        Returns a new strategy, a flagbt or a plain Backtrader one.
    bars : Bars
        The bars with the history before the bars to try.
    first : int
        Position of the first bar to try.
    warmup_bars : int
        History that the strategy needs before its first signal.
    seed : int
        Seed of the moments and perturbations.
    progress : callable
        Called with (moments done, moments in all).

    Returns
    -------
    Finding
        ``broken``, ``ok`` or ``cannot be checked``; ``evidence`` holds ``answers``, ``moved_share`` and ``reads_bars``.

    Raises
    ------
    RangeError
        With too few bars.
    """
    # 1. The moments
    declared = reads_bars(make())
    before = max(BARS_BEFORE, warmup_bars + 200)
    after = max(1, min(BARS_AFTER, (len(bars) - first) // 2))
    if len(bars) < before + after + 1:
        raise RangeError(
            f"verify lookahead: expected {before + BARS_AFTER + 1:,} bars or more up to the range's end, history before the "
            f"range included, got {len(bars):,}. Give more bars, or a later range."
        )
    random = np.random.Generator(np.random.Philox(key=[seed, 21]))
    moments = np.sort(random.integers(max(before, first), len(bars) - after + 1, MOMENTS)).tolist()
    # 2. Run on perturbed futures and pasts
    changed: list[str] = []
    pairs = []
    for number, t in enumerate(moments):
        progress(number, len(moments))
        window = bars.take(slice(t - before, t + after))
        base = _record(make(), window)
        for other in (window.take(slice(0, before + 1)), perturb_future(window, before, random)):
            part = _first_change(base, _record(make(), other), before)
            changed += [part] if part else []
        pairs.append((base, _record(make(), perturb_past(window, random))))
    # 3. The verdict
    tried = f"{len(moments)} moments, each with its future truncated and perturbed"
    answers, moved = _moved(pairs)
    finding = partial(Finding, check="lookahead", evidence={"answers": answers, "moved_share": moved, "reads_bars": declared})
    if changed:
        return finding(
            severity=BROKEN,
            value=float(len(changed)),
            limit=0.0,
            message=f"Results up to a bar depend on later bars: in {len(changed)} of {2 * len(moments)} trials the strategy's "
            f"{changed[0]} changed ({tried}).",
            remedy="Let prepare and decide use bars up to t only: no centred window, no negative shift, no access to later "
            "lines.",
        )
    if all(one is None for one, _ in pairs):
        return finding(
            severity=UNCHECKED,
            value=0.0,
            limit=SMALLEST_MOVED,
            message=f"No bar had a signal in any of {len(moments)} windows of {before + after:,} bars, so nothing was tried.",
            remedy="If its warm-up is longer than that, state it as warmup_bars in its class; else choose a range in which it "
            "has signals.",
        )
    share = f"with a perturbed past, {100 * moved:.1f} % of its {answers:,} answers changed"
    return _past_verdict(
        finding, f"Nothing up to a bar changed with the bars after it ({tried}).", share, moved, declared=declared
    )


def _past_verdict(finding: Callable[..., Finding], unchanged: str, share: str, moved: float, *, declared: bool) -> Finding:
    """Compare the share of answers that changed with the past with what the strategy declares in ``reads_bars``."""
    limit = f"(limit {100 * SMALLEST_MOVED:.0f} %)"
    if declared and moved < SMALLEST_MOVED:
        return finding(
            severity=UNCHECKED,
            value=moved,
            limit=SMALLEST_MOVED,
            message=f"{unchanged} This proves nothing, since its answers hardly depend on the bars: {share} {limit}. They come "
            "from another source, such as a file, a clock or a constant, and nothing here shows whether that was known at the "
            "bar.",
            remedy="It remains to be shown, for each number that it reads from another source, that it was known before the "
            "bar that uses it: recreate that file from bars that end earlier, and compare; or compute it in prepare, from the "
            "bars. If the strategy reads only the clock, declare reads_bars = False in its class.",
        )
    if not declared and moved >= SMALLEST_MOVED:
        return finding(
            severity=BROKEN,
            value=moved,
            limit=SMALLEST_MOVED,
            message=f"It declares reads_bars = False, but {share} {limit}.",
            remedy="Remove reads_bars = False from its class, and verify it again.",
        )
    known = f"Its answers depend on the bars: {share}." if declared else "It declares reads_bars = False, and none changed."
    return finding(severity=OK, value=0.0, limit=0.0, message=f"{unchanged} {known}")


def _record(strategy: Any, bars: Bars) -> Simulation | None:
    """Return the run over all bars; None if no bar has a signal."""
    from ..data.time_range import TimeRange
    from ..engine.backtest import run_backtest

    try:
        return run_backtest(bars, strategy, timerange=TimeRange(bars.time[0]))
    except RangeError:
        return None


def _first_change(one: Simulation | None, other: Simulation | None, t: int) -> str:
    """Return the first part of the record up to bar t that differs; empty if none does."""
    if one is None or other is None:
        known = one or other
        is_empty = known is None or known.signals is None or bool((known.signals["signal"].iloc[: t + 1] == NO_SIGNAL).all())
        return "" if is_empty else "signals"
    for name in ("signals", "equity"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine is not None and not mine.iloc[: t + 1].equals(theirs.iloc[: t + 1]):
            return name
    sized_at_fill = one.sized_at_fill | other.sized_at_fill
    mine, theirs = (_decided(run.orders, one.equity.index[t], sized_at_fill) for run in (one, other))
    return "" if mine.equals(theirs) else "orders"


def _decided(orders: pd.DataFrame, now: pd.Timestamp, sized_at_fill: frozenset[int]) -> pd.DataFrame:
    """Return the orders as known at the close of a bar, without the sizes and sides set at a fill."""
    known = orders.loc[orders["decided"] <= now, AT_DECISION].reset_index(drop=True)
    later = known["order"].isin(sized_at_fill)
    return known.assign(side=known["side"].mask(later, ""), size=known["size"].mask(later))


def _moved(pairs: Sequence[tuple[Simulation | None, Simulation | None]]) -> tuple[int, float]:
    """Return the number of answers in pairs of runs over two pasts, and the share of them that differ.

    Answers are the signals other than HOLD, unless all signals are equal; the probabilities; and the orders, by bar, side and
    target. The smallest share counts: an order from a stop does not show that signals from a file depend on the bars.
    """
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    layers = [layer for name in ("signal", "p_buy", "logit_buy") if (layer := _moved_column(known, name))[0]]
    decided = [(_orders(one), _orders(other)) for one, other in known]
    orders = sum(len(one | other) for one, other in decided), sum(len(one ^ other) for one, other in decided)
    if orders[0] >= FEWEST_ORDERS or not layers:
        layers.append(orders)
    answers, moved = min(layers, key=lambda layer: layer[1] / max(1, layer[0]))
    return answers, moved / max(1, answers)


def _moved_column(pairs: Sequence[tuple[Simulation, Simulation]], name: str) -> tuple[int, int]:
    """Return the number of answers in a column of signals in pairs of runs, and the number that differ."""
    columns = [
        (one.signals[name].to_numpy(dtype=np.float64), other.signals[name].to_numpy(dtype=np.float64))
        for one, other in pairs
        if one.signals is not None and other.signals is not None and name in one.signals and name in other.signals
    ]
    if not columns:
        return 0, 0
    mine, theirs = (np.concatenate(each) for each in zip(*columns, strict=True))
    if name != "signal":
        known = np.isfinite(mine) & np.isfinite(theirs)
        return int(known.sum()), int((np.abs(mine - theirs)[known] > SMALLEST_DIFFERENCE).sum())
    if len(set(np.unique([mine, theirs])) - {NO_SIGNAL}) < 2:  # all equal: decide has the answers, not prepare
        return 0, 0
    active = ~(np.isin(mine, (HOLD, NO_SIGNAL)) & np.isin(theirs, (HOLD, NO_SIGNAL)))
    return int(active.sum()), int((mine != theirs)[active].sum())


def _orders(run: Simulation) -> set[tuple[object, str, float | None]]:
    """Return bar, side and target (if any) of every order."""
    columns = (run.orders[name].tolist() for name in ("decided", "side", "target"))
    return {(at, side, round(target, 2) if target == target else None) for at, side, target in zip(*columns, strict=True)}


def verify_batch(checkpoint: Checkpoint, bars: Bars, *, progress: Progress = _no_progress) -> Finding:
    """Score the last bars in batches and one by one; the logits must agree."""
    from ..models.network import architecture_of, load_network
    from ..models.scoring import ScoringOptions, score

    part = _last_bars(checkpoint, bars, BATCHED_BARS, "batch")
    architecture, network = architecture_of(checkpoint), load_network(checkpoint)
    rows = checkpoint.schema.rows(part)
    first = len(part) - BATCHED_BARS
    settings: dict[str, Any] = {"architecture": architecture, "warmup_bars": checkpoint.schema.warmup_bars, "first": first}
    sizes = (1, 2, 5)
    progress(0, 1 + len(sizes))
    alone = score(network, rows, part, options=ScoringOptions(bar_by_bar=True), **settings)
    if not np.isfinite(alone[first:]).any():
        return Finding(
            check="batch",
            severity=UNCHECKED,
            message=f"None of the {BATCHED_BARS} bars has finite logits, so there is nothing to compare.",
            remedy="Examine the checkpoint with flagbt doctor: its weights may have diverged.",
        )
    off = 0.0
    for done, n in enumerate(sizes, 1):
        progress(done, 1 + len(sizes))
        batched = score(network, rows, part, options=ScoringOptions(batch_chunks=n), **settings)
        off = max(off, float(np.nanmax(np.abs(batched - alone))))
    return _compared("batch", off, f"{BATCHED_BARS} bars scored one by one and in batches of 1, 2 and 5 chunks")


def verify_warmup(
    make: Callable[[], Any], bars: Bars, *, model: ModelSignals | None = None, progress: Progress = _no_progress
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
    strategy = make()
    if not isinstance(strategy, Strategy):
        raise RangeError("verify warmup: a plain Backtrader strategy has no signals to compare. Give a flagbt strategy.")
    stated = stated_warmup(strategy)
    warmup = max(1, model.warmup_bars if model is not None else BARS_BEFORE if stated is None else stated)
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
        short = make().prepare(whole.take(slice(max(0, start), len(whole))))
        one, other = long.signal[-kept:], short.signal[-kept:]
        differ += int((one != other).sum())
        if long.logits is not None and short.logits is not None:
            apart = np.abs(long.logits[-kept:] - short.logits[-kept:])
            off = max(off, float(np.nan_to_num(apart, nan=np.inf).max()))
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


def verify_parity(checkpoint: Checkpoint, bars: Bars) -> Finding:
    """Score the validation bars with the serving path; rows and logits must match those that the training stored."""
    return SERVING_PARITY.examine(subject_of_checkpoint(checkpoint, bars))


def _last_bars(checkpoint: Checkpoint, bars: Bars, kept: int, name: str) -> Bars:
    warmup = ModelSignals(checkpoint=checkpoint).warmup_bars
    if len(bars) < warmup + kept:
        raise RangeError(f"verify {name}: expected {warmup + kept:,} bars or more, got {len(bars):,}. Give more bars.")
    chunk = checkpoint.architecture.chunk_bars
    return bars.take(slice(max(0, len(bars) - warmup - kept - chunk), len(bars)))


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
