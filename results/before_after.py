"""Before and after: a run on both sides of the date of the newest text that its checkpoint's base has read.

A base may remember what it has read of the bars up to that date, and nothing of those after it. The parts are compared by the
Sharpe ratio of their daily returns and by the negative log-likelihood (NLL) of the labels, each difference with an interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, TimeArray
from ..data.labels import NO_LABEL, label_spec
from ..engine.simulation import Simulation
from ..models.text_read import UNKNOWN_TEXT, after
from ..storage.json_records import JsonRecord
from .cost_sensitivity import bars_of_run
from .label_scores import labels_text, probabilities_of
from .metrics import daily_sharpe
from .run_view import DAYS_PER_YEAR, bar_times, daily_returns
from .significance.answer import Answer, Kind
from .significance.bootstrap import RESAMPLES, Statistic, change_interval, mean_and_influence, sharpe_and_influence
from .significance.measure import FEWEST_DAYS, LEVEL, share

_FORMULA = (
    f"[D - q95 e, D - q5 e], D the value after less the value before, q5 and q95 the quantiles of (D* - D) / e* over "
    f"{RESAMPLES:,} stationary-bootstrap resamples of the days of each part, e and e* the root of the sum of the squares of "
    "both parts' Newey-West errors"
)
_PAPER = (
    "Politis and Romano (1994), The Stationary Bootstrap, JASA 89(428); studentised as in Ledoit and Wolf (2008), Robust "
    "performance hypothesis testing with the Sharpe ratio, Journal of Empirical Finance 15(5)"
)
SHARPE = Kind("difference of the Sharpe ratio after the date to before it", "Sharpe ratio a year", _FORMULA, _PAPER)
NLL = Kind("difference of the NLL after the date to before it", "nats per labelled bar", _FORMULA, _PAPER)
CAUTION = (
    "A worse result after the date fits a base that remembers what it read, and a market that changed, too; a result that is "
    "no worse excludes neither."
)


@dataclass(frozen=True, kw_only=True)
class PartResult(JsonRecord):
    """A run on one side of the date.

    Attributes
    ----------
    bars, days : int
        Traded bars; UTC days.
    total_return : float or None
        As a fraction; None where the account lost everything.
    sharpe_daily : float or None
        Annualised by 365 days.
    labelled_bars : int
        Bars with a label and probabilities.
    nll : float or None
        Mean over them, nats, of the probabilities after calibration; None without any.
    """

    bars: int
    days: int
    total_return: float | None
    sharpe_daily: float | None
    labelled_bars: int
    nll: float | None


@dataclass(frozen=True, kw_only=True)
class BeforeAfter(JsonRecord):
    """A run before and after the date of the newest text that its checkpoint's base has read.

    Attributes
    ----------
    text_until : str
        The date, YYYY-MM-DD; the part before it includes it.
    before, after : PartResult
    sharpe : Answer
        The difference, after less before; without a value where a part is too short, with the reason.
    nll : Answer or None
        None for a run without probabilities and labels.
    """

    text_until: str
    before: PartResult
    after: PartResult
    sharpe: Answer
    nll: Answer | None = None

    @property
    def sentence(self) -> str:
        """The differences in words."""
        return " ".join(each.sentence for each in (self.sharpe, self.nll) if each is not None)


def before_after(run: Simulation, *, seed: int = 0) -> BeforeAfter | None:
    """Compare the two parts of a run; None where it has no such date, or all bars are on one side of it.

    A label of the last bars before the date looks at bars after it, by the labels' horizon.

    Parameters
    ----------
    seed : int
        Of the bootstrap.
    """
    until = None if run.checkpoint is None else run.checkpoint.text_until
    if until is None or until == UNKNOWN_TEXT:
        return None
    early: BoolArray = np.asarray(bar_times(run).to_numpy() < after(until))
    if early.all() or not early.any():
        return None
    returns = daily_returns(run)
    parts, days = (early, ~early), np.asarray(returns.index < after(until))
    daily: list[FloatArray] = [np.asarray(returns, dtype=np.float64)[mask] for mask in (days, ~days)]
    loss = _losses(run)
    losses = [None if loss is None else _by_day(loss, bar_times(run).to_numpy(), mask) for mask in parts]
    results = [_part(int(mask.sum()), each, sums) for mask, each, sums in zip(parts, daily, losses, strict=True)]
    scored = [sums for sums in losses if sums is not None and len(sums)]
    return BeforeAfter(
        text_until=until,
        before=results[0],
        after=results[1],
        sharpe=_sharpe_change(run, daily, until, seed),
        nll=None if len(scored) < 2 else _nll_change(scored, until, seed),
    )


def _losses(run: Simulation) -> FloatArray | None:
    """Return each bar's -log p of its label, NaN without one; None for a run without probabilities or labels."""
    text, given = labels_text(run), probabilities_of(run)
    if text is None or given is None:
        return None
    label, calibrated = label_spec(text).labels(bars_of_run(run)), given[1]
    known = (label != NO_LABEL) & np.isfinite(calibrated).all(axis=1)
    found = np.full(len(label), np.nan)
    found[known] = -np.log(np.maximum(calibrated[known, label[known]], np.finfo(np.float64).tiny))
    return found


def _by_day(loss: FloatArray, time: TimeArray, mask: BoolArray) -> FloatArray:
    """Return the sum and the number of a part's values of each UTC day that has one, shape (days, 2)."""
    known = mask & np.isfinite(loss)
    _, day = np.unique(time[known].astype("datetime64[D]"), return_inverse=True)
    return np.column_stack([np.bincount(day, weights=loss[known]), np.bincount(day)]).astype(np.float64)


def _part(bars: int, returns: FloatArray, sums: FloatArray | None) -> PartResult:
    labelled = 0 if sums is None else int(sums[:, 1].sum())
    lost = not (returns > -1).all()
    return PartResult(
        bars=bars,
        days=len(returns),
        total_return=None if lost else float(np.prod(1 + returns) - 1),
        sharpe_daily=None if lost else daily_sharpe(returns),
        labelled_bars=labelled,
        nll=None if sums is None or not labelled else float(sums[:, 0].sum() / labelled),
    )


def _sharpe_change(run: Simulation, daily: list[FloatArray], until: str, seed: int) -> Answer:
    why = "the equity fell to 0 or below" if (run.equity["equity"] <= 0).any() else None
    for side, each in zip(("up to", "after"), daily, strict=True):
        why = why or _why_short(len(each), side, until)
        why = why or (f"the daily returns do not vary {side} {until}" if daily_sharpe(each) is None else None)
    return _change(SHARPE, daily, sharpe_and_influence, math.sqrt(DAYS_PER_YEAR), why, ("Sharpe ratio", until, seed))


def _nll_change(losses: list[FloatArray], until: str, seed: int) -> Answer:
    short = (_why_short(len(each), side, until) for side, each in zip(("up to", "after"), losses, strict=True))
    why = next((each for each in short if each is not None), None)
    return _change(NLL, losses, mean_and_influence, 1.0, why, ("NLL, lower is better,", until, seed))


def _why_short(days: int, side: str, until: str) -> str | None:
    return f"{days} days {side} {until} are too few; a test needs {FEWEST_DAYS}" if days < FEWEST_DAYS else None


def _change(
    kind: Kind, parts: list[FloatArray], statistic: Statistic, scale: float, why: str | None, named: tuple[str, str, int]
) -> Answer:
    what, until, seed = named
    counts: dict[str, float | None] = {"days_before": len(parts[0]), "days_after": len(parts[1])}
    found = None if why else change_interval(parts[0], parts[1], statistic, level=LEVEL, seed=seed)
    if found is None:
        return kind.unknown(why or "too few days have a position", **counts)
    low, high, digits = found.low * scale, found.high * scale, 2 if kind is SHARPE else 3
    meaning = (
        "the two are indistinguishable" if low <= 0 <= high else f"it is {'higher' if low > 0 else 'lower'} after the date"
    )
    sentence = (
        f"The {what} after {until} less that up to it is between {low:.{digits}f} and {high:.{digits}f} with {share(LEVEL)} "
        f"confidence: {meaning}."
    )
    inputs = {**counts, "block_days_before": found.blocks[0], "block_days_after": found.blocks[1]}
    return kind.known(
        found.value * scale, sentence, low=low, high=high, level=LEVEL, inputs={**inputs, "resamples": RESAMPLES, "seed": seed}
    )
