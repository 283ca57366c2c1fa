"""FeatureTable: a model's input rows as a function of bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..arrays import FloatArray
from ..data.bars import Bars
from ..data.features import FeatureSet
from ..errors import UsageError, kind_of, quoted_value

ComputeRows = Callable[[Bars], "npt.ArrayLike | pd.DataFrame"]


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The model's input rows as a function of bars.

    Parameters
    ----------
    columns : tuple of str
        Names in order.
    compute : callable
        Bars -> float array (n_bars, n_columns), as the model reads them; NaN in the warm-up.
    named : bool
        Whether the columns have real names; otherwise only numbers.
    """

    columns: tuple[str, ...]
    compute: Callable[[Bars], FloatArray]
    named: bool = True

    def __call__(self, bars: Bars) -> FloatArray:
        """Return the rows of all bars, float64; infinite values become NaN.

        Raises
        ------
        UsageError
            When the function returns a different shape.
        """
        rows = np.array(self.compute(bars), dtype=np.float64)
        if rows.shape != (len(bars), len(self.columns)):
            raise UsageError(
                f"features: expected an array of shape {(len(bars), len(self.columns))}, one row per bar, one column per name, "
                f"got {rows.shape}. Return a row for every bar, NaN without enough history."
            )
        rows[~np.isfinite(rows)] = np.nan
        return rows


def table_of(features: FeatureSet | ComputeRows, bars: Bars, columns: Sequence[str] | None) -> FeatureTable:
    """Make a FeatureTable of a feature set or of a function from Bars to an array or a DataFrame; call it once on ``bars``."""
    if not callable(features):
        raise UsageError(
            f"features: expected a FeatureSet or a function from Bars to one row per bar, got {kind_of(features)}. "
            "Give the function that computes the rows: the checks call it on other bars."
        )
    if isinstance(features, FeatureSet):
        return FeatureTable(features.columns, features)
    first = features(bars)
    names = columns if columns is not None else first.columns if isinstance(first, pd.DataFrame) else None
    if np.ndim(first) != 2:
        raise UsageError(
            f"features: the function returned {quoted_value(first)}, expected an array or a DataFrame of shape (bars, "
            "columns), one row per bar."
        )
    if columns is not None and (isinstance(columns, str) or not isinstance(columns, Iterable)):
        raise UsageError(f"columns: expected the names of the features' columns, got {quoted_value(columns)}.")
    n_columns = np.shape(first)[-1]
    found = tuple(f"column {i}" for i in range(n_columns)) if names is None else tuple(map(str, names))
    table = FeatureTable(found, lambda each: np.asarray(features(each), dtype=np.float64), names is not None)
    table(bars)  # to report a wrong shape here
    return table


def first_complete_row(rows: FloatArray) -> int:
    """Return the length of the warm-up: the first row by which every column has had a value, else n."""
    known = np.isfinite(rows)
    if not known.any(axis=0).all():
        return len(rows)
    return int(known.argmax(axis=0).max()) if rows.size else len(rows)


def filled(rows: FloatArray) -> FloatArray:
    """Replace missing values by the column's last known value, 0 before the first. *Causality: row t uses rows <= t.*"""
    known = np.isfinite(rows)
    if known.all():
        return rows
    last = np.maximum.accumulate(np.where(known, np.arange(len(rows))[:, None], -1), axis=0)
    return np.asarray(np.where(last >= 0, rows[np.maximum(last, 0), np.arange(rows.shape[1])], 0.0))
