"""The results of a sweep in sentences: the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..results.number_text import counted, percent, ratio
from .axes import PARAMETER, axis_title, value_text


def sweep_sentences(values: Mapping[str, Any]) -> list[str]:
    """Return the results in a sweep's manifest as sentences, the most important first."""
    winner = values["winner"]
    result = [_size(values)]
    if winner is None:
        why = "each of them never traded, or lost everything" if values["settings_ruined"] else "none of them traded"
        result.append(f"No setting has a Sharpe ratio: {why}. There is no winner.")
    else:
        row = winner["rows"][0]
        result += [
            (
                f"Best by daily Sharpe ratio: setting {winner['setting']:,}, {setting_label(row, values['varied'])}: Sharpe "
                f"{ratio(row['sharpe_all'])} on the ranked bars ({_returns(winner['rows'])}, buy and hold "
                f"{_returns(winner['buy_and_hold'])})."
            ),
            holdout_sentence(winner["holdout"]),
            deflated_sentence(winner["deflated_sharpe"]),
        ]
    result.append(overfitting_sentence(values["overfitting"]))
    if values["best_mcc"] is not None:
        result.append(mcc_sentence(values))
    result.append(_checked(values))
    if winner is not None:
        result.append(f"Repeat the winner on the hold-out: {winner['run']}")
    return result


def is_unstated(values: Mapping[str, Any]) -> bool:
    """Return whether a sweep's strategy does not declare the bars that it has seen."""
    return "strategy" in values and values["bars_seen"] is None


def _checked(values: Mapping[str, Any]) -> str:
    checked, seconds = values["checked"], values["seconds"]
    if not values.get("fast_replay", True):
        return (
            f"There is no fast replay of the strategy, so every setting was run in Backtrader, which took "
            f"{seconds['replay']:.1f} s."
        )
    return (
        f"Checked in Backtrader: {counted(checked['settings'], 'setting')}, {checked['orders']:,} orders and "
        f"{checked['bars']:,} bars; no order, fill, equity or metric differs. The check took "
        f"{seconds['check']:.1f} s, the replays {seconds['replay']:.1f} s."
    )


def setting_label(row: Mapping[str, Any], varied: list[str]) -> str:
    """Return a setting's values on the axes that the sweep varies, as text."""
    usual = [name for name in ("ckpt", "calibration", "decision") if row[name] is not None]
    names = [name for name in varied if name in row] or usual or [name for name in row if name.startswith(PARAMETER)]
    return ", ".join(f"{axis_title(name)} {value_text(row[name])}" for name in names) or "the only one"


def holdout_sentence(holdout: Mapping[str, Any]) -> str:
    """Return the winner's result on the hold-out as a sentence."""
    winner, benchmark = holdout["strategy"], holdout["buy_and_hold"]
    if holdout["ruined"]:
        return (
            f"On the hold-out {holdout['timerange']}, which no setting was ranked on, it loses everything on "
            f"{holdout['ruined']}: it returns {percent(winner['total_return'], signed=True)} (buy and hold "
            f"{percent(benchmark['total_return'], signed=True)})."
        )
    return (
        f"On the hold-out {holdout['timerange']}, which no setting was ranked on, it has a Sharpe ratio of "
        f"{ratio(winner['sharpe_daily'])} and returns {percent(winner['total_return'], signed=True)} (buy and hold "
        f"{ratio(benchmark['sharpe_daily'])} and {percent(benchmark['total_return'], signed=True)})."
    )


def deflated_sentence(deflated: Mapping[str, Any]) -> str:
    """Return the deflated Sharpe ratio and its trials as a sentence."""
    trials = f"{deflated['trials']:,} trials on these bars" + (
        f" ({deflated['of_this_sweep']:,} of this sweep)" if deflated["trials"] > deflated["of_this_sweep"] else ""
    )
    if deflated["value"] is None:
        return f"Its deflated Sharpe ratio over {trials} is unknown: {deflated['reason']}."
    verdict = "beyond luck" if deflated["value"] >= 0.95 else "not distinguishable from luck (that takes 0.95)"
    return (
        f"Deflated Sharpe ratio over {trials}: {deflated['value']:.3f}, {verdict}; the best of as many trials without skill "
        f"would have a Sharpe ratio of about {deflated['luck']:.2f}."
    )


def mcc_sentence(values: Mapping[str, Any]) -> str:
    """Return the best MCC of the grid, with its limits, as sentences."""
    best = values["best_mcc"]
    return (
        f"Best MCC of signals against labels: {ratio(best['mcc'], 3)}, {setting_label(best, values['varied'])} (signals "
        f"SELL {percent(best['share_sell'])}, HOLD {percent(best['share_hold'])}, BUY {percent(best['share_buy'])}). It was "
        "picked with the labels known, so it is an upper bound for this grid and not an expectation."
    )


def overfitting_sentence(overfitting: Mapping[str, Any] | None) -> str:
    """Return the probability of backtest overfitting as a sentence."""
    if overfitting is None:
        return "Probability of backtest overfitting: unknown, as too few settings traded, or there are too few days."
    return (
        f"Probability of backtest overfitting: {overfitting['probability']:.2f} (the share of "
        f"{overfitting['splits']:,} splits of the days in which the best setting of one half falls below the median on the "
        f"other half; its mean Sharpe ratio goes from "
        f"{overfitting['sharpe_chosen']:.2f} to {overfitting['sharpe_after']:.2f})."
    )


def _size(values: Mapping[str, Any]) -> str:
    ranges = ", ".join(values["ranges"])
    varied = ", ".join(map(axis_title, values["varied"])) or "nothing"
    traded = values["settings_with_sharpe"]
    lost = f", {values['settings_ruined']:,} more lost everything" if values["settings_ruined"] else ""
    return f"{counted(values['settings'], 'setting')} over {ranges}, varying {varied}; {traded:,} traded{lost}." + (
        f" {values['refusal']}" if values.get("refusal") else ""
    )


def _returns(rows: list[Mapping[str, Any]]) -> str:
    return ", ".join(percent(row["total_return"], signed=True) for row in rows)
