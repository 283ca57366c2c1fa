"""Features: named, ordered, causal columns computed from Bars only.

A feature set is a plug-in. It is found by name (entry point group ``flagbt.features``; the built-in one is
``default``) or as ``module:name``, where ``name`` is a FeatureSet object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..arrays import FloatArray
from ..errors import DataError, StrategyError, UsageError, nearest
from .bars import Bars, utc
from .plugins import load_object, plugin_names

ENTRY_POINT_GROUP = "flagbt.features"
SMALLEST_VOLATILITY = 1e-5
WEEK_BARS = 168


@dataclass(frozen=True)
class FeatureSet:
    """Columns computed from bars. *Causality: row t uses bars <= t.*

    Parameters
    ----------
    name : str
        The name in checkpoints: a registered name, or ``module:name``.
    columns : tuple of str
        Column names, in the order of the computed array's columns.
    warmup_bars : int
        Rows before this one are NaN; every later row must be finite, whatever the series' start.
    compute : callable
        Bars -> float64 array, shape (n_bars, n_columns).
    """

    name: str
    columns: tuple[str, ...]
    warmup_bars: int
    compute: Callable[[Bars], FloatArray]

    def __call__(self, bars: Bars) -> FloatArray:
        """Return the features of every bar, shape (n_bars, n_columns), NaN in the first ``warmup_bars`` rows.

        Raises
        ------
        StrategyError
            When the plug-in returns an array of a different shape.
        DataError
            When a row after the warm-up is not finite, naming the column and the first such bar.
        """
        rows = np.array(
            self.compute(bars), dtype=np.float64
        )  # a copy: a plug-in may return an array of the bars, which is read-only
        if rows.shape != (len(bars), len(self.columns)):
            raise StrategyError(
                f"feature set '{self.name}': expected an array of shape {(len(bars), len(self.columns))}, got "
                f"{rows.shape}. Its compute function must return one row per bar and one column per name."
            )
        rows[: self.warmup_bars] = np.nan
        bad = ~np.isfinite(rows[self.warmup_bars :])
        if bad.any():
            at, column = np.unravel_index(int(np.argmax(bad)), bad.shape)
            stamp = utc(bars.time[self.warmup_bars + int(at)])
            raise DataError(
                f"feature set '{self.name}': the column '{self.columns[column]}' is "
                f"{rows[self.warmup_bars + at, column]} at {stamp}, the first of {int(bad.any(1).sum()):,} such bars. "
                "Features must be finite after the warm-up: fix the feature, or check the bars there."
            )
        return rows


def feature_set(name: str, *, named: bool = True) -> FeatureSet:
    """Return the feature set called ``name``: ``default``, an entry point's name, or ``module:name``.

    Parameters
    ----------
    named : bool
        Whether a user named it; a checkpoint's ``module:name`` is not imported (see ``plugins.load_object``).

    Raises
    ------
    UsageError
        For an unknown name, with the nearest known one.
    StrategyError
        When the plug-in cannot be imported or is not a FeatureSet.
    """
    if name == DEFAULT.name:
        return DEFAULT
    names = plugin_names(ENTRY_POINT_GROUP)
    if ":" not in name and name not in names:
        raise UsageError(f"--features: there is no feature set '{name}'. {nearest(name, [DEFAULT.name, *names])}")
    found = load_object(names.get(name, name), what="feature set", named=named or name in names)
    if not isinstance(found, FeatureSet):
        raise StrategyError(f"feature set '{name}': expected a flagbt.FeatureSet object, got {type(found).__name__}.")
    return found


def _rolling(values: FloatArray, width: int, reduce: Callable[..., FloatArray] = np.mean) -> FloatArray:
    """Reduce the last ``width`` values up to each row; NaN before.

    Each window is reduced separately, so a row does not depend on where the series starts (running sums would).
    """
    result = np.full(len(values), np.nan)
    if len(values) >= width:
        result[width - 1 :] = reduce(sliding_window_view(values, width), axis=1)
    return result


def _lag(values: FloatArray, bars: int) -> FloatArray:
    result = np.full(len(values), np.nan)
    result[bars:] = values[: max(0, len(values) - bars)]
    return result


def _default_columns(bars: Bars) -> dict[str, FloatArray]:
    """Compute the default columns: returns in units of volatility, volatility levels, volume, and the clock."""
    log_close = np.log(bars.close)
    change = log_close - _lag(log_close, 1)
    volatility = {width: np.maximum(np.sqrt(_rolling(change**2, width)), SMALLEST_VOLATILITY) for width in (6, 24, WEEK_BARS)}
    hourly = volatility[WEEK_BARS]
    columns: dict[str, FloatArray] = {}

    # 1. Returns over several horizons, in units of the week's volatility
    for horizon in (1, 2, 3, 6, 12, 24, 72, WEEK_BARS):
        columns[f"return_{horizon}"] = (log_close - _lag(log_close, horizon)) / (hourly * np.sqrt(horizon))

    # 2. Volatility: its level and its change (the label's threshold is a fixed share of the price)
    log_range = np.maximum(np.log(bars.high / bars.low), SMALLEST_VOLATILITY / 10)
    columns["log_volatility_week"] = np.log(hourly)
    columns["volatility_day_to_week"] = np.log(volatility[24] / hourly)
    columns["volatility_6_to_day"] = np.log(volatility[6] / volatility[24])
    for width in (1, 6, 24):
        mean_range = _rolling(log_range, width)
        columns[f"log_range_{width}"] = np.log(mean_range)
        columns[f"range_{width}_to_week"] = np.log(mean_range / hourly)
    columns["largest_move_24"] = _rolling(np.abs(change), 24, np.max) / hourly

    # 3. The position of the close in its bar and in the recent range, 0 (low) to 1 (high)
    for width in (1, 24, WEEK_BARS):
        high, low = _rolling(bars.high, width, np.max), _rolling(bars.low, width, np.min)
        columns[f"place_in_range_{width}"] = (bars.close - low + 1e-9 * bars.close) / (high - low + 2e-9 * bars.close)

    # 4. Volume relative to its recent past (its level drifts over the years); a floor avoids log(0)
    day, week = _rolling(bars.volume, 24), _rolling(bars.volume, WEEK_BARS)
    floor = 1e-3 * week + 1e-12
    columns["volume_to_day"] = np.log((bars.volume + floor) / (day + floor))
    columns["volume_day_to_week"] = np.log((day + floor) / (week + floor))
    signed = _rolling(np.sign(change) * bars.volume, 24)
    columns["signed_volume_24"] = signed / (day + floor)

    # 5. The clock, UTC
    hours = bars.time.astype("datetime64[h]").astype(np.int64)
    for name, period, offset in (("day", 24, 0), ("half_day", 12, 0), ("week", 168, 72)):  # 1970-01-01: a Thursday
        angle = 2 * np.pi * ((hours + offset) % period) / period
        columns[f"{name}_sin"], columns[f"{name}_cos"] = np.sin(angle), np.cos(angle)
    return columns


def _stacked(bars: Bars) -> FloatArray:
    return np.column_stack(list(_default_columns(bars).values()))


DEFAULT = FeatureSet(
    "default",
    columns=(
        *("return_1", "return_2", "return_3", "return_6", "return_12", "return_24", "return_72", "return_168"),
        *("log_volatility_week", "volatility_day_to_week", "volatility_6_to_day"),
        *("log_range_1", "range_1_to_week", "log_range_6", "range_6_to_week", "log_range_24", "range_24_to_week"),
        *("largest_move_24", "place_in_range_1", "place_in_range_24", "place_in_range_168"),
        *("volume_to_day", "volume_day_to_week", "signed_volume_24"),
        *("day_sin", "day_cos", "half_day_sin", "half_day_cos", "week_sin", "week_cos"),
    ),
    warmup_bars=WEEK_BARS,
    compute=_stacked,
)
