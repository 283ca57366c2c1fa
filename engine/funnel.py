"""The funnel: the path of every signal from bars to fills, in counts that add up exactly.

    bars = no_signal + scored
    scored = raw SELL + HOLD + BUY = signal SELL + HOLD + BUY
    scored + unprompted = kept (all reasons) + ordered
    ordered = submitted
    submitted = zero_size + rejected (all reasons) + unfilled + filled

``raw`` counts the model's own classes, ``signal`` the classes after calibration and decision, ``kept`` the scored bars
whose decision changed nothing, by reason. ``exits`` counts the orders that a rule decided (``engine.rules``), ``unprompted``
those of them at bars without a signal. A reversal is one order, here and in the orders table. ``zero_size`` is known at the
fill, like the size itself; ``unfilled`` are the orders of the last bar. Once the account has lost everything, the order that
closes it is an exit by ``ruin``, and all later bars are kept as ``ruined``.
A plain Backtrader strategy has no signals: its funnel starts at ``submitted``, and the counts before that are None. The order
that closes its ruined account is counted as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..arrays import FloatArray, IntArray
from ..data.labels import BUY, CLASS_NAMES, HOLD, SELL, ClassCounts, class_counts
from ..models.signals import NO_SIGNAL, Signals
from ..storage.json_records import JsonRecord
from .broker import OrderRecord
from .rules import EXITS, WAITS

KEPT = ("hold", "buy_while_long", "sell_while_flat", "sell_while_short", *WAITS.values(), "other")


class FunnelError(AssertionError):
    """The counts do not add up: always a defect of flagbt, never of a user's code."""


@dataclass(frozen=True, kw_only=True)
class Funnel(JsonRecord):
    """The counts of this module's docstring; those before ``submitted`` are None for a plain Backtrader strategy.

    ``unprompted`` and ``exits`` are None in old records too.

    Raises
    ------
    ValueError
        Where only some of the counts before ``submitted`` are None.
    """

    bars: int
    no_signal: int | None = None
    scored: int | None = None
    raw: ClassCounts | None = None
    signal: ClassCounts | None = None
    unprompted: int | None = None
    kept: Mapping[str, int] | None = None
    ordered: int | None = None
    exits: Mapping[str, int] | None = None
    submitted: int
    zero_size: int | None = None
    rejected: Mapping[str, int]
    unfilled: int
    filled: int

    def __post_init__(self) -> None:
        known = {name: getattr(self, name) is not None for name in ("no_signal", "scored", "raw", "signal", "kept", "ordered")}
        if any(known.values()) and not all(known.values()):
            raise ValueError(f"the funnel lacks {', '.join(name for name, found in known.items() if not found)}")

    def check(self) -> None:
        """Check every identity of this module's docstring; not those of an old version's record, which had others.

        Raises
        ------
        FunnelError
            Naming the first that does not hold.
        """
        outcomes = ("zero_size", "rejected", "unfilled", "filled")
        sums = [("submitted", " + ".join(outcomes), self._total(*outcomes))]
        if self.scored is not None:
            sums += [
                ("bars", "no_signal + scored", self._total("no_signal", "scored")),
                ("scored", "raw", self._total("raw")),
                ("scored", "signal", self._total("signal")),
                ("scored", "kept + ordered - unprompted", self._total("kept", "ordered") - self._total("unprompted")),
                ("ordered", "submitted", self.submitted),
            ]
        for whole, parts, total in sums:
            if getattr(self, whole) != total:
                raise FunnelError(f"the funnel leaks: {whole} is {getattr(self, whole)}, but {parts} is {total}, in {self}")

    def _total(self, *names: str) -> int:
        parts = [getattr(self, name) for name in names]
        return sum(sum(part.values()) if isinstance(part, Mapping) else part or 0 for part in parts)


class Decisions(NamedTuple):
    """Each bar's exposure in force before its decision, and the code of the rule that changed it; shape (n_bars,) each."""

    before: FloatArray
    why: IntArray


def build_funnel(
    n_bars: int, records: Sequence[OrderRecord], signals: Signals | None = None, decided: Decisions | None = None
) -> Funnel:
    """Count where every bar's signal went, and check that the counts add up.

    Parameters
    ----------
    n_bars : int
        Bars traded.
    records : sequence of OrderRecord
        Every order, zero-size ones included.
    signals : Signals, optional
        Of the traded bars; None for a plain Backtrader strategy.
    decided : Decisions, optional
        Required with ``signals``.

    Raises
    ------
    FunnelError
        When they do not.
    """
    states = Counter(record.status for record in records)
    rejected = Counter(record.reason for record in records if record.status == "rejected")
    funnel = Funnel(
        bars=n_bars,
        submitted=len(records),
        zero_size=states["zero-size"],
        rejected=dict(sorted(rejected.items())),
        unfilled=states["unfilled"],
        filled=states["filled"],
    )
    if signals is not None and decided is not None:
        scored = signals.signal != NO_SIGNAL
        ordered = np.zeros(n_bars, dtype=np.bool_)
        ordered[[record.decided for record in records]] = True
        funnel = replace(
            funnel,
            no_signal=int(n_bars - scored.sum()),
            scored=int(scored.sum()),
            raw=_by_name(signals.raw),
            signal=_by_name(signals.signal),
            unprompted=int((ordered & ~scored).sum()),
            kept=_kept(signals.signal, decided, scored & ~ordered),
            ordered=int(ordered.sum()),
            exits={name: count for code, name in EXITS.items() if (count := int((ordered & (decided.why == code)).sum()))},
        )
    funnel.check()
    return funnel


def _by_name(values: IntArray) -> dict[str, int]:
    return dict(zip(CLASS_NAMES, class_counts(values).tolist(), strict=True))


def _kept(signal: IntArray, decided: Decisions, kept: np.typing.NDArray[np.bool_]) -> dict[str, int]:
    before = decided.before
    reasons = [decided.why == code for code in WAITS]
    waits = np.isin(decided.why, list(WAITS))
    plain = (signal == HOLD, (signal == BUY) & (before > 0), (signal == SELL) & (before == 0), (signal == SELL) & (before < 0))
    counts = [int((kept & ~waits & reason).sum()) for reason in plain] + [int((kept & reason).sum()) for reason in reasons]
    return dict(zip(KEPT, [*counts, int(kept.sum()) - sum(counts)], strict=True))
