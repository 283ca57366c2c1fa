"""Make a subject of stored answers: probabilities of bars, without the model that gave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..arrays import FloatArray
from ..data.bars import Bars
from ..data.labels import Labels
from ..data.scorable_range import scorable_range
from ..data.time_range import TimeRange
from ..models.signals import Signals
from .checkpoint_subject import no_features
from .subject import ScoreBars, Subject


def subject_of_answers(
    name: str,
    bars: Bars,
    *,
    timerange: TimeRange,
    labels: Labels | None,
    score: ScoreBars,
    signals: Callable[[FloatArray], Signals],
    bars_seen: Mapping[str, TimeRange] | None,
    seed: int = 0,
) -> Subject:
    """Make a subject of a function that looks up the logits of bars.

    Parameters
    ----------
    bars : Bars
        Up to the end of the range to test.
    labels : LabelSpec or TripleBarrier, optional
        The question that they answer.
    score : callable
        Bars -> logits (n, 3), NaN at a bar without an answer.
    signals : callable
        Logits of all bars (n_bars, 3) -> the signals that were traded.
    bars_seen : mapping, optional
        The ranges that their model has seen, if they are stated.

    Raises
    ------
    RangeError
        When no bar is in the range.
    """
    tested = np.zeros(len(bars), dtype=bool)
    tested[scorable_range(bars, timerange, 0)] = True
    table, predict = no_features()
    return Subject(
        name=name,
        bars=bars,
        tested=tested,
        served=table,
        predict=predict,
        labelled=None if labels is None else labels.labels,
        label_spec=labels,
        horizon_bars=1 if labels is None else labels.horizon_bars,
        context_bars=0,
        signals=signals,
        score=score,
        may_skip_bars=True,
        bars_seen=bars_seen,
        seed=seed,
    )
