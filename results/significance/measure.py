"""Measure a run's significance in one call: six answers, each with its sentence, and the verdict from them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...arrays import FloatArray
from ...engine.simulation import Simulation
from ..metrics import daily_sharpe
from ..run_view import DAYS_PER_YEAR, daily_returns
from ..trial_log import TrialCount
from .answer import Answer, Kind, LuckVerdict, Significance
from .bootstrap import RESAMPLES, SharpeInterval, sharpe_interval
from .random_entries import random_entries
from .sharpe_ratio import CONFIDENCE, Moments, deflated_sharpe, expected_best, minimum_track_record, probabilistic_sharpe

FEWEST_DAYS = 30  # below, the formulas' normal approximation is not valid
LEVEL = 0.9
YEAR = math.sqrt(DAYS_PER_YEAR)
_PSR_PAPER = "Bailey and Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier, Journal of Risk 15(2)"
_BOOTSTRAP_PAPER = (
    "Politis and Romano (1994), The Stationary Bootstrap, JASA 89(428); block length by Politis and White (2004) and Patton, "
    "Politis and White (2009), Econometric Reviews 23(1) and 28(4)"
)
PROBABILISTIC = Kind(
    "probabilistic Sharpe ratio",
    "probability",
    "Phi(S sqrt(T - 1) / sqrt(1 - g3 S + (g4 - 1) S^2 / 4)), S the daily Sharpe ratio of T days, g3 and g4 skewness and "
    "kurtosis of the daily returns",
    _PSR_PAPER,
)
TRACK_RECORD = Kind(
    "minimum track record length",
    "days",
    "1 + (1 - g3 S + (g4 - 1) S^2 / 4) (Phi^-1(0.95) / S)^2, symbols as in the probabilistic Sharpe ratio",
    _PSR_PAPER,
)
DEFLATED = Kind(
    "deflated Sharpe ratio",
    "probability",
    "Phi((S - S0) sqrt(T - 1) / sqrt(1 - g3 S + (g4 - 1) S^2 / 4)), S0 = sqrt(V) ((1 - c) Phi^-1(1 - 1/N) + c Phi^-1(1 - "
    "1/(N e))), N the trials, V the variance of their Sharpe ratios, c = 0.5772",
    "Bailey and Lopez de Prado (2014), The Deflated Sharpe Ratio, Journal of Portfolio Management 40(5)",
)
INTERVAL = Kind(
    "confidence interval of the Sharpe ratio",
    "Sharpe ratio a year",
    f"[S - q95 e, S - q5 e], q5 and q95 the quantiles of (S* - S) / e* over {RESAMPLES:,} stationary-bootstrap resamples, e "
    "and e* the Newey-West errors of S and S*",
    _BOOTSTRAP_PAPER,
)
DIFFERENCE = Kind(
    "difference of the Sharpe ratio to buy and hold's",
    "Sharpe ratio a year",
    "the same for S less the Sharpe ratio of buy and hold, the days of both drawn together",
    _BOOTSTRAP_PAPER + "; studentised as in Ledoit and Wolf (2008), Robust performance hypothesis testing with the Sharpe "
    "ratio, Journal of Empirical Finance 15(5)",
)
ENTRIES = Kind(
    "comparison with random entries",
    "p-value",
    "(1 + number of draws with a Sharpe ratio of at least the run's) / (1 + draws)",
    "Davison and Hinkley (1997), Bootstrap Methods and their Application, section 4.2 (Monte Carlo tests)",
)


def significance(run: Simulation, benchmark: Simulation, trials: TrialCount, *, seed: int = 0) -> Significance:
    """Measure how much of a run's Sharpe ratio could be luck.

    Parameters
    ----------
    run, benchmark : Simulation
        Over the same bars.
    trials : TrialCount
        All trials on these bars, the run included: `flagbt.results.trial_log.TrialLog.count`.
    seed : int
        Of the bootstrap and the random entries: the same seed gives the same numbers.

    Returns
    -------
    Significance
        Sharpe ratios are annualised by 365 days.
    """
    own, theirs = _daily(run), _daily(benchmark)
    why = _why_undefined(run, own)
    deflated, interval, entries = _deflated(own, trials, why), _interval(own, why, seed), _entries(run, own, seed)
    return Significance(
        probabilistic_sharpe=_probabilistic(own, why),
        minimum_track_record=_track_record(own, why),
        deflated_sharpe=deflated,
        sharpe_interval=interval,
        difference_interval=_difference(own, theirs, why, _why_undefined(benchmark, theirs), seed),
        random_entries=entries,
        verdict=verdict(deflated, interval, entries),
    )


def verdict(deflated: Answer, interval: Answer, entries: Answer) -> LuckVerdict:
    """Return whether a run is distinguishable from luck.

    Returns
    -------
    LuckVerdict
        ``beyond_luck`` is True where the deflated Sharpe ratio is at least 0.95, the interval of the Sharpe ratio is above 0,
        and random entries, where known, do as well in at most 1 draw of 20; None where one of the first two is undefined.
        The random entries matter because any holder has a Sharpe ratio above 0 in a rising market.
    """
    unknown = next((each for each in (deflated, interval) if each.value is None), None)
    if unknown is not None:
        return LuckVerdict(None, f"It is not known whether this is luck: {unknown.reason}.")
    assert deflated.value is not None
    assert interval.low is not None
    if deflated.value < CONFIDENCE or interval.low <= 0:
        return LuckVerdict(False, "Not distinguishable from luck.")
    if entries.value is not None and entries.value > 1 - CONFIDENCE:
        return LuckVerdict(
            False,
            "A gain beyond luck, but trades of the same lengths at random times do as well: it comes from the market, not from "
            "the timing.",
        )
    tests = ", the interval and the random entries" if entries.value is not None else " and the interval"
    return LuckVerdict(True, f"Not explained by luck alone, according to the deflated Sharpe ratio{tests}.")


def _daily(run: Simulation) -> FloatArray:
    return np.asarray(daily_returns(run), dtype=np.float64)


def _why_undefined(run: Simulation, returns: FloatArray) -> str | None:
    """Return why a run's Sharpe ratio cannot be tested, or None where it can."""
    if run.trades.empty:
        return "no trade was made"
    if (run.equity["equity"] <= 0).any():
        return "the equity fell to 0 or below"
    if daily_sharpe(returns) is None:
        return "the range is a single day" if len(returns) < 2 else "the daily returns do not vary"
    if len(returns) < FEWEST_DAYS:
        return f"{len(returns)} days are too few; a test needs {FEWEST_DAYS}"
    return None


def _probabilistic(returns: FloatArray, why: str | None) -> Answer:
    if why:
        return PROBABILISTIC.unknown(why, days=len(returns))
    moments = Moments.of(returns)
    value = probabilistic_sharpe(moments)
    if value is None:
        return PROBABILISTIC.unknown("the returns take two values only", days=len(returns))
    sentence = f"From these {len(returns):,} days alone, the true Sharpe ratio is above 0 with a probability of {share(value)}."
    return PROBABILISTIC.known(
        value,
        sentence,
        inputs={
            "days": len(returns),
            "sharpe_daily": moments.sharpe * YEAR,
            "skewness": moments.skewness,
            "kurtosis": moments.kurtosis,
            "threshold": 0.0,
        },
    )


def _track_record(returns: FloatArray, why: str | None) -> Answer:
    if why:
        return TRACK_RECORD.unknown(why, days=len(returns))
    value = minimum_track_record(Moments.of(returns))
    if value is None:
        return TRACK_RECORD.unknown("the Sharpe ratio is not above 0, so no number of days is enough", days=len(returns))
    enough = "enough" if value <= len(returns) else "too few"
    sentence = (
        f"At this Sharpe ratio it takes {math.ceil(value):,} days to be {CONFIDENCE:.0%} sure that the true one is above 0; "
        f"there are {len(returns):,}, {enough}."
    ).replace("95%", "95 %")
    return TRACK_RECORD.known(value, sentence, inputs={"days": len(returns), "confidence": CONFIDENCE, "threshold": 0.0})


def _deflated(returns: FloatArray, trials: TrialCount, why: str | None) -> Answer:
    return deflated_answer(None if why else Moments.of(returns), trials, days=len(returns), at_run=trials.trials, why=why)


def deflated_answer(moments: Moments | None, trials: TrialCount, *, days: int, at_run: int, why: str | None) -> Answer:
    """Return the deflated Sharpe ratio of daily returns with these moments, given the trials.

    Parameters
    ----------
    moments : Moments or None
        None where the answer is undefined; ``why`` then states the reason.
    trials : TrialCount
        Known now.
    days : int
    at_run : int
        Number of trials known when the run was made.
    why : str or None
    """
    inputs: dict[str, float | None] = {
        "days": days,
        "trials": trials.trials,
        "trials_at_run": at_run,
        "trials_with_sharpe": len(trials.sharpes),
        "variance": trials.variance,
        "damaged_lines": trials.damaged_lines,
    }
    if moments is None or why:
        answer = DEFLATED.unknown(why or "its moments are not known", **inputs)
        since = f" {trials.trials:,} configurations were tried on these bars ({at_run:,} when this run was made)."
        return answer if at_run == trials.trials else replace(answer, sentence=answer.sentence + since)
    inputs |= {"sharpe_per_day": moments.sharpe, "skewness": moments.skewness, "kurtosis": moments.kurtosis}
    variance = (trials.variance or 0.0) / DAYS_PER_YEAR
    value = deflated_sharpe(moments, trials.trials, variance)
    if value is None:
        return DEFLATED.unknown("the returns take two values only", **inputs)
    best = expected_best(trials.trials, variance) * YEAR
    lines = (
        "1 damaged line of the trial log was" if trials.damaged_lines == 1 else f"{trials.damaged_lines:,} damaged lines were"
    )
    damaged = f" ({lines} not counted)" if trials.damaged_lines else ""
    then = "" if at_run == trials.trials else f" ({at_run:,} when this run was made)"
    if trials.variance is None:
        alone = (
            "This is the only configuration tried on these bars"
            if trials.trials == 1
            else f"Of {trials.trials:,} configurations tried on these bars{then} only this one has a Sharpe ratio"
        )
        sentence = f"{alone}, so it is not deflated: the probability of a true Sharpe ratio above 0 is {share(value)}{damaged}."
    else:
        sentence = (
            f"{trials.trials:,} configurations were tried on these bars{then}, and the best of so many is expected to reach a "
            f"Sharpe ratio of {best:.2f} by luck alone; the true one is above that with a probability of {share(value)}"
            f"{damaged}."
        )
    return DEFLATED.known(value, sentence, inputs=inputs | {"expected_best": best})


def _interval(returns: FloatArray, why: str | None, seed: int) -> Answer:
    if why:
        return INTERVAL.unknown(why, days=len(returns))
    found = sharpe_interval(returns, level=LEVEL, seed=seed)
    if found is None:
        return INTERVAL.unknown("too few days have a position", days=len(returns))
    low, high = found.low * YEAR, found.high * YEAR
    where = "which includes 0" if low <= 0 <= high else f"all {'above' if low > 0 else 'below'} 0"
    sentence = f"With {share(LEVEL)} confidence the true Sharpe ratio is between {low:.2f} and {high:.2f}, {where}."
    return INTERVAL.known(
        found.value * YEAR, sentence, low=low, high=high, level=LEVEL, inputs=_inputs(found, len(returns), seed)
    )


def _difference(returns: FloatArray, theirs: FloatArray, why: str | None, their_why: str | None, seed: int) -> Answer:
    why = why or (f"of buy and hold, {their_why}" if their_why else None)
    if why:
        return DIFFERENCE.unknown(why, days=len(returns))
    if np.allclose(returns, theirs, rtol=0, atol=1e-12):
        return DIFFERENCE.unknown("the run is buy and hold", days=len(returns))
    found = sharpe_interval(returns, theirs, level=LEVEL, seed=seed)
    if found is None:
        return DIFFERENCE.unknown("too few days have a position", days=len(returns))
    low, high = found.low * YEAR, found.high * YEAR
    meaning = "the two are indistinguishable" if low <= 0 <= high else f"the run is {'better' if low > 0 else 'worse'}"
    sentence = (
        f"The Sharpe ratio less that of buy and hold is between {low:.2f} and {high:.2f} with {share(LEVEL)} confidence: "
        f"{meaning}."
    )
    return DIFFERENCE.known(
        found.value * YEAR, sentence, low=low, high=high, level=LEVEL, inputs=_inputs(found, len(returns), seed)
    )


def _inputs(found: SharpeInterval, days: int, seed: int) -> dict[str, float | None]:
    return {"days": days, "block_days": found.block, "resamples": RESAMPLES, "seed": seed}


def _entries(run: Simulation, returns: FloatArray, seed: int) -> Answer:
    broken = bool((run.equity["equity"] <= 0).any())
    own = None if broken else daily_sharpe(returns)
    if own is None:
        return ENTRIES.unknown(_why_undefined(run, returns) or "the Sharpe ratio is undefined")
    null = random_entries(run, seed=seed)
    if isinstance(null, str):
        return ENTRIES.unknown(null)
    value = null.p_value(own)
    draws, better = len(null.sharpe), round(value * (1 + len(null.sharpe))) - 1
    finite = np.where(np.isfinite(null.sharpe), null.sharpe, np.nan)
    known = int(np.isfinite(finite).sum())
    low, middle, high = np.nanquantile(finite, [0.05, 0.5, 0.95]).tolist() if known else (None, None, None)
    trades = "1 trade" if null.trades == 1 else f"{null.trades:,} trades"
    sentence = (
        f"{trades} of the same lengths at random times, at the same costs, had at least this Sharpe ratio in {better:,} of "
        f"{draws:,} draws: the timing is {'better than chance' if value <= 1 - CONFIDENCE else 'no better than chance'}."
    )
    inputs: dict[str, float | None] = {
        "draws": draws,
        "at_least_as_good": better,
        "trades": null.trades,
        "median": middle,
        "sharpe": own,
        "seed": seed,
    }
    return ENTRIES.known(value, sentence, inputs=inputs | {"low": low, "high": high})


def share(value: float) -> str:
    """Format a probability as percent, never rounded to 0 or 100 %: 0.9996 is "more than 99.9 %"."""
    if value > 0.999:
        return "more than 99.9 %"
    if value < 0.001:
        return "less than 0.1 %"
    return f"{100 * value:.1f} %".replace(".0 %", " %")
