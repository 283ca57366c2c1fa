"""Proof of no look-ahead: results up to a bar do not change with the bars after it, but with those before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..arrays import JsonObject, Progress
from ..data.bars import Bars
from ..data.labels import HOLD
from ..errors import RangeError
from ..models.signals import NO_SIGNAL
from ..strategies.base import Strategy
from ..strategies.declarations import reads_bars
from .finding import BROKEN, OK, UNCHECKED, Evidence, Finding
from .perturbed_bars import perturb_future, perturb_past

if TYPE_CHECKING:
    from ..engine.simulation import Simulation  # to import Backtrader only when it is used

MOMENTS = 6
BARS_BEFORE, BARS_AFTER = 1_200, 120
SMALLEST_DIFFERENCE = 1e-9  # of a changed probability or logit
SMALLEST_MOVED = 0.05
FEWEST_ORDERS = 20
AT_DECISION = ["order", "decided", "side", "target", "size", "decision_price"]


@dataclass(frozen=True)
class LookaheadTrials(Evidence):
    """What changed in runs on other futures and on another past, at ``moments`` moments.

    ``changed`` holds, for each future that changed the record up to its moment, the part that did. ``moved_share`` is the share
    of the ``answers`` that differ on another past. ``reads_bars`` is what the strategy declares.
    """

    moments: int
    window_bars: int
    changed: tuple[str, ...]
    has_signals: bool
    answers: int
    moved_share: float
    reads_bars: bool

    def to_json(self) -> JsonObject:
        """Return the numbers of the trials on another past."""
        return {"answers": self.answers, "moved_share": self.moved_share, "reads_bars": self.reads_bars}


def verify_lookahead(
    make: Callable[[], Strategy | type[object]],
    bars: Bars,
    *,
    first: int = 0,
    warmup_bars: int = 0,
    seed: int = 0,
    progress: Progress = lambda _done, _total: None,
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
        ``broken``, ``ok`` or ``cannot be checked``; its evidence is a `LookaheadTrials`.

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
        base = recorded_run(make(), window)
        for other in (window.take(slice(0, before + 1)), perturb_future(window, before, random)):
            part = first_change(base, recorded_run(make(), other), before)
            changed += [part] if part else []
        pairs.append((base, recorded_run(make(), perturb_past(window, random))))
    # 3. The verdict
    answers, moved = _moved(pairs)
    has_signals = any(one is not None for one, _ in pairs)
    found = LookaheadTrials(len(moments), before + after, tuple(changed), has_signals, answers, moved, declared)
    return replace(_verdict(found), check="lookahead", evidence=found)


def _verdict(found: LookaheadTrials) -> Finding:
    """Compare what changed with the future, and with the past, with what may and what must."""
    tried = f"{found.moments} moments, each with its future truncated and perturbed"
    unchanged = f"Nothing up to a bar changed with the bars after it ({tried})."
    share = f"with a perturbed past, {100 * found.moved_share:.1f} % of its {found.answers:,} answers changed"
    limit = f"(limit {100 * SMALLEST_MOVED:.0f} %)"
    moves = found.moved_share >= SMALLEST_MOVED
    if found.changed:
        return Finding(
            severity=BROKEN,
            value=float(len(found.changed)),
            limit=0.0,
            message=f"Results up to a bar depend on later bars: in {len(found.changed)} of {2 * found.moments} trials the "
            f"strategy's {found.changed[0]} changed ({tried}).",
            remedy="Let prepare and decide use bars up to t only: no centred window, no negative shift, no access to later "
            "lines.",
        )
    if not found.has_signals:
        return Finding(
            severity=UNCHECKED,
            value=0.0,
            limit=SMALLEST_MOVED,
            message=f"No bar had a signal in any of {found.moments} windows of {found.window_bars:,} bars, so nothing was "
            "tried.",
            remedy="If its warm-up is longer than that, state it as warmup_bars in its class; else choose a range in which it "
            "has signals.",
        )
    if found.reads_bars and not moves:
        return Finding(
            severity=UNCHECKED,
            value=found.moved_share,
            limit=SMALLEST_MOVED,
            message=f"{unchanged} This proves nothing, since its answers hardly depend on the bars: {share} {limit}. They come "
            "from another source, such as a file, a clock or a constant, and nothing here shows whether that was known at the "
            "bar.",
            remedy="It remains to be shown, for each number that it reads from another source, that it was known before the "
            "bar that uses it: recreate that file from bars that end earlier, and compare; or compute it in prepare, from the "
            "bars. If the strategy reads only the clock, declare reads_bars = False in its class.",
        )
    if moves and not found.reads_bars:
        return Finding(
            severity=BROKEN,
            value=found.moved_share,
            limit=SMALLEST_MOVED,
            message=f"It declares reads_bars = False, but {share} {limit}.",
            remedy="Remove reads_bars = False from its class, and verify it again.",
        )
    known = f"Its answers depend on the bars: {share}." if moves else "It declares reads_bars = False, and none changed."
    return Finding(severity=OK, value=0.0, limit=0.0, message=f"{unchanged} {known}")


def recorded_run(strategy: Strategy | type[object], bars: Bars) -> Simulation | None:
    """Return the run over all bars; None if no bar has a signal."""
    from ..data.time_range import TimeRange
    from ..engine.backtest import run_backtest

    try:
        return run_backtest(bars, strategy, timerange=TimeRange(bars.time[0]))
    except RangeError:
        return None


def first_change(one: Simulation | None, other: Simulation | None, t: int) -> str:
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
