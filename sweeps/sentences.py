"""What a sweep found, in sentences: the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..results.number_text import percent, ratio


def sentences(values: Mapping[str, Any]) -> list[str]:
    """Return the findings of a sweep's manifest, the most important first."""
    winner, checked = values["winner"], values["checked"]
    said = [_size(values)]
    if winner is None:
        why = "each of them never traded, or lost everything" if values["settings_ruined"] else "none of them traded"
        said.append(f"No setting has a Sharpe ratio: {why}. There is no winner.")
    else:
        row = winner["rows"][0]
        said += [
            (
                f"Best by daily Sharpe ratio: setting {winner['setting']:,}, {setting_words(row, values['varied'])}: Sharpe "
                f"{ratio(row['sharpe_all'])} on the ranked bars ({_returns(winner['rows'])}, buy and hold "
                f"{_returns(winner['buy_and_hold'])})."
            ),
            holdout_sentence(winner["holdout"]),
            deflated_sentence(winner["deflated_sharpe"]),
        ]
    said.append(overfitting_sentence(values["overfitting"]))
    if values["best_mcc"] is not None:
        said.append(mcc_sentence(values))
    said.append(
        f"Checked in Backtrader: {_count(checked['settings'])}, {checked['orders']:,} orders and {checked['bars']:,} "
        f"bars; no order, fill, equity or metric differs. It took {values['seconds']['check']:.1f} s, the replays "
        f"{values['seconds']['replay']:.1f} s."
    )
    if winner is not None:
        said.append(f"Repeat the winner on the hold-out: {winner['run']}")
    return said


def setting_words(row: Mapping[str, Any], varied: list[str]) -> str:
    """Name a setting by what the sweep varies, as `flagbt run` writes it."""
    names = [name for name in varied if name in row] or ["ckpt", "calibration", "decision"]
    return ", ".join(f"{name.replace('_', ' ')} {_word(row[name])}" for name in names)


def holdout_sentence(holdout: Mapping[str, Any]) -> str:
    """Say what became of the winner on bars it was not ranked on."""
    mine, kept = holdout["strategy"], holdout["buy_and_hold"]
    if holdout["ruined"]:
        return (
            f"On the hold-out {holdout['timerange']}, which no setting was ranked on, it loses everything on "
            f"{holdout['ruined']}: it returns {percent(mine['total_return'], signed=True)} (buy and hold "
            f"{percent(kept['total_return'], signed=True)})."
        )
    return (
        f"On the hold-out {holdout['timerange']}, which no setting was ranked on, it has a Sharpe ratio of "
        f"{ratio(mine['sharpe_daily'])} and returns {percent(mine['total_return'], signed=True)} (buy and hold "
        f"{ratio(kept['sharpe_daily'])} and {percent(kept['total_return'], signed=True)})."
    )


def deflated_sentence(deflated: Mapping[str, Any]) -> str:
    """Say what the deflated Sharpe ratio is, and by what."""
    trials = f"{deflated['trials']:,} trials on these bars" + (
        f" ({deflated['of_this_sweep']:,} of this sweep)" if deflated["trials"] > deflated["of_this_sweep"] else ""
    )
    if deflated["value"] is None:
        return f"Its deflated Sharpe ratio over {trials} is not known: {deflated['reason']}."
    verdict = "beyond luck" if deflated["value"] >= 0.95 else "not told from luck (that takes 0.95)"
    return (
        f"Deflated Sharpe ratio over {trials}: {deflated['value']:.3f}, {verdict}; the best of as many without any skill would "
        f"have a Sharpe ratio of about {deflated['luck']:.2f}."
    )


def mcc_sentence(values: Mapping[str, Any]) -> str:
    """Say what the best MCC of the grid is, and what it is worth."""
    best = values["best_mcc"]
    return (
        f"Best MCC of signals against labels: {ratio(best['mcc'], 3)}, {setting_words(best, values['varied'])} (signals "
        f"SELL {percent(best['share_sell'])}, HOLD {percent(best['share_hold'])}, BUY {percent(best['share_buy'])}). It was "
        "picked with the labels known: no setting of this grid gets more, and none may expect as much."
    )


def overfitting_sentence(overfitting: Mapping[str, Any] | None) -> str:
    """Say what the probability of backtest overfitting is."""
    if overfitting is None:
        return "Probability of backtest overfitting: not known, there are too few settings that traded, or too few days."
    return (
        f"Probability of backtest overfitting: {overfitting['probability']:.2f} (in {overfitting['splits']:,} splits of the "
        f"days, the best setting of one half falls below the median on the other that often; its mean Sharpe ratio goes from "
        f"{overfitting['sharpe_chosen']:.2f} to {overfitting['sharpe_after']:.2f})."
    )


def _size(values: Mapping[str, Any]) -> str:
    ranges = ", ".join(values["ranges"])
    varied = ", ".join(name.replace("_", " ") for name in values["varied"]) or "nothing"
    traded = values["settings_with_sharpe"]
    lost = f", {values['settings_ruined']:,} more lost everything" if values["settings_ruined"] else ""
    return f"{_count(values['settings'])} over {ranges}, varying {varied}; {traded:,} traded{lost}."


def _count(n: int) -> str:
    return f"{n:,} setting" + ("" if n == 1 else "s")


def _returns(rows: list[Mapping[str, Any]]) -> str:
    return ", ".join(percent(row["total_return"], signed=True) for row in rows)


def _word(value: Any) -> str:
    return (
        "none"
        if value is None
        else "yes"
        if value is True
        else "no"
        if value is False
        else (f"{value:g}" if isinstance(value, float) else str(value))
    )
