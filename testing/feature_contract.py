"""The contract of a feature set, tried on bars."""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray
from ..data.bars import Bars
from ..data.features import FeatureSet, feature_set
from ..data.plugins import blamed_on
from ..doctor.checks.lookahead_features import ROUNDING, reach_ahead, rows_repeat
from ..doctor.feature_table import FeatureTable
from ..errors import RangeError, kind_of, quoted_value
from .contract import broken, fixed_random, generated_bars, part_of

LATER_START = 61  # bars by which the history is cut, a multiple neither of a day nor of a week


def check_features(features: FeatureSet, bars: Bars | None = None) -> None:
    """Try a feature set against the contract of feature sets; return without a value if it keeps every part.

    The parts, in this order; the error's ``part`` is the first broken one:

    - ``names``: it is a `flagbt.FeatureSet`, its columns have names, each another one, and its warm-up is a whole number;
    - ``width``: ``compute`` returns an array of float64 with one row per bar and one column per name;
    - ``warm-up``: every row after the first ``warmup_bars`` is finite;
    - ``determinism``: computed twice from the same bars, the rows are equal;
    - ``look-ahead``: rows up to a bar do not change if the later bars change or are cut, as in the doctor's check
      ``lookahead-features``; the message names the columns and how far each looks ahead;
    - ``start``: past the warm-up, rows do not depend on where the bars start: a checkpoint in use reads less history than
      its training did;
    - ``name``: its name leads to it, as an entry point of ``flagbt.features`` or as ``module:name``, since a checkpoint
      finds it by that name.

    Parameters
    ----------
    features : FeatureSet
    bars : Bars, optional
        The bars to try it on; by default a random walk of 3,000 hourly bars, longer for a long warm-up.

    Raises
    ------
    ContractError
        An AssertionError with the broken part of the contract, what was expected and found, and the remedy.
    RangeError
        Where ``bars`` are too few to try it.

    Examples
    --------
    >>> from flagbt.data.features import DEFAULT
    >>> from flagbt.testing import check_features
    >>> check_features(DEFAULT)
    """
    who = f"feature set '{getattr(features, 'name', features)!s:.60}'"
    _check_columns(features, who)
    bars = generated_bars(features.warmup_bars) if bars is None else bars
    kept = len(bars) - features.warmup_bars
    if kept <= 2 * LATER_START:
        raise RangeError(
            f"check_features: expected more than {features.warmup_bars + 2 * LATER_START:,} bars for a warm-up of "
            f"{features.warmup_bars:,}, got {len(bars):,}. Give more bars."
        )
    rows = _computed(features, bars, who)
    table = FeatureTable(features.columns, features)
    with part_of(who, "determinism"):
        repeats = rows_repeat(table, bars)
    if not repeats:
        broken(
            who,
            "determinism",
            "the rows differ when computed twice from the same bars. Fix the seed of a random generator, or remove its random "
            "part.",
        )
    with part_of(who, "look-ahead"):
        reach, _ = reach_ahead(table, bars, fixed_random())
    ahead = [f"{name} ({n} bars ahead)" for name, n in zip(features.columns, reach.bars.tolist(), strict=True) if n]
    if ahead:
        broken(
            who,
            "look-ahead",
            f"row t may use bars up to t only, and these columns use later ones: {', '.join(ahead[:30])}. Use no centred "
            "window, no mode='same', no negative shift, and no mean or scale of the whole series.",
        )
    _check_start(features, bars, rows, who)
    _check_name(features, who)


def _check_columns(features: FeatureSet, who: str) -> None:
    if not isinstance(features, FeatureSet):
        broken(who, "names", f"expected a flagbt.FeatureSet object, got {kind_of(features)}.")
    names: object = features.columns
    if not isinstance(names, tuple) or not names or not all(isinstance(each, str) and each for each in names):
        broken(who, "names", f"columns is {quoted_value(names)}, expected a tuple with a name for each column.")
    double = next((each for each in features.columns if features.columns.count(each) > 1), None)
    if double is not None:
        broken(who, "names", f"two columns are named '{double}'. Give each another name.")
    warmup: object = features.warmup_bars
    if not isinstance(warmup, int) or isinstance(warmup, bool) or warmup < 0:
        broken(who, "names", f"warmup_bars is {quoted_value(warmup)}, expected a whole number of 0 or more.")


def _computed(features: FeatureSet, bars: Bars, who: str) -> FloatArray:
    """Return the rows, checked for their type, shape and warm-up."""
    with part_of(who, "width"), blamed_on(features.compute, "compute", who=who):
        raw: object = features.compute(bars)
    if not isinstance(raw, np.ndarray) or raw.dtype != np.float64:
        got = f"an array of {raw.dtype}" if isinstance(raw, np.ndarray) else kind_of(raw)
        broken(who, "width", f"compute returns {got}, expected a numpy array of float64.")
    if raw.shape != (len(bars), len(features.columns)):
        broken(
            who,
            "width",
            f"compute returns an array of shape {raw.shape} for {len(bars):,} bars and {len(features.columns)} names, expected "
            f"{(len(bars), len(features.columns))}: one row per bar and one column per name.",
        )
    with part_of(who, "warm-up"):
        return features(bars)


def _check_start(features: FeatureSet, bars: Bars, rows: FloatArray, who: str) -> None:
    """Check that rows after the warm-up are the same where the bars start later."""
    with part_of(who, "warm-up"):
        later = features(bars.take(slice(LATER_START, len(bars))))
    first = features.warmup_bars
    mine, theirs = rows[LATER_START + first :], later[first:]
    scale = np.maximum(mine.std(axis=0), 1e-12)
    off = (np.abs(mine - theirs) / scale).max(axis=0)
    if (off > ROUNDING).any():
        named = ", ".join(f"{features.columns[i]} (by {off[i]:.2g} of its spread)" for i in np.flatnonzero(off > ROUNDING)[:30])
        broken(
            who,
            "start",
            f"with {LATER_START} bars less of history, rows after the warm-up of {first} bars change: {named}. Use windows "
            "within warmup_bars, and no sum or mean from the first bar on.",
        )


def _check_name(features: FeatureSet, who: str) -> None:
    with part_of(who, "name"):
        found = feature_set(features.name)
    if found is not features:
        broken(
            who,
            "name",
            f"'{features.name}' leads to another feature set. Give FeatureSet the entry point's name, or module:name of the "
            "variable that holds it.",
        )
