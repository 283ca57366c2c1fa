"""The summary of a run: its signals, fills and verdicts, and its outcome in one sentence and in counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..data.bars import utc
from ..data.labels import CLASS_NAMES, class_shares, label_spec
from ..engine.funnel import Funnel
from ..engine.simulation import Simulation
from ..models.diversity import Diversity, diversity, mean_probabilities, model_verdict, signal_verdict
from .cost_sensitivity import bars_of_run
from .label_scores import labels_text, probabilities_of
from .metrics import Metrics
from .number_text import counted, percent, whole
from .run_info import Fills, RunDiversity, Verdicts
from .run_record import RunRecord
from .run_view import ruined_at
from .significance.too_good import too_good_verdict

REMEDIES = {"short not allowed": "--short lets a strategy sell what it does not hold"}


def order_counts(funnel: Funnel) -> str:
    """Describe the outcomes of a run's orders from its funnel, with every reason for a rejection."""
    reasons = {funnel_reasons(why): count for why, count in funnel.rejected.items()}
    rejected = ", ".join(why if len(reasons) == 1 else f"{whole(count)} × {why}" for why, count in reasons.items())
    counts = {
        "filled": funnel.filled,
        f"rejected ({rejected})": sum(funnel.rejected.values()),
        "smaller than one lot": funnel.zero_size or 0,
        "unfilled": funnel.unfilled,
    }
    return ", ".join(f"{whole(count)} {what}" for what, count in counts.items() if count) or "none"


def given_signals_text(record: RunRecord) -> str | None:
    """Describe the signals that were computed elsewhere, and how many of the traded bars have one; None for a strategy."""
    settings, funnel = record.settings, record.funnel
    if (digest := settings.signals_digest) is None:
        return None
    name, known = settings.get("signals") or "given in Python", funnel.bars - (funnel.no_signal or 0)
    return f"signals for {whole(known)} of {whole(funnel.bars)} traded bars: {name}, digest {digest[:12]}"


def funnel_reasons(reason: str) -> str:
    """Return the reason of a rejection, with its remedy where there is one."""
    return f"{reason}; {REMEDIES[reason]}" if reason in REMEDIES else reason


def fills_of(run: Simulation) -> Fills:
    """Count the orders of a run."""
    orders = run.orders
    size = orders.loc[orders["status"] == "filled", "size"].to_numpy(dtype=np.float64)
    counts = orders["status"].value_counts().sort_index()
    return Fills(
        orders=len(orders),
        by_status={str(name).replace("-", "_"): int(count) for name, count in counts.items()},
        BUY=int((size > 0).sum()),
        SELL=int((size < 0).sum()),
    )


def diversity_of(run: Simulation) -> RunDiversity | None:
    """Describe the signals of a run, None where it has none."""
    if run.signals is None:
        return None
    labels = None if run.checkpoint is None else run.checkpoint.label_shares
    raw, calibrated = probabilities_of(run) or (None, None)
    return RunDiversity(
        raw=diversity(run.signals["raw_signal"].to_numpy(), raw, labels),
        final=diversity(run.signals["signal"].to_numpy(), calibrated, labels),
    )


def verdicts_of(run: Simulation, described: RunDiversity | None) -> Verdicts:
    """Return the verdicts on a run and its model."""
    raw, calibrated = probabilities_of(run) or (None, None)
    labels: npt.ArrayLike | None = None if run.checkpoint is None else run.checkpoint.label_shares
    whose = "the training labels'"
    if labels is None and raw is not None and (text := labels_text(run)) is not None:
        own = label_spec(text).labels(bars_of_run(run))
        labels, whose = (class_shares(own), f"these bars' own labels' ({text})") if (own >= 0).any() else (None, whose)
    return Verdicts(
        signal=None if described is None else signal_verdict(described.final),
        model=model_verdict(mean_probabilities(raw), labels, whose=whose),
        calibrated=model_verdict(mean_probabilities(calibrated), labels, whose=whose),
        result=too_good_verdict(run),
    )


def sentence_of(run: Simulation, measured: Metrics, held: Metrics, described: RunDiversity | None, verdicts: Verdicts) -> str:
    """Return a run's outcome in one sentence, after another one where the account has lost everything.

    Parameters
    ----------
    measured, held : Metrics
        The metrics of the run and of buy and hold.
    """
    lost = ruined_at(run)
    ruined = "" if lost is None else f"Lost everything on {utc(lost.to_datetime64())}. "
    return ruined + _outcome(run, measured, held, None if described is None else described.final, verdicts)


def _outcome(run: Simulation, measured: Metrics, held: Metrics, final: Diversity | None, verdicts: Verdicts) -> str:
    returned = f"returned {percent(measured.total_return, signed=True)}"
    against = f"against {percent(held.total_return, signed=True)} for buy and hold"
    if final is not None and final.shares is not None and _collapsed(verdicts):
        shares = final.shares
        name = max(CLASS_NAMES, key=lambda each: shares[each])
        sure = None if final.confidence is None else final.confidence[name]
        confidence = f" at a mean confidence of {percent(sure.mean)}" if sure else ""
        return (
            f"Collapsed: {name} on {percent(shares[name])} of {whole(final.scored_bars)} scored bars{confidence}; "
            f"{whole(measured.trades)} trades, {returned} {against}."
        )
    if run.orders.empty:
        return f"Never traded: {counted(measured.bars, 'bar')}, 0 orders, because {_why_no_orders(final)}."
    if run.trades.empty:
        return f"Never traded: {counted(measured.bars, 'bar')}, {_order_outcomes(run)}, none filled."
    count, still = measured.trades, f" ({measured.open_trades} still open)" if measured.open_trades else ""
    times = "once" if count == 1 else f"{whole(count)} times"
    return f"Traded {times}{still}, {returned} {against}."


def _collapsed(verdicts: Verdicts) -> bool:
    """Return whether the headline is the model's collapse; it is not if calibration has fixed it and signals vary."""
    model, calibrated, signal = verdicts.model, verdicts.calibrated, verdicts.signal
    if model is None or signal is None or model.verdict != "collapsed":
        return False
    return calibrated is None or calibrated.verdict == "collapsed" or signal.verdict == "one-sided"


def _why_no_orders(final: Diversity | None) -> str:
    if final is None:
        return "the strategy placed none"
    if not final.scored_bars:
        return "no bar was scored: the warm-up is longer than the range"
    given = [name for name in CLASS_NAMES if final.counts[name]]
    if len(given) == 1:
        return f"every signal was {given[0]}" + (", which does nothing while flat" if given[0] == "SELL" else "")
    if "BUY" not in given:
        return f"no signal was BUY: {whole(final.counts['SELL'])} SELL signals do nothing while flat"
    return "no signal changed the position"


def _order_outcomes(run: Simulation) -> str:
    counts = run.orders["status"].value_counts().sort_index()
    reasons = run.orders["reason"].fillna("").replace("", np.nan).dropna()
    why = f" (most often: {funnel_reasons(reasons.mode().iloc[0])})" if len(reasons) else ""
    return ", ".join(f"{counted(int(count), 'order')} {name}" for name, count in counts.items()) + why
