"""The funnel: backtest the signals and count how many become orders and fills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data.bars import Bars
from ...data.time_range import TimeRange
from ...models.signals import NO_SIGNAL, Signals
from ...strategies.base import Strategy
from ..check import Check, Symptom
from ..finding import OK, SUSPECT, WARNING, Evidence, Finding, skipped
from ..subject import Subject, highest_class

LARGEST_REJECTED = 0.05
FUNNEL_BARS = 12_000


@dataclass(frozen=True)
class SignalCounts(Evidence):
    """What became of the signals: SELL and BUY signals, orders, fills and rejected orders."""

    active: int
    ordered: int
    filled: int
    submitted: int
    rejected: int


class _FixedSignals(Strategy):
    """Trades given signals."""

    name = "fixed signals"

    def __init__(self, signals: Signals) -> None:
        super().__init__()
        self.signals = signals

    def prepare(self, bars: Bars) -> Signals:
        """Return the given signals."""
        del bars
        return self.signals


def _run(subject: Subject) -> Finding:
    """Backtest the signals and count how many become orders and fills. A SELL while flat is not a trade."""
    from ...engine.backtest import run_backtest

    signals = subject.signals(subject.logits) if subject.signals is not None else Signals.plain(highest_class(subject.logits))
    at = np.flatnonzero((signals.signal != NO_SIGNAL) & subject.tested)[-FUNNEL_BARS:]
    if len(at) < 2:
        return skipped("There is no signal on the tested bars.")
    cut = slice(int(at[0]), int(at[-1]) + 1)
    bars = subject.bars.take(cut)
    strategy = _FixedSignals(Signals(signals.signal[cut], signals.raw[cut]))
    counts = run_backtest(bars, strategy, timerange=TimeRange(bars.time[0])).funnel
    by_class, kept = counts.signal or {}, counts.kept or {}  # None for a plain Backtrader strategy only
    found = SignalCounts(
        active=by_class["SELL"] + by_class["BUY"],
        ordered=counts.ordered or 0,
        filled=counts.filled,
        submitted=counts.submitted,
        rejected=sum(counts.rejected.values()),
    )
    facts = (
        f"Of {counts.scored:,} signals, {by_class['SELL']:,} SELL, {by_class['HOLD']:,} HOLD and {by_class['BUY']:,} BUY, "
        f"{found.ordered:,} became orders and {found.filled:,} were filled; {kept['sell_while_flat']:,} SELL while flat and "
        f"{kept['buy_while_long']:,} BUY while long did nothing, {found.rejected:,} orders were rejected"
    )
    return _verdict(found, facts, str(counts.rejected), len(bars), subject.usable_decision)


def _verdict(found: SignalCounts, facts: str, reasons: str, n_bars: int, decision: str) -> Finding:
    """Return the finding: a strategy that never trades, rejected orders, or neither."""
    active, examined = found.active, {"funnel_bars": n_bars}
    if active and not found.ordered:
        return Finding(
            severity=SUSPECT,
            value=0.0,
            limit=1.0,
            message=f"{facts}: it never trades. Signals are not trades, so a return of 0 is not a result.",
            remedy="Look at the decision and its offsets: a long-only strategy needs a BUY before a SELL has an effect.",
            otherwise="If it traded, at least one signal would become an order.",
            evidence=found,
            examined=examined,
        )
    if found.submitted and found.rejected / found.submitted > LARGEST_REJECTED:
        return Finding(
            severity=SUSPECT,
            value=found.rejected / found.submitted,
            limit=LARGEST_REJECTED,
            message=f"{facts}: {reasons}.",
            remedy="Fix the stated reasons: cash, sizes, shorts.",
            otherwise="Orders for a target exposure are sized at their fill, and filled.",
            evidence=found,
            examined=examined,
        )
    return Finding(
        severity=OK if active else WARNING,
        value=found.ordered / active if active else 0.0,
        limit=0.0,
        message=f"{facts}{'' if active else ': it has neither SELL nor BUY'}.",
        remedy="" if active else f"Act on probabilities: --decision {decision}.",
        evidence=found,
        examined=examined,
    )


CHECK = Check(
    name="funnel",
    rank=150,
    method="count the signals that become orders and fills: a SELL while flat is not a trade",
    run=_run,
    evidence=SignalCounts,
    follows=(Symptom.WRONG_OUTPUT, "shares"),
)
