"""The summary of a run: its signals, fills and verdicts, and its outcome in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.bars import utc
from ..data.labels import CLASS_NAMES, class_shares, label_spec
from ..engine.simulation import Simulation
from ..models.diversity import diversity, mean_probabilities, model_verdict, signal_verdict
from .cost_sensitivity import bars_of_run
from .label_scores import labels_text, probabilities_of
from .metrics import Metrics, metrics
from .number_text import counted, percent, whole
from .run_view import ruined_at
from .significance.too_good import too_good_verdict

REMEDIES = {"short not allowed": "--short lets a strategy sell what it does not hold"}


def summary(run: Simulation, benchmark: Simulation) -> dict[str, Any]:
    """Summarise a run for its record and its page.

    Returns
    -------
    dict
        JSON values:

        - ``sentence``: the outcome in one sentence, after another one where the account has lost everything;
        - ``ruined``: the bar at whose close it had lost everything, ISO UTC, or None;
        - ``metrics``: ``strategy`` and ``benchmark``, see `flagbt.results.metrics.metrics`;
        - ``diversity``: ``raw`` (uncalibrated) and ``final`` signals, see `flagbt.models.diversity.diversity`; None for
          a run without signals;
        - ``fills``: orders by outcome, and filled ones by side;
        - ``verdicts``: ``signal`` (of the final signals), ``model`` (of the probabilities before calibration, so that a
          calibration cannot hide a collapse) and ``calibrated`` (of those after it); each None where it is undefined; and
          ``result``, None unless it is too good to be true (`flagbt.results.significance.too_good.too_good_verdict`).
    """
    measured = {"strategy": metrics(run), "benchmark": metrics(benchmark)}
    described = _diversity(run)
    verdicts = _verdicts(run, described)
    lost = ruined_at(run)
    ruined = None if lost is None else utc(lost.to_datetime64())
    return {
        "sentence": (f"Lost everything on {ruined}. " if ruined else "") + _sentence(run, measured, described, verdicts),
        "ruined": ruined,
        "metrics": {side: found.to_json() for side, found in measured.items()},
        "diversity": described,
        "fills": fills(run),
        "verdicts": verdicts,
    }


def fills(run: Simulation) -> dict[str, Any]:
    """Count the orders by status (filled, rejected, zero_size, unfilled) and the filled ones by side."""
    orders = run.orders
    filled = orders[orders["status"] == "filled"]
    size = filled["size"].to_numpy(dtype=np.float64)
    return {
        "orders": len(orders),
        "by_status": {
            str(name).replace("-", "_"): int(count) for name, count in orders["status"].value_counts().sort_index().items()
        },
        "BUY": int((size > 0).sum()),
        "SELL": int((size < 0).sum()),
    }


def order_counts(funnel: Mapping[str, Any]) -> str:
    """Describe the outcomes of a run's orders from its funnel, with every reason for a rejection."""
    reasons = {funnel_reasons(why): count for why, count in funnel["rejected"].items()}
    rejected = ", ".join(why if len(reasons) == 1 else f"{whole(count)} × {why}" for why, count in reasons.items())
    counts = {
        "filled": funnel["filled"],
        f"rejected ({rejected})": sum(funnel["rejected"].values()),
        "smaller than one lot": funnel["zero_size"] or 0,
        "unfilled": funnel["unfilled"],
    }
    return ", ".join(f"{whole(count)} {what}" for what, count in counts.items() if count) or "none"


def funnel_reasons(reason: str) -> str:
    """Return the reason of a rejection, with its remedy where there is one."""
    return f"{reason}; {REMEDIES[reason]}" if reason in REMEDIES else reason


def _diversity(run: Simulation) -> dict[str, Any] | None:
    if run.signals is None:
        return None
    labels = (run.checkpoint or {}).get("label_shares")
    raw, calibrated = probabilities_of(run) or (None, None)
    return {
        "raw": diversity(run.signals["raw_signal"].to_numpy(), raw, labels),
        "final": diversity(run.signals["signal"].to_numpy(), calibrated, labels),
    }


def _verdicts(run: Simulation, described: dict[str, Any] | None) -> dict[str, Any]:
    raw, calibrated = probabilities_of(run) or (None, None)
    labels, whose = (run.checkpoint or {}).get("label_shares"), "the training labels'"
    if labels is None and raw is not None and (text := labels_text(run)) is not None:
        own = label_spec(text).labels(bars_of_run(run))
        labels, whose = (class_shares(own), f"these bars' own labels' ({text})") if (own >= 0).any() else (None, whose)
    return {
        "signal": None if described is None else signal_verdict(described["final"]),
        "model": model_verdict(mean_probabilities(raw), labels, whose=whose),
        "calibrated": model_verdict(mean_probabilities(calibrated), labels, whose=whose),
        "result": too_good_verdict(run),
    }


def _sentence(
    run: Simulation, measured: Mapping[str, Metrics], described: dict[str, Any] | None, verdicts: dict[str, Any]
) -> str:
    mine, theirs = measured["strategy"], measured["benchmark"]
    against = f"against {percent(theirs.total_return, signed=True)} for buy and hold"
    if _collapsed(verdicts):
        final = described["final"] if described else {}
        name = max(CLASS_NAMES, key=lambda each: final["shares"][each])
        sure = (final["confidence"] or {}).get(name)
        confidence = f" at a mean confidence of {percent(sure['mean'])}" if sure else ""
        return (
            f"Collapsed: {name} on {percent(final['shares'][name])} of {whole(final['scored_bars'])} scored bars"
            f"{confidence}; "
            f"{whole(mine.trades)} trades, returned {percent(mine.total_return, signed=True)} {against}."
        )
    if run.orders.empty:
        return f"Never traded: {counted(mine.bars, 'bar')}, 0 orders, because {_why_no_orders(described)}."
    if run.trades.empty:
        return f"Never traded: {counted(mine.bars, 'bar')}, {_outcomes(run)}, none filled."
    count, still = mine.trades, f" ({mine.open_trades} still open)" if mine.open_trades else ""
    times = "once" if count == 1 else f"{whole(count)} times"
    return f"Traded {times}{still}, returned {percent(mine.total_return, signed=True)} {against}."


def _collapsed(verdicts: dict[str, Any]) -> bool:
    """Return whether the headline is the model's collapse; it is not if calibration has fixed it and signals vary."""
    model, calibrated, signal = verdicts["model"], verdicts["calibrated"], verdicts["signal"]
    if model is None or signal is None or model["verdict"] != "collapsed":
        return False
    return calibrated is None or calibrated["verdict"] == "collapsed" or signal["verdict"] == "one-sided"


def _why_no_orders(described: dict[str, Any] | None) -> str:
    if described is None:
        return "the strategy placed none"
    final = described["final"]
    if not final["scored_bars"]:
        return "no bar was scored: the warm-up is longer than the range"
    given = [name for name in CLASS_NAMES if final["counts"][name]]
    if len(given) == 1:
        return f"every signal was {given[0]}" + (", which does nothing while flat" if given[0] == "SELL" else "")
    if "BUY" not in given:
        return f"no signal was BUY: {whole(final['counts']['SELL'])} SELL signals do nothing while flat"
    return "no signal changed the position"


def _outcomes(run: Simulation) -> str:
    counts = run.orders["status"].value_counts().sort_index()
    reasons = run.orders["reason"].fillna("").replace("", np.nan).dropna()
    why = f" (most often: {funnel_reasons(reasons.mode().iloc[0])})" if len(reasons) else ""
    return ", ".join(f"{counted(int(count), 'order')} {name}" for name, count in counts.items()) + why
