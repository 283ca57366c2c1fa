"""The results of a sweep in sentences: the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..arrays import JsonValue
from ..results.number_text import counted, percent, ratio
from ..results.significance.backtest_overfitting import Overfitting
from .axes import PARAMETER, axis_title, value_text
from .sweep_record import HoldoutResult, SweepRecord, TableRow, WinnerDeflated, number_in


def sweep_sentences(values: SweepRecord) -> list[str]:
    """Return the results of a sweep as sentences, the most important first."""
    winner = values.winner
    result = [_size(values)]
    if winner is None:
        why = "each of them never traded, or lost everything" if values.settings_ruined else "none of them traded"
        result.append(f"No setting has a Sharpe ratio: {why}. There is no winner.")
    else:
        row = winner.rows[0]
        result += [
            (
                f"Best by daily Sharpe ratio: setting {winner.setting:,}, {setting_label(row, values.varied)}: Sharpe "
                f"{ratio(number_in(row, 'sharpe_all'))} on the ranked bars ({_returns(winner.rows)}, buy and hold "
                f"{_returns(winner.buy_and_hold)})."
            ),
            holdout_sentence(winner.holdout),
            deflated_sentence(winner.deflated_sharpe),
        ]
    result.append(overfitting_sentence(values.overfitting))
    if values.best_mcc is not None:
        result.append(mcc_sentence(values.best_mcc, values.varied))
    result.append(_checked(values))
    if winner is not None:
        result.append(f"Repeat the winner on the hold-out: {winner.run}")
    return result


def _checked(values: SweepRecord) -> str:
    checked, seconds = values.checked, values.seconds
    if not values.fast_replay:
        return (
            f"There is no fast replay of the strategy, so every setting was run in Backtrader, which took "
            f"{seconds['replay']:.1f} s."
        )
    return (
        f"Checked in Backtrader: {counted(checked.settings, 'setting')}, {checked.orders:,} orders and "
        f"{checked.bars:,} bars; no order, fill, equity or metric differs. The check took "
        f"{seconds['check']:.1f} s, the replays {seconds['replay']:.1f} s."
    )


def setting_label(row: TableRow, varied: Sequence[str]) -> str:
    """Return a setting's values on the axes that the sweep varies, as text."""
    usual = [name for name in ("ckpt", "calibration", "decision") if row[name] is not None]
    names = [name for name in varied if name in row] or usual or [name for name in row if name.startswith(PARAMETER)]
    return ", ".join(f"{axis_title(name)} {value_text(row[name])}" for name in names) or "the only one"


def holdout_sentence(holdout: HoldoutResult) -> str:
    """Return the winner's result on the hold-out as a sentence."""
    winner, benchmark = holdout.strategy, holdout.buy_and_hold
    if holdout.ruined:
        return (
            f"On the hold-out {holdout.timerange}, which no setting was ranked on, it loses everything on "
            f"{holdout.ruined}: it returns {percent(winner['total_return'], signed=True)} (buy and hold "
            f"{percent(benchmark['total_return'], signed=True)})."
        )
    return (
        f"On the hold-out {holdout.timerange}, which no setting was ranked on, it has a Sharpe ratio of "
        f"{ratio(winner['sharpe_daily'])} and returns {percent(winner['total_return'], signed=True)} (buy and hold "
        f"{ratio(benchmark['sharpe_daily'])} and {percent(benchmark['total_return'], signed=True)})."
    )


def deflated_sentence(deflated: WinnerDeflated) -> str:
    """Return the deflated Sharpe ratio and its trials as a sentence."""
    trials = f"{deflated.trials:,} trials on these bars" + (
        f" ({deflated.of_this_sweep:,} of this sweep)" if deflated.trials > deflated.of_this_sweep else ""
    )
    if deflated.value is None:
        return f"Its deflated Sharpe ratio over {trials} is unknown: {deflated.reason}."
    verdict = "beyond luck" if deflated.value >= 0.95 else "not distinguishable from luck (that takes 0.95)"
    return (
        f"Deflated Sharpe ratio over {trials}: {deflated.value:.3f}, {verdict}; the best of as many trials without skill "
        f"would have a Sharpe ratio of about {deflated.luck:.2f}."
    )


def mcc_sentence(best: TableRow, varied: Sequence[str]) -> str:
    """Return the best MCC of the grid, the row that has it, with its limits, as sentences."""
    return (
        f"Best MCC of signals against labels: {ratio(number_in(best, 'mcc'), 3)}, {setting_label(best, varied)} (signals "
        f"SELL {percent(number_in(best, 'share_sell'))}, HOLD {percent(number_in(best, 'share_hold'))}, BUY "
        f"{percent(number_in(best, 'share_buy'))}). It was "
        "picked with the labels known, so it is an upper bound for this grid and not an expectation."
    )


def overfitting_sentence(overfitting: Overfitting | None) -> str:
    """Return the probability of backtest overfitting as a sentence."""
    if overfitting is None:
        return "Probability of backtest overfitting: unknown, as too few settings traded, or there are too few days."
    return (
        f"Probability of backtest overfitting: {overfitting.probability:.2f} (the share of "
        f"{overfitting.splits:,} splits of the days in which the best setting of one half falls below the median on the "
        f"other half; its mean Sharpe ratio goes from "
        f"{overfitting.sharpe_chosen:.2f} to {overfitting.sharpe_after:.2f})."
    )


def _size(values: SweepRecord) -> str:
    ranges = ", ".join(values.ranges)
    varied = ", ".join(map(axis_title, values.varied)) or "nothing"
    traded = values.settings_with_sharpe
    lost = f", {values.settings_ruined:,} more lost everything" if values.settings_ruined else ""
    return f"{counted(values.settings, 'setting')} over {ranges}, varying {varied}; {traded:,} traded{lost}." + (
        f" {values.refusal}" if values.refusal else ""
    )


def _returns(rows: Sequence[Mapping[str, JsonValue]]) -> str:
    return ", ".join(percent(number_in(row, "total_return"), signed=True) for row in rows)
