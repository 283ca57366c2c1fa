"""The bundled sample: 13 months of synthetic hourly bars that resemble an ordinary year of bitcoin.

Real prices cannot be shipped (their licence is unclear), so a seeded generator makes these bars. Its parameters are fitted
to facts measured on real hourly bars, stored in ``sample/stylised_facts.json``. Both files are made by commands::

    python -m flagbt.data.bundled_sample --measure BARS_FILE    writes sample/stylised_facts.json
    python -m flagbt.data.bundled_sample --write                writes sample/btc_1h_synthetic.csv.gz
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..arrays import FloatArray
from ..errors import DataError
from .bars import HOUR, Bars
from .labels import LabelSpec, class_shares
from .readers import bars_of_file, write_bars_csv

SAMPLE_FILE = Path(__file__).parent / "sample" / "btc_1h_synthetic.csv.gz"
FACTS_FILE = Path(__file__).parent / "sample" / "stylised_facts.json"
SOURCE = "bundled sample"
SEED = 3
FIRST_BAR, N_BARS = np.datetime64("2023-12-01T00:00:00", "ns"), 9_528  # to 2024-12-31T23:00 UTC
FIRST_PRICE = 40_000.0

# Mean |return| by hour of day (UTC) over its mean, and log volume less its mean, of the real bars of 2020-2024.
HOUR_VOLATILITY = np.array(
    [
        [1.16, 1.03, 0.92, 0.84, 0.76, 0.80, 0.82, 0.88, 0.96, 0.89, 0.92, 0.91],
        [1.07, 1.16, 1.35, 1.24, 1.13, 1.03, 1.02, 1.03, 1.07, 1.02, 0.99, 1.00],
    ]
).ravel()
HOUR_LOG_VOLUME = np.array(
    [
        [0.05, -0.09, -0.16, -0.23, -0.26, -0.26, -0.17, -0.06, 0.02, -0.02, -0.01, 0.00],
        [0.19, 0.31, 0.43, 0.39, 0.34, 0.13, 0.05, 0.01, -0.03, -0.24, -0.22, -0.19],
    ]
).ravel()
HOUR_CONTRAST = 1.15  # the hours differ more in single years than in the mean of five
WEEKDAY_VOLATILITY = np.array([1.08, 1.08, 1.08, 1.08, 1.08, 0.70, 0.80])  # Monday first


class Regime(NamedTuple):
    """A market regime: its volatility factor, and its drift (log return per hour)."""

    volatility: float
    drift: float


# The drifts are deliberately small: 0.3 % a day against a daily volatility of 3 %. A model that profits from them is wrong.
CALM, UP, DOWN, TURBULENT = Regime(0.75, 0.0), Regime(0.95, 1.2e-4), Regime(1.05, -1.2e-4), Regime(1.40, 0.0)
REGIMES = (CALM, UP, DOWN, TURBULENT)
REGIME_HOURS = 12 * 24  # mean length of a regime
VOLATILITY = 0.0045  # standard deviation of an hourly log return before the factors below
SLOW_STD, SLOW_MEMORY = 0.36, 0.9975  # log volatility: weeks ...
FAST_STD, FAST_MEMORY = 0.40, 0.88  # ... and hours
TAIL_DEGREES = 4.5  # of the Student t of hourly returns
WICK = 0.12  # mean excursion beyond the hour's walk that reverts within the hour, in hourly standard deviations
OPEN_JITTER = 0.003  # distance of an open from the previous close, in hourly standard deviations
MEDIAN_VOLUME = 1_250.0  # bitcoins per hour
VOLUME_SLOPE = 0.85  # log volume by log volatility of the hour
VOLUME_STD, VOLUME_MEMORY, VOLUME_NOISE = 0.38, 0.97, 0.15  # log volume independent of volatility


def generate_sample(seed: int = SEED, *, first_bar: np.datetime64 = FIRST_BAR, n_bars: int = N_BARS) -> Bars:
    """Generate hourly bars without a gap; by default the sample's, 2023-12-01T00 .. 2024-12-31T23 UTC, 9,528 bars.

    The log price is a random walk of 60 steps per hour. Its volatility is the product of a regime (calm, up, down,
    turbulent), a slow and a fast autoregression, the hour of the day and the day of the week; hourly returns follow a
    Student t. High and low are those of the walk plus a wick that reverts. Only the regime's small drift has a direction,
    so there is no direction to learn. There are no gaps either; real files have both.

    Parameters
    ----------
    seed : int
        The default is the first one, from 0 up, whose `stylised_facts` are all within the range of the real years
        2020 to 2024. No other criterion was used, not even the year's return.
    first_bar : datetime64[ns]
        The first bar's open, UTC, on a full hour.
    n_bars : int
        Number of bars, 1 or more. Another number gives another series, not a part of the same one.

    Returns
    -------
    Bars
        Synthetic; prices rounded to 2 decimals, volume (in bitcoins) to 5.

    Raises
    ------
    ValueError
        If the seed is negative.
    """
    random = np.random.default_rng(seed)
    time = first_bar + np.arange(n_bars) * HOUR
    hour = time.astype("datetime64[h]").astype(np.int64) % 24
    weekday = (time.astype("datetime64[D]").astype(np.int64) + 3) % 7

    # 1. The volatility of each hour, and its drift.
    changes = random.random(n_bars) < 1 / REGIME_HOURS
    regime = np.cumsum(np.where(changes, random.integers(1, len(REGIMES), n_bars), 0)) % len(REGIMES)
    factor, drift = np.array(REGIMES)[regime].T
    wander = _autoregression(random, n_bars, FAST_STD, FAST_MEMORY) + _autoregression(random, n_bars, SLOW_STD, SLOW_MEMORY)
    season = HOUR_VOLATILITY[hour] ** HOUR_CONTRAST * WEEKDAY_VOLATILITY[weekday]
    expected = VOLATILITY * factor * season * np.exp(wander)
    volatility = expected * np.sqrt((TAIL_DEGREES - 2) / random.chisquare(TAIL_DEGREES, n_bars))

    # 2. The walk within each hour, and the bar's prices.
    steps = drift[:, None] / 60 + (volatility / np.sqrt(60))[:, None] * random.standard_normal((n_bars, 60))
    walk = np.cumsum(steps.ravel()).reshape(n_bars, 60)
    close = walk[:, -1]
    open_ = np.concatenate([[0.0], close[:-1]]) + random.normal(0, OPEN_JITTER, n_bars) * volatility
    wick = random.exponential(WICK, (2, n_bars)) * volatility
    high = np.maximum(walk.max(axis=1), open_) + wick[0]
    low = np.minimum(walk.min(axis=1), open_) - wick[1]

    # 3. The volume, which follows the realised volatility.
    log_volume = VOLUME_SLOPE * np.log(volatility / VOLATILITY) + HOUR_LOG_VOLUME[hour] / 2 - 0.2 * (weekday >= 5)
    log_volume += _autoregression(random, n_bars, VOLUME_STD, VOLUME_MEMORY) + random.normal(0, VOLUME_NOISE, n_bars)
    volume = np.round(MEDIAN_VOLUME * np.exp(log_volume), 5)

    open_, high, low, close = (np.round(FIRST_PRICE * np.exp(level), 2) for level in (open_, high, low, close))
    return Bars(time, open_, high, low, close, volume, source=SOURCE, synthetic=True)


def load_sample() -> Bars:
    """Return the bundled sample: 9,528 synthetic hourly bars, 2023-12-01 .. 2024-12-31, without gaps.

    Raises
    ------
    DataError
        If the file is missing from the installation.
    """
    return dataclasses.replace(bars_of_file(SAMPLE_FILE), source=SOURCE, synthetic=True)


def stylised_facts(bars: Bars) -> dict[str, float]:
    """Measure typical properties of hourly bitcoin bars, on log returns from close to close, counted across gaps.

    Parameters
    ----------
    bars : Bars
        Hourly, at least 4 weeks.

    Returns
    -------
    dict of str to float
        Plain ratios and correlations, except ``return_std`` (of an hourly log return). Hours of the day and weekends
        are compared by their mean absolute return; log volume excludes bars of zero volume; the shares are those of
        the labels under ``LabelSpec()``. See Cont (2001), Empirical properties of asset returns.

    Raises
    ------
    DataError
        For bars that are not hourly, or fewer than 672.
    """
    if bars.step != HOUR or len(bars) < 28 * 24:
        raise DataError(
            f"{bars.source}: expected 672 hourly bars or more, got {len(bars):,} of {bars.step_hours:g} hours. "
            "Give at least four weeks of hourly bars."
        )
    change = np.diff(np.log(bars.close))
    size = np.abs(change)
    spread = np.log(bars.high[1:] / bars.low[1:])
    hour = bars.time[1:].astype("datetime64[h]").astype(np.int64) % 24
    weekend = (bars.time[1:].astype("datetime64[D]").astype(np.int64) + 3) % 7 >= 5
    by_hour = np.array([size[hour == h].mean() for h in range(24)])
    centred = change - change.mean()
    log_volume = np.log(bars.volume[bars.volume > 0])
    sell, hold, buy = class_shares(LabelSpec().labels(bars))
    facts = {
        "return_std": change.std(),
        "excess_kurtosis": (centred**4).mean() / (centred**2).mean() ** 2 - 3,
        "tail_999_to_std": np.quantile(size, 0.999) / change.std(),
        "return_autocorrelation_1": _autocorrelation(change, 1),
        **{f"abs_return_autocorrelation_{lag}": _autocorrelation(size, lag) for lag in (1, 6, 24, 168)},
        "range_to_abs_return": spread.mean() / size.mean(),
        "volatility_by_hour_max_to_min": by_hour.max() / by_hour.min(),
        "volatility_weekend_to_weekday": size[weekend].mean() / size[~weekend].mean(),
        "volume_abs_return_correlation": np.corrcoef(bars.volume[1:], size)[0, 1],
        "log_volume_autocorrelation_1": _autocorrelation(log_volume, 1),
        "share_sell": sell,
        "share_hold": hold,
        "share_buy": buy,
    }
    return {name: float(value) for name, value in facts.items()}


def measure_years(bars: Bars) -> dict[str, dict[str, float]]:
    """Measure every fact on each calendar year of the bars and on all bars, rounded to 6 decimals.

    Returns
    -------
    dict of str to dict
        For each fact: ``min`` and ``max`` over the years, ``all``, and each year by its number.

    Raises
    ------
    DataError
        As `stylised_facts`, for the bars or one of their years.
    """
    years = bars.time.astype("datetime64[Y]")
    parts = {str(year): bars.take(slice(*np.searchsorted(years, [year, year + 1]))) for year in np.unique(years)}
    by_year = {year: stylised_facts(part) for year, part in parts.items()}
    result = {}
    for name, whole in stylised_facts(bars).items():
        values = {year: facts[name] for year, facts in by_year.items()}
        every = {"min": min(values.values()), "max": max(values.values()), "all": whole, **values}
        result[name] = {key: round(value, 6) for key, value in every.items()}
    return result


def _autoregression(random: np.random.Generator, n_bars: int, std: float, memory: float) -> FloatArray:
    """Return a stationary AR(1) series of standard deviation ``std``, shape (n_bars,)."""
    shocks = random.normal(0, std, n_bars)
    shocks[1:] *= np.sqrt(1 - memory**2)
    for t in range(1, n_bars):
        shocks[t] += memory * shocks[t - 1]
    return shocks


def _autocorrelation(values: FloatArray, lag: int) -> float:
    return float(np.corrcoef(values[:-lag], values[lag:])[0, 1])


def main(arguments: list[str] | None = None) -> None:
    """Write the facts of a file of real bars, or the sample, into the package."""
    parser = argparse.ArgumentParser(prog="python -m flagbt.data.bundled_sample", description=main.__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--measure", metavar="BARS_FILE", help=f"measure this file and write {FACTS_FILE.name}")
    choice.add_argument("--write", action="store_true", help=f"generate the sample and write {SAMPLE_FILE.name}")
    options = parser.parse_args(arguments)
    if options.write:
        write_bars_csv(generate_sample(), SAMPLE_FILE)
    else:
        bars = bars_of_file(Path(options.measure))
        record = {
            "command": f"python -m flagbt.data.bundled_sample --measure {bars.source}",
            "bars": f"{len(bars)} real hourly bars, digest {bars.digest}",
            "facts": measure_years(bars),
        }
        FACTS_FILE.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
