"""Too good to be true: whether a run predicted the direction of the market better than any honest model.

The limits are those of training's guard and of the doctor, and apply to the same quantity: how well BUY is separated from
SELL, never the return, which grows with the length of the range. A run without probabilities is evaluated by its positions
and its orders.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ...arrays import FloatArray, IntArray, JsonObject
from ...data.labels import class_counts, class_shares, label_spec
from ...engine.simulation import Simulation
from ...models.diversity import Verdict
from ...models.statistics import direction_auc, pair_auc
from ...training.collapse_guard import LARGEST_ACCURACY_GAIN, LARGEST_DIRECTION_AUC
from ..cost_sensitivity import bars_of_run
from ..label_scores import labels_text, probabilities_of

FEWEST_BARS, ENOUGH_BARS = 100, 300  # below 300, the doctor's minimum, the slack grows
FEWEST_MOVES, FEWEST_ORDERS = 30, 60
HORIZONS = (1, 2, 3, 6, 12, 24, 48, 96, 168)
LARGE_MOVES = 2 / 3  # quantile: only the third with the largest moves counts, as about a third of labels is not HOLD


class Auc(NamedTuple):
    """How well a quantity separates rises from falls: its name, its AUC, and one standard deviation of chance."""

    what: str
    value: float
    slack: float


def too_good_verdict(run: Simulation) -> Verdict | None:
    """Return a verdict where a run is too good to be true.

    Returns
    -------
    Verdict or None
        None for the usual run. Otherwise ``too good``, with the ``numbers`` (``auc``, ``auc_slack``, ``auc_limit``,
        and ``accuracy_gain`` with ``accuracy_gain_limit`` where there are probabilities).

    Notes
    -----
    An AUC is too good where it is above 0.70 by more than one standard deviation of chance (300 / n of them for n < 300
    bars). With probabilities and 300 labelled bars, an accuracy is too good more than 0.10 above the better of the most
    frequent label and the last known one.
    """
    found = [*_of_positions(run)]
    gain = None
    if (scored := _of_probabilities(run)) is not None:
        auc, gain = scored
        found += [auc] if auc is not None else []
    best = max(found, key=lambda each: each.value - each.slack, default=None)
    certain = best is not None and best.value - best.slack > LARGEST_DIRECTION_AUC
    accurate = gain is not None and gain > LARGEST_ACCURACY_GAIN
    if not certain and not accurate:
        return None
    numbers: JsonObject = {
        "auc": None if best is None else best.value,
        "auc_slack": None if best is None else best.slack,
        "auc_limit": LARGEST_DIRECTION_AUC,
        "accuracy_gain": gain,
        "accuracy_gain_limit": LARGEST_ACCURACY_GAIN,
    }
    reasons = []
    if certain and best is not None:
        reasons.append(
            f"{best.what} separates rises from falls with an AUC of {best.value:.2f}, where 0.5 is chance, honest models of "
            f"hourly bars reach 0.55, and the limit is {LARGEST_DIRECTION_AUC:.2f}"
        )
    if accurate:
        reasons.append(
            f"its accuracy is {gain:.2f} above the better of the most frequent label and the last one, over the limit of "
            f"{LARGEST_ACCURACY_GAIN:.2f}"
        )
    sentence = (
        f"Too good to be true: {'; '.join(reasons)}. Look for bars that it has seen, a look at the future, or numbers from "
        "elsewhere before you trust it (flagbt verify lookahead)."
    )
    return Verdict("too good", numbers, sentence)


def _of_positions(run: Simulation) -> list[Auc]:
    """Return the AUC of the positions, and of the orders filled at an open, over several horizons."""
    n = len(run.equity)
    if n < FEWEST_BARS:
        return []
    open_, close = (run.bars[name].to_numpy(dtype=np.float64) for name in ("open", "close"))
    ordered = _filled_at_open(run, open_)
    size, equity = (run.equity[name].to_numpy(dtype=np.float64) for name in ("position_size", "equity"))
    worth = np.where(equity[:-1] > 0, equity[:-1], np.nan)
    held = np.nan_to_num(np.round((size[:-1] + ordered[1:]) * open_[1:] / worth, 1))
    side = np.sign(ordered[1:])
    found = []
    for ahead in HORIZONS:
        if 10 * ahead > n:
            break
        move = np.log(close[ahead:] / open_[1 : n - ahead + 1])
        reach = float(np.quantile(np.abs(move), LARGE_MOVES))
        up, down = (move >= reach) & (move > 0), (move <= -reach) & (move < 0)
        of_bars = f"over the next {ahead} bars" if ahead > 1 else "over the next bar"
        kept, at = held[: len(move)], side[: len(move)]
        found += _auc(f"its position {of_bars}", kept[up], kept[down], float(ahead), FEWEST_MOVES)
        orders = at != 0
        overlap = max(1.0, ahead * float(orders.mean()))
        found += _auc(f"the side of its orders {of_bars}", at[up & orders], at[down & orders], overlap, FEWEST_ORDERS)
    return [each._replace(slack=each.slack * max(1.0, ENOUGH_BARS / n)) for each in found]


def _auc(what: str, up: FloatArray, down: FloatArray, overlap: float, fewest: int) -> list[Auc]:
    """Return the AUC with its slack (Mann and Whitney 1947), where ``overlap`` moves share their bars."""
    if not len(up) or not len(down) or len(up) + len(down) < fewest:
        return []
    return [Auc(what, pair_auc(up, down), _slack(len(up), len(down), overlap))]


def _slack(n_up: int, n_down: int, overlap: float) -> float:
    return float(np.sqrt(overlap * (n_up + n_down) / (12 * max(1, n_up * n_down))))


def _filled_at_open(run: Simulation, open_: FloatArray) -> FloatArray:
    """Return the base units that filled at each bar's open, (n_bars,), and so were decided before the bar.

    A fill inside a bar, as of a limit or a stop, already depends on the bar's prices.
    """
    result = np.zeros(len(open_))
    filled = run.orders[run.orders["fill_price"].notna()]
    if filled.empty:
        return result
    at = run.equity.index.get_indexer(pd.DatetimeIndex(filled["filled"]))
    price = filled["fill_price"].to_numpy(dtype=np.float64)
    units = np.where(filled["side"] == "buy", 1.0, -1.0) * filled["notional"].to_numpy(dtype=np.float64) / price
    slippage = run.config.costs.slippage
    here = (at >= 0) & (np.abs(price / open_[at] - 1) <= slippage * (1 + 1e-6) + 1e-9)
    np.add.at(result, at[here], units[here])
    return result


def _of_probabilities(run: Simulation) -> tuple[Auc | None, float] | None:
    """Return the AUC of p_buy against p_sell, and the gain in accuracy, on the labels of the run's own bars."""
    text, given = labels_text(run), probabilities_of(run)
    if text is None or given is None:
        return None
    spec, p = label_spec(text), given[1]
    labels: IntArray = spec.labels(bars_of_run(run))
    scored = (labels >= 0) & np.isfinite(p).all(axis=1)
    if scored.sum() < ENOUGH_BARS:
        return None
    y = labels[scored]
    last = np.full(len(labels), -1)
    last[spec.horizon_bars :] = labels[: len(labels) - spec.horizon_bars]  # the newest label that is known at a bar
    known = scored & (last >= 0)
    persistence = float((last[known] == labels[known]).mean()) if known.any() else 0.0
    gain = float((p[scored].argmax(axis=1) == y).mean()) - max(float(class_shares(y).max()), persistence)
    value = direction_auc(p[scored], y)
    sell, _, buy = class_counts(y).tolist()
    auc = None if value is None else Auc("its probability of BUY against SELL", value, _slack(buy, sell, spec.horizon_bars))
    return auc, gain
